-- Rate decks as the API tells of them: page by page, by the deck's key. What is another's is kept away by row-level security.

-- name: decks
SELECT d.deck_id, d.name, d.side, d.currency, d.version, d.partner_id, d.notice_days, d.edition, d.created_at, d.changed_at
  FROM deck d
 WHERE d.deck_id < :before AND (:partner_id::uuid IS NULL OR d.partner_id = :partner_id) AND (:side::text IS NULL OR d.side = :side)
   AND (:name::text IS NULL OR d.name = :name)
 ORDER BY d.deck_id DESC LIMIT :rows;

-- name: deck^
SELECT d.deck_id, d.name, d.side, d.currency, d.version, d.partner_id, d.notice_days, d.edition, d.created_at, d.changed_at,
       d.terms FROM deck d WHERE d.deck_id = :deck_id;

-- name: counts^
SELECT count(*) FILTER (WHERE r.valid @> :at::timestamptz) AS in_force,
       count(*) FILTER (WHERE lower(r.valid) > :at::timestamptz) AS to_come
  FROM rate r WHERE r.deck_id = :deck_id AND NOT r.valid << tstzrange(:at::timestamptz, NULL);

-- name: bands
-- The deck that prices a band is another's where it has no name.
SELECT b.name, b.days, b.from_minute, b.to_minute, b.band_deck_id, d.name AS deck
  FROM deck_band b LEFT JOIN deck d ON d.deck_id = b.band_deck_id WHERE b.deck_id = :deck_id ORDER BY b.position;

-- name: add_deck^
INSERT INTO deck (name, side, currency, partner_id) VALUES (:name, :side, :currency, :partner_id)
RETURNING deck_id, name, side, currency, version, partner_id, notice_days, edition, created_at, changed_at;

-- name: decks_had$
SELECT count(*) FROM deck WHERE partner_id = :partner_id;

-- name: change_deck^
UPDATE deck d SET name = coalesce(:name, d.name), notice_days = coalesce(:notice_days, d.notice_days), edition = d.edition + 1
 WHERE d.deck_id = :deck_id AND d.edition = :edition
RETURNING d.deck_id, d.name, d.side, d.currency, d.version, d.partner_id, d.notice_days, d.edition, d.created_at, d.changed_at;

-- name: rates
-- Those of the active version, in the order of their prefixes. first and last are prefixes between which all are read.
SELECT r.prefix, r.origin_set, r.destination, r.rate_micro, r.connect_fee_micro, r.initial_s, r.next_s, r.minimum_s, r.grace_s,
       r.tiers, r.blocked, r.valid, r.added_in
  FROM rate r
 WHERE r.deck_id = :deck_id AND r.prefix >= :first AND r.prefix <= :last
   AND (r.prefix, r.origin_set, coalesce(lower(r.valid), '0001-01-01 00:00+00')) > (:prefix, :origin_set, :begins::timestamptz)
   AND (:destination::text IS NULL OR r.destination = :destination)
   AND (:at::timestamptz IS NULL OR r.valid @> :at::timestamptz)
 ORDER BY r.prefix, r.origin_set, r.valid LIMIT :rows;

-- name: rates_of_version
-- The same, as a version of the deck had them.
SELECT * FROM (
    (SELECT r.prefix, r.origin_set, r.destination, r.rate_micro, r.connect_fee_micro, r.initial_s, r.next_s, r.minimum_s,
            r.grace_s, r.tiers, r.blocked, r.valid, r.added_in
       FROM rate r
      WHERE r.deck_id = :deck_id AND r.prefix >= :first AND r.prefix <= :last AND r.added_in <= :version
        AND (r.prefix, r.origin_set, coalesce(lower(r.valid), '0001-01-01 00:00+00'))
            > (:prefix, :origin_set, :begins::timestamptz)
        AND (:destination::text IS NULL OR r.destination = :destination)
        AND (:at::timestamptz IS NULL OR r.valid @> :at::timestamptz)
      ORDER BY r.prefix, r.origin_set, r.valid LIMIT :rows)
     UNION ALL
    (SELECT p.prefix, p.origin_set, p.destination, p.rate_micro, p.connect_fee_micro, p.initial_s, p.next_s, p.minimum_s,
            p.grace_s, p.tiers, p.blocked, p.valid, p.added_in
       FROM rate_past p
      WHERE p.deck_id = :deck_id AND p.prefix >= :first AND p.prefix <= :last AND p.added_in <= :version
        AND p.removed_in > :version
        AND (p.prefix, p.origin_set, coalesce(lower(p.valid), '0001-01-01 00:00+00'))
            > (:prefix, :origin_set, :begins::timestamptz)
        AND (:destination::text IS NULL OR p.destination = :destination)
        AND (:at::timestamptz IS NULL OR p.valid @> :at::timestamptz)
      ORDER BY p.prefix, p.origin_set, p.valid LIMIT :rows)
) AS found ORDER BY prefix, origin_set, valid LIMIT :rows;

-- name: rates_at
-- Those that one number may be priced by.
SELECT r.prefix, uuid_send(r.rate_id) AS rate_id, r.destination, r.rate_micro, r.connect_fee_micro, r.initial_s, r.next_s,
       r.minimum_s, r.blocked, r.grace_s, r.origin_set, r.tiers
  FROM rate r WHERE r.deck_id = :deck_id AND r.prefix = ANY (:prefixes::text[]) AND r.valid @> :at::timestamptz
 ORDER BY r.prefix, r.origin_set;

-- name: origins_of
-- The sets that a caller with these prefixes is of.
SELECT name, array_agg(prefix ORDER BY prefix) AS prefixes FROM origin_set WHERE prefix = ANY (:prefixes::text[]) GROUP BY name;

-- name: touched
-- The next prefixes whose rates were added or removed between two versions, older first.
SELECT DISTINCT prefix FROM (
    (SELECT DISTINCT r.prefix FROM rate r
      WHERE r.deck_id = :deck_id AND r.prefix > :prefix AND r.added_in > :older AND r.added_in <= :newer
      ORDER BY r.prefix LIMIT :rows)
     UNION ALL
    (SELECT DISTINCT p.prefix FROM rate_past p
      WHERE p.deck_id = :deck_id AND p.prefix > :prefix
        AND ((p.added_in <= :older AND p.removed_in > :older AND p.removed_in <= :newer)
             OR (p.added_in > :older AND p.added_in <= :newer AND p.removed_in > :newer))
      ORDER BY p.prefix LIMIT :rows)
) AS found ORDER BY prefix LIMIT :rows;

-- name: rates_of_prefixes
-- What some prefixes had in a version.
SELECT r.prefix, r.origin_set, r.destination, r.rate_micro, r.connect_fee_micro, r.initial_s, r.next_s, r.minimum_s,
       r.grace_s, r.tiers, r.blocked, r.valid, r.added_in
  FROM rate r WHERE r.deck_id = :deck_id AND r.prefix = ANY (:prefixes::text[]) AND r.added_in <= :version
 UNION ALL
SELECT p.prefix, p.origin_set, p.destination, p.rate_micro, p.connect_fee_micro, p.initial_s, p.next_s, p.minimum_s,
       p.grace_s, p.tiers, p.blocked, p.valid, p.added_in
  FROM rate_past p
 WHERE p.deck_id = :deck_id AND p.prefix = ANY (:prefixes::text[]) AND p.added_in <= :version AND p.removed_in > :version
 ORDER BY prefix, origin_set, valid;

-- name: versions
-- Newest first. The first one was made with the deck.
SELECT * FROM (
    (SELECT v.version, v.origin, v.import_id, v.to_version, v.author, v.added, v.removed, v.made_at FROM deck_version v
      WHERE v.deck_id = :deck_id AND v.version < :before ORDER BY v.version DESC LIMIT :rows)
     UNION ALL
    (SELECT 1, 'new', NULL, NULL, '', 0, 0, d.created_at FROM deck d WHERE d.deck_id = :deck_id AND :before > 1)
) AS found ORDER BY version DESC LIMIT :rows;

-- name: imports
SELECT i.import_id, i.deck_id, i.base_version, i.mode, i.state, i.file_name, i.file_sha256, i.effective_at, i.author,
       i.staged_at, i.adds, i.removes, i.summary, i.version, i.dry_run, i.rises_at
  FROM deck_import i WHERE i.deck_id = :deck_id AND i.import_id < :before ORDER BY i.import_id DESC LIMIT :rows;

-- name: import_of_deck^
SELECT i.import_id, i.deck_id, i.base_version, i.mode, i.state, i.file_name, i.file_sha256, i.effective_at, i.author,
       i.staged_at, i.adds, i.removes, i.summary, i.version, i.dry_run, i.rises_at
  FROM deck_import i WHERE i.import_id = :import_id AND i.deck_id = :deck_id;

-- name: import_by_key^
SELECT i.import_id, i.fingerprint FROM deck_import i
 WHERE i.deck_id = :deck_id AND i.owner_id = :owner_id AND i.idempotency_key = :key;

-- name: errors
SELECT e.error_no, e.row_no, e.column_name, e.problem FROM deck_import_error e
 WHERE e.import_id = :import_id AND e.error_no > :after ORDER BY e.error_no LIMIT :rows;

-- name: changes
SELECT c.kind, c.prefix, c.origin_set, c.destination, c.since, c.row_no, c.before, c.rate_micro, c.connect_fee_micro,
       c.initial_s, c.next_s, c.minimum_s, c.grace_s, c.tiers, c.blocked
  FROM deck_import_row c
 WHERE c.import_id = :import_id AND c.kind IS NOT NULL AND c.prefix >= :prefix AND (c.prefix, c.origin_set) > (:prefix, :origin_set)
   AND (:kind::text IS NULL OR c.kind = :kind)
 ORDER BY c.prefix, c.origin_set LIMIT :rows;

-- name: patience!
-- For this transaction: what is applied may be long, and waits for whoever is at the same deck.
SELECT set_config('statement_timeout', '120s', true), set_config('lock_timeout', '10s', true);

-- name: measure_changes!
-- Without it the planner takes what was staged just now for a few rows.
ANALYZE deck_import_row (import_id, adds, prefix, origin_set);

-- name: before_and_after
-- Prefixes that an import changes, and all shorter ones of them, as they stand before and after it.
WITH named AS (
    SELECT DISTINCT left(i.prefix, n) AS prefix FROM deck_import_row i, generate_series(1, length(i.prefix)) AS n
     WHERE i.import_id = :import_id
)
SELECT piece.*, d.currency FROM deck d, (
    SELECT r.prefix, r.origin_set, r.destination, r.rate_micro, r.connect_fee_micro, r.initial_s, r.next_s, r.minimum_s,
           r.grace_s, r.tiers, r.blocked, r.valid, true AS before, i.import_id IS NULL AS after, NULL::integer AS row_no
      FROM rate r
      LEFT JOIN deck_import_row i
        ON i.import_id = :import_id AND NOT i.adds AND i.prefix = r.prefix AND i.origin_set = r.origin_set AND i.valid = r.valid
     WHERE r.deck_id = :deck_id AND r.prefix IN (SELECT prefix FROM named)
     UNION ALL
    SELECT i.prefix, i.origin_set, i.destination, i.rate_micro, i.connect_fee_micro, i.initial_s, i.next_s, i.minimum_s,
           i.grace_s, i.tiers, i.blocked, i.valid, false, true, i.row_no
      FROM deck_import_row i WHERE i.import_id = :import_id AND i.adds
) AS piece WHERE d.deck_id = :deck_id ORDER BY piece.prefix COLLATE "C";
