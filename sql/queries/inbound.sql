-- Calls from the network.

-- name: called^
-- Whom a number is for: who was given it, else whose own it is. Where several apps have a user with it, one who can be rung.
SELECT s.subscriber_id, s.account_id, s.plan_id, s.app_id, s.a_number, s.state AS subscriber_state, s.zone, a.state AS account_state,
       a.currency, 0::bigint AS available_micro, a.call_cap, app.launched OR c.allowed AS allowed, 0::bigint AS live, false AS on_net,
       NULL AS allowances, NULL::bigint AS spend_left_micro
  FROM (SELECT f.subscriber_id, f.place, EXISTS (SELECT FROM rollout_allow r WHERE r.subscriber_id = f.subscriber_id) AS allowed
          FROM (SELECT n.subscriber_id, 0 AS place FROM number n WHERE n.e164 = :b_number AND n.state = 'assigned'
                 UNION ALL
                SELECT o.subscriber_id, 1 FROM subscriber o WHERE o.a_number = :b_number AND o.state <> 'closed') f) c
  JOIN subscriber s USING (subscriber_id) JOIN account a USING (account_id) JOIN app USING (app_id)
 ORDER BY c.place ASC, s.state = 'active' DESC, app.launched OR c.allowed DESC, s.subscriber_id ASC LIMIT 1;

-- name: message_begins$
-- The caller leaves a message instead: an attempt of its own, so that a record of the one before ends nothing. NULL: the call is over.
UPDATE lease l SET attempt_no = :attempt_no::smallint + 1, expires_at = clock_timestamp() + make_interval(secs => :lease_s)
 WHERE l.call_id = :call_id AND l.attempt_no = :attempt_no::smallint RETURNING l.attempt_no;

-- name: admit_inbound^
SELECT * FROM call_inbound_v1(
    :switch_id, :uniqueid, :sip_call_id, :channel, :callee_id, :account_id, :a_number, :dialled, :b_number, :sell, :routes, :currency,
    :limit_ms, :lease_s, :at, :trunk_id, :trunk_cap, :trunk_cps, :leg_class, :anonymous, :withheld, :why, :wake_s);
