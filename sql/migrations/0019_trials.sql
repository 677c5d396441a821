-- Capacity trials: what a window with thresholds bears, looked at each second, and what came of it.
SET search_path = bridge, public;

-- ---------------------------------------------------------------- capacity trials

-- A window that is watched, from its opening to a verdict. It begins anew whenever the window is opened again.
-- thresholds and trial_s are those it began with. cut_short: the window was paused or closed by somebody else, or its thresholds changed.
CREATE TABLE trial (
    trial_id        uuid PRIMARY KEY DEFAULT uuidv7(),
    window_id       uuid NOT NULL REFERENCES rollout_window,
    partner_id      uuid REFERENCES partner,                           -- the rollout's: only this partner's calls are looked at
    thresholds      jsonb NOT NULL,
    trial_s         integer,                                           -- NULL: watched without an end
    verdict         text NOT NULL DEFAULT 'running' CHECK (verdict IN ('running', 'passed', 'failed', 'cut_short')),
    why             text,                                              -- failed: the threshold; cut_short: the window's cause, or changed
    value           double precision,                                  -- that was measured
    allowed         double precision,
    began_at        timestamptz NOT NULL,
    clock_at        timestamptz NOT NULL,                              -- trial_s count from here: later by the time nobody looked
    sampled_at      timestamptz NOT NULL,
    counted_until   timestamptz NOT NULL,
    ended_at        timestamptz,
    calls           bigint NOT NULL DEFAULT 0,                         -- admitted
    refused         bigint NOT NULL DEFAULT 0,                         -- for want of room
    activated_before integer NOT NULL,
    activated       integer NOT NULL DEFAULT 0,                        -- in it, known at its end
    next_opened     boolean NOT NULL DEFAULT false,
    measures        jsonb,                                             -- the report, once it has ended
    CHECK ((verdict = 'running') = (ended_at IS NULL)),
    CHECK ((verdict IN ('failed', 'cut_short')) = (why IS NOT NULL))
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX trial_running ON trial (window_id) WHERE ended_at IS NULL;
CREATE INDEX trial_of ON trial (window_id, trial_id);

-- The worst of some seconds. Of a trial there are at most 3600, and some for the time it waited for calls.
CREATE TABLE trial_sample (
    trial_id        uuid NOT NULL REFERENCES trial,
    at              timestamptz NOT NULL,                              -- the beginning of these seconds
    partner_id      uuid,                                              -- the trial's
    cps             integer NOT NULL,
    cps_peak        integer NOT NULL,
    live            integer NOT NULL,
    asr             double precision,
    pdd_p95_ms      integer,
    refusal_rate    double precision,
    database_ms     double precision NOT NULL,
    PRIMARY KEY (trial_id, at)
) WITH (fillfactor = 50);

-- One look at the calls since p_since, which is a minute ago at most; and the calls admitted and refused since p_counted, of those that
-- were made before p_until. The range of call ids keeps it to these calls, however many there were before.
-- p_partner_id NULL: everybody's. refused: for want of room.
CREATE FUNCTION rollout_sample_v1(
    p_partner_id uuid, p_since timestamptz, p_counted timestamptz, p_until timestamptz, p_at timestamptz,
    OUT cps bigint, OUT cps_peak bigint, OUT live bigint, OUT attempts bigint, OUT answered bigint, OUT pdds bigint, OUT pdd_p95_ms integer,
    OUT asked bigint, OUT refused bigint, OUT fresh bigint, OUT fresh_refused bigint
) LANGUAGE sql STABLE AS $$
    WITH looked AS MATERIALIZED (
        SELECT c.call_id, c.state, uuid_extract_timestamp(c.call_id) AS at, c.answered_at IS NOT NULL AS answered,
               c.state = 'refused' AND c.refuse_reason IN ('overloaded', 'unavailable', 'no_route') AS no_room
          FROM call c
         WHERE c.call_id >= uuid_floor_v1(least(p_since, p_counted)) AND (p_partner_id IS NULL OR c.partner_id = p_partner_id)
    ), running AS MATERIALIZED (
        SELECT l.call_id, l.pdd_ms FROM lease l
         WHERE l.call_id >= uuid_floor_v1(p_since) AND l.answered_at IS NOT NULL
    ), minute AS (
        SELECT m.*, m.answered OR r.call_id IS NOT NULL AS has_answer FROM looked m LEFT JOIN running r USING (call_id)
         WHERE m.at >= p_since
    ), rang AS (
        SELECT x.pdd_ms FROM attempt x JOIN looked m USING (call_id)
         WHERE x.call_id >= uuid_floor_v1(p_since) AND x.pdd_ms IS NOT NULL
         UNION ALL
        SELECT r.pdd_ms FROM running r JOIN looked m USING (call_id) WHERE r.pdd_ms IS NOT NULL
    ), paced AS (
        SELECT count(*) AS calls FROM minute m WHERE m.state <> 'refused' GROUP BY date_trunc('second', m.at)
    )
    SELECT count(*) FILTER (WHERE m.state <> 'refused' AND m.at >= date_trunc('second', p_at) - interval '1 second'
                              AND m.at < date_trunc('second', p_at)),
           coalesce((SELECT max(p.calls) FROM paced p), 0),
           (SELECT count(*) FROM lease l WHERE l.expires_at > p_at AND (p_partner_id IS NULL OR l.partner_id = p_partner_id)),
           count(*) FILTER (WHERE m.state <> 'refused' AND (m.has_answer OR m.state <> 'live')),
           count(*) FILTER (WHERE m.has_answer),
           (SELECT count(*) FROM rang), (SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY rang.pdd_ms) FROM rang),
           count(*) FILTER (WHERE m.state <> 'refused' OR m.no_room), count(*) FILTER (WHERE m.no_room),
           (SELECT count(*) FROM looked k WHERE k.state <> 'refused' AND k.at >= p_counted AND k.at < p_until),
           (SELECT count(*) FROM looked k WHERE k.no_room AND k.at >= p_counted AND k.at < p_until)
      FROM minute m
$$;

-- Peak and 95th percentile of each measure, the worse the higher; of asr the lowest, and what it was at least 95 times of 100.
CREATE FUNCTION trial_measures_v1(p_trial_id uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'database_ms_max', jsonb_build_array(max(s.database_ms), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.database_ms)),
        'cps_max', jsonb_build_array(max(s.cps_peak), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.cps)),
        'live_max', jsonb_build_array(max(s.live), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.live)),
        'refusal_rate_max', jsonb_build_array(max(s.refusal_rate), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.refusal_rate)),
        'pdd_p95_ms_max', jsonb_build_array(max(s.pdd_p95_ms), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.pdd_p95_ms)),
        'asr_min', jsonb_build_array(min(s.asr), percentile_disc(0.95) WITHIN GROUP (ORDER BY s.asr DESC)))
      FROM trial_sample s WHERE s.trial_id = p_trial_id
$$;

-- Calls admitted and refused that were made too short a while ago to be counted by any look; some of them may not be written yet.
CREATE FUNCTION trial_rest_v1(t trial, OUT calls bigint, OUT refused bigint) LANGUAGE sql STABLE AS $$
    SELECT count(*) FILTER (WHERE c.state <> 'refused'),
           count(*) FILTER (WHERE c.refuse_reason IN ('overloaded', 'unavailable', 'no_route'))
      FROM call c WHERE c.call_id >= uuid_floor_v1(t.counted_until) AND (t.partner_id IS NULL OR c.partner_id = t.partner_id)
$$;

-- Trials whose window is open no more, or has other thresholds, end; those of windows that are open begin. Returns those that run.
CREATE FUNCTION trial_tend_v1() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
BEGIN
    UPDATE trial t
       SET verdict = 'cut_short', why = CASE w.state WHEN 'open' THEN 'changed' ELSE w.cause END, ended_at = now(),
           activated = w.activated - t.activated_before, measures = trial_measures_v1(t.trial_id),
           (calls, refused) = (SELECT t.calls + n.calls, t.refused + n.refused FROM trial_rest_v1(t) n)
      FROM rollout_window w
     WHERE t.ended_at IS NULL AND w.window_id = t.window_id
       AND (w.state <> 'open' OR (w.thresholds, w.trial_s) IS DISTINCT FROM (t.thresholds, t.trial_s));
    INSERT INTO trial (window_id, partner_id, thresholds, trial_s, began_at, clock_at, sampled_at, counted_until, activated_before)
    SELECT w.window_id, w.partner_id, w.thresholds, w.trial_s, now(), now(), now(), now(), w.activated FROM rollout_window w
     WHERE w.state = 'open' AND w.thresholds IS NOT NULL
       AND NOT EXISTS (SELECT FROM trial t WHERE t.window_id = w.window_id AND t.ended_at IS NULL)
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT t.trial_id FROM trial t WHERE t.ended_at IS NULL ORDER BY t.trial_id;
END $$;

-- Keep a sample of a trial that the caller has locked. The clock waits where nobody had looked for more than p_gap_s. Returns the clock.
CREATE FUNCTION trial_note_v1(
    p_trial_id uuid, p_bucket_s integer, p_gap_s integer, p_at timestamptz, p_until timestamptz, p_cps bigint, p_cps_peak bigint,
    p_live bigint, p_asr double precision, p_pdd_p95_ms integer, p_refusal_rate double precision, p_database_ms double precision,
    p_fresh bigint, p_fresh_refused bigint
) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
    t trial;
BEGIN
    UPDATE trial x
       SET clock_at = x.clock_at + greatest(p_at - x.sampled_at - make_interval(secs => p_gap_s), interval '0'), sampled_at = p_at,
           counted_until = p_until, calls = x.calls + p_fresh, refused = x.refused + p_fresh_refused
     WHERE x.trial_id = p_trial_id RETURNING * INTO STRICT t;
    INSERT INTO trial_sample AS s (trial_id, at, partner_id, cps, cps_peak, live, asr, pdd_p95_ms, refusal_rate, database_ms)
    VALUES (p_trial_id, date_bin(make_interval(secs => p_bucket_s), p_at, t.began_at), t.partner_id, p_cps, p_cps_peak, p_live, p_asr,
            p_pdd_p95_ms, p_refusal_rate, p_database_ms)
    ON CONFLICT (trial_id, at) DO UPDATE
       SET cps = greatest(s.cps, excluded.cps), cps_peak = greatest(s.cps_peak, excluded.cps_peak),
           live = greatest(s.live, excluded.live), asr = least(s.asr, excluded.asr),
           pdd_p95_ms = greatest(s.pdd_p95_ms, excluded.pdd_p95_ms), refusal_rate = greatest(s.refusal_rate, excluded.refusal_rate),
           database_ms = greatest(s.database_ms, excluded.database_ms);
    RETURN t.clock_at;
END $$;

-- The verdict on a trial that the caller has locked, and what follows: a window that failed is paused, one that passed is closed and
-- opens the next. Returns the verdict; cut_short: somebody else had paused or closed the window.
CREATE FUNCTION trial_end_v1(
    p_trial_id uuid, p_verdict text, p_which text, p_value double precision, p_allowed double precision, p_at timestamptz
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    t trial;
    w rollout_window;
    no integer;
    done boolean;
BEGIN
    SELECT * INTO STRICT t FROM trial x WHERE x.trial_id = p_trial_id AND x.ended_at IS NULL FOR NO KEY UPDATE;
    done := rollout_window_set_v1(t.window_id, CASE p_verdict WHEN 'passed' THEN 'closed' ELSE 'paused' END, 'trial', 'callbridge', p_at);
    SELECT * INTO STRICT w FROM rollout_window x WHERE x.window_id = t.window_id;
    UPDATE trial x
       SET verdict = CASE WHEN done THEN p_verdict ELSE 'cut_short' END, why = CASE WHEN done THEN p_which ELSE w.cause END,
           value = CASE WHEN done THEN p_value END, allowed = CASE WHEN done THEN p_allowed END, ended_at = p_at,
           activated = w.activated - t.activated_before, measures = trial_measures_v1(p_trial_id),
           (calls, refused) = (SELECT t.calls + n.calls, t.refused + n.refused FROM trial_rest_v1(t) n)
     WHERE x.trial_id = p_trial_id RETURNING * INTO t;
    IF NOT done THEN
        RETURN t.verdict;
    END IF;
    no := rollout_note_v1(w.rollout_id, 'trial.' || p_verdict, 'trial', 'callbridge', p_at, w.partner_id, w.window_id,
                          p_data => jsonb_strip_nulls(jsonb_build_object('threshold', p_which, 'value', p_value, 'limit', p_allowed)));
    IF p_verdict = 'passed' AND w.next_window_id IS NOT NULL THEN
        UPDATE trial x SET next_opened = rollout_window_set_v1(w.next_window_id, 'open', 'trial', 'callbridge', p_at)
         WHERE x.trial_id = p_trial_id RETURNING * INTO t;
    END IF;
    PERFORM event_add_v1(w.partner_id, 'trial.' || p_verdict, w.window_id, no, jsonb_build_object(
        'window_id', told_id_v1('win', w.window_id), 'rollout_id', told_id_v1('rol', w.rollout_id), 'name', w.name, 'verdict', p_verdict,
        'threshold', p_which, 'value', p_value, 'limit', p_allowed, 'calls', t.calls, 'activated', t.activated,
        'began_at', told_at_v1(t.began_at), 'ended_at', told_at_v1(t.ended_at),
        'next_window_id', told_id_v1('win', w.next_window_id), 'next_opened', t.next_opened));
    RETURN t.verdict;
END $$;

GRANT SELECT ON trial, trial_sample TO callbridge_partner;
GRANT EXECUTE ON FUNCTION trial_measures_v1(uuid) TO callbridge_partner;
ALTER TABLE trial ENABLE ROW LEVEL SECURITY;
ALTER TABLE trial_sample ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON trial TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON trial_sample TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
