-- What happened, written where it happens, and how those who listen are told: webhooks, sinks, a numbered stream.
SET search_path = bridge, public;

ALTER TABLE account ADD COLUMN IF NOT EXISTS low_balance_micro bigint;

CREATE INDEX event_partner ON event (partner_id, event_id NULLS FIRST);
CREATE INDEX event_subject ON event (subject_id, seq);

-- Where a partner wants to be told. kinds '{}': of everything.
CREATE TABLE webhook_endpoint (
    endpoint_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL REFERENCES partner,
    url             text NOT NULL CHECK (length(url) <= 2048),
    kinds           text[] NOT NULL DEFAULT '{}',
    description     text NOT NULL DEFAULT '',
    enabled         boolean NOT NULL DEFAULT true,
    disabled_why    text CHECK (disabled_why IN ('gone', 'failing')),  -- NULL: by hand
    failing_since   timestamptz,                                       -- nothing has succeeded since
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT now(),
    deleted_at      timestamptz,
    CHECK (NOT enabled OR (disabled_why IS NULL AND deleted_at IS NULL))
);
CREATE INDEX webhook_endpoint_partner ON webhook_endpoint (partner_id, endpoint_id);

-- What messages are signed with: all that are valid sign, so that a secret can be changed while messages are under way.
CREATE TABLE webhook_secret (
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoint,
    secret_id       uuid NOT NULL DEFAULT uuidv7(),
    secret          bytea NOT NULL CHECK (length(secret) BETWEEN 24 AND 64),
    valid_until     timestamptz,                                       -- NULL: the present one
    PRIMARY KEY (endpoint_id, secret_id)
);

-- Where the asker of one thing wants to be told of it, with a token of theirs: CAMARA's sink.
CREATE TABLE sink (
    subject_id      uuid PRIMARY KEY,
    partner_id      uuid NOT NULL REFERENCES partner,
    url             text NOT NULL CHECK (length(url) <= 2048),
    bearer          text CHECK (length(bearer) <= 4096),               -- NULL: no Authorization
    valid_until     timestamptz NOT NULL,
    failing_since   timestamptz
);

CREATE FUNCTION sink_add_v1(p_partner_id uuid, p_subject_id uuid, p_url text, p_bearer text, p_until timestamptz) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO sink (partner_id, subject_id, url, bearer, valid_until) VALUES (p_partner_id, p_subject_id, p_url, p_bearer, p_until)
    ON CONFLICT (subject_id) DO UPDATE SET url = excluded.url, bearer = excluded.bearer, valid_until = excluded.valid_until
$$;

-- One event for one listener. Due again and again, at longer and longer intervals, until it is taken or given up.
-- claimed_until: a worker is at it; when that worker dies, another goes on after this instant.
CREATE TABLE delivery (
    delivery_id     uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid NOT NULL,
    target_id       uuid NOT NULL,                                     -- the endpoint, or the sink's subject
    event_id        uuid NOT NULL REFERENCES event ON DELETE CASCADE,
    kind            text NOT NULL,
    subject_id      uuid NOT NULL,
    stream_no       bigint NOT NULL,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    tries           integer NOT NULL DEFAULT 0,                        -- since it was last asked for
    due_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until   timestamptz,
    last_status     integer,                                           -- of the last answer; NULL: none came
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at         timestamptz,
    UNIQUE (event_id, target_id)
);
CREATE INDEX delivery_due ON delivery (target_id, due_at, stream_no) WHERE state = 'pending';
CREATE INDEX delivery_claimed ON delivery (target_id) WHERE state = 'pending' AND claimed_until IS NOT NULL;
CREATE INDEX delivery_order ON delivery (target_id, subject_id, stream_no) WHERE state = 'pending';
CREATE INDEX delivery_list ON delivery (target_id, state, delivery_id NULLS FIRST);
CREATE INDEX delivery_all ON delivery (target_id, delivery_id NULLS FIRST);

CREATE TABLE delivery_attempt (
    delivery_id     uuid NOT NULL REFERENCES delivery ON DELETE CASCADE,
    attempt_no      integer NOT NULL,
    tried_at        timestamptz NOT NULL,
    took_ms         integer NOT NULL,
    status          integer,
    error           text,                                              -- NULL: it was taken
    answer          text NOT NULL DEFAULT '',                          -- its beginning, printable
    PRIMARY KEY (delivery_id, attempt_no)
);

-- How far each partner's events are numbered: without gaps, and by itself, so that nobody can count another's.
CREATE TABLE event_counter (
    partner_id      uuid PRIMARY KEY,
    last_no         bigint NOT NULL
);

-- ---------------------------------------------------------------- told as the API tells it

CREATE FUNCTION told_id_v1(p_kind text, p_id uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT p_kind || '_' || replace(p_id::text, '-', '')
$$;
CREATE FUNCTION told_at_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;
CREATE FUNCTION told_money_v1(p_micro bigint) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT round(p_micro / 1e6, greatest(min_scale(p_micro / 1e6), 2))::text
$$;

-- Tell whoever listens to a partner, or to this very thing. Nobody listens: nothing is written.
CREATE OR REPLACE FUNCTION event_add_v1(p_partner_id uuid, p_kind text, p_subject_id uuid, p_seq integer, p_data jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    SELECT p.partner_id, p_kind, p_subject_id, p_seq, p_data FROM partner p
     WHERE p.partner_id = p_partner_id
       AND (p.keeps_events OR EXISTS (SELECT FROM sink s WHERE s.subject_id = p_subject_id AND s.valid_until > now()))
$$;

-- ---------------------------------------------------------------- where it happens

-- What a partner may know of its call: nothing of carriers, routes and costs.
CREATE FUNCTION call_told_v1(c call) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('call_id', told_id_v1('call', c.call_id), 'subscriber_id', told_id_v1('sub', c.subscriber_id),
                              'account_id', told_id_v1('acc', c.account_id), 'a_number', c.a_number, 'b_number', c.b_number,
                              'dialled', c.dialled, 'admitted_at', told_at_v1(c.admitted_at))
$$;

-- It rang and was answered, as far as that has not been told.
CREATE FUNCTION call_answer_told_v1(c call, p_answered_at timestamptz, p_attempt_no integer, p_pdd_ms integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    told jsonb := call_told_v1(c);
    ringing_at timestamptz;
BEGIN
    IF p_pdd_ms IS NOT NULL AND NOT EXISTS (SELECT FROM event e WHERE e.subject_id = c.call_id AND e.seq = 2) THEN
        -- An attempt begins when the one before has failed.
        SELECT coalesce(max(x.ended_at), c.admitted_at) + make_interval(secs => p_pdd_ms / 1000.0) INTO ringing_at
          FROM attempt x WHERE x.call_id = c.call_id AND x.attempt_no < p_attempt_no;
        INSERT INTO event (partner_id, kind, subject_id, seq, data)
        VALUES (c.partner_id, 'call.ringing', c.call_id, 2,
                told || jsonb_build_object('ringing_at', told_at_v1(ringing_at), 'pdd_ms', p_pdd_ms));
    END IF;
    IF p_answered_at IS NOT NULL AND NOT EXISTS (SELECT FROM event e WHERE e.subject_id = c.call_id AND e.seq = 3) THEN
        INSERT INTO event (partner_id, kind, subject_id, seq, data)
        VALUES (c.partner_id, 'call.answered', c.call_id, 3, told || jsonb_build_object('answered_at', told_at_v1(p_answered_at)));
    END IF;
END $$;

CREATE FUNCTION call_begun_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM partner p WHERE p.partner_id = NEW.partner_id AND p.keeps_events) THEN
        IF NEW.state = 'refused' THEN
            INSERT INTO event (partner_id, kind, subject_id, seq, data)
            SELECT NEW.partner_id, t.kind, NEW.call_id, t.seq, call_told_v1(NEW) || jsonb_build_object('reason', NEW.refuse_reason)
              FROM (VALUES ('call.refused', 1), ('fraud.blocked', 2)) AS t (kind, seq)
             WHERE t.seq = 1 OR NEW.refuse_reason IN ('too_many_calls', 'spend_cap', 'barred_destination', 'fraud')
             ORDER BY t.seq;
        ELSE
            INSERT INTO event (partner_id, kind, subject_id, seq, data)
            VALUES (NEW.partner_id, 'call.admitted', NEW.call_id, 1, call_told_v1(NEW));
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION call_answered_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    c call;
BEGIN
    IF EXISTS (SELECT FROM account a JOIN partner p USING (partner_id) WHERE a.account_id = NEW.account_id AND p.keeps_events) THEN
        SELECT * INTO c FROM call WHERE call.call_id = NEW.call_id AND call.partner_id IS NOT NULL;
        IF FOUND THEN
            PERFORM call_answer_told_v1(c, NEW.answered_at, NEW.attempt_no, NEW.pdd_ms);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- The charge and the last attempt were written by the same statement; at its end they can be seen.
CREATE FUNCTION call_ended_v1() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last attempt;
    charged jsonb;
BEGIN
    IF NOT EXISTS (SELECT FROM partner p WHERE p.partner_id = NEW.partner_id AND p.keeps_events) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO last FROM attempt x WHERE x.call_id = NEW.call_id ORDER BY x.attempt_no DESC LIMIT 1;
    PERFORM call_answer_told_v1(NEW, NEW.answered_at, last.attempt_no, last.pdd_ms);
    SELECT jsonb_build_object('billed_s', h.billed_s, 'covered_s', h.covered_s,
                              'amount', told_money_v1(h.amount_micro - h.written_off_micro), 'currency', h.currency)
      INTO charged FROM charge h WHERE h.call_id = NEW.call_id;
    INSERT INTO event (partner_id, kind, subject_id, seq, data)
    VALUES (NEW.partner_id, 'call.ended', NEW.call_id, 9,
            call_told_v1(NEW) || jsonb_build_object(
                'state', NEW.state, 'answered_at', told_at_v1(NEW.answered_at), 'ended_at', told_at_v1(NEW.ended_at),
                'talk_ms', NEW.talk_ms, 'q850_cause', NEW.q850_cause, 'release_party', NEW.release_party, 'charge', charged));
    RETURN NULL;
END $$;

CREATE FUNCTION balance_low_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(NEW.partner_id, 'balance.low', NEW.account_id, 1, jsonb_build_object(
        'account_id', told_id_v1('acc', NEW.account_id), 'balance', told_money_v1(NEW.balance_micro),
        'low_balance', told_money_v1(NEW.low_balance_micro), 'currency', NEW.currency));
    RETURN NULL;
END $$;

CREATE FUNCTION allowance_low_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_add_v1(a.partner_id, 'allowance.low', NEW.allowance_id, 1, jsonb_build_object(
        'allowance_id', told_id_v1('alw', NEW.allowance_id), 'account_id', told_id_v1('acc', NEW.account_id), 'bundle', b.name,
        'units', NEW.units, 'used_units', NEW.used_units, 'percent', CASE WHEN NEW.used_units >= NEW.units THEN 100 ELSE 80 END,
        'until_at', told_at_v1(upper(NEW.valid))))
      FROM account a JOIN bundle b ON b.bundle_id = NEW.bundle_id
     WHERE a.account_id = NEW.account_id AND a.partner_id IS NOT NULL;
    RETURN NULL;
END $$;

-- A call of nobody's pays for looking at its row, no more. Partitions get the triggers of the table with ATTACH.
CREATE TRIGGER call_begun AFTER INSERT ON call
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL) EXECUTE FUNCTION call_begun_v1();
CREATE TRIGGER call_ended AFTER UPDATE OF ended_at ON call
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL AND OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
    EXECUTE FUNCTION call_ended_v1();
CREATE TRIGGER call_answered AFTER UPDATE OF answered_at ON lease
    FOR EACH ROW WHEN (OLD.answered_at IS NULL AND NEW.answered_at IS NOT NULL) EXECUTE FUNCTION call_answered_v1();
CREATE TRIGGER balance_low AFTER UPDATE OF balance_micro ON account
    FOR EACH ROW WHEN (NEW.partner_id IS NOT NULL AND NEW.balance_micro < NEW.low_balance_micro
                       AND OLD.balance_micro >= NEW.low_balance_micro)
    EXECUTE FUNCTION balance_low_v1();
-- A fifth is left, or nothing.
CREATE TRIGGER allowance_low AFTER UPDATE OF used_units ON allowance
    FOR EACH ROW WHEN (NEW.used_units >= NEW.units - NEW.units / 5 AND OLD.used_units < NEW.used_units
                       AND (OLD.used_units < NEW.units - NEW.units / 5 OR NEW.used_units >= NEW.units))
    EXECUTE FUNCTION allowance_low_v1();

-- ---------------------------------------------------------------- told on

-- Number what is new and lay it out for those who are to be told. Returns how many events, -1 where somebody else is at it.
-- One at a time, and each batch is seen as a whole: who has read number n of a partner has read all below it.
CREATE FUNCTION event_fan_out_v1(p_limit integer) RETURNS integer LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    numbered uuid[];
    partners uuid[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('callbridge events', 0)) THEN
        RETURN -1;
    END IF;
    SELECT array_agg(f.event_id ORDER BY f.event_id), array_agg(DISTINCT f.partner_id) INTO numbered, partners
      FROM (SELECT e.event_id, e.partner_id FROM event e WHERE e.stream_no IS NULL ORDER BY e.event_id LIMIT p_limit) f;
    IF numbered IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO event_counter (partner_id, last_no) SELECT p, 0 FROM unnest(partners) AS p ON CONFLICT DO NOTHING;
    UPDATE event e SET stream_no = n.stream_no
      FROM (SELECT f.event_id, s.last_no + row_number() OVER (PARTITION BY f.partner_id ORDER BY f.event_id) AS stream_no
              FROM event f JOIN event_counter s USING (partner_id) WHERE f.event_id = ANY (numbered)) n
     WHERE e.event_id = n.event_id;
    UPDATE event_counter s SET last_no = n.last_no
      FROM (SELECT e.partner_id, max(e.stream_no) AS last_no FROM event e WHERE e.event_id = ANY (numbered) GROUP BY e.partner_id) n
     WHERE s.partner_id = n.partner_id;
    INSERT INTO delivery (partner_id, target_id, event_id, kind, subject_id, stream_no)
    SELECT e.partner_id, t.target_id, e.event_id, e.kind, e.subject_id, e.stream_no
      FROM event e CROSS JOIN LATERAL (
        SELECT w.endpoint_id AS target_id FROM webhook_endpoint w JOIN partner p USING (partner_id)
         WHERE w.partner_id = e.partner_id AND w.enabled AND p.state <> 'closed'
           AND CASE e.kind WHEN 'webhook.test' THEN w.endpoint_id = e.subject_id
                           ELSE w.kinds = '{}' OR e.kind = ANY (w.kinds) END
         UNION ALL
        SELECT s.subject_id FROM sink s
         WHERE s.subject_id = e.subject_id AND s.partner_id = e.partner_id AND s.valid_until > now()
           AND e.data ?| '{camara,click_to_dial}'
      ) AS t
     WHERE e.event_id = ANY (numbered)
     ORDER BY e.event_id
    ON CONFLICT DO NOTHING;
    PERFORM pg_notify('callbridge_events', p::text) FROM unnest(partners) AS p;
    RETURN cardinality(numbered);
END $$;

-- Take deliveries that are due, of listeners that are failing or of the others, at most p_each at a time to one listener and
-- one to one that is failing. What happened to one thing goes out in order, unless what comes before has failed once.
CREATE FUNCTION delivery_claim_v1(p_failing boolean, p_limit integer, p_each integer, p_lease_s double precision)
RETURNS TABLE (
    delivery_id uuid, target_id uuid, tries integer, event_id uuid, kind text, subject_id uuid, seq integer, data jsonb,
    occurred_at timestamptz, url text, secrets bytea[], bearer text, to_sink boolean
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE waiting AS (                                        -- each listener once, however much waits for it
        (SELECT d.target_id FROM delivery d WHERE d.state = 'pending' ORDER BY d.target_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.target_id FROM delivery d WHERE d.state = 'pending' AND d.target_id > w.target_id ORDER BY d.target_id LIMIT 1)
          FROM waiting w WHERE w.target_id IS NOT NULL
    ), open AS (
        SELECT w.target_id, CASE WHEN p_failing THEN 1 ELSE p_each END
               - (SELECT count(*) FROM delivery d
                   WHERE d.state = 'pending' AND d.target_id = w.target_id AND d.claimed_until > clock_timestamp()) AS slots
          FROM waiting w LEFT JOIN webhook_endpoint n ON n.endpoint_id = w.target_id LEFT JOIN sink s ON s.subject_id = w.target_id
         WHERE w.target_id IS NOT NULL AND (n.enabled OR s.valid_until > now())
           AND (coalesce(n.failing_since, s.failing_since) IS NOT NULL) = p_failing
    ), due AS (
        SELECT f.delivery_id FROM open o CROSS JOIN LATERAL (
            SELECT d.delivery_id, d.due_at FROM delivery d
             WHERE d.state = 'pending' AND d.target_id = o.target_id AND d.due_at <= clock_timestamp()
               AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM delivery b
                                WHERE b.state = 'pending' AND b.target_id = d.target_id AND b.subject_id = d.subject_id
                                  AND b.stream_no < d.stream_no AND (b.tries = 0 OR b.claimed_until > clock_timestamp()))
             ORDER BY d.due_at, d.stream_no LIMIT greatest(o.slots, 0)
        ) AS f ORDER BY f.due_at LIMIT p_limit
    ), mine AS (
        SELECT d.delivery_id FROM delivery d
         WHERE d.delivery_id IN (SELECT u.delivery_id FROM due u) AND d.state = 'pending'
           AND (d.claimed_until IS NULL OR d.claimed_until <= clock_timestamp())
           FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE delivery d SET claimed_until = clock_timestamp() + make_interval(secs => p_lease_s)
          FROM mine m WHERE d.delivery_id = m.delivery_id
        RETURNING d.delivery_id, d.target_id, d.tries, d.event_id
    )
    SELECT c.delivery_id, c.target_id, c.tries, e.event_id, e.kind, e.subject_id, e.seq, e.data, e.occurred_at,
           coalesce(n.url, s.url),
           (SELECT array_agg(k.secret ORDER BY k.secret_id DESC) FROM webhook_secret k
             WHERE k.endpoint_id = c.target_id AND (k.valid_until IS NULL OR k.valid_until > now())),
           s.bearer, n.endpoint_id IS NULL
      FROM claimed c JOIN event e USING (event_id)
      LEFT JOIN webhook_endpoint n ON n.endpoint_id = c.target_id LEFT JOIN sink s ON s.subject_id = c.target_id
     ORDER BY e.event_id;
END $$;

-- What became of one attempt. p_said: ok · failed · gone (410: never again). p_retry_s NULL: it is given up.
-- A listener that has only failed for p_disable_after_s is told nothing more.
CREATE FUNCTION delivery_note_v1(
    p_delivery_id uuid, p_said text, p_status integer, p_took_ms integer, p_error text, p_answer text, p_retry_s double precision,
    p_disable_after_s double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    noted delivery;
    disabled webhook_endpoint;
BEGIN
    UPDATE delivery d SET claimed_until = NULL, tries = d.tries + 1, last_status = p_status, last_error = p_error,
           state = CASE WHEN p_said = 'ok' THEN 'done' WHEN p_said = 'gone' OR p_retry_s IS NULL THEN 'failed' ELSE 'pending' END,
           due_at = CASE WHEN p_said = 'failed' THEN clock_timestamp() + make_interval(secs => coalesce(p_retry_s, 0)) ELSE d.due_at END,
           done_at = CASE WHEN p_said = 'ok' THEN clock_timestamp() END
     WHERE d.delivery_id = p_delivery_id AND d.state = 'pending'
    RETURNING d.* INTO noted;
    IF NOT FOUND THEN
        RETURN;                                                        -- another worker has noted it
    END IF;
    INSERT INTO delivery_attempt (delivery_id, attempt_no, tried_at, took_ms, status, error, answer)
    SELECT p_delivery_id, coalesce(max(x.attempt_no), 0) + 1, clock_timestamp() - make_interval(secs => p_took_ms / 1000.0),
           p_took_ms, p_status, p_error, p_answer
      FROM delivery_attempt x WHERE x.delivery_id = p_delivery_id;
    IF p_said = 'ok' THEN
        UPDATE webhook_endpoint w SET failing_since = NULL WHERE w.endpoint_id = noted.target_id AND w.failing_since IS NOT NULL;
        UPDATE sink s SET failing_since = NULL WHERE s.subject_id = noted.target_id AND s.failing_since IS NOT NULL;
        RETURN;
    END IF;
    UPDATE sink s SET failing_since = coalesce(s.failing_since, now()),
           valid_until = CASE WHEN p_said = 'gone' THEN least(s.valid_until, now()) ELSE s.valid_until END
     WHERE s.subject_id = noted.target_id AND (s.failing_since IS NULL OR p_said = 'gone');
    UPDATE webhook_endpoint w SET failing_since = now() WHERE w.endpoint_id = noted.target_id AND w.failing_since IS NULL;
    UPDATE webhook_endpoint w SET enabled = false, disabled_why = CASE p_said WHEN 'gone' THEN 'gone' ELSE 'failing' END,
           edition = w.edition + 1
     WHERE w.endpoint_id = noted.target_id AND w.enabled
       AND (p_said = 'gone' OR w.failing_since < now() - make_interval(secs => p_disable_after_s))
    RETURNING w.* INTO disabled;
    IF FOUND THEN
        INSERT INTO audit_log (partner_id, actor, action, subject, detail, correlator, remote)
        VALUES (disabled.partner_id, 'callbridge', 'webhook.disable', told_id_v1('whk', disabled.endpoint_id),
                jsonb_build_object('why', disabled.disabled_why, 'failing_since', told_at_v1(disabled.failing_since)), '', '');
    END IF;
END $$;

-- Send events since an instant again, or for the first time, to one endpoint: the oldest p_limit of them after p_after.
-- more_after: the last of these; NULL: that was all.
CREATE FUNCTION delivery_replay_v1(
    p_endpoint_id uuid, p_since timestamptz, p_after uuid, p_kinds text[], p_limit integer, OUT replayed integer, OUT more_after uuid
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    whose uuid;
    chosen uuid[];
BEGIN
    SELECT w.partner_id INTO whose FROM webhook_endpoint w WHERE w.endpoint_id = p_endpoint_id;
    SELECT array_agg(f.event_id ORDER BY f.event_id) INTO chosen FROM (
        SELECT e.event_id FROM event e
         WHERE e.partner_id = whose AND e.event_id >= uuid_floor_v1(p_since) AND e.event_id > p_after AND e.occurred_at >= p_since
           AND e.stream_no IS NOT NULL AND e.kind = ANY (p_kinds) AND (e.kind <> 'webhook.test' OR e.subject_id = p_endpoint_id)
         ORDER BY e.event_id LIMIT p_limit + 1) f;
    IF cardinality(chosen) > p_limit THEN
        more_after := chosen[p_limit];
        chosen := chosen[1:p_limit];
    END IF;
    INSERT INTO delivery AS d (partner_id, target_id, event_id, kind, subject_id, stream_no)
    SELECT e.partner_id, p_endpoint_id, e.event_id, e.kind, e.subject_id, e.stream_no
      FROM event e WHERE e.event_id = ANY (chosen) ORDER BY e.event_id
    ON CONFLICT (event_id, target_id) DO UPDATE SET state = 'pending', tries = 0, due_at = clock_timestamp(), done_at = NULL;
    replayed := coalesce(cardinality(chosen), 0);
    PERFORM pg_notify('callbridge_events', whose::text);
END $$;

-- Forget what is older, a batch at a time, and give up what nobody can be told any more. Returns how many events that were.
CREATE FUNCTION event_purge_v1(p_before timestamptz, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    gone integer;
BEGIN
    DELETE FROM event e WHERE e.event_id IN (
        SELECT o.event_id FROM event o WHERE o.event_id < uuid_floor_v1(p_before) ORDER BY o.event_id LIMIT p_limit);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE delivery d SET state = 'failed', last_error = 'nobody is to be told any more'
     WHERE d.state = 'pending' AND d.delivery_id IN (
        SELECT o.delivery_id FROM webhook_endpoint w JOIN delivery o ON o.target_id = w.endpoint_id AND o.state = 'pending'
         WHERE w.deleted_at IS NOT NULL
         UNION ALL
        SELECT o.delivery_id FROM sink s JOIN delivery o ON o.target_id = s.subject_id AND o.state = 'pending'
         WHERE s.valid_until < now()
         LIMIT p_limit);
    DELETE FROM sink s WHERE s.valid_until < p_before;
    DELETE FROM webhook_secret k WHERE k.valid_until < now();
    RETURN gone;
END $$;

-- ---------------------------------------------------------------- each sees its own

GRANT SELECT ON webhook_endpoint, delivery, delivery_attempt, event_counter TO callbridge_partner;
ALTER TABLE webhook_endpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_counter ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON webhook_endpoint TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON delivery TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON delivery_attempt TO callbridge_partner
    USING (EXISTS (SELECT FROM delivery d WHERE d.delivery_id = delivery_attempt.delivery_id));
CREATE POLICY own ON event_counter TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
