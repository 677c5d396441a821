-- Rate decks over the API: whose they are, what a carrier may do with its own, and lists that are read page by page.
SET search_path = bridge, public;

ALTER TABLE deck ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE deck ADD COLUMN notice_days smallint NOT NULL DEFAULT 7 CHECK (notice_days BETWEEN 0 AND 365);  -- of a carrier that charges more

-- The deck that people mean: by its name or its key.
CREATE FUNCTION deck_named_v1(p_name text) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT deck_id FROM deck
          WHERE deck_id = CASE WHEN p_name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN p_name::uuid END),
        (SELECT deck_id FROM deck WHERE name = p_name))
$$;

-- A request that is sent again finds the import that its first one made. Whoever asks has keys of their own.
ALTER TABLE deck_import ADD COLUMN owner_id uuid;                      -- the partner that asked; all zeros: an operator; NULL: not asked for over the API
ALTER TABLE deck_import ADD COLUMN idempotency_key text;
ALTER TABLE deck_import ADD COLUMN fingerprint bytea;                  -- of what was asked for with the key
ALTER TABLE deck_import ADD COLUMN dry_run boolean NOT NULL DEFAULT false;  -- only to be looked at
ALTER TABLE deck_import ADD COLUMN rises_at timestamptz;               -- a carrier's own import: when it first charges more
CREATE UNIQUE INDEX deck_import_key ON deck_import (deck_id, owner_id, idempotency_key);

ALTER TABLE deck_import_error ADD COLUMN error_no bigint GENERATED ALWAYS AS IDENTITY;
DROP INDEX deck_import_error_by_import;
CREATE INDEX deck_import_error_by_import ON deck_import_error (import_id, error_no);
CREATE INDEX deck_import_row_changed ON deck_import_row (import_id, prefix, origin_set) WHERE kind IS NOT NULL;
CREATE INDEX rate_past_by_prefix ON rate_past (deck_id, prefix);

-- Whose deck it is, is told of each new version of it.
CREATE FUNCTION deck_applied_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(d.partner_id, 'deck.applied', d.deck_id, new.version, jsonb_build_object(
                'deck_id', 'deck_' || replace(d.deck_id::text, '-', ''), 'name', d.name, 'side', d.side,
                'version', new.version, 'origin', new.origin, 'to_version', new.to_version,
                'import_id', 'imp_' || replace(new.import_id::text, '-', ''), 'added', new.added, 'removed', new.removed))
       FROM deck d WHERE d.deck_id = new.deck_id AND d.partner_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER deck_applied AFTER INSERT ON deck_version FOR EACH ROW EXECUTE FUNCTION deck_applied_v1();

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT (deck_id, name, version, side, currency, created_at, terms, changed_at, partner_id, edition, notice_days)
    ON deck TO callbridge_partner;
GRANT SELECT (import_id, deck_id, base_version, mode, state, file_name, file_sha256, effective_at, author, staged_at, adds,
              removes, summary, version, dry_run, rises_at) ON deck_import TO callbridge_partner;
GRANT SELECT ON rate, rate_past, deck_version, deck_band, deck_import_error, deck_import_row TO callbridge_partner;
GRANT SELECT ON origin_set TO callbridge_partner;                      -- groups of callers, the same for all; no prices
ALTER TABLE deck ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate ENABLE ROW LEVEL SECURITY;
ALTER TABLE rate_past ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_band ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import_error ENABLE ROW LEVEL SECURITY;
ALTER TABLE deck_import_row ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON deck TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rate TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON rate_past TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_version TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_band TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
ALTER TABLE origin_set ENABLE ROW LEVEL SECURITY;
CREATE POLICY any_partner ON origin_set TO callbridge_partner USING ((SELECT partner_asking_v1()) IS NOT NULL);
CREATE POLICY own ON deck_import TO callbridge_partner USING (deck_id IN (SELECT d.deck_id FROM deck d));
CREATE POLICY own ON deck_import_error TO callbridge_partner
    USING (EXISTS (SELECT FROM deck_import i WHERE i.import_id = deck_import_error.import_id));
CREATE POLICY own ON deck_import_row TO callbridge_partner
    USING (EXISTS (SELECT FROM deck_import i WHERE i.import_id = deck_import_row.import_id));
