-- Carrier partners, what belongs to each, and the role their requests run as, which sees nothing else.
SET search_path = bridge, public;

-- Whose requests the API answers as. Roles belong to the whole server, so it may be there already.
DO $$ BEGIN
    CREATE ROLE callbridge_partner NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'callbridge_partner', 'SET') THEN
        EXECUTE format('GRANT callbridge_partner TO %I', current_user);
    END IF;
END $$;
GRANT USAGE ON SCHEMA bridge TO callbridge_partner;

-- The partner a request is made for; none: no row of anybody is seen.
CREATE FUNCTION partner_asking_v1() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT nullif(current_setting('bridge.partner_id', true), '')::uuid
$$;

-- A carrier we have an alliance with. edition counts the changes of a row; it is the ETag of the API.
CREATE TABLE partner (
    partner_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    name            text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 80),
    account_id      uuid NOT NULL UNIQUE REFERENCES account,           -- what we owe each other
    state           text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
    keeps_events    boolean NOT NULL DEFAULT false,                    -- somebody listens: what happens is written to `event`
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE account ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE account ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE deck ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE plan ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE plan ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE bundle ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE subscriber ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE subscriber ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE trunk ADD COLUMN partner_id uuid REFERENCES partner;
ALTER TABLE trunk ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE call ADD COLUMN partner_id uuid;                           -- whose subscriber called
CREATE INDEX account_partner ON account (partner_id, account_id);
CREATE INDEX deck_partner ON deck (partner_id, deck_id);
CREATE INDEX plan_partner ON plan (partner_id, plan_id);
CREATE INDEX subscriber_partner ON subscriber (partner_id, subscriber_id);
CREATE INDEX trunk_partner ON trunk (partner_id, trunk_id);
CREATE INDEX call_partner ON call (partner_id, call_id);

-- ---------------------------------------------------------------- who may use the API, and what they did

ALTER TABLE api_key ADD COLUMN partner_id uuid REFERENCES partner;     -- NULL: an operator's
ALTER TABLE api_key ADD COLUMN scopes text[] NOT NULL DEFAULT '{*}';   -- {*}: all
ALTER TABLE api_key ADD COLUMN kind text NOT NULL DEFAULT 'key' CHECK (kind IN ('key', 'client'));  -- client: OAuth2
ALTER TABLE api_key ADD COLUMN edition integer NOT NULL DEFAULT 1;
ALTER TABLE api_key ADD COLUMN replaced_by uuid REFERENCES api_key;    -- it was rotated
CREATE INDEX api_key_partner ON api_key (partner_id, api_key_id);

-- Answers to requests that created something, kept for a day: the same key again gets the same answer.
CREATE TABLE idempotency (
    owner_id        uuid NOT NULL,                                     -- the partner; all zeros: operators
    key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    fingerprint     bytea NOT NULL,                                    -- of what was asked for with the key
    status          smallint,
    headers         jsonb,
    body            bytea,
    made_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, key)
);
CREATE INDEX idempotency_made ON idempotency (made_at);

-- Whatever was changed through the API, by whom. Written in the transaction of the change.
CREATE TABLE audit_log (
    audit_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid,                                              -- whose thing was changed; NULL: nobody's
    actor           text NOT NULL,                                     -- the key's name and prefix
    action          text NOT NULL CHECK (action ~ '^[a-z_]+\.[a-z_]+$'),  -- deal.create
    subject         text NOT NULL,                                     -- its id, as the API writes it
    detail          jsonb NOT NULL,                                    -- what was asked for, secrets left out
    correlator      text NOT NULL,
    remote          text NOT NULL,
    done_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX audit_log_partner ON audit_log (partner_id, audit_id);
CREATE TRIGGER audit_log_insert_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- A valid key by its prefix. The API's role may not read the table.
CREATE FUNCTION api_key_find_v1(
    p_prefix text, OUT api_key_id uuid, OUT name text, OUT hash bytea, OUT kind text, OUT partner_id uuid, OUT scopes text[]
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT k.api_key_id, k.name, k.hash, k.kind, k.partner_id, k.scopes FROM api_key k LEFT JOIN partner p USING (partner_id)
     WHERE k.prefix = p_prefix AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
       AND (k.partner_id IS NULL OR p.state <> 'closed')
$$;

-- The first to come with a key may go on (said = 'new'), and its answer is kept by api_done_v1 in the same transaction.
-- said: new · done, with the answer of then · other: the key was used for something else.
-- Somebody else at work on the same key right now: lock_not_available after the lock_timeout.
CREATE FUNCTION api_claim_v1(
    p_owner_id uuid, p_key text, p_fingerprint bytea,
    OUT said text, OUT status smallint, OUT headers jsonb, OUT body bytea
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    known idempotency;
BEGIN
    DELETE FROM idempotency i WHERE i.owner_id = p_owner_id AND i.key = p_key AND i.made_at < now() - interval '24 hours';
    INSERT INTO idempotency (owner_id, key, fingerprint) VALUES (p_owner_id, p_key, p_fingerprint) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        said := 'new';
        RETURN;
    END IF;
    SELECT * INTO known FROM idempotency i WHERE i.owner_id = p_owner_id AND i.key = p_key;
    said := CASE WHEN known.fingerprint = p_fingerprint THEN 'done' ELSE 'other' END;
    IF said = 'done' THEN
        status := known.status;
        headers := known.headers;
        body := known.body;
    END IF;
END $$;

-- Keep what a change did for the audit log, and, where it had a key, its answer for whoever asks again.
CREATE FUNCTION api_done_v1(
    p_owner_id uuid, p_key text, p_status smallint, p_headers jsonb, p_body bytea,
    p_partner_id uuid, p_actor text, p_action text, p_subject text, p_detail jsonb, p_correlator text, p_remote text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
BEGIN
    IF p_key IS NOT NULL THEN
        UPDATE idempotency i SET status = p_status, headers = p_headers, body = p_body
         WHERE i.owner_id = p_owner_id AND i.key = p_key;
    END IF;
    INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
    VALUES (p_partner_id, p_actor, p_action, p_subject, p_detail, p_correlator, p_remote);
END $$;

-- ---------------------------------------------------------------- what happened, for those who listen

-- Written in the transaction of what happened. stream_no is given afterwards, one transaction at a time, so that it grows in
-- the order in which it can be read: a reader who has seen n has seen all below n.
CREATE TABLE event (
    event_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL,
    kind            text NOT NULL CHECK (kind ~ '^[a-z_]+\.[a-z_]+$'),  -- call.ended
    subject_id      uuid NOT NULL,                                     -- the call, the account, the trunk …
    seq             integer NOT NULL DEFAULT 1,                        -- grows along a call, with gaps
    data            jsonb NOT NULL,
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    stream_no       bigint
);
CREATE INDEX event_fresh ON event (event_id) WHERE stream_no IS NULL;
CREATE UNIQUE INDEX event_stream ON event (partner_id, stream_no) WHERE stream_no IS NOT NULL;

-- Tell whoever listens to a partner. Nobody listens: nothing is written.
CREATE FUNCTION event_add_v1(p_partner_id uuid, p_kind text, p_subject_id uuid, p_seq integer, p_data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, p_kind, p_subject_id, p_seq, p_data FROM partner p WHERE p.partner_id = p_partner_id AND p.keeps_events
$$;

-- ---------------------------------------------------------------- each sees its own

-- Only what is granted here can be read as a partner, and of that only its own rows. What another carrier charges us is
-- in columns that are not granted.
GRANT SELECT (partner_id, name, account_id, state, edition, created_at) ON partner TO callbridge_partner;
GRANT SELECT ON account, subscriber, event, audit_log TO callbridge_partner;
ALTER TABLE partner ENABLE ROW LEVEL SECURITY;
ALTER TABLE account ENABLE ROW LEVEL SECURITY;
ALTER TABLE subscriber ENABLE ROW LEVEL SECURITY;
ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON partner TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON account TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON subscriber TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON event TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON audit_log TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));

-- ---------------------------------------------------------------- calls know whose they are

CREATE OR REPLACE FUNCTION call_admit_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
    partner uuid;                                                      -- whose subscriber calls
    near CONSTANT integer := 1000;                                     -- more admissions than can be in flight at once
BEGIN
    LOOP
        UPDATE account a SET held_micro = a.held_micro + p_hold_micro
         WHERE a.account_id = p_account_id AND a.state = 'active'
           AND (p_hold_micro = 0                                       -- units that are paid for need no credit
                OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= p_hold_micro)
        RETURNING a.call_cap, a.balance_micro - a.held_micro, a.partner_id INTO cap, available_micro, partner;
        EXIT WHEN FOUND;
        SELECT a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END
          INTO available_micro FROM account a
         WHERE a.account_id = p_account_id AND a.state = 'active' FOR NO KEY UPDATE;
        IF NOT FOUND OR available_micro < p_hold_micro THEN            -- else money came in between: try once more
            status := 'no_credit';
            RETURN;
        END IF;
    END LOOP;
    -- The account's row is locked now: its cap cannot be raced.
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'too_many_calls';
        RETURN;
    END IF;
    IF p_trunk_cap IS NOT NULL THEN
        IF (SELECT count(*) FROM lease l WHERE l.trunk_id = p_trunk_id AND l.expires_at > now()) + near >= p_trunk_cap THEN
            PERFORM pg_advisory_xact_lock(hashtextextended(p_trunk_id::text, 0));
            IF (SELECT count(*) FROM lease l WHERE l.trunk_id = p_trunk_id AND l.expires_at > now()) >= p_trunk_cap THEN
                UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
                status := 'trunk_full';
                RETURN;
            END IF;
        END IF;
    END IF;
    call_id := uuidv7();
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(call_id, p_account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number,
                      state, sell, routes, bundled, partner_id)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL, partner);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s));
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;

-- Nobody runs our functions unless it is said so.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
GRANT EXECUTE ON FUNCTION partner_asking_v1(), api_key_find_v1(text), api_claim_v1(uuid, text, bytea),
    api_done_v1(uuid, text, smallint, jsonb, bytea, uuid, text, text, text, jsonb, text, text), uuid_floor_v1(timestamptz)
    TO callbridge_partner;
