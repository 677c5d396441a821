-- Work apart from calls: jobs with a rhythm or asked for once, and the extracts of records that partners ask for.
SET search_path = bridge, public;

-- What is to be done, once or again and again. One row is at work in one place: whoever has its lease.
CREATE TABLE job (
    key             text PRIMARY KEY CHECK (length(key) BETWEEN 1 AND 200),
    kind            text NOT NULL CHECK (kind ~ '^[a-z_]{1,30}$'),
    payload         jsonb NOT NULL DEFAULT '{}',
    rhythm          text CHECK (rhythm IN ('often', 'hourly', 'daily', 'monthly')),  -- NULL: once
    time_zone       text NOT NULL DEFAULT 'UTC',                       -- in which its hours, days and months begin
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    due_at          timestamptz DEFAULT now(),                         -- NULL: not by itself
    tries           integer NOT NULL DEFAULT 0,                        -- since it last succeeded or was asked for
    lease_id        uuid,
    leased_until    timestamptz,                                       -- whoever had it until then is taken for dead
    problem         text NOT NULL DEFAULT '',                          -- of the last try
    said            jsonb NOT NULL DEFAULT '{}',                       -- what the last success made
    created_at      timestamptz NOT NULL DEFAULT now(),
    begun_at        timestamptz,
    ended_at        timestamptz,
    CHECK ((state = 'running') = (lease_id IS NOT NULL)),
    CHECK ((lease_id IS NULL) = (leased_until IS NULL))
);
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_running ON job (leased_until) WHERE leased_until IS NOT NULL;
CREATE INDEX job_state ON job (state);

-- Records of a period as one file, which whoever asks for it fetches. partner_id NULL: the house itself, all records.
CREATE TABLE export (
    export_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,
    type            text NOT NULL CHECK (type IN ('cdr', 'quality', 'correction')),
    format          text NOT NULL CHECK (format IN ('csv', 'jsonl', 'parquet')),
    since_at        timestamptz NOT NULL,
    until_at        timestamptz NOT NULL,
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
    problem         text NOT NULL DEFAULT '',
    name            text,
    rows            bigint CHECK (rows >= 0),
    bytes           bigint CHECK (bytes >= 0),
    totals          jsonb,
    sha256          bytea CHECK (length(sha256) = 32),
    created_at      timestamptz NOT NULL DEFAULT now(),
    done_at         timestamptz,
    expires_at      timestamptz,                                       -- the file is removed then
    removed_at      timestamptz,
    CHECK (since_at < until_at),
    CHECK (state <> 'done' OR (name IS NOT NULL AND rows IS NOT NULL AND bytes IS NOT NULL AND totals IS NOT NULL
                               AND sha256 IS NOT NULL AND done_at IS NOT NULL AND expires_at IS NOT NULL))
);
CREATE INDEX export_partner ON export (partner_id, export_id NULLS FIRST);
CREATE INDEX export_unfinished ON export (partner_id) WHERE state IN ('queued', 'running');
CREATE INDEX export_expiring ON export (expires_at) WHERE state = 'done' AND removed_at IS NULL;

-- Numbered files of one recipient, newest first.
CREATE INDEX cdr_file_recipient ON cdr_file (recipient_id, file_id NULLS FIRST);

-- Ask for an extract, and for the job that makes it. So many of one partner may be waited for at a time.
CREATE FUNCTION export_add_v1(
    p_partner_id uuid, p_type text, p_format text, p_since timestamptz, p_until timestamptz, p_due timestamptz, p_most integer
) RETURNS export LANGUAGE plpgsql AS $$
DECLARE
    made export;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('exports ' || coalesce(p_partner_id::text, ''), 0));
    IF (SELECT count(*) FROM export e
         WHERE e.partner_id IS NOT DISTINCT FROM p_partner_id AND e.state IN ('queued', 'running')) >= p_most THEN
        RAISE EXCEPTION 'There are % exports at work already. Ask again when one is done.', p_most USING ERRCODE = 'BR004';
    END IF;
    INSERT INTO export (partner_id, type, format, since_at, until_at) VALUES (p_partner_id, p_type, p_format, p_since, p_until)
    RETURNING * INTO made;
    INSERT INTO job (key, kind, payload, due_at)
    VALUES ('extract ' || told_id_v1('exp', made.export_id), 'extract', jsonb_build_object('export_id', made.export_id), p_due);
    PERFORM pg_notify('callbridge_jobs', '');
    RETURN made;
END $$;

-- What a partner is told of its export, as the API tells it.
CREATE FUNCTION export_told_v1(e export) RETURNS void LANGUAGE sql AS $$
    SELECT event_add_v1(e.partner_id, 'export.' || e.state, e.export_id, 1,
                        jsonb_build_object('export_id', told_id_v1('exp', e.export_id), 'type', e.type, 'format', e.format,
                                           'since', told_at_v1(e.since_at), 'until', told_at_v1(e.until_at))
                        || CASE e.state WHEN 'done' THEN jsonb_build_object(
                                            'rows', e.rows, 'bytes', e.bytes, 'sha256', encode(e.sha256, 'hex'),
                                            'url', '/v1/exports/' || told_id_v1('exp', e.export_id) || '/file',
                                            'expires_at', told_at_v1(e.expires_at))
                                        ELSE jsonb_build_object('problem', e.problem) END)
$$;

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT ON export TO callbridge_partner;
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
ALTER TABLE job ENABLE ROW LEVEL SECURITY;                             -- and no policy: the house's alone
CREATE POLICY own ON export TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
REVOKE EXECUTE ON FUNCTION export_add_v1(uuid, text, text, timestamptz, timestamptz, timestamptz, integer), export_told_v1(export)
    FROM PUBLIC;
