-- What a run writes, each in one trip. Locks are taken in one order, so that no two functions wait
-- for each other: the run, its session, its open turn.
-- OS001: a later attempt of the run has stored a step; OS002: the turn of the run is stored.

-- Small functions are in PL/pgSQL, too, which keeps their plans.
CREATE FUNCTION lock_run(_run_id bytea) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('run ' || encode(_run_id, 'hex'), 0));
END
$$;

CREATE FUNCTION current_transcript(_session bigint) RETURNS transcripts
LANGUAGE plpgsql STABLE AS $$
DECLARE
    _found transcripts;
BEGIN
    SELECT * INTO _found FROM transcripts WHERE session = _session ORDER BY id DESC LIMIT 1;
    RETURN _found;
END
$$;

-- The newest transcript of that id: earlier ones of the same id cannot be named.
CREATE FUNCTION named_transcript(_session bigint, _session_id bytea) RETURNS transcripts
LANGUAGE plpgsql STABLE AS $$
DECLARE
    _found transcripts;
BEGIN
    SELECT * INTO _found FROM transcripts WHERE session = _session AND session_id = _session_id
        ORDER BY id DESC LIMIT 1;
    RETURN _found;
END
$$;

-- A new transcript with copies of another one's messages behind `_left` up to `_through`.
CREATE FUNCTION copy_transcript(
    _old transcripts, _left bigint, _through bigint, _at double precision, _new_id bytea,
    _search_id text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    _new bigint;
BEGIN
    INSERT INTO transcripts (session, session_id, search_id, created_at, message_count)
        VALUES (_old.session, _new_id, _search_id, _at, _through - _left) RETURNING id INTO _new;
    INSERT INTO messages
        SELECT _new, number - _left, tokens, role, body FROM messages
        WHERE transcript = _old.id AND number > _left AND number <= _through;
    INSERT INTO copies
        SELECT _new, greatest(first_message, _left + 1) - _left,
            least(first_message + message_count - 1, _through) - greatest(first_message - 1, _left),
            run_id
        FROM (SELECT first_message, message_count, run_id FROM turns WHERE transcript = _old.id
              UNION ALL
              SELECT first_message, message_count, run_id FROM copies WHERE transcript = _old.id
        ) AS origins
        WHERE message_count > 0 AND first_message + message_count - 1 > _left
            AND first_message <= _through;
    IF _left = 0 THEN
        INSERT INTO summaries
            SELECT _new, through, at, model, tokens_before, body FROM summaries
            WHERE transcript = _old.id AND through <= _through;
    END IF;
    RETURN _new;
END
$$;

-- SessionStore.append. Returns the bytes of the turn, one at least; 0: it was stored already.
CREATE FUNCTION append_turn(
    _key bytea, _search_key text, _agent_id bytea, _session_id bytea, _search_id text,
    _run_id bytea, _attempt bigint, _at double precision, _model bytea, _one_off boolean,
    _input bigint, _output bigint, _reasoning bigint, _cached bigint, _estimated boolean,
    _history bytea, _through bigint, _exact boolean,
    _stop text, _tokens bigint[], _roles text[], _bodies bytea[], _now double precision
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    _open bigint;
    _session bigint;
    _origin transcripts;
    _place transcripts;
    _size bigint := (SELECT coalesce(sum(length(body)), 0) FROM unnest(_bodies) AS body);
    _copied bigint := 0;
    _largest CONSTANT numeric := 9223372036854775807;
BEGIN
    PERFORM lock_run(_run_id);
    SELECT id INTO _session FROM sessions WHERE key = _key FOR UPDATE;
    SELECT attempt INTO _open FROM open_turns WHERE run_id = _run_id FOR UPDATE;
    IF FOUND THEN
        IF _attempt > 0 AND _open > _attempt THEN
            RAISE EXCEPTION 'a later attempt has stored a step' USING ERRCODE = 'OS001';
        END IF;
        DELETE FROM open_turns WHERE run_id = _run_id;
    END IF;
    IF EXISTS (SELECT FROM turns WHERE run_id = _run_id) THEN
        RETURN 0;
    END IF;
    IF _session IS NULL THEN
        INSERT INTO sessions
            (key, search_key, agent_id, created_at, updated_at, one_off, model, kept_from)
            VALUES (_key, _search_key, _agent_id, _at, _at, _one_off, _model, _now)
            ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id INTO _session;
    END IF;
    _place := named_transcript(_session, _session_id);
    IF _place.id IS NULL AND _history <> _session_id THEN
        _origin := current_transcript(_session);
        IF _origin.session_id <> _history THEN
            _origin := named_transcript(_session, _history);
            IF NOT _exact THEN
                _place := _origin;
            END IF;
        END IF;
        IF _origin.id IS NOT NULL AND _place.id IS NULL THEN
            PERFORM copy_transcript(
                _origin, 0, greatest(0, least(_through, _origin.message_count)), _at, _session_id,
                _search_id);
            _place := named_transcript(_session, _session_id);
            IF _one_off THEN
                _copied := (SELECT coalesce(sum(length(body)), 0) FROM messages
                    WHERE transcript = _place.id);
            END IF;
        END IF;
    END IF;
    IF _place.id IS NULL THEN
        INSERT INTO transcripts (session, session_id, search_id, created_at)
            VALUES (_session, _session_id, _search_id, _at) RETURNING * INTO _place;
    END IF;
    INSERT INTO turns VALUES (
        _place.id, _place.turn_count + 1, _run_id, _at, _model, _input, _output, _reasoning,
        _cached, _estimated, _place.message_count + 1, cardinality(_bodies), _stop);
    INSERT INTO messages
        SELECT _place.id, _place.message_count + position, tokens, role, body
        FROM unnest(_tokens, _roles, _bodies) WITH ORDINALITY
            AS message (tokens, role, body, position);
    UPDATE transcripts SET
        turn_count = turn_count + 1, message_count = message_count + cardinality(_bodies),
        input_tokens = least(input_tokens::numeric + greatest(_input, 0), _largest),
        output_tokens = least(output_tokens::numeric + greatest(_output, 0), _largest)
        WHERE id = _place.id;
    _size := _size + _copied;
    -- A turn that goes to an earlier transcript changes nothing that lists show. A one-off session
    -- that another turn is added to by its key is a lasting one.
    UPDATE sessions SET
        kept_from = CASE WHEN one_off AND _one_off THEN _now ELSE kept_from END,
        size = size + CASE WHEN one_off AND _one_off THEN _size ELSE 0 END,
        one_off = one_off AND _one_off,
        updated_at = CASE WHEN is_current THEN _at ELSE updated_at END,
        model = CASE WHEN is_current THEN _model ELSE model END
        FROM (SELECT (current_transcript(_session)).session_id = _place.session_id AS is_current)
            AS place
        WHERE id = _session;
    RETURN greatest(1, _size);
END
$$;

-- SessionStore.append_step. `_turn` and `_step` are encoded.
CREATE FUNCTION put_step(
    _run_id bytea, _key bytea, _attempt bigint, _turn bytea, _number integer, _step bytea
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    _open bigint;
BEGIN
    PERFORM lock_run(_run_id);
    SELECT attempt INTO _open FROM open_turns WHERE run_id = _run_id FOR UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM turns WHERE run_id = _run_id) THEN
            RAISE EXCEPTION 'the turn is stored' USING ERRCODE = 'OS002';
        END IF;
        INSERT INTO open_turns VALUES (_run_id, _key, _attempt, _turn);
    ELSIF _attempt > 0 AND _open > _attempt THEN
        RAISE EXCEPTION 'a later attempt has stored a step' USING ERRCODE = 'OS001';
    ELSIF _open < _attempt THEN
        UPDATE open_turns SET attempt = _attempt WHERE run_id = _run_id;
        DELETE FROM steps WHERE run_id = _run_id AND number > _number;
    END IF;
    INSERT INTO steps VALUES (_run_id, _number, _step)
        ON CONFLICT (run_id, number) DO UPDATE SET body = excluded.body;
END
$$;

-- SessionStore.open_turn. `_attempt` 0: whichever has it, and nothing is changed.
CREATE FUNCTION take_open_turn(_run_id bytea, _attempt bigint)
RETURNS TABLE (attempt bigint, body bytea, steps bytea[]) LANGUAGE plpgsql AS $$
DECLARE
    _open open_turns;
BEGIN
    PERFORM lock_run(_run_id);
    SELECT * INTO _open FROM open_turns WHERE run_id = _run_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF _attempt > 0 THEN
        IF _open.attempt > _attempt THEN
            RAISE EXCEPTION 'a later attempt has stored a step' USING ERRCODE = 'OS001';
        END IF;
        UPDATE open_turns AS kept SET attempt = _attempt WHERE run_id = _run_id;
        _open.attempt := _attempt;
    END IF;
    RETURN QUERY SELECT _open.attempt, _open.body, array(
        SELECT step.body FROM steps AS step WHERE step.run_id = _run_id ORDER BY number);
END
$$;

-- SessionStore.put_summary.
CREATE FUNCTION put_summary(
    _key bytea, _session_id bytea, _through bigint, _at double precision, _model bytea,
    _tokens_before bigint, _body bytea, _run_id bytea, _attempt bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    _session bigint;
    _place transcripts;
BEGIN
    IF _attempt > 0 THEN
        PERFORM lock_run(_run_id);
        IF EXISTS (SELECT FROM turns WHERE run_id = _run_id) THEN
            RAISE EXCEPTION 'the turn is stored' USING ERRCODE = 'OS002';
        END IF;
        IF EXISTS (SELECT FROM open_turns WHERE run_id = _run_id AND attempt > _attempt) THEN
            RAISE EXCEPTION 'a later attempt has stored a step' USING ERRCODE = 'OS001';
        END IF;
    END IF;
    -- Two statements: the second one sees what was committed while the first one waited.
    SELECT id INTO _session FROM sessions WHERE key = _key FOR UPDATE;
    _place := current_transcript(_session);
    IF _place.session_id IS DISTINCT FROM _session_id OR _through > _place.message_count
        OR _through <= (SELECT coalesce(max(through), 0) FROM summaries
                        WHERE transcript = _place.id) THEN
        RETURN false;
    END IF;
    INSERT INTO summaries VALUES (_place.id, _through, _at, _model, _tokens_before, _body);
    RETURN true;
END
$$;

-- SessionStore.load, as one consistent state: a STABLE function sees that of its caller's statement.
-- The messages are those behind the newest summary, newest first, until their estimates are over
-- the budget. A long result of a tool counts as little here, since its estimate depends on how it
-- is shortened: the caller counts again.
CREATE FUNCTION load_session(_key bytea, _budget bigint, _result_chars bigint)
RETURNS TABLE (
    session_id bytea, updated_at double precision, settings bytea, message_count bigint,
    through bigint, summarized_at double precision, summarized_by bytea, tokens_before bigint,
    summary bytea, tokens bigint[], numbers bigint[], roles text[], bodies bytea[]
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    _session sessions;
    _place transcripts;
    _summary summaries;
    _message record;
    _oldest bigint;
    _left bigint := _budget;
BEGIN
    SELECT * INTO _session FROM sessions WHERE key = _key;
    _place := current_transcript(_session.id);
    IF _place.id IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO _summary FROM summaries AS one
        WHERE one.transcript = _place.id AND one.through <= _place.message_count
        ORDER BY one.through DESC LIMIT 1;
    _oldest := _place.message_count + 1;
    IF _budget > 0 THEN
        FOR _message IN
            SELECT one.number, one.tokens, one.role FROM messages AS one
            WHERE one.transcript = _place.id AND one.number > coalesce(_summary.through, 0)
                AND one.number <= _place.message_count ORDER BY one.number DESC
        LOOP
            _left := _left - CASE
                WHEN _message.role = 'tool' THEN least(_message.tokens, _result_chars / 8)
                ELSE _message.tokens END;
            EXIT WHEN _left < 0;
            _oldest := _message.number;
        END LOOP;
    END IF;
    RETURN QUERY
        SELECT _place.session_id, _session.updated_at, _session.settings, _place.message_count,
            _summary.through, _summary.at, _summary.model, _summary.tokens_before, _summary.body,
            array_agg(newest.tokens), array_agg(newest.number), array_agg(newest.role),
            array_agg(newest.body)
        FROM (
            SELECT one.number, one.tokens, one.role, one.body FROM messages AS one
            WHERE one.transcript = _place.id AND one.number >= _oldest
                AND one.number <= _place.message_count
            ORDER BY one.number DESC
        ) AS newest;
END
$$;
