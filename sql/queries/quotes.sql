-- What calls would cost, and over which trunks they would go.

-- name: subscriber^
SELECT s.subscriber_id, s.a_number, app.name AS app FROM subscriber s JOIN app USING (app_id)
 WHERE s.subscriber_id = :subscriber_id;

-- name: asked_subscriber$
-- As whoever asks: another partner's is not there.
SELECT s.subscriber_id FROM subscriber s WHERE s.subscriber_id = :subscriber_id;

-- name: asked_plan$
SELECT p.plan_id FROM plan p WHERE p.plan_id = :plan_id;

-- name: trunks_of
SELECT t.trunk_id FROM trunk t WHERE t.partner_id = :partner_id;
