-- Accounts as their partner sees them. What is another's is kept away by row-level security.

-- name: accounts
-- What a cap leaves is asked only where there is one.
SELECT a.account_id, a.partner_id, a.kind, a.name, a.currency, a.funding, a.state, a.tracked, a.balance_micro, a.held_micro,
       a.credit_limit_micro, a.call_cap, a.spend_cap_micro, a.spend_period, a.low_balance_micro, a.edition, a.created_at,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, now()) END AS spend_left_micro
  FROM account a
 WHERE a.account_id < :before AND (:kind::text IS NULL OR a.kind = :kind) AND (:state::text IS NULL OR a.state = :state)
 ORDER BY a.account_id DESC LIMIT :rows;

-- name: accounts_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' accounts are not read.
-- What a cap leaves is asked only where there is one.
SELECT a.account_id, a.partner_id, a.kind, a.name, a.currency, a.funding, a.state, a.tracked, a.balance_micro, a.held_micro,
       a.credit_limit_micro, a.call_cap, a.spend_cap_micro, a.spend_period, a.low_balance_micro, a.edition, a.created_at,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, now()) END AS spend_left_micro
  FROM account a
 WHERE a.partner_id = :partner_id AND a.account_id < :before
   AND (:kind::text IS NULL OR a.kind = :kind) AND (:state::text IS NULL OR a.state = :state)
 ORDER BY a.account_id DESC NULLS LAST LIMIT :rows;

-- name: account^
SELECT a.account_id, a.partner_id, a.kind, a.name, a.currency, a.funding, a.state, a.tracked, a.balance_micro, a.held_micro,
       a.credit_limit_micro, a.call_cap, a.spend_cap_micro, a.spend_period, a.low_balance_micro, a.edition, a.created_at,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, now()) END AS spend_left_micro
  FROM account a WHERE a.account_id = :account_id;

-- name: entries
-- What was booked on an account, one row a transfer, newest first.
SELECT b.transfer_id, b.amount_micro, b.currency, t.kind, t.booked_at, t.value_at, t.reverses
  FROM (SELECT e.transfer_id, e.currency, sum(e.amount_micro)::bigint AS amount_micro FROM entry e
         WHERE e.account_id = :account_id AND e.transfer_id < :before
         GROUP BY e.transfer_id, e.currency ORDER BY e.transfer_id DESC LIMIT :rows) b
  JOIN transfer t USING (transfer_id) ORDER BY b.transfer_id DESC;

-- name: transfer^
SELECT t.transfer_id, t.kind, t.booked_at, t.value_at, t.reverses, e.amount_micro, e.currency
  FROM transfer t JOIN entry e USING (transfer_id) WHERE t.transfer_id = :transfer_id AND e.account_id = :account_id;

-- name: holds
-- Money that is set aside for calls that may still be running.
SELECT h.call_id, h.held_micro, h.currency, h.extensions, h.opened_at
  FROM hold h WHERE h.account_id = :account_id AND h.state = 'open' AND h.call_id < :before ORDER BY h.call_id DESC LIMIT :rows;

-- name: allowances
-- What an account has and had of bundles, newest first.
SELECT w.allowance_id, w.bundle_id, b.name, w.units, w.used_units, w.held_units, w.fair_use_units, w.covers, w.zone,
       lower(w.valid) AS from_at, upper(w.valid) AS until_at, w.renews AND w.renewed_by IS NULL AS renews, w.renewed_by
  FROM allowance w JOIN bundle b USING (bundle_id)
 WHERE w.account_id = :account_id AND w.allowance_id < :before ORDER BY w.allowance_id DESC LIMIT :rows;

-- name: allowance^
SELECT w.allowance_id, w.bundle_id, b.name, w.units, w.used_units, w.held_units, w.fair_use_units, w.covers, w.zone,
       lower(w.valid) AS from_at, upper(w.valid) AS until_at, w.renews AND w.renewed_by IS NULL AS renews, w.renewed_by
  FROM allowance w JOIN bundle b USING (bundle_id) WHERE w.allowance_id = :allowance_id;

-- name: bundle_of$
-- The name of a bundle of the same partner, or of ours for an account of ours.
SELECT b.name FROM bundle b WHERE b.bundle_id = :bundle_id AND b.partner_id IS NOT DISTINCT FROM :partner_id::uuid;

-- name: change$
-- The settings of an account of this edition. What is NULL stays, what is cleared has none.
UPDATE account a
   SET credit_limit_micro = coalesce(:credit_limit_micro, a.credit_limit_micro),
       call_cap = CASE WHEN 'call_cap' = ANY (:clear::text[]) THEN NULL ELSE coalesce(:call_cap, a.call_cap) END,
       low_balance_micro = CASE WHEN 'low_balance' = ANY (:clear::text[]) THEN NULL
                                ELSE coalesce(:low_balance_micro, a.low_balance_micro) END,
       edition = a.edition + 1
 WHERE a.account_id = :account_id AND a.edition = :edition
RETURNING true;

-- name: set_spend_cap!
SELECT spend_cap_set_v1(:account_id, :cap_micro, :period, now());
