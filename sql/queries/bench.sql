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
