-- Re-rating: what a call is priced by may be corrected, by a reversal and a rebooking, as often as it takes.
SET search_path = bridge, public;

-- One correction of many calls: first a preview, which moves nothing, then a run, which books it batch by batch.
-- Up to call booked_to, in the order of their ids, all is done; whoever resumes goes on from there.
CREATE TABLE rerate_run (
    run_id      uuid PRIMARY KEY DEFAULT uuidv7(),
    criteria    jsonb NOT NULL,
    author      text NOT NULL CHECK (btrim(author) <> ''),
    reason      text NOT NULL CHECK (btrim(reason) <> ''),
    state       text NOT NULL DEFAULT 'previewed' CHECK (state IN ('previewed', 'running', 'done', 'cancelled')),
    into_open   boolean NOT NULL DEFAULT false,
    totals      jsonb NOT NULL,
    booked_to   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at   timestamptz,
    CHECK ((state IN ('done', 'cancelled')) = (closed_at IS NOT NULL))
);

-- The tariffs a run prices by, each once.
CREATE TABLE rerate_tariff (
    run_id      uuid NOT NULL,
    tariff_no   integer NOT NULL,
    tariff      jsonb NOT NULL,
    PRIMARY KEY (run_id, tariff_no)
);

-- The calls whose price would change, and those that could not be priced. A call that stays as it is has no row.
CREATE TABLE rerate_item (
    run_id              uuid NOT NULL,
    call_id             uuid NOT NULL,
    skipped             text,                                          -- why nothing is booked
    account_id          uuid,
    revision            integer CHECK (revision > 0),                  -- the one this becomes
    sell_no             integer,                                       -- NULL: this side stays as it is
    billed_before_s     integer,
    billed_s            integer,
    amount_before_micro bigint,
    amount_micro        bigint CHECK (amount_micro >= 0),
    buy_no              integer,
    buy_billed_s        integer,
    cost_before_micro   bigint,
    cost_micro          bigint CHECK (cost_micro >= 0),
    differs             text,                                          -- the columns of the tariffs that do
    PRIMARY KEY (run_id, call_id)
);

-- What a call is priced by since a run. The call, its charge and its attempts stay as they were; the latest revision counts.
CREATE TABLE rerating (
    call_id             uuid NOT NULL,
    revision            integer NOT NULL CHECK (revision > 0),
    run_id              uuid NOT NULL,
    sell                jsonb NOT NULL,
    billed_s            integer NOT NULL,
    amount_micro        bigint NOT NULL CHECK (amount_micro >= 0),
    written_off_micro   bigint NOT NULL CHECK (written_off_micro BETWEEN 0 AND amount_micro),
    buy                 jsonb,                                         -- of the attempt that was answered
    buy_billed_s        integer NOT NULL DEFAULT 0,
    cost_micro          bigint NOT NULL DEFAULT 0 CHECK (cost_micro >= 0),
    reversal_id         uuid,                                          -- NULL: nothing had been booked
    rebooking_id        uuid,                                          -- NULL: nothing is to be booked
    PRIMARY KEY (call_id, revision)
);
CREATE TRIGGER rerating_insert_only BEFORE UPDATE OR DELETE ON rerating
    FOR EACH ROW EXECUTE FUNCTION insert_only_v1();
CREATE TRIGGER rerating_no_truncate BEFORE TRUNCATE ON rerating
    FOR EACH STATEMENT EXECUTE FUNCTION insert_only_v1();

-- What each answered call is priced by and booked as today. covered_s: talk paid by allowances, from the answer.
CREATE VIEW call_priced AS
SELECT c.call_id, h.account_id, c.a_number, c.b_number, c.admitted_at, c.answered_at, c.ended_at, c.talk_ms, h.covered_s,
       coalesce(r.revision, 0) AS revision,
       coalesce(r.sell, c.sell) AS sell, coalesce(r.billed_s, h.billed_s) AS billed_s,
       coalesce(r.amount_micro, h.amount_micro) AS amount_micro, coalesce(r.written_off_micro, h.written_off_micro) AS written_off_micro,
       h.currency, x.trunk_id, coalesce(r.buy, x.buy) AS buy, coalesce(r.buy_billed_s, x.billed_s, 0) AS buy_billed_s,
       coalesce(r.cost_micro, x.cost_micro, 0) AS cost_micro, x.currency AS cost_currency,
       CASE WHEN r.call_id IS NULL THEN c.call_id ELSE r.rebooking_id END AS transfer_id
  FROM call c JOIN charge h USING (call_id)
  LEFT JOIN attempt x ON x.call_id = c.call_id AND x.outcome = 'answered'
  LEFT JOIN (SELECT * FROM rerating o
              WHERE NOT EXISTS (SELECT 1 FROM rerating n WHERE n.call_id = o.call_id AND n.revision = o.revision + 1)) r
    ON r.call_id = c.call_id;

-- Book the next calls of a run, in the order of their ids: reverse what stands, book the new price. One at a time is at work on
-- a run, and each batch is one transaction, so that a kill loses nothing and repeats nothing.
-- A prepaid account pays more only from what is available, what is missing is written off; what was written off before stays so.
-- run_state other than 'running': there was nothing to do, or no more.
-- Locks: the run, the transfers taken back, then subscribers' accounts in the order of their ids.
-- Planned for each batch: what was right for the first one, when `rerating` was empty, takes seconds once it is not. And
-- the calls of a new run, which no statistics know yet, are read in order, not all of them for each batch.
CREATE FUNCTION rerate_book_v1(
    p_run_id uuid, p_calls_max integer, OUT run_state text, OUT booked integer, OUT not_booked integer
) LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET enable_bitmapscan = off AS $$
DECLARE
    run rerate_run;
    batch rerate_item[];
    closed timestamptz;
    left_out uuid[];
    reasons text[];
BEGIN
    SELECT * INTO run FROM rerate_run r WHERE r.run_id = p_run_id FOR NO KEY UPDATE;
    run_state := run.state;
    booked := 0;
    not_booked := 0;
    IF run.state IS DISTINCT FROM 'running' THEN
        RETURN;
    END IF;
    batch := ARRAY(SELECT i FROM rerate_item i WHERE i.run_id = p_run_id AND i.call_id > run.booked_to AND i.skipped IS NULL
                    ORDER BY i.call_id LIMIT p_calls_max);
    IF cardinality(batch) = 0 THEN
        UPDATE rerate_run r SET state = 'done', closed_at = clock_timestamp() WHERE r.run_id = p_run_id;
        run_state := 'done';
        RETURN;
    END IF;
    LOCK TABLE transfer IN ROW EXCLUSIVE MODE;                         -- no period closes before this commits
    PERFORM 1 FROM transfer t
      WHERE t.transfer_id IN (SELECT coalesce(r.rebooking_id, i.call_id) FROM unnest(batch) i
                                LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision - 1)
      ORDER BY t.transfer_id FOR NO KEY UPDATE;
    PERFORM 1 FROM account a WHERE a.account_id IN (SELECT i.account_id FROM unnest(batch) i) ORDER BY a.account_id FOR NO KEY UPDATE;
    SELECT max(p.closed_until) INTO closed FROM period p;
    -- As call_priced has it, and by key: what stands is the revision before.
    WITH due AS MATERIALIZED (
        SELECT i.call_id, i.account_id, i.revision, coalesce(sell.tariff, r.sell, c.sell) AS sell, i.billed_s, i.amount_micro,
               coalesce(buy.tariff, r.buy, x.buy) AS buy, i.buy_billed_s, i.cost_micro, h.currency, x.currency AS cost_currency,
               x.trunk_id, c.ended_at, s.transfer_id AS standing_id, s.paid_micro AS paid_before_micro,
               s.cost_micro AS cost_before_micro, greatest(i.amount_micro - s.amount_micro, 0) AS more_micro,
               greatest(s.paid_micro - i.amount_micro, 0) AS less_micro,
               CASE a.funding WHEN 'prepaid' THEN a.balance_micro - a.held_micro END AS spare_micro,
               CASE WHEN EXISTS (SELECT 1 FROM rerating o WHERE o.call_id = i.call_id AND o.revision = i.revision) THEN 'moved'
                    WHEN a.state = 'closed' THEN 'account_closed'
                    WHEN EXISTS (SELECT 1 FROM transfer t WHERE t.kind = 'reversal' AND t.reverses = s.transfer_id)
                      OR EXISTS (SELECT 1 FROM transfer t WHERE t.kind = 'refund' AND t.reverses = s.transfer_id
                                    AND NOT EXISTS (SELECT 1 FROM transfer u WHERE u.kind = 'reversal' AND u.reverses = t.transfer_id))
                    THEN 'taken_back' END AS skipped
          FROM unnest(batch) i JOIN call c USING (call_id) JOIN charge h USING (call_id) JOIN account a ON a.account_id = i.account_id
          LEFT JOIN attempt x ON x.call_id = i.call_id AND x.outcome = 'answered'
          LEFT JOIN rerating r ON r.call_id = i.call_id AND r.revision = i.revision - 1
          LEFT JOIN rerate_tariff sell ON sell.run_id = p_run_id AND sell.tariff_no = i.sell_no
          LEFT JOIN rerate_tariff buy ON buy.run_id = p_run_id AND buy.tariff_no = i.buy_no
         CROSS JOIN LATERAL (SELECT CASE WHEN i.revision = 1 THEN i.call_id ELSE r.rebooking_id END AS transfer_id,
               coalesce(r.amount_micro, h.amount_micro) AS amount_micro, coalesce(r.cost_micro, x.cost_micro, 0) AS cost_micro,
               coalesce(r.amount_micro - r.written_off_micro, h.amount_micro - h.written_off_micro) AS paid_micro) s
    ), paid AS MATERIALIZED (
        SELECT d.*,
               least(d.amount_micro, d.paid_before_micro + CASE WHEN d.spare_micro IS NULL THEN d.more_micro
                    ELSE least(d.more_micro, greatest(d.spare_micro + sum(d.less_micro) OVER batch
                                                      - coalesce(sum(d.more_micro) OVER earlier, 0), 0)) END)::bigint AS paid_micro,
               CASE WHEN d.paid_before_micro > 0 OR d.cost_before_micro > 0 THEN uuidv7() END AS reversal_id,
               CASE WHEN d.ended_at >= closed IS NOT FALSE THEN d.ended_at
                    WHEN run.into_open THEN clock_timestamp() ELSE booking_at_v1(d.ended_at) END AS value_at
          FROM due d WHERE d.skipped IS NULL
        WINDOW batch AS (PARTITION BY d.account_id),
               earlier AS (PARTITION BY d.account_id ORDER BY d.call_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), ours AS MATERIALIZED (
        SELECT u.currency, system_account_v1('revenue', u.currency) AS revenue_id, system_account_v1('cost', u.currency) AS cost_id
          FROM (SELECT p.currency FROM paid p UNION SELECT p.cost_currency FROM paid p WHERE p.cost_currency IS NOT NULL) u
    ), booking AS MATERIALIZED (
        SELECT p.*, CASE WHEN p.paid_micro > 0 OR p.cost_micro > 0 THEN uuidv7() END AS rebooking_id,
               coalesce((SELECT e.account_id FROM entry e JOIN account a USING (account_id)
                          WHERE e.transfer_id = p.standing_id AND a.kind = 'carrier' LIMIT 1), t.account_id) AS carrier_id
          FROM paid p LEFT JOIN trunk t USING (trunk_id)
    ), new_transfer AS (
        INSERT INTO transfer (transfer_id, kind, idempotency_key, note, author, reverses, value_at)
        SELECT b.reversal_id, 'reversal', format('rerate:%s:%s:reversal', p_run_id, b.call_id), run.reason, run.author, b.standing_id,
               b.value_at FROM booking b WHERE b.reversal_id IS NOT NULL
        UNION ALL
        SELECT b.rebooking_id, 'rebooking', format('rerate:%s:%s', p_run_id, b.call_id), run.reason, run.author, NULL, b.value_at
          FROM booking b WHERE b.rebooking_id IS NOT NULL
    ), new_entry AS (
        INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
        SELECT b.reversal_id, e.entry_no, e.account_id, -e.amount_micro, e.currency
          FROM booking b JOIN entry e ON e.transfer_id = b.standing_id WHERE b.reversal_id IS NOT NULL
        UNION ALL
        SELECT b.rebooking_id, e.entry_no, e.account_id, e.amount_micro, e.currency
          FROM booking b JOIN ours s USING (currency) LEFT JOIN ours c ON c.currency = b.cost_currency
         CROSS JOIN LATERAL (VALUES
            (1::smallint, b.account_id, -b.paid_micro, b.currency), (2::smallint, s.revenue_id, b.paid_micro, b.currency),
            (3::smallint, c.cost_id, -b.cost_micro, b.cost_currency), (4::smallint, b.carrier_id, b.cost_micro, b.cost_currency)
         ) AS e (entry_no, account_id, amount_micro, currency)
         WHERE b.rebooking_id IS NOT NULL AND e.amount_micro <> 0
    ), new_balance AS (
        UPDATE account a SET balance_micro = a.balance_micro - s.more_micro
          FROM (SELECT b.account_id, sum(b.paid_micro - b.paid_before_micro)::bigint AS more_micro FROM booking b GROUP BY b.account_id) s
         WHERE a.account_id = s.account_id AND s.more_micro <> 0
    ), new_revision AS (
        INSERT INTO rerating (call_id, revision, run_id, sell, billed_s, amount_micro, written_off_micro, buy, buy_billed_s, cost_micro,
                              reversal_id, rebooking_id)
        SELECT b.call_id, b.revision, p_run_id, b.sell, b.billed_s, b.amount_micro, b.amount_micro - b.paid_micro, b.buy,
               b.buy_billed_s, b.cost_micro, b.reversal_id, b.rebooking_id FROM booking b
    )
    SELECT count(*) FILTER (WHERE d.skipped IS NULL), array_agg(d.call_id) FILTER (WHERE d.skipped IS NOT NULL),
           array_agg(d.skipped) FILTER (WHERE d.skipped IS NOT NULL)
      INTO booked, left_out, reasons FROM due d;
    not_booked := coalesce(cardinality(left_out), 0);
    UPDATE rerate_item i SET skipped = o.reason FROM unnest(left_out, reasons) o (call_id, reason)
     WHERE i.run_id = p_run_id AND i.call_id = o.call_id;
    UPDATE rerate_run r SET booked_to = batch[cardinality(batch)].call_id WHERE r.run_id = p_run_id;
END $$;
