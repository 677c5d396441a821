-- Rollouts, their windows and waves. What may race is decided in functions, under the lock of the rollout's row.

-- name: set_state$
SELECT rollout_state_set_v1(:rollout_id, :state, :cause, :actor, :at);

-- name: set_window$
SELECT rollout_window_set_v1(:window_id, :state, :cause, :actor, :at);

-- name: set_key$
SELECT rollout_key_set_v1(:wave_id, :server_key, :actor, :at);

-- name: due
-- Windows whose time has come, and rollouts with keyed members to be looked at (without a window).
SELECT w.rollout_id, w.window_id, w.state, w.opens_at, w.closes_at FROM rollout_window w
 WHERE w.state <> 'closed' AND (w.closes_at <= :at OR (w.state = 'planned' AND w.opens_at <= :at))
 UNION ALL
SELECT r.rollout_id, NULL, NULL, NULL, NULL FROM rollout r WHERE r.settling
 ORDER BY opens_at, window_id;

-- name: settle$
SELECT rollout_settle_v1(:rollout_id, :rows, :at);

-- name: rollouts
SELECT r.rollout_id, r.partner_id, app.name AS app, r.name, r.state, r.invite_limit, r.depth_max, r.call_activates, r.invite_s,
       r.edition, r.created_at
  FROM rollout r JOIN app USING (app_id)
 WHERE r.rollout_id < :before ORDER BY r.rollout_id DESC LIMIT :rows;

-- name: rollouts_partner
-- Of a partner: others' are not read.
SELECT r.rollout_id, r.partner_id, app.name AS app, r.name, r.state, r.invite_limit, r.depth_max, r.call_activates, r.invite_s,
       r.edition, r.created_at
  FROM rollout r JOIN app USING (app_id)
 WHERE r.partner_id = :partner_id AND r.rollout_id < :before ORDER BY r.rollout_id DESC NULLS LAST LIMIT :rows;

-- name: rollout^
SELECT r.rollout_id, r.partner_id, r.app_id, app.name AS app, r.name, r.state, r.invite_limit, r.depth_max, r.call_activates,
       r.invite_s, r.edition, r.created_at
  FROM rollout r JOIN app USING (app_id) WHERE r.rollout_id = :rollout_id;

-- name: named^
-- The rollout that people mean at the command line: by its key, or the newest of an app.
SELECT r.rollout_id FROM rollout r JOIN app USING (app_id)
 WHERE replace(r.rollout_id::text, '-', '') = right(:name, 32) OR app.name = :name
 ORDER BY r.state = 'killed', r.rollout_id DESC LIMIT 1;

-- name: app^
SELECT app.app_id, app.launched, rollout_of_v1(app.app_id) AS before_id FROM app WHERE app.name = :app FOR NO KEY UPDATE;

-- name: add_rollout$
INSERT INTO rollout (app_id, partner_id, name, invite_limit, depth_max, call_activates, invite_s)
VALUES (:app_id, :partner_id, :name, :invite_limit, :depth_max, :call_activates, :invite_s) RETURNING rollout_id;

-- name: follow!
-- Whoever waited in a rollout that was killed waits in the one that follows it.
SELECT rollout_enrol_v1(m.subscriber_id, m.country, m.platform, 'sign_up', :actor, :at)
  FROM (SELECT x.* FROM rollout_member x WHERE x.rollout_id = :before_id AND x.state IN ('waiting', 'keyed') ORDER BY x.place) m;

-- name: lock^
SELECT r.state FROM rollout r WHERE r.rollout_id = :rollout_id FOR NO KEY UPDATE;

-- name: change_rollout$
UPDATE rollout r
   SET name = :name, invite_limit = :invite_limit, depth_max = :depth_max, call_activates = :call_activates, invite_s = :invite_s,
       edition = r.edition + 1
 WHERE r.rollout_id = :rollout_id AND r.edition = :edition RETURNING r.edition;

-- name: note!
SELECT rollout_note_v1(:rollout_id, :kind, 'operator', :actor, :at, :partner_id, :window_id, p_wave_ids => :wave_ids::uuid[],
                       p_data => :data::jsonb);

-- name: resettle!
-- Quotas were changed: keyed members may have become possible to activate.
UPDATE rollout r SET settling = true WHERE r.rollout_id = :rollout_id AND r.state = 'running';

-- name: windows
SELECT w.* FROM rollout_window w
 WHERE w.rollout_id = :rollout_id AND w.window_id < :before ORDER BY w.window_id DESC LIMIT :rows;

-- name: window^
SELECT w.* FROM rollout_window w WHERE w.rollout_id = :rollout_id AND w.window_id = :window_id;

-- name: add_window$
INSERT INTO rollout_window (rollout_id, partner_id, name, opens_at, closes_at, quota, thresholds, trial_s, next_window_id)
VALUES (:rollout_id, :partner_id, :name, :opens_at, :closes_at, :quota, :thresholds::jsonb, :trial_s, :next_window_id)
RETURNING window_id;

-- name: change_window$
UPDATE rollout_window w
   SET name = :name, opens_at = :opens_at, closes_at = :closes_at, quota = :quota, thresholds = :thresholds::jsonb,
       trial_s = :trial_s, next_window_id = :next_window_id, edition = w.edition + 1
 WHERE w.window_id = :window_id AND w.edition = :edition RETURNING w.edition;

-- name: waves
SELECT v.* FROM rollout_wave v
 WHERE v.rollout_id = :rollout_id AND v.wave_id < :before ORDER BY v.wave_id DESC LIMIT :rows;

-- name: wave^
SELECT v.* FROM rollout_wave v WHERE v.rollout_id = :rollout_id AND v.wave_id = :wave_id;

-- name: add_wave$
INSERT INTO rollout_wave (rollout_id, partner_id, country, platform, of_partner_id, quota, server_key)
VALUES (:rollout_id, :partner_id, :country, :platform, :of_partner_id, :quota, :server_key) RETURNING wave_id;

-- name: change_wave$
UPDATE rollout_wave v SET quota = :quota, edition = v.edition + 1
 WHERE v.wave_id = :wave_id AND v.edition = :edition RETURNING v.edition;

-- name: events
SELECT e.rollout_event_id, e.rollout_id, e.seq, e.kind, e.cause, e.actor, e.window_id, e.wave_ids, e.subscriber_id, e.call_id, e.invite_id,
       e.data, e.at, (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = e.inviter_id) AS inviter_id
  FROM rollout_event e
 WHERE e.rollout_id = :rollout_id AND e.rollout_event_id < :before ORDER BY e.rollout_event_id DESC LIMIT :rows;

-- name: events_partner
SELECT e.rollout_event_id, e.rollout_id, e.seq, e.kind, e.cause, e.actor, e.window_id, e.wave_ids, e.subscriber_id, e.call_id, e.invite_id,
       e.data, e.at, (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = e.inviter_id) AS inviter_id
  FROM rollout_event e
 WHERE e.partner_id = :partner_id AND e.rollout_id = :rollout_id AND e.rollout_event_id < :before
 ORDER BY e.rollout_event_id DESC NULLS LAST LIMIT :rows;

-- name: replayed
-- Every event of a rollout, in order.
SELECT e.seq, e.kind, e.window_id, e.wave_ids, e.subscriber_id, e.inviter_id, e.data FROM rollout_event e
 WHERE e.rollout_id = :rollout_id ORDER BY e.seq;

-- name: all_ids
SELECT r.rollout_id FROM rollout r ORDER BY r.rollout_id;

-- name: facts^
-- What a forecast starts from. exposure_s: how long those who could call have had since the open window opened, all together.
SELECT count(*) FILTER (WHERE m.state = 'activated') AS activated, count(*) FILTER (WHERE m.state IN ('waiting', 'keyed')) AS waiting,
       count(*) FILTER (WHERE m.state = 'activated' AND m.window_id = w.window_id AND m.inviter_id IS NOT NULL) AS brought,
       coalesce(sum(extract(EPOCH FROM :at - greatest(m.activated_at, w.opened_at))) FILTER (WHERE m.state = 'activated'), 0)::float
           AS exposure_s,
       (SELECT count(*) FROM rollout_allow a JOIN subscriber s USING (subscriber_id)
         WHERE s.app_id = r.app_id AND s.state = 'active'
           AND NOT EXISTS (SELECT FROM rollout_member x WHERE x.rollout_id = r.rollout_id AND x.subscriber_id = a.subscriber_id))
           AS before,
       w.quota - w.activated AS quota_left, w.opened_at
  FROM rollout r LEFT JOIN rollout_member m USING (rollout_id)
  LEFT JOIN rollout_window w ON w.rollout_id = r.rollout_id AND w.state = 'open'
 WHERE r.rollout_id = :rollout_id GROUP BY r.rollout_id, w.window_id;

-- name: audit_allowed
-- Members who are activated may call, and those who are not may not, unless they were in another rollout.
SELECT m.rollout_id, m.subscriber_id, m.state FROM rollout_member m
  LEFT JOIN rollout_allow a USING (subscriber_id)
 WHERE (m.state = 'activated') <> (a.subscriber_id IS NOT NULL)
   AND (m.state = 'activated' OR NOT EXISTS (SELECT FROM rollout_member o
                                              WHERE o.subscriber_id = m.subscriber_id AND o.state = 'activated'));
