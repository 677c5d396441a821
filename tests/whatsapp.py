"""A WhatsApp Business number as a trunk, straight into the database."""

from __future__ import annotations

from uuid import UUID

from bridge.database import Connection

BUSINESS = "+493012345678"
SECRET = "sipPass/word=1"


async def add_business(
    conn: Connection,
    name: str = "business",
    number: str = BUSINESS,
    *,
    host: str = "wa.meta.vc",
    port: int = 5061,
    secret: str = SECRET,
    networks: str = "{127.0.0.1/32}",
) -> UUID:
    """With the carrier's account and the deck of whatever trunk there is already."""
    trunk_id: UUID = await conn.fetchval(
        """INSERT INTO trunk (name, account_id, deck_id, host, port, policy_class, transport, codecs, auth_username,
                              auth_secret, allowed_ips, kind, business_number)
           SELECT $1, account_id, deck_id, $3, $4, 'voip_only', 'tls', '{opus}', substr($2, 2), $5, $6::text::cidr[],
                  'whatsapp', $2
             FROM trunk ORDER BY name LIMIT 1 RETURNING trunk_id""",
        name,
        number,
        host,
        port,
        secret,
        networks,
    )
    return trunk_id
