-- Files of call records: who gets them, which there are, and what is in them.

-- name: rows
-- The rows of a file, in the order of their numbers: of a partner by record_no, of the house by cdr_no.
-- A partner reads nobody else's trunks, nor what the callers of others dialled, nor a caller who is not shown.
WITH named AS MATERIALIZED (
    SELECT k.trunk_id, k.name FROM cdr_names n
     CROSS JOIN LATERAL jsonb_to_recordset(n.trunks) AS k (trunk_id uuid, name text, partner_id uuid)
     WHERE n.names_id = :names_id AND (:partner_id::uuid IS NULL OR k.partner_id = :partner_id::uuid)
), owner AS MATERIALIZED (
    SELECT k.partner_id, cell_text_v1(k.name) AS name FROM cdr_names n
     CROSS JOIN LATERAL jsonb_to_recordset(n.partners) AS k (partner_id uuid, name text) WHERE n.names_id = :names_id
)
SELECT r.no AS record_id, encode(uuid_send(r.call_id), 'hex') AS call_id, r.leg, p.name AS partner,
       CASE r.leg WHEN 'origination' THEN t.name END AS trunk_in, CASE r.leg WHEN 'termination' THEN t.name END AS trunk_out,
       CASE WHEN r.leg <> 'usage' THEN r.direction END AS direction,
       CASE WHEN c.anonymous AND (r.leg = 'termination' OR c.direction = 'in') THEN 'anonymous' ELSE cell_number_v1(c.a_number) END
           AS cli_received,
       CASE WHEN NOT c.anonymous THEN cell_number_v1(c.a_number) END AS cli_presented,
       CASE WHEN r.leg = 'origination' OR :partner_id::uuid IS NULL THEN cell_number_v1(c.dialled) END AS cld_dialled,
       cell_number_v1(c.b_number) AS cld_routed,
       cell_at_v1(coalesce(c.admitted_at, u.used_at)) AS setup_at, cell_at_v1(r.answered_at) AS answer_at,
       cell_at_v1(coalesce(x.ended_at, r.ended_at)) AS end_at, r.talk_ms AS duration_ms, r.billed_s,
       (y.tariff ->> 'initial_s') || '/' || (y.tariff ->> 'next_s') AS increment,
       cell_text_v1(r.destination) AS destination, nullif(r.prefix, '') AS prefix,
       money_text_v1((y.tariff ->> 'rate_micro')::bigint) AS rate, cell_text_v1(y.tariff ->> 'rate_id') AS rate_id,
       money_text_v1((y.tariff ->> 'connect_fee_micro')::bigint) AS connection_fee,
       money_text_v1(r.amount_micro) AS amount, r.currency,
       CASE WHEN (c.bundled OR r.leg = 'usage') AND r.leg <> 'termination' AND r.kind = 'first'
            THEN (SELECT sum(b.used_units) FROM burn b WHERE b.source_id = r.call_id) END AS allowance_units,
       x.sip_code, CASE r.leg WHEN 'termination' THEN x.q850_cause ELSE c.q850_cause END AS q850_cause,
       c.release_party, r.purpose, (y.tariff ->> 'version')::integer AS deck_version,
       r.attempt_no, r.kind, r.revision, cell_at_v1(r.at) AS at
  FROM (SELECT h.cdr_no AS no, h.* FROM cdr h
         WHERE :partner_id::uuid IS NULL AND h.cdr_no > :first_no AND h.cdr_no <= :last_no
         UNION ALL
        SELECT o.record_no AS no, o.* FROM cdr o
         WHERE o.partner_id = :partner_id::uuid AND o.record_no > :first_no AND o.record_no <= :last_no) r
  LEFT JOIN call c ON c.call_id = r.call_id AND r.leg <> 'usage'
  LEFT JOIN attempt x ON x.call_id = r.call_id AND x.attempt_no = r.attempt_no AND r.leg = 'termination'
  LEFT JOIN usage_record u ON u.usage_id = r.call_id AND r.leg = 'usage'
  LEFT JOIN rerating g ON :type = 'correction' AND g.call_id = r.call_id
                      AND g.revision = r.revision - CASE r.kind WHEN 'reversal' THEN 1 ELSE 0 END
  LEFT JOIN named t ON t.trunk_id = r.trunk_id
  LEFT JOIN owner p ON p.partner_id = r.partner_id
 CROSS JOIN LATERAL (SELECT CASE r.leg WHEN 'origination' THEN coalesce(g.sell, c.sell)
                                       WHEN 'termination' THEN coalesce(g.buy, x.buy) END AS tariff) y
 WHERE r.file_type = :type
 ORDER BY r.no;

-- name: totals
-- Sums over the same records, by currency.
SELECT r.currency, count(*) AS rows, sum(r.talk_ms)::bigint AS duration_ms, sum(r.billed_s)::bigint AS billed_s,
       sum(r.amount_micro)::bigint AS amount_micro, min(r.answered_at) AS first_answer_at, max(r.answered_at) AS last_answer_at
  FROM (SELECT h.* FROM cdr h WHERE :partner_id::uuid IS NULL AND h.cdr_no > :first_no AND h.cdr_no <= :last_no
         UNION ALL
        SELECT o.* FROM cdr o WHERE o.partner_id = :partner_id::uuid AND o.record_no > :first_no AND o.record_no <= :last_no) r
 WHERE r.file_type = :type
 GROUP BY r.currency;

-- name: steady!
-- Files are written in one process beside the calls, not in several.
SELECT set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true);

-- name: names$
SELECT cdr_names_v1();

-- name: patience!
SELECT set_config('lock_timeout', :wait_ms::text, false);

-- name: lock!
-- One at a time is at work on the files of a recipient.
SELECT pg_advisory_lock(hashtextextended('cdr_recipient ' || :recipient_id::uuid::text, 25));

-- name: release!
SELECT pg_advisory_unlock(hashtextextended('cdr_recipient ' || :recipient_id::uuid::text, 25));

-- name: recipient^
SELECT r.* FROM cdr_recipient r WHERE lower(r.code) = lower(:code);

-- name: recipient_by_id^
SELECT r.* FROM cdr_recipient r WHERE r.recipient_id = :recipient_id;

-- name: recipients
SELECT r.* FROM cdr_recipient r ORDER BY lower(r.code);

-- name: partner_named$
SELECT p.partner_id FROM partner p WHERE p.name = :name;

-- name: add_recipient$
INSERT INTO cdr_recipient (code, partner_id, types, format, period, time_zone, target, since_at)
VALUES (:code, :partner_id, :types, :format, :period, :time_zone, :target::jsonb, :since_at)
RETURNING recipient_id;

-- name: set_recipient$
UPDATE cdr_recipient SET types = :types, format = :format, period = :period, time_zone = :time_zone, target = :target::jsonb,
       enabled = :enabled, edition = edition + 1
 WHERE recipient_id = :recipient_id RETURNING edition;

-- name: hold_recipient^
SELECT r.enabled FROM cdr_recipient r WHERE r.recipient_id = :recipient_id FOR NO KEY UPDATE;

-- name: latest^
-- The last file of a type.
SELECT f.file_no, f.last_no, f.to_at FROM cdr_file f
 WHERE f.recipient_id = :recipient_id AND f.type = :type ORDER BY f.file_no DESC LIMIT 1;

-- name: numbers_before
-- The last number before each of these instants: of the partner's records, else of the house's.
SELECT i.place,
       CASE WHEN :partner_id::uuid IS NULL
            THEN (SELECT h.cdr_no FROM cdr h WHERE h.at < i.at ORDER BY h.at DESC, h.cdr_no DESC LIMIT 1)
            ELSE (SELECT o.record_no FROM cdr o WHERE o.partner_id = :partner_id::uuid AND o.at < i.at
                   ORDER BY o.at DESC, o.record_no DESC LIMIT 1) END AS last_no
  FROM unnest(:instants::timestamptz[]) WITH ORDINALITY AS i (at, place) ORDER BY i.place;

-- name: add_file$
INSERT INTO cdr_file (recipient_id, partner_id, type, file_no, first_no, last_no, from_at, to_at, period, time_zone, format, sender, name,
                      names_id)
VALUES (:recipient_id, :partner_id, :type, :file_no, :first_no, :last_no, :from_at, :to_at, :period, :time_zone, :format, :sender, :name,
        :names_id)
RETURNING file_id;

-- name: file^
SELECT f.*, r.code, r.target, b.name AS previous_name, b.sha256 AS previous_sha256, b.state AS previous_state
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id)
  LEFT JOIN cdr_file b ON b.recipient_id = f.recipient_id AND b.type = f.type AND b.file_no = f.file_no - 1
 WHERE f.file_id = :file_id;

-- name: file_named$
SELECT f.file_id FROM cdr_file f WHERE f.name = :name;

-- name: due
-- Files that are not where they belong, in the order in which they are to get there.
SELECT f.file_id FROM cdr_file f WHERE f.recipient_id = :recipient_id AND f.state <> 'delivered' ORDER BY f.type, f.file_no;

-- name: purged_of_file$
-- When the last traffic data behind a file's records went. NULL: none did.
SELECT max(c.purged_at) FROM cdr_file f
  JOIN cdr k ON CASE WHEN f.partner_id IS NULL THEN k.cdr_no ELSE k.record_no END > f.first_no
            AND CASE WHEN f.partner_id IS NULL THEN k.cdr_no ELSE k.record_no END <= f.last_no
            AND (f.partner_id IS NULL OR k.partner_id = f.partner_id)
  JOIN call c USING (call_id) WHERE f.file_id = :file_id;

-- name: written$
UPDATE cdr_file SET state = 'written', totals = :totals::jsonb, rows = :rows, bytes = :bytes, sha256 = :sha256,
       written_at = clock_timestamp()
 WHERE file_id = :file_id AND state = 'planned' RETURNING true;

-- name: delivered$
UPDATE cdr_file SET state = 'delivered', delivered_at = clock_timestamp()
 WHERE file_id = :file_id AND state = 'written' RETURNING true;

-- name: files
-- The latest files, newest first.
SELECT f.*, r.code FROM cdr_file f JOIN cdr_recipient r USING (recipient_id)
 WHERE (:recipient_id::uuid IS NULL OR f.recipient_id = :recipient_id::uuid)
   AND (:type::text IS NULL OR f.type = :type::text) AND (:state::text IS NULL OR f.state = :state::text)
 ORDER BY f.file_id DESC LIMIT :rows;

-- name: broken_numbers
-- Files that do not go on where the one before them ended, or with another number.
SELECT w.name FROM (
    SELECT f.name, f.file_no, f.first_no, f.from_at, lag(f.file_no, 1, 0::bigint) OVER seq AS no_before,
           lag(f.last_no) OVER seq AS last_before, lag(f.to_at) OVER seq AS to_before
      FROM cdr_file f WINDOW seq AS (PARTITION BY f.recipient_id, f.type ORDER BY f.file_no)) w
 WHERE w.file_no <> w.no_before + 1 OR w.first_no <> w.last_before OR w.from_at <> w.to_before
 ORDER BY w.name;

-- name: broken_ranges
-- Files whose range of numbers is not that of their period.
SELECT w.name FROM (
    SELECT f.name, f.last_no,
           CASE WHEN f.partner_id IS NULL
                THEN (SELECT h.cdr_no FROM cdr h WHERE h.at < f.to_at ORDER BY h.at DESC, h.cdr_no DESC LIMIT 1)
                ELSE (SELECT o.record_no FROM cdr o WHERE o.partner_id = f.partner_id AND o.at < f.to_at
                       ORDER BY o.at DESC, o.record_no DESC LIMIT 1) END AS last_now
      FROM cdr_file f) w
 WHERE w.last_no <> coalesce(w.last_now, 0)
 ORDER BY w.name;

-- name: written_files
SELECT f.name, f.partner_id, f.type, f.first_no, f.last_no, f.totals FROM cdr_file f
 WHERE f.state <> 'planned' ORDER BY f.name;

-- name: partner_name$
SELECT p.name FROM partner p WHERE p.partner_id = :partner_id;
