"""The last acknowledged configuration, on disk: what an Envoy that starts cold gets while the gateway is down.

One SQLite file, a row a bundle, written in one transaction a batch: kill the writer at any point and the file holds
either the state before or the state after. Only the gateway writes it (`SnapshotFile`), the snapshot server only reads
(`read_snapshot`). There is no token in it, only the hashes that Envoy has too; it is readable by its owner alone.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from google.protobuf.message import DecodeError

from services.gateway.envoy.resources import Bundle

__all__ = ["SnapshotFile", "read_snapshot"]

_log = logging.getLogger(__name__)

_FORMAT = 1
_SCHEMA = "CREATE TABLE bundle (id TEXT PRIMARY KEY, version TEXT NOT NULL, body BLOB NOT NULL) STRICT, WITHOUT ROWID"

# What a file that is not as we wrote it can raise: not a database, torn pages, another format, a changed body.
_Unusable = (sqlite3.DatabaseError, DecodeError, ValueError)


class SnapshotFile:
    """The writer. Remembers the versions on disk, so that only what differs is written."""

    def __init__(self, path: Path) -> None:
        """Open or create it. A file that cannot be used is put aside: the next acknowledgements fill a new one."""
        self._lock = threading.Lock()
        path.touch(mode=0o600)
        path.chmod(0o600)  # SQLite gives its journal the same
        try:
            self._connection, self.versions = _open(path)
        except _Unusable as error:
            aside = path.with_name(f"{path.name}.unusable-{time.time_ns()}")
            _log.error("snapshot unusable, put aside", extra={"aside": str(aside), "reason": str(error)})
            for suffix in ("", "-wal", "-shm"):
                file = path.with_name(path.name + suffix)
                if file.exists():
                    file.rename(aside.with_name(aside.name + suffix))
            path.touch(mode=0o600)
            self._connection, self.versions = _open(path)

    def write(self, changes: Mapping[str, Bundle | None]) -> None:
        """Make this durable. None removes."""
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for bundle_id, bundle in changes.items():
                if bundle is None:
                    self._connection.execute("DELETE FROM bundle WHERE id = ?", (bundle_id,))
                elif self.versions.get(bundle_id) != bundle.version:
                    self._connection.execute(
                        "INSERT OR REPLACE INTO bundle VALUES (?, ?, ?)",
                        (bundle_id, bundle.version, bundle.to_bytes()),
                    )
        for bundle_id, bundle in changes.items():
            if bundle is None:
                self.versions.pop(bundle_id, None)
            else:
                self.versions[bundle_id] = bundle.version

    def read(self, bundle_id: str) -> Bundle | None:
        with self._lock:
            row = self._connection.execute("SELECT body FROM bundle WHERE id = ?", (bundle_id,)).fetchone()
        return Bundle.from_bytes(row[0]) if row else None

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def read_snapshot(path: Path) -> dict[str, Bundle]:
    """What is on disk now; nothing if there is no usable file. One that is being written is read as it was before."""
    if not path.exists():
        return {}
    try:
        # Not read-only: after a crash of the writer its journal has to be played back.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return _load(connection)
    except _Unusable as error:
        _log.error("snapshot unusable", extra={"path": str(path), "reason": str(error)})
        return {}


def _open(path: Path) -> tuple[sqlite3.Connection, dict[str, str]]:
    """A connection to write, and the versions that the file holds."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # Every commit reaches the disk: not even a power cut brings a revoked client back.
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
        return connection, {bundle_id: bundle.version for bundle_id, bundle in _load(connection).items()}
    except BaseException:
        connection.close()
        raise


def _load(connection: sqlite3.Connection) -> dict[str, Bundle]:
    """Everything, checked: SQLite notices torn pages, the versions (hashes of the content) everything else."""
    if connection.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
        raise ValueError("the snapshot has another format")
    bundles = {}
    for bundle_id, version, body in connection.execute("SELECT id, version, body FROM bundle"):
        bundle = Bundle.from_bytes(body)
        if bundle.version != version:
            raise ValueError(f"bundle {bundle_id!r} is not what was written")
        bundles[bundle_id] = bundle
    return bundles
