-- Sessions of which a process has a summary written. A lock counts while its process is alive, as
-- `nodes` shows, and at most until a time of the database's clock.
CREATE UNLOGGED TABLE summary_locks (
    session_key bytea PRIMARY KEY,
    node text NOT NULL,
    until double precision NOT NULL
);
