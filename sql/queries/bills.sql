-- What a subscriber's bill of a period says. Partners run these, too: they find their own subscribers only.

-- name: subscriber^
SELECT s.subscriber_id, s.a_number, s.partner_id, s.account_id, a.name AS account, a.currency, a.funding
  FROM subscriber s JOIN account a USING (account_id) WHERE s.subscriber_id = :subscriber_id;

-- name: subscriber_named
-- Of a number, the newest first.
SELECT s.subscriber_id FROM subscriber s WHERE s.a_number = :a_number ORDER BY s.subscriber_id DESC;

-- name: calls
-- Calls that were charged or might have been, with what they were corrected by; kept: their traffic data are still there.
SELECT r.call_id, r.kind, r.revision, r.at, r.ended_at, r.answered_at, r.talk_ms, r.billed_s, r.covered_s, r.amount_micro, r.currency,
       r.tax, r.destination, r.purpose, c.b_number, c.call_id IS NOT NULL AS kept
  FROM cdr r LEFT JOIN call c USING (call_id)
 WHERE r.account_id = :account_id AND r.subscriber_id = :subscriber_id AND r.leg = 'origination' AND r.direction <> 'in'
   AND r.file_type <> 'quality' AND r.at >= :since AND r.at < :until
 ORDER BY r.at ASC, r.call_id ASC, r.revision ASC, r.kind DESC;

-- name: others^
-- What the account paid for calls of other numbers.
SELECT count(*) FILTER (WHERE r.kind = 'first') AS calls, coalesce(sum(r.amount_micro), 0)::bigint AS amount_micro
  FROM cdr r
 WHERE r.account_id = :account_id AND r.subscriber_id IS DISTINCT FROM :subscriber_id::uuid AND r.leg = 'origination'
   AND r.direction <> 'in' AND r.file_type <> 'quality' AND r.at >= :since AND r.at < :until;

-- name: usage
-- Messages and data of the account.
SELECT r.at, r.ended_at, r.destination AS service, u.quantity, u.charged_quantity, r.amount_micro, r.currency, r.tax
  FROM cdr r LEFT JOIN usage_record u ON u.usage_id = r.call_id
 WHERE r.account_id = :account_id AND r.leg = 'usage' AND r.at >= :since AND r.at < :until
 ORDER BY r.at, r.call_id;

-- name: bookings
-- Whatever else was booked on the account: bundles, top-ups, refunds.
SELECT t.kind, t.booked_at, e.amount_micro, e.currency, b.name AS bundle
  FROM entry e JOIN transfer t USING (transfer_id)
  LEFT JOIN transfer o ON o.transfer_id = t.reverses
  LEFT JOIN allowance w ON w.transfer_id = coalesce(t.reverses, t.transfer_id) AND w.account_id = e.account_id
  LEFT JOIN bundle b USING (bundle_id)
 WHERE e.account_id = :account_id AND t.booked_at >= :since AND t.booked_at < :until
   AND t.kind NOT IN ('call', 'usage', 'rebooking') AND (t.kind <> 'reversal' OR o.kind NOT IN ('call', 'rebooking'))
 ORDER BY t.booked_at, t.transfer_id, e.entry_no;

-- name: choice_before$
-- What was chosen last before an instant.
SELECT h.numbers FROM bill_choice h
 WHERE h.subscriber_id = :subscriber_id AND h.chosen_at < :at ORDER BY h.chosen_at DESC, h.choice_id DESC LIMIT 1;

-- name: choice^
-- The last one, and how many there were.
SELECT h.numbers, h.chosen_at, count(*) OVER () AS edition FROM bill_choice h
 WHERE h.subscriber_id = :subscriber_id ORDER BY h.chosen_at DESC, h.choice_id DESC LIMIT 1;

-- name: lock!
-- Choices of a subscriber come one after the other.
SELECT FROM subscriber s WHERE s.subscriber_id = :subscriber_id FOR NO KEY UPDATE;

-- name: choose^
-- edition: as many as there have to be; NULL: however many there are.
INSERT INTO bill_choice (subscriber_id, partner_id, numbers, actor)
SELECT :subscriber_id::uuid, :partner_id::uuid, :numbers::text, :actor::text
 WHERE :edition::bigint IS NULL
    OR (SELECT count(*) FROM bill_choice h WHERE h.subscriber_id = :subscriber_id::uuid) = :edition::bigint
RETURNING numbers, chosen_at;
