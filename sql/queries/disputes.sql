-- Disputes. What is another partner's is kept away by row-level security.

-- name: disputes
SELECT d.dispute_id, d.account_id, d.partner_id, d.opened_by, d.kind, d.title, d.claimed_micro, d.currency::text AS currency,
       d.statement_id, d.state, d.deadline, d.agreed_micro, d.transfer_id, d.decided_at, d.edition, d.opened_at
  FROM dispute d
 WHERE d.dispute_id < :before AND (:partner_id::uuid IS NULL OR d.partner_id = :partner_id) AND (:state::text IS NULL OR d.state = :state)
   AND (:overdue_at::timestamptz IS NULL OR (d.decided_at IS NULL AND d.deadline < :overdue_at))
 ORDER BY d.dispute_id DESC NULLS LAST LIMIT :rows;

-- name: dispute^
SELECT d.dispute_id, d.account_id, d.partner_id, d.opened_by, d.kind, d.title, d.claimed_micro, d.currency::text AS currency,
       d.statement_id, d.state, d.deadline, d.agreed_micro, d.transfer_id, d.decided_at, d.edition, d.opened_at
  FROM dispute d WHERE d.dispute_id = :dispute_id;

-- name: lock^
SELECT d.dispute_id, d.account_id, d.partner_id, d.opened_by, d.title, d.claimed_micro, d.state, d.edition
  FROM dispute d WHERE d.dispute_id = :dispute_id FOR NO KEY UPDATE;

-- name: ours
-- As operators see them: with whom, from which run. Overdue ones first, then by deadline.
SELECT d.*, a.name AS counterparty, p.name AS partner, (SELECT count(*) FROM dispute_row r WHERE r.dispute_id = d.dispute_id) AS calls
  FROM dispute d JOIN account a USING (account_id) LEFT JOIN partner p ON p.partner_id = d.partner_id
 WHERE (:dispute_id::uuid IS NULL OR d.dispute_id = :dispute_id)
   AND (:state::text IS NULL OR d.state = :state)
   AND (:overdue_at::timestamptz IS NULL OR (d.decided_at IS NULL AND d.deadline < :overdue_at))
 ORDER BY d.decided_at DESC NULLS FIRST, d.deadline ASC, d.dispute_id ASC LIMIT :rows;

-- name: statement$
-- Whether the statement is there, and of that account's partner. What is another's is not there for whoever asks as a partner.
SELECT EXISTS (SELECT FROM statement s JOIN partner p USING (partner_id)
                WHERE s.statement_id = :statement_id AND p.account_id = :account_id);

-- name: add$
INSERT INTO dispute (account_id, partner_id, opened_by, kind, title, claimed_micro, currency, statement_id, run_id, class, deadline,
                     author)
VALUES (:account_id, :partner_id, :opened_by, :kind, :title, :claimed_micro, :currency, :statement_id, :run_id, :class_name, :deadline,
        :author)
RETURNING dispute_id;

-- name: add_rows_of_run$
-- The calls of a class (NULL: any), or some rows and records of it. Returns how many.
WITH added AS (
    INSERT INTO dispute_row (dispute_id, item_no, cdr_no, row_no)
    SELECT :dispute_id, row_number() OVER (ORDER BY m.row_no, m.cdr_no), m.cdr_no, m.row_no FROM recon_match m
     WHERE m.run_id = :run_id AND m.class <> 'matched' AND (:class_name::text IS NULL OR m.class = :class_name)
       AND (:row_nos::integer [] IS NULL OR m.row_no = ANY (:row_nos))
    RETURNING item_no
)
SELECT count(*) FROM added;

-- name: sums_of_run
-- What ours and theirs say of the same calls.
SELECT m.class, count(*) AS calls, coalesce(sum(m.our_micro), 0)::bigint AS our_micro,
       coalesce(sum(m.their_micro), 0)::bigint AS their_micro
  FROM recon_match m
 WHERE m.run_id = :run_id AND m.class <> 'matched' AND (:class_name::text IS NULL OR m.class = :class_name)
   AND (:row_nos::integer [] IS NULL OR m.row_no = ANY (:row_nos))
 GROUP BY m.class;

-- name: add_records$
-- A partner's own records. Returns how many of these there are.
WITH added AS (
    INSERT INTO dispute_row (dispute_id, item_no, cdr_no)
    SELECT :dispute_id, row_number() OVER (ORDER BY k.cdr_no), k.cdr_no FROM cdr k
     WHERE k.partner_id = :partner_id AND k.record_no = ANY (:records::bigint [])
    RETURNING item_no
)
SELECT count(*) FROM added;

-- name: add_note^
INSERT INTO dispute_note (dispute_id, partner_id, side, author, text, state)
VALUES (:dispute_id, :partner_id, :side, :author, :text, :state)
RETURNING note_id, side, text, state, at;

-- name: notes
SELECT n.note_id, n.side, n.text, n.state, n.at FROM dispute_note n
 WHERE n.dispute_id = :dispute_id AND n.note_id < :before ORDER BY n.note_id DESC NULLS LAST LIMIT :rows;

-- name: add_evidence^
INSERT INTO dispute_evidence (dispute_id, partner_id, side, name, media_type, sha256, bytes, content, author)
VALUES (:dispute_id, :partner_id, :side, :name, :media_type, :sha256, :bytes, :content, :author)
RETURNING evidence_id, side, name, media_type, sha256, bytes, added_at;

-- name: evidence_count$
SELECT count(*) FROM dispute_evidence e WHERE e.dispute_id = :dispute_id;

-- name: evidence
SELECT e.evidence_id, e.side, e.name, e.media_type, e.sha256, e.bytes, e.added_at FROM dispute_evidence e
 WHERE e.dispute_id = :dispute_id AND e.evidence_id < :before ORDER BY e.evidence_id DESC NULLS LAST LIMIT :rows;

-- name: evidence_file^
SELECT e.name, e.sha256, e.content FROM dispute_evidence e WHERE e.dispute_id = :dispute_id AND e.evidence_id = :evidence_id;

-- name: change^
UPDATE dispute d
   SET state = coalesce(:state, d.state), deadline = coalesce(:deadline, d.deadline), agreed_micro = :agreed_micro,
       transfer_id = :transfer_id, decided_at = CASE WHEN :decided::boolean THEN clock_timestamp() END, edition = d.edition + 1
 WHERE d.dispute_id = :dispute_id
RETURNING d.dispute_id, d.account_id, d.partner_id, d.opened_by, d.kind, d.title, d.claimed_micro, d.currency::text AS currency,
          d.statement_id, d.state, d.deadline, d.agreed_micro, d.transfer_id, d.decided_at, d.edition, d.opened_at;

-- name: outcomes
-- What was agreed on in a period, in the order it was decided. amount_micro: positive is what the counterparty gets.
SELECT d.dispute_id, d.kind, d.title, d.decided_at, d.transfer_id, d.currency::text AS currency,
       CASE d.opened_by WHEN 'them' THEN d.agreed_micro ELSE -d.agreed_micro END AS amount_micro
  FROM dispute d
 WHERE d.account_id = :account_id AND d.decided_at >= :from_at AND d.decided_at < :to_at AND d.agreed_micro > 0
 ORDER BY d.decided_at, d.dispute_id;
