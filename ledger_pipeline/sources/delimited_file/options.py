"""What ledger.yaml may say about CSV, TSV and Excel files: how they are written, and which column means what."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from ledger_pipeline.connect.banking import Rules
from ledger_pipeline.connect.files import check_pattern
from ledger_pipeline.connect.source import Options
from ledger_pipeline.model.money import DIGITS


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cell(_Model):
    """Where a value comes from: a `column` of the file, or the same `value` for every row. A bare text is a column."""

    column: str | None = None
    value: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Cell:
        if (self.column is None) == (self.value is None):
            raise ValueError("give either column or value")
        return self


def _column(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


From = Annotated[Cell, BeforeValidator(_column)]


class Moment(_Model):
    """A date and time. `format` is strftime's, or `iso` (8601); `time_zone` is needed where the text has no offset."""

    column: str
    format: str = "iso"
    time_zone: str | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str | None) -> str | None:
        if value is not None and value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone (such as Europe/London)")
        return value

    @model_validator(mode="after")
    def _has_zone(self) -> Moment:
        if self.format != "iso" and "%z" not in self.format and self.time_zone is None:
            raise ValueError(f"a time written as {self.format!r} needs a time_zone")
        return self


class Day(_Model):
    """A date. `format` is strftime's, `iso` is YYYY-MM-DD."""

    column: str
    format: str = "iso"


class Condition(_Model):
    """True for a row whose `column` starts with, equals, is one of, or is a negative number; one of them is given."""

    column: str
    starts_with: str | None = None
    equals: str | None = None
    one_of: tuple[str, ...] | None = None
    is_negative: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        tests = ("starts_with", "equals", "one_of", "is_negative")
        if sum(getattr(self, name) is not None for name in tests) != 1:
            raise ValueError(f"give exactly one of {', '.join(tests)}")
        return self


class Refusal(Condition):
    """Rows that are never posted, and why; they are quarantined with this reason."""

    reason: str


class Numbers(_Model):
    """How numbers are written: the mark before the `decimal`s, and what may stand between `thousands`."""

    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "\u00a0", "\u202f"] = ""

    @model_validator(mode="after")
    def _are_different(self) -> Numbers:
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same mark")
        return self


def _currency(cell: Cell) -> Cell:
    if cell.value is not None and cell.value not in DIGITS:
        raise ValueError(f"{cell.value!r} is no active ISO 4217 currency code (such as USD, EUR, GBP)")
    return cell


Currency = Annotated[From, AfterValidator(_currency)]


class SaleColumns(_Model):
    """The columns of a sale's rows. `source_id` is the group's unless given; a refund belongs to `order_id`."""

    occurred_at: Annotated[Moment, BeforeValidator(_column)]
    quantity: From = Cell(value="1")
    unit_price: From
    gateway: From
    source_id: str | None = None
    order_id: str | None = None
    sku: str | None = None
    title: str | None = None
    customer_id: str | None = None
    country: str | None = None
    channel: From | None = None


class _Map(_Model):
    """What every map says of a file's rows."""

    columns: _Model
    currency: Currency
    numbers: Numbers = Numbers()
    refuse_when: tuple[Refusal, ...] = ()

    def names(self) -> list[str]:
        """The columns that the file must have."""
        given = [*self._more(), *dict(self.columns).values(), self.currency, *self.refuse_when]
        named = [one if one is None or isinstance(one, str) else one.column for one in given]
        return list(dict.fromkeys(name for name in named if name))

    def _more(self) -> list[Any]:
        return []


class _Groups(_Map):
    """Rows with the same value in `group_by` form one record."""

    group_by: str
    roles: dict[str, str] = {}

    def group_columns(self) -> tuple[str, ...]:
        """The columns that tell a file's records apart, the number last."""
        return (self.group_by,)

    def role_by_code(self, code: str) -> str | None:
        """The exact code first, then the longest beginning."""
        if code in self.roles:
            return self.roles[code]
        fitting = [known for known in self.roles if known.endswith("*") and code.startswith(known[:-1])]
        return self.roles[max(fitting, key=len)] if fitting else None

    def _more(self) -> list[Any]:
        return [*self.group_columns()]


class SaleMap(_Groups):
    """Rows are the lines of sales and refunds: those with the same value in `group_by` form one."""

    record: Literal["sale"]
    columns: SaleColumns
    refund_when: Condition | None = None
    roles: dict[str, str] = Field(
        default={}, description="sku, or its beginning and *, → role; others are sales (refunds: sales_returns)."
    )

    def role_of(self, sku: str, *, is_refund: bool) -> str:
        """By code, else sales or sales_returns."""
        return self.role_by_code(sku) or ("sales_returns" if is_refund else "sales")

    def _more(self) -> list[Any]:
        return [*super()._more(), self.refund_when]


State = Literal["posted", "draft", "void"]
STATES: tuple[State, ...] = get_args(State)


class DocumentColumns(_Model):
    """The columns of an invoice's or a bill's rows: a row's `amount` is without its `tax`, both are signed."""

    issued_on: Annotated[Day, BeforeValidator(_column)]
    due_on: Annotated[Day | None, BeforeValidator(_column)] = None
    amount: str
    tax: str | None = None
    total: str | None = None
    code: str | None = None
    state: str | None = None
    reduces: str | None = None
    source_id: str | None = None


class InvoiceColumns(DocumentColumns):
    """An invoice's; `jurisdiction` is whom the tax is owed to."""

    customer_id: str | None = None
    jurisdiction: From | None = None


class BillColumns(DocumentColumns):
    """A bill's. Two suppliers may give the same number: `supplier_id` keeps them apart."""

    supplier_id: str | None = None


class PayRunColumns(_Model):
    """The columns of a pay run's rows: `amount` is debit positive."""

    paid_on: Annotated[Day, BeforeValidator(_column)]
    amount: str
    code: str
    gross: str | None = None
    net: str | None = None
    department: str | None = None
    state: str | None = None
    source_id: str | None = None


class _DocumentMap(_Groups):
    default_role: str = Field("", description="Of rows whose code stands in no `roles`; empty: such a row is an error.")
    states: dict[str, State] = Field(default={}, description="The file's word → posted, draft or void.")

    def role_of(self, code: str) -> str:
        """Raises ValueError for a code that nothing is said about."""
        role = self.role_by_code(code) or self.default_role
        if not role:
            raise ValueError(f"{code[:40]!r} stands in no `roles`, and there is no default_role")
        return role

    def state_of(self, word: str) -> str:
        """Raises ValueError for a word that means no state."""
        found = self.states.get(word) or word.lower()
        if found not in STATES:
            raise ValueError(f"{word[:40]!r} is no state; known are {', '.join((*self.states, *STATES))}")
        return found


class InvoiceMap(_DocumentMap):
    """Rows are the lines of invoices and credit notes."""

    record: Literal["invoice"]
    columns: InvoiceColumns
    default_role: str = "sales"

    @model_validator(mode="after")
    def _tax_is_owed_to_somebody(self) -> InvoiceMap:
        if self.columns.tax is not None and self.columns.jurisdiction is None:
            raise ValueError("columns.tax needs columns.jurisdiction: whom the tax is owed to, such as {value: GB}")
        return self


class BillMap(_DocumentMap):
    """Rows are the lines of suppliers' bills and credit notes."""

    record: Literal["bill"]
    columns: BillColumns
    default_role: str = "uncategorised_expense"

    def group_columns(self) -> tuple[str, ...]:
        """The supplier and the number."""
        return (self.columns.supplier_id, self.group_by) if self.columns.supplier_id else (self.group_by,)


class PayRunMap(_DocumentMap):
    """Rows are what a pay run moves, account by account; they sum to zero."""

    record: Literal["pay_run"]
    columns: PayRunColumns


DocumentMap = InvoiceMap | BillMap | PayRunMap


class BankColumns(_Model):
    """The columns of a bank line."""

    date: Annotated[Day, BeforeValidator(_column)]
    amount: From
    description: str
    reference: str | None = None


class BankMap(_Map):
    """Every row is a booked line of a bank account."""

    record: Literal["bank_transaction"]
    account: From
    columns: BankColumns
    sign: Literal["in_positive", "out_positive"] = "in_positive"

    def _more(self) -> list[Any]:
        return [self.account]


class DelimitedFileOptions(Options):
    """A folder of files that are written alike; docs/delimited-files.md explains every key."""

    folder: Path = Field(description="Where the files arrive.")
    pattern: Annotated[str, AfterValidator(check_pattern)] = "{date}.csv"
    delimiter: str = Field("", max_length=1, description="Empty: a tab for .tsv, a comma otherwise.")
    encoding: str = "utf-8"
    header: bool | tuple[str, ...] = Field(
        True, description="True: the first row names the columns. A list: the names, in a file without them."
    )
    sheet: str | None = Field(None, description="Of an Excel file; its first one otherwise.")
    map: Annotated[SaleMap | BankMap | InvoiceMap | BillMap | PayRunMap, Field(discriminator="record")]
    accounts: dict[str, str] = Field(
        default={}, description="An account as the file says it → own name of it, where another path names it, too."
    )
    categorise: Rules = ()

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError(f"{value!r} is no encoding (such as utf-8, cp1252, latin-1)") from None
        return value

    @field_validator("header")
    @classmethod
    def _header_is_there(cls, value: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
        if value is False or value == ():
            raise ValueError("a file without a header needs its columns' names as a list")
        return value


def number(text: str, numbers: Numbers) -> Decimal:
    """An exact number as the file writes it; raises ValueError saying what it is not."""
    plain = text.strip()
    if numbers.thousands:
        plain = _without_groups(plain, numbers)
    if numbers.decimal == ",":
        if "." in plain:
            raise ValueError(f"{text[:40]!r} is no number with a decimal comma")
        plain = plain.replace(",", ".", 1)
    digits = plain[1:] if plain[:1] in ("-", "+") else plain
    whole, _, decimals = digits.partition(".")
    if not (whole + decimals).isdigit() or not digits.isascii() or len(digits) > 40:
        raise ValueError(f"{text[:40]!r} is no number")
    return Decimal(plain)


def _without_groups(plain: str, numbers: Numbers) -> str:
    whole, mark, decimals = plain.partition(numbers.decimal)
    groups = whole.lstrip("+-").split(numbers.thousands)
    if len(groups) > 1 and (not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:])):
        raise ValueError(f"{plain[:40]!r} is no number: its digits are not in groups of three")
    return whole.replace(numbers.thousands, "") + mark + decimals


def matches(condition: Condition, text: str, numbers: Numbers) -> bool:
    """Whether a row's text fits; raises ValueError where a number is asked for and there is none."""
    if condition.starts_with is not None:
        return text.startswith(condition.starts_with)
    if condition.equals is not None:
        return text == condition.equals
    if condition.one_of is not None:
        return text in condition.one_of
    return number(text, numbers) < 0


def day_of(text: str, day: Day) -> date:
    """A calendar day as the file writes it."""
    try:
        if day.format == "iso":
            return date.fromisoformat(text.strip())
        return datetime.strptime(text.strip(), day.format).date()  # noqa: DTZ007 - only the day is kept
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no date as {day.format}") from None
