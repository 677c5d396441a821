-- Who gets in: a partner reads its own keys, access tokens have something to be signed with, the audit log knows who asked.
SET search_path = bridge, public;

-- What access tokens are signed with. Read through token_keys_v1 only.
CREATE TABLE token_key (
    kid         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    secret      bytea NOT NULL DEFAULT sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
                CHECK (length(secret) = 32),
    created_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE token_key ENABLE ROW LEVEL SECURITY;                       -- and no policy: nobody's but the house's

-- The keys whose tokens may still be good, newest first, which is the one to sign with. One signs for 30 days, and verifies
-- for two hours more: a token lives for one.
CREATE FUNCTION token_keys_v1() RETURNS SETOF token_key
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM token_key k WHERE k.created_at > now() - interval '30 days') THEN
        LOCK TABLE token_key IN SHARE ROW EXCLUSIVE MODE;              -- whoever comes second finds the first one's
        IF NOT EXISTS (SELECT FROM token_key k WHERE k.created_at > now() - interval '30 days') THEN
            INSERT INTO token_key DEFAULT VALUES;
        END IF;
        DELETE FROM token_key k WHERE k.created_at < now() - interval '31 days';
    END IF;
    RETURN QUERY SELECT k.* FROM token_key k WHERE k.created_at > now() - interval '30 days 2 hours' ORDER BY k.created_at DESC;
END $$;

-- A client that may still use the tokens it was given.
CREATE FUNCTION api_client_find_v1(p_api_key_id uuid, OUT name text, OUT prefix text, OUT partner_id uuid, OUT scopes text[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT k.name, k.prefix, k.partner_id, k.scopes FROM api_key k LEFT JOIN partner p USING (partner_id)
     WHERE k.api_key_id = p_api_key_id AND k.kind = 'client' AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > now()) AND (k.partner_id IS NULL OR p.state <> 'closed')
$$;

-- Everything but the hash.
GRANT SELECT (api_key_id, name, prefix, created_at, expires_at, revoked_at, partner_id, scopes, kind, edition, replaced_by)
    ON api_key TO callbridge_partner;
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON api_key TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
GRANT EXECUTE ON FUNCTION api_client_find_v1(uuid) TO callbridge_partner;

ALTER TABLE audit_log ADD COLUMN asked_by uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';  -- the partner; zeros: us
-- NULLS FIRST: the only one in the order of a partner's list, so that no plan reads others' entries.
DROP INDEX audit_log_partner;
CREATE INDEX audit_log_partner ON audit_log (partner_id, audit_id NULLS FIRST);
CREATE INDEX audit_log_action ON audit_log (action, audit_id);
CREATE INDEX audit_log_subject ON audit_log (subject, audit_id);

-- Keep what a change did for the audit log, and, where it had a key, its answer for whoever asks again.
CREATE OR REPLACE FUNCTION api_done_v1(
    p_owner_id uuid, p_key text, p_status smallint, p_headers jsonb, p_body bytea,
    p_partner_id uuid, p_actor text, p_action text, p_subject text, p_detail jsonb, p_correlator text, p_remote text
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
BEGIN
    IF p_key IS NOT NULL THEN
        UPDATE idempotency i SET status = p_status, headers = p_headers, body = p_body
         WHERE i.owner_id = p_owner_id AND i.key = p_key;
    END IF;
    INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote, asked_by)
    VALUES (p_partner_id, p_actor, p_action, p_subject, p_detail, p_correlator, p_remote, p_owner_id);
END $$;
