-- Direct calls of tools with an idempotency key. UNLOGGED: a crash of the server forgets them, as the
-- restart of a Gateway that is one process does. `outcome` is empty until the call has ended; `until`
-- is then the time until which it is kept, and before that the time until which it can take.
CREATE UNLOGGED TABLE direct_calls (
    principal_id bytea NOT NULL,
    key bytea NOT NULL,
    fingerprint text NOT NULL,
    outcome text NOT NULL DEFAULT '',
    result bytea NOT NULL DEFAULT '',
    until double precision NOT NULL,
    PRIMARY KEY (principal_id, key)
);
CREATE INDEX direct_calls_by_age ON direct_calls (until);
