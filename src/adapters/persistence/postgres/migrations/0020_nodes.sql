-- The processes of the Gateway. Times are those of server_now().
CREATE TABLE nodes (
    -- Also the owner of the runs that the process executes.
    id text PRIMARY KEY,
    name bytea NOT NULL,
    role text NOT NULL,
    version text NOT NULL,
    host bytea NOT NULL,
    pid integer NOT NULL,
    address bytea NOT NULL,
    configuration text NOT NULL,
    started_at double precision NOT NULL,
    heartbeat_at double precision NOT NULL,
    -- Seconds after a heartbeat for which the process counts as alive.
    lease double precision NOT NULL
) WITH (fillfactor = 70);

-- Store that a process is there. Whether it was not in the table. Rows of processes that died
-- p_keep seconds ago are deleted.
CREATE FUNCTION node_heartbeat(
    p_id text, p_name bytea, p_role text, p_version text, p_host bytea, p_pid integer,
    p_address bytea, p_configuration text, p_lease double precision, p_keep double precision
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    fresh boolean;
    at double precision := server_now();
BEGIN
    DELETE FROM nodes n WHERE n.id IN (
        SELECT d.id FROM nodes d WHERE d.heartbeat_at < at - p_keep AND d.id <> p_id
        FOR UPDATE SKIP LOCKED);
    INSERT INTO nodes VALUES (
        p_id, p_name, p_role, p_version, p_host, p_pid, p_address, p_configuration, at, at, p_lease
    ) ON CONFLICT (id) DO UPDATE SET heartbeat_at = at, address = p_address,
        configuration = p_configuration
    RETURNING xmax = 0 INTO fresh;
    RETURN fresh;
END $$;
