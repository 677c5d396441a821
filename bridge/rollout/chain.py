"""The chain of activations as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Link:
    """A member who was brought in. inviter_id None: by hand."""

    subscriber_id: UUID
    inviter_id: UUID | None
    state: str
    depth: int
    activated_at: datetime | None


@dataclass(slots=True)
class Node:
    """link None: somebody who could call before the rollout began, or whom one may not see."""

    subscriber_id: UUID
    link: Link | None
    brought: list[Node] = field(default_factory=list)


def tree(links: Iterable[Link]) -> list[Node]:
    """Roots, with those they brought in below them, in the order given. A ring, which cannot be, would be left out."""
    nodes: dict[UUID, Node] = {}
    all_links = list(links)
    for link in all_links:
        nodes[link.subscriber_id] = Node(link.subscriber_id, link)
    roots: list[Node] = []
    for link in all_links:
        node = nodes[link.subscriber_id]
        if link.inviter_id is None:
            roots.append(node)
            continue
        above = nodes.get(link.inviter_id)
        if above is None:
            above = nodes[link.inviter_id] = Node(link.inviter_id, None)
            roots.append(above)
        above.brought.append(node)
    return roots


def flat(roots: Iterable[Node]) -> Iterator[tuple[int, Node]]:
    """Node by node, as a tree is printed, with how deep each stands. Not recursive: chains may be long."""
    waiting = [(0, root) for root in roots][::-1]
    while waiting:
        depth, node = waiting.pop()
        yield depth, node
        waiting += [(depth + 1, below) for below in reversed(node.brought)]


def counts(roots: Iterable[Node]) -> Mapping[UUID, int]:
    """How many each has brought in, directly and through others."""
    order = [node for _, node in flat(roots)]
    found: dict[UUID, int] = {}
    for node in reversed(order):
        found[node.subscriber_id] = sum(1 + found[below.subscriber_id] for below in node.brought)
    return found
