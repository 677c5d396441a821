-- Statements: what we and a partner owe each other for a month under a deal, what that follows from, and how it was settled.
SET search_path = bridge, public;

ALTER TABLE transfer
    DROP CONSTRAINT transfer_kind_check,
    ADD CONSTRAINT transfer_kind_check CHECK (kind IN ('call', 'top_up', 'purchase', 'usage', 'referral', 'refund', 'correction',
                                                       'exchange', 'reversal', 'rebooking', 'settlement', 'payment'));

-- Refuse what no state of the books could make right.
CREATE OR REPLACE FUNCTION transfer_check_v1(
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
        WHEN p_kind IN ('settlement', 'payment') AND btrim(p_author) = '' THEN format('a %s needs an author', p_kind)
        WHEN p_kind IS NULL OR p_kind NOT IN ('top_up', 'purchase', 'usage', 'referral', 'refund', 'correction', 'exchange', 'reversal',
                                              'rebooking', 'settlement', 'payment') THEN
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
