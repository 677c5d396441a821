-- Why a call has its price: what the decks said at that time.

-- name: explained^
-- A call with what is frozen of its price.
SELECT c.call_id, c.a_number, c.dialled, c.b_number, c.sell, c.talk_ms, c.admitted_at, c.answered_at, c.state, c.bundled,
       h.amount_micro, h.written_off_micro, h.billed_s, h.covered_s, h.currency
  FROM call c LEFT JOIN charge h USING (call_id) WHERE c.call_id = :call_id;

-- name: deck^
SELECT name, version, side, currency FROM deck WHERE deck_id = :deck_id;

-- name: candidates
-- Every rate there is or was in a deck for a number's prefixes, the longest first.
SELECT r.prefix, r.origin_set, r.destination, r.rate_micro, r.blocked, lower(r.valid) AS from_at, upper(r.valid) AS until_at,
       r.added_in, NULL::integer AS removed_in
  FROM rate r WHERE r.deck_id = :deck_id AND r.prefix = ANY (:prefixes::text[])
 UNION ALL
SELECT p.prefix, p.origin_set, p.destination, p.rate_micro, p.blocked, lower(p.valid), upper(p.valid), p.added_in, p.removed_in
  FROM rate_past p WHERE p.deck_id = :deck_id AND p.prefix = ANY (:prefixes::text[])
 ORDER BY prefix DESC, origin_set ASC, from_at ASC NULLS FIRST, added_in ASC;

-- name: units
-- The units a call held and burnt, in the order in which they paid.
SELECT b.name, n.per, n.held_units, n.used_units FROM burn n JOIN allowance USING (allowance_id) JOIN bundle b USING (bundle_id)
 WHERE n.source_id = :call_id ORDER BY n.burn_no;

-- name: revisions
-- What became of a call's price afterwards, and why.
SELECT r.revision, r.billed_s, r.amount_micro, r.written_off_micro, r.cost_micro, r.sell, u.author, u.reason, u.created_at
  FROM rerating r JOIN rerate_run u USING (run_id) WHERE r.call_id = :call_id ORDER BY r.revision;

-- name: attempts
SELECT x.attempt_no, t.name AS trunk, x.outcome, x.buy, x.billed_s, x.cost_micro, x.currency
  FROM attempt x JOIN trunk t USING (trunk_id) WHERE x.call_id = :call_id ORDER BY x.attempt_no;
