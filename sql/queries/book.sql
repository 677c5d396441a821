-- What every worker holds in memory: decks, plans, trunks. Reloaded on the notice `callbridge_config`.

-- name: decks
-- changes_at: when the deck's next rate comes into force or leaves it.
SELECT deck_id, name, version, side, currency, terms, changed_at,
       least((SELECT min(lower(r.valid)) FROM rate r WHERE r.deck_id = d.deck_id AND lower(r.valid) > :at::timestamptz),
             (SELECT min(upper(r.valid)) FROM rate r
               WHERE r.deck_id = d.deck_id AND NOT upper_inf(r.valid) AND upper(r.valid) > :at::timestamptz)) AS changes_at
  FROM deck d;

-- name: rates
-- One deck's rates in force at an instant, in the order of their prefixes.
SELECT prefix, uuid_send(rate_id) AS rate_id, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
       blocked, grace_s, origin_set, tiers
  FROM rate WHERE deck_id = :deck_id AND valid @> :at::timestamptz ORDER BY prefix;

-- name: rates_for
-- Of every deck the few rates that one number could be priced by, in the order of their prefixes.
SELECT deck_id, prefix, uuid_send(rate_id) AS rate_id, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
       blocked, grace_s, origin_set, tiers
  FROM rate
 WHERE deck_id = ANY(:deck_ids::uuid[]) AND prefix = ANY(:prefixes::text[]) AND valid @> :at::timestamptz
 ORDER BY deck_id, prefix;

-- name: rates_of_version
-- The same, as an older version of the deck had them.
SELECT prefix, uuid_send(rate_id) AS rate_id, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
       blocked, grace_s, origin_set, tiers
  FROM rate WHERE deck_id = :deck_id AND valid @> :at::timestamptz AND added_in <= :version
 UNION ALL
SELECT prefix, uuid_send(rate_id), destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, blocked,
       grace_s, origin_set, tiers
  FROM rate_past WHERE deck_id = :deck_id AND valid @> :at::timestamptz AND added_in <= :version AND removed_in > :version
 ORDER BY prefix;

-- name: rates_staged
-- The same, as an import that is staged will leave them. Rates it adds have no id yet.
SELECT prefix, uuid_send(rate_id) AS rate_id, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
       blocked, grace_s, origin_set, tiers
  FROM rate r
 WHERE deck_id = :deck_id AND valid @> :at::timestamptz
   AND NOT EXISTS (SELECT FROM deck_import_row i
                    WHERE i.import_id = :import_id AND NOT i.adds AND i.prefix = r.prefix
                      AND i.origin_set = r.origin_set AND i.valid = r.valid)
 UNION ALL
SELECT prefix, uuid_send(coalesce(rate_id, :import_id::uuid)), destination, rate_micro, connect_fee_micro, initial_s,
       next_s, minimum_s, blocked, grace_s, origin_set, tiers
  FROM deck_import_row WHERE import_id = :import_id AND adds AND valid @> :at::timestamptz
 ORDER BY prefix;

-- name: bands
SELECT deck_id, name, days, from_minute, to_minute, band_deck_id FROM deck_band ORDER BY deck_id, position;

-- name: plans
SELECT plan_id, name, deck_id, margin_floor_micro, roaming_deck_id, zero_rated, on_net_free, on_net_fallback FROM plan;

-- name: trunks
SELECT t.trunk_id, t.name, t.account_id, a.name AS carrier, t.deck_id, t.host, t.port, t.capacity, t.priority, t.ring_s,
       t.enabled, t.policy_class, t.cps, t.state, t.b_format, t.a_format, t.tech_prefix, t.origin, s.health
  FROM trunk t JOIN account a USING (account_id) LEFT JOIN trunk_state s USING (trunk_id) ORDER BY t.name;

-- name: apps
SELECT app_id, name, sip_host, sip_secret FROM app ORDER BY name;

-- name: apps_with_phones
SELECT app_id FROM app WHERE phones;
