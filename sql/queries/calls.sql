-- The life of a call. Functions named _v1 live in schema.sql; what can race is decided there.

-- name: caller^
-- Everything an admission is decided on that is not held in memory. One row, or none for an unknown caller.
-- on_net is asked only where a B-number is given, what is left of a spend cap only where there is one.
-- Allowances: see allowances_v1.
SELECT s.subscriber_id, s.account_id, s.plan_id, s.app_id, s.a_number, s.state AS subscriber_state, s.zone, a.state AS account_state,
       a.currency,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro,
       a.call_cap, app.launched OR EXISTS (SELECT 1 FROM rollout_allow r WHERE r.subscriber_id = s.subscriber_id) AS allowed,
       CASE WHEN a.call_cap IS NULL THEN 0
            ELSE (SELECT count(*) FROM lease l WHERE l.account_id = a.account_id AND l.expires_at > now()) END AS live,
       EXISTS (SELECT 1 FROM subscriber o WHERE o.a_number = :b_number AND o.app_id = s.app_id AND o.state = 'active') AS on_net,
       CASE WHEN a.bundled THEN allowances_v1(a.account_id, s.zone, :at) END AS allowances,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, :at) END AS spend_left_micro
  FROM subscriber s JOIN account a USING (account_id) JOIN app USING (app_id)
 WHERE s.a_number = :a_number AND s.state <> 'closed' AND app.name = :app;

-- name: caller_known^
-- The same of a subscriber who is known. may_show: :shown is a number of theirs, the one they were registered with or another.
SELECT s.subscriber_id, s.account_id, s.plan_id, s.app_id, s.a_number, s.state AS subscriber_state, s.zone, a.state AS account_state,
       a.currency,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro,
       a.call_cap, app.launched OR EXISTS (SELECT 1 FROM rollout_allow r WHERE r.subscriber_id = s.subscriber_id) AS allowed,
       CASE WHEN a.call_cap IS NULL THEN 0
            ELSE (SELECT count(*) FROM lease l WHERE l.account_id = a.account_id AND l.expires_at > now()) END AS live,
       EXISTS (SELECT 1 FROM subscriber o WHERE o.a_number = :b_number AND o.app_id = s.app_id AND o.state = 'active') AS on_net,
       CASE WHEN a.bundled THEN allowances_v1(a.account_id, s.zone, :at) END AS allowances,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, :at) END AS spend_left_micro,
       :shown::text IS NULL OR s.a_number = :shown::text
       OR EXISTS (SELECT 1 FROM number n WHERE n.e164 = :shown::text AND n.subscriber_id = s.subscriber_id) AS may_show
  FROM subscriber s JOIN account a USING (account_id) JOIN app USING (app_id)
 WHERE s.subscriber_id = :subscriber_id AND s.state <> 'closed';

-- name: callee^
-- Whom a number belongs to within an app, be it their own or one that was given to them, and whether they may use the app yet.
-- Only those who had a phone lately, or take part in a rollout: to the others calls go over a carrier.
SELECT o.subscriber_id, app.launched OR EXISTS (SELECT 1 FROM rollout_allow r WHERE r.subscriber_id = o.subscriber_id) AS allowed
  FROM subscriber o JOIN account a USING (account_id) JOIN app USING (app_id)
 WHERE o.subscriber_id = coalesce((SELECT s.subscriber_id FROM subscriber s
                                    WHERE s.a_number = :b_number AND s.app_id = :app_id AND s.state <> 'closed'),
                                  (SELECT n.subscriber_id FROM number n WHERE n.e164 = :b_number))
   AND o.app_id = :app_id AND o.state = 'active' AND a.state <> 'closed'
   AND (EXISTS (SELECT 1 FROM sip_credential c WHERE c.subscriber_id = o.subscriber_id)
        OR EXISTS (SELECT 1 FROM rollout_member m WHERE m.subscriber_id = o.subscriber_id AND m.state <> 'removed'));

-- name: reached$
SELECT subscriber_reached_v1(:subscriber_id);

-- name: apps_of
-- The apps in which a number has a subscriber.
SELECT app.name FROM subscriber s JOIN app USING (app_id)
 WHERE s.a_number = :a_number AND s.state <> 'closed' ORDER BY app.name;

-- name: trunks_live
-- Calls now on the trunks that have a capacity.
SELECT t.trunk_id, (SELECT count(*) FROM lease l WHERE l.trunk_id = t.trunk_id AND l.expires_at > now()) AS live
  FROM trunk t WHERE t.capacity IS NOT NULL;

-- name: admit^
SELECT * FROM call_admit_v3(
    :switch_id, :uniqueid, :sip_call_id, :channel, :subscriber_id, :account_id, :a_number, :dialled, :b_number,
    :sell, :routes, :trunk_id, :trunk_cap, :hold_micro, :currency, :limit_ms, :lease_s, :allowance_ids, :units, :pers, :at,
    NULL, 'out', NULL, NULL, :leg_class, :anonymous, :after_call_id);

-- name: admit_paced^
-- The same over a trunk with a limit of calls a second.
SELECT * FROM call_admit_paced_v2(
    :switch_id, :uniqueid, :sip_call_id, :channel, :subscriber_id, :account_id, :a_number, :dialled, :b_number,
    :sell, :routes, :trunk_id, :trunk_cap, :hold_micro, :currency, :limit_ms, :lease_s, :allowance_ids, :units, :pers, :at,
    NULL, 'out', NULL, NULL, :leg_class, :anonymous, :after_call_id, :trunk_cps);

-- name: ring^
-- Admit a call that rings a subscriber's phones: see call_ring_v1.
SELECT * FROM call_ring_v1(
    :switch_id, :uniqueid, :sip_call_id, :channel, :subscriber_id, :account_id, :a_number, :dialled, :b_number,
    :sell, :routes, :currency, :limit_ms, :lease_s, :at,
    :direction, :callee_id, :trunk_in_id, :leg_class, :anonymous, :activate, :wake_s);

-- name: refuse!
-- A refusal is a call, too: it has its row, so that "every attempt to call ends in one record" can be proved.
INSERT INTO call (switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state, refuse_reason,
                  ended_at, q850_cause, release_party, partner_id, direction, callee_id, trunk_in_id, leg_class, anonymous, after_call_id,
                  refuse_detail)
VALUES (:switch_id, :uniqueid, :sip_call_id, :subscriber_id, :account_id, :a_number, :dialled, :b_number, 'refused', :reason,
        clock_timestamp(), :q850_cause, 'bridge', (SELECT a.partner_id FROM account a WHERE a.account_id = :account_id),
        :direction, :callee_id, :trunk_in_id, :leg_class, :anonymous, :after_call_id, :detail);

-- name: live_now$
-- Calls of the switch that may still be running.
SELECT count(*) FROM lease l WHERE l.switch_id = :switch_id AND l.expires_at > now();

-- name: turned_away!
-- Many refusals at once, of calls nobody had looked at. callers: as E.164 numbers where they are. A call from the network is its
-- trunk's, and no subscriber's. Written again, they change nothing.
INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state,
                  refuse_reason, admitted_at, ended_at, q850_cause, release_party, partner_id, direction, trunk_in_id, leg_class, anonymous)
SELECT r.call_id, :switch_id, r.uniqueid, r.sip_call_id, coalesce(u.subscriber_id, s.subscriber_id), a.account_id, r.a_number, r.dialled,
       r.b_number, 'refused', :reason, r.at, r.at, :q850_cause, 'bridge', a.partner_id,
       CASE WHEN t.trunk_id IS NULL THEN 'out' ELSE 'in' END, t.trunk_id,
       CASE WHEN t.trunk_id IS NULL THEN 'app' WHEN t.policy_class = 'voip_only' THEN 'voip_only' ELSE 'pstn' END, r.anonymous
  FROM unnest(:call_ids::uuid[], :apps::text[], :subscriber_ids::uuid[], :trunk_in_ids::uuid[], :anonymous::boolean[], :uniqueids::text[],
              :sip_call_ids::text[], :a_numbers::text[], :callers::text[], :dialleds::text[], :b_numbers::text[], :ats::timestamptz[])
       AS r (call_id, app, subscriber_id, trunk_in_id, anonymous, uniqueid, sip_call_id, a_number, caller, dialled, b_number, at)
  LEFT JOIN trunk t ON t.trunk_id = r.trunk_in_id
  LEFT JOIN subscriber u ON u.subscriber_id = r.subscriber_id AND u.state <> 'closed'
  LEFT JOIN app ON app.name = r.app AND r.trunk_in_id IS NULL
  LEFT JOIN subscriber s ON s.a_number = r.caller AND s.app_id = app.app_id AND s.state <> 'closed'
  LEFT JOIN account a ON a.account_id = coalesce(u.account_id, s.account_id)
ON CONFLICT DO NOTHING;

-- name: frozen
-- What the calls were admitted on: the rates and routes they are priced and retried by.
SELECT c.call_id, c.sell, c.routes, c.a_number, c.b_number, c.sip_call_id, c.state, c.admitted_at, c.bundled, c.direction,
       c.subscriber_id, c.callee_id, c.trunk_in_id, c.leg_class, c.anonymous, c.after_call_id
  FROM call c WHERE c.call_id = ANY (:call_ids::uuid[]);

-- name: attempt_ended$
SELECT call_attempt_ended_v1(:call_id, :attempt_no::smallint, :trunk_id, :outcome, :fault, :sip_code, :q850_cause, :pdd_ms, :currency,
                             :buy, :next_attempt_no::smallint, :next_trunk_id, :next_cap, :lease_s);

-- name: attempt_ended_paced$
-- The same where the next trunk has a limit of calls a second.
SELECT call_attempt_ended_paced_v1(:call_id, :attempt_no::smallint, :trunk_id, :outcome, :fault, :sip_code, :q850_cause, :pdd_ms,
                                   :currency, :buy, :next_attempt_no::smallint, :next_trunk_id, :next_cap, :lease_s, :next_cps);

-- name: answered!
-- Calls that were answered: from here the hold runs down, so the next slice gets its due time.
UPDATE lease l SET answered_at = i.answered_at, pdd_ms = i.pdd_ms,
       extend_at = i.answered_at + make_interval(secs => l.limit_ms / 1000.0 - :lead_s),
       expires_at = i.answered_at + make_interval(secs => l.limit_ms / 1000.0 + :grace_s)
  FROM unnest(:call_ids::uuid[], :answered_ats::timestamptz[], :pdd_mss::integer[]) AS i (call_id, answered_at, pdd_ms)
 WHERE l.call_id = i.call_id AND l.answered_at IS NULL;

-- name: due_for_extension
SELECT l.call_id, l.channel, l.limit_ms, l.answered_at, h.held_micro, c.sell, c.b_number, c.subscriber_id, c.bundled
  FROM lease l JOIN hold h USING (call_id) JOIN call c USING (call_id)
 WHERE l.switch_id = :switch_id AND l.extend_at <= clock_timestamp() AND l.answered_at IS NOT NULL
 ORDER BY l.extend_at LIMIT 500;

-- name: extend^
SELECT * FROM call_extend_v2(:call_id, :held_micro, :limit_ms, :extend_at, :expires_at, :allowance_ids, :units, :pers, :at);

-- name: bundled^
-- A call inside allowances: what it holds of them, and what else its subscriber has. Both as in `caller` and `burns`.
SELECT (SELECT json_agg(json_build_array(n.allowance_id, d.name, n.per, n.held_units) ORDER BY n.burn_no)
          FROM burn n JOIN allowance USING (allowance_id) JOIN bundle d USING (bundle_id)
         WHERE n.source_id = :call_id) AS burns,
       allowances_v1(s.account_id, s.zone, :at) AS allowances
  FROM subscriber s WHERE s.subscriber_id = :subscriber_id;

-- name: lock_accounts
-- The accounts of these calls, so that what they hold stays as it is until they are ended.
SELECT a.account_id FROM account a
 WHERE a.account_id IN (SELECT c.account_id FROM call c WHERE c.call_id = ANY (:call_ids::uuid[])) ORDER BY a.account_id FOR NO KEY UPDATE;

-- name: burns
-- Units held by calls, in the order in which they pay: [allowance, bundle, seconds a unit, units].
SELECT n.source_id AS call_id,
       json_agg(json_build_array(n.allowance_id, d.name, n.per, n.held_units) ORDER BY n.burn_no) AS burns
  FROM burn n JOIN allowance USING (allowance_id) JOIN bundle d USING (bundle_id)
 WHERE n.source_id = ANY (:call_ids::uuid[]) GROUP BY n.source_id;
-- name: ask_again!
-- No money for another slice now; ask again later, for a top-up may arrive while the call lasts.
UPDATE lease SET extend_at = clock_timestamp() + make_interval(secs => :later_s) WHERE call_id = :call_id;

-- name: end
SELECT * FROM call_end_v2(:ended::ended_call[]);

-- name: leases
-- Calls of a switch that may still be running, as the database knows them.
SELECT l.call_id, l.channel, c.uniqueid, c.admitted_at, l.answered_at, l.limit_ms, l.expires_at, l.attempt_no, l.pdd_ms,
       l.expires_at < clock_timestamp() AS expired
  FROM lease l JOIN call c USING (call_id)
 WHERE l.switch_id = :switch_id;

-- name: endings
-- How calls ended, for the second witness to compare with.
SELECT c.call_id, c.state, c.direction, c.answered_at, c.ended_at, c.talk_ms, c.ended_by, l.attempt_no
  FROM call c LEFT JOIN lease l USING (call_id) WHERE c.call_id = ANY (:call_ids::uuid[]);

-- name: adopt!
-- A call the failsafe let through while no bridge was there: it gets its row now, and is ended like any other.
INSERT INTO call (call_id, switch_id, uniqueid, sip_call_id, subscriber_id, account_id, a_number, dialled, b_number, state, sell, routes,
                  admitted_at, partner_id)
SELECT :call_id, :switch_id, :uniqueid, '', s.subscriber_id, s.account_id, s.a_number, :b_number, :b_number, 'live', :sell, :routes,
       :admitted_at, s.partner_id
  FROM subscriber s WHERE s.subscriber_id = :subscriber_id
ON CONFLICT DO NOTHING;

-- name: emergency!
-- An emergency call, known only from the CDR file: it asked nobody, has no account and costs nothing.
INSERT INTO call (switch_id, uniqueid, sip_call_id, a_number, dialled, state, admitted_at, answered_at, ended_at, talk_ms, ended_by)
VALUES (:switch_id, :uniqueid, '', :a_number, :dialled, :state, :admitted_at, :answered_at, :ended_at, :talk_ms, 'cdr');

-- name: subscriber_plan^
SELECT s.plan_id, s.zone, a.currency,
       EXISTS (SELECT 1 FROM subscriber o WHERE o.a_number = :b_number AND o.app_id = s.app_id AND o.state = 'active') AS on_net
  FROM subscriber s JOIN account a USING (account_id) WHERE s.subscriber_id = :subscriber_id;

-- name: disagree!
INSERT INTO discrepancy (call_id, kind, detail) VALUES (:call_id, :kind, :detail) ON CONFLICT DO NOTHING;

-- name: story_call^
-- One call with all that hangs on it, for people.
SELECT c.*, s.a_number IS NOT NULL AS known, w.name AS switch, a.name AS account FROM call c
  LEFT JOIN subscriber s USING (subscriber_id) LEFT JOIN account a ON a.account_id = c.account_id
  JOIN switch w USING (switch_id) WHERE c.call_id = :call_id;

-- name: story_attempts
SELECT x.*, t.name AS trunk, a.name AS carrier
  FROM attempt x JOIN trunk t USING (trunk_id) JOIN account a USING (account_id)
 WHERE x.call_id = :call_id ORDER BY x.attempt_no;

-- name: story_charge^
SELECT * FROM charge WHERE call_id = :call_id;

-- name: story_bundles
-- The units a call held and burnt, by allowance in the order in which they paid, and what is left of each now.
SELECT b.name, n.per, n.held_units, n.used_units, w.units, w.units - w.used_units - w.held_units AS left_units, upper(w.valid) AS until_at
  FROM (SELECT o.allowance_id, o.per, min(o.burn_no) AS first_no, sum(o.held_units)::bigint AS held_units,
               sum(o.used_units)::bigint AS used_units
          FROM burn o WHERE o.source_id = :call_id GROUP BY o.allowance_id, o.per) n
  JOIN allowance w USING (allowance_id) JOIN bundle b USING (bundle_id) ORDER BY n.first_no;

-- name: story_hold^
SELECT * FROM hold WHERE call_id = :call_id;

-- name: story_entries
SELECT e.entry_no, a.name AS account, e.amount_micro, e.currency FROM entry e JOIN account a USING (account_id)
 WHERE e.transfer_id = :call_id ORDER BY e.entry_no;

-- name: latest^
-- The newest call and how far it is.
SELECT c.call_id, c.state, c.ended_at, l.answered_at FROM call c LEFT JOIN lease l USING (call_id) ORDER BY c.call_id DESC LIMIT 1;

-- name: live
-- Calls in progress, the oldest first.
SELECT c.call_id, c.a_number, c.b_number, t.name AS trunk, l.channel, c.admitted_at, l.answered_at, l.limit_ms, h.held_micro, h.currency
  FROM lease l JOIN call c USING (call_id) LEFT JOIN trunk t USING (trunk_id) JOIN hold h USING (call_id) ORDER BY c.call_id;

-- name: live_channel$
SELECT channel FROM lease WHERE call_id = :call_id;
