-- Reports of traffic, quality and margin; what of quality outlives traffic data; how a subscriber's bill names numbers.
SET search_path = bridge, public;

-- ---------------------------------------------------------------- reports

-- The tax that a gross amount contains, rounded half-up for each record, so that sums agree however they are ordered. p_tax: see cdr.
CREATE FUNCTION tax_in_v1(p_amount_micro bigint, p_tax jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_amount_micro = 0 OR coalesce(p_tax ->> 'tax', 'none') = 'none' THEN 0
                ELSE round(p_amount_micro * (p_tax ->> 'tax_ppm')::numeric / (1000000 + (p_tax ->> 'tax_ppm')::numeric))::bigint END
$$;

-- How the attempts and calls of an hour went. attempt: each seizure of a trunk. call: a call that seized one, as its last attempt
-- went. measured: seizures whose traffic data were there to be read; PDD in steps of 50 ms: {"34": 2} are two of 1700 to 1749 ms.
CREATE TABLE quality_hour (
    hour_at         timestamptz NOT NULL,
    level           text NOT NULL CHECK (level IN ('attempt', 'call')),
    partner_id      uuid,                                              -- attempt: whose trunk; call: whose subscriber called
    trunk_id        uuid,                                              -- NULL: a call
    destination     text NOT NULL,
    seizures        bigint NOT NULL CHECK (seizures > 0),
    answered        bigint NOT NULL CHECK (answered BETWEEN 0 AND seizures),
    measured        bigint NOT NULL CHECK (measured BETWEEN 0 AND seizures),
    effective       bigint NOT NULL CHECK (effective BETWEEN 0 AND measured),
    talk_ms         bigint NOT NULL,
    pdd             jsonb NOT NULL,
    UNIQUE NULLS NOT DISTINCT (hour_at, level, partner_id, trunk_id, destination)
);

-- Days of which quality_hour has everything: [from_at, to_at). Traffic data of the day may go then.
CREATE TABLE quality_day (
    from_at         timestamptz PRIMARY KEY,
    to_at           timestamptz NOT NULL CHECK (to_at > from_at),
    kept_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE quality_hour ENABLE ROW LEVEL SECURITY;                    -- and no policy: read through report_quality_v1
ALTER TABLE quality_day ENABLE ROW LEVEL SECURITY;

-- Quality as it can be read from traffic data, in the rows of quality_hour. Hours begin where they do in the time zone.
-- Not in SQL: inlined, its bounds would be unknown to the planner, which takes each call for the only one then.
CREATE FUNCTION quality_cells_v1(p_from timestamptz, p_to timestamptz, p_zone text) RETURNS TABLE (
    hour_at timestamptz, level text, partner_id uuid, trunk_id uuid, destination text,
    seizures bigint, answered bigint, measured bigint, effective bigint, talk_ms bigint, pdd jsonb
) LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH seizure AS (
        SELECT r.call_id, r.attempt_no, r.at, r.partner_id, r.trunk_id, r.destination, r.answered,
               r.talk_ms, x.call_id IS NOT NULL AS measured,
               x.call_id IS NOT NULL AND (r.answered OR x.fault IN ('caller', 'callee')) AS effective,
               least(x.pdd_ms / 50, 1200) AS pdd
          FROM cdr r LEFT JOIN attempt x ON x.call_id = r.call_id AND x.attempt_no = r.attempt_no
         WHERE r.leg = 'termination' AND r.kind = 'first' AND r.at >= p_from AND r.at < p_to
    ), last AS (
        SELECT DISTINCT ON (s.call_id) s.* FROM seizure s ORDER BY s.call_id, s.attempt_no DESC
    ), each AS (
        SELECT date_trunc('hour', s.at, p_zone) AS hour_at, 'attempt' AS level, s.partner_id, s.trunk_id, s.destination,
               s.answered, s.measured, s.effective, s.talk_ms, s.pdd
          FROM seizure s
        UNION ALL
        SELECT date_trunc('hour', s.at, p_zone), 'call', o.partner_id, NULL, o.destination,
               s.answered, s.measured, s.effective, s.talk_ms, s.pdd
          -- One by one, by the key: how many there are is not known to the planner, and a join may become their product.
          FROM last s CROSS JOIN LATERAL (
              SELECT k.partner_id, k.destination FROM cdr k
               WHERE k.call_id = s.call_id AND k.leg = 'origination' AND k.attempt_no = 0 AND k.kind = 'first' AND k.revision = 0
               LIMIT 1
          ) o
    ), step AS (
        SELECT e.hour_at, e.level, e.partner_id, e.trunk_id, e.destination, e.pdd, count(*) AS seizures,
               count(*) FILTER (WHERE e.answered) AS answered, count(*) FILTER (WHERE e.measured) AS measured,
               count(*) FILTER (WHERE e.effective) AS effective, sum(coalesce(e.talk_ms, 0)) AS talk_ms
          FROM each e GROUP BY e.hour_at, e.level, e.partner_id, e.trunk_id, e.destination, e.pdd
    )
    SELECT s.hour_at, s.level, s.partner_id, s.trunk_id, s.destination, sum(s.seizures)::bigint, sum(s.answered)::bigint,
           sum(s.measured)::bigint, sum(s.effective)::bigint, sum(s.talk_ms)::bigint,
           coalesce(jsonb_object_agg(s.pdd::text, s.seizures) FILTER (WHERE s.pdd IS NOT NULL), '{}')
      FROM step s GROUP BY s.hour_at, s.level, s.partner_id, s.trunk_id, s.destination;
END
$$;

-- Keep the quality of whole days that are numbered and not kept yet, before their traffic data may go. Returns the days kept.
-- To be called before each purge, and at the close of a month. Days begin in the time zone; one day is one transaction's work.
CREATE FUNCTION quality_keep_v1(p_zone text, p_days integer DEFAULT 400) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    horizon timestamptz := (SELECT max(c.until) FROM cdr_pass c);
    begins timestamptz;
    ends timestamptz;
    kept integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('quality_keep', 0));
    begins := coalesce((SELECT max(d.to_at) FROM quality_day d),
                       (SELECT date_trunc('day', r.at, p_zone) FROM cdr r ORDER BY r.cdr_no LIMIT 1));
    WHILE begins IS NOT NULL AND kept < p_days LOOP
        -- To the next midnight there: a day may have 23 or 25 hours, and the time zone may have been another one before.
        ends := date_trunc('day', date_trunc('day', begins, p_zone) + interval '36 hours', p_zone);
        EXIT WHEN ends > coalesce(horizon, '-infinity');
        INSERT INTO quality_hour SELECT * FROM quality_cells_v1(begins, ends, p_zone);
        INSERT INTO quality_day (from_at, to_at) VALUES (begins, ends);
        kept := kept + 1;
        begins := ends;
    END LOOP;
    RETURN kept;
END $$;

-- By what a report is ordered, as text that sorts like what it means. hour: of the day; week_hour: 1 (Monday) to 7, and the hour.
CREATE FUNCTION report_key_v1(
    p_by text, p_at timestamptz, p_zone text, p_destination text, p_partner_id uuid, p_trunk_id uuid, p_purpose text
) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE p_by
        WHEN 'destination' THEN p_destination
        WHEN 'partner' THEN coalesce(p_partner_id::text, '')
        WHEN 'trunk' THEN coalesce(p_trunk_id::text, '')
        WHEN 'purpose' THEN p_purpose
        WHEN 'day' THEN to_char(p_at AT TIME ZONE p_zone, 'YYYY-MM-DD')
        WHEN 'hour' THEN to_char(p_at AT TIME ZONE p_zone, 'HH24')
        WHEN 'week_hour' THEN to_char(p_at AT TIME ZONE p_zone, 'ID HH24')
        ELSE ''
    END
$$;

-- Whose report it is: a partner's, or NULL: the house's. As partners' requests run, without a partner, it is nobody's.
CREATE FUNCTION report_asking_v1() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(partner_asking_v1(), CASE WHEN 'callbridge_partner' IN (current_setting('role'), session_user)
                                              THEN '00000000-0000-0000-0000-000000000000'::uuid END)
$$;

-- Traffic and money of [p_from, p_to), by each that p_by names; sums of records, so that they are those of files and statements.
-- Of a partner: its subscribers' calls, and what its own trunks carried as cost; nothing of other carriers. p_partner_id without
-- a partner asking: its subscribers' calls and what all carriers got for these.
-- A row has one currency on each side; where they differ, a call is in two rows. Corrections count where they were made.
CREATE FUNCTION report_money_v1(
    p_from timestamptz, p_to timestamptz, p_zone text, p_by text[], p_partner_id uuid
) RETURNS TABLE (
    by text, key text, currency text, calls bigint, answered bigint, talk_ms bigint, billed_s bigint, covered_s bigint,
    free_calls bigint, free_s bigint, bundle_calls bigint, bundle_s bigint, gross_micro bigint, tax_micro bigint,
    usage_micro bigint, carried bigint, carried_s bigint, cost_micro bigint, corrections bigint
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH asked AS (
        SELECT report_asking_v1() AS asking, coalesce(report_asking_v1(), p_partner_id) AS partner_id
    ), o AS (
        SELECT r.* FROM cdr r CROSS JOIN asked a
         WHERE r.leg IN ('origination', 'usage') AND r.at >= p_from AND r.at < p_to
           AND (a.partner_id IS NULL OR r.partner_id = a.partner_id)
    ), t AS (
        SELECT r.* FROM cdr r CROSS JOIN asked a
         WHERE r.leg = 'termination' AND r.file_type <> 'quality' AND r.at >= p_from AND r.at < p_to
           AND (a.asking IS NULL OR r.partner_id = a.asking)
    ), line AS MATERIALIZED (
        SELECT coalesce(o.at, t.at) AS at, coalesce(o.partner_id, f.partner_id) AS partner_id,
               coalesce(o.destination, f.destination, t.destination) AS destination, coalesce(t.trunk_id, g.trunk_id) AS trunk_id,
               coalesce(o.leg, '') AS leg, coalesce(o.kind, t.kind) AS kind, o.answered, o.talk_ms, o.billed_s, o.covered_s,
               coalesce(o.purpose, 'wholesale') AS purpose, o.amount_micro, tax_in_v1(o.amount_micro, o.tax) AS tax_micro, o.currency,
               t.billed_s AS carried_s, t.amount_micro AS cost_micro, t.currency AS cost_currency, t.kind AS t_kind
          FROM o FULL JOIN t ON t.call_id = o.call_id AND t.kind = o.kind AND t.revision = o.revision
          -- The cost of a call that is numbered elsewhere, or of which only one side was corrected
          LEFT JOIN LATERAL (
              SELECT n.partner_id, n.destination FROM cdr n CROSS JOIN asked a
               WHERE o.call_id IS NULL AND n.call_id = t.call_id AND n.leg = 'origination' AND n.attempt_no = 0
                 AND n.kind = 'first' AND n.revision = 0 AND (a.asking IS NULL OR n.partner_id = a.asking) LIMIT 1
          ) f ON true
          LEFT JOIN LATERAL (
              SELECT n.trunk_id FROM cdr n CROSS JOIN asked a
               WHERE t.call_id IS NULL AND o.kind <> 'first' AND n.call_id = o.call_id AND n.leg = 'termination' AND n.kind = 'first'
                 AND n.revision = 0 AND n.answered AND (a.asking IS NULL OR n.partner_id = a.asking)
               ORDER BY n.attempt_no DESC LIMIT 1
          ) g ON true
         WHERE p_partner_id IS NULL OR report_asking_v1() IS NOT NULL OR coalesce(o.partner_id, f.partner_id) = p_partner_id
    ), side AS (
        SELECT l.at, l.partner_id, l.destination, l.trunk_id, l.leg, l.kind, l.answered, l.talk_ms, l.billed_s, l.covered_s, l.purpose,
               l.amount_micro, l.tax_micro, coalesce(l.currency, l.cost_currency)::text AS currency, w.t_kind, w.carried_s, w.cost_micro
          FROM line l LEFT JOIN LATERAL (SELECT l.t_kind, l.carried_s, l.cost_micro
                                          WHERE l.cost_currency = coalesce(l.currency, l.cost_currency)) w ON true
        UNION ALL
        SELECT l.at, l.partner_id, l.destination, l.trunk_id, '', l.kind, NULL, NULL, NULL, NULL, l.purpose,
               NULL, NULL, l.cost_currency::text, l.t_kind, l.carried_s, l.cost_micro
          FROM line l WHERE l.cost_currency <> l.currency
    )
    SELECT k.by, report_key_v1(k.by, s.at, p_zone, s.destination, s.partner_id, s.trunk_id, s.purpose), s.currency,
           count(*) FILTER (WHERE s.leg = 'origination' AND s.kind = 'first'),
           count(*) FILTER (WHERE s.leg = 'origination' AND s.kind = 'first' AND s.answered),
           coalesce(sum(s.talk_ms) FILTER (WHERE s.leg = 'origination'), 0)::bigint,
           coalesce(sum(s.billed_s) FILTER (WHERE s.leg = 'origination'), 0)::bigint,
           coalesce(sum(s.covered_s), 0)::bigint,
           count(*) FILTER (WHERE s.leg <> '' AND s.purpose IN ('destination', 'on-net') AND s.kind = 'first' AND s.answered),
           coalesce(sum(s.billed_s) FILTER (WHERE s.purpose IN ('destination', 'on-net')), 0)::bigint,
           count(*) FILTER (WHERE s.leg <> '' AND s.purpose = 'bundle' AND s.kind = 'first'),
           coalesce(sum(s.billed_s) FILTER (WHERE s.purpose = 'bundle'), 0)::bigint,
           coalesce(sum(s.amount_micro), 0)::bigint, coalesce(sum(s.tax_micro), 0)::bigint,
           coalesce(sum(s.amount_micro - s.tax_micro) FILTER (WHERE s.leg = 'usage'), 0)::bigint,
           count(*) FILTER (WHERE s.t_kind = 'first'), coalesce(sum(s.carried_s), 0)::bigint, coalesce(sum(s.cost_micro), 0)::bigint,
           count(*) FILTER (WHERE s.kind <> 'first')
      FROM side s CROSS JOIN unnest(p_by) AS k (by) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
$$;

-- Quality of [p_from, p_to), by each that p_by names: from what is kept where a day is, else from traffic data. By trunk it counts
-- attempts, by all else calls. A partner sees its subscribers' calls, and by trunk its own trunks.
CREATE FUNCTION report_quality_v1(
    p_from timestamptz, p_to timestamptz, p_zone text, p_by text[], p_partner_id uuid
) RETURNS TABLE (
    by text, key text, seizures bigint, answered bigint, measured bigint, effective bigint, talk_ms bigint, pdd jsonb
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH whole AS MATERIALIZED (
        SELECT d.from_at, d.to_at FROM quality_day d WHERE d.from_at < p_to AND d.to_at > p_from
    ), edge AS (
        SELECT p_from AS at UNION SELECT p_to UNION SELECT greatest(w.from_at, p_from) FROM whole w
        UNION SELECT least(w.to_at, p_to) FROM whole w
    ), piece AS (
        SELECT e.at AS from_at, lead(e.at) OVER (ORDER BY e.at) AS to_at FROM edge e
    ), cell AS (
        SELECT h.* FROM whole w JOIN quality_hour h ON h.hour_at >= w.from_at AND h.hour_at < w.to_at
         WHERE h.hour_at >= p_from AND h.hour_at < p_to
        UNION ALL
        SELECT c.* FROM piece g CROSS JOIN LATERAL quality_cells_v1(g.from_at, g.to_at, p_zone) c
         WHERE g.to_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM whole w WHERE w.from_at <= g.from_at AND w.to_at >= g.to_at)
    ), row AS (
        SELECT k.by, report_key_v1(k.by, c.hour_at, p_zone, c.destination, c.partner_id, c.trunk_id, 'quality') AS key, c.*
          FROM cell c CROSS JOIN unnest(p_by) AS k (by)
         WHERE c.level = CASE k.by WHEN 'trunk' THEN 'attempt' ELSE 'call' END
           AND (coalesce(report_asking_v1(), p_partner_id) IS NULL OR c.partner_id = coalesce(report_asking_v1(), p_partner_id))
    ), step AS (
        SELECT r.by, r.key, p.key AS step, sum(p.value::bigint) AS seizures
          FROM row r CROSS JOIN LATERAL jsonb_each_text(r.pdd) p GROUP BY r.by, r.key, p.key
    ), steps AS MATERIALIZED (  -- once, not for each line
        SELECT s.by, s.key, jsonb_object_agg(s.step, s.seizures) AS pdd FROM step s GROUP BY s.by, s.key
    )
    SELECT r.by, r.key, sum(r.seizures)::bigint, sum(r.answered)::bigint, sum(r.measured)::bigint, sum(r.effective)::bigint,
           sum(r.talk_ms)::bigint, coalesce((SELECT s.pdd FROM steps s WHERE s.by = r.by AND s.key = r.key), '{}')
      FROM row r GROUP BY r.by, r.key ORDER BY r.by, r.key
$$;
REVOKE ALL ON FUNCTION quality_keep_v1(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION report_money_v1(timestamptz, timestamptz, text, text[], uuid) TO callbridge_partner;
GRANT EXECUTE ON FUNCTION report_quality_v1(timestamptz, timestamptz, text, text[], uuid) TO callbridge_partner;

-- ---------------------------------------------------------------- bills

-- Bills and their balances go by the account.
CREATE INDEX cdr_account ON cdr (account_id, at) WHERE leg <> 'termination';

-- Whether a subscriber's bill has numbers whole or without their last three digits (TDDDG § 11 (1)). The choice made last
-- before a period holds for it; without one, numbers are shortened.
CREATE TABLE bill_choice (
    choice_id       uuid PRIMARY KEY DEFAULT uuidv7(),
    subscriber_id   uuid NOT NULL REFERENCES subscriber,
    partner_id      uuid,
    numbers         text NOT NULL CHECK (numbers IN ('full', 'short')),
    actor           text NOT NULL CHECK (actor <> ''),
    chosen_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX bill_choice_of ON bill_choice (subscriber_id, chosen_at);
CREATE TRIGGER bill_choice_insert_only BEFORE UPDATE OR DELETE ON bill_choice
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER bill_choice_no_truncate BEFORE TRUNCATE ON bill_choice
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();
GRANT SELECT (choice_id, subscriber_id, partner_id, numbers, actor, chosen_at) ON bill_choice TO callbridge_partner;
ALTER TABLE bill_choice ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON bill_choice TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
