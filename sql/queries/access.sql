-- API keys.

-- name: add_key!
INSERT INTO api_key (name, prefix, hash, expires_at) VALUES (:name, :prefix, :hash, :expires_at);

-- name: find_key^
SELECT api_key_id, name, hash FROM api_key
 WHERE prefix = :prefix AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
