-- Traffic, quality and margin. Whoever asks sees what report_money_v1 and report_quality_v1 show them.

-- name: money
SELECT by, key, currency, calls, answered, talk_ms, billed_s, covered_s, free_calls, free_s, bundle_calls, bundle_s, gross_micro,
       tax_micro, usage_micro, carried, carried_s, cost_micro, corrections
  FROM report_money_v1(:since, :until, :zone, :by::text [], :partner_id);

-- name: quality
SELECT by, key, seizures, answered, measured, effective, talk_ms, pdd
  FROM report_quality_v1(:since, :until, :zone, :by::text [], :partner_id);

-- name: quality_keep$
SELECT quality_keep_v1(:zone);

-- name: horizon$
-- All that happened before it is numbered.
SELECT max(p.until) FROM cdr_pass p;

-- name: partners
SELECT p.partner_id::text AS key, p.name FROM partner p;

-- name: trunks
SELECT t.trunk_id::text AS key, t.name FROM trunk t;

-- name: partner_named^
SELECT partner_id, name FROM partner WHERE name = :name;

-- name: partner_of^
SELECT partner_id, name FROM partner WHERE partner_id = :partner_id;
