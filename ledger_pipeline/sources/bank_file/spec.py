"""Bank statements that arrive as files: MT940, CAMT.053, OFX and BAI2, one document per statement.

A statement must tie: opening balance + booked lines = closing balance. One that doesn't is refused as a whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ledger_pipeline.connect.banking import Rules
from ledger_pipeline.connect.files import check_pattern
from ledger_pipeline.connect.source import Options, Source, Stream
from ledger_pipeline.sources.bank_file.mapping import MAPPINGS
from ledger_pipeline.sources.bank_file.reader import read


class BankFileOptions(Options):
    """What ledger.yaml says about a folder of statements."""

    folder: Path = Field(description="Where the bank's files arrive.")
    pattern: Annotated[str, AfterValidator(check_pattern)] = Field(
        "{date}*", description="The names of a sync date's files; {date} or {date:%Y%m%d} is replaced."
    )
    format: Literal["auto", "mt940", "camt053", "ofx", "bai2"] = "auto"
    accounts: dict[str, str] = Field(
        default={}, description="The bank's account number or IBAN → account id, where they shall differ."
    )
    categorise: Rules = ()


SOURCE = Source(
    "bank_file",
    "Bank statement files",
    streams=(
        Stream(
            "statements",
            read,
            record_id="source_id",
            updated_at="created_at",
            control=("net", "currency"),
            doc="One document per statement of a file: balances and lines, or why it can't be used.",
        ),
    ),
    mappings=MAPPINGS,
    options=BankFileOptions,
)
