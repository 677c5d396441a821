-- Statements with partners. What is another's, and drafts, are kept from partners by row-level security.

-- name: statements
-- Newest first. A partner sees its own that were approved.
SELECT s.statement_id, s.deal_id, s.partner_id, s.month, s.from_at, s.to_at, s.currency, s.state, s.total_micro, s.first_no, s.last_no,
       s.chain_day, s.chain_hash, s.edition, s.approved_at, s.sent_at, s.channel, s.settled_at,
       coalesce((SELECT sum(y.amount_micro) FROM statement_payment y WHERE y.statement_id = s.statement_id), 0)::bigint AS paid_micro
  FROM statement s
 WHERE s.statement_id < :before
   AND (:deal_id::uuid IS NULL OR s.deal_id = :deal_id)
   AND (:month::text IS NULL OR s.month = :month)
   AND (:state::text IS NULL OR s.state = :state)
 ORDER BY s.statement_id DESC LIMIT :rows;

-- name: statements_partner
-- In the order NULLS LAST there is no index but the partner's: others' statements are not read.
SELECT s.statement_id, s.deal_id, s.partner_id, s.month, s.from_at, s.to_at, s.currency, s.state, s.total_micro, s.first_no, s.last_no,
       s.chain_day, s.chain_hash, s.edition, s.approved_at, s.sent_at, s.channel, s.settled_at,
       coalesce((SELECT sum(y.amount_micro) FROM statement_payment y WHERE y.statement_id = s.statement_id), 0)::bigint AS paid_micro
  FROM statement s
 WHERE s.partner_id = :partner_id AND s.statement_id < :before
   AND (:deal_id::uuid IS NULL OR s.deal_id = :deal_id)
   AND (:month::text IS NULL OR s.month = :month)
   AND (:state::text IS NULL OR s.state = :state)
 ORDER BY s.statement_id DESC NULLS LAST LIMIT :rows;

-- name: statement^
SELECT s.statement_id, s.deal_id, s.partner_id, s.month, s.from_at, s.to_at, s.currency, s.state, s.total_micro, s.first_no, s.last_no,
       s.chain_day, s.chain_hash, s.edition, s.approved_at, s.sent_at, s.channel, s.settled_at, d.name AS deal, p.name AS partner,
       coalesce((SELECT sum(y.amount_micro) FROM statement_payment y WHERE y.statement_id = s.statement_id), 0)::bigint AS paid_micro
  FROM statement s JOIN deal d USING (deal_id) JOIN partner p ON p.partner_id = s.partner_id WHERE s.statement_id = :statement_id;

-- name: lines
SELECT l.line_no, l.kind, l.title, l.quantity, l.unit, l.rate_micro, l.base_micro, l.amount_micro, l.purpose, l.of_kind, l.detail
  FROM statement_line l WHERE l.statement_id = :statement_id ORDER BY l.line_no;

-- name: payments
SELECT y.payment_id, y.payment_no, y.amount_micro, y.booked_at FROM statement_payment y
 WHERE y.statement_id = :statement_id ORDER BY y.payment_no;

-- ---------------------------------------------------------------- what a statement follows from

-- name: deals_of_month
-- The deals that were in force at some time of a month.
SELECT d.deal_id, d.partner_id, d.name FROM deal d
 WHERE d.state <> 'draft'
   AND EXISTS (SELECT FROM deal_version v WHERE v.deal_id = d.deal_id AND v.valid && tstzrange(:from_at, :to_at))
 ORDER BY d.deal_id;

-- name: agreed
-- What all deals with a partner say in a month. The older deal has the smaller id.
SELECT d.deal_id, d.name, v.version, lower(v.valid) AS from_at, upper(v.valid) AS until_at, v.terms
  FROM deal d JOIN deal_version v USING (deal_id)
 WHERE d.partner_id = :partner_id AND d.state <> 'draft' AND v.valid && tstzrange(:from_at, :to_at)
 ORDER BY d.deal_id, v.version;

-- name: records
-- Sums over a partner's records of a period. edges: when the parts of the month begin; -1: what ended before the first.
SELECT k.leg, width_bucket(k.ended_at, :edges::timestamptz []) - 1 AS part, k.purpose, k.currency,
       coalesce((k.tax ->> 'tax_ppm')::bigint, 0) AS tax_ppm,
       CASE k.leg WHEN 'termination' THEN coalesce(k.account_id::text, '') ELSE '' END AS carrier,
       sum(k.answered::integer * CASE k.kind WHEN 'reversal' THEN -1 ELSE 1 END) AS calls, sum(k.billed_s) AS billed_s,
       sum(k.amount_micro) AS amount_micro
  FROM cdr k
 WHERE k.partner_id = :partner_id AND k.at >= :from_at AND k.at < :to_at
 GROUP BY k.leg, part, k.purpose, k.currency, tax_ppm, carrier;

-- name: zero_costs
-- What carrying the zero-rated calls of a partner's subscribers has cost, whoever carried them.
SELECT width_bucket(k.ended_at, :edges::timestamptz []) - 1 AS part, o.purpose, k.currency,
       sum(k.answered::integer * CASE k.kind WHEN 'reversal' THEN -1 ELSE 1 END) AS calls, sum(k.billed_s) AS billed_s,
       sum(k.amount_micro) AS amount_micro
  FROM cdr k JOIN cdr o ON o.call_id = k.call_id AND o.leg = 'origination' AND o.attempt_no = 0 AND o.kind = 'first' AND o.revision = 0
 WHERE k.leg = 'termination' AND k.at >= :from_at AND k.at < :to_at
   AND o.partner_id = :partner_id AND o.purpose IN ('destination', 'on-net')
 GROUP BY part, o.purpose, k.currency;

-- name: purchases
-- Bundles that the accounts of a partner bought, and what was given back of them. -1: of earlier months.
WITH booked AS (
    SELECT w.bundle_id, w.account_id, coalesce((w.tax ->> 'tax_ppm')::bigint, 0) AS tax_ppm, t.transfer_id,
           coalesce(t.value_at, t.booked_at) AS at, coalesce(t.value_at, t.booked_at) AS bought_at, t.transfer_id AS purchase_id
      FROM allowance w JOIN account a USING (account_id) JOIN transfer t USING (transfer_id)
     WHERE a.partner_id = :partner_id AND coalesce(t.value_at, t.booked_at) < :to_at
), back AS (
    SELECT b.bundle_id, b.account_id, b.tax_ppm, r.transfer_id, coalesce(r.value_at, r.booked_at) AS at, b.bought_at, b.purchase_id
      FROM booked b JOIN transfer r ON r.reverses = b.transfer_id AND r.kind IN ('refund', 'reversal')
), again AS (
    SELECT b.bundle_id, b.account_id, b.tax_ppm, r.transfer_id, coalesce(r.value_at, r.booked_at) AS at, b.bought_at, b.purchase_id
      FROM back b JOIN transfer r ON r.reverses = b.transfer_id AND r.kind = 'reversal'
), every AS (
    SELECT b.* FROM booked b UNION ALL SELECT b.* FROM back b UNION ALL SELECT b.* FROM again b
), moved AS (
    SELECT m.bundle_id, m.tax_ppm, m.bought_at, m.at, e.currency, -e.amount_micro AS amount_micro,
           CASE WHEN abs(e.amount_micro) = abs(o.amount_micro) THEN -sign(e.amount_micro)::bigint ELSE 0 END AS purchases
      FROM every m
      JOIN entry e ON e.transfer_id = m.transfer_id AND e.account_id = m.account_id
      JOIN entry o ON o.transfer_id = m.purchase_id AND o.account_id = m.account_id
     WHERE m.at >= :from_at AND m.at < :to_at
)
SELECT CASE WHEN v.bought_at < :from_at THEN -1 ELSE width_bucket(v.at, :edges::timestamptz []) - 1 END AS part, v.bundle_id, v.currency,
       v.tax_ppm, sum(v.purchases) AS purchases, sum(v.amount_micro) AS amount_micro
  FROM moved v GROUP BY part, v.bundle_id, v.currency, v.tax_ppm;

-- name: outcomes
-- What disputes with a partner ended with in a period, as it was booked.
SELECT x.dispute_id, x.title, e.currency, sum(e.amount_micro) AS amount_micro,
       CASE WHEN a.kind = 'partner' AND a.currency = :currency THEN '' ELSE a.account_id::text END AS booked_on,
       coalesce(n.leg, CASE a.kind WHEN 'carrier' THEN 'termination' ELSE '' END) AS about
  FROM dispute x JOIN account a USING (account_id) LEFT JOIN recon_run n USING (run_id)
  JOIN entry e ON e.transfer_id = x.transfer_id AND e.account_id = x.account_id
 WHERE x.partner_id = :partner_id AND x.decided_at >= :from_at AND x.decided_at < :to_at
 GROUP BY x.dispute_id, x.title, booked_on, about, e.currency;

-- name: evidence^
-- Which of the partner's records a period has, the house's last one by then, and the partner's chain after a day.
SELECT coalesce(min(k.record_no), 0) AS first_no, coalesce(max(k.record_no), 0) AS last_no, count(*) AS records,
       coalesce((SELECT h.cdr_no FROM cdr h WHERE h.at < :to_at ORDER BY h.at DESC, h.cdr_no DESC LIMIT 1), 0) AS house_last_no,
       (SELECT c.hash FROM cdr_day c WHERE c.partner_id = :partner_id AND c.day = :day::date) AS hash,
       EXISTS (SELECT FROM cdr_day c WHERE c.partner_id = '00000000-0000-0000-0000-000000000000' AND c.day >= :day::date) AS closed
  FROM cdr k WHERE k.partner_id = :partner_id AND k.at >= :from_at AND k.at < :to_at;

-- name: state_of_books^
-- Until when calls are numbered, and until when the books are closed.
SELECT (SELECT max(p.until) FROM cdr_pass p) AS numbered_until, (SELECT max(p.closed_until) FROM period p) AS closed_until;

-- ---------------------------------------------------------------- the way of a statement

-- name: of_deal^
-- The statement of a deal for the month that begins then, held until the transaction ends.
SELECT s.statement_id, s.state, s.edition FROM statement s WHERE s.deal_id = :deal_id AND s.from_at = :from_at FOR NO KEY UPDATE;

-- name: hold^
SELECT s.statement_id, s.deal_id, s.partner_id, s.month, s.to_at, s.currency, s.state, s.edition, s.total_micro, s.inputs, s.transfer_id
  FROM statement s WHERE s.statement_id = :statement_id FOR NO KEY UPDATE;

-- name: paid$
-- Asked once the statement is held: in the query that waits for it, payments of meanwhile would not be seen.
SELECT coalesce(sum(y.amount_micro), 0)::bigint FROM statement_payment y WHERE y.statement_id = :statement_id;

-- name: add$
INSERT INTO statement (deal_id, partner_id, month, from_at, to_at, currency, total_micro, inputs, first_no, last_no, chain_day, chain_hash,
                       drafted_by)
VALUES (:deal_id, :partner_id, :month, :from_at, :to_at, :currency, :total_micro, :inputs, :first_no, :last_no, :chain_day, :chain_hash,
        :author)
RETURNING statement_id;

-- name: redraft!
UPDATE statement s
   SET total_micro = :total_micro, inputs = :inputs, first_no = :first_no, last_no = :last_no, chain_day = :chain_day,
       chain_hash = :chain_hash, drafted_by = :author, drafted_at = clock_timestamp(), edition = s.edition + 1
 WHERE s.statement_id = :statement_id;

-- name: forget_lines!
DELETE FROM statement_line l WHERE l.statement_id = :statement_id;

-- name: add_lines!
INSERT INTO statement_line (statement_id, line_no, kind, title, quantity, unit, rate_micro, base_micro, amount_micro, purpose, of_kind,
                            detail)
SELECT :statement_id, l.line_no, l.kind, l.title, l.quantity, l.unit, l.rate_micro, l.base_micro, l.amount_micro, l.purpose, l.of_kind,
       l.detail
  FROM jsonb_to_recordset(:lines::jsonb) AS l (line_no integer, kind text, title text, quantity bigint, unit text, rate_micro bigint,
       base_micro bigint, amount_micro bigint, purpose text, of_kind text, detail jsonb);

-- name: partner_account$
SELECT partner_account_v1(:partner_id, :currency);

-- name: approve!
UPDATE statement s
   SET state = 'approved', approved_at = clock_timestamp(), approved_by = :author, transfer_id = :transfer_id, edition = s.edition + 1
 WHERE s.statement_id = :statement_id;

-- name: send!
UPDATE statement s
   SET state = 'sent', sent_at = clock_timestamp(), sent_by = :author, channel = :channel, edition = s.edition + 1
 WHERE s.statement_id = :statement_id;

-- name: settle!
-- One that was sent, if nothing is open; else a part of it was paid.
UPDATE statement s
   SET state = CASE WHEN :whole::boolean THEN 'settled' ELSE s.state END, edition = s.edition + 1,
       settled_at = CASE WHEN :whole::boolean THEN clock_timestamp() END
 WHERE s.statement_id = :statement_id;

-- name: payment^
SELECT y.payment_id, y.statement_id, y.payment_no, y.amount_micro, y.note, y.author, y.booked_at FROM statement_payment y
 WHERE y.idempotency_key = :key;

-- name: add_payment!
INSERT INTO statement_payment (statement_id, payment_no, amount_micro, transfer_id, idempotency_key, note, author)
VALUES (:statement_id, (SELECT count(*) + 1 FROM statement_payment y WHERE y.statement_id = :statement_id), :amount_micro, :transfer_id,
        :key, :note, :author);

-- name: note!
-- For the audit log, of what is done at the command line or by a job.
INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
VALUES (:partner_id, :actor, :action, :subject, :detail, '', '');

-- name: tell!
SELECT event_add_v1(s.partner_id, 'statement.changed', s.statement_id, s.edition, jsonb_build_object(
       'statement_id', told_id_v1('stm', s.statement_id), 'deal_id', told_id_v1('deal', s.deal_id), 'month', s.month, 'state', s.state,
       'total', told_money_v1(s.total_micro), 'currency', s.currency))
  FROM statement s WHERE s.statement_id = :statement_id;

-- ---------------------------------------------------------------- proofs

-- name: kept
-- All statements with what they follow from.
SELECT s.statement_id, s.partner_id, s.currency, s.state, s.total_micro, s.transfer_id, s.inputs
  FROM statement s ORDER BY s.statement_id;

-- name: settled_entries
-- What a transfer has booked: on the partner's account in the deal's currency, on our own by their role, and on others.
SELECT CASE WHEN a.kind = 'partner' AND a.currency = :currency THEN 'partner'
            WHEN a.kind = 'system' THEN left(a.name, length(a.name) - 4) ELSE a.account_id::text END AS booked_on,
       e.currency, sum(e.amount_micro) AS amount_micro
  FROM entry e JOIN account a USING (account_id) WHERE e.transfer_id = :transfer_id
 GROUP BY booked_on, e.currency;

-- name: audit_totals
-- Statements whose lines do not come to their total.
SELECT s.statement_id, s.total_micro, coalesce(sum(l.amount_micro), 0) AS lines_micro
  FROM statement s LEFT JOIN statement_line l USING (statement_id)
 GROUP BY s.statement_id HAVING s.total_micro <> coalesce(sum(l.amount_micro), 0);

-- name: audit_strays
-- Settlements of no statement, and payments of neither a statement nor an invoice.
SELECT t.transfer_id, t.kind FROM transfer t
 WHERE (t.kind = 'settlement' AND NOT EXISTS (SELECT FROM statement s WHERE s.transfer_id = t.transfer_id))
    OR (t.kind = 'payment' AND NOT EXISTS (SELECT FROM statement_payment y WHERE y.transfer_id = t.transfer_id)
        AND NOT EXISTS (SELECT FROM invoice_payment n WHERE n.transfer_id = t.transfer_id));

-- name: audit_payments
-- Statements that were paid other than their payments say, more than they come to, or settled with something open.
WITH paid AS (
    SELECT y.statement_id, sum(y.amount_micro) AS paid_micro, sum(e.amount_micro) AS booked_micro
      FROM statement_payment y
      LEFT JOIN (SELECT e.transfer_id, sum(e.amount_micro) AS amount_micro FROM entry e JOIN account a USING (account_id)
                   JOIN transfer t USING (transfer_id) WHERE t.kind = 'payment' AND a.kind = 'partner'
                  GROUP BY e.transfer_id) e USING (transfer_id)
     GROUP BY y.statement_id
)
SELECT s.statement_id, s.state, s.total_micro, coalesce(p.paid_micro, 0) AS paid_micro, coalesce(p.booked_micro, 0) AS booked_micro
  FROM statement s LEFT JOIN paid p USING (statement_id)
 WHERE coalesce(p.booked_micro, 0) <> -sign(s.total_micro) * coalesce(p.paid_micro, 0)
    OR coalesce(p.paid_micro, 0) > abs(s.total_micro)
    OR (s.state IN ('sent', 'settled') AND (s.state = 'settled') <> (coalesce(p.paid_micro, 0) = abs(s.total_micro)))
    OR (s.state IN ('draft', 'approved') AND p.statement_id IS NOT NULL);
