-- Requests per minute of API keys: `tat` is when the requests so far are over at the rate of the
-- key (GCRA). UNLOGGED: a request costs no write to the log, and a crash of the server forgets them.
-- Times are those of the database's clock.
CREATE UNLOGGED TABLE key_rates (
    key_id bytea PRIMARY KEY,
    tat double precision NOT NULL
) WITH (fillfactor = 50);

-- KeyCounters.take: takes up to `_most` requests of those that a minute has. `available`: how many
-- were there before.
CREATE FUNCTION take_key_requests(
    _key bytea, _most integer, _per_minute integer, _now double precision
) RETURNS TABLE (taken integer, available double precision) LANGUAGE plpgsql AS $$
DECLARE
    busy_until double precision;
BEGIN
    INSERT INTO key_rates AS known VALUES (_key, _now)
        ON CONFLICT (key_id) DO UPDATE SET tat = greatest(known.tat, _now)
        RETURNING tat INTO busy_until;
    available := _per_minute * (1 - (busy_until - _now) / 60);
    taken := greatest(0, least(_most, floor(available + 1e-6)::integer));
    IF taken > 0 THEN
        UPDATE key_rates SET tat = busy_until + taken * 60.0 / _per_minute WHERE key_id = _key;
    END IF;
    RETURN NEXT;
END $$;

-- The runs of keys that have a limit of runs at once, from their admission on. A row counts while its
-- run is at work or about to be submitted, so that none is left over from a node that has died.
CREATE UNLOGGED TABLE key_runs (
    run_id bytea PRIMARY KEY,
    key_id bytea NOT NULL,
    admitted_at double precision NOT NULL
);
CREATE INDEX key_runs_of_keys ON key_runs (key_id);

-- Whether the run does not count any more. Without a run: `_patience` seconds after its admission.
CREATE FUNCTION key_run_is_over(_run bytea, _admitted_at double precision, _patience double precision)
RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(
        (SELECT state IN ('ended', 'waiting') FROM runs WHERE id = _run),
        _admitted_at < server_now() - _patience)
$$;

-- KeyCounters.begin.
CREATE FUNCTION begin_key_run(
    _key bytea, _run bytea, _most integer, _patience double precision
) RETURNS TABLE (outcome text, running integer) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('key runs ' || encode(_key, 'hex'), 0));
    DELETE FROM key_runs k
        WHERE k.key_id = _key AND key_run_is_over(k.run_id, k.admitted_at, _patience);
    running := (SELECT count(*) FROM key_runs k WHERE k.key_id = _key);
    IF EXISTS (SELECT FROM key_runs k WHERE k.run_id = _run) THEN
        outcome := 'known';
    ELSIF running >= _most THEN
        outcome := 'full';
    ELSE
        outcome := 'new';
        INSERT INTO key_runs VALUES (_run, _key, server_now());
        running := running + 1;
    END IF;
    RETURN NEXT;
END $$;

-- What one key has used in a month.
CREATE INDEX key_usage_of_keys ON key_usage (key_id, day);
