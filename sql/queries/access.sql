-- Who asks, as whom the database answers, and what is kept of it.

-- name: add_key$
INSERT INTO api_key (name, prefix, hash, expires_at, partner_id, scopes, kind)
VALUES (:name, :prefix, :hash, :expires_at, :partner_id, :scopes, :kind) RETURNING api_key_id;

-- name: find_key^
SELECT * FROM api_key_find_v1(:prefix);

-- name: enter!
-- From here on the connection is a partner's (role callbridge_partner), or an operator's (role none).
SELECT set_config('role', :role, :for_transaction), set_config('bridge.partner_id', :partner_id, :for_transaction);

-- name: enter_with_key^
-- The same by a key in one go, if it is valid; of a secret of 256 bits that is compared as a digest, time tells nothing.
SELECT k.api_key_id, k.name, k.partner_id, k.scopes,
       set_config('role', CASE WHEN k.partner_id IS NULL THEN 'none' ELSE :role END, false) AS role,
       set_config('bridge.partner_id', coalesce(k.partner_id::text, ''), false) AS partner
  FROM api_key_find_v1(:prefix) AS k WHERE k.hash = :hash AND k.kind = 'key';

-- name: claim^
SELECT * FROM api_claim_v1(:owner_id, :key, :fingerprint);

-- name: done!
SELECT api_done_v1(:owner_id, :key, :status::smallint, :headers, :body, :partner_id, :actor, :action, :subject, :detail,
                   :correlator, :remote);

-- ---------------------------------------------------------------- keys

-- name: keys
SELECT k.api_key_id, k.partner_id, k.name, k.kind, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.replaced_by,
       k.edition
  FROM api_key k
 WHERE k.api_key_id < :before AND (:partner_id::uuid IS NULL OR k.partner_id = :partner_id)
   AND (:kind::text IS NULL OR k.kind = :kind)
 ORDER BY k.api_key_id DESC LIMIT :rows;

-- name: key^
SELECT k.api_key_id, k.partner_id, k.name, k.kind, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.replaced_by,
       k.edition
  FROM api_key k WHERE k.api_key_id = :key_id;

-- name: valid_keys$
-- How many valid keys a partner has, or operators have.
SELECT count(*) FROM api_key k
 WHERE k.partner_id IS NOT DISTINCT FROM :partner_id AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now());

-- name: change_key^
-- Only one that is valid and not replaced.
UPDATE api_key k
   SET name = coalesce(:name, k.name), expires_at = CASE WHEN :sets_expiry::boolean THEN :expires_at ELSE k.expires_at END,
       edition = k.edition + 1
 WHERE k.api_key_id = :key_id AND k.edition = :edition AND k.revoked_at IS NULL AND k.replaced_by IS NULL
   AND (k.expires_at IS NULL OR k.expires_at > now())
RETURNING k.api_key_id, k.partner_id, k.name, k.kind, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.replaced_by,
          k.edition;

-- name: replace_key^
-- The same, and good for some seconds more, unless it ends before.
UPDATE api_key k
   SET replaced_by = :new_key_id, expires_at = least(k.expires_at, now() + make_interval(secs => :overlap_s)), edition = k.edition + 1
 WHERE k.api_key_id = :key_id AND k.revoked_at IS NULL AND k.replaced_by IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
RETURNING k.api_key_id;

-- name: revoke_key^
UPDATE api_key k SET revoked_at = coalesce(k.revoked_at, now()), edition = k.edition + 1
 WHERE k.api_key_id = :key_id AND k.edition = :edition
RETURNING k.api_key_id, k.partner_id, k.name, k.kind, k.prefix, k.scopes, k.created_at, k.expires_at, k.revoked_at, k.replaced_by,
          k.edition;

-- name: key_by_prefix^
SELECT k.api_key_id, k.partner_id, k.edition FROM api_key k WHERE k.prefix = :prefix;

-- ---------------------------------------------------------------- access tokens

-- name: token_keys
SELECT t.kid, t.secret FROM token_keys_v1() t;

-- name: find_client^
SELECT * FROM api_client_find_v1(:key_id);

-- ---------------------------------------------------------------- what was changed

-- name: audits
-- Of all, newest first.
-- Of what operators did to a partner's things the partner sees what and when, not by whom, from where and what they wrote.
SELECT a.audit_id, a.partner_id, a.action, a.subject, a.correlator, a.done_at,
       CASE WHEN s.all_told THEN a.actor ELSE 'operator' END AS actor,
       CASE WHEN s.all_told THEN a.remote END AS remote,
       CASE WHEN s.all_told THEN a.detail END AS detail
  FROM audit_log a
 CROSS JOIN LATERAL (SELECT coalesce(a.asked_by = partner_asking_v1(), true) AS all_told) s
 WHERE a.audit_id < :before
   AND (:since::timestamptz IS NULL OR a.audit_id >= uuid_floor_v1(:since))
   AND (:until::timestamptz IS NULL OR a.audit_id < uuid_floor_v1(:until))
   AND (:action::text IS NULL OR a.action = :action)
   AND (:subject::text IS NULL OR a.subject = :subject)
 ORDER BY a.audit_id DESC LIMIT :rows;

-- name: audits_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' entries are not read.
SELECT a.audit_id, a.partner_id, a.action, a.subject, a.correlator, a.done_at,
       CASE WHEN s.all_told THEN a.actor ELSE 'operator' END AS actor,
       CASE WHEN s.all_told THEN a.remote END AS remote,
       CASE WHEN s.all_told THEN a.detail END AS detail
  FROM audit_log a
 CROSS JOIN LATERAL (SELECT coalesce(a.asked_by = partner_asking_v1(), true) AS all_told) s
 WHERE a.partner_id = :partner_id AND a.audit_id < :before
   AND (:since::timestamptz IS NULL OR a.audit_id >= uuid_floor_v1(:since))
   AND (:until::timestamptz IS NULL OR a.audit_id < uuid_floor_v1(:until))
   AND (:action::text IS NULL OR a.action = :action)
   AND (:subject::text IS NULL OR a.subject = :subject)
 ORDER BY a.audit_id DESC NULLS LAST LIMIT :rows;

-- name: audit^
SELECT a.audit_id, a.partner_id, a.action, a.subject, a.correlator, a.done_at,
       CASE WHEN s.all_told THEN a.actor ELSE 'operator' END AS actor,
       CASE WHEN s.all_told THEN a.remote END AS remote,
       CASE WHEN s.all_told THEN a.detail END AS detail
  FROM audit_log a
 CROSS JOIN LATERAL (SELECT coalesce(a.asked_by = partner_asking_v1(), true) AS all_told) s
 WHERE a.audit_id = :audit_id;

-- name: forget_answers$
-- Answers that nobody can ask for again. Returns how many went.
WITH old AS (
    SELECT i.owner_id, i.key FROM idempotency i WHERE i.made_at < now() - interval '24 hours' ORDER BY i.made_at LIMIT :rows
), gone AS (
    DELETE FROM idempotency i USING old o WHERE i.owner_id = o.owner_id AND i.key = o.key RETURNING 1
)
SELECT count(*) FROM gone;
