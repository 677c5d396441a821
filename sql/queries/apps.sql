-- Apps. Partners do not see where their gateways are, for the role may not read that.

-- name: apps
SELECT a.app_id, a.name, a.sip_host, a.sip_secret IS NOT NULL AS has_secret, a.phones, a.launched, a.edition
  FROM app a WHERE a.app_id < :before ORDER BY a.app_id DESC LIMIT :rows;

-- name: apps_names
SELECT a.app_id, a.name, NULL::text AS sip_host, NULL::boolean AS has_secret, a.phones, a.launched, a.edition
  FROM app a WHERE a.app_id < :before ORDER BY a.app_id DESC LIMIT :rows;

-- name: app^
SELECT a.app_id, a.name, a.sip_host, a.sip_secret IS NOT NULL AS has_secret, a.phones, a.launched, a.edition
  FROM app a WHERE a.app_id = :app_id;

-- name: app_name^
SELECT a.app_id, a.name, NULL::text AS sip_host, NULL::boolean AS has_secret, a.phones, a.launched, a.edition
  FROM app a WHERE a.app_id = :app_id;

-- name: add^
INSERT INTO app (name, sip_host, sip_secret) VALUES (:name, :sip_host, :sip_secret)
RETURNING app_id, name, sip_host, sip_secret IS NOT NULL AS has_secret, phones, launched, edition;

-- name: change^
UPDATE app SET sip_host = coalesce(:sip_host, sip_host), edition = edition + 1,
       sip_secret = CASE WHEN :sets_secret::boolean THEN :sip_secret::text ELSE sip_secret END
 WHERE app_id = :app_id AND edition = :edition
RETURNING app_id, name, sip_host, sip_secret IS NOT NULL AS has_secret, phones, launched, edition;

-- name: host_taken$
SELECT EXISTS (SELECT FROM app WHERE sip_host = :sip_host AND app_id IS DISTINCT FROM :app_id::uuid);
