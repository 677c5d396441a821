-- Subscribers and whose number it is, caps on what is spent, and what a partner may read of its accounts.
SET search_path = bridge, public;

-- ---------------------------------------------------------------- subscribers

ALTER TABLE subscriber DROP CONSTRAINT subscriber_a_number_app_id_key;
ALTER TABLE subscriber DROP CONSTRAINT subscriber_state_check;
ALTER TABLE subscriber ADD CHECK (state IN ('pending', 'active', 'suspended', 'closed'));
-- An app has one subscriber of a number at a time; once closed, the number may come to another.
CREATE UNIQUE INDEX subscriber_open ON subscriber (a_number, app_id) WHERE state <> 'closed';
CREATE INDEX subscriber_number ON subscriber (partner_id, a_number, subscriber_id);
CREATE INDEX subscriber_plan ON subscriber (plan_id, subscriber_id);
-- NULLS FIRST: the only ones in the order of a partner's list, so that no plan reads what is others'.
DROP INDEX account_partner;
CREATE INDEX account_partner ON account (partner_id, account_id NULLS FIRST);
DROP INDEX subscriber_partner;
CREATE INDEX subscriber_partner ON subscriber (partner_id, subscriber_id NULLS FIRST);
CREATE INDEX subscriber_state ON subscriber (partner_id, state, subscriber_id NULLS FIRST);

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
CREATE TRIGGER subscriber_proof_insert_only BEFORE UPDATE OR DELETE ON subscriber_proof
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_no_truncate BEFORE TRUNCATE ON subscriber_proof
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_try_insert_only BEFORE UPDATE OR DELETE ON subscriber_proof_try
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER subscriber_proof_try_no_truncate BEFORE TRUNCATE ON subscriber_proof_try
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- ---------------------------------------------------------------- accounts and usage

ALTER TABLE account ADD COLUMN spend_cap_micro bigint;                 -- what calls may cost in a day or month; NULL: no cap
ALTER TABLE account ADD COLUMN spend_period text;
ALTER TABLE account ADD COLUMN spend_since timestamptz;                -- when the day or month began that is counted
ALTER TABLE account ADD COLUMN spend_base_micro bigint;                -- less the balance: what was spent since
ALTER TABLE account ADD COLUMN low_balance_micro bigint;               -- a balance below it is told; NULL: none is
ALTER TABLE account ADD CONSTRAINT spend_cap_is_whole CHECK (
        spend_cap_micro IS NULL OR (spend_cap_micro >= 0 AND spend_period IS NOT NULL AND spend_period IN ('day', 'month')
                                    AND spend_since IS NOT NULL AND spend_base_micro IS NOT NULL));

ALTER TABLE usage_record ADD COLUMN partner_id uuid;                   -- whose account it was
UPDATE usage_record u SET partner_id = a.partner_id FROM account a WHERE a.account_id = u.account_id AND a.partner_id IS NOT NULL;
DROP INDEX usage_account;
CREATE INDEX usage_account ON usage_record (account_id, usage_id NULLS FIRST);

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

CREATE OR REPLACE FUNCTION transfer_book_v1(
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

CREATE OR REPLACE FUNCTION call_admit_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
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
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
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

CREATE OR REPLACE FUNCTION call_extend_v2(
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

-- ---------------------------------------------------------------- each sees its own

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

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION spend_left_v1(uuid, timestamptz) TO callbridge_partner;
