-- Accounts and the double entry.

-- name: system_account$
-- The account of ours that takes one side of a booking; made when first needed.
WITH made AS (
    INSERT INTO account (kind, name, currency) VALUES ('system', :name, :currency) ON CONFLICT (name) DO NOTHING RETURNING account_id
)
SELECT account_id FROM made UNION ALL SELECT account_id FROM account WHERE name = :name LIMIT 1;

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
-- Answered calls without a charge, and charges of calls that were not answered.
SELECT c.call_id, c.state FROM call c LEFT JOIN charge h USING (call_id)
 WHERE (c.state = 'answered') <> (h.call_id IS NOT NULL);

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
-- Live calls whose lease has run out: nobody has closed them.
SELECT c.call_id, l.expires_at FROM lease l JOIN call c USING (call_id) WHERE l.expires_at < now();

-- name: audit_charges
-- Answered calls with what they were priced from, to be computed again.
SELECT c.call_id, c.sell, c.talk_ms, h.amount_micro, h.billed_s FROM call c JOIN charge h USING (call_id);

-- name: audit_costs
SELECT x.call_id, x.attempt_no, x.buy, c.talk_ms, x.cost_micro FROM attempt x JOIN call c USING (call_id) WHERE x.outcome = 'answered';
