"""A storm over many deployments on Kubernetes, in bad weather: every one ends as it was asked for last.

    python -m tests.chaos.kubernetes --deployments 100 --seed 1

On fake nodes, so that only control planes are tried; see `storm` for what is asked, `weather` for what goes wrong.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.storm import PATIENCE, Storm
from tests.chaos.weather import ALL, Bad, api_server_dies, weather


async def one(cluster: Cluster, *bad: Bad, count: int, seed: int, within: float = PATIENCE) -> str:
    """A summary line. AssertionError with what is wrong when it should be settled."""
    began = time.monotonic()
    storm = Storm(cluster, count, seed)
    async with weather(cluster, *bad, seed=seed):
        await storm.rage()
    raged, settled = time.monotonic() - began, await storm.settle(within=within)
    if api_server_dies not in bad:  # one that has only just started does not know yet who may what
        assert not cluster.refused(), cluster.refused()
    left = [each for each in storm.wanted if each.versions is not None]
    await storm.clear()
    return f"{count} deployments, {len(left)} left; storm {raged:.0f} s, settled {settled:.0f} s after it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="each with the next seed")
    names = {each.__name__: each for each in ALL}
    parser.add_argument("--weather", nargs="*", choices=names, default=list(names))
    given = parser.parse_args()
    bad = [names[name] for name in given.weather]
    with (
        tempfile.TemporaryDirectory(prefix="moorage-fire-") as folder,
        running_cluster(Path(folder), deployments=given.deployments) as cluster,
    ):
        for seed in range(given.seed, given.seed + given.rounds):
            said = asyncio.run(one(cluster, *bad, count=given.deployments, seed=seed, within=5 * PATIENCE))
            print(f"seed {seed}: {said}", flush=True)


if __name__ == "__main__":
    main()
