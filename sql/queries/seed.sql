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

-- name: add_subscriber$
INSERT INTO subscriber (app_id, a_number, account_id, plan_id) VALUES (:app_id, :a_number, :account_id, :plan_id)
RETURNING subscriber_id;

-- name: allow!
INSERT INTO rollout_allow (subscriber_id) VALUES (:subscriber_id) ON CONFLICT DO NOTHING;

-- name: add_trunk$
INSERT INTO trunk (name, account_id, deck_id, host, port, capacity, priority, ring_s)
VALUES (:name, :account_id, :deck_id, :host, :port, :capacity, :priority, :ring_s) RETURNING trunk_id;
