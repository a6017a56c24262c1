"""A source is declared: its streams, how each is read, what identifies a record, and how it maps to canonical records."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Mapping as Keyed
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from ledger_pipeline.connect.decode import extractor
from ledger_pipeline.connect.environments import Mode, Tell
from ledger_pipeline.connect.mapping import Beside, Mapping, Plan
from ledger_pipeline.connect.probe import Probe
from ledger_pipeline.model.money import DIGITS

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Client
    from ledger_pipeline.connect.webhook import Webhook


class Options(BaseModel):
    """Base of a source's options: what ledger.yaml may say about a connection besides its entity and source."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tells: ClassVar[Keyed[str, Tell]] = {}
    """Options whose value says whether the account is live or a test's."""
    account_keys: ClassVar[frozenset[str]] = frozenset()
    """Secrets that belong to the developer's account and not to a connection, so that several connections have the same."""

    @classmethod
    def modes(cls, given: Keyed[str, Any]) -> dict[str, Mode]:
        """What the given values (or their defaults) say, by option; those that say nothing are left out."""
        found = {}
        for name, tell in cls.tells.items():
            mode = tell(str(given.get(name, cls.model_fields[name].default)))
            if mode:
                found[name] = mode
        return found

    @classmethod
    def secret_names(cls) -> tuple[str, ...]:
        """The options that hold a secret."""
        return tuple(name for name, field in cls.model_fields.items() if "SecretStr" in str(field.annotation))


@dataclass(slots=True)
class Request:
    """One pull, as a reader sees it: what is wanted, and what the reader has to say about it afterwards."""

    connection: str
    stream: str
    sync_date: date
    start: datetime  # UTC, inclusive
    end: datetime  # UTC, exclusive
    options: Any
    client: Client | None
    cursor: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    keep_file: Callable[[str, bytes], str] = lambda name, content: ""
    given: tuple[tuple[str, bytes], ...] | None = None  # (name, content) of files to read instead of the folder's
    # filled by the reader
    next_cursor: str | None = None
    expected: int | None = None
    pages: int = 0
    repeated: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class Reader(Protocol):
    """Reads one stream; yields pages of records as the provider's bytes, each record a JSON object."""

    def __call__(self, request: Request) -> Iterator[Sequence[bytes]]:
        """Raise a ConnectError to fail the pull; what was yielded before stays landed but is not staged."""
        ...


@dataclass(frozen=True)
class Stream:
    """One list that a source offers.

    `record_id` and `updated_at` are paths in a record (`id`, `meta.id`); `control` (amount path, currency path) is the figure with which the
    source's own totals count it. `has_cursor`: the reader continues where the last pull ended, whatever the sync date. `gone_without`: a payload
    without this path is a deletion notice: it stages nothing, and what was posted for its id is reversed.
    """

    name: str
    read: Reader
    record_id: str = "id"
    updated_at: str | None = None
    units: str | None = None
    gone_without: str | None = None
    control: tuple[str, str] | None = None
    control_unit: Literal["major", "minor"] = "major"
    has_cursor: bool = False
    doc: str = ""

    @cached_property
    def _identity(self) -> Callable[[bytes | str], tuple[Any, ...]]:
        return _reader(self.record_id, self.updated_at, self.units)

    @cached_property
    def _told(self) -> Callable[[bytes | str], tuple[Any, ...]]:
        return _reader(*(self.control or (None, None)), self.gone_without)

    def identify(self, payload: bytes) -> tuple[str, datetime | None, int]:
        """(source id, the source's time of change, source rows); a record without a usable id is known by its content."""
        record_id, updated, units = self._identity(payload)
        is_usable = record_id not in (None, "") and "\0" not in str(
            record_id
        )  # PostgreSQL's text can't hold a zero character
        source_id = str(record_id) if is_usable else "sha256:" + hashlib.sha256(payload).hexdigest()
        return source_id, instant(updated), int(units or 1)

    def told(self, payload: bytes | str) -> tuple[str | None, str | None, bool]:
        """(control amount in major units as decimal text, its currency, is it a deletion notice).

        Both are None where the payload doesn't say them readably.
        """
        if self.control is None and self.gone_without is None:
            return None, None, False
        amount, currency, present = self._told(payload)
        return self._told_as(amount, currency, is_gone=self.gone_without is not None and present is None)

    def _told_as(self, amount: Any, currency: Any, *, is_gone: bool) -> tuple[str | None, str | None, bool]:
        code = str(currency or "").upper()
        text = self._in_major_units(amount, code) if code in DIGITS else None
        return (text, code, is_gone) if text is not None else (None, None, is_gone)

    def told_of(self, payloads: Sequence[bytes | str], beside: Beside | None) -> tuple[pa.Array, pa.Array, pa.Array]:
        """`told` of many payloads as columns, with what their plan has read of `control` beside."""
        if beside is None or self.gone_without is not None:
            return _columns([self.told(payload) for payload in payloads])
        amounts, codes = beside.columns
        if len(amounts) == len(payloads) and self._are_as_told(amounts, codes):
            return amounts, codes, pa.repeat(False, len(amounts))
        told = dict(
            zip(beside.positions.tolist(), zip(amounts.to_pylist(), codes.to_pylist(), strict=True), strict=True)
        )
        return _columns(
            [
                self._told_as(*told[position], is_gone=False) if position in told else self.told(payload)
                for position, payload in enumerate(payloads)
            ]
        )

    def _are_as_told(self, amounts: pa.Array, codes: pa.Array) -> bool:
        """True where every amount and every code is written as it is to be told."""
        if self.control_unit != "major" or not (pa.types.is_string(amounts.type) and pa.types.is_string(codes.type)):
            return False
        is_plain = pc.fill_null(pc.match_substring_regex(amounts, rf"^(?:{_PLAIN.pattern})$"), False)
        return set(pc.unique(codes).to_pylist()) <= DIGITS.keys() and is_plain.true_count == len(amounts)

    def _in_major_units(self, amount: Any, code: str) -> str | None:
        if self.control_unit == "major" and isinstance(amount, str) and _PLAIN.fullmatch(amount):
            return amount
        try:
            value = Decimal(str(amount))
        except InvalidOperation:
            return None
        if not value.is_finite():
            return None
        return format(value.scaleb(-DIGITS[code]) if self.control_unit == "minor" else value, "f")


_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
"""Decimal texts that are written as `format(Decimal(text), "f")` writes them."""


def _reader(*paths: str | None) -> Callable[[bytes | str], tuple[Any, ...]]:
    """Reads these paths of a payload, in this order; None where it has none or the path is None."""
    wanted = list(dict.fromkeys(path for path in paths if path))
    read = extractor(*wanted)
    places = [wanted.index(path) if path else None for path in paths]
    if None not in places and places == list(range(len(wanted))):
        return read

    def run(payload: bytes | str) -> tuple[Any, ...]:
        values = read(payload)
        return tuple(None if place is None else values[place] for place in places)

    return run


def _columns(told: Sequence[tuple[str | None, str | None, bool]]) -> tuple[pa.Array, pa.Array, pa.Array]:
    amounts, codes, gone = zip(*told, strict=True) if told else ((), (), ())
    return pa.array(amounts, pa.string()), pa.array(codes, pa.string()), pa.array(gone, pa.bool_())


def instant(value: str | int | float | None) -> datetime | None:
    """Unix seconds or ISO 8601 with a zone, as UTC; None where it is neither."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else None


@dataclass(frozen=True)
class Source:
    """A kind of system. `connect` makes the HTTP client of a connection; None for sources that read files."""

    name: str
    title: str
    streams: tuple[Stream, ...]
    mappings: tuple[Mapping, ...]
    options: type[Options]
    connect: Callable[[str, Any], Client] | None = None
    mappings_for: Callable[[Any], tuple[Mapping, ...]] | None = None
    """For sources whose mapping is part of a connection's options."""
    webhook: Webhook | None = None
    """How its provider tells that something changed."""
    probe: Probe | None = None
    """What health asks for; without one only whether the base address answers."""

    def stream(self, name: str) -> Stream:
        """By name; raises KeyError with the known ones."""
        for stream in self.streams:
            if stream.name == name:
                return stream
        raise KeyError(f"{self.name} has no stream {name!r}; it has {', '.join(s.name for s in self.streams)}")

    def plans(self, options: Any = None) -> dict[str, Plan]:
        """Compiled mappings by stream; those of a connection's options where the source has such."""
        if self.mappings_for is None or options is None:
            return self._plans
        return self._compiled(self.mappings_for(options))

    @cached_property
    def _plans(self) -> dict[str, Plan]:
        return self._compiled(self.mappings)

    def _compiled(self, mappings: Sequence[Mapping]) -> dict[str, Plan]:
        """With the control total's figures beside; a deletion notice has to be known before the others are mapped."""
        beside = {stream.name: stream.control for stream in self.streams if stream.control and not stream.gone_without}
        by_stream: dict[str, list[Mapping]] = {}
        for mapping in mappings:
            by_stream.setdefault(mapping.stream, []).append(mapping)
        return {name: Plan(group, beside.get(name, ())) for name, group in by_stream.items()}

    @cached_property
    def records(self) -> tuple[str, ...]:
        """The canonical records that it yields, each once, in the order of its mappings."""
        return tuple(dict.fromkeys(mapping.record for mapping in self.mappings))

    @cached_property
    def mapping_version(self) -> str:
        """Changes whenever the declared mapping does: `stripe@3f2a…`."""
        text = json.dumps([[m.version, m.each, m.record, m.stream] for m in self.mappings]) + json.dumps(
            [row for plan in self.plans().values() for row in plan.describe()]
        )
        return f"{self.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
