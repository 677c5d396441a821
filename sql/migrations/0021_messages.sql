-- Calls from the network: who is called by a number, callers who are not shown, and the messages that are left.
SET search_path = bridge, public;

-- The number of a caller from the network who is not shown: `call` has 'anonymous' instead, for that partners read.
-- For operators: malicious calls are traced by it, and a carrier's bill is checked with it.
CREATE TABLE call_withheld (
    call_id         uuid PRIMARY KEY,
    a_number        e164 NOT NULL,
    why             text NOT NULL CHECK (why IN ('asked', 'foreign'))
);

-- Admit a call from the network, which rings its callee's phones; the account is the callee's, and pays nothing.
-- 'ok', 'busy' (the account has as many calls as it may), 'trunk_full', 'trunk_paced', 'no_credit' (the account is not active).
-- Locks are taken in the order in which calls over a carrier take them: account, trunk, the trunk's second.
-- p_withheld: the caller's number where p_a_number does not say it, and p_why not. reached: a phone is registered. Else whoever can
-- wake one is told, with the time until which it is waited for.
CREATE FUNCTION call_inbound_v1(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_callee_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_currency text, p_limit_ms bigint, p_lease_s integer, p_at timestamptz,
    p_trunk_id uuid, p_trunk_cap integer, p_trunk_cps integer, p_leg_class text, p_anonymous boolean,
    p_withheld text, p_why text, p_wake_s integer,
    OUT status text, OUT call_id uuid, OUT reached boolean
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
BEGIN
    SELECT a.call_cap INTO cap FROM account a WHERE a.account_id = p_account_id FOR NO KEY UPDATE;
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        status := 'busy';
        RETURN;
    END IF;
    IF p_trunk_cps IS NULL THEN
        SELECT a.status, a.call_id INTO status, call_id
          FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_callee_id, p_account_id, p_a_number, p_dialled,
                             p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, 0, p_currency, p_limit_ms, p_lease_s, NULL, NULL,
                             NULL, p_at, NULL, 'in', p_callee_id, p_trunk_id, p_leg_class, p_anonymous, NULL) a;
    ELSE
        SELECT a.status, a.call_id INTO status, call_id
          FROM call_admit_paced_v2(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_callee_id, p_account_id, p_a_number, p_dialled,
                                   p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, 0, p_currency, p_limit_ms, p_lease_s, NULL,
                                   NULL, NULL, p_at, NULL, 'in', p_callee_id, p_trunk_id, p_leg_class, p_anonymous, NULL,
                                   p_trunk_cps) a;
    END IF;
    IF status <> 'ok' THEN
        RETURN;
    END IF;
    IF p_withheld IS NOT NULL THEN
        INSERT INTO call_withheld (call_id, a_number, why) VALUES (call_inbound_v1.call_id, p_withheld, p_why);
    END IF;
    reached := subscriber_reached_v1(p_callee_id);
    IF NOT reached THEN
        PERFORM event_add_v1(s.partner_id, 'subscriber.wake', s.subscriber_id, 1, jsonb_build_object(
                    'subscriber_id', told_id_v1('sub', s.subscriber_id), 'call_id', told_id_v1('call', call_inbound_v1.call_id),
                    'from', CASE WHEN NOT p_anonymous THEN p_a_number END,
                    'expires_at', told_at_v1(p_at + make_interval(secs => p_wake_s))))
           FROM subscriber s WHERE s.subscriber_id = p_callee_id;
    END IF;
END $$;

-- What somebody said after nobody had answered. The sound is a file, named after the call.
CREATE TABLE voice_message (
    message_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    call_id         uuid NOT NULL UNIQUE,
    partner_id      uuid REFERENCES partner,                           -- whose subscriber it is for
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    from_number     e164,                                              -- NULL: who called is not shown, or not known
    duration_ms     integer NOT NULL CHECK (duration_ms > 0),
    left_at         timestamptz NOT NULL,
    deleted_at      timestamptz                                        -- its sound is removed, the row goes with its time
);
CREATE INDEX voice_message_partner ON voice_message (partner_id, message_id NULLS FIRST);
CREATE INDEX voice_message_subscriber ON voice_message (subscriber_id, message_id NULLS FIRST);

-- The message of a call that has ended. Who comes second changes nothing and gets the same id. NULL: there is none, or no more.
CREATE FUNCTION voice_message_leave_v1(p_call_id uuid, p_duration_ms integer) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    m voice_message;
BEGIN
    INSERT INTO voice_message (call_id, partner_id, subscriber_id, from_number, duration_ms, left_at)
    SELECT c.call_id, c.partner_id, c.callee_id, CASE WHEN c.a_number ~ '^\+[1-9]' AND NOT c.anonymous THEN c.a_number END,
           p_duration_ms, c.ended_at
      FROM call c WHERE c.call_id = p_call_id AND c.ended_at IS NOT NULL AND c.callee_id IS NOT NULL
    ON CONFLICT (call_id) DO NOTHING RETURNING * INTO m;
    IF FOUND THEN
        PERFORM event_add_v1(m.partner_id, 'voice_message.left', m.message_id, 1, jsonb_build_object(
            'message_id', told_id_v1('msg', m.message_id), 'subscriber_id', told_id_v1('sub', m.subscriber_id),
            'call_id', told_id_v1('call', m.call_id), 'from', m.from_number, 'duration_ms', m.duration_ms,
            'left_at', told_at_v1(m.left_at), 'url', '/v1/voice-messages/' || told_id_v1('msg', m.message_id) || '/audio'));
        RETURN m.message_id;
    END IF;
    RETURN (SELECT o.message_id FROM voice_message o WHERE o.call_id = p_call_id AND o.deleted_at IS NULL);
END $$;

-- Over which trunk a call came in from the network: for operators, and for the partner whose trunk it is.
CREATE FUNCTION call_trunk_in_v1(p_call_id uuid) RETURNS TABLE (trunk_id uuid, trunk text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT t.trunk_id, t.name
      FROM call c JOIN trunk t ON t.trunk_id = c.trunk_in_id
     WHERE c.call_id = p_call_id
       AND (partner_asking_v1() IS NULL OR (c.partner_id = partner_asking_v1() AND t.partner_id = c.partner_id))
$$;

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT ON voice_message TO callbridge_partner;
ALTER TABLE voice_message ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON voice_message TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
GRANT EXECUTE ON FUNCTION call_trunk_in_v1(uuid) TO callbridge_partner;
