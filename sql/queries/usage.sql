-- Reported messages and data as their partner sees them. What is another's is kept away by row-level security.

-- name: usages
-- Of all, newest first, by when they were reported: the key says it.
SELECT u.usage_id, u.account_id, u.service, u.zone, u.quantity, u.charged_quantity, u.price_micro, u.per, u.amount_micro,
       u.written_off_micro, u.currency, u.throttled, u.used_at, u.reported_at
  FROM usage_record u
 WHERE u.usage_id < :before
   AND (:since::timestamptz IS NULL OR u.usage_id >= uuid_floor_v1(:since))
   AND (:until::timestamptz IS NULL OR u.usage_id < uuid_floor_v1(:until))
 ORDER BY u.usage_id DESC LIMIT :rows;

-- name: usages_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' usage is not read.
SELECT u.usage_id, u.account_id, u.service, u.zone, u.quantity, u.charged_quantity, u.price_micro, u.per, u.amount_micro,
       u.written_off_micro, u.currency, u.throttled, u.used_at, u.reported_at
  FROM usage_record u
 WHERE u.partner_id = :partner_id AND u.usage_id < :before
   AND (:since::timestamptz IS NULL OR u.usage_id >= uuid_floor_v1(:since))
   AND (:until::timestamptz IS NULL OR u.usage_id < uuid_floor_v1(:until))
 ORDER BY u.usage_id DESC NULLS LAST LIMIT :rows;

-- name: usages_account
-- Of an account; likewise.
SELECT u.usage_id, u.account_id, u.service, u.zone, u.quantity, u.charged_quantity, u.price_micro, u.per, u.amount_micro,
       u.written_off_micro, u.currency, u.throttled, u.used_at, u.reported_at
  FROM usage_record u
 WHERE u.account_id = :account_id AND u.usage_id < :before
   AND (:since::timestamptz IS NULL OR u.usage_id >= uuid_floor_v1(:since))
   AND (:until::timestamptz IS NULL OR u.usage_id < uuid_floor_v1(:until))
 ORDER BY u.usage_id DESC NULLS LAST LIMIT :rows;

-- name: usage^
SELECT u.usage_id, u.account_id, u.service, u.zone, u.quantity, u.charged_quantity, u.price_micro, u.per, u.amount_micro,
       u.written_off_micro, u.currency, u.throttled, u.used_at, u.reported_at
  FROM usage_record u WHERE u.usage_id = :usage_id;

-- name: payers
-- The accounts of these subscribers.
SELECT s.subscriber_id, s.account_id, s.partner_id FROM subscriber s WHERE s.subscriber_id = ANY (:subscriber_ids::uuid[]);
