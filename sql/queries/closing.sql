-- The end of a month: sums over the same records from every side, to be laid beside each other.

-- name: lock$
-- One closing at a time, until it is released or the connection is gone. False: another one is at work.
SELECT pg_try_advisory_lock(hashtextextended('callbridge close', 0));

-- name: unlock!
SELECT pg_advisory_unlock(hashtextextended('callbridge close', 0));

-- name: records
-- What was numbered in a period, by whose it is (NULL: nobody's), sort of file, leg and currency.
SELECT k.partner_id, k.file_type, k.leg, k.currency, count(*) AS records, sum(k.talk_ms)::bigint AS talk_ms,
       sum(k.billed_s)::bigint AS billed_s, sum(k.amount_micro)::bigint AS amount_micro
  FROM cdr k WHERE k.at >= :from_at AND k.at < :to_at GROUP BY k.partner_id, k.file_type, k.leg, k.currency;

-- name: calls^
-- How many calls were numbered in a period, and how many of them were answered.
SELECT count(*) AS calls, count(*) FILTER (WHERE k.answered) AS answered
  FROM cdr k WHERE k.at >= :from_at AND k.at < :to_at AND k.leg = 'origination' AND k.kind = 'first';

-- name: priced
-- The same, of what is not a correction, from where it was priced: charges, attempts, usage.
SELECT k.leg, coalesce(h.currency, x.currency, u.currency)::text AS currency,
       sum(coalesce(h.billed_s, x.billed_s, 0))::bigint AS billed_s,
       sum(coalesce(h.amount_micro - h.written_off_micro, x.cost_micro, u.amount_micro - u.written_off_micro))::bigint AS amount_micro
  FROM cdr k
  LEFT JOIN charge h ON k.leg = 'origination' AND h.call_id = k.call_id
  LEFT JOIN attempt x ON k.leg = 'termination' AND x.call_id = k.call_id AND x.attempt_no = k.attempt_no
  LEFT JOIN usage_record u ON k.leg = 'usage' AND u.usage_id = k.call_id
 WHERE k.at >= :from_at AND k.at < :to_at AND k.kind = 'first' AND num_nonnulls(h.call_id, x.call_id, u.usage_id) > 0
 GROUP BY k.leg, h.currency, x.currency, u.currency;

-- name: repriced
-- The corrections, from where they were priced: what stands less what stood before.
WITH moved AS (
    SELECT DISTINCT k.call_id, k.revision FROM cdr k WHERE k.at >= :from_at AND k.at < :to_at AND k.kind <> 'first'
)
SELECT v.leg, v.currency, sum(v.billed_s)::bigint AS billed_s, sum(v.amount_micro)::bigint AS amount_micro
  FROM moved m
  JOIN rerating r USING (call_id, revision)
  JOIN charge h ON h.call_id = m.call_id
  LEFT JOIN attempt x ON x.call_id = m.call_id AND x.outcome = 'answered'
  LEFT JOIN rerating b ON b.call_id = m.call_id AND b.revision = m.revision - 1
 CROSS JOIN LATERAL (VALUES
    ('origination', h.currency::text, r.billed_s - coalesce(b.billed_s, h.billed_s),
     r.amount_micro - r.written_off_micro - coalesce(b.amount_micro - b.written_off_micro, h.amount_micro - h.written_off_micro)),
    ('termination', x.currency::text, r.buy_billed_s - coalesce(b.buy_billed_s, x.billed_s, 0),
     r.cost_micro - coalesce(b.cost_micro, x.cost_micro, 0))) AS v (leg, currency, billed_s, amount_micro)
 WHERE v.currency IS NOT NULL
 GROUP BY v.leg, v.currency;

-- name: booked
-- What the ledger says of the same: the entries of those calls, corrections and usage, by kind of account.
WITH moved AS (
    SELECT k.call_id AS transfer_id FROM cdr k
     WHERE k.at >= :from_at AND k.at < :to_at AND k.kind = 'first' AND k.leg = 'origination'
     UNION ALL
    SELECT u.transfer_id FROM cdr k JOIN usage_record u ON u.usage_id = k.call_id
     WHERE k.at >= :from_at AND k.at < :to_at AND k.leg = 'usage' AND u.transfer_id IS NOT NULL
     UNION ALL
    SELECT t.transfer_id
      FROM (SELECT DISTINCT k.call_id, k.revision FROM cdr k WHERE k.at >= :from_at AND k.at < :to_at AND k.kind <> 'first') c
      JOIN rerating r USING (call_id, revision)
     CROSS JOIN LATERAL (VALUES (r.reversal_id), (r.rebooking_id)) AS t (transfer_id)
     WHERE t.transfer_id IS NOT NULL
)
SELECT a.kind, e.currency, sum(e.amount_micro)::bigint AS amount_micro
  FROM moved JOIN entry e USING (transfer_id) JOIN account a USING (account_id)
 WHERE a.kind IN ('subscriber', 'carrier')
 GROUP BY a.kind, e.currency;

-- name: closed_until$
SELECT max(p.closed_until) FROM period p;

-- name: files
-- The files that lie in a period, by recipient, sort and number.
SELECT f.file_id, r.code, r.partner_id, p.name AS partner, r.types, f.type, f.format, f.from_at, f.to_at, f.state, f.sha256, f.rows,
       f.delivered_at
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id) LEFT JOIN partner p ON p.partner_id = r.partner_id
 WHERE f.from_at >= :from_at AND f.to_at <= :to_at
 ORDER BY r.code, f.type, f.file_no;

-- name: numbers^
-- The first and the last number of whose records: of a partner (by record_no), or of the house (NULL, by cdr_no).
SELECT coalesce(min(CASE WHEN :partner_id::uuid IS NULL THEN k.cdr_no ELSE k.record_no END), 1) AS first_no,
       coalesce(max(CASE WHEN :partner_id::uuid IS NULL THEN k.cdr_no ELSE k.record_no END), 0) AS last_no
  FROM cdr k
 WHERE k.at >= :from_at AND k.at < :to_at AND (:partner_id::uuid IS NULL OR k.partner_id = :partner_id);

-- name: statement_kept^
-- What a statement follows from, the sum of its lines, and what the ledger has booked of it to the partner.
SELECT s.inputs,
       (SELECT coalesce(sum(l.amount_micro), 0) FROM statement_line l WHERE l.statement_id = s.statement_id)::bigint AS lines_micro,
       (SELECT coalesce(sum(e.amount_micro), 0) FROM entry e JOIN account a USING (account_id)
         WHERE e.transfer_id = s.transfer_id AND a.kind = 'partner')::bigint AS booked_micro
  FROM statement s WHERE s.statement_id = :statement_id;

-- name: invoiced
-- The documents of a statement that have a number, with the sum of their lines and of the statement's lines that these are of.
SELECT i.invoice_id, i.number, i.type, i.self_billed, i.net_cents, i.gross_cents, i.rounding_micro,
       (SELECT coalesce(sum(l.amount_micro), 0) FROM invoice_line l WHERE l.invoice_id = i.invoice_id)::bigint AS lines_micro,
       (SELECT coalesce(sum(o.amount_micro), 0) FROM statement_line o
         WHERE o.statement_id = i.statement_id
           AND o.line_no IN (SELECT l.source_no FROM invoice_line l WHERE l.invoice_id = i.invoice_id))::bigint AS source_micro
  FROM invoice i WHERE i.statement_id = :statement_id AND i.credits IS NULL AND i.number IS NOT NULL
 ORDER BY i.number;

-- name: partners
-- Partners of whom something was numbered in a period.
SELECT p.partner_id, p.name FROM partner p
 WHERE EXISTS (SELECT FROM cdr k WHERE k.partner_id = p.partner_id AND k.at >= :from_at AND k.at < :to_at) ORDER BY p.partner_id;

-- name: rates_missing
-- Foreign currencies of what was charged, sold or carried under deals in a period, of which no rate to the deal's is known.
WITH of AS (
    SELECT d.partner_id, d.currency, bool_or(v.terms ? 'zero_rated') AS zero_rated
      FROM deal d JOIN deal_version v USING (deal_id)
     WHERE d.deal_id = ANY(:deal_ids::uuid []) AND v.valid && tstzrange(:from_at, :to_at) GROUP BY d.deal_id
), calls AS MATERIALIZED (
    SELECT c.call_id, c.partner_id, c.sell ? 'zero_rated' AS free FROM call c
     WHERE c.call_id >= uuid_floor_v1(:from_at::timestamptz - interval '1 day') AND c.call_id < uuid_floor_v1(:to_at)
       AND c.ended_at >= :from_at AND c.ended_at < :to_at AND c.state = 'answered'
), seen AS (
    SELECT k.partner_id, h.currency FROM calls k JOIN charge h USING (call_id) WHERE h.amount_micro > h.written_off_micro
    UNION
    SELECT t.partner_id, x.currency FROM calls JOIN attempt x USING (call_id) JOIN trunk t USING (trunk_id) WHERE x.cost_micro > 0
    UNION
    SELECT o.partner_id, x.currency FROM calls k JOIN attempt x USING (call_id) JOIN of o ON o.partner_id = k.partner_id AND o.zero_rated
     WHERE k.free AND x.cost_micro > 0
    UNION
    SELECT u.partner_id, u.currency FROM usage_record u
     WHERE u.used_at >= :from_at AND u.used_at < :to_at AND u.amount_micro > u.written_off_micro
    UNION
    SELECT a.partner_id, a.currency FROM account a JOIN allowance USING (account_id) JOIN transfer t USING (transfer_id)
     WHERE coalesce(t.value_at, t.booked_at) >= :from_at AND coalesce(t.value_at, t.booked_at) < :to_at
)
SELECT DISTINCT s.currency, o.currency AS quote FROM of o JOIN seen s ON s.partner_id = o.partner_id
 WHERE s.currency <> o.currency
   AND NOT EXISTS (SELECT FROM fx_rate f WHERE f.valid_on BETWEEN :day::date - :days::integer AND :day
                      AND (f.base, f.quote) IN ((s.currency, o.currency), (o.currency, s.currency)))
 ORDER BY s.currency, o.currency;
