-- The browser phone: signing in, and what one subscriber may see of their own.

-- name: add_link$
-- NULL: the subscriber is not active.
SELECT n.expires_at FROM sign_in_link_add_v1(:subscriber_id, :hash, :lasts_s, :most) AS n;

-- name: sign_in$
-- NULL: the link is not good (any more).
SELECT n.expires_at FROM phone_sign_in_v1(:link_hash, :session_hash, :lasts_s, :most) AS n;

-- name: enter^
-- Whose session this is; from here on the connection is ours. Of a secret of 256 bits, compared as a digest, time tells nothing.
SELECT f.subscriber_id, f.expires_at, set_config('role', 'none', false) AS role
  FROM phone_session_find_v1(:hash) AS f WHERE f.subscriber_id IS NOT NULL;

-- name: ours!
SELECT set_config('role', 'none', false);

-- name: sign_out!
DELETE FROM phone_session p WHERE p.hash = :hash;

-- name: subscribers_of
-- Whom a number belongs to, by app.
SELECT s.subscriber_id, app.name AS app FROM subscriber s JOIN app USING (app_id)
 WHERE s.a_number = :a_number AND s.state <> 'closed' AND (:app::text IS NULL OR app.name = :app) ORDER BY app.name;

-- name: me^
SELECT s.subscriber_id, s.a_number, app.name AS app, p.name AS plan, a.state AS account_state, a.currency, a.balance_micro,
       a.low_balance_micro,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, now()) END AS spend_left_micro
  FROM subscriber s JOIN app USING (app_id) JOIN plan p USING (plan_id) JOIN account a USING (account_id)
 WHERE s.subscriber_id = :subscriber_id;

-- name: bundles
-- What pays for talk now, in burn order.
SELECT b.name, w.units, w.units - w.used_units - w.held_units AS left_units, (w.covers ->> 'voice')::integer AS unit_s,
       upper(w.valid) AS until_at
  FROM subscriber s JOIN allowance w USING (account_id) JOIN bundle b USING (bundle_id)
 WHERE s.subscriber_id = :subscriber_id AND w.valid @> now() AND w.covers ? 'voice' AND w.zone IN ('any', s.zone)
 ORDER BY w.burn_order, upper(w.valid), w.allowance_id LIMIT 20;

-- name: calls
-- Of one subscriber, newest first: those they made and those for them. What a call cost is what its newest price says, less what no
-- money was left for. A call that reached no phone and went on as another is told as that other.
SELECT c.call_id, c.incoming, c.number, c.state, c.refuse_reason, c.refuse_detail, c.admitted_at, c.talk_ms, n.currency, n.covered_s,
       coalesce(r.amount_micro - r.written_off_micro, n.amount_micro - n.written_off_micro) AS cost_micro,
       m.message_id, m.duration_ms
  FROM ((SELECT o.call_id, false AS incoming, coalesce(o.b_number, o.dialled) AS number, o.state, o.refuse_reason, o.refuse_detail,
                o.admitted_at, o.talk_ms
           FROM call o
          WHERE o.subscriber_id = :subscriber_id AND o.direction <> 'in' AND o.call_id < :before
            AND NOT (o.direction = 'on_net' AND o.state = 'unanswered'
                     AND EXISTS (SELECT FROM call f
                                  WHERE f.subscriber_id = :subscriber_id AND f.call_id > o.call_id
                                    AND f.call_id < uuid_floor_v1(o.admitted_at + interval '10 minutes') AND f.after_call_id = o.call_id))
          ORDER BY o.call_id DESC NULLS LAST LIMIT :rows)
        UNION ALL
        (SELECT i.call_id, true, CASE WHEN NOT i.anonymous THEN i.a_number END, i.state, NULL, NULL, i.admitted_at, i.talk_ms
           FROM call i
          WHERE i.callee_id = :subscriber_id AND i.call_id < :before AND i.state <> 'refused'
            AND (i.direction = 'in' OR i.subscriber_id IS DISTINCT FROM i.callee_id)
          ORDER BY i.call_id DESC LIMIT :rows)) c
  LEFT JOIN charge n ON n.call_id = c.call_id AND NOT c.incoming
  LEFT JOIN voice_message m ON m.call_id = c.call_id AND c.incoming AND m.deleted_at IS NULL
  LEFT JOIN LATERAL (SELECT v.amount_micro, v.written_off_micro FROM rerating v WHERE v.call_id = n.call_id
                      ORDER BY v.revision DESC LIMIT 1) r ON true
 ORDER BY c.call_id DESC LIMIT :rows;

-- name: call_of^
-- A call of the last hour by the Call-ID its phone gave it.
SELECT c.call_id, c.state, c.refuse_reason, c.refuse_detail, c.q850_cause
  FROM call c
 WHERE c.subscriber_id = :subscriber_id AND c.call_id >= uuid_floor_v1(now() - interval '1 hour') AND c.sip_call_id = :sip_call_id
 ORDER BY c.call_id DESC NULLS LAST LIMIT 1;

-- name: running^
-- The newest call of a subscriber that is in progress, theirs or for them. No call lasts a day. Of a call for them the money is another's.
SELECT c.call_id, c.incoming, c.number, c.b_number, c.sell, c.bundled, l.answered_at, l.limit_ms, h.held_micro, a.currency,
       a.balance_micro - a.held_micro + CASE a.funding WHEN 'postpaid' THEN a.credit_limit_micro ELSE 0 END AS available_micro,
       CASE WHEN a.spend_cap_micro IS NOT NULL THEN spend_left_v1(a.account_id, now()) END AS spend_left_micro
  FROM ((SELECT o.call_id, false AS incoming, o.b_number AS number, o.b_number, o.account_id, o.sell, o.bundled
           FROM call o
          WHERE o.subscriber_id = :subscriber_id AND o.direction <> 'in' AND o.state = 'live'
            AND o.call_id >= uuid_floor_v1(now() - interval '1 day') AND (:sip_call_id::text IS NULL OR o.sip_call_id = :sip_call_id)
          ORDER BY o.call_id DESC NULLS LAST LIMIT 1)
        UNION ALL
        (SELECT i.call_id, true, CASE WHEN NOT i.anonymous THEN i.a_number END, i.b_number, NULL, NULL, false
           FROM call i
          WHERE i.callee_id = :subscriber_id AND i.state = 'live' AND i.call_id >= uuid_floor_v1(now() - interval '1 day')
            AND :sip_call_id::text IS NULL
          ORDER BY i.call_id DESC LIMIT 1)) c
  JOIN lease l USING (call_id)
  LEFT JOIN hold h USING (call_id)
  LEFT JOIN account a ON a.account_id = c.account_id
 ORDER BY c.call_id DESC LIMIT 1;
