-- What every worker holds in memory: decks, plans, trunks. Reloaded on the notice `callbridge_config`.

-- name: decks
SELECT deck_id, name, version, side, currency FROM deck;

-- name: rates
-- The rates in force at an instant.
SELECT rate_id, deck_id, prefix, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, blocked
  FROM rate WHERE valid @> :at::timestamptz AND origin_set = '';

-- name: next_change$
-- When the next rate comes into force or leaves it.
SELECT min(edge) FROM rate, LATERAL (VALUES (lower(valid)), (upper(valid))) AS e (edge) WHERE edge > :at::timestamptz;

-- name: plans
SELECT plan_id, name, deck_id, margin_floor_micro FROM plan;

-- name: trunks
SELECT t.trunk_id, t.name, t.account_id, a.name AS carrier, t.deck_id, t.host, t.port, t.capacity, t.priority, t.ring_s,
       t.enabled, t.policy_class
  FROM trunk t JOIN account a USING (account_id) ORDER BY t.name;

-- name: apps
SELECT app_id, name, sip_host, sip_secret FROM app ORDER BY name;
