"""The database refuses by itself what must never be; each constraint is violated once."""

import re

import asyncpg
import pytest

UID = "'00000000-0000-0000-0000-000000000001'"
BASE = f"""
    INSERT INTO groups (id, name, version, deployment_enabled) VALUES ('g', 'G', 1, true);
    INSERT INTO users (id, display_name, email, admin, disabled, version) VALUES ('u', '', 'u@x', false, false, 1);
    INSERT INTO deployments (uid, id, group_id, name, spec, stopped, generation, revision, last_version, message,
        reserved_cpu, reserved_memory, reserved_gpu, created_by, updated_by, phase, observed_generation, settled,
        conditions, version_status, endpoints_generation)
    VALUES ({UID}, 'd', 'g', 'D', '{{}}', false, 1, 1, 1, '', 0, 0, 0, 'u', 'u', 'Deploying', 0, false, '[]', '[]', 0);
    INSERT INTO revisions (uid, number, by, action, message, spec, stopped)
    VALUES ({UID}, 1, 'u', 'x', '', '{{}}', false);
    INSERT INTO replicas (id, uid, version, template, phase, routable, endpoints_generation, restarts)
    VALUES ('r', {UID}, 1, '', 'Starting', false, 0, 0);
    INSERT INTO routes (uid, generation, endpoints_generation, weights) VALUES ({UID}, 0, 0, '{{}}');
    INSERT INTO endpoint_clients (uid, name, sha1, created_by, version)
    VALUES ({UID}, 'c', 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=', 'u', 1);
    INSERT INTO instance_types (id, name, cpu, memory, gpu, node_selector, tolerations, version)
    VALUES ('i', '', 1, 1, 0, '{{}}', '[]', 1);
    INSERT INTO members (group_id, user_id, permission) VALUES ('g', 'u', 'read');
    INSERT INTO models (group_id, name, framework, description, tags, latest, created_by, version)
    VALUES ('g', 'm', '', '', '{{}}', 1, 'u', 1);
    INSERT INTO model_versions
        (model_id, number, artifact, framework, parameters, description, digests, run, created_by)
    SELECT id, 1, '""', '', '{{}}', '', '{{}}', 'run', 'u' FROM models;
    INSERT INTO model_aliases (model_id, alias, number) SELECT id, 'a', 1 FROM models;
    INSERT INTO blobs (digest, size, created_by) VALUES ('sha256:' || repeat('a', 64), 0, 'u');
    INSERT INTO signing_keys (kid, public_jwk, private_sealed, created_at, retires_at)
    VALUES ('k', '{{}}', '', now(), now() + interval '1 d');
    INSERT INTO idempotent_requests (caller, key, request_sha256) VALUES ('u', 'k', '');
    INSERT INTO bus_messages (topic, "offset", partition, key, event_id, event) VALUES ('t', 1, 0, 'k', 'e', '{{}}');
    INSERT INTO bus_heads (topic, partition, "offset") VALUES ('t', 0, 1);
    INSERT INTO bus_cursors (consumer, topic, partition, "offset", fence) VALUES ('us', 't', 0, 0, 0);
"""

_ENTRY = """INSERT INTO audit_entries
        (service, action, method, path, status, request_id, address, changes, outcome, position, hash)
    VALUES ('s', 'a', 'GET', '/', 200, '', '', '[]',"""
VIOLATIONS = {
    "ck_deployments_id_dns_label": "UPDATE deployments SET id = 'a_b'",
    "ck_deployments_phase_known": "UPDATE deployments SET phase = 'Stuck'",
    "ck_deployments_reserved_not_negative": "UPDATE deployments SET reserved_gpu = -1",
    "ck_deployments_counters_in_order": "UPDATE deployments SET observed_generation = 2",
    "ck_deployments_purged_after_deleted": "UPDATE deployments SET purged_at = now()",
    "uq_deployments_id_live": """
        CREATE TEMP TABLE copy AS SELECT * FROM deployments; UPDATE copy SET uid = gen_random_uuid();
        INSERT INTO deployments SELECT * FROM copy""",
    "fk_deployments_group_id_groups": "DELETE FROM groups",
    "ck_revisions_number_from_one": "UPDATE revisions SET number = 0",
    "pk_revisions": "INSERT INTO revisions SELECT * FROM revisions",
    "fk_revisions_uid_deployments": "UPDATE revisions SET uid = gen_random_uuid()",
    "ck_replicas_phase_known": "UPDATE replicas SET phase = 'Zombie'",
    "ck_replicas_routable_has_address": "UPDATE replicas SET routable = true, host = 'x'",
    "ck_replicas_port_in_range": "UPDATE replicas SET port = 65536",
    "ck_replicas_restarts_not_negative": "UPDATE replicas SET restarts = -1",
    "ck_routes_generations_not_negative": "UPDATE routes SET endpoints_generation = -1",
    "ck_endpoint_clients_name_allowed": "UPDATE endpoint_clients SET name = E'a\\nb'",
    "ck_endpoint_clients_sha1_base64": "UPDATE endpoint_clients SET sha1 = 'moor_the_token_itself'",
    "ck_endpoint_clients_previous_sha1_base64": """
        UPDATE endpoint_clients SET previous_sha1 = 'moor_the_token_before', previous_until = now(), mark = '2.'""",
    "ck_endpoint_clients_overlap_whole": "UPDATE endpoint_clients SET previous_until = now()",
    "pk_endpoint_clients": "INSERT INTO endpoint_clients SELECT * FROM endpoint_clients",
    "ck_groups_id_dns_label": "INSERT INTO groups (id, name, version, deployment_enabled) VALUES ('-', '', 1, true)",
    "ck_groups_quota_not_negative": "UPDATE groups SET quota_memory = -1",
    "uq_groups_personal_of": """
        UPDATE groups SET personal_of = 'u';
        INSERT INTO groups (id, name, version, deployment_enabled, personal_of) VALUES ('h', '', 1, true, 'u')""",
    "ck_instance_types_id_dns_label": "UPDATE instance_types SET id = 'CPU'",
    "ck_instance_types_sizes_positive": "UPDATE instance_types SET cpu = 0",
    "ck_members_permission_known": "UPDATE members SET permission = 'own'",
    "ck_users_id_user_name": "UPDATE users SET id = 'A b'",
    "uq_users_email": """
        INSERT INTO users (id, display_name, email, admin, disabled, version)
        VALUES ('v', '', 'u@x', false, false, 1)""",
    "ck_signing_keys_retires_after_created": "UPDATE signing_keys SET retires_at = created_at",
    "ck_models_name_dns_label": "UPDATE models SET name = 'a.b'",
    "ck_models_latest_not_negative": "UPDATE models SET latest = -1",
    "uq_models_group_id_name": """
        INSERT INTO models (group_id, name, framework, description, tags, latest, created_by, version)
        VALUES ('g', 'm', '', '', '{}', 1, 'u', 1)""",
    "ck_model_versions_number_from_one": """
        INSERT INTO model_versions (model_id, number, artifact, framework, parameters, description, digests, created_by)
        SELECT id, 0, '""', '', '{}', '', '{}', 'u' FROM models""",
    "ck_model_versions_size_not_negative": "UPDATE model_versions SET size = -1",
    "uq_model_versions_model_id_run": """
        INSERT INTO model_versions
            (model_id, number, artifact, framework, parameters, description, digests, run, created_by)
        SELECT id, 2, '""', '', '{}', '', '{}', 'run', 'u' FROM models""",
    "ck_model_aliases_alias_dns_label": "UPDATE model_aliases SET alias = '@'",
    "fk_model_aliases_model_id_number_model_versions": "UPDATE model_aliases SET number = 9",
    "ck_blobs_digest_sha256": "UPDATE blobs SET digest = 'md5:x'",
    "ck_blobs_size_not_negative": "UPDATE blobs SET size = -1",
    "ck_uploads_size_not_negative": "INSERT INTO uploads (id, user_id, size) VALUES (gen_random_uuid(), 'ana', -1)",
    "ck_service_accounts_overlap_whole": """
        INSERT INTO service_accounts (user_id, description, sha256, previous_sha256, created_by, version)
        VALUES ('u', '', 'x', 'y', 'u', 1)""",
    "ck_audit_entries_outcome_known": f"{_ENTRY} 'maybe', NULL, NULL)",
    "ck_audit_entries_position_with_hash": f"{_ENTRY} 'done', 1, NULL)",
    "ck_idempotent_requests_answer_with_status": "UPDATE idempotent_requests SET status = 200",
    "ck_bus_heads_offset_from_one": 'UPDATE bus_heads SET "offset" = 0',
    "ck_bus_messages_offset_from_one": 'UPDATE bus_messages SET "offset" = 0',
    "uq_bus_messages_event": """
        INSERT INTO bus_messages (topic, "offset", partition, key, event_id, event)
        VALUES ('t', 2, 0, 'k', 'e', '{}')""",
    "ck_bus_cursors_offset_not_negative": 'UPDATE bus_cursors SET "offset" = -1',
}


async def test_each_is_held(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(BASE)
    for name, statement in VIOLATIONS.items():
        transaction = connection.transaction()
        await transaction.start()
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
            await connection.execute(re.sub(r"\s+", " ", statement))
        assert refused.value.constraint_name == name
        await transaction.rollback()
    checks = await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        " AND conrelid::regclass::text NOT IN ('request_samples', 'latency_samples', 'rollups', 'scrape_sources')"
    )
    assert {row["conname"] for row in checks} <= set(VIOLATIONS), "a CHECK that is never violated here"
    await connection.close()
