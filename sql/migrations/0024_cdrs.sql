-- Ended calls are numbered without gaps: what files, statements and invoices are made of, and what a partner can prove complete.

-- ---------------------------------------------------------------- what a record is made of

-- The tax terms of a frozen tariff; NULL: none.
CREATE FUNCTION cdr_tax_v1(p_sell jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_sell -> 'terms' ? 'tax'
                THEN jsonb_build_object('tax', p_sell #> '{terms,tax}', 'tax_ppm', p_sell #> '{terms,tax_ppm}') END
$$;

ALTER TABLE usage_record ADD COLUMN tax jsonb;                         -- in the amount; as of a deck's terms, NULL: none
ALTER TABLE allowance ADD COLUMN tax jsonb;                            -- in what was paid for it; likewise

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

-- What was sold already has the tax of today's plan: there is no better witness. What is sold from now on keeps its own.
UPDATE allowance w SET tax = deck_tax_v1(p.deck_id) FROM bundle b JOIN plan p USING (plan_id)
 WHERE w.bundle_id = b.bundle_id AND w.transfer_id IS NOT NULL;
UPDATE usage_record u SET tax = s.tax
  FROM (SELECT DISTINCT ON (s.account_id) s.account_id, deck_tax_v1(p.deck_id) AS tax FROM subscriber s JOIN plan p USING (plan_id)
         ORDER BY s.account_id, s.subscriber_id) s
 WHERE u.account_id = s.account_id AND s.tax IS NOT NULL AND u.amount_micro > 0;

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
