-- The configuration of all processes: the newest row; the others are for people.
CREATE TABLE configurations (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document bytea NOT NULL,
    sha256 text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- Replace the configuration if its hash is p_base (NULL: if there is none). Whether it was.
CREATE FUNCTION configuration_replace(
    p_base text, p_document bytea, p_sha256 text, p_keep integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    newest configurations;
BEGIN
    LOCK TABLE configurations IN EXCLUSIVE MODE;
    SELECT * INTO newest FROM configurations c ORDER BY c.number DESC LIMIT 1;
    IF newest.sha256 IS DISTINCT FROM p_base THEN
        RETURN false;
    END IF;
    INSERT INTO configurations (document, sha256) VALUES (p_document, p_sha256);
    DELETE FROM configurations c WHERE c.number <= newest.number - p_keep;
    RETURN true;
END $$;
