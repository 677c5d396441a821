-- Who asks, as whom the database answers, and what is kept of it.

-- name: add_key$
INSERT INTO api_key (name, prefix, hash, expires_at, partner_id, scopes, kind)
VALUES (:name, :prefix, :hash, :expires_at, :partner_id, :scopes, :kind) RETURNING api_key_id;

-- name: find_key^
SELECT * FROM api_key_find_v1(:prefix);

-- name: enter!
-- From here on the connection is a partner's (role callbridge_partner), or an operator's (role none).
SELECT set_config('role', :role, :for_transaction), set_config('bridge.partner_id', :partner_id, :for_transaction);

-- name: claim^
SELECT * FROM api_claim_v1(:owner_id, :key, :fingerprint);

-- name: done!
SELECT api_done_v1(:owner_id, :key, :status::smallint, :headers, :body, :partner_id, :actor, :action, :subject, :detail,
                   :correlator, :remote);
