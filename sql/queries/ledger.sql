-- Accounts and the double entry.

-- name: system_account$
SELECT system_account_v1(:role, :currency);

-- name: book$
SELECT transfer_book_v1(:kind, :key, :author, :note, :reverses, :accounts::uuid [], :amounts::bigint [], :currencies::text [],
                        :value_at, :request);

-- name: refer$
SELECT account_refer_v1(:referrer_id, :referred_id, :amount_micro, :currency, :referrals_max, :key, :author);

-- name: currency_of$
SELECT currency FROM account WHERE account_id = :account_id;

-- name: booked
-- The entries of a transfer, first first.
SELECT e.account_id, e.amount_micro, e.currency, coalesce(a.tracked, false) AS tracked
  FROM entry e LEFT JOIN account a USING (account_id) WHERE e.transfer_id = :transfer_id ORDER BY e.entry_no;

-- name: fx_note!
SELECT fx_note_v1(:base, :quote, :valid_on, :rate_nano, :source);

-- name: fx_known
-- The newest rate of each direction between two days.
SELECT DISTINCT ON (base, quote) base, quote, valid_on, rate_nano FROM fx_rate
 WHERE valid_on BETWEEN :since::date AND :until::date ORDER BY base ASC, quote ASC, valid_on DESC;

-- name: period_close$
SELECT period_close_v1(:until, :author);

-- name: periods
-- The closings of the books, newest first.
SELECT closed_until, closed_at, author FROM period ORDER BY closed_until DESC;

-- name: booking_at$
SELECT booking_at_v1(:value_at, :into_open);

-- name: account^
SELECT account_id, kind, name, currency, funding, state, tracked, balance_micro, held_micro, credit_limit_micro, call_cap, created_at
  FROM account WHERE name = :name;

-- name: accounts
-- All of them. Only tracked ones have a balance in their row.
SELECT account_id, kind, name, currency, funding, state, tracked, balance_micro, held_micro, credit_limit_micro, call_cap, created_at
  FROM account ORDER BY kind, name;

-- name: balance_before$
-- The sum of an account's entries booked before an instant.
SELECT coalesce(sum(e.amount_micro), 0) FROM entry e JOIN transfer t USING (transfer_id)
 WHERE e.account_id = :account_id AND t.booked_at < :before;

-- name: statement
-- An account's entries in the order they were booked.
SELECT t.transfer_id, t.kind, t.booked_at, t.value_at, t.author, t.note, t.reverses, e.amount_micro
  FROM entry e JOIN transfer t USING (transfer_id)
 WHERE e.account_id = :account_id AND t.booked_at >= :since AND t.booked_at < :until
 ORDER BY t.booked_at, t.transfer_id, e.entry_no LIMIT :most;

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
      FROM entry e JOIN account a USING (account_id)
     WHERE a.kind = 'carrier' AND NOT EXISTS (SELECT 1 FROM transfer t WHERE t.transfer_id = e.transfer_id AND t.kind <> 'call')
     GROUP BY e.transfer_id
)
SELECT call_id, coalesce(o.cost_micro, 0) AS cost_micro, coalesce(b.booked_micro, 0) AS booked_micro
  FROM owed o FULL JOIN booked b USING (call_id) WHERE o.cost_micro IS DISTINCT FROM b.booked_micro;

-- name: audit_charges
-- Charges with what they were priced from, to be computed again.
SELECT h.call_id, c.sell, c.talk_ms, c.answered_at, h.amount_micro, h.billed_s, h.covered_s,
       CASE WHEN c.bundled THEN
            (SELECT json_agg(json_build_array(n.allowance_id, '', n.per, n.held_units, n.used_units) ORDER BY n.burn_no)
               FROM burn n WHERE n.source_id = c.call_id) END AS burns
  FROM charge h LEFT JOIN call c USING (call_id);

-- name: audit_costs
-- Answered attempts, and whatever else cost something, with what they were priced from. Only the answered one talked.
SELECT x.call_id, x.attempt_no, x.buy, CASE x.outcome WHEN 'answered' THEN c.talk_ms ELSE 0 END AS talk_ms, c.answered_at,
       x.cost_micro, x.billed_s
  FROM attempt x JOIN call c USING (call_id) WHERE x.outcome = 'answered' OR x.cost_micro <> 0 OR x.billed_s <> 0;

-- name: audit_reversals
-- Reversals that are not the exact negation of a transfer, or not its only reversal.
WITH sides AS (
    SELECT t.transfer_id, t.reverses, -e.amount_micro AS amount_micro, e.account_id, e.currency, 1 AS side
      FROM transfer t JOIN entry e ON e.transfer_id = t.reverses WHERE t.kind = 'reversal'
    UNION ALL
    SELECT t.transfer_id, t.reverses, e.amount_micro, e.account_id, e.currency, -1 AS side
      FROM transfer t JOIN entry e ON e.transfer_id = t.transfer_id WHERE t.kind = 'reversal'
), unlike AS (
    SELECT s.transfer_id FROM sides s GROUP BY s.transfer_id, s.account_id, s.currency, s.amount_micro HAVING sum(s.side) <> 0
), again AS (
    SELECT t.reverses FROM transfer t WHERE t.kind = 'reversal' GROUP BY t.reverses HAVING count(*) > 1
)
SELECT t.transfer_id, t.reverses,
       CASE WHEN t.reverses IN (SELECT a.reverses FROM again a) THEN 'reversed more than once' ELSE 'not the exact negation' END AS what
  FROM transfer t
 WHERE t.kind = 'reversal'
   AND (t.transfer_id IN (SELECT u.transfer_id FROM unlike u) OR t.reverses IN (SELECT a.reverses FROM again a)
        OR NOT EXISTS (SELECT 1 FROM transfer o WHERE o.transfer_id = t.reverses));

-- name: audit_refunds
-- Refunds of more than was booked, in the wrong direction, or of what was reversed as well.
SELECT r.transfer_id, r.account_id, r.refunded_micro, r.booked_micro FROM refunded r
 WHERE r.wrong OR EXISTS (SELECT 1 FROM transfer t WHERE t.kind = 'reversal' AND t.reverses = r.transfer_id);

-- name: audit_spending
-- Accounts with a cap whose running count of what they spent is not that of their entries. A booking that waited for the account
-- while a day began may stand on either side of midnight.
SELECT a.account_id, a.name, a.spend_base_micro - a.balance_micro AS counted_micro, s.spent_micro
  FROM account a
 CROSS JOIN LATERAL (SELECT coalesce(-sum(e.amount_micro), 0) AS spent_micro,
                            coalesce(-sum(e.amount_micro) FILTER (WHERE t.booked_at >= a.spend_since), 0) AS since_micro
                       FROM entry e JOIN transfer t USING (transfer_id)
                      WHERE e.account_id = a.account_id AND t.booked_at >= a.spend_since - interval '1 minute'
                        AND transfer_spends_v1(t.kind, t.reverses)) s
 WHERE a.spend_cap_micro IS NOT NULL AND a.spend_base_micro - a.balance_micro NOT IN (s.spent_micro, s.since_micro);
