-- WhatsApp calls.

-- name: keep_call!
-- What Meta says of a call, told once.
INSERT INTO whatsapp_call (call_id, wacid, cta_payload) VALUES (:call_id, :wacid, :cta_payload) ON CONFLICT DO NOTHING;
