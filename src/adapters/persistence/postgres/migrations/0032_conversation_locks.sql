-- Conversations for which a process begins a response, until a time of the database's clock: the
-- lock of a process that has died ends by itself.
CREATE UNLOGGED TABLE conversation_locks (
    conversation bytea PRIMARY KEY,
    holder text NOT NULL,
    until double precision NOT NULL
);
