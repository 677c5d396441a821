-- Subscribers and the proofs that their numbers are theirs. What is another's is kept away by row-level security.

-- name: subscribers
SELECT s.subscriber_id, s.partner_id, app.name AS app, s.a_number, s.account_id, s.plan_id, s.state, s.zone, s.edition, s.created_at
  FROM subscriber s JOIN app USING (app_id)
 WHERE s.subscriber_id < :before AND (:a_number::text IS NULL OR s.a_number = :a_number)
   AND (:state::text IS NULL OR s.state = :state) AND (:plan_id::uuid IS NULL OR s.plan_id = :plan_id)
 ORDER BY s.subscriber_id DESC LIMIT :rows;

-- name: subscribers_partner
-- Of a partner. In the order NULLS LAST there are no indexes but the partners': others' subscribers are not read.
SELECT s.subscriber_id, s.partner_id, app.name AS app, s.a_number, s.account_id, s.plan_id, s.state, s.zone, s.edition, s.created_at
  FROM subscriber s JOIN app USING (app_id)
 WHERE s.partner_id = :partner_id AND s.subscriber_id < :before
   AND (:a_number::text IS NULL OR s.a_number = :a_number)
   AND (:state::text IS NULL OR s.state = :state) AND (:plan_id::uuid IS NULL OR s.plan_id = :plan_id)
 ORDER BY s.subscriber_id DESC NULLS LAST LIMIT :rows;

-- name: subscriber^
SELECT s.subscriber_id, s.partner_id, app.name AS app, s.a_number, s.account_id, s.plan_id, s.state, s.zone, s.edition, s.created_at
  FROM subscriber s JOIN app USING (app_id) WHERE s.subscriber_id = :subscriber_id;

-- name: app_of$
SELECT app_id FROM app WHERE name = :app;

-- name: plan_currency$
-- What a plan of the same partner is priced in, or one of ours for a subscriber of ours.
SELECT d.currency FROM plan p JOIN deck d USING (deck_id)
 WHERE p.plan_id = :plan_id AND p.partner_id IS NOT DISTINCT FROM :partner_id::uuid;

-- name: add_account$
INSERT INTO account (kind, name, currency, funding, credit_limit_micro, call_cap, partner_id)
VALUES ('subscriber', :name, :currency, :funding, :credit_limit_micro, :call_cap, :partner_id) RETURNING account_id;

-- name: give_way
-- Whoever has not proved a number in a day loses it to the next who asks.
UPDATE subscriber s SET state = 'closed', edition = s.edition + 1
 WHERE s.a_number = :a_number AND s.app_id = :app_id AND s.state = 'pending' AND s.created_at < now() - interval '1 day'
RETURNING s.subscriber_id, s.partner_id, s.edition;

-- name: add_subscriber$
-- NULL: the number has a subscriber in this app.
INSERT INTO subscriber (app_id, a_number, account_id, plan_id, state, partner_id)
VALUES (:app_id, :a_number, :account_id, :plan_id, 'pending', :partner_id)
ON CONFLICT (a_number, app_id) WHERE state <> 'closed' DO NOTHING RETURNING subscriber_id;

-- name: change^
UPDATE subscriber s SET plan_id = coalesce(:plan_id, s.plan_id), state = coalesce(:state, s.state), zone = coalesce(:zone, s.zone),
       edition = s.edition + 1
 WHERE s.subscriber_id = :subscriber_id AND s.edition = :edition
RETURNING s.state, s.edition;

-- name: lock$
-- Proofs of one subscriber are worked on one at a time.
SELECT s.state FROM subscriber s WHERE s.subscriber_id = :subscriber_id FOR NO KEY UPDATE;

-- name: proved!
UPDATE subscriber s SET state = 'active', edition = s.edition + 1 WHERE s.subscriber_id = :subscriber_id AND s.state = 'pending';

-- name: add_proof$
INSERT INTO subscriber_proof (subscriber_id, method, reference, actor, salt, hash, expires_at)
VALUES (:subscriber_id, :method, :reference, :actor, :salt, :hash, clock_timestamp() + make_interval(secs => :lasts_s))
RETURNING proof_id;

-- name: codes_lately$
SELECT count(*) FROM subscriber_proof p
 WHERE p.subscriber_id = :subscriber_id AND p.method = 'code' AND p.asked_at > clock_timestamp() - interval '1 hour';

-- name: proofs
-- tries: how many codes were told to us. late: another code was asked for since, or its time is over.
SELECT p.proof_id, p.subscriber_id, p.method, p.reference, p.actor, p.asked_at, p.expires_at,
       (SELECT count(*) FROM subscriber_proof_try t WHERE t.proof_id = p.proof_id) AS tries,
       CASE p.method WHEN 'attested' THEN p.asked_at
            ELSE (SELECT t.tried_at FROM subscriber_proof_try t WHERE t.proof_id = p.proof_id AND t.correct) END AS proved_at,
       p.method = 'code' AND (p.expires_at <= clock_timestamp()
            OR EXISTS (SELECT 1 FROM subscriber_proof n
                        WHERE n.subscriber_id = p.subscriber_id AND n.proof_id > p.proof_id AND n.method = 'code')) AS late
  FROM subscriber_proof p WHERE p.subscriber_id = :subscriber_id AND p.proof_id < :before ORDER BY p.proof_id DESC LIMIT :rows;

-- name: proof^
SELECT p.proof_id, p.subscriber_id, p.method, p.reference, p.actor, p.asked_at, p.expires_at,
       (SELECT count(*) FROM subscriber_proof_try t WHERE t.proof_id = p.proof_id) AS tries,
       CASE p.method WHEN 'attested' THEN p.asked_at
            ELSE (SELECT t.tried_at FROM subscriber_proof_try t WHERE t.proof_id = p.proof_id AND t.correct) END AS proved_at,
       p.method = 'code' AND (p.expires_at <= clock_timestamp()
            OR EXISTS (SELECT 1 FROM subscriber_proof n
                        WHERE n.subscriber_id = p.subscriber_id AND n.proof_id > p.proof_id AND n.method = 'code')) AS late
  FROM subscriber_proof p WHERE p.subscriber_id = :subscriber_id AND p.proof_id = :proof_id;

-- name: proof_secret^
SELECT p.salt, p.hash FROM subscriber_proof p WHERE p.proof_id = :proof_id;

-- name: add_try!
INSERT INTO subscriber_proof_try (proof_id, try_no, correct, actor) VALUES (:proof_id, :try_no, :correct, :actor);

-- name: tell_changed!
SELECT event_add_v1(:partner_id, 'subscriber.changed', :subscriber_id, :edition, :data);
