-- The ledger books everything: who did it and why, what it takes back, rates of exchange, closed periods, referrals.
SET search_path = bridge, public;

ALTER TABLE transfer
    DROP CONSTRAINT transfer_kind_check,
    ADD CONSTRAINT transfer_kind_check CHECK (kind IN ('call', 'top_up', 'purchase', 'usage', 'referral', 'refund', 'correction',
                                                       'exchange', 'reversal', 'rebooking')),
    ADD COLUMN author text NOT NULL DEFAULT '',
    ADD COLUMN reverses uuid,
    ADD COLUMN value_at timestamptz,
    ADD COLUMN fingerprint bytea,
    ADD CHECK ((kind IN ('reversal', 'refund')) = (reverses IS NOT NULL));
CREATE UNIQUE INDEX transfer_reversed_once ON transfer (reverses) WHERE kind = 'reversal';
CREATE INDEX transfer_refund ON transfer (reverses) WHERE kind = 'refund';

DROP FUNCTION account_top_up_v1;

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

-- Keys used so far stay used for what they were used for.
ALTER TABLE transfer DISABLE TRIGGER transfer_insert_only;
UPDATE transfer t SET fingerprint = transfer_fingerprint_v1(t.kind, t.author, t.note, NULL, e.accounts, e.amounts, e.currencies, NULL, NULL)
  FROM (SELECT transfer_id, array_agg(account_id ORDER BY entry_no) AS accounts, array_agg(amount_micro ORDER BY entry_no) AS amounts,
               array_agg(currency::text ORDER BY entry_no) AS currencies FROM entry GROUP BY transfer_id) e
 WHERE e.transfer_id = t.transfer_id AND t.idempotency_key IS NOT NULL;
ALTER TABLE transfer ENABLE TRIGGER transfer_insert_only;
