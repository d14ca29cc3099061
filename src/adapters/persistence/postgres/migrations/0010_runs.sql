-- Runs, the lanes that order them, their events, and the signals for them. Texts of clients are
-- bytea, as in the tables of sessions.
--
-- Times that decide something (queued_at, lease_until, kept_from) are those of server_now(). Times
-- of records (accepted_at, started_at, ended_at) are those of the process that has set them.
--
-- Locks are taken in this order: parent's row, lane, row of the run. Where several rows of runs are
-- updated together, they are those that one process holds, and it does so one statement at a time.

CREATE FUNCTION server_now() RETURNS double precision LANGUAGE sql VOLATILE
    AS 'SELECT extract(epoch FROM clock_timestamp())::double precision';

CREATE FUNCTION server_started() RETURNS double precision LANGUAGE sql STABLE
    AS 'SELECT extract(epoch FROM pg_postmaster_start_time())::double precision';

CREATE SEQUENCE lane_positions;

-- A row exists while a run or a change of the session is in the lane. Whoever changes what is in
-- the lane locks it.
CREATE TABLE lanes (
    lane bytea PRIMARY KEY,
    entered bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 70);

CREATE TABLE runs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    -- Distinguishes a submission that is sent again from another one of the same id.
    token bigint NOT NULL,
    session_key bytea NOT NULL,
    agent_id bytea NOT NULL,
    principal_id bytea NOT NULL,
    source bytea NOT NULL,
    on_leave text NOT NULL,
    fingerprint bytea NOT NULL,
    -- As clients see it: see RunStatus.
    status text NOT NULL DEFAULT 'queued',
    accepted_at double precision NOT NULL,
    started_at double precision,
    ended_at double precision,
    last_seq integer NOT NULL DEFAULT 0,
    -- The bytes of its events.
    size bigint NOT NULL DEFAULT 0,
    -- queued: behind others in its lane. ready: the head of its lane, to be claimed. held: leased by
    -- its owner. waiting: for a signal, in no lane. ended.
    state text NOT NULL CHECK (state IN ('queued', 'ready', 'held', 'waiting', 'ended')),
    -- NULL for commands, which are in no lane.
    lane bytea,
    position bigint NOT NULL,
    depth smallint NOT NULL DEFAULT 0,
    parent bytea,
    -- NULL once the run has ended, and for commands.
    spec bytea,
    queued_at double precision NOT NULL,
    claimed_at double precision,
    -- Owner and attempt are the fence: writes of others touch nothing.
    owner text,
    attempt integer NOT NULL DEFAULT 0,
    lease_until double precision,
    lost integer NOT NULL DEFAULT 0,
    taken_over boolean NOT NULL DEFAULT false,
    abort_reason bytea,
    -- The newest signal, of any attempt.
    last_signal bigint NOT NULL DEFAULT 0,
    kept_from double precision
) WITH (fillfactor = 70);
-- The functions see to it that one run of a session is at work; this proves it.
CREATE UNIQUE INDEX one_run_in_a_lane ON runs (lane) WHERE state IN ('ready', 'held');
CREATE INDEX runs_in_lanes ON runs (lane, position) WHERE state IN ('queued', 'ready', 'held');
CREATE INDEX runs_to_claim ON runs (depth, position) WHERE state = 'ready';
CREATE INDEX runs_in_queues ON runs (position) WHERE state IN ('queued', 'ready');
CREATE INDEX runs_held ON runs (number) WHERE state = 'held';
CREATE INDEX runs_unfinished ON runs (session_key, number) WHERE state <> 'ended';
CREATE INDEX runs_of_parents ON runs (parent) WHERE state <> 'ended' AND parent IS NOT NULL;
CREATE INDEX runs_of_sessions ON runs (session_key, number);
CREATE INDEX runs_by_end ON runs (kept_from, size) WHERE state = 'ended';

-- A row is what was added to a run between two commits: at most 256 events.
CREATE TABLE events (
    run bigint NOT NULL,
    first integer NOT NULL,
    last integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (run, first)
);

CREATE TABLE signals (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run bigint NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX signals_of_runs ON signals (run, id);

-- Changes of a session's transcript, in the order of its runs. granted: it is done now.
CREATE TABLE changes (
    position bigint PRIMARY KEY,
    lane bytea NOT NULL,
    owner text NOT NULL,
    lease double precision NOT NULL,
    granted boolean NOT NULL,
    lease_until double precision NOT NULL
);
CREATE INDEX changes_in_lanes ON changes (lane, position);

CREATE FUNCTION lane_lock(p_lane bytea) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO lanes (lane) VALUES (p_lane)
    ON CONFLICT (lane) DO UPDATE SET entered = lanes.entered + 1
$$;

-- Let the next of a locked lane have its turn where the lane is free, and forget a lane that is
-- empty. Returns 'run' where a run became ready, or the owner of a change whose turn it is, or ''.
CREATE FUNCTION lane_settle(p_lane bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    next_run record;
    next_change record;
BEGIN
    IF EXISTS (SELECT FROM runs r WHERE r.lane = p_lane AND r.state IN ('ready', 'held'))
        OR EXISTS (SELECT FROM changes c WHERE c.lane = p_lane AND c.granted)
    THEN
        RETURN '';
    END IF;
    SELECT r.number, r.position INTO next_run FROM runs r
        WHERE r.lane = p_lane AND r.state = 'queued' ORDER BY r.position LIMIT 1;
    SELECT c.position, c.owner INTO next_change FROM changes c
        WHERE c.lane = p_lane ORDER BY c.position LIMIT 1;
    IF next_run.number IS NOT NULL
        AND (next_change.position IS NULL OR next_run.position < next_change.position)
    THEN
        UPDATE runs r SET state = 'ready' WHERE r.number = next_run.number;
        RETURN 'run';
    ELSIF next_change.position IS NOT NULL THEN
        UPDATE changes c SET granted = true, lease_until = server_now() + c.lease
            WHERE c.position = next_change.position;
        RETURN next_change.owner;
    END IF;
    DELETE FROM lanes l WHERE l.lane = p_lane;
    RETURN '';
END $$;

-- Accept a run; with p_owner and where nothing is before it, it is leased to that owner at once.
-- outcome: fresh, known, parent_ended, session_busy (amount: runs in the lane), gateway_busy
-- (amount: runs that wait).
CREATE FUNCTION run_submit(
    p_id bytea, p_token bigint, p_session bytea, p_agent bytea, p_principal bytea, p_source bytea,
    p_on_leave text, p_fingerprint bytea, p_accepted_at double precision, p_spec bytea,
    p_parent bytea, p_depth integer, p_lane bytea, p_owner text, p_lease double precision,
    p_max_waiting integer, p_max_queued integer
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
        lease_until
    ) VALUES (
        p_id, p_token, p_session, p_agent, p_principal, p_source, p_on_leave, p_fingerprint,
        p_accepted_at, p_spec, p_parent, p_depth, p_lane, nextval('lane_positions'), at,
        CASE WHEN NOT turn THEN 'queued' WHEN p_owner IS NULL THEN 'ready' ELSE 'held' END,
        CASE WHEN turn THEN p_owner END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN 1 ELSE 0 END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN at END,
        CASE WHEN turn AND p_owner IS NOT NULL THEN at + p_lease END
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

-- Lease runs to an owner: those whose leases have expired, then those that are ready, by age.
-- p_slots: how many of each depth. In the first lease after the server's start nothing is taken
-- over, since nobody was able to renew.
CREATE FUNCTION run_claim(p_owner text, p_lease double precision, p_slots integer[])
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
                claimed_at = server_now(), lease_until = server_now() + p_lease, lost = r.lost + 1, taken_over = true
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
            claimed_at = server_now(), lease_until = server_now() + p_lease
        FROM picked WHERE r.number = picked.number RETURNING r.*;
END $$;

-- Extend the leases that are still the owners'. What is missing in the answer is lost.
CREATE FUNCTION run_renew(
    p_ids bytea[], p_owners text[], p_attempts integer[], p_lease double precision
) RETURNS TABLE (
    id bytea, attempt integer, lease_until double precision, abort_reason bytea, last_signal bigint
) LANGUAGE sql VOLATILE AS $$
    UPDATE runs r SET lease_until = server_now() + p_lease
    FROM unnest(p_ids, p_owners, p_attempts) AS held (id, owner, attempt)
    WHERE r.id = held.id AND r.owner = held.owner AND r.attempt = held.attempt AND r.state = 'held'
    RETURNING r.id, r.attempt, r.lease_until, r.abort_reason, r.last_signal
$$;

-- Add events to several runs, each once. kept: they are there now. last: the number of the newest
-- event that is there; NULL where the run is not, or no longer, the owner's.
CREATE FUNCTION run_append(
    p_ids bytea[], p_owners text[], p_attempts integer[], p_firsts integer[], p_lasts integer[],
    p_bodies bytea[], p_statuses text[], p_started double precision[]
) RETURNS TABLE (id bytea, kept boolean, last integer) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH added AS MATERIALIZED (
        SELECT * FROM unnest(
            p_ids, p_owners, p_attempts, p_firsts, p_lasts, p_bodies, p_statuses, p_started
        ) AS a (id, owner, attempt, first, last, body, status, started_at)
    ), moved AS (
        UPDATE runs r SET last_seq = a.last, size = r.size + length(a.body), status = a.status,
            started_at = coalesce(r.started_at, a.started_at)
        FROM added a
        WHERE r.id = a.id AND r.owner = a.owner AND r.attempt = a.attempt AND r.state = 'held'
            AND r.last_seq = a.first - 1
        RETURNING r.id, r.number, a.first, a.last, a.body
    ), stored AS (
        INSERT INTO events SELECT m.number, m.first, m.last, m.body FROM moved m
    )
    SELECT a.id, m.id IS NOT NULL, coalesce(m.last, r.last_seq)
    FROM added a LEFT JOIN moved m ON m.id = a.id LEFT JOIN runs r
        ON r.id = a.id AND r.owner = a.owner AND r.attempt = a.attempt AND r.state = 'held';
END $$;

-- End a run with its last events. outcome: ended, lost, or behind (last: the newest event that is
-- there). next: as of lane_settle. children: the runs that work for this one.
CREATE FUNCTION run_finish(
    p_id bytea, p_owner text, p_attempt integer, p_lane bytea, p_first integer, p_last integer,
    p_body bytea, p_status text, p_started double precision, p_ended double precision
) RETURNS TABLE (outcome text, last integer, next text, children bytea[]) LANGUAGE plpgsql AS $$
DECLARE
    here runs;
BEGIN
    IF p_lane IS NOT NULL THEN
        PERFORM FROM lanes l WHERE l.lane = p_lane FOR UPDATE;
    END IF;
    SELECT * INTO here FROM runs r
        WHERE r.id = p_id AND r.owner = p_owner AND r.attempt = p_attempt FOR UPDATE;
    last := here.last_seq;
    IF here.state = 'held' AND here.last_seq = p_first - 1 THEN
        INSERT INTO events VALUES (here.number, p_first, p_last, p_body);
        UPDATE runs r SET state = 'ended', status = p_status, last_seq = p_last,
            size = r.size + length(p_body), started_at = coalesce(r.started_at, p_started),
            ended_at = p_ended, spec = NULL, lease_until = NULL, kept_from = server_now()
            WHERE r.number = here.number;
        IF here.last_signal > 0 THEN
            DELETE FROM signals s WHERE s.run = here.number;
        END IF;
        outcome := 'ended';
        last := p_last;
        next := lane_settle(p_lane);
    ELSIF here.state = 'held' THEN
        outcome := 'behind';
    ELSIF here.state = 'ended' AND here.last_seq = p_last AND here.status = p_status THEN
        outcome := 'ended';  -- The answer of an earlier call was lost.
        next := 'run';
    ELSE
        outcome := 'lost';
    END IF;
    children := CASE WHEN outcome = 'ended' THEN ARRAY(
        SELECT r.id FROM runs r WHERE r.parent = p_id AND r.state <> 'ended' ORDER BY r.id) END;
    RETURN NEXT;
END $$;

-- Let a run wait for a signal, without those up to p_read. outcome: waiting, queued (there is such
-- a signal), abort (p_reason; nothing was changed), lost, behind.
CREATE FUNCTION run_wait(
    p_id bytea, p_owner text, p_attempt integer, p_lane bytea, p_first integer, p_last integer,
    p_body bytea, p_started double precision, p_read bigint
) RETURNS TABLE (outcome text, last integer, next text, reason bytea) LANGUAGE plpgsql AS $$
DECLARE
    here runs;
BEGIN
    PERFORM FROM lanes l WHERE l.lane = p_lane FOR UPDATE;
    SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.attempt = p_attempt FOR UPDATE;
    last := here.last_seq;
    reason := here.abort_reason;
    outcome := 'lost';
    IF here.state IN ('waiting', 'queued', 'ready') AND here.last_seq = p_last THEN
        outcome := here.state;  -- The answer of an earlier call was lost.
        next := 'run';
    ELSIF here.state = 'held' AND here.owner = p_owner THEN
        IF here.last_seq <> p_first - 1 THEN
            outcome := 'behind';
        ELSIF here.abort_reason IS NOT NULL THEN
            outcome := 'abort';
        ELSE
            INSERT INTO events VALUES (here.number, p_first, p_last, p_body);
            DELETE FROM signals s WHERE s.run = here.number AND s.id <= p_read;
            outcome := CASE WHEN EXISTS (SELECT FROM signals s WHERE s.run = here.number)
                THEN 'queued' ELSE 'waiting' END;
            UPDATE runs r SET state = outcome, status = outcome, last_seq = p_last,
                size = r.size + length(p_body), started_at = coalesce(r.started_at, p_started),
                owner = NULL, lease_until = NULL, taken_over = false,
                position = nextval('lane_positions'), queued_at = server_now()
                WHERE r.number = here.number;
            last := p_last;
            next := lane_settle(p_lane);
        END IF;
    END IF;
    RETURN NEXT;
END $$;

-- Leave a run that is held to the next owner. Whether it was.
CREATE FUNCTION run_hand_back(p_id bytea, p_owner text, p_attempt integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE runs r SET state = 'ready', status = 'queued', owner = NULL, lease_until = NULL,
        taken_over = true
        WHERE r.id = p_id AND r.owner = p_owner AND r.attempt = p_attempt AND r.state = 'held'
            AND r.spec IS NOT NULL AND r.abort_reason IS NULL;
    RETURN FOUND;
END $$;

-- Stop a run: at once where nobody has it, with the event p_body, else through its owner. outcome:
-- ended, asked, none (nothing is left to stop). run: as it was.
CREATE FUNCTION run_abort(
    p_id bytea, p_reason bytea, p_body bytea, p_ended double precision
) RETURNS TABLE (outcome text, next text, children bytea[], run runs) LANGUAGE plpgsql AS $$
DECLARE
    here runs;
BEGIN
    outcome := 'none';
    SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.state <> 'ended';
    IF FOUND THEN
        IF here.lane IS NOT NULL THEN
            PERFORM FROM lanes l WHERE l.lane = here.lane FOR UPDATE;
        END IF;
        SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.state <> 'ended' FOR UPDATE;
        IF NOT FOUND THEN
            outcome := 'none';
        ELSIF here.state = 'held' AND here.abort_reason IS NULL THEN
            UPDATE runs r SET abort_reason = p_reason WHERE r.number = here.number;
            outcome := 'asked';
        ELSIF here.state <> 'held' THEN
            INSERT INTO events VALUES (here.number, here.last_seq + 1, here.last_seq + 1, p_body);
            UPDATE runs r SET state = 'ended', status = 'aborted', last_seq = r.last_seq + 1,
                size = r.size + length(p_body), ended_at = p_ended, spec = NULL,
                kept_from = server_now()
                WHERE r.number = here.number;
            DELETE FROM signals s WHERE s.run = here.number;
            outcome := 'ended';
            IF here.state <> 'waiting' THEN
                next := lane_settle(here.lane);
            END IF;
            children := ARRAY(
                SELECT r.id FROM runs r WHERE r.parent = p_id AND r.state <> 'ended');
        END IF;
    END IF;
    run := here;
    RETURN NEXT;
END $$;

-- Store a signal for a run. One that waits is queued again. outcome: none (it has ended), or the
-- state that the run has now.
CREATE FUNCTION run_signal(p_id bytea, p_body bytea)
RETURNS TABLE (outcome text, owner text, number bigint, next text) LANGUAGE plpgsql AS $$
DECLARE
    here runs;
    stored bigint;
BEGIN
    outcome := 'none';
    SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.state <> 'ended';
    IF FOUND THEN
        IF here.lane IS NOT NULL THEN
            PERFORM lane_lock(here.lane);
        END IF;
        SELECT * INTO here FROM runs r WHERE r.id = p_id AND r.state <> 'ended' FOR UPDATE;
        IF FOUND THEN
            INSERT INTO signals (run, body) VALUES (here.number, p_body)
                RETURNING signals.id INTO stored;
            outcome := CASE here.state WHEN 'waiting' THEN 'queued' ELSE here.state END;
            UPDATE runs r SET last_signal = stored, state = outcome,
                status = CASE here.state WHEN 'waiting' THEN 'queued' ELSE r.status END,
                position = CASE here.state
                    WHEN 'waiting' THEN nextval('lane_positions') ELSE r.position END,
                queued_at = CASE here.state WHEN 'waiting' THEN server_now() ELSE r.queued_at END
                WHERE r.number = here.number;
        END IF;
        IF here.lane IS NOT NULL THEN
            next := lane_settle(here.lane);
        END IF;
    END IF;
    owner := here.owner;
    number := here.number;
    RETURN NEXT;
END $$;

-- Enter a lane with a change. position: NULL where p_most changes are in the lane already.
CREATE FUNCTION change_enter(p_lane bytea, p_owner text, p_lease double precision, p_most integer)
RETURNS TABLE ("position" bigint, granted boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lane_lock(p_lane);
    IF (SELECT count(*) FROM changes c WHERE c.lane = p_lane) <= p_most THEN
        "position" := nextval('lane_positions');
        INSERT INTO changes VALUES ("position", p_lane, p_owner, p_lease, false, 0);
        PERFORM lane_settle(p_lane);
        granted := (SELECT c.granted FROM changes c WHERE c.position = change_enter.position);
    END IF;
    RETURN NEXT;
END $$;

-- Leave a lane after a change, done or not. Returns what lane_settle does.
CREATE FUNCTION change_leave(p_lane bytea, p_position bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM lanes l WHERE l.lane = p_lane FOR UPDATE;
    DELETE FROM changes c WHERE c.position = p_position;
    RETURN CASE WHEN FOUND THEN lane_settle(p_lane) ELSE '' END;
END $$;
