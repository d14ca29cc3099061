-- The bytes of a conversation: metadata, a constant (CONVERSATION_BYTES) and all items.
ALTER TABLE conversations ADD COLUMN bytes bigint NOT NULL DEFAULT 4096;
UPDATE conversations SET bytes = 4096 + octet_length(metadata) + (
    SELECT coalesce(sum(octet_length(body)), 0) FROM conversation_items
    WHERE conversation = conversations.id);
CREATE INDEX bytes_of_conversations ON conversations (principal_id, bytes);

CREATE FUNCTION count_conversation_item() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE conversations SET bytes = bytes + octet_length(NEW.body) WHERE id = NEW.conversation;
    ELSE
        UPDATE conversations SET bytes = bytes - octet_length(OLD.body) WHERE id = OLD.conversation;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_conversation_item AFTER INSERT OR DELETE ON conversation_items
    FOR EACH ROW EXECUTE FUNCTION count_conversation_item();
