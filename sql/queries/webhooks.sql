-- Webhook endpoints of partners and what was sent to them.

-- name: endpoints
SELECT w.* FROM webhook_endpoint w
 WHERE w.endpoint_id < :before AND w.deleted_at IS NULL AND (:partner_id::uuid IS NULL OR w.partner_id = :partner_id)
 ORDER BY w.endpoint_id DESC LIMIT :rows;

-- name: endpoint^
SELECT w.* FROM webhook_endpoint w WHERE w.endpoint_id = :endpoint_id AND w.deleted_at IS NULL;

-- name: begin_listening$
-- From now on what happens to the partner is kept. Its row stays locked, so that its endpoints can be counted next.
UPDATE partner p SET keeps_events = true WHERE p.partner_id = :partner_id AND p.state <> 'closed' RETURNING true;

-- name: count_endpoints$
SELECT count(*) FROM webhook_endpoint w WHERE w.partner_id = :partner_id AND w.deleted_at IS NULL;

-- name: add_endpoint^
INSERT INTO webhook_endpoint (partner_id, url, kinds, description, enabled)
VALUES (:partner_id, :url, :kinds, :description, :enabled) RETURNING *;

-- name: change_endpoint^
-- What is NULL stays. Another address, or being enabled again, is a new beginning.
UPDATE webhook_endpoint w
   SET url = coalesce(:url, w.url), kinds = coalesce(:kinds, w.kinds), description = coalesce(:description, w.description),
       enabled = coalesce(:enabled, w.enabled),
       disabled_why = CASE WHEN :enabled::boolean IS NULL THEN w.disabled_why END,
       failing_since = CASE WHEN :url::text IS NULL AND :enabled::boolean IS NOT TRUE THEN w.failing_since END,
       edition = w.edition + 1
 WHERE w.endpoint_id = :endpoint_id AND w.edition = :edition AND w.deleted_at IS NULL
RETURNING *;

-- name: delete_endpoint^
-- Its row stays for what was sent to it; its secrets do not.
WITH gone AS (
    UPDATE webhook_endpoint w SET deleted_at = now(), enabled = false, disabled_why = NULL, url = '', edition = w.edition + 1
     WHERE w.endpoint_id = :endpoint_id AND w.edition = :edition AND w.deleted_at IS NULL
    RETURNING w.*
), forgotten AS (
    DELETE FROM webhook_secret k USING gone WHERE k.endpoint_id = gone.endpoint_id
)
SELECT gone.* FROM gone;

-- name: add_secret^
-- The new one signs from now on, those before it along with it until :until. Returns how many sign now.
WITH before AS (
    UPDATE webhook_secret k SET valid_until = :until
     WHERE k.endpoint_id = :endpoint_id AND k.valid_until IS NULL
), added AS (
    INSERT INTO webhook_secret (endpoint_id, secret) VALUES (:endpoint_id, :secret)
)
SELECT 1 + count(*) AS signing FROM webhook_secret k
 WHERE k.endpoint_id = :endpoint_id AND (k.valid_until IS NULL OR k.valid_until > now());

-- name: add_test^
INSERT INTO event (partner_id, kind, subject_id, seq, data) VALUES (:partner_id, 'webhook.test', :endpoint_id, 1, :data)
RETURNING event_id, kind, subject_id, seq, data, occurred_at;

-- name: deliveries
-- In the order NULLS LAST there is no index but the endpoint's: deliveries to others are not read.
SELECT d.* FROM delivery d WHERE d.target_id = :endpoint_id AND d.delivery_id < :before
 ORDER BY d.delivery_id DESC NULLS LAST LIMIT :rows;

-- name: deliveries_in
SELECT d.* FROM delivery d WHERE d.target_id = :endpoint_id AND d.state = :state AND d.delivery_id < :before
 ORDER BY d.delivery_id DESC NULLS LAST LIMIT :rows;

-- name: delivery^
SELECT d.* FROM delivery d WHERE d.delivery_id = :delivery_id AND d.target_id = :endpoint_id;

-- name: attempts
SELECT x.attempt_no, x.tried_at, x.took_ms, x.status, x.error, x.answer FROM delivery_attempt x
 WHERE x.delivery_id = :delivery_id ORDER BY x.attempt_no DESC LIMIT 100;

-- name: replay_one^
UPDATE delivery d SET state = 'pending', tries = 0, due_at = clock_timestamp(), done_at = NULL
 WHERE d.delivery_id = :delivery_id RETURNING *;

-- name: replay^
SELECT * FROM delivery_replay_v1(:endpoint_id, :since, :after, :kinds, :rows);
