-- Traffic data goes when its time has come (TDDDG §§9–12); the books, the records and what was proved of it stay.

-- Numbers of the call have become pseudonyms then. NULL: they are there.
ALTER TABLE call ADD COLUMN purged_at timestamptz;

-- Which calls' time has come. Dates repeat, so it is small.
CREATE INDEX cdr_delete_after ON cdr (delete_after);

-- What numbers of a month's calls are turned into pseudonyms with: HMAC-SHA256 (RFC 2104), the key padded for its inner and its outer
-- hash. Once all calls of the month are purged the key is destroyed: then nobody can tell any more which number a pseudonym was.
CREATE TABLE pseudonym_key (
    month           date PRIMARY KEY CHECK (extract(day FROM month) = 1),  -- in which the calls were admitted (UTC)
    inner_pad       bytea CHECK (length(inner_pad) = 64),
    outer_pad       bytea CHECK (length(outer_pad) = 64),
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    destroyed_at    timestamptz,
    CHECK (num_nulls(inner_pad, outer_pad) = CASE WHEN destroyed_at IS NULL THEN 0 ELSE 2 END)
);

-- The proof of what was purged: each line follows the one before. rows of what, whose time had come from_day to until_day (exclusive).
CREATE TABLE purge_log (
    purge_no        bigint PRIMARY KEY CHECK (purge_no > 0),
    at              timestamptz NOT NULL,
    rule            text NOT NULL CHECK (rule IN ('billing', 'settlement', 'quality', 'age', 'all')),
    what            text NOT NULL CHECK (what ~ '^[a-z_ ]+$'),
    from_day        date,
    until_day       date NOT NULL,
    rows            bigint NOT NULL CHECK (rows >= 0),
    previous        bytea NOT NULL CHECK (length(previous) = 32),
    hash            bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE TRIGGER purge_log_insert_only BEFORE UPDATE OR DELETE ON purge_log FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER purge_log_no_truncate BEFORE TRUNCATE ON purge_log FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

CREATE FUNCTION purge_hash_v1(
    p_previous bytea, p_no bigint, p_at timestamptz, p_rule text, p_what text, p_from_day date, p_until_day date, p_rows bigint
) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(p_previous || convert_to(concat_ws('|', p_no, to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), p_rule,
                                                     p_what, coalesce(to_char(p_from_day, 'YYYY-MM-DD'), ''),
                                                     to_char(p_until_day, 'YYYY-MM-DD'), p_rows), 'UTF8'))
$$;

-- One line more, written by the one that purges.
CREATE FUNCTION purge_note_v1(p_rule text, p_what text, p_from_day date, p_until_day date, p_rows bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last purge_log;
    now_at timestamptz := clock_timestamp();
    zeros CONSTANT bytea := decode(repeat('00', 32), 'hex');
BEGIN
    SELECT * INTO last FROM purge_log l ORDER BY l.purge_no DESC LIMIT 1;
    INSERT INTO purge_log (purge_no, at, rule, what, from_day, until_day, rows, previous, hash)
    VALUES (coalesce(last.purge_no, 0) + 1, now_at, p_rule, p_what, p_from_day, p_until_day, p_rows, coalesce(last.hash, zeros),
            purge_hash_v1(coalesce(last.hash, zeros), coalesce(last.purge_no, 0) + 1, now_at, p_rule, p_what, p_from_day, p_until_day,
                          p_rows));
END $$;

CREATE FUNCTION pseudonym_v1(p_key pseudonym_key, p_number text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'p' || substr(encode(sha256((p_key).outer_pad || sha256((p_key).inner_pad || convert_to(p_number, 'UTF8'))), 'hex'), 1, 32)
$$;

-- A frozen tariff whose prefix is the number itself, as of a call within the app, keeps no more of it than its country.
CREATE FUNCTION tariff_without_v1(p_tariff jsonb, p_number text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN '+' || (p_tariff ->> 'prefix') = p_number
                THEN jsonb_set(p_tariff, '{prefix}', to_jsonb(left(p_tariff ->> 'prefix', 2))) ELSE p_tariff END
$$;

-- What was asked for, without the numbers in it.
CREATE FUNCTION detail_without_v1(p_detail jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(p_detail::text, '"\+[1-9][0-9]{2,14}"', '"+"', 'g')::jsonb
$$;

-- The calls whose time had come before p_day and not before p_from, into the temporary table purge_due of the session. held: why one
-- stays for now; only a dispute, and what is not numbered, holds it longer than p_hold_days. Returns how many.
CREATE FUNCTION purge_gather_v1(p_from date, p_day date, p_hold_days integer) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    found bigint;
    horizon timestamptz := (SELECT max(p.until) FROM cdr_pass p);
BEGIN
    CREATE TEMPORARY TABLE IF NOT EXISTS purge_due (n bigint PRIMARY KEY, call_id uuid, month date, rule text, until_day date, held text);
    TRUNCATE purge_due;
    INSERT INTO purge_due
    WITH exported AS (                                                 -- how far each recipient has its files; NULL: none is written
        SELECT r.partner_id, t.type, r.since_at,
               coalesce((SELECT min(f.from_at) FROM cdr_file f WHERE f.recipient_id = r.recipient_id AND f.type = t.type
                            AND f.state = 'planned'),
                        (SELECT max(f.to_at) FROM cdr_file f WHERE f.recipient_id = r.recipient_id AND f.type = t.type), r.since_at) AS until
          FROM cdr_recipient r CROSS JOIN LATERAL unnest(r.types) AS t (type)
         WHERE r.enabled AND r.period <> 'manual'
    )
    SELECT row_number() OVER (ORDER BY x.call_id), x.call_id,
           date_trunc('month', uuid_extract_timestamp(x.call_id) AT TIME ZONE 'UTC')::date, s.rule, s.last + 1,
           CASE WHEN s.disputed THEN 'dispute'
                WHEN s.at >= horizon OR EXISTS (SELECT FROM rerating r JOIN rerate_run n USING (run_id) WHERE r.call_id = x.call_id
                                                   AND (n.closed_at IS NULL OR n.closed_at >= horizon)) THEN 'not numbered'
                WHEN s.last + p_hold_days < p_day THEN NULL
                WHEN EXISTS (SELECT FROM cdr k JOIN exported o ON o.type = k.file_type AND k.at >= o.since_at AND k.at >= o.until
                                                              AND (o.partner_id IS NULL OR o.partner_id = k.partner_id)
                              WHERE k.call_id = x.call_id) THEN 'not exported'
                WHEN EXISTS (SELECT FROM cdr k JOIN deal d ON d.partner_id = k.partner_id AND d.state <> 'draft'
                               JOIN deal_version v ON v.deal_id = d.deal_id AND v.agreed @> k.at
                              WHERE k.call_id = x.call_id AND k.purpose <> 'quality'
                                AND NOT EXISTS (SELECT FROM statement q WHERE q.deal_id = d.deal_id AND q.state <> 'draft'
                                                   AND k.at >= q.from_at AND k.at < q.to_at)) THEN 'not settled' END
      FROM (SELECT DISTINCT k.call_id FROM cdr k WHERE k.delete_after >= p_from AND k.delete_after < p_day AND k.leg <> 'usage') x
     CROSS JOIN LATERAL (SELECT max(k.delete_after) AS last, max(k.at) AS at, bool_or(dispute_holds_v1(k.cdr_no)) AS disputed,
                                CASE WHEN bool_and(k.purpose = 'quality') THEN 'quality'
                                     WHEN bool_or(k.purpose IN ('on-net', 'destination')) THEN 'settlement' ELSE 'billing' END AS rule
                           FROM cdr k WHERE k.call_id = x.call_id) s
     WHERE s.last < p_day AND EXISTS (SELECT FROM call c WHERE c.call_id = x.call_id AND c.purged_at IS NULL);
    GET DIAGNOSTICS found = ROW_COUNT;
    ANALYZE purge_due;
    RETURN found;
END $$;

-- Purge what was gathered, of rows p_after + 1 to p_to, and write the proof. The month's keys are there. One transaction: it is done
-- and proved, or neither.
CREATE FUNCTION purge_calls_v1(p_after bigint, p_to bigint) RETURNS bigint LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
DECLARE
    ids uuid[] := ARRAY(SELECT d.call_id FROM purge_due d WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL ORDER BY d.call_id);
    until_day date := (SELECT max(d.until_day) FROM purge_due d WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL);
    gone bigint;
    step record;
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN 0;
    END IF;
    UPDATE attempt x SET buy = tariff_without_v1(x.buy, c.b_number)
      FROM call c WHERE c.call_id = ANY (ids) AND x.call_id = c.call_id AND '+' || (x.buy ->> 'prefix') = c.b_number;
    FOR step IN
        WITH done AS (
            UPDATE call c
               SET a_number = CASE WHEN c.a_number IN ('', 'anonymous') THEN c.a_number ELSE pseudonym_v1(k, c.a_number) END,
                   b_number = CASE WHEN c.b_number = '' THEN '' ELSE pseudonym_v1(k, c.b_number) END,
                   dialled = '', sip_call_id = '', uniqueid = '', sell = tariff_without_v1(c.sell, c.b_number),
                   routes = CASE WHEN strpos(c.routes::text, ltrim(c.b_number, '+')) > 0 THEN NULL ELSE c.routes END,
                   purged_at = clock_timestamp()
              FROM purge_due d JOIN pseudonym_key k USING (month)
             WHERE d.n > p_after AND d.n <= p_to AND d.held IS NULL AND c.call_id = d.call_id AND c.purged_at IS NULL
            RETURNING d.rule, d.until_day
        )
        SELECT o.rule, min(o.until_day) AS from_day, max(o.until_day) AS last_day, count(*) AS rows FROM done o GROUP BY o.rule ORDER BY o.rule
    LOOP
        PERFORM purge_note_v1(step.rule, 'calls', step.from_day - 1, step.last_day, step.rows);
    END LOOP;
    DELETE FROM call_withheld w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'withheld numbers', NULL, until_day, gone);
    END IF;
    DELETE FROM whatsapp_call w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'whatsapp ids', NULL, until_day, gone);
    END IF;
    DELETE FROM discrepancy w WHERE w.call_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'discrepancies', NULL, until_day, gone);
    END IF;
    UPDATE voice_message w SET from_number = NULL WHERE w.call_id = ANY (ids) AND w.from_number IS NOT NULL;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'senders of voice messages', NULL, until_day, gone);
    END IF;
    DELETE FROM event w WHERE w.subject_id = ANY (ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('all', 'events', NULL, until_day, gone);
    END IF;
    RETURN cardinality(ids);
END $$;

-- What holds numbers and is of use for some days only: at most so many rows of it that are older than p_day. Returns how many.
CREATE FUNCTION purge_aged_v1(p_what text, p_day date, p_limit integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    gone bigint;
BEGIN
    CASE p_what
        WHEN 'events' THEN
            DELETE FROM event e WHERE e.event_id IN (
                SELECT o.event_id FROM event o
                 WHERE o.event_id < uuid_floor_v1(p_day::timestamptz) AND split_part(o.kind, '.', 1) IN ('call', 'origination', 'subscriber',
                                                                                              'voice_message', 'fraud')
                 LIMIT p_limit);
        WHEN 'ordered calls' THEN
            DELETE FROM origination o WHERE o.origination_id IN (
                SELECT r.origination_id FROM origination r WHERE r.ended_at < p_day LIMIT p_limit);
        WHEN 'orders to switches' THEN
            DELETE FROM switch_order o WHERE o.order_id IN (
                SELECT r.order_id FROM switch_order r WHERE r.state IN ('done', 'failed') AND r.made_at < p_day LIMIT p_limit);
        WHEN 'answers kept for repeats' THEN
            DELETE FROM idempotency i USING (SELECT o.owner_id, o.key FROM idempotency o WHERE o.made_at < p_day LIMIT p_limit) o
             WHERE i.owner_id = o.owner_id AND i.key = o.key;
        WHEN 'numbers in the audit log' THEN
            UPDATE audit_log a SET detail = detail_without_v1(a.detail) WHERE a.audit_id IN (
                SELECT o.audit_id FROM audit_log o
                 WHERE o.action LIKE 'origination.%' AND o.audit_id < uuid_floor_v1(p_day::timestamptz) AND o.detail <> detail_without_v1(o.detail)
                 LIMIT p_limit);
    END CASE;
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        PERFORM purge_note_v1('age', p_what, NULL, p_day, gone);
    END IF;
    RETURN gone;
END $$;

-- The log of what was done stays as it was written, but for the numbers in it, which the purge takes out and nobody else.
CREATE FUNCTION audit_log_stays_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.action LIKE 'origination.%' AND NEW.detail = detail_without_v1(OLD.detail)
       AND OLD.done_at < now() - interval '1 day'
       AND to_jsonb(NEW) - 'detail' = to_jsonb(OLD) - 'detail' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% is insert-only: book a reversal instead', TG_TABLE_NAME USING ERRCODE = 'BR002';
END $$;
DROP TRIGGER audit_log_insert_only ON audit_log;
CREATE TRIGGER audit_log_insert_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_stays_v1();
