-- App users' phones: what the switch reads of them, their credentials, who is registered, and who was banned.
SET search_path = bridge, public;

ALTER TABLE app ADD COLUMN edition integer NOT NULL DEFAULT 1;

-- What a phone registers with. Of the password only the digest that the switch compares with is kept.
CREATE TABLE sip_credential (
    credential_id   uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid,                                              -- the subscriber's
    auth            text NOT NULL UNIQUE GENERATED ALWAYS AS ('c' || replace(credential_id::text, '-', '')) STORED,
    endpoint        text NOT NULL GENERATED ALWAYS AS ('u' || replace(subscriber_id::text, '-', '')) STORED,
    realm           text NOT NULL CHECK (realm ~ '^[a-z0-9.-]{1,60}$'),
    digest          text NOT NULL CHECK (digest ~ '^[0-9a-f]{32}$'),   -- MD5 of endpoint:realm:password (RFC 7616, 3.4.2)
    media           text NOT NULL CHECK (media IN ('webrtc', 'rtp')),  -- a browser's, or plain RTP of an app of its own
    contacts_max    smallint NOT NULL CHECK (contacts_max BETWEEN 1 AND 10),  -- phones registered at the same time
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    revoked_at      timestamptz
);
CREATE INDEX sip_credential_endpoint ON sip_credential (endpoint, expires_at);
CREATE INDEX sip_credential_of ON sip_credential (subscriber_id, credential_id);
CREATE INDEX sip_credential_expiry ON sip_credential (expires_at);

-- Addresses the switch does not listen to for a while, and users it lets nobody register as.
CREATE TABLE sip_ban (
    sip_ban_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    switch_id       uuid NOT NULL REFERENCES switch,
    address         inet,
    subscriber_id   uuid REFERENCES subscriber,
    failures        integer NOT NULL CHECK (failures > 0),             -- that led to it
    banned_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at      timestamptz NOT NULL,
    lifted_by       text,                                              -- the operator who ended it early
    CHECK (num_nonnulls(address, subscriber_id) = 1)
);
CREATE INDEX sip_ban_subscriber ON sip_ban (subscriber_id, expires_at) WHERE subscriber_id IS NOT NULL;
CREATE INDEX sip_ban_expiry ON sip_ban (expires_at);

-- ---------------------------------------------------------------- what the switch sees

-- The switch logs in with a role of its own that has this one, see switch_login_v1.
DO $$ BEGIN
    CREATE ROLE callbridge_switch NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
CREATE SCHEMA asterisk;
GRANT USAGE ON SCHEMA asterisk TO callbridge_switch;

-- Credentials with which somebody may register or call now.
CREATE VIEW sip_credential_now AS
SELECT c.credential_id, c.subscriber_id, c.auth, c.endpoint, c.realm, c.digest, c.media, c.contacts_max, s.a_number, c.expires_at
  FROM sip_credential c JOIN subscriber s USING (subscriber_id) JOIN account a USING (account_id)
 WHERE c.expires_at > now() AND c.revoked_at IS NULL AND s.state = 'active' AND a.state = 'active'
   AND NOT EXISTS (SELECT FROM partner p WHERE p.partner_id = s.partner_id AND p.state = 'closed')
   AND NOT EXISTS (SELECT FROM sip_ban b WHERE b.subscriber_id = c.subscriber_id AND b.expires_at > now());

-- Columns are named as PJSIP's options are. Who calls is the subscriber's number, whatever the phone says; a row without
-- `auth` would let anybody in, hence the inner join on credentials. The newest decides what media is spoken.
CREATE VIEW asterisk.ps_endpoints WITH (security_barrier) AS
SELECT c.endpoint AS id, c.endpoint AS aors,
       string_agg(c.auth, ',' ORDER BY c.credential_id DESC) AS auth,
       'from-user' AS context, '<' || c.a_number || '>' AS callerid, 'username' AS identify_by,
       'all' AS disallow, 'opus,alaw,ulaw' AS allow,
       CASE (array_agg(c.media ORDER BY c.credential_id DESC))[1] WHEN 'webrtc' THEN 'yes' ELSE 'no' END AS webrtc,
       CASE (array_agg(c.media ORDER BY c.credential_id DESC))[1] WHEN 'webrtc' THEN 'yes' ELSE 'no' END AS dtls_auto_generate_cert,
       'no' AS trust_id_inbound, 'no' AS trust_id_outbound, 'no' AS send_diversion, 'no' AS allow_subscribe, 'no' AS allow_transfer,
       'no' AS direct_media, 'yes' AS rtp_symmetric, 'yes' AS force_rport, 'yes' AS rewrite_contact,
       '60' AS rtp_timeout, '300' AS rtp_timeout_hold
  FROM bridge.sip_credential_now c GROUP BY c.endpoint, c.a_number;

CREATE VIEW asterisk.ps_auths WITH (security_barrier) AS
SELECT c.auth AS id, 'md5' AS auth_type, c.endpoint AS username, c.realm, c.digest AS md5_cred
  FROM bridge.sip_credential_now c;

-- One phone more than may be registered takes the place of the one that would expire first.
CREATE VIEW asterisk.ps_aors WITH (security_barrier) AS
SELECT c.endpoint AS id, (array_agg(c.contacts_max ORDER BY c.credential_id DESC))[1]::text AS max_contacts, 'yes' AS remove_existing,
       '60' AS minimum_expiration, '300' AS default_expiration, '600' AS maximum_expiration, '0' AS qualify_frequency, NULL::text AS contact
  FROM bridge.sip_credential_now c GROUP BY c.endpoint;
GRANT SELECT ON asterisk.ps_endpoints, asterisk.ps_auths, asterisk.ps_aors TO callbridge_switch;

-- Phones that are registered, as the switch told the bridge: it keeps them itself, for it looks them up at each call over
-- a trunk, too, which must work without a database.
CREATE TABLE asterisk.ps_contacts (
    id              text PRIMARY KEY,                                  -- the switch's: endpoint;@hash
    switch_id       uuid NOT NULL REFERENCES bridge.switch,
    endpoint        text NOT NULL,
    subscriber_id   uuid NOT NULL REFERENCES bridge.subscriber,
    uri             text NOT NULL,
    registered_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ps_contacts_endpoint ON asterisk.ps_contacts (endpoint);
CREATE INDEX ps_contacts_subscriber ON asterisk.ps_contacts (subscriber_id);

CREATE FUNCTION contact_registered_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('callbridge_registered', NEW.endpoint);
    RETURN NULL;
END $$;
CREATE TRIGGER ps_contacts_registered AFTER INSERT ON asterisk.ps_contacts
    FOR EACH ROW EXECUTE FUNCTION bridge.contact_registered_v1();

-- Who may no longer register is no longer reached. The bridge tells the switch to forget the phones.
CREATE FUNCTION contact_gone_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    told bigint;
BEGIN
    IF TG_TABLE_NAME = 'account' THEN
        WITH gone AS (
            DELETE FROM asterisk.ps_contacts c USING bridge.subscriber s
             WHERE s.subscriber_id = c.subscriber_id AND s.account_id = NEW.account_id RETURNING c.id)
        SELECT count(pg_notify('callbridge_contact_gone', g.id)) INTO told FROM gone g;
    ELSIF NOT EXISTS (SELECT FROM bridge.sip_credential_now n WHERE n.subscriber_id = NEW.subscriber_id) THEN
        WITH gone AS (DELETE FROM asterisk.ps_contacts c WHERE c.subscriber_id = NEW.subscriber_id RETURNING c.id)
        SELECT count(pg_notify('callbridge_contact_gone', g.id)) INTO told FROM gone g;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER credential_unreached AFTER UPDATE OF revoked_at ON sip_credential
    FOR EACH ROW EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER banned_unreached AFTER INSERT ON sip_ban
    FOR EACH ROW WHEN (NEW.subscriber_id IS NOT NULL) EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER subscriber_unreached AFTER UPDATE OF state ON subscriber
    FOR EACH ROW WHEN (OLD.state = 'active' AND NEW.state <> 'active') EXECUTE FUNCTION contact_gone_v1();
CREATE TRIGGER account_unreached AFTER UPDATE OF state ON account
    FOR EACH ROW WHEN (OLD.state = 'active' AND NEW.state <> 'active') EXECUTE FUNCTION contact_gone_v1();

-- A login for the switch, made or changed: it reads the three views, gives up early and has few connections.
CREATE FUNCTION switch_login_v1(p_name text, p_password text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_name !~ '^callbridge_switch_[a-z0-9_]{1,40}$' THEN
        RAISE EXCEPTION 'the user of users.switch_dsn is not named callbridge_switch_…' USING ERRCODE = 'BR003';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('role ' || p_name, 0));
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = p_name AND (r.rolsuper OR r.rolcreaterole OR r.rolbypassrls OR r.rolreplication)) THEN
        RAISE EXCEPTION 'role % may do more than read what the switch needs', p_name USING ERRCODE = 'BR003';
    ELSIF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_name) THEN
        EXECUTE format('CREATE ROLE %I IN ROLE callbridge_switch', p_name);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN CONNECTION LIMIT 5 PASSWORD %L', p_name, p_password);
    EXECUTE format('ALTER ROLE %I SET search_path = asterisk', p_name);
    EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', p_name);
    EXECUTE format('ALTER ROLE %I SET statement_timeout = ''1s''', p_name);
END $$;
REVOKE ALL ON FUNCTION switch_login_v1(text, text) FROM PUBLIC;

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT (credential_id, subscriber_id, partner_id, endpoint, realm, media, contacts_max, created_at, expires_at, revoked_at)
    ON sip_credential TO callbridge_partner;
ALTER TABLE sip_credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE sip_ban ENABLE ROW LEVEL SECURITY;                         -- and no policy: operators' alone
GRANT SELECT (edition) ON app TO callbridge_partner;
CREATE POLICY own ON sip_credential TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
