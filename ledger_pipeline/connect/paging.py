"""Pagers say how the next request of a listing differs from the first one, and cut the records out of an answer as
the provider sent them.

A pager is a frozen dataclass that a source declares. `Listing` runs it for one connection and stream, and its guard
turns a listing that cannot be trusted into a `PageFault` rather than into missing money.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args
from urllib.parse import urljoin

import msgspec
from requests.utils import parse_header_links

from ledger_pipeline.connect.errors import FaultKind, PageFault, RequestRejected

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Response

Place = Literal["params", "json", "variables"]
Raw = msgspec.Raw


@dataclass(frozen=True, slots=True)
class Change:
    """What to change in a stream's base request: query parameters, JSON body keys (objects are merged), or the whole
    URL.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""

    @classmethod
    def at(cls, place: Place, values: Mapping[str, Any]) -> Change:
        """`variables` are GraphQL's."""
        if place == "params":
            return cls(params=values)
        return cls(json={"variables": values} if place == "variables" else values)


Fetch = Callable[[Change], "Response"]


@dataclass(frozen=True, slots=True)
class Page:
    """`items` are slices of `raw`, the body, byte for byte (they keep it in memory); `groups` says which list they
    stood in, where there are several. `next` is the token of the following request, and for sync tokens what to
    store after the last page.
    """

    number: int
    items: list[Raw]
    raw: bytes
    has_more: bool
    next: str | None = None
    total: int | None = None
    groups: Mapping[str, list[Raw]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pulled:
    """Records handed on, records left out because they came twice (`changed` of them with other content), pages,
    empty pages.
    """

    count: int = 0
    repeated: int = 0
    changed: int = 0
    pages: int = 0
    empty: int = 0


class Cut:
    """Reads values at dotted paths out of a body and decodes nothing else. `""` is the body itself, and then the
    only path.
    """

    def __init__(self, paths: Mapping[str, tuple[str, Any]]) -> None:
        self._paths = {name: path.split(".") if path else [] for name, (path, _) in paths.items()}
        if [] in self._paths.values() and len(paths) > 1:
            raise ValueError("a body that is a list has nothing beside its items")
        self._type = next((wire for path, wire in paths.values() if not path), None) or _struct(_tree(paths.values()))

    def __call__(self, response: Response) -> dict[str, Any]:
        """Values by name, None for an optional one that is absent. Raises BadPayload where another is absent or of
        another type.
        """
        body = response.decode(self._type)
        return {name: _at(body, path) for name, path in self._paths.items()}


@cache
def _cut(*paths: tuple[str, str, Any]) -> Cut:
    return Cut({name: (path, wire) for name, path, wire in paths})


def _tree(paths: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, wire in paths:
        node = root
        *parents, leaf = path.split(".")
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = wire
    return root


def _is_optional(wire: Any) -> bool:
    """An object is optional where everything that is wanted of it is (HubSpot leaves `paging` out on the last page)."""
    return all(map(_is_optional, wire.values())) if isinstance(wire, dict) else type(None) in get_args(wire)


def _struct(tree: Mapping[str, Any]) -> Any:
    fields: list[Any] = []
    for key, wire in tree.items():
        inner = _struct(wire) if isinstance(wire, dict) else wire
        fields.append((_attribute(key), inner | None, None) if _is_optional(wire) else (_attribute(key), inner))
    fields.sort(key=len)  # those with a default last
    return msgspec.defstruct("Body", fields, rename={_attribute(key): key for key in tree}, gc=False)


def absolute(base: str, target: str) -> str:
    """A link as an absolute URL; one that cannot be read stays as it is, and the client refuses it."""
    try:
        return urljoin(base, target)
    except ValueError:
        return target


def _attribute(key: str) -> str:
    return "f_" + key.encode().hex()


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        value = None if value is None else getattr(value, _attribute(part))
    return value


@cache
def _id_decoder(path: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_struct(_tree([(path, str | int | None)])))


def record_ids(items: Sequence[Raw], path: str) -> list[str | None]:
    """Each record's id at a dotted path, as text; None where it has none or cannot be read (the mapping will say
    so).
    """
    if not path:
        return [None] * len(items)
    decode, parts = _id_decoder(path).decode, path.split(".")
    ids: list[str | None] = []
    for item in items:
        try:
            value = _at(decode(item), parts)
        except msgspec.DecodeError:
            value = None
        ids.append(None if value is None else str(value))
    return ids


@dataclass
class Guard:
    """What has been seen of one listing; `check` returns the page without repeated records or raises PageFault.

    Where a record comes again with other content, the first is kept and the other counted as `changed`: a later
    window brings it. With `keeps_versions` (sync tokens, which bring nothing twice) both are kept.
    """

    connection: str = "?"
    stream: str = "?"
    record_id: str = "id"
    max_pages: int = 100_000
    max_empty: int = 3
    keeps_versions: bool = False

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was seen: the listing begins anew."""
        self.pulled = Pulled()
        self.total: int | None = None
        self._tokens: set[str] = set()
        self._listings: set[int] = set()
        self._records: dict[tuple[str, str], int] = {}
        self._empty_in_row = 0

    def fault(self, kind: FaultKind, page: int, message: str, *, is_transient: bool = True) -> PageFault:
        return PageFault(self.connection, message, kind=kind, stream=self.stream, page=page, is_transient=is_transient)

    def check(self, page: Page) -> Page:
        self._check_progress(page)
        groups = page.groups or {"": page.items}
        ids = {name: record_ids(items, self.record_id) for name, items in groups.items()}
        self._check_repeat(page, ids)
        kept: dict[str, list[Raw]] = {}
        repeated = changed = 0
        for name, items in groups.items():
            kept[name] = []
            for item, key in zip(items, ids[name], strict=True):
                verdict = self._seen(name, key, item)
                repeated += verdict is not None
                changed += verdict == "changed"
                if verdict is None or (verdict == "changed" and self.keeps_versions):
                    kept[name].append(item)
        items = [item for group in kept.values() for item in group]
        was = self.pulled
        self.pulled = Pulled(
            was.count + len(items),
            was.repeated + repeated,
            was.changed + changed,
            was.pages + 1,
            was.empty + (not page.items),
        )
        return replace(page, items=items, groups=kept if page.groups else {})

    def _seen(self, group: str, key: str | None, item: Raw) -> Literal["same", "changed"] | None:
        if key is None:
            return None
        digest = hash(bytes(item))
        before = self._records.get((group, key))
        self._records[group, key] = digest
        return None if before is None else "same" if before == digest else "changed"

    def _check_progress(self, page: Page) -> None:
        if page.has_more and page.number >= self.max_pages:
            raise self.fault("too_many", page.number, f"more than {self.max_pages} pages", is_transient=False)
        if page.has_more and page.next is not None and page.next in self._tokens:
            raise self.fault("cursor", page.number, "its cursor has been used before")
        if page.has_more and page.next is None:
            raise self.fault("cursor", page.number, "more is said to follow, but there is no cursor to it")
        if page.next is not None:
            self._tokens.add(page.next)
        if page.total is not None:
            if self.total not in (None, page.total):
                raise self.fault(
                    "shift", page.number, f"the source's own count went from {self.total} to {page.total} meanwhile"
                )
            self.total = page.total
        self._empty_in_row = 0 if page.items else self._empty_in_row + 1
        if page.has_more and self._empty_in_row > self.max_empty:
            raise self.fault(
                "empty", page.number, f"{self._empty_in_row} empty pages in a row, and more is said to follow"
            )

    def _check_repeat(self, page: Page, ids: Mapping[str, list[str | None]]) -> None:
        flat: list[Any] = [(name, key) for name, keys in ids.items() for key in keys]
        if self.keeps_versions or any(key is None for _, key in flat):
            flat = [bytes(item) for item in page.items]
        if flat and hash(tuple(flat)) in self._listings:
            raise self.fault("repeat", page.number, "it has the same records as an earlier page")
        self._listings.add(hash(tuple(flat)))

    def expect(self, count: int, tolerance: int = 0) -> None:
        """Raises PageFault where the source's own count differs by more than the tolerance."""
        pulled = self.pulled
        if abs(pulled.count - count) > tolerance:
            kind: FaultKind = "early_end" if pulled.count < count else "shift"
            raise self.fault(kind, pulled.pages, f"pulled {pulled.count} of {count} ({pulled.repeated} came twice)")


class Pager(ABC):
    """`first` and `following` say what to change in the request, `read` what the answer holds."""

    keeps_versions: ClassVar[bool] = False

    @abstractmethod
    def first(self) -> Change: ...

    @abstractmethod
    def following(self, page: Page) -> Change: ...

    @abstractmethod
    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page: ...

    def pages(self, fetch: Fetch, guard: Guard | None = None) -> Iterator[Page]:
        """Pages as the guard lets them through; at the end, the source's own count has been checked where the pager
        knows it.
        """
        guard = guard or Guard(keeps_versions=self.keeps_versions)
        change, page, number = self.first(), None, 0
        while True:
            number += 1
            page = self.read(fetch(change), number, page, guard)
            yield guard.check(page)
            if not page.has_more:
                break
            change = self.following(page)
        if guard.total is not None:
            guard.expect(guard.total)


@dataclass(frozen=True)
class StartingAfter(Pager):
    """The last record's id leads to the next page (Stripe)."""

    items: str = "data"
    more: str = "has_more"
    limit: int = 100
    limit_param: str = "limit"
    cursor_param: str = "starting_after"
    id_field: str = "id"

    def first(self) -> Change:
        return Change(params={self.limit_param: self.limit})

    def following(self, page: Page) -> Change:
        return Change(params={self.limit_param: self.limit, self.cursor_param: page.next})

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        found = _cut(("items", self.items, list[Raw]), ("more", self.more, bool))(response)
        last = record_ids(found["items"][-1:], self.id_field)
        return Page(number, found["items"], response.json_bytes, found["more"], last[0] if last else None)


@dataclass(frozen=True)
class SinglePage(Pager):
    """The whole list in one answer."""

    items: str

    def first(self) -> Change:
        return Change()

    def following(self, page: Page) -> Change:
        raise AssertionError("there is no second page")

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        return Page(number, _cut(("items", self.items, list[Raw]))(response)["items"], response.json_bytes, False)


@dataclass(frozen=True)
class CursorParam(Pager):
    """The answer holds the next page's cursor; without `more`, the listing ends where there is none."""

    items: str
    next: str = "next_cursor"
    param: str = "cursor"
    more: str = ""
    place: Place = "params"
    limit_param: str = ""
    limit: int = 100

    def first(self) -> Change:
        return Change.at(self.place, {self.limit_param: self.limit} if self.limit_param else {})

    def following(self, page: Page) -> Change:
        return Change.at(
            self.place, {**({self.limit_param: self.limit} if self.limit_param else {}), self.param: page.next}
        )

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        more = (("more", self.more, bool),) if self.more else ()
        found = _cut(("items", self.items, list[Raw]), ("next", self.next, str | int | None), *more)(response)
        token = None if found["next"] in (None, "") else str(found["next"])
        return Page(number, found["items"], response.json_bytes, found.get("more", token is not None), token)


@dataclass(frozen=True)
class GraphQLConnection(Pager):
    """A Relay connection with `nodes` and `pageInfo { hasNextPage endCursor }`; `path` begins with `data`."""

    path: str
    variable: str = "after"
    limit_variable: str = ""
    limit: int = 100

    def first(self) -> Change:
        return Change.at("variables", {self.limit_variable: self.limit} if self.limit_variable else {})

    def following(self, page: Page) -> Change:
        return Change.at(
            "variables",
            {**({self.limit_variable: self.limit} if self.limit_variable else {}), self.variable: page.next},
        )

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        found = _cut(
            ("items", f"{self.path}.nodes", list[Raw]),
            ("more", f"{self.path}.pageInfo.hasNextPage", bool),
            ("next", f"{self.path}.pageInfo.endCursor", str | None),
        )(response)
        return Page(number, found["items"], response.json_bytes, found["more"], found["next"])


@dataclass(frozen=True)
class LinkHeader(Pager):
    """RFC 8288: `Link: <…>; rel="next"`. Links to another host are refused by the client."""

    items: str = ""
    limit_param: str = ""
    limit: int = 100

    def first(self) -> Change:
        return Change(params={self.limit_param: self.limit} if self.limit_param else {})

    def following(self, page: Page) -> Change:
        return Change(url=page.next or "")

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        links = parse_header_links(response.headers.get("Link", ""))
        target = next((link["url"] for link in links if "next" in link.get("rel", "").lower().split()), None)
        items = _cut(("items", self.items, list[Raw]))(response)["items"]
        return Page(number, items, response.json_bytes, target is not None, target and absolute(response.url, target))


@dataclass(frozen=True)
class PageNumber(Pager):
    """Numbered pages. Ends where `more`, `pages_path` or `total` (paths) say so, else at an empty page: a server may
    send less than `limit` asks for.
    """

    items: str
    param: str = "page"
    start: int = 1
    limit_param: str = ""
    limit: int = 100
    more: str = ""
    pages_path: str = ""
    total: str = ""

    def first(self) -> Change:
        return self._at(self.start)

    def following(self, page: Page) -> Change:
        return self._at(int(page.next or 0))

    def _at(self, number: int) -> Change:
        return Change(params={self.param: number, **({self.limit_param: self.limit} if self.limit_param else {})})

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        known = (("more", self.more, bool), ("pages", self.pages_path, int), ("total", self.total, int))
        found = _cut(("items", self.items, list[Raw]), *(path for path in known if path[1]))(response)
        so_far = guard.pulled.count + len(found["items"])
        if self.more:
            has_more = found["more"]
        elif self.pages_path:
            has_more = number < found["pages"]
        else:
            has_more = bool(found["items"]) and (not self.total or so_far < found["total"])
        return Page(number, found["items"], response.json_bytes, has_more, str(self.start + number), found.get("total"))


@dataclass(frozen=True)
class Offset(Pager):
    """Counted positions. Every request but the first goes one record back and must find the last page's last record
    (at `id_field`) again: where it is gone, records were removed meanwhile and others would be skipped (PageFault,
    `shift`). Ends at `total`, else at no new record.
    """

    items: str
    param: str = "offset"
    limit_param: str = "limit"
    limit: int = 100
    total: str = ""
    id_field: str = "id"

    def first(self) -> Change:
        return self._at(0)

    def following(self, page: Page) -> Change:
        return self._at(int(page.next or 0))

    def _at(self, position: int) -> Change:
        return Change(params={self.param: position, self.limit_param: self.limit})

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        found = _cut(("items", self.items, list[Raw]), *((("total", self.total, int),) if self.total else ()))(response)
        items, total = found["items"], found.get("total")
        end = (int(before.next or 0) if before else 0) + len(items)
        if before is not None and before.items:
            ids, [anchor] = record_ids(items, self.id_field), record_ids(before.items[-1:], self.id_field)
            if anchor not in ids:
                raise guard.fault("shift", number, "the last page's last record is gone: the listing moved")
            items = items[ids.index(anchor) + 1 :]
        has_more = bool(items) and (total is None or end < total)
        return Page(number, items, response.json_bytes, has_more, str(end - 1), total)


@dataclass(frozen=True)
class SyncToken(Pager):
    """Changes since a cursor, in several lists (Plaid). The stored cursor belongs into the base request; the last
    page's `next` is the one to store. When the source answers `restart_on`, what was read is void: pages are handed
    on only once the last one is there.
    """

    keeps_versions: ClassVar[bool] = True

    groups: tuple[str, ...] = ("added", "modified", "removed")
    next: str = "next_cursor"
    more: str = "has_more"
    param: str = "cursor"
    place: Place = "json"
    restart_on: str = "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"
    max_restarts: int = 5

    def first(self) -> Change:
        return Change()

    def following(self, page: Page) -> Change:
        return Change.at(self.place, {self.param: page.next})

    def read(self, response: Response, number: int, before: Page | None, guard: Guard) -> Page:
        lists = tuple((name, name, list[Raw]) for name in self.groups)
        found = _cut(*lists, ("next page", self.next, str), ("has more", self.more, bool))(response)
        groups = {name: found[name] for name in self.groups}
        items = [item for group in groups.values() for item in group]
        return Page(number, items, response.json_bytes, found["has more"], found["next page"], groups=groups)

    def pages(self, fetch: Fetch, guard: Guard | None = None) -> Iterator[Page]:
        guard = guard or Guard(keeps_versions=True)
        for restarts in range(self.max_restarts + 1):
            guard.restart()
            try:
                whole = list(super().pages(fetch, guard))
            except RequestRejected as error:
                if self.restart_on not in error.provider_message or restarts == self.max_restarts:
                    raise
            else:
                yield from whole
                return


class Listing:
    """One stream's pull: iterate over its pages, then ask `pulled`, `cursor` (a sync token's to store) and `expect`.

        fetch = client.fetcher("GET", "/v1/charges")
        listing = Listing(pager, fetch, connection="stripe_us", stream="charges")
        for page in listing:
            store(page.items)
        listing.expect(count_of_the_source)

    `pulled` counts what was yielded so far. A listing is pulled once.
    """

    def __init__(
        self,
        pager: Pager,
        fetch: Fetch,
        *,
        connection: str,
        stream: str,
        record_id: str = "id",
        max_pages: int = 100_000,
        max_empty: int = 3,
    ) -> None:
        self._guard = Guard(connection, stream, record_id, max_pages, max_empty, pager.keeps_versions)
        self._pages = pager.pages(fetch, self._guard)
        self._last: Page | None = None
        self._is_complete = False

    def __iter__(self) -> Iterator[Page]:
        for page in self._pages:
            self._last = page
            yield page
        self._is_complete = True

    @property
    def pulled(self) -> Pulled:
        return self._guard.pulled

    @property
    def cursor(self) -> str | None:
        """The last page's `next`. Raises RuntimeError before the listing is complete: storing it earlier would lose
        records.
        """
        if not self._is_complete or self._last is None:
            raise RuntimeError("the listing is not complete")
        return self._last.next

    def expect(self, count: int, tolerance: int = 0) -> None:
        """Raises PageFault where the source's own count differs by more than the tolerance, RuntimeError before the
        end.
        """
        if not self._is_complete:
            raise RuntimeError("the listing is not complete")
        self._guard.expect(count, tolerance)
