"""Trunks and apps as they stand in the database."""

from bridge.routing.store.peers import App, Peer, TrunkPeer, load_apps, load_peers, load_trunks
from bridge.routing.store.trunks import (
    add_trunk,
    applied,
    change_trunk,
    delete_trunk,
    not_applied,
    set_state,
    trunk,
    trunk_quality,
    trunk_seen,
    trunks,
)

__all__ = [
    "App",
    "Peer",
    "TrunkPeer",
    "add_trunk",
    "applied",
    "change_trunk",
    "delete_trunk",
    "load_apps",
    "load_peers",
    "load_trunks",
    "not_applied",
    "set_state",
    "trunk",
    "trunk_quality",
    "trunk_seen",
    "trunks",
]
