"""Partners in the database. Each function sees what the role of its connection may see.

Deals, numbers and browser phones: see `deal`, `number` and `phone`.
"""

from __future__ import annotations

from bridge.partners.store.account import (
    Settings,
    SpendCap,
    account,
    accounts,
    allowances,
    buy_bundle,
    change_account,
    entries,
    holds,
    set_spend_cap,
    subscribers_account,
    transfer,
)
from bridge.partners.store.app import add_app, app, apps, change_app
from bridge.partners.store.audit import audit, audits
from bridge.partners.store.credential import (
    Credential,
    add_credential,
    credential,
    credentials,
    end_credential,
)
from bridge.partners.store.key import (
    change_key,
    key,
    key_by_prefix,
    keys,
    replace_key,
    revoke_key,
    valid_keys,
)
from bridge.partners.store.partner import add_partner, change_partner, partner, partners
from bridge.partners.store.subscriber import (
    NewAccount,
    TooManyCodes,
    add_subscriber,
    ask_code,
    attest,
    change_subscriber,
    proof,
    proofs,
    state_of,
    subscriber,
    subscribers,
    try_code,
)
from bridge.partners.store.usage import payers, usage, usages

__all__ = [
    "Credential",
    "NewAccount",
    "Settings",
    "SpendCap",
    "TooManyCodes",
    "account",
    "accounts",
    "add_app",
    "add_credential",
    "add_partner",
    "add_subscriber",
    "allowances",
    "app",
    "apps",
    "ask_code",
    "attest",
    "audit",
    "audits",
    "buy_bundle",
    "change_account",
    "change_app",
    "change_key",
    "change_partner",
    "change_subscriber",
    "credential",
    "credentials",
    "end_credential",
    "entries",
    "holds",
    "key",
    "key_by_prefix",
    "keys",
    "partner",
    "partners",
    "payers",
    "proof",
    "proofs",
    "replace_key",
    "revoke_key",
    "set_spend_cap",
    "state_of",
    "subscriber",
    "subscribers",
    "subscribers_account",
    "transfer",
    "try_code",
    "usage",
    "usages",
    "valid_keys",
]
