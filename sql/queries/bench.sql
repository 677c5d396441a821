-- Recorded calls for the figure `rerate`, as if they had been made.

-- name: rates
SELECT rate_id, deck_id, prefix, destination, rate_micro FROM rate JOIN deck USING (deck_id) WHERE side = :side ORDER BY prefix;

-- name: make_tariffs!
CREATE TEMPORARY TABLE bench_tariff (side text, place integer, prefix text, frozen jsonb);

-- name: make_calls!
CREATE TEMPORARY TABLE bench_call (
    call_id uuid, account_id uuid, subscriber_id uuid, a_number text, b_number text, sell jsonb, buy jsonb, talk_s integer,
    amount_micro bigint, cost_micro bigint
);

-- name: fill!
-- Each call to a number of its own, over all destinations and subscribers in turn.
INSERT INTO bench_call (call_id, account_id, subscriber_id, a_number, b_number, sell, buy, talk_s, amount_micro, cost_micro)
SELECT uuidv7(), p.account_id, p.subscriber_id, p.a_number, '+' || sell.prefix || lpad(n::text, 7, '0'), sell.frozen, buy.frozen, t.talk_s,
       t.talk_s * :sell_micro::bigint, t.talk_s * :buy_micro::bigint
  FROM generate_series(1, :calls::integer) AS n
 CROSS JOIN LATERAL (SELECT 1 + (n * 7919 % 400) AS talk_s) AS t
  JOIN bench_tariff sell ON sell.side = 'sell' AND sell.place = n * 31 % (SELECT count(*) FROM bench_tariff WHERE side = 'sell')
  JOIN bench_tariff buy ON buy.side = 'buy' AND buy.place = sell.place
  JOIN (SELECT s.*, row_number() OVER (ORDER BY s.a_number) AS place, count(*) OVER () AS people FROM subscriber s) AS p
    ON p.place = 1 + n % p.people;

-- name: record_calls!
INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state, sell, routes,
                  answered_at, ended_at, talk_ms, ended_by)
SELECT call_id, uuidv7(), call_id, call_id, subscriber_id, account_id, a_number, b_number, b_number, 'answered', sell,
       '{"routes": [], "left_out": {}}', clock_timestamp(), clock_timestamp(), talk_s * 1000 - 500, 'journal' FROM bench_call;

-- name: record_charges!
INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)
SELECT call_id, account_id, talk_s, amount_micro, :currency FROM bench_call;

-- name: record_attempts!
INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, ended_at, billed_s, cost_micro, currency, buy)
SELECT call_id, 1, :trunk_id, 'answered', 'unknown', clock_timestamp(), talk_s, cost_micro, :currency, buy FROM bench_call;

-- name: record_transfers!
INSERT INTO transfer (transfer_id, kind) SELECT call_id, 'call' FROM bench_call;

-- name: record_entries!
INSERT INTO entry (transfer_id, entry_no, account_id, amount_micro, currency)
SELECT b.call_id, e.entry_no, e.account_id, e.amount_micro, :currency
  FROM bench_call b JOIN trunk t ON t.trunk_id = :trunk_id
 CROSS JOIN (SELECT system_account_v1('revenue', :currency) AS revenue_id, system_account_v1('cost', :currency) AS cost_id) AS o
 CROSS JOIN LATERAL (VALUES (1, b.account_id, -b.amount_micro), (2, o.revenue_id, b.amount_micro),
                            (3, o.cost_id, -b.cost_micro), (4, t.account_id, b.cost_micro)) AS e (entry_no, account_id, amount_micro);

-- name: pay!
UPDATE account a SET balance_micro = a.balance_micro - s.amount_micro
  FROM (SELECT account_id, sum(amount_micro) AS amount_micro FROM bench_call GROUP BY account_id) AS s
 WHERE a.account_id = s.account_id;

-- name: make_dearer!
-- Each rate by a micro-unit a second.
UPDATE rate SET rate_micro = rate_micro + 60;

-- name: add_account$
INSERT INTO account (kind, name, currency) VALUES ('subscriber', gen_random_uuid(), 'EUR') RETURNING account_id;

-- name: add_people!
-- Ten partners, each with a thousand accounts.
WITH made AS (
    INSERT INTO account (kind, name, currency, funding)
    SELECT 'partner', 'bench partner ' || n, 'EUR', 'postpaid' FROM generate_series(1, 10) AS n
    RETURNING account_id, name
), partners AS (
    INSERT INTO partner (name, account_id) SELECT name, account_id FROM made RETURNING partner_id
)
INSERT INTO account (kind, name, currency, partner_id)
SELECT 'subscriber', 'bench ' || partner_id || ' ' || n, 'EUR', partner_id FROM partners, generate_series(1, 1000) AS n;

-- name: a_partner$
SELECT partner_id FROM partner ORDER BY partner_id LIMIT 1;

-- name: add_cdrs!
-- Records of sixty days from now on, the partners in turn, nine of ten answered.
WITH people AS MATERIALIZED (
    SELECT account_id, partner_id, row_number() OVER (ORDER BY account_id) AS place FROM account WHERE kind = 'subscriber'
), fresh AS (
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, b_number, state, sell, admitted_at,
                      answered_at, ended_at, talk_ms, q850_cause, release_party, ended_by, partner_id)
    SELECT uuidv7(t.shift), '00000000-0000-7000-8000-000000000000', n, n, p.account_id, '+4915' || (10000000 + n), '+493023125000',
           '+493023125000',
           CASE WHEN n % 10 = 0 THEN 'unanswered' ELSE 'answered' END,
           '{"rate_id": "r", "deck_id": "d", "prefix": "49", "destination": "Germany", "currency": "EUR", "rate_micro": 90000}',
           now() + t.shift, CASE WHEN n % 10 > 0 THEN now() + t.shift END, now() + t.shift + interval '3 min',
           CASE WHEN n % 10 > 0 THEN 60000 + n % 60000 ELSE 0 END, 16, 'caller', 'journal', p.partner_id
      FROM generate_series(:first::bigint, :last::bigint) AS n
     CROSS JOIN LATERAL (SELECT make_interval(secs => 5184000.0 * n / :total::bigint) AS shift) AS t
      JOIN people p ON p.place = 1 + n % (SELECT count(*) FROM people)
    RETURNING call_id, account_id, state, talk_ms
)
INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)
SELECT call_id, account_id, talk_ms / 1000, talk_ms * 1.5, 'EUR' FROM fresh WHERE state = 'answered';

-- name: add_trunk$
-- A carrier's, for calls of the bench.
WITH made AS (
    INSERT INTO account (kind, name, currency) VALUES ('carrier', 'bench carrier', 'EUR') RETURNING account_id
), deck AS (
    INSERT INTO deck (name, side, currency) VALUES ('bench buy', 'buy', 'EUR') RETURNING deck_id
)
INSERT INTO trunk (name, account_id, deck_id, host) SELECT 'bench', made.account_id, deck.deck_id, '127.0.0.1' FROM made, deck
RETURNING trunk_id;

-- name: add_ended!
-- Answered calls of this minute, each over the trunk: two records a call.
WITH payer AS (
    SELECT a.account_id, a.partner_id FROM account a WHERE a.kind = 'subscriber' ORDER BY a.account_id LIMIT 1
), tariff AS (
    SELECT jsonb_build_object('rate_id', gen_random_uuid(), 'deck_id', gen_random_uuid(), 'prefix', '4930',
                              'destination', 'Germany, Berlin', 'currency', 'EUR', 'rate_micro', 90000, 'connect_fee_micro', 0,
                              'initial_s', 60, 'next_s', 6, 'minimum_s', 0, 'version', 3) AS sell
), fresh AS (
    INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, account_id, a_number, dialled, b_number, state, sell, admitted_at,
                      answered_at, ended_at, talk_ms, q850_cause, release_party, ended_by, partner_id)
    SELECT uuidv7(), '00000000-0000-7000-8000-000000000000', n, n, p.account_id, '+4915' || (10000000 + n * 7919 % 89999999),
           '030' || (10000000 + n * 104729 % 89999999), '+4930' || (10000000 + n * 104729 % 89999999), 'answered', t.sell,
           now() - interval '1 h' + n * interval '1 ms', now() - interval '1 h' + n * interval '1 ms' + interval '4 s',
           now() - interval '1 h' + n * interval '1 ms' + make_interval(secs => 4 + (60000 + n * 31 % 600000) / 1000.0),
           60000 + n * 31 % 600000, 16, 'caller', 'journal', p.partner_id
      FROM generate_series(:first::bigint, :last::bigint) AS n CROSS JOIN payer p CROSS JOIN tariff t
    RETURNING call_id, account_id, sell, talk_ms, ended_at
), sold AS (
    INSERT INTO charge (call_id, account_id, billed_s, amount_micro, currency)
    SELECT f.call_id, f.account_id, f.talk_ms / 1000, f.talk_ms * 3 / 2, 'EUR' FROM fresh f
)
INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, sip_code, q850_cause, pdd_ms, ended_at, billed_s, cost_micro,
                     currency, buy)
SELECT f.call_id, 1, :trunk_id, 'answered', 'unknown', 200, 16, 900, f.ended_at, f.talk_ms / 1000, f.talk_ms / 2, 'EUR', f.sell
  FROM fresh f;

-- name: add_reconciled!
-- Numbered records of calls over a trunk in October 2026, each to one of `numbers` numbers, with the calls behind them.
WITH made AS (
    INSERT INTO call (switch_id, uniqueid, sip_call_id, a_number, dialled, b_number, state, sell, routes, answered_at, ended_at, talk_ms,
                      ended_by)
    SELECT '00000000-0000-7000-8000-000000000000', g.n, g.n, '+4915' || (10000000 + g.n % 100000), d.b_number, d.b_number, 'answered', '{}',
           '{"routes": [], "left_out": {}}', d.answered_at, d.answered_at + make_interval(secs => d.talk_ms / 1000.0), d.talk_ms, 'journal'
      FROM generate_series(1, :calls::integer) AS g (n)
     CROSS JOIN LATERAL (SELECT '+4930' || (10000000 + (g.n::bigint * 7919) % :numbers::bigint) AS b_number,
                                timestamptz '2026-10-02 00:00Z' + make_interval(secs => 2419200.0 * g.n / :calls) AS answered_at,
                                1000 + (g.n::bigint * 104729) % 600000 AS talk_ms) AS d
    RETURNING call_id, answered_at, ended_at, talk_ms
)
INSERT INTO cdr (cdr_no, call_id, leg, attempt_no, kind, revision, file_type, at, ended_at, answered_at, answered, direction, trunk_id,
                 account_id, talk_ms, billed_s, covered_s, amount_micro, currency, destination, prefix, purpose, delete_after, hash)
SELECT row_number() OVER (ORDER BY m.ended_at, m.call_id), m.call_id, 'termination', 1, 'first', 0, 'cdr', m.ended_at, m.ended_at,
       m.answered_at, true, 'out', t.trunk_id, t.account_id, m.talk_ms, m.talk_ms / 1000, 0, m.talk_ms, :currency, 'Germany', '4930',
       'wholesale', '2099-12-31', decode(repeat('00', 32), 'hex')
  FROM made m JOIN trunk t ON t.trunk_id = :trunk_id;

-- name: add_pass!
INSERT INTO cdr_pass (until, last_no) SELECT timestamptz '2026-11-02 00:00Z', count(*) FROM cdr;

-- name: theirs
-- The same calls as the carrier has them: times and durations a little off, one of a hundred missing, another one dearer.
SELECT 'c' || k.cdr_no AS id, c.a_number, c.b_number,
       to_char((k.answered_at + make_interval(secs => (k.cdr_no * 31 % 3000 - 1500) / 1000.0)) AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS answer_at,
       (k.talk_ms + 999) / 1000 AS duration,
       round((k.amount_micro + CASE WHEN k.cdr_no % 100 = 1 THEN 5000 ELSE 0 END) / 1e6, 6) AS amount
  FROM cdr k JOIN call c USING (call_id) WHERE k.cdr_no % 100 <> 0 ORDER BY md5(k.cdr_no::text);

-- name: plain_join!
-- The baseline: the same rows joined by number and time, and nothing more, into a table.
CREATE TEMPORARY TABLE bench_joined ON COMMIT DROP AS
SELECT r.row_no, k.cdr_no, k.talk_ms - r.talk_ms AS ms, k.amount_micro - r.amount_micro AS micro
  FROM recon_row r
  JOIN call c ON c.b_number = '+' || r.b_number
  JOIN cdr k ON k.call_id = c.call_id AND k.leg = 'termination'
            AND k.answered_at BETWEEN r.answer_at - interval '5 s' AND r.answer_at + interval '5 s'
 WHERE r.run_id = :run_id;
