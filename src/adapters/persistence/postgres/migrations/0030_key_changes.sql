-- Counts the changes of `api_keys`, so that a process sees that its copy is old. No row: none yet.
CREATE TABLE api_key_version (
    one boolean PRIMARY KEY CHECK (one),
    version bigint NOT NULL
);

CREATE FUNCTION count_api_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO api_key_version AS counted VALUES (true, 1)
        ON CONFLICT (one) DO UPDATE SET version = counted.version + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER api_key_changes AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION count_api_key_change();

-- Saves a key, and returns the new version. NULL: the keys are no longer those of `_version`.
CREATE FUNCTION save_api_key(_id bytea, _record bytea, _version bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE;
    IF coalesce((SELECT version FROM api_key_version), 0) <> _version THEN
        RETURN NULL;
    END IF;
    INSERT INTO api_keys VALUES (_id, _record)
        ON CONFLICT (id) DO UPDATE SET record = excluded.record;
    RETURN (SELECT version FROM api_key_version);
END
$$;
