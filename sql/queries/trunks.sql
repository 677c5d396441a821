-- Trunks: set through the API, given to the switch by its keeper.

-- name: trunks
SELECT t.trunk_id, t.partner_id, t.name, t.host, t.port, t.transport, t.codecs, t.auth_username, t.allowed_ips, t.capacity, t.cps,
       t.b_format, t.a_format, t.tech_prefix, t.origin, t.policy_class, t.priority, t.ring_s, t.deck_id, t.enabled, t.state,
       t.qualify_s, t.kind, t.business_number, t.edition, s.health, s.health_at, s.applied_edition, s.applied_at, s.apply_error
  FROM trunk t LEFT JOIN trunk_state s USING (trunk_id)
 WHERE t.trunk_id < :before AND (:state::text IS NULL OR t.state = :state)
   AND (:health::text IS NULL OR coalesce(s.health, 'unknown') = :health)
 ORDER BY t.trunk_id DESC LIMIT :rows;

-- name: trunk^
SELECT t.trunk_id, t.partner_id, t.name, t.host, t.port, t.transport, t.codecs, t.auth_username, t.allowed_ips, t.capacity, t.cps,
       t.b_format, t.a_format, t.tech_prefix, t.origin, t.policy_class, t.priority, t.ring_s, t.deck_id, t.enabled, t.state,
       t.qualify_s, t.kind, t.business_number, t.edition, s.health, s.health_at, s.applied_edition, s.applied_at, s.apply_error
  FROM trunk t LEFT JOIN trunk_state s USING (trunk_id) WHERE t.trunk_id = :trunk_id;

-- name: settings^
-- One edition of a trunk, to change it.
SELECT t.*, a.currency FROM trunk t JOIN account a USING (account_id)
 WHERE t.trunk_id = :trunk_id AND t.edition = :edition FOR NO KEY UPDATE OF t;

-- name: add_trunk$
INSERT INTO trunk (name, partner_id, account_id, deck_id, host, port, transport, codecs, auth_username, auth_secret, allowed_ips,
                   capacity, cps, b_format, a_format, tech_prefix, origin, policy_class, priority, ring_s, enabled, was_enabled,
                   qualify_s, kind, business_number)
VALUES (:name, :partner_id, :account_id, :deck_id, :host, :port, :transport, :codecs, :auth_username, :auth_secret, :allowed_ips,
        :capacity, :cps, :b_format, :a_format, :tech_prefix, :origin, :policy_class, :priority, :ring_s, :enabled, :enabled,
        :qualify_s, :kind, :business_number)
RETURNING trunk_id;

-- name: change_trunk!
UPDATE trunk t
   SET host = :host, port = :port, transport = :transport, codecs = :codecs, auth_username = :auth_username,
       auth_secret = :auth_secret, allowed_ips = :allowed_ips, capacity = :capacity, cps = :cps, b_format = :b_format,
       a_format = :a_format, tech_prefix = :tech_prefix, origin = :origin, policy_class = :policy_class, priority = :priority,
       ring_s = :ring_s, deck_id = :deck_id, enabled = :enabled, was_enabled = t.was_enabled OR :enabled, qualify_s = :qualify_s,
       edition = t.edition + 1
 WHERE t.trunk_id = :trunk_id;

-- name: set_state!
UPDATE trunk t SET state = :state, edition = t.edition + 1 WHERE t.trunk_id = :trunk_id AND t.state <> :state;

-- name: delete_trunk!
DELETE FROM trunk WHERE trunk_id = :trunk_id;

-- name: buy_deck^
-- A deck that a trunk of this partner may be charged by: the partner's or, where we say so, one of ours.
SELECT d.deck_id, d.currency FROM deck d
 WHERE d.deck_id = :deck_id AND d.side = 'buy' AND (d.partner_id = :partner_id OR (:ours AND d.partner_id IS NULL));

-- name: name_taken$
-- Trunks and apps are endpoints of one switch.
SELECT EXISTS (SELECT FROM trunk WHERE name = :name UNION ALL SELECT FROM app WHERE name = :name);

-- name: addresses_taken$
SELECT trunk_addresses_taken_v2(:trunk_id, :kind, :networks);

-- name: business_number_taken$
SELECT EXISTS (SELECT FROM trunk WHERE business_number = :business_number);

-- name: carrier_account$
-- Where what a partner's trunks cost is booked, if there is such an account.
SELECT a.account_id FROM account a
 WHERE a.partner_id = :partner_id AND a.kind = 'carrier' AND a.currency = :currency AND a.state <> 'closed'
 ORDER BY a.account_id LIMIT 1;

-- name: is_carrier$
SELECT EXISTS (SELECT FROM account a
                WHERE a.account_id = :account_id AND a.kind = 'carrier' AND a.currency = :currency
                  AND a.partner_id IS NOT DISTINCT FROM :partner_id);

-- name: add_account$
INSERT INTO account (kind, name, currency, funding, partner_id) VALUES ('carrier', :name, :currency, 'postpaid', :partner_id)
RETURNING account_id;

-- name: quality^
SELECT * FROM trunk_quality_v1(:trunk_id);

-- name: seen$
SELECT trunk_seen_v1(:trunk_id, :health);

-- name: peers
-- Every trunk as the switch is to have it.
SELECT t.trunk_id, t.name, t.host, t.port, t.transport, t.codecs, t.auth_username, t.auth_secret, t.allowed_ips, t.qualify_s,
       t.enabled, t.kind, t.business_number, coalesce(s.health, 'unknown') AS health, t.edition, s.applied_edition, s.apply_error
  FROM trunk t LEFT JOIN trunk_state s USING (trunk_id) ORDER BY t.name;

-- name: applied!
INSERT INTO trunk_state (trunk_id, applied_edition, applied_at)
SELECT t.trunk_id, i.edition, clock_timestamp()
  FROM unnest(:trunk_ids::uuid[], :editions::integer[]) AS i (trunk_id, edition) JOIN trunk t USING (trunk_id)
ON CONFLICT (trunk_id) DO UPDATE
   SET applied_edition = excluded.applied_edition, applied_at = excluded.applied_at, apply_error = NULL;

-- name: not_applied!
INSERT INTO trunk_state (trunk_id, apply_error)
SELECT t.trunk_id, :error FROM trunk t WHERE t.trunk_id = ANY (:trunk_ids::uuid[])
ON CONFLICT (trunk_id) DO UPDATE SET apply_error = excluded.apply_error;
