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
    spend_cap_micro     bigint,                                        -- what calls may cost in a day or month; NULL: no cap
    spend_period        text,
    spend_since         timestamptz,                                   -- when the day or month began that is counted
    spend_base_micro    bigint,                                        -- less the balance: what was spent since
    low_balance_micro   bigint,                                        -- a balance below it is told; NULL: none is
    CONSTRAINT available_is_never_negative
        CHECK (kind <> 'subscriber' OR funding <> 'prepaid' OR balance_micro - held_micro >= 0),
    CONSTRAINT spend_cap_is_whole CHECK (
        spend_cap_micro IS NULL OR (spend_cap_micro >= 0 AND spend_period IS NOT NULL AND spend_period IN ('day', 'month')
                                    AND spend_since IS NOT NULL AND spend_base_micro IS NOT NULL))
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
CREATE INDEX account_partner ON account (partner_id, account_id NULLS FIRST);

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
    edition     integer NOT NULL DEFAULT 1,
    notice_days smallint NOT NULL DEFAULT 7 CHECK (notice_days BETWEEN 0 AND 365),  -- of a carrier that charges more
    UNIQUE (deck_id, currency)
);
CREATE INDEX deck_partner ON deck (partner_id, deck_id);

-- The deck that people mean: by its name or its key.
CREATE FUNCTION deck_named_v1(p_name text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT deck_id FROM deck
          WHERE deck_id = CASE WHEN p_name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN p_name::uuid END),
        (SELECT deck_id FROM deck WHERE name = p_name))
$$;

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
CREATE INDEX rate_past_by_prefix ON rate_past (deck_id, prefix);

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
    owner_id        uuid,                                              -- the partner that asked; all zeros: an operator; NULL: not asked for over the API
    idempotency_key text,
    fingerprint     bytea,                                             -- of what was asked for with the key
    dry_run         boolean NOT NULL DEFAULT false,                    -- only to be looked at
    rises_at        timestamptz,                                       -- a carrier's own import: when it first charges more
    CHECK ((state = 'applied') = (version IS NOT NULL))
);
CREATE INDEX deck_import_by_deck ON deck_import (deck_id, import_id);
-- A request that is sent again finds the import that its first one made. Whoever asks has keys of their own.
CREATE UNIQUE INDEX deck_import_key ON deck_import (deck_id, owner_id, idempotency_key);

CREATE TABLE deck_import_error (
    import_id   uuid NOT NULL REFERENCES deck_import,
    row_no      integer NOT NULL,                                      -- 1 is the header; 0 the file as a whole
    column_name text NOT NULL,
    problem     text NOT NULL,
    error_no    bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX deck_import_error_by_import ON deck_import_error (import_id, error_no);

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
CREATE INDEX deck_import_row_changed ON deck_import_row (import_id, prefix, origin_set) WHERE kind IS NOT NULL;

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
    edition             integer NOT NULL DEFAULT 1,
    on_net_fallback     boolean NOT NULL DEFAULT false                 -- whom no phone reaches is called over a carrier
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
    tax             jsonb,                                             -- in what was paid for it; as of a deck's terms, NULL: none
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
    sip_secret  text CHECK (length(sip_secret) >= 16),                  -- NULL: the address alone is the proof
    phones      boolean NOT NULL DEFAULT false,                        -- its users' phones register here, and are rung
    launched    boolean NOT NULL DEFAULT false,                        -- everybody may call, whoever is in rollout_allow
    edition     integer NOT NULL DEFAULT 1
);

CREATE TABLE subscriber (
    subscriber_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    app_id          uuid NOT NULL REFERENCES app,
    a_number        e164 NOT NULL,
    account_id      uuid NOT NULL REFERENCES account,
    plan_id         uuid NOT NULL REFERENCES plan,
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('pending', 'active', 'suspended', 'closed')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    zone            text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming')),
    partner_id      uuid REFERENCES partner,
    edition         integer NOT NULL DEFAULT 1
);
-- An app has one subscriber of a number at a time; once closed, the number may come to another.
CREATE UNIQUE INDEX subscriber_open ON subscriber (a_number, app_id) WHERE state <> 'closed';
CREATE INDEX subscriber_number ON subscriber (partner_id, a_number, subscriber_id);
CREATE INDEX subscriber_plan ON subscriber (plan_id, subscriber_id);
CREATE INDEX subscriber_state ON subscriber (partner_id, state, subscriber_id NULLS FIRST);
CREATE INDEX subscriber_partner ON subscriber (partner_id, subscriber_id NULLS FIRST);

-- How it was proved that a number is its subscriber's, or tried. attested: the carrier says so, with a reference.
-- code: whoever has the number was sent six digits, of which a salted hash is kept.
CREATE TABLE subscriber_proof (
    proof_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    method          text NOT NULL CHECK (method IN ('attested', 'code')),
    reference       text NOT NULL,
    actor           text NOT NULL,                                     -- the key's name and prefix
    salt            bytea,
    hash            bytea,
    asked_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz,
    CHECK (num_nulls(salt, hash, expires_at) = CASE method WHEN 'code' THEN 0 ELSE 3 END)
);
CREATE INDEX subscriber_proof_of ON subscriber_proof (subscriber_id, proof_id);

-- Codes that were told to us. The key makes more than five of one proof impossible, however many come at once.
CREATE TABLE subscriber_proof_try (
    proof_id        uuid NOT NULL REFERENCES subscriber_proof,
    try_no          smallint NOT NULL CHECK (try_no BETWEEN 1 AND 5),
    correct         boolean NOT NULL,
    actor           text NOT NULL,
    tried_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (proof_id, try_no)
);

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
    edition         integer NOT NULL DEFAULT 1,
    transport       text NOT NULL DEFAULT 'udp' CHECK (transport IN ('udp', 'tcp', 'tls')),
    codecs          text[] NOT NULL DEFAULT '{alaw,ulaw}'              -- the first is preferred
        CHECK (codecs <@ '{alaw,ulaw,g722,gsm,opus}' AND cardinality(codecs) BETWEEN 1 AND 4),
    auth_username   text CHECK (auth_username ~ '^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$'),  -- when the carrier asks who we are
    auth_secret     text CHECK (auth_secret ~ '^[A-Za-z0-9!%*+,./:=?^_~-]{8,128}$'),
    allowed_ips     cidr[] NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_ips) <= 32),  -- where the carrier calls from
    cps             integer CHECK (cps BETWEEN 1 AND 10000),           -- call starts a second; NULL is without limit
    b_format        text NOT NULL DEFAULT 'e164_plus'                  -- how numbers are written for the carrier
        CHECK (b_format IN ('e164_plus', 'e164', 'international', 'national')),
    a_format        text NOT NULL DEFAULT 'e164_plus'
        CHECK (a_format IN ('e164_plus', 'e164', 'international', 'national')),
    tech_prefix     text NOT NULL DEFAULT '' CHECK (tech_prefix ~ '^[0-9]{0,8}$'),  -- before the B-number
    origin          text NOT NULL DEFAULT 'domestic' CHECK (origin IN ('domestic', 'foreign')),
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining')),  -- draining: no new calls
    qualify_s       integer CHECK (qualify_s BETWEEN 1 AND 3600),      -- it is asked so often whether it lives; NULL: never
    was_enabled     boolean NOT NULL DEFAULT true,                     -- once at least, so that calls may refer to it
    kind            text NOT NULL DEFAULT 'carrier' CHECK (kind IN ('carrier', 'whatsapp')),
    business_number text UNIQUE CHECK (business_number ~ '^[+][1-9][0-9]{6,14}$'),  -- Meta calls one server a number
    CONSTRAINT trunk_whatsapp_is_voip_only CHECK (kind <> 'whatsapp' OR policy_class = 'voip_only'),
    CONSTRAINT trunk_kind_is_whole CHECK (
        CASE kind
            WHEN 'whatsapp' THEN business_number IS NOT NULL AND auth_secret IS NOT NULL
                AND auth_username = substr(business_number, 2) AND transport = 'tls' AND codecs = '{opus}'
                AND b_format = 'e164_plus' AND tech_prefix = '' AND cardinality(allowed_ips) > 0
            ELSE business_number IS NULL AND transport <> 'tls' AND NOT codecs @> '{opus}'
        END),
    CONSTRAINT trunk_auth_is_whole CHECK ((auth_username IS NULL) = (auth_secret IS NULL)),
    CONSTRAINT trunk_no_plus_behind_a_prefix CHECK (tech_prefix = '' OR b_format <> 'e164_plus'),
    CONSTRAINT trunk_enabled_is_remembered CHECK (was_enabled OR NOT enabled)
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
CREATE TRIGGER app_changed AFTER INSERT OR UPDATE OR DELETE ON app
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();

-- What is known of a trunk, beside what was set: how it answers, and which edition the switch has. Written by the keeper only.
CREATE TABLE trunk_state (
    trunk_id        uuid PRIMARY KEY REFERENCES trunk ON DELETE CASCADE,
    health          text NOT NULL DEFAULT 'unknown' CHECK (health IN ('up', 'down', 'unknown')),
    health_at       timestamptz NOT NULL DEFAULT clock_timestamp(),    -- since when
    changes         integer NOT NULL DEFAULT 0,                        -- of health
    applied_edition integer,                                           -- what the switch has
    applied_at      timestamptz,
    apply_error     text                                               -- why it has no newer one
) WITH (fillfactor = 70);

-- Calls started on a trunk in one second, where it has a limit of these. Not worth a log: a crash lasts longer than a second.
CREATE UNLOGGED TABLE trunk_pace (
    trunk_id        uuid PRIMARY KEY,
    second          bigint NOT NULL,                                   -- since 1970, by the database's clock
    starts          integer NOT NULL
) WITH (fillfactor = 10);

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
    direction       text NOT NULL DEFAULT 'out' CHECK (direction IN ('out', 'on_net', 'in')),
    callee_id       uuid,                                              -- the subscriber whose phone is rung
    trunk_in_id     uuid,                                              -- over which it came in from the network
    leg_class       text NOT NULL DEFAULT 'app' CHECK (leg_class IN ('app', 'pstn', 'voip_only')),  -- of the leg that came in
    anonymous       boolean NOT NULL DEFAULT false,                    -- the caller's number is not shown
    after_call_id   uuid,                                              -- the call that reached no phone, and went on as this one
    refuse_detail   text,                                              -- of not_enabled: why the callee was not let in
    purged_at       timestamptz,                                       -- its numbers are pseudonyms since; NULL: they are there
    PRIMARY KEY (call_id),
    CHECK ((state = 'live') = (ended_at IS NULL)),
    CHECK ((state = 'refused') = (refuse_reason IS NOT NULL)),
    CONSTRAINT call_on_net_has_a_callee CHECK (direction <> 'on_net' OR callee_id IS NOT NULL),
    CONSTRAINT call_detail_of_not_enabled CHECK (refuse_detail IS NULL OR refuse_reason = 'not_enabled')
) PARTITION BY RANGE (call_id);
-- Lists go through these, newest first. NULLS FIRST makes them the only ones in the order `call_id DESC NULLS LAST`: by the primary
-- key a planner might look for one partner's calls among all of them. Calls that are no partner's are in neither.
CREATE INDEX call_partner ON call (partner_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;
CREATE INDEX call_account ON call (account_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;
CREATE INDEX call_callee ON call (callee_id, call_id) WHERE callee_id IS NOT NULL;
CREATE INDEX call_subscriber ON call (subscriber_id, call_id NULLS FIRST) WHERE subscriber_id IS NOT NULL;

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
    trunk_id        uuid,                                              -- NULL: it rings a phone
    channel         text NOT NULL,
    attempt_no      smallint NOT NULL DEFAULT 1,
    limit_ms        bigint NOT NULL,                                   -- talk time the hold pays for
    answered_at     timestamptz,
    pdd_ms          integer,
    extend_at       timestamptz,                                       -- when the next slice is due; NULL: no more
    expires_at      timestamptz NOT NULL,
    partner_id      uuid                                               -- whose subscriber calls
) WITH (fillfactor = 70);
CREATE INDEX lease_account ON lease (account_id);
CREATE INDEX lease_trunk ON lease (trunk_id);
CREATE INDEX lease_partner ON lease (partner_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;

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
    reported_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    partner_id          uuid,                                          -- whose account it was
    tax                 jsonb                                          -- in the amount; as of a deck's terms, NULL: none
);
CREATE INDEX usage_account ON usage_record (account_id, usage_id NULLS FIRST);
CREATE INDEX usage_newest ON usage_record (partner_id, usage_id NULLS FIRST) WHERE partner_id IS NOT NULL;

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
                                                  'reversal', 'rebooking', 'settlement', 'payment', 'invoice')),
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
CREATE TRIGGER subscriber_proof_insert_only BEFORE UPDATE OR DELETE ON subscriber_proof
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_no_truncate BEFORE TRUNCATE ON subscriber_proof
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_try_insert_only BEFORE UPDATE OR DELETE ON subscriber_proof_try
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_try_no_truncate BEFORE TRUNCATE ON subscriber_proof_try
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
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
        WHEN p_kind IN ('settlement', 'payment', 'invoice') AND btrim(p_author) = '' THEN format('a %s needs an author', p_kind)
        WHEN p_kind IS NULL OR p_kind NOT IN ('top_up', 'purchase', 'usage', 'referral', 'refund', 'correction', 'exchange', 'reversal',
                                              'rebooking', 'settlement', 'payment', 'invoice') THEN
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
    IF NOT transfer_spends_v1(p_kind, p_reverses) THEN                 -- money that comes in is not spending, nor is the loss of it
        UPDATE account a SET spend_base_micro = a.spend_base_micro + n.amount_micro
          FROM (SELECT e.account_id, sum(e.amount_micro)::bigint AS amount_micro
                  FROM unnest(p_accounts, p_amounts) e (account_id, amount_micro) GROUP BY e.account_id) n
         WHERE a.account_id = n.account_id AND a.tracked AND a.spend_cap_micro IS NOT NULL;
    END IF;
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
    done_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_by        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'  -- the partner; all zeros: operators
);
CREATE INDEX audit_log_partner ON audit_log (partner_id, audit_id NULLS FIRST);
CREATE INDEX audit_log_action ON audit_log (action, audit_id);
CREATE INDEX audit_log_subject ON audit_log (subject, audit_id);
-- What was asked for, without the numbers in it.
CREATE FUNCTION detail_without_v1(p_detail jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(p_detail::text, '"\+[1-9][0-9]{2,14}"', '"+"', 'g')::jsonb
$$;

-- The log of what was done stays as it was written, but for the numbers in it, which the purge takes out and nobody else.
CREATE FUNCTION audit_log_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.action LIKE 'origination.%' AND NEW.detail = detail_without_v1(OLD.detail)
       AND OLD.done_at < now() - interval '1 day'
       AND to_jsonb(NEW) - 'detail' = to_jsonb(OLD) - 'detail' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% is insert-only: book a reversal instead', TG_TABLE_NAME USING ERRCODE = 'BR002';
END $$;
CREATE TRIGGER audit_log_insert_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_stays_v1();
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

-- What access tokens are signed with. Read through token_keys_v1 only.
CREATE TABLE token_key (
    kid         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    secret      bytea NOT NULL DEFAULT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
                CHECK (length(secret) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- The keys whose tokens may still be good, newest first, which is the one to sign with. One signs for 30 days, and verifies
-- for two hours more: a token lives for one.
CREATE FUNCTION token_keys_v1() RETURNS SETOF token_key
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM token_key k WHERE k.created_at > now() - interval '30 days') THEN
        LOCK TABLE token_key IN SHARE ROW EXCLUSIVE MODE;              -- whoever comes second finds the first one's
        IF NOT EXISTS (SELECT FROM token_key k WHERE k.created_at > now() - interval '30 days') THEN
            INSERT INTO token_key DEFAULT VALUES;
        END IF;
        DELETE FROM token_key k WHERE k.created_at < now() - interval '31 days';
    END IF;
    RETURN QUERY SELECT k.* FROM token_key k WHERE k.created_at > now() - interval '30 days 2 hours' ORDER BY k.created_at DESC;
END $$;

-- A client that may still use the tokens it was given.
CREATE FUNCTION api_client_find_v1(p_api_key_id uuid, OUT name text, OUT prefix text, OUT partner_id uuid, OUT scopes text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT k.name, k.prefix, k.partner_id, k.scopes FROM api_key k LEFT JOIN partner p USING (partner_id)
     WHERE k.api_key_id = p_api_key_id AND k.kind = 'client' AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > now()) AND (k.partner_id IS NULL OR p.state <> 'closed')
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
    INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote, asked_by)
    VALUES (p_partner_id, p_actor, p_action, p_subject, p_detail, p_correlator, p_remote, p_owner_id);
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
CREATE INDEX event_partner ON event (partner_id, event_id NULLS FIRST);
CREATE INDEX event_subject ON event (subject_id, seq);

-- Where a partner wants to be told. kinds '{}': of everything.
CREATE TABLE webhook_endpoint (
    endpoint_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    url             text NOT NULL CHECK (length(url) <= 2048),
    kinds           text[] NOT NULL DEFAULT '{}',
    description     text NOT NULL DEFAULT '',
    enabled         boolean NOT NULL DEFAULT true,
    disabled_why    text CHECK (disabled_why IN ('gone', 'failing')),  -- NULL: by hand
    failing_since   timestamptz,                                       -- nothing has succeeded since
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    CHECK (NOT enabled OR (disabled_why IS NULL AND deleted_at IS NULL))
);
CREATE INDEX webhook_endpoint_partner ON webhook_endpoint (partner_id, endpoint_id);

-- What messages are signed with: all that are valid sign, so that a secret can be changed while messages are under way.
CREATE TABLE webhook_secret (
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoint,
    secret_id       uuid NOT NULL DEFAULT uuidv7(),
    secret          bytea NOT NULL CHECK (length(secret) BETWEEN 24 AND 64),
    valid_until     timestamptz,                                       -- NULL: the present one
    PRIMARY KEY (endpoint_id, secret_id)
);

-- Where the asker of one thing wants to be told of it, with a token of theirs: CAMARA's sink.
CREATE TABLE sink (
    subject_id      uuid PRIMARY KEY,
    partner_id      uuid NOT NULL REFERENCES partner,
    url             text NOT NULL CHECK (length(url) <= 2048),
    bearer          text CHECK (length(bearer) <= 4096),               -- NULL: no Authorization
    valid_until     timestamptz NOT NULL,
    failing_since   timestamptz
);

CREATE FUNCTION sink_add_v1(p_partner_id uuid, p_subject_id uuid, p_url text, p_bearer text, p_until timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO sink (partner_id, subject_id, url, bearer, valid_until) VALUES (p_partner_id, p_subject_id, p_url, p_bearer, p_until)
    ON CONFLICT (subject_id) DO UPDATE SET url = excluded.url, bearer = excluded.bearer, valid_until = excluded.valid_until
$$;

-- One event for one listener. Due again and again, at longer and longer intervals, until it is taken or given up.
-- claimed_until: a worker is at it; when that worker dies, another goes on after this instant.
CREATE TABLE delivery (
    delivery_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL,
    target_id       uuid NOT NULL,                                     -- the endpoint, or the sink's subject
    event_id        uuid NOT NULL REFERENCES event ON DELETE CASCADE,
    kind            text NOT NULL,
    subject_id      uuid NOT NULL,
    stream_no       bigint NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    tries           integer NOT NULL DEFAULT 0,                        -- since it was last asked for
    due_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until   timestamptz,
    last_status     integer,                                           -- of the last answer; NULL: none came
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at         timestamptz,
    UNIQUE (event_id, target_id)
);
CREATE INDEX delivery_due ON delivery (target_id, due_at, stream_no) WHERE state = 'pending';
CREATE INDEX delivery_claimed ON delivery (target_id) WHERE state = 'pending' AND claimed_until IS NOT NULL;
CREATE INDEX delivery_order ON delivery (target_id, subject_id, stream_no) WHERE state = 'pending';
CREATE INDEX delivery_list ON delivery (target_id, state, delivery_id NULLS FIRST);
CREATE INDEX delivery_all ON delivery (target_id, delivery_id NULLS FIRST);

CREATE TABLE delivery_attempt (
    delivery_id     uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    attempt_no      integer NOT NULL,
    tried_at        timestamptz NOT NULL,
    took_ms         integer NOT NULL,
    status          integer,
    error           text,                                              -- NULL: it was taken
    answer          text NOT NULL DEFAULT '',                          -- its beginning, printable
    PRIMARY KEY (delivery_id, attempt_no)
);

-- How far each partner's events are numbered: without gaps, and by itself, so that nobody can count another's.
CREATE TABLE event_counter (
    partner_id      uuid PRIMARY KEY,
    last_no         bigint NOT NULL
);

-- ---------------------------------------------------------------- told as the API tells it

CREATE FUNCTION told_id_v1(p_kind text, p_id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT p_kind || '_' || replace(p_id::text, '-', '')
$$;
CREATE FUNCTION told_at_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
CREATE FUNCTION told_money_v1(p_micro bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT round(p_micro / 1e6, greatest(min_scale(p_micro / 1e6), 2))::text
$$;

-- Tell whoever listens to a partner, or to this very thing. Nobody listens: nothing is written.
CREATE FUNCTION event_add_v1(p_partner_id uuid, p_kind text, p_subject_id uuid, p_seq integer, p_data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, p_kind, p_subject_id, p_seq, p_data FROM partner p
     WHERE p.partner_id = p_partner_id
       AND (p.keeps_events OR EXISTS (SELECT FROM sink s WHERE s.subject_id = p_subject_id AND s.valid_until > now()))
$$;

-- ---------------------------------------------------------------- what partners and we agreed, and numbers

-- What we and a partner have agreed. Its terms are in its versions; what is here may change, and edition counts that.
CREATE TABLE deal (
    deal_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    currency        currency_code NOT NULL,
    state           text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'signed', 'ended')),
    version         integer NOT NULL DEFAULT 0 CHECK (version >= 0),   -- the last one
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    signed_at       timestamptz,
    ended_at        timestamptz
);
CREATE INDEX deal_partner ON deal (partner_id, deal_id);

-- Terms as they were agreed once. A later version takes the place of the ones before from its begin on: that cuts their
-- `valid`, and nothing else of them ever changes. Empty: its place was taken before it began, or while it was a draft.
CREATE TABLE deal_version (
    deal_version_id uuid PRIMARY KEY DEFAULT uuidv7(),
    deal_id         uuid NOT NULL REFERENCES deal,
    version         integer NOT NULL CHECK (version > 0),
    agreed          tstzrange NOT NULL CHECK (NOT isempty(agreed) AND NOT lower_inf(agreed)),
    valid           tstzrange NOT NULL CHECK (valid <@ agreed),
    terms           jsonb NOT NULL CHECK (jsonb_typeof(terms) = 'object'),
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (deal_id, version),
    CONSTRAINT deal_version_one_at_a_time EXCLUDE USING gist (deal_id WITH =, valid WITH &&)
);
CREATE INDEX deal_version_list ON deal_version (deal_id, deal_version_id);

-- Of a version that is agreed, only the time to come may be cut off.
CREATE FUNCTION deal_version_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    past CONSTANT tstzrange := tstzrange(NULL, now());                 -- before this transaction
BEGIN
    IF to_jsonb(new) - 'valid' <> to_jsonb(old) - 'valid' OR NOT new.valid <@ old.valid
       OR (NOT isempty(new.valid) AND lower(new.valid) <> lower(old.valid))
       OR (new.valid * past <> old.valid * past
           AND EXISTS (SELECT FROM deal d WHERE d.deal_id = old.deal_id AND d.state <> 'draft')) THEN
        RAISE EXCEPTION 'What was agreed is not edited: agree on a new version.' USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER deal_version_stays BEFORE UPDATE ON deal_version
    FOR EACH ROW EXECUTE FUNCTION deal_version_stays_v1();
CREATE TRIGGER deal_version_insert_only BEFORE DELETE ON deal_version
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER deal_version_no_truncate BEFORE TRUNCATE ON deal_version
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Give a deal its next version. p_based_on: the last one its author has read; 0 for the first.
-- p_from NULL: from now on. p_until NULL: without end. Of a draft only the last version counts.
CREATE FUNCTION deal_agree_v1(
    p_deal_id uuid, p_based_on integer, p_from timestamptz, p_until timestamptz, p_terms jsonb, p_note text, p_author text
) RETURNS deal_version LANGUAGE plpgsql AS $$
DECLARE
    of_deal deal;
    made deal_version;
    begins timestamptz;
    present timestamptz;
BEGIN
    SELECT * INTO of_deal FROM deal d WHERE d.deal_id = p_deal_id FOR NO KEY UPDATE;
    present := clock_timestamp();
    begins := coalesce(p_from, present);
    IF of_deal.deal_id IS NULL THEN
        RAISE EXCEPTION 'There is no such deal.' USING ERRCODE = 'BR005';
    ELSIF of_deal.state = 'ended' THEN
        RAISE EXCEPTION 'The deal has ended. Make a new one.' USING ERRCODE = 'BR004';
    ELSIF of_deal.version <> p_based_on THEN
        RAISE EXCEPTION 'The deal has version % by now. Read it, and base yours on that.', of_deal.version USING ERRCODE = 'BR004';
    ELSIF of_deal.state = 'signed' AND begins < present THEN
        RAISE EXCEPTION 'The deal is signed: a new version cannot begin in the past.' USING ERRCODE = 'BR003';
    ELSIF p_until <= begins THEN
        RAISE EXCEPTION 'A version ends after it begins.' USING ERRCODE = 'BR003';
    END IF;
    UPDATE deal_version v
       SET valid = CASE WHEN of_deal.state = 'draft' OR lower(v.valid) >= begins THEN 'empty'
                        ELSE tstzrange(lower(v.valid), begins) END
     WHERE v.deal_id = p_deal_id AND (of_deal.state = 'draft' OR v.valid && tstzrange(begins, NULL));
    INSERT INTO deal_version (deal_id, version, agreed, valid, terms, note, author)
    VALUES (p_deal_id, p_based_on + 1, tstzrange(begins, p_until), tstzrange(begins, p_until), p_terms, p_note, p_author)
    RETURNING * INTO made;
    UPDATE deal d SET version = made.version, edition = d.edition + 1 WHERE d.deal_id = p_deal_id;
    RETURN made;
END $$;

-- End a deal now: what is in force is cut, what was to come is void.
CREATE FUNCTION deal_end_v1(p_deal_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was text;
    present timestamptz;
BEGIN
    SELECT d.state INTO was FROM deal d WHERE d.deal_id = p_deal_id FOR NO KEY UPDATE;
    present := clock_timestamp();
    UPDATE deal_version v
       SET valid = CASE WHEN was = 'draft' OR lower(v.valid) >= present THEN 'empty'
                        ELSE tstzrange(lower(v.valid), present) END
     WHERE v.deal_id = p_deal_id AND (was = 'draft' OR v.valid && tstzrange(present, NULL));
    UPDATE deal d SET state = 'ended', ended_at = present WHERE d.deal_id = p_deal_id;
END $$;

-- A telephone number that can be given to a subscriber. One that was released rests before somebody else gets it.
CREATE TABLE number (
    number_id           uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id          uuid REFERENCES partner,                       -- whose it is; NULL: ours
    e164                e164 NOT NULL UNIQUE,
    country             text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    kind                text NOT NULL CHECK (kind IN ('geographic', 'mobile', 'national')),
    state               text NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'assigned', 'quarantined')),
    subscriber_id       uuid REFERENCES subscriber,
    assigned_at         timestamptz,
    quarantine_until    timestamptz,
    edition             integer NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'assigned') = (subscriber_id IS NOT NULL)),
    CHECK ((state = 'quarantined') = (quarantine_until IS NOT NULL))
);
CREATE INDEX number_partner ON number (partner_id, number_id);
CREATE INDEX number_subscriber ON number (subscriber_id) WHERE subscriber_id IS NOT NULL;

-- Numbers as they are now: one whose quarantine is over is free, which is an edition of its own.
CREATE VIEW number_now WITH (security_invoker = true) AS
SELECT n.number_id, n.partner_id, n.e164, n.country, n.kind, n.subscriber_id, n.assigned_at, n.created_at,
       CASE WHEN n.state = 'quarantined' AND n.quarantine_until <= now() THEN 'free' ELSE n.state END AS state,
       CASE WHEN n.quarantine_until > now() THEN n.quarantine_until END AS quarantine_until,
       n.edition + (n.state = 'quarantined' AND n.quarantine_until <= now())::integer AS edition
  FROM number n;
-- Whose deck it is, is told of each new version of it.
CREATE FUNCTION deck_applied_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(d.partner_id, 'deck.applied', d.deck_id, new.version, jsonb_build_object(
                'deck_id', 'deck_' || replace(d.deck_id::text, '-', ''), 'name', d.name, 'side', d.side,
                'version', new.version, 'origin', new.origin, 'to_version', new.to_version,
                'import_id', 'imp_' || replace(new.import_id::text, '-', ''), 'added', new.added, 'removed', new.removed))
       FROM deck d WHERE d.deck_id = new.deck_id AND d.partner_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER deck_applied AFTER INSERT ON deck_version FOR EACH ROW EXECUTE FUNCTION deck_applied_v1();
-- ---------------------------------------------------------------- where it happens

-- What a partner may know of its call: nothing of carriers, routes and costs.
CREATE FUNCTION call_told_v1(c call) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('call_id', told_id_v1('call', c.call_id), 'subscriber_id', told_id_v1('sub', c.subscriber_id),
                              'account_id', told_id_v1('acc', c.account_id), 'a_number', c.a_number, 'b_number', c.b_number,
                              'dialled', c.dialled, 'direction', c.direction, 'admitted_at', told_at_v1(c.admitted_at))
$$;

-- It rang and was answered, as far as that has not been told.
CREATE FUNCTION call_answer_told_v1(c call, p_answered_at timestamptz, p_attempt_no integer, p_pdd_ms integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    told jsonb := call_told_v1(c);
    ringing_at timestamptz;
BEGIN
    IF p_pdd_ms IS NOT NULL AND NOT EXISTS (SELECT FROM event e WHERE e.subject_id = c.call_id AND e.seq = 2) THEN
        -- An attempt begins when the one before has failed.
        SELECT coalesce(max(x.ended_at), c.admitted_at) + make_interval(secs => p_pdd_ms / 1000.0) INTO ringing_at
          FROM attempt x WHERE x.call_id = c.call_id AND x.attempt_no < p_attempt_no;
        INSERT INTO event (partner_id, kind, subject_id, seq, data)
        VALUES (c.partner_id, 'call.ringing', c.call_id, 2,
                told || jsonb_build_object('ringing_at', told_at_v1(ringing_at), 'pdd_ms', p_pdd_ms));
    END IF;
    IF p_answered_at IS NOT NULL AND NOT EXISTS (SELECT FROM event e WHERE e.subject_id = c.call_id AND e.seq = 3) THEN
        INSERT INTO event (partner_id, kind, subject_id, seq, data)
        VALUES (c.partner_id, 'call.answered', c.call_id, 3, told || jsonb_build_object('answered_at', told_at_v1(p_answered_at)));
    END IF;
END $$;

CREATE FUNCTION call_begun_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM partner p WHERE p.partner_id = NEW.partner_id AND p.keeps_events) THEN
        IF NEW.state = 'refused' THEN
            INSERT INTO event (partner_id, kind, subject_id, seq, data)
            SELECT NEW.partner_id, t.kind, NEW.call_id, t.seq, call_told_v1(NEW) || jsonb_build_object('reason', NEW.refuse_reason)
              FROM (VALUES ('call.refused', 1), ('fraud.blocked', 2)) AS t (kind, seq)
             WHERE t.seq = 1 OR NEW.refuse_reason IN ('too_many_calls', 'spend_cap', 'barred_destination', 'fraud')
             ORDER BY t.seq;
        ELSE
            INSERT INTO event (partner_id, kind, subject_id, seq, data)
            VALUES (NEW.partner_id, 'call.admitted', NEW.call_id, 1, call_told_v1(NEW));
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION call_answered_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c call;
BEGIN
    IF EXISTS (SELECT FROM account a JOIN partner p USING (partner_id) WHERE a.account_id = NEW.account_id AND p.keeps_events) THEN
        SELECT * INTO c FROM call WHERE call.call_id = NEW.call_id AND call.partner_id IS NOT NULL;
        IF FOUND THEN
            PERFORM call_answer_told_v1(c, NEW.answered_at, NEW.attempt_no, NEW.pdd_ms);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- The charge and the last attempt were written by the same statement; at its end they can be seen.
CREATE FUNCTION call_ended_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last attempt;
    charged jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM partner p WHERE p.partner_id = NEW.partner_id AND p.keeps_events) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO last FROM attempt x WHERE x.call_id = NEW.call_id ORDER BY x.attempt_no DESC LIMIT 1;
    PERFORM call_answer_told_v1(NEW, NEW.answered_at, last.attempt_no, last.pdd_ms);
    SELECT jsonb_build_object('billed_s', h.billed_s, 'covered_s', h.covered_s,
                              'amount', told_money_v1(h.amount_micro - h.written_off_micro), 'currency', h.currency)
      INTO charged FROM charge h WHERE h.call_id = NEW.call_id;
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    VALUES (NEW.partner_id, 'call.ended', NEW.call_id, 9,
            call_told_v1(NEW) || jsonb_build_object(
                'state', NEW.state, 'answered_at', told_at_v1(NEW.answered_at), 'ended_at', told_at_v1(NEW.ended_at),
                'talk_ms', NEW.talk_ms, 'q850_cause', NEW.q850_cause, 'release_party', NEW.release_party, 'charge', charged));
    RETURN NULL;
END $$;

CREATE FUNCTION balance_low_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(NEW.partner_id, 'balance.low', NEW.account_id, 1, jsonb_build_object(
        'account_id', told_id_v1('acc', NEW.account_id), 'balance', told_money_v1(NEW.balance_micro),
        'low_balance', told_money_v1(NEW.low_balance_micro), 'currency', NEW.currency));
    RETURN NULL;
END $$;

CREATE FUNCTION allowance_low_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(a.partner_id, 'allowance.low', NEW.allowance_id, 1, jsonb_build_object(
        'allowance_id', told_id_v1('alw', NEW.allowance_id), 'account_id', told_id_v1('acc', NEW.account_id), 'bundle', b.name,
        'units', NEW.units, 'used_units', NEW.used_units, 'percent', CASE WHEN NEW.used_units >= NEW.units THEN 100 ELSE 80 END,
        'until_at', told_at_v1(upper(NEW.valid))))
      FROM account a JOIN bundle b ON b.bundle_id = NEW.bundle_id
     WHERE a.account_id = NEW.account_id AND a.partner_id IS NOT NULL;
    RETURN NULL;
END $$;

-- A call of nobody's pays for looking at its row, no more. Partitions get the triggers of the table with ATTACH.
CREATE TRIGGER call_begun AFTER INSERT ON call
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL) EXECUTE FUNCTION call_begun_v1();
CREATE TRIGGER call_ended AFTER UPDATE OF ended_at ON call
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
    EXECUTE FUNCTION call_ended_v1();
CREATE TRIGGER call_answered AFTER UPDATE OF answered_at ON lease
    FOR EACH ROW WHEN (OLD.answered_at IS NULL AND NEW.answered_at IS NOT NULL) EXECUTE FUNCTION call_answered_v1();
CREATE TRIGGER balance_low AFTER UPDATE OF balance_micro ON account
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL AND NEW.balance_micro < NEW.low_balance_micro
                       AND OLD.balance_micro >= NEW.low_balance_micro)
    EXECUTE FUNCTION balance_low_v1();
-- A fifth is left, or nothing.
CREATE TRIGGER allowance_low AFTER UPDATE OF used_units ON allowance
    FOR EACH ROW WHEN (NEW.used_units >= NEW.units - NEW.units / 5 AND OLD.used_units < NEW.used_units
                       AND (OLD.used_units < NEW.units - NEW.units / 5 OR NEW.used_units >= NEW.units))
    EXECUTE FUNCTION allowance_low_v1();

-- ---------------------------------------------------------------- told on

-- Number what is new and lay it out for those who are to be told. Returns how many events, -1 where somebody else is at it.
-- One at a time, and each batch is seen as a whole: who has read number n of a partner has read all below it.
CREATE FUNCTION event_fan_out_v1(p_limit integer) RETURNS integer LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    numbered uuid[];
    partners uuid[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('callbridge events', 0)) THEN
        RETURN -1;
    END IF;
    SELECT array_agg(f.event_id ORDER BY f.event_id), array_agg(DISTINCT f.partner_id) INTO numbered, partners
      FROM (SELECT e.event_id, e.partner_id FROM event e WHERE e.stream_no IS NULL ORDER BY e.event_id LIMIT p_limit) f;
    IF numbered IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO event_counter (partner_id, last_no) SELECT p, 0 FROM unnest(partners) AS p ON CONFLICT DO NOTHING;
    UPDATE event e SET stream_no = n.stream_no
      FROM (SELECT f.event_id, s.last_no + row_number() OVER (PARTITION BY f.partner_id ORDER BY f.event_id) AS stream_no
              FROM event f JOIN event_counter s USING (partner_id) WHERE f.event_id = ANY (numbered)) n
     WHERE e.event_id = n.event_id;
    UPDATE event_counter s SET last_no = n.last_no
      FROM (SELECT e.partner_id, max(e.stream_no) AS last_no FROM event e WHERE e.event_id = ANY (numbered) GROUP BY e.partner_id) n
     WHERE s.partner_id = n.partner_id;
    INSERT INTO delivery (partner_id, target_id, event_id, kind, subject_id, stream_no)
    SELECT e.partner_id, t.target_id, e.event_id, e.kind, e.subject_id, e.stream_no
      FROM event e CROSS JOIN LATERAL (
        SELECT w.endpoint_id AS target_id FROM webhook_endpoint w JOIN partner p USING (partner_id)
         WHERE w.partner_id = e.partner_id AND w.enabled AND p.state <> 'closed'
           AND CASE e.kind WHEN 'webhook.test' THEN w.endpoint_id = e.subject_id
                           ELSE w.kinds = '{}' OR e.kind = ANY (w.kinds) END
         UNION ALL
        SELECT s.subject_id FROM sink s
         WHERE s.subject_id = e.subject_id AND s.partner_id = e.partner_id AND s.valid_until > now()
           AND e.data ?| '{camara,click_to_dial}'
      ) AS t
     WHERE e.event_id = ANY (numbered)
     ORDER BY e.event_id
    ON CONFLICT DO NOTHING;
    PERFORM pg_notify('callbridge_events', p::text) FROM unnest(partners) AS p;
    RETURN cardinality(numbered);
END $$;

-- Take deliveries that are due, of listeners that are failing or of the others, at most p_each at a time to one listener and
-- one to one that is failing. What happened to one thing goes out in order, unless what comes before has failed once.
CREATE FUNCTION delivery_claim_v1(p_failing boolean, p_limit integer, p_each integer, p_lease_s double precision)
RETURNS TABLE (
    delivery_id uuid, target_id uuid, tries integer, event_id uuid, kind text, subject_id uuid, seq integer, data jsonb,
    occurred_at timestamptz, url text, secrets bytea[], bearer text, to_sink boolean
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE waiting AS (                                        -- each listener once, however much waits for it
        (SELECT d.target_id FROM delivery d WHERE d.state = 'pending' ORDER BY d.target_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.target_id FROM delivery d WHERE d.state = 'pending' AND d.target_id > w.target_id ORDER BY d.target_id LIMIT 1)
          FROM waiting w WHERE w.target_id IS NOT NULL
    ), open AS (
        SELECT w.target_id, CASE WHEN p_failing THEN 1 ELSE p_each END
               - (SELECT count(*) FROM delivery d
                   WHERE d.state = 'pending' AND d.target_id = w.target_id AND d.claimed_until > clock_timestamp()) AS slots
          FROM waiting w LEFT JOIN webhook_endpoint n ON n.endpoint_id = w.target_id LEFT JOIN sink s ON s.subject_id = w.target_id
         WHERE w.target_id IS NOT NULL AND (n.enabled OR s.valid_until > now())
           AND (coalesce(n.failing_since, s.failing_since) IS NOT NULL) = p_failing
    ), due AS (
        SELECT f.delivery_id FROM open o CROSS JOIN LATERAL (
            SELECT d.delivery_id, d.due_at FROM delivery d
             WHERE d.state = 'pending' AND d.target_id = o.target_id AND d.due_at <= clock_timestamp()
               AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM delivery b
                                WHERE b.state = 'pending' AND b.target_id = d.target_id AND b.subject_id = d.subject_id
                                  AND b.stream_no < d.stream_no AND (b.tries = 0 OR b.claimed_until > clock_timestamp()))
             ORDER BY d.due_at, d.stream_no LIMIT greatest(o.slots, 0)
        ) AS f ORDER BY f.due_at LIMIT p_limit
    ), mine AS (
        SELECT d.delivery_id FROM delivery d
         WHERE d.delivery_id IN (SELECT u.delivery_id FROM due u) AND d.state = 'pending'
           AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp())
           FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE delivery d SET claimed_until = clock_timestamp() + make_interval(secs => p_lease_s)
          FROM mine m WHERE d.delivery_id = m.delivery_id
        RETURNING d.delivery_id, d.target_id, d.tries, d.event_id
    )
    SELECT c.delivery_id, c.target_id, c.tries, e.event_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at,
           coalesce(n.url, s.url),
           (SELECT array_agg(k.secret ORDER BY k.secret_id DESC) FROM webhook_secret k
             WHERE k.endpoint_id = c.target_id AND (k.valid_until IS NULL OR k.valid_until > now())),
           s.bearer, n.endpoint_id IS NULL
      FROM claimed c JOIN event e USING (event_id)
      LEFT JOIN webhook_endpoint n ON n.endpoint_id = c.target_id LEFT JOIN sink s ON s.subject_id = c.target_id
     ORDER BY e.event_id;
END $$;

-- What became of one attempt. p_said: ok · failed · gone (410: never again). p_retry_s NULL: it is given up.
-- A listener that has only failed for p_disable_after_s is told nothing more.
CREATE FUNCTION delivery_note_v1(
    p_delivery_id uuid, p_said text, p_status integer, p_took_ms integer, p_error text, p_answer text, p_retry_s double precision,
    p_disable_after_s double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    noted delivery;
    disabled webhook_endpoint;
BEGIN
    UPDATE delivery d SET claimed_until = NULL, tries = d.tries + 1, last_status = p_status, last_error = p_error,
           state = CASE WHEN p_said = 'ok' THEN 'done' WHEN p_said = 'gone' OR p_retry_s IS NULL THEN 'failed' ELSE 'pending' END,
           due_at = CASE WHEN p_said = 'failed' THEN clock_timestamp() + make_interval(secs => coalesce(p_retry_s, 0)) ELSE d.due_at END,
           done_at = CASE WHEN p_said = 'ok' THEN clock_timestamp() END
     WHERE d.delivery_id = p_delivery_id AND d.state = 'pending'
    RETURNING d.* INTO noted;
    IF NOT FOUND THEN
        RETURN;                                                        -- another worker has noted it
    END IF;
    INSERT INTO delivery_attempt (delivery_id, attempt_no, tried_at, took_ms, status, error, answer)
    SELECT p_delivery_id, coalesce(max(x.attempt_no), 0) + 1, clock_timestamp() - make_interval(secs => p_took_ms / 1000.0),
           p_took_ms, p_status, p_error, p_answer
      FROM delivery_attempt x WHERE x.delivery_id = p_delivery_id;
    IF p_said = 'ok' THEN
        UPDATE webhook_endpoint w SET failing_since = NULL WHERE w.endpoint_id = noted.target_id AND w.failing_since IS NOT NULL;
        UPDATE sink s SET failing_since = NULL WHERE s.subject_id = noted.target_id AND s.failing_since IS NOT NULL;
        RETURN;
    END IF;
    UPDATE sink s SET failing_since = coalesce(s.failing_since, now()),
           valid_until = CASE WHEN p_said = 'gone' THEN least(s.valid_until, now()) ELSE s.valid_until END
     WHERE s.subject_id = noted.target_id AND (s.failing_since IS NULL OR p_said = 'gone');
    UPDATE webhook_endpoint w SET failing_since = now() WHERE w.endpoint_id = noted.target_id AND w.failing_since IS NULL;
    UPDATE webhook_endpoint w SET enabled = false, disabled_why = CASE p_said WHEN 'gone' THEN 'gone' ELSE 'failing' END,
           edition = w.edition + 1
     WHERE w.endpoint_id = noted.target_id AND w.enabled
       AND (p_said = 'gone' OR w.failing_since < now() - make_interval(secs => p_disable_after_s))
    RETURNING w.* INTO disabled;
    IF FOUND THEN
        INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
        VALUES (disabled.partner_id, 'callbridge', 'webhook.disable', told_id_v1('whk', disabled.endpoint_id),
                jsonb_build_object('why', disabled.disabled_why, 'failing_since', told_at_v1(disabled.failing_since)), '', '');
    END IF;
END $$;

-- Send events since an instant again, or for the first time, to one endpoint: the oldest p_limit of them after p_after.
-- more_after: the last of these; NULL: that was all.
CREATE FUNCTION delivery_replay_v1(
    p_endpoint_id uuid, p_since timestamptz, p_after uuid, p_kinds text[], p_limit integer, OUT replayed integer, OUT more_after uuid
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    whose uuid;
    chosen uuid[];
BEGIN
    SELECT w.partner_id INTO whose FROM webhook_endpoint w WHERE w.endpoint_id = p_endpoint_id;
    SELECT array_agg(f.event_id ORDER BY f.event_id) INTO chosen FROM (
        SELECT e.event_id FROM event e
         WHERE e.partner_id = whose AND e.event_id >= uuid_floor_v1(p_since) AND e.event_id > p_after AND e.occurred_at >= p_since
           AND e.stream_no IS NOT NULL AND e.kind = ANY (p_kinds) AND (e.kind <> 'webhook.test' OR e.subject_id = p_endpoint_id)
         ORDER BY e.event_id LIMIT p_limit + 1) f;
    IF cardinality(chosen) > p_limit THEN
        more_after := chosen[p_limit];
        chosen := chosen[1:p_limit];
    END IF;
    INSERT INTO delivery AS d (partner_id, target_id, event_id, kind, subject_id, stream_no)
    SELECT e.partner_id, p_endpoint_id, e.event_id, e.kind, e.subject_id, e.stream_no
      FROM event e WHERE e.event_id = ANY (chosen) ORDER BY e.event_id
    ON CONFLICT (event_id, target_id) DO UPDATE SET state = 'pending', tries = 0, due_at = clock_timestamp(), done_at = NULL;
    replayed := coalesce(cardinality(chosen), 0);
    PERFORM pg_notify('callbridge_events', whose::text);
END $$;

-- Forget what is older, a batch at a time, and give up what nobody can be told any more. Returns how many events that were.
CREATE FUNCTION event_purge_v1(p_before timestamptz, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM event e WHERE e.event_id IN (
        SELECT o.event_id FROM event o WHERE o.event_id < uuid_floor_v1(p_before) ORDER BY o.event_id LIMIT p_limit);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE delivery d SET state = 'failed', last_error = 'nobody is to be told any more'
     WHERE d.state = 'pending' AND d.delivery_id IN (
        SELECT o.delivery_id FROM webhook_endpoint w JOIN delivery o ON o.target_id = w.endpoint_id AND o.state = 'pending'
         WHERE w.deleted_at IS NOT NULL
         UNION ALL
        SELECT o.delivery_id FROM sink s JOIN delivery o ON o.target_id = s.subject_id AND o.state = 'pending'
         WHERE s.valid_until < now()
         LIMIT p_limit);
    DELETE FROM sink s WHERE s.valid_until < p_before;
    DELETE FROM webhook_secret k WHERE k.valid_until < now();
    RETURN gone;
END $$;

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

-- ---------------------------------------------------------------- what is spent in a day or a month

-- When the day or the month of an instant began, where our subscribers live.
CREATE FUNCTION spend_since_v1(p_period text, p_at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT date_trunc(p_period, p_at, 'Europe/Berlin')
$$;

-- Whether a booking is spending: calls, usage, purchases and what takes these back. Money put in, or put right by hand, is not.
CREATE FUNCTION transfer_spends_v1(p_kind text, p_reverses uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    origin text := p_kind;
    back uuid := p_reverses;
BEGIN
    WHILE back IS NOT NULL LOOP
        SELECT t.kind, t.reverses INTO origin, back FROM transfer t WHERE t.transfer_id = back;
    END LOOP;
    RETURN origin IN ('call', 'usage', 'purchase', 'rebooking');
END $$;

-- What an account has spent since an instant, by its entries. A call's entries have the call's key, which is as old as the call.
CREATE FUNCTION account_spent_v1(p_account_id uuid, p_since timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(-sum(e.amount_micro), 0)::bigint FROM entry e JOIN transfer t USING (transfer_id)
     WHERE e.account_id = p_account_id AND e.transfer_id >= uuid_floor_v1(p_since - interval '7 days')
       AND t.booked_at >= p_since AND transfer_spends_v1(t.kind, t.reverses)
$$;

-- What an account with a cap may still spend at p_at: less than nothing, where the cap was lowered. Holds count as spent.
CREATE FUNCTION spend_left_v1(p_account_id uuid, p_at timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
DECLARE
    a account;
    since timestamptz;
BEGIN
    SELECT * INTO a FROM account WHERE account.account_id = p_account_id;
    since := spend_since_v1(a.spend_period, p_at);
    RETURN a.spend_cap_micro - a.held_micro - CASE WHEN since > a.spend_since THEN account_spent_v1(p_account_id, since)
                                                   ELSE a.spend_base_micro - a.balance_micro END;
END $$;

-- The same under the lock of the account's row, where the first who comes begins the new day or month.
CREATE FUNCTION spend_left_locked_v1(p_account_id uuid, p_at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    UPDATE account a SET spend_since = s.since, spend_base_micro = a.balance_micro + account_spent_v1(p_account_id, s.since)
      FROM account o CROSS JOIN LATERAL spend_since_v1(o.spend_period, p_at) AS s (since)
     WHERE a.account_id = p_account_id AND o.account_id = p_account_id AND s.since > a.spend_since;
    RETURN (SELECT a.spend_cap_micro - a.held_micro - (a.spend_base_micro - a.balance_micro) FROM account a
             WHERE a.account_id = p_account_id);
END $$;

-- Set a cap, or none (NULL). What was spent in its day or month before counts, too.
CREATE FUNCTION spend_cap_set_v1(p_account_id uuid, p_cap_micro bigint, p_period text, p_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    since timestamptz := spend_since_v1(p_period, p_at);
BEGIN
    PERFORM 1 FROM account a WHERE a.account_id = p_account_id FOR NO KEY UPDATE;
    UPDATE account a
       SET spend_cap_micro = p_cap_micro, spend_period = p_period, spend_since = since,
           spend_base_micro = CASE WHEN a.spend_since = since THEN a.spend_base_micro
                                   WHEN p_cap_micro IS NOT NULL THEN a.balance_micro + account_spent_v1(p_account_id, since) END
     WHERE a.account_id = p_account_id;
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
-- Returns status 'ok' with the new call_id, or 'no_credit' and 'spend_cap' (with what is available now), 'too_many_calls',
-- 'trunk_full', 'units_gone'. A count near its cap is taken again under a lock, so that caps are exact; far from it nothing is locked.
-- p_trunk_id NULL: a phone is rung. p_call_id NULL: a new one. What comes in from the network takes no place of an account's cap.
CREATE FUNCTION call_admit_v3(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    p_call_id uuid, p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_after_call_id uuid,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
    spend_cap bigint;
    partner uuid;                                                      -- whose subscriber calls
    near CONSTANT integer := 1000;                                     -- more admissions than can be in flight at once
BEGIN
    LOOP
        UPDATE account a SET held_micro = a.held_micro + p_hold_micro
         WHERE a.account_id = p_account_id AND a.state = 'active'
           AND (p_hold_micro = 0                                       -- units that are paid for need no credit
                OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= p_hold_micro)
        RETURNING a.call_cap, a.balance_micro - a.held_micro, a.partner_id, a.spend_cap_micro
             INTO cap, available_micro, partner, spend_cap;
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
    IF cap IS NOT NULL AND p_direction <> 'in'
       AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'too_many_calls';
        RETURN;
    END IF;
    IF spend_cap IS NOT NULL AND p_hold_micro > 0 THEN
        available_micro := spend_left_locked_v1(p_account_id, p_at) + p_hold_micro;
        IF available_micro < p_hold_micro THEN
            UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
            status := 'spend_cap';
            RETURN;
        END IF;
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
    call_id := coalesce(p_call_id, uuidv7());
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(call_id, p_account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number,
                      state, sell, routes, bundled, partner_id, direction, callee_id, trunk_in_id, leg_class, anonymous, after_call_id)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL, partner, p_direction, p_callee_id, p_trunk_in_id, p_leg_class,
            p_anonymous, p_after_call_id);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at, partner_id)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s), partner);
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;

-- From now on the phones of the users of this subscriber's app are rung. Workers read their books again when that is new.
CREATE FUNCTION app_has_phones_v1(p_subscriber_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM subscriber s JOIN app a USING (app_id) WHERE s.subscriber_id = p_subscriber_id AND NOT a.phones) THEN
        UPDATE app a SET phones = true, edition = a.edition + 1 FROM subscriber s
         WHERE s.subscriber_id = p_subscriber_id AND a.app_id = s.app_id AND NOT a.phones;
    END IF;
END $$;

-- Whether a phone of this subscriber is registered now.
CREATE FUNCTION subscriber_reached_v1(p_subscriber_id uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM asterisk.ps_contacts c WHERE c.endpoint = 'u' || replace(p_subscriber_id::text, '-', ''));
END $$;

-- Admit a call that rings a subscriber's phones. It costs nothing, whatever the balance, and holds nothing.
-- p_activate: the callee may not use the app yet, and the call may enable them (see rollout_called_v1, whose other answers come back
-- as the status; nothing is written then). The rest as call_admit_v3 has it: 'ok', 'no_credit' (the account is not active),
-- 'too_many_calls', which take an activation back.
-- reached: a phone is registered. Else whoever can wake one is told, with the time until which it is waited for.
CREATE FUNCTION call_ring_v1(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_currency text, p_limit_ms bigint, p_lease_s integer, p_at timestamptz,
    p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_activate boolean, p_wake_s integer,
    OUT status text, OUT call_id uuid, OUT reached boolean
) LANGUAGE plpgsql AS $$
BEGIN
    call_id := uuidv7();
    IF p_activate THEN
        status := rollout_called_v1(p_subscriber_id, p_callee_id, call_id, p_at);
        IF status NOT IN ('activated', 'enabled') THEN
            call_id := NULL;
            RETURN;
        END IF;
    END IF;
    SELECT a.status INTO status
      FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_subscriber_id, p_account_id, p_a_number, p_dialled,
                         p_b_number, p_sell, p_routes, NULL, NULL, 0, p_currency, p_limit_ms, p_lease_s, NULL, NULL, NULL, p_at,
                         call_id, p_direction, p_callee_id, p_trunk_in_id, p_leg_class, p_anonymous, NULL) a;
    IF status <> 'ok' THEN
        RAISE EXCEPTION '%', status USING ERRCODE = 'BR900';
    END IF;
    reached := subscriber_reached_v1(p_callee_id);
    IF NOT reached THEN
        PERFORM event_add_v1(s.partner_id, 'subscriber.wake', s.subscriber_id, 1, jsonb_build_object(
                    'subscriber_id', told_id_v1('sub', s.subscriber_id), 'call_id', told_id_v1('call', call_ring_v1.call_id),
                    'from', CASE WHEN NOT p_anonymous THEN p_a_number END,
                    'expires_at', told_at_v1(p_at + make_interval(secs => p_wake_s))))
           FROM subscriber s WHERE s.subscriber_id = p_callee_id;
    END IF;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    status := SQLERRM;
    call_id := NULL;
END $$;

-- Set aside the next slice for a live call. p_held_micro and p_limit_ms are the new totals, so a repeat changes nothing.
-- Units are added to those held. Returns 'ok', 'no_credit' (with what balance or cap leave for this call beyond its hold),
-- 'units_gone' or 'gone'.
CREATE FUNCTION call_extend_v2(
    p_call_id uuid, p_held_micro bigint, p_limit_ms bigint, p_extend_at timestamptz, p_expires_at timestamptz,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    OUT status text, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    h hold;
    more bigint;
    spend_cap bigint;
    left_micro bigint;                                                 -- by the cap
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
            OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= more)
    RETURNING a.spend_cap_micro INTO spend_cap;
    IF NOT FOUND THEN
        SELECT a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END
          INTO available_micro FROM account a WHERE a.account_id = h.account_id;
        status := 'no_credit';
        RETURN;
    END IF;
    IF spend_cap IS NOT NULL AND more > 0 THEN
        left_micro := spend_left_locked_v1(h.account_id, p_at);
        IF left_micro < 0 THEN
            UPDATE account a SET held_micro = a.held_micro - more WHERE a.account_id = h.account_id;
            available_micro := left_micro + more;
            status := 'no_credit';
            RETURN;
        END IF;
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

-- Whether an app or another trunk calls from one of these networks: who calls must never be told by chance.
-- An app that is known by name, not by address, is passed over; and business numbers are all called from the same addresses.
CREATE FUNCTION trunk_addresses_taken_v2(p_trunk_id uuid, p_kind text, p_networks cidr[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM trunk t CROSS JOIN unnest(t.allowed_ips) AS taken (network)
                    WHERE t.trunk_id IS DISTINCT FROM p_trunk_id AND taken.network && ANY (p_networks)
                      AND NOT (p_kind = 'whatsapp' AND t.kind = 'whatsapp'))
        OR EXISTS (SELECT FROM app a
                    WHERE CASE WHEN a.sip_host ~ '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+(:[0-9]+)?$'
                               THEN split_part(a.sip_host, ':', 1)::inet <<= ANY (p_networks) END)
$$;

-- The wall between the phone network and WhatsApp, whose terms forbid the one on any leg of the other. What the dialplan, the
-- rules and every later rule may get wrong, the tables refuse: a leg's class and its trunk's class must go together.

-- Whether a leg of this class may be joined to a trunk of that one; NULL: there is no such trunk. What is unknown may nothing.
CREATE FUNCTION leg_may_v1(p_leg_class text, p_trunk_class text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_leg_class WHEN 'app' THEN true
                            WHEN 'pstn' THEN coalesce(p_trunk_class IN ('pstn', 'emergency'), false)
                            WHEN 'voip_only' THEN coalesce(p_trunk_class = 'voip_only', false)
                            ELSE false END
$$;

-- Of a lease and an attempt: the call's leg may meet the trunk. It costs one look at a row that was just written, and a second
-- one only where the leg is not an app's.
CREATE FUNCTION leg_meets_trunk_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    class text;
BEGIN
    SELECT c.leg_class INTO class FROM bridge.call c WHERE c.call_id = NEW.call_id;
    IF class <> 'app' AND NOT bridge.leg_may_v1(class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = NEW.trunk_id)) THEN
        RAISE EXCEPTION 'a % leg never meets this trunk', class USING ERRCODE = 'BR008';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER lease_leg_meets_trunk AFTER INSERT OR UPDATE OF call_id, trunk_id ON lease
    FOR EACH ROW WHEN (NEW.trunk_id IS NOT NULL) EXECUTE FUNCTION leg_meets_trunk_v1();
CREATE CONSTRAINT TRIGGER attempt_leg_meets_trunk AFTER INSERT OR UPDATE OF call_id, trunk_id ON attempt
    FOR EACH ROW EXECUTE FUNCTION leg_meets_trunk_v1();

-- Of a call that is not simply an app's: its class is its incoming trunk's, it goes on as it began, and no lease or attempt was
-- there before it.
CREATE FUNCTION leg_is_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came text;
BEGIN
    IF NEW.trunk_in_id IS NOT NULL THEN
        SELECT t.policy_class INTO came FROM bridge.trunk t WHERE t.trunk_id = NEW.trunk_in_id;
        IF NEW.leg_class IS DISTINCT FROM (CASE came WHEN 'emergency' THEN 'pstn' ELSE came END) THEN
            RAISE EXCEPTION 'a leg from a % trunk is none of class %', came, NEW.leg_class USING ERRCODE = 'BR008';
        END IF;
    END IF;
    IF NEW.after_call_id IS NOT NULL AND NEW.leg_class IS DISTINCT FROM
       (SELECT c.leg_class FROM bridge.call c WHERE c.call_id = NEW.after_call_id) THEN
        RAISE EXCEPTION 'a call goes on with a leg of another class' USING ERRCODE = 'BR008';
    END IF;
    IF EXISTS (SELECT FROM bridge.lease l WHERE l.call_id = NEW.call_id AND l.trunk_id IS NOT NULL AND NOT bridge.leg_may_v1(
                   NEW.leg_class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = l.trunk_id)))
       OR EXISTS (SELECT FROM bridge.attempt x WHERE x.call_id = NEW.call_id AND NOT bridge.leg_may_v1(
                   NEW.leg_class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = x.trunk_id))) THEN
        RAISE EXCEPTION 'a % leg never meets this trunk', NEW.leg_class USING ERRCODE = 'BR008';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER call_leg_is_told AFTER INSERT ON call
    FOR EACH ROW WHEN (NEW.leg_class <> 'app' OR NEW.trunk_in_id IS NOT NULL OR NEW.after_call_id IS NOT NULL)
    EXECUTE FUNCTION leg_is_told_v1();

-- What decides this never changes afterwards.
CREATE FUNCTION leg_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a % is decides what it may meet: it never changes', TG_TABLE_NAME USING ERRCODE = 'BR008';
END $$;
CREATE TRIGGER call_leg_stays AFTER UPDATE OF call_id, leg_class, trunk_in_id, after_call_id ON call
    FOR EACH ROW WHEN ((NEW.call_id, NEW.leg_class, NEW.trunk_in_id, NEW.after_call_id)
                       IS DISTINCT FROM (OLD.call_id, OLD.leg_class, OLD.trunk_in_id, OLD.after_call_id))
    EXECUTE FUNCTION leg_stays_v1();
CREATE TRIGGER trunk_class_stays AFTER UPDATE OF trunk_id, kind, business_number, policy_class ON trunk
    FOR EACH ROW WHEN ((NEW.trunk_id, NEW.kind, NEW.business_number) IS DISTINCT FROM (OLD.trunk_id, OLD.kind, OLD.business_number)
                       OR (NEW.policy_class = 'voip_only') <> (OLD.policy_class = 'voip_only'))
    EXECUTE FUNCTION leg_stays_v1();

-- What Meta says of a call: its id there, and what the link or button that it was begun with carried. Of calls that were admitted.
CREATE TABLE whatsapp_call (
    call_id         uuid PRIMARY KEY,
    wacid           text CHECK (wacid ~ '^[ -~]+$' AND length(wacid) <= 256),
    cta_payload     text CHECK (length(cta_payload) BETWEEN 1 AND 512)
);

-- One more call starts on a trunk now. False: this second has its p_cps already.
CREATE FUNCTION trunk_start_v1(p_trunk_id uuid, p_cps integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trunk_pace AS p (trunk_id, second, starts)
    VALUES (p_trunk_id, floor(extract(epoch FROM clock_timestamp()))::bigint, 1)
    ON CONFLICT (trunk_id) DO UPDATE                                   -- waiting for the row may have taken till the next second
       SET second = greatest(p.second, excluded.second), starts = CASE WHEN p.second < excluded.second THEN 1 ELSE p.starts + 1 END
     WHERE p.second < excluded.second OR p.starts < p_cps;
    RETURN FOUND;
END $$;

-- call_admit_v3 for a trunk with a limit of calls a second, and another status: trunk_paced, and nothing was written.
-- The trunk's row is locked last and for the shortest time; other trunks do not come here.
CREATE FUNCTION call_admit_paced_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    p_call_id uuid, p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_after_call_id uuid,
    p_trunk_cps integer,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.status, a.call_id, a.available_micro INTO status, call_id, available_micro
      FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_subscriber_id, p_account_id, p_a_number, p_dialled,
                         p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, p_hold_micro, p_currency, p_limit_ms, p_lease_s,
                         p_allowance_ids, p_units, p_pers, p_at, p_call_id, p_direction, p_callee_id, p_trunk_in_id, p_leg_class,
                         p_anonymous, p_after_call_id) a;
    IF status = 'ok' AND NOT trunk_start_v1(p_trunk_id, p_trunk_cps) THEN
        RAISE EXCEPTION 'paced' USING ERRCODE = 'BR900';
    END IF;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    status := 'trunk_paced';
    call_id := NULL;
END $$;

-- call_attempt_ended_v1 where the next trunk has a limit of calls a second: then 'full' is said of that, too.
CREATE FUNCTION call_attempt_ended_paced_v1(
    p_call_id uuid, p_attempt_no smallint, p_trunk_id uuid, p_outcome text, p_fault text, p_sip_code integer,
    p_q850_cause integer, p_pdd_ms integer, p_currency text, p_buy jsonb,
    p_next_attempt_no smallint, p_next_trunk_id uuid, p_next_cap integer, p_lease_s integer, p_next_cps integer
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    said := call_attempt_ended_v1(p_call_id, p_attempt_no, p_trunk_id, p_outcome, p_fault, p_sip_code, p_q850_cause, p_pdd_ms,
                                  p_currency, p_buy, p_next_attempt_no, p_next_trunk_id, p_next_cap, p_lease_s);
    IF said = 'ok' AND NOT trunk_start_v1(p_next_trunk_id, p_next_cps) THEN
        RAISE EXCEPTION 'paced' USING ERRCODE = 'BR900';
    END IF;
    RETURN said;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    RETURN 'full';
END $$;

-- A trunk was seen up or down, or nobody looks any more (unknown). Returns whether that is new.
-- Its partner is told of the fall and of the return; that a trunk which nobody had seen is up is no news.
CREATE FUNCTION trunk_seen_v1(p_trunk_id uuid, p_health text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    t trunk;
    before text;
    now_is trunk_state;
BEGIN
    SELECT * INTO t FROM trunk x WHERE x.trunk_id = p_trunk_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO trunk_state (trunk_id) VALUES (p_trunk_id) ON CONFLICT DO NOTHING;
    SELECT s.health INTO before FROM trunk_state s WHERE s.trunk_id = p_trunk_id FOR NO KEY UPDATE;
    IF before = p_health THEN
        RETURN false;
    END IF;
    UPDATE trunk_state s SET health = p_health, health_at = clock_timestamp(), changes = s.changes + 1
     WHERE s.trunk_id = p_trunk_id RETURNING s.* INTO now_is;
    IF p_health = 'down' OR (p_health = 'up' AND before = 'down') THEN
        PERFORM event_add_v1(t.partner_id, 'trunk.' || p_health, t.trunk_id, now_is.changes, jsonb_build_object(
            'trunk_id', 'trk_' || replace(t.trunk_id::text, '-', ''), 'name', t.name, 'health', p_health,
            'since', to_char(now_is.health_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')));
    END IF;
    PERFORM pg_notify('callbridge_config', 'trunk_state');             -- routing goes by it
    RETURN true;
END $$;

-- How a trunk does: calls on it now, and how the calls of the last hour went, as far back as the newest 100 000 attempts reach.
-- As a partner: of its own trunks only; of others there is no row.
CREATE FUNCTION trunk_quality_v1(p_trunk_id uuid) RETURNS TABLE (
    live_calls bigint, starts_now integer, attempts bigint, answered bigint, effective bigint,
    pdd_ms_median integer, pdd_ms_p95 integer, since timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH newest AS MATERIALIZED (
        SELECT x.call_id, x.trunk_id, x.outcome, x.fault, x.pdd_ms FROM attempt x
         WHERE x.call_id >= uuid_floor_v1(now() - interval '1 hour') ORDER BY x.call_id DESC LIMIT 100000
    ), q AS (
        SELECT count(*) AS attempts, count(*) FILTER (WHERE n.outcome = 'answered') AS answered,
               count(*) FILTER (WHERE n.outcome = 'answered' OR n.fault IN ('caller', 'callee')) AS effective,
               (percentile_disc(0.5) WITHIN GROUP (ORDER BY n.pdd_ms)) AS pdd_ms_median,
               (percentile_disc(0.95) WITHIN GROUP (ORDER BY n.pdd_ms)) AS pdd_ms_p95
          FROM newest n WHERE n.trunk_id = p_trunk_id
    )
    SELECT (SELECT count(*) FROM lease l WHERE l.trunk_id = t.trunk_id AND l.expires_at > now()),
           coalesce((SELECT p.starts FROM trunk_pace p
                      WHERE p.trunk_id = t.trunk_id AND p.second >= floor(extract(epoch FROM clock_timestamp()))::bigint), 0),
           q.attempts, q.answered, q.effective, q.pdd_ms_median, q.pdd_ms_p95,
           CASE WHEN (SELECT count(*) FROM newest) < 100000 THEN now() - interval '1 hour'
                ELSE (SELECT uuid_extract_timestamp(n.call_id) FROM newest n ORDER BY n.call_id LIMIT 1) END
      FROM trunk t CROSS JOIN q
     WHERE t.trunk_id = p_trunk_id AND (partner_asking_v1() IS NULL OR t.partner_id = partner_asking_v1())
$$;

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

-- ---------------------------------------------------------------- orders to the switch

-- What the switch's keeper is to do. Only it has the manager connection; whoever wants something writes a row. It is `sent`
-- before the word goes out, and an originate is never sent twice: a call that may have been begun must not be begun again.
CREATE TABLE switch_order (
    order_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    switch_id       uuid NOT NULL REFERENCES switch,
    kind            text NOT NULL CHECK (kind IN ('originate', 'hangup')),
    subject_id      uuid NOT NULL,                                     -- an origination, or, for hangup, a call
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'done', 'failed')),
    problem         text,                                              -- why it failed
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at         timestamptz,
    done_at         timestamptz
);
CREATE INDEX switch_order_queued ON switch_order (switch_id, order_id) WHERE state = 'queued';
CREATE INDEX switch_order_subject ON switch_order (subject_id);

-- A call by order. Each leg is a call of its own, with its own hold and charge, made by A's subscriber.
CREATE TABLE origination (
    origination_id  uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,                           -- NULL: ours
    switch_id       uuid NOT NULL REFERENCES switch,
    subscriber_id   uuid NOT NULL REFERENCES subscriber,               -- A
    a_number        e164 NOT NULL,
    b_number        e164 NOT NULL,
    state           text NOT NULL DEFAULT 'initiating'
                    CHECK (state IN ('initiating', 'calling_a', 'calling_b', 'connected', 'ended', 'failed')),
    reason          text CHECK (reason IN ('hang_up', 'cancelled', 'not_placed', 'a_refused', 'a_busy', 'a_no_answer', 'a_failure',
                                           'a_abandoned', 'b_refused', 'b_busy', 'b_no_answer', 'b_failure')),
    refuse_reason   text,                                              -- of the leg that was refused
    cancelled       boolean NOT NULL DEFAULT false,                    -- no leg may begin any more
    leg_a_at        timestamptz,                                       -- when the leg was begun, which it is once
    leg_b_at        timestamptz,
    leg_a_call_id   uuid,
    leg_b_call_id   uuid,
    connected_at    timestamptz,
    talk_ms         bigint,                                            -- of both
    seq             integer NOT NULL DEFAULT 1,                        -- counts the changes of its state
    sink_url        text,                                              -- where its events go, beside the partner's webhooks; see sink
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    CHECK ((state IN ('ended', 'failed')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX origination_partner ON origination (partner_id, origination_id NULLS FIRST);
CREATE UNIQUE INDEX origination_open ON origination (subscriber_id, b_number) WHERE ended_at IS NULL;
CREATE INDEX origination_followed ON origination (switch_id) WHERE ended_at IS NULL;

-- Its state as CAMARA's ClickToDial has it: state, and why it ended, which is told of `disconnected` only.
CREATE FUNCTION click_to_dial_v1(p_state text, p_reason text, OUT state text, OUT reason text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_state = 'initiating' THEN 'initiating'
                WHEN p_state = 'calling_a' THEN 'callingCaller'
                WHEN p_state = 'calling_b' THEN 'callingCallee'
                WHEN p_state = 'connected' THEN 'connected'
                WHEN p_reason IN ('not_placed', 'a_refused', 'b_refused') THEN 'failed'
                ELSE 'disconnected' END,
           CASE p_reason WHEN 'hang_up' THEN 'hangUp' WHEN 'cancelled' THEN 'hangUp' WHEN 'a_busy' THEN 'callerBusy'
                         WHEN 'a_no_answer' THEN 'callerNoAnswer' WHEN 'a_failure' THEN 'callerFailure'
                         WHEN 'a_abandoned' THEN 'callerAbandon' WHEN 'b_busy' THEN 'calleeBusy'
                         WHEN 'b_no_answer' THEN 'calleeNoAnswer' WHEN 'b_failure' THEN 'calleeFailure' END
$$;

-- Tell how far it is: to whoever listens to its partner, and to its sink even if nobody else does.
CREATE FUNCTION origination_tell_v1(o origination) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c record := click_to_dial_v1(o.state, o.reason);
    now_at text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
    told jsonb := jsonb_build_object(
        'origination_id', 'org_' || translate(o.origination_id::text, '-', ''),
        'subscriber_id', 'sub_' || translate(o.subscriber_id::text, '-', ''),
        'a_number', o.a_number, 'b_number', o.b_number, 'state', o.state, 'reason', o.reason, 'refuse_reason', o.refuse_reason,
        'a_call_id', 'call_' || translate(o.leg_a_call_id::text, '-', ''),
        'b_call_id', 'call_' || translate(o.leg_b_call_id::text, '-', ''), 'talk_ms', o.talk_ms);
BEGIN
    IF o.sink_url IS NOT NULL THEN                                     -- the data of the CloudEvent for it
        told := told || jsonb_build_object('click_to_dial', jsonb_strip_nulls(jsonb_build_object(
            'callId', 'org_' || translate(o.origination_id::text, '-', ''), 'caller', o.a_number, 'callee', o.b_number,
            'status', jsonb_build_object('state', c.state, 'reason', c.reason),
            'callDuration', CASE c.state WHEN 'disconnected' THEN round(coalesce(o.talk_ms, 0) / 1000.0)::text END,
            'timestamp', now_at)));
    END IF;
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, 'origination.changed', o.origination_id, o.seq, told
      FROM partner p WHERE p.partner_id = o.partner_id AND (p.keeps_events OR o.sink_url IS NOT NULL);
END $$;

CREATE FUNCTION switch_order_add_v1(p_switch_id uuid, p_kind text, p_subject_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO switch_order (switch_id, kind, subject_id) VALUES (p_switch_id, p_kind, p_subject_id);
    PERFORM pg_notify('callbridge_order', p_switch_id::text);
END $$;

-- said: ok · no_switch · full: the partner has as many in flight as it may · open: A is being connected with B already
CREATE FUNCTION origination_add_v1(
    p_switch text, p_subscriber_id uuid, p_b_number text, p_sink_url text, p_sink_token text, p_sink_until timestamptz,
    p_open_max integer, OUT said text, OUT origination_id uuid
) LANGUAGE plpgsql AS $$
DECLARE
    sub subscriber;
    made origination;
    home_id uuid := (SELECT s.switch_id FROM switch s WHERE s.name = p_switch);
BEGIN
    IF home_id IS NULL THEN
        said := 'no_switch';
        RETURN;
    END IF;
    SELECT * INTO STRICT sub FROM subscriber s WHERE s.subscriber_id = p_subscriber_id;
    PERFORM pg_advisory_xact_lock(hashtextextended('origination ' || coalesce(sub.partner_id::text, ''), 0));
    IF EXISTS (SELECT FROM origination o WHERE o.subscriber_id = p_subscriber_id AND o.b_number = p_b_number AND o.ended_at IS NULL) THEN
        said := 'open';
    ELSIF (SELECT count(*) FROM origination o WHERE o.partner_id IS NOT DISTINCT FROM sub.partner_id AND o.ended_at IS NULL) >= p_open_max THEN
        said := 'full';
    ELSE
        INSERT INTO origination (partner_id, switch_id, subscriber_id, a_number, b_number, sink_url)
        VALUES (sub.partner_id, home_id, p_subscriber_id, sub.a_number, p_b_number, p_sink_url)
        RETURNING * INTO made;
        IF p_sink_url IS NOT NULL AND sub.partner_id IS NOT NULL THEN
            PERFORM sink_add_v1(sub.partner_id, made.origination_id, p_sink_url, p_sink_token,
                                coalesce(p_sink_until, clock_timestamp() + interval '1 day'));  -- longer than any call
        END IF;
        PERFORM switch_order_add_v1(home_id, 'originate', made.origination_id);
        PERFORM origination_tell_v1(made);
        said := 'ok';
        origination_id := made.origination_id;
    END IF;
END $$;

-- The end of an origination, told once.
CREATE FUNCTION origination_end_v1(p_origination_id uuid, p_state text, p_reason text, p_refuse_reason text, p_talk_ms bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    UPDATE origination g SET state = p_state, reason = p_reason, refuse_reason = p_refuse_reason, talk_ms = p_talk_ms, seq = g.seq + 1,
           ended_at = clock_timestamp()
     WHERE g.origination_id = p_origination_id AND g.ended_at IS NULL RETURNING * INTO o;
    IF FOUND THEN
        PERFORM origination_tell_v1(o);
    END IF;
END $$;

-- Orders that are to be carried out now, each given to one keeper only. A call that waited longer than p_wait_s is not made any more.
-- channel: what to hang up.
CREATE FUNCTION switch_orders_take_v1(p_switch_id uuid, p_wait_s integer)
RETURNS TABLE (order_id uuid, kind text, subject_id uuid, channel text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    late uuid;
BEGIN
    FOR late IN
        WITH overdue AS (
            SELECT o.order_id FROM switch_order o
             WHERE o.switch_id = p_switch_id AND o.state = 'queued' AND o.kind = 'originate'
               AND o.made_at < clock_timestamp() - make_interval(secs => p_wait_s)
             ORDER BY o.order_id FOR UPDATE SKIP LOCKED
        )
        UPDATE switch_order o SET state = 'failed', problem = 'it waited too long', done_at = clock_timestamp()
          FROM overdue WHERE o.order_id = overdue.order_id RETURNING o.subject_id
    LOOP
        PERFORM origination_end_v1(late, 'failed', 'not_placed', NULL, NULL);
    END LOOP;
    RETURN QUERY
        WITH mine AS (
            SELECT o.order_id FROM switch_order o WHERE o.switch_id = p_switch_id AND o.state = 'queued'
             ORDER BY o.order_id LIMIT 100 FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE switch_order o SET state = 'sent', sent_at = clock_timestamp() FROM mine WHERE o.order_id = mine.order_id RETURNING o.*
        )
        SELECT t.order_id, t.kind, t.subject_id,
               CASE WHEN g.origination_id IS NOT NULL THEN 'org_' || translate(g.origination_id::text, '-', '') ELSE l.channel END
          FROM taken t LEFT JOIN origination g ON g.origination_id = t.subject_id LEFT JOIN lease l ON l.call_id = t.subject_id
         ORDER BY t.order_id;
END $$;

-- What became of an order that was sent. failed: the switch said no, and nothing was begun.
CREATE FUNCTION switch_order_done_v1(p_order_id uuid, p_problem text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o switch_order;
BEGIN
    UPDATE switch_order s SET state = CASE WHEN p_problem IS NULL THEN 'done' ELSE 'failed' END, problem = p_problem,
           done_at = clock_timestamp()
     WHERE s.order_id = p_order_id AND s.state = 'sent' RETURNING * INTO o;
    IF FOUND AND p_problem IS NOT NULL AND o.kind = 'originate' THEN
        PERFORM origination_end_v1(g.origination_id, 'failed', 'not_placed', NULL, NULL) FROM origination g
          WHERE g.origination_id = o.subject_id AND g.leg_a_at IS NULL;
    END IF;
END $$;

-- The link was lost: before an order was said, or (p_said) perhaps after. To hang up again does no harm; to call again would.
CREATE FUNCTION switch_order_again_v1(p_order_id uuid, p_said boolean) RETURNS void LANGUAGE sql AS $$
    UPDATE switch_order s SET state = 'queued', sent_at = NULL
     WHERE s.order_id = p_order_id AND s.state = 'sent' AND (s.kind = 'hangup' OR NOT p_said)
$$;

-- Somebody hangs up already, or has just now.
CREATE FUNCTION switch_hangs_up_v1(p_subject_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM switch_order s
                    WHERE s.subject_id = p_subject_id AND s.kind = 'hangup'
                      AND (s.state = 'queued' OR s.sent_at > clock_timestamp() - interval '5 s'))
$$;

-- Begin a leg: the first who asks for it gets the parties' numbers, everybody after it nothing (begun = false).
CREATE FUNCTION origination_leg_v1(
    p_origination_id uuid, p_switch_id uuid, p_leg text,
    OUT begun boolean, OUT app text, OUT a_number text, OUT b_number text
) LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    SELECT * INTO o FROM origination g WHERE g.origination_id = p_origination_id AND g.switch_id = p_switch_id FOR NO KEY UPDATE;
    begun := o.ended_at IS NULL AND NOT o.cancelled AND CASE p_leg
                 WHEN 'a' THEN o.state = 'initiating'
                 WHEN 'b' THEN o.state = 'calling_a' AND o.leg_a_call_id IS NOT NULL END IS TRUE;
    begun := coalesce(begun, false);
    IF begun THEN
        UPDATE origination g
           SET state = CASE p_leg WHEN 'a' THEN 'calling_a' ELSE 'calling_b' END, seq = g.seq + 1,
               leg_a_at = CASE p_leg WHEN 'a' THEN clock_timestamp() ELSE g.leg_a_at END,
               leg_b_at = CASE p_leg WHEN 'b' THEN clock_timestamp() END
         WHERE g.origination_id = p_origination_id RETURNING * INTO o;
        PERFORM origination_tell_v1(o);
        SELECT a.name INTO app FROM subscriber s JOIN app a USING (app_id) WHERE s.subscriber_id = o.subscriber_id;
        a_number := o.a_number;
        b_number := o.b_number;
    ELSIF o.cancelled AND o.state = 'initiating' THEN
        PERFORM origination_end_v1(p_origination_id, 'failed', 'cancelled', NULL, NULL);
    END IF;
END $$;

-- Hang up an origination: no leg begins any more, and what there is of it ends.
CREATE FUNCTION origination_cancel_v1(p_origination_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    UPDATE origination g SET cancelled = true WHERE g.origination_id = p_origination_id AND g.ended_at IS NULL RETURNING * INTO o;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE switch_order s SET state = 'failed', problem = 'it was taken back', done_at = clock_timestamp()
     WHERE s.subject_id = p_origination_id AND s.kind = 'originate' AND s.state = 'queued';
    IF FOUND THEN
        PERFORM origination_end_v1(p_origination_id, 'failed', 'cancelled', NULL, NULL);
    ELSIF NOT switch_hangs_up_v1(p_origination_id) THEN
        PERFORM switch_order_add_v1(o.switch_id, 'hangup', p_origination_id);
    END IF;
END $$;

-- Hang up a call that is live; one order is enough.
CREATE FUNCTION call_hangup_v1(p_call_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    home_id uuid;
BEGIN
    SELECT l.switch_id INTO home_id FROM lease l WHERE l.call_id = p_call_id FOR NO KEY UPDATE;
    IF FOUND AND NOT switch_hangs_up_v1(p_call_id) THEN
        PERFORM switch_order_add_v1(home_id, 'hangup', p_call_id);
    END IF;
END $$;

-- How a leg of an origination ended: as its last attempt did. Where phones rang there was none, and what they said is the cause.
CREATE FUNCTION leg_outcome_v1(c call) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.direction <> 'on_net' THEN
                    (SELECT x.outcome FROM attempt x WHERE x.call_id = c.call_id ORDER BY x.attempt_no DESC LIMIT 1)
                WHEN c.q850_cause = 17 THEN 'busy'
                WHEN c.q850_cause = 21 THEN 'rejected'
                WHEN c.q850_cause = 19 THEN 'no_answer'
                WHEN c.q850_cause = 20 THEN 'away'                     -- no phone was there, and none came
                WHEN c.q850_cause = 16 THEN 'gave_up' END              -- nobody said no
$$;

-- Bring the originations of a switch that are not over to the state their legs are in. p_lost_s: so long a leg may take from its order
-- to its call; after that it was never placed, and may not be any more. Returns how many are still not over.
CREATE FUNCTION originations_follow_v1(p_switch_id uuid, p_lost_s integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    o origination;
    a record;
    b record;
    lost CONSTANT timestamptz := clock_timestamp() - make_interval(secs => p_lost_s);
    why text;
BEGIN
    FOR o IN                                                           -- only those that something has happened to
        SELECT g.* FROM origination g LEFT JOIN call x ON x.call_id = g.leg_a_call_id LEFT JOIN call y ON y.call_id = g.leg_b_call_id
          LEFT JOIN lease l ON l.call_id = g.leg_b_call_id
         WHERE g.switch_id = p_switch_id AND g.ended_at IS NULL
           AND (g.leg_a_call_id IS NULL AND coalesce(g.leg_a_at, g.made_at) < lost
                OR g.connected_at IS NULL AND coalesce(y.answered_at, l.answered_at) IS NOT NULL
                OR x.state <> 'live' AND y.state IS DISTINCT FROM 'live')
         ORDER BY g.origination_id FOR NO KEY UPDATE OF g SKIP LOCKED
    LOOP
        IF o.leg_a_call_id IS NULL THEN
            why := CASE WHEN o.cancelled THEN 'cancelled' WHEN o.leg_a_at IS NULL THEN 'not_placed' ELSE 'a_failure' END;
            PERFORM origination_end_v1(o.origination_id, 'failed', why, NULL, NULL);
            CONTINUE;
        END IF;
        SELECT c.state, leg_outcome_v1(c) AS outcome
          INTO a FROM call c WHERE c.call_id = o.leg_a_call_id;
        SELECT c.state, c.talk_ms, coalesce(c.answered_at, l.answered_at) AS answered_at,
               leg_outcome_v1(c) AS outcome
          INTO b FROM call c LEFT JOIN lease l USING (call_id) WHERE c.call_id = o.leg_b_call_id;
        IF b.answered_at IS NOT NULL AND o.connected_at IS NULL THEN
            UPDATE origination g SET state = 'connected', connected_at = b.answered_at, seq = g.seq + 1
             WHERE g.origination_id = o.origination_id RETURNING * INTO o;
            PERFORM origination_tell_v1(o);
        END IF;
        IF a.state <> 'live' AND b.state IS DISTINCT FROM 'live' THEN
            why := CASE
                WHEN o.reason IS NOT NULL THEN o.reason                -- B was refused
                WHEN o.cancelled THEN 'cancelled'
                WHEN o.connected_at IS NOT NULL THEN 'hang_up'
                WHEN a.state <> 'answered' THEN CASE WHEN a.outcome IN ('busy', 'rejected') THEN 'a_busy'
                                                     WHEN a.outcome IN ('no_answer', 'away') THEN 'a_no_answer' ELSE 'a_failure' END
                WHEN b.outcome IN ('busy', 'rejected') THEN 'b_busy'
                WHEN b.outcome IN ('no_answer', 'away') THEN 'b_no_answer'
                WHEN b.outcome = 'gave_up' OR o.leg_b_call_id IS NULL THEN 'a_abandoned'
                ELSE 'b_failure' END;
            PERFORM origination_end_v1(o.origination_id, CASE WHEN o.connected_at IS NULL THEN 'failed' ELSE 'ended' END, why,
                                       o.refuse_reason, b.talk_ms);
        END IF;
    END LOOP;
    RETURN (SELECT count(*) FROM origination g WHERE g.switch_id = p_switch_id AND g.ended_at IS NULL);
END $$;

-- ---------------------------------------------------------------- rollout: who may call yet, and how it spreads

-- The rollout of an app. All that happens to it happens under the lock of its row, and is an event with the next last_seq:
-- so its events tell in which order, without gaps. closed: no window was open yet. launched and killed are for ever.
CREATE TABLE rollout (
    rollout_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,                           -- who steers it; NULL: we
    app_id          uuid NOT NULL REFERENCES app,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    state           text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'running', 'launched', 'killed')),
    invite_limit    integer CHECK (invite_limit BETWEEN 0 AND 1000000),  -- whom one may bring in; NULL: as many as one likes
    depth_max       integer CHECK (depth_max BETWEEN 1 AND 1000000),   -- length of a chain; NULL: any
    call_activates  boolean NOT NULL DEFAULT true,
    invite_s        integer NOT NULL DEFAULT 86400 CHECK (invite_s BETWEEN 60 AND 31536000),  -- so long an invitation is good
    settling        boolean NOT NULL DEFAULT false,                    -- keyed members may have become possible to activate
    last_seq        integer NOT NULL DEFAULT 0,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX rollout_of_app ON rollout (app_id) WHERE state <> 'killed';
CREATE INDEX rollout_app ON rollout (app_id, rollout_id);
CREATE INDEX rollout_partner ON rollout (partner_id, rollout_id NULLS FIRST);
CREATE INDEX rollout_settling ON rollout (rollout_id) WHERE settling;

-- While one is open, people can be activated.
CREATE TABLE rollout_window (
    window_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    partner_id      uuid REFERENCES partner,                           -- the rollout's
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    state           text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'open', 'paused', 'closed')),
    cause           text NOT NULL DEFAULT 'operator',                  -- of its state
    opens_at        timestamptz,                                       -- NULL: by hand
    closes_at       timestamptz,
    quota           integer CHECK (quota > 0),                         -- NULL: none
    activated       integer NOT NULL DEFAULT 0,                        -- in it
    thresholds      jsonb CHECK (jsonb_typeof(thresholds) = 'object'), -- of a capacity trial; NULL: none
    trial_s         integer CHECK (trial_s BETWEEN 1 AND 604800),
    next_window_id  uuid REFERENCES rollout_window,                    -- opened by a trial that was passed
    opened_at       timestamptz,                                       -- first
    closed_at       timestamptz,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT window_closes_after_it_opens CHECK (closes_at > opens_at),
    CONSTRAINT window_quota_holds CHECK (activated BETWEEN 0 AND coalesce(quota, activated)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    CHECK (next_window_id <> window_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX rollout_window_open ON rollout_window (rollout_id) WHERE state = 'open';
CREATE INDEX rollout_window_of ON rollout_window (rollout_id, window_id);
CREATE INDEX rollout_window_alive ON rollout_window (rollout_id) WHERE state <> 'closed';

-- Who is served: NULL is any. Where a rollout has waves, a member needs one that fits, and each that fits must have room.
-- server_key false: withheld. Who is brought in meanwhile has only the key in the client: keyed.
CREATE TABLE rollout_wave (
    wave_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    partner_id      uuid REFERENCES partner,                           -- the rollout's
    country         text CHECK (country ~ '^[A-Z]{2}$'),
    platform        text CHECK (platform ~ '^[a-z][a-z0-9_]{0,30}$'),
    of_partner_id   uuid REFERENCES partner,                           -- whose subscribers
    quota           integer CHECK (quota > 0),
    activated       integer NOT NULL DEFAULT 0,
    server_key      boolean NOT NULL DEFAULT true,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (rollout_id, country, platform, of_partner_id),
    CONSTRAINT wave_quota_holds CHECK (activated BETWEEN 0 AND coalesce(quota, activated))
) WITH (fillfactor = 50);
CREATE INDEX rollout_wave_of ON rollout_wave (rollout_id, wave_id);

-- A subscriber in a rollout. place: on the waiting list, and afterwards where it was.
CREATE TABLE rollout_member (
    rollout_id      uuid NOT NULL REFERENCES rollout,
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid REFERENCES partner,                           -- the subscriber's
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'keyed', 'activated', 'removed')),
    country         text CHECK (country ~ '^[A-Z]{2}$'),               -- of the number; NULL: of none
    platform        text CHECK (platform ~ '^[a-z][a-z0-9_]{0,30}$'),  -- NULL: not told
    place           integer NOT NULL,                                  -- seq of the event that put it there
    inviter_id      uuid REFERENCES subscriber,                        -- NULL: brought in by hand
    depth           integer NOT NULL DEFAULT 0,                        -- length of the chain that led here
    call_id         uuid,                                              -- that brought it in
    invite_id       uuid,
    window_id       uuid REFERENCES rollout_window,                    -- it was activated in
    waiting_at      timestamptz NOT NULL,
    keyed_at        timestamptz,
    keyed_no        integer,                                           -- seq of the event: in this order they are activated
    activated_at    timestamptz,
    PRIMARY KEY (rollout_id, subscriber_id),
    CHECK (state <> 'activated' OR activated_at IS NOT NULL),
    CHECK (state <> 'keyed' OR keyed_no IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX rollout_member_partner ON rollout_member (partner_id, rollout_id, subscriber_id NULLS FIRST);
CREATE INDEX rollout_member_state ON rollout_member (rollout_id, state, subscriber_id);
CREATE INDEX rollout_member_partner_state ON rollout_member (partner_id, rollout_id, state, subscriber_id NULLS FIRST);
CREATE INDEX rollout_member_waiting ON rollout_member (rollout_id, place) WHERE state = 'waiting';
CREATE INDEX rollout_member_keyed ON rollout_member (rollout_id, keyed_no) WHERE state = 'keyed';
CREATE INDEX rollout_member_inviter ON rollout_member (rollout_id, inviter_id, subscriber_id);
CREATE INDEX rollout_member_roots ON rollout_member (rollout_id, subscriber_id) WHERE depth <= 1 AND state <> 'waiting';
CREATE INDEX rollout_member_of ON rollout_member (subscriber_id);

-- Good once, for one number, in the window it was made in. Of the code only the SHA-256 is kept.
CREATE TABLE rollout_invite (
    invite_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    window_id       uuid NOT NULL REFERENCES rollout_window,
    partner_id      uuid REFERENCES partner,                           -- the inviter's
    inviter_id      uuid NOT NULL REFERENCES subscriber,
    number          e164 NOT NULL,
    hash            bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    made_at         timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ended_at        timestamptz,                                       -- used, or replaced by a newer one
    used_by         uuid REFERENCES subscriber,
    CHECK (used_by IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX rollout_invite_of ON rollout_invite (rollout_id, invite_id);
CREATE INDEX rollout_invite_partner ON rollout_invite (partner_id, rollout_id, invite_id NULLS FIRST);
CREATE INDEX rollout_invite_inviter ON rollout_invite (rollout_id, inviter_id, number) WHERE ended_at IS NULL;

-- Every transition there was, in order. From these alone states and counters can be worked out again.
CREATE TABLE rollout_event (
    rollout_event_id uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    seq             integer NOT NULL,
    partner_id      uuid,                                              -- the rollout's; of a member: the subscriber's
    kind            text NOT NULL CHECK (kind ~ '^[a-z]+\.[a-z_]+$'),
    cause           text NOT NULL CHECK (cause IN ('operator', 'time', 'quota', 'trial', 'launch', 'kill', 'call', 'invite', 'key',
                                                   'sign_up', 'closed')),
    actor           text NOT NULL,
    window_id       uuid,
    wave_ids        uuid[] NOT NULL DEFAULT '{}',
    subscriber_id   uuid,
    inviter_id      uuid,
    call_id         uuid,
    invite_id       uuid,
    data            jsonb NOT NULL DEFAULT '{}',
    at              timestamptz NOT NULL,
    UNIQUE (rollout_id, seq)
);
CREATE INDEX rollout_event_of ON rollout_event (rollout_id, rollout_event_id);
CREATE INDEX rollout_event_partner ON rollout_event (partner_id, rollout_id, rollout_event_id NULLS FIRST);
CREATE TRIGGER rollout_event_insert_only BEFORE UPDATE OR DELETE ON rollout_event
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER rollout_event_no_truncate BEFORE TRUNCATE ON rollout_event
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- The next event of a rollout. The update locks the rollout until the end of the transaction.
CREATE FUNCTION rollout_note_v1(
    p_rollout_id uuid, p_kind text, p_cause text, p_actor text, p_at timestamptz, p_partner_id uuid,
    p_window_id uuid DEFAULT NULL, p_subscriber_id uuid DEFAULT NULL, p_inviter_id uuid DEFAULT NULL, p_call_id uuid DEFAULT NULL,
    p_invite_id uuid DEFAULT NULL, p_wave_ids uuid[] DEFAULT '{}', p_data jsonb DEFAULT '{}'
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    no integer;
BEGIN
    UPDATE rollout r SET last_seq = r.last_seq + 1 WHERE r.rollout_id = p_rollout_id RETURNING r.last_seq INTO STRICT no;
    INSERT INTO rollout_event (rollout_id, seq, partner_id, kind, cause, actor, window_id, wave_ids, subscriber_id, inviter_id, call_id,
                               invite_id, data, at)
    VALUES (p_rollout_id, no, p_partner_id, p_kind, p_cause, p_actor, p_window_id, p_wave_ids, p_subscriber_id, p_inviter_id, p_call_id,
            p_invite_id, p_data, p_at);
    RETURN no;
END $$;

-- The rollout that a subscriber of an app is in: the one that is not killed, else the last that was.
CREATE FUNCTION rollout_of_v1(p_app_id uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT r.rollout_id FROM rollout r WHERE r.app_id = p_app_id ORDER BY r.state = 'killed', r.rollout_id DESC LIMIT 1
$$;

-- Whether a window may go from one state to another.
CREATE FUNCTION rollout_window_may_v1(p_from text, p_to text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (p_from, p_to) IN (('planned', 'open'), ('planned', 'closed'), ('open', 'paused'), ('open', 'closed'),
                              ('paused', 'open'), ('paused', 'closed'))
$$;

-- The waves that a member is in. said: ok · keyed: a server key is withheld · wave: none fits, or one that fits is full
CREATE FUNCTION rollout_waves_v1(p_rollout_id uuid, p_country text, p_platform text, p_partner_id uuid, OUT said text, OUT wave_ids uuid[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    waves bigint;
    has_room boolean;
    has_key boolean;
BEGIN
    SELECT count(*), coalesce(array_agg(v.wave_id ORDER BY v.wave_id) FILTER (WHERE v.fits), '{}'),
           bool_and(v.quota IS NULL OR v.activated < v.quota) FILTER (WHERE v.fits), bool_and(v.server_key) FILTER (WHERE v.fits)
      INTO waves, wave_ids, has_room, has_key
      FROM (SELECT x.*, coalesce(x.country = p_country, x.country IS NULL) AND coalesce(x.platform = p_platform, x.platform IS NULL)
                        AND coalesce(x.of_partner_id = p_partner_id, x.of_partner_id IS NULL) AS fits
              FROM rollout_wave x WHERE x.rollout_id = p_rollout_id) v;
    said := CASE WHEN waves = 0 THEN 'ok' WHEN has_room IS NOT TRUE THEN 'wave' WHEN NOT has_key THEN 'keyed' ELSE 'ok' END;
END $$;

-- Somebody may call from now on. Under the lock of the rollout, which is left to the caller as all that is to be asked before.
-- p_window_id NULL: by hand, outside of windows and waves.
CREATE FUNCTION rollout_activate_v1(
    p_rollout_id uuid, p_subscriber_id uuid, p_window_id uuid, p_wave_ids uuid[], p_inviter_id uuid, p_depth integer, p_cause text,
    p_actor text, p_call_id uuid, p_invite_id uuid, p_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
    inviter_partner uuid;
    no integer;
    filled boolean;
BEGIN
    UPDATE rollout_member x
       SET state = 'activated', inviter_id = p_inviter_id, depth = p_depth, call_id = p_call_id, invite_id = p_invite_id,
           window_id = p_window_id, activated_at = p_at
     WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id RETURNING * INTO STRICT m;
    INSERT INTO rollout_allow (subscriber_id, allowed_at) VALUES (p_subscriber_id, p_at) ON CONFLICT DO NOTHING;
    UPDATE rollout_wave v SET activated = v.activated + 1 WHERE v.wave_id = ANY (p_wave_ids);
    UPDATE rollout_window w SET activated = w.activated + 1 WHERE w.window_id = p_window_id
    RETURNING w.activated >= w.quota INTO filled;
    no := rollout_note_v1(p_rollout_id, 'member.activated', p_cause, p_actor, p_at, m.partner_id, p_window_id, p_subscriber_id,
                          p_inviter_id, p_call_id, p_invite_id, p_wave_ids, jsonb_build_object('depth', p_depth));
    SELECT s.partner_id INTO inviter_partner FROM subscriber s WHERE s.subscriber_id = p_inviter_id;
    PERFORM event_add_v1(m.partner_id, 'member.activated', p_subscriber_id, no, jsonb_build_object(
        'subscriber_id', told_id_v1('sub', p_subscriber_id), 'rollout_id', told_id_v1('rol', p_rollout_id),
        'window_id', told_id_v1('win', p_window_id), 'call_id', told_id_v1('call', p_call_id),
        'inviter_id', CASE WHEN inviter_partner = m.partner_id THEN told_id_v1('sub', p_inviter_id) END,
        'cause', p_cause, 'at', told_at_v1(p_at)));
    IF filled THEN
        PERFORM rollout_window_set_v1(p_window_id, 'closed', 'quota', p_actor, p_at);
    END IF;
END $$;

-- Activate who is keyed and may be: in order, while a window is open, within quotas. Returns whether there may be more.
CREATE FUNCTION rollout_settle_v1(p_rollout_id uuid, p_rows integer, p_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    w rollout_window;
    m rollout_member;
    v record;
    seen integer := 0;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    IF NOT r.settling THEN
        RETURN false;
    END IF;
    FOR m IN
        SELECT x.* FROM rollout_member x JOIN subscriber s USING (subscriber_id)
         WHERE x.rollout_id = p_rollout_id AND x.state = 'keyed' AND s.state = 'active'
           AND (SELECT y.said FROM rollout_waves_v1(x.rollout_id, x.country, x.platform, x.partner_id) y) = 'ok'
         ORDER BY x.keyed_no LIMIT p_rows
    LOOP
        SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open' FOR NO KEY UPDATE;
        EXIT WHEN NOT FOUND;
        seen := seen + 1;
        SELECT * INTO v FROM rollout_waves_v1(p_rollout_id, m.country, m.platform, m.partner_id);
        CONTINUE WHEN v.said <> 'ok';                                  -- those before it have filled the wave
        PERFORM rollout_activate_v1(p_rollout_id, m.subscriber_id, w.window_id, v.wave_ids, m.inviter_id, m.depth, 'key', 'callbridge',
                                    m.call_id, m.invite_id, p_at);
    END LOOP;
    IF seen < p_rows THEN
        UPDATE rollout x SET settling = false WHERE x.rollout_id = p_rollout_id;
    END IF;
    RETURN seen = p_rows;
END $$;

-- Bring a window into a state. cause: operator, time, quota, trial, launch, kill. False: it is in that state, or cannot come into it:
-- a window opens only where none is open, its quota is not reached, and the rollout is neither launched nor killed.
CREATE FUNCTION rollout_window_set_v1(p_window_id uuid, p_state text, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    w rollout_window;
    no integer;
BEGIN
    SELECT x.* INTO r FROM rollout x JOIN rollout_window y USING (rollout_id) WHERE y.window_id = p_window_id FOR NO KEY UPDATE OF x;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.window_id = p_window_id FOR NO KEY UPDATE;
    IF NOT rollout_window_may_v1(w.state, p_state) THEN
        RETURN false;
    END IF;
    IF p_state = 'open' AND (r.state IN ('launched', 'killed') OR w.activated >= w.quota
            OR EXISTS (SELECT FROM rollout_window x WHERE x.rollout_id = r.rollout_id AND x.state = 'open')) THEN
        RETURN false;
    END IF;
    UPDATE rollout_window x
       SET state = p_state, cause = p_cause, edition = x.edition + 1,
           opened_at = CASE p_state WHEN 'open' THEN coalesce(x.opened_at, p_at) ELSE x.opened_at END,
           closed_at = CASE p_state WHEN 'closed' THEN p_at END
     WHERE x.window_id = p_window_id RETURNING * INTO w;
    IF p_state = 'open' AND r.state = 'closed' THEN
        PERFORM rollout_state_set_v1(r.rollout_id, 'running', p_cause, p_actor, p_at);
    END IF;
    no := rollout_note_v1(r.rollout_id, 'window.' || p_state, p_cause, p_actor, p_at, r.partner_id, p_window_id);
    PERFORM event_add_v1(r.partner_id, CASE p_state WHEN 'open' THEN 'window.opened' ELSE 'window.' || p_state END, p_window_id, no,
        jsonb_build_object('window_id', told_id_v1('win', p_window_id), 'rollout_id', told_id_v1('rol', r.rollout_id), 'name', w.name,
                           'state', p_state, 'cause', p_cause, 'activated', w.activated, 'quota', w.quota, 'at', told_at_v1(p_at)));
    IF p_state = 'open' THEN
        UPDATE rollout x SET settling = true WHERE x.rollout_id = r.rollout_id;
        PERFORM rollout_settle_v1(r.rollout_id, 200, p_at);            -- more: the keeper goes on
    END IF;
    RETURN true;
END $$;

-- Bring a rollout into a state: closed → running, → launched, → killed. The last two are the end of its windows, and final.
CREATE FUNCTION rollout_state_set_v1(p_rollout_id uuid, p_state text, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    each_id uuid;
    no integer;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    IF NOT FOUND OR (r.state, p_state) NOT IN (('closed', 'running'), ('closed', 'launched'), ('closed', 'killed'),
                                               ('running', 'launched'), ('running', 'killed')) THEN
        RETURN false;
    END IF;
    IF p_state <> 'running' THEN
        FOR each_id IN SELECT x.window_id FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state <> 'closed' ORDER BY 1 LOOP
            PERFORM rollout_window_set_v1(each_id, 'closed', p_cause, p_actor, p_at);
        END LOOP;
    END IF;
    UPDATE rollout x SET state = p_state, settling = false, edition = x.edition + 1 WHERE x.rollout_id = p_rollout_id;
    IF p_state = 'launched' THEN
        UPDATE app SET launched = true, edition = app.edition + 1 WHERE app.app_id = r.app_id;
    END IF;
    no := rollout_note_v1(p_rollout_id, 'rollout.' || p_state, p_cause, p_actor, p_at, r.partner_id);
    PERFORM event_add_v1(r.partner_id, 'rollout.changed', p_rollout_id, no, jsonb_build_object(
        'rollout_id', told_id_v1('rol', p_rollout_id), 'name', r.name, 'state', p_state, 'cause', p_cause, 'at', told_at_v1(p_at)));
    RETURN true;
END $$;

-- A subscriber who is proved: may call at once where there is no rollout or it is launched, else waits.
-- said: allowed · waiting · member: it was one before
CREATE FUNCTION rollout_enrol_v1(
    p_subscriber_id uuid, p_country text, p_platform text, p_cause text, p_actor text, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    s subscriber;
    r rollout;
    was text;
    no integer;
BEGIN
    SELECT * INTO STRICT s FROM subscriber x WHERE x.subscriber_id = p_subscriber_id;
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = rollout_of_v1(s.app_id) FOR NO KEY UPDATE;
    IF NOT FOUND OR r.state = 'launched' THEN
        INSERT INTO rollout_allow (subscriber_id, allowed_at) VALUES (p_subscriber_id, p_at) ON CONFLICT DO NOTHING;
        RETURN 'allowed';
    END IF;
    SELECT m.state INTO was FROM rollout_member m WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_subscriber_id;
    IF was IS NULL AND EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_subscriber_id) THEN
        RETURN 'allowed';
    END IF;
    IF was IN ('waiting', 'keyed', 'activated') THEN
        UPDATE rollout_member m SET platform = coalesce(p_platform, m.platform)
         WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_subscriber_id AND m.state = 'waiting';
        RETURN 'member';
    END IF;
    no := rollout_note_v1(r.rollout_id, 'member.waiting', p_cause, p_actor, p_at, s.partner_id, NULL, p_subscriber_id);
    INSERT INTO rollout_member AS m (rollout_id, subscriber_id, partner_id, country, platform, place, waiting_at)
    VALUES (r.rollout_id, p_subscriber_id, s.partner_id, p_country, p_platform, no, p_at)
    ON CONFLICT (rollout_id, subscriber_id) DO UPDATE                  -- who was removed comes again, and last
       SET state = 'waiting', place = excluded.place, platform = coalesce(excluded.platform, m.platform), waiting_at = excluded.waiting_at,
           inviter_id = NULL, depth = 0, call_id = NULL, invite_id = NULL, window_id = NULL, keyed_at = NULL, keyed_no = NULL,
           activated_at = NULL;
    PERFORM event_add_v1(s.partner_id, 'member.waiting', p_subscriber_id, no, jsonb_build_object(
        'subscriber_id', told_id_v1('sub', p_subscriber_id), 'rollout_id', told_id_v1('rol', r.rollout_id), 'at', told_at_v1(p_at)));
    RETURN 'waiting';
END $$;

-- Whom an inviter has brought in or may still: those with a key or more, and open invitations but those for p_but.
CREATE FUNCTION rollout_brought_v1(p_rollout_id uuid, p_inviter_id uuid, p_but text, p_at timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM rollout_member m
             WHERE m.rollout_id = p_rollout_id AND m.inviter_id = p_inviter_id AND m.state IN ('keyed', 'activated'))
         + (SELECT count(*) FROM rollout_invite i JOIN rollout_window w USING (window_id)
             WHERE i.rollout_id = p_rollout_id AND i.inviter_id = p_inviter_id AND i.ended_at IS NULL AND i.expires_at > p_at
               AND i.number <> p_but AND w.state IN ('open', 'paused'))
$$;

-- Whether one stands above another in the chain, so that bringing in the one by the other would close a ring.
CREATE FUNCTION rollout_above_v1(p_rollout_id uuid, p_above_id uuid, p_subscriber_id uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    step uuid := p_subscriber_id;
BEGIN
    IF p_above_id = p_subscriber_id THEN
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM rollout_member m WHERE m.rollout_id = p_rollout_id AND m.inviter_id = p_above_id) THEN
        RETURN false;                                                  -- mostly: who has brought in nobody stands above nobody
    END IF;
    WHILE step IS NOT NULL LOOP
        SELECT m.inviter_id INTO step FROM rollout_member m WHERE m.rollout_id = p_rollout_id AND m.subscriber_id = step;
        IF NOT FOUND THEN
            step := NULL;
        END IF;
        IF step = p_above_id THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Why nobody can be activated where no window is open.
CREATE FUNCTION rollout_shut_v1(p_rollout_id uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE (SELECT w.cause FROM rollout_window w JOIN rollout r USING (rollout_id)
                  WHERE w.rollout_id = p_rollout_id AND w.state = 'closed' AND r.state <> 'killed'
                    AND NOT EXISTS (SELECT FROM rollout_window p WHERE p.rollout_id = p_rollout_id AND p.state = 'paused')
                  ORDER BY w.closed_at DESC, w.window_id DESC LIMIT 1)
           WHEN 'quota' THEN 'quota' ELSE 'no_window' END
$$;

-- What bringing in one who waits would come to. Where the rollout is locked, that is so until the end of the transaction.
-- said: activated · enabled: was already · keyed · no_window · quota: the window is full · limit: the inviter's · depth ·
-- wave: none that fits has room · loop · no_rollout: no member, or the inviter may not call.
-- window_id: the one that is open; NULL: nothing can change. far, wave_ids: of who would be activated or keyed.
CREATE FUNCTION rollout_would_v1(
    p_rollout_id uuid, p_inviter_id uuid, p_subscriber_id uuid, p_at timestamptz,
    OUT said text, OUT window_id uuid, OUT far integer, OUT wave_ids uuid[]
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    r rollout;
    w rollout_window;
    m rollout_member;
    s subscriber;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id;
    SELECT * INTO s FROM subscriber x WHERE x.subscriber_id = p_subscriber_id AND x.state = 'active';
    SELECT * INTO m FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
    said := CASE
        WHEN r.state = 'launched' OR m.state = 'activated' THEN 'enabled'
        WHEN s.subscriber_id IS NULL OR m.state IS NULL OR m.state = 'removed'
            OR NOT EXISTS (SELECT FROM rollout_allow a JOIN subscriber x USING (subscriber_id)
                            WHERE a.subscriber_id = p_inviter_id AND x.app_id = r.app_id AND x.state = 'active') THEN 'no_rollout'
        WHEN m.state = 'keyed' THEN 'keyed' END;
    IF said IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open';
    window_id := w.window_id;
    far := 1 + coalesce((SELECT x.depth FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_inviter_id), 0);
    said := CASE
        WHEN w.window_id IS NULL THEN rollout_shut_v1(p_rollout_id)
        WHEN w.closes_at <= p_at THEN 'no_window'                      -- the keeper comes a moment later
        WHEN w.activated >= w.quota THEN 'quota'
        WHEN rollout_above_v1(p_rollout_id, p_subscriber_id, p_inviter_id) THEN 'loop'
        WHEN rollout_brought_v1(p_rollout_id, p_inviter_id, s.a_number, p_at) >= r.invite_limit THEN 'limit'
        WHEN far > r.depth_max THEN 'depth' END;
    IF said IS NULL THEN
        SELECT CASE v.said WHEN 'ok' THEN 'activated' ELSE v.said END, v.wave_ids INTO said, wave_ids
          FROM rollout_waves_v1(p_rollout_id, m.country, m.platform, m.partner_id) v;
    END IF;
END $$;

-- One who may call brings in one who waits. Under the lock of the rollout, all or nothing. Returns what rollout_would_v1 says.
CREATE FUNCTION rollout_bring_v1(
    p_rollout_id uuid, p_inviter_id uuid, p_subscriber_id uuid, p_cause text, p_call_id uuid, p_invite_id uuid, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
    v record;
    no integer;
BEGIN
    PERFORM 1 FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    PERFORM 1 FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open' FOR NO KEY UPDATE;
    SELECT * INTO v FROM rollout_would_v1(p_rollout_id, p_inviter_id, p_subscriber_id, p_at);
    IF v.window_id IS NULL THEN
        RETURN v.said;
    END IF;
    CASE v.said
        WHEN 'no_window' THEN
            PERFORM rollout_window_set_v1(v.window_id, 'closed', 'time', 'callbridge', p_at);
        WHEN 'quota' THEN                                              -- it was lowered to what there is
            PERFORM rollout_window_set_v1(v.window_id, 'closed', 'quota', 'callbridge', p_at);
        WHEN 'keyed' THEN
            SELECT * INTO m FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
            no := rollout_note_v1(p_rollout_id, 'member.keyed', p_cause, 'sub_' || translate(p_inviter_id::text, '-', ''), p_at,
                                  m.partner_id, v.window_id, p_subscriber_id, p_inviter_id, p_call_id, p_invite_id, v.wave_ids,
                                  jsonb_build_object('depth', v.far));
            UPDATE rollout_member x
               SET state = 'keyed', inviter_id = p_inviter_id, depth = v.far, call_id = p_call_id, invite_id = p_invite_id,
                   keyed_at = p_at, keyed_no = no
             WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
        WHEN 'activated' THEN
            PERFORM rollout_activate_v1(p_rollout_id, p_subscriber_id, v.window_id, v.wave_ids, p_inviter_id, v.far, p_cause,
                                        'sub_' || translate(p_inviter_id::text, '-', ''), p_call_id, p_invite_id, p_at);
        ELSE
            NULL;
    END CASE;
    RETURN v.said;
END $$;

-- What a call to one of the same app would come to: see rollout_called_v1. rollout_id, window_id: where it would change something.
CREATE FUNCTION rollout_would_call_v1(
    p_caller_id uuid, p_callee_id uuid, p_at timestamptz, OUT said text, OUT rollout_id uuid, OUT window_id uuid
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    r rollout;
BEGIN
    IF EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_callee_id) THEN
        said := 'enabled';
        RETURN;
    END IF;
    SELECT x.* INTO r FROM rollout x JOIN subscriber s ON x.rollout_id = rollout_of_v1(s.app_id)
      JOIN subscriber c ON c.app_id = s.app_id WHERE s.subscriber_id = p_callee_id AND c.subscriber_id = p_caller_id;
    IF NOT FOUND THEN
        said := CASE WHEN EXISTS (SELECT FROM app JOIN subscriber s USING (app_id) WHERE s.subscriber_id = p_callee_id AND app.launched)
                     THEN 'enabled' ELSE 'no_rollout' END;
    ELSIF r.state = 'launched' THEN
        said := 'enabled';
    ELSIF p_caller_id = p_callee_id THEN
        said := 'loop';
    ELSIF NOT r.call_activates THEN
        said := 'no_window';
    ELSE
        SELECT CASE v.said WHEN 'depth' THEN 'limit' ELSE v.said END, r.rollout_id, v.window_id INTO said, rollout_id, window_id
          FROM rollout_would_v1(r.rollout_id, p_caller_id, p_callee_id, p_at) v;
    END IF;
END $$;

-- An enabled user calls one of the same app: while a window is open, that enables them. To be called before anything of the call is
-- written, in a statement of its own. What mostly is so (the callee may call, no window is open) is said without a lock.
-- Returns activated · enabled: was already · keyed · no_window · quota · limit: the caller's, or the chain's · wave · loop · no_rollout.
CREATE FUNCTION rollout_called_v1(p_caller_id uuid, p_callee_id uuid, p_call_id uuid, p_at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v record;
    said text;
BEGIN
    SELECT * INTO v FROM rollout_would_call_v1(p_caller_id, p_callee_id, p_at);
    IF v.window_id IS NULL THEN
        RETURN v.said;
    END IF;
    said := rollout_bring_v1(v.rollout_id, p_caller_id, p_callee_id, 'call', p_call_id, NULL, p_at);
    RETURN CASE said WHEN 'depth' THEN 'limit' ELSE said END;
END $$;

-- An invitation for a number. said: ok · no_rollout · no_window · quota · not_enabled: the inviter may not call yet · self ·
-- enabled: whose number it is may call · loop · limit · depth. A newer one for the same number replaces the older.
CREATE FUNCTION rollout_invite_v1(
    p_inviter_id uuid, p_number text, p_hash bytea, p_at timestamptz, OUT said text, OUT invite_id uuid, OUT expires_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r rollout;
    w rollout_window;
    s subscriber;
    guest uuid;
BEGIN
    SELECT * INTO s FROM subscriber x WHERE x.subscriber_id = p_inviter_id;
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = rollout_of_v1(s.app_id) FOR NO KEY UPDATE;
    SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = r.rollout_id AND x.state = 'open';
    SELECT x.subscriber_id INTO guest FROM subscriber x WHERE x.app_id = s.app_id AND x.a_number = p_number AND x.state <> 'closed';
    said := CASE
        WHEN r.rollout_id IS NULL THEN 'no_rollout'
        WHEN s.a_number = p_number THEN 'self'
        WHEN r.state = 'launched' THEN 'enabled'
        WHEN s.state <> 'active' OR NOT EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_inviter_id) THEN 'not_enabled'
        WHEN EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = guest) THEN 'enabled'
        WHEN w.window_id IS NULL THEN rollout_shut_v1(r.rollout_id)
        WHEN guest IS NOT NULL AND rollout_above_v1(r.rollout_id, guest, p_inviter_id) THEN 'loop'
        WHEN rollout_brought_v1(r.rollout_id, p_inviter_id, p_number, p_at) >= r.invite_limit THEN 'limit'
        WHEN coalesce((SELECT m.depth FROM rollout_member m
                        WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_inviter_id), 0) >= r.depth_max THEN 'depth'
        ELSE 'ok' END;
    IF said <> 'ok' THEN
        RETURN;
    END IF;
    UPDATE rollout_invite i SET ended_at = p_at
     WHERE i.rollout_id = r.rollout_id AND i.inviter_id = p_inviter_id AND i.number = p_number AND i.ended_at IS NULL;
    INSERT INTO rollout_invite (rollout_id, window_id, partner_id, inviter_id, number, hash, made_at, expires_at)
    VALUES (r.rollout_id, w.window_id, s.partner_id, p_inviter_id, p_number, p_hash, p_at, p_at + make_interval(secs => r.invite_s))
    RETURNING rollout_invite.invite_id, rollout_invite.expires_at INTO invite_id, expires_at;
    PERFORM rollout_note_v1(r.rollout_id, 'invite.made', 'invite', 'sub_' || translate(p_inviter_id::text, '-', ''), p_at, s.partner_id,
                            w.window_id, NULL, p_inviter_id, NULL, invite_id);
END $$;

-- Take up an invitation. What rollout_bring_v1 returns, and: unknown: there is no such invitation for this number · used · expired.
-- One that brought nobody in (quota, wave, limit …) stays good.
CREATE FUNCTION rollout_accept_v1(p_subscriber_id uuid, p_hash bytea, p_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    i rollout_invite;
    w rollout_window;
    said text;
BEGIN
    SELECT x.* INTO i FROM rollout_invite x JOIN rollout r USING (rollout_id)
      JOIN subscriber s ON s.subscriber_id = p_subscriber_id AND s.a_number = x.number AND s.app_id = r.app_id
     WHERE x.hash = p_hash;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    PERFORM 1 FROM rollout r WHERE r.rollout_id = i.rollout_id FOR NO KEY UPDATE;
    SELECT * INTO i FROM rollout_invite x WHERE x.invite_id = i.invite_id FOR NO KEY UPDATE;
    IF i.used_by IS NOT NULL THEN
        RETURN 'used';
    ELSIF i.ended_at IS NOT NULL OR i.expires_at <= p_at THEN
        RETURN 'expired';
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.window_id = i.window_id;
    IF w.state = 'closed' THEN
        RETURN CASE w.cause WHEN 'quota' THEN 'quota' ELSE 'no_window' END;
    ELSIF w.state <> 'open' THEN
        RETURN 'no_window';
    END IF;
    said := rollout_bring_v1(i.rollout_id, i.inviter_id, p_subscriber_id, 'invite', NULL, i.invite_id, p_at);
    IF said = 'activated' OR (said = 'keyed' AND EXISTS (SELECT FROM rollout_member m WHERE m.invite_id = i.invite_id)) THEN
        UPDATE rollout_invite x SET ended_at = p_at, used_by = p_subscriber_id WHERE x.invite_id = i.invite_id;
    END IF;
    RETURN said;
END $$;

-- The first who may call, and exceptions: activated by hand, outside of windows, quotas and waves. False: no member that waits.
CREATE FUNCTION rollout_seed_v1(p_rollout_id uuid, p_subscriber_id uuid, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM rollout r WHERE r.rollout_id = p_rollout_id AND r.state IN ('closed', 'running') FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM rollout_member m JOIN subscriber s USING (subscriber_id)
                                 WHERE m.rollout_id = p_rollout_id AND m.subscriber_id = p_subscriber_id
                                   AND m.state IN ('waiting', 'keyed') AND s.state = 'active') THEN
        RETURN false;
    END IF;
    PERFORM rollout_activate_v1(p_rollout_id, p_subscriber_id, NULL, '{}', NULL, 0, 'operator', p_actor, NULL, NULL, p_at);
    RETURN true;
END $$;

-- Take somebody out, who may not call then. cause: operator · closed: the subscriber was. False: no member, or out already.
CREATE FUNCTION rollout_remove_v1(p_rollout_id uuid, p_subscriber_id uuid, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
BEGIN
    PERFORM 1 FROM rollout r WHERE r.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    UPDATE rollout_member x SET state = 'removed'
     WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id AND x.state <> 'removed' RETURNING * INTO m;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM rollout_allow a WHERE a.subscriber_id = p_subscriber_id;
    PERFORM rollout_note_v1(p_rollout_id, 'member.removed', p_cause, p_actor, p_at, m.partner_id, NULL, p_subscriber_id);
    RETURN true;
END $$;

-- Give the server key of a wave, or withhold it. False: it was so. Who has it keeps it.
CREATE FUNCTION rollout_key_set_v1(p_wave_id uuid, p_server_key boolean, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
BEGIN
    SELECT x.* INTO r FROM rollout x JOIN rollout_wave y USING (rollout_id) WHERE y.wave_id = p_wave_id FOR NO KEY UPDATE OF x;
    UPDATE rollout_wave v SET server_key = p_server_key, edition = v.edition + 1
     WHERE v.wave_id = p_wave_id AND v.server_key <> p_server_key AND r.state IN ('closed', 'running');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM rollout_note_v1(r.rollout_id, CASE WHEN p_server_key THEN 'wave.key_given' ELSE 'wave.key_withheld' END, 'operator', p_actor,
                            p_at, r.partner_id, p_wave_ids => ARRAY[p_wave_id]);
    IF p_server_key THEN
        UPDATE rollout x SET settling = true WHERE x.rollout_id = r.rollout_id;
        PERFORM rollout_settle_v1(r.rollout_id, 200, p_at);
    END IF;
    RETURN true;
END $$;

GRANT SELECT ON rollout, rollout_window, rollout_wave, rollout_member, rollout_event TO callbridge_partner;
GRANT SELECT (invite_id, rollout_id, window_id, partner_id, inviter_id, number, made_at, expires_at, ended_at, used_by) ON rollout_invite
    TO callbridge_partner;
ALTER TABLE rollout ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_window ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_wave ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_invite ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rollout TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_window TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_wave TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_member TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_invite TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_event TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- ---------------------------------------------------------------- call records as the API tells them

-- Micro-units as a decimal string: exact, with two decimals at least.
CREATE FUNCTION money_text_v1(p_micro bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT round(p_micro * 0.000001, greatest(min_scale(p_micro * 0.000001), 2))::text
$$;

-- An instant as a JSON string: RFC 3339 to the millisecond, where the session's time zone is UTC.
CREATE FUNCTION instant_json_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(to_char(p_at, '\"YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\"'), 'null')
$$;

-- One call record as a line of JSON, beginning with its id. Functions like this one are inlined into a query, and a page of a
-- hundred records is a fraction of the work that rows are.
-- rating: received (it lasts, or nobody pays for it), rejected (refused), guided (ended without an answer), rated, rerated.
CREATE FUNCTION cdr_json_v2(
    p_call_id uuid, p_partner_id uuid, p_account_id uuid, p_subscriber_id uuid, p_a_number text, p_b_number text, p_dialled text,
    p_state text, p_refuse_reason text, p_admitted_at timestamptz, p_answered_at timestamptz, p_ended_at timestamptz,
    p_talk_ms bigint, p_q850_cause integer, p_release_party text, p_sell jsonb, p_billed_s integer, p_covered_s integer,
    p_amount_micro bigint, p_written_off_micro bigint, p_currency text, p_revision integer, p_direction text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT '{"cdr_id":"cdr_' || encode(uuid_send(p_call_id), 'hex')
        || '","call_id":"call_' || encode(uuid_send(p_call_id), 'hex')
        || '","partner_id":' || coalesce('"prt_' || encode(uuid_send(p_partner_id), 'hex') || '"', 'null')
        || ',"account_id":' || coalesce('"acc_' || encode(uuid_send(p_account_id), 'hex') || '"', 'null')
        || ',"subscriber_id":' || coalesce('"sub_' || encode(uuid_send(p_subscriber_id), 'hex') || '"', 'null')
        || ',"a_number":' || to_json(p_a_number)
        || ',"b_number":' || coalesce(to_json(p_b_number)::text, 'null')
        || ',"dialled":' || to_json(p_dialled)
        || ',"state":"' || p_state
        || '","direction":"' || p_direction
        || '","refuse_reason":' || coalesce(to_json(p_refuse_reason)::text, 'null')
        || ',"rating_state":"' || CASE WHEN p_revision > 0 THEN 'rerated' WHEN p_billed_s IS NOT NULL THEN 'rated'
                                       WHEN p_state = 'refused' THEN 'rejected'
                                       WHEN p_ended_at IS NULL OR p_account_id IS NULL THEN 'received' ELSE 'guided' END
        || '","admitted_at":' || instant_json_v1(p_admitted_at)
        || ',"answered_at":' || instant_json_v1(p_answered_at)
        || ',"ended_at":' || instant_json_v1(p_ended_at)
        || ',"talk_ms":' || coalesce(p_talk_ms::text, 'null')
        || ',"q850_cause":' || coalesce(p_q850_cause::text, 'null')
        || ',"release_party":' || coalesce('"' || p_release_party || '"', 'null')
        || ',"destination":' || coalesce((p_sell -> 'destination')::text, 'null')
        || ',"prefix":' || coalesce((p_sell -> 'prefix')::text, 'null')
        || ',"rate":' || coalesce('"' || money_text_v1((p_sell -> 'rate_micro')::bigint) || '"', 'null')
        || ',"billed_s":' || coalesce(p_billed_s::text, 'null')
        || ',"covered_s":' || coalesce(p_covered_s::text, 'null')
        || ',"charge":' || coalesce('"' || money_text_v1(p_amount_micro - p_written_off_micro) || '"', 'null')
        || ',"written_off":' || coalesce('"' || money_text_v1(p_written_off_micro) || '"', 'null')
        || ',"currency":' || coalesce('"' || p_currency || '"', 'null')
        || ',"revision":' || coalesce(p_revision, 0)
        || '}'
$$;

-- A page of call records before p_before, newest first, one line of JSON each: of a partner's account, else of a partner, else of all.
-- However few fit the filters, no more than 10 000 are looked at. reach: there are more to look at, before this one.
-- The settings leave a planner that knows neither the partner nor the time one way only: down the index of the list, then by
-- key. It must not try another for the second partner it meets.
CREATE FUNCTION cdr_page_v1(
    p_partner_id uuid, p_account_id uuid, p_before uuid, p_since uuid, p_rows integer, p_state text, p_subscriber_id uuid,
    p_a_number text, p_b_prefix text, p_min_talk_ms bigint, OUT lines text, OUT reach uuid
) LANGUAGE plpgsql STABLE
SET timezone = 'UTC' SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    looks CONSTANT integer := 10000;
    found integer;
BEGIN
    IF p_account_id IS NOT NULL AND p_partner_id IS NOT NULL THEN
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC NULLS LAST) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.account_id = p_account_id AND x.partner_id IS NOT NULL AND x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC NULLS LAST LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.account_id = p_account_id AND x.partner_id IS NOT NULL AND x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC NULLS LAST OFFSET looks - 1 LIMIT 1;
        END IF;
    ELSIF p_partner_id IS NOT NULL THEN
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC NULLS LAST) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.partner_id = p_partner_id AND x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC NULLS LAST LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.partner_id = p_partner_id AND x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC NULLS LAST OFFSET looks - 1 LIMIT 1;
        END IF;
    ELSE
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC OFFSET looks - 1 LIMIT 1;
        END IF;
    END IF;
END $$;

-- A page of messages and data used before p_before, newest first: of a partner, else of all.
CREATE FUNCTION usage_page_v1(p_partner_id uuid, p_before uuid, p_since uuid, p_rows integer)
RETURNS TABLE (usage_id uuid, account_id uuid, partner_id uuid, service text, zone text, quantity bigint, charged_quantity bigint,
               amount_micro bigint, written_off_micro bigint, currency text, used_at timestamptz)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF p_partner_id IS NOT NULL THEN
        RETURN QUERY
        SELECT u.usage_id, u.account_id, u.partner_id, u.service, u.zone, u.quantity, u.charged_quantity, u.amount_micro,
               u.written_off_micro, u.currency::text, u.used_at
          FROM usage_record u WHERE u.partner_id = p_partner_id AND u.usage_id < p_before AND u.usage_id >= p_since
         ORDER BY u.usage_id DESC NULLS LAST LIMIT p_rows;
    ELSE
        RETURN QUERY
        SELECT u.usage_id, u.account_id, u.partner_id, u.service, u.zone, u.quantity, u.charged_quantity, u.amount_micro,
               u.written_off_micro, u.currency::text, u.used_at
          FROM usage_record u WHERE u.usage_id < p_before AND u.usage_id >= p_since ORDER BY u.usage_id DESC LIMIT p_rows;
    END IF;
END $$;

-- A page of calls in progress before p_before, newest first: of a partner, else of all.
CREATE FUNCTION live_page_v1(p_partner_id uuid, p_before uuid, p_rows integer)
RETURNS TABLE (call_id uuid, partner_id uuid, account_id uuid, subscriber_id uuid, a_number text, b_number text, dialled text,
               admitted_at timestamptz, answered_at timestamptz, limit_ms bigint, held_micro bigint, currency text)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF p_partner_id IS NOT NULL THEN
        RETURN QUERY
        SELECT c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.admitted_at, l.answered_at,
               l.limit_ms, h.held_micro, h.currency::text
          FROM (SELECT x.* FROM (SELECT o.call_id, o.answered_at, o.limit_ms FROM lease o
                                  WHERE o.partner_id = p_partner_id AND o.call_id < p_before
                                  ORDER BY o.call_id DESC NULLS LAST LIMIT 101) x LIMIT p_rows) l
          LEFT JOIN call c USING (call_id) LEFT JOIN hold h USING (call_id) ORDER BY l.call_id DESC NULLS LAST;
    ELSE
        RETURN QUERY
        SELECT c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.admitted_at, l.answered_at,
               l.limit_ms, h.held_micro, h.currency::text
          FROM (SELECT x.* FROM (SELECT o.call_id, o.answered_at, o.limit_ms FROM lease o WHERE o.call_id < p_before
                                  ORDER BY o.call_id DESC LIMIT 101) x LIMIT p_rows) l
          LEFT JOIN call c USING (call_id) LEFT JOIN hold h USING (call_id) ORDER BY l.call_id DESC;
    END IF;
END $$;

-- What hangs on a call and is of ours: for the partner asking, of its own calls only, and no more than is its business.

-- The units a call held and burnt, by allowance in the order in which they paid.
CREATE FUNCTION call_bundles_v1(p_call_id uuid)
RETURNS TABLE (name text, per bigint, held_units bigint, used_units bigint, units bigint, left_units bigint, until_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT b.name, n.per, n.held_units, n.used_units, w.units, w.units - w.used_units - w.held_units, upper(w.valid)
      FROM (SELECT o.allowance_id, o.per, min(o.burn_no) AS first_no, sum(o.held_units)::bigint AS held_units,
                   sum(o.used_units)::bigint AS used_units
              FROM burn o WHERE o.source_id = p_call_id GROUP BY o.allowance_id, o.per) n
      JOIN allowance w USING (allowance_id) JOIN bundle b USING (bundle_id)
     WHERE EXISTS (SELECT FROM call c WHERE c.call_id = p_call_id AND c.partner_id = partner_asking_v1())
     ORDER BY n.first_no
$$;

-- Which attempts of a call went over trunks that are the partner's own.
CREATE FUNCTION call_own_trunks_v1(p_call_id uuid) RETURNS TABLE (attempt_no smallint, trunk_id uuid, trunk text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT x.attempt_no, t.trunk_id, t.name
      FROM attempt x JOIN call c USING (call_id) JOIN trunk t USING (trunk_id)
     WHERE x.call_id = p_call_id AND c.partner_id = partner_asking_v1() AND t.partner_id = c.partner_id
$$;

-- Every rate there is or was for the number of a call in the deck it was sold by, without its price.
CREATE FUNCTION call_candidates_v1(p_call_id uuid)
RETURNS TABLE (prefix text, origin_set text, from_at timestamptz, until_at timestamptz, added_in integer, removed_in integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH asked AS (
        SELECT (c.sell ->> 'deck_id')::uuid AS deck_id,
               ARRAY(SELECT substr(c.b_number, 2, n) FROM generate_series(1, length(c.b_number) - 1) n) AS prefixes
          FROM call c WHERE c.call_id = p_call_id AND c.partner_id = partner_asking_v1() AND c.sell IS NOT NULL
    )
    SELECT r.prefix, r.origin_set, lower(r.valid), upper(r.valid), r.added_in, NULL::integer
      FROM asked a JOIN rate r ON r.deck_id = a.deck_id AND r.prefix = ANY (a.prefixes)
     UNION ALL
    SELECT p.prefix, p.origin_set, lower(p.valid), upper(p.valid), p.added_in, p.removed_in
      FROM asked a JOIN rate_past p ON p.deck_id = a.deck_id AND p.prefix = ANY (a.prefixes)
$$;

-- When a call was given which of its later prices.
CREATE FUNCTION call_revised_v1(p_call_id uuid) RETURNS TABLE (revision integer, created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT r.revision, u.created_at
      FROM rerating r JOIN call c USING (call_id) JOIN rerate_run u USING (run_id)
     WHERE r.call_id = p_call_id AND c.partner_id = partner_asking_v1()
$$;

-- ---------------------------------------------------------------- the browser phone

-- A link that makes a browser its subscriber's phone: good once, and for a short while. Of its token only the SHA-256 is kept.
CREATE TABLE sign_in_link (
    sign_in_link_id uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX sign_in_link_of ON sign_in_link (subscriber_id, sign_in_link_id);

-- A browser that is signed in. It ends by its time, by signing out, and when its subscriber is no longer active.
CREATE TABLE phone_session (
    phone_session_id uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX phone_session_of ON phone_session (subscriber_id, phone_session_id);

-- A new link of an active subscriber; the oldest of more than p_most go, and those whose time is over. No row: not active.
CREATE FUNCTION sign_in_link_add_v1(p_subscriber_id uuid, p_hash bytea, p_lasts_s integer, p_most integer, OUT expires_at timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM subscriber s WHERE s.subscriber_id = p_subscriber_id AND s.state = 'active' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    expires_at := clock_timestamp() + make_interval(secs => p_lasts_s);
    INSERT INTO sign_in_link (subscriber_id, hash, expires_at) VALUES (p_subscriber_id, p_hash, sign_in_link_add_v1.expires_at);
    DELETE FROM sign_in_link l
     WHERE l.subscriber_id = p_subscriber_id
       AND (l.expires_at <= clock_timestamp()
            OR l.sign_in_link_id NOT IN (SELECT n.sign_in_link_id FROM sign_in_link n WHERE n.subscriber_id = p_subscriber_id
                                          ORDER BY n.sign_in_link_id DESC LIMIT p_most));
END $$;

-- A link's token for a session, once however many come at once. NULL: no such link, used, its time over, or the subscriber not active.
CREATE FUNCTION phone_sign_in_v1(p_link_hash bytea, p_session_hash bytea, p_lasts_s integer, p_most integer, OUT expires_at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    who uuid;
BEGIN
    SELECT l.subscriber_id INTO who FROM sign_in_link l WHERE l.hash = p_link_hash;
    PERFORM 1 FROM subscriber s WHERE s.subscriber_id = who AND s.state = 'active' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM sign_in_link l WHERE l.hash = p_link_hash AND l.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        RETURN;
    END IF;
    expires_at := clock_timestamp() + make_interval(secs => p_lasts_s);
    INSERT INTO phone_session (subscriber_id, hash, expires_at) VALUES (who, p_session_hash, phone_sign_in_v1.expires_at);
    DELETE FROM phone_session p
     WHERE p.subscriber_id = who
       AND (p.expires_at <= clock_timestamp()
            OR p.phone_session_id NOT IN (SELECT n.phone_session_id FROM phone_session n WHERE n.subscriber_id = who
                                           ORDER BY n.phone_session_id DESC LIMIT p_most));
END $$;

-- Whoever is suspended or closed is signed out, and stays so afterwards.
CREATE FUNCTION phone_signed_out_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sign_in_link l WHERE l.subscriber_id = NEW.subscriber_id;
    DELETE FROM phone_session p WHERE p.subscriber_id = NEW.subscriber_id;
    RETURN NULL;
END $$;
CREATE TRIGGER subscriber_signed_out AFTER UPDATE OF state ON subscriber
    FOR EACH ROW WHEN (NEW.state <> 'active' AND OLD.state = 'active') EXECUTE FUNCTION phone_signed_out_v1();

-- Whose session this is. For the API's role, which reads no session itself. No row: nobody's, or over.
CREATE FUNCTION phone_session_find_v1(p_hash bytea, OUT subscriber_id uuid, OUT expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT p.subscriber_id, p.expires_at
      FROM phone_session p JOIN subscriber s USING (subscriber_id) JOIN account a USING (account_id)
     WHERE p.hash = p_hash AND p.expires_at > clock_timestamp() AND s.state = 'active' AND a.state <> 'closed'
       AND NOT EXISTS (SELECT FROM partner o WHERE o.partner_id = s.partner_id AND o.state = 'closed')
$$;

-- ---------------------------------------------------------------- each sees its own

-- Only what is granted here can be read as a partner, and of that only its own rows. What another carrier charges us is
-- in columns that are not granted.
GRANT SELECT (partner_id, name, account_id, state, edition, created_at) ON partner TO callbridge_partner;
GRANT SELECT ON account, subscriber, event, audit_log TO callbridge_partner;
-- Everything but the hash.
GRANT SELECT (api_key_id, name, prefix, created_at, expires_at, revoked_at, partner_id, scopes, kind, edition, replaced_by)
    ON api_key TO callbridge_partner;
ALTER TABLE partner ENABLE ROW LEVEL SECURITY;
ALTER TABLE account ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscriber ENABLE ROW LEVEL SECURITY;
ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_key ENABLE ROW LEVEL SECURITY;                       -- and no policy: nobody's but the house's
CREATE POLICY own ON partner TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON account TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON subscriber TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON event TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON audit_log TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON api_key TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- A partner reads its own deals with their versions, its numbers, and of its plans what does not tell our margin.
GRANT SELECT ON deal, number, number_now TO callbridge_partner;
GRANT SELECT (deal_version_id, deal_id, version, agreed, valid, terms, note, made_at) ON deal_version TO callbridge_partner;
GRANT SELECT (plan_id, name, partner_id, edition) ON plan TO callbridge_partner;
ALTER TABLE deal ENABLE ROW LEVEL SECURITY;
ALTER TABLE deal_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE number ENABLE ROW LEVEL SECURITY;
ALTER TABLE plan ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON deal TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON deal_version TO callbridge_partner
    USING (EXISTS (SELECT FROM deal d WHERE d.deal_id = deal_version.deal_id));
CREATE POLICY own ON number TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON plan TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
GRANT SELECT (app_id, name) ON app TO callbridge_partner;
GRANT SELECT (proof_id, subscriber_id, method, reference, actor, asked_at, expires_at) ON subscriber_proof TO callbridge_partner;
GRANT SELECT ON subscriber_proof_try TO callbridge_partner;
GRANT SELECT (transfer_id, entry_no, account_id, amount_micro, currency) ON entry TO callbridge_partner;
GRANT SELECT (transfer_id, kind, booked_at, value_at, reverses) ON transfer TO callbridge_partner;
GRANT SELECT ON hold TO callbridge_partner;
GRANT SELECT (usage_id, account_id, partner_id, service, zone, quantity, charged_quantity, price_micro, per, amount_micro,
    written_off_micro, currency, transfer_id, throttled, used_at, reported_at) ON usage_record TO callbridge_partner;
ALTER TABLE subscriber_proof ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscriber_proof_try ENABLE ROW LEVEL SECURITY;
ALTER TABLE entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE transfer ENABLE ROW LEVEL SECURITY;
ALTER TABLE hold ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE app ENABLE ROW LEVEL SECURITY;
CREATE POLICY any_partner ON app TO callbridge_partner USING ((SELECT partner_asking_v1()) IS NOT NULL);
CREATE POLICY own ON subscriber_proof TO callbridge_partner
    USING (EXISTS (SELECT FROM subscriber s WHERE s.subscriber_id = subscriber_proof.subscriber_id));
CREATE POLICY own ON subscriber_proof_try TO callbridge_partner
    USING (EXISTS (SELECT FROM subscriber_proof p WHERE p.proof_id = subscriber_proof_try.proof_id));
-- The other side of a booking, on our accounts and on carriers', is nobody else's business.
CREATE POLICY own ON entry TO callbridge_partner
    USING (EXISTS (SELECT FROM account a WHERE a.account_id = entry.account_id AND a.kind IN ('subscriber', 'partner')
                      AND a.partner_id = (SELECT partner_asking_v1())));
CREATE POLICY own ON transfer TO callbridge_partner
    USING (EXISTS (SELECT FROM entry e WHERE e.transfer_id = transfer.transfer_id));
CREATE POLICY own ON hold TO callbridge_partner
    USING (EXISTS (SELECT FROM account a WHERE a.account_id = hold.account_id AND a.partner_id = (SELECT partner_asking_v1())));
CREATE POLICY own ON usage_record TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- Not the carrier's account, and never the secret; that there is one, the user name says.
GRANT SELECT (trunk_id, name, deck_id, host, port, capacity, priority, ring_s, enabled, policy_class, partner_id, edition,
              transport, codecs, auth_username, allowed_ips, cps, b_format, a_format, tech_prefix, origin, state, qualify_s,
              kind, business_number)
    ON trunk TO callbridge_partner;
GRANT SELECT ON trunk_state TO callbridge_partner;
GRANT SELECT ON whatsapp_call TO callbridge_partner;
ALTER TABLE whatsapp_call ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON whatsapp_call TO callbridge_partner
    USING (EXISTS (SELECT FROM call c WHERE c.call_id = whatsapp_call.call_id));
ALTER TABLE trunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE trunk_state ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON trunk TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON trunk_state TO callbridge_partner
    USING (EXISTS (SELECT FROM trunk t WHERE t.trunk_id = trunk_state.trunk_id));
-- The token of its sink is nobody's to read.
GRANT SELECT (origination_id, partner_id, subscriber_id, a_number, b_number, state, reason, refuse_reason, leg_a_call_id, leg_b_call_id,
              connected_at, talk_ms, sink_url, made_at, ended_at) ON origination TO callbridge_partner;
ALTER TABLE origination ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON origination TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

GRANT SELECT (deck_id, name, version, side, currency, created_at, terms, changed_at, partner_id, edition, notice_days)
    ON deck TO callbridge_partner;
GRANT SELECT (import_id, deck_id, base_version, mode, state, file_name, file_sha256, effective_at, author, staged_at, adds,
              removes, summary, version, dry_run, rises_at) ON deck_import TO callbridge_partner;
GRANT SELECT ON rate, rate_past, deck_version, deck_band, deck_import_error, deck_import_row TO callbridge_partner;
GRANT SELECT ON origin_set TO callbridge_partner;                      -- groups of callers, the same for all; no prices
ALTER TABLE deck ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_past ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_band ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import_error ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import_row ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON deck TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rate TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON rate_past TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_version TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_band TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
ALTER TABLE origin_set ENABLE ROW LEVEL SECURITY;
CREATE POLICY any_partner ON origin_set TO callbridge_partner USING ((SELECT partner_asking_v1()) IS NOT NULL);
CREATE POLICY own ON deck_import TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_import_error TO callbridge_partner
    USING (EXISTS (SELECT FROM deck_import i WHERE i.import_id = deck_import_error.import_id));
CREATE POLICY own ON deck_import_row TO callbridge_partner
    USING (EXISTS (SELECT FROM deck_import i WHERE i.import_id = deck_import_row.import_id));
GRANT SELECT ON webhook_endpoint, delivery, delivery_attempt, event_counter TO callbridge_partner;
ALTER TABLE webhook_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_counter ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON webhook_endpoint TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON delivery TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON delivery_attempt TO callbridge_partner
    USING (EXISTS (SELECT FROM delivery d WHERE d.delivery_id = delivery_attempt.delivery_id));
CREATE POLICY own ON event_counter TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- Of a call: not over which carriers it may go, of an attempt neither trunk nor cost, of a later price only what it sells for.
GRANT SELECT (call_id, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state, refuse_reason, sell, admitted_at,
    answered_at, ended_at, talk_ms, q850_cause, release_party, bundled, partner_id, direction, callee_id, anonymous, after_call_id)
    ON call TO callbridge_partner;
GRANT SELECT (call_id, attempt_no, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at) ON attempt TO callbridge_partner;
GRANT SELECT ON charge TO callbridge_partner;
GRANT SELECT (call_id, account_id, attempt_no, limit_ms, answered_at, pdd_ms, expires_at, partner_id) ON lease TO callbridge_partner;
GRANT SELECT (call_id, revision, sell, billed_s, amount_micro, written_off_micro, reversal_id, rebooking_id) ON rerating
    TO callbridge_partner;
ALTER TABLE call ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE charge ENABLE ROW LEVEL SECURITY;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE rerating ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON call TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON lease TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON attempt TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = attempt.call_id));
CREATE POLICY own ON charge TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = charge.call_id));
CREATE POLICY own ON rerating TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = rerating.call_id));

-- ---------------------------------------------------------------- calls from the network

-- The number of a caller from the network who is not shown: `call` has 'anonymous' instead, for that partners read.
-- For operators: malicious calls are traced by it, and a carrier's bill is checked with it.
CREATE TABLE call_withheld (
    call_id         uuid PRIMARY KEY,
    a_number        e164 NOT NULL,
    why             text NOT NULL CHECK (why IN ('asked', 'foreign'))
);

-- Admit a call from the network, which rings its callee's phones; the account is the callee's, and pays nothing.
-- 'ok', 'busy' (the account has as many calls as it may), 'trunk_full', 'trunk_paced', 'no_credit' (the account is not active).
-- Locks are taken in the order in which calls over a carrier take them: account, trunk, the trunk's second.
-- p_withheld: the caller's number where p_a_number does not say it, and p_why not. reached: a phone is registered. Else whoever can
-- wake one is told, with the time until which it is waited for.
CREATE FUNCTION call_inbound_v1(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_callee_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_currency text, p_limit_ms bigint, p_lease_s integer, p_at timestamptz,
    p_trunk_id uuid, p_trunk_cap integer, p_trunk_cps integer, p_leg_class text, p_anonymous boolean,
    p_withheld text, p_why text, p_wake_s integer,
    OUT status text, OUT call_id uuid, OUT reached boolean
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
BEGIN
    SELECT a.call_cap INTO cap FROM account a WHERE a.account_id = p_account_id FOR NO KEY UPDATE;
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        status := 'busy';
        RETURN;
    END IF;
    IF p_trunk_cps IS NULL THEN
        SELECT a.status, a.call_id INTO status, call_id
          FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_callee_id, p_account_id, p_a_number, p_dialled,
                             p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, 0, p_currency, p_limit_ms, p_lease_s, NULL, NULL,
                             NULL, p_at, NULL, 'in', p_callee_id, p_trunk_id, p_leg_class, p_anonymous, NULL) a;
    ELSE
        SELECT a.status, a.call_id INTO status, call_id
          FROM call_admit_paced_v2(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_callee_id, p_account_id, p_a_number, p_dialled,
                                   p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, 0, p_currency, p_limit_ms, p_lease_s, NULL,
                                   NULL, NULL, p_at, NULL, 'in', p_callee_id, p_trunk_id, p_leg_class, p_anonymous, NULL,
                                   p_trunk_cps) a;
    END IF;
    IF status <> 'ok' THEN
        RETURN;
    END IF;
    IF p_withheld IS NOT NULL THEN
        INSERT INTO call_withheld (call_id, a_number, why) VALUES (call_inbound_v1.call_id, p_withheld, p_why);
    END IF;
    reached := subscriber_reached_v1(p_callee_id);
    IF NOT reached THEN
        PERFORM event_add_v1(s.partner_id, 'subscriber.wake', s.subscriber_id, 1, jsonb_build_object(
                    'subscriber_id', told_id_v1('sub', s.subscriber_id), 'call_id', told_id_v1('call', call_inbound_v1.call_id),
                    'from', CASE WHEN NOT p_anonymous THEN p_a_number END,
                    'expires_at', told_at_v1(p_at + make_interval(secs => p_wake_s))))
           FROM subscriber s WHERE s.subscriber_id = p_callee_id;
    END IF;
END $$;

-- What somebody said after nobody had answered. The sound is a file, named after the call.
CREATE TABLE voice_message (
    message_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    call_id         uuid NOT NULL UNIQUE,
    partner_id      uuid REFERENCES partner,                           -- whose subscriber it is for
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    from_number     e164,                                              -- NULL: who called is not shown, or not known
    duration_ms     integer NOT NULL CHECK (duration_ms > 0),
    left_at         timestamptz NOT NULL,
    deleted_at      timestamptz                                        -- its sound is removed, the row goes with its time
);
CREATE INDEX voice_message_partner ON voice_message (partner_id, message_id NULLS FIRST);
CREATE INDEX voice_message_subscriber ON voice_message (subscriber_id, message_id NULLS FIRST);

-- The message of a call that has ended. Who comes second changes nothing and gets the same id. NULL: there is none, or no more.
CREATE FUNCTION voice_message_leave_v1(p_call_id uuid, p_duration_ms integer) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    m voice_message;
BEGIN
    INSERT INTO voice_message (call_id, partner_id, subscriber_id, from_number, duration_ms, left_at)
    SELECT c.call_id, c.partner_id, c.callee_id, CASE WHEN c.a_number ~ '^\+[1-9]' AND NOT c.anonymous THEN c.a_number END,
           p_duration_ms, c.ended_at
      FROM call c WHERE c.call_id = p_call_id AND c.ended_at IS NOT NULL AND c.callee_id IS NOT NULL
    ON CONFLICT (call_id) DO NOTHING RETURNING * INTO m;
    IF FOUND THEN
        PERFORM event_add_v1(m.partner_id, 'voice_message.left', m.message_id, 1, jsonb_build_object(
            'message_id', told_id_v1('msg', m.message_id), 'subscriber_id', told_id_v1('sub', m.subscriber_id),
            'call_id', told_id_v1('call', m.call_id), 'from', m.from_number, 'duration_ms', m.duration_ms,
            'left_at', told_at_v1(m.left_at), 'url', '/v1/voice-messages/' || told_id_v1('msg', m.message_id) || '/audio'));
        RETURN m.message_id;
    END IF;
    RETURN (SELECT o.message_id FROM voice_message o WHERE o.call_id = p_call_id AND o.deleted_at IS NULL);
END $$;

-- Over which trunk a call came in from the network: for operators, and for the partner whose trunk it is.
CREATE FUNCTION call_trunk_in_v1(p_call_id uuid) RETURNS TABLE (trunk_id uuid, trunk text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT t.trunk_id, t.name
      FROM call c JOIN trunk t ON t.trunk_id = c.trunk_in_id
     WHERE c.call_id = p_call_id
       AND (partner_asking_v1() IS NULL OR (c.partner_id = partner_asking_v1() AND t.partner_id = c.partner_id))
$$;

GRANT SELECT ON voice_message TO callbridge_partner;
ALTER TABLE voice_message ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON voice_message TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- Nobody runs our functions unless it is said so.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partner_asking_v1(), api_key_find_v1(text), api_claim_v1(uuid, text, bytea),
    api_done_v1(uuid, text, smallint, jsonb, bytea, uuid, text, text, text, jsonb, text, text), uuid_floor_v1(timestamptz)
    TO callbridge_partner;
GRANT EXECUTE ON FUNCTION api_client_find_v1(uuid) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION spend_left_v1(uuid, timestamptz) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION trunk_quality_v1(uuid) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION call_trunk_in_v1(uuid) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION click_to_dial_v1(text, text) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION money_text_v1(bigint), instant_json_v1(timestamptz),
    cdr_json_v2(uuid, uuid, uuid, uuid, text, text, text, text, text, timestamptz, timestamptz, timestamptz, bigint, integer, text,
                jsonb, integer, integer, bigint, bigint, text, integer, text),
    cdr_page_v1(uuid, uuid, uuid, uuid, integer, text, uuid, text, text, bigint),
    live_page_v1(uuid, uuid, integer), usage_page_v1(uuid, uuid, uuid, integer),
    call_bundles_v1(uuid), call_own_trunks_v1(uuid), call_candidates_v1(uuid), call_revised_v1(uuid) TO callbridge_partner;

-- ---------------------------------------------------------------- capacity trials

-- A window that is watched, from its opening to a verdict. It begins anew whenever the window is opened again.
-- thresholds and trial_s are those it began with. cut_short: the window was paused or closed by somebody else, or its thresholds changed.
CREATE TABLE trial (
    trial_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    window_id       uuid NOT NULL REFERENCES rollout_window,
    partner_id      uuid REFERENCES partner,                           -- the rollout's: only this partner's calls are looked at
    thresholds      jsonb NOT NULL,
    trial_s         integer,                                           -- NULL: watched without an end
    verdict         text NOT NULL DEFAULT 'running' CHECK (verdict IN ('running', 'passed', 'failed', 'cut_short')),
    why             text,                                              -- failed: the threshold; cut_short: the window's cause, or changed
    value           double precision,                                  -- that was measured
    allowed         double precision,
    began_at        timestamptz NOT NULL,
    clock_at        timestamptz NOT NULL,                              -- trial_s count from here: later by the time nobody looked
    sampled_at      timestamptz NOT NULL,
    counted_until   timestamptz NOT NULL,
    ended_at        timestamptz,
    calls           bigint NOT NULL DEFAULT 0,                         -- admitted
    refused         bigint NOT NULL DEFAULT 0,                         -- for want of room
    activated_before integer NOT NULL,
    activated       integer NOT NULL DEFAULT 0,                        -- in it, known at its end
    next_opened     boolean NOT NULL DEFAULT false,
    measures        jsonb,                                             -- the report, once it has ended
    CHECK ((verdict = 'running') = (ended_at IS NULL)),
    CHECK ((verdict IN ('failed', 'cut_short')) = (why IS NOT NULL))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX trial_running ON trial (window_id) WHERE ended_at IS NULL;
CREATE INDEX trial_of ON trial (window_id, trial_id);

-- The worst of some seconds. Of a trial there are at most 3600, and some for the time it waited for calls.
CREATE TABLE trial_sample (
    trial_id        uuid NOT NULL REFERENCES trial,
    at              timestamptz NOT NULL,                              -- the beginning of these seconds
    partner_id      uuid,                                              -- the trial's
    cps             integer NOT NULL,
    cps_peak        integer NOT NULL,
    live            integer NOT NULL,
    asr             double precision,
    pdd_p95_ms      integer,
    refusal_rate    double precision,
    database_ms     double precision NOT NULL,
    PRIMARY KEY (trial_id, at)
) WITH (fillfactor = 50);

-- One look at the calls since p_since, which is a minute ago at most; and the calls admitted and refused since p_counted, of those that
-- were made before p_until. The range of call ids keeps it to these calls, however many there were before.
-- p_partner_id NULL: everybody's. refused: for want of room.
CREATE FUNCTION rollout_sample_v1(
    p_partner_id uuid, p_since timestamptz, p_counted timestamptz, p_until timestamptz, p_at timestamptz,
    OUT cps bigint, OUT cps_peak bigint, OUT live bigint, OUT attempts bigint, OUT answered bigint, OUT pdds bigint, OUT pdd_p95_ms integer,
    OUT asked bigint, OUT refused bigint, OUT fresh bigint, OUT fresh_refused bigint
) LANGUAGE sql STABLE AS $$
    WITH looked AS MATERIALIZED (
        SELECT c.call_id, c.state, uuid_extract_timestamp(c.call_id) AS at, c.answered_at IS NOT NULL AS answered,
               c.state = 'refused' AND c.refuse_reason IN ('overloaded', 'unavailable', 'no_route') AS no_room
          FROM call c
         WHERE c.call_id >= uuid_floor_v1(least(p_since, p_counted)) AND (p_partner_id IS NULL OR c.partner_id = p_partner_id)
    ), running AS MATERIALIZED (
        SELECT l.call_id, l.pdd_ms FROM lease l
         WHERE l.call_id >= uuid_floor_v1(p_since) AND l.answered_at IS NOT NULL
    ), minute AS (
        SELECT m.*, m.answered OR r.call_id IS NOT NULL AS has_answer FROM looked m LEFT JOIN running r USING (call_id)
         WHERE m.at >= p_since
    ), rang AS (
        SELECT x.pdd_ms FROM attempt x JOIN looked m USING (call_id)
         WHERE x.call_id >= uuid_floor_v1(p_since) AND x.pdd_ms IS NOT NULL
         UNION ALL
        SELECT r.pdd_ms FROM running r JOIN looked m USING (call_id) WHERE r.pdd_ms IS NOT NULL
    ), paced AS (
        SELECT count(*) AS calls FROM minute m WHERE m.state <> 'refused' GROUP BY date_trunc('second', m.at)
    )
    SELECT count(*) FILTER (WHERE m.state <> 'refused' AND m.at >= date_trunc('second', p_at) - interval '1 second'
                              AND m.at < date_trunc('second', p_at)),
           coalesce((SELECT max(p.calls) FROM paced p), 0),
           (SELECT count(*) FROM lease l WHERE l.expires_at > p_at AND (p_partner_id IS NULL OR l.partner_id = p_partner_id)),
           count(*) FILTER (WHERE m.state <> 'refused' AND (m.has_answer OR m.state <> 'live')),
           count(*) FILTER (WHERE m.has_answer),
           (SELECT count(*) FROM rang), (SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY rang.pdd_ms) FROM rang),
           count(*) FILTER (WHERE m.state <> 'refused' OR m.no_room), count(*) FILTER (WHERE m.no_room),
           (SELECT count(*) FROM looked k WHERE k.state <> 'refused' AND k.at >= p_counted AND k.at < p_until),
           (SELECT count(*) FROM looked k WHERE k.no_room AND k.at >= p_counted AND k.at < p_until)
      FROM minute m
$$;

-- Peak and 95th percentile of each measure, the worse the higher; of asr the lowest, and what it was at least 95 times of 100.
CREATE FUNCTION trial_measures_v1(p_trial_id uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'database_ms_max', jsonb_build_array(max(s.database_ms), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.database_ms)),
        'cps_max', jsonb_build_array(max(s.cps_peak), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.cps)),
        'live_max', jsonb_build_array(max(s.live), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.live)),
        'refusal_rate_max', jsonb_build_array(max(s.refusal_rate), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.refusal_rate)),
        'pdd_p95_ms_max', jsonb_build_array(max(s.pdd_p95_ms), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.pdd_p95_ms)),
        'asr_min', jsonb_build_array(min(s.asr), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.asr DESC)))
      FROM trial_sample s WHERE s.trial_id = p_trial_id
$$;

-- Calls admitted and refused that were made too short a while ago to be counted by any look; some of them may not be written yet.
CREATE FUNCTION trial_rest_v1(t trial, OUT calls bigint, OUT refused bigint) LANGUAGE sql STABLE AS $$
    SELECT count(*) FILTER (WHERE c.state <> 'refused'),
           count(*) FILTER (WHERE c.refuse_reason IN ('overloaded', 'unavailable', 'no_route'))
      FROM call c WHERE c.call_id >= uuid_floor_v1(t.counted_until) AND (t.partner_id IS NULL OR c.partner_id = t.partner_id)
$$;

-- Trials whose window is open no more, or has other thresholds, end; those of windows that are open begin. Returns those that run.
CREATE FUNCTION trial_tend_v1() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
BEGIN
    UPDATE trial t
       SET verdict = 'cut_short', why = CASE w.state WHEN 'open' THEN 'changed' ELSE w.cause END, ended_at = now(),
           activated = w.activated - t.activated_before, measures = trial_measures_v1(t.trial_id),
           (calls, refused) = (SELECT t.calls + n.calls, t.refused + n.refused FROM trial_rest_v1(t) n)
      FROM rollout_window w
     WHERE t.ended_at IS NULL AND w.window_id = t.window_id
       AND (w.state <> 'open' OR (w.thresholds, w.trial_s) IS DISTINCT FROM (t.thresholds, t.trial_s));
    INSERT INTO trial (window_id, partner_id, thresholds, trial_s, began_at, clock_at, sampled_at, counted_until, activated_before)
    SELECT w.window_id, w.partner_id, w.thresholds, w.trial_s, now(), now(), now(), now(), w.activated FROM rollout_window w
     WHERE w.state = 'open' AND w.thresholds IS NOT NULL
       AND NOT EXISTS (SELECT FROM trial t WHERE t.window_id = w.window_id AND t.ended_at IS NULL)
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT t.trial_id FROM trial t WHERE t.ended_at IS NULL ORDER BY t.trial_id;
END $$;

-- Keep a sample of a trial that the caller has locked. The clock waits where nobody had looked for more than p_gap_s. Returns the clock.
CREATE FUNCTION trial_note_v1(
    p_trial_id uuid, p_bucket_s integer, p_gap_s integer, p_at timestamptz, p_until timestamptz, p_cps bigint, p_cps_peak bigint,
    p_live bigint, p_asr double precision, p_pdd_p95_ms integer, p_refusal_rate double precision, p_database_ms double precision,
    p_fresh bigint, p_fresh_refused bigint
) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    t trial;
BEGIN
    UPDATE trial x
       SET clock_at = x.clock_at + greatest(p_at - x.sampled_at - make_interval(secs => p_gap_s), interval '0'), sampled_at = p_at,
           counted_until = p_until, calls = x.calls + p_fresh, refused = x.refused + p_fresh_refused
     WHERE x.trial_id = p_trial_id RETURNING * INTO STRICT t;
    INSERT INTO trial_sample AS s (trial_id, at, partner_id, cps, cps_peak, live, asr, pdd_p95_ms, refusal_rate, database_ms)
    VALUES (p_trial_id, date_bin(make_interval(secs => p_bucket_s), p_at, t.began_at), t.partner_id, p_cps, p_cps_peak, p_live, p_asr,
            p_pdd_p95_ms, p_refusal_rate, p_database_ms)
    ON CONFLICT (trial_id, at) DO UPDATE
       SET cps = greatest(s.cps, excluded.cps), cps_peak = greatest(s.cps_peak, excluded.cps_peak),
           live = greatest(s.live, excluded.live), asr = least(s.asr, excluded.asr),
           pdd_p95_ms = greatest(s.pdd_p95_ms, excluded.pdd_p95_ms), refusal_rate = greatest(s.refusal_rate, excluded.refusal_rate),
           database_ms = greatest(s.database_ms, excluded.database_ms);
    RETURN t.clock_at;
END $$;

-- The verdict on a trial that the caller has locked, and what follows: a window that failed is paused, one that passed is closed and
-- opens the next. Returns the verdict; cut_short: somebody else had paused or closed the window.
CREATE FUNCTION trial_end_v1(
    p_trial_id uuid, p_verdict text, p_which text, p_value double precision, p_allowed double precision, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    t trial;
    w rollout_window;
    no integer;
    done boolean;
BEGIN
    SELECT * INTO STRICT t FROM trial x WHERE x.trial_id = p_trial_id AND x.ended_at IS NULL FOR NO KEY UPDATE;
    done := rollout_window_set_v1(t.window_id, CASE p_verdict WHEN 'passed' THEN 'closed' ELSE 'paused' END, 'trial', 'callbridge', p_at);
    SELECT * INTO STRICT w FROM rollout_window x WHERE x.window_id = t.window_id;
    UPDATE trial x
       SET verdict = CASE WHEN done THEN p_verdict ELSE 'cut_short' END, why = CASE WHEN done THEN p_which ELSE w.cause END,
           value = CASE WHEN done THEN p_value END, allowed = CASE WHEN done THEN p_allowed END, ended_at = p_at,
           activated = w.activated - t.activated_before, measures = trial_measures_v1(p_trial_id),
           (calls, refused) = (SELECT t.calls + n.calls, t.refused + n.refused FROM trial_rest_v1(t) n)
     WHERE x.trial_id = p_trial_id RETURNING * INTO t;
    IF NOT done THEN
        RETURN t.verdict;
    END IF;
    no := rollout_note_v1(w.rollout_id, 'trial.' || p_verdict, 'trial', 'callbridge', p_at, w.partner_id, w.window_id,
                          p_data => jsonb_strip_nulls(jsonb_build_object('threshold', p_which, 'value', p_value, 'limit', p_allowed)));
    IF p_verdict = 'passed' AND w.next_window_id IS NOT NULL THEN
        UPDATE trial x SET next_opened = rollout_window_set_v1(w.next_window_id, 'open', 'trial', 'callbridge', p_at)
         WHERE x.trial_id = p_trial_id RETURNING * INTO t;
    END IF;
    PERFORM event_add_v1(w.partner_id, 'trial.' || p_verdict, w.window_id, no, jsonb_build_object(
        'window_id', told_id_v1('win', w.window_id), 'rollout_id', told_id_v1('rol', w.rollout_id), 'name', w.name, 'verdict', p_verdict,
        'threshold', p_which, 'value', p_value, 'limit', p_allowed, 'calls', t.calls, 'activated', t.activated,
        'began_at', told_at_v1(t.began_at), 'ended_at', told_at_v1(t.ended_at),
        'next_window_id', told_id_v1('win', w.next_window_id), 'next_opened', t.next_opened));
    RETURN t.verdict;
END $$;

GRANT SELECT ON trial, trial_sample TO callbridge_partner;
GRANT EXECUTE ON FUNCTION trial_measures_v1(uuid) TO callbridge_partner;
ALTER TABLE trial ENABLE ROW LEVEL SECURITY;
ALTER TABLE trial_sample ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON trial TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON trial_sample TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- ---------------------------------------------------------------- app users' phones
-- What the switch reads of them, their credentials, who is registered, and who was banned.

-- What a phone registers with. Of the password only the digest that the switch compares with is kept.
CREATE TABLE sip_credential (
    credential_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid,                                              -- the subscriber's
    auth            text NOT NULL UNIQUE GENERATED ALWAYS AS ('c' || replace(credential_id::text, '-', '')) STORED,
    endpoint        text NOT NULL GENERATED ALWAYS AS ('u' || replace(subscriber_id::text, '-', '')) STORED,
    realm           text NOT NULL CHECK (realm ~ '^[a-z0-9.-]{1,60}$'),
    digest          text NOT NULL CHECK (digest ~ '^[0-9a-f]{32}$'),   -- MD5 of endpoint:realm:password (RFC 7616, 3.4.2)
    media           text NOT NULL CHECK (media IN ('webrtc', 'rtp')),  -- a browser's, or plain RTP of an app of its own
    contacts_max    smallint NOT NULL CHECK (contacts_max BETWEEN 1 AND 10),  -- phones registered at the same time
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
CREATE INDEX sip_credential_endpoint ON sip_credential (endpoint, expires_at);
CREATE INDEX sip_credential_of ON sip_credential (subscriber_id, credential_id);
CREATE INDEX sip_credential_expiry ON sip_credential (expires_at);

-- Addresses the switch does not listen to for a while, and users it lets nobody register as.
CREATE TABLE sip_ban (
    sip_ban_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    switch_id       uuid NOT NULL REFERENCES switch,
    address         inet,
    subscriber_id   uuid REFERENCES subscriber,
    failures        integer NOT NULL CHECK (failures > 0),             -- that led to it
    banned_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    lifted_by       text,                                              -- the operator who ended it early
    CHECK (num_nonnulls(address, subscriber_id) = 1)
);
CREATE INDEX sip_ban_subscriber ON sip_ban (subscriber_id, expires_at) WHERE subscriber_id IS NOT NULL;
CREATE INDEX sip_ban_expiry ON sip_ban (expires_at);

-- ---------------------------------------------------------------- what the switch sees

-- The switch logs in with a role of its own that has this one, see switch_login_v1.
DO $$ BEGIN
    CREATE ROLE callbridge_switch NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
CREATE SCHEMA asterisk;
GRANT USAGE ON SCHEMA asterisk TO callbridge_switch;

-- Credentials with which somebody may register or call now.
CREATE VIEW sip_credential_now AS
SELECT c.credential_id, c.subscriber_id, c.auth, c.endpoint, c.realm, c.digest, c.media, c.contacts_max, s.a_number, c.expires_at
  FROM sip_credential c JOIN subscriber s USING (subscriber_id) JOIN account a USING (account_id)
 WHERE c.expires_at > now() AND c.revoked_at IS NULL AND s.state = 'active' AND a.state = 'active'
   AND NOT EXISTS (SELECT FROM partner p WHERE p.partner_id = s.partner_id AND p.state = 'closed')
   AND NOT EXISTS (SELECT FROM sip_ban b WHERE b.subscriber_id = c.subscriber_id AND b.expires_at > now());

-- Columns are named as PJSIP's options are. Who calls is the subscriber's number, whatever the phone says; a row without
-- `auth` would let anybody in, hence the inner join on credentials. The newest decides what media is spoken.
CREATE VIEW asterisk.ps_endpoints WITH (security_barrier) AS
SELECT c.endpoint AS id, c.endpoint AS aors,
       string_agg(c.auth, ',' ORDER BY c.credential_id DESC) AS auth,
       'from-user' AS context, '<' || c.a_number || '>' AS callerid, 'username' AS identify_by,
       'all' AS disallow, 'opus,alaw,ulaw' AS allow,
       CASE (array_agg(c.media ORDER BY c.credential_id DESC))[1] WHEN 'webrtc' THEN 'yes' ELSE 'no' END AS webrtc,
       CASE (array_agg(c.media ORDER BY c.credential_id DESC))[1] WHEN 'webrtc' THEN 'yes' ELSE 'no' END AS dtls_auto_generate_cert,
       'no' AS trust_id_inbound, 'no' AS trust_id_outbound, 'no' AS send_diversion, 'no' AS allow_subscribe, 'no' AS allow_transfer,
       'no' AS direct_media, 'yes' AS rtp_symmetric, 'yes' AS force_rport, 'yes' AS rewrite_contact,
       '60' AS rtp_timeout, '300' AS rtp_timeout_hold
  FROM bridge.sip_credential_now c GROUP BY c.endpoint, c.a_number;

CREATE VIEW asterisk.ps_auths WITH (security_barrier) AS
SELECT c.auth AS id, 'md5' AS auth_type, c.endpoint AS username, c.realm, c.digest AS md5_cred
  FROM bridge.sip_credential_now c;

-- One phone more than may be registered takes the place of the one that would expire first.
CREATE VIEW asterisk.ps_aors WITH (security_barrier) AS
SELECT c.endpoint AS id, (array_agg(c.contacts_max ORDER BY c.credential_id DESC))[1]::text AS max_contacts, 'yes' AS remove_existing,
       '60' AS minimum_expiration, '300' AS default_expiration, '600' AS maximum_expiration, '0' AS qualify_frequency, NULL::text AS contact
  FROM bridge.sip_credential_now c GROUP BY c.endpoint;
GRANT SELECT ON asterisk.ps_endpoints, asterisk.ps_auths, asterisk.ps_aors TO callbridge_switch;

-- Phones that are registered, as the switch told the bridge: it keeps them itself, for it looks them up at each call over
-- a trunk, too, which must work without a database.
CREATE TABLE asterisk.ps_contacts (
    id              text PRIMARY KEY,                                  -- the switch's: endpoint;@hash
    switch_id       uuid NOT NULL REFERENCES bridge.switch,
    endpoint        text NOT NULL,
    subscriber_id   uuid NOT NULL REFERENCES bridge.subscriber,
    uri             text NOT NULL,
    registered_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ps_contacts_endpoint ON asterisk.ps_contacts (endpoint);
CREATE INDEX ps_contacts_subscriber ON asterisk.ps_contacts (subscriber_id);

CREATE FUNCTION contact_registered_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('callbridge_registered', NEW.endpoint);
    RETURN NULL;
END $$;
CREATE TRIGGER ps_contacts_registered AFTER INSERT ON asterisk.ps_contacts
    FOR EACH ROW EXECUTE FUNCTION bridge.contact_registered_v1();

-- Who may no longer register is no longer reached. The bridge tells the switch to forget the phones.
CREATE FUNCTION contact_gone_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told bigint;
BEGIN
    IF TG_TABLE_NAME = 'account' THEN
        WITH gone AS (
            DELETE FROM asterisk.ps_contacts c USING bridge.subscriber s
             WHERE s.subscriber_id = c.subscriber_id AND s.account_id = NEW.account_id RETURNING c.id)
        SELECT count(pg_notify('callbridge_contact_gone', g.id)) INTO told FROM gone g;
    ELSIF NOT EXISTS (SELECT FROM bridge.sip_credential_now n WHERE n.subscriber_id = NEW.subscriber_id) THEN
        WITH gone AS (DELETE FROM asterisk.ps_contacts c WHERE c.subscriber_id = NEW.subscriber_id RETURNING c.id)
        SELECT count(pg_notify('callbridge_contact_gone', g.id)) INTO told FROM gone g;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER credential_unreached AFTER UPDATE OF revoked_at ON sip_credential
    FOR EACH ROW EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER banned_unreached AFTER INSERT ON sip_ban
    FOR EACH ROW WHEN (NEW.subscriber_id IS NOT NULL) EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER subscriber_unreached AFTER UPDATE OF state ON subscriber
    FOR EACH ROW WHEN (OLD.state = 'active' AND NEW.state <> 'active') EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER account_unreached AFTER UPDATE OF state ON account
    FOR EACH ROW WHEN (OLD.state = 'active' AND NEW.state <> 'active') EXECUTE FUNCTION contact_gone_v1();

-- A login for the switch, made or changed: it reads the three views, gives up early and has few connections.
CREATE FUNCTION switch_login_v1(p_name text, p_password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_name !~ '^callbridge_switch_[a-z0-9_]{1,40}$' THEN
        RAISE EXCEPTION 'the user of users.switch_dsn is not named callbridge_switch_…' USING ERRCODE = 'BR003';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('role ' || p_name, 0));
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p_name AND (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication)) THEN
        RAISE EXCEPTION 'role % may do more than read what the switch needs', p_name USING ERRCODE = 'BR003';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_name) THEN
        EXECUTE format('CREATE ROLE %I IN ROLE callbridge_switch', p_name);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN CONNECTION LIMIT 5 PASSWORD %L', p_name, p_password);
    EXECUTE format('ALTER ROLE %I SET search_path = asterisk', p_name);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', p_name);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''1s''', p_name);
END $$;
REVOKE ALL ON FUNCTION switch_login_v1(text, text) FROM PUBLIC;

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT (credential_id, subscriber_id, partner_id, endpoint, realm, media, contacts_max, created_at, expires_at, revoked_at)
    ON sip_credential TO callbridge_partner;
ALTER TABLE sip_credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE sip_ban ENABLE ROW LEVEL SECURITY;                         -- and no policy: operators' alone
GRANT SELECT (edition, phones, launched) ON app TO callbridge_partner;
CREATE POLICY own ON sip_credential TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
GRANT EXECUTE ON FUNCTION phone_session_find_v1(bytea) TO callbridge_partner;

-- ---------------------------------------------------------------- ended calls, numbered
-- What files, statements and invoices are made of, and what a partner can prove complete.

-- ---------------------------------------------------------------- what a record is made of

-- The tax terms of a frozen tariff; NULL: none.
CREATE FUNCTION cdr_tax_v1(p_sell jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_sell -> 'terms' ? 'tax'
                THEN jsonb_build_object('tax', p_sell #> '{terms,tax}', 'tax_ppm', p_sell #> '{terms,tax_ppm}') END
$$;

-- The tax of what a plan sells beside calls: messages, data, bundles. Its deck says it; NULL: none.
CREATE FUNCTION deck_tax_v1(p_deck_id uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT cdr_tax_v1(jsonb_build_object('terms', d.terms)) FROM deck d WHERE d.deck_id = p_deck_id
$$;

-- A bundle is bought with the tax that its plan has then. One of no plan has none.
CREATE FUNCTION allowance_taxed_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tax := coalesce(NEW.tax, (SELECT deck_tax_v1(p.deck_id) FROM bundle b JOIN plan p USING (plan_id) WHERE b.bundle_id = NEW.bundle_id));
    RETURN NEW;
END $$;
CREATE TRIGGER allowance_taxed BEFORE INSERT ON allowance FOR EACH ROW WHEN (NEW.transfer_id IS NOT NULL)
    EXECUTE FUNCTION allowance_taxed_v1();

-- The prefix a leg was priced by. A rate of one number only, as on-net calls have, would name it: then there is none.
CREATE FUNCTION cdr_prefix_v1(p_tariff jsonb, p_number text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_tariff ->> 'zero_rated' = 'on-net' OR '+' || (p_tariff ->> 'prefix') = p_number THEN ''
                ELSE coalesce(p_tariff ->> 'prefix', '') END
$$;

-- What an answered call was made for, as far as it is kept for that.
CREATE FUNCTION cdr_purpose_v1(p_sell jsonb, p_covered_s bigint, p_paid_micro bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(p_sell ->> 'zero_rated', CASE WHEN p_covered_s > 0 AND p_paid_micro = 0 THEN 'bundle' ELSE 'retail' END)
$$;

-- Every record there has to be of what has ended, before corrections. learnt_at: when it counts, unless it is numbered late.
-- kept_as: the rule by which the data behind it is kept.
CREATE VIEW cdr_first AS
SELECT c.call_id, 'origination' AS leg, 0::smallint AS attempt_no, 'first' AS kind, 0 AS revision,
       CASE c.state WHEN 'answered' THEN 'cdr' ELSE 'quality' END AS file_type, c.ended_at AS learnt_at, c.partner_id, c.ended_at,
       c.answered_at, c.state = 'answered' AS answered, c.direction, c.trunk_in_id AS trunk_id, c.subscriber_id, c.account_id,
       coalesce(c.talk_ms, 0) AS talk_ms, coalesce(h.billed_s, 0)::bigint AS billed_s, coalesce(h.covered_s, 0)::bigint AS covered_s,
       coalesce(h.amount_micro - h.written_off_micro, 0) AS amount_micro, coalesce(h.currency, a.currency, repeat('X', 3))::text AS currency,
       cdr_tax_v1(c.sell) AS tax, coalesce(c.sell ->> 'destination', '') AS destination, cdr_prefix_v1(c.sell, c.b_number) AS prefix,
       CASE c.state WHEN 'answered' THEN cdr_purpose_v1(c.sell, h.covered_s, h.amount_micro - h.written_off_micro)
                    ELSE 'quality' END AS purpose,
       CASE WHEN c.state <> 'answered' THEN 'quality' WHEN c.sell ? 'zero_rated' THEN 'settlement' ELSE 'billing' END AS kept_as
  FROM call c LEFT JOIN charge h USING (call_id) LEFT JOIN account a ON a.account_id = c.account_id
 WHERE c.ended_at IS NOT NULL
UNION ALL
SELECT c.call_id, 'termination', x.attempt_no, 'first', 0, CASE x.outcome WHEN 'answered' THEN 'cdr' ELSE 'quality' END, c.ended_at,
       t.partner_id, c.ended_at, CASE x.outcome WHEN 'answered' THEN c.answered_at END, x.outcome = 'answered', c.direction, x.trunk_id,
       NULL, t.account_id, CASE x.outcome WHEN 'answered' THEN coalesce(c.talk_ms, 0) ELSE 0 END, x.billed_s::bigint, 0::bigint,
       x.cost_micro, x.currency::text, NULL, coalesce(x.buy ->> 'destination', ''), cdr_prefix_v1(x.buy, c.b_number),
       CASE x.outcome WHEN 'answered' THEN 'wholesale' ELSE 'quality' END,
       CASE WHEN x.outcome <> 'answered' THEN 'quality' WHEN c.sell ? 'zero_rated' THEN 'settlement' ELSE 'billing' END
  FROM call c JOIN attempt x USING (call_id) LEFT JOIN trunk t USING (trunk_id)
 WHERE c.ended_at IS NOT NULL
UNION ALL
SELECT u.usage_id, 'usage', 0::smallint, 'first', 0, 'cdr', greatest(u.used_at, u.reported_at), u.partner_id, u.used_at, NULL, false, 'out',
       NULL, NULL, u.account_id, 0, 0, 0, u.amount_micro - u.written_off_micro, u.currency::text, u.tax, u.service, '', 'usage', 'billing'
  FROM usage_record u;

-- And those of later prices: for each leg of which something changed, what stood is taken back and what stands now is booked.
CREATE VIEW cdr_correction AS
WITH priced AS (
    SELECT r.call_id, r.revision, r.run_id, c.ended_at, c.answered_at, c.direction, c.partner_id, c.trunk_in_id, c.subscriber_id,
           c.account_id, coalesce(c.talk_ms, 0) AS talk_ms, c.b_number, h.covered_s::bigint AS covered_s, h.currency::text AS currency,
           r.sell, r.billed_s::bigint AS billed_s, r.amount_micro - r.written_off_micro AS amount_micro, coalesce(r.buy, x.buy) AS buy,
           r.buy_billed_s::bigint AS buy_billed_s, r.cost_micro, coalesce(b.sell, c.sell) AS sell_before,
           coalesce(b.billed_s, h.billed_s)::bigint AS billed_before_s,
           coalesce(b.amount_micro - b.written_off_micro, h.amount_micro - h.written_off_micro) AS amount_before_micro,
           coalesce(b.buy, x.buy) AS buy_before, coalesce(b.buy_billed_s, x.billed_s)::bigint AS buy_billed_before_s,
           coalesce(b.cost_micro, x.cost_micro) AS cost_before_micro, x.attempt_no, x.trunk_id, x.currency::text AS cost_currency,
           t.partner_id AS trunk_partner_id, t.account_id AS carrier_id,
           greatest(c.ended_at, n.created_at, uuid_extract_timestamp(coalesce(r.reversal_id, r.rebooking_id))) AS learnt_at
      FROM rerating r JOIN call c USING (call_id) JOIN charge h USING (call_id)
      LEFT JOIN rerating b ON b.call_id = r.call_id AND b.revision = r.revision - 1
      LEFT JOIN attempt x ON x.call_id = r.call_id AND x.outcome = 'answered'
      LEFT JOIN trunk t USING (trunk_id)
      LEFT JOIN rerate_run n ON n.run_id = r.run_id
), sold AS (
    SELECT p.*, k.sign, k.kind, k.billed, k.paid, cdr_tax_v1(k.tariff) AS tax, coalesce(k.tariff ->> 'destination', '') AS destination,
           cdr_prefix_v1(k.tariff, p.b_number) AS prefix, cdr_purpose_v1(k.tariff, p.covered_s, k.paid) AS purpose
      FROM priced p CROSS JOIN LATERAL (VALUES (-1, 'reversal', p.billed_before_s, p.amount_before_micro, p.sell_before),
                                               (1, 'rebooking', p.billed_s, p.amount_micro, p.sell)) AS k (sign, kind, billed, paid, tariff)
     WHERE (p.billed_before_s, p.amount_before_micro, cdr_tax_v1(p.sell_before), p.sell_before ->> 'destination',
            cdr_prefix_v1(p.sell_before, p.b_number)) IS DISTINCT FROM
           (p.billed_s, p.amount_micro, cdr_tax_v1(p.sell), p.sell ->> 'destination', cdr_prefix_v1(p.sell, p.b_number))
), bought AS (
    SELECT p.*, k.sign, k.kind, k.billed, k.paid, coalesce(k.tariff ->> 'destination', '') AS destination,
           cdr_prefix_v1(k.tariff, p.b_number) AS prefix
      FROM priced p CROSS JOIN LATERAL (VALUES (-1, 'reversal', p.buy_billed_before_s, p.cost_before_micro, p.buy_before),
                                               (1, 'rebooking', p.buy_billed_s, p.cost_micro, p.buy)) AS k (sign, kind, billed, paid, tariff)
     WHERE p.attempt_no IS NOT NULL
       AND (p.buy_billed_before_s, p.cost_before_micro, p.buy_before ->> 'destination', cdr_prefix_v1(p.buy_before, p.b_number))
           IS DISTINCT FROM (p.buy_billed_s, p.cost_micro, p.buy ->> 'destination', cdr_prefix_v1(p.buy, p.b_number))
)
SELECT s.call_id, 'origination' AS leg, 0::smallint AS attempt_no, s.kind, s.revision, 'correction' AS file_type, s.learnt_at, s.partner_id,
       s.ended_at, s.answered_at, true AS answered, s.direction, s.trunk_in_id AS trunk_id, s.subscriber_id, s.account_id,
       s.sign * s.talk_ms AS talk_ms, s.sign * s.billed AS billed_s, s.sign * s.covered_s AS covered_s, s.sign * s.paid AS amount_micro,
       s.currency, s.tax, s.destination, s.prefix, s.purpose,
       CASE WHEN s.sell ? 'zero_rated' THEN 'settlement' ELSE 'billing' END AS kept_as, s.run_id
  FROM sold s
UNION ALL
SELECT b.call_id, 'termination', b.attempt_no, b.kind, b.revision, 'correction', b.learnt_at, b.trunk_partner_id, b.ended_at, b.answered_at,
       true, b.direction, b.trunk_id, NULL, b.carrier_id, b.sign * b.talk_ms, b.sign * b.billed, 0::bigint, b.sign * b.paid,
       b.cost_currency, NULL, b.destination, b.prefix, 'wholesale',
       CASE WHEN b.sell ? 'zero_rated' THEN 'settlement' ELSE 'billing' END, b.run_id
  FROM bought b;

-- ---------------------------------------------------------------- the records

-- One numbered, immutable line of an ended call or of usage. No phone number is in it: it stays when the call's data goes.
-- at never decreases with cdr_no: what is learnt late counts when it was learnt. A period of at is one range of numbers.
CREATE TABLE cdr (
    cdr_no          bigint PRIMARY KEY CHECK (cdr_no > 0),             -- without gaps, over the house
    partner_id      uuid,                                              -- the caller's; of a termination, the trunk's
    record_no       bigint CHECK (record_no > 0),                      -- without gaps, over the partner's records
    call_id         uuid NOT NULL,                                     -- of usage: its id
    leg             text NOT NULL CHECK (leg IN ('origination', 'termination', 'usage')),
    attempt_no      smallint NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('first', 'reversal', 'rebooking')),
    revision        integer NOT NULL CHECK (revision >= 0),
    file_type       text NOT NULL CHECK (file_type IN ('cdr', 'quality', 'correction')),
    at              timestamptz NOT NULL,
    ended_at        timestamptz NOT NULL,
    answered_at     timestamptz,
    answered        boolean NOT NULL,
    direction       text NOT NULL,
    trunk_id        uuid,                                              -- over which it went out, or came in
    subscriber_id   uuid,
    account_id      uuid,                                              -- of a termination: the carrier's
    talk_ms         bigint NOT NULL,
    billed_s        bigint NOT NULL,
    covered_s       bigint NOT NULL,
    amount_micro    bigint NOT NULL,                                   -- paid by the account; of a termination: the cost
    currency        currency_code NOT NULL,                            -- three X (ISO 4217): of no account
    tax             jsonb,
    destination     text NOT NULL,
    prefix          text NOT NULL,
    purpose         text NOT NULL CHECK (purpose IN ('retail', 'destination', 'on-net', 'bundle', 'wholesale', 'quality', 'usage')),
    delete_after    date NOT NULL,                                     -- the last day of the traffic data behind it
    hash            bytea NOT NULL CHECK (length(hash) = 32),          -- of the line, see cdr_line_v1
    UNIQUE (partner_id, record_no),
    UNIQUE (call_id, leg, attempt_no, kind, revision),
    CHECK ((partner_id IS NULL) = (record_no IS NULL)),
    CHECK ((kind = 'first') = (revision = 0)),
    CHECK ((file_type = 'correction') = (kind <> 'first'))
);
CREATE INDEX cdr_at ON cdr (at, cdr_no);
CREATE INDEX cdr_delete_after ON cdr (delete_after);
CREATE INDEX cdr_partner_at ON cdr (partner_id, at, record_no) WHERE partner_id IS NOT NULL;

-- Every pass of the numbering. Of all that had ended before the latest until, each record has its number.
CREATE TABLE cdr_pass (
    until           timestamptz PRIMARY KEY,
    last_no         bigint NOT NULL,                                   -- of the house, after it
    sealed_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A day (UTC, by `at`) that is over: hash = sha256(previous || the hashes of its records in the order of their numbers).
-- The house's own chain has the nil UUID and goes by cdr_no.
CREATE TABLE cdr_day (
    partner_id      uuid NOT NULL,
    day             date NOT NULL,
    first_no        bigint NOT NULL CHECK (first_no > 0),
    last_no         bigint NOT NULL,                                   -- first_no - 1: nothing happened
    records         bigint NOT NULL CHECK (records = last_no - first_no + 1 AND records >= 0),
    previous        bytea NOT NULL CHECK (length(previous) = 32),      -- the day's before; zeros: there was none
    hash            bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (partner_id, day)
);

CREATE TRIGGER cdr_insert_only BEFORE UPDATE OR DELETE ON cdr FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_no_truncate BEFORE TRUNCATE ON cdr FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_pass_insert_only BEFORE UPDATE OR DELETE ON cdr_pass FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_pass_no_truncate BEFORE TRUNCATE ON cdr_pass FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_day_insert_only BEFORE UPDATE OR DELETE ON cdr_day FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_day_no_truncate BEFORE TRUNCATE ON cdr_day FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- The line a record's hash is of: the very texts of its file. docs/completeness.md
CREATE FUNCTION cdr_line_v1(
    p_no bigint, p_call_id uuid, p_leg text, p_attempt_no smallint, p_kind text, p_revision integer, p_answered_at timestamptz,
    p_talk_ms bigint, p_billed_s bigint, p_amount_micro bigint, p_currency text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT concat_ws('|', p_no, encode(uuid_send(p_call_id), 'hex'), p_leg, p_attempt_no, p_kind, p_revision,
                     coalesce(to_char(p_answered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), ''), p_talk_ms, p_billed_s,
                     money_text_v1(p_amount_micro), p_currency)
$$;

-- The last day on which the data behind a record may be there: of a month in the company's time zone.
CREATE FUNCTION cdr_delete_after_v1(
    p_kept_as text, p_at timestamptz, p_billing_months integer, p_settlement_days integer, p_quality_days integer, p_zone text
) RETURNS date LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE p_kept_as WHEN 'quality' THEN (p_at AT TIME ZONE p_zone)::date + p_quality_days
                WHEN 'settlement' THEN (date_trunc('month', p_at AT TIME ZONE p_zone) + interval '1 month')::date - 1 + p_settlement_days
                ELSE (date_trunc('month', p_at AT TIME ZONE p_zone) + make_interval(months => 1 + p_billing_months))::date - 1 END
$$;

-- What is to be numbered, in order, into the temporary table cdr_due of the session. Of calls from p_since on, and of runs of re-rating
-- that were at work after p_runs_since (NULL: of all). Returns how many there are.
-- Planned each time: from one pass to the next all is another number of rows.
CREATE FUNCTION cdr_gather_v1(p_since uuid, p_runs_since timestamptz, p_until timestamptz) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    found bigint;
    runs uuid[] := ARRAY(SELECT r.run_id FROM rerate_run r WHERE p_runs_since IS NULL OR r.state = 'running' OR r.closed_at >= p_runs_since);
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS cdr_due (
        n bigint PRIMARY KEY, call_id uuid, leg text, attempt_no smallint, kind text, revision integer, file_type text,
        learnt_at timestamptz, partner_id uuid, ended_at timestamptz, answered_at timestamptz, answered boolean, direction text,
        trunk_id uuid, subscriber_id uuid, account_id uuid, talk_ms bigint, billed_s bigint, covered_s bigint, amount_micro bigint,
        currency text, tax jsonb, destination text, prefix text, purpose text, kept_as text);
    TRUNCATE cdr_due;
    INSERT INTO cdr_due
    SELECT row_number() OVER (ORDER BY d.learnt_at, d.call_id, d.leg, d.attempt_no, d.revision, d.kind DESC), d.*
      FROM (SELECT f.* FROM cdr_first f
             WHERE f.call_id >= p_since AND f.learnt_at < p_until AND f.ended_at < p_until
               AND NOT EXISTS (SELECT FROM cdr k WHERE k.call_id >= p_since AND k.call_id = f.call_id AND k.leg = f.leg
                                  AND k.attempt_no = f.attempt_no AND k.kind = f.kind AND k.revision = f.revision)
             UNION ALL
            SELECT o.call_id, o.leg, o.attempt_no, o.kind, o.revision, o.file_type, o.learnt_at, o.partner_id, o.ended_at, o.answered_at,
                   o.answered, o.direction, o.trunk_id, o.subscriber_id, o.account_id, o.talk_ms, o.billed_s, o.covered_s,
                   o.amount_micro, o.currency, o.tax, o.destination, o.prefix, o.purpose, o.kept_as
              FROM cdr_correction o
             WHERE cardinality(runs) > 0 AND o.run_id = ANY (runs) AND o.learnt_at < p_until AND o.ended_at < p_until
               AND (o.call_id >= p_since OR EXISTS (SELECT FROM cdr k WHERE k.call_id = o.call_id AND k.leg = o.leg
                                                       AND k.attempt_no = o.attempt_no AND k.kind = 'first'))
               AND NOT EXISTS (SELECT FROM cdr k WHERE k.call_id = o.call_id AND k.leg = o.leg AND k.attempt_no = o.attempt_no
                                  AND k.kind = o.kind AND k.revision = o.revision)) d;
    GET DIAGNOSTICS found = ROW_COUNT;
    ANALYZE cdr_due;
    RETURN found;
END $$;

-- Number what was gathered, of rows p_after + 1 to p_to. One at a time numbers, under the lock that its caller holds; a number is
-- one more than the last one that is there, so that a transaction that does not commit leaves no gap. Returns how many.
-- By key, whatever statistics say: of millions of records that were just made they know nothing yet.
CREATE FUNCTION cdr_seal_v1(
    p_after bigint, p_to bigint, p_billing_months integer, p_settlement_days integer, p_quality_days integer, p_zone text
) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
DECLARE
    last_no bigint;
    not_before timestamptz;
    sealed bigint;
BEGIN
    SELECT k.cdr_no, k.at INTO last_no, not_before FROM cdr k ORDER BY k.cdr_no DESC LIMIT 1;
    SELECT greatest(not_before, max(p.until)) INTO not_before FROM cdr_pass p;
    INSERT INTO cdr
    WITH owned AS MATERIALIZED (
        SELECT d.*, coalesce(last_no, 0) + row_number() OVER (ORDER BY d.n) AS cdr_no, greatest(d.learnt_at, not_before) AS at,
               -- A correction goes to whom the record went that it corrects, whosever the trunk is by now.
               CASE WHEN f.cdr_no IS NULL THEN d.partner_id ELSE f.partner_id END AS owner_id
          FROM cdr_due d
          LEFT JOIN LATERAL (SELECT k.cdr_no, k.partner_id FROM cdr k
                              WHERE d.kind <> 'first' AND k.call_id = d.call_id AND k.leg = d.leg AND k.attempt_no = d.attempt_no
                                AND k.kind = 'first' AND k.revision = 0 LIMIT 1) f ON true
         WHERE d.n > p_after AND d.n <= p_to
    ), base AS MATERIALIZED (
        SELECT o.owner_id, coalesce((SELECT max(k.record_no) FROM cdr k WHERE k.partner_id = o.owner_id), 0) AS last_record_no
          FROM (SELECT DISTINCT w.owner_id FROM owned w WHERE w.owner_id IS NOT NULL) o
    )
    SELECT s.cdr_no, s.owner_id, s.record_no, s.call_id, s.leg, s.attempt_no, s.kind, s.revision, s.file_type, s.at, s.ended_at,
           s.answered_at, s.answered, s.direction, s.trunk_id, s.subscriber_id, s.account_id, s.talk_ms, s.billed_s, s.covered_s,
           s.amount_micro, s.currency, s.tax, s.destination, s.prefix, s.purpose,
           cdr_delete_after_v1(s.kept_as, s.at, p_billing_months, p_settlement_days, p_quality_days, p_zone),
           sha256(convert_to(cdr_line_v1(coalesce(s.record_no, s.cdr_no), s.call_id, s.leg, s.attempt_no, s.kind, s.revision,
                                         s.answered_at, s.talk_ms, s.billed_s, s.amount_micro, s.currency), 'UTF8'))
      FROM (SELECT w.*, b.last_record_no + row_number() OVER (PARTITION BY w.owner_id ORDER BY w.n) AS record_no
              FROM owned w LEFT JOIN base b ON b.owner_id = w.owner_id) s
     ORDER BY s.cdr_no;
    GET DIAGNOSTICS sealed = ROW_COUNT;
    RETURN sealed;
END $$;

-- ---------------------------------------------------------------- each sees its own

-- Neither our numbers, which count everybody's calls, nor over which trunks it went.
GRANT SELECT (partner_id, record_no, call_id, leg, attempt_no, kind, revision, file_type, at, ended_at, answered_at, answered, direction,
    subscriber_id, account_id, talk_ms, billed_s, covered_s, amount_micro, currency, tax, destination, prefix, purpose, hash) ON cdr
    TO callbridge_partner;
GRANT SELECT ON cdr_day TO callbridge_partner;
GRANT SELECT (until) ON cdr_pass TO callbridge_partner;
ALTER TABLE cdr ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_day ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_pass ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cdr TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON cdr_day TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY any_partner ON cdr_pass TO callbridge_partner USING ((SELECT partner_asking_v1()) IS NOT NULL);

-- Files of call records: who gets which, the gap-free sequence of files, and what a trunk was called when a file was planned.

-- Whoever gets files: a partner its own records, by record_no; without a partner the house itself all of them, by cdr_no.
CREATE TABLE cdr_recipient (
    recipient_id    uuid PRIMARY KEY DEFAULT uuidv7(),
    code            text NOT NULL CHECK (code ~ '^[A-Za-z0-9-]{1,20}$'),  -- in the names of its files
    partner_id      uuid REFERENCES partner,
    types           text[] NOT NULL DEFAULT '{cdr}'
        CHECK (types <@ '{cdr,quality,correction}' AND cardinality(types) BETWEEN 1 AND 3),
    format          text NOT NULL DEFAULT 'csv' CHECK (format IN ('csv', 'jsonl', 'parquet', 'tap3')),
    period          text NOT NULL DEFAULT 'daily' CHECK (period IN ('hourly', 'daily', 'monthly', 'manual')),
    time_zone       text NOT NULL,                                     -- in which its hours, days and months begin
    target          jsonb NOT NULL CHECK (target ->> 'kind' IN ('directory', 'sftp', 'api')),
    since_at        timestamptz NOT NULL,                              -- its first file of each type begins then
    enabled         boolean NOT NULL DEFAULT true,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX cdr_recipient_code ON cdr_recipient (lower(code)); -- also where a file system knows no case
CREATE INDEX cdr_recipient_partner ON cdr_recipient (partner_id, recipient_id NULLS FIRST);

-- What trunks and partners were called at a time. A file is planned with the names of its hour and keeps them, so that it comes
-- out the same when it is written again after a trunk has another name. Each state of names is kept once.
CREATE TABLE cdr_names (
    names_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash            bytea NOT NULL UNIQUE,
    trunks          jsonb NOT NULL,                                    -- [{trunk_id, name, partner_id}]
    partners        jsonb NOT NULL                                     -- [{partner_id, name}]
);
CREATE TRIGGER cdr_names_insert_only BEFORE UPDATE OR DELETE ON cdr_names
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_names_no_truncate BEFORE TRUNCATE ON cdr_names
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A file: planned with its number and range in one transaction, then written, then delivered. What is in it follows from the
-- plan alone. No record is in two files of a type, and no instant: both ranges may touch and never overlap.
CREATE TABLE cdr_file (
    file_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    recipient_id    uuid NOT NULL REFERENCES cdr_recipient,
    partner_id      uuid,                                              -- the recipient's
    type            text NOT NULL CHECK (type IN ('cdr', 'quality', 'correction')),
    file_no         bigint NOT NULL CHECK (file_no BETWEEN 1 AND 99999999),  -- gap-free for each recipient and type
    first_no        bigint NOT NULL CHECK (first_no >= 0),             -- records after this one,
    last_no         bigint NOT NULL,                                   -- up to and with this one
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    period          text NOT NULL,
    time_zone       text NOT NULL,
    format          text NOT NULL CHECK (format IN ('csv', 'jsonl', 'parquet', 'tap3')),
    sender          text NOT NULL,
    name            text NOT NULL UNIQUE,
    names_id        bigint NOT NULL REFERENCES cdr_names,
    state           text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'written', 'delivered')),
    totals          jsonb,
    rows            bigint CHECK (rows >= 0),
    bytes           bigint CHECK (bytes >= 0),
    sha256          bytea CHECK (length(sha256) = 32),
    planned_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_at      timestamptz,
    delivered_at    timestamptz,
    purged_at       timestamptz,                                       -- our copy went with the data in it; what was told of it stays
    UNIQUE (recipient_id, type, file_no),
    CHECK (first_no <= last_no),
    CHECK (from_at < to_at),
    CONSTRAINT cdr_file_written_is_whole CHECK (state = 'planned' OR (
        totals IS NOT NULL AND rows IS NOT NULL AND bytes IS NOT NULL AND sha256 IS NOT NULL AND written_at IS NOT NULL)),
    CONSTRAINT cdr_file_records_once EXCLUDE USING gist (
        recipient_id WITH =, type WITH =, int8range(first_no, last_no, '(]') WITH &&),
    CONSTRAINT cdr_file_time_once EXCLUDE USING gist (
        recipient_id WITH =, type WITH =, tstzrange(from_at, to_at) WITH &&)
);
CREATE INDEX cdr_file_partner ON cdr_file (partner_id, file_id NULLS FIRST);
CREATE INDEX cdr_file_due ON cdr_file (recipient_id, type, file_no) WHERE state <> 'delivered';

-- A plan stands. What was written once is written the same again, and no file is taken back.
CREATE FUNCTION cdr_file_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'files of call records are never taken back' USING ERRCODE = 'BR002';
    END IF;
    IF (new.file_id, new.recipient_id, new.partner_id, new.type, new.file_no, new.first_no, new.last_no, new.from_at, new.to_at,
        new.period, new.time_zone, new.format, new.sender, new.name, new.names_id, new.planned_at)
       IS DISTINCT FROM
       (old.file_id, old.recipient_id, old.partner_id, old.type, old.file_no, old.first_no, old.last_no, old.from_at, old.to_at,
        old.period, old.time_zone, old.format, old.sender, old.name, old.names_id, old.planned_at)
       OR (old.state <> 'planned' AND (new.state = 'planned' OR (new.totals, new.rows, new.bytes, new.sha256)
                                       IS DISTINCT FROM (old.totals, old.rows, old.bytes, old.sha256)))
       OR (old.state = 'delivered' AND new.state <> 'delivered') THEN
        RAISE EXCEPTION 'file % is planned and stays as it is', old.name USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER cdr_file_stays BEFORE UPDATE OR DELETE ON cdr_file
    FOR EACH ROW EXECUTE FUNCTION cdr_file_stays_v1();
CREATE TRIGGER cdr_file_no_truncate BEFORE TRUNCATE ON cdr_file
    FOR EACH STATEMENT EXECUTE FUNCTION cdr_file_stays_v1();

-- The names of today, as kept.
CREATE FUNCTION cdr_names_v1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    t jsonb := (SELECT coalesce(jsonb_agg(jsonb_build_object('trunk_id', o.trunk_id, 'name', o.name, 'partner_id', o.partner_id)
                                          ORDER BY o.trunk_id), '[]') FROM trunk o);
    p jsonb := (SELECT coalesce(jsonb_agg(jsonb_build_object('partner_id', o.partner_id, 'name', o.name) ORDER BY o.partner_id), '[]')
                  FROM partner o);
    h bytea := sha256(convert_to(t::text || p::text, 'UTF8'));
BEGIN
    INSERT INTO cdr_names (hash, trunks, partners) VALUES (h, t, p) ON CONFLICT (hash) DO NOTHING;
    RETURN (SELECT n.names_id FROM cdr_names n WHERE n.hash = h);
END $$;

-- A cell of text as spreadsheets may have it: one that begins like a formula, whatever blanks are before it, begins with an
-- apostrophe, and what is no character to be shown is a blank, so that a row is a line. Empty is NULL.
CREATE FUNCTION cell_text_v1(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_text ~ '^[A-Za-z0-9][A-Za-z0-9 ._/-]*$' THEN p_text
                ELSE nullif(CASE WHEN p_text ~ '^([\t\r\n]|[[:space:][:cntrl:]]*[-=+@＝＋－＠])' THEN '''' ELSE '' END
                            || regexp_replace(p_text, '[[:cntrl:]\u0085\u2028\u2029]', ' ', 'g'), '') END
$$;

-- A number: digits without the plus where it is one, else a cell of text.
CREATE FUNCTION cell_number_v1(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_text ~ '^\+?[0-9]+$' THEN ltrim(p_text, '+') ELSE cell_text_v1(p_text) END
$$;

-- An instant: RFC 3339 in UTC to the millisecond.
CREATE FUNCTION cell_at_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

GRANT SELECT (recipient_id, code, partner_id, types, format, period, time_zone, since_at, enabled, edition, created_at)
    ON cdr_recipient TO callbridge_partner;
GRANT SELECT (file_id, recipient_id, partner_id, type, file_no, first_no, last_no, from_at, to_at, period, time_zone, format, sender,
              name, state, totals, rows, bytes, sha256, planned_at, written_at, delivered_at)
    ON cdr_file TO callbridge_partner;
ALTER TABLE cdr_recipient ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_names ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cdr_recipient TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON cdr_file TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- ---------------------------------------------------------------- work apart from calls

-- What is to be done, once or again and again. One row is at work in one place: whoever has its lease.
CREATE TABLE job (
    key             text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 200),
    kind            text NOT NULL CHECK (kind ~ '^[a-z_]{1,30}$'),
    payload         jsonb NOT NULL DEFAULT '{}',
    rhythm          text CHECK (rhythm IN ('often', 'hourly', 'daily', 'monthly')),  -- NULL: once
    time_zone       text NOT NULL DEFAULT 'UTC',                       -- in which its hours, days and months begin
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    due_at          timestamptz DEFAULT now(),                         -- NULL: not by itself
    tries           integer NOT NULL DEFAULT 0,                        -- since it last succeeded or was asked for
    lease_id        uuid,
    leased_until    timestamptz,                                       -- whoever had it until then is taken for dead
    problem         text NOT NULL DEFAULT '',                          -- of the last try
    said            jsonb NOT NULL DEFAULT '{}',                       -- what the last success made
    created_at      timestamptz NOT NULL DEFAULT now(),
    begun_at        timestamptz,
    ended_at        timestamptz,
    CHECK ((state = 'running') = (lease_id IS NOT NULL)),
    CHECK ((lease_id IS NULL) = (leased_until IS NULL))
);
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_running ON job (leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX job_state ON job (state);

-- Records of a period as one file, which whoever asks for it fetches. partner_id NULL: the house itself, all records.
CREATE TABLE export (
    export_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,
    type            text NOT NULL CHECK (type IN ('cdr', 'quality', 'correction')),
    format          text NOT NULL CHECK (format IN ('csv', 'jsonl', 'parquet')),
    since_at        timestamptz NOT NULL,
    until_at        timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    problem         text NOT NULL DEFAULT '',
    name            text,
    rows            bigint CHECK (rows >= 0),
    bytes           bigint CHECK (bytes >= 0),
    totals          jsonb,
    sha256          bytea CHECK (length(sha256) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    done_at         timestamptz,
    expires_at      timestamptz,                                       -- the file is removed then
    removed_at      timestamptz,
    CHECK (since_at < until_at),
    CHECK (state <> 'done' OR (name IS NOT NULL AND rows IS NOT NULL AND bytes IS NOT NULL AND totals IS NOT NULL
                               AND sha256 IS NOT NULL AND done_at IS NOT NULL AND expires_at IS NOT NULL))
);
CREATE INDEX export_partner ON export (partner_id, export_id NULLS FIRST);
CREATE INDEX export_unfinished ON export (partner_id) WHERE state IN ('queued', 'running');
CREATE INDEX export_expiring ON export (expires_at) WHERE state = 'done' AND removed_at IS NULL;

-- Numbered files of one recipient, newest first.
CREATE INDEX cdr_file_recipient ON cdr_file (recipient_id, file_id NULLS FIRST);

-- Ask for an extract, and for the job that makes it. So many of one partner may be waited for at a time.
CREATE FUNCTION export_add_v1(
    p_partner_id uuid, p_type text, p_format text, p_since timestamptz, p_until timestamptz, p_due timestamptz, p_most integer
) RETURNS export LANGUAGE plpgsql AS $$
DECLARE
    made export;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('exports ' || coalesce(p_partner_id::text, ''), 0));
    IF (SELECT count(*) FROM export e
         WHERE e.partner_id IS NOT DISTINCT FROM p_partner_id AND e.state IN ('queued', 'running')) >= p_most THEN
        RAISE EXCEPTION 'There are % exports at work already. Ask again when one is done.', p_most USING ERRCODE = 'BR004';
    END IF;
    INSERT INTO export (partner_id, type, format, since_at, until_at) VALUES (p_partner_id, p_type, p_format, p_since, p_until)
    RETURNING * INTO made;
    INSERT INTO job (key, kind, payload, due_at)
    VALUES ('extract ' || told_id_v1('exp', made.export_id), 'extract', jsonb_build_object('export_id', made.export_id), p_due);
    PERFORM pg_notify('callbridge_jobs', '');
    RETURN made;
END $$;

-- What a partner is told of its export, as the API tells it.
CREATE FUNCTION export_told_v1(e export) RETURNS void LANGUAGE sql AS $$
    SELECT event_add_v1(e.partner_id, 'export.' || e.state, e.export_id, 1,
                        jsonb_build_object('export_id', told_id_v1('exp', e.export_id), 'type', e.type, 'format', e.format,
                                           'since', told_at_v1(e.since_at), 'until', told_at_v1(e.until_at))
                        || CASE e.state WHEN 'done' THEN jsonb_build_object(
                                            'rows', e.rows, 'bytes', e.bytes, 'sha256', encode(e.sha256, 'hex'),
                                            'url', '/v1/exports/' || told_id_v1('exp', e.export_id) || '/file',
                                            'expires_at', told_at_v1(e.expires_at))
                                        ELSE jsonb_build_object('problem', e.problem) END)
$$;


GRANT SELECT ON export TO callbridge_partner;
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
ALTER TABLE job ENABLE ROW LEVEL SECURITY;                             -- and no policy: the house's alone
CREATE POLICY own ON export TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
REVOKE EXECUTE ON FUNCTION export_add_v1(uuid, text, text, timestamptz, timestamptz, timestamptz, integer), export_told_v1(export)
    FROM PUBLIC;

-- ---------------------------------------------------------------- statements

-- A month under a deal. Positive: we owe it to the partner. A draft may be made again; from its approval on it stays as it is, and
-- only goes on: approved, sent, settled. edition counts the drafts, the changes of state and the payments.
CREATE TABLE statement (
    statement_id    uuid PRIMARY KEY DEFAULT uuidv7(),
    deal_id         uuid NOT NULL REFERENCES deal,
    partner_id      uuid NOT NULL REFERENCES partner,
    month           text NOT NULL CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL CHECK (to_at > from_at),
    currency        currency_code NOT NULL,
    state           text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'approved', 'sent', 'settled')),
    total_micro     bigint NOT NULL,
    inputs          jsonb NOT NULL CHECK (jsonb_typeof(inputs) = 'object'),  -- all that the lines follow from
    first_no        bigint NOT NULL,                                   -- the partner's records in it; both 0: none
    last_no         bigint NOT NULL,
    chain_day       date NOT NULL,                                     -- the last whole day (UTC) in it
    chain_hash      bytea,                                             -- the partner's chain after that day; NULL: it has none
    edition         integer NOT NULL DEFAULT 1,
    drafted_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    drafted_by      text NOT NULL CHECK (btrim(drafted_by) <> ''),
    approved_at     timestamptz,
    approved_by     text CHECK (btrim(approved_by) <> ''),
    transfer_id     uuid,                                              -- what approving has booked; NULL: there was nothing to book
    sent_at         timestamptz,
    sent_by         text CHECK (btrim(sent_by) <> ''),
    channel         text CHECK (length(channel) BETWEEN 1 AND 40),     -- how it was sent
    settled_at      timestamptz,
    UNIQUE (deal_id, from_at),
    CHECK ((state = 'draft') = (approved_at IS NULL) AND (approved_at IS NULL) = (approved_by IS NULL)),
    CHECK ((state IN ('sent', 'settled')) = (sent_at IS NOT NULL)),
    CHECK ((sent_at IS NULL) = (sent_by IS NULL) AND (sent_at IS NULL) = (channel IS NULL)),
    CHECK ((state = 'settled') = (settled_at IS NOT NULL))
);
CREATE INDEX statement_partner ON statement (partner_id, statement_id NULLS FIRST);
CREATE INDEX statement_period ON statement (from_at, statement_id);

CREATE TABLE statement_line (
    statement_id    uuid NOT NULL REFERENCES statement,
    line_no         integer NOT NULL CHECK (line_no > 0),
    kind            text NOT NULL CHECK (kind IN ('wholesale', 'revenue_share', 'shortfall', 'bundle_funding', 'zero_rated',
                                                  'correction', 'dispute')),
    title           text NOT NULL,
    quantity        bigint NOT NULL,
    unit            text NOT NULL CHECK (unit IN ('second', 'purchase', '')),
    rate_micro      bigint,                                            -- for a minute
    base_micro      bigint,                                            -- what a percentage is of, or a cost that is passed on
    amount_micro    bigint NOT NULL,
    purpose         text NOT NULL DEFAULT '',                          -- of zero-rated traffic
    of_kind         text NOT NULL,                                     -- of a correction: what it corrects
    detail          jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (statement_id, line_no)
);

-- What was paid of a statement, by whoever owes it.
CREATE TABLE statement_payment (
    payment_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    statement_id    uuid NOT NULL REFERENCES statement,
    payment_no      integer NOT NULL CHECK (payment_no > 0),
    amount_micro    bigint NOT NULL CHECK (amount_micro > 0),
    transfer_id     uuid NOT NULL UNIQUE,
    idempotency_key text NOT NULL UNIQUE,
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    author          text NOT NULL CHECK (btrim(author) <> ''),
    booked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (statement_id, payment_no)
);

-- What was approved stays; states only go forward, one at a time.
CREATE FUNCTION statement_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    may_change CONSTANT text[] := ARRAY['state', 'edition', 'sent_at', 'sent_by', 'channel', 'settled_at'];
BEGIN
    IF new.deal_id <> old.deal_id OR new.partner_id <> old.partner_id OR new.from_at <> old.from_at OR new.currency <> old.currency
       OR (old.state <> 'draft' AND to_jsonb(new) - may_change <> to_jsonb(old) - may_change)
       OR (old.sent_at IS NOT NULL AND (new.sent_at, new.sent_by, new.channel) IS DISTINCT FROM (old.sent_at, old.sent_by, old.channel))
       OR (old.state, new.state) NOT IN (('draft', 'draft'), ('draft', 'approved'), ('approved', 'sent'), ('sent', 'sent'), ('sent', 'settled')) THEN
        RAISE EXCEPTION 'A statement that was approved stays as it is.' USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER statement_stays BEFORE UPDATE ON statement FOR EACH ROW EXECUTE FUNCTION statement_stays_v1();
CREATE TRIGGER statement_insert_only BEFORE DELETE ON statement FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER statement_no_truncate BEFORE TRUNCATE ON statement FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Lines are of drafts until they are approved.
CREATE FUNCTION statement_line_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR EXISTS (SELECT FROM statement s WHERE s.state <> 'draft'
                                    AND s.statement_id = CASE TG_OP WHEN 'INSERT' THEN new.statement_id ELSE old.statement_id END) THEN
        RAISE EXCEPTION 'A statement that was approved stays as it is.' USING ERRCODE = 'BR002';
    END IF;
    RETURN CASE TG_OP WHEN 'INSERT' THEN new ELSE old END;
END $$;
CREATE TRIGGER statement_line_stays BEFORE INSERT OR UPDATE OR DELETE ON statement_line
    FOR EACH ROW EXECUTE FUNCTION statement_line_stays_v1();
CREATE TRIGGER statement_line_no_truncate BEFORE TRUNCATE ON statement_line FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER statement_payment_insert_only BEFORE UPDATE OR DELETE ON statement_payment
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER statement_payment_no_truncate BEFORE TRUNCATE ON statement_payment
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- The account on which we and a partner keep what we owe each other in a currency: its own, or one made when first needed.
CREATE FUNCTION partner_account_v1(p_partner_id uuid, p_currency text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    own uuid;
    named CONSTANT text := format('partner %s %s', replace(p_partner_id::text, '-', ''), p_currency);
BEGIN
    SELECT a.account_id INTO own FROM partner p JOIN account a USING (account_id)
     WHERE p.partner_id = p_partner_id AND a.currency = p_currency;
    IF own IS NULL THEN
        INSERT INTO account (kind, name, currency, funding, partner_id) VALUES ('partner', named, p_currency, 'postpaid', p_partner_id)
        ON CONFLICT (name) DO NOTHING;
        SELECT a.account_id INTO own FROM account a WHERE a.name = named AND a.kind = 'partner' AND a.partner_id = p_partner_id;
    END IF;
    IF own IS NULL THEN
        RAISE EXCEPTION 'an account has the name of the partner''s account in %: rename it', p_currency USING ERRCODE = 'BR004';
    END IF;
    RETURN own;
END $$;

-- A partner reads what was approved, without what our costs can be told from.
GRANT SELECT (statement_id, deal_id, partner_id, month, from_at, to_at, currency, state, total_micro, first_no, last_no, chain_day,
    chain_hash, edition, approved_at, sent_at, channel, settled_at) ON statement TO callbridge_partner;
GRANT SELECT ON statement_line TO callbridge_partner;
GRANT SELECT (payment_id, statement_id, payment_no, amount_micro, booked_at) ON statement_payment TO callbridge_partner;
ALTER TABLE statement ENABLE ROW LEVEL SECURITY;
ALTER TABLE statement_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE statement_payment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON statement TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()) AND state <> 'draft');
CREATE POLICY own ON statement_line TO callbridge_partner
    USING (EXISTS (SELECT FROM statement s WHERE s.statement_id = statement_line.statement_id));
CREATE POLICY own ON statement_payment TO callbridge_partner
    USING (EXISTS (SELECT FROM statement s WHERE s.statement_id = statement_payment.statement_id));

-- ---------------------------------------------------------------- reconciliation and disputes

-- How far their records and ours may lie apart and still agree: by contract with whose account it is.
CREATE TABLE recon_terms (
    account_id          uuid PRIMARY KEY REFERENCES account,
    answer_s            integer NOT NULL DEFAULT 5 CHECK (answer_s BETWEEN 0 AND 600),
    duration_s          integer NOT NULL DEFAULT 2 CHECK (duration_s BETWEEN 0 AND 600),
    amount_micro        bigint NOT NULL DEFAULT 100 CHECK (amount_micro >= 0),  -- of one call; or
    amount_permyriad    integer NOT NULL DEFAULT 0 CHECK (amount_permyriad BETWEEN 0 AND 10000),  -- of our amount: the larger of both
    dispute_days        integer NOT NULL DEFAULT 30 CHECK (dispute_days BETWEEN 1 AND 365)  -- until an answer is due
);

-- How their files are to be read, by name.
CREATE TABLE recon_mapping (
    account_id      uuid NOT NULL REFERENCES account,
    name            text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
    mapping         jsonb NOT NULL CHECK (jsonb_typeof(mapping) = 'object'),
    author          text NOT NULL,
    saved_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, name)
);

-- One file of theirs against our records of a period. The same file is imported once.
CREATE TABLE recon_run (
    run_id          uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id      uuid NOT NULL REFERENCES account,                  -- the partner's or the carrier's
    partner_id      uuid REFERENCES partner,                           -- NULL: a carrier that is no partner
    leg             text NOT NULL CHECK (leg IN ('origination', 'termination')),
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    currency        currency_code NOT NULL,
    file_name       text NOT NULL,
    file_sha256     bytea NOT NULL CHECK (length(file_sha256) = 32),
    mapping         jsonb NOT NULL,                                    -- as the file was read
    rows            integer NOT NULL CHECK (rows >= 0),
    state           text NOT NULL DEFAULT 'imported' CHECK (state IN ('imported', 'matched')),
    clock_ms        bigint NOT NULL DEFAULT 0,                         -- added to their times before they were compared
    terms           jsonb,                                             -- as it was matched by
    summary         jsonb,
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    matched_at      timestamptz,
    delete_after    date NOT NULL,                                     -- of the numbers in its rows
    purged_at       timestamptz,
    UNIQUE (account_id, leg, file_sha256),
    CHECK (from_at < to_at),
    CHECK ((state = 'matched') = (matched_at IS NOT NULL))
);
CREATE INDEX recon_run_account ON recon_run (account_id, run_id);

-- A row of theirs. row_no as a spreadsheet counts: the header is 1. Numbers are digits of E.164.
CREATE TABLE recon_row (
    run_id          uuid NOT NULL,
    row_no          integer NOT NULL,
    answer_at       timestamptz,
    talk_ms         bigint NOT NULL,
    amount_micro    bigint,                                            -- NULL: the file says none
    b_number        bigint,                                            -- NULL: purged, or known by an id alone
    a_number        bigint,
    call_id         uuid,                                              -- ours, as they repeat it
    record_no       bigint,
    sip_call_id     text,
    their_id        text,
    PRIMARY KEY (run_id, row_no)
);

-- What became of each record and row of a run. That no record and no row is in two of them is held by the keys.
-- Amounts and durations are kept as they were compared: a record that is re-rated later changes no run.
CREATE TABLE recon_match (
    run_id          uuid NOT NULL,
    class           text NOT NULL CHECK (class IN ('matched', 'rate', 'duration', 'only_ours', 'only_theirs')),
    way             text NOT NULL CHECK (way IN ('id', 'number', 'time', '')),  -- by an id; number, time and duration; number and time
    row_no          integer,
    cdr_no          bigint,
    our_ms          bigint,
    our_micro       bigint,
    their_ms        bigint,
    their_micro     bigint,
    CHECK ((class = 'only_ours') = (row_no IS NULL)),
    CHECK ((class = 'only_theirs') = (cdr_no IS NULL))
);
CREATE UNIQUE INDEX recon_match_row ON recon_match (run_id, row_no) WHERE row_no IS NOT NULL;
CREATE UNIQUE INDEX recon_match_cdr ON recon_match (run_id, cdr_no) WHERE cdr_no IS NOT NULL;
CREATE INDEX recon_match_class ON recon_match (run_id, class) WHERE class <> 'matched';

-- Money that one side claims of the other. Claims and agreed amounts are positive: in favour of whoever opened it.
CREATE TABLE dispute (
    dispute_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id      uuid NOT NULL REFERENCES account,                  -- the counterparty's
    partner_id      uuid REFERENCES partner,                           -- NULL: a carrier that is no partner
    opened_by       text NOT NULL CHECK (opened_by IN ('us', 'them')),
    kind            text NOT NULL CHECK (kind IN ('rate', 'duration', 'only_ours', 'only_theirs', 'duplicate', 'other')),
    title           text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    claimed_micro   bigint NOT NULL CHECK (claimed_micro > 0 AND claimed_micro <= 1000000000000000000),
    currency        currency_code NOT NULL,
    statement_id    uuid,                                              -- what it is about, if it is about one
    run_id          uuid REFERENCES recon_run,
    class           text CHECK (class IN ('rate', 'duration', 'only_ours', 'only_theirs')),
    state           text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'answered', 'accepted', 'rejected', 'settled', 'withdrawn')),
    deadline        timestamptz NOT NULL,
    agreed_micro    bigint CHECK (agreed_micro BETWEEN 0 AND claimed_micro),
    transfer_id     uuid UNIQUE REFERENCES transfer,                   -- the agreed correction
    decided_at      timestamptz,
    author          text NOT NULL,
    edition         integer NOT NULL DEFAULT 1,
    opened_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (class IS NULL OR run_id IS NOT NULL),
    CHECK ((state IN ('open', 'answered')) = (decided_at IS NULL)),
    CHECK ((state IN ('accepted', 'settled')) = (agreed_micro IS NOT NULL)),
    CHECK ((transfer_id IS NOT NULL) = (coalesce(agreed_micro, 0) > 0))
);
CREATE INDEX dispute_partner ON dispute (partner_id, dispute_id NULLS FIRST);
CREATE INDEX dispute_account ON dispute (account_id, dispute_id NULLS FIRST);
CREATE INDEX dispute_undecided ON dispute (deadline) WHERE decided_at IS NULL;
CREATE INDEX dispute_decided ON dispute (account_id, decided_at) WHERE agreed_micro > 0;

-- What a dispute is about, row by row. Traffic data of records in an undecided one is not purged.
CREATE TABLE dispute_row (
    dispute_id      uuid NOT NULL REFERENCES dispute,
    item_no         integer NOT NULL CHECK (item_no > 0),
    cdr_no          bigint,                                            -- ours
    row_no          integer,                                           -- of the run's file
    PRIMARY KEY (dispute_id, item_no),
    CHECK (cdr_no IS NOT NULL OR row_no IS NOT NULL)
);
CREATE INDEX dispute_row_cdr ON dispute_row (cdr_no) WHERE cdr_no IS NOT NULL;

-- What was said and decided, in order. Nothing of it changes.
CREATE TABLE dispute_note (
    note_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    dispute_id      uuid NOT NULL REFERENCES dispute,
    partner_id      uuid,                                              -- the dispute's
    side            text NOT NULL CHECK (side IN ('us', 'them')),
    author          text NOT NULL,
    text            text NOT NULL CHECK (length(text) <= 4000),
    state           text,                                              -- what the dispute became with it; NULL: a comment
    at              timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dispute_note_of ON dispute_note (dispute_id, note_id NULLS FIRST);

CREATE TABLE dispute_evidence (
    evidence_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    dispute_id      uuid NOT NULL REFERENCES dispute,
    partner_id      uuid,                                              -- the dispute's
    side            text NOT NULL CHECK (side IN ('us', 'them')),
    name            text NOT NULL CHECK (name ~ '^[^/\\[:cntrl:]]{1,100}$'),
    media_type      text NOT NULL,
    sha256          bytea NOT NULL CHECK (length(sha256) = 32),
    bytes           integer NOT NULL CHECK (bytes BETWEEN 1 AND 10485760),
    content         bytea NOT NULL CHECK (length(content) = bytes),
    author          text NOT NULL,
    added_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (dispute_id, sha256)
);
CREATE INDEX dispute_evidence_of ON dispute_evidence (dispute_id, evidence_id NULLS FIRST);

CREATE TRIGGER dispute_note_insert_only BEFORE UPDATE OR DELETE ON dispute_note
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_note_no_truncate BEFORE TRUNCATE ON dispute_note
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_evidence_insert_only BEFORE UPDATE OR DELETE ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_evidence_no_truncate BEFORE TRUNCATE ON dispute_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- What a dispute was opened with stays, and a decision is for ever.
CREATE FUNCTION dispute_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changing CONSTANT text[] := '{state,deadline,agreed_micro,transfer_id,decided_at,edition}';
BEGIN
    IF old.decided_at IS NOT NULL OR to_jsonb(new) - changing <> to_jsonb(old) - changing THEN
        RAISE EXCEPTION 'What is in dispute % stays, and so does what was decided.', told_id_v1('dsp', old.dispute_id)
            USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER dispute_stays BEFORE UPDATE ON dispute FOR EACH ROW EXECUTE FUNCTION dispute_stays_v1();
CREATE TRIGGER dispute_insert_only BEFORE DELETE ON dispute FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_no_truncate BEFORE TRUNCATE ON dispute FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION dispute_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(new.partner_id, 'dispute.changed', new.dispute_id, new.edition, jsonb_build_object(
        'dispute_id', told_id_v1('dsp', new.dispute_id), 'state', new.state, 'kind', new.kind,
        'claimed_amount', told_money_v1(new.claimed_micro), 'agreed_amount', told_money_v1(new.agreed_micro),
        'currency', new.currency, 'deadline', told_at_v1(new.deadline)));
    RETURN NULL;
END $$;
CREATE TRIGGER dispute_told AFTER INSERT OR UPDATE ON dispute FOR EACH ROW WHEN (new.partner_id IS NOT NULL)
    EXECUTE FUNCTION dispute_told_v1();

-- Whether a record is in a dispute that nobody has decided yet: its traffic data is not purged.
CREATE FUNCTION dispute_holds_v1(p_cdr_no bigint) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (SELECT FROM dispute_row r JOIN dispute d USING (dispute_id) WHERE r.cdr_no = p_cdr_no AND d.decided_at IS NULL)
$$;

-- Forget the numbers and ids in rows of files whose time has come, a run at a time; undecided disputes hold their run's.
-- Returns how many rows; 0: nothing is left to do.
CREATE FUNCTION recon_forget_v1(p_day date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    due uuid;
    forgotten bigint := 0;
BEGIN
    SELECT r.run_id INTO due FROM recon_run r
     WHERE r.delete_after < p_day AND r.purged_at IS NULL
       AND NOT EXISTS (SELECT FROM dispute d WHERE d.run_id = r.run_id AND d.decided_at IS NULL)
     ORDER BY r.run_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF due IS NOT NULL THEN
        UPDATE recon_row r SET b_number = NULL, a_number = NULL, sip_call_id = NULL WHERE r.run_id = due;
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        UPDATE recon_run r SET purged_at = clock_timestamp() WHERE r.run_id = due;
    END IF;
    RETURN forgotten;
END $$;

GRANT SELECT (dispute_id, account_id, partner_id, opened_by, kind, title, claimed_micro, currency, statement_id, state, deadline,
              agreed_micro, transfer_id, decided_at, edition, opened_at) ON dispute TO callbridge_partner;
GRANT SELECT (note_id, dispute_id, partner_id, side, text, state, at) ON dispute_note TO callbridge_partner;
GRANT SELECT (evidence_id, dispute_id, partner_id, side, name, media_type, sha256, bytes, content, added_at) ON dispute_evidence
    TO callbridge_partner;
ALTER TABLE dispute ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_note ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_evidence ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON dispute TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON dispute_note TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON dispute_evidence TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
ALTER TABLE recon_terms ENABLE ROW LEVEL SECURITY;                     -- and no policy: operators' alone
ALTER TABLE recon_mapping ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_row ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_match ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_row ENABLE ROW LEVEL SECURITY;

-- ---------------------------------------------------------------- invoices between companies

-- Who a partner is on an invoice, and how it is to be invoiced. Words of the law and of EN 16931.
CREATE TABLE partner_billing (
    partner_id      uuid PRIMARY KEY REFERENCES partner,
    legal_name      text NOT NULL CHECK (length(legal_name) BETWEEN 1 AND 100),
    street          text NOT NULL DEFAULT '' CHECK (length(street) <= 100),
    postcode        text NOT NULL DEFAULT '' CHECK (length(postcode) <= 20),
    city            text NOT NULL DEFAULT '' CHECK (length(city) <= 60),
    country         text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    vat_id          text NOT NULL DEFAULT '' CHECK (length(vat_id) <= 20),
    tax_number      text NOT NULL DEFAULT '' CHECK (length(tax_number) <= 30),
    registration    text NOT NULL DEFAULT '' CHECK (length(registration) <= 60),
    contact         text NOT NULL DEFAULT '' CHECK (length(contact) <= 100),
    phone           text NOT NULL DEFAULT '' CHECK (length(phone) <= 30),
    email           text NOT NULL DEFAULT '' CHECK (length(email) <= 100),
    endpoint        text NOT NULL DEFAULT '' CHECK (length(endpoint) <= 100),     -- its electronic address; empty: e-mail
    endpoint_scheme text NOT NULL DEFAULT 'EM' CHECK (endpoint_scheme ~ '^[0-9A-Z]{2,4}$'),
    buyer_reference text NOT NULL DEFAULT '' CHECK (length(buyer_reference) <= 100),
    iban            text NOT NULL DEFAULT '' CHECK (iban ~ '^([A-Z]{2}[0-9]{2}[A-Z0-9]{11,30})?$'),
    bic             text NOT NULL DEFAULT '' CHECK (length(bic) <= 11),
    reseller        boolean NOT NULL DEFAULT false,                    -- sells telecommunication on: § 13b Abs. 5 Satz 6 UStG
    self_billing    boolean NOT NULL DEFAULT false,                    -- it agreed that we write its invoices to us
    payment_days    integer CHECK (payment_days BETWEEN 0 AND 365),    -- NULL: invoices.due_days
    language        text NOT NULL DEFAULT 'de' CHECK (language IN ('de', 'en')),
    edition         integer NOT NULL DEFAULT 1,
    changed_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How many numbers of a year are given out. The row is locked until its transaction ends, so that none is lost or given twice.
CREATE TABLE invoice_series (
    prefix          text NOT NULL,
    year            integer NOT NULL CHECK (year BETWEEN 2000 AND 2999),
    last_no         bigint NOT NULL CHECK (last_no > 0),
    PRIMARY KEY (prefix, year)
);
CREATE FUNCTION invoice_next_v1(p_prefix text, p_year integer) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO invoice_series AS s (prefix, year, last_no) VALUES (p_prefix, p_year, 1)
    ON CONFLICT (prefix, year) DO UPDATE SET last_no = s.last_no + 1 RETURNING s.last_no
$$;
CREATE FUNCTION invoice_series_grows_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.prefix <> OLD.prefix OR NEW.year <> OLD.year OR NEW.last_no <> OLD.last_no + 1 THEN
        RAISE EXCEPTION 'numbers of invoices are given one by one' USING ERRCODE = 'BR002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_series_grows BEFORE UPDATE ON invoice_series FOR EACH ROW EXECUTE FUNCTION invoice_series_grows_v1();
CREATE TRIGGER invoice_series_stays BEFORE DELETE ON invoice_series FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_series_no_truncate BEFORE TRUNCATE ON invoice_series FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A document. Until it is validated it is a draft without a number; from then on only what becomes of it changes.
-- 380: an invoice, 389: one that we write for the partner (self-billed), 381: a credit note of either.
CREATE TABLE invoice (
    invoice_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    statement_id    uuid NOT NULL REFERENCES statement,                -- what it is made of; of a credit note, its invoice is
    type            text NOT NULL CHECK (type IN ('380', '381', '389')),
    self_billed     boolean NOT NULL,
    credits         uuid REFERENCES invoice,                           -- what a credit note takes back; NULL: of earlier months
    state           text NOT NULL DEFAULT 'new'
                    CHECK (state IN ('new', 'validated', 'sent', 'partiallySettled', 'settled', 'onHold')),
    held_state      text CHECK (held_state IN ('new', 'validated', 'sent', 'partiallySettled')),  -- before it was put on hold
    prefix          text,
    year            integer,
    series_no       bigint CHECK (series_no > 0),
    number          text UNIQUE,
    issued_on       date,
    due_on          date,
    from_on         date NOT NULL,
    until_on        date NOT NULL CHECK (until_on >= from_on),
    currency        currency_code NOT NULL,
    net_cents       bigint NOT NULL,
    tax_cents       bigint NOT NULL,
    gross_cents     bigint NOT NULL CHECK (gross_cents = net_cents + tax_cents),
    rounding_micro  bigint NOT NULL,                                   -- cents of the net less the micro-units they stand for
    paid_cents      bigint NOT NULL DEFAULT 0,                         -- payments and credits
    content         jsonb NOT NULL,                                    -- all that the document says
    transfer_id     uuid,                                              -- its tax, and of a credit note its net, too; NULL: neither
    author          text NOT NULL CHECK (author <> ''),
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    validated_at    timestamptz,
    sent_at         timestamptz,
    settled_at      timestamptz,
    CHECK (type = '381' OR credits IS NULL),
    CHECK (type = '381' OR self_billed = (type = '389')),
    CHECK ((state = 'onHold') = (held_state IS NOT NULL)),
    CHECK ((coalesce(held_state, state) = 'new') = (number IS NULL)),
    CHECK (num_nulls(prefix, year, series_no, number, issued_on, due_on, validated_at) IN (0, 7)),
    CHECK (paid_cents BETWEEN 0 AND gross_cents),
    UNIQUE (prefix, year, series_no)
);
CREATE UNIQUE INDEX invoice_of_statement ON invoice (statement_id, self_billed) WHERE credits IS NULL;
CREATE INDEX invoice_partner ON invoice (partner_id, invoice_id NULLS FIRST);
CREATE INDEX invoice_credits ON invoice (credits) WHERE credits IS NOT NULL;

CREATE TABLE invoice_line (
    invoice_id      uuid NOT NULL REFERENCES invoice ON DELETE CASCADE,
    line_no         smallint NOT NULL,
    kind            text NOT NULL,                                     -- of the statement's line
    title           text NOT NULL,
    quantity_micro  bigint NOT NULL,
    unit            text NOT NULL,
    price_micro     bigint NOT NULL CHECK (price_micro >= 0),
    per_micro       bigint NOT NULL CHECK (per_micro > 0),
    net_cents       bigint NOT NULL,
    amount_micro    bigint NOT NULL,                                   -- before it was rounded
    category        text NOT NULL CHECK (category IN ('S', 'AE', 'O')),
    vat_hundredths  integer NOT NULL CHECK (vat_hundredths BETWEEN 0 AND 10000),
    source_no       integer,                                           -- of the statement's line
    PRIMARY KEY (invoice_id, line_no),
    CHECK (abs(net_cents * 10000 - amount_micro) <= 5000)
);

-- What was sent, byte for byte.
CREATE TABLE invoice_document (
    invoice_id      uuid NOT NULL REFERENCES invoice,
    kind            text NOT NULL CHECK (kind IN ('xml', 'pdf')),
    content         bytea NOT NULL,
    sha256          bytea NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (invoice_id, kind),
    CHECK (sha256 = sha256(content))
);

-- What settles an invoice: money, or a credit note, which is settled by the same amount.
CREATE TABLE invoice_payment (
    payment_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    invoice_id      uuid NOT NULL REFERENCES invoice,
    kind            text NOT NULL CHECK (kind IN ('payment', 'credit')),
    amount_cents    bigint NOT NULL CHECK (amount_cents > 0),
    paid_on         date NOT NULL,
    transfer_id     uuid,
    other_id        uuid REFERENCES invoice,                           -- of a credit, the other of the two
    key             text NOT NULL UNIQUE,
    note            text NOT NULL DEFAULT '',
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'payment') = (transfer_id IS NOT NULL)),
    CHECK ((kind = 'credit') = (other_id IS NOT NULL))
);
CREATE INDEX invoice_payment_invoice ON invoice_payment (invoice_id, payment_id);

-- What has a number stays as it is. Changed are its state, what is paid of it, and when; each change is an edition.
CREATE FUNCTION invoice_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.number IS NOT NULL THEN
            RAISE EXCEPTION 'invoice % has a number: write a credit note instead', OLD.number USING ERRCODE = 'BR002';
        END IF;
        RETURN OLD;
    END IF;
    IF OLD.number IS NOT NULL AND to_jsonb(NEW) - '{state,held_state,paid_cents,edition,sent_at,settled_at}'::text[]
                               <> to_jsonb(OLD) - '{state,held_state,paid_cents,edition,sent_at,settled_at}'::text[] THEN
        RAISE EXCEPTION 'invoice % has a number: write a credit note instead', OLD.number USING ERRCODE = 'BR002';
    END IF;
    IF (NEW.invoice_id, NEW.partner_id, NEW.type, NEW.self_billed) IS DISTINCT FROM (OLD.invoice_id, OLD.partner_id, OLD.type, OLD.self_billed)
       OR (OLD.sent_at IS NOT NULL AND NEW.sent_at IS DISTINCT FROM OLD.sent_at) OR NEW.paid_cents < OLD.paid_cents THEN
        RAISE EXCEPTION 'what an invoice is never changes' USING ERRCODE = 'BR002';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoice_stays BEFORE UPDATE OR DELETE ON invoice FOR EACH ROW EXECUTE FUNCTION invoice_stays_v1();
CREATE TRIGGER invoice_no_truncate BEFORE TRUNCATE ON invoice FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION invoice_line_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' OR EXISTS (SELECT FROM invoice i WHERE i.invoice_id = coalesce(NEW.invoice_id, OLD.invoice_id) AND i.number IS NOT NULL) THEN
        RAISE EXCEPTION 'lines of an invoice stay as they are' USING ERRCODE = 'BR002';
    END IF;
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER invoice_line_stays BEFORE INSERT OR UPDATE OR DELETE ON invoice_line FOR EACH ROW EXECUTE FUNCTION invoice_line_stays_v1();
CREATE TRIGGER invoice_line_no_truncate BEFORE TRUNCATE ON invoice_line FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_document_insert_only BEFORE UPDATE OR DELETE ON invoice_document FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_document_no_truncate BEFORE TRUNCATE ON invoice_document FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_payment_insert_only BEFORE UPDATE OR DELETE ON invoice_payment FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER invoice_payment_no_truncate BEFORE TRUNCATE ON invoice_payment FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Told to whoever listens, from its number on.
CREATE FUNCTION invoice_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(NEW.partner_id, 'invoice.changed', NEW.invoice_id, NEW.edition, jsonb_build_object(
        'invoice_id', told_id_v1('inv', NEW.invoice_id), 'number', NEW.number, 'type', NEW.type, 'state', NEW.state,
        'currency', NEW.currency, 'gross', told_money_v1(NEW.gross_cents * 10000), 'paid', told_money_v1(NEW.paid_cents * 10000),
        'due_on', NEW.due_on));
    RETURN NULL;
END $$;
CREATE TRIGGER invoice_told AFTER UPDATE ON invoice FOR EACH ROW
    WHEN (NEW.number IS NOT NULL AND (NEW.state <> OLD.state OR NEW.paid_cents <> OLD.paid_cents)) EXECUTE FUNCTION invoice_told_v1();

-- What is invoiced is paid by its invoices, so that nothing is paid twice.
CREATE FUNCTION statement_payment_or_invoice_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    billed text;
BEGIN
    SELECT i.number INTO billed FROM invoice i JOIN statement s USING (statement_id)
     WHERE i.statement_id = NEW.statement_id AND i.credits IS NULL AND i.number IS NOT NULL AND i.self_billed = (s.total_micro > 0);
    IF FOUND THEN
        RAISE EXCEPTION 'The statement is invoiced: book the payment of invoice %.', billed USING ERRCODE = 'BR004';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER statement_payment_or_invoice BEFORE INSERT ON statement_payment
    FOR EACH ROW EXECUTE FUNCTION statement_payment_or_invoice_v1();

-- A partner reads its details, and its documents from their number on; not what rounding and bookings tell of our books.
GRANT SELECT ON partner_billing, invoice_line, invoice_document TO callbridge_partner;
GRANT SELECT (invoice_id, partner_id, statement_id, type, self_billed, credits, state, number, issued_on, due_on, from_on, until_on,
              currency, net_cents, tax_cents, gross_cents, paid_cents, content, edition, created_at, validated_at, sent_at, settled_at)
    ON invoice TO callbridge_partner;
GRANT SELECT (payment_id, invoice_id, kind, amount_cents, paid_on, other_id, made_at) ON invoice_payment TO callbridge_partner;
ALTER TABLE partner_billing ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_series ENABLE ROW LEVEL SECURITY;                  -- and no policy: operators' alone
ALTER TABLE invoice ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice_payment ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON partner_billing TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON invoice TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()) AND number IS NOT NULL);
CREATE POLICY own ON invoice_line TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_line.invoice_id));
CREATE POLICY own ON invoice_document TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_document.invoice_id));
CREATE POLICY own ON invoice_payment TO callbridge_partner
    USING (EXISTS (SELECT FROM invoice i WHERE i.invoice_id = invoice_payment.invoice_id));

-- ---------------------------------------------------------------- reports

-- The tax that a gross amount contains, rounded half-up for each record, so that sums agree however they are ordered. p_tax: see cdr.
CREATE FUNCTION tax_in_v1(p_amount_micro bigint, p_tax jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_amount_micro = 0 OR coalesce(p_tax ->> 'tax', 'none') = 'none' THEN 0
                ELSE round(p_amount_micro * (p_tax ->> 'tax_ppm')::numeric / (1000000 + (p_tax ->> 'tax_ppm')::numeric))::bigint END
$$;

-- How the attempts and calls of an hour went. attempt: each seizure of a trunk. call: a call that seized one, as its last attempt
-- went. measured: seizures whose traffic data were there to be read; PDD in steps of 50 ms: {"34": 2} are two of 1700 to 1749 ms.
CREATE TABLE quality_hour (
    hour_at         timestamptz NOT NULL,
    level           text NOT NULL CHECK (level IN ('attempt', 'call')),
    partner_id      uuid,                                              -- attempt: whose trunk; call: whose subscriber called
    trunk_id        uuid,                                              -- NULL: a call
    destination     text NOT NULL,
    seizures        bigint NOT NULL CHECK (seizures > 0),
    answered        bigint NOT NULL CHECK (answered BETWEEN 0 AND seizures),
    measured        bigint NOT NULL CHECK (measured BETWEEN 0 AND seizures),
    effective       bigint NOT NULL CHECK (effective BETWEEN 0 AND measured),
    talk_ms         bigint NOT NULL,
    pdd             jsonb NOT NULL,
    UNIQUE NULLS NOT DISTINCT (hour_at, level, partner_id, trunk_id, destination)
);

-- Days of which quality_hour has everything: [from_at, to_at). Traffic data of the day may go then.
CREATE TABLE quality_day (
    from_at         timestamptz PRIMARY KEY,
    to_at           timestamptz NOT NULL CHECK (to_at > from_at),
    kept_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE quality_hour ENABLE ROW LEVEL SECURITY;                    -- and no policy: read through report_quality_v1
ALTER TABLE quality_day ENABLE ROW LEVEL SECURITY;

-- Quality as it can be read from traffic data, in the rows of quality_hour. Hours begin where they do in the time zone.
-- Not in SQL: inlined, its bounds would be unknown to the planner, which takes each call for the only one then.
CREATE FUNCTION quality_cells_v1(p_from timestamptz, p_to timestamptz, p_zone text) RETURNS TABLE (
    hour_at timestamptz, level text, partner_id uuid, trunk_id uuid, destination text,
    seizures bigint, answered bigint, measured bigint, effective bigint, talk_ms bigint, pdd jsonb
) LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH seizure AS (
        SELECT r.call_id, r.attempt_no, r.at, r.partner_id, r.trunk_id, r.destination, r.answered,
               r.talk_ms, x.call_id IS NOT NULL AS measured,
               x.call_id IS NOT NULL AND (r.answered OR x.fault IN ('caller', 'callee')) AS effective,
               least(x.pdd_ms / 50, 1200) AS pdd
          FROM cdr r LEFT JOIN attempt x ON x.call_id = r.call_id AND x.attempt_no = r.attempt_no
         WHERE r.leg = 'termination' AND r.kind = 'first' AND r.at >= p_from AND r.at < p_to
    ), last AS (
        SELECT DISTINCT ON (s.call_id) s.* FROM seizure s ORDER BY s.call_id, s.attempt_no DESC
    ), each AS (
        SELECT date_trunc('hour', s.at, p_zone) AS hour_at, 'attempt' AS level, s.partner_id, s.trunk_id, s.destination,
               s.answered, s.measured, s.effective, s.talk_ms, s.pdd
          FROM seizure s
        UNION ALL
        SELECT date_trunc('hour', s.at, p_zone), 'call', o.partner_id, NULL, o.destination,
               s.answered, s.measured, s.effective, s.talk_ms, s.pdd
          -- One by one, by the key: how many there are is not known to the planner, and a join may become their product.
          FROM last s CROSS JOIN LATERAL (
              SELECT k.partner_id, k.destination FROM cdr k
               WHERE k.call_id = s.call_id AND k.leg = 'origination' AND k.attempt_no = 0 AND k.kind = 'first' AND k.revision = 0
               LIMIT 1
          ) o
    ), step AS (
        SELECT e.hour_at, e.level, e.partner_id, e.trunk_id, e.destination, e.pdd, count(*) AS seizures,
               count(*) FILTER (WHERE e.answered) AS answered, count(*) FILTER (WHERE e.measured) AS measured,
               count(*) FILTER (WHERE e.effective) AS effective, sum(coalesce(e.talk_ms, 0)) AS talk_ms
          FROM each e GROUP BY e.hour_at, e.level, e.partner_id, e.trunk_id, e.destination, e.pdd
    )
    SELECT s.hour_at, s.level, s.partner_id, s.trunk_id, s.destination, sum(s.seizures)::bigint, sum(s.answered)::bigint,
           sum(s.measured)::bigint, sum(s.effective)::bigint, sum(s.talk_ms)::bigint,
           coalesce(jsonb_object_agg(s.pdd::text, s.seizures) FILTER (WHERE s.pdd IS NOT NULL), '{}')
      FROM step s GROUP BY s.hour_at, s.level, s.partner_id, s.trunk_id, s.destination;
END
$$;

-- Keep the quality of whole days that are numbered and not kept yet, before their traffic data may go. Returns the days kept.
-- To be called before each purge, and at the close of a month. Days begin in the time zone; one day is one transaction's work.
CREATE FUNCTION quality_keep_v1(p_zone text, p_days integer DEFAULT 400) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    horizon timestamptz := (SELECT max(c.until) FROM cdr_pass c);
    begins timestamptz;
    ends timestamptz;
    kept integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('quality_keep', 0));
    begins := coalesce((SELECT max(d.to_at) FROM quality_day d),
                       (SELECT date_trunc('day', r.at, p_zone) FROM cdr r ORDER BY r.cdr_no LIMIT 1));
    WHILE begins IS NOT NULL AND kept < p_days LOOP
        -- To the next midnight there: a day may have 23 or 25 hours, and the time zone may have been another one before.
        ends := date_trunc('day', date_trunc('day', begins, p_zone) + interval '36 hours', p_zone);
        EXIT WHEN ends > coalesce(horizon, '-infinity');
        INSERT INTO quality_hour SELECT * FROM quality_cells_v1(begins, ends, p_zone);
        INSERT INTO quality_day (from_at, to_at) VALUES (begins, ends);
        kept := kept + 1;
        begins := ends;
    END LOOP;
    RETURN kept;
END $$;

-- By what a report is ordered, as text that sorts like what it means. hour: of the day; week_hour: 1 (Monday) to 7, and the hour.
CREATE FUNCTION report_key_v1(
    p_by text, p_at timestamptz, p_zone text, p_destination text, p_partner_id uuid, p_trunk_id uuid, p_purpose text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE p_by
        WHEN 'destination' THEN p_destination
        WHEN 'partner' THEN coalesce(p_partner_id::text, '')
        WHEN 'trunk' THEN coalesce(p_trunk_id::text, '')
        WHEN 'purpose' THEN p_purpose
        WHEN 'day' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM-DD')
        WHEN 'hour' THEN to_char(p_at AT TIME ZONE p_zone, 'HH24')
        WHEN 'week_hour' THEN to_char(p_at AT TIME ZONE p_zone, 'ID HH24')
        ELSE ''
    END
$$;

-- Whose report it is: a partner's, or NULL: the house's. As partners' requests run, without a partner, it is nobody's.
CREATE FUNCTION report_asking_v1() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(partner_asking_v1(), CASE WHEN 'callbridge_partner' IN (current_setting('role'), session_user)
                                              THEN '00000000-0000-0000-0000-000000000000'::uuid END)
$$;

-- Traffic and money of [p_from, p_to), by each that p_by names; sums of records, so that they are those of files and statements.
-- Of a partner: its subscribers' calls, and what its own trunks carried as cost; nothing of other carriers. p_partner_id without
-- a partner asking: its subscribers' calls and what all carriers got for these.
-- A row has one currency on each side; where they differ, a call is in two rows. Corrections count where they were made.
CREATE FUNCTION report_money_v1(
    p_from timestamptz, p_to timestamptz, p_zone text, p_by text[], p_partner_id uuid
) RETURNS TABLE (
    by text, key text, currency text, calls bigint, answered bigint, talk_ms bigint, billed_s bigint, covered_s bigint,
    free_calls bigint, free_s bigint, bundle_calls bigint, bundle_s bigint, gross_micro bigint, tax_micro bigint,
    usage_micro bigint, carried bigint, carried_s bigint, cost_micro bigint, corrections bigint
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH asked AS (
        SELECT report_asking_v1() AS asking, coalesce(report_asking_v1(), p_partner_id) AS partner_id
    ), o AS (
        SELECT r.* FROM cdr r CROSS JOIN asked a
         WHERE r.leg IN ('origination', 'usage') AND r.at >= p_from AND r.at < p_to
           AND (a.partner_id IS NULL OR r.partner_id = a.partner_id)
    ), t AS (
        SELECT r.* FROM cdr r CROSS JOIN asked a
         WHERE r.leg = 'termination' AND r.file_type <> 'quality' AND r.at >= p_from AND r.at < p_to
           AND (a.asking IS NULL OR r.partner_id = a.asking)
    ), line AS MATERIALIZED (
        SELECT coalesce(o.at, t.at) AS at, coalesce(o.partner_id, f.partner_id) AS partner_id,
               coalesce(o.destination, f.destination, t.destination) AS destination, coalesce(t.trunk_id, g.trunk_id) AS trunk_id,
               coalesce(o.leg, '') AS leg, coalesce(o.kind, t.kind) AS kind, o.answered, o.talk_ms, o.billed_s, o.covered_s,
               coalesce(o.purpose, 'wholesale') AS purpose, o.amount_micro, tax_in_v1(o.amount_micro, o.tax) AS tax_micro, o.currency,
               t.billed_s AS carried_s, t.amount_micro AS cost_micro, t.currency AS cost_currency, t.kind AS t_kind
          FROM o FULL JOIN t ON t.call_id = o.call_id AND t.kind = o.kind AND t.revision = o.revision
          -- The cost of a call that is numbered elsewhere, or of which only one side was corrected
          LEFT JOIN LATERAL (
              SELECT n.partner_id, n.destination FROM cdr n CROSS JOIN asked a
               WHERE o.call_id IS NULL AND n.call_id = t.call_id AND n.leg = 'origination' AND n.attempt_no = 0
                 AND n.kind = 'first' AND n.revision = 0 AND (a.asking IS NULL OR n.partner_id = a.asking) LIMIT 1
          ) f ON true
          LEFT JOIN LATERAL (
              SELECT n.trunk_id FROM cdr n CROSS JOIN asked a
               WHERE t.call_id IS NULL AND o.kind <> 'first' AND n.call_id = o.call_id AND n.leg = 'termination' AND n.kind = 'first'
                 AND n.revision = 0 AND n.answered AND (a.asking IS NULL OR n.partner_id = a.asking)
               ORDER BY n.attempt_no DESC LIMIT 1
          ) g ON true
         WHERE p_partner_id IS NULL OR report_asking_v1() IS NOT NULL OR coalesce(o.partner_id, f.partner_id) = p_partner_id
    ), side AS (
        SELECT l.at, l.partner_id, l.destination, l.trunk_id, l.leg, l.kind, l.answered, l.talk_ms, l.billed_s, l.covered_s, l.purpose,
               l.amount_micro, l.tax_micro, coalesce(l.currency, l.cost_currency)::text AS currency, w.t_kind, w.carried_s, w.cost_micro
          FROM line l LEFT JOIN LATERAL (SELECT l.t_kind, l.carried_s, l.cost_micro
                                          WHERE l.cost_currency = coalesce(l.currency, l.cost_currency)) w ON true
        UNION ALL
        SELECT l.at, l.partner_id, l.destination, l.trunk_id, '', l.kind, NULL, NULL, NULL, NULL, l.purpose,
               NULL, NULL, l.cost_currency::text, l.t_kind, l.carried_s, l.cost_micro
          FROM line l WHERE l.cost_currency <> l.currency
    )
    SELECT k.by, report_key_v1(k.by, s.at, p_zone, s.destination, s.partner_id, s.trunk_id, s.purpose), s.currency,
           count(*) FILTER (WHERE s.leg = 'origination' AND s.kind = 'first'),
           count(*) FILTER (WHERE s.leg = 'origination' AND s.kind = 'first' AND s.answered),
           coalesce(sum(s.talk_ms) FILTER (WHERE s.leg = 'origination'), 0)::bigint,
           coalesce(sum(s.billed_s) FILTER (WHERE s.leg = 'origination'), 0)::bigint,
           coalesce(sum(s.covered_s), 0)::bigint,
           count(*) FILTER (WHERE s.leg <> '' AND s.purpose IN ('destination', 'on-net') AND s.kind = 'first' AND s.answered),
           coalesce(sum(s.billed_s) FILTER (WHERE s.purpose IN ('destination', 'on-net')), 0)::bigint,
           count(*) FILTER (WHERE s.leg <> '' AND s.purpose = 'bundle' AND s.kind = 'first'),
           coalesce(sum(s.billed_s) FILTER (WHERE s.purpose = 'bundle'), 0)::bigint,
           coalesce(sum(s.amount_micro), 0)::bigint, coalesce(sum(s.tax_micro), 0)::bigint,
           coalesce(sum(s.amount_micro - s.tax_micro) FILTER (WHERE s.leg = 'usage'), 0)::bigint,
           count(*) FILTER (WHERE s.t_kind = 'first'), coalesce(sum(s.carried_s), 0)::bigint, coalesce(sum(s.cost_micro), 0)::bigint,
           count(*) FILTER (WHERE s.kind <> 'first')
      FROM side s CROSS JOIN unnest(p_by) AS k (by) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
$$;

-- Quality of [p_from, p_to), by each that p_by names: from what is kept where a day is, else from traffic data. By trunk it counts
-- attempts, by all else calls. A partner sees its subscribers' calls, and by trunk its own trunks.
CREATE FUNCTION report_quality_v1(
    p_from timestamptz, p_to timestamptz, p_zone text, p_by text[], p_partner_id uuid
) RETURNS TABLE (
    by text, key text, seizures bigint, answered bigint, measured bigint, effective bigint, talk_ms bigint, pdd jsonb
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH whole AS MATERIALIZED (
        SELECT d.from_at, d.to_at FROM quality_day d WHERE d.from_at < p_to AND d.to_at > p_from
    ), edge AS (
        SELECT p_from AS at UNION SELECT p_to UNION SELECT greatest(w.from_at, p_from) FROM whole w
        UNION SELECT least(w.to_at, p_to) FROM whole w
    ), piece AS (
        SELECT e.at AS from_at, lead(e.at) OVER (ORDER BY e.at) AS to_at FROM edge e
    ), cell AS (
        SELECT h.* FROM whole w JOIN quality_hour h ON h.hour_at >= w.from_at AND h.hour_at < w.to_at
         WHERE h.hour_at >= p_from AND h.hour_at < p_to
        UNION ALL
        SELECT c.* FROM piece g CROSS JOIN LATERAL quality_cells_v1(g.from_at, g.to_at, p_zone) c
         WHERE g.to_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM whole w WHERE w.from_at <= g.from_at AND w.to_at >= g.to_at)
    ), row AS (
        SELECT k.by, report_key_v1(k.by, c.hour_at, p_zone, c.destination, c.partner_id, c.trunk_id, 'quality') AS key, c.*
          FROM cell c CROSS JOIN unnest(p_by) AS k (by)
         WHERE c.level = CASE k.by WHEN 'trunk' THEN 'attempt' ELSE 'call' END
           AND (coalesce(report_asking_v1(), p_partner_id) IS NULL OR c.partner_id = coalesce(report_asking_v1(), p_partner_id))
    ), step AS (
        SELECT r.by, r.key, p.key AS step, sum(p.value::bigint) AS seizures
          FROM row r CROSS JOIN LATERAL jsonb_each_text(r.pdd) p GROUP BY r.by, r.key, p.key
    ), steps AS MATERIALIZED (  -- once, not for each line
        SELECT s.by, s.key, jsonb_object_agg(s.step, s.seizures) AS pdd FROM step s GROUP BY s.by, s.key
    )
    SELECT r.by, r.key, sum(r.seizures)::bigint, sum(r.answered)::bigint, sum(r.measured)::bigint, sum(r.effective)::bigint,
           sum(r.talk_ms)::bigint, coalesce((SELECT s.pdd FROM steps s WHERE s.by = r.by AND s.key = r.key), '{}')
      FROM row r GROUP BY r.by, r.key ORDER BY r.by, r.key
$$;
REVOKE ALL ON FUNCTION quality_keep_v1(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION report_money_v1(timestamptz, timestamptz, text, text[], uuid) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION report_quality_v1(timestamptz, timestamptz, text, text[], uuid) TO callbridge_partner;

-- ---------------------------------------------------------------- bills

-- Bills and their balances go by the account.
CREATE INDEX cdr_account ON cdr (account_id, at) WHERE leg <> 'termination';

-- Whether a subscriber's bill has numbers whole or without their last three digits (TDDDG § 11 (1)). The choice made last
-- before a period holds for it; without one, numbers are shortened.
CREATE TABLE bill_choice (
    choice_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid,
    numbers         text NOT NULL CHECK (numbers IN ('full', 'short')),
    actor           text NOT NULL CHECK (actor <> ''),
    chosen_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX bill_choice_of ON bill_choice (subscriber_id, chosen_at);
CREATE TRIGGER bill_choice_insert_only BEFORE UPDATE OR DELETE ON bill_choice
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER bill_choice_no_truncate BEFORE TRUNCATE ON bill_choice
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
GRANT SELECT (choice_id, subscriber_id, partner_id, numbers, actor, chosen_at) ON bill_choice TO callbridge_partner;
ALTER TABLE bill_choice ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bill_choice TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- ---------------------------------------------------------------- traffic data goes when its time has come
-- TDDDG §§9–12. The books, the records and what was proved of it stay.

-- What numbers of a month's calls are turned into pseudonyms with: HMAC-SHA256 (RFC 2104), the key padded for its inner and its outer
-- hash. Once all calls of the month are purged the key is destroyed: then nobody can tell any more which number a pseudonym was.
CREATE TABLE pseudonym_key (
    month           date PRIMARY KEY CHECK (extract(day FROM month) = 1),  -- in which the calls were admitted (UTC)
    inner_pad       bytea CHECK (length(inner_pad) = 64),
    outer_pad       bytea CHECK (length(outer_pad) = 64),
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    destroyed_at    timestamptz,
    CHECK (num_nulls(inner_pad, outer_pad) = CASE WHEN destroyed_at IS NULL THEN 0 ELSE 2 END)
);

-- The proof of what was purged: each line follows the one before. rows of what, whose time had come from_day to until_day (exclusive).
CREATE TABLE purge_log (
    purge_no        bigint PRIMARY KEY CHECK (purge_no > 0),
    at              timestamptz NOT NULL,
    rule            text NOT NULL CHECK (rule IN ('billing', 'settlement', 'quality', 'age', 'all')),
    what            text NOT NULL CHECK (what ~ '^[a-z_ ]+$'),
    from_day        date,
    until_day       date NOT NULL,
    rows            bigint NOT NULL CHECK (rows >= 0),
    previous        bytea NOT NULL CHECK (length(previous) = 32),
    hash            bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE TRIGGER purge_log_insert_only BEFORE UPDATE OR DELETE ON purge_log FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER purge_log_no_truncate BEFORE TRUNCATE ON purge_log FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION purge_hash_v1(
    p_previous bytea, p_no bigint, p_at timestamptz, p_rule text, p_what text, p_from_day date, p_until_day date, p_rows bigint
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(p_previous || convert_to(concat_ws('|', p_no, to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_rule,
                                                     p_what, coalesce(to_char(p_from_day, 'YYYY-MM-DD'), ''),
                                                     to_char(p_until_day, 'YYYY-MM-DD'), p_rows), 'UTF8'))
$$;

-- One line more, written by the one that purges.
CREATE FUNCTION purge_note_v1(p_rule text, p_what text, p_from_day date, p_until_day date, p_rows bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last purge_log;
    now_at timestamptz := clock_timestamp();
    zeros CONSTANT bytea := decode(repeat('00', 32), 'hex');
BEGIN
    SELECT * INTO last FROM purge_log l ORDER BY l.purge_no DESC LIMIT 1;
    INSERT INTO purge_log (purge_no, at, rule, what, from_day, until_day, rows, previous, hash)
    VALUES (coalesce(last.purge_no, 0) + 1, now_at, p_rule, p_what, p_from_day, p_until_day, p_rows, coalesce(last.hash, zeros),
            purge_hash_v1(coalesce(last.hash, zeros), coalesce(last.purge_no, 0) + 1, now_at, p_rule, p_what, p_from_day, p_until_day,
                          p_rows));
END $$;

CREATE FUNCTION pseudonym_v1(p_key pseudonym_key, p_number text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'p' || substr(encode(sha256((p_key).outer_pad || sha256((p_key).inner_pad || convert_to(p_number, 'UTF8'))), 'hex'), 1, 32)
$$;

-- A frozen tariff whose prefix is the number itself, as of a call within the app, keeps no more of it than its country.
CREATE FUNCTION tariff_without_v1(p_tariff jsonb, p_number text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN '+' || (p_tariff ->> 'prefix') = p_number
                THEN jsonb_set(p_tariff, '{prefix}', to_jsonb(left(p_tariff ->> 'prefix', 2))) ELSE p_tariff END
$$;

-- The calls whose time had come before p_day and not before p_from, into the temporary table purge_due of the session. held: why one
-- stays for now; only a dispute, and what is not numbered, holds it longer than p_hold_days. Returns how many.
CREATE FUNCTION purge_gather_v1(p_from date, p_day date, p_hold_days integer) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    found bigint;
    horizon timestamptz := (SELECT max(p.until) FROM cdr_pass p);
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS purge_due (n bigint PRIMARY KEY, call_id uuid, month date, rule text, until_day date, held text);
    TRUNCATE purge_due;
    INSERT INTO purge_due
    WITH exported AS (                                                 -- how far each recipient has its files; NULL: none is written
        SELECT r.partner_id, t.type, r.since_at,
               coalesce((SELECT min(f.from_at) FROM cdr_file f WHERE f.recipient_id = r.recipient_id AND f.type = t.type
                            AND f.state = 'planned'),
                        (SELECT max(f.to_at) FROM cdr_file f WHERE f.recipient_id = r.recipient_id AND f.type = t.type), r.since_at) AS until
          FROM cdr_recipient r CROSS JOIN LATERAL unnest(r.types) AS t (type)
         WHERE r.enabled AND r.period <> 'manual'
    )
    SELECT row_number() OVER (ORDER BY x.call_id), x.call_id,
           date_trunc('month', uuid_extract_timestamp(x.call_id) AT TIME ZONE 'UTC')::date, s.rule, s.last + 1,
           CASE WHEN s.disputed THEN 'dispute'
                WHEN s.at >= horizon OR EXISTS (SELECT FROM rerating r JOIN rerate_run n USING (run_id) WHERE r.call_id = x.call_id
                                                   AND (n.closed_at IS NULL OR n.closed_at >= horizon)) THEN 'not numbered'
                WHEN s.last + p_hold_days < p_day THEN NULL
                WHEN EXISTS (SELECT FROM cdr k JOIN exported o ON o.type = k.file_type AND k.at >= o.since_at AND k.at >= o.until
                                                              AND (o.partner_id IS NULL OR o.partner_id = k.partner_id)
                              WHERE k.call_id = x.call_id) THEN 'not exported'
                WHEN EXISTS (SELECT FROM cdr k JOIN deal d ON d.partner_id = k.partner_id AND d.state <> 'draft'
                               JOIN deal_version v ON v.deal_id = d.deal_id AND v.agreed @> k.at
                              WHERE k.call_id = x.call_id AND k.purpose <> 'quality'
                                AND NOT EXISTS (SELECT FROM statement q WHERE q.deal_id = d.deal_id AND q.state <> 'draft'
                                                   AND k.at >= q.from_at AND k.at < q.to_at)) THEN 'not settled' END
      FROM (SELECT DISTINCT k.call_id FROM cdr k WHERE k.delete_after >= p_from AND k.delete_after < p_day AND k.leg <> 'usage') x
     CROSS JOIN LATERAL (SELECT max(k.delete_after) AS last, max(k.at) AS at, bool_or(dispute_holds_v1(k.cdr_no)) AS disputed,
                                CASE WHEN bool_and(k.purpose = 'quality') THEN 'quality'
                                     WHEN bool_or(k.purpose IN ('on-net', 'destination')) THEN 'settlement' ELSE 'billing' END AS rule
                           FROM cdr k WHERE k.call_id = x.call_id) s
     WHERE s.last < p_day AND EXISTS (SELECT FROM call c WHERE c.call_id = x.call_id AND c.purged_at IS NULL);
    GET DIAGNOSTICS found = ROW_COUNT;
    ANALYZE purge_due;
    RETURN found;
END $$;

-- Purge what was gathered, of rows p_after + 1 to p_to, and write the proof. The month's keys are there. One transaction: it is done
-- and proved, or neither.
CREATE FUNCTION purge_calls_v1(p_after bigint, p_to bigint) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
DECLARE
    ids uuid[] := ARRAY(SELECT d.call_id FROM purge_due d WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL ORDER BY d.call_id);
    until_day date := (SELECT max(d.until_day) FROM purge_due d WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL);
    gone bigint;
    step record;
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN 0;
    END IF;
    UPDATE attempt x SET buy = tariff_without_v1(x.buy, c.b_number)
      FROM call c WHERE c.call_id = ANY (ids) AND x.call_id = c.call_id AND '+' || (x.buy ->> 'prefix') = c.b_number;
    FOR step IN
        WITH done AS (
            UPDATE call c
               SET a_number = CASE WHEN c.a_number IN ('', 'anonymous') THEN c.a_number ELSE pseudonym_v1(k, c.a_number) END,
                   b_number = CASE WHEN c.b_number = '' THEN '' ELSE pseudonym_v1(k, c.b_number) END,
                   dialled = '', sip_call_id = '', uniqueid = '', sell = tariff_without_v1(c.sell, c.b_number),
                   routes = CASE WHEN strpos(c.routes::text, ltrim(c.b_number, '+')) > 0 THEN NULL ELSE c.routes END,
                   purged_at = clock_timestamp()
              FROM purge_due d JOIN pseudonym_key k USING (month)
             WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL AND c.call_id = d.call_id AND c.purged_at IS NULL
            RETURNING d.rule, d.until_day
        )
        SELECT o.rule, min(o.until_day) AS from_day, max(o.until_day) AS last_day, count(*) AS rows FROM done o GROUP BY o.rule ORDER BY o.rule
    LOOP
        PERFORM purge_note_v1(step.rule, 'calls', step.from_day - 1, step.last_day, step.rows);
    END LOOP;
    DELETE FROM call_withheld w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'withheld numbers', NULL, until_day, gone);
    END IF;
    DELETE FROM whatsapp_call w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'whatsapp ids', NULL, until_day, gone);
    END IF;
    DELETE FROM discrepancy w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'discrepancies', NULL, until_day, gone);
    END IF;
    UPDATE voice_message w SET from_number = NULL WHERE w.call_id = ANY (ids) AND w.from_number IS NOT NULL;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'senders of voice messages', NULL, until_day, gone);
    END IF;
    DELETE FROM event w WHERE w.subject_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'events', NULL, until_day, gone);
    END IF;
    RETURN cardinality(ids);
END $$;

-- What holds numbers and is of use for some days only: at most so many rows of it that are older than p_day. Returns how many.
CREATE FUNCTION purge_aged_v1(p_what text, p_day date, p_limit integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    CASE p_what
        WHEN 'events' THEN
            DELETE FROM event e WHERE e.event_id IN (
                SELECT o.event_id FROM event o
                 WHERE o.event_id < uuid_floor_v1(p_day::timestamptz) AND split_part(o.kind, '.', 1) IN ('call', 'origination', 'subscriber',
                                                                                              'voice_message', 'fraud')
                 LIMIT p_limit);
        WHEN 'ordered calls' THEN
            DELETE FROM origination o WHERE o.origination_id IN (
                SELECT r.origination_id FROM origination r WHERE r.ended_at < p_day LIMIT p_limit);
        WHEN 'orders to switches' THEN
            DELETE FROM switch_order o WHERE o.order_id IN (
                SELECT r.order_id FROM switch_order r WHERE r.state IN ('done', 'failed') AND r.made_at < p_day LIMIT p_limit);
        WHEN 'answers kept for repeats' THEN
            DELETE FROM idempotency i USING (SELECT o.owner_id, o.key FROM idempotency o WHERE o.made_at < p_day LIMIT p_limit) o
             WHERE i.owner_id = o.owner_id AND i.key = o.key;
        WHEN 'numbers in the audit log' THEN
            UPDATE audit_log a SET detail = detail_without_v1(a.detail) WHERE a.audit_id IN (
                SELECT o.audit_id FROM audit_log o
                 WHERE o.action LIKE 'origination.%' AND o.audit_id < uuid_floor_v1(p_day::timestamptz) AND o.detail <> detail_without_v1(o.detail)
                 LIMIT p_limit);
    END CASE;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('age', p_what, NULL, p_day, gone);
    END IF;
    RETURN gone;
END $$;
