-- Accounts and the double entry.

-- name: system_account$
-- The account of ours that takes one side of a booking; made when first needed.
-- Where another worker makes it at the same time, DO UPDATE waits for its row and returns that one.
WITH found AS (
    SELECT account_id FROM account WHERE name = :name
), made AS (
    INSERT INTO account (kind, name, currency) SELECT 'system', :name, :currency WHERE NOT EXISTS (SELECT 1 FROM found)
    ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING account_id
)
SELECT account_id FROM found UNION ALL SELECT account_id FROM made LIMIT 1;

-- name: top_up$
SELECT account_top_up_v1(:account_id, :amount_micro, :source_id, :key, :note);

-- name: account^
SELECT account_id, kind, name, currency, funding, state, balance_micro, held_micro, credit_limit_micro, call_cap
  FROM account WHERE name = :name;

-- name: audit_unbalanced
-- Transfers that do not sum to zero in a currency. None, ever.
SELECT transfer_id, currency, sum(amount_micro) AS total_micro FROM entry GROUP BY transfer_id, currency HAVING sum(amount_micro) <> 0;

-- name: audit_balances
-- Accounts whose row does not equal their entries.
SELECT a.account_id, a.name, a.balance_micro, coalesce(sum(e.amount_micro), 0) AS entries_micro
  FROM account a LEFT JOIN entry e USING (account_id) WHERE a.tracked
 GROUP BY a.account_id HAVING a.balance_micro <> coalesce(sum(e.amount_micro), 0);

-- name: audit_holds
-- Accounts whose held amount does not equal their open holds.
SELECT a.account_id, a.name, a.held_micro, coalesce(sum(h.held_micro), 0) AS holds_micro
  FROM account a LEFT JOIN hold h ON h.account_id = a.account_id AND h.state = 'open'
 GROUP BY a.account_id HAVING a.held_micro <> coalesce(sum(h.held_micro), 0);

-- name: audit_overdrawn
SELECT account_id, name, balance_micro, held_micro FROM account
 WHERE kind = 'subscriber' AND funding = 'prepaid' AND balance_micro - held_micro < 0;

-- name: audit_uncharged
-- Answered calls without a charge, and charges of calls that were not answered. Emergency calls have no account.
SELECT c.call_id, c.state FROM call c LEFT JOIN charge h USING (call_id)
 WHERE (c.state = 'answered' AND c.account_id IS NOT NULL) <> (h.call_id IS NOT NULL);

-- name: audit_booking
-- Charges whose booking is missing or differs from what was paid.
SELECT h.call_id, h.amount_micro - h.written_off_micro AS paid_micro, coalesce(-e.amount_micro, 0) AS booked_micro
  FROM charge h LEFT JOIN entry e ON e.transfer_id = h.call_id AND e.account_id = h.account_id
 WHERE h.amount_micro - h.written_off_micro <> coalesce(-e.amount_micro, 0);

-- name: audit_outlived
-- Holds and leases that outlived their call, and ended calls that still have them.
SELECT c.call_id, CASE WHEN l.call_id IS NOT NULL THEN 'lease' ELSE 'hold' END AS what FROM call c
  LEFT JOIN lease l USING (call_id) LEFT JOIN hold h ON h.call_id = c.call_id AND h.state = 'open'
 WHERE c.state <> 'live' AND (l.call_id IS NOT NULL OR h.call_id IS NOT NULL);

-- name: audit_expired
-- Live calls whose lease has run out, or that have none: nobody has closed them.
SELECT c.call_id, l.expires_at FROM call c LEFT JOIN lease l USING (call_id)
 WHERE c.state = 'live' AND (l.expires_at IS NULL OR l.expires_at < now());

-- name: audit_cost_booking
-- Calls whose cost is not what their carrier was credited with.
WITH owed AS (
    SELECT x.call_id, sum(x.cost_micro) AS cost_micro FROM attempt x WHERE x.cost_micro <> 0 GROUP BY x.call_id
), booked AS (
    SELECT e.transfer_id AS call_id, sum(e.amount_micro) AS booked_micro
      FROM entry e JOIN account a USING (account_id) WHERE a.kind = 'carrier' GROUP BY e.transfer_id
)
SELECT call_id, coalesce(o.cost_micro, 0) AS cost_micro, coalesce(b.booked_micro, 0) AS booked_micro
  FROM owed o FULL JOIN booked b USING (call_id) WHERE o.cost_micro IS DISTINCT FROM b.booked_micro;

-- name: audit_charges
-- Charges with what they were priced from, to be computed again.
SELECT h.call_id, c.sell, c.talk_ms, h.amount_micro, h.billed_s FROM charge h LEFT JOIN call c USING (call_id);

-- name: audit_costs
-- Answered attempts, and whatever else cost something, with what they were priced from. Only the answered one talked.
SELECT x.call_id, x.attempt_no, x.buy, CASE x.outcome WHEN 'answered' THEN c.talk_ms ELSE 0 END AS talk_ms, x.cost_micro, x.billed_s
  FROM attempt x JOIN call c USING (call_id) WHERE x.outcome = 'answered' OR x.cost_micro <> 0 OR x.billed_s <> 0;
