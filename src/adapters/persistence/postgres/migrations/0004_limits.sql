-- Wrong credentials by the owner of an address. UNLOGGED: they cost no write to the log, and a crash
-- of the server forgets them. Times are those of the database's clock.
CREATE UNLOGGED TABLE wrong_credentials (
    owner bytea NOT NULL,
    digest bytea NOT NULL,
    at double precision NOT NULL,
    PRIMARY KEY (owner, digest)
);
CREATE INDEX wrong_credentials_by_age ON wrong_credentials (at);

CREATE UNLOGGED TABLE lockouts (
    owner bytea PRIMARY KEY,
    locked_at double precision NOT NULL,
    until double precision NOT NULL
);
CREATE INDEX lockouts_by_age ON lockouts (locked_at);

-- The key of the digests, of which every process makes the same.
CREATE UNLOGGED TABLE lockout_key (
    one boolean PRIMARY KEY CHECK (one),
    key bytea NOT NULL
);

-- Limits.failed. The same credential counts once within `_repeated` seconds. `_addresses`: of how
-- many owners failures are kept.
CREATE FUNCTION count_failure(
    _owner bytea, _digest bytea, _most integer, _window double precision,
    _repeated double precision, _duration double precision, _addresses bigint, _now double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('lockout ' || encode(_owner, 'hex'), 0));
    IF EXISTS (SELECT FROM lockouts WHERE owner = _owner AND until > _now) THEN
        RETURN false;
    END IF;
    INSERT INTO wrong_credentials VALUES (_owner, _digest, _now)
        ON CONFLICT (owner, digest) DO UPDATE SET at = excluded.at
        WHERE wrong_credentials.at <= _now - _repeated;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF random() < 0.02 THEN
        DELETE FROM wrong_credentials WHERE (owner, digest) IN (
            SELECT owner, digest FROM wrong_credentials
            WHERE at <= _now - _repeated OR at < (
                SELECT at FROM wrong_credentials ORDER BY at DESC OFFSET _addresses * _most LIMIT 1)
            FOR UPDATE SKIP LOCKED);
        DELETE FROM lockouts WHERE owner IN (
            SELECT owner FROM lockouts WHERE until <= _now FOR UPDATE SKIP LOCKED);
    END IF;
    IF (SELECT count(*) FROM wrong_credentials
        WHERE owner = _owner AND at > _now - _window) < _most THEN
        RETURN false;
    END IF;
    DELETE FROM wrong_credentials WHERE owner = _owner;
    INSERT INTO lockouts VALUES (_owner, _now, _now + _duration)
        ON CONFLICT (owner) DO UPDATE SET locked_at = excluded.locked_at, until = excluded.until;
    RETURN true;
END
$$;
