"""CSV, TSV and Excel files with a mapping that ledger.yaml declares: sales, refunds, invoices, bills and pay runs by rows, or bank lines."""

from __future__ import annotations

from ledger_pipeline.connect.source import Source, Stream
from ledger_pipeline.sources.delimited_file.columns import STREAM
from ledger_pipeline.sources.delimited_file.mapping import MAPPINGS, mappings_for
from ledger_pipeline.sources.delimited_file.options import DelimitedFileOptions
from ledger_pipeline.sources.delimited_file.reader import read

SOURCE = Source(
    "delimited_file",
    "CSV, TSV and Excel files",
    streams=(
        Stream(
            STREAM,
            read,
            record_id="source_id",
            units="units",
            control=("control.amount", "control.currency"),
            doc="One document per group of rows (a sale, a refund, an invoice, a bill, a pay run) or bank line, every cell as it stands in the file.",
        ),
    ),
    mappings=MAPPINGS,
    options=DelimitedFileOptions,
    mappings_for=mappings_for,
)
