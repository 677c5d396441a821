-- What happened, and who is told of it. What is another's is kept away by row-level security.

-- name: fan_out$
SELECT event_fan_out_v1(:rows);

-- name: claim
SELECT * FROM delivery_claim_v1(:failing, :rows, :each, :lease_s);

-- name: note!
SELECT delivery_note_v1(:delivery_id, :said, :status, :took_ms, :error, :answer, :retry_s, :disable_after_s);

-- name: release!
-- A worker that leaves lets go of what it had not sent.
UPDATE delivery SET claimed_until = NULL WHERE delivery_id = ANY (:delivery_ids::uuid[]) AND state = 'pending';

-- name: purge$
SELECT event_purge_v1(:before, :rows);

-- name: listen$
-- NULL: there is no such partner.
WITH begun AS (
    UPDATE partner p SET keeps_events = true WHERE p.partner_id = :partner_id AND NOT p.keeps_events
)
SELECT true FROM partner p WHERE p.partner_id = :partner_id;

-- name: wake!
SELECT pg_notify('callbridge_events', :partner_id::uuid::text);

-- name: last_no$
-- Up to here all can be read.
SELECT c.last_no FROM event_counter c WHERE c.partner_id = :partner_id;

-- name: stream
-- No kinds: all of them.
SELECT e.event_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at, e.stream_no FROM event e
 WHERE e.partner_id = :partner_id AND e.stream_no > :after AND e.stream_no <= :upto
   AND (:kinds::text[] = '{}' OR e.kind = ANY (:kinds::text[]))
 ORDER BY e.stream_no LIMIT :rows;

-- name: first_no$
-- The oldest that is still kept.
SELECT min(e.stream_no) FROM event e WHERE e.partner_id = :partner_id AND e.stream_no IS NOT NULL;

-- name: events
-- Of all, newest first. What is NULL is not asked for.
SELECT e.event_id, e.partner_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at FROM event e
 WHERE e.event_id < :before AND (:kind::text IS NULL OR e.kind = :kind)
   AND (:since::timestamptz IS NULL OR e.event_id >= uuid_floor_v1(:since))
 ORDER BY e.event_id DESC LIMIT :rows;

-- name: events_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' events are not read.
SELECT e.event_id, e.partner_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at FROM event e
 WHERE e.partner_id = :partner_id AND e.event_id < :before AND (:kind::text IS NULL OR e.kind = :kind)
   AND (:since::timestamptz IS NULL OR e.event_id >= uuid_floor_v1(:since))
 ORDER BY e.event_id DESC NULLS LAST LIMIT :rows;

-- name: events_of
-- What happened to one thing, newest first.
SELECT e.event_id, e.partner_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at FROM event e
 WHERE e.subject_id = :subject_id AND e.event_id < :before AND (:partner_id::uuid IS NULL OR e.partner_id = :partner_id)
   AND (:kind::text IS NULL OR e.kind = :kind) AND (:since::timestamptz IS NULL OR e.event_id >= uuid_floor_v1(:since))
 ORDER BY e.event_id DESC LIMIT :rows;

-- name: event^
SELECT e.event_id, e.partner_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at FROM event e WHERE e.event_id = :event_id;
