-- What app users' phones register with, who is registered, and who is banned.

-- name: switch_login!
SELECT switch_login_v1(:name, :password);

-- name: lock_subscriber$
-- The state of a subscriber, which stays as it is until the transaction ends.
SELECT state FROM subscriber WHERE subscriber_id = :subscriber_id FOR NO KEY UPDATE;

-- name: add^
INSERT INTO sip_credential (subscriber_id, partner_id, realm, digest, media, contacts_max, expires_at)
SELECT s.subscriber_id, s.partner_id, :realm, :digest, :media, :contacts_max, clock_timestamp() + make_interval(secs => :lasts_s)
  FROM subscriber s WHERE s.subscriber_id = :subscriber_id
RETURNING credential_id, created_at, expires_at;

-- name: app_has_phones!
SELECT app_has_phones_v1(:subscriber_id);

-- name: end_oldest!
-- All but the newest. Under the lock of the subscriber.
UPDATE sip_credential c SET revoked_at = clock_timestamp()
 WHERE c.subscriber_id = :subscriber_id AND c.expires_at > now() AND c.revoked_at IS NULL
   AND c.credential_id NOT IN (SELECT n.credential_id FROM sip_credential n
                                WHERE n.subscriber_id = :subscriber_id AND n.expires_at > now() AND n.revoked_at IS NULL
                                ORDER BY n.credential_id DESC LIMIT :contacts_max);

-- name: credentials
SELECT c.credential_id, c.subscriber_id, c.partner_id, c.endpoint, c.realm, c.media, c.created_at, c.expires_at, c.revoked_at
  FROM sip_credential c WHERE c.subscriber_id = :subscriber_id AND c.credential_id < :before
 ORDER BY c.credential_id DESC LIMIT :rows;

-- name: credential^
SELECT c.credential_id, c.subscriber_id, c.partner_id, c.endpoint, c.realm, c.media, c.created_at, c.expires_at, c.revoked_at
  FROM sip_credential c WHERE c.subscriber_id = :subscriber_id AND c.credential_id = :credential_id;

-- name: end!
UPDATE sip_credential SET revoked_at = clock_timestamp() WHERE credential_id = :credential_id AND revoked_at IS NULL;

-- name: contacts
SELECT id, uri FROM asterisk.ps_contacts WHERE switch_id = :switch_id;

-- name: contacts_put
-- Phones of users who may be reached. The trigger tells whoever waits for one.
INSERT INTO asterisk.ps_contacts AS c (id, switch_id, endpoint, subscriber_id, uri)
SELECT DISTINCT f.id, :switch_id::uuid, f.endpoint, n.subscriber_id, f.uri
  FROM unnest(:ids::text[], :endpoints::text[], :uris::text[]) f (id, endpoint, uri) JOIN sip_credential_now n USING (endpoint)
ON CONFLICT (id) DO UPDATE SET uri = excluded.uri, switch_id = excluded.switch_id
RETURNING c.id;

-- name: contacts_gone!
DELETE FROM asterisk.ps_contacts WHERE id = ANY (:ids);

-- name: contacts_ended
-- Phones whose user has no credential left: the switch does not ring them.
DELETE FROM asterisk.ps_contacts c
 WHERE c.switch_id = :switch_id AND NOT EXISTS (SELECT FROM sip_credential_now n WHERE n.endpoint = c.endpoint)
RETURNING c.id;

-- name: ban!
INSERT INTO sip_ban (switch_id, address, subscriber_id, failures, expires_at)
SELECT :switch_id::uuid, :address::inet, :subscriber_id::uuid, :failures::integer, :until::timestamptz
 WHERE :subscriber_id::uuid IS NULL OR EXISTS (SELECT FROM subscriber s WHERE s.subscriber_id = :subscriber_id::uuid);

-- name: banned
-- Addresses, the newest first.
SELECT b.address, max(b.expires_at) AS expires_at FROM sip_ban b
 WHERE b.switch_id = :switch_id AND b.address IS NOT NULL AND b.expires_at > now()
 GROUP BY b.address ORDER BY max(b.banned_at) DESC LIMIT :rows;

-- name: bans
-- All that are in force.
SELECT b.sip_ban_id, host(b.address) || CASE WHEN masklen(b.address) IN (32, 128) THEN '' ELSE '/' || masklen(b.address) END AS address,
       'u' || replace(b.subscriber_id::text, '-', '') AS endpoint, b.failures, b.banned_at, b.expires_at
  FROM sip_ban b WHERE b.expires_at > now() ORDER BY b.sip_ban_id DESC;

-- name: lift$
-- End what bans an address or an endpoint. How many there were.
WITH ended AS (
    UPDATE sip_ban b SET expires_at = now(), lifted_by = :actor
     WHERE b.expires_at > now() AND (host(b.address) = :who OR b.address::text = :who
                                     OR 'u' || replace(b.subscriber_id::text, '-', '') = :who) RETURNING 1)
SELECT count(*) FROM ended;

-- name: forget_users!
-- Credentials, and bans, that ended long ago.
WITH gone AS (DELETE FROM sip_ban WHERE expires_at < now() - interval '90 days')
DELETE FROM sip_credential WHERE expires_at < now() - interval '7 days';
