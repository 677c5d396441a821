-- Calls made by order, and the orders themselves. What is another's is kept away by row-level security.

-- name: originations
SELECT o.origination_id, o.partner_id, o.subscriber_id, o.a_number, o.b_number, o.state, o.reason, o.refuse_reason, o.leg_a_call_id,
       o.leg_b_call_id, o.connected_at, o.talk_ms, o.made_at, o.ended_at
  FROM origination o WHERE o.origination_id < :before ORDER BY o.origination_id DESC LIMIT :rows;

-- name: originations_partner
-- Of a partner. In the order NULLS LAST there is no index but the partner's: others' are not read.
SELECT o.origination_id, o.partner_id, o.subscriber_id, o.a_number, o.b_number, o.state, o.reason, o.refuse_reason, o.leg_a_call_id,
       o.leg_b_call_id, o.connected_at, o.talk_ms, o.made_at, o.ended_at
  FROM origination o WHERE o.partner_id = :partner_id AND o.origination_id < :before ORDER BY o.origination_id DESC NULLS LAST LIMIT :rows;

-- name: origination^
SELECT o.origination_id, o.partner_id, o.subscriber_id, o.a_number, o.b_number, o.state, o.reason, o.refuse_reason, o.leg_a_call_id,
       o.leg_b_call_id, o.connected_at, o.talk_ms, o.made_at, o.ended_at, c.state AS click_state
  FROM origination o CROSS JOIN LATERAL click_to_dial_v1(o.state, o.reason) c WHERE o.origination_id = :origination_id;

-- name: payer
-- Who may be A: by its id, or by a number, which may be that of a subscriber in several apps.
SELECT s.subscriber_id, s.a_number, s.state FROM subscriber s
 WHERE s.subscriber_id = :subscriber_id OR s.a_number = :a_number ORDER BY s.state = 'active' DESC, s.subscriber_id LIMIT 2;

-- name: add^
SELECT * FROM origination_add_v1(:switch, :subscriber_id, :b_number, :sink_url, :sink_token, :sink_until, :open_max);

-- name: cancel!
SELECT origination_cancel_v1(:origination_id);

-- name: call_of^
-- partner_id NULL: an operator asks.
SELECT c.call_id, c.partner_id, c.state FROM call c
 WHERE c.call_id = :call_id AND (:partner_id::uuid IS NULL OR c.partner_id = :partner_id);

-- name: hang_up!
SELECT call_hangup_v1(:call_id);

-- name: leg^
SELECT * FROM origination_leg_v1(:origination_id, :switch_id, :leg);

-- name: leg_is!
UPDATE origination o SET leg_a_call_id = CASE :leg::text WHEN 'a' THEN :call_id::uuid ELSE o.leg_a_call_id END,
       leg_b_call_id = CASE :leg::text WHEN 'b' THEN :call_id::uuid ELSE o.leg_b_call_id END
 WHERE o.origination_id = :origination_id;

-- name: leg_goes_on^
-- A leg that reached no phone has no call until it goes on as another, or is refused: else it would seem to be over.
UPDATE origination o SET leg_a_call_id = nullif(o.leg_a_call_id, :call_id), leg_b_call_id = nullif(o.leg_b_call_id, :call_id),
       leg_a_at = CASE o.leg_a_call_id WHEN :call_id THEN clock_timestamp() ELSE o.leg_a_at END
 WHERE o.switch_id = :switch_id AND o.ended_at IS NULL AND :call_id IN (o.leg_a_call_id, o.leg_b_call_id)
RETURNING o.origination_id, CASE WHEN o.leg_a_call_id IS NULL THEN 'a' ELSE 'b' END AS leg;

-- name: refused!
-- Before A was rung it ends here; after that with A's leg.
SELECT origination_end_v1(o.origination_id, 'failed', :reason, :refuse_reason, NULL) FROM origination o
 WHERE o.origination_id = :origination_id AND o.leg_a_call_id IS NULL;

-- name: turned_away!
-- First legs that were refused before anybody had looked at them. Written again, they change nothing.
INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state,
                  refuse_reason, admitted_at, ended_at, q850_cause, release_party, partner_id)
SELECT r.call_id, o.switch_id, '', r.sip_call_id, o.subscriber_id, s.account_id, o.a_number, o.a_number, o.a_number, 'refused',
       :reason, r.at, r.at, :q850_cause, 'bridge', o.partner_id
  FROM unnest(:call_ids::uuid[], :origination_ids::uuid[], :sip_call_ids::text[], :ats::timestamptz[])
       AS r (call_id, origination_id, sip_call_id, at)
  JOIN origination o USING (origination_id) JOIN subscriber s USING (subscriber_id)
 WHERE o.state = 'initiating' AND o.ended_at IS NULL
ON CONFLICT DO NOTHING;

-- name: end_turned_away!
SELECT origination_end_v1(o.origination_id, 'failed', 'a_refused', :refuse_reason, NULL) FROM origination o
 WHERE o.origination_id = ANY (:origination_ids::uuid[]) AND o.state = 'initiating';

-- name: b_refused!
UPDATE origination o SET reason = 'b_refused', refuse_reason = :refuse_reason WHERE o.origination_id = :origination_id;

-- name: take
SELECT * FROM switch_orders_take_v1(:switch_id, :wait_s);

-- name: order_done!
SELECT switch_order_done_v1(:order_id, :problem);

-- name: order_again!
SELECT switch_order_again_v1(:order_id, :said);

-- name: follow$
SELECT originations_follow_v1(:switch_id, :lost_s);

-- name: cut_elsewhere!
-- The channel whose time is limited is not the one that asked: it is the one that was answered.
UPDATE lease l SET channel = i.channel FROM unnest(:call_ids::uuid[], :channels::text[]) AS i (call_id, channel)
 WHERE l.call_id = i.call_id;
