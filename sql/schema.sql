-- callbridge: today's truth. Read it from top to bottom; sql/migrations/ lead to it and a test proves that they do.
--
-- Words: money is bigint micro-units (10^-6) beside an ISO 4217 code; instants are timestamptz and end in _at;
-- keys are UUIDv7, so they sort by time, and the tables that grow are partitioned by the month inside the key.
-- Needs PostgreSQL 18 (uuidv7()) and btree_gist.

CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE SCHEMA bridge;
SET search_path = bridge, public;

-- Whose requests the API answers as. Roles belong to the whole server, so it may be there already.
DO $$ BEGIN
    CREATE ROLE callbridge_partner NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'callbridge_partner', 'SET') THEN
        EXECUTE format('GRANT callbridge_partner TO %I', current_user);
    END IF;
END $$;
GRANT USAGE ON SCHEMA bridge TO callbridge_partner;

-- The partner a request is made for; none: no row of anybody is seen.
CREATE FUNCTION partner_asking_v1() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('bridge.partner_id', true), '')::uuid
$$;

CREATE DOMAIN currency_code AS text CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN e164 AS text CHECK (VALUE ~ '^\+[1-9][0-9]{2,14}$');

-- ---------------------------------------------------------------- who pays

-- A subscriber's row carries its balance and is changed only by conditional updates under its lock. Carrier, partner and
-- system accounts are hot: they only ever get entries, and their balance is the sum of these (tracked = false).
CREATE TABLE account (
    account_id          uuid PRIMARY KEY DEFAULT uuidv7(),
    kind                text NOT NULL CHECK (kind IN ('subscriber', 'carrier', 'partner', 'system')),
    name                text NOT NULL UNIQUE,
    currency            currency_code NOT NULL,
    funding             text NOT NULL DEFAULT 'prepaid' CHECK (funding IN ('prepaid', 'postpaid')),
    state               text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
    tracked             boolean NOT NULL GENERATED ALWAYS AS (kind = 'subscriber') STORED,
    balance_micro       bigint NOT NULL DEFAULT 0,
    held_micro          bigint NOT NULL DEFAULT 0 CHECK (held_micro >= 0),
    credit_limit_micro  bigint NOT NULL DEFAULT 0 CHECK (credit_limit_micro >= 0),
    call_cap            integer CHECK (call_cap >= 0),
    created_at          timestamptz NOT NULL DEFAULT now(),
    bundled             boolean NOT NULL DEFAULT false,                -- it has bought a bundle, once at least
    partner_id          uuid,                                          -- whose it is; NULL: ours
    edition             integer NOT NULL DEFAULT 1,                    -- of its settings: balance and holds do not count
    CONSTRAINT available_is_never_negative
        CHECK (kind <> 'subscriber' OR funding <> 'prepaid' OR balance_micro - held_micro >= 0)
) WITH (fillfactor = 70);

-- A carrier we have an alliance with. edition counts the changes of a row; it is the ETag of the API.
CREATE TABLE partner (
    partner_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    name            text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 80),
    account_id      uuid NOT NULL UNIQUE REFERENCES account,           -- what we owe each other
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
    keeps_events    boolean NOT NULL DEFAULT false,                    -- somebody listens: what happens is written to `event`
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE account ADD FOREIGN KEY (partner_id) REFERENCES partner;
CREATE INDEX account_partner ON account (partner_id, account_id);

-- ---------------------------------------------------------------- prices

CREATE TABLE deck (
    deck_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    name        text NOT NULL UNIQUE,
    version     integer NOT NULL DEFAULT 1 CHECK (version > 0),        -- the active one
    side        text NOT NULL CHECK (side IN ('buy', 'sell')),
    currency    currency_code NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    terms       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(terms) = 'object'),  -- what is not as usual
    changed_at  timestamptz NOT NULL DEFAULT now(),
    partner_id  uuid REFERENCES partner,
    UNIQUE (deck_id, currency)
);
CREATE INDEX deck_partner ON deck (partner_id, deck_id);

-- The active version of each deck, with what was and what will be in force.
CREATE TABLE rate (
    rate_id             uuid NOT NULL DEFAULT uuidv7(),                -- of the price: kept when its validity is cut
    deck_id             uuid NOT NULL,
    prefix              text NOT NULL CHECK (prefix ~ '^[0-9]{1,15}$'),
    origin_set          text NOT NULL DEFAULT '',
    destination         text NOT NULL,
    rate_micro          bigint NOT NULL CHECK (rate_micro BETWEEN 0 AND 1000000000000000),  -- for one minute
    connect_fee_micro   bigint NOT NULL DEFAULT 0 CHECK (connect_fee_micro BETWEEN 0 AND 1000000000000000),
    initial_s           integer NOT NULL DEFAULT 60 CHECK (initial_s BETWEEN 1 AND 86400),
    next_s              integer NOT NULL DEFAULT 60 CHECK (next_s BETWEEN 1 AND 86400),
    minimum_s           integer NOT NULL DEFAULT 0 CHECK (minimum_s BETWEEN 0 AND 86400),
    blocked             boolean NOT NULL DEFAULT false,
    valid               tstzrange NOT NULL DEFAULT tstzrange(now(), NULL) CHECK (NOT isempty(valid)),
    grace_s             integer NOT NULL DEFAULT 0 CHECK (grace_s BETWEEN 0 AND 86400),
    tiers               jsonb CHECK (jsonb_typeof(tiers) = 'array'),   -- [[from_s, rate_micro, next_s], …]
    added_in            integer NOT NULL DEFAULT 1 CHECK (added_in > 0),  -- version of the deck
    PRIMARY KEY (deck_id, prefix, origin_set, valid)
);
-- When the next rate of each deck comes into force or leaves it, without reading the rates.
CREATE INDEX rate_begins ON rate (deck_id, lower(valid));
CREATE INDEX rate_ends ON rate (deck_id, upper(valid)) WHERE NOT upper_inf(valid);

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

-- Calls are charged by decks for ever.
CREATE FUNCTION deck_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a deck is never deleted: calls were charged by it' USING ERRCODE = 'BR002';
END $$;
CREATE TRIGGER deck_stays BEFORE DELETE OR TRUNCATE ON deck
    FOR EACH STATEMENT EXECUTE FUNCTION deck_stays_v1();

CREATE TABLE plan (
    plan_id             uuid PRIMARY KEY DEFAULT uuidv7(),
    name                text NOT NULL UNIQUE,
    deck_id             uuid NOT NULL REFERENCES deck,                 -- the sell side
    margin_floor_micro  bigint NOT NULL DEFAULT 0,                     -- for one minute; may be negative
    roaming_deck_id     uuid REFERENCES deck,                          -- the sell side abroad; NULL: as at home
    zero_rated          text[] NOT NULL DEFAULT '{}',                  -- destinations that are free, at zero balance, too
    on_net_free         boolean NOT NULL DEFAULT false,                -- so are calls between subscribers of one app
    partner_id          uuid REFERENCES partner,
    edition             integer NOT NULL DEFAULT 1
);
CREATE INDEX plan_partner ON plan (partner_id, plan_id);

-- What a message or data costs outside of allowances: price_micro for each begun `per` of the service.
CREATE TABLE service_price (
    plan_id         uuid NOT NULL REFERENCES plan,
    service         text NOT NULL CHECK (service ~ '^[a-z]+(\.[a-z]+)?$' AND service <> 'voice'),
    zone            text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming')),
    price_micro     bigint NOT NULL CHECK (price_micro >= 0),
    per             bigint NOT NULL DEFAULT 1 CHECK (per > 0),
    PRIMARY KEY (plan_id, service, zone)
);

-- ---------------------------------------------------------------- bundles and what is left of them

-- A bundle is a product. One of its units pays for so much of each service it covers: {"voice": 60, "sms": 1,
-- "data": 1000000} is a minute, a message or a megabyte.
CREATE TABLE bundle (
    bundle_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    name            text NOT NULL UNIQUE,
    currency        currency_code NOT NULL,
    price_micro     bigint NOT NULL CHECK (price_micro >= 0),
    units           bigint CHECK (units > 0),                          -- NULL: without limit
    fair_use_units  bigint CHECK (fair_use_units > 0),                 -- beyond it the service is throttled, not charged
    covers          jsonb NOT NULL CHECK (jsonb_typeof(covers) = 'object' AND covers <> '{}'),
    zone            text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming', 'any')),
    prefixes        text[] NOT NULL DEFAULT '{}',                      -- calls to these only; none named: to everywhere
    days            integer NOT NULL CHECK (days BETWEEN 1 AND 3660),  -- of 24 hours
    renews          boolean NOT NULL DEFAULT false,                    -- bought again when it ends, if the balance allows
    renew_wait_days integer NOT NULL DEFAULT 30 CHECK (renew_wait_days >= 0),  -- so long a renewal waits for money
    burn_order      integer NOT NULL DEFAULT 100,                      -- lower first, then what ends first
    on_sale         boolean NOT NULL DEFAULT true,
    plan_id         uuid REFERENCES plan,                              -- whose file has it; NULL: none
    partner_id      uuid REFERENCES partner
);

-- A bundle that somebody bought, on the terms of that day.
CREATE TABLE allowance (
    allowance_id    uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id      uuid NOT NULL REFERENCES account,
    bundle_id       uuid NOT NULL REFERENCES bundle,
    idempotency_key text NOT NULL UNIQUE,
    transfer_id     uuid,                                              -- what paid for it; NULL: it was free
    units           bigint,
    fair_use_units  bigint,
    covers          jsonb NOT NULL,
    zone            text NOT NULL,
    prefixes        text[] NOT NULL,
    burn_order      integer NOT NULL,
    used_units      bigint NOT NULL DEFAULT 0 CHECK (used_units >= 0),
    held_units      bigint NOT NULL DEFAULT 0 CHECK (held_units >= 0),
    valid           tstzrange NOT NULL CHECK (NOT isempty(valid)),
    renews          boolean NOT NULL,
    renewed_by      uuid UNIQUE,                                       -- the allowance that follows; bought at most once
    bought_at       timestamptz NOT NULL,
    CONSTRAINT units_are_never_overdrawn CHECK (used_units + held_units <= units)
) WITH (fillfactor = 70);
CREATE INDEX allowance_account ON allowance (account_id, upper(valid));
CREATE INDEX allowance_due ON allowance (upper(valid)) WHERE renews AND renewed_by IS NULL;

-- ---------------------------------------------------------------- who calls, and over what

-- A messenger app reaches the switch through one PJSIP endpoint of this name.
CREATE TABLE app (
    app_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_]{0,30}$'),
    sip_host    text NOT NULL CHECK (sip_host ~ '^[A-Za-z0-9.:-]{1,253}$'),  -- calls are taken from here only
    sip_secret  text CHECK (length(sip_secret) >= 16)                   -- NULL: the address alone is the proof
);

CREATE TABLE subscriber (
    subscriber_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    app_id          uuid NOT NULL REFERENCES app,
    a_number        e164 NOT NULL,
    account_id      uuid NOT NULL REFERENCES account,
    plan_id         uuid NOT NULL REFERENCES plan,
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    zone            text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming')),
    partner_id      uuid REFERENCES partner,
    edition         integer NOT NULL DEFAULT 1,
    UNIQUE (a_number, app_id)
);
CREATE INDEX subscriber_partner ON subscriber (partner_id, subscriber_id);

-- Who may call yet.
CREATE TABLE rollout_allow (
    subscriber_id   uuid PRIMARY KEY REFERENCES subscriber,
    allowed_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE trunk (
    trunk_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    name            text NOT NULL UNIQUE CHECK (name ~ '^[a-z][a-z0-9_]{0,30}$'),
    account_id      uuid NOT NULL REFERENCES account,                  -- the carrier's
    deck_id         uuid NOT NULL REFERENCES deck,                     -- the buy side
    host            text NOT NULL CHECK (host ~ '^[A-Za-z0-9.:-]{1,253}$'),
    port            integer NOT NULL DEFAULT 5060 CHECK (port BETWEEN 1 AND 65535),
    capacity        integer CHECK (capacity >= 0),                     -- calls at a time; NULL is without limit
    priority        integer NOT NULL DEFAULT 0,                        -- lower first, where the cost is equal
    ring_s          integer NOT NULL DEFAULT 45 CHECK (ring_s BETWEEN 1 AND 300),
    enabled         boolean NOT NULL DEFAULT true,
    policy_class    text NOT NULL DEFAULT 'pstn' CHECK (policy_class IN ('pstn', 'voip_only', 'emergency')),
    partner_id      uuid REFERENCES partner,
    edition         integer NOT NULL DEFAULT 1
);
CREATE INDEX trunk_partner ON trunk (partner_id, trunk_id);

-- Workers keep decks, plans and trunks in memory and reload them on this notice.
CREATE FUNCTION config_changed_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('callbridge_config', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER deck_changed AFTER INSERT OR UPDATE OR DELETE ON deck
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER rate_changed AFTER INSERT OR UPDATE OR DELETE ON rate
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER deck_band_changed AFTER INSERT OR UPDATE OR DELETE ON deck_band
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER origin_set_changed AFTER INSERT OR UPDATE OR DELETE ON origin_set
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER plan_changed AFTER INSERT OR UPDATE OR DELETE ON plan
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER trunk_changed AFTER INSERT OR UPDATE OR DELETE ON trunk
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();

-- ---------------------------------------------------------------- the switch and what it wrote down

CREATE TABLE switch (
    switch_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    name        text NOT NULL UNIQUE,
    seen_at     timestamptz                                            -- the last proof that it lived
);

-- How far each file of a switch has been read; moved in the transaction that uses what was read.
CREATE TABLE switch_file (
    switch_id   uuid NOT NULL REFERENCES switch,
    name        text NOT NULL,
    inode       bigint NOT NULL,
    position    bigint NOT NULL CHECK (position >= 0),
    PRIMARY KEY (switch_id, name)
);

-- ---------------------------------------------------------------- calls

-- The call detail record. The row exists from admission (or refusal) on and is closed exactly once.
CREATE TABLE call (
    call_id         uuid NOT NULL DEFAULT uuidv7(),
    switch_id       uuid NOT NULL,
    uniqueid        text NOT NULL,
    sip_call_id     text NOT NULL,
    subscriber_id   uuid,
    account_id      uuid,
    a_number        text NOT NULL,                                     -- as received where it is no E.164 number
    dialled         text NOT NULL,
    b_number        text,
    state           text NOT NULL CHECK (state IN ('live', 'refused', 'answered', 'unanswered', 'failed')),
    refuse_reason   text,
    sell            jsonb,                                             -- the frozen sell rate
    routes          jsonb,                                             -- the frozen route plan
    admitted_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at     timestamptz,
    ended_at        timestamptz,
    talk_ms         bigint,
    q850_cause      integer,
    release_party   text CHECK (release_party IN ('caller', 'callee', 'bridge', 'unknown')),
    ended_by        text CHECK (ended_by IN ('journal', 'agi', 'cdr', 'resync', 'failsafe')),
    bundled         boolean NOT NULL DEFAULT false,                    -- it began inside an allowance
    partner_id      uuid,                                              -- whose subscriber called
    PRIMARY KEY (call_id),
    CHECK ((state = 'live') = (ended_at IS NULL)),
    CHECK ((state = 'refused') = (refuse_reason IS NOT NULL))
) PARTITION BY RANGE (call_id);
CREATE INDEX call_partner ON call (partner_id, call_id);

-- One Dial on one trunk. Written when the attempt ends, with its own frozen buy rate.
CREATE TABLE attempt (
    call_id         uuid NOT NULL,
    attempt_no      smallint NOT NULL CHECK (attempt_no > 0),
    trunk_id        uuid NOT NULL,
    outcome         text NOT NULL,
    fault           text NOT NULL CHECK (fault IN ('us', 'caller', 'callee', 'carrier', 'unknown')),
    sip_code        integer,
    q850_cause      integer,
    pdd_ms          integer,                                           -- INVITE to ringing or early media
    ended_at        timestamptz NOT NULL,
    billed_s        integer NOT NULL DEFAULT 0,
    cost_micro      bigint NOT NULL DEFAULT 0,
    currency        currency_code NOT NULL,
    buy             jsonb NOT NULL,                                    -- the frozen buy rate
    PRIMARY KEY (call_id, attempt_no)
) PARTITION BY RANGE (call_id);

-- What the call cost its account. amount = what the rate says; written_off = the part no money was left for.
CREATE TABLE charge (
    call_id             uuid NOT NULL,
    account_id          uuid NOT NULL,
    billed_s            integer NOT NULL,
    amount_micro        bigint NOT NULL CHECK (amount_micro >= 0),
    written_off_micro   bigint NOT NULL DEFAULT 0 CHECK (written_off_micro BETWEEN 0 AND amount_micro),
    currency            currency_code NOT NULL,
    covered_s           integer NOT NULL DEFAULT 0 CHECK (covered_s >= 0),  -- talk that allowances paid for
    PRIMARY KEY (call_id)
) PARTITION BY RANGE (call_id);

-- A call that may still be running. Counting these is the only way calls at a time are counted; an expired
-- lease counts for nothing, so a crash cannot block an account or a trunk for ever.
CREATE TABLE lease (
    call_id         uuid PRIMARY KEY,
    switch_id       uuid NOT NULL,
    account_id      uuid NOT NULL,
    trunk_id        uuid NOT NULL,
    channel         text NOT NULL,
    attempt_no      smallint NOT NULL DEFAULT 1,
    limit_ms        bigint NOT NULL,                                   -- talk time the hold pays for
    answered_at     timestamptz,
    pdd_ms          integer,
    extend_at       timestamptz,                                       -- when the next slice is due; NULL: no more
    expires_at      timestamptz NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX lease_account ON lease (account_id);
CREATE INDEX lease_trunk ON lease (trunk_id);

-- Money set aside for a call: opened at admission, extended slice by slice, settled at the end, the rest released.
CREATE TABLE hold (
    call_id         uuid PRIMARY KEY,
    account_id      uuid NOT NULL,
    currency        currency_code NOT NULL,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'settled', 'released', 'expired')),
    opened_micro    bigint NOT NULL CHECK (opened_micro >= 0),
    held_micro      bigint NOT NULL CHECK (held_micro >= opened_micro),
    extensions      integer NOT NULL DEFAULT 0,
    settled_micro   bigint NOT NULL DEFAULT 0,
    opened_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at       timestamptz,
    CHECK ((state = 'open') = (closed_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX hold_open ON hold (account_id) WHERE state = 'open';

-- Units set aside for a call and burnt by it, in the order they pay for the talk; or burnt by reported usage at once.
CREATE TABLE burn (
    source_id       uuid NOT NULL,                                     -- the call, or the usage record
    burn_no         smallint NOT NULL CHECK (burn_no > 0),
    allowance_id    uuid NOT NULL,
    per             bigint NOT NULL CHECK (per > 0),                   -- seconds, messages or bytes a unit pays for
    held_units      bigint NOT NULL CHECK (held_units > 0),
    used_units      bigint CHECK (used_units BETWEEN 0 AND held_units),  -- NULL while the call lasts
    PRIMARY KEY (source_id, burn_no)
) PARTITION BY RANGE (source_id);
CREATE INDEX burn_allowance ON burn (allowance_id);

-- Messages and data, reported from outside after they were used.
CREATE TABLE usage_record (
    usage_id            uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id          uuid NOT NULL REFERENCES account,
    idempotency_key     text NOT NULL UNIQUE,
    service             text NOT NULL,
    zone                text NOT NULL,
    quantity            bigint NOT NULL CHECK (quantity > 0),          -- messages or bytes
    charged_quantity    bigint NOT NULL CHECK (charged_quantity BETWEEN 0 AND quantity),  -- beyond the allowances
    price_micro         bigint NOT NULL,                               -- frozen: for each begun `per`
    per                 bigint NOT NULL,
    amount_micro        bigint NOT NULL CHECK (amount_micro >= 0),
    written_off_micro   bigint NOT NULL CHECK (written_off_micro BETWEEN 0 AND amount_micro),
    currency            currency_code NOT NULL,
    transfer_id         uuid,
    throttled           boolean NOT NULL,                              -- fair use was exceeded
    used_at             timestamptz NOT NULL,
    reported_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX usage_account ON usage_record (account_id, used_at);

-- Two witnesses of one call that do not agree. Nothing here moves money; a person reads it.
CREATE TABLE discrepancy (
    discrepancy_id  uuid PRIMARY KEY DEFAULT uuidv7(),
    call_id         uuid NOT NULL,
    kind            text NOT NULL,
    detail          jsonb NOT NULL,
    found_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (call_id, kind)
);

-- ---------------------------------------------------------------- the ledger

-- Double entry, insert-only. A call's transfer has the call's id, so a call cannot be booked twice.
CREATE TABLE transfer (
    transfer_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    kind            text NOT NULL CHECK (kind IN ('call', 'top_up', 'purchase', 'usage', 'referral', 'refund', 'correction', 'exchange',
                                                  'reversal', 'rebooking')),
    idempotency_key text UNIQUE,
    note            text NOT NULL DEFAULT '',
    booked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    author          text NOT NULL DEFAULT '',
    reverses        uuid,                                              -- the transfer taken back, by a refund in part
    value_at        timestamptz,                                       -- when it happened; NULL: when it was booked
    fingerprint     bytea,                                             -- of what was asked for with the key
    CHECK ((kind IN ('reversal', 'refund')) = (reverses IS NOT NULL))
);
CREATE UNIQUE INDEX transfer_reversed_once ON transfer (reverses) WHERE kind = 'reversal';
CREATE INDEX transfer_refund ON transfer (reverses) WHERE kind = 'refund';

CREATE TABLE entry (
    transfer_id     uuid NOT NULL,
    entry_no        smallint NOT NULL,
    account_id      uuid NOT NULL,
    amount_micro    bigint NOT NULL CHECK (amount_micro <> 0),         -- positive: the account gains
    currency        currency_code NOT NULL,
    PRIMARY KEY (transfer_id, entry_no)
) PARTITION BY RANGE (transfer_id);
CREATE INDEX entry_account ON entry (account_id, transfer_id);

-- All entries of a transfer are written in one statement, which must sum to zero in each currency.
CREATE FUNCTION entry_sums_to_zero_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE broken record;
BEGIN
    SELECT transfer_id, currency, sum(amount_micro) AS total INTO broken
      FROM written GROUP BY transfer_id, currency HAVING sum(amount_micro) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transfer % does not sum to zero: % micro %', broken.transfer_id, broken.total, broken.currency
            USING ERRCODE = 'BR001';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER entry_sums_to_zero AFTER INSERT ON entry REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION entry_sums_to_zero_v1();

CREATE FUNCTION insert_only_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is insert-only: book a reversal instead', TG_TABLE_NAME USING ERRCODE = 'BR002';
END $$;
CREATE TRIGGER entry_insert_only BEFORE UPDATE OR DELETE ON entry
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER entry_no_truncate BEFORE TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER transfer_insert_only BEFORE UPDATE OR DELETE ON transfer
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER transfer_no_truncate BEFORE TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Up to closed_until the books are closed. The latest row counts, so a period never opens again.
CREATE TABLE period (
    closed_until    timestamptz PRIMARY KEY,
    closed_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    author          text NOT NULL CHECK (author <> ''),
    CHECK (closed_until <= closed_at)
);

-- One unit of base is rate_nano / 10^9 units of quote, from that day on until a later one.
CREATE TABLE fx_rate (
    base        currency_code NOT NULL,
    quote       currency_code NOT NULL,
    valid_on    date NOT NULL CHECK (isfinite(valid_on)),
    rate_nano   bigint NOT NULL CHECK (rate_nano > 0 AND rate_nano < 1e18),
    source      text NOT NULL CHECK (source <> ''),
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (base, quote, valid_on),
    CHECK (base <> quote)
);

-- Who brought whom. An account is referred once, ever.
CREATE TABLE referral (
    referred_id     uuid PRIMARY KEY,
    referrer_id     uuid NOT NULL,
    transfer_id     uuid NOT NULL UNIQUE,
    CHECK (referred_id <> referrer_id)
);
CREATE INDEX referral_referrer ON referral (referrer_id);

CREATE TRIGGER period_insert_only BEFORE UPDATE OR DELETE ON period
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER period_no_truncate BEFORE TRUNCATE ON period
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER fx_rate_insert_only BEFORE UPDATE OR DELETE ON fx_rate
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER fx_rate_no_truncate BEFORE TRUNCATE ON fx_rate
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER fx_rate_noted AFTER INSERT ON fx_rate FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();
CREATE TRIGGER referral_insert_only BEFORE UPDATE OR DELETE ON referral
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER referral_no_truncate BEFORE TRUNCATE ON referral
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Our own account for a role in a currency, such as 'revenue EUR'; made when first needed, once however many ask.
CREATE FUNCTION system_account_v1(p_role text, p_currency text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE ours account;
BEGIN
    SELECT * INTO ours FROM account a WHERE a.name = p_role || ' ' || p_currency;
    IF NOT FOUND THEN
        INSERT INTO account (kind, name, currency) VALUES ('system', p_role || ' ' || p_currency, p_currency)
        ON CONFLICT (name) DO NOTHING;                                 -- waits for whoever is making it now
        SELECT * INTO ours FROM account a WHERE a.name = p_role || ' ' || p_currency;
    END IF;
    IF ours.kind <> 'system' OR ours.currency <> p_currency THEN
        RAISE EXCEPTION 'account % (%) has the name of our own % account in %: rename it', ours.account_id, ours.kind, p_role, p_currency
            USING ERRCODE = 'BR004';
    END IF;
    RETURN ours.account_id;
END $$;

-- When something that happened at p_value_at is booked: then, if that period is open. Into a closed one nothing is booked;
-- who asks for it books into the open one, now.
CREATE FUNCTION booking_at_v1(p_value_at timestamptz, p_into_open boolean DEFAULT false) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE closed timestamptz;
BEGIN
    SELECT max(p.closed_until) INTO closed FROM period p;
    IF p_value_at >= closed IS NOT FALSE THEN
        RETURN p_value_at;
    ELSIF p_into_open THEN
        RETURN clock_timestamp();
    END IF;
    RAISE EXCEPTION 'the books are closed until %: % can only be booked into the open period', closed, p_value_at
        USING ERRCODE = 'BR007';
END $$;

-- Close the books up to an instant that has passed. Waits for bookings under way, and those that come wait for it, so that
-- none of an earlier instant is committed afterwards; it gives up (55P03) before a call's end would.
CREATE FUNCTION period_close_v1(p_until timestamptz, p_author text) RETURNS timestamptz LANGUAGE plpgsql
SET lock_timeout = '500ms' AS $$
DECLARE closed timestamptz;
BEGIN
    LOCK TABLE transfer IN SHARE ROW EXCLUSIVE MODE;
    SELECT max(p.closed_until) INTO closed FROM period p;
    IF p_until = closed THEN
        RETURN closed;
    ELSIF p_until < closed THEN
        RAISE EXCEPTION 'the books are closed until %: a period does not open again', closed USING ERRCODE = 'BR004';
    ELSIF p_until IS NULL OR p_until > clock_timestamp() THEN
        RAISE EXCEPTION 'a period that has not passed cannot be closed: %', p_until USING ERRCODE = 'BR003';
    ELSIF NOT isfinite(p_until) OR coalesce(btrim(p_author), '') = '' THEN
        RAISE EXCEPTION 'closing the books needs an instant and an author' USING ERRCODE = 'BR003';
    END IF;
    INSERT INTO period (closed_until, author) VALUES (p_until, p_author);
    RETURN p_until;
END $$;

-- What makes two bookings the same one. p_request stands for note, entries and instant where these follow from something that
-- changes, such as a rate of exchange.
CREATE FUNCTION transfer_fingerprint_v1(
    p_kind text, p_author text, p_note text, p_reverses uuid, p_accounts uuid[], p_amounts bigint[], p_currencies text[],
    p_value_at timestamptz, p_request text
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(jsonb_build_array(p_kind, p_author, p_reverses, coalesce(to_jsonb(p_request),
        jsonb_build_array(p_note, p_accounts, p_amounts, p_currencies, extract(epoch FROM p_value_at))))::text, 'UTF8'))
$$;

-- Refuse what no state of the books could make right.
CREATE FUNCTION transfer_check_v1(
    p_kind text, p_key text, p_author text, p_note text, p_reverses uuid, p_accounts uuid[], p_amounts bigint[],
    p_currencies text[], p_value_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    problem text;
    off record;
BEGIN
    problem := CASE
        WHEN coalesce(p_key, '') = '' OR length(p_key) > 200 THEN 'a booking needs a key of 1 to 200 characters'
        WHEN p_key ~ '[[:cntrl:]]' OR p_author ~ '[[:cntrl:]]' OR p_note ~ '[[:cntrl:]]' THEN
            'key, author and note are one line of text each, without control characters'
        WHEN p_author IS NULL OR p_note IS NULL OR length(p_author) > 200 OR length(p_note) > 1000 THEN
            'author and note are text of at most 200 and 1000 characters'
        WHEN p_kind IN ('correction', 'reversal') AND (btrim(p_author) = '' OR btrim(p_note) = '') THEN
            format('a %s needs an author and a reason', p_kind)
        WHEN p_kind IS NULL OR p_kind NOT IN ('top_up', 'purchase', 'usage', 'referral', 'refund', 'correction', 'exchange', 'reversal',
                                              'rebooking') THEN
            format('a booking of the kind %L is not made here', left(p_kind, 40))
        WHEN (p_kind IN ('reversal', 'refund')) <> (p_reverses IS NOT NULL) THEN
            'a reversal and a refund name the transfer they take back, and no other booking does'
        WHEN NOT isfinite(p_value_at) THEN 'a booking has an instant'
        WHEN p_accounts IS NULL OR cardinality(p_accounts) NOT BETWEEN 2 AND 1000
          OR cardinality(p_amounts) IS DISTINCT FROM cardinality(p_accounts)
          OR cardinality(p_currencies) IS DISTINCT FROM cardinality(p_accounts) THEN
            'a booking has 2 to 1000 entries, each with account, amount and currency'
        WHEN EXISTS (SELECT 1 FROM unnest(p_amounts) m WHERE m IS NULL OR m = 0 OR m NOT BETWEEN -(1e18) AND 1e18)
            THEN 'the amount of an entry is not zero, and at most 10^12 units of its currency'
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'BR003';
    END IF;
    SELECT e.currency, sum(e.amount_micro) AS total INTO off FROM unnest(p_amounts, p_currencies) e (amount_micro, currency)
     GROUP BY e.currency HAVING sum(e.amount_micro) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the booking does not sum to zero: % micro %', off.total, off.currency USING ERRCODE = 'BR001';
    END IF;
END $$;

-- Lock the transfer that a reversal or a refund takes back, so that one at a time does, and refuse what cannot be taken back.
CREATE FUNCTION transfer_original_v1(p_kind text, p_key text, p_reverses uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE original text;
BEGIN
    SELECT t.kind INTO original FROM transfer t WHERE t.transfer_id = p_reverses FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such transfer: %', p_reverses USING ERRCODE = 'BR005';
    ELSIF p_kind = 'reversal' AND original = 'reversal' THEN
        RAISE EXCEPTION 'transfer % is a reversal itself: book again what it reversed', p_reverses USING ERRCODE = 'BR003';
    ELSIF p_kind = 'refund' AND original NOT IN ('call', 'top_up', 'purchase', 'usage', 'rebooking') THEN
        RAISE EXCEPTION 'a % is not refunded: reverse it', original USING ERRCODE = 'BR003';
    ELSIF p_kind = 'reversal' AND EXISTS (
        SELECT 1 FROM transfer t WHERE t.reverses = p_reverses AND t.kind = 'reversal' AND t.idempotency_key <> p_key
    ) THEN
        RAISE EXCEPTION 'transfer % was reversed before', p_reverses USING ERRCODE = 'BR004';
    END IF;
END $$;

-- What has been refunded of each transfer and account, with what had been booked there; reversed refunds do not count.
CREATE VIEW refunded AS
SELECT t.reverses AS transfer_id, e.account_id, sum(e.amount_micro) AS refunded_micro, o.amount_micro AS booked_micro,
       o.amount_micro IS NULL OR bool_or(sign(e.amount_micro) = sign(o.amount_micro))
       OR abs(sum(e.amount_micro)) > abs(o.amount_micro) AS wrong
  FROM transfer t JOIN entry e USING (transfer_id)
  LEFT JOIN LATERAL (SELECT sum(b.amount_micro) AS amount_micro FROM entry b
                      WHERE b.transfer_id = t.reverses AND b.account_id = e.account_id) o ON true
 WHERE t.kind = 'refund' AND t.reverses IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM transfer r WHERE r.kind = 'reversal' AND r.reverses = t.transfer_id)
 GROUP BY t.reverses, e.account_id, o.amount_micro;

-- Refuse a reversal that is not the mirror of its original, or of something refunded; and refunds of more than was booked.
CREATE FUNCTION transfer_taken_back_v1(p_kind text, p_transfer_id uuid, p_reverses uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_kind = 'refund' THEN
        IF EXISTS (SELECT 1 FROM transfer t WHERE t.reverses = p_reverses AND t.kind = 'reversal') THEN
            RAISE EXCEPTION 'transfer % was reversed before', p_reverses USING ERRCODE = 'BR004';
        ELSIF EXISTS (SELECT 1 FROM refunded r WHERE r.transfer_id = p_reverses AND r.wrong) THEN
            RAISE EXCEPTION 'more would be refunded than transfer % has booked', p_reverses USING ERRCODE = 'BR004';
        END IF;
    ELSIF EXISTS (SELECT 1 FROM refunded r WHERE r.transfer_id = p_reverses) THEN
        RAISE EXCEPTION 'transfer % was refunded: reverse its refunds first', p_reverses USING ERRCODE = 'BR004';
    ELSIF EXISTS (
        SELECT 1 FROM (SELECT e.account_id, -e.amount_micro AS amount_micro, 1 AS side FROM entry e WHERE e.transfer_id = p_reverses
                       UNION ALL SELECT e.account_id, e.amount_micro, -1 FROM entry e WHERE e.transfer_id = p_transfer_id) both_sides
         GROUP BY account_id, amount_micro HAVING sum(side) <> 0
    ) THEN
        RAISE EXCEPTION 'a reversal must be the exact negation of transfer %', p_reverses USING ERRCODE = 'BR004';
    END IF;
END $$;

-- Move the balances of subscribers, in the order of their ids; refuse what an account cannot take or pay.
CREATE FUNCTION transfer_balances_v1(p_kind text, p_accounts uuid[], p_amounts bigint[], p_currencies text[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE off record;
BEGIN
    PERFORM 1 FROM account a WHERE a.account_id = ANY (p_accounts) AND a.tracked ORDER BY a.account_id FOR NO KEY UPDATE;
    SELECT e.account_id, e.currency, a.account_id IS NULL OR (p_kind = 'top_up' AND e.amount_micro > 0 AND NOT a.tracked) AS missing,
           a.currency AS kept, a.state INTO off
      FROM unnest(p_accounts, p_amounts, p_currencies) e (account_id, amount_micro, currency) LEFT JOIN account a USING (account_id)
     WHERE a.account_id IS NULL OR a.currency IS DISTINCT FROM e.currency OR a.state = 'closed'
        OR (p_kind = 'top_up' AND e.amount_micro > 0 AND NOT a.tracked) LIMIT 1;
    IF off.missing THEN
        RAISE EXCEPTION 'no such %account: %', CASE p_kind WHEN 'top_up' THEN 'subscriber ' ELSE '' END, off.account_id
            USING ERRCODE = 'BR005';
    ELSIF off.kept IS DISTINCT FROM off.currency THEN
        RAISE EXCEPTION 'account % is kept in %, not in %', off.account_id, off.kept, off.currency USING ERRCODE = 'BR005';
    ELSIF off.state = 'closed' THEN
        RAISE EXCEPTION 'account % is closed', off.account_id USING ERRCODE = 'BR003';
    END IF;
    SELECT a.account_id, a.currency, -n.amount_micro AS needed_micro, s.spare_micro, s.spare_micro + n.amount_micro < 0 AS poor INTO off
      FROM (SELECT e.account_id, sum(e.amount_micro) AS amount_micro FROM unnest(p_accounts, p_amounts) e (account_id, amount_micro)
             GROUP BY e.account_id) n
      JOIN account a USING (account_id)
     CROSS JOIN LATERAL (SELECT a.balance_micro::numeric - a.held_micro
                                + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS spare_micro) s
     WHERE a.tracked AND ((n.amount_micro < 0 AND s.spare_micro + n.amount_micro < 0)
                          OR abs(a.balance_micro + n.amount_micro) > 1e18) LIMIT 1;
    IF off.poor THEN
        RAISE EXCEPTION 'account % has % % available, and % are needed', off.account_id, trim_scale(off.spare_micro / 1000000),
            off.currency, trim_scale(off.needed_micro / 1000000) USING ERRCODE = 'BR006';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'the balance of account % would be over 10^12 %', off.account_id, off.currency USING ERRCODE = 'BR003';
    END IF;
    UPDATE account a SET balance_micro = a.balance_micro + n.amount_micro
      FROM (SELECT e.account_id, sum(e.amount_micro)::bigint AS amount_micro
              FROM unnest(p_accounts, p_amounts) e (account_id, amount_micro) GROUP BY e.account_id) n
     WHERE a.account_id = n.account_id AND a.tracked;
END $$;

-- Book whatever is not a call, once a key: the same again returns the first transfer, even where the money has gone since;
-- the key with anything else is refused (BR004), and whoever comes second while the first is at work waits for it.
-- Locks: the transfer taken back, then the key, then subscribers' accounts in the order of their ids.
CREATE FUNCTION transfer_book_v1(
    p_kind text, p_key text, p_author text, p_note text, p_reverses uuid, p_accounts uuid[], p_amounts bigint[], p_currencies text[],
    p_value_at timestamptz DEFAULT NULL, p_request text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
    print bytea;
BEGIN
    PERFORM transfer_check_v1(p_kind, p_key, p_author, p_note, p_reverses, p_accounts, p_amounts, p_currencies, p_value_at);
    IF p_reverses IS NOT NULL THEN
        PERFORM transfer_original_v1(p_kind, p_key, p_reverses);
    END IF;
    print := transfer_fingerprint_v1(p_kind, p_author, p_note, p_reverses, p_accounts, p_amounts, p_currencies, p_value_at, p_request);
    INSERT INTO transfer (kind, idempotency_key, note, author, reverses, value_at, fingerprint)
    VALUES (p_kind, p_key, p_note, p_author, p_reverses, p_value_at, print)
    ON CONFLICT (idempotency_key) DO NOTHING RETURNING transfer_id INTO id;
    IF id IS NULL THEN
        SELECT t.transfer_id INTO id FROM transfer t WHERE t.idempotency_key = p_key AND t.fingerprint = print;
        IF id IS NULL THEN
            RAISE EXCEPTION 'key % was used for another booking', p_key USING ERRCODE = 'BR004';
        END IF;
        RETURN id;
    END IF;
    IF p_value_at IS NOT NULL THEN
        PERFORM booking_at_v1(p_value_at);                             -- after the insert: no period closes before it commits
    END IF;
    PERFORM transfer_balances_v1(p_kind, p_accounts, p_amounts, p_currencies);
    INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
    SELECT id, e.entry_no, e.account_id, e.amount_micro, e.currency
      FROM unnest(p_accounts, p_amounts, p_currencies) WITH ORDINALITY e (account_id, amount_micro, currency, entry_no);
    IF p_reverses IS NOT NULL THEN
        PERFORM transfer_taken_back_v1(p_kind, id, p_reverses);
    END IF;
    RETURN id;
END $$;

-- Credit whoever brought somebody, and whom they brought: p_amount_micro each, once for each who is brought, ever, and for
-- no more than p_referrals_max of one referrer. The booking comes first: it holds both accounts, so that nothing is raced.
CREATE FUNCTION account_refer_v1(
    p_referrer_id uuid, p_referred_id uuid, p_amount_micro bigint, p_currency text, p_referrals_max integer, p_key text, p_author text
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    id uuid;
    problem text;
BEGIN
    IF p_referrer_id = p_referred_id OR p_amount_micro <= 0 THEN
        RAISE EXCEPTION 'nobody refers themselves, and the credit must be positive' USING ERRCODE = 'BR003';
    END IF;
    id := transfer_book_v1('referral', p_key, p_author, '', NULL,
        ARRAY[p_referrer_id, p_referred_id, system_account_v1('referral', p_currency)],
        ARRAY[p_amount_micro, p_amount_micro, -2 * p_amount_micro], ARRAY[p_currency, p_currency, p_currency]);
    IF EXISTS (SELECT 1 FROM referral r WHERE r.transfer_id = id) THEN
        RETURN id;
    END IF;
    problem := CASE
        WHEN EXISTS (SELECT 1 FROM referral r WHERE r.referred_id = p_referred_id) THEN
            format('account %s was referred before', p_referred_id)
        WHEN EXISTS (SELECT 1 FROM referral r WHERE r.referred_id = p_referrer_id AND r.referrer_id = p_referred_id) THEN
            format('account %s referred account %s itself', p_referred_id, p_referrer_id)
        WHEN EXISTS (SELECT 1 FROM account a WHERE a.account_id IN (p_referrer_id, p_referred_id)
                        AND (a.state <> 'active' OR a.kind <> 'subscriber')) THEN 'a referral is between active subscribers'
        WHEN (SELECT count(*) FROM referral r WHERE r.referrer_id = p_referrer_id) >= p_referrals_max THEN
            format('account %s has referred %s, and no more are rewarded', p_referrer_id, p_referrals_max)
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION '%', problem USING ERRCODE = 'BR004';
    END IF;
    INSERT INTO referral (referred_id, referrer_id, transfer_id) VALUES (p_referred_id, p_referrer_id, id);
    RETURN id;
END $$;

-- Note a day's rate of exchange, once. Refused where it would gain together with the opposite rate of that day.
CREATE FUNCTION fx_note_v1(p_base text, p_quote text, p_valid_on date, p_rate_nano bigint, p_source text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE fx_rate IN SHARE ROW EXCLUSIVE MODE;
    IF EXISTS (SELECT 1 FROM fx_rate f WHERE f.base = p_quote AND f.quote = p_base AND f.valid_on = p_valid_on
                  AND f.rate_nano::numeric * p_rate_nano > 1e18) THEN
        RAISE EXCEPTION 'with the rate from % to % of that day, money would grow by going there and back', p_quote, p_base
            USING ERRCODE = 'BR004';
    END IF;
    INSERT INTO fx_rate (base, quote, valid_on, rate_nano, source) VALUES (p_base, p_quote, p_valid_on, p_rate_nano, p_source)
    ON CONFLICT (base, quote, valid_on) DO NOTHING;
    IF NOT EXISTS (SELECT 1 FROM fx_rate f WHERE f.base = p_base AND f.quote = p_quote AND f.valid_on = p_valid_on
                      AND f.rate_nano = p_rate_nano) THEN
        RAISE EXCEPTION 'there is a rate from % to % on % already, and what was used stays', p_base, p_quote, p_valid_on
            USING ERRCODE = 'BR004';
    END IF;
END $$;

-- ---------------------------------------------------------------- prices of the past, put right

-- One correction of many calls: first a preview, which moves nothing, then a run, which books it batch by batch.
-- Up to call booked_to, in the order of their ids, all is done; whoever resumes goes on from there.
CREATE TABLE rerate_run (
    run_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    criteria    jsonb NOT NULL,
    author      text NOT NULL CHECK (btrim(author) <> ''),
    reason      text NOT NULL CHECK (btrim(reason) <> ''),
    state       text NOT NULL DEFAULT 'previewed' CHECK (state IN ('previewed', 'running', 'done', 'cancelled')),
    into_open   boolean NOT NULL DEFAULT false,
    totals      jsonb NOT NULL,
    booked_to   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at   timestamptz,
    CHECK ((state IN ('done', 'cancelled')) = (closed_at IS NOT NULL))
);

-- The tariffs a run prices by, each once.
CREATE TABLE rerate_tariff (
    run_id      uuid NOT NULL,
    tariff_no   integer NOT NULL,
    tariff      jsonb NOT NULL,
    PRIMARY KEY (run_id, tariff_no)
);

-- The calls whose price would change, and those that could not be priced. A call that stays as it is has no row.
CREATE TABLE rerate_item (
    run_id              uuid NOT NULL,
    call_id             uuid NOT NULL,
    skipped             text,                                          -- why nothing is booked
    account_id          uuid,
    revision            integer CHECK (revision > 0),                  -- the one this becomes
    sell_no             integer,                                       -- NULL: this side stays as it is
    billed_before_s     integer,
    billed_s            integer,
    amount_before_micro bigint,
    amount_micro        bigint CHECK (amount_micro >= 0),
    buy_no              integer,
    buy_billed_s        integer,
    cost_before_micro   bigint,
    cost_micro          bigint CHECK (cost_micro >= 0),
    differs             text,                                          -- the columns of the tariffs that do
    PRIMARY KEY (run_id, call_id)
);

-- What a call is priced by since a run. The call, its charge and its attempts stay as they were; the latest revision counts.
CREATE TABLE rerating (
    call_id             uuid NOT NULL,
    revision            integer NOT NULL CHECK (revision > 0),
    run_id              uuid NOT NULL,
    sell                jsonb NOT NULL,
    billed_s            integer NOT NULL,
    amount_micro        bigint NOT NULL CHECK (amount_micro >= 0),
    written_off_micro   bigint NOT NULL CHECK (written_off_micro BETWEEN 0 AND amount_micro),
    buy                 jsonb,                                         -- of the attempt that was answered
    buy_billed_s        integer NOT NULL DEFAULT 0,
    cost_micro          bigint NOT NULL DEFAULT 0 CHECK (cost_micro >= 0),
    reversal_id         uuid,                                          -- NULL: nothing had been booked
    rebooking_id        uuid,                                          -- NULL: nothing is to be booked
    PRIMARY KEY (call_id, revision)
);
CREATE TRIGGER rerating_insert_only BEFORE UPDATE OR DELETE ON rerating
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER rerating_no_truncate BEFORE TRUNCATE ON rerating
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- What each answered call is priced by and booked as today. covered_s: talk paid by allowances, from the answer.
CREATE VIEW call_priced AS
SELECT c.call_id, h.account_id, c.a_number, c.b_number, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, h.covered_s,
       coalesce(r.revision, 0) AS revision,
       coalesce(r.sell, c.sell) AS sell, coalesce(r.billed_s, h.billed_s) AS billed_s,
       coalesce(r.amount_micro, h.amount_micro) AS amount_micro, coalesce(r.written_off_micro, h.written_off_micro) AS written_off_micro,
       h.currency, x.trunk_id, coalesce(r.buy, x.buy) AS buy, coalesce(r.buy_billed_s, x.billed_s, 0) AS buy_billed_s,
       coalesce(r.cost_micro, x.cost_micro, 0) AS cost_micro, x.currency AS cost_currency,
       CASE WHEN r.call_id IS NULL THEN c.call_id ELSE r.rebooking_id END AS transfer_id
  FROM call c JOIN charge h USING (call_id)
  LEFT JOIN attempt x ON x.call_id = c.call_id AND x.outcome = 'answered'
  LEFT JOIN (SELECT * FROM rerating o
              WHERE NOT EXISTS (SELECT 1 FROM rerating n WHERE n.call_id = o.call_id AND n.revision = o.revision + 1)) r
    ON r.call_id = c.call_id;

-- ---------------------------------------------------------------- who may use the API

CREATE TABLE api_key (
    api_key_id  uuid PRIMARY KEY DEFAULT uuidv7(),
    name        text NOT NULL,
    prefix      text NOT NULL UNIQUE,                                  -- shown in lists and logs
    hash        bytea NOT NULL,                                        -- SHA-256 of the whole key
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz,
    partner_id  uuid REFERENCES partner,                               -- NULL: an operator's
    scopes      text[] NOT NULL DEFAULT '{*}',                         -- {*}: all
    kind        text NOT NULL DEFAULT 'key' CHECK (kind IN ('key', 'client')),  -- client: OAuth2
    edition     integer NOT NULL DEFAULT 1,
    replaced_by uuid REFERENCES api_key                                -- it was rotated
);
CREATE INDEX api_key_partner ON api_key (partner_id, api_key_id);

-- Answers to requests that created something, kept for a day: the same key again gets the same answer.
CREATE TABLE idempotency (
    owner_id        uuid NOT NULL,                                     -- the partner; all zeros: operators
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint     bytea NOT NULL,                                    -- of what was asked for with the key
    status          smallint,
    headers         jsonb,
    body            bytea,
    made_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_made ON idempotency (made_at);

-- Whatever was changed through the API, by whom. Written in the transaction of the change.
CREATE TABLE audit_log (
    audit_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid,                                              -- whose thing was changed; NULL: nobody's
    actor           text NOT NULL,                                     -- the key's name and prefix
    action          text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),  -- deal.create
    subject         text NOT NULL,                                     -- its id, as the API writes it
    detail          jsonb NOT NULL,                                    -- what was asked for, secrets left out
    correlator      text NOT NULL,
    remote          text NOT NULL,
    done_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_log_partner ON audit_log (partner_id, audit_id);
CREATE TRIGGER audit_log_insert_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A valid key by its prefix. The API's role may not read the table.
CREATE FUNCTION api_key_find_v1(
    p_prefix text, OUT api_key_id uuid, OUT name text, OUT hash bytea, OUT kind text, OUT partner_id uuid, OUT scopes text[]
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT k.api_key_id, k.name, k.hash, k.kind, k.partner_id, k.scopes FROM api_key k LEFT JOIN partner p USING (partner_id)
     WHERE k.prefix = p_prefix AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
       AND (k.partner_id IS NULL OR p.state <> 'closed')
$$;

-- The first to come with a key may go on (said = 'new'), and its answer is kept by api_done_v1 in the same transaction.
-- said: new · done, with the answer of then · other: the key was used for something else.
-- Somebody else at work on the same key right now: lock_not_available after the lock_timeout.
CREATE FUNCTION api_claim_v1(
    p_owner_id uuid, p_key text, p_fingerprint bytea,
    OUT said text, OUT status smallint, OUT headers jsonb, OUT body bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    known idempotency;
BEGIN
    DELETE FROM idempotency i WHERE i.owner_id = p_owner_id AND i.key = p_key AND i.made_at < now() - interval '24 hours';
    INSERT INTO idempotency (owner_id, key, fingerprint) VALUES (p_owner_id, p_key, p_fingerprint) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        said := 'new';
        RETURN;
    END IF;
    SELECT * INTO known FROM idempotency i WHERE i.owner_id = p_owner_id AND i.key = p_key;
    said := CASE WHEN known.fingerprint = p_fingerprint THEN 'done' ELSE 'other' END;
    IF said = 'done' THEN
        status := known.status;
        headers := known.headers;
        body := known.body;
    END IF;
END $$;

-- Keep what a change did for the audit log, and, where it had a key, its answer for whoever asks again.
CREATE FUNCTION api_done_v1(
    p_owner_id uuid, p_key text, p_status smallint, p_headers jsonb, p_body bytea,
    p_partner_id uuid, p_actor text, p_action text, p_subject text, p_detail jsonb, p_correlator text, p_remote text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
BEGIN
    IF p_key IS NOT NULL THEN
        UPDATE idempotency i SET status = p_status, headers = p_headers, body = p_body
         WHERE i.owner_id = p_owner_id AND i.key = p_key;
    END IF;
    INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
    VALUES (p_partner_id, p_actor, p_action, p_subject, p_detail, p_correlator, p_remote);
END $$;

-- ---------------------------------------------------------------- what happened, for those who listen

-- Written in the transaction of what happened. stream_no is given afterwards, one transaction at a time, so that it grows in
-- the order in which it can be read: a reader who has seen n has seen all below n.
CREATE TABLE event (
    event_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL,
    kind            text NOT NULL CHECK (kind ~ '^[a-z_]+\.[a-z_]+$'),  -- call.ended
    subject_id      uuid NOT NULL,                                     -- the call, the account, the trunk …
    seq             integer NOT NULL DEFAULT 1,                        -- grows along a call, with gaps
    data            jsonb NOT NULL,
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    stream_no       bigint
);
CREATE INDEX event_fresh ON event (event_id) WHERE stream_no IS NULL;
CREATE UNIQUE INDEX event_stream ON event (partner_id, stream_no) WHERE stream_no IS NOT NULL;

-- Tell whoever listens to a partner. Nobody listens: nothing is written.
CREATE FUNCTION event_add_v1(p_partner_id uuid, p_kind text, p_subject_id uuid, p_seq integer, p_data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, p_kind, p_subject_id, p_seq, p_data FROM partner p WHERE p.partner_id = p_partner_id AND p.keeps_events
$$;

-- ---------------------------------------------------------------- months

-- The smallest UUIDv7 of an instant (RFC 9562, 5.7: 48 bits of milliseconds first).
CREATE FUNCTION uuid_floor_v1(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Create this month's partitions and those of the next months. Safe to repeat; returns how many were made.
-- ATTACH waits for no reader and no writer of the parent, as CREATE ... PARTITION OF would. Statement triggers of a parent
-- are silent when a partition is named itself, so the ledger's partitions carry their own.
CREATE FUNCTION partition_ensure_v1(months integer DEFAULT 3) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    made integer := 0;
    parent text;
    lower_at timestamptz;
    child text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('callbridge partitions', 0));
    FOR step IN 0..months LOOP
        lower_at := date_trunc('month', now(), 'UTC') + make_interval(months => step);
        FOREACH parent IN ARRAY ARRAY['call', 'attempt', 'charge', 'entry', 'burn'] LOOP
            child := parent || to_char(lower_at AT TIME ZONE 'UTC', '_YYYY_MM');
            IF to_regclass('bridge.' || child) IS NULL THEN
                EXECUTE format('CREATE TABLE bridge.%I (LIKE bridge.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
                EXECUTE format('ALTER TABLE bridge.%I ATTACH PARTITION bridge.%I FOR VALUES FROM (%L) TO (%L)', parent, child,
                    bridge.uuid_floor_v1(lower_at), bridge.uuid_floor_v1(lower_at + interval '1 month'));
                IF parent = 'entry' THEN
                    EXECUTE format('CREATE TRIGGER entry_sums_to_zero AFTER INSERT ON bridge.%I REFERENCING NEW TABLE AS written '
                        'FOR EACH STATEMENT EXECUTE FUNCTION bridge.entry_sums_to_zero_v1()', child);
                    EXECUTE format('CREATE TRIGGER entry_no_truncate BEFORE TRUNCATE ON bridge.%I '
                        'FOR EACH STATEMENT EXECUTE FUNCTION bridge.insert_only_v1()', child);
                END IF;
                made := made + 1;
            END IF;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- ---------------------------------------------------------------- buying and renewing

-- The allowances for calls that an account can burn now, in burn order: [allowance, bundle, seconds a unit, units left or
-- null, prefixes]. A function, so that an account without bundles pays nothing for it.
CREATE FUNCTION allowances_v1(p_account_id uuid, p_zone text, p_at timestamptz) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT json_agg(json_build_array(w.allowance_id, b.name, (w.covers ->> 'voice')::integer,
                                             w.units - w.used_units - w.held_units, w.prefixes)
                            ORDER BY w.burn_order, upper(w.valid), w.allowance_id)
              FROM allowance w JOIN bundle b USING (bundle_id)
             WHERE w.account_id = p_account_id AND upper(w.valid) > p_at AND w.valid @> p_at AND w.covers ? 'voice'
               AND w.zone IN ('any', p_zone) AND (w.units IS NULL OR w.used_units + w.held_units < w.units));
END $$;

-- Buy a bundle, from p_from on. The same key again returns the first allowance; with another account or bundle it is
-- refused. A renewal names the allowance it follows.
CREATE FUNCTION bundle_buy_v1(
    p_account_id uuid, p_bundle_id uuid, p_key text, p_author text, p_from timestamptz, p_renewal_of uuid DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    b bundle;
    old allowance;
    owner account;
    paid uuid;
    id uuid := uuidv7();
BEGIN
    SELECT * INTO owner FROM account a WHERE a.account_id = p_account_id AND a.kind = 'subscriber' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such subscriber account: %', p_account_id USING ERRCODE = 'BR005';
    END IF;
    SELECT * INTO old FROM allowance w WHERE w.idempotency_key = p_key;
    IF FOUND THEN
        IF old.account_id <> p_account_id OR old.bundle_id <> p_bundle_id THEN
            RAISE EXCEPTION 'key % was used for another purchase', p_key USING ERRCODE = 'BR004';
        END IF;
        RETURN old.allowance_id;
    END IF;
    SELECT * INTO b FROM bundle WHERE bundle.bundle_id = p_bundle_id;
    IF NOT FOUND OR b.currency <> owner.currency OR owner.state <> 'active' THEN
        RAISE EXCEPTION 'account % (%, %) cannot buy this bundle', owner.name, owner.state, owner.currency USING ERRCODE = 'BR005';
    END IF;
    IF p_renewal_of IS NULL AND NOT b.on_sale THEN
        RAISE EXCEPTION 'bundle "%" is not on sale', b.name USING ERRCODE = 'BR005';
    END IF;
    IF p_renewal_of IS NOT NULL THEN
        UPDATE allowance w SET renewed_by = id WHERE w.allowance_id = p_renewal_of AND w.renewed_by IS NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'allowance % has been renewed already', p_renewal_of USING ERRCODE = 'BR004';
        END IF;
    ELSE                                                               -- bought by hand: what waited for its renewal has it
        UPDATE allowance w SET renewed_by = id
         WHERE w.allowance_id = (SELECT o.allowance_id FROM allowance o
                                  WHERE o.account_id = p_account_id AND o.bundle_id = p_bundle_id AND o.renews
                                    AND o.renewed_by IS NULL AND upper(o.valid) <= p_from
                                  ORDER BY upper(o.valid) DESC LIMIT 1);
    END IF;
    IF b.price_micro > 0 THEN
        paid := transfer_book_v1('purchase', 'purchase ' || p_key, p_author, 'bundle "' || b.name || '"', NULL,
            ARRAY[p_account_id, system_account_v1('bundles', b.currency)], ARRAY[-b.price_micro, b.price_micro],
            ARRAY[b.currency::text, b.currency::text]);
    END IF;
    INSERT INTO allowance (allowance_id, account_id, bundle_id, idempotency_key, transfer_id, units, fair_use_units, covers, zone,
                           prefixes, burn_order, valid, renews, bought_at)
    VALUES (id, p_account_id, b.bundle_id, p_key, paid, b.units, b.fair_use_units, b.covers, b.zone, b.prefixes, b.burn_order,
            tstzrange(p_from, p_from + make_interval(hours => 24 * b.days)), b.renews, p_from);
    UPDATE account a SET bundled = true WHERE a.account_id = p_account_id AND NOT a.bundled;
    RETURN id;
END $$;

-- Renew what ends within p_ahead, and what has ended and waits for money, where the account can pay now. One that is
-- renewed in time, or within an hour, follows without a gap. Safe to run at the same time in several places.
CREATE FUNCTION bundle_renew_v1(p_at timestamptz, p_ahead interval, p_limit integer)
RETURNS TABLE (renewed_id uuid, allowance_id uuid) LANGUAGE plpgsql AS $$
DECLARE
    due record;
BEGIN
    FOR due IN
        SELECT w.allowance_id, w.account_id, w.bundle_id, upper(w.valid) AS ends_at
          FROM allowance w JOIN bundle b USING (bundle_id) JOIN account a USING (account_id)
         WHERE w.renews AND w.renewed_by IS NULL AND upper(w.valid) <= p_at + p_ahead
           AND upper(w.valid) > p_at - make_interval(days => b.renew_wait_days)
           AND a.state = 'active'
           AND a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= b.price_micro
         ORDER BY w.account_id LIMIT p_limit
           FOR NO KEY UPDATE OF a SKIP LOCKED
    LOOP
        BEGIN
            renewed_id := due.allowance_id;
            allowance_id := bundle_buy_v1(due.account_id, due.bundle_id, 'renewal of ' || due.allowance_id, 'callbridge',
                CASE WHEN due.ends_at > p_at - interval '1 hour' THEN due.ends_at ELSE p_at END, due.allowance_id);
            RETURN NEXT;
        EXCEPTION WHEN SQLSTATE 'BR004' OR SQLSTATE 'BR006' THEN       -- another was quicker, or took the money
            NULL;
        END;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- the life of a call

-- Set units of an account's allowances aside, all or none; the account's row is locked by the caller. An allowance may be
-- named once. False: some of them have been used, or have ended meanwhile.
CREATE FUNCTION units_hold_v1(
    p_source_id uuid, p_account_id uuid, p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- Under the account's lock nobody else changes its allowances, so looking first is enough.
    IF EXISTS (SELECT 1 FROM unnest(p_allowance_ids, p_units) AS i (allowance_id, units)
                WHERE NOT EXISTS (SELECT 1 FROM allowance w
                                   WHERE w.allowance_id = i.allowance_id AND w.account_id = p_account_id AND w.valid @> p_at
                                     AND (w.units IS NULL OR w.used_units + w.held_units + i.units <= w.units))) THEN
        RETURN false;
    END IF;
    UPDATE allowance w SET held_units = w.held_units + i.units
      FROM unnest(p_allowance_ids, p_units) AS i (allowance_id, units) WHERE w.allowance_id = i.allowance_id;
    INSERT INTO burn (source_id, burn_no, allowance_id, per, held_units)
    SELECT p_source_id, i.no + coalesce((SELECT max(b.burn_no) FROM burn b WHERE b.source_id = p_source_id), 0), i.allowance_id,
           i.per, i.units
      FROM unnest(p_allowance_ids, p_units, p_pers) WITH ORDINALITY AS i (allowance_id, units, per, no);
    RETURN true;
END $$;

-- Admit a call: ONE statement that re-checks what can race, then writes the call, its lease and its hold.
-- Money and units are set aside together (p_allowance_ids with p_units of p_pers each, in burn order; NULL: money only).
-- Returns status 'ok' with the new call_id, or 'no_credit' (with what is available now), 'too_many_calls', 'trunk_full',
-- 'units_gone'. A count near its cap is taken again under a lock, so that caps are exact; far from it nothing is locked.
CREATE FUNCTION call_admit_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
    partner uuid;                                                      -- whose subscriber calls
    near CONSTANT integer := 1000;                                     -- more admissions than can be in flight at once
BEGIN
    LOOP
        UPDATE account a SET held_micro = a.held_micro + p_hold_micro
         WHERE a.account_id = p_account_id AND a.state = 'active'
           AND (p_hold_micro = 0                                       -- units that are paid for need no credit
                OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= p_hold_micro)
        RETURNING a.call_cap, a.balance_micro - a.held_micro, a.partner_id INTO cap, available_micro, partner;
        EXIT WHEN FOUND;
        SELECT a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END
          INTO available_micro FROM account a
         WHERE a.account_id = p_account_id AND a.state = 'active' FOR NO KEY UPDATE;
        IF NOT FOUND OR available_micro < p_hold_micro THEN            -- else money came in between: try once more
            status := 'no_credit';
            RETURN;
        END IF;
    END LOOP;
    -- The account's row is locked now: its cap cannot be raced.
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'too_many_calls';
        RETURN;
    END IF;
    IF p_trunk_cap IS NOT NULL THEN
        IF (SELECT count(*) FROM lease l WHERE l.trunk_id = p_trunk_id AND l.expires_at > now()) + near >= p_trunk_cap THEN
            PERFORM pg_advisory_xact_lock(hashtextextended(p_trunk_id::text, 0));
            IF (SELECT count(*) FROM lease l WHERE l.trunk_id = p_trunk_id AND l.expires_at > now()) >= p_trunk_cap THEN
                UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
                status := 'trunk_full';
                RETURN;
            END IF;
        END IF;
    END IF;
    call_id := uuidv7();
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(call_id, p_account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number,
                      state, sell, routes, bundled, partner_id)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL, partner);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s));
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;

-- Set aside the next slice for a live call. p_held_micro and p_limit_ms are the new totals, so a repeat changes nothing.
-- Units are added to those held. Returns 'ok', 'no_credit' (with what is available for this call beyond its hold),
-- 'units_gone' or 'gone'.
CREATE FUNCTION call_extend_v2(
    p_call_id uuid, p_held_micro bigint, p_limit_ms bigint, p_extend_at timestamptz, p_expires_at timestamptz,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    OUT status text, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    h hold;
    more bigint;
BEGIN
    -- The account first, then the hold: every writer takes locks this way round.
    PERFORM 1 FROM account a JOIN hold USING (account_id) WHERE hold.call_id = p_call_id FOR NO KEY UPDATE OF a;
    SELECT * INTO h FROM hold WHERE hold.call_id = p_call_id AND hold.state = 'open' FOR UPDATE;
    IF NOT FOUND THEN
        status := 'gone';
        RETURN;
    END IF;
    IF EXISTS (SELECT 1 FROM lease l WHERE l.call_id = p_call_id AND l.limit_ms >= p_limit_ms) THEN
        status := 'ok';
        RETURN;
    END IF;
    more := greatest(p_held_micro - h.held_micro, 0);
    UPDATE account a SET held_micro = a.held_micro + more
     WHERE a.account_id = h.account_id
       AND (more = 0
            OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= more);
    IF NOT FOUND THEN
        SELECT a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END
          INTO available_micro FROM account a WHERE a.account_id = h.account_id;
        status := 'no_credit';
        RETURN;
    END IF;
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(p_call_id, h.account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - more WHERE a.account_id = h.account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    UPDATE hold SET held_micro = hold.held_micro + more, extensions = hold.extensions + (more > 0)::integer
     WHERE hold.call_id = p_call_id;
    UPDATE lease SET limit_ms = greatest(lease.limit_ms, p_limit_ms), extend_at = p_extend_at, expires_at = p_expires_at
     WHERE lease.call_id = p_call_id;
    status := 'ok';
END $$;

-- The running attempt failed: keep it, and move the lease to the next trunk (p_next_trunk_id NULL: there is none).
-- A repeat changes nothing. Returns 'ok', 'full' (the next trunk is, and nothing was changed), or 'gone' when the call has ended.
CREATE FUNCTION call_attempt_ended_v1(
    p_call_id uuid, p_attempt_no smallint, p_trunk_id uuid, p_outcome text, p_fault text, p_sip_code integer,
    p_q850_cause integer, p_pdd_ms integer, p_currency text, p_buy jsonb,
    p_next_attempt_no smallint, p_next_trunk_id uuid, p_next_cap integer, p_lease_s integer
) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF p_next_cap IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(p_next_trunk_id::text, 0));
        IF (SELECT count(*) FROM lease l
             WHERE l.trunk_id = p_next_trunk_id AND l.expires_at > now() AND l.call_id <> p_call_id) >= p_next_cap THEN
            RETURN 'full';
        END IF;
    END IF;
    UPDATE lease l SET trunk_id = coalesce(p_next_trunk_id, l.trunk_id), attempt_no = p_next_attempt_no,
           expires_at = clock_timestamp() + make_interval(secs => p_lease_s)
     WHERE l.call_id = p_call_id AND l.attempt_no = p_attempt_no;
    IF NOT FOUND THEN
        RETURN CASE WHEN EXISTS (SELECT 1 FROM lease l WHERE l.call_id = p_call_id) THEN 'ok' ELSE 'gone' END;
    END IF;
    INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at, currency, buy)
    VALUES (p_call_id, p_attempt_no, p_trunk_id, p_outcome, p_fault, p_sip_code, p_q850_cause, p_pdd_ms, clock_timestamp(),
            p_currency, p_buy)
    ON CONFLICT DO NOTHING;
    RETURN 'ok';
END $$;

-- One finished call, priced by the bridge: what call_end_v2 takes an array of. used_units in the order of its burns.
CREATE TYPE ended_call AS (
    call_id uuid, state text, answered_at timestamptz, ended_at timestamptz, talk_ms bigint, q850_cause integer,
    release_party text, ended_by text, billed_s integer, amount_micro bigint, currency text, revenue_id uuid,
    attempt_no smallint, trunk_id uuid, outcome text, fault text, sip_code integer, pdd_ms integer,
    buy_billed_s integer, cost_micro bigint, buy_currency text, buy jsonb, carrier_id uuid, cost_id uuid,
    covered_s integer, used_units bigint[]
);

-- End calls, each exactly once: CDR, charge, last attempt, hold settled and its rest released, ledger, lease.
-- Whoever comes second for a call changes nothing. Returns the calls ended here, with what each account paid.
-- What a prepaid account cannot pay (the cut came late) is written off and never overdrawn; what calls of the same batch
-- release pays, too.
CREATE FUNCTION call_end_v2(p_ended ended_call[])
RETURNS TABLE (ended_call_id uuid, charged_micro bigint, written_off_micro bigint) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM account a
      WHERE a.account_id IN (SELECT c.account_id FROM call c JOIN unnest(p_ended) i USING (call_id))
      ORDER BY a.account_id FOR NO KEY UPDATE;
    -- Apart from the rest: most batches have no bundles in them, and preparing for every month of them costs more than the end.
    IF EXISTS (SELECT 1 FROM unnest(p_ended) i WHERE cardinality(i.used_units) > 0) THEN
        WITH i AS (SELECT * FROM unnest(p_ended) e WHERE cardinality(e.used_units) > 0),
        burnt AS (
            UPDATE burn b SET used_units = u.used_units
              FROM i JOIN call c USING (call_id) CROSS JOIN LATERAL unnest(i.used_units) WITH ORDINALITY AS u (used_units, no)
             WHERE c.ended_at IS NULL AND b.source_id = c.call_id AND b.burn_no = u.no AND b.used_units IS NULL
            RETURNING b.allowance_id, b.held_units, b.used_units
        )
        UPDATE allowance w SET used_units = w.used_units + s.used_units, held_units = w.held_units - s.held_units
          FROM (SELECT t.allowance_id, sum(t.used_units)::bigint AS used_units, sum(t.held_units)::bigint AS held_units
                  FROM burnt t GROUP BY t.allowance_id) s
         WHERE w.allowance_id = s.allowance_id;
    END IF;
    RETURN QUERY
    WITH i AS (SELECT * FROM unnest(p_ended)),
    closed AS (
        UPDATE call c SET state = i.state, answered_at = i.answered_at, ended_at = i.ended_at, talk_ms = i.talk_ms,
               q850_cause = i.q850_cause, release_party = i.release_party, ended_by = i.ended_by
          FROM i WHERE c.call_id = i.call_id AND c.ended_at IS NULL
        RETURNING c.call_id, c.account_id
    ), due AS (
        SELECT closed.call_id, closed.account_id, coalesce(h.held_micro, 0) AS held_micro,
               i.amount_micro - greatest(i.amount_micro - coalesce(h.held_micro, 0), 0) AS covered_micro,
               greatest(i.amount_micro - coalesce(h.held_micro, 0), 0) AS over_micro,
               CASE a.funding WHEN 'prepaid' THEN a.balance_micro - a.held_micro END AS spare_micro
          FROM closed JOIN i USING (call_id) JOIN account a USING (account_id)
          LEFT JOIN hold h ON h.call_id = closed.call_id AND h.state = 'open'
    ), paid AS (
        SELECT d.call_id, d.account_id, d.held_micro,
               (d.covered_micro + CASE WHEN d.spare_micro IS NULL THEN d.over_micro
                    ELSE least(d.over_micro, greatest(d.spare_micro + sum(d.held_micro - d.covered_micro) OVER batch
                                                      - coalesce(sum(d.over_micro) OVER earlier, 0), 0)) END
               )::bigint AS charged_micro
          FROM due d
        WINDOW batch AS (PARTITION BY d.account_id),
               earlier AS (PARTITION BY d.account_id ORDER BY d.call_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), closed_hold AS (
        UPDATE hold h SET state = CASE WHEN i.amount_micro > 0 THEN 'settled' WHEN i.ended_by = 'resync' THEN 'expired'
                                       ELSE 'released' END,
               settled_micro = p.charged_micro, closed_at = clock_timestamp()
          FROM paid p JOIN i USING (call_id) WHERE h.call_id = p.call_id AND h.state = 'open'
    ), new_balance AS (
        UPDATE account a SET balance_micro = a.balance_micro - s.charged_micro, held_micro = a.held_micro - s.held_micro
          FROM (SELECT p.account_id, sum(p.charged_micro)::bigint AS charged_micro, sum(p.held_micro)::bigint AS held_micro
                  FROM paid p GROUP BY p.account_id) s
         WHERE a.account_id = s.account_id
    ), new_charge AS (
        INSERT INTO charge (call_id, account_id, billed_s, covered_s, amount_micro, written_off_micro, currency)
        SELECT p.call_id, p.account_id, i.billed_s, i.covered_s, i.amount_micro, i.amount_micro - p.charged_micro, i.currency
          FROM paid p JOIN i USING (call_id) WHERE i.state = 'answered'
    ), new_attempt AS (
        INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at, billed_s,
                             cost_micro, currency, buy)
        SELECT i.call_id, i.attempt_no, i.trunk_id, i.outcome, i.fault, i.sip_code, i.q850_cause, i.pdd_ms, i.ended_at,
               i.buy_billed_s, i.cost_micro, i.buy_currency, i.buy
          FROM i JOIN closed USING (call_id) WHERE i.attempt_no IS NOT NULL
        ON CONFLICT (call_id, attempt_no) DO UPDATE                    -- taken for failed, and answered after all
           SET trunk_id = excluded.trunk_id, outcome = excluded.outcome, fault = excluded.fault, sip_code = excluded.sip_code,
               q850_cause = excluded.q850_cause, ended_at = excluded.ended_at, billed_s = excluded.billed_s,
               cost_micro = excluded.cost_micro, currency = excluded.currency, buy = excluded.buy
         WHERE excluded.outcome = 'answered'
    ), booked AS (
        INSERT INTO transfer (transfer_id, kind)
        SELECT p.call_id, 'call' FROM paid p JOIN i USING (call_id) WHERE p.charged_micro > 0 OR i.cost_micro > 0
        RETURNING transfer_id
    ), new_entry AS (
        INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
        SELECT b.transfer_id, e.entry_no, e.account_id, e.amount_micro, e.currency
          FROM booked b JOIN paid p ON p.call_id = b.transfer_id JOIN i ON i.call_id = b.transfer_id
         CROSS JOIN LATERAL (VALUES
            (1::smallint, p.account_id, -p.charged_micro, i.currency), (2::smallint, i.revenue_id, p.charged_micro, i.currency),
            (3::smallint, i.cost_id, -i.cost_micro, i.buy_currency), (4::smallint, i.carrier_id, i.cost_micro, i.buy_currency)
         ) AS e (entry_no, account_id, amount_micro, currency)
         WHERE e.amount_micro <> 0
    ), gone AS (
        DELETE FROM lease l USING closed WHERE l.call_id = closed.call_id
    )
    SELECT p.call_id, p.charged_micro, i.amount_micro - p.charged_micro FROM paid p JOIN i USING (call_id);
END $$;

-- ---------------------------------------------------------------- re-rating

-- Book the next calls of a run, in the order of their ids: reverse what stands, book the new price. One at a time is at work on
-- a run, and each batch is one transaction, so that a kill loses nothing and repeats nothing.
-- A prepaid account pays more only from what is available, what is missing is written off; what was written off before stays so.
-- run_state other than 'running': there was nothing to do, or no more.
-- Locks: the run, the transfers taken back, then subscribers' accounts in the order of their ids.
-- Planned for each batch: what was right for the first one, when `rerating` was empty, takes seconds once it is not. And
-- the calls of a new run, which no statistics know yet, are read in order, not all of them for each batch.
CREATE FUNCTION rerate_book_v1(
    p_run_id uuid, p_calls_max integer, OUT run_state text, OUT booked integer, OUT not_booked integer
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET enable_bitmapscan = off AS $$
DECLARE
    run rerate_run;
    batch rerate_item[];
    closed timestamptz;
    left_out uuid[];
    reasons text[];
BEGIN
    SELECT * INTO run FROM rerate_run r WHERE r.run_id = p_run_id FOR NO KEY UPDATE;
    run_state := run.state;
    booked := 0;
    not_booked := 0;
    IF run.state IS DISTINCT FROM 'running' THEN
        RETURN;
    END IF;
    batch := ARRAY(SELECT i FROM rerate_item i WHERE i.run_id = p_run_id AND i.call_id > run.booked_to AND i.skipped IS NULL
                    ORDER BY i.call_id LIMIT p_calls_max);
    IF cardinality(batch) = 0 THEN
        UPDATE rerate_run r SET state = 'done', closed_at = clock_timestamp() WHERE r.run_id = p_run_id;
        run_state := 'done';
        RETURN;
    END IF;
    LOCK TABLE transfer IN ROW EXCLUSIVE MODE;                         -- no period closes before this commits
    PERFORM 1 FROM transfer t
      WHERE t.transfer_id IN (SELECT coalesce(r.rebooking_id, i.call_id) FROM unnest(batch) i
                                LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision - 1)
      ORDER BY t.transfer_id FOR NO KEY UPDATE;
    PERFORM 1 FROM account a WHERE a.account_id IN (SELECT i.account_id FROM unnest(batch) i) ORDER BY a.account_id FOR NO KEY UPDATE;
    SELECT max(p.closed_until) INTO closed FROM period p;
    -- As call_priced has it, and by key: what stands is the revision before.
    WITH due AS MATERIALIZED (
        SELECT i.call_id, i.account_id, i.revision, coalesce(sell.tariff, r.sell, c.sell) AS sell, i.billed_s, i.amount_micro,
               coalesce(buy.tariff, r.buy, x.buy) AS buy, i.buy_billed_s, i.cost_micro, h.currency, x.currency AS cost_currency,
               x.trunk_id, c.ended_at, s.transfer_id AS standing_id, s.paid_micro AS paid_before_micro,
               s.cost_micro AS cost_before_micro, greatest(i.amount_micro - s.amount_micro, 0) AS more_micro,
               greatest(s.paid_micro - i.amount_micro, 0) AS less_micro,
               CASE a.funding WHEN 'prepaid' THEN a.balance_micro - a.held_micro END AS spare_micro,
               CASE WHEN EXISTS (SELECT 1 FROM rerating o WHERE o.call_id = i.call_id AND o.revision = i.revision) THEN 'moved'
                    WHEN a.state = 'closed' THEN 'account_closed'
                    WHEN EXISTS (SELECT 1 FROM transfer t WHERE t.kind = 'reversal' AND t.reverses = s.transfer_id)
                      OR EXISTS (SELECT 1 FROM transfer t WHERE t.kind = 'refund' AND t.reverses = s.transfer_id
                                    AND NOT EXISTS (SELECT 1 FROM transfer u WHERE u.kind = 'reversal' AND u.reverses = t.transfer_id))
                    THEN 'taken_back' END AS skipped
          FROM unnest(batch) i JOIN call c USING (call_id) JOIN charge h USING (call_id) JOIN account a ON a.account_id = i.account_id
          LEFT JOIN attempt x ON x.call_id = i.call_id AND x.outcome = 'answered'
          LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision - 1
          LEFT JOIN rerate_tariff sell ON sell.run_id = p_run_id AND sell.tariff_no = i.sell_no
          LEFT JOIN rerate_tariff buy ON buy.run_id = p_run_id AND buy.tariff_no = i.buy_no
         CROSS JOIN LATERAL (SELECT CASE WHEN i.revision = 1 THEN i.call_id ELSE r.rebooking_id END AS transfer_id,
               coalesce(r.amount_micro, h.amount_micro) AS amount_micro, coalesce(r.cost_micro, x.cost_micro, 0) AS cost_micro,
               coalesce(r.amount_micro - r.written_off_micro, h.amount_micro - h.written_off_micro) AS paid_micro) s
    ), paid AS MATERIALIZED (
        SELECT d.*,
               least(d.amount_micro, d.paid_before_micro + CASE WHEN d.spare_micro IS NULL THEN d.more_micro
                    ELSE least(d.more_micro, greatest(d.spare_micro + sum(d.less_micro) OVER batch
                                                      - coalesce(sum(d.more_micro) OVER earlier, 0), 0)) END)::bigint AS paid_micro,
               CASE WHEN d.paid_before_micro > 0 OR d.cost_before_micro > 0 THEN uuidv7() END AS reversal_id,
               CASE WHEN d.ended_at >= closed IS NOT FALSE THEN d.ended_at
                    WHEN run.into_open THEN clock_timestamp() ELSE booking_at_v1(d.ended_at) END AS value_at
          FROM due d WHERE d.skipped IS NULL
        WINDOW batch AS (PARTITION BY d.account_id),
               earlier AS (PARTITION BY d.account_id ORDER BY d.call_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), ours AS MATERIALIZED (
        SELECT u.currency, system_account_v1('revenue', u.currency) AS revenue_id, system_account_v1('cost', u.currency) AS cost_id
          FROM (SELECT p.currency FROM paid p UNION SELECT p.cost_currency FROM paid p WHERE p.cost_currency IS NOT NULL) u
    ), booking AS MATERIALIZED (
        SELECT p.*, CASE WHEN p.paid_micro > 0 OR p.cost_micro > 0 THEN uuidv7() END AS rebooking_id,
               coalesce((SELECT e.account_id FROM entry e JOIN account a USING (account_id)
                          WHERE e.transfer_id = p.standing_id AND a.kind = 'carrier' LIMIT 1), t.account_id) AS carrier_id
          FROM paid p LEFT JOIN trunk t USING (trunk_id)
    ), new_transfer AS (
        INSERT INTO transfer (transfer_id, kind, idempotency_key, note, author, reverses, value_at)
        SELECT b.reversal_id, 'reversal', format('rerate:%s:%s:reversal', p_run_id, b.call_id), run.reason, run.author, b.standing_id,
               b.value_at FROM booking b WHERE b.reversal_id IS NOT NULL
        UNION ALL
        SELECT b.rebooking_id, 'rebooking', format('rerate:%s:%s', p_run_id, b.call_id), run.reason, run.author, NULL, b.value_at
          FROM booking b WHERE b.rebooking_id IS NOT NULL
    ), new_entry AS (
        INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
        SELECT b.reversal_id, e.entry_no, e.account_id, -e.amount_micro, e.currency
          FROM booking b JOIN entry e ON e.transfer_id = b.standing_id WHERE b.reversal_id IS NOT NULL
        UNION ALL
        SELECT b.rebooking_id, e.entry_no, e.account_id, e.amount_micro, e.currency
          FROM booking b JOIN ours s USING (currency) LEFT JOIN ours c ON c.currency = b.cost_currency
         CROSS JOIN LATERAL (VALUES
            (1::smallint, b.account_id, -b.paid_micro, b.currency), (2::smallint, s.revenue_id, b.paid_micro, b.currency),
            (3::smallint, c.cost_id, -b.cost_micro, b.cost_currency), (4::smallint, b.carrier_id, b.cost_micro, b.cost_currency)
         ) AS e (entry_no, account_id, amount_micro, currency)
         WHERE b.rebooking_id IS NOT NULL AND e.amount_micro <> 0
    ), new_balance AS (
        UPDATE account a SET balance_micro = a.balance_micro - s.more_micro
          FROM (SELECT b.account_id, sum(b.paid_micro - b.paid_before_micro)::bigint AS more_micro FROM booking b GROUP BY b.account_id) s
         WHERE a.account_id = s.account_id AND s.more_micro <> 0
    ), new_revision AS (
        INSERT INTO rerating (call_id, revision, run_id, sell, billed_s, amount_micro, written_off_micro, buy, buy_billed_s, cost_micro,
                              reversal_id, rebooking_id)
        SELECT b.call_id, b.revision, p_run_id, b.sell, b.billed_s, b.amount_micro, b.amount_micro - b.paid_micro, b.buy,
               b.buy_billed_s, b.cost_micro, b.reversal_id, b.rebooking_id FROM booking b
    )
    SELECT count(*) FILTER (WHERE d.skipped IS NULL), array_agg(d.call_id) FILTER (WHERE d.skipped IS NOT NULL),
           array_agg(d.skipped) FILTER (WHERE d.skipped IS NOT NULL)
      INTO booked, left_out, reasons FROM due d;
    not_booked := coalesce(cardinality(left_out), 0);
    UPDATE rerate_item i SET skipped = o.reason FROM unnest(left_out, reasons) o (call_id, reason)
     WHERE i.run_id = p_run_id AND i.call_id = o.call_id;
    UPDATE rerate_run r SET booked_to = batch[cardinality(batch)].call_id WHERE r.run_id = p_run_id;
END $$;

-- ---------------------------------------------------------------- each sees its own

-- Only what is granted here can be read as a partner, and of that only its own rows. What another carrier charges us is
-- in columns that are not granted.
GRANT SELECT (partner_id, name, account_id, state, edition, created_at) ON partner TO callbridge_partner;
GRANT SELECT ON account, subscriber, event, audit_log TO callbridge_partner;
ALTER TABLE partner ENABLE ROW LEVEL SECURITY;
ALTER TABLE account ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscriber ENABLE ROW LEVEL SECURITY;
ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON partner TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON account TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON subscriber TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON event TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON audit_log TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- Nobody runs our functions unless it is said so.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partner_asking_v1(), api_key_find_v1(text), api_claim_v1(uuid, text, bytea),
    api_done_v1(uuid, text, smallint, jsonb, bytea, uuid, text, text, text, jsonb, text, text), uuid_floor_v1(timestamptz)
    TO callbridge_partner;
