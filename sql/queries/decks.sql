-- Rate decks: staged, compared, applied, rolled back, told.

-- name: all_decks
SELECT d.deck_id, d.name, d.side, d.currency, d.version, d.changed_at, d.terms,
       (SELECT count(*) FROM rate r WHERE r.deck_id = d.deck_id AND r.valid @> :at::timestamptz) AS rates
  FROM deck d ORDER BY d.name;

-- name: head^
SELECT deck_id, name, side, currency, version, terms, notice_days FROM deck WHERE deck_id = deck_named_v1(:name);

-- name: create_deck$
INSERT INTO deck (name, side, currency) VALUES (:name, :side, :currency) ON CONFLICT DO NOTHING RETURNING deck_id;

-- name: set_terms!
UPDATE deck SET terms = :terms::jsonb, changed_at = clock_timestamp() WHERE deck_id = :deck_id;

-- name: bands_of
SELECT b.name, b.days, b.from_minute, b.to_minute, d.name AS deck
  FROM deck_band b JOIN deck d ON d.deck_id = b.band_deck_id WHERE b.deck_id = :deck_id ORDER BY b.position;

-- name: lock_head!
SELECT FROM deck WHERE deck_id = :deck_id FOR NO KEY UPDATE;

-- name: clear_bands!
DELETE FROM deck_band WHERE deck_id = :deck_id;

-- name: add_band!
INSERT INTO deck_band (deck_id, position, name, days, from_minute, to_minute, band_deck_id, currency)
VALUES (:deck_id, :position, :name, :days::smallint[], :from_minute, :to_minute, :band_deck_id, :currency);

-- name: origin_sets
SELECT name, array_agg(prefix ORDER BY prefix) AS prefixes FROM origin_set GROUP BY name ORDER BY name;

-- name: set_origin_set!
-- The set has exactly these prefixes from now on.
WITH gone AS (DELETE FROM origin_set WHERE name = :name AND prefix <> ALL (:prefixes::text []))
INSERT INTO origin_set (name, prefix) SELECT :name, prefix FROM unnest(:prefixes::text []) AS given (prefix)
ON CONFLICT DO NOTHING;

-- name: make_room!
-- For this transaction: a whole deck is hashed several times.
SET LOCAL work_mem = '128MB';

-- name: make_staged_rows!
-- The file, for as long as it is being compared: its rows, …
CREATE TEMPORARY TABLE deck_row (row_no integer, prefix text, price_no integer) ON COMMIT DROP;

-- name: make_staged_prices!
-- … what they say beside the prefix, each once (or a few times), …
CREATE TEMPORARY TABLE deck_price (
    price_no integer, origin_set text, destination text, rate_micro bigint, connect_fee_micro bigint, initial_s integer,
    next_s integer, minimum_s integer, grace_s integer, tiers jsonb, blocked boolean, deleted boolean, valid tstzrange
) ON COMMIT DROP;

-- name: make_staged!
-- … and both.
CREATE TEMPORARY VIEW deck_staged AS
SELECT r.row_no, r.prefix, p.origin_set, p.destination, p.rate_micro, p.connect_fee_micro, p.initial_s, p.next_s,
       p.minimum_s, p.grace_s, p.tiers, p.blocked, p.deleted, p.valid
  FROM deck_row r JOIN deck_price p USING (price_no);

-- name: measure_staged!
-- Without it the planner takes a deck for a thousand rows.
ANALYZE deck_row, deck_price;

-- name: make_repeated!
-- Prefixes that stand in more than one row.
CREATE TEMPORARY TABLE deck_repeated ON COMMIT DROP AS
SELECT prefix, origin_set, count(*) AS times FROM deck_staged
 WHERE prefix IN (SELECT prefix FROM deck_row GROUP BY prefix HAVING count(*) > 1)
 GROUP BY prefix, origin_set HAVING count(*) > 1;

-- name: overlaps
-- Rows of the file that hold for one prefix at the same time.
SELECT row_no, other_no, prefix, same FROM (
    SELECT s.row_no, s.prefix, lag(s.row_no) OVER w AS other_no, lag(s.valid) OVER w && s.valid AS overlap,
           lag(s.valid) OVER w = s.valid AS same
      FROM deck_staged s JOIN deck_repeated USING (prefix, origin_set)
    WINDOW w AS (PARTITION BY s.prefix, s.origin_set ORDER BY s.valid, s.row_no)
) AS neighbours
 WHERE overlap ORDER BY row_no, prefix;

-- name: repeated_rows$
SELECT coalesce(sum(times - 1), 0)::bigint FROM deck_repeated;

-- name: first_instant$
SELECT least(min(lower(valid)), :effective_at::timestamptz) FROM deck_price;

-- name: is_empty$
SELECT NOT EXISTS (SELECT FROM rate WHERE deck_id = :deck_id);

-- name: all_is_unmatched!
-- Compared with nothing, each row is new.
CREATE TEMPORARY VIEW deck_unmatched AS SELECT * FROM deck_staged;

-- name: make_unmatched!
CREATE TEMPORARY TABLE deck_unmatched (LIKE deck_staged) ON COMMIT DROP;

-- name: match!
-- Rows of the file which the deck does not have yet; and, for a file that replaces, rates of the deck that the file does
-- not have (row_no is NULL). What holds from a file's row on must be the same price, all the time; where a file replaces,
-- it must end with the row, too.
INSERT INTO deck_unmatched
SELECT s.row_no, coalesce(s.prefix, e.prefix), coalesce(s.origin_set, e.origin_set), s.destination, s.rate_micro,
       s.connect_fee_micro, s.initial_s, s.next_s, s.minimum_s, s.grace_s, s.tiers, s.blocked, s.deleted, s.valid
  FROM deck_staged s
  FULL JOIN (SELECT * FROM rate WHERE deck_id = :deck_id AND valid && tstzrange(:since::timestamptz, NULL)) e
    ON e.prefix = s.prefix AND e.origin_set = s.origin_set AND e.destination = s.destination
   AND e.rate_micro = s.rate_micro AND e.connect_fee_micro = s.connect_fee_micro AND e.initial_s = s.initial_s
   AND e.next_s = s.next_s AND e.minimum_s = s.minimum_s AND e.grace_s = s.grace_s AND e.blocked = s.blocked
   AND e.tiers IS NOT DISTINCT FROM s.tiers AND NOT s.deleted AND e.valid @> s.valid
   AND (:adding::boolean OR upper(e.valid) IS NOT DISTINCT FROM upper(s.valid))
 WHERE (s.row_no IS NULL AND NOT :adding::boolean) OR e.rate_id IS NULL;

-- name: measure_unmatched!
ANALYZE deck_unmatched (prefix, origin_set);

-- name: make_touched!
-- Prefixes whose times have to be laid over each other.
CREATE TEMPORARY TABLE deck_touched (prefix text, origin_set text, PRIMARY KEY (prefix, origin_set)) ON COMMIT DROP;

-- name: touch!
INSERT INTO deck_touched
SELECT DISTINCT u.prefix, u.origin_set FROM deck_unmatched u
 WHERE u.row_no IS NULL OR u.deleted
    OR EXISTS (SELECT FROM rate e WHERE e.deck_id = :deck_id AND e.prefix = u.prefix AND e.origin_set = u.origin_set)
    OR EXISTS (SELECT FROM deck_repeated r WHERE r.prefix = u.prefix AND r.origin_set = u.origin_set);

-- name: measure_touched!
ANALYZE deck_touched;

-- name: stage_new!
-- Prefixes that the deck has never had.
INSERT INTO deck_import_row (import_id, adds, kind, since, row_no, prefix, origin_set, destination, rate_micro,
                             connect_fee_micro, initial_s, next_s, minimum_s, grace_s, tiers, blocked, valid)
SELECT :import_id, true, 'new', lower(u.valid), u.row_no, u.prefix, u.origin_set, u.destination, u.rate_micro,
       u.connect_fee_micro, u.initial_s, u.next_s, u.minimum_s, u.grace_s, u.tiers, u.blocked, u.valid
  FROM deck_unmatched u
 WHERE NOT EXISTS (SELECT FROM deck_touched t WHERE t.prefix = u.prefix AND t.origin_set = u.origin_set);

-- name: make_timeline!
-- A touched prefix before and after the import.
CREATE TEMPORARY TABLE deck_timeline (
    prefix text, origin_set text, afterwards boolean, valid tstzrange, rate_id uuid, row_no integer, price rate_price
) ON COMMIT DROP;

-- name: lay_over!
-- The file over the deck: a file that adds is right where it says something. One that replaces is right from its first
-- row of a prefix on, or, for a prefix that it lacks, from the effective date on; until then all stays as it was.
-- Neighbours of one price become one.
INSERT INTO deck_timeline
WITH file AS (
    SELECT prefix, origin_set, row_no, deleted, valid,
           (destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, grace_s, tiers, blocked)::rate_price
               AS price
      FROM deck_staged JOIN deck_touched USING (prefix, origin_set)
), deck_before AS (
    SELECT prefix, origin_set, rate_id, valid,
           (destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, grace_s, tiers, blocked)::rate_price
               AS price
      FROM rate JOIN deck_touched USING (prefix, origin_set) WHERE deck_id = :deck_id
), covering AS (
    SELECT t.prefix, t.origin_set, CASE WHEN :adding::boolean THEN range_agg(f.valid)
           ELSE tstzmultirange(tstzrange(coalesce(min(lower(f.valid)), :effective_at::timestamptz), NULL)) END AS covered
      FROM deck_touched t LEFT JOIN file f USING (prefix, origin_set) GROUP BY t.prefix, t.origin_set
), piece AS (
    SELECT b.prefix, b.origin_set, kept.valid, b.rate_id, NULL::integer AS row_no, b.price
      FROM deck_before b JOIN covering c USING (prefix, origin_set),
           unnest(tstzmultirange(b.valid) - c.covered) AS kept (valid)
     UNION ALL
    SELECT prefix, origin_set, valid, NULL, row_no, price FROM file WHERE NOT deleted
), edged AS (
    SELECT *, coalesce(price IS DISTINCT FROM lag(price) OVER w OR NOT lag(valid) OVER w -|- valid, true) AS begins
      FROM piece
    WINDOW w AS (PARTITION BY prefix, origin_set ORDER BY valid)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER (PARTITION BY prefix, origin_set ORDER BY valid) AS run FROM edged
)
SELECT prefix, origin_set, true, range_merge(range_agg(valid)),
       (array_agg(rate_id ORDER BY valid) FILTER (WHERE rate_id IS NOT NULL))[1], min(row_no), (array_agg(price))[1]
  FROM numbered GROUP BY prefix, origin_set, run
 UNION ALL
SELECT prefix, origin_set, false, valid, rate_id, NULL, price FROM deck_before;

-- name: measure_timeline!
ANALYZE deck_timeline (prefix, origin_set);

-- name: make_difference!
-- From when on a touched prefix is different, and how. A prefix that never is stays as it stands.
CREATE TEMPORARY TABLE deck_difference ON COMMIT DROP AS
SELECT DISTINCT ON (e.prefix, e.origin_set) e.prefix, e.origin_set, e.since, b.price AS price_before,
       a.price AS price_after
  FROM (SELECT DISTINCT t.prefix, t.origin_set, bound.since
          FROM deck_timeline t, LATERAL (VALUES (lower(t.valid)), (upper(t.valid))) AS bound (since)
         WHERE bound.since IS NOT NULL) e
  LEFT JOIN deck_timeline b
    ON b.prefix = e.prefix AND b.origin_set = e.origin_set AND NOT b.afterwards AND b.valid @> e.since
  LEFT JOIN deck_timeline a
    ON a.prefix = e.prefix AND a.origin_set = e.origin_set AND a.afterwards AND a.valid @> e.since
 WHERE a.price IS DISTINCT FROM b.price
 ORDER BY e.prefix, e.origin_set, e.since;

-- name: stage_changes!
INSERT INTO deck_import_row (import_id, adds, kind, since, before, row_no, rate_id, prefix, origin_set, destination,
                             rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, grace_s, tiers, blocked, valid)
SELECT :import_id, t.afterwards, told.kind, CASE WHEN told.kind IS NOT NULL THEN d.since END,
       CASE WHEN told.kind IS NOT NULL AND (d.price_before).rate_micro IS NOT NULL THEN to_jsonb(d.price_before) END,
       t.row_no, t.rate_id, t.prefix, t.origin_set, (t.price).destination, (t.price).rate_micro,
       (t.price).connect_fee_micro, (t.price).initial_s, (t.price).next_s, (t.price).minimum_s, (t.price).grace_s,
       (t.price).tiers, (t.price).blocked, t.valid
  FROM deck_timeline t JOIN deck_difference d USING (prefix, origin_set)
 CROSS JOIN LATERAL (
        SELECT CASE
            WHEN NOT t.valid @> d.since OR (NOT t.afterwards AND (d.price_after).rate_micro IS NOT NULL) THEN NULL
            WHEN (d.price_after).rate_micro IS NULL THEN 'deleted'
            WHEN coalesce((d.price_before).blocked, true) AND NOT (d.price_after).blocked THEN 'new'
            WHEN (d.price_after).blocked AND NOT coalesce((d.price_before).blocked, false) THEN 'blocked'
            WHEN (d.price_after).rate_micro > (d.price_before).rate_micro THEN 'increase'
            WHEN (d.price_after).rate_micro < (d.price_before).rate_micro THEN 'decrease'
            ELSE 'changed' END AS kind) told
 WHERE NOT EXISTS (
        SELECT FROM deck_timeline o
         WHERE o.prefix = t.prefix AND o.origin_set = t.origin_set AND o.afterwards <> t.afterwards
           AND o.valid = t.valid AND o.price IS NOT DISTINCT FROM t.price);

-- name: staged_rows^
SELECT count(*) FILTER (WHERE adds) AS adds, count(*) FILTER (WHERE NOT adds) AS removes,
       count(*) FILTER (WHERE kind IS NOT NULL AND since < :at::timestamptz) AS backdated
  FROM deck_import_row WHERE import_id = :import_id;

-- name: kinds
SELECT kind, count(*) AS prefixes FROM deck_import_row WHERE import_id = :import_id AND kind IS NOT NULL GROUP BY kind;

-- name: changed_in_file$
-- How many of the changed prefixes the file names.
SELECT count(*) FROM (
    SELECT DISTINCT s.prefix, s.origin_set FROM deck_staged s JOIN deck_difference USING (prefix, origin_set)
) AS named;

-- name: add_import$
INSERT INTO deck_import (deck_id, base_version, mode, state, file_name, file_sha256, effective_at, author, staged_at, summary,
                         owner_id, idempotency_key, fingerprint, dry_run)
VALUES (:deck_id, :base_version, :mode, 'refused', :file_name, :file_sha256, :effective_at, :author, :at, '{}',
        :owner_id, :idempotency_key, :fingerprint, :dry_run)
RETURNING import_id;

-- name: finish_import!
UPDATE deck_import SET state = :state, adds = :adds, removes = :removes, summary = :summary, rises_at = :rises_at
 WHERE import_id = :import_id;

-- name: forget_staged!
-- Imports of the deck that can be applied no more need their rows no more; nor do those behind so many newer ones.
DELETE FROM deck_import_row WHERE import_id IN (
    SELECT import_id FROM (
        SELECT import_id, base_version, row_number() OVER (ORDER BY import_id DESC) AS place
          FROM deck_import WHERE deck_id = :deck_id AND state = 'staged' AND import_id <> :import_id) AS old
     WHERE base_version < :version OR place >= :kept
);

-- name: forget_import!
DELETE FROM deck_import_row WHERE import_id = :import_id;

-- name: forget_file!
-- What staging made, so that another file can be staged in the same transaction.
DROP TABLE IF EXISTS deck_row, deck_price, deck_repeated, deck_touched, deck_timeline, deck_difference CASCADE;
DROP TABLE IF EXISTS deck_unmatched;

-- name: import_of^
SELECT i.import_id, i.deck_id, d.name AS deck, d.currency, d.version AS deck_version, i.base_version, i.mode, i.state,
       i.file_name, i.file_sha256, i.effective_at, i.author, i.staged_at, i.adds, i.removes, i.summary, i.version,
       i.dry_run, i.rises_at
  FROM deck_import i JOIN deck d USING (deck_id) WHERE i.import_id = :import_id;

-- name: lock_import^
SELECT state, version FROM deck_import WHERE import_id = :import_id FOR UPDATE;

-- name: errors
SELECT row_no, column_name, problem FROM deck_import_error WHERE import_id = :import_id
 ORDER BY row_no, column_name LIMIT :most;

-- name: changes
-- One row a changed prefix, what matters most first.
SELECT kind, prefix, origin_set, destination, since, row_no, before, rate_micro, connect_fee_micro, initial_s, next_s,
       minimum_s, grace_s, tiers, blocked
  FROM deck_import_row WHERE import_id = :import_id AND kind IS NOT NULL
 ORDER BY array_position(ARRAY['increase', 'blocked', 'deleted', 'decrease', 'changed', 'new'], kind), prefix, origin_set
 LIMIT :most;

-- name: next_version$
-- NULL: another writer came first.
UPDATE deck SET version = version + 1, changed_at = clock_timestamp()
 WHERE deck_id = :deck_id AND version = :version RETURNING version;

-- name: remove_staged$
-- Returns how many rates went to the past.
WITH gone AS (
    DELETE FROM rate r USING deck_import_row i
     WHERE i.import_id = :import_id AND NOT i.adds AND r.deck_id = :deck_id AND r.prefix = i.prefix
       AND r.origin_set = i.origin_set AND r.valid = i.valid
    RETURNING r.*
), kept AS (
    INSERT INTO rate_past (rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s,
                           next_s, minimum_s, blocked, valid, grace_s, tiers, added_in, removed_in)
    SELECT rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
           blocked, valid, grace_s, tiers, added_in, :version FROM gone
    RETURNING 1
)
SELECT count(*) FROM kept;

-- name: add_staged$
-- Returns how many rates were added. New ids count on from the import's own, which is unique: a uuidv7() each costs more
-- than all the rest.
WITH added AS (
    INSERT INTO rate (rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s,
                      minimum_s, blocked, valid, grace_s, tiers, added_in)
    SELECT coalesce(rate_id, (left(:import_id::uuid::text, 28) || lpad(to_hex(row_number() OVER ()), 8, '0'))::uuid), :deck_id,
           prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, blocked, valid,
           grace_s, tiers, :version
      FROM deck_import_row WHERE import_id = :import_id AND adds
    RETURNING 1
)
SELECT count(*) FROM added;

-- name: close_import!
WITH used AS (DELETE FROM deck_import_row WHERE import_id = :import_id)
UPDATE deck_import SET state = 'applied', version = :version WHERE import_id = :import_id;

-- name: add_version!
INSERT INTO deck_version (deck_id, version, origin, import_id, to_version, author, added, removed)
VALUES (:deck_id, :version, :origin, :import_id, :to_version, :author, :added, :removed);

-- name: remove_since$
-- What the deck has now and did not have in a version of it. Returns how many.
WITH gone AS (
    DELETE FROM rate WHERE deck_id = :deck_id AND added_in > :to_version RETURNING *
), kept AS (
    INSERT INTO rate_past (rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s,
                           next_s, minimum_s, blocked, valid, grace_s, tiers, added_in, removed_in)
    SELECT rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
           blocked, valid, grace_s, tiers, added_in, :version FROM gone
    RETURNING 1
)
SELECT count(*) FROM kept;

-- name: bring_back$
-- What the deck had in a version of it and has no more. Returns how many.
WITH added AS (
    INSERT INTO rate (rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s,
                      minimum_s, blocked, valid, grace_s, tiers, added_in)
    SELECT rate_id, deck_id, prefix, origin_set, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s,
           blocked, valid, grace_s, tiers, :version
      FROM rate_past WHERE deck_id = :deck_id AND added_in <= :to_version AND removed_in > :to_version
    RETURNING 1
)
SELECT count(*) FROM added;

-- name: versions
SELECT v.version, v.origin, v.import_id, v.to_version, v.author, v.added, v.removed, v.made_at, i.file_name, i.mode,
       i.summary
  FROM deck_version v LEFT JOIN deck_import i USING (import_id) WHERE v.deck_id = :deck_id ORDER BY v.version DESC;

-- name: imports_open
-- Staged or refused, and never applied.
SELECT import_id, state, mode, file_name, author, staged_at, base_version FROM deck_import
 WHERE deck_id = :deck_id AND state <> 'applied' ORDER BY import_id DESC LIMIT 20;

-- name: applied_before^
-- The last time the same file was applied to the deck.
SELECT version, staged_at FROM deck_import
 WHERE deck_id = :deck_id AND file_sha256 = :file_sha256 AND state = 'applied' ORDER BY import_id DESC LIMIT 1;

-- name: current_rates
-- What is in force or will be, as a file lists it.
SELECT prefix, destination, rate_micro, valid, initial_s, next_s, connect_fee_micro, minimum_s, grace_s, origin_set,
       tiers, blocked
  FROM rate WHERE deck_id = :deck_id AND NOT valid << tstzrange(:at::timestamptz, NULL)
 ORDER BY prefix, origin_set, valid LIMIT :most;
