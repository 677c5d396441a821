-- Decks with versions: terms, bands, origin sets, staged imports, and every rate there ever was.

SET LOCAL search_path = bridge, public;

ALTER TABLE deck DROP CONSTRAINT deck_name_version_key;
ALTER TABLE deck ADD UNIQUE (name);
ALTER TABLE deck ADD UNIQUE (deck_id, currency);
ALTER TABLE deck ADD COLUMN terms jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(terms) = 'object');
ALTER TABLE deck ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();

ALTER TABLE rate DROP CONSTRAINT rate_pkey;
ALTER TABLE rate DROP CONSTRAINT rate_deck_id_fkey;
ALTER TABLE rate ADD PRIMARY KEY (deck_id, prefix, origin_set, valid);
ALTER TABLE rate DROP CONSTRAINT rate_rate_micro_check;
ALTER TABLE rate DROP CONSTRAINT rate_connect_fee_micro_check;
ALTER TABLE rate DROP CONSTRAINT rate_initial_s_check;
ALTER TABLE rate DROP CONSTRAINT rate_next_s_check;
ALTER TABLE rate DROP CONSTRAINT rate_minimum_s_check;
ALTER TABLE rate ADD CHECK (rate_micro BETWEEN 0 AND 1000000000000000);
ALTER TABLE rate ADD CHECK (connect_fee_micro BETWEEN 0 AND 1000000000000000);
ALTER TABLE rate ADD CHECK (initial_s BETWEEN 1 AND 86400);
ALTER TABLE rate ADD CHECK (next_s BETWEEN 1 AND 86400);
ALTER TABLE rate ADD CHECK (minimum_s BETWEEN 0 AND 86400);
ALTER TABLE rate ADD COLUMN grace_s integer NOT NULL DEFAULT 0 CHECK (grace_s BETWEEN 0 AND 86400);
ALTER TABLE rate ADD COLUMN tiers jsonb CHECK (jsonb_typeof(tiers) = 'array');
ALTER TABLE rate ADD COLUMN added_in integer NOT NULL DEFAULT 1 CHECK (added_in > 0);

-- Rates that are no more: version removed_in of the deck was the first without them. With `rate` they are every version
-- there was: one of version N was added in N or before, and removed after N or never.
CREATE TABLE rate_past (
    rate_id             uuid NOT NULL,
    deck_id             uuid NOT NULL,
    prefix              text NOT NULL,
    origin_set          text NOT NULL,
    destination         text NOT NULL,
    rate_micro          bigint NOT NULL,
    connect_fee_micro   bigint NOT NULL,
    initial_s           integer NOT NULL,
    next_s              integer NOT NULL,
    minimum_s           integer NOT NULL,
    blocked             boolean NOT NULL,
    valid               tstzrange NOT NULL,
    grace_s             integer NOT NULL,
    tiers               jsonb,
    added_in            integer NOT NULL,
    removed_in          integer NOT NULL CHECK (removed_in > added_in),
    PRIMARY KEY (deck_id, removed_in, prefix, origin_set, valid)
);

-- What each version of a deck came from.
CREATE TABLE deck_version (
    deck_id     uuid NOT NULL REFERENCES deck,
    version     integer NOT NULL CHECK (version > 1),
    origin      text NOT NULL CHECK (origin IN ('import', 'rollback')),
    import_id   uuid,
    to_version  integer,                                               -- whose content a rollback brought back
    author      text NOT NULL,
    added       integer NOT NULL,
    removed     integer NOT NULL,
    made_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (deck_id, version),
    CHECK ((origin = 'import') = (import_id IS NOT NULL)),
    CHECK ((origin = 'rollback') = (to_version IS NOT NULL))
);

-- Prices of another deck for a part of the week; the first band in force wins. 0 is Monday, 7 a holiday.
CREATE TABLE deck_band (
    deck_id         uuid NOT NULL,
    position        smallint NOT NULL CHECK (position >= 0),
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 40),
    days            smallint[] NOT NULL CHECK (days <@ '{0,1,2,3,4,5,6,7}' AND cardinality(days) > 0),
    from_minute     smallint NOT NULL CHECK (from_minute BETWEEN 0 AND 1439),
    to_minute       smallint NOT NULL CHECK (to_minute BETWEEN 1 AND 1440 AND to_minute <> from_minute),
    band_deck_id    uuid NOT NULL CHECK (band_deck_id <> deck_id),
    currency        currency_code NOT NULL,
    PRIMARY KEY (deck_id, position),
    FOREIGN KEY (deck_id, currency) REFERENCES deck (deck_id, currency),
    FOREIGN KEY (band_deck_id, currency) REFERENCES deck (deck_id, currency)
);

-- Callers with a rate of their own, by the prefix of their number as received (EU origin-based rates).
CREATE TABLE origin_set (
    name        text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,30}$'),
    prefix      text NOT NULL CHECK (prefix ~ '^[0-9]{1,15}$'),
    PRIMARY KEY (name, prefix)
);

-- A file that was read against one version of a deck. refused: it has errors, nothing of it can be applied;
-- same: it changes nothing.
CREATE TABLE deck_import (
    import_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    deck_id         uuid NOT NULL REFERENCES deck,
    base_version    integer NOT NULL,
    mode            text NOT NULL CHECK (mode IN ('add', 'replace')),
    state           text NOT NULL CHECK (state IN ('staged', 'refused', 'same', 'applied')),
    file_name       text NOT NULL,
    file_sha256     bytea NOT NULL CHECK (length(file_sha256) = 32),
    effective_at    timestamptz NOT NULL,
    author          text NOT NULL,
    staged_at       timestamptz NOT NULL,
    adds            integer NOT NULL DEFAULT 0,
    removes         integer NOT NULL DEFAULT 0,
    summary         jsonb NOT NULL,                                    -- counts, by what happens to a prefix
    version         integer,                                           -- what it was applied as
    CHECK ((state = 'applied') = (version IS NOT NULL))
);
CREATE INDEX deck_import_by_deck ON deck_import (deck_id, import_id);

CREATE TABLE deck_import_error (
    import_id   uuid NOT NULL REFERENCES deck_import,
    row_no      integer NOT NULL,                                      -- 1 is the header; 0 the file as a whole
    column_name text NOT NULL,
    problem     text NOT NULL
);
CREATE INDEX deck_import_error_by_import ON deck_import_error USING brin (import_id);

-- What an import will add and remove, worked out when it was staged. Unlogged: after a crash it is empty, applying is
-- refused because the counts differ, and the file is staged again. Gone once applied: rate and rate_past have it then.
CREATE UNLOGGED TABLE deck_import_row (
    import_id           uuid NOT NULL,
    adds                boolean NOT NULL,
    kind                text,                                          -- one row a changed prefix says what happens to it
    since               timestamptz,                                   -- from when on it is different
    before              jsonb,                                         -- the price then, until now
    row_no              integer,
    rate_id             uuid,                                          -- of a rate whose validity is cut; NULL: a new one
    prefix              text NOT NULL,
    origin_set          text NOT NULL,
    destination         text NOT NULL,
    rate_micro          bigint NOT NULL,
    connect_fee_micro   bigint NOT NULL,
    initial_s           integer NOT NULL,
    next_s              integer NOT NULL,
    minimum_s           integer NOT NULL,
    grace_s             integer NOT NULL,
    tiers               jsonb,
    blocked             boolean NOT NULL,
    valid               tstzrange NOT NULL
);
CREATE INDEX deck_import_row_by_import ON deck_import_row USING brin (import_id);

-- All that makes two rates of a prefix the same price.
CREATE TYPE rate_price AS (
    destination text, rate_micro bigint, connect_fee_micro bigint, initial_s integer, next_s integer, minimum_s integer,
    grace_s integer, tiers jsonb, blocked boolean
);

-- Rates of one prefix never overlap, and belong to a deck. WITHOUT OVERLAPS and a foreign key would say the same, but cost
-- 60 microseconds a row: half a minute for a deck of 500 000. This looks once a statement. The update of the deck's row
-- makes writers of one deck take turns, at each isolation level.
CREATE FUNCTION rate_checked_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    decks uuid[];
    wrong record;
BEGIN
    SELECT array_agg(DISTINCT f.deck_id ORDER BY f.deck_id) INTO decks FROM fresh f;
    IF decks IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM FROM deck d WHERE d.deck_id = ANY (decks) ORDER BY d.deck_id FOR NO KEY UPDATE;
    UPDATE deck d SET changed_at = clock_timestamp() WHERE d.deck_id = ANY (decks);
    IF (SELECT count(*) FROM deck d WHERE d.deck_id = ANY (decks)) < cardinality(decks) THEN
        RAISE EXCEPTION 'a rate belongs to no deck' USING ERRCODE = 'foreign_key_violation';
    END IF;
    -- Planned each time: it may be about one row or about a million.
    EXECUTE 'SELECT f.prefix, f.origin_set FROM fresh f JOIN bridge.rate r USING (deck_id, prefix, origin_set)'
            ' WHERE r.valid && f.valid AND r.valid <> f.valid LIMIT 1' INTO wrong;
    IF wrong.prefix IS NOT NULL THEN
        RAISE EXCEPTION 'two rates of prefix % hold at the same time', wrong.prefix USING ERRCODE = 'exclusion_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER rate_added AFTER INSERT ON rate REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION rate_checked_v1();
CREATE TRIGGER rate_updated AFTER UPDATE ON rate REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION rate_checked_v1();

-- Calls are charged by decks for ever.
CREATE FUNCTION deck_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a deck is never deleted: calls were charged by it' USING ERRCODE = 'BR002';
END $$;
CREATE TRIGGER deck_stays BEFORE DELETE OR TRUNCATE ON deck
    FOR EACH STATEMENT EXECUTE FUNCTION deck_stays_v1();

CREATE TRIGGER deck_band_changed AFTER INSERT OR UPDATE OR DELETE ON deck_band
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER origin_set_changed AFTER INSERT OR UPDATE OR DELETE ON origin_set
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
