-- Deals with partners. What is another's is kept away by row-level security.

-- name: deals
-- Each with its last version. in_force_at: deals with a version in force at that instant only; null: all.
SELECT d.deal_id, d.partner_id, d.name, d.currency, d.state, d.version, d.edition, d.created_at, d.signed_at, d.ended_at,
       lower(v.agreed) AS agreed_from_at, upper(v.agreed) AS agreed_until_at, lower(v.valid) AS from_at, upper(v.valid) AS until_at,
       v.terms, v.note, v.made_at
  FROM deal d JOIN deal_version v USING (deal_id, version)
 WHERE d.deal_id < :before
   AND (:partner_id::uuid IS NULL OR d.partner_id = :partner_id)
   AND (:state::text IS NULL OR d.state = :state)
   AND (:in_force_at::timestamptz IS NULL OR d.state <> 'draft' AND EXISTS (
        SELECT FROM deal_version f WHERE f.deal_id = d.deal_id AND f.valid @> :in_force_at::timestamptz))
 ORDER BY d.deal_id DESC LIMIT :rows;

-- name: deal^
SELECT d.deal_id, d.partner_id, d.name, d.currency, d.state, d.version, d.edition, d.created_at, d.signed_at, d.ended_at,
       lower(v.agreed) AS agreed_from_at, upper(v.agreed) AS agreed_until_at, lower(v.valid) AS from_at, upper(v.valid) AS until_at,
       v.terms, v.note, v.made_at
  FROM deal d JOIN deal_version v USING (deal_id, version) WHERE d.deal_id = :deal_id;

-- name: lock_deal^
SELECT d.deal_id, d.state, d.edition FROM deal d WHERE d.deal_id = :deal_id FOR NO KEY UPDATE;

-- name: add_deal$
INSERT INTO deal (partner_id, name, currency) VALUES (:partner_id, :name, :currency)
RETURNING deal_id;

-- name: name_deal!
UPDATE deal d SET name = coalesce(:name, d.name), edition = d.edition + 1 WHERE d.deal_id = :deal_id;

-- name: sign_deal!
UPDATE deal d SET state = 'signed', signed_at = clock_timestamp() WHERE d.deal_id = :deal_id;

-- name: end_deal!
SELECT deal_end_v1(:deal_id);

-- name: agree$
SELECT (deal_agree_v1(:deal_id, :based_on, :from_at, :until_at, :terms, :note, :author)).version;

-- name: version^
SELECT v.deal_version_id, v.deal_id, v.version, lower(v.agreed) AS agreed_from_at, upper(v.agreed) AS agreed_until_at,
       lower(v.valid) AS from_at, upper(v.valid) AS until_at, v.terms, v.note, v.made_at
  FROM deal_version v WHERE v.deal_id = :deal_id AND v.version = :version;

-- name: versions
-- in_force_at: the version in force at that instant only, if there is one; null: all.
SELECT v.deal_version_id, v.deal_id, v.version, lower(v.agreed) AS agreed_from_at, upper(v.agreed) AS agreed_until_at,
       lower(v.valid) AS from_at, upper(v.valid) AS until_at, v.terms, v.note, v.made_at
  FROM deal_version v JOIN deal d USING (deal_id)
 WHERE v.deal_id = :deal_id AND v.deal_version_id < :before
   AND (:in_force_at::timestamptz IS NULL OR d.state <> 'draft' AND v.valid @> :in_force_at::timestamptz)
 ORDER BY v.deal_version_id DESC LIMIT :rows;

-- name: terms_in_force
-- Of all deals with a partner.
SELECT v.terms FROM deal d JOIN deal_version v USING (deal_id)
 WHERE d.partner_id = :partner_id AND d.state <> 'draft' AND v.valid @> :at::timestamptz ORDER BY d.deal_id;

-- name: bundle_named^
-- A bundle that a partner's subscribers may buy: of the partner's own, or of ours.
SELECT b.bundle_id, b.name FROM bundle b
 WHERE (b.bundle_id = :bundle_id OR b.name = :name) AND (b.partner_id IS NULL OR b.partner_id = :partner_id);
