-- Which processes have followers of a run that ends with its last follower (on_leave is 'abort').

-- The process that has accepted the run, which counts as one that follows it. '': it does not follow
-- the run any more. NULL: the run goes on whoever follows it.
ALTER TABLE runs ADD COLUMN accepted_by text;
CREATE INDEX runs_waiting_for_clients ON runs (number)
    WHERE state = 'waiting' AND on_leave = 'abort';

-- The other processes.
CREATE TABLE watchers (
    run bigint NOT NULL,
    node text NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    PRIMARY KEY (run, node)
);
CREATE INDEX watchers_by_node ON watchers (node);

-- Accept a run; with p_owner and where nothing is before it, it is leased to that owner at once. p_node: the
-- process that accepts it.
-- outcome: fresh, known, parent_ended, session_busy (amount: runs in the lane), gateway_busy
-- (amount: runs that wait).
CREATE FUNCTION run_accept(
    p_id bytea, p_token bigint, p_session bytea, p_agent bytea, p_principal bytea, p_source bytea,
    p_on_leave text, p_fingerprint bytea, p_accepted_at double precision, p_spec bytea,
    p_parent bytea, p_depth integer, p_lane bytea, p_owner text, p_lease double precision,
    p_max_waiting integer, p_max_queued integer, p_node text
) RETURNS TABLE (outcome text, amount integer, run runs) LANGUAGE plpgsql AS $$
DECLARE
    here runs;
    ahead integer := 0;
    queue_length integer;
    turn boolean := true;
    at double precision;
BEGIN
    SELECT * INTO here FROM runs r WHERE r.id = p_id;
    IF FOUND THEN
        outcome := CASE WHEN here.token = p_token THEN 'fresh' ELSE 'known' END;
        run := here;
        RETURN NEXT;
        RETURN;
    END IF;
    IF p_parent IS NOT NULL THEN
        PERFORM FROM runs r WHERE r.id = p_parent AND r.state <> 'ended' FOR SHARE;
        IF NOT FOUND THEN
            outcome := 'parent_ended';
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF p_lane IS NOT NULL THEN
        PERFORM lane_lock(p_lane);
        SELECT count(*) INTO ahead FROM runs r
            WHERE r.lane = p_lane AND r.state IN ('queued', 'ready', 'held');
        turn := ahead = 0 AND NOT EXISTS (SELECT FROM changes c WHERE c.lane = p_lane);
        SELECT * INTO here FROM runs r WHERE r.id = p_id;
        IF FOUND THEN  -- It was accepted while this call waited for the lane.
            PERFORM lane_settle(p_lane);
            outcome := CASE WHEN here.token = p_token THEN 'fresh' ELSE 'known' END;
            run := here;
            RETURN NEXT;
            RETURN;
        END IF;
        IF ahead > p_max_waiting THEN
            outcome := 'session_busy';
            amount := ahead;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    IF NOT turn OR p_owner IS NULL THEN
        SELECT count(*) INTO queue_length FROM (
            SELECT FROM runs r WHERE r.state IN ('queued', 'ready') LIMIT p_max_queued
        ) AS waiting;
        IF queue_length >= p_max_queued THEN
            PERFORM lane_settle(p_lane);
            outcome := 'gateway_busy';
            amount := queue_length;
            RETURN NEXT;
            RETURN;
        END IF;
    END IF;
    at := server_now();
    INSERT INTO runs AS r (
        id, token, session_key, agent_id, principal_id, source, on_leave, fingerprint, accepted_at,
        spec, parent, depth, lane, position, queued_at, state, owner, attempt, claimed_at,
        lease_until, accepted_by
    ) VALUES (
        p_id, p_token, p_session, p_agent, p_principal, p_source, p_on_leave, p_fingerprint,
        p_accepted_at, p_spec, p_parent, p_depth, p_lane, nextval('lane_positions'), at,
        CASE WHEN NOT turn THEN 'queued' WHEN p_owner IS NULL THEN 'ready' ELSE 'held' END,
        CASE WHEN turn THEN p_owner END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN 1 ELSE 0 END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN at END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN at + p_lease END,
        p_node
    ) ON CONFLICT (id) DO NOTHING RETURNING r.* INTO here;
    IF FOUND THEN
        outcome := 'fresh';
    ELSE  -- In another lane, at the same moment.
        PERFORM lane_settle(p_lane);
        SELECT * INTO here FROM runs r WHERE r.id = p_id;
        outcome := CASE WHEN here.token = p_token THEN 'fresh' ELSE 'known' END;
    END IF;
    run := here;
    RETURN NEXT;
END $$;

-- As versions before this one call it: they do not say which process accepts the run.
CREATE OR REPLACE FUNCTION run_submit(
    p_id bytea, p_token bigint, p_session bytea, p_agent bytea, p_principal bytea, p_source bytea,
    p_on_leave text, p_fingerprint bytea, p_accepted_at double precision, p_spec bytea,
    p_parent bytea, p_depth integer, p_lane bytea, p_owner text, p_lease double precision,
    p_max_waiting integer, p_max_queued integer
) RETURNS TABLE (outcome text, amount integer, run runs) LANGUAGE sql VOLATILE AS $$
    SELECT * FROM run_accept(
        p_id, p_token, p_session, p_agent, p_principal, p_source, p_on_leave, p_fingerprint,
        p_accepted_at, p_spec, p_parent, p_depth, p_lane, p_owner, p_lease, p_max_waiting,
        p_max_queued, NULL)
$$;

-- Whether a process that is alive follows the run.
CREATE FUNCTION run_is_followed(p_number bigint, p_accepted_by text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM nodes n
        WHERE n.heartbeat_at > server_now() - n.lease AND (
            n.id = p_accepted_by
            OR EXISTS (SELECT FROM watchers w WHERE w.run = p_number AND w.node = n.id)))
$$;

-- The process has a follower of these runs.
CREATE FUNCTION runs_watch(p_ids bytea[], p_node text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO watchers (run, node)
        SELECT r.number, p_node FROM (
            SELECT f.number FROM runs f
            WHERE f.id = ANY(p_ids) AND f.state <> 'ended' ORDER BY f.number FOR SHARE
        ) AS r
        ON CONFLICT DO NOTHING;
END $$;

-- The process has no follower of the run any more. p_goes_on: that means nothing to the run.
-- Whether the run is to be stopped, because no other process has one either.
CREATE FUNCTION run_leave(p_id bytea, p_node text, p_goes_on boolean) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    here runs;
    last boolean;
BEGIN
    SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.state <> 'ended' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM watchers w WHERE w.run = here.number AND w.node = p_node;
    last := NOT run_is_followed(here.number, nullif(here.accepted_by, p_node));
    UPDATE runs r SET accepted_by = CASE WHEN last AND p_goes_on THEN NULL
            WHEN r.accepted_by = p_node THEN '' ELSE r.accepted_by END
        WHERE r.number = here.number;
    RETURN last AND NOT p_goes_on;
END $$;
