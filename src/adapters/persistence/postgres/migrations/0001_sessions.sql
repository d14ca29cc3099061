-- Texts of clients are bytea: they may have NUL and lone surrogates, which text cannot have. The
-- columns search_* are text: the same, folded and cleaned, for searching.
-- Messages are numbered within their transcript from 1. A session's current transcript is its
-- newest one.

CREATE TABLE sessions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL UNIQUE,
    agent_id bytea NOT NULL,
    created_at double precision NOT NULL,
    updated_at double precision NOT NULL,
    one_off boolean NOT NULL,
    model bytea NOT NULL DEFAULT '',
    settings bytea,
    label bytea,
    spawned_by bytea,
    -- Of one-off sessions: a time of the database's clock, and the bytes of their messages.
    kept_from double precision NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0,
    search_key text NOT NULL,
    search_label text
);
CREATE INDEX sessions_by_age ON sessions (updated_at, id);
CREATE INDEX sessions_of_agent ON sessions (agent_id, updated_at, id);
CREATE INDEX sessions_by_label ON sessions (label) WHERE label IS NOT NULL;
CREATE INDEX sessions_by_parent ON sessions (spawned_by) WHERE spawned_by IS NOT NULL;
CREATE INDEX one_off_by_age ON sessions (kept_from, id) WHERE one_off;

CREATE TABLE transcripts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE,
    session_id bytea NOT NULL,
    created_at double precision NOT NULL,
    turn_count bigint NOT NULL DEFAULT 0,
    message_count bigint NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    search_id text NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX transcripts_of_session ON transcripts (session, id);
CREATE INDEX transcripts_by_session_id ON transcripts (session_id);

CREATE TABLE turns (
    transcript bigint NOT NULL REFERENCES transcripts ON DELETE CASCADE,
    number bigint NOT NULL,
    run_id bytea NOT NULL UNIQUE,
    at double precision NOT NULL,
    model bytea NOT NULL,
    -- All are NULL where the provider reported none.
    input_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cached_tokens bigint,
    usage_estimated boolean,
    first_message bigint NOT NULL,
    message_count bigint NOT NULL,
    -- Why the answer ended; empty where it is not known.
    stop text NOT NULL DEFAULT '',
    PRIMARY KEY (transcript, number)
);
CREATE INDEX turns_by_time ON turns (at);

CREATE TABLE messages (
    transcript bigint NOT NULL REFERENCES transcripts ON DELETE CASCADE,
    number bigint NOT NULL,
    tokens bigint NOT NULL,
    role text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (transcript, number)
);

-- The original turns of messages that a transcript copied from another one.
CREATE TABLE copies (
    transcript bigint NOT NULL REFERENCES transcripts ON DELETE CASCADE,
    first_message bigint NOT NULL,
    message_count bigint NOT NULL,
    run_id bytea NOT NULL,
    PRIMARY KEY (transcript, first_message)
);

-- What a model gets instead of the first `through` messages of a transcript: of several summaries
-- the one of the most.
CREATE TABLE summaries (
    transcript bigint NOT NULL REFERENCES transcripts ON DELETE CASCADE,
    through bigint NOT NULL,
    at double precision NOT NULL,
    model bytea NOT NULL,
    tokens_before bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (transcript, through)
);

-- Turns without an answer: `body` has the question, `attempt` is the fencing token.
CREATE TABLE open_turns (
    run_id bytea PRIMARY KEY,
    key bytea NOT NULL,
    attempt bigint NOT NULL,
    body bytea NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX open_turns_of_session ON open_turns (key);

CREATE TABLE steps (
    run_id bytea NOT NULL REFERENCES open_turns ON DELETE CASCADE,
    number integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (run_id, number)
) WITH (fillfactor = 70);
