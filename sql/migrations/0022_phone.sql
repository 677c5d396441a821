-- The browser phone: links to sign in with, and sessions.
SET search_path = bridge, public;

-- ---------------------------------------------------------------- the browser phone

-- A link that makes a browser its subscriber's phone: good once, and for a short while. Of its token only the SHA-256 is kept.
CREATE TABLE sign_in_link (
    sign_in_link_id uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX sign_in_link_of ON sign_in_link (subscriber_id, sign_in_link_id);

-- A browser that is signed in. It ends by its time, by signing out, and when its subscriber is no longer active.
CREATE TABLE phone_session (
    phone_session_id uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    hash            bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX phone_session_of ON phone_session (subscriber_id, phone_session_id);

-- A new link of an active subscriber; the oldest of more than p_most go, and those whose time is over. No row: not active.
CREATE FUNCTION sign_in_link_add_v1(p_subscriber_id uuid, p_hash bytea, p_lasts_s integer, p_most integer, OUT expires_at timestamptz)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM subscriber s WHERE s.subscriber_id = p_subscriber_id AND s.state = 'active' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    expires_at := clock_timestamp() + make_interval(secs => p_lasts_s);
    INSERT INTO sign_in_link (subscriber_id, hash, expires_at) VALUES (p_subscriber_id, p_hash, sign_in_link_add_v1.expires_at);
    DELETE FROM sign_in_link l
     WHERE l.subscriber_id = p_subscriber_id
       AND (l.expires_at <= clock_timestamp()
            OR l.sign_in_link_id NOT IN (SELECT n.sign_in_link_id FROM sign_in_link n WHERE n.subscriber_id = p_subscriber_id
                                          ORDER BY n.sign_in_link_id DESC LIMIT p_most));
END $$;

-- A link's token for a session, once however many come at once. NULL: no such link, used, its time over, or the subscriber not active.
CREATE FUNCTION phone_sign_in_v1(p_link_hash bytea, p_session_hash bytea, p_lasts_s integer, p_most integer, OUT expires_at timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    who uuid;
BEGIN
    SELECT l.subscriber_id INTO who FROM sign_in_link l WHERE l.hash = p_link_hash;
    PERFORM 1 FROM subscriber s WHERE s.subscriber_id = who AND s.state = 'active' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    DELETE FROM sign_in_link l WHERE l.hash = p_link_hash AND l.expires_at > clock_timestamp();
    IF NOT FOUND THEN
        RETURN;
    END IF;
    expires_at := clock_timestamp() + make_interval(secs => p_lasts_s);
    INSERT INTO phone_session (subscriber_id, hash, expires_at) VALUES (who, p_session_hash, phone_sign_in_v1.expires_at);
    DELETE FROM phone_session p
     WHERE p.subscriber_id = who
       AND (p.expires_at <= clock_timestamp()
            OR p.phone_session_id NOT IN (SELECT n.phone_session_id FROM phone_session n WHERE n.subscriber_id = who
                                           ORDER BY n.phone_session_id DESC LIMIT p_most));
END $$;

-- Whoever is suspended or closed is signed out, and stays so afterwards.
CREATE FUNCTION phone_signed_out_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sign_in_link l WHERE l.subscriber_id = NEW.subscriber_id;
    DELETE FROM phone_session p WHERE p.subscriber_id = NEW.subscriber_id;
    RETURN NULL;
END $$;
CREATE TRIGGER subscriber_signed_out AFTER UPDATE OF state ON subscriber
    FOR EACH ROW WHEN (NEW.state <> 'active' AND OLD.state = 'active') EXECUTE FUNCTION phone_signed_out_v1();

-- Whose session this is. For the API's role, which reads no session itself. No row: nobody's, or over.
CREATE FUNCTION phone_session_find_v1(p_hash bytea, OUT subscriber_id uuid, OUT expires_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT p.subscriber_id, p.expires_at
      FROM phone_session p JOIN subscriber s USING (subscriber_id) JOIN account a USING (account_id)
     WHERE p.hash = p_hash AND p.expires_at > clock_timestamp() AND s.state = 'active' AND a.state <> 'closed'
       AND NOT EXISTS (SELECT FROM partner o WHERE o.partner_id = s.partner_id AND o.state = 'closed')
$$;

-- The calls of one subscriber, newest first.
CREATE INDEX call_subscriber ON call (subscriber_id, call_id NULLS FIRST) WHERE subscriber_id IS NOT NULL;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION phone_session_find_v1(bytea) TO callbridge_partner;
