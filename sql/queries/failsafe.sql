-- What the failsafe's snapshot is made of.

-- name: subscribers
-- Who may call while no bridge answers: billed afterwards, active, invited, with credit left, in the currency of the plan, and
-- without a spend cap, which nobody would count meanwhile.
SELECT app.name AS app, s.a_number, s.subscriber_id, s.plan_id
  FROM subscriber s JOIN account a USING (account_id) JOIN app USING (app_id)
  JOIN plan p USING (plan_id) JOIN deck d ON d.deck_id = p.deck_id
 WHERE s.state = 'active' AND a.state = 'active' AND a.funding = 'postpaid' AND a.currency = d.currency
   AND a.balance_micro - a.held_micro + a.credit_limit_micro > 0 AND a.call_cap IS DISTINCT FROM 0
   AND a.spend_cap_micro IS NULL
   AND (app.launched OR EXISTS (SELECT 1 FROM rollout_allow r WHERE r.subscriber_id = s.subscriber_id));
