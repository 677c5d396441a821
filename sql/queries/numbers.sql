-- Numbers to give to subscribers. What is another's is kept away by row-level security.

-- name: numbers
SELECT n.number_id, n.partner_id, n.e164, n.country, n.kind, n.state, n.subscriber_id, n.assigned_at, n.quarantine_until,
       n.edition, n.created_at
  FROM number_now n
 WHERE n.number_id < :before
   AND (:partner_id::uuid IS NULL OR n.partner_id = :partner_id)
   AND (:state::text IS NULL OR n.state = :state)
   AND (:kind::text IS NULL OR n.kind = :kind)
   AND (:subscriber_id::uuid IS NULL OR n.subscriber_id = :subscriber_id)
   AND (:e164::text IS NULL OR n.e164 = :e164)
 ORDER BY n.number_id DESC LIMIT :rows;

-- name: number^
SELECT n.number_id, n.partner_id, n.e164, n.country, n.kind, n.state, n.subscriber_id, n.assigned_at, n.quarantine_until,
       n.edition, n.created_at
  FROM number_now n WHERE n.number_id = :number_id;

-- name: lock_number^
-- Nobody else gives it away until the end of the transaction.
SELECT n.number_id FROM number n WHERE n.number_id = :number_id FOR UPDATE;

-- name: known_numbers
SELECT n.e164 FROM number n WHERE n.e164 = ANY (:e164s::text[]) ORDER BY n.e164 LIMIT 1;

-- name: add_numbers
INSERT INTO number (partner_id, e164, country, kind)
SELECT :partner_id, i.e164, i.country, i.kind
  FROM unnest(:e164s::text[], :countries::text[], :kinds::text[]) AS i (e164, country, kind) ORDER BY i.e164
RETURNING number_id;

-- name: assign!
UPDATE number n
   SET state = 'assigned', subscriber_id = :subscriber_id, assigned_at = clock_timestamp(), quarantine_until = NULL,
       edition = :edition::integer + 1
 WHERE n.number_id = :number_id;

-- name: release!
UPDATE number n
   SET state = 'quarantined', subscriber_id = NULL, assigned_at = NULL, edition = n.edition + 1,
       quarantine_until = clock_timestamp() + make_interval(days => :days)
 WHERE n.number_id = :number_id;

-- name: quarantine_until!
UPDATE number n SET quarantine_until = :until_at, edition = n.edition + 1 WHERE n.number_id = :number_id;

-- name: drop_number!
DELETE FROM number n WHERE n.number_id = :number_id;

-- name: holder^
SELECT s.subscriber_id, s.partner_id, s.state FROM subscriber s WHERE s.subscriber_id = :subscriber_id;
