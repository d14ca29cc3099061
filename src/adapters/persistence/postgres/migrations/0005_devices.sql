-- All devices as one JSON document; each process replaces the version that it knows.
CREATE TABLE device_book (
    one boolean PRIMARY KEY CHECK (one),
    version bigint NOT NULL,
    body bytea NOT NULL
);
