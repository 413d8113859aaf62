"""A short run of the rounds; `python -m tests.chaos.rounds --rounds 200` is the long one."""

import pytest

from tests.chaos.rounds import one_round, prepare
from tests.support.platform import running_platform

pytestmark = pytest.mark.xdist_group("chaos")


@pytest.mark.chaos
def test_the_main_job_ends_right_whatever_is_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_platform(tmp_path_factory.mktemp("chaos")) as platform:
        token = prepare(platform)
        for seed in (1, 2):
            one_round(platform, seed, token)
