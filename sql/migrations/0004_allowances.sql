-- Allowances: bundles that are bought, held with the money of a call, and burnt by calls, messages and data.
SET search_path = bridge, public;

ALTER TABLE plan ADD COLUMN roaming_deck_id uuid REFERENCES deck;
ALTER TABLE plan ADD COLUMN zero_rated text[] NOT NULL DEFAULT '{}';
ALTER TABLE plan ADD COLUMN on_net_free boolean NOT NULL DEFAULT false;
ALTER TABLE subscriber ADD COLUMN zone text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming'));
ALTER TABLE account ADD COLUMN bundled boolean NOT NULL DEFAULT false;
ALTER TABLE call ADD COLUMN bundled boolean NOT NULL DEFAULT false;
ALTER TABLE charge ADD COLUMN covered_s integer NOT NULL DEFAULT 0 CHECK (covered_s >= 0);

-- Carriers that charge in another currency are compared by the rates of the day.
CREATE TRIGGER fx_rate_noted AFTER INSERT ON fx_rate FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();

CREATE TABLE service_price (
    plan_id         uuid NOT NULL REFERENCES plan,
    service         text NOT NULL CHECK (service ~ '^[a-z]+(\.[a-z]+)?$' AND service <> 'voice'),
    zone            text NOT NULL DEFAULT 'home' CHECK (zone IN ('home', 'roaming')),
    price_micro     bigint NOT NULL CHECK (price_micro >= 0),
    per             bigint NOT NULL DEFAULT 1 CHECK (per > 0),
    PRIMARY KEY (plan_id, service, zone)
);

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
    on_sale         boolean NOT NULL DEFAULT true
);

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

CREATE OR REPLACE FUNCTION partition_ensure_v1(months integer DEFAULT 3) RETURNS integer LANGUAGE plpgsql AS $$
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

DROP FUNCTION call_admit_v1(uuid, text, text, text, uuid, uuid, text, text, text, jsonb, jsonb, uuid, integer, bigint, text, bigint,
                            integer);
DROP FUNCTION call_extend_v1(uuid, bigint, bigint, timestamptz, timestamptz);
DROP FUNCTION call_end_v1(ended_call[]);
ALTER TYPE ended_call ADD ATTRIBUTE covered_s integer;
ALTER TYPE ended_call ADD ATTRIBUTE used_units bigint[];

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
    near CONSTANT integer := 1000;                                     -- more admissions than can be in flight at once
BEGIN
    LOOP
        UPDATE account a SET held_micro = a.held_micro + p_hold_micro
         WHERE a.account_id = p_account_id AND a.state = 'active'
           AND (p_hold_micro = 0                                       -- units that are paid for need no credit
                OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= p_hold_micro)
        RETURNING a.call_cap, a.balance_micro - a.held_micro INTO cap, available_micro;
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
                      state, sell, routes, bundled)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s));
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;

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
