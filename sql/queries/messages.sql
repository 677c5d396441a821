-- Voice messages. What is another's is kept away by row-level security.

-- name: ended
-- Those of these calls that are over.
SELECT c.call_id FROM call c WHERE c.call_id = ANY (:call_ids::uuid[]) AND c.ended_at IS NOT NULL;

-- name: leave$
SELECT voice_message_leave_v1(:call_id, :duration_ms);

-- name: messages
-- Of all, newest first.
SELECT m.message_id, m.call_id, m.partner_id, m.subscriber_id, m.from_number, m.duration_ms, m.left_at FROM voice_message m
 WHERE m.message_id < :before AND m.deleted_at IS NULL ORDER BY m.message_id DESC LIMIT :rows;

-- name: messages_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' messages are not read.
SELECT m.message_id, m.call_id, m.partner_id, m.subscriber_id, m.from_number, m.duration_ms, m.left_at FROM voice_message m
 WHERE m.partner_id = :partner_id AND m.message_id < :before AND m.deleted_at IS NULL
 ORDER BY m.message_id DESC NULLS LAST LIMIT :rows;

-- name: messages_of
-- Of a subscriber.
SELECT m.message_id, m.call_id, m.partner_id, m.subscriber_id, m.from_number, m.duration_ms, m.left_at FROM voice_message m
 WHERE m.subscriber_id = :subscriber_id AND m.message_id < :before AND m.deleted_at IS NULL
 ORDER BY m.message_id DESC NULLS LAST LIMIT :rows;

-- name: message^
SELECT m.message_id, m.call_id, m.partner_id, m.subscriber_id, m.from_number, m.duration_ms, m.left_at FROM voice_message m
 WHERE m.message_id = :message_id AND m.deleted_at IS NULL;

-- name: delete_message$
-- NULL: it is deleted already.
UPDATE voice_message m SET deleted_at = clock_timestamp() WHERE m.message_id = :message_id AND m.deleted_at IS NULL RETURNING m.call_id;

-- name: over
-- Messages whose time is over.
SELECT m.message_id, m.call_id FROM voice_message m WHERE m.message_id < uuid_floor_v1(:before) ORDER BY m.message_id LIMIT :rows;

-- name: drop_messages!
DELETE FROM voice_message m WHERE m.message_id = ANY (:message_ids::uuid[]);
