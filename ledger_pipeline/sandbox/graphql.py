"""A light GraphQL executor over plain dicts, quick enough for 100,000 nested orders.

graphql-core parses and validates (once per query text); the selection is then bound to its variables and
projected by a loop.
A connection's value is a list of dicts, or a callable that takes the arguments and gives a `Page`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
    parse,
    specified_rules,
    validate,
)
from graphql.execution.values import get_argument_values, get_directive_values, get_variable_values
from graphql.type.directives import GraphQLIncludeDirective, GraphQLSkipDirective
from graphql.validation import ASTValidationRule, FieldsOnCorrectTypeRule

LEAF, OBJECT, LIST, CONNECTION, CONSTANT = range(5)
MAX_FIRST = 250


class QueryError(Exception):
    """The query can't be run: `errors` as they go on the wire."""

    def __init__(self, errors: list[dict[str, Any]] | str) -> None:
        self.errors = [{"message": errors}] if isinstance(errors, str) else errors
        super().__init__(self.errors[0]["message"])


@dataclass
class Page:
    """A connection's page: nodes with their cursors, and whether more lie beyond it."""

    nodes: Sequence[dict[str, Any]]
    cursors: Sequence[str]
    has_next: bool = False
    has_previous: bool = False


@dataclass
class Selected:
    """A selected field, bound to its arguments. `only` holds the type names that a fragment narrows it to."""

    key: str
    name: str
    kind: int
    args: dict[str, Any] = field(default_factory=dict)
    fields: list[Selected] = field(default_factory=list)
    only: frozenset[str] | None = None
    type_name: str = ""


class ShopifyFieldsRule(FieldsOnCorrectTypeRule):
    """Says an unknown field in graphql-ruby's words, which Shopify uses."""

    def enter_field(self, node: FieldNode, *args: Any) -> None:
        parent = self.context.get_parent_type()
        if parent is not None and self.context.get_field_def() is None:
            message = f"Field '{node.name.value}' doesn't exist on type '{parent.name}'"
            extensions = {"code": "undefinedField", "typeName": parent.name, "fieldName": node.name.value}
            self.report_error(GraphQLError(message, node, path=_path(args[-1], node), extensions=extensions))


def _path(ancestors: list[Any], node: FieldNode) -> list[str | int]:
    """Such as ["query", "orders", "nodes", "foo"]."""
    outer = next((one for one in ancestors if isinstance(one, OperationDefinitionNode | FragmentDefinitionNode)), None)
    start: list[str | int] = [f"fragment {outer.name.value}"] if isinstance(outer, FragmentDefinitionNode) else []
    if isinstance(outer, OperationDefinitionNode):
        start = [f"{outer.operation.value} {outer.name.value}" if outer.name else outer.operation.value]
    fields = [one for one in [*ancestors, node] if isinstance(one, FieldNode)]
    return [*start, *(one.alias.value if one.alias else one.name.value for one in fields)]


RULES: list[type[ASTValidationRule]] = [
    ShopifyFieldsRule if rule is FieldsOnCorrectTypeRule else rule for rule in specified_rules
]


def error_body(error: GraphQLError) -> dict[str, Any]:
    places = [{"line": place.line, "column": place.column} for place in error.locations or ()]
    body: dict[str, Any] = {"message": error.message, "locations": places}
    if error.path:
        body["path"] = error.path
    if error.extensions:
        body["extensions"] = error.extensions
    return body


class Engine:
    """Runs queries of one schema."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._prepared = lru_cache(maxsize=256)(self._prepare)

    def _prepare(self, text: str) -> DocumentNode:
        try:
            document = parse(text)
        except GraphQLError as error:
            raise QueryError([error_body(error)]) from error
        if errors := validate(self.schema, document, RULES):
            raise QueryError([error_body(error) for error in errors])
        return document

    def bind(
        self, text: str, variables: dict[str, Any], operation_name: str | None = None
    ) -> tuple[bool, list[Selected]]:
        """(is it a mutation, its selected root fields); raises QueryError with the errors."""
        document = self._prepared(text)
        operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        chosen = [one for one in operations if operation_name in (None, one.name.value if one.name else None)]
        if len(chosen) != 1:
            missing = f'No operation named "{operation_name}"'
            raise QueryError([{"message": "An operation name is required" if chosen else missing}])
        operation = chosen[0]
        values = get_variable_values(self.schema, operation.variable_definitions or (), variables)
        if isinstance(values, list):
            raise QueryError([error_body(error) for error in values])
        is_mutation = operation.operation is OperationType.MUTATION
        root = self.schema.mutation_type if is_mutation else self.schema.query_type
        if root is None or operation.operation is OperationType.SUBSCRIPTION:
            raise QueryError([{"message": "Schema is not configured for this operation"}])
        fragments = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
        try:
            return is_mutation, _Binder(self.schema, values, fragments).select(root, operation.selection_set)
        except GraphQLError as error:
            raise QueryError([error_body(error)]) from error


class _Binder:
    """Turns selection sets into `Selected` fields: fragments opened, equal keys merged, arguments resolved."""

    def __init__(
        self, schema: GraphQLSchema, variables: dict[str, Any], fragments: dict[str, FragmentDefinitionNode]
    ) -> None:
        self.schema, self.variables, self.fragments = schema, variables, fragments

    def select(self, parent: GraphQLObjectType | GraphQLInterfaceType, *sets: SelectionSetNode) -> list[Selected]:
        groups: dict[tuple[str, frozenset[str] | None], tuple[Any, list[FieldNode]]] = {}
        for one in sets:
            self._collect(parent, parent, one, None, groups)
        return [self._field(owner, nodes, only) for (_, only), (owner, nodes) in groups.items()]

    def _collect(
        self, parent: Any, owner: Any, selection: SelectionSetNode, only: frozenset[str] | None, groups: Any
    ) -> None:
        for node in selection.selections:
            if not self._is_included(node):
                continue
            if isinstance(node, FieldNode):
                key = node.alias.value if node.alias else node.name.value
                groups.setdefault((key, only), (owner, []))[1].append(node)
                continue
            fragment: Any = self.fragments[node.name.value] if isinstance(node, FragmentSpreadNode) else node
            inner, narrowed = owner, only
            if fragment.type_condition:
                inner = self.schema.type_map[fragment.type_condition.name.value]
                if inner is not parent:
                    narrowed = frozenset({inner.name})
            self._collect(parent, inner, fragment.selection_set, narrowed, groups)

    def _is_included(self, node: Any) -> bool:
        skip = get_directive_values(GraphQLSkipDirective, node, self.variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self.variables)
        return not (skip and skip["if"]) and not (include and not include["if"])

    def _field(self, owner: Any, nodes: list[FieldNode], only: frozenset[str] | None) -> Selected:
        first = nodes[0]
        key = first.alias.value if first.alias else first.name.value
        if first.name.value == "__typename":
            kind = CONSTANT if isinstance(owner, GraphQLObjectType) else LEAF
            return Selected(key, "__typename", kind, only=only, type_name=owner.name)
        definition: GraphQLField = owner.fields[first.name.value]
        inner = get_named_type(definition.type)
        selected = Selected(key, first.name.value, LEAF, only=only, type_name=inner.name)
        selected.args = get_argument_values(definition, first, self.variables)
        if not is_leaf_type(inner):
            plain = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
            selected.kind = LIST if isinstance(plain, GraphQLList) else OBJECT
            if inner.name.endswith("Connection"):
                selected.kind = CONNECTION
            sets = [node.selection_set for node in nodes if node.selection_set]
            selected.fields = self.select(inner, *sets)  # type: ignore[arg-type]
        return selected


# Cost.


@dataclass(frozen=True)
class CostModel:
    """An object costs 1, a connection 2 and what it may return; `free` types cost nothing by themselves."""

    per_object: int = 1
    per_connection: int = 2
    free: frozenset[str] = frozenset({"PageInfo"})

    def requested(self, fields: Iterable[Selected]) -> int:
        return sum(self._one(one, _size(one.args)) for one in fields)

    def _one(self, one: Selected, size: int) -> int:
        if one.kind in (LEAF, CONSTANT) or one.type_name in self.free:
            return 0  # a free type holds nothing but scalars and free types
        if one.kind == CONNECTION:
            return self.per_connection + size * self.of_node(one)
        return self.per_object + self.requested(one.fields)

    def of_node(self, connection: Selected) -> int:
        """What one node of the connection costs; nodes and edges { node } of the same connection count once."""
        return max((self.per_object + self.requested(fields) for fields in node_fields(connection)), default=0)

    def actual(self, fields: Iterable[Selected], data: Any) -> int:
        """The cost of what came back; `data` is the answer's object."""
        return sum(self._came(one, data.get(one.key) if data else None) for one in fields)

    def _came(self, one: Selected, value: Any) -> int:
        if one.kind in (LEAF, CONSTANT) or value is None or one.type_name in self.free:
            return 0
        if one.kind == OBJECT:
            return self.per_object + self.actual(one.fields, value)
        if one.kind == LIST:
            return self.per_object + sum(self.actual(one.fields, part) for part in value)
        total = self.per_connection
        for part in one.fields:
            if part.name == "nodes":
                return total + sum(self.per_object + self.actual(part.fields, node) for node in value[part.key])
            if part.name == "edges":
                inner = next((edge for edge in part.fields if edge.name == "node"), None)
                if inner:
                    return total + sum(
                        self.per_object + self.actual(inner.fields, edge[inner.key]) for edge in value[part.key]
                    )
        return total


def node_fields(connection: Selected) -> list[list[Selected]]:
    """The selections of a connection's nodes: under nodes and under edges { node }."""
    found = [one.fields for one in connection.fields if one.name == "nodes"]
    edges = [one for one in connection.fields if one.name == "edges"]
    return found + [inner.fields for edge in edges for inner in edge.fields if inner.name == "node"]


def _size(args: dict[str, Any]) -> int:
    given = args.get("first") or args.get("last") or 0
    return int(given)


# Projection.


def project(source: dict[str, Any], fields: list[Selected]) -> dict[str, Any]:
    """The selected part of a dict; a callable value is called with the field's arguments."""
    out: dict[str, Any] = {}
    for one in fields:
        if one.only is not None and source.get("__typename") not in one.only:
            continue
        kind = one.kind
        if kind == CONSTANT:
            out[one.key] = one.type_name
            continue
        value = source[one.name]
        if kind == LEAF:
            out[one.key] = value
            continue
        if callable(value):
            value = value(one.args)
        if value is None:
            out[one.key] = None
        elif kind == OBJECT:
            out[one.key] = project(value, one.fields)
        elif kind == LIST:
            out[one.key] = [project(part, one.fields) for part in value[: one.args.get("first")]]
        else:
            page = value if isinstance(value, Page) else slice_of(value, one.args)
            out[one.key] = connection(page, one.fields)
    return out


def connection(page: Page, fields: list[Selected]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for one in fields:
        if one.name == "nodes":
            out[one.key] = [project(node, one.fields) for node in page.nodes]
        elif one.name == "edges":
            pairs = zip(page.cursors, page.nodes, strict=True)
            out[one.key] = [project({"cursor": cursor, "node": node}, one.fields) for cursor, node in pairs]
        else:
            info = {
                "hasNextPage": page.has_next,
                "hasPreviousPage": page.has_previous,
                "startCursor": page.cursors[0] if page.cursors else None,
                "endCursor": page.cursors[-1] if page.cursors else None,
            }
            out[one.key] = project(info, one.fields)
    return out


def cursor_of(*place: Any) -> str:
    """An opaque cursor that holds a place in a list."""
    return base64.b64encode(msgspec.json.encode(place)).decode()


def place_of(cursor: str) -> list[Any]:
    """Raises QueryError for what is no cursor."""
    try:
        found = msgspec.json.decode(base64.b64decode(cursor, validate=True))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise QueryError([{"message": f"Invalid cursor for current pagination sort: {cursor!r}."}]) from error
    if not isinstance(found, list):
        raise QueryError([{"message": f"Invalid cursor for current pagination sort: {cursor!r}."}])
    return found


def slice_of(nodes: Sequence[dict[str, Any]], args: dict[str, Any]) -> Page:
    """The page that first/after, last/before and reverse ask of a list that is there as a whole."""
    if args.get("reverse"):
        nodes = nodes[::-1]
    ids = [node["id"] for node in nodes]
    start, end = 0, len(nodes)
    if args.get("after"):
        start = _index(ids, args["after"]) + 1
    if args.get("before"):
        end = _index(ids, args["before"])
    if args.get("first") is not None:
        stop = min(end, start + args["first"])
        return _cut(nodes, ids, start, stop)
    if args.get("last") is not None:
        return _cut(nodes, ids, max(start, end - args["last"]), end)
    raise QueryError([{"message": "you must provide one of first or last"}])


def _index(ids: list[str], cursor: str) -> int:
    place = place_of(cursor)
    if not place or place[0] not in ids:
        raise QueryError([{"message": f"Invalid cursor for current pagination sort: {cursor!r}."}])
    return ids.index(place[0])


def _cut(nodes: Sequence[dict[str, Any]], ids: list[str], start: int, stop: int) -> Page:
    stop = max(start, stop)
    return Page(nodes[start:stop], [cursor_of(one) for one in ids[start:stop]], stop < len(nodes), start > 0)


def check_sizes(fields: Iterable[Selected], path: tuple[str, ...] = ()) -> None:
    """Raises QueryError for a connection without first or last, or with more than 250."""
    for one in fields:
        here = (*path, one.key)
        if one.kind == CONNECTION and one.args.get("first") is None and one.args.get("last") is None:
            raise QueryError([{"message": "you must provide one of first or last", "path": [*here]}])
        for name in ("first", "last"):
            given = one.args.get(name)
            if given is not None and given > MAX_FIRST:
                message = f"Argument '{name}' on Field '{one.name}' has an invalid value ({given}), over {MAX_FIRST}."
                code = {"code": "argumentLiteralsIncompatible"}
                raise QueryError([{"message": message, "path": [*here], "extensions": code}])
            if given is not None and given < 1:
                raise QueryError([{"message": f"{name} must be at least 1", "path": [*here]}])
        check_sizes(one.fields, here)
