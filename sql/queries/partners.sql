-- Carrier partners. What is another's is kept away by row-level security.

-- name: partners
SELECT p.partner_id, p.name, p.account_id, p.state, p.edition, p.created_at FROM partner p
 WHERE p.partner_id < :before ORDER BY p.partner_id DESC LIMIT :rows;

-- name: partner^
SELECT p.partner_id, p.name, p.account_id, p.state, p.edition, p.created_at FROM partner p WHERE p.partner_id = :partner_id;

-- name: add_partner^
WITH id AS (
    SELECT uuidv7() AS partner_id, uuidv7() AS account_id
), new_account AS (
    INSERT INTO account (account_id, kind, name, currency, funding, partner_id)
    SELECT id.account_id, 'partner', 'partner ' || :name::text, :currency, 'postpaid', id.partner_id FROM id
)
INSERT INTO partner (partner_id, name, account_id) SELECT id.partner_id, :name::text, id.account_id FROM id
RETURNING partner_id, name, account_id, state, edition, created_at;

-- name: change_partner^
UPDATE partner p SET name = coalesce(:name, p.name), state = coalesce(:state, p.state), edition = p.edition + 1
 WHERE p.partner_id = :partner_id AND p.edition = :edition
RETURNING p.partner_id, p.name, p.account_id, p.state, p.edition, p.created_at;
