"""A company's models, as many as asked for: for the bench, and for tests of query plans.

Skewed as real ones are: a few groups, frameworks, tags, words and people have most of them. The same numbers give the
same rows. Loaded with triggers off, since checking a million foreign keys takes minutes and they hold by construction.
"""

from dataclasses import dataclass

import asyncpg

FRAMEWORKS = ("sklearn", "xgboost", "pytorch", "lightgbm", "onnx", "tensorflow", "vllm", "custom")
SUBJECTS = ("churn", "fraud", "credit", "price", "stock", "claims", "vision", "speech", "route", "click", "ranking")


@dataclass(frozen=True)
class Size:
    """How many; `versions` is the average of a model."""

    groups: int
    models: int
    versions: int = 10
    users: int = 500
    deployments: int = 2000


_SKEWED = "floor({most} * power(({salt} + n::bigint * 7919) % 100003 / 100003.0, 2.5))::int"
"""A number below `most`, the small ones much more often, in no order that follows n."""


def _skewed(most: object, salt: int) -> str:
    return _SKEWED.format(most=most, salt=salt * 15485863)


_TABLES = "groups, users, models, model_versions, model_aliases, blobs, blob_uploads, deployments, revisions"

_GROUPS = """
INSERT INTO groups (id, name, deployment_enabled, version)
SELECT 'g' || n, 'Group ' || n, true, 1 FROM generate_series(0, $1::int - 1) n
"""

_MODELS = f"""
INSERT INTO models (group_id, name, framework, description, tags, latest, created_by, version, created_at, updated_at)
SELECT 'g' || {_skewed("$1::int", 1)},
    ($4::text[])[1 + n % {len(SUBJECTS)}] || '-' || n,
    ($3::text[])[1 + {_skewed(len(FRAMEWORKS), 2)}],
    (SELECT string_agg('word' || floor(3000 * power(((n::bigint * 31 + w * 104729) % 99991) / 99991.0, 3))::int, ' ')
     FROM generate_series(1, 8) w),
    ARRAY(SELECT DISTINCT 'tag' || floor(300 * power(((n::bigint * 17 + t * 7919) % 9973) / 9973.0, 3))::int
          FROM generate_series(1, n % 4) t),
    1 + {_skewed("$5::int * 3.5", 3)},
    'u' || {_skewed("$6::int", 4)}, 1,
    now() - ($2::int - n) * interval '1 minute',
    now() - (n::bigint * 7919 % 100003) * interval '1 minute'
FROM generate_series(1, $2::int) n
"""

_VERSIONS = """
INSERT INTO model_versions (model_id, number, artifact, framework, metrics, parameters, description, digest, digests,
    size, run, created_by, created_at)
SELECT id, number, to_jsonb('registry://' || digest), framework,
    jsonb_build_object('auc', round((0.5 + (id * 31 + number * 7) % 5000 / 10000.0)::numeric, 4), 'loss', 0.31,
        'recall', jsonb_build_object('de', 0.7, 'fr', 0.8)),
    '{"depth": 6, "eta": 0.1, "rounds": 400}'::jsonb, 'weekly', digest, ARRAY[digest], 1048576,
    'run-' || number, created_by, created_at + number * interval '1 hour'
FROM (SELECT *, 'sha256:' || md5(id || '/' || number) || md5(number || '/' || id) AS digest
      FROM models, generate_series(1, latest) number) each
"""

_REST = (
    """INSERT INTO blobs (digest, size, created_by, created_at)
       SELECT digest, size, created_by, created_at FROM model_versions""",
    "INSERT INTO blob_uploads (digest, user_id, at) SELECT digest, created_by, created_at FROM model_versions",
    "INSERT INTO model_aliases (model_id, alias, number) SELECT id, 'champion', latest FROM models",
    """INSERT INTO model_aliases (model_id, alias, number)
       SELECT id, 'candidate', latest FROM models WHERE latest % 3 = 0""",
)

_DEPLOYMENTS = """
INSERT INTO deployments (uid, id, group_id, name, spec, stopped, generation, revision, last_version, message,
    reserved_cpu, reserved_memory, reserved_gpu, created_by, updated_by, phase, observed_generation, settled,
    conditions, version_status, endpoints_generation)
SELECT gen_random_uuid(), 'd-' || n, group_id, 'd-' || n,
    jsonb_build_object('name', 'd-' || n, 'traffic', '{"weights": {"1": 90, "2": 10}}'::jsonb, 'versions', versions),
    n % 10 = 0, 1, 1, 2, '', 1, 1048576, 0, created_by, created_by, 'Deployed', 1, true, '[]', '[]', 1
FROM (SELECT *, row_number() OVER (ORDER BY id * 7919 % 100003) AS n FROM models) m,
    LATERAL (
        SELECT jsonb_agg(jsonb_build_object(
            'number', place, 'model', group_id || '/' || name || '/' || number,
            'instance_type', 'cpu-' || n * place % 20,
            'digest', 'sha256:' || md5(m.id || '/' || number) || md5(number || '/' || m.id))) AS versions
        FROM generate_series(1, 2) place, greatest(latest - place + 1, 1) number
    ) each
WHERE n <= $1::int
"""


async def seed(url: str, size: Size) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(_GROUPS, size.groups)
        await connection.execute(
            _MODELS, size.groups, size.models, list(FRAMEWORKS), list(SUBJECTS), size.versions, size.users
        )
        await connection.execute(_VERSIONS)
        for statement in _REST:
            await connection.execute(statement)
        await connection.execute(_DEPLOYMENTS, size.deployments)
        await connection.execute(
            "INSERT INTO revisions (uid, number, by, action, message, spec, stopped)"
            " SELECT uid, 1, created_by, 'create', '', spec, false FROM deployments"
        )
        await connection.execute(f"VACUUM ANALYZE {_TABLES}")
    finally:
        await connection.close()
