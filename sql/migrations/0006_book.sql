-- What the workers' book needs to keep the decks it has: when each deck changes next, and that it changed.

SET LOCAL search_path = bridge, public;

-- When the next rate of each deck comes into force or leaves it, without reading the rates.
CREATE INDEX rate_begins ON rate (deck_id, lower(valid));
CREATE INDEX rate_ends ON rate (deck_id, upper(valid)) WHERE NOT upper_inf(valid);

-- A deck has also changed when rates leave it, however they do.
CREATE FUNCTION rate_gone_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    decks uuid[];
BEGIN
    SELECT array_agg(DISTINCT g.deck_id ORDER BY g.deck_id) INTO decks FROM gone g;
    IF decks IS NOT NULL THEN
        PERFORM FROM deck d WHERE d.deck_id = ANY (decks) ORDER BY d.deck_id FOR NO KEY UPDATE;
        UPDATE deck d SET changed_at = clock_timestamp() WHERE d.deck_id = ANY (decks);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER rate_deleted AFTER DELETE ON rate REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION rate_gone_v1();
CREATE TRIGGER rate_moved AFTER UPDATE ON rate REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION rate_gone_v1();
