-- The connected clients of each process, as it lists them, for the others. Unlogged, because each
-- process repeats its row, and one that is seconds old has no worth.

CREATE UNLOGGED TABLE presence (
    node text PRIMARY KEY,
    clients text NOT NULL,
    seen_at double precision NOT NULL  -- Of server_now().
);
