-- What a partner or a carrier says of the same calls, matched with our records; and disputes about what differs.
SET search_path = bridge, public;

-- How far their records and ours may lie apart and still agree: by contract with whose account it is.
CREATE TABLE recon_terms (
    account_id          uuid PRIMARY KEY REFERENCES account,
    answer_s            integer NOT NULL DEFAULT 5 CHECK (answer_s BETWEEN 0 AND 600),
    duration_s          integer NOT NULL DEFAULT 2 CHECK (duration_s BETWEEN 0 AND 600),
    amount_micro        bigint NOT NULL DEFAULT 100 CHECK (amount_micro >= 0),  -- of one call; or
    amount_permyriad    integer NOT NULL DEFAULT 0 CHECK (amount_permyriad BETWEEN 0 AND 10000),  -- of our amount: the larger of both
    dispute_days        integer NOT NULL DEFAULT 30 CHECK (dispute_days BETWEEN 1 AND 365)  -- until an answer is due
);

-- How their files are to be read, by name.
CREATE TABLE recon_mapping (
    account_id      uuid NOT NULL REFERENCES account,
    name            text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,39}$'),
    mapping         jsonb NOT NULL CHECK (jsonb_typeof(mapping) = 'object'),
    author          text NOT NULL,
    saved_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, name)
);

-- One file of theirs against our records of a period. The same file is imported once.
CREATE TABLE recon_run (
    run_id          uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id      uuid NOT NULL REFERENCES account,                  -- the partner's or the carrier's
    partner_id      uuid REFERENCES partner,                           -- NULL: a carrier that is no partner
    leg             text NOT NULL CHECK (leg IN ('origination', 'termination')),
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    currency        currency_code NOT NULL,
    file_name       text NOT NULL,
    file_sha256     bytea NOT NULL CHECK (length(file_sha256) = 32),
    mapping         jsonb NOT NULL,                                    -- as the file was read
    rows            integer NOT NULL CHECK (rows >= 0),
    state           text NOT NULL DEFAULT 'imported' CHECK (state IN ('imported', 'matched')),
    clock_ms        bigint NOT NULL DEFAULT 0,                         -- added to their times before they were compared
    terms           jsonb,                                             -- as it was matched by
    summary         jsonb,
    author          text NOT NULL,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    matched_at      timestamptz,
    delete_after    date NOT NULL,                                     -- of the numbers in its rows
    purged_at       timestamptz,
    UNIQUE (account_id, leg, file_sha256),
    CHECK (from_at < to_at),
    CHECK ((state = 'matched') = (matched_at IS NOT NULL))
);
CREATE INDEX recon_run_account ON recon_run (account_id, run_id);

-- A row of theirs. row_no as a spreadsheet counts: the header is 1. Numbers are digits of E.164.
CREATE TABLE recon_row (
    run_id          uuid NOT NULL,
    row_no          integer NOT NULL,
    answer_at       timestamptz,
    talk_ms         bigint NOT NULL,
    amount_micro    bigint,                                            -- NULL: the file says none
    b_number        bigint,                                            -- NULL: purged, or known by an id alone
    a_number        bigint,
    call_id         uuid,                                              -- ours, as they repeat it
    record_no       bigint,
    sip_call_id     text,
    their_id        text,
    PRIMARY KEY (run_id, row_no)
);

-- What became of each record and row of a run. That no record and no row is in two of them is held by the keys.
-- Amounts and durations are kept as they were compared: a record that is re-rated later changes no run.
CREATE TABLE recon_match (
    run_id          uuid NOT NULL,
    class           text NOT NULL CHECK (class IN ('matched', 'rate', 'duration', 'only_ours', 'only_theirs')),
    way             text NOT NULL CHECK (way IN ('id', 'number', 'time', '')),  -- by an id; number, time and duration; number and time
    row_no          integer,
    cdr_no          bigint,
    our_ms          bigint,
    our_micro       bigint,
    their_ms        bigint,
    their_micro     bigint,
    CHECK ((class = 'only_ours') = (row_no IS NULL)),
    CHECK ((class = 'only_theirs') = (cdr_no IS NULL))
);
CREATE UNIQUE INDEX recon_match_row ON recon_match (run_id, row_no) WHERE row_no IS NOT NULL;
CREATE UNIQUE INDEX recon_match_cdr ON recon_match (run_id, cdr_no) WHERE cdr_no IS NOT NULL;
CREATE INDEX recon_match_class ON recon_match (run_id, class) WHERE class <> 'matched';

-- Money that one side claims of the other. Claims and agreed amounts are positive: in favour of whoever opened it.
CREATE TABLE dispute (
    dispute_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    account_id      uuid NOT NULL REFERENCES account,                  -- the counterparty's
    partner_id      uuid REFERENCES partner,                           -- NULL: a carrier that is no partner
    opened_by       text NOT NULL CHECK (opened_by IN ('us', 'them')),
    kind            text NOT NULL CHECK (kind IN ('rate', 'duration', 'only_ours', 'only_theirs', 'duplicate', 'other')),
    title           text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    claimed_micro   bigint NOT NULL CHECK (claimed_micro > 0 AND claimed_micro <= 1000000000000000000),
    currency        currency_code NOT NULL,
    statement_id    uuid,                                              -- what it is about, if it is about one
    run_id          uuid REFERENCES recon_run,
    class           text CHECK (class IN ('rate', 'duration', 'only_ours', 'only_theirs')),
    state           text NOT NULL DEFAULT 'open'
        CHECK (state IN ('open', 'answered', 'accepted', 'rejected', 'settled', 'withdrawn')),
    deadline        timestamptz NOT NULL,
    agreed_micro    bigint CHECK (agreed_micro BETWEEN 0 AND claimed_micro),
    transfer_id     uuid UNIQUE REFERENCES transfer,                   -- the agreed correction
    decided_at      timestamptz,
    author          text NOT NULL,
    edition         integer NOT NULL DEFAULT 1,
    opened_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (class IS NULL OR run_id IS NOT NULL),
    CHECK ((state IN ('open', 'answered')) = (decided_at IS NULL)),
    CHECK ((state IN ('accepted', 'settled')) = (agreed_micro IS NOT NULL)),
    CHECK ((transfer_id IS NOT NULL) = (coalesce(agreed_micro, 0) > 0))
);
CREATE INDEX dispute_partner ON dispute (partner_id, dispute_id NULLS FIRST);
CREATE INDEX dispute_account ON dispute (account_id, dispute_id NULLS FIRST);
CREATE INDEX dispute_undecided ON dispute (deadline) WHERE decided_at IS NULL;
CREATE INDEX dispute_decided ON dispute (account_id, decided_at) WHERE agreed_micro > 0;

-- What a dispute is about, row by row. Traffic data of records in an undecided one is not purged.
CREATE TABLE dispute_row (
    dispute_id      uuid NOT NULL REFERENCES dispute,
    item_no         integer NOT NULL CHECK (item_no > 0),
    cdr_no          bigint,                                            -- ours
    row_no          integer,                                           -- of the run's file
    PRIMARY KEY (dispute_id, item_no),
    CHECK (cdr_no IS NOT NULL OR row_no IS NOT NULL)
);
CREATE INDEX dispute_row_cdr ON dispute_row (cdr_no) WHERE cdr_no IS NOT NULL;

-- What was said and decided, in order. Nothing of it changes.
CREATE TABLE dispute_note (
    note_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    dispute_id      uuid NOT NULL REFERENCES dispute,
    partner_id      uuid,                                              -- the dispute's
    side            text NOT NULL CHECK (side IN ('us', 'them')),
    author          text NOT NULL,
    text            text NOT NULL CHECK (length(text) <= 4000),
    state           text,                                              -- what the dispute became with it; NULL: a comment
    at              timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dispute_note_of ON dispute_note (dispute_id, note_id NULLS FIRST);

CREATE TABLE dispute_evidence (
    evidence_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    dispute_id      uuid NOT NULL REFERENCES dispute,
    partner_id      uuid,                                              -- the dispute's
    side            text NOT NULL CHECK (side IN ('us', 'them')),
    name            text NOT NULL CHECK (name ~ '^[^/\\[:cntrl:]]{1,100}$'),
    media_type      text NOT NULL,
    sha256          bytea NOT NULL CHECK (length(sha256) = 32),
    bytes           integer NOT NULL CHECK (bytes BETWEEN 1 AND 10485760),
    content         bytea NOT NULL CHECK (length(content) = bytes),
    author          text NOT NULL,
    added_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (dispute_id, sha256)
);
CREATE INDEX dispute_evidence_of ON dispute_evidence (dispute_id, evidence_id NULLS FIRST);

CREATE TRIGGER dispute_note_insert_only BEFORE UPDATE OR DELETE ON dispute_note
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_note_no_truncate BEFORE TRUNCATE ON dispute_note
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_evidence_insert_only BEFORE UPDATE OR DELETE ON dispute_evidence
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_evidence_no_truncate BEFORE TRUNCATE ON dispute_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- What a dispute was opened with stays, and a decision is for ever.
CREATE FUNCTION dispute_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changing CONSTANT text[] := '{state,deadline,agreed_micro,transfer_id,decided_at,edition}';
BEGIN
    IF old.decided_at IS NOT NULL OR to_jsonb(new) - changing <> to_jsonb(old) - changing THEN
        RAISE EXCEPTION 'What is in dispute % stays, and so does what was decided.', told_id_v1('dsp', old.dispute_id)
            USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER dispute_stays BEFORE UPDATE ON dispute FOR EACH ROW EXECUTE FUNCTION dispute_stays_v1();
CREATE TRIGGER dispute_insert_only BEFORE DELETE ON dispute FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER dispute_no_truncate BEFORE TRUNCATE ON dispute FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION dispute_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(new.partner_id, 'dispute.changed', new.dispute_id, new.edition, jsonb_build_object(
        'dispute_id', told_id_v1('dsp', new.dispute_id), 'state', new.state, 'kind', new.kind,
        'claimed_amount', told_money_v1(new.claimed_micro), 'agreed_amount', told_money_v1(new.agreed_micro),
        'currency', new.currency, 'deadline', told_at_v1(new.deadline)));
    RETURN NULL;
END $$;
CREATE TRIGGER dispute_told AFTER INSERT OR UPDATE ON dispute FOR EACH ROW WHEN (new.partner_id IS NOT NULL)
    EXECUTE FUNCTION dispute_told_v1();

-- Whether a record is in a dispute that nobody has decided yet: its traffic data is not purged.
CREATE FUNCTION dispute_holds_v1(p_cdr_no bigint) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (SELECT FROM dispute_row r JOIN dispute d USING (dispute_id) WHERE r.cdr_no = p_cdr_no AND d.decided_at IS NULL)
$$;

-- Forget the numbers and ids in rows of files whose time has come, a run at a time; undecided disputes hold their run's.
-- Returns how many rows; 0: nothing is left to do.
CREATE FUNCTION recon_forget_v1(p_day date) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    due uuid;
    forgotten bigint := 0;
BEGIN
    SELECT r.run_id INTO due FROM recon_run r
     WHERE r.delete_after < p_day AND r.purged_at IS NULL
       AND NOT EXISTS (SELECT FROM dispute d WHERE d.run_id = r.run_id AND d.decided_at IS NULL)
     ORDER BY r.run_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF due IS NOT NULL THEN
        UPDATE recon_row r SET b_number = NULL, a_number = NULL, sip_call_id = NULL WHERE r.run_id = due;
        GET DIAGNOSTICS forgotten = ROW_COUNT;
        UPDATE recon_run r SET purged_at = clock_timestamp() WHERE r.run_id = due;
    END IF;
    RETURN forgotten;
END $$;

GRANT SELECT (dispute_id, account_id, partner_id, opened_by, kind, title, claimed_micro, currency, statement_id, state, deadline,
              agreed_micro, transfer_id, decided_at, edition, opened_at) ON dispute TO callbridge_partner;
GRANT SELECT (note_id, dispute_id, partner_id, side, text, state, at) ON dispute_note TO callbridge_partner;
GRANT SELECT (evidence_id, dispute_id, partner_id, side, name, media_type, sha256, bytes, content, added_at) ON dispute_evidence
    TO callbridge_partner;
ALTER TABLE dispute ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_note ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_evidence ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON dispute TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON dispute_note TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON dispute_evidence TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
ALTER TABLE recon_terms ENABLE ROW LEVEL SECURITY;                     -- and no policy: operators' alone
ALTER TABLE recon_mapping ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_run ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_row ENABLE ROW LEVEL SECURITY;
ALTER TABLE recon_match ENABLE ROW LEVEL SECURITY;
ALTER TABLE dispute_row ENABLE ROW LEVEL SECURITY;
