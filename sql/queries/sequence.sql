-- Numbering of what has ended, and the chain of its days.

-- name: lock!
-- Until it is released, or the connection is gone: a pass is of many transactions.
SELECT pg_advisory_lock(hashtextextended('callbridge sequence', 0));

-- name: release!
SELECT pg_advisory_unlock(hashtextextended('callbridge sequence', 0));

-- name: forget!
DROP TABLE IF EXISTS pg_temp.cdr_due;

-- name: horizon$
-- All that ended before it is numbered; NULL: nothing is.
SELECT max(p.until) FROM cdr_pass p;

-- name: gather$
SELECT cdr_gather_v1(coalesce(uuid_floor_v1(:since::timestamptz), '00000000-0000-0000-0000-000000000000'), :since::timestamptz, :until);

-- name: seal$
SELECT cdr_seal_v1(:after, :upto, :billing_months, :settlement_days, :quality_days, :time_zone);

-- name: add_pass!
INSERT INTO cdr_pass (until, last_no) VALUES (:until, (SELECT coalesce(max(k.cdr_no), 0) FROM cdr k));

-- name: next_day$
-- The first day (UTC) that is not in the house's chain. NULL: nothing was ever numbered.
SELECT coalesce((SELECT max(d.day) + 1 FROM cdr_day d WHERE d.partner_id = '00000000-0000-0000-0000-000000000000'),
                least((SELECT min(k.at) FROM cdr k), (SELECT min(p.until) FROM cdr_pass p))::date);

-- name: day_ranges
-- Whose chain goes on with a day, and by which numbers: the house, and every partner known on that day.
SELECT o.partner_id, coalesce(b.last_no, 0) + 1 AS first_no, coalesce(l.last_no, 0) AS last_no,
       coalesce(b.hash, decode(repeat('00', 32), 'hex')) AS previous
  FROM (SELECT '00000000-0000-0000-0000-000000000000'::uuid AS partner_id, NULL::timestamptz AS since_at
         UNION ALL SELECT p.partner_id, p.created_at FROM partner p) o
  LEFT JOIN cdr_day b ON b.partner_id = o.partner_id AND b.day = :day::date - 1
 CROSS JOIN LATERAL (SELECT CASE WHEN o.since_at IS NULL
    THEN (SELECT k.cdr_no FROM cdr k WHERE k.at < :day::date + 1 ORDER BY k.at DESC, k.cdr_no DESC LIMIT 1)
    ELSE (SELECT k.record_no FROM cdr k WHERE k.partner_id = o.partner_id AND k.at < :day::date + 1
           ORDER BY k.at DESC, k.record_no DESC LIMIT 1) END AS last_no) l
 WHERE o.since_at IS NULL OR b.day IS NOT NULL OR l.last_no IS NOT NULL OR o.since_at < :day::date + 1
 ORDER BY o.partner_id;

-- name: hashes$
-- Those of a partner's records, from one number to another, one after the other.
SELECT string_agg(k.hash, ''::bytea ORDER BY k.record_no) FROM cdr k
 WHERE k.partner_id = :partner_id AND k.record_no BETWEEN :first_no AND :last_no;

-- name: house_hashes$
-- The same over the house's numbers.
SELECT string_agg(sha256(convert_to(cdr_line_v1(k.cdr_no, k.call_id, k.leg, k.attempt_no, k.kind, k.revision, k.answered_at, k.talk_ms,
                                                k.billed_s, k.amount_micro, k.currency), 'UTF8')), ''::bytea ORDER BY k.cdr_no)
  FROM cdr k WHERE k.cdr_no BETWEEN :first_no AND :last_no;

-- name: add_day!
INSERT INTO cdr_day (partner_id, day, first_no, last_no, records, previous, hash)
VALUES (:partner_id, :day, :first_no, :last_no, :last_no::bigint - :first_no::bigint + 1, :previous, :hash);

-- name: days
-- The chain of a partner, or of the house (the nil UUID), oldest first.
SELECT d.day, d.first_no, d.last_no, d.records, d.previous, d.hash FROM cdr_day d
 WHERE d.partner_id = :partner_id AND d.day >= :since AND d.day < :until ORDER BY d.day;

-- name: record_hashes
-- For a partner, too: the hashes of its records, by number.
SELECT k.record_no AS no, k.hash FROM cdr k WHERE k.partner_id = :partner_id AND k.record_no BETWEEN :first_no AND :last_no
 ORDER BY k.record_no;

-- name: house_record_hashes
SELECT k.cdr_no AS no, sha256(convert_to(cdr_line_v1(k.cdr_no, k.call_id, k.leg, k.attempt_no, k.kind, k.revision, k.answered_at,
                                                     k.talk_ms, k.billed_s, k.amount_micro, k.currency), 'UTF8')) AS hash
  FROM cdr k WHERE k.cdr_no BETWEEN :first_no AND :last_no ORDER BY k.cdr_no;

-- name: analyze!
ANALYZE cdr;

-- name: audit_gaps
-- Numbers that are missing: of the house (partner_id NULL) and of each partner, those included that a pass says it has given.
SELECT NULL::uuid AS partner_id, g.no + 1 AS first_no, g.next_no - 1 AS last_no
  FROM (SELECT s.no, lead(s.no) OVER (ORDER BY s.no) AS next_no
          FROM (SELECT 0 AS no UNION ALL SELECT k.cdr_no FROM cdr k UNION ALL
                SELECT max(p.last_no) + 1 FROM cdr_pass p WHERE p.last_no > (SELECT coalesce(max(k.cdr_no), 0) FROM cdr k)) s) g
 WHERE g.next_no > g.no + 1
UNION ALL
SELECT g.partner_id, g.no + 1, g.next_no - 1
  FROM (SELECT k.partner_id, k.record_no AS no, lead(k.record_no) OVER (PARTITION BY k.partner_id ORDER BY k.record_no) AS next_no
          FROM cdr k WHERE k.partner_id IS NOT NULL) g
 WHERE g.next_no > g.no + 1
UNION ALL
SELECT k.partner_id, 1, min(k.record_no) - 1 FROM cdr k WHERE k.partner_id IS NOT NULL GROUP BY k.partner_id HAVING min(k.record_no) > 1;

-- name: audit_order
-- Records that count for an earlier time than the one before, and partners' numbers that do not follow the house's.
SELECT o.cdr_no, o.partner_id, o.record_no
  FROM (SELECT k.cdr_no, k.partner_id, k.record_no, k.at, lag(k.at) OVER (ORDER BY k.cdr_no) AS before_at,
               lag(k.record_no) OVER (PARTITION BY k.partner_id ORDER BY k.cdr_no) AS before_no FROM cdr k) o
 WHERE o.at < o.before_at OR o.record_no <= o.before_no;

-- name: audit_missing
-- What has ended below the horizon and has no record. Numbering with a look at all calls gives it one.
SELECT m.call_id, m.leg, m.attempt_no, m.kind, m.revision
  FROM (SELECT f.call_id, f.leg, f.attempt_no, f.kind, f.revision, f.learnt_at, f.ended_at FROM cdr_first f UNION ALL
        SELECT o.call_id, o.leg, o.attempt_no, o.kind, o.revision, o.learnt_at, o.ended_at FROM cdr_correction o) m
 WHERE m.learnt_at < :horizon AND m.ended_at < :horizon
   AND NOT EXISTS (SELECT FROM cdr k WHERE k.call_id = m.call_id AND k.leg = m.leg AND k.attempt_no = m.attempt_no AND k.kind = m.kind
                      AND k.revision = m.revision);

-- name: audit_unfounded
-- Records that do not say what the call, its charge, its attempt or its later price says, or are of none. Whose a trunk is may have
-- changed since; and of a call whose data is gone the prefix is no more known.
SELECT k.cdr_no, k.call_id, k.leg, k.attempt_no, k.kind, k.revision, k.amount_micro, m.amount_micro AS booked_micro
  FROM cdr k
  LEFT JOIN (SELECT f.* FROM cdr_first f UNION ALL
             SELECT o.call_id, o.leg, o.attempt_no, o.kind, o.revision, o.file_type, o.learnt_at, o.partner_id, o.ended_at, o.answered_at,
                    o.answered, o.direction, o.trunk_id, o.subscriber_id, o.account_id, o.talk_ms, o.billed_s, o.covered_s,
                    o.amount_micro, o.currency, o.tax, o.destination, o.prefix, o.purpose, o.kept_as
               FROM cdr_correction o) m
    ON m.call_id = k.call_id AND m.leg = k.leg AND m.attempt_no = k.attempt_no AND m.kind = k.kind AND m.revision = k.revision
 WHERE (k.file_type, k.ended_at, k.answered_at, k.answered, k.direction, k.trunk_id, k.subscriber_id, k.talk_ms, k.billed_s, k.covered_s,
        k.amount_micro, k.currency::text, k.tax, k.destination, k.purpose)
       IS DISTINCT FROM
       (m.file_type, m.ended_at, m.answered_at, m.answered, m.direction, m.trunk_id, m.subscriber_id, m.talk_ms, m.billed_s, m.covered_s,
        m.amount_micro, m.currency, m.tax, m.destination, m.purpose)
    OR (k.leg <> 'termination' AND (k.partner_id, k.account_id) IS DISTINCT FROM (m.partner_id, m.account_id))
    OR k.at < m.learnt_at;

-- name: audit_hashes
-- Records whose hash is not that of their line.
SELECT k.cdr_no, k.partner_id, k.record_no FROM cdr k
 WHERE k.hash <> sha256(convert_to(cdr_line_v1(coalesce(k.record_no, k.cdr_no), k.call_id, k.leg, k.attempt_no, k.kind, k.revision,
                                               k.answered_at, k.talk_ms, k.billed_s, k.amount_micro, k.currency), 'UTF8'));

-- name: audit_days
-- Every day of every chain, with what it should follow, and by which numbers it should go.
SELECT d.partner_id, d.day, d.first_no, d.last_no, d.previous, d.hash, b.hash AS hash_before, coalesce(b.last_no, 0) AS last_before,
       b.day IS NOT NULL OR d.day = min(d.day) OVER (PARTITION BY d.partner_id) AS followed,
       coalesce(CASE d.partner_id WHEN '00000000-0000-0000-0000-000000000000'
           THEN (SELECT k.cdr_no FROM cdr k WHERE k.at < d.day + 1 ORDER BY k.at DESC, k.cdr_no DESC LIMIT 1)
           ELSE (SELECT k.record_no FROM cdr k WHERE k.partner_id = d.partner_id AND k.at < d.day + 1
                  ORDER BY k.at DESC, k.record_no DESC LIMIT 1) END, 0) AS last_then
  FROM cdr_day d LEFT JOIN cdr_day b ON b.partner_id = d.partner_id AND b.day = d.day - 1
 ORDER BY d.partner_id, d.day;

-- name: audit_open_chains
-- Chains that end before the last day that is over, and partners with records of days that are over and without a chain.
SELECT o.partner_id, max(d.day) AS last_day
  FROM (SELECT '00000000-0000-0000-0000-000000000000'::uuid AS partner_id WHERE EXISTS (SELECT FROM cdr_day)
         UNION SELECT y.partner_id FROM cdr_day y
         UNION SELECT p.partner_id FROM partner p
                WHERE EXISTS (SELECT FROM cdr k WHERE k.partner_id = p.partner_id AND k.at < :horizon::timestamptz::date)) o
  LEFT JOIN cdr_day d ON d.partner_id = o.partner_id
 GROUP BY o.partner_id HAVING coalesce(max(d.day) < :horizon::timestamptz::date - 1, true);
