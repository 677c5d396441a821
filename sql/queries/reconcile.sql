-- A counterparty's file of calls, matched with our records. The temporary tables are of one transaction.

-- name: counterparty^
-- Whose file it is, by the name of a partner or of a carrier's account; with the terms agreed.
SELECT a.account_id, a.name, a.currency::text AS currency, coalesce(p.partner_id, a.partner_id) AS partner_id,
       p.partner_id IS NOT NULL AS partner,
       coalesce(t.answer_s, 5) AS answer_s, coalesce(t.duration_s, 2) AS duration_s, coalesce(t.amount_micro, 100) AS amount_micro,
       coalesce(t.amount_permyriad, 0) AS amount_permyriad, coalesce(t.dispute_days, 30) AS dispute_days
  FROM account a LEFT JOIN partner p USING (account_id) LEFT JOIN recon_terms t USING (account_id)
 WHERE (a.account_id = :account_id OR (:account_id::uuid IS NULL AND (p.name = :name OR (p.name IS NULL AND a.name = :name))))
   AND a.kind IN ('partner', 'carrier')
 ORDER BY p.name IS NULL LIMIT 1;

-- name: set_terms!
INSERT INTO recon_terms (account_id, answer_s, duration_s, amount_micro, amount_permyriad, dispute_days)
VALUES (:account_id, :answer_s, :duration_s, :amount_micro, :amount_permyriad, :dispute_days)
ON CONFLICT (account_id) DO UPDATE SET answer_s = excluded.answer_s, duration_s = excluded.duration_s, amount_micro = excluded.amount_micro,
    amount_permyriad = excluded.amount_permyriad, dispute_days = excluded.dispute_days;

-- name: save_mapping!
INSERT INTO recon_mapping (account_id, name, mapping, author) VALUES (:account_id, :name, :mapping::jsonb, :author)
ON CONFLICT (account_id, name) DO UPDATE SET mapping = excluded.mapping, author = excluded.author, saved_at = clock_timestamp();

-- name: mapping$
SELECT mapping FROM recon_mapping WHERE account_id = :account_id AND name = :name;

-- name: mappings
SELECT a.name AS counterparty, m.name, m.mapping, m.author, m.saved_at FROM recon_mapping m JOIN account a USING (account_id)
 ORDER BY a.name, m.name;

-- name: same_file^
SELECT r.run_id, r.made_at FROM recon_run r
 WHERE r.account_id = :account_id AND r.leg = :leg AND r.file_sha256 = :sha256;

-- name: add_run!
INSERT INTO recon_run (run_id, account_id, partner_id, leg, from_at, to_at, currency, file_name, file_sha256, mapping, rows, author,
                       delete_after)
VALUES (:run_id, :account_id, :partner_id, :leg, :from_at, :to_at, :currency, :file_name, :sha256, :mapping::jsonb, 0, :author,
        (:to_at::timestamptz + make_interval(months => :keep_months::integer))::date);

-- name: set_rows!
UPDATE recon_run SET rows = :rows WHERE run_id = :run_id;

-- name: repeated
-- Rows that have the id of a row above, or repeat our record.
SELECT t.row_no, d.first_no, 'id' AS name
  FROM recon_row t
  JOIN (SELECT r.their_id, min(r.row_no) AS first_no FROM recon_row r WHERE r.run_id = :run_id AND r.their_id IS NOT NULL
         GROUP BY r.their_id HAVING count(*) > 1) d USING (their_id)
 WHERE t.run_id = :run_id AND t.row_no > d.first_no
 UNION ALL
SELECT t.row_no, d.first_no, 'record_id'
  FROM recon_row t
  JOIN (SELECT r.record_no, min(r.row_no) AS first_no FROM recon_row r WHERE r.run_id = :run_id AND r.record_no IS NOT NULL
         GROUP BY r.record_no HAVING count(*) > 1) d USING (record_no)
 WHERE t.run_id = :run_id AND t.row_no > d.first_no
 ORDER BY row_no, name;

-- name: run_of^
SELECT r.*, a.name AS counterparty, p.name AS partner FROM recon_run r JOIN account a USING (account_id)
  LEFT JOIN partner p ON p.partner_id = r.partner_id WHERE r.run_id = :run_id;

-- name: lock_run^
SELECT r.run_id FROM recon_run r WHERE r.run_id = :run_id FOR UPDATE;

-- name: runs
SELECT r.*, a.name AS counterparty, p.name AS partner FROM recon_run r JOIN account a USING (account_id)
  LEFT JOIN partner p ON p.partner_id = r.partner_id ORDER BY r.run_id DESC LIMIT :rows;

-- name: disputed$
SELECT EXISTS (SELECT FROM dispute d WHERE d.run_id = :run_id);

-- name: remove_rows!
DELETE FROM recon_row WHERE run_id = :run_id;

-- name: remove_matches!
DELETE FROM recon_match WHERE run_id = :run_id;

-- name: remove_run!
DELETE FROM recon_run WHERE run_id = :run_id;

-- name: room!
SELECT set_config('work_mem', '128MB', true), set_config('statement_timeout', '0', true);

-- name: temp_room!
-- Pairs are found in the order of their distance, so that their indexes grow everywhere at once: within the usual 8 MB each one is
-- written out and read back. A session that had temporary tables before keeps what it has.
DO $$
BEGIN
    PERFORM set_config('temp_buffers', '256MB', false);
EXCEPTION WHEN invalid_parameter_value THEN
    NULL;
END $$;

-- name: measure_rows!
ANALYZE recon_row;

-- name: make_ours!
CREATE TEMPORARY TABLE recon_ours (
    cdr_no bigint, call_id uuid, record_no bigint, sip_call_id text, b bigint, a bigint, answer_ms bigint, talk_ms bigint, micro bigint,
    inside boolean, purged boolean
) ON COMMIT DROP;

-- name: fill_ours!
-- Our records of the period, at the price that stands by now; and those of a day before and after it that no other file has
-- claimed, because theirs may count a call at its other end.
INSERT INTO recon_ours
SELECT k.cdr_no, k.call_id, k.record_no, c.sip_call_id,
       CASE WHEN c.b_number ~ '^\+[1-9][0-9]{2,14}$' THEN c.b_number::bigint END,
       CASE WHEN c.a_number ~ '^\+[1-9][0-9]{2,14}$' THEN c.a_number::bigint END,
       floor(extract(EPOCH FROM k.answered_at) * 1000)::bigint, k.talk_ms, k.amount_micro + coalesce(x.micro, 0),
       k.at >= r.from_at AND k.at < r.to_at, c.call_id IS NULL OR k.delete_after < current_date
  FROM recon_run r
  JOIN cdr k ON k.at >= r.from_at - interval '1 day' AND k.at < r.to_at + interval '1 day' AND k.file_type = 'cdr' AND k.leg = r.leg
            AND k.currency = r.currency
            AND CASE WHEN :partner::boolean THEN k.partner_id = r.partner_id ELSE k.account_id = r.account_id END
  LEFT JOIN call c USING (call_id)
  LEFT JOIN (SELECT v.call_id, v.attempt_no, sum(v.amount_micro) AS micro FROM recon_run w
               JOIN cdr v ON v.at >= w.from_at - interval '1 day' AND v.file_type = 'correction' AND v.leg = w.leg
              WHERE w.run_id = :run_id GROUP BY v.call_id, v.attempt_no) x
         ON x.call_id = k.call_id AND x.attempt_no = k.attempt_no
 WHERE r.run_id = :run_id AND k.answered_at IS NOT NULL
   AND ((k.at >= r.from_at AND k.at < r.to_at)
        OR NOT EXISTS (SELECT FROM recon_run o JOIN recon_match m USING (run_id)
                        WHERE o.account_id = r.account_id AND o.leg = r.leg AND o.run_id <> r.run_id AND m.cdr_no = k.cdr_no
                          AND m.row_no IS NOT NULL));

-- name: measure_ours!
ANALYZE recon_ours;

-- name: make_theirs!
CREATE TEMPORARY TABLE recon_theirs (
    row_no integer, call_id uuid, record_no bigint, sip_call_id text, b bigint, a bigint, answer_ms bigint, talk_ms bigint, micro bigint
) ON COMMIT DROP;

-- name: fill_theirs!
INSERT INTO recon_theirs
SELECT r.row_no, r.call_id, r.record_no, r.sip_call_id, r.b_number, r.a_number,
       floor(extract(EPOCH FROM r.answer_at) * 1000)::bigint + :clock_ms::bigint, r.talk_ms, r.amount_micro
  FROM recon_row r WHERE r.run_id = :run_id;

-- name: measure_theirs!
ANALYZE recon_theirs;

-- name: swapped^
-- How many of some rows call a number that ours were to, and how many have such a number as the caller alone.
SELECT count(*) AS rows, count(*) FILTER (WHERE t.b IN (SELECT o.b FROM recon_ours o WHERE o.b IS NOT NULL)) AS straight,
       count(*) FILTER (WHERE t.a IN (SELECT o.b FROM recon_ours o WHERE o.b IS NOT NULL)
                          AND t.b NOT IN (SELECT o.b FROM recon_ours o WHERE o.b IS NOT NULL)) AS crossed
  FROM (SELECT r.b_number AS b, r.a_number AS a FROM recon_row r
         WHERE r.run_id = :run_id AND r.b_number IS NOT NULL AND r.a_number IS NOT NULL ORDER BY r.row_no LIMIT 2000) t;

-- name: make_pairs!
-- One to one: what comes second for a row or a record is not taken.
CREATE TEMPORARY TABLE recon_pair (row_no integer PRIMARY KEY, cdr_no bigint UNIQUE, way text) ON COMMIT DROP;

-- name: measure_pairs!
ANALYZE recon_pair;

-- name: pair_by_call!
-- By our call id. Where either has it several times, in the order of time.
INSERT INTO recon_pair
SELECT t.row_no, o.cdr_no, 'id'
  FROM (SELECT row_no, call_id, row_number() OVER (PARTITION BY call_id ORDER BY answer_ms, talk_ms, micro, row_no) AS n
          FROM recon_theirs WHERE call_id IS NOT NULL) t
  JOIN (SELECT cdr_no, call_id, row_number() OVER (PARTITION BY call_id ORDER BY answer_ms, talk_ms, micro, cdr_no) AS n
          FROM recon_ours) o USING (call_id, n)
ON CONFLICT DO NOTHING;

-- name: pair_by_record!
INSERT INTO recon_pair
SELECT t.row_no, o.cdr_no, 'id' FROM recon_theirs t JOIN recon_ours o USING (record_no) ORDER BY t.row_no, o.cdr_no
ON CONFLICT DO NOTHING;

-- name: pair_by_sip!
-- By the SIP Call-ID; where there are several, the nearest in time.
INSERT INTO recon_pair
SELECT t.row_no, o.cdr_no, 'id' FROM recon_theirs t JOIN recon_ours o USING (sip_call_id)
 WHERE NOT EXISTS (SELECT FROM recon_pair p WHERE p.row_no = t.row_no) AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.cdr_no = o.cdr_no)
 ORDER BY abs(o.answer_ms - t.answer_ms), abs(o.talk_ms - t.talk_ms), t.answer_ms, t.talk_ms, t.micro, o.cdr_no, t.row_no
ON CONFLICT DO NOTHING;

-- name: pair_by_number!
-- By called number, answer and duration: the nearest in time first, then in duration. Rows are inserted in that order, and whoever
-- comes second for a row or a record is left out, so that this is the greedy assignment, and no order of the file changes it.
-- Times are compared within buckets: a number that is called without end is not compared with all its calls.
-- near: the duration fits, too; else whoever was called at that time, and if both say who called, by the same.
INSERT INTO recon_pair
WITH theirs AS (
    SELECT t.*, t.answer_ms / :bucket_ms::bigint AS bucket FROM recon_theirs t
     WHERE t.b IS NOT NULL AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.row_no = t.row_no)
), ours AS (
    SELECT o.*, (o.answer_ms - :answer_ms::bigint) / :bucket_ms AS low, (o.answer_ms + :answer_ms) / :bucket_ms AS high FROM recon_ours o
     WHERE o.b IS NOT NULL AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.cdr_no = o.cdr_no)
), placed AS (
    SELECT o.cdr_no, o.b, o.a, o.answer_ms, o.talk_ms, o.micro, o.low AS bucket FROM ours o
    UNION ALL
    SELECT o.cdr_no, o.b, o.a, o.answer_ms, o.talk_ms, o.micro, o.high FROM ours o WHERE o.high <> o.low
)
SELECT t.row_no, o.cdr_no, CASE WHEN :near::boolean THEN 'number' ELSE 'time' END
  FROM theirs t JOIN placed o USING (b, bucket)
 WHERE abs(o.answer_ms - t.answer_ms) <= :answer_ms
   AND CASE WHEN :near THEN abs(o.talk_ms - t.talk_ms) <= :duration_ms::bigint ELSE coalesce(o.a = t.a, true) END
 ORDER BY abs(o.answer_ms - t.answer_ms), abs(o.talk_ms - t.talk_ms), t.answer_ms, t.talk_ms, t.micro, o.answer_ms, o.talk_ms, o.micro,
          o.cdr_no, t.row_no
ON CONFLICT DO NOTHING;

-- name: leftover^
-- What no pass has matched, and of our records in the period those whose numbers are gone.
SELECT (SELECT count(*) FROM recon_theirs t WHERE NOT EXISTS (SELECT FROM recon_pair p WHERE p.row_no = t.row_no)) AS theirs,
       (SELECT count(*) FROM recon_ours o
         WHERE o.inside AND o.purged AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.cdr_no = o.cdr_no)) AS purged,
       (SELECT count(*) FROM recon_ours o WHERE o.inside) AS ours;

-- name: other_currency$
-- Records of the period that are in another currency, and so in no class.
SELECT count(*) FROM recon_run r
  JOIN cdr k ON k.at >= r.from_at AND k.at < r.to_at AND k.file_type = 'cdr' AND k.leg = r.leg AND k.currency <> r.currency
            AND CASE WHEN :partner::boolean THEN k.partner_id = r.partner_id ELSE k.account_id = r.account_id END
 WHERE r.run_id = :run_id;

-- name: keep_matches!
-- Each record and each row in its class. A record of the days around the period counts only where theirs has it.
INSERT INTO recon_match (run_id, class, way, row_no, cdr_no, our_ms, our_micro, their_ms, their_micro)
SELECT :run_id::uuid,
       CASE WHEN o.cdr_no IS NULL THEN 'only_theirs' WHEN t.row_no IS NULL THEN 'only_ours'
            WHEN abs(o.talk_ms - t.talk_ms) > :duration_ms::bigint THEN 'duration'
            WHEN abs(o.micro - t.micro) > greatest(:amount_micro::bigint, abs(o.micro)::numeric * :amount_permyriad::integer / 10000)
                 THEN 'rate'
            ELSE 'matched' END,
       coalesce(p.way, ''), t.row_no, o.cdr_no, o.talk_ms, o.micro, t.talk_ms, t.micro
  FROM recon_theirs t LEFT JOIN recon_pair p USING (row_no) FULL JOIN recon_ours o ON o.cdr_no = p.cdr_no
 WHERE t.row_no IS NOT NULL OR o.inside
 ORDER BY t.row_no;

-- name: classes
-- Counts, milliseconds and amounts of each class; unpriced: of theirs, those without an amount.
SELECT m.class, m.way, count(*) AS calls, coalesce(sum(m.our_ms), 0)::bigint AS our_ms, coalesce(sum(m.their_ms), 0)::bigint AS their_ms,
       coalesce(sum(m.our_micro), 0)::bigint AS our_micro, coalesce(sum(m.their_micro), 0)::bigint AS their_micro,
       count(*) FILTER (WHERE m.row_no IS NOT NULL AND m.their_micro IS NULL) AS unpriced
  FROM recon_match m WHERE m.run_id = :run_id GROUP BY m.class, m.way;

-- name: clock
-- By how much their clock is behind ours, as most of those calls say that can be told apart: of the pairs by id, and of the unmatched
-- ones to numbers that are seldom called, with the duration that fits.
WITH unmatched AS (
    SELECT t.b, t.answer_ms, t.talk_ms FROM recon_theirs t
     WHERE t.b IS NOT NULL AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.row_no = t.row_no) ORDER BY t.row_no LIMIT 5000
), rare AS (
    SELECT o.b, min(o.answer_ms) AS answer_ms, min(o.talk_ms) AS talk_ms FROM recon_ours o
     WHERE o.b IN (SELECT u.b FROM unmatched u) AND NOT EXISTS (SELECT FROM recon_pair p WHERE p.cdr_no = o.cdr_no)
     GROUP BY o.b HAVING count(*) = 1
), lag AS (
    SELECT r.answer_ms - u.answer_ms AS ms FROM unmatched u JOIN rare r USING (b)
     WHERE abs(r.talk_ms - u.talk_ms) <= :duration_ms AND abs(r.answer_ms - u.answer_ms) <= 54000000
    UNION ALL
    SELECT o.answer_ms - t.answer_ms
      FROM (SELECT p.row_no, p.cdr_no FROM recon_pair p WHERE p.way = 'id' ORDER BY p.row_no LIMIT 5000) p
      JOIN recon_theirs t USING (row_no) JOIN recon_ours o ON o.cdr_no = p.cdr_no
)
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY l.ms) AS ms, count(*) AS calls, sum(count(*)) OVER () AS looked_at
  FROM lag l GROUP BY round(l.ms / greatest(2.0 * :answer_ms, 2000)) ORDER BY count(*) DESC LIMIT 1;

-- name: matched!
UPDATE recon_run SET state = 'matched', matched_at = clock_timestamp(), clock_ms = :clock_ms, terms = :terms::jsonb,
    summary = :summary::jsonb
 WHERE run_id = :run_id;

-- name: matches
-- Rows of a class (NULL: of all but the matched ones), the largest differences first.
SELECT m.class, m.way, m.row_no, m.cdr_no, m.our_ms, m.our_micro, m.their_ms, m.their_micro, k.call_id, k.record_no, k.answered_at,
       k.destination, k.prefix, c.a_number, c.b_number, r.their_id, r.answer_at AS their_answer_at, r.a_number AS their_a_number,
       r.b_number AS their_b_number
  FROM recon_match m
  LEFT JOIN cdr k ON k.cdr_no = m.cdr_no
  LEFT JOIN call c ON c.call_id = k.call_id
  LEFT JOIN recon_row r ON r.run_id = m.run_id AND r.row_no = m.row_no
 WHERE m.run_id = :run_id AND m.class = ANY (:classes::text [])
 ORDER BY abs(coalesce(m.their_micro, 0) - coalesce(m.our_micro, 0)) DESC, abs(coalesce(m.their_ms, 0) - coalesce(m.our_ms, 0)) DESC,
          m.row_no ASC, m.cdr_no ASC LIMIT :rows;

-- name: by_destination
-- Classes by our destination, the largest differences first: a wrong rate shows as one line.
SELECT m.class, k.destination, k.prefix, count(*) AS calls, sum(m.our_ms)::bigint AS our_ms,
       coalesce(sum(m.their_ms), 0)::bigint AS their_ms,
       sum(m.our_micro)::bigint AS our_micro, coalesce(sum(m.their_micro), 0)::bigint AS their_micro
  FROM recon_match m JOIN cdr k ON k.cdr_no = m.cdr_no
 WHERE m.run_id = :run_id AND m.class = ANY (:classes::text [])
 GROUP BY m.class, k.destination, k.prefix
 ORDER BY abs(coalesce(sum(m.their_micro), 0) - sum(m.our_micro)) DESC, k.prefix ASC, m.class ASC LIMIT :rows;
