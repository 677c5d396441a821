-- WhatsApp Business numbers as trunks, and a wall between them and the phone network.
SET search_path = bridge, public;

ALTER TABLE trunk
    ADD COLUMN kind text NOT NULL DEFAULT 'carrier' CHECK (kind IN ('carrier', 'whatsapp')),
    ADD COLUMN business_number text UNIQUE CHECK (business_number ~ '^[+][1-9][0-9]{6,14}$'),  -- Meta calls one server a number
    DROP CONSTRAINT trunk_transport_check,
    ADD CONSTRAINT trunk_transport_check CHECK (transport IN ('udp', 'tcp', 'tls')),
    DROP CONSTRAINT trunk_codecs_check,
    ADD CONSTRAINT trunk_codecs_check CHECK (codecs <@ '{alaw,ulaw,g722,gsm,opus}' AND cardinality(codecs) BETWEEN 1 AND 4),
    DROP CONSTRAINT trunk_auth_secret_check,
    ADD CONSTRAINT trunk_auth_secret_check CHECK (auth_secret ~ '^[A-Za-z0-9!%*+,./:=?^_~-]{8,128}$'),  -- Meta's own may hold a slash
    ADD CONSTRAINT trunk_whatsapp_is_voip_only CHECK (kind <> 'whatsapp' OR policy_class = 'voip_only'),
    ADD CONSTRAINT trunk_kind_is_whole CHECK (
        CASE kind
            WHEN 'whatsapp' THEN business_number IS NOT NULL AND auth_secret IS NOT NULL
                AND auth_username = substr(business_number, 2) AND transport = 'tls' AND codecs = '{opus}'
                AND b_format = 'e164_plus' AND tech_prefix = '' AND cardinality(allowed_ips) > 0
            ELSE business_number IS NULL AND transport <> 'tls' AND NOT codecs @> '{opus}'
        END);
GRANT SELECT (kind, business_number) ON trunk TO callbridge_partner;

-- Whether an app or another trunk calls from one of these networks: who calls must never be told by chance.
-- An app that is known by name, not by address, is passed over; and business numbers are all called from the same addresses.
CREATE FUNCTION trunk_addresses_taken_v2(p_trunk_id uuid, p_kind text, p_networks cidr[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM trunk t CROSS JOIN unnest(t.allowed_ips) AS taken (network)
                    WHERE t.trunk_id IS DISTINCT FROM p_trunk_id AND taken.network && ANY (p_networks)
                      AND NOT (p_kind = 'whatsapp' AND t.kind = 'whatsapp'))
        OR EXISTS (SELECT FROM app a
                    WHERE CASE WHEN a.sip_host ~ '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+(:[0-9]+)?$'
                               THEN split_part(a.sip_host, ':', 1)::inet <<= ANY (p_networks) END)
$$;
DROP FUNCTION trunk_addresses_taken_v1;

-- The wall between the phone network and WhatsApp, whose terms forbid the one on any leg of the other. What the dialplan, the
-- rules and every later rule may get wrong, the tables refuse: a leg's class and its trunk's class must go together.

-- Whether a leg of this class may be joined to a trunk of that one; NULL: there is no such trunk. What is unknown may nothing.
CREATE FUNCTION leg_may_v1(p_leg_class text, p_trunk_class text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_leg_class WHEN 'app' THEN true
                            WHEN 'pstn' THEN coalesce(p_trunk_class IN ('pstn', 'emergency'), false)
                            WHEN 'voip_only' THEN coalesce(p_trunk_class = 'voip_only', false)
                            ELSE false END
$$;

-- Of a lease and an attempt: the call's leg may meet the trunk. It costs one look at a row that was just written, and a second
-- one only where the leg is not an app's.
CREATE FUNCTION leg_meets_trunk_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    class text;
BEGIN
    SELECT c.leg_class INTO class FROM bridge.call c WHERE c.call_id = NEW.call_id;
    IF class <> 'app' AND NOT bridge.leg_may_v1(class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = NEW.trunk_id)) THEN
        RAISE EXCEPTION 'a % leg never meets this trunk', class USING ERRCODE = 'BR008';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER lease_leg_meets_trunk AFTER INSERT OR UPDATE OF call_id, trunk_id ON lease
    FOR EACH ROW WHEN (NEW.trunk_id IS NOT NULL) EXECUTE FUNCTION leg_meets_trunk_v1();
CREATE CONSTRAINT TRIGGER attempt_leg_meets_trunk AFTER INSERT OR UPDATE OF call_id, trunk_id ON attempt
    FOR EACH ROW EXECUTE FUNCTION leg_meets_trunk_v1();

-- Of a call that is not simply an app's: its class is its incoming trunk's, it goes on as it began, and no lease or attempt was
-- there before it.
CREATE FUNCTION leg_is_told_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came text;
BEGIN
    IF NEW.trunk_in_id IS NOT NULL THEN
        SELECT t.policy_class INTO came FROM bridge.trunk t WHERE t.trunk_id = NEW.trunk_in_id;
        IF NEW.leg_class IS DISTINCT FROM (CASE came WHEN 'emergency' THEN 'pstn' ELSE came END) THEN
            RAISE EXCEPTION 'a leg from a % trunk is none of class %', came, NEW.leg_class USING ERRCODE = 'BR008';
        END IF;
    END IF;
    IF NEW.after_call_id IS NOT NULL AND NEW.leg_class IS DISTINCT FROM
       (SELECT c.leg_class FROM bridge.call c WHERE c.call_id = NEW.after_call_id) THEN
        RAISE EXCEPTION 'a call goes on with a leg of another class' USING ERRCODE = 'BR008';
    END IF;
    IF EXISTS (SELECT FROM bridge.lease l WHERE l.call_id = NEW.call_id AND l.trunk_id IS NOT NULL AND NOT bridge.leg_may_v1(
                   NEW.leg_class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = l.trunk_id)))
       OR EXISTS (SELECT FROM bridge.attempt x WHERE x.call_id = NEW.call_id AND NOT bridge.leg_may_v1(
                   NEW.leg_class, (SELECT t.policy_class FROM bridge.trunk t WHERE t.trunk_id = x.trunk_id))) THEN
        RAISE EXCEPTION 'a % leg never meets this trunk', NEW.leg_class USING ERRCODE = 'BR008';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER call_leg_is_told AFTER INSERT ON call
    FOR EACH ROW WHEN (NEW.leg_class <> 'app' OR NEW.trunk_in_id IS NOT NULL OR NEW.after_call_id IS NOT NULL)
    EXECUTE FUNCTION leg_is_told_v1();

-- What decides this never changes afterwards.
CREATE FUNCTION leg_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a % is decides what it may meet: it never changes', TG_TABLE_NAME USING ERRCODE = 'BR008';
END $$;
CREATE TRIGGER call_leg_stays AFTER UPDATE OF call_id, leg_class, trunk_in_id, after_call_id ON call
    FOR EACH ROW WHEN ((NEW.call_id, NEW.leg_class, NEW.trunk_in_id, NEW.after_call_id)
                       IS DISTINCT FROM (OLD.call_id, OLD.leg_class, OLD.trunk_in_id, OLD.after_call_id))
    EXECUTE FUNCTION leg_stays_v1();
CREATE TRIGGER trunk_class_stays AFTER UPDATE OF trunk_id, kind, business_number, policy_class ON trunk
    FOR EACH ROW WHEN ((NEW.trunk_id, NEW.kind, NEW.business_number) IS DISTINCT FROM (OLD.trunk_id, OLD.kind, OLD.business_number)
                       OR (NEW.policy_class = 'voip_only') <> (OLD.policy_class = 'voip_only'))
    EXECUTE FUNCTION leg_stays_v1();

-- What Meta says of a call: its id there, and what the link or button that it was begun with carried. Of calls that were admitted.
CREATE TABLE whatsapp_call (
    call_id         uuid PRIMARY KEY,
    wacid           text CHECK (wacid ~ '^[ -~]+$' AND length(wacid) <= 256),
    cta_payload     text CHECK (length(cta_payload) BETWEEN 1 AND 512)
);
GRANT SELECT ON whatsapp_call TO callbridge_partner;
ALTER TABLE whatsapp_call ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON whatsapp_call TO callbridge_partner
    USING (EXISTS (SELECT FROM call c WHERE c.call_id = whatsapp_call.call_id));
