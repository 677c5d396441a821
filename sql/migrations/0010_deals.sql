-- Deals with partners in versions that never overlap, and the numbers we have to give.
SET LOCAL search_path = bridge, public;

-- What we and a partner have agreed. Its terms are in its versions; what is here may change, and edition counts that.
CREATE TABLE deal (
    deal_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    currency        currency_code NOT NULL,
    state           text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'signed', 'ended')),
    version         integer NOT NULL DEFAULT 0 CHECK (version >= 0),   -- the last one
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    signed_at       timestamptz,
    ended_at        timestamptz
);
CREATE INDEX deal_partner ON deal (partner_id, deal_id);

-- Terms as they were agreed once. A later version takes the place of the ones before from its begin on: that cuts their
-- `valid`, and nothing else of them ever changes. Empty: its place was taken before it began, or while it was a draft.
CREATE TABLE deal_version (
    deal_version_id uuid PRIMARY KEY DEFAULT uuidv7(),
    deal_id         uuid NOT NULL REFERENCES deal,
    version         integer NOT NULL CHECK (version > 0),
    agreed          tstzrange NOT NULL CHECK (NOT isempty(agreed) AND NOT lower_inf(agreed)),
    valid           tstzrange NOT NULL CHECK (valid <@ agreed),
    terms           jsonb NOT NULL CHECK (jsonb_typeof(terms) = 'object'),
    note            text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (deal_id, version),
    CONSTRAINT deal_version_one_at_a_time EXCLUDE USING gist (deal_id WITH =, valid WITH &&)
);
CREATE INDEX deal_version_list ON deal_version (deal_id, deal_version_id);

-- Of a version that is agreed, only the time to come may be cut off.
CREATE FUNCTION deal_version_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    past CONSTANT tstzrange := tstzrange(NULL, now());                 -- before this transaction
BEGIN
    IF to_jsonb(new) - 'valid' <> to_jsonb(old) - 'valid' OR NOT new.valid <@ old.valid
       OR (NOT isempty(new.valid) AND lower(new.valid) <> lower(old.valid))
       OR (new.valid * past <> old.valid * past
           AND EXISTS (SELECT FROM deal d WHERE d.deal_id = old.deal_id AND d.state <> 'draft')) THEN
        RAISE EXCEPTION 'What was agreed is not edited: agree on a new version.' USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER deal_version_stays BEFORE UPDATE ON deal_version
    FOR EACH ROW EXECUTE FUNCTION deal_version_stays_v1();
CREATE TRIGGER deal_version_insert_only BEFORE DELETE ON deal_version
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER deal_version_no_truncate BEFORE TRUNCATE ON deal_version
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- Give a deal its next version. p_based_on: the last one its author has read; 0 for the first.
-- p_from NULL: from now on. p_until NULL: without end. Of a draft only the last version counts.
CREATE FUNCTION deal_agree_v1(
    p_deal_id uuid, p_based_on integer, p_from timestamptz, p_until timestamptz, p_terms jsonb, p_note text, p_author text
) RETURNS deal_version LANGUAGE plpgsql AS $$
DECLARE
    of_deal deal;
    made deal_version;
    begins timestamptz;
    present timestamptz;
BEGIN
    SELECT * INTO of_deal FROM deal d WHERE d.deal_id = p_deal_id FOR NO KEY UPDATE;
    present := clock_timestamp();
    begins := coalesce(p_from, present);
    IF of_deal.deal_id IS NULL THEN
        RAISE EXCEPTION 'There is no such deal.' USING ERRCODE = 'BR005';
    ELSIF of_deal.state = 'ended' THEN
        RAISE EXCEPTION 'The deal has ended. Make a new one.' USING ERRCODE = 'BR004';
    ELSIF of_deal.version <> p_based_on THEN
        RAISE EXCEPTION 'The deal has version % by now. Read it, and base yours on that.', of_deal.version USING ERRCODE = 'BR004';
    ELSIF of_deal.state = 'signed' AND begins < present THEN
        RAISE EXCEPTION 'The deal is signed: a new version cannot begin in the past.' USING ERRCODE = 'BR003';
    ELSIF p_until <= begins THEN
        RAISE EXCEPTION 'A version ends after it begins.' USING ERRCODE = 'BR003';
    END IF;
    UPDATE deal_version v
       SET valid = CASE WHEN of_deal.state = 'draft' OR lower(v.valid) >= begins THEN 'empty'
                        ELSE tstzrange(lower(v.valid), begins) END
     WHERE v.deal_id = p_deal_id AND (of_deal.state = 'draft' OR v.valid && tstzrange(begins, NULL));
    INSERT INTO deal_version (deal_id, version, agreed, valid, terms, note, author)
    VALUES (p_deal_id, p_based_on + 1, tstzrange(begins, p_until), tstzrange(begins, p_until), p_terms, p_note, p_author)
    RETURNING * INTO made;
    UPDATE deal d SET version = made.version, edition = d.edition + 1 WHERE d.deal_id = p_deal_id;
    RETURN made;
END $$;

-- End a deal now: what is in force is cut, what was to come is void.
CREATE FUNCTION deal_end_v1(p_deal_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was text;
    present timestamptz;
BEGIN
    SELECT d.state INTO was FROM deal d WHERE d.deal_id = p_deal_id FOR NO KEY UPDATE;
    present := clock_timestamp();
    UPDATE deal_version v
       SET valid = CASE WHEN was = 'draft' OR lower(v.valid) >= present THEN 'empty'
                        ELSE tstzrange(lower(v.valid), present) END
     WHERE v.deal_id = p_deal_id AND (was = 'draft' OR v.valid && tstzrange(present, NULL));
    UPDATE deal d SET state = 'ended', ended_at = present WHERE d.deal_id = p_deal_id;
END $$;

-- A telephone number that can be given to a subscriber. One that was released rests before somebody else gets it.
CREATE TABLE number (
    number_id           uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id          uuid REFERENCES partner,                       -- whose it is; NULL: ours
    e164                e164 NOT NULL UNIQUE,
    country             text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    kind                text NOT NULL CHECK (kind IN ('geographic', 'mobile', 'national')),
    state               text NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'assigned', 'quarantined')),
    subscriber_id       uuid REFERENCES subscriber,
    assigned_at         timestamptz,
    quarantine_until    timestamptz,
    edition             integer NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    CHECK ((state = 'assigned') = (subscriber_id IS NOT NULL)),
    CHECK ((state = 'quarantined') = (quarantine_until IS NOT NULL))
);
CREATE INDEX number_partner ON number (partner_id, number_id);
CREATE INDEX number_subscriber ON number (subscriber_id) WHERE subscriber_id IS NOT NULL;

-- Numbers as they are now: one whose quarantine is over is free, which is an edition of its own.
CREATE VIEW number_now WITH (security_invoker = true) AS
SELECT n.number_id, n.partner_id, n.e164, n.country, n.kind, n.subscriber_id, n.assigned_at, n.created_at,
       CASE WHEN n.state = 'quarantined' AND n.quarantine_until <= now() THEN 'free' ELSE n.state END AS state,
       CASE WHEN n.quarantine_until > now() THEN n.quarantine_until END AS quarantine_until,
       n.edition + (n.state = 'quarantined' AND n.quarantine_until <= now())::integer AS edition
  FROM number n;

-- A partner reads its own deals with their versions, its numbers, and of its plans what does not tell our margin.
GRANT SELECT ON deal, number, number_now TO callbridge_partner;
GRANT SELECT (deal_version_id, deal_id, version, agreed, valid, terms, note, made_at) ON deal_version TO callbridge_partner;
GRANT SELECT (plan_id, name, partner_id, edition) ON plan TO callbridge_partner;
ALTER TABLE deal ENABLE ROW LEVEL SECURITY;
ALTER TABLE deal_version ENABLE ROW LEVEL SECURITY;
ALTER TABLE number ENABLE ROW LEVEL SECURITY;
ALTER TABLE plan ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON deal TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON deal_version TO callbridge_partner
    USING (EXISTS (SELECT FROM deal d WHERE d.deal_id = deal_version.deal_id));
CREATE POLICY own ON number TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON plan TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
