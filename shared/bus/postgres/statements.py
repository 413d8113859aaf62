"""The statements of the bus."""

LOCK = "SELECT pg_advisory_xact_lock($1)"

# Another publisher's lock is waited for by a statement before this one, which must see what its last holder committed.
# $1: messages, $2: the channel of hints, $3: the kind of hint.
PUBLISH = """
    WITH given AS (
        SELECT DISTINCT ON (topic, event_id, only_for) *
        FROM ROWS FROM (
            jsonb_to_recordset($1)
            AS (topic text, key text, partition smallint, event_id text, event jsonb, only_for text)
        ) WITH ORDINALITY AS message (topic, key, partition, event_id, event, only_for, position)
        ORDER BY topic, event_id, only_for, position
    ), fresh AS (
        SELECT given.*, row_number() OVER (PARTITION BY topic ORDER BY position)
            + coalesce((SELECT max(h."offset") FROM bus_heads h WHERE h.topic = given.topic), 0) AS "offset"
        -- Counted for each by itself: by NOT EXISTS the planner would read all messages that are kept.
        FROM given CROSS JOIN LATERAL (
            SELECT count(*) AS times FROM bus_messages b
            WHERE b.topic = given.topic AND b.event_id = given.event_id AND b.only_for IS NULL
        ) AS known
        WHERE only_for IS NOT NULL OR known.times = 0
    ), stored AS (
        INSERT INTO bus_messages (topic, "offset", partition, key, event_id, event, only_for)
        SELECT topic, "offset", partition, key, event_id, event, only_for FROM fresh
    ), heads AS (
        INSERT INTO bus_heads (topic, partition, "offset")
        SELECT topic, partition, max("offset") FROM fresh GROUP BY topic, partition
        ON CONFLICT (topic, partition) DO UPDATE SET "offset" = excluded."offset"
        RETURNING topic
    )
    SELECT pg_notify($2, $3 || ' ' || topic) FROM (SELECT DISTINCT topic FROM heads) AS topics
"""

# $1: consumer, $2: topics.
JOIN = """
    INSERT INTO bus_cursors (consumer, topic, partition, "offset", fence)
    SELECT $1, topic, partition, 0, 0
    FROM unnest($2::text[]) AS topic CROSS JOIN generate_series(0, $3 - 1) AS partition
    ON CONFLICT DO NOTHING
"""

# Leases what has news and what nobody works on, and reads the next messages of each: a row without a message is a
# partition whose news somebody else has just handled. $1: consumer, $2: topics, $3: for how long, $4: so many messages.
TAKE = """
    WITH free AS (
        SELECT cursor.topic, cursor.partition
        FROM bus_cursors cursor JOIN bus_heads head ON head.topic = cursor.topic AND head.partition = cursor.partition
        WHERE cursor.consumer = $1 AND cursor.topic = ANY ($2::text[]) AND head."offset" > cursor."offset"
            AND (cursor.leased_until IS NULL OR cursor.leased_until <= now())
        FOR UPDATE OF cursor SKIP LOCKED
    ), taken AS (
        UPDATE bus_cursors cursor SET fence = fence + 1, leased_until = now() + $3::interval
        FROM free
        WHERE cursor.consumer = $1 AND cursor.topic = free.topic AND cursor.partition = free.partition
        RETURNING cursor.topic, cursor.partition, cursor."offset", cursor.fence
    )
    SELECT taken.topic, taken.partition, taken.fence, taken."offset" AS begin,
        message."offset", message.key, message.event, message.only_for
    FROM taken LEFT JOIN LATERAL (
        SELECT "offset", key, event, only_for FROM bus_messages m
        WHERE m.topic = taken.topic AND m.partition = taken.partition AND m."offset" > taken."offset"
        ORDER BY "offset" LIMIT $4
    ) AS message ON true
    ORDER BY taken.topic, taken.partition, message."offset"
"""

# $1: consumer, then the claims column by column.
EXTEND = """
    UPDATE bus_cursors cursor SET leased_until = now() + $5::interval
    FROM unnest($2::text[], $3::smallint[], $4::bigint[]) AS claim (topic, partition, fence)
    WHERE cursor.consumer = $1 AND cursor.topic = claim.topic AND cursor.partition = claim.partition
        AND cursor.fence = claim.fence
    RETURNING cursor.topic, cursor.partition
"""
RELEASE = """
    UPDATE bus_cursors cursor SET "offset" = claim."offset", leased_until = now()
    FROM unnest($2::text[], $3::smallint[], $4::bigint[], $5::bigint[]) AS claim (topic, partition, fence, "offset")
    WHERE cursor.consumer = $1 AND cursor.topic = claim.topic AND cursor.partition = claim.partition
        AND cursor.fence = claim.fence
"""

# $1: consumer, $2 to $4: the claim, $5: the message's offset, $6: its key, $7: the event, $8: the cause.
BURY = """
    WITH moved AS (
        UPDATE bus_cursors SET "offset" = $5 WHERE consumer = $1 AND topic = $2 AND partition = $3 AND fence = $4
        RETURNING topic
    )
    INSERT INTO dead_letters (consumer, topic, key, event, cause) SELECT $1, topic, $6, $7, $8 FROM moved RETURNING id
"""

LAG = """
    SELECT count(*) AS waiting
    FROM bus_cursors c JOIN bus_messages m
        ON m.topic = c.topic AND m.partition = c.partition AND m."offset" > c."offset"
    WHERE c.consumer = $1 AND c.topic = ANY ($2::text[])
"""

DEAD_LETTERS = "SELECT id, consumer, topic, key, event, cause, at FROM dead_letters ORDER BY id LIMIT $1"
SETTLE = "DELETE FROM dead_letters WHERE id = ANY ($1::bigint[])"
