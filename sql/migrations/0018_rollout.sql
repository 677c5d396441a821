-- Rollouts: windows, waves, members, invitations, and all that happened. An app that is launched is for everybody.
SET search_path = bridge, public;

ALTER TABLE app ADD COLUMN launched boolean NOT NULL DEFAULT false;    -- everybody may call, whoever is in rollout_allow

-- ---------------------------------------------------------------- rollout: who may call yet, and how it spreads

-- The rollout of an app. All that happens to it happens under the lock of its row, and is an event with the next last_seq:
-- so its events tell in which order, without gaps. closed: no window was open yet. launched and killed are for ever.
CREATE TABLE rollout (
    rollout_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    partner_id      uuid REFERENCES partner,                           -- who steers it; NULL: we
    app_id          uuid NOT NULL REFERENCES app,
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    state           text NOT NULL DEFAULT 'closed' CHECK (state IN ('closed', 'running', 'launched', 'killed')),
    invite_limit    integer CHECK (invite_limit BETWEEN 0 AND 1000000),  -- whom one may bring in; NULL: as many as one likes
    depth_max       integer CHECK (depth_max BETWEEN 1 AND 1000000),   -- length of a chain; NULL: any
    call_activates  boolean NOT NULL DEFAULT true,
    invite_s        integer NOT NULL DEFAULT 86400 CHECK (invite_s BETWEEN 60 AND 31536000),  -- so long an invitation is good
    settling        boolean NOT NULL DEFAULT false,                    -- keyed members may have become possible to activate
    last_seq        integer NOT NULL DEFAULT 0,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX rollout_of_app ON rollout (app_id) WHERE state <> 'killed';
CREATE INDEX rollout_app ON rollout (app_id, rollout_id);
CREATE INDEX rollout_partner ON rollout (partner_id, rollout_id NULLS FIRST);
CREATE INDEX rollout_settling ON rollout (rollout_id) WHERE settling;

-- While one is open, people can be activated.
CREATE TABLE rollout_window (
    window_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    partner_id      uuid REFERENCES partner,                           -- the rollout's
    name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    state           text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'open', 'paused', 'closed')),
    cause           text NOT NULL DEFAULT 'operator',                  -- of its state
    opens_at        timestamptz,                                       -- NULL: by hand
    closes_at       timestamptz,
    quota           integer CHECK (quota > 0),                         -- NULL: none
    activated       integer NOT NULL DEFAULT 0,                        -- in it
    thresholds      jsonb CHECK (jsonb_typeof(thresholds) = 'object'), -- of a capacity trial; NULL: none
    trial_s         integer CHECK (trial_s BETWEEN 1 AND 604800),
    next_window_id  uuid REFERENCES rollout_window,                    -- opened by a trial that was passed
    opened_at       timestamptz,                                       -- first
    closed_at       timestamptz,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT window_closes_after_it_opens CHECK (closes_at > opens_at),
    CONSTRAINT window_quota_holds CHECK (activated BETWEEN 0 AND coalesce(quota, activated)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    CHECK (next_window_id <> window_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX rollout_window_open ON rollout_window (rollout_id) WHERE state = 'open';
CREATE INDEX rollout_window_of ON rollout_window (rollout_id, window_id);
CREATE INDEX rollout_window_alive ON rollout_window (rollout_id) WHERE state <> 'closed';

-- Who is served: NULL is any. Where a rollout has waves, a member needs one that fits, and each that fits must have room.
-- server_key false: withheld. Who is brought in meanwhile has only the key in the client: keyed.
CREATE TABLE rollout_wave (
    wave_id         uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    partner_id      uuid REFERENCES partner,                           -- the rollout's
    country         text CHECK (country ~ '^[A-Z]{2}$'),
    platform        text CHECK (platform ~ '^[a-z][a-z0-9_]{0,30}$'),
    of_partner_id   uuid REFERENCES partner,                           -- whose subscribers
    quota           integer CHECK (quota > 0),
    activated       integer NOT NULL DEFAULT 0,
    server_key      boolean NOT NULL DEFAULT true,
    edition         integer NOT NULL DEFAULT 1,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE NULLS NOT DISTINCT (rollout_id, country, platform, of_partner_id),
    CONSTRAINT wave_quota_holds CHECK (activated BETWEEN 0 AND coalesce(quota, activated))
) WITH (fillfactor = 50);
CREATE INDEX rollout_wave_of ON rollout_wave (rollout_id, wave_id);

-- A subscriber in a rollout. place: on the waiting list, and afterwards where it was.
CREATE TABLE rollout_member (
    rollout_id      uuid NOT NULL REFERENCES rollout,
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid REFERENCES partner,                           -- the subscriber's
    state           text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'keyed', 'activated', 'removed')),
    country         text CHECK (country ~ '^[A-Z]{2}$'),               -- of the number; NULL: of none
    platform        text CHECK (platform ~ '^[a-z][a-z0-9_]{0,30}$'),  -- NULL: not told
    place           integer NOT NULL,                                  -- seq of the event that put it there
    inviter_id      uuid REFERENCES subscriber,                        -- NULL: brought in by hand
    depth           integer NOT NULL DEFAULT 0,                        -- length of the chain that led here
    call_id         uuid,                                              -- that brought it in
    invite_id       uuid,
    window_id       uuid REFERENCES rollout_window,                    -- it was activated in
    waiting_at      timestamptz NOT NULL,
    keyed_at        timestamptz,
    keyed_no        integer,                                           -- seq of the event: in this order they are activated
    activated_at    timestamptz,
    PRIMARY KEY (rollout_id, subscriber_id),
    CHECK (state <> 'activated' OR activated_at IS NOT NULL),
    CHECK (state <> 'keyed' OR keyed_no IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX rollout_member_partner ON rollout_member (partner_id, rollout_id, subscriber_id NULLS FIRST);
CREATE INDEX rollout_member_state ON rollout_member (rollout_id, state, subscriber_id);
CREATE INDEX rollout_member_partner_state ON rollout_member (partner_id, rollout_id, state, subscriber_id NULLS FIRST);
CREATE INDEX rollout_member_waiting ON rollout_member (rollout_id, place) WHERE state = 'waiting';
CREATE INDEX rollout_member_keyed ON rollout_member (rollout_id, keyed_no) WHERE state = 'keyed';
CREATE INDEX rollout_member_inviter ON rollout_member (rollout_id, inviter_id, subscriber_id);
CREATE INDEX rollout_member_roots ON rollout_member (rollout_id, subscriber_id) WHERE depth <= 1 AND state <> 'waiting';
CREATE INDEX rollout_member_of ON rollout_member (subscriber_id);

-- Good once, for one number, in the window it was made in. Of the code only the SHA-256 is kept.
CREATE TABLE rollout_invite (
    invite_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    window_id       uuid NOT NULL REFERENCES rollout_window,
    partner_id      uuid REFERENCES partner,                           -- the inviter's
    inviter_id      uuid NOT NULL REFERENCES subscriber,
    number          e164 NOT NULL,
    hash            bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    made_at         timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ended_at        timestamptz,                                       -- used, or replaced by a newer one
    used_by         uuid REFERENCES subscriber,
    CHECK (used_by IS NULL OR ended_at IS NOT NULL)
);
CREATE INDEX rollout_invite_of ON rollout_invite (rollout_id, invite_id);
CREATE INDEX rollout_invite_partner ON rollout_invite (partner_id, rollout_id, invite_id NULLS FIRST);
CREATE INDEX rollout_invite_inviter ON rollout_invite (rollout_id, inviter_id, number) WHERE ended_at IS NULL;

-- Every transition there was, in order. From these alone states and counters can be worked out again.
CREATE TABLE rollout_event (
    rollout_event_id uuid PRIMARY KEY DEFAULT uuidv7(),
    rollout_id      uuid NOT NULL REFERENCES rollout,
    seq             integer NOT NULL,
    partner_id      uuid,                                              -- the rollout's; of a member: the subscriber's
    kind            text NOT NULL CHECK (kind ~ '^[a-z]+\.[a-z_]+$'),
    cause           text NOT NULL CHECK (cause IN ('operator', 'time', 'quota', 'trial', 'launch', 'kill', 'call', 'invite', 'key',
                                                   'sign_up', 'closed')),
    actor           text NOT NULL,
    window_id       uuid,
    wave_ids        uuid[] NOT NULL DEFAULT '{}',
    subscriber_id   uuid,
    inviter_id      uuid,
    call_id         uuid,
    invite_id       uuid,
    data            jsonb NOT NULL DEFAULT '{}',
    at              timestamptz NOT NULL,
    UNIQUE (rollout_id, seq)
);
CREATE INDEX rollout_event_of ON rollout_event (rollout_id, rollout_event_id);
CREATE INDEX rollout_event_partner ON rollout_event (partner_id, rollout_id, rollout_event_id NULLS FIRST);
CREATE TRIGGER rollout_event_insert_only BEFORE UPDATE OR DELETE ON rollout_event
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER rollout_event_no_truncate BEFORE TRUNCATE ON rollout_event
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- The next event of a rollout. The update locks the rollout until the end of the transaction.
CREATE FUNCTION rollout_note_v1(
    p_rollout_id uuid, p_kind text, p_cause text, p_actor text, p_at timestamptz, p_partner_id uuid,
    p_window_id uuid DEFAULT NULL, p_subscriber_id uuid DEFAULT NULL, p_inviter_id uuid DEFAULT NULL, p_call_id uuid DEFAULT NULL,
    p_invite_id uuid DEFAULT NULL, p_wave_ids uuid[] DEFAULT '{}', p_data jsonb DEFAULT '{}'
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    no integer;
BEGIN
    UPDATE rollout r SET last_seq = r.last_seq + 1 WHERE r.rollout_id = p_rollout_id RETURNING r.last_seq INTO STRICT no;
    INSERT INTO rollout_event (rollout_id, seq, partner_id, kind, cause, actor, window_id, wave_ids, subscriber_id, inviter_id, call_id,
                               invite_id, data, at)
    VALUES (p_rollout_id, no, p_partner_id, p_kind, p_cause, p_actor, p_window_id, p_wave_ids, p_subscriber_id, p_inviter_id, p_call_id,
            p_invite_id, p_data, p_at);
    RETURN no;
END $$;

-- The rollout that a subscriber of an app is in: the one that is not killed, else the last that was.
CREATE FUNCTION rollout_of_v1(p_app_id uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT r.rollout_id FROM rollout r WHERE r.app_id = p_app_id ORDER BY r.state = 'killed', r.rollout_id DESC LIMIT 1
$$;

-- Whether a window may go from one state to another.
CREATE FUNCTION rollout_window_may_v1(p_from text, p_to text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (p_from, p_to) IN (('planned', 'open'), ('planned', 'closed'), ('open', 'paused'), ('open', 'closed'),
                              ('paused', 'open'), ('paused', 'closed'))
$$;

-- The waves that a member is in. said: ok · keyed: a server key is withheld · wave: none fits, or one that fits is full
CREATE FUNCTION rollout_waves_v1(p_rollout_id uuid, p_country text, p_platform text, p_partner_id uuid, OUT said text, OUT wave_ids uuid[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    waves bigint;
    has_room boolean;
    has_key boolean;
BEGIN
    SELECT count(*), coalesce(array_agg(v.wave_id ORDER BY v.wave_id) FILTER (WHERE v.fits), '{}'),
           bool_and(v.quota IS NULL OR v.activated < v.quota) FILTER (WHERE v.fits), bool_and(v.server_key) FILTER (WHERE v.fits)
      INTO waves, wave_ids, has_room, has_key
      FROM (SELECT x.*, coalesce(x.country = p_country, x.country IS NULL) AND coalesce(x.platform = p_platform, x.platform IS NULL)
                        AND coalesce(x.of_partner_id = p_partner_id, x.of_partner_id IS NULL) AS fits
              FROM rollout_wave x WHERE x.rollout_id = p_rollout_id) v;
    said := CASE WHEN waves = 0 THEN 'ok' WHEN has_room IS NOT TRUE THEN 'wave' WHEN NOT has_key THEN 'keyed' ELSE 'ok' END;
END $$;

-- Somebody may call from now on. Under the lock of the rollout, which is left to the caller as all that is to be asked before.
-- p_window_id NULL: by hand, outside of windows and waves.
CREATE FUNCTION rollout_activate_v1(
    p_rollout_id uuid, p_subscriber_id uuid, p_window_id uuid, p_wave_ids uuid[], p_inviter_id uuid, p_depth integer, p_cause text,
    p_actor text, p_call_id uuid, p_invite_id uuid, p_at timestamptz
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
    inviter_partner uuid;
    no integer;
    filled boolean;
BEGIN
    UPDATE rollout_member x
       SET state = 'activated', inviter_id = p_inviter_id, depth = p_depth, call_id = p_call_id, invite_id = p_invite_id,
           window_id = p_window_id, activated_at = p_at
     WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id RETURNING * INTO STRICT m;
    INSERT INTO rollout_allow (subscriber_id, allowed_at) VALUES (p_subscriber_id, p_at) ON CONFLICT DO NOTHING;
    UPDATE rollout_wave v SET activated = v.activated + 1 WHERE v.wave_id = ANY (p_wave_ids);
    UPDATE rollout_window w SET activated = w.activated + 1 WHERE w.window_id = p_window_id
    RETURNING w.activated >= w.quota INTO filled;
    no := rollout_note_v1(p_rollout_id, 'member.activated', p_cause, p_actor, p_at, m.partner_id, p_window_id, p_subscriber_id,
                          p_inviter_id, p_call_id, p_invite_id, p_wave_ids, jsonb_build_object('depth', p_depth));
    SELECT s.partner_id INTO inviter_partner FROM subscriber s WHERE s.subscriber_id = p_inviter_id;
    PERFORM event_add_v1(m.partner_id, 'member.activated', p_subscriber_id, no, jsonb_build_object(
        'subscriber_id', told_id_v1('sub', p_subscriber_id), 'rollout_id', told_id_v1('rol', p_rollout_id),
        'window_id', told_id_v1('win', p_window_id), 'call_id', told_id_v1('call', p_call_id),
        'inviter_id', CASE WHEN inviter_partner = m.partner_id THEN told_id_v1('sub', p_inviter_id) END,
        'cause', p_cause, 'at', told_at_v1(p_at)));
    IF filled THEN
        PERFORM rollout_window_set_v1(p_window_id, 'closed', 'quota', p_actor, p_at);
    END IF;
END $$;

-- Activate who is keyed and may be: in order, while a window is open, within quotas. Returns whether there may be more.
CREATE FUNCTION rollout_settle_v1(p_rollout_id uuid, p_rows integer, p_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    w rollout_window;
    m rollout_member;
    v record;
    seen integer := 0;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    IF NOT r.settling THEN
        RETURN false;
    END IF;
    FOR m IN
        SELECT x.* FROM rollout_member x JOIN subscriber s USING (subscriber_id)
         WHERE x.rollout_id = p_rollout_id AND x.state = 'keyed' AND s.state = 'active'
           AND (SELECT y.said FROM rollout_waves_v1(x.rollout_id, x.country, x.platform, x.partner_id) y) = 'ok'
         ORDER BY x.keyed_no LIMIT p_rows
    LOOP
        SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open' FOR NO KEY UPDATE;
        EXIT WHEN NOT FOUND;
        seen := seen + 1;
        SELECT * INTO v FROM rollout_waves_v1(p_rollout_id, m.country, m.platform, m.partner_id);
        CONTINUE WHEN v.said <> 'ok';                                  -- those before it have filled the wave
        PERFORM rollout_activate_v1(p_rollout_id, m.subscriber_id, w.window_id, v.wave_ids, m.inviter_id, m.depth, 'key', 'callbridge',
                                    m.call_id, m.invite_id, p_at);
    END LOOP;
    IF seen < p_rows THEN
        UPDATE rollout x SET settling = false WHERE x.rollout_id = p_rollout_id;
    END IF;
    RETURN seen = p_rows;
END $$;

-- Bring a window into a state. cause: operator, time, quota, trial, launch, kill. False: it is in that state, or cannot come into it:
-- a window opens only where none is open, its quota is not reached, and the rollout is neither launched nor killed.
CREATE FUNCTION rollout_window_set_v1(p_window_id uuid, p_state text, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    w rollout_window;
    no integer;
BEGIN
    SELECT x.* INTO r FROM rollout x JOIN rollout_window y USING (rollout_id) WHERE y.window_id = p_window_id FOR NO KEY UPDATE OF x;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.window_id = p_window_id FOR NO KEY UPDATE;
    IF NOT rollout_window_may_v1(w.state, p_state) THEN
        RETURN false;
    END IF;
    IF p_state = 'open' AND (r.state IN ('launched', 'killed') OR w.activated >= w.quota
            OR EXISTS (SELECT FROM rollout_window x WHERE x.rollout_id = r.rollout_id AND x.state = 'open')) THEN
        RETURN false;
    END IF;
    UPDATE rollout_window x
       SET state = p_state, cause = p_cause, edition = x.edition + 1,
           opened_at = CASE p_state WHEN 'open' THEN coalesce(x.opened_at, p_at) ELSE x.opened_at END,
           closed_at = CASE p_state WHEN 'closed' THEN p_at END
     WHERE x.window_id = p_window_id RETURNING * INTO w;
    IF p_state = 'open' AND r.state = 'closed' THEN
        PERFORM rollout_state_set_v1(r.rollout_id, 'running', p_cause, p_actor, p_at);
    END IF;
    no := rollout_note_v1(r.rollout_id, 'window.' || p_state, p_cause, p_actor, p_at, r.partner_id, p_window_id);
    PERFORM event_add_v1(r.partner_id, CASE p_state WHEN 'open' THEN 'window.opened' ELSE 'window.' || p_state END, p_window_id, no,
        jsonb_build_object('window_id', told_id_v1('win', p_window_id), 'rollout_id', told_id_v1('rol', r.rollout_id), 'name', w.name,
                           'state', p_state, 'cause', p_cause, 'activated', w.activated, 'quota', w.quota, 'at', told_at_v1(p_at)));
    IF p_state = 'open' THEN
        UPDATE rollout x SET settling = true WHERE x.rollout_id = r.rollout_id;
        PERFORM rollout_settle_v1(r.rollout_id, 200, p_at);            -- more: the keeper goes on
    END IF;
    RETURN true;
END $$;

-- Bring a rollout into a state: closed → running, → launched, → killed. The last two are the end of its windows, and final.
CREATE FUNCTION rollout_state_set_v1(p_rollout_id uuid, p_state text, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
    each_id uuid;
    no integer;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    IF NOT FOUND OR (r.state, p_state) NOT IN (('closed', 'running'), ('closed', 'launched'), ('closed', 'killed'),
                                               ('running', 'launched'), ('running', 'killed')) THEN
        RETURN false;
    END IF;
    IF p_state <> 'running' THEN
        FOR each_id IN SELECT x.window_id FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state <> 'closed' ORDER BY 1 LOOP
            PERFORM rollout_window_set_v1(each_id, 'closed', p_cause, p_actor, p_at);
        END LOOP;
    END IF;
    UPDATE rollout x SET state = p_state, settling = false, edition = x.edition + 1 WHERE x.rollout_id = p_rollout_id;
    IF p_state = 'launched' THEN
        UPDATE app SET launched = true, edition = app.edition + 1 WHERE app.app_id = r.app_id;
    END IF;
    no := rollout_note_v1(p_rollout_id, 'rollout.' || p_state, p_cause, p_actor, p_at, r.partner_id);
    PERFORM event_add_v1(r.partner_id, 'rollout.changed', p_rollout_id, no, jsonb_build_object(
        'rollout_id', told_id_v1('rol', p_rollout_id), 'name', r.name, 'state', p_state, 'cause', p_cause, 'at', told_at_v1(p_at)));
    RETURN true;
END $$;

-- A subscriber who is proved: may call at once where there is no rollout or it is launched, else waits.
-- said: allowed · waiting · member: it was one before
CREATE FUNCTION rollout_enrol_v1(
    p_subscriber_id uuid, p_country text, p_platform text, p_cause text, p_actor text, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    s subscriber;
    r rollout;
    was text;
    no integer;
BEGIN
    SELECT * INTO STRICT s FROM subscriber x WHERE x.subscriber_id = p_subscriber_id;
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = rollout_of_v1(s.app_id) FOR NO KEY UPDATE;
    IF NOT FOUND OR r.state = 'launched' THEN
        INSERT INTO rollout_allow (subscriber_id, allowed_at) VALUES (p_subscriber_id, p_at) ON CONFLICT DO NOTHING;
        RETURN 'allowed';
    END IF;
    SELECT m.state INTO was FROM rollout_member m WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_subscriber_id;
    IF was IS NULL AND EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_subscriber_id) THEN
        RETURN 'allowed';
    END IF;
    IF was IN ('waiting', 'keyed', 'activated') THEN
        UPDATE rollout_member m SET platform = coalesce(p_platform, m.platform)
         WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_subscriber_id AND m.state = 'waiting';
        RETURN 'member';
    END IF;
    no := rollout_note_v1(r.rollout_id, 'member.waiting', p_cause, p_actor, p_at, s.partner_id, NULL, p_subscriber_id);
    INSERT INTO rollout_member AS m (rollout_id, subscriber_id, partner_id, country, platform, place, waiting_at)
    VALUES (r.rollout_id, p_subscriber_id, s.partner_id, p_country, p_platform, no, p_at)
    ON CONFLICT (rollout_id, subscriber_id) DO UPDATE                  -- who was removed comes again, and last
       SET state = 'waiting', place = excluded.place, platform = coalesce(excluded.platform, m.platform), waiting_at = excluded.waiting_at,
           inviter_id = NULL, depth = 0, call_id = NULL, invite_id = NULL, window_id = NULL, keyed_at = NULL, keyed_no = NULL,
           activated_at = NULL;
    PERFORM event_add_v1(s.partner_id, 'member.waiting', p_subscriber_id, no, jsonb_build_object(
        'subscriber_id', told_id_v1('sub', p_subscriber_id), 'rollout_id', told_id_v1('rol', r.rollout_id), 'at', told_at_v1(p_at)));
    RETURN 'waiting';
END $$;

-- Whom an inviter has brought in or may still: those with a key or more, and open invitations but those for p_but.
CREATE FUNCTION rollout_brought_v1(p_rollout_id uuid, p_inviter_id uuid, p_but text, p_at timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT (SELECT count(*) FROM rollout_member m
             WHERE m.rollout_id = p_rollout_id AND m.inviter_id = p_inviter_id AND m.state IN ('keyed', 'activated'))
         + (SELECT count(*) FROM rollout_invite i JOIN rollout_window w USING (window_id)
             WHERE i.rollout_id = p_rollout_id AND i.inviter_id = p_inviter_id AND i.ended_at IS NULL AND i.expires_at > p_at
               AND i.number <> p_but AND w.state IN ('open', 'paused'))
$$;

-- Whether one stands above another in the chain, so that bringing in the one by the other would close a ring.
CREATE FUNCTION rollout_above_v1(p_rollout_id uuid, p_above_id uuid, p_subscriber_id uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    step uuid := p_subscriber_id;
BEGIN
    IF p_above_id = p_subscriber_id THEN
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM rollout_member m WHERE m.rollout_id = p_rollout_id AND m.inviter_id = p_above_id) THEN
        RETURN false;                                                  -- mostly: who has brought in nobody stands above nobody
    END IF;
    WHILE step IS NOT NULL LOOP
        SELECT m.inviter_id INTO step FROM rollout_member m WHERE m.rollout_id = p_rollout_id AND m.subscriber_id = step;
        IF NOT FOUND THEN
            step := NULL;
        END IF;
        IF step = p_above_id THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Why nobody can be activated where no window is open.
CREATE FUNCTION rollout_shut_v1(p_rollout_id uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE (SELECT w.cause FROM rollout_window w JOIN rollout r USING (rollout_id)
                  WHERE w.rollout_id = p_rollout_id AND w.state = 'closed' AND r.state <> 'killed'
                    AND NOT EXISTS (SELECT FROM rollout_window p WHERE p.rollout_id = p_rollout_id AND p.state = 'paused')
                  ORDER BY w.closed_at DESC, w.window_id DESC LIMIT 1)
           WHEN 'quota' THEN 'quota' ELSE 'no_window' END
$$;

-- What bringing in one who waits would come to. Where the rollout is locked, that is so until the end of the transaction.
-- said: activated · enabled: was already · keyed · no_window · quota: the window is full · limit: the inviter's · depth ·
-- wave: none that fits has room · loop · no_rollout: no member, or the inviter may not call.
-- window_id: the one that is open; NULL: nothing can change. far, wave_ids: of who would be activated or keyed.
CREATE FUNCTION rollout_would_v1(
    p_rollout_id uuid, p_inviter_id uuid, p_subscriber_id uuid, p_at timestamptz,
    OUT said text, OUT window_id uuid, OUT far integer, OUT wave_ids uuid[]
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    r rollout;
    w rollout_window;
    m rollout_member;
    s subscriber;
BEGIN
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = p_rollout_id;
    SELECT * INTO s FROM subscriber x WHERE x.subscriber_id = p_subscriber_id AND x.state = 'active';
    SELECT * INTO m FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
    said := CASE
        WHEN r.state = 'launched' OR m.state = 'activated' THEN 'enabled'
        WHEN s.subscriber_id IS NULL OR m.state IS NULL OR m.state = 'removed'
            OR NOT EXISTS (SELECT FROM rollout_allow a JOIN subscriber x USING (subscriber_id)
                            WHERE a.subscriber_id = p_inviter_id AND x.app_id = r.app_id AND x.state = 'active') THEN 'no_rollout'
        WHEN m.state = 'keyed' THEN 'keyed' END;
    IF said IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open';
    window_id := w.window_id;
    far := 1 + coalesce((SELECT x.depth FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_inviter_id), 0);
    said := CASE
        WHEN w.window_id IS NULL THEN rollout_shut_v1(p_rollout_id)
        WHEN w.closes_at <= p_at THEN 'no_window'                      -- the keeper comes a moment later
        WHEN w.activated >= w.quota THEN 'quota'
        WHEN rollout_above_v1(p_rollout_id, p_subscriber_id, p_inviter_id) THEN 'loop'
        WHEN rollout_brought_v1(p_rollout_id, p_inviter_id, s.a_number, p_at) >= r.invite_limit THEN 'limit'
        WHEN far > r.depth_max THEN 'depth' END;
    IF said IS NULL THEN
        SELECT CASE v.said WHEN 'ok' THEN 'activated' ELSE v.said END, v.wave_ids INTO said, wave_ids
          FROM rollout_waves_v1(p_rollout_id, m.country, m.platform, m.partner_id) v;
    END IF;
END $$;

-- One who may call brings in one who waits. Under the lock of the rollout, all or nothing. Returns what rollout_would_v1 says.
CREATE FUNCTION rollout_bring_v1(
    p_rollout_id uuid, p_inviter_id uuid, p_subscriber_id uuid, p_cause text, p_call_id uuid, p_invite_id uuid, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
    v record;
    no integer;
BEGIN
    PERFORM 1 FROM rollout x WHERE x.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    PERFORM 1 FROM rollout_window x WHERE x.rollout_id = p_rollout_id AND x.state = 'open' FOR NO KEY UPDATE;
    SELECT * INTO v FROM rollout_would_v1(p_rollout_id, p_inviter_id, p_subscriber_id, p_at);
    IF v.window_id IS NULL THEN
        RETURN v.said;
    END IF;
    CASE v.said
        WHEN 'no_window' THEN
            PERFORM rollout_window_set_v1(v.window_id, 'closed', 'time', 'callbridge', p_at);
        WHEN 'quota' THEN                                              -- it was lowered to what there is
            PERFORM rollout_window_set_v1(v.window_id, 'closed', 'quota', 'callbridge', p_at);
        WHEN 'keyed' THEN
            SELECT * INTO m FROM rollout_member x WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
            no := rollout_note_v1(p_rollout_id, 'member.keyed', p_cause, 'sub_' || translate(p_inviter_id::text, '-', ''), p_at,
                                  m.partner_id, v.window_id, p_subscriber_id, p_inviter_id, p_call_id, p_invite_id, v.wave_ids,
                                  jsonb_build_object('depth', v.far));
            UPDATE rollout_member x
               SET state = 'keyed', inviter_id = p_inviter_id, depth = v.far, call_id = p_call_id, invite_id = p_invite_id,
                   keyed_at = p_at, keyed_no = no
             WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id;
        WHEN 'activated' THEN
            PERFORM rollout_activate_v1(p_rollout_id, p_subscriber_id, v.window_id, v.wave_ids, p_inviter_id, v.far, p_cause,
                                        'sub_' || translate(p_inviter_id::text, '-', ''), p_call_id, p_invite_id, p_at);
        ELSE
            NULL;
    END CASE;
    RETURN v.said;
END $$;

-- What a call to one of the same app would come to: see rollout_called_v1. rollout_id, window_id: where it would change something.
CREATE FUNCTION rollout_would_call_v1(
    p_caller_id uuid, p_callee_id uuid, p_at timestamptz, OUT said text, OUT rollout_id uuid, OUT window_id uuid
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    r rollout;
BEGIN
    IF EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_callee_id) THEN
        said := 'enabled';
        RETURN;
    END IF;
    SELECT x.* INTO r FROM rollout x JOIN subscriber s ON x.rollout_id = rollout_of_v1(s.app_id)
      JOIN subscriber c ON c.app_id = s.app_id WHERE s.subscriber_id = p_callee_id AND c.subscriber_id = p_caller_id;
    IF NOT FOUND THEN
        said := CASE WHEN EXISTS (SELECT FROM app JOIN subscriber s USING (app_id) WHERE s.subscriber_id = p_callee_id AND app.launched)
                     THEN 'enabled' ELSE 'no_rollout' END;
    ELSIF r.state = 'launched' THEN
        said := 'enabled';
    ELSIF p_caller_id = p_callee_id THEN
        said := 'loop';
    ELSIF NOT r.call_activates THEN
        said := 'no_window';
    ELSE
        SELECT CASE v.said WHEN 'depth' THEN 'limit' ELSE v.said END, r.rollout_id, v.window_id INTO said, rollout_id, window_id
          FROM rollout_would_v1(r.rollout_id, p_caller_id, p_callee_id, p_at) v;
    END IF;
END $$;

-- An enabled user calls one of the same app: while a window is open, that enables them. To be called before anything of the call is
-- written, in a statement of its own. What mostly is so (the callee may call, no window is open) is said without a lock.
-- Returns activated · enabled: was already · keyed · no_window · quota · limit: the caller's, or the chain's · wave · loop · no_rollout.
CREATE FUNCTION rollout_called_v1(p_caller_id uuid, p_callee_id uuid, p_call_id uuid, p_at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v record;
    said text;
BEGIN
    SELECT * INTO v FROM rollout_would_call_v1(p_caller_id, p_callee_id, p_at);
    IF v.window_id IS NULL THEN
        RETURN v.said;
    END IF;
    said := rollout_bring_v1(v.rollout_id, p_caller_id, p_callee_id, 'call', p_call_id, NULL, p_at);
    RETURN CASE said WHEN 'depth' THEN 'limit' ELSE said END;
END $$;

-- An invitation for a number. said: ok · no_rollout · no_window · quota · not_enabled: the inviter may not call yet · self ·
-- enabled: whose number it is may call · loop · limit · depth. A newer one for the same number replaces the older.
CREATE FUNCTION rollout_invite_v1(
    p_inviter_id uuid, p_number text, p_hash bytea, p_at timestamptz, OUT said text, OUT invite_id uuid, OUT expires_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r rollout;
    w rollout_window;
    s subscriber;
    guest uuid;
BEGIN
    SELECT * INTO s FROM subscriber x WHERE x.subscriber_id = p_inviter_id;
    SELECT * INTO r FROM rollout x WHERE x.rollout_id = rollout_of_v1(s.app_id) FOR NO KEY UPDATE;
    SELECT * INTO w FROM rollout_window x WHERE x.rollout_id = r.rollout_id AND x.state = 'open';
    SELECT x.subscriber_id INTO guest FROM subscriber x WHERE x.app_id = s.app_id AND x.a_number = p_number AND x.state <> 'closed';
    said := CASE
        WHEN r.rollout_id IS NULL THEN 'no_rollout'
        WHEN s.a_number = p_number THEN 'self'
        WHEN r.state = 'launched' THEN 'enabled'
        WHEN s.state <> 'active' OR NOT EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = p_inviter_id) THEN 'not_enabled'
        WHEN EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = guest) THEN 'enabled'
        WHEN w.window_id IS NULL THEN rollout_shut_v1(r.rollout_id)
        WHEN guest IS NOT NULL AND rollout_above_v1(r.rollout_id, guest, p_inviter_id) THEN 'loop'
        WHEN rollout_brought_v1(r.rollout_id, p_inviter_id, p_number, p_at) >= r.invite_limit THEN 'limit'
        WHEN coalesce((SELECT m.depth FROM rollout_member m
                        WHERE m.rollout_id = r.rollout_id AND m.subscriber_id = p_inviter_id), 0) >= r.depth_max THEN 'depth'
        ELSE 'ok' END;
    IF said <> 'ok' THEN
        RETURN;
    END IF;
    UPDATE rollout_invite i SET ended_at = p_at
     WHERE i.rollout_id = r.rollout_id AND i.inviter_id = p_inviter_id AND i.number = p_number AND i.ended_at IS NULL;
    INSERT INTO rollout_invite (rollout_id, window_id, partner_id, inviter_id, number, hash, made_at, expires_at)
    VALUES (r.rollout_id, w.window_id, s.partner_id, p_inviter_id, p_number, p_hash, p_at, p_at + make_interval(secs => r.invite_s))
    RETURNING rollout_invite.invite_id, rollout_invite.expires_at INTO invite_id, expires_at;
    PERFORM rollout_note_v1(r.rollout_id, 'invite.made', 'invite', 'sub_' || translate(p_inviter_id::text, '-', ''), p_at, s.partner_id,
                            w.window_id, NULL, p_inviter_id, NULL, invite_id);
END $$;

-- Take up an invitation. What rollout_bring_v1 returns, and: unknown: there is no such invitation for this number · used · expired.
-- One that brought nobody in (quota, wave, limit …) stays good.
CREATE FUNCTION rollout_accept_v1(p_subscriber_id uuid, p_hash bytea, p_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    i rollout_invite;
    w rollout_window;
    said text;
BEGIN
    SELECT x.* INTO i FROM rollout_invite x JOIN rollout r USING (rollout_id)
      JOIN subscriber s ON s.subscriber_id = p_subscriber_id AND s.a_number = x.number AND s.app_id = r.app_id
     WHERE x.hash = p_hash;
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    PERFORM 1 FROM rollout r WHERE r.rollout_id = i.rollout_id FOR NO KEY UPDATE;
    SELECT * INTO i FROM rollout_invite x WHERE x.invite_id = i.invite_id FOR NO KEY UPDATE;
    IF i.used_by IS NOT NULL THEN
        RETURN 'used';
    ELSIF i.ended_at IS NOT NULL OR i.expires_at <= p_at THEN
        RETURN 'expired';
    END IF;
    SELECT * INTO w FROM rollout_window x WHERE x.window_id = i.window_id;
    IF w.state = 'closed' THEN
        RETURN CASE w.cause WHEN 'quota' THEN 'quota' ELSE 'no_window' END;
    ELSIF w.state <> 'open' THEN
        RETURN 'no_window';
    END IF;
    said := rollout_bring_v1(i.rollout_id, i.inviter_id, p_subscriber_id, 'invite', NULL, i.invite_id, p_at);
    IF said = 'activated' OR (said = 'keyed' AND EXISTS (SELECT FROM rollout_member m WHERE m.invite_id = i.invite_id)) THEN
        UPDATE rollout_invite x SET ended_at = p_at, used_by = p_subscriber_id WHERE x.invite_id = i.invite_id;
    END IF;
    RETURN said;
END $$;

-- The first who may call, and exceptions: activated by hand, outside of windows, quotas and waves. False: no member that waits.
CREATE FUNCTION rollout_seed_v1(p_rollout_id uuid, p_subscriber_id uuid, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM rollout r WHERE r.rollout_id = p_rollout_id AND r.state IN ('closed', 'running') FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM rollout_member m JOIN subscriber s USING (subscriber_id)
                                 WHERE m.rollout_id = p_rollout_id AND m.subscriber_id = p_subscriber_id
                                   AND m.state IN ('waiting', 'keyed') AND s.state = 'active') THEN
        RETURN false;
    END IF;
    PERFORM rollout_activate_v1(p_rollout_id, p_subscriber_id, NULL, '{}', NULL, 0, 'operator', p_actor, NULL, NULL, p_at);
    RETURN true;
END $$;

-- Take somebody out, who may not call then. cause: operator · closed: the subscriber was. False: no member, or out already.
CREATE FUNCTION rollout_remove_v1(p_rollout_id uuid, p_subscriber_id uuid, p_cause text, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    m rollout_member;
BEGIN
    PERFORM 1 FROM rollout r WHERE r.rollout_id = p_rollout_id FOR NO KEY UPDATE;
    UPDATE rollout_member x SET state = 'removed'
     WHERE x.rollout_id = p_rollout_id AND x.subscriber_id = p_subscriber_id AND x.state <> 'removed' RETURNING * INTO m;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM rollout_allow a WHERE a.subscriber_id = p_subscriber_id;
    PERFORM rollout_note_v1(p_rollout_id, 'member.removed', p_cause, p_actor, p_at, m.partner_id, NULL, p_subscriber_id);
    RETURN true;
END $$;

-- Give the server key of a wave, or withhold it. False: it was so. Who has it keeps it.
CREATE FUNCTION rollout_key_set_v1(p_wave_id uuid, p_server_key boolean, p_actor text, p_at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    r rollout;
BEGIN
    SELECT x.* INTO r FROM rollout x JOIN rollout_wave y USING (rollout_id) WHERE y.wave_id = p_wave_id FOR NO KEY UPDATE OF x;
    UPDATE rollout_wave v SET server_key = p_server_key, edition = v.edition + 1
     WHERE v.wave_id = p_wave_id AND v.server_key <> p_server_key AND r.state IN ('closed', 'running');
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM rollout_note_v1(r.rollout_id, CASE WHEN p_server_key THEN 'wave.key_given' ELSE 'wave.key_withheld' END, 'operator', p_actor,
                            p_at, r.partner_id, p_wave_ids => ARRAY[p_wave_id]);
    IF p_server_key THEN
        UPDATE rollout x SET settling = true WHERE x.rollout_id = r.rollout_id;
        PERFORM rollout_settle_v1(r.rollout_id, 200, p_at);
    END IF;
    RETURN true;
END $$;

GRANT SELECT (launched) ON app TO callbridge_partner;
GRANT SELECT ON rollout, rollout_window, rollout_wave, rollout_member, rollout_event TO callbridge_partner;
GRANT SELECT (invite_id, rollout_id, window_id, partner_id, inviter_id, number, made_at, expires_at, ended_at, used_by) ON rollout_invite
    TO callbridge_partner;
ALTER TABLE rollout ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_window ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_wave ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_member ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_invite ENABLE ROW LEVEL SECURITY;
ALTER TABLE rollout_event ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON rollout TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_window TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_wave TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_member TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_invite TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON rollout_event TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
