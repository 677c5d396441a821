-- Which way a call goes: out over a carrier, to another user's phone, or in from the network.
SET search_path = bridge, public;

-- Whose users have phones that register here; who calls one of them, rings the phone.
ALTER TABLE app ADD COLUMN phones boolean NOT NULL DEFAULT false;
-- A user of the app whom no phone reaches is called over a carrier, at the plan's price.
ALTER TABLE plan ADD COLUMN on_net_fallback boolean NOT NULL DEFAULT false;

ALTER TABLE call
    ADD COLUMN direction text NOT NULL DEFAULT 'out' CHECK (direction IN ('out', 'on_net', 'in')),
    ADD COLUMN callee_id uuid,                                         -- the subscriber whose phone is rung
    ADD COLUMN trunk_in_id uuid,                                       -- over which it came in from the network
    ADD COLUMN leg_class text NOT NULL DEFAULT 'app' CHECK (leg_class IN ('app', 'pstn', 'voip_only')),  -- of the leg that came in
    ADD COLUMN anonymous boolean NOT NULL DEFAULT false,               -- the caller's number is not shown
    ADD COLUMN after_call_id uuid,                                     -- the call that reached no phone, and went on as this one
    ADD CONSTRAINT call_on_net_has_a_callee CHECK (direction <> 'on_net' OR callee_id IS NOT NULL);
CREATE INDEX call_callee ON call (callee_id, call_id) WHERE callee_id IS NOT NULL;
-- Ringing a phone is no attempt on a trunk.
ALTER TABLE lease ALTER COLUMN trunk_id DROP NOT NULL;

GRANT SELECT (direction, callee_id, anonymous, after_call_id) ON call TO callbridge_partner;

-- Whether a phone of this subscriber is registered now.
CREATE FUNCTION subscriber_reached_v1(p_subscriber_id uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM asterisk.ps_contacts c WHERE c.endpoint = 'u' || replace(p_subscriber_id::text, '-', ''));
END $$;

-- Admit a call: ONE statement that re-checks what can race, then writes the call, its lease and its hold.
-- Money and units are set aside together (p_allowance_ids with p_units of p_pers each, in burn order; NULL: money only).
-- Returns status 'ok' with the new call_id, or 'no_credit' and 'spend_cap' (with what is available now), 'too_many_calls',
-- 'trunk_full', 'units_gone'. A count near its cap is taken again under a lock, so that caps are exact; far from it nothing is locked.
-- p_trunk_id NULL: a phone is rung. p_call_id NULL: a new one. What comes in from the network takes no place of an account's cap.
CREATE FUNCTION call_admit_v3(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    p_call_id uuid, p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_after_call_id uuid,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
    spend_cap bigint;
    partner uuid;                                                      -- whose subscriber calls
    near CONSTANT integer := 1000;                                     -- more admissions than can be in flight at once
BEGIN
    LOOP
        UPDATE account a SET held_micro = a.held_micro + p_hold_micro
         WHERE a.account_id = p_account_id AND a.state = 'active'
           AND (p_hold_micro = 0                                       -- units that are paid for need no credit
                OR a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END >= p_hold_micro)
        RETURNING a.call_cap, a.balance_micro - a.held_micro, a.partner_id, a.spend_cap_micro
             INTO cap, available_micro, partner, spend_cap;
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
    IF cap IS NOT NULL AND p_direction <> 'in'
       AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'too_many_calls';
        RETURN;
    END IF;
    IF spend_cap IS NOT NULL AND p_hold_micro > 0 THEN
        available_micro := spend_left_locked_v1(p_account_id, p_at) + p_hold_micro;
        IF available_micro < p_hold_micro THEN
            UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
            status := 'spend_cap';
            RETURN;
        END IF;
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
    call_id := coalesce(p_call_id, uuidv7());
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(call_id, p_account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number,
                      state, sell, routes, bundled, partner_id, direction, callee_id, trunk_in_id, leg_class, anonymous, after_call_id)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL, partner, p_direction, p_callee_id, p_trunk_in_id, p_leg_class,
            p_anonymous, p_after_call_id);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at, partner_id)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s), partner);
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;

-- Admit a call that rings a subscriber's phones. It costs nothing, whatever the balance, and holds nothing.
-- p_activate: the callee may not use the app yet, and the call may enable them (see rollout_called_v1, whose other answers come back
-- as the status; nothing is written then). The rest as call_admit_v3 has it: 'ok', 'no_credit' (the account is not active),
-- 'too_many_calls', which take an activation back.
-- reached: a phone is registered. Else whoever can wake one is told, with the time until which it is waited for.
CREATE FUNCTION call_ring_v1(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_currency text, p_limit_ms bigint, p_lease_s integer, p_at timestamptz,
    p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_activate boolean, p_wake_s integer,
    OUT status text, OUT call_id uuid, OUT reached boolean
) LANGUAGE plpgsql AS $$
BEGIN
    call_id := uuidv7();
    IF p_activate THEN
        status := rollout_called_v1(p_subscriber_id, p_callee_id, call_id, p_at);
        IF status NOT IN ('activated', 'enabled') THEN
            call_id := NULL;
            RETURN;
        END IF;
    END IF;
    SELECT a.status INTO status
      FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_subscriber_id, p_account_id, p_a_number, p_dialled,
                         p_b_number, p_sell, p_routes, NULL, NULL, 0, p_currency, p_limit_ms, p_lease_s, NULL, NULL, NULL, p_at,
                         call_id, p_direction, p_callee_id, p_trunk_in_id, p_leg_class, p_anonymous, NULL) a;
    IF status <> 'ok' THEN
        RAISE EXCEPTION '%', status USING ERRCODE = 'BR900';
    END IF;
    reached := subscriber_reached_v1(p_callee_id);
    IF NOT reached THEN
        PERFORM event_add_v1(s.partner_id, 'subscriber.wake', s.subscriber_id, 1, jsonb_build_object(
                    'subscriber_id', told_id_v1('sub', s.subscriber_id), 'call_id', told_id_v1('call', call_ring_v1.call_id),
                    'from', CASE WHEN NOT p_anonymous THEN p_a_number END,
                    'expires_at', told_at_v1(p_at + make_interval(secs => p_wake_s))))
           FROM subscriber s WHERE s.subscriber_id = p_callee_id;
    END IF;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    status := SQLERRM;
    call_id := NULL;
END $$;

-- call_admit_v3 for a trunk with a limit of calls a second, and another status: trunk_paced, and nothing was written.
-- The trunk's row is locked last and for the shortest time; other trunks do not come here.
CREATE FUNCTION call_admit_paced_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
    p_call_id uuid, p_direction text, p_callee_id uuid, p_trunk_in_id uuid, p_leg_class text, p_anonymous boolean, p_after_call_id uuid,
    p_trunk_cps integer,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.status, a.call_id, a.available_micro INTO status, call_id, available_micro
      FROM call_admit_v3(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_subscriber_id, p_account_id, p_a_number, p_dialled,
                         p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, p_hold_micro, p_currency, p_limit_ms, p_lease_s,
                         p_allowance_ids, p_units, p_pers, p_at, p_call_id, p_direction, p_callee_id, p_trunk_in_id, p_leg_class,
                         p_anonymous, p_after_call_id) a;
    IF status = 'ok' AND NOT trunk_start_v1(p_trunk_id, p_trunk_cps) THEN
        RAISE EXCEPTION 'paced' USING ERRCODE = 'BR900';
    END IF;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    status := 'trunk_paced';
    call_id := NULL;
END $$;

DROP FUNCTION call_admit_paced_v1;
DROP FUNCTION call_admit_v2;
