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

-- name: payers
-- Who pays for subscribers' messages and data, locked in the order in which accounts are locked everywhere.
SELECT s.subscriber_id, a.account_id, a.partner_id, a.state, a.currency, s.plan_id, s.zone,
       deck_tax_v1(CASE s.zone WHEN 'roaming' THEN coalesce(p.roaming_deck_id, p.deck_id) ELSE p.deck_id END)::text AS tax,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro
  FROM subscriber s JOIN account a USING (account_id) JOIN plan p USING (plan_id)
 WHERE s.subscriber_id = ANY (:subscriber_ids::uuid[])
 ORDER BY a.account_id FOR NO KEY UPDATE OF a;

-- name: usage_by_keys
SELECT idempotency_key, usage_id, account_id, service, quantity, charged_quantity, amount_micro, written_off_micro, currency, throttled
  FROM usage_record WHERE idempotency_key = ANY (:keys::text[]);

-- name: usage_burns
SELECT n.source_id AS usage_id, n.allowance_id, b.name, n.per, n.held_units AS units
  FROM burn n JOIN allowance USING (allowance_id) JOIN bundle b USING (bundle_id)
 WHERE n.source_id = ANY (:usage_ids::uuid[]) ORDER BY n.source_id, n.burn_no;

-- name: left_of
-- What accounts have left of allowances that end after an instant, in burn order. fair_left: units until it is throttled.
SELECT w.account_id, w.allowance_id, b.name, w.covers, w.zone, lower(w.valid) AS from_at, upper(w.valid) AS until_at,
       w.units - w.used_units - w.held_units AS units_left, w.fair_use_units - w.used_units AS fair_left
  FROM allowance w JOIN bundle b USING (bundle_id)
 WHERE w.account_id = ANY (:account_ids::uuid[]) AND upper(w.valid) > :since
   AND (w.units IS NULL OR w.used_units + w.held_units < w.units)
 ORDER BY w.burn_order, upper(w.valid), w.allowance_id;

-- name: service_prices
-- The prices of services; of a special one (data.messenger) that has none of its own, the plain one's (data).
SELECT DISTINCT ON (i.plan_id, i.service, i.zone) i.plan_id, i.service, i.zone, p.price_micro, p.per
  FROM unnest(:plan_ids::uuid[], :services::text[], :zones::text[]) AS i (plan_id, service, zone)
  JOIN service_price p ON p.plan_id = i.plan_id AND p.zone = i.zone AND p.service IN (i.service, split_part(i.service, '.', 1))
 ORDER BY i.plan_id, i.service, i.zone, length(p.service) DESC;

-- name: record_usage!
-- Usage, each record with the booking of what its account can pay.
INSERT INTO usage_record (usage_id, account_id, partner_id, idempotency_key, service, zone, quantity, charged_quantity, price_micro,
                          per, amount_micro, written_off_micro, currency, throttled, used_at, tax, transfer_id)
SELECT i.usage_id, i.account_id, i.partner_id, i.key, i.service, i.zone, i.quantity, i.charged_quantity, i.price_micro, i.per,
       i.amount_micro, i.written_off_micro, i.currency, i.throttled, i.used_at, i.tax::jsonb,
       CASE WHEN i.amount_micro > i.written_off_micro THEN
            transfer_book_v1('usage', 'usage ' || i.key, 'usage', i.service, NULL,
                             ARRAY[i.account_id, system_account_v1('revenue', i.currency)],
                             ARRAY[i.written_off_micro - i.amount_micro, i.amount_micro - i.written_off_micro],
                             ARRAY[i.currency, i.currency]) END
  FROM unnest(:usage_ids::uuid[], :account_ids::uuid[], :partner_ids::uuid[], :keys::text[], :services::text[], :zones::text[],
              :quantities::bigint[], :charged::bigint[], :prices::bigint[], :pers::bigint[], :amounts::bigint[],
              :written_off::bigint[], :currencies::text[], :throttled::boolean[], :used_ats::timestamptz[], :taxes::text[])
       AS i (usage_id, account_id, partner_id, key, service, zone, quantity, charged_quantity, price_micro, per, amount_micro,
             written_off_micro, currency, throttled, used_at, tax);

-- name: new_id$
SELECT uuidv7();

-- name: new_usage_ids
SELECT uuidv7() AS usage_id FROM generate_series(1, :number);

-- name: burn_now!
-- Units of locked accounts' allowances, used at once.
WITH taken AS (
    SELECT i.usage_id, i.no, i.allowance_id, i.units, i.per
      FROM unnest(:usage_ids::uuid[], :nos::smallint[], :allowance_ids::uuid[], :units::bigint[], :pers::bigint[])
           AS i (usage_id, no, allowance_id, units, per)
), used AS (
    UPDATE allowance w SET used_units = w.used_units + t.units
      FROM (SELECT o.allowance_id, sum(o.units)::bigint AS units FROM taken o GROUP BY o.allowance_id) t
     WHERE w.allowance_id = t.allowance_id
)
INSERT INTO burn (source_id, burn_no, allowance_id, per, held_units, used_units)
SELECT t.usage_id, t.no, t.allowance_id, t.per, t.units, t.units FROM taken t;

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
