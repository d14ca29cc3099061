-- Approvals are kept for a time after they were decided.
CREATE TABLE approvals (
    id bytea PRIMARY KEY,
    run_id bytea NOT NULL,
    created_at double precision NOT NULL,
    expires_at double precision NOT NULL,
    body bytea NOT NULL,
    decision text,
    decided_by bytea,
    decided_at double precision
);
CREATE INDEX approvals_by_end ON approvals (expires_at);
CREATE INDEX pending_approvals ON approvals (created_at, id) WHERE decision IS NULL;

-- Calls that were allowed for always, by `Approval.subject`; `body` is that of the approval.
CREATE TABLE always_allowed (
    subject bytea PRIMARY KEY,
    granted_by bytea NOT NULL,
    granted_at double precision NOT NULL,
    body bytea NOT NULL
);

-- Responses of the Responses API; `body` is a StoredResponse.
CREATE TABLE responses (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id bytea NOT NULL UNIQUE,
    session_key bytea NOT NULL,
    conversation bytea NOT NULL,
    settled boolean NOT NULL,
    hidden boolean NOT NULL,
    created_at double precision NOT NULL,
    size bigint NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX responses_of_session ON responses (session_key);
CREATE INDEX responses_by_age ON responses (created_at, number) WHERE settled;
CREATE INDEX unsettled_responses ON responses (conversation, number) WHERE NOT settled;

CREATE TABLE conversations (
    id bytea PRIMARY KEY,
    principal_id bytea NOT NULL,
    created_at double precision NOT NULL,
    metadata bytea NOT NULL
);

-- The items of a conversation are numbered in their order: whoever adds some locks its row.
CREATE TABLE conversation_items (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation bytea NOT NULL REFERENCES conversations ON DELETE CASCADE,
    id bytea NOT NULL,
    body bytea NOT NULL,
    UNIQUE (conversation, id)
);
CREATE INDEX items_of_conversation ON conversation_items (conversation, number);

-- `record` is an ApiKey as JSON: with the digest of the key, not with the key. A row of `key_usage`
-- is what a key has used on a day of UTC.
CREATE TABLE api_keys (
    id bytea PRIMARY KEY,
    record bytea NOT NULL
);
CREATE TABLE key_usage (
    key_id bytea NOT NULL,
    day text COLLATE "C" NOT NULL,
    requests bigint NOT NULL,
    runs bigint NOT NULL,
    input bigint NOT NULL,
    output bigint NOT NULL,
    cached bigint NOT NULL,
    cost double precision NOT NULL,
    unpriced bigint NOT NULL,
    PRIMARY KEY (day, key_id)
);
