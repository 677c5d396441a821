-- Files of call records: who gets which, the gap-free sequence of files, and what a trunk was called when a file was planned.

-- Whoever gets files: a partner its own records, by record_no; without a partner the house itself all of them, by cdr_no.
CREATE TABLE cdr_recipient (
    recipient_id    uuid PRIMARY KEY DEFAULT uuidv7(),
    code            text NOT NULL CHECK (code ~ '^[A-Za-z0-9-]{1,20}$'),  -- in the names of its files
    partner_id      uuid REFERENCES partner,
    types           text[] NOT NULL DEFAULT '{cdr}'
        CHECK (types <@ '{cdr,quality,correction}' AND cardinality(types) BETWEEN 1 AND 3),
    format          text NOT NULL DEFAULT 'csv' CHECK (format IN ('csv', 'jsonl', 'parquet', 'tap3')),
    period          text NOT NULL DEFAULT 'daily' CHECK (period IN ('hourly', 'daily', 'monthly', 'manual')),
    time_zone       text NOT NULL,                                     -- in which its hours, days and months begin
    target          jsonb NOT NULL CHECK (target ->> 'kind' IN ('directory', 'sftp', 'api')),
    since_at        timestamptz NOT NULL,                              -- its first file of each type begins then
    enabled         boolean NOT NULL DEFAULT true,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX cdr_recipient_code ON cdr_recipient (lower(code)); -- also where a file system knows no case
CREATE INDEX cdr_recipient_partner ON cdr_recipient (partner_id, recipient_id NULLS FIRST);

-- What trunks and partners were called at a time. A file is planned with the names of its hour and keeps them, so that it comes
-- out the same when it is written again after a trunk has another name. Each state of names is kept once.
CREATE TABLE cdr_names (
    names_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash            bytea NOT NULL UNIQUE,
    trunks          jsonb NOT NULL,                                    -- [{trunk_id, name, partner_id}]
    partners        jsonb NOT NULL                                     -- [{partner_id, name}]
);
CREATE TRIGGER cdr_names_insert_only BEFORE UPDATE OR DELETE ON cdr_names
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER cdr_names_no_truncate BEFORE TRUNCATE ON cdr_names
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A file: planned with its number and range in one transaction, then written, then delivered. What is in it follows from the
-- plan alone. No record is in two files of a type, and no instant: both ranges may touch and never overlap.
CREATE TABLE cdr_file (
    file_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    recipient_id    uuid NOT NULL REFERENCES cdr_recipient,
    partner_id      uuid,                                              -- the recipient's
    type            text NOT NULL CHECK (type IN ('cdr', 'quality', 'correction')),
    file_no         bigint NOT NULL CHECK (file_no BETWEEN 1 AND 99999999),  -- gap-free for each recipient and type
    first_no        bigint NOT NULL CHECK (first_no >= 0),             -- records after this one,
    last_no         bigint NOT NULL,                                   -- up to and with this one
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    period          text NOT NULL,
    time_zone       text NOT NULL,
    format          text NOT NULL CHECK (format IN ('csv', 'jsonl', 'parquet', 'tap3')),
    sender          text NOT NULL,
    name            text NOT NULL UNIQUE,
    names_id        bigint NOT NULL REFERENCES cdr_names,
    state           text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'written', 'delivered')),
    totals          jsonb,
    rows            bigint CHECK (rows >= 0),
    bytes           bigint CHECK (bytes >= 0),
    sha256          bytea CHECK (length(sha256) = 32),
    planned_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    written_at      timestamptz,
    delivered_at    timestamptz,
    purged_at       timestamptz,                                       -- our copy went with the data in it; what was told of it stays
    UNIQUE (recipient_id, type, file_no),
    CHECK (first_no <= last_no),
    CHECK (from_at < to_at),
    CONSTRAINT cdr_file_written_is_whole CHECK (state = 'planned' OR (
        totals IS NOT NULL AND rows IS NOT NULL AND bytes IS NOT NULL AND sha256 IS NOT NULL AND written_at IS NOT NULL)),
    CONSTRAINT cdr_file_records_once EXCLUDE USING gist (
        recipient_id WITH =, type WITH =, int8range(first_no, last_no, '(]') WITH &&),
    CONSTRAINT cdr_file_time_once EXCLUDE USING gist (
        recipient_id WITH =, type WITH =, tstzrange(from_at, to_at) WITH &&)
);
CREATE INDEX cdr_file_partner ON cdr_file (partner_id, file_id NULLS FIRST);
CREATE INDEX cdr_file_due ON cdr_file (recipient_id, type, file_no) WHERE state <> 'delivered';

-- A plan stands. What was written once is written the same again, and no file is taken back.
CREATE FUNCTION cdr_file_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'files of call records are never taken back' USING ERRCODE = 'BR002';
    END IF;
    IF (new.file_id, new.recipient_id, new.partner_id, new.type, new.file_no, new.first_no, new.last_no, new.from_at, new.to_at,
        new.period, new.time_zone, new.format, new.sender, new.name, new.names_id, new.planned_at)
       IS DISTINCT FROM
       (old.file_id, old.recipient_id, old.partner_id, old.type, old.file_no, old.first_no, old.last_no, old.from_at, old.to_at,
        old.period, old.time_zone, old.format, old.sender, old.name, old.names_id, old.planned_at)
       OR (old.state <> 'planned' AND (new.state = 'planned' OR (new.totals, new.rows, new.bytes, new.sha256)
                                       IS DISTINCT FROM (old.totals, old.rows, old.bytes, old.sha256)))
       OR (old.state = 'delivered' AND new.state <> 'delivered') THEN
        RAISE EXCEPTION 'file % is planned and stays as it is', old.name USING ERRCODE = 'BR002';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER cdr_file_stays BEFORE UPDATE OR DELETE ON cdr_file
    FOR EACH ROW EXECUTE FUNCTION cdr_file_stays_v1();
CREATE TRIGGER cdr_file_no_truncate BEFORE TRUNCATE ON cdr_file
    FOR EACH STATEMENT EXECUTE FUNCTION cdr_file_stays_v1();

-- The names of today, as kept.
CREATE FUNCTION cdr_names_v1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    t jsonb := (SELECT coalesce(jsonb_agg(jsonb_build_object('trunk_id', o.trunk_id, 'name', o.name, 'partner_id', o.partner_id)
                                          ORDER BY o.trunk_id), '[]') FROM trunk o);
    p jsonb := (SELECT coalesce(jsonb_agg(jsonb_build_object('partner_id', o.partner_id, 'name', o.name) ORDER BY o.partner_id), '[]')
                  FROM partner o);
    h bytea := sha256(convert_to(t::text || p::text, 'UTF8'));
BEGIN
    INSERT INTO cdr_names (hash, trunks, partners) VALUES (h, t, p) ON CONFLICT (hash) DO NOTHING;
    RETURN (SELECT n.names_id FROM cdr_names n WHERE n.hash = h);
END $$;

-- A cell of text as spreadsheets may have it: one that begins like a formula, whatever blanks are before it, begins with an
-- apostrophe, and what is no character to be shown is a blank, so that a row is a line. Empty is NULL.
CREATE FUNCTION cell_text_v1(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_text ~ '^[A-Za-z0-9][A-Za-z0-9 ._/-]*$' THEN p_text
                ELSE nullif(CASE WHEN p_text ~ '^([\t\r\n]|[[:space:][:cntrl:]]*[-=+@＝＋－＠])' THEN '''' ELSE '' END
                            || regexp_replace(p_text, '[[:cntrl:]\u0085\u2028\u2029]', ' ', 'g'), '') END
$$;

-- A number: digits without the plus where it is one, else a cell of text.
CREATE FUNCTION cell_number_v1(p_text text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_text ~ '^\+?[0-9]+$' THEN ltrim(p_text, '+') ELSE cell_text_v1(p_text) END
$$;

-- An instant: RFC 3339 in UTC to the millisecond.
CREATE FUNCTION cell_at_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

GRANT SELECT (recipient_id, code, partner_id, types, format, period, time_zone, since_at, enabled, edition, created_at)
    ON cdr_recipient TO callbridge_partner;
GRANT SELECT (file_id, recipient_id, partner_id, type, file_no, first_no, last_no, from_at, to_at, period, time_zone, format, sender,
              name, state, totals, rows, bytes, sha256, planned_at, written_at, delivered_at)
    ON cdr_file TO callbridge_partner;
ALTER TABLE cdr_recipient ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE cdr_names ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cdr_recipient TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON cdr_file TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
