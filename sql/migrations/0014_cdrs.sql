-- Call records as the API tells them: whose live calls are, the order of lists, one line of JSON a record, and what a partner
-- may see of a call.
SET search_path = bridge, public;

-- Lists go through these, newest first. NULLS FIRST makes them the only ones in the order `call_id DESC NULLS LAST`: by the primary
-- key a planner might look for one partner's calls among all of them. Calls that are no partner's are in neither.
DROP INDEX call_partner;
CREATE INDEX call_partner ON call (partner_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;
CREATE INDEX call_account ON call (account_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;

ALTER TABLE lease ADD COLUMN partner_id uuid;                          -- whose subscriber calls
UPDATE lease l SET partner_id = c.partner_id FROM call c WHERE c.call_id = l.call_id AND c.partner_id IS NOT NULL;
CREATE INDEX lease_partner ON lease (partner_id, call_id NULLS FIRST) WHERE partner_id IS NOT NULL;

-- ---------------------------------------------------------------- call records as the API tells them

-- Micro-units as a decimal string: exact, with two decimals at least.
CREATE FUNCTION money_text_v1(p_micro bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT round(p_micro * 0.000001, greatest(min_scale(p_micro * 0.000001), 2))::text
$$;

-- An instant as a JSON string: RFC 3339 to the millisecond, where the session's time zone is UTC.
CREATE FUNCTION instant_json_v1(p_at timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(to_char(p_at, '\"YYYY-MM-DD"T"HH24:MI:SS.MS"Z"\"'), 'null')
$$;

-- One call record as a line of JSON, beginning with its id. Functions like this one are inlined into a query, and a page of a
-- hundred records is a fraction of the work that rows are.
-- rating: received (it lasts, or nobody pays for it), rejected (refused), guided (ended without an answer), rated, rerated.
CREATE FUNCTION cdr_json_v1(
    p_call_id uuid, p_partner_id uuid, p_account_id uuid, p_subscriber_id uuid, p_a_number text, p_b_number text, p_dialled text,
    p_state text, p_refuse_reason text, p_admitted_at timestamptz, p_answered_at timestamptz, p_ended_at timestamptz,
    p_talk_ms bigint, p_q850_cause integer, p_release_party text, p_sell jsonb, p_billed_s integer, p_covered_s integer,
    p_amount_micro bigint, p_written_off_micro bigint, p_currency text, p_revision integer
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
CREATE FUNCTION cdr_page_v1(
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
                   cdr_json_v1(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell
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
                   cdr_json_v1(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell
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
                   cdr_json_v1(c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.state,
                               c.refuse_reason, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, c.q850_cause, c.release_party,
                               coalesce(r.sell, c.sell), coalesce(r.billed_s, h.billed_s), h.covered_s,
                               coalesce(r.amount_micro, h.amount_micro), coalesce(r.written_off_micro, h.written_off_micro), h.currency,
                               r.revision) AS line
              FROM (SELECT * FROM (
                       SELECT x.call_id, x.partner_id, x.account_id, x.subscriber_id, x.a_number, x.b_number, x.dialled, x.state,
                              x.refuse_reason, x.admitted_at, x.answered_at, x.ended_at, x.talk_ms, x.q850_cause, x.release_party, x.sell
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

-- A page of messages and data used before p_before, newest first: of a partner, else of all.
CREATE FUNCTION usage_page_v1(p_partner_id uuid, p_before uuid, p_since uuid, p_rows integer)
RETURNS TABLE (usage_id uuid, account_id uuid, partner_id uuid, service text, zone text, quantity bigint, charged_quantity bigint,
               amount_micro bigint, written_off_micro bigint, currency text, used_at timestamptz)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF p_partner_id IS NOT NULL THEN
        RETURN QUERY
        SELECT u.usage_id, u.account_id, u.partner_id, u.service, u.zone, u.quantity, u.charged_quantity, u.amount_micro,
               u.written_off_micro, u.currency::text, u.used_at
          FROM usage_record u WHERE u.partner_id = p_partner_id AND u.usage_id < p_before AND u.usage_id >= p_since
         ORDER BY u.usage_id DESC NULLS LAST LIMIT p_rows;
    ELSE
        RETURN QUERY
        SELECT u.usage_id, u.account_id, u.partner_id, u.service, u.zone, u.quantity, u.charged_quantity, u.amount_micro,
               u.written_off_micro, u.currency::text, u.used_at
          FROM usage_record u WHERE u.usage_id < p_before AND u.usage_id >= p_since ORDER BY u.usage_id DESC LIMIT p_rows;
    END IF;
END $$;

-- A page of calls in progress before p_before, newest first: of a partner, else of all.
CREATE FUNCTION live_page_v1(p_partner_id uuid, p_before uuid, p_rows integer)
RETURNS TABLE (call_id uuid, partner_id uuid, account_id uuid, subscriber_id uuid, a_number text, b_number text, dialled text,
               admitted_at timestamptz, answered_at timestamptz, limit_ms bigint, held_micro bigint, currency text)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    IF p_partner_id IS NOT NULL THEN
        RETURN QUERY
        SELECT c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.admitted_at, l.answered_at,
               l.limit_ms, h.held_micro, h.currency::text
          FROM (SELECT x.* FROM (SELECT o.call_id, o.answered_at, o.limit_ms FROM lease o
                                  WHERE o.partner_id = p_partner_id AND o.call_id < p_before
                                  ORDER BY o.call_id DESC NULLS LAST LIMIT 101) x LIMIT p_rows) l
          LEFT JOIN call c USING (call_id) LEFT JOIN hold h USING (call_id) ORDER BY l.call_id DESC NULLS LAST;
    ELSE
        RETURN QUERY
        SELECT c.call_id, c.partner_id, c.account_id, c.subscriber_id, c.a_number, c.b_number, c.dialled, c.admitted_at, l.answered_at,
               l.limit_ms, h.held_micro, h.currency::text
          FROM (SELECT x.* FROM (SELECT o.call_id, o.answered_at, o.limit_ms FROM lease o WHERE o.call_id < p_before
                                  ORDER BY o.call_id DESC LIMIT 101) x LIMIT p_rows) l
          LEFT JOIN call c USING (call_id) LEFT JOIN hold h USING (call_id) ORDER BY l.call_id DESC;
    END IF;
END $$;

-- What hangs on a call and is of ours: for the partner asking, of its own calls only, and no more than is its business.

-- The units a call held and burnt, by allowance in the order in which they paid.
CREATE FUNCTION call_bundles_v1(p_call_id uuid)
RETURNS TABLE (name text, per bigint, held_units bigint, used_units bigint, units bigint, left_units bigint, until_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT b.name, n.per, n.held_units, n.used_units, w.units, w.units - w.used_units - w.held_units, upper(w.valid)
      FROM (SELECT o.allowance_id, o.per, min(o.burn_no) AS first_no, sum(o.held_units)::bigint AS held_units,
                   sum(o.used_units)::bigint AS used_units
              FROM burn o WHERE o.source_id = p_call_id GROUP BY o.allowance_id, o.per) n
      JOIN allowance w USING (allowance_id) JOIN bundle b USING (bundle_id)
     WHERE EXISTS (SELECT FROM call c WHERE c.call_id = p_call_id AND c.partner_id = partner_asking_v1())
     ORDER BY n.first_no
$$;

-- Which attempts of a call went over trunks that are the partner's own.
CREATE FUNCTION call_own_trunks_v1(p_call_id uuid) RETURNS TABLE (attempt_no smallint, trunk_id uuid, trunk text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT x.attempt_no, t.trunk_id, t.name
      FROM attempt x JOIN call c USING (call_id) JOIN trunk t USING (trunk_id)
     WHERE x.call_id = p_call_id AND c.partner_id = partner_asking_v1() AND t.partner_id = c.partner_id
$$;

-- Every rate there is or was for the number of a call in the deck it was sold by, without its price.
CREATE FUNCTION call_candidates_v1(p_call_id uuid)
RETURNS TABLE (prefix text, origin_set text, from_at timestamptz, until_at timestamptz, added_in integer, removed_in integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    WITH asked AS (
        SELECT (c.sell ->> 'deck_id')::uuid AS deck_id,
               ARRAY(SELECT substr(c.b_number, 2, n) FROM generate_series(1, length(c.b_number) - 1) n) AS prefixes
          FROM call c WHERE c.call_id = p_call_id AND c.partner_id = partner_asking_v1() AND c.sell IS NOT NULL
    )
    SELECT r.prefix, r.origin_set, lower(r.valid), upper(r.valid), r.added_in, NULL::integer
      FROM asked a JOIN rate r ON r.deck_id = a.deck_id AND r.prefix = ANY (a.prefixes)
     UNION ALL
    SELECT p.prefix, p.origin_set, lower(p.valid), upper(p.valid), p.added_in, p.removed_in
      FROM asked a JOIN rate_past p ON p.deck_id = a.deck_id AND p.prefix = ANY (a.prefixes)
$$;

-- When a call was given which of its later prices.
CREATE FUNCTION call_revised_v1(p_call_id uuid) RETURNS TABLE (revision integer, created_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = bridge, pg_temp AS $$
    SELECT r.revision, u.created_at
      FROM rerating r JOIN call c USING (call_id) JOIN rerate_run u USING (run_id)
     WHERE r.call_id = p_call_id AND c.partner_id = partner_asking_v1()
$$;

-- ---------------------------------------------------------------- each sees its own

-- Of a call: not over which carriers it may go, of an attempt neither trunk nor cost, of a later price only what it sells for.
GRANT SELECT (call_id, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state, refuse_reason, sell, admitted_at,
    answered_at, ended_at, talk_ms, q850_cause, release_party, bundled, partner_id) ON call TO callbridge_partner;
GRANT SELECT (call_id, attempt_no, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at) ON attempt TO callbridge_partner;
GRANT SELECT ON charge TO callbridge_partner;
GRANT SELECT (call_id, account_id, attempt_no, limit_ms, answered_at, pdd_ms, expires_at, partner_id) ON lease TO callbridge_partner;
GRANT SELECT (call_id, revision, sell, billed_s, amount_micro, written_off_micro, reversal_id, rebooking_id) ON rerating
    TO callbridge_partner;
GRANT SELECT ON origin_set TO callbridge_partner;
ALTER TABLE call ENABLE ROW LEVEL SECURITY;
ALTER TABLE attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE charge ENABLE ROW LEVEL SECURITY;
ALTER TABLE lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE rerating ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON call TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON lease TO callbridge_partner USING (partner_id = (SELECT partner_asking_v1()));
CREATE POLICY own ON attempt TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = attempt.call_id));
CREATE POLICY own ON charge TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = charge.call_id));
CREATE POLICY own ON rerating TO callbridge_partner USING (EXISTS (SELECT FROM call c WHERE c.call_id = rerating.call_id));

CREATE INDEX usage_newest ON usage_record (partner_id, usage_id NULLS FIRST) WHERE partner_id IS NOT NULL;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bridge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION money_text_v1(bigint), instant_json_v1(timestamptz),
    cdr_json_v1(uuid, uuid, uuid, uuid, text, text, text, text, text, timestamptz, timestamptz, timestamptz, bigint, integer, text,
                jsonb, integer, integer, bigint, bigint, text, integer),
    cdr_page_v1(uuid, uuid, uuid, uuid, integer, text, uuid, text, text, bigint),
    live_page_v1(uuid, uuid, integer), usage_page_v1(uuid, uuid, uuid, integer),
    call_bundles_v1(uuid), call_own_trunks_v1(uuid), call_candidates_v1(uuid), call_revised_v1(uuid) TO callbridge_partner;

-- ---------------------------------------------------------------- live calls know whose they are

CREATE OR REPLACE FUNCTION call_admit_v2(
    p_switch_id uuid, p_uniqueid text, p_sip_call_id text, p_channel text,
    p_subscriber_id uuid, p_account_id uuid, p_a_number text, p_dialled text, p_b_number text,
    p_sell jsonb, p_routes jsonb, p_trunk_id uuid, p_trunk_cap integer,
    p_hold_micro bigint, p_currency text, p_limit_ms bigint, p_lease_s integer,
    p_allowance_ids uuid[], p_units bigint[], p_pers bigint[], p_at timestamptz,
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
    IF cap IS NOT NULL AND (SELECT count(*) FROM lease l WHERE l.account_id = p_account_id AND l.expires_at > now()) >= cap THEN
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
    call_id := uuidv7();
    IF p_allowance_ids IS NOT NULL AND NOT units_hold_v1(call_id, p_account_id, p_allowance_ids, p_units, p_pers, p_at) THEN
        UPDATE account a SET held_micro = a.held_micro - p_hold_micro WHERE a.account_id = p_account_id;
        status := 'units_gone';
        RETURN;
    END IF;
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number,
                      state, sell, routes, bundled, partner_id)
    VALUES (call_id, p_switch_id, p_uniqueid, p_sip_call_id, p_subscriber_id, p_account_id, p_a_number, p_dialled, p_b_number,
            'live', p_sell, p_routes, p_allowance_ids IS NOT NULL, partner);
    INSERT INTO lease (call_id, switch_id, account_id, trunk_id, channel, limit_ms, expires_at, partner_id)
    VALUES (call_id, p_switch_id, p_account_id, p_trunk_id, p_channel, p_limit_ms,
            clock_timestamp() + make_interval(secs => p_lease_s), partner);
    INSERT INTO hold (call_id, account_id, currency, opened_micro, held_micro)
    VALUES (call_id, p_account_id, p_currency, p_hold_micro, p_hold_micro);
    status := 'ok';
END $$;
