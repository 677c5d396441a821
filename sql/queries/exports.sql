-- Extracts of records, as partners ask for them. What is another's is kept away by row-level security.

-- name: exports
SELECT e.* FROM export e WHERE e.export_id < :before
 ORDER BY e.export_id DESC LIMIT :rows;

-- name: exports_partner
SELECT e.* FROM export e WHERE e.partner_id = :partner_id AND e.export_id < :before
 ORDER BY e.export_id DESC NULLS LAST LIMIT :rows;

-- name: export^
SELECT e.* FROM export e WHERE e.export_id = :export_id;

-- name: add_export^
SELECT * FROM export_add_v1(:partner_id, :type, :format, :since, :until, :due_at, :most);

-- name: begin_export^
UPDATE export e SET state = 'running' WHERE e.export_id = :export_id AND e.state IN ('queued', 'running', 'failed') RETURNING e.*;

-- name: export_done
WITH done AS (
    UPDATE export e
       SET state = 'done', problem = '', name = :name, rows = :rows, bytes = :bytes, totals = :totals::text::jsonb, sha256 = :sha256,
           done_at = clock_timestamp(), expires_at = clock_timestamp() + make_interval(days => :keep_days)
     WHERE e.export_id = :export_id AND e.state = 'running' RETURNING e AS made
)
SELECT export_told_v1(d.made) FROM done d;

-- name: export_failed
WITH failed AS (
    UPDATE export e SET state = 'failed', problem = :problem
     WHERE e.export_id = :export_id AND e.state IN ('queued', 'running') RETURNING e AS made
)
SELECT export_told_v1(f.made) FROM failed f;

-- name: expired
-- Whose files are to be removed.
SELECT e.export_id FROM export e
 WHERE e.state = 'done' AND e.removed_at IS NULL AND e.expires_at < clock_timestamp() ORDER BY e.expires_at LIMIT :rows;

-- name: removed!
UPDATE export e SET removed_at = clock_timestamp() WHERE e.export_id = ANY (:export_ids::uuid[]) AND e.removed_at IS NULL;

-- name: recipients
-- Newest first. Where files go is for operators only: a partner may not read that column.
SELECT r.recipient_id, r.code, r.partner_id, r.types, r.format, r.period, r.time_zone, r.since_at, r.enabled, r.edition, r.created_at
  FROM cdr_recipient r WHERE r.recipient_id < :before ORDER BY r.recipient_id DESC LIMIT :rows;

-- name: recipients_partner
SELECT r.recipient_id, r.code, r.partner_id, r.types, r.format, r.period, r.time_zone, r.since_at, r.enabled, r.edition, r.created_at
  FROM cdr_recipient r WHERE r.partner_id = :partner_id AND r.recipient_id < :before
 ORDER BY r.recipient_id DESC NULLS LAST LIMIT :rows;

-- name: recipient^
SELECT r.recipient_id, r.code, r.partner_id, r.types, r.format, r.period, r.time_zone, r.since_at, r.enabled, r.edition, r.created_at
  FROM cdr_recipient r WHERE r.recipient_id = :recipient_id;

-- name: target$
SELECT r.target FROM cdr_recipient r WHERE r.recipient_id = :recipient_id;

-- name: change_recipient^
UPDATE cdr_recipient r
   SET types = coalesce(:types::text[], r.types), format = coalesce(:format, r.format), period = coalesce(:period, r.period),
       time_zone = coalesce(:time_zone, r.time_zone), target = coalesce(:target::text::jsonb, r.target),
       enabled = coalesce(:enabled, r.enabled), edition = r.edition + 1
 WHERE r.recipient_id = :recipient_id AND r.edition = :edition
RETURNING r.recipient_id, r.code, r.partner_id, r.types, r.format, r.period, r.time_zone, r.since_at, r.enabled, r.edition, r.created_at;

-- name: files
-- Newest first.
SELECT f.file_id, f.recipient_id, r.code, f.partner_id, f.type, f.file_no, f.first_no, f.last_no, f.from_at, f.to_at, f.time_zone,
       f.format, f.name, f.state, f.totals, f.rows, f.bytes, f.sha256, f.planned_at, f.written_at, f.delivered_at
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id)
 WHERE f.file_id < :before AND (:type::text IS NULL OR f.type = :type::text)
 ORDER BY f.file_id DESC LIMIT :rows;

-- name: files_of
SELECT f.file_id, f.recipient_id, r.code, f.partner_id, f.type, f.file_no, f.first_no, f.last_no, f.from_at, f.to_at, f.time_zone,
       f.format, f.name, f.state, f.totals, f.rows, f.bytes, f.sha256, f.planned_at, f.written_at, f.delivered_at
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id)
 WHERE f.recipient_id = :recipient_id AND f.file_id < :before AND (:type::text IS NULL OR f.type = :type::text)
 ORDER BY f.file_id DESC NULLS LAST LIMIT :rows;

-- name: files_partner
SELECT f.file_id, f.recipient_id, r.code, f.partner_id, f.type, f.file_no, f.first_no, f.last_no, f.from_at, f.to_at, f.time_zone,
       f.format, f.name, f.state, f.totals, f.rows, f.bytes, f.sha256, f.planned_at, f.written_at, f.delivered_at
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id)
 WHERE f.partner_id = :partner_id AND f.file_id < :before AND (:type::text IS NULL OR f.type = :type::text)
 ORDER BY f.file_id DESC NULLS LAST LIMIT :rows;

-- name: file^
SELECT f.file_id, f.recipient_id, r.code, f.partner_id, f.type, f.file_no, f.first_no, f.last_no, f.from_at, f.to_at, f.time_zone,
       f.format, f.name, f.state, f.totals, f.rows, f.bytes, f.sha256, f.planned_at, f.written_at, f.delivered_at
  FROM cdr_file f JOIN cdr_recipient r USING (recipient_id) WHERE f.file_id = :file_id;
