"""What the reconciler reads: deployments with their routable replicas and clients, for one id or for all."""

from collections import defaultdict
from datetime import UTC, datetime
from uuid import UUID

from services.gateway.domain import ClientRow, DeploymentRow, Mark, ReplicaRow, access_of, parse_record, parse_weights
from shared.database import Direct, Row

_MARK = """
    d.uid, d.id, d.generation, d.endpoints_generation, d.deleted_at IS NOT NULL AS deleted,
    (SELECT coalesce(bit_xor(hashtextextended(concat_ws(' ', c.name, c.sha1, c.previous_sha1), 0)), 0)
     FROM endpoint_clients c WHERE c.uid = d.uid) AS clients_mark"""

# One statement, so that what it reads fits together: replicas, and the generation that they belong to. Of the spec only
# what routes are made of: its environment, say, is none of our business.
_ROWS = f"""
    SELECT {_MARK}, d.stopped,
        d.spec->>'access' AS access,
        d.spec->'traffic'->'weights' AS weights,
        jsonb_path_query_array(d.spec, '$.versions[*].number') AS versions,
        (SELECT jsonb_agg(jsonb_build_array(r.id, r.version, r.host, r.port))
         FROM replicas r
         WHERE r.uid = d.uid AND r.routable AND r.host IS NOT NULL AND r.port IS NOT NULL) AS replicas,
        (SELECT jsonb_agg(jsonb_build_array(c.name, c.sha1, extract(epoch FROM c.expires_at),
            c.previous_sha1, extract(epoch FROM c.previous_until), c.mark))
         FROM endpoint_clients c WHERE c.uid = d.uid) AS clients,
        coalesce(o.acks, '{{}}') AS acks, coalesce(o.clients_generation, 0) AS clients_generation
    FROM deployments d LEFT JOIN routes o ON o.uid = d.uid
    WHERE d.purged_at IS NULL"""  # noqa: S608  # constants only

_OF_ONE = f"{_ROWS} AND d.id = $1"
_UNENFORCED = """
    SELECT d.uid, d.id
    FROM deployments d JOIN routes o ON o.uid = d.uid
    WHERE d.purged_at IS NULL
        AND (o.generation < d.generation OR o.endpoints_generation < d.endpoints_generation OR o.rejected IS NOT NULL)
"""
_MARKS = f"SELECT {_MARK} FROM deployments d WHERE d.purged_at IS NULL"  # noqa: S608  # constants only


async def all_rows(direct: Direct, *, gateway: str) -> dict[str, list[DeploymentRow]]:
    """Everything that routes are made of, by deployment id."""
    rows: defaultdict[str, list[DeploymentRow]] = defaultdict(list)
    for row in await direct.fetch(_ROWS):
        rows[row.id].append(_deployment(row, gateway))
    return rows


async def rows_of(direct: Direct, deployment: str, *, gateway: str) -> list[DeploymentRow]:
    """Those that share the id `deployment`."""
    return [_deployment(row, gateway) for row in await direct.fetch(_OF_ONE, deployment)]


async def unenforced(direct: Direct) -> list[tuple[UUID, str]]:
    """Uid and id of what some gateway has still to acknowledge, or has refused."""
    return [(row.uid, row.id) for row in await direct.fetch(_UNENFORCED)]


async def marks(direct: Direct) -> dict[str, set[Mark]]:
    """What to compare with `Plan.marks`: much less than reading everything."""
    found: defaultdict[str, set[Mark]] = defaultdict(set)
    for row in await direct.fetch(_MARKS):
        found[row.id].add(_mark(row))
    return found


def _deployment(row: Row, gateway: str) -> DeploymentRow:
    said = {each: parse_record(stored) for each, stored in row.acks.items()}
    return DeploymentRow(
        uid=row.uid,
        id=row.id,
        deleted=row.deleted,
        generation=row.generation,
        endpoints_generation=row.endpoints_generation,
        stopped=row.stopped,
        access=access_of(row.access),
        versions=tuple(sorted(row.versions)),
        weights=parse_weights(row.weights),
        replicas=tuple(ReplicaRow(*replica) for replica in row.replicas or ()),
        clients=tuple(
            ClientRow(name, sha1, _time(expires), previous_sha1, _time(until), mark)
            for name, sha1, expires, previous_sha1, until, mark in row.clients or ()
        ),
        recorded=said.get(gateway),
        mark=_mark(row),
        said=said,
        clients_generation=row.clients_generation,
    )


def _time(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)


def _mark(row: Row) -> Mark:
    return (row.uid, row.generation, row.endpoints_generation, row.deleted, row.clients_mark)
