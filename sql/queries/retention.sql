-- Traffic data whose time has come, and the proof that it went.

-- name: lock!
SELECT pg_advisory_lock(hashtextextended('callbridge purge', 0));

-- name: release!
SELECT pg_advisory_unlock(hashtextextended('callbridge purge', 0));

-- name: forget!
DROP TABLE IF EXISTS pg_temp.purge_due;

-- name: begin_day$
-- Up to it all is purged, but for what came later into the past. NULL: there is no record.
SELECT coalesce((SELECT l.until_day FROM purge_log l WHERE l.what = 'all up to a day' ORDER BY l.purge_no DESC LIMIT 1),
                (SELECT min(k.delete_after) FROM cdr k));

-- name: gather$
SELECT purge_gather_v1(:begin, :day, :hold_days);

-- name: held
SELECT d.held, count(*) AS calls FROM pg_temp.purge_due d WHERE d.held IS NOT NULL GROUP BY d.held ORDER BY d.held;

-- name: keyless_months
SELECT DISTINCT d.month FROM pg_temp.purge_due d WHERE d.held IS NULL AND NOT EXISTS (
    SELECT FROM pseudonym_key k WHERE k.month = d.month AND k.destroyed_at IS NULL);

-- name: add_key!
-- A call that was held back for long may come after its month's key is gone: then there is a new one, which links nothing.
INSERT INTO pseudonym_key (month, inner_pad, outer_pad) VALUES (:month, :inner_pad, :outer_pad)
ON CONFLICT (month) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad, destroyed_at = NULL;

-- name: purge_calls$
SELECT purge_calls_v1(:after, :upto);

-- name: old_files
-- Files that were delivered and whose records' time has come: quality data go by days, the rest by months.
SELECT f.file_id FROM cdr_file f
 WHERE f.state = 'delivered' AND f.purged_at IS NULL
   AND f.to_at <= CASE f.type WHEN 'quality' THEN :quality_at::timestamptz ELSE :billing_at::timestamptz END
 ORDER BY f.to_at, f.file_id;

-- name: forget_files!
WITH gone AS (UPDATE cdr_file f SET purged_at = clock_timestamp() WHERE f.file_id = ANY (:file_ids::uuid[]) RETURNING f.file_id)
SELECT purge_note_v1('billing', 'files of call records', NULL, :day, (SELECT count(*) FROM gone));

-- name: note_through!
-- All up to a day is purged; what is held is looked at again.
SELECT purge_note_v1('all', 'all up to a day', :begin,
                     least(:day, (SELECT min(d.until_day) - 1 FROM pg_temp.purge_due d WHERE d.held IS NOT NULL)),
                     (SELECT count(*) FROM pg_temp.purge_due d WHERE d.held IS NULL));

-- name: purge_aged$
SELECT purge_aged_v1(:what, :day, :rows);

-- name: forget_counterparts$
SELECT recon_forget_v1(:day);

-- name: destroy_keys
UPDATE pseudonym_key k SET inner_pad = NULL, outer_pad = NULL, destroyed_at = clock_timestamp()
 WHERE k.destroyed_at IS NULL AND k.month < :this_month
   AND NOT EXISTS (SELECT FROM call c WHERE c.purged_at IS NULL AND c.call_id >= uuid_floor_v1(k.month::timestamptz)
                      AND c.call_id < uuid_floor_v1(k.month::timestamptz + interval '1 month'))
RETURNING k.month;

-- name: vacuum_keys!
VACUUM pseudonym_key;

-- name: log
SELECT l.purge_no, l.at, l.rule, l.what, l.from_day, l.until_day, l.rows, l.hash FROM purge_log l ORDER BY l.purge_no DESC LIMIT :rows;

-- name: next_day$
-- When the time of the next record comes.
SELECT min(k.delete_after) + 1 FROM cdr k WHERE k.delete_after >= :day;

-- name: months
SELECT m.month, m.calls, m.purged,
       CASE WHEN k.month IS NULL THEN 'none' WHEN k.destroyed_at IS NULL THEN 'there' ELSE 'destroyed' END AS key
  FROM (SELECT o.month, count(*) AS calls, count(o.purged_at) AS purged
          FROM (SELECT date_trunc('month', uuid_extract_timestamp(c.call_id) AT TIME ZONE 'UTC')::date AS month, c.purged_at FROM call c) o
         GROUP BY o.month) m
  LEFT JOIN pseudonym_key k USING (month) ORDER BY m.month;

-- name: audit_log
-- Lines of the proof that do not follow the one before, or are not as they were written.
SELECT o.purge_no FROM (SELECT l.*, lag(l.hash) OVER w AS hash_before, lag(l.purge_no, 1, 0::bigint) OVER w AS no_before
                          FROM purge_log l WINDOW w AS (ORDER BY l.purge_no)) o
 WHERE o.purge_no <> o.no_before + 1 OR o.previous <> coalesce(o.hash_before, decode(repeat('00', 32), 'hex'))
    OR o.hash <> purge_hash_v1(o.previous, o.purge_no, o.at, o.rule, o.what, o.from_day, o.until_day, o.rows);
