-- A run is given up when too many attempts were lost, because it may be what kills its processes. An
-- attempt that has stored no event has hardly begun: its claim was lost on the way to a process, or
-- the process died for another reason.

-- The newest event at the last claim.
ALTER TABLE runs ADD COLUMN claimed_seq integer NOT NULL DEFAULT 0;
-- Attempts that were lost before they stored an event.
ALTER TABLE runs ADD COLUMN unbegun integer NOT NULL DEFAULT 0;

-- Lease runs to an owner: those whose leases have expired, then those that are ready, by age.
-- p_slots: how many of each depth. In the first lease after the server's start nothing is taken
-- over, since nobody was able to renew. Ten attempts that stored nothing count as one that was lost.
CREATE OR REPLACE FUNCTION run_claim(p_owner text, p_lease double precision, p_slots integer[])
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
                ORDER BY r.position LIMIT free.slots FOR UPDATE SKIP LOCKED
            ) AS one
        )
        UPDATE runs r SET state = 'held', owner = p_owner, attempt = r.attempt + 1,
            claimed_at = server_now(), lease_until = server_now() + p_lease, claimed_seq = r.last_seq
        FROM picked WHERE r.number = picked.number RETURNING r.*;
END $$;
