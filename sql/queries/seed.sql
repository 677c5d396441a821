-- What the sandbox and the tests put into a fresh database.

-- name: add_account$
INSERT INTO account (kind, name, currency, funding, credit_limit_micro, call_cap)
VALUES (:kind, :name, :currency, :funding, :credit_limit_micro, :call_cap) RETURNING account_id;

-- name: add_deck$
INSERT INTO deck (name, side, currency) VALUES (:name, :side, :currency) RETURNING deck_id;

-- name: add_rate!
INSERT INTO rate (deck_id, prefix, destination, rate_micro, connect_fee_micro, initial_s, next_s, minimum_s, valid)
VALUES (:deck_id, :prefix, :destination, :rate_micro, :connect_fee_micro, :initial_s, :next_s, :minimum_s,
        tstzrange('2020-01-01 00:00+00', NULL));

-- name: add_plan$
INSERT INTO plan (name, deck_id, margin_floor_micro) VALUES (:name, :deck_id, :margin_floor_micro) RETURNING plan_id;

-- name: add_app$
INSERT INTO app (name, sip_host, sip_secret) VALUES (:name, :sip_host, :sip_secret) RETURNING app_id;

-- name: have_phones!
UPDATE app SET phones = true WHERE name = :name;

-- name: subscriber_of$
SELECT subscriber_id FROM subscriber WHERE a_number = :a_number AND state <> 'closed';

-- name: add_subscriber$
INSERT INTO subscriber (app_id, a_number, account_id, plan_id) VALUES (:app_id, :a_number, :account_id, :plan_id)
RETURNING subscriber_id;

-- name: allow!
INSERT INTO rollout_allow (subscriber_id) VALUES (:subscriber_id) ON CONFLICT DO NOTHING;

-- name: add_trunk$
INSERT INTO trunk (name, account_id, deck_id, host, port, capacity, priority, ring_s)
VALUES (:name, :account_id, :deck_id, :host, :port, :capacity, :priority, :ring_s) RETURNING trunk_id;

-- name: give_plan!
-- A plan becomes a partner's, with its bundles, and its decks with those of their bands.
WITH given AS (
    UPDATE plan p SET partner_id = :partner_id WHERE p.name = :name RETURNING p.plan_id, p.deck_id, p.roaming_deck_id
), bundles AS (
    UPDATE bundle b SET partner_id = :partner_id FROM given g WHERE b.plan_id = g.plan_id
), decks AS (
    SELECT g.deck_id FROM given g
    UNION SELECT g.roaming_deck_id FROM given g
    UNION SELECT b.band_deck_id FROM deck_band b JOIN given g ON b.deck_id IN (g.deck_id, g.roaming_deck_id)
)
UPDATE deck d SET partner_id = :partner_id FROM decks WHERE d.deck_id = decks.deck_id;

-- name: give_trunk!
-- A trunk becomes a partner's, with the deck it charges by and the account of what we owe for it.
WITH given AS (
    UPDATE trunk t SET partner_id = :partner_id WHERE t.name = :name RETURNING t.account_id, t.deck_id
), decks AS (
    UPDATE deck d SET partner_id = :partner_id FROM given g WHERE d.deck_id = g.deck_id
)
UPDATE account a SET partner_id = :partner_id FROM given g WHERE a.account_id = g.account_id;

-- name: give_subscriber!
WITH given AS (
    UPDATE subscriber s SET partner_id = :partner_id WHERE s.a_number = :a_number RETURNING s.account_id
)
UPDATE account a SET partner_id = :partner_id FROM given g WHERE a.account_id = g.account_id;

-- name: partner_of$
SELECT p.partner_id FROM partner p WHERE p.name = :name;
