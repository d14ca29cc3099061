-- The agents that a process cannot execute: a JSON object of sentences by agent. Empty: there are none.
ALTER TABLE nodes ADD COLUMN unable bytea NOT NULL DEFAULT '';

-- node_heartbeat, and what the process cannot execute.
CREATE FUNCTION node_show(
    p_id text, p_name bytea, p_role text, p_version text, p_host bytea, p_pid integer,
    p_address bytea, p_configuration text, p_lease double precision, p_keep double precision,
    p_unable bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    fresh boolean;
BEGIN
    fresh := node_heartbeat(p_id, p_name, p_role, p_version, p_host, p_pid, p_address,
        p_configuration, p_lease, p_keep);
    UPDATE nodes n SET unable = p_unable WHERE n.id = p_id AND n.unable <> p_unable;
    RETURN fresh;
END $$;

-- run_claim, for a process that cannot execute the agents p_unable.
CREATE FUNCTION run_claim_able(
    p_owner text, p_lease double precision, p_slots integer[], p_unable bytea[]
)
RETURNS SETOF runs LANGUAGE plpgsql AS $$
DECLARE
    claimed runs;
    at double precision := server_now();
    expired bytea;
BEGIN
    IF at - server_started() > p_lease THEN
        FOR expired IN SELECT c.lane FROM changes c WHERE c.granted AND c.lease_until < at LOOP
            PERFORM FROM lanes l WHERE l.lane = expired FOR UPDATE SKIP LOCKED;
            IF FOUND THEN
                DELETE FROM changes c WHERE c.lane = expired AND c.granted AND c.lease_until < at;
                PERFORM lane_settle(expired);
            END IF;
        END LOOP;
        FOR claimed IN
            WITH picked AS MATERIALIZED (
                SELECT one.number
                FROM unnest(p_slots) WITH ORDINALITY AS free (slots, ordinal),
                LATERAL (
                    SELECT r.number FROM runs r
                    WHERE r.state = 'held' AND r.lease_until < at AND r.depth = free.ordinal - 1
                        AND r.agent_id <> ALL (p_unable)
                    ORDER BY r.number LIMIT free.slots FOR UPDATE SKIP LOCKED
                ) AS one
            )
            UPDATE runs r SET owner = p_owner, attempt = r.attempt + 1,
                claimed_at = server_now(), lease_until = server_now() + p_lease,
                claimed_seq = r.last_seq, taken_over = true,
                lost = r.lost + CASE
                    WHEN r.last_seq > r.claimed_seq OR (r.unbegun + 1) % 10 = 0 THEN 1 ELSE 0 END,
                unbegun = r.unbegun + CASE WHEN r.last_seq > r.claimed_seq THEN 0 ELSE 1 END
            FROM picked WHERE r.number = picked.number RETURNING r.*
        LOOP
            p_slots[claimed.depth + 1] := p_slots[claimed.depth + 1] - 1;
            RETURN NEXT claimed;
        END LOOP;
    END IF;
    RETURN QUERY
        WITH picked AS MATERIALIZED (
            SELECT one.number
            FROM unnest(p_slots) WITH ORDINALITY AS free (slots, ordinal),
            LATERAL (
                SELECT r.number FROM runs r
                WHERE r.state = 'ready' AND r.depth = free.ordinal - 1
                    AND r.agent_id <> ALL (p_unable)
                ORDER BY r.position LIMIT free.slots FOR UPDATE SKIP LOCKED
            ) AS one
        )
        UPDATE runs r SET state = 'held', owner = p_owner, attempt = r.attempt + 1,
            claimed_at = server_now(), lease_until = server_now() + p_lease, claimed_seq = r.last_seq
        FROM picked WHERE r.number = picked.number RETURNING r.*;
END $$;
