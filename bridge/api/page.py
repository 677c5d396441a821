"""Lists, page by page: newest first, stable while rows are added."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, Field

PAGE_MAX: Final = 100
LAST: Final = UUID(int=2**128 - 1)  # before it come all

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """Some of a list, newest first."""

    data: list[T]
    next: str | None = Field(description="`cursor` of the page after; null on the last")


@dataclass(frozen=True, slots=True)
class Paging:
    """before: rows older than this key are asked for. rows: one more than are shown, to know whether there are more."""

    limit: int
    before: UUID

    @property
    def rows(self) -> int:
        return self.limit + 1


async def _paging(
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="Rows of a page")] = 20,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9a-f]{32}$", description="`next` of the page before")
    ] = None,
) -> Paging:
    return Paging(limit, UUID(hex=cursor) if cursor else LAST)


Asked = Annotated[Paging, Depends(_paging)]


def page(
    rows: Sequence[Mapping[str, Any]],
    paging: Paging,
    key: str,
    show: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """The rows of a query with `LIMIT paging.rows` as a page. key: the column they are ordered by, falling."""
    shown = rows[: paging.limit]
    more = len(rows) > paging.limit
    return {"data": [show(row) for row in shown], "next": shown[-1][key].hex if more else None}
