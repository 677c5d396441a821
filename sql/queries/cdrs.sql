-- Calls and their records as the API tells them. Partners run these, too: none asks for what is not theirs.

-- name: page^
-- A page of call records: see cdr_page_v1.
SELECT p.lines, p.reach
  FROM cdr_page_v1(:partner_id, :account_id, :before, :since, :rows, :state, :subscriber_id, :a_number, :b_prefix, :min_talk_ms) AS p;

-- name: live
-- A page of calls in progress: see live_page_v1.
SELECT * FROM live_page_v1(:partner_id, :before, :rows);

-- name: call^
-- One call, and how far it is while it lasts.
SELECT c.call_id, c.sip_call_id, c.a_number, c.b_number, c.dialled, c.state, c.sell, c.talk_ms, c.admitted_at, c.answered_at, c.ended_at,
       c.bundled, l.attempt_no AS live_attempt_no, l.answered_at AS live_answered_at, l.pdd_ms AS live_pdd_ms, l.limit_ms
  FROM call c LEFT JOIN lease l USING (call_id) WHERE c.call_id = :call_id;

-- name: switch_side^
-- What only operators are told of a call.
SELECT w.name AS switch, c.uniqueid, c.ended_by, c.routes FROM call c LEFT JOIN switch w USING (switch_id) WHERE c.call_id = :call_id;

-- name: attempts_own
-- For a partner: carriers are not named, but for its own trunks.
SELECT x.attempt_no, x.outcome, x.fault, x.sip_code, x.q850_cause, x.pdd_ms, x.ended_at, t.trunk_id, t.trunk
  FROM attempt x LEFT JOIN call_own_trunks_v1(:call_id) t USING (attempt_no) WHERE x.call_id = :call_id ORDER BY x.attempt_no;

-- name: trunk_in^
-- Nobody's trunk is named to somebody else.
SELECT * FROM call_trunk_in_v1(:call_id);

-- name: bundles_own
SELECT * FROM call_bundles_v1(:call_id);

-- name: entries
-- What was booked for a call, its later prices included.
SELECT e.transfer_id, e.entry_no, e.account_id, a.name AS account, e.amount_micro, e.currency
  FROM entry e JOIN account a USING (account_id)
 WHERE e.transfer_id IN (SELECT :call_id::uuid UNION ALL SELECT r.reversal_id FROM rerating r WHERE r.call_id = :call_id
                          UNION ALL SELECT r.rebooking_id FROM rerating r WHERE r.call_id = :call_id)
 ORDER BY e.transfer_id, e.entry_no;

-- name: candidates_own
SELECT * FROM call_candidates_v1(:call_id);

-- name: revisions_own
SELECT r.revision, r.billed_s, r.amount_micro, r.written_off_micro, r.sell, d.created_at
  FROM rerating r JOIN call_revised_v1(:call_id) d USING (revision) WHERE r.call_id = :call_id ORDER BY r.revision;

-- name: visible_account^
SELECT a.account_id, a.partner_id FROM account a WHERE a.account_id = :account_id;

-- name: visible_subscriber^
SELECT s.account_id FROM subscriber s WHERE s.subscriber_id = :subscriber_id;

-- name: visible_partner^
SELECT p.partner_id FROM partner p WHERE p.partner_id = :partner_id;

-- name: usage
-- Messages and data: see usage_page_v1.
SELECT * FROM usage_page_v1(:partner_id, :before, :since, :rows);

-- name: billed
-- Which of these calls and usages are in a statement that was approved, with all their records: a later price may not be.
SELECT k.call_id FROM cdr k WHERE k.call_id = ANY(:ids::uuid []) AND k.leg <> 'termination'
 GROUP BY k.call_id
HAVING bool_and(EXISTS (SELECT FROM statement s WHERE s.partner_id = k.partner_id AND s.state <> 'draft' AND k.at >= s.from_at
                           AND k.at < s.to_at));
