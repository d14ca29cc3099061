-- The last changes of sessions, for processes that have missed the notification of one. `body` is that
-- of the notification. Times are those of server_now().
CREATE TABLE session_changes (
    id text PRIMARY KEY,
    node text NOT NULL,
    at double precision NOT NULL,
    body text NOT NULL
);
CREATE INDEX session_changes_by_time ON session_changes (at);
