-- Capacity trials of windows. What follows from a verdict is decided in functions.

-- name: tend
SELECT t.trial_id FROM trial_tend_v1() AS t (trial_id);

-- name: claim^
-- A trial for whoever is first to look at it; nobody looks twice within half a second.
SELECT t.trial_id, t.window_id, t.partner_id, t.thresholds, t.trial_s, t.calls, now() AS at,
       greatest(t.began_at, now() - interval '1 minute') AS since, t.counted_until AS counted,
       greatest(t.counted_until, now() - make_interval(secs => :settle_s::float8)) AS until_at
  FROM trial t WHERE t.trial_id = :trial_id AND t.ended_at IS NULL AND t.sampled_at <= now() - interval '500 milliseconds'
   FOR NO KEY UPDATE SKIP LOCKED;

-- name: sample^
SELECT s.cps, s.cps_peak, s.live, s.attempts, s.answered, s.pdds, s.pdd_p95_ms, s.asked, s.refused, s.fresh, s.fresh_refused
  FROM rollout_sample_v1(:partner_id, :since, :counted, :until_at, :at) AS s;

-- name: note$
SELECT trial_note_v1(:trial_id, :bucket_s, :gap_s, :at, :until_at, :cps, :cps_peak, :live, :asr, :pdd_p95_ms, :refusal_rate,
                     :database_ms, :fresh, :fresh_refused);

-- name: finish$
SELECT trial_end_v1(:trial_id, :verdict, :which, :value, :allowed, :at);

-- name: of_window
-- The trials of a window, the newest first; what they measured of that one only.
SELECT t.trial_id, t.window_id, w.rollout_id, w.name, t.thresholds, t.trial_s, t.verdict, t.why, t.value, t.allowed, t.began_at,
       t.clock_at, t.sampled_at, t.ended_at, t.calls, t.refused, w.next_window_id, t.next_opened,
       CASE WHEN t.ended_at IS NULL THEN w.activated - t.activated_before ELSE t.activated END AS activated,
       CASE WHEN row_number() OVER (ORDER BY t.trial_id DESC) = 1 THEN coalesce(t.measures, trial_measures_v1(t.trial_id)) END AS measures
  FROM trial t JOIN rollout_window w USING (window_id)
 WHERE t.window_id = :window_id AND (:rollout_id::uuid IS NULL OR w.rollout_id = :rollout_id)
 ORDER BY t.trial_id DESC LIMIT :rows;

-- name: window_named$
-- Windows by key or name; of the same name, the newest.
SELECT w.window_id FROM rollout_window w
 WHERE w.window_id = :window_id OR w.name = :name ORDER BY w.window_id = :window_id DESC NULLS LAST, w.window_id DESC LIMIT 1;
