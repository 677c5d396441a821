-- Work apart from calls: what is due, who is at it, what became of it. The house's own, no partner's.

-- name: ensure
-- Jobs with a rhythm, as they are to be; the first time of one that is new or changed is given. Those that are no longer meant go.
WITH meant AS (
    SELECT m.key, m.kind, m.payload::jsonb AS payload, m.rhythm, m.time_zone, m.due_at
      FROM unnest(:keys::text[], :kinds::text[], :payloads::text[], :rhythms::text[], :time_zones::text[], :due_ats::timestamptz[])
           AS m (key, kind, payload, rhythm, time_zone, due_at)
), gone AS (
    DELETE FROM job o WHERE o.lease_id IS NULL AND o.rhythm IS NOT NULL AND o.key <> ALL (:keys::text[])
), forgotten AS (
    DELETE FROM job o WHERE o.rhythm IS NULL AND o.state IN ('done', 'failed') AND o.ended_at < now() - interval '14 days'
)
INSERT INTO job AS j (key, kind, payload, rhythm, time_zone, due_at)
SELECT m.key, m.kind, m.payload, m.rhythm, m.time_zone, m.due_at FROM meant m
ON CONFLICT (key) DO UPDATE
   SET kind = excluded.kind, payload = excluded.payload, rhythm = excluded.rhythm, time_zone = excluded.time_zone, due_at = excluded.due_at
 WHERE j.lease_id IS NULL
   AND (j.kind, j.payload, j.rhythm, j.time_zone) IS DISTINCT FROM (excluded.kind, excluded.payload, excluded.rhythm, excluded.time_zone);

-- name: recipients
-- Whose files have a rhythm.
SELECT r.recipient_id, r.period, r.time_zone FROM cdr_recipient r WHERE r.enabled AND r.period <> 'manual' ORDER BY r.recipient_id;

-- name: gate
-- Leases are given one after the other, so that those that are out can be counted.
SELECT pg_advisory_xact_lock(hashtextextended('jobs', 0));

-- name: claim^
-- The job that has been due longest, for whoever asks, where no more than so many are at work. One extract at a time: they can wait.
WITH out AS (
    SELECT count(*) AS jobs, count(*) FILTER (WHERE o.kind = 'extract') AS extracts FROM job o WHERE o.leased_until > clock_timestamp()
), next AS (
    SELECT j.key FROM job j
     WHERE j.due_at <= clock_timestamp() AND j.lease_id IS NULL AND j.kind = ANY (:kinds::text[])
       AND EXISTS (SELECT FROM out o WHERE o.jobs < :most AND (j.kind <> 'extract' OR o.extracts < 1))
     ORDER BY j.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE job j
   SET state = 'running', lease_id = uuidv7(), leased_until = clock_timestamp() + make_interval(secs => :lease_s::float8),
       begun_at = clock_timestamp(), tries = j.tries + 1
  FROM next n WHERE j.key = n.key
RETURNING j.key, j.kind, j.payload, j.rhythm, j.time_zone, j.tries, j.lease_id;

-- name: claim_key^
-- This one now, whenever it is due.
UPDATE job j
   SET state = 'running', lease_id = uuidv7(), leased_until = clock_timestamp() + make_interval(secs => :lease_s::float8),
       begun_at = clock_timestamp(), tries = j.tries + 1
 WHERE j.key = :key AND j.lease_id IS NULL
RETURNING j.key, j.kind, j.payload, j.rhythm, j.time_zone, j.tries, j.lease_id;

-- name: renew$
-- False: somebody else has it by now, or it is gone.
UPDATE job j SET leased_until = clock_timestamp() + make_interval(secs => :lease_s::float8)
 WHERE j.key = :key AND j.lease_id = :lease_id RETURNING true;

-- name: lost
-- Jobs whose worker is taken for dead.
SELECT j.key, j.kind, j.payload, j.rhythm, j.time_zone, j.tries, j.lease_id FROM job j
 WHERE j.leased_until <= clock_timestamp() ORDER BY j.leased_until LIMIT 100;

-- name: ended$
-- What became of it, from whoever has the lease. Nothing: they have it no more.
UPDATE job j
   SET state = :state, due_at = :due_at, tries = :tries, problem = :problem, said = coalesce(:said::text::jsonb, j.said),
       lease_id = NULL, leased_until = NULL, ended_at = clock_timestamp()
 WHERE j.key = :key AND j.lease_id = :lease_id RETURNING true;

-- name: jobs
SELECT j.key, j.kind, j.rhythm, j.time_zone, j.state, j.due_at, j.leased_until, j.tries, j.problem, j.said, j.begun_at, j.ended_at
  FROM job j
 ORDER BY j.rhythm NULLS LAST, j.key LIMIT :rows;

-- name: job^
SELECT j.key, j.kind, j.rhythm, j.time_zone, j.state, j.due_at, j.leased_until, j.tries, j.problem, j.said, j.begun_at, j.ended_at
  FROM job j
 WHERE j.key = :key;

-- name: retry
-- Those that failed, or are to be tried again later, at once. No key: all of them.
WITH again AS (
    UPDATE job j SET state = 'queued', due_at = clock_timestamp(), tries = 0
     WHERE j.lease_id IS NULL AND j.problem <> '' AND (j.key = :key OR :key::text IS NULL) RETURNING j.key
)
SELECT a.key, pg_notify('callbridge_jobs', '') FROM again a ORDER BY a.key;

-- name: figures
SELECT j.state, count(*) AS jobs,
       coalesce(max(date_part('epoch', clock_timestamp() - j.due_at)) FILTER (WHERE j.lease_id IS NULL AND j.due_at < clock_timestamp()), 0)
           AS late_s
  FROM job j GROUP BY j.state;
