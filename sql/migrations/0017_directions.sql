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
    ADD COLUMN refuse_detail text,                                     -- of not_enabled: why the callee was not let in
    ADD CONSTRAINT call_on_net_has_a_callee CHECK (direction <> 'on_net' OR callee_id IS NOT NULL),
    ADD CONSTRAINT call_detail_of_not_enabled CHECK (refuse_detail IS NULL OR refuse_reason = 'not_enabled');
CREATE INDEX call_callee ON call (callee_id, call_id) WHERE callee_id IS NOT NULL;
-- Ringing a phone is no attempt on a trunk.
ALTER TABLE lease ALTER COLUMN trunk_id DROP NOT NULL;

GRANT SELECT (direction, callee_id, anonymous, after_call_id) ON call TO callbridge_partner;
GRANT SELECT (phones) ON app TO callbridge_partner;

-- From now on the phones of the users of this subscriber's app are rung. Workers read their books again when that is new.
CREATE FUNCTION app_has_phones_v1(p_subscriber_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM subscriber s JOIN app a USING (app_id) WHERE s.subscriber_id = p_subscriber_id AND NOT a.phones) THEN
        UPDATE app a SET phones = true, edition = a.edition + 1 FROM subscriber s
         WHERE s.subscriber_id = p_subscriber_id AND a.app_id = s.app_id AND NOT a.phones;
    END IF;
END $$;

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

-- What a partner may know of its call: nothing of carriers, routes and costs.
CREATE OR REPLACE FUNCTION call_told_v1(c call) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('call_id', told_id_v1('call', c.call_id), 'subscriber_id', told_id_v1('sub', c.subscriber_id),
                              'account_id', told_id_v1('acc', c.account_id), 'a_number', c.a_number, 'b_number', c.b_number,
                              'dialled', c.dialled, 'direction', c.direction, 'admitted_at', told_at_v1(c.admitted_at))
$$;

-- One call record as a line of JSON, beginning with its id. Functions like this one are inlined into a query, and a page of a
-- hundred records is a fraction of the work that rows are.
-- rating: received (it lasts, or nobody pays for it), rejected (refused), guided (ended without an answer), rated, rerated.
CREATE FUNCTION cdr_json_v2(
    p_call_id uuid, p_partner_id uuid, p_account_id uuid, p_subscriber_id uuid, p_a_number text, p_b_number text, p_dialled text,
    p_state text, p_refuse_reason text, p_admitted_at timestamptz, p_answered_at timestamptz, p_ended_at timestamptz,
    p_talk_ms bigint, p_q850_cause integer, p_release_party text, p_sell jsonb, p_billed_s integer, p_covered_s integer,
    p_amount_micro bigint, p_written_off_micro bigint, p_currency text, p_revision integer, p_direction text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT '{"cdr_id":"cdr_' || encode(uuid_send(p_call_id), 'hex')
        || '","call_id":"call_' || encode(uuid_send(p_call_id), 'hex')
        || '","partner_id":' || coalesce('"prt_' || encode(uuid_send(p_partner_id), 'hex') || '"', 'null')
        || ',"account_id":' || coalesce('"acc_' || encode(uuid_send(p_account_id), 'hex') || '"', 'null')
        || ',"subscriber_id":' || coalesce('"sub_' || encode(uuid_send(p_subscriber_id), 'hex') || '"', 'null')
        || ',"a_number":' || to_json(p_a_number)
        || ',"b_number":' || coalesce(to_json(p_b_number)::text, 'null')
        || ',"dialled":' || to_json(p_dialled)
        || ',"state":"' || p_state
        || '","direction":"' || p_direction
        || '","refuse_reason":' || coalesce(to_json(p_refuse_reason)::text, 'null')
        || ',"rating_state":"' || CASE WHEN p_revision > 0 THEN 'rerated' WHEN p_billed_s IS NOT NULL THEN 'rated'
                                       WHEN p_state = 'refused' THEN 'rejected'
                                       WHEN p_ended_at IS NULL OR p_account_id IS NULL THEN 'received' ELSE 'guided' END
        || '","admitted_at":' || instant_json_v1(p_admitted_at)
        || ',"answered_at":' || instant_json_v1(p_answered_at)
        || ',"ended_at":' || instant_json_v1(p_ended_at)
        || ',"talk_ms":' || coalesce(p_talk_ms::text, 'null')
        || ',"q850_cause":' || coalesce(p_q850_cause::text, 'null')
        || ',"release_party":' || coalesce('"' || p_release_party || '"', 'null')
        || ',"destination":' || coalesce((p_sell -> 'destination')::text, 'null')
        || ',"prefix":' || coalesce((p_sell -> 'prefix')::text, 'null')
        || ',"rate":' || coalesce('"' || money_text_v1((p_sell -> 'rate_micro')::bigint) || '"', 'null')
        || ',"billed_s":' || coalesce(p_billed_s::text, 'null')
        || ',"covered_s":' || coalesce(p_covered_s::text, 'null')
        || ',"charge":' || coalesce('"' || money_text_v1(p_amount_micro - p_written_off_micro) || '"', 'null')
        || ',"written_off":' || coalesce('"' || money_text_v1(p_written_off_micro) || '"', 'null')
        || ',"currency":' || coalesce('"' || p_currency || '"', 'null')
        || ',"revision":' || coalesce(p_revision, 0)
        || '}'
$$;

-- A page of call records before p_before, newest first, one line of JSON each: of a partner's account, else of a partner, else of all.
-- However few fit the filters, no more than 10 000 are looked at. reach: there are more to look at, before this one.
-- The settings leave a planner that knows neither the partner nor the time one way only: down the index of the list, then by
-- key. It must not try another for the second partner it meets.
CREATE OR REPLACE FUNCTION cdr_page_v1(
    p_partner_id uuid, p_account_id uuid, p_before uuid, p_since uuid, p_rows integer, p_state text, p_subscriber_id uuid,
    p_a_number text, p_b_prefix text, p_min_talk_ms bigint, OUT lines text, OUT reach uuid
) LANGUAGE plpgsql STABLE
SET timezone = 'UTC' SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off
SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    looks CONSTANT integer := 10000;
    found integer;
BEGIN
    IF p_account_id IS NOT NULL AND p_partner_id IS NOT NULL THEN
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC NULLS LAST) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.account_id = p_account_id AND x.partner_id IS NOT NULL AND x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC NULLS LAST LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.account_id = p_account_id AND x.partner_id IS NOT NULL AND x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC NULLS LAST OFFSET looks - 1 LIMIT 1;
        END IF;
    ELSIF p_partner_id IS NOT NULL THEN
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC NULLS LAST) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.partner_id = p_partner_id AND x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC NULLS LAST LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.partner_id = p_partner_id AND x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC NULLS LAST OFFSET looks - 1 LIMIT 1;
        END IF;
    ELSE
        SELECT count(*), string_agg(t.line, chr(10) ORDER BY t.call_id DESC) INTO found, lines FROM (
            SELECT c.call_id,
                   cdr_json_v2(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision, c.direction) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell,
                              x.direction
                         FROM call x
                        WHERE x.call_id < p_before AND x.call_id >= p_since
                        ORDER BY x.call_id DESC LIMIT looks) w
                     WHERE (p_account_id IS NULL OR w.account_id = p_account_id) AND (p_state IS NULL OR w.state = p_state)
                       AND (p_partner_id IS NULL OR w.partner_id = p_partner_id)
                       AND (p_subscriber_id IS NULL OR w.subscriber_id = p_subscriber_id)
                       AND (p_a_number IS NULL OR w.a_number = p_a_number)
                       AND (p_b_prefix IS NULL OR starts_with(w.b_number, p_b_prefix))
                       AND (p_min_talk_ms IS NULL OR w.talk_ms >= p_min_talk_ms) LIMIT p_rows) c
              LEFT JOIN charge h USING (call_id)
              LEFT JOIN LATERAL (SELECT o.revision, o.sell, o.billed_s, o.amount_micro, o.written_off_micro FROM rerating o
                                  WHERE o.call_id = c.call_id ORDER BY o.revision DESC LIMIT 1) r ON true) t;
        IF found < p_rows THEN
            SELECT x.call_id INTO reach FROM call x
             WHERE x.call_id < p_before AND x.call_id >= p_since
             ORDER BY x.call_id DESC OFFSET looks - 1 LIMIT 1;
        END IF;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION
    cdr_json_v2(uuid, uuid, uuid, uuid, text, text, text, text, text, timestamptz, timestamptz, timestamptz, bigint, integer, text,
                jsonb, integer, integer, bigint, bigint, text, integer, text) TO callbridge_partner;
DROP FUNCTION cdr_json_v1;
DROP FUNCTION call_admit_paced_v1;
DROP FUNCTION call_admit_v2;

-- How a leg of an origination ended: as its last attempt did. Where phones rang there was none, and what they said is the cause.
CREATE FUNCTION leg_outcome_v1(c call) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN c.direction <> 'on_net' THEN
                    (SELECT x.outcome FROM attempt x WHERE x.call_id = c.call_id ORDER BY x.attempt_no DESC LIMIT 1)
                WHEN c.q850_cause = 17 THEN 'busy'
                WHEN c.q850_cause = 21 THEN 'rejected'
                WHEN c.q850_cause = 19 THEN 'no_answer'
                WHEN c.q850_cause = 20 THEN 'away'                     -- no phone was there, and none came
                WHEN c.q850_cause = 16 THEN 'gave_up' END              -- nobody said no
$$;

-- Bring the originations of a switch that are not over to the state their legs are in. p_lost_s: so long a leg may take from its order
-- to its call; after that it was never placed, and may not be any more. Returns how many are still not over.
CREATE OR REPLACE FUNCTION originations_follow_v1(p_switch_id uuid, p_lost_s integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    o origination;
    a record;
    b record;
    lost CONSTANT timestamptz := clock_timestamp() - make_interval(secs => p_lost_s);
    why text;
BEGIN
    FOR o IN                                                           -- only those that something has happened to
        SELECT g.* FROM origination g LEFT JOIN call x ON x.call_id = g.leg_a_call_id LEFT JOIN call y ON y.call_id = g.leg_b_call_id
          LEFT JOIN lease l ON l.call_id = g.leg_b_call_id
         WHERE g.switch_id = p_switch_id AND g.ended_at IS NULL
           AND (g.leg_a_call_id IS NULL AND coalesce(g.leg_a_at, g.made_at) < lost
                OR g.connected_at IS NULL AND coalesce(y.answered_at, l.answered_at) IS NOT NULL
                OR x.state <> 'live' AND y.state IS DISTINCT FROM 'live')
         ORDER BY g.origination_id FOR NO KEY UPDATE OF g SKIP LOCKED
    LOOP
        IF o.leg_a_call_id IS NULL THEN
            why := CASE WHEN o.cancelled THEN 'cancelled' WHEN o.leg_a_at IS NULL THEN 'not_placed' ELSE 'a_failure' END;
            PERFORM origination_end_v1(o.origination_id, 'failed', why, NULL, NULL);
            CONTINUE;
        END IF;
        SELECT c.state, leg_outcome_v1(c) AS outcome
          INTO a FROM call c WHERE c.call_id = o.leg_a_call_id;
        SELECT c.state, c.talk_ms, coalesce(c.answered_at, l.answered_at) AS answered_at,
               leg_outcome_v1(c) AS outcome
          INTO b FROM call c LEFT JOIN lease l USING (call_id) WHERE c.call_id = o.leg_b_call_id;
        IF b.answered_at IS NOT NULL AND o.connected_at IS NULL THEN
            UPDATE origination g SET state = 'connected', connected_at = b.answered_at, seq = g.seq + 1
             WHERE g.origination_id = o.origination_id RETURNING * INTO o;
            PERFORM origination_tell_v1(o);
        END IF;
        IF a.state <> 'live' AND b.state IS DISTINCT FROM 'live' THEN
            why := CASE
                WHEN o.reason IS NOT NULL THEN o.reason                -- B was refused
                WHEN o.cancelled THEN 'cancelled'
                WHEN o.connected_at IS NOT NULL THEN 'hang_up'
                WHEN a.state <> 'answered' THEN CASE WHEN a.outcome IN ('busy', 'rejected') THEN 'a_busy'
                                                     WHEN a.outcome IN ('no_answer', 'away') THEN 'a_no_answer' ELSE 'a_failure' END
                WHEN b.outcome IN ('busy', 'rejected') THEN 'b_busy'
                WHEN b.outcome IN ('no_answer', 'away') THEN 'b_no_answer'
                WHEN b.outcome = 'gave_up' OR o.leg_b_call_id IS NULL THEN 'a_abandoned'
                ELSE 'b_failure' END;
            PERFORM origination_end_v1(o.origination_id, CASE WHEN o.connected_at IS NULL THEN 'failed' ELSE 'ended' END, why,
                                       o.refuse_reason, b.talk_ms);
        END IF;
    END LOOP;
    RETURN (SELECT count(*) FROM origination g WHERE g.switch_id = p_switch_id AND g.ended_at IS NULL);
END $$;
