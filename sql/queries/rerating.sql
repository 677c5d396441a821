-- Re-rating: calls priced again on other decks. The view call_priced says what stands; rerate_book_v1 in schema.sql books.

-- name: recorded
-- Answered calls as they stand, by what they are selected by; NULL selects by anything. The period is that of admission.
SELECT call_id, account_id, a_number, b_number, admitted_at, answered_at, talk_ms, covered_s, revision, transfer_id,
       sell, billed_s, amount_micro, buy, buy_billed_s, cost_micro
  FROM call_priced
 WHERE call_id >= coalesce(uuid_floor_v1(:since::timestamptz), '00000000-0000-0000-0000-000000000000')
   AND call_id < coalesce(uuid_floor_v1(:until::timestamptz), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   AND (:call_ids::uuid[] IS NULL OR call_id = ANY (:call_ids::uuid[]))
   AND (:trunk_ids::uuid[] IS NULL OR trunk_id = ANY (:trunk_ids::uuid[]))
   AND (:deck_id::text IS NULL OR sell ->> 'deck_id' = :deck_id::text OR buy ->> 'deck_id' = :deck_id::text);

-- name: how_many$
-- Calls admitted in a period and charged: as many as can be selected at most.
SELECT count(*) FROM charge
 WHERE call_id >= coalesce(uuid_floor_v1(:since::timestamptz), '00000000-0000-0000-0000-000000000000')
   AND call_id < coalesce(uuid_floor_v1(:until::timestamptz), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   AND (:call_ids::uuid[] IS NULL OR call_id = ANY (:call_ids::uuid[]));

-- name: still_live
-- Calls that would be selected, too, and have not ended.
SELECT c.call_id FROM lease JOIN call c USING (call_id) LEFT JOIN trunk t USING (trunk_id)
 WHERE c.state = 'live'
   AND c.call_id >= coalesce(uuid_floor_v1(:since::timestamptz), '00000000-0000-0000-0000-000000000000')
   AND c.call_id < coalesce(uuid_floor_v1(:until::timestamptz), 'ffffffff-ffff-ffff-ffff-ffffffffffff')
   AND (:call_ids::uuid[] IS NULL OR c.call_id = ANY (:call_ids::uuid[]))
   AND (:trunk_ids::uuid[] IS NULL OR t.trunk_id = ANY (:trunk_ids::uuid[]))
   AND (:deck_id::text IS NULL OR c.sell ->> 'deck_id' = :deck_id::text OR t.deck_id::text = :deck_id::text);

-- name: unknown$
-- A call that was named and does not exist.
SELECT n.call_id FROM unnest(:call_ids::uuid[]) AS n (call_id) LEFT JOIN call c USING (call_id) WHERE c.call_id IS NULL
 ORDER BY n.call_id LIMIT 1;

-- name: not_charged
-- Calls that were named, have ended, and cost nobody anything.
SELECT c.call_id FROM call c LEFT JOIN charge h USING (call_id)
 WHERE c.call_id = ANY (:call_ids::uuid[]) AND c.state <> 'live' AND h.call_id IS NULL;

-- name: edges^
-- Between which instants the rates of a deck and of its bands, in any version, are those of :at. NULL: without end.
SELECT max(e.edge) FILTER (WHERE e.edge <= :at::timestamptz) AS since, min(e.edge) FILTER (WHERE e.edge > :at::timestamptz) AS until
  FROM (SELECT r.deck_id, r.valid FROM rate r UNION ALL SELECT p.deck_id, p.valid FROM rate_past p) v
 CROSS JOIN LATERAL (VALUES (lower(v.valid)), (upper(v.valid))) AS e (edge)
 WHERE v.deck_id = :deck_id::uuid OR v.deck_id IN (SELECT b.band_deck_id FROM deck_band b WHERE b.deck_id = :deck_id::uuid);

-- name: taken_back
-- Bookings that somebody has reversed, or refunded a part of. What re-rating itself reverses does not count.
SELECT t.reverses FROM transfer t
 WHERE t.kind IN ('reversal', 'refund') AND NOT EXISTS (SELECT 1 FROM rerating r WHERE r.reversal_id = t.transfer_id)
   AND NOT EXISTS (SELECT 1 FROM transfer u WHERE u.kind = 'reversal' AND u.reverses = t.transfer_id);

-- name: closed_accounts
SELECT account_id FROM account WHERE state = 'closed' AND kind = 'subscriber';

-- name: trunks_of
-- The trunks of a carrier, by the carrier's name or a trunk's.
SELECT t.trunk_id FROM trunk t JOIN account a USING (account_id) WHERE :carrier IN (a.name, t.name);

-- name: carriers$
SELECT string_agg(DISTINCT a.name, ', ' ORDER BY a.name) FROM trunk JOIN account a USING (account_id);

-- name: plan_each_time!
-- What is selected by differs from one preview to the next, and how much there is of a run from one run to the next. A plan
-- kept from when there was little would take minutes where there is much.
SET LOCAL plan_cache_mode = 'force_custom_plan';

-- name: add_run$
INSERT INTO rerate_run (criteria, author, reason, totals) VALUES (:criteria, :author, :reason, '{}') RETURNING run_id;

-- name: set_totals!
UPDATE rerate_run SET totals = :totals WHERE run_id = :run_id;

-- name: run^
SELECT run_id, criteria, author, reason, state, into_open, totals, created_at, closed_at FROM rerate_run WHERE run_id = :run_id;

-- name: runs
SELECT run_id, criteria, author, reason, state, into_open, totals, created_at, closed_at FROM rerate_run ORDER BY run_id DESC LIMIT :page;

-- name: lock_run$
SELECT state FROM rerate_run WHERE run_id = :run_id FOR NO KEY UPDATE;

-- name: closed_calls^
-- Calls still to be booked whose end lies in a closed period.
SELECT count(*) AS calls, max(p.closed_until) AS closed_until, (array_agg(i.call_id ORDER BY i.call_id))[1 : :page::integer] AS call_ids
  FROM (SELECT max(closed_until) AS closed_until FROM period) p
  JOIN rerate_run n ON n.run_id = :run_id
  JOIN rerate_item i ON i.run_id = n.run_id AND i.call_id > n.booked_to AND i.skipped IS NULL
  JOIN call c ON c.call_id = i.call_id AND c.ended_at < p.closed_until;

-- name: start!
UPDATE rerate_run SET state = 'running', into_open = into_open OR :into_open WHERE run_id = :run_id;

-- name: book^
SELECT * FROM rerate_book_v1(:run_id, :calls_max);

-- name: cancel!
UPDATE rerate_run SET state = 'cancelled', closed_at = clock_timestamp() WHERE run_id = :run_id;

-- name: progress^
-- How far a run is: calls booked by it, left out, and still to be booked.
SELECT count(r.call_id) AS booked, count(*) FILTER (WHERE i.skipped IS NOT NULL) AS skipped,
       count(*) FILTER (WHERE i.skipped IS NULL AND r.call_id IS NULL) AS waiting
  FROM rerate_item i LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision AND r.run_id = i.run_id
 WHERE i.run_id = :run_id;

-- name: booked
-- What a run has moved so far. Positive: accounts of that kind have gained.
SELECT a.kind, e.currency, sum(e.amount_micro)::bigint AS amount_micro
  FROM rerate_item i JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision AND r.run_id = i.run_id
 CROSS JOIN LATERAL (VALUES (r.reversal_id), (r.rebooking_id)) AS v (transfer_id)
  JOIN entry e ON e.transfer_id = v.transfer_id JOIN account a ON a.account_id = e.account_id
 WHERE i.run_id = :run_id AND a.kind <> 'system' GROUP BY a.kind, e.currency HAVING sum(e.amount_micro) <> 0
 ORDER BY a.kind, e.currency;

-- name: skips
-- Calls that were left out, at most so many ids a reason.
SELECT x.skipped, count(*) AS calls, (array_agg(x.call_id ORDER BY x.call_id))[1 : :page::integer] AS call_ids
  FROM rerate_item x WHERE x.run_id = :run_id AND x.skipped IS NOT NULL GROUP BY x.skipped ORDER BY x.skipped;

-- name: changes
-- The first calls of a run that change, with what has become of them.
SELECT i.call_id, i.revision, t.destination, i.billed_before_s, i.billed_s, i.amount_before_micro, i.amount_micro, i.cost_before_micro,
       i.cost_micro, i.differs, h.currency, r.call_id IS NOT NULL AS booked, r.written_off_micro
  FROM rerate_item i JOIN charge h USING (call_id) JOIN call c USING (call_id)
 CROSS JOIN LATERAL (SELECT c.sell ->> 'destination' AS destination) t
  LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision AND r.run_id = i.run_id
 WHERE i.run_id = :run_id AND i.skipped IS NULL ORDER BY i.call_id LIMIT :page;

-- name: audit_reratings
-- Every revision with what it was priced from, to be computed again.
SELECT r.call_id, r.revision, r.sell, r.buy, c.talk_ms, c.answered_at, p.covered_s, r.amount_micro, r.billed_s, r.cost_micro, r.buy_billed_s
  FROM rerating r LEFT JOIN call c USING (call_id) LEFT JOIN call_priced p USING (call_id);

-- name: audit_rerate_booking
-- Re-rated calls whose bookings in all (that of the call, reversals, rebookings) are not what the latest revision says, and
-- rebookings that belong to no revision.
WITH latest AS (
    SELECT call_id, max(revision) AS revision FROM rerating GROUP BY call_id
), booking AS (
    SELECT l.call_id, l.call_id AS transfer_id FROM latest l
    UNION ALL
    SELECT r.call_id, v.transfer_id FROM rerating r CROSS JOIN LATERAL (VALUES (r.reversal_id), (r.rebooking_id)) AS v (transfer_id)
     WHERE v.transfer_id IS NOT NULL
), booked AS (
    SELECT b.call_id, -coalesce(sum(e.amount_micro) FILTER (WHERE a.kind NOT IN ('carrier', 'system')), 0) AS paid_micro,
           coalesce(sum(e.amount_micro) FILTER (WHERE a.kind = 'carrier'), 0) AS cost_micro
      FROM booking b LEFT JOIN entry e USING (transfer_id) LEFT JOIN account a USING (account_id) GROUP BY b.call_id
)
SELECT b.call_id, r.amount_micro - r.written_off_micro AS paid_micro, b.paid_micro AS booked_micro, r.cost_micro,
       b.cost_micro AS cost_booked_micro
  FROM booked b JOIN latest l USING (call_id) JOIN rerating r ON r.call_id = l.call_id AND r.revision = l.revision
 WHERE b.paid_micro <> r.amount_micro - r.written_off_micro OR b.cost_micro <> r.cost_micro
UNION ALL
SELECT t.transfer_id, NULL, NULL, NULL, NULL FROM transfer t
 WHERE t.kind = 'rebooking' AND NOT EXISTS (SELECT 1 FROM rerating r WHERE r.rebooking_id = t.transfer_id);

-- name: import_in_force$
-- When all that an import adds is in force.
SELECT greatest(i.effective_at, max(lower(r.valid)), now()) FROM deck_import i
  LEFT JOIN deck_import_row r ON r.import_id = i.import_id AND r.adds WHERE i.import_id = :import_id GROUP BY i.import_id;

-- name: side_of$
SELECT side FROM deck WHERE deck_id = :deck_id;
