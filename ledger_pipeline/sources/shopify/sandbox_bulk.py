"""Bulk operations of the sandbox's Shopify: one query at a time, written in the background to a JSONL file.

Shopify's restrictions hold: a connection is needed, at most five of them, two deep, none inside a list.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from graphql import GraphQLError
from starlette.responses import FileResponse, Response

from ledger_pipeline.sandbox.graphql import (
    CONNECTION,
    LIST,
    MAX_FIRST,
    OBJECT,
    Engine,
    Page,
    QueryError,
    Selected,
    node_fields,
    project,
)
from ledger_pipeline.sandbox.wire import iso_z, json_response, opaque

from .sandbox_shapes import gid

if TYPE_CHECKING:
    from .sandbox import Shop

MAX_CONNECTIONS, MAX_DEPTH = 5, 2
_IN_LIST = "Queries that contain a connection field within a list field are not currently supported."
_NO_ID = (
    "The parent 'node' field for a nested connection must select the 'id' field without an alias and must be of 'ID' "
    "return type."
)
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass
class Operation:
    number: int
    query: str
    is_grouped: bool
    url: str
    created_at: datetime
    path: Path
    status: str = "CREATED"
    polls: int = 0
    objects: int = 0
    roots: int = 0
    is_written: bool = False
    completed_at: datetime | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def is_over(self) -> bool:
        return self.status in ("COMPLETED", "FAILED", "CANCELED")

    def shape(self) -> dict[str, Any]:
        is_done = self.status == "COMPLETED"
        return {
            "__typename": "BulkOperation",
            "id": gid("BulkOperation", self.number),
            "status": self.status,
            "type": "QUERY",
            "query": self.query,
            "errorCode": "INTERNAL_SERVER_ERROR" if self.status == "FAILED" else None,
            "createdAt": iso_z(self.created_at),
            "completedAt": iso_z(self.completed_at) if self.completed_at else None,
            "objectCount": str(self.objects),
            "rootObjectCount": str(self.roots),
            "fileSize": str(self.path.stat().st_size) if is_done and self.objects else None,
            "url": self.url if is_done and self.objects else None,
            "partialDataUrl": None,
        }


class BulkOperations:
    """The operations of one shop, newest last."""

    def __init__(self, shop: Shop, engine: Engine) -> None:
        self.shop, self.engine = shop, engine
        self.operations: list[Operation] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, query: str, is_grouped: bool, base_url: str) -> dict[str, Any]:
        """The mutation's payload: the new operation, or why there is none."""
        running = next((one for one in self.operations if not one.is_over), None)
        if running is not None:
            other = gid("BulkOperation", running.number)
            message = f"A bulk query operation for this app and shop is already in progress: {other}."
            return _payload(None, message, "OPERATION_IN_PROGRESS")
        try:
            is_mutation, fields = self.engine.bind(query, {})
            if is_mutation:
                return _payload(None, "Bulk queries must be queries", "INVALID")
            root = _check(fields)
        except (QueryError, GraphQLError) as error:
            return _payload(None, f"Invalid bulk query: {error}", "INVALID")
        operation = self._new(query, is_grouped, base_url)
        operation.task = asyncio.get_running_loop().create_task(self._write(operation, root))
        return _payload(operation.shape())

    def _new(self, query: str, is_grouped: bool, base_url: str) -> Operation:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="sandbox-bulk-")
        number = 8_000_000_000_000 + len(self.operations) + 1
        name = f"bulk-{number}.jsonl"
        signature = opaque(self.shop.connection, number, "bulk", length=40)
        url = f"{base_url}/bulk/{name}?signature={signature}"
        operation = Operation(number, query, is_grouped, url, self.shop.now, Path(self._folder.name) / name)
        self.operations.append(operation)
        return operation

    async def _write(self, operation: Operation, path: list[Selected]) -> None:
        """Writes the file page by page, so that other requests are answered in between."""
        try:
            with operation.path.open("wb") as file:
                for page in self._pages(path):
                    self._write_page(operation, page, path[-1], file)
                    await asyncio.sleep(0)
                    if operation.is_over:
                        return
            operation.is_written = True
        except Exception:
            operation.status, operation.completed_at = "FAILED", self.shop.now
            raise

    def _pages(self, path: list[Selected]) -> Iterator[Page]:
        source: Any = self.shop.frozen().root()
        for one in path[:-1]:
            source = source[one.name]
            source = source(one.args) if callable(source) else source
            if source is None:
                return
        last = path[-1]
        args = {name: value for name, value in last.args.items() if name not in ("last", "before")}
        args |= {"first": MAX_FIRST, "once": True}
        while True:
            page = source[last.name](args)
            yield page
            if not page.has_next:
                return
            args["after"] = page.cursors[-1]

    def _write_page(self, operation: Operation, page: Page, root: Selected, file: BinaryIO) -> None:
        parents: list[bytes] = []
        children: list[bytes] = []
        for node in page.nodes:
            for depth, line in _lines(node, _fields_of(root), None):
                is_apart = depth and not operation.is_grouped
                (children if is_apart else parents).append(_encode(line))
        operation.roots += len(page.nodes)
        operation.objects += len(parents) + len(children)
        file.write(b"".join(line + b"\n" for line in parents + children))

    # What the API shows.

    def get(self, operation_id: str) -> dict[str, Any] | None:
        one = next((one for one in self.operations if gid("BulkOperation", one.number) == operation_id), None)
        return None if one is None else self._polled(one)

    def _polled(self, one: Operation) -> dict[str, Any]:
        """Each look moves a waiting operation on: CREATED, RUNNING, and COMPLETED when the file is written."""
        if not one.is_over:
            one.polls += 1
            one.status = "RUNNING"
            if one.polls >= self.shop.site.bulk_polls and one.is_written:
                one.status, one.completed_at = "COMPLETED", self.shop.now
        return one.shape()

    def current(self) -> dict[str, Any] | None:
        return self._polled(self.operations[-1]) if self.operations else None

    def list(self, query: str | None) -> list[dict[str, Any]]:
        """Filters `status:…` only."""
        wanted = (query or "").lower().partition("status:")[2].strip("'\" ")
        shown = [self._polled(one) for one in self.operations]
        return [one for one in shown if wanted in ("", one["status"].lower())]

    def cancel(self, operation_id: str) -> dict[str, Any]:
        one = next((one for one in self.operations if gid("BulkOperation", one.number) == operation_id), None)
        if one is None:
            return _payload(None, "Bulk operation does not exist", field=["id"])
        if one.is_over:
            message = f"A bulk operation cannot be canceled when it is {one.status.lower()}"
            return _payload(one.shape(), message)
        one.status, one.completed_at = "CANCELED", self.shop.now
        return _payload(one.shape())

    def file(self, name: str, signature: str) -> Response:
        """The JSONL file, by its signed address."""
        for one in self.operations:
            if one.path.name == name and one.url.endswith(f"signature={signature}") and one.status == "COMPLETED":
                return FileResponse(one.path, media_type="application/jsonl")
        return json_response({"error": "AccessDenied"}, 403)


def _payload(
    operation: dict[str, Any] | None, message: str = "", code: str | None = None, field: list[str] | None = None
) -> dict[str, Any]:
    errors = (
        [{"__typename": "BulkOperationUserError", "message": message, "code": code, "field": field}] if message else []
    )
    return {"bulkOperation": operation, "userErrors": errors}


def _check(fields: list[Selected]) -> list[Selected]:
    """The path to the query's connection; raises QueryError where Shopify would."""
    if len(fields) != 1:
        raise QueryError("Bulk queries must contain exactly one top level field")
    path = [fields[0]]
    while path[-1].kind == OBJECT:
        inner = [one for one in path[-1].fields if one.kind in (OBJECT, CONNECTION)]
        if len(inner) != 1:
            break
        path.append(inner[0])
    if path[-1].kind != CONNECTION:
        raise QueryError("Bulk queries must contain at least one connection.")
    count = _count(fields, 0, is_in_list=False)
    if count > MAX_CONNECTIONS:
        raise QueryError(f"Bulk queries cannot contain more than {MAX_CONNECTIONS} connections.")
    return path


def _count(fields: list[Selected], depth: int, *, is_in_list: bool) -> int:
    total = 0
    for one in fields:
        if one.kind != CONNECTION:
            total += _count(one.fields, depth, is_in_list=is_in_list or one.kind == LIST)
            continue
        if is_in_list:
            raise QueryError(_IN_LIST)
        if depth > MAX_DEPTH:
            raise QueryError(f"Bulk queries cannot contain connections with a nesting depth greater than {MAX_DEPTH}.")
        inner = _fields_of(one)
        has_children = any(part.kind == CONNECTION for part in inner)
        if has_children and not any(part.name == "id" and part.key == "id" for part in inner):
            raise QueryError(_NO_ID)
        total += 1 + _count(inner, depth + 1, is_in_list=False)
    return total


def _fields_of(connection: Selected) -> list[Selected]:
    return next(iter(node_fields(connection)), [])


def _lines(node: dict[str, Any], fields: list[Selected], parent_id: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(depth, line) of a node and of its nested connections' nodes, which name their parent."""
    own = project(node, [one for one in fields if one.kind != CONNECTION])
    if parent_id is not None:
        own["__parentId"] = parent_id
    yield (0 if parent_id is None else 1), own
    for one in fields:
        if one.kind == CONNECTION:
            for child in node[one.name]:
                yield from _lines(child, _fields_of(one), node["id"])
