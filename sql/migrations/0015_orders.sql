-- Orders to the switch, and calls that are made by order: A is rung, then B, and A pays for both.
SET search_path = bridge, public;

-- What the switch's keeper is to do. Only it has the manager connection; whoever wants something writes a row. It is `sent`
-- before the word goes out, and an originate is never sent twice: a call that may have been begun must not be begun again.
CREATE TABLE switch_order (
    order_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    switch_id       uuid NOT NULL REFERENCES switch,
    kind            text NOT NULL CHECK (kind IN ('originate', 'hangup')),
    subject_id      uuid NOT NULL,                                     -- an origination, or, for hangup, a call
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'sent', 'done', 'failed')),
    problem         text,                                              -- why it failed
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at         timestamptz,
    done_at         timestamptz
);
CREATE INDEX switch_order_queued ON switch_order (switch_id, order_id) WHERE state = 'queued';
CREATE INDEX switch_order_subject ON switch_order (subject_id);

-- A call by order. Each leg is a call of its own, with its own hold and charge, made by A's subscriber.
CREATE TABLE origination (
    origination_id  uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,                           -- NULL: ours
    switch_id       uuid NOT NULL REFERENCES switch,
    subscriber_id   uuid NOT NULL REFERENCES subscriber,               -- A
    a_number        e164 NOT NULL,
    b_number        e164 NOT NULL,
    state           text NOT NULL DEFAULT 'initiating'
                    CHECK (state IN ('initiating', 'calling_a', 'calling_b', 'connected', 'ended', 'failed')),
    reason          text CHECK (reason IN ('hang_up', 'cancelled', 'not_placed', 'a_refused', 'a_busy', 'a_no_answer', 'a_failure',
                                           'a_abandoned', 'b_refused', 'b_busy', 'b_no_answer', 'b_failure')),
    refuse_reason   text,                                              -- of the leg that was refused
    cancelled       boolean NOT NULL DEFAULT false,                    -- no leg may begin any more
    leg_a_at        timestamptz,                                       -- when the leg was begun, which it is once
    leg_b_at        timestamptz,
    leg_a_call_id   uuid,
    leg_b_call_id   uuid,
    connected_at    timestamptz,
    talk_ms         bigint,                                            -- of both
    seq             integer NOT NULL DEFAULT 1,                        -- counts the changes of its state
    sink_url        text,                                              -- where its events go, beside the partner's webhooks; see sink
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    CHECK ((state IN ('ended', 'failed')) = (ended_at IS NOT NULL))
) WITH (fillfactor = 70);
CREATE INDEX origination_partner ON origination (partner_id, origination_id NULLS FIRST);
CREATE UNIQUE INDEX origination_open ON origination (subscriber_id, b_number) WHERE ended_at IS NULL;
CREATE INDEX origination_followed ON origination (switch_id) WHERE ended_at IS NULL;

-- Its state as CAMARA's ClickToDial has it: state, and why it ended, which is told of `disconnected` only.
CREATE FUNCTION click_to_dial_v1(p_state text, p_reason text, OUT state text, OUT reason text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_state = 'initiating' THEN 'initiating'
                WHEN p_state = 'calling_a' THEN 'callingCaller'
                WHEN p_state = 'calling_b' THEN 'callingCallee'
                WHEN p_state = 'connected' THEN 'connected'
                WHEN p_reason IN ('not_placed', 'a_refused', 'b_refused') THEN 'failed'
                ELSE 'disconnected' END,
           CASE p_reason WHEN 'hang_up' THEN 'hangUp' WHEN 'cancelled' THEN 'hangUp' WHEN 'a_busy' THEN 'callerBusy'
                         WHEN 'a_no_answer' THEN 'callerNoAnswer' WHEN 'a_failure' THEN 'callerFailure'
                         WHEN 'a_abandoned' THEN 'callerAbandon' WHEN 'b_busy' THEN 'calleeBusy'
                         WHEN 'b_no_answer' THEN 'calleeNoAnswer' WHEN 'b_failure' THEN 'calleeFailure' END
$$;

-- Tell how far it is: to whoever listens to its partner, and to its sink even if nobody else does.
CREATE FUNCTION origination_tell_v1(o origination) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c record := click_to_dial_v1(o.state, o.reason);
    now_at text := to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
    told jsonb := jsonb_build_object(
        'origination_id', 'org_' || translate(o.origination_id::text, '-', ''),
        'subscriber_id', 'sub_' || translate(o.subscriber_id::text, '-', ''),
        'a_number', o.a_number, 'b_number', o.b_number, 'state', o.state, 'reason', o.reason, 'refuse_reason', o.refuse_reason,
        'a_call_id', 'call_' || translate(o.leg_a_call_id::text, '-', ''),
        'b_call_id', 'call_' || translate(o.leg_b_call_id::text, '-', ''), 'talk_ms', o.talk_ms);
BEGIN
    IF o.sink_url IS NOT NULL THEN                                     -- the data of the CloudEvent for it
        told := told || jsonb_build_object('click_to_dial', jsonb_strip_nulls(jsonb_build_object(
            'callId', 'org_' || translate(o.origination_id::text, '-', ''), 'caller', o.a_number, 'callee', o.b_number,
            'status', jsonb_build_object('state', c.state, 'reason', c.reason),
            'callDuration', CASE c.state WHEN 'disconnected' THEN round(coalesce(o.talk_ms, 0) / 1000.0)::text END,
            'timestamp', now_at)));
    END IF;
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, 'origination.changed', o.origination_id, o.seq, told
      FROM partner p WHERE p.partner_id = o.partner_id AND (p.keeps_events OR o.sink_url IS NOT NULL);
END $$;

CREATE FUNCTION switch_order_add_v1(p_switch_id uuid, p_kind text, p_subject_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO switch_order (switch_id, kind, subject_id) VALUES (p_switch_id, p_kind, p_subject_id);
    PERFORM pg_notify('callbridge_order', p_switch_id::text);
END $$;

-- said: ok · no_switch · full: the partner has as many in flight as it may · open: A is being connected with B already
CREATE FUNCTION origination_add_v1(
    p_switch text, p_subscriber_id uuid, p_b_number text, p_sink_url text, p_sink_token text, p_sink_until timestamptz,
    p_open_max integer, OUT said text, OUT origination_id uuid
) LANGUAGE plpgsql AS $$
DECLARE
    sub subscriber;
    made origination;
    home_id uuid := (SELECT s.switch_id FROM switch s WHERE s.name = p_switch);
BEGIN
    IF home_id IS NULL THEN
        said := 'no_switch';
        RETURN;
    END IF;
    SELECT * INTO STRICT sub FROM subscriber s WHERE s.subscriber_id = p_subscriber_id;
    PERFORM pg_advisory_xact_lock(hashtextextended('origination ' || coalesce(sub.partner_id::text, ''), 0));
    IF EXISTS (SELECT FROM origination o WHERE o.subscriber_id = p_subscriber_id AND o.b_number = p_b_number AND o.ended_at IS NULL) THEN
        said := 'open';
    ELSIF (SELECT count(*) FROM origination o WHERE o.partner_id IS NOT DISTINCT FROM sub.partner_id AND o.ended_at IS NULL) >= p_open_max THEN
        said := 'full';
    ELSE
        INSERT INTO origination (partner_id, switch_id, subscriber_id, a_number, b_number, sink_url)
        VALUES (sub.partner_id, home_id, p_subscriber_id, sub.a_number, p_b_number, p_sink_url)
        RETURNING * INTO made;
        IF p_sink_url IS NOT NULL AND sub.partner_id IS NOT NULL THEN
            PERFORM sink_add_v1(sub.partner_id, made.origination_id, p_sink_url, p_sink_token,
                                coalesce(p_sink_until, clock_timestamp() + interval '1 day'));  -- longer than any call
        END IF;
        PERFORM switch_order_add_v1(home_id, 'originate', made.origination_id);
        PERFORM origination_tell_v1(made);
        said := 'ok';
        origination_id := made.origination_id;
    END IF;
END $$;

-- The end of an origination, told once.
CREATE FUNCTION origination_end_v1(p_origination_id uuid, p_state text, p_reason text, p_refuse_reason text, p_talk_ms bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    UPDATE origination g SET state = p_state, reason = p_reason, refuse_reason = p_refuse_reason, talk_ms = p_talk_ms, seq = g.seq + 1,
           ended_at = clock_timestamp()
     WHERE g.origination_id = p_origination_id AND g.ended_at IS NULL RETURNING * INTO o;
    IF FOUND THEN
        PERFORM origination_tell_v1(o);
    END IF;
END $$;

-- Orders that are to be carried out now, each given to one keeper only. A call that waited longer than p_wait_s is not made any more.
-- channel: what to hang up.
CREATE FUNCTION switch_orders_take_v1(p_switch_id uuid, p_wait_s integer)
RETURNS TABLE (order_id uuid, kind text, subject_id uuid, channel text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    late uuid;
BEGIN
    FOR late IN
        WITH overdue AS (
            SELECT o.order_id FROM switch_order o
             WHERE o.switch_id = p_switch_id AND o.state = 'queued' AND o.kind = 'originate'
               AND o.made_at < clock_timestamp() - make_interval(secs => p_wait_s)
             ORDER BY o.order_id FOR UPDATE SKIP LOCKED
        )
        UPDATE switch_order o SET state = 'failed', problem = 'it waited too long', done_at = clock_timestamp()
          FROM overdue WHERE o.order_id = overdue.order_id RETURNING o.subject_id
    LOOP
        PERFORM origination_end_v1(late, 'failed', 'not_placed', NULL, NULL);
    END LOOP;
    RETURN QUERY
        WITH mine AS (
            SELECT o.order_id FROM switch_order o WHERE o.switch_id = p_switch_id AND o.state = 'queued'
             ORDER BY o.order_id LIMIT 100 FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE switch_order o SET state = 'sent', sent_at = clock_timestamp() FROM mine WHERE o.order_id = mine.order_id RETURNING o.*
        )
        SELECT t.order_id, t.kind, t.subject_id,
               CASE WHEN g.origination_id IS NOT NULL THEN 'org_' || translate(g.origination_id::text, '-', '') ELSE l.channel END
          FROM taken t LEFT JOIN origination g ON g.origination_id = t.subject_id LEFT JOIN lease l ON l.call_id = t.subject_id
         ORDER BY t.order_id;
END $$;

-- What became of an order that was sent. failed: the switch said no, and nothing was begun.
CREATE FUNCTION switch_order_done_v1(p_order_id uuid, p_problem text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o switch_order;
BEGIN
    UPDATE switch_order s SET state = CASE WHEN p_problem IS NULL THEN 'done' ELSE 'failed' END, problem = p_problem,
           done_at = clock_timestamp()
     WHERE s.order_id = p_order_id AND s.state = 'sent' RETURNING * INTO o;
    IF FOUND AND p_problem IS NOT NULL AND o.kind = 'originate' THEN
        PERFORM origination_end_v1(g.origination_id, 'failed', 'not_placed', NULL, NULL) FROM origination g
          WHERE g.origination_id = o.subject_id AND g.leg_a_at IS NULL;
    END IF;
END $$;

-- The link was lost: before an order was said, or (p_said) perhaps after. To hang up again does no harm; to call again would.
CREATE FUNCTION switch_order_again_v1(p_order_id uuid, p_said boolean) RETURNS void LANGUAGE sql AS $$
    UPDATE switch_order s SET state = 'queued', sent_at = NULL
     WHERE s.order_id = p_order_id AND s.state = 'sent' AND (s.kind = 'hangup' OR NOT p_said)
$$;

-- Somebody hangs up already, or has just now.
CREATE FUNCTION switch_hangs_up_v1(p_subject_id uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM switch_order s
                    WHERE s.subject_id = p_subject_id AND s.kind = 'hangup'
                      AND (s.state = 'queued' OR s.sent_at > clock_timestamp() - interval '5 s'))
$$;

-- Begin a leg: the first who asks for it gets the parties' numbers, everybody after it nothing (begun = false).
CREATE FUNCTION origination_leg_v1(
    p_origination_id uuid, p_switch_id uuid, p_leg text,
    OUT begun boolean, OUT app text, OUT a_number text, OUT b_number text
) LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    SELECT * INTO o FROM origination g WHERE g.origination_id = p_origination_id AND g.switch_id = p_switch_id FOR NO KEY UPDATE;
    begun := o.ended_at IS NULL AND NOT o.cancelled AND CASE p_leg
                 WHEN 'a' THEN o.state = 'initiating'
                 WHEN 'b' THEN o.state = 'calling_a' AND o.leg_a_call_id IS NOT NULL END IS TRUE;
    begun := coalesce(begun, false);
    IF begun THEN
        UPDATE origination g
           SET state = CASE p_leg WHEN 'a' THEN 'calling_a' ELSE 'calling_b' END, seq = g.seq + 1,
               leg_a_at = CASE p_leg WHEN 'a' THEN clock_timestamp() ELSE g.leg_a_at END,
               leg_b_at = CASE p_leg WHEN 'b' THEN clock_timestamp() END
         WHERE g.origination_id = p_origination_id RETURNING * INTO o;
        PERFORM origination_tell_v1(o);
        SELECT a.name INTO app FROM subscriber s JOIN app a USING (app_id) WHERE s.subscriber_id = o.subscriber_id;
        a_number := o.a_number;
        b_number := o.b_number;
    ELSIF o.cancelled AND o.state = 'initiating' THEN
        PERFORM origination_end_v1(p_origination_id, 'failed', 'cancelled', NULL, NULL);
    END IF;
END $$;

-- Hang up an origination: no leg begins any more, and what there is of it ends.
CREATE FUNCTION origination_cancel_v1(p_origination_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    o origination;
BEGIN
    UPDATE origination g SET cancelled = true WHERE g.origination_id = p_origination_id AND g.ended_at IS NULL RETURNING * INTO o;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE switch_order s SET state = 'failed', problem = 'it was taken back', done_at = clock_timestamp()
     WHERE s.subject_id = p_origination_id AND s.kind = 'originate' AND s.state = 'queued';
    IF FOUND THEN
        PERFORM origination_end_v1(p_origination_id, 'failed', 'cancelled', NULL, NULL);
    ELSIF NOT switch_hangs_up_v1(p_origination_id) THEN
        PERFORM switch_order_add_v1(o.switch_id, 'hangup', p_origination_id);
    END IF;
END $$;

-- Hang up a call that is live; one order is enough.
CREATE FUNCTION call_hangup_v1(p_call_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    home_id uuid;
BEGIN
    SELECT l.switch_id INTO home_id FROM lease l WHERE l.call_id = p_call_id FOR NO KEY UPDATE;
    IF FOUND AND NOT switch_hangs_up_v1(p_call_id) THEN
        PERFORM switch_order_add_v1(home_id, 'hangup', p_call_id);
    END IF;
END $$;

-- Bring the originations of a switch that are not over to the state their legs are in. p_lost_s: so long a leg may take from its order
-- to its call; after that it was never placed, and may not be any more. Returns how many are still not over.
CREATE FUNCTION originations_follow_v1(p_switch_id uuid, p_lost_s integer) RETURNS integer LANGUAGE plpgsql AS $$
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
        SELECT c.state, (SELECT x.outcome FROM attempt x WHERE x.call_id = c.call_id ORDER BY x.attempt_no DESC LIMIT 1) AS outcome
          INTO a FROM call c WHERE c.call_id = o.leg_a_call_id;
        SELECT c.state, c.talk_ms, coalesce(c.answered_at, l.answered_at) AS answered_at,
               (SELECT x.outcome FROM attempt x WHERE x.call_id = c.call_id ORDER BY x.attempt_no DESC LIMIT 1) AS outcome
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

-- The token of its sink is nobody's to read.
GRANT SELECT (origination_id, partner_id, subscriber_id, a_number, b_number, state, reason, refuse_reason, leg_a_call_id, leg_b_call_id,
              connected_at, talk_ms, sink_url, made_at, ended_at) ON origination TO callbridge_partner;
ALTER TABLE origination ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON origination TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
GRANT EXECUTE ON FUNCTION click_to_dial_v1(text, text) TO callbridge_partner;
