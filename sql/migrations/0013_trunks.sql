-- Trunks as partners and operators set them through the API, what the switch has of them, and how they are.
SET search_path = bridge, public;

ALTER TABLE trunk ADD COLUMN transport text NOT NULL DEFAULT 'udp' CHECK (transport IN ('udp', 'tcp'));
ALTER TABLE trunk ADD COLUMN codecs text[] NOT NULL DEFAULT '{alaw,ulaw}'
    CHECK (codecs <@ '{alaw,ulaw,g722,gsm}' AND cardinality(codecs) BETWEEN 1 AND 4);
ALTER TABLE trunk ADD COLUMN auth_username text CHECK (auth_username ~ '^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$');
ALTER TABLE trunk ADD COLUMN auth_secret text CHECK (auth_secret ~ '^[A-Za-z0-9!%*+,.:=?^_~-]{8,128}$');
ALTER TABLE trunk ADD COLUMN allowed_ips cidr[] NOT NULL DEFAULT '{}' CHECK (cardinality(allowed_ips) <= 32);
ALTER TABLE trunk ADD COLUMN cps integer CHECK (cps BETWEEN 1 AND 10000);
ALTER TABLE trunk ADD COLUMN b_format text NOT NULL DEFAULT 'e164_plus'
    CHECK (b_format IN ('e164_plus', 'e164', 'international', 'national'));
ALTER TABLE trunk ADD COLUMN a_format text NOT NULL DEFAULT 'e164_plus'
    CHECK (a_format IN ('e164_plus', 'e164', 'international', 'national'));
ALTER TABLE trunk ADD COLUMN tech_prefix text NOT NULL DEFAULT '' CHECK (tech_prefix ~ '^[0-9]{0,8}$');
ALTER TABLE trunk ADD COLUMN origin text NOT NULL DEFAULT 'domestic' CHECK (origin IN ('domestic', 'foreign'));
ALTER TABLE trunk ADD COLUMN state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining'));
ALTER TABLE trunk ADD COLUMN qualify_s integer CHECK (qualify_s BETWEEN 1 AND 3600);
ALTER TABLE trunk ADD COLUMN was_enabled boolean NOT NULL DEFAULT true;
ALTER TABLE trunk ADD CONSTRAINT trunk_auth_is_whole CHECK ((auth_username IS NULL) = (auth_secret IS NULL));
ALTER TABLE trunk ADD CONSTRAINT trunk_no_plus_behind_a_prefix CHECK (tech_prefix = '' OR b_format <> 'e164_plus');
ALTER TABLE trunk ADD CONSTRAINT trunk_enabled_is_remembered CHECK (was_enabled OR NOT enabled);

CREATE TRIGGER app_changed AFTER INSERT OR UPDATE OR DELETE ON app
    FOR EACH STATEMENT EXECUTE FUNCTION config_changed_v1();

-- What is known of a trunk, beside what was set: how it answers, and which edition the switch has. Written by the keeper only.
CREATE TABLE trunk_state (
    trunk_id        uuid PRIMARY KEY REFERENCES trunk ON DELETE CASCADE,
    health          text NOT NULL DEFAULT 'unknown' CHECK (health IN ('up', 'down', 'unknown')),
    health_at       timestamptz NOT NULL DEFAULT clock_timestamp(),    -- since when
    changes         integer NOT NULL DEFAULT 0,                        -- of health
    applied_edition integer,                                           -- what the switch has
    applied_at      timestamptz,
    apply_error     text                                               -- why it has no newer one
) WITH (fillfactor = 70);

-- Calls started on a trunk in one second, where it has a limit of these. Not worth a log: a crash lasts longer than a second.
CREATE UNLOGGED TABLE trunk_pace (
    trunk_id        uuid PRIMARY KEY,
    second          bigint NOT NULL,                                   -- since 1970, by the database's clock
    starts          integer NOT NULL
) WITH (fillfactor = 10);

-- Whether an app or another trunk calls from one of these networks: who calls must never be told by chance.
-- An app that is known by name, not by address, is passed over.
CREATE FUNCTION trunk_addresses_taken_v1(p_trunk_id uuid, p_networks cidr[]) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM trunk t CROSS JOIN unnest(t.allowed_ips) AS taken (network)
                    WHERE t.trunk_id IS DISTINCT FROM p_trunk_id AND taken.network && ANY (p_networks))
        OR EXISTS (SELECT FROM app a
                    WHERE CASE WHEN a.sip_host ~ '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+(:[0-9]+)?$'
                               THEN split_part(a.sip_host, ':', 1)::inet <<= ANY (p_networks) END)
$$;

-- One more call starts on a trunk now. False: this second has its p_cps already.
CREATE FUNCTION trunk_start_v1(p_trunk_id uuid, p_cps integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trunk_pace AS p (trunk_id, second, starts)
    VALUES (p_trunk_id, floor(extract(epoch FROM clock_timestamp()))::bigint, 1)
    ON CONFLICT (trunk_id) DO UPDATE                                   -- waiting for the row may have taken till the next second
       SET second = greatest(p.second, excluded.second), starts = CASE WHEN p.second < excluded.second THEN 1 ELSE p.starts + 1 END
     WHERE p.second < excluded.second OR p.starts < p_cps;
    RETURN FOUND;
END $$;

-- call_admit_v2 for a trunk with a limit of calls a second, and another status: trunk_paced, and nothing was written.
-- The trunk's row is locked last and for the shortest time; other trunks do not come here.
CREATE FUNCTION call_admit_paced_v1(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz, p_trunk_cps integer,
    OUT status text, OUT call_id uuid, OUT available_micro bigint
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.status, a.call_id, a.available_micro INTO status, call_id, available_micro
      FROM call_admit_v2(p_switch_id, p_uniqueid, p_sip_call_id, p_channel, p_subscriber_id, p_account_id, p_a_number, p_dialled,
                         p_b_number, p_sell, p_routes, p_trunk_id, p_trunk_cap, p_hold_micro, p_currency, p_limit_ms, p_lease_s,
                         p_allowance_ids, p_units, p_pers, p_at) a;
    IF status = 'ok' AND NOT trunk_start_v1(p_trunk_id, p_trunk_cps) THEN
        RAISE EXCEPTION 'paced' USING ERRCODE = 'BR900';
    END IF;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    status := 'trunk_paced';
    call_id := NULL;
END $$;

-- call_attempt_ended_v1 where the next trunk has a limit of calls a second: then 'full' is said of that, too.
CREATE FUNCTION call_attempt_ended_paced_v1(
    p_call_id uuid, p_attempt_no smallint, p_trunk_id uuid, p_outcome text, p_fault text, p_sip_code integer,
    p_q850_cause integer, p_pdd_ms integer, p_currency text, p_buy jsonb,
    p_next_attempt_no smallint, p_next_trunk_id uuid, p_next_cap integer, p_lease_s integer, p_next_cps integer
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    said := call_attempt_ended_v1(p_call_id, p_attempt_no, p_trunk_id, p_outcome, p_fault, p_sip_code, p_q850_cause, p_pdd_ms,
                                  p_currency, p_buy, p_next_attempt_no, p_next_trunk_id, p_next_cap, p_lease_s);
    IF said = 'ok' AND NOT trunk_start_v1(p_next_trunk_id, p_next_cps) THEN
        RAISE EXCEPTION 'paced' USING ERRCODE = 'BR900';
    END IF;
    RETURN said;
EXCEPTION WHEN SQLSTATE 'BR900' THEN
    RETURN 'full';
END $$;

-- A trunk was seen up or down, or nobody looks any more (unknown). Returns whether that is new.
-- Its partner is told of the fall and of the return; that a trunk which nobody had seen is up is no news.
CREATE FUNCTION trunk_seen_v1(p_trunk_id uuid, p_health text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    t trunk;
    before text;
    now_is trunk_state;
BEGIN
    SELECT * INTO t FROM trunk x WHERE x.trunk_id = p_trunk_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO trunk_state (trunk_id) VALUES (p_trunk_id) ON CONFLICT DO NOTHING;
    SELECT s.health INTO before FROM trunk_state s WHERE s.trunk_id = p_trunk_id FOR NO KEY UPDATE;
    IF before = p_health THEN
        RETURN false;
    END IF;
    UPDATE trunk_state s SET health = p_health, health_at = clock_timestamp(), changes = s.changes + 1
     WHERE s.trunk_id = p_trunk_id RETURNING s.* INTO now_is;
    IF p_health = 'down' OR (p_health = 'up' AND before = 'down') THEN
        PERFORM event_add_v1(t.partner_id, 'trunk.' || p_health, t.trunk_id, now_is.changes, jsonb_build_object(
            'trunk_id', 'trk_' || replace(t.trunk_id::text, '-', ''), 'name', t.name, 'health', p_health,
            'since', to_char(now_is.health_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')));
    END IF;
    PERFORM pg_notify('callbridge_config', 'trunk_state');             -- routing goes by it
    RETURN true;
END $$;

-- How a trunk does: calls on it now, and how the calls of the last hour went, as far back as the newest 100 000 attempts reach.
-- As a partner: of its own trunks only; of others there is no row.
CREATE FUNCTION trunk_quality_v1(p_trunk_id uuid) RETURNS TABLE (
    live_calls bigint, starts_now integer, attempts bigint, answered bigint, effective bigint,
    pdd_ms_median integer, pdd_ms_p95 integer, since timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH newest AS MATERIALIZED (
        SELECT x.call_id, x.trunk_id, x.outcome, x.fault, x.pdd_ms FROM attempt x
         WHERE x.call_id >= uuid_floor_v1(now() - interval '1 hour') ORDER BY x.call_id DESC LIMIT 100000
    ), q AS (
        SELECT count(*) AS attempts, count(*) FILTER (WHERE n.outcome = 'answered') AS answered,
               count(*) FILTER (WHERE n.outcome = 'answered' OR n.fault IN ('caller', 'callee')) AS effective,
               (percentile_disc(0.5) WITHIN GROUP (ORDER BY n.pdd_ms)) AS pdd_ms_median,
               (percentile_disc(0.95) WITHIN GROUP (ORDER BY n.pdd_ms)) AS pdd_ms_p95
          FROM newest n WHERE n.trunk_id = p_trunk_id
    )
    SELECT (SELECT count(*) FROM lease l WHERE l.trunk_id = t.trunk_id AND l.expires_at > now()),
           coalesce((SELECT p.starts FROM trunk_pace p
                      WHERE p.trunk_id = t.trunk_id AND p.second >= floor(extract(epoch FROM clock_timestamp()))::bigint), 0),
           q.attempts, q.answered, q.effective, q.pdd_ms_median, q.pdd_ms_p95,
           CASE WHEN (SELECT count(*) FROM newest) < 100000 THEN now() - interval '1 hour'
                ELSE (SELECT uuid_extract_timestamp(n.call_id) FROM newest n ORDER BY n.call_id LIMIT 1) END
      FROM trunk t CROSS JOIN q
     WHERE t.trunk_id = p_trunk_id AND (partner_asking_v1() IS NULL OR t.partner_id = partner_asking_v1())
$$;

-- ---------------------------------------------------------------- each sees its own

-- Not the carrier's account, and never the secret; that there is one, the user name says.
GRANT SELECT (trunk_id, name, deck_id, host, port, capacity, priority, ring_s, enabled, policy_class, partner_id, edition,
              transport, codecs, auth_username, allowed_ips, cps, b_format, a_format, tech_prefix, origin, state, qualify_s)
    ON trunk TO callbridge_partner;
GRANT SELECT ON trunk_state TO callbridge_partner;
ALTER TABLE trunk ENABLE ROW LEVEL SECURITY;
ALTER TABLE trunk_state ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON trunk TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON trunk_state TO callbridge_partner
    USING (EXISTS (SELECT FROM trunk t WHERE t.trunk_id = trunk_state.trunk_id));
GRANT EXECUTE ON FUNCTION trunk_quality_v1(uuid) TO callbridge_partner;
