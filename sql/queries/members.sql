-- Members of rollouts and their invitations. What may race is decided in functions, under the lock of the rollout's row.

-- name: called$
SELECT rollout_called_v1(:caller_id, :callee_id, :call_id, :at);

-- name: would_call$
-- What `called` would say now, and nothing is done.
SELECT v.said FROM rollout_would_call_v1(:caller_id, :callee_id, :at) AS v;

-- name: enrol$
SELECT rollout_enrol_v1(:subscriber_id, :country, :platform, :cause, :actor, :at);

-- name: seed$
SELECT rollout_seed_v1(:rollout_id, :subscriber_id, :actor, :at);

-- name: remove$
SELECT rollout_remove_v1(:rollout_id, :subscriber_id, :cause, :actor, :at);

-- name: leave
-- A subscriber is closed: out of whatever rollouts it is in.
SELECT rollout_remove_v1(m.rollout_id, m.subscriber_id, 'closed', 'callbridge', :at) FROM rollout_member m
 WHERE m.subscriber_id = :subscriber_id AND m.state <> 'removed' ORDER BY m.rollout_id;

-- name: invite^
SELECT said, invite_id, expires_at FROM rollout_invite_v1(:inviter_id, :number, :hash, :at);

-- name: accept$
SELECT rollout_accept_v1(:subscriber_id, :hash, :at);

-- name: a_number$
SELECT s.a_number FROM subscriber s WHERE s.subscriber_id = :subscriber_id;

-- name: standing^
-- ahead: how many wait before, of 10 000 at most. brought: by whom this is asked for, open invitations included.
SELECT r.rollout_id, r.state, r.invite_limit, r.depth_max, app.launched,
       EXISTS (SELECT FROM rollout_allow a WHERE a.subscriber_id = s.subscriber_id) AS allowed, s.state AS subscriber_state,
       m.state AS member_state, coalesce(m.depth, 0) AS depth,
       CASE WHEN m.state = 'waiting'
            THEN (SELECT count(*) FROM (SELECT 1 FROM rollout_member o WHERE o.rollout_id = r.rollout_id AND o.state = 'waiting'
                                           AND o.place < m.place ORDER BY o.place LIMIT 10000) x) END AS ahead,
       rollout_brought_v1(r.rollout_id, s.subscriber_id, '', :at) AS brought,
       w.window_id, w.closes_at, w.quota - w.activated AS quota_left,
       (SELECT min(p.opens_at) FROM rollout_window p
         WHERE p.rollout_id = r.rollout_id AND p.state = 'planned' AND p.opens_at > :at) AS opens_at
  FROM subscriber s JOIN app USING (app_id)
  LEFT JOIN rollout r ON r.rollout_id = rollout_of_v1(s.app_id)
  LEFT JOIN rollout_member m ON m.rollout_id = r.rollout_id AND m.subscriber_id = s.subscriber_id
  LEFT JOIN rollout_window w ON w.rollout_id = r.rollout_id AND w.state = 'open'
 WHERE s.subscriber_id = :subscriber_id;

-- name: members
-- The inviter, as far as whoever asks may know of them.
SELECT m.rollout_id, m.subscriber_id, m.partner_id, m.state, m.country, m.platform, m.place, m.depth, m.call_id, m.invite_id, m.window_id,
       m.waiting_at, m.keyed_at, m.activated_at, s.a_number,
       (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = m.inviter_id) AS inviter_id
  FROM rollout_member m JOIN subscriber s USING (subscriber_id)
 WHERE m.rollout_id = :rollout_id AND m.subscriber_id < :before AND (:state::text IS NULL OR m.state = :state)
 ORDER BY m.subscriber_id DESC LIMIT :rows;

-- name: members_partner
-- Of a partner: others' members are not read.
SELECT m.rollout_id, m.subscriber_id, m.partner_id, m.state, m.country, m.platform, m.place, m.depth, m.call_id, m.invite_id, m.window_id,
       m.waiting_at, m.keyed_at, m.activated_at, s.a_number,
       (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = m.inviter_id) AS inviter_id
  FROM rollout_member m JOIN subscriber s USING (subscriber_id)
 WHERE m.partner_id = :partner_id AND m.rollout_id = :rollout_id AND m.subscriber_id < :before
   AND (:state::text IS NULL OR m.state = :state)
 ORDER BY m.subscriber_id DESC NULLS LAST LIMIT :rows;

-- name: member^
SELECT m.rollout_id, m.subscriber_id, m.partner_id, m.state, m.country, m.platform, m.place, m.depth, m.call_id, m.invite_id, m.window_id,
       m.waiting_at, m.keyed_at, m.activated_at, s.a_number,
       (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = m.inviter_id) AS inviter_id
  FROM rollout_member m JOIN subscriber s USING (subscriber_id)
 WHERE m.rollout_id = :rollout_id AND m.subscriber_id = :subscriber_id;

-- name: invites
SELECT i.invite_id, i.rollout_id, i.window_id, i.partner_id, i.inviter_id, i.number, i.made_at, i.expires_at, i.ended_at, i.used_by,
       w.state AS window_state
  FROM rollout_invite i JOIN rollout_window w USING (window_id)
 WHERE i.rollout_id = :rollout_id AND i.invite_id < :before ORDER BY i.invite_id DESC LIMIT :rows;

-- name: invites_partner
SELECT i.invite_id, i.rollout_id, i.window_id, i.partner_id, i.inviter_id, i.number, i.made_at, i.expires_at, i.ended_at, i.used_by,
       w.state AS window_state
  FROM rollout_invite i JOIN rollout_window w USING (window_id)
 WHERE i.partner_id = :partner_id AND i.rollout_id = :rollout_id AND i.invite_id < :before
 ORDER BY i.invite_id DESC NULLS LAST LIMIT :rows;

-- name: invite_by_key^
SELECT i.invite_id, i.rollout_id, i.window_id, i.partner_id, i.inviter_id, i.number, i.made_at, i.expires_at, i.ended_at, i.used_by,
       w.state AS window_state
  FROM rollout_invite i JOIN rollout_window w USING (window_id) WHERE i.rollout_id = :rollout_id AND i.invite_id = :invite_id;

-- name: tree
-- Who brought in whom, from one (root_id) or from all who were brought in by nobody of the rollout. Breadth first, so that what is cut
-- off is what is far. A partner's own members only: of a chain through others', the part behind them is not reached.
WITH RECURSIVE chain AS (
    (SELECT m.subscriber_id, m.inviter_id, m.state, m.depth, m.activated_at, 1 AS step FROM rollout_member m
      WHERE m.rollout_id = :rollout_id AND :root_id::uuid IS NULL AND m.depth <= 1 AND m.state <> 'waiting'
        AND m.state IN ('activated', 'keyed')
        AND NOT EXISTS (SELECT FROM rollout_member p
                         WHERE p.rollout_id = :rollout_id AND p.subscriber_id = m.inviter_id AND p.state = 'activated')
     UNION ALL
     SELECT m.subscriber_id, m.inviter_id, m.state, m.depth, m.activated_at, 1 FROM rollout_member m
      WHERE m.rollout_id = :rollout_id AND m.inviter_id = :root_id AND m.state IN ('activated', 'keyed'))
    UNION ALL
    SELECT m.subscriber_id, m.inviter_id, m.state, m.depth, m.activated_at, c.step + 1
      FROM chain c JOIN rollout_member m ON m.rollout_id = :rollout_id AND m.inviter_id = c.subscriber_id
     WHERE m.state IN ('activated', 'keyed') AND c.step < :steps
)
SELECT c.subscriber_id, (SELECT i.subscriber_id FROM subscriber i WHERE i.subscriber_id = c.inviter_id) AS inviter_id, c.state, c.depth,
       c.activated_at
  FROM (SELECT * FROM chain LIMIT :rows) c ORDER BY c.step, c.subscriber_id; -- noqa: AM09

-- name: states
-- Every member as it is, for the comparison with what the events say.
SELECT m.subscriber_id, m.state, m.inviter_id, m.depth, m.window_id FROM rollout_member m WHERE m.rollout_id = :rollout_id;
