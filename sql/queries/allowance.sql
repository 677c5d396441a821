-- Bundles, what accounts have bought of them, and the usage that is reported from outside.

-- name: add_bundle$
INSERT INTO bundle (name, currency, price_micro, units, fair_use_units, covers, zone, prefixes, days, renews, renew_wait_days, burn_order)
VALUES (:name, :currency, :price_micro, :units, :fair_use_units, :covers::jsonb, :zone, :prefixes::text[], :days, :renews,
        :renew_wait_days, :burn_order)
RETURNING bundle_id;

-- name: bundles
SELECT bundle_id, name, currency, price_micro, units, fair_use_units, covers, zone, prefixes, days, renews, renew_wait_days, burn_order,
       on_sale
  FROM bundle ORDER BY name;

-- name: buy$
SELECT bundle_buy_v1(:account_id, :bundle_id, :key, :author, :starts_at);

-- name: renew
-- What was renewed, and by what.
SELECT renewed_id, allowance_id FROM bundle_renew_v1(:at, make_interval(secs => :ahead_s), :page);

-- name: cancel$
-- No renewal from now on; what was bought stays. True when there was one to stop.
UPDATE allowance SET renews = false WHERE allowance_id = :allowance_id AND renewed_by IS NULL RETURNING true;

-- name: of_account
-- What an account has and had, the newest first.
SELECT w.allowance_id, b.name, w.units, w.used_units, w.held_units, w.fair_use_units, w.covers, w.zone, lower(w.valid) AS from_at,
       upper(w.valid) AS until_at, w.renews AND w.renewed_by IS NULL AS renews, w.renewed_by, b.price_micro, b.currency
  FROM allowance w JOIN bundle b USING (bundle_id) WHERE w.account_id = :account_id ORDER BY upper(w.valid) DESC, w.allowance_id;

-- name: bundle_by_name^
SELECT bundle_id, price_micro, currency FROM bundle WHERE name = :name;

-- name: payer^
-- Who pays for a subscriber's messages and data, locked.
SELECT a.account_id, a.state, a.currency, a.funding, s.plan_id, s.zone,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro
  FROM subscriber s JOIN account a USING (account_id) WHERE s.subscriber_id = :subscriber_id FOR NO KEY UPDATE OF a;

-- name: usage_by_key^
SELECT usage_id, account_id, service, zone, quantity, charged_quantity, amount_micro, written_off_micro, currency, throttled
  FROM usage_record WHERE idempotency_key = :key;

-- name: usage_burns
SELECT n.allowance_id, b.name, n.per, n.held_units AS units
  FROM burn n JOIN allowance USING (allowance_id) JOIN bundle b USING (bundle_id) WHERE n.source_id = :usage_id ORDER BY n.burn_no;

-- name: for_service
-- Allowances of an account that cover a service at an instant, in burn order. fair_left: units until it is throttled.
SELECT w.allowance_id, b.name, (w.covers ->> :service)::bigint AS per, w.units - w.used_units - w.held_units AS units_left,
       w.fair_use_units - w.used_units AS fair_left
  FROM allowance w JOIN bundle b USING (bundle_id)
 WHERE w.account_id = :account_id AND upper(w.valid) > :at AND w.valid @> :at::timestamptz AND w.covers ? :service
   AND w.zone IN ('any', :zone) AND (w.units IS NULL OR w.used_units + w.held_units < w.units)
 ORDER BY w.burn_order, upper(w.valid), w.allowance_id;

-- name: service_price^
-- The price of a service; of a special one (data.messenger) that has none of its own, the plain one's (data).
SELECT price_micro, per FROM service_price
 WHERE plan_id = :plan_id AND zone = :zone AND service IN (:service, split_part(:service, '.', 1)) ORDER BY length(service) DESC LIMIT 1;

-- name: record_usage!
INSERT INTO usage_record (usage_id, account_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro, per, amount_micro,
                          written_off_micro, currency, transfer_id, throttled, used_at)
VALUES (:usage_id, :account_id, :key, :service, :zone, :quantity, :charged_quantity, :price_micro, :per, :amount_micro,
        :written_off_micro, :currency, :transfer_id, :throttled, :used_at);

-- name: book_usage$
SELECT transfer_book_v1('usage', :key, 'usage', :note, NULL, ARRAY[:account_id::uuid, system_account_v1('revenue', :currency)],
                        ARRAY[-:amount_micro::bigint, :amount_micro::bigint], ARRAY[:currency::text, :currency::text]);

-- name: new_id$
SELECT uuidv7();

-- name: burn_now!
-- Units of a locked account's allowances, used at once.
WITH taken AS (
    SELECT i.allowance_id, i.units, i.per, i.no
      FROM unnest(:allowance_ids::uuid[], :units::bigint[], :pers::bigint[]) WITH ORDINALITY AS i (allowance_id, units, per, no)
), used AS (
    UPDATE allowance w SET used_units = w.used_units + t.units FROM taken t WHERE w.allowance_id = t.allowance_id
)
INSERT INTO burn (source_id, burn_no, allowance_id, per, held_units, used_units)
SELECT :usage_id, t.no, t.allowance_id, t.per, t.units, t.units FROM taken t;

-- name: set_zone$
-- A subscriber went abroad, or came home.
UPDATE subscriber SET zone = :zone WHERE subscriber_id = :subscriber_id RETURNING true;

-- name: audit_units
-- Allowances whose used and held units are not those of their burns.
SELECT w.allowance_id, w.used_units, w.held_units, coalesce(sum(n.used_units), 0) AS burnt_units,
       coalesce(sum(n.held_units) FILTER (WHERE n.used_units IS NULL), 0) AS open_units
  FROM allowance w LEFT JOIN burn n USING (allowance_id)
 GROUP BY w.allowance_id
HAVING w.used_units <> coalesce(sum(n.used_units), 0)
    OR w.held_units <> coalesce(sum(n.held_units) FILTER (WHERE n.used_units IS NULL), 0);

-- name: audit_burns
-- Units that are still held for a call that has ended, or for none; and units burnt by nobody.
SELECT n.source_id, n.burn_no, n.allowance_id, n.used_units, c.state
  FROM burn n LEFT JOIN call c ON c.call_id = n.source_id LEFT JOIN usage_record u ON u.usage_id = n.source_id
 WHERE (n.used_units IS NULL) <> (c.state IS NOT DISTINCT FROM 'live') OR (c.call_id IS NULL AND u.usage_id IS NULL);

-- name: audit_purchases
-- Allowances that were not paid as their purchase says: a transfer is missing, or one pays for two.
SELECT w.allowance_id, w.transfer_id, count(e.entry_no) AS entries
  FROM allowance w LEFT JOIN entry e ON e.transfer_id = w.transfer_id AND e.account_id = w.account_id AND e.amount_micro < 0
 WHERE w.transfer_id IS NOT NULL GROUP BY w.allowance_id HAVING count(e.entry_no) <> 1
 UNION ALL
SELECT (array_agg(w.allowance_id))[1], w.transfer_id, count(*) FROM allowance w
 WHERE w.transfer_id IS NOT NULL GROUP BY w.transfer_id HAVING count(*) > 1;

-- name: audit_usage
-- Usage that does not compute to the same units and the same amount again, or was booked otherwise.
SELECT u.usage_id, u.amount_micro, u.charged_quantity, coalesce(b.quantity, 0) AS burnt_quantity,
       coalesce(-e.amount_micro, 0) AS booked_micro
  FROM usage_record u
  LEFT JOIN LATERAL (SELECT sum(n.used_units * n.per) AS quantity FROM burn n WHERE n.source_id = u.usage_id) b ON true
  LEFT JOIN entry e ON e.transfer_id = u.transfer_id AND e.account_id = u.account_id
 WHERE u.charged_quantity <> greatest(u.quantity - coalesce(b.quantity, 0), 0)
    OR u.amount_micro <> (u.charged_quantity + u.per - 1) / u.per * u.price_micro
    OR coalesce(-e.amount_micro, 0) <> u.amount_micro - u.written_off_micro;
