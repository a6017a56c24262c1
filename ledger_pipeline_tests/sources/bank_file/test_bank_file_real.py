"""Real banks' files: each imports, or is refused for the right reason; what was read is what other readers read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "bank"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/bank is absent")

NO_STATEMENT = "there is no statement (:20:) in it"
NOT_TIED = "but the stated closing balance is"
SEK = "the closing balance is in SEK, the account in EUR"
NO_BANK = "there is no bank or card statement in it"

# file → (statements in it that import, lines of these, balances of these, what the refused ones say)
OUTCOMES: dict[str, tuple[int, int, int, tuple[str, ...]]] = {
    "bai2/account_trailer_amount_blank_example.bai2": (0, 0, 0, ("no opening and no closing balance",) * 2),
    "bai2/citi_example.bai2": (
        0,
        0,
        0,
        ("opening 100.00 and 1 lines of 0.01 make 100.01 GBP, but the stated closing balance is 100.00",),
    ),
    "bai2/nwb_example.bai2": (1, 5, 2, ()),
    "bai2/svb_us_example.bai2": (2, 2, 4, ()),
    "camt/camt053.v2.all-balance-types.xml": (0, 0, 0, ("make 9.86 EUR, but the stated closing balance is 4.04",)),
    "camt/camt053.v2.five.decimals.xml": (0, 0, 0, ("make 27.00 EUR, but the stated closing balance is 27.05",)),
    "camt/camt053.v2.minimal.ultimate.xml": (0, 0, 0, (SEK,)),
    "camt/camt053.v2.minimal.xml": (0, 0, 0, (SEK,)),
    "camt/camt053.v2.multi.statement.xml": (2, 2, 4, ()),
    "camt/camt053.v2.with-account-name.xml": (0, 0, 0, ("no opening and no closing balance",)),
    "camt/camt053.v2.with-party-ids.xml": (0, 0, 0, (SEK,)),
    "camt/camt053.v2.wrong.xml": (0, 0, 0, ("line 2: there is no statement (Stmt) in it",)),
    "camt/camt053.v3.xml": (0, 0, 0, (SEK,)),
    "camt/camt053.v4.xml": (0, 0, 0, (SEK,)),
    "camt/camt053.v8.xml": (0, 0, 0, (SEK,)),
    "mt940/abnamro.sta": (0, 0, 0, (NOT_TIED, NOT_TIED)),
    "mt940/amount_formats.sta": (0, 0, 0, (NO_STATEMENT,)),
    "mt940/currency_in_25.sta": (0, 0, 0, (NO_STATEMENT,)),
    "mt940/empty_86.sta": (0, 0, 0, (NO_STATEMENT,)),
    "mt940/empty_entry_date.sta": (0, 0, 0, (NO_STATEMENT,)),
    "mt940/empty_line.sta": (0, 0, 0, ("it names no account",)),
    "mt940/generic.sta": (2, 2, 4, ()),
    "mt940/ing.sta": (
        0,
        0,
        0,
        ("opening 0.00 and 7 lines of -45.59 make -45.59 EUR, but the stated closing balance is 3.47",),
    ),
    "mt940/knab.sta": (1, 1, 2, ("opening 3058.98 and 2 lines of -6760.00 make -3701.02 EUR",)),
    "mt940/missing_crlf_at_end.sta": (0, 0, 0, (NO_STATEMENT,)),
    "mt940/postfinance.sta": (1, 2, 2, ("make 159.40 CHF, but the stated closing balance is 159.60",)),
    "mt940/rabobank-iban.sta": (2, 4, 4, ()),
    "mt940/rabobank.sta": (2, 2, 4, (NOT_TIED, NOT_TIED)),
    "mt940/sepa_mt9401.sta": (26, 97, 52, ()),
    "mt940/sepa_snippet.sta": (1, 4, 2, ("make -4472349.17 EUR, but the stated closing balance is -4472049.09",)),
    "mt940/sepa_snippet_broken.sta": (0, 0, 0, (NOT_TIED,)),
    "mt940/sns.sta": (2, 2, 4, ()),
    "mt940/triodos.sta": (0, 0, 0, ("make 4259.39 EUR, but the stated closing balance is 4370.79",)),
    "mt940/with_binary_character.sta": (2, 4, 4, ()),
    "ofx/account_listing_aggregation.ofx": (0, 0, 0, (f"{NO_BANK}; ACCTINFORS is not read",)),
    "ofx/anzcc.ofx": (1, 1, 1, ()),
    "ofx/bank_medium.ofx": (1, 3, 1, ()),
    "ofx/bank_small.ofx": (0, 0, 0, (NO_BANK,)),
    "ofx/checking.ofx": (1, 3, 1, ()),
    "ofx/error_message.ofx": (0, 0, 0, (f"{NO_BANK}; status 2000 ERROR General Server Error",)),
    "ofx/fidelity-savings.ofx": (0, 0, 0, (f"{NO_BANK}; INVSTMTRS is not read",)),
    "ofx/fidelity.ofx": (0, 0, 0, (f"{NO_BANK}; INVSTMTRS is not read",)),
    "ofx/multiple_accounts.ofx": (2, 0, 2, ()),
    "ofx/multiple_accounts2.ofx": (2, 0, 2, ()),
    "ofx/ofx-v102-empty-tags.ofx": (0, 0, 0, ("it states no currency (CURDEF)",)),
    "ofx/signon_fail.ofx": (0, 0, 0, (f"{NO_BANK}; status 15500 ERROR",)),
    "ofx/signon_success.ofx": (0, 0, 0, (NO_BANK,)),
    "ofx/signon_success_no_message.ofx": (0, 0, 0, (NO_BANK,)),
    "ofx/suncorp.ofx": (1, 1, 1, ()),
}


def test_the_table_names_every_file() -> None:
    found = {str(p.relative_to(DATA)) for p in DATA.glob("*/*") if p.suffix not in (".json", ".yml")}
    assert found == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_real_file_imports_or_is_refused_by_name(name: str, pull_folder: Callable[..., Any]) -> None:
    statements, lines, balances, reasons = OUTCOMES[name]
    path = DATA / name
    pulled = pull_folder(path.parent, path.name)
    said = [fault.message for fault in pulled.faults]
    assert (len(pulled.documents) - len(said), len(pulled.lines), len(pulled.balances)) == (statements, lines, balances)
    assert len(said) == len(reasons), said
    for message, reason in zip(said, reasons, strict=True):
        assert message.startswith(f"{path.name}: ")
        assert reason in message
    assert {fault.path.rstrip("?") for fault in pulled.faults} <= {"$.fault"}
    assert list(pulled.kept.values()) == [path.read_bytes()]


def _child(node: yaml.MappingNode, key: str) -> Any:
    return next((value for name, value in node.value if name.value == key), None)


def _day(node: yaml.SequenceNode) -> str:
    """A pickled date: two bytes of year, a month, a day."""
    raw = base64.b64decode(node.value[0].value)
    return date(raw[0] * 256 + raw[1], raw[2], raw[3]).isoformat()


def _bookings(path: Path) -> Iterator[tuple[Decimal, str]]:
    """(signed amount, value date) of the dump; a reversed credit (RC) is money out, which these dumps don't say.

    The dump holds Python objects that refer to each other: its nodes are walked, nothing is constructed.
    """
    for transaction in _child(yaml.compose(path.read_text(), yaml.SafeLoader), "transactions").value:
        data = _child(transaction, "data")
        amount = _child(data, "amount")
        if amount is not None:
            size = abs(Decimal(_child(amount, "amount").value[0].value))
            yield (-size if _child(data, "status").value in ("D", "RC") else size), _day(_child(data, "date"))


@pytest.mark.parametrize("name", sorted(n for n in OUTCOMES if n.startswith("mt940/")))
def test_mt940_bookings_are_those_of_the_librarys_own_dump(name: str, pull_folder: Callable[..., Any]) -> None:
    path = DATA / name
    wanted = list(_bookings(path.with_suffix(".yml")))
    pulled = pull_folder(path.parent, path.name)
    found = [(Decimal(line["amount"]), line["value_on"]) for document in pulled.documents for line in document["lines"]]
    if OUTCOMES[name][3] == (NO_STATEMENT,):
        assert found == []
    else:
        assert found == wanted


@pytest.mark.parametrize("name", sorted(n for n in OUTCOMES if n.startswith("camt/") and not n.endswith("wrong.xml")))
def test_camt_entries_and_balances_are_those_of_the_json_beside_them(
    name: str, pull_folder: Callable[..., Any]
) -> None:
    path = DATA / name
    message = json.loads(path.with_suffix(".json").read_text())
    pulled = pull_folder(path.parent, path.name)
    documents = {document["statement_id"]: document for document in pulled.documents}
    entries = [entry for entry in message["getEntries"] if isinstance(entry, dict)]
    assert entries
    for entry in entries:  # of several statements the dump holds the last one's
        record = entry["getRecord"]
        document = documents[record["getId"]]
        (line,) = document["lines"]
        money, value_day = entry["getAmount"], entry["getValueDate"]
        assert (int(Decimal(line["amount"]) * 100), line["currency"]) == (
            int(money["getAmount"]),
            money["getCurrency"]["getCode"],
        )
        assert line["booked_on"] == entry["getBookingDate"]["0"][:10]
        assert line["value_on"] == (value_day["0"][:10] if value_day else None)
        assert document["account_id"] == record["getAccount"]["getIdentification"]
        for kind in ("opening", "closing"):
            stated = [balance for balance in record["getBalances"] if balance["getType"] == kind]
            minor = int(Decimal(document[kind]["amount"]) * 100) if document[kind] else None
            assert minor == (int(stated[0]["getAmount"]["getAmount"]) if stated else None)
