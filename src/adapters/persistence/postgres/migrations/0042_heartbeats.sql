-- Texts that wait for the next heartbeat, in this order.
CREATE TABLE heartbeat_texts (
    position bigint PRIMARY KEY,
    text bytea NOT NULL
);

CREATE TABLE heartbeats (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    is_on boolean NOT NULL DEFAULT true,
    last bytea
);

-- Let a text wait, unless p_limit texts do already. Whether it does.
CREATE FUNCTION heartbeat_note(p_text bytea, p_limit integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE heartbeat_texts IN EXCLUSIVE MODE;
    INSERT INTO heartbeat_texts
        SELECT coalesce(max(t.position), 0) + 1, p_text FROM heartbeat_texts t
        HAVING count(*) < p_limit;
    RETURN FOUND;
END $$;

-- Let texts wait before all others.
CREATE FUNCTION heartbeat_put_back(p_texts bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE heartbeat_texts IN EXCLUSIVE MODE;
    INSERT INTO heartbeat_texts
        SELECT (SELECT coalesce(min(t.position), 1) FROM heartbeat_texts t)
            - cardinality(p_texts) - 1 + given.number, given.text
        FROM unnest(p_texts) WITH ORDINALITY AS given (text, number);
END $$;
