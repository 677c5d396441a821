-- A month that never was, in a database that has nothing else in it.

-- name: inhabited$
-- What is there already, in words; NULL: nothing.
SELECT what FROM (
    SELECT 'calls' AS what WHERE EXISTS (SELECT FROM call)
    UNION ALL SELECT 'bookings' WHERE EXISTS (SELECT FROM transfer)
    UNION ALL SELECT 'partners' WHERE EXISTS (SELECT FROM partner)
    UNION ALL SELECT 'subscribers' WHERE EXISTS (SELECT FROM subscriber)
    UNION ALL SELECT 'trunks' WHERE EXISTS (SELECT FROM trunk)
    UNION ALL SELECT 'decks' WHERE EXISTS (SELECT FROM deck)
    UNION ALL SELECT 'accounts' WHERE EXISTS (SELECT FROM account)
) AS found ORDER BY what LIMIT 1;

-- name: partitions
-- Statements that make the partitions of the months between two instants as far as they are missing; see partition_ensure_v1.
SELECT format('CREATE TABLE bridge.%I (LIKE bridge.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', p.child, p.parent) AS made,
       format('ALTER TABLE bridge.%I ATTACH PARTITION bridge.%I FOR VALUES FROM (%L) TO (%L)', p.parent, p.child,
              uuid_floor_v1(p.from_at), uuid_floor_v1(p.from_at + interval '1 month')) AS attached,
       CASE p.parent WHEN 'entry' THEN
            format('CREATE TRIGGER entry_sums_to_zero AFTER INSERT ON bridge.%1$I REFERENCING NEW TABLE AS written '
                   'FOR EACH STATEMENT EXECUTE FUNCTION bridge.entry_sums_to_zero_v1(); '
                   'CREATE TRIGGER entry_no_truncate BEFORE TRUNCATE ON bridge.%1$I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION bridge.insert_only_v1()', p.child) END AS guarded
  FROM (SELECT parent, from_at, parent || to_char(from_at AT TIME ZONE 'UTC', '_YYYY_MM') AS child
          FROM generate_series(date_trunc('month', :since::timestamptz, 'UTC'), :until::timestamptz, interval '1 month') AS m (from_at)
         CROSS JOIN unnest(ARRAY['call', 'attempt', 'charge', 'entry', 'burn']) AS parent) AS p
 WHERE to_regclass('bridge.' || p.child) IS NULL
 ORDER BY p.from_at, p.parent;

-- name: add_partner!
-- A partner and its account, each of which refers to the other.
WITH new_account AS (
    INSERT INTO account (account_id, kind, name, currency, funding, partner_id, created_at)
    VALUES (:account_id, 'partner', 'partner ' || :name::text, :currency, 'postpaid', :partner_id, :at)
)
INSERT INTO partner (partner_id, name, account_id, created_at) VALUES (:partner_id, :name::text, :account_id, :at);

-- name: set_balances!
-- What the simulation has left in each purse.
UPDATE account a SET balance_micro = i.balance_micro, bundled = i.bundled
  FROM unnest(:account_ids::uuid[], :balances::bigint[], :bundled::boolean[]) AS i (account_id, balance_micro, bundled)
 WHERE a.account_id = i.account_id;

-- name: carried
-- What each carrier has carried of calls that ended in a period, as it was priced when the period ended.
SELECT t.name AS trunk, c.call_id, c.a_number, c.b_number, c.answered_at, c.talk_ms, coalesce(r.cost_micro, x.cost_micro) AS cost_micro,
       x.currency
  FROM call c JOIN attempt x USING (call_id) JOIN trunk t USING (trunk_id)
  LEFT JOIN LATERAL (SELECT o.cost_micro FROM rerating o JOIN rerate_run n USING (run_id)
                      WHERE o.call_id = c.call_id AND n.created_at < :to_at ORDER BY o.revision DESC LIMIT 1) r ON true
 WHERE c.ended_at >= :from_at AND c.ended_at < :to_at AND x.outcome = 'answered'
 ORDER BY t.name, c.call_id;

-- name: database_there$
SELECT EXISTS (SELECT FROM pg_database d WHERE d.datname = :name);
