"""The snapshot on disk: killed while writing, filled with garbage, read while written."""

import random
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from services.gateway.envoy.model import DeploymentRoutes, Endpoint
from services.gateway.envoy.snapshot import SnapshotFile, read_snapshot
from services.gateway.envoy.translate import translate
from tests.gateway.envoy.harness import Child

ONE = translate(DeploymentRoutes(id="one", generation=1, versions={1: (Endpoint("r", "127.0.0.1", 80),)}))
TWO = translate(DeploymentRoutes(id="two", generation=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.db"


def filled(path: Path) -> SnapshotFile:
    snapshot = SnapshotFile(path)
    snapshot.write({"one": ONE, "two": TWO})
    return snapshot


def test_what_is_written_is_read_by_others_at_once(path: Path) -> None:
    snapshot = filled(path)
    assert read_snapshot(path) == {"one": ONE, "two": TWO}
    snapshot.write({"one": None})
    assert read_snapshot(path) == {"two": TWO}
    snapshot.close()


def test_a_new_writer_knows_what_is_there(path: Path) -> None:
    filled(path).close()
    snapshot = SnapshotFile(path)
    assert snapshot.versions == {"one": ONE.version, "two": TWO.version}
    assert snapshot.read("one") == ONE
    assert snapshot.read("none") is None
    snapshot.close()


def test_only_its_owner_reads_it(path: Path) -> None:
    path.touch(mode=0o644)
    snapshot = filled(path)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    snapshot.close()


def test_no_file_is_nothing(path: Path) -> None:
    assert read_snapshot(path) == {}
    assert not path.exists()


def flip_a_byte_of_a_body(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        body = bytearray(connection.execute("SELECT body FROM bundle WHERE id = 'one'").fetchone()[0])
        body[len(body) // 2] ^= 1
        connection.execute("UPDATE bundle SET body = ? WHERE id = 'one'", (bytes(body),))
    connection.close()


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def a_torn_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 2 * 4096] = b"\xff" * 4096
    path.write_bytes(data)


def another_format(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (id)")
    connection.close()


@pytest.mark.parametrize("spoil", [garbage, flip_a_byte_of_a_body, a_torn_page, another_format, another_database])
def test_an_unusable_file_is_put_aside_and_said(path: Path, spoil: object, caplog: pytest.LogCaptureFixture) -> None:
    filled(path).close()
    assert callable(spoil)
    spoil(path)
    assert read_snapshot(path) == {}
    snapshot = SnapshotFile(path)
    assert snapshot.versions == {}
    snapshot.write({"two": TWO})
    assert read_snapshot(path) == {"two": TWO}
    snapshot.close()
    assert len(list(path.parent.glob("snapshot.db.unusable-*"))) == 1
    assert "snapshot unusable, put aside" in caplog.text


WRITER = """
import sys
from pathlib import Path
from services.gateway.envoy.model import DeploymentRoutes
from services.gateway.envoy.snapshot import SnapshotFile
from services.gateway.envoy.translate import translate

snapshot, number = SnapshotFile(Path(sys.argv[1])), int(sys.argv[2])
while True:
    number += 1
    # Two of one batch: never one without the other. The number is in the name, told once it is written.
    bundles = {name: translate(DeploymentRoutes(id=name, generation=1, stopped=bool(number % 2))) for name in "ab"}
    snapshot.write(bundles | {f"n{number}": bundles["a"], f"n{number - 1}": None})
    print(number, flush=True)
"""


async def test_killed_at_any_point_it_holds_what_was_said_to_be_written(path: Path, tmp_path: Path) -> None:
    number, chance = 0, random.Random(7)
    for _ in range(4):
        with Child(
            [sys.executable, "-c", WRITER, path, str(number)], log=tmp_path / "writer.log", talks=True
        ) as writer:
            for _ in range(chance.randrange(1, 200)):
                number = int(await writer.hear())
            writer.kill()
        bundles = read_snapshot(path)
        assert len(bundles) == 3
        assert bundles["a"].resources.keys() != bundles["b"].resources.keys()
        counted = next(int(name[1:]) for name in bundles if name.startswith("n"))
        assert number <= counted  # what was written may not yet have been heard of, never the other way round
        stopped = [b"deployment_stopped" in bundles[name].to_bytes() for name in "ab"]
        assert stopped == [bool(counted % 2)] * 2
        number = counted
    SnapshotFile(path).close()
    assert not list(path.parent.glob("*unusable*"))
