-- Plans: what subscribers pay by, and the bundles they may buy.

-- name: take_turn!
-- One plan is applied at a time, until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('callbridge plan', 0));

-- name: plan_of^
SELECT p.plan_id, h.name AS deck, r.name AS roaming_deck, p.margin_floor_micro, p.zero_rated, p.on_net_free, p.on_net_fallback,
       h.currency, p.partner_id, p.edition
  FROM plan p JOIN deck h USING (deck_id) LEFT JOIN deck r ON r.deck_id = p.roaming_deck_id WHERE p.name = :name;

-- name: all_plans
SELECT p.name, h.currency, h.name AS deck, r.name AS roaming_deck, p.margin_floor_micro, p.zero_rated, p.on_net_free,
       p.on_net_fallback,
       (SELECT count(*) FROM subscriber s WHERE s.plan_id = p.plan_id) AS subscribers,
       (SELECT count(*) FROM bundle b WHERE b.plan_id = p.plan_id AND b.on_sale) AS bundles
  FROM plan p JOIN deck h USING (deck_id) LEFT JOIN deck r ON r.deck_id = p.roaming_deck_id ORDER BY p.name;

-- name: plans_page
-- As whoever asks; of these, plans_told has what is told.
SELECT p.plan_id, p.partner_id, p.name, p.edition FROM plan p
 WHERE p.plan_id < :before AND (:partner_id::uuid IS NULL OR p.partner_id = :partner_id)
 ORDER BY p.plan_id DESC LIMIT :rows;

-- name: plan_named^
SELECT p.plan_id, p.partner_id, p.name, p.edition FROM plan p WHERE p.plan_id = :plan_id;

-- name: plans_told
SELECT p.plan_id, p.partner_id, p.name, h.currency, h.name AS deck, r.name AS roaming_deck, p.margin_floor_micro, p.zero_rated,
       p.on_net_free, p.on_net_fallback,
       (SELECT count(*) FROM subscriber s WHERE s.plan_id = p.plan_id) AS subscribers,
       (SELECT count(*) FROM bundle b WHERE b.plan_id = p.plan_id AND b.on_sale) AS bundles
  FROM plan p JOIN deck h USING (deck_id) LEFT JOIN deck r ON r.deck_id = p.roaming_deck_id
 WHERE p.plan_id = ANY(:plan_ids::uuid[]) ORDER BY p.plan_id DESC;

-- name: next_edition!
UPDATE plan SET edition = edition + 1 WHERE plan_id = :plan_id;

-- name: add_deck!
INSERT INTO deck (name, side, currency, partner_id) VALUES (:name, 'sell', :currency, :partner_id) ON CONFLICT (name) DO NOTHING;

-- name: deck_owner^
SELECT d.partner_id FROM deck d WHERE d.deck_id = deck_named_v1(:name);

-- name: put_plan$
INSERT INTO plan (name, deck_id, roaming_deck_id, margin_floor_micro, zero_rated, on_net_free, on_net_fallback, partner_id)
VALUES (:name, deck_named_v1(:deck), deck_named_v1(:roaming_deck), :margin_floor_micro, :zero_rated::text[], :on_net_free,
        :on_net_fallback, :partner_id)
ON CONFLICT (name) DO UPDATE
   SET deck_id = excluded.deck_id, roaming_deck_id = excluded.roaming_deck_id, margin_floor_micro = excluded.margin_floor_micro,
       zero_rated = excluded.zero_rated, on_net_free = excluded.on_net_free,
       on_net_fallback = excluded.on_net_fallback
RETURNING plan_id;

-- name: other_user$
-- Who prices by a deck, beside a plan and the bands of one deck.
SELECT who FROM (
    SELECT 'plan ' || p.name AS who FROM plan p JOIN deck d ON d.deck_id IN (p.deck_id, p.roaming_deck_id)
     WHERE d.name = :deck AND p.name <> :plan
     UNION ALL
    SELECT 'a band of deck ' || h.name FROM deck_band b JOIN deck d ON d.deck_id = b.band_deck_id JOIN deck h ON h.deck_id = b.deck_id
     WHERE d.name = :deck AND h.name <> :home_deck
) AS users
 ORDER BY who LIMIT 1;

-- name: service_prices
SELECT service, zone, price_micro, per FROM service_price WHERE plan_id = :plan_id ORDER BY zone, service;

-- name: put_service_price!
INSERT INTO service_price (plan_id, service, zone, price_micro, per) VALUES (:plan_id, :service, :zone, :price_micro, :per)
ON CONFLICT (plan_id, service, zone) DO UPDATE SET price_micro = excluded.price_micro, per = excluded.per;

-- name: drop_service_price!
DELETE FROM service_price WHERE plan_id = :plan_id AND service = :service AND zone = :zone;

-- name: bundles_at_hand
-- A plan's bundles, and others of these names with what they belong to.
SELECT b.name, b.currency, b.price_micro, b.units, b.fair_use_units, b.covers, b.zone, b.prefixes, b.days, b.renews,
       b.renew_wait_days, b.burn_order, b.on_sale, b.plan_id, b.partner_id, p.name AS plan
  FROM bundle b LEFT JOIN plan p USING (plan_id) WHERE b.plan_id = :plan_id OR b.name = ANY (:names::text[]) ORDER BY b.name;

-- name: put_bundle!
-- What accounts have bought of it stays on the terms of that day.
INSERT INTO bundle (plan_id, name, currency, price_micro, units, fair_use_units, covers, zone, prefixes, days, renews,
                    renew_wait_days, burn_order, on_sale, partner_id)
VALUES (:plan_id, :name, :currency, :price_micro, :units, :fair_use_units, :covers::jsonb, :zone, :prefixes::text[], :days, :renews,
        :renew_wait_days, :burn_order, true, :partner_id)
ON CONFLICT (name) DO UPDATE
   SET plan_id = excluded.plan_id, price_micro = excluded.price_micro, units = excluded.units,
       fair_use_units = excluded.fair_use_units, covers = excluded.covers, zone = excluded.zone, prefixes = excluded.prefixes,
       days = excluded.days, renews = excluded.renews, renew_wait_days = excluded.renew_wait_days,
       burn_order = excluded.burn_order, on_sale = true;

-- name: take_off_sale!
UPDATE bundle SET on_sale = false WHERE plan_id = :plan_id AND name = :name;
