"""The rows of a group as sale or refund, or a row as bank line, by the map that ledger.yaml declares; nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

import pyarrow as pa

from ledger_pipeline.connect.banking import own_account, own_account_role, role_of_text_line
from ledger_pipeline.connect.convert import UTC_TIME, constant, currency, date_iso, decimal_text_to_minor, each, text
from ledger_pipeline.connect.mapping import Column, Converter, Field, Mapping, Report, Where
from ledger_pipeline.model.money import MoneyError, to_minor
from ledger_pipeline.sources.delimited_file.columns import (
    CURRENCY,
    ID,
    NEVER,
    PART_ID,
    STREAM,
    Target,
    agreed,
    grouped,
    is_a,
    only,
    path_of,
)
from ledger_pipeline.sources.delimited_file.documents import EXAMPLES, document_mappings
from ledger_pipeline.sources.delimited_file.options import (
    BankMap,
    Cell,
    DelimitedFileOptions,
    Moment,
    Numbers,
    SaleColumns,
    SaleMap,
    number,
)


def mappings_for(options: DelimitedFileOptions) -> tuple[Mapping, ...]:
    """The mapping of one connection."""
    if isinstance(options.map, BankMap):
        return BANK
    return sale_mappings(options.map) if isinstance(options.map, SaleMap) else document_mappings(options.map)


# sales and refunds ------------------------------------------------------------


def sale_mappings(options: SaleMap) -> tuple[Mapping, ...]:
    """sale and refund with their lines and one tender each; the tax parts exist and are empty."""
    columns = options.columns
    known = {
        "channel": columns.channel,
        "customer_id": _cell(columns.customer_id),
        "jurisdiction": _cell(columns.country),
    }
    described = [Field(target, *agreed(cell)) for target, cell in known.items() if cell is not None]
    sale = Mapping(
        "sale", STREAM, where=is_a("sale"),
        fields=(
            ID,
            Field("order_number", ("source_id?",), text),
            Field("occurred_at", *_moment(columns.occurred_at)),
            Field("state", (), constant("captured", pa.string())),
            *described,
            Field("currency", (CURRENCY,), currency),
            Field("total_minor", *_total(options, 1)),
            Field("unpaid_minor", (), constant(0, pa.int64())),
        ),
    )  # fmt: skip
    order: Target = agreed(Cell(column=columns.order_id)) if columns.order_id else (("source_id?",), text)
    refund = Mapping(
        "refund", STREAM, where=is_a("refund"),
        fields=(
            ID,
            Field("order_id", *order),
            Field("occurred_at", *_moment(columns.occurred_at)),
            Field("state", (), constant("refunded", pa.string())),
            Field("currency", (CURRENCY,), currency),
            Field("total_minor", *_total(options, -1)),
        ),
    )  # fmt: skip
    return (
        sale,
        _lines("sale", options),
        _tax("sale"),
        _tender("sale", options),
        refund,
        _lines("refund", options),
        _tax("refund"),
        _tender("refund", options),
    )


def _cell(column: str | None) -> Cell | None:
    return Cell(column=column) if column else None


def _moment(moment: Moment) -> Target:
    """The earliest time among a group's rows."""
    zone = ZoneInfo(moment.time_zone) if moment.time_zone else None

    @lru_cache(maxsize=65_536)
    def parse(value: str) -> datetime:
        return parse_moment(value, moment.format, zone)

    def earliest(lines: list[int], values: list[str | None]) -> datetime | None:
        found: datetime | None = None
        for value in dict.fromkeys(values):
            try:
                at = parse(value or "")
            except ValueError as error:
                raise ValueError(f"line {lines[values.index(value)]}: {moment.column}: {error}") from None
            found = at if found is None or at < found else found
        return found

    name = f"time as {moment.format}" + (f" in {moment.time_zone}" if zone else "")
    return ("rows[].line", path_of(moment.column)), grouped(
        name, "The earliest of the group's rows.", ("int", "str"), earliest, UTC_TIME
    )


def parse_moment(value: str, form: str, zone: ZoneInfo | None) -> datetime:
    """A time in UTC. A local time that the clocks skip is an error; of one that they repeat it is the first."""
    stripped = value.strip()
    try:
        at = datetime.fromisoformat(stripped) if form == "iso" else datetime.strptime(stripped, form)  # noqa: DTZ007
    except ValueError:
        raise ValueError(f"{value[:40]!r} is no time as {form}") from None
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    if zone is None:
        raise ValueError(f"{value[:40]!r} has no offset, and no time_zone is given")
    in_utc = at.replace(tzinfo=zone).astimezone(UTC)
    if in_utc.astimezone(zone).replace(tzinfo=None) != at:
        raise ValueError(f"{value[:40]!r} does not exist in {zone.key}: the clocks skip it")
    return in_utc


# money ------------------------------------------------------------


def _amount_paths(options: SaleMap, inside: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(paths, wire types) of quantity and price where they are columns."""
    paths = tuple(
        path_of(cell, inside) for cell in (options.columns.quantity, options.columns.unit_price) if cell.column
    )
    return paths, ("str",) * len(paths)


def _figures(options: SaleMap, given: Sequence[str | None]) -> tuple[str, str]:
    """Quantity and price as texts, from the row or fixed."""
    texts = iter(given)
    quantity, price = (
        cell.value if cell.column is None else next(texts)
        for cell in (options.columns.quantity, options.columns.unit_price)
    )
    return quantity or "", price or ""


_number = lru_cache(maxsize=65_536)(number)


@lru_cache(maxsize=262_144)
def row_minor(quantity_text: str, price_text: str, code: str, numbers: Numbers) -> int:
    """quantity × unit price in minor units, exact; raises ValueError with the figures. Remembered, for they recur."""
    quantity, price = _number(quantity_text, numbers), _number(price_text, numbers)
    if price < 0:
        raise ValueError(f"the unit price {price_text} is negative")
    product: Decimal = quantity * price
    try:
        return to_minor(product, code)
    except MoneyError as error:
        raise ValueError(f"{quantity_text} × {price_text}: {error}") from None


def _total(options: SaleMap, sign: int) -> Target:
    paths, wire = _amount_paths(options, "rows[].")
    numbers = options.numbers

    def total(lines: list[int], code: str | None, *given: list[str | None]) -> int:
        result = 0
        for line, *texts in zip(lines, *given, strict=True):
            quantity, price = _figures(options, texts)
            try:
                minor = sign * row_minor(quantity, price, code or "", numbers)
                if sign > 0 and minor < 0:
                    raise ValueError(f"the quantity {quantity} of a sale is negative")
            except ValueError as error:
                raise ValueError(f"line {line}: {error}") from None
            result += minor
        if result < 0:
            raise ValueError(
                f"line {lines[0]}: a refund's rows add up to money that comes in ({-result} minor units of {code})"
            )
        return result

    doc = "Σ quantity × unit price, exact in the currency's minor unit or an error that names the row." + (
        " Sign turned." if sign < 0 else ""
    )
    converter = grouped("sum of quantity × price", doc, ("int", "str", *wire), total, pa.int64())
    return ("rows[].line", CURRENCY, *paths), converter


def _row_amount(options: SaleMap, sign: int) -> Target:
    paths, wire = _amount_paths(options, "")
    numbers = options.numbers

    def amount(code: str | None, *texts: str | None) -> int:
        return sign * row_minor(*_figures(options, texts), code or "", numbers)

    return (f"^.{CURRENCY}", *paths), each(
        "quantity × price", "Exact, or an error.", ("str", *wire), amount, pa.int64()
    )


def _row_quantity(options: SaleMap, sign: int) -> Target:
    cell = options.columns.quantity

    def whole(value: str | None = None) -> int:
        quantity = _number((cell.value if cell.column is None else value) or "", options.numbers)
        if quantity != int(quantity):
            raise ValueError(f"the quantity {value} is not whole")
        return sign * int(quantity)

    if cell.column is None:
        return (), constant(whole(), pa.int64())
    return (path_of(cell, ""),), each(
        "whole number", "Units; for refunds the sign is turned.", ("str",), whole, pa.int64()
    )


def _lines(record: str, options: SaleMap) -> Mapping:
    """Rows that move money, and those of a sale that hand out goods for nothing; not those that correct a stock."""
    is_refund = record == "refund"
    sign = -1 if is_refund else 1
    columns = options.columns
    role: Target = (), constant(options.role_of("", is_refund=is_refund), pa.string())
    if columns.sku:
        role = (
            (path_of(columns.sku, ""),),
            each(
                "role by code",
                "ledger.yaml: roles.",
                ("str",),
                lambda sku: options.role_of(sku or "", is_refund=is_refund),
                pa.string(),
            ),
        )
    money = Field("amount_minor" if is_refund else "net_minor", *_row_amount(options, sign))
    fields = [
        PART_ID,
        Field("role", *role),
        Field("quantity", *_row_quantity(options, sign)),
        Field("currency", (f"^.{CURRENCY}",), currency),
    ]
    if not is_refund:
        fields += [Field("discount_minor", (), constant(0, pa.int64()))]
        fields += [Field("sku", (path_of(columns.sku, ""),), text)] if columns.sku else []
        fields += [Field("title", (path_of(columns.title, ""),), text)] if columns.title else []
    return Mapping(f"{record}_line", STREAM, each="rows[]", where=_moves(record, options), fields=(*fields, money))


def _moves(record: str, options: SaleMap) -> Where:
    paths, wire = _amount_paths(options, "")

    def keeps(kind: str | None, fault: str | None, *texts: str | None) -> bool:
        if kind != record or fault is not None:
            return False
        quantity, price = (_number(said, options.numbers) for said in _figures(options, texts))
        return bool(quantity and price) or (record == "sale" and quantity >= 0)

    converter = each(
        f"a row of a {record}", "That moves money or hands out goods.", ("str", "str", *wire), keeps, pa.bool_()
    )
    return Where(("^.record?", "^.fault?", *paths), converter)


def _tender(record: str, options: SaleMap) -> Mapping:
    paths, gateway = agreed(options.columns.gateway)
    total = _total(options, -1 if record == "refund" else 1)
    of_gateway = each(
        "order_clearing:{gateway}",
        "Where the payment is expected.",
        ("str",),
        lambda g: f"order_clearing:{g}",
        pa.string(),
    )
    role: Target = (paths, _then(gateway, of_gateway))
    if not paths:
        role = (), constant(f"order_clearing:{options.columns.gateway.value}", pa.string())
    return Mapping(
        f"{record}_tender", STREAM, where=only(record),
        fields=(
            Field("source_id", ("source_id?",), text),
            Field("gateway", paths, gateway),
            Field("role", *role),
            Field("currency", (CURRENCY,), currency),
            Field("amount_minor", *total),
            Field("settled_minor", *total),
            Field("settled_currency", (CURRENCY,), currency),
        ),
    )  # fmt: skip


def _then(first: Converter, second: Converter) -> Converter:
    def run(columns: Sequence[Column], report: Report) -> pa.Array:
        between = first.run(columns, report).to_pylist()
        known = [value is not None for value in between]
        done = second.run([between], report)
        return pa.array(
            [v if is_known else None for v, is_known in zip(done.to_pylist(), known, strict=True)], done.type
        )

    return Converter(second.name, first.wire, run, second.doc)


def _tax(record: str) -> Mapping:
    fields = [
        Field("source_id", ("source_id?",), text),
        Field("jurisdiction", ("source_id?",), text),
        Field("currency", (CURRENCY,), currency),
        Field("amount_minor", (), constant(0, pa.int64())),
        Field("role", ("source_id?",), text),
    ]
    if record == "sale":
        fields.append(Field("is_marketplace_liable", (), constant(False, pa.bool_())))
    return Mapping(f"{record}_tax", STREAM, where=NEVER, fields=tuple(fields), doc="These files state no tax.")


# bank lines ------------------------------------------------------------

BANK = (
    Mapping(
        "bank_transaction", STREAM, where=is_a("bank_transaction"),
        fields=(
            ID,
            Field("account_id", ("account_id?",), own_account),
            Field("booked_on", ("booked_on?",), date_iso),
            Field("state", (), constant("booked", pa.string())),
            Field("currency", (CURRENCY,), currency),
            Field("amount_minor", ("amount?", CURRENCY), decimal_text_to_minor),
            Field("description", ("description?",), text),
            Field("reference", ("reference?",), text),
            Field("bank_role", ("account_id?",), own_account_role),
            Field("role", ("description?", "amount?"), role_of_text_line),
        ),
    ),
)  # fmt: skip

EXAMPLE = SaleMap(
    record="sale",
    group_by="receipt",
    columns=SaleColumns(
        occurred_at=Moment(column="sold_at"), quantity=Cell(column="quantity"), unit_price=Cell(column="unit_price"),
        gateway=Cell(column="paid_by"), sku="sku", title="title", customer_id="customer", country="country",
    ),
    currency=Cell(value="EUR"),
)  # fmt: skip
"""What the printed mapping shows; a connection's own columns take their place."""
MAPPINGS = (*sale_mappings(EXAMPLE), *BANK, *(m for example in EXAMPLES for m in document_mappings(example)))
