"""What must hold for statements of any format: they tie or are named, and a line keeps its identity."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.model import journal
from ledger_pipeline.model.rules import RULES
from ledger_pipeline.sandbox.company import Company
from ledger_pipeline.sandbox.files import write_files
from ledger_pipeline.sources.bank_file.spec import SOURCE
from ledger_pipeline.sources.bank_file.statement import money_text

IBAN = "DE02120300000000202051"
Pull = Callable[..., Any]
Booking = tuple[date, int, str]  # day, cents, words
NEXT = itertools.count()


def mt940(
    bookings: list[Booking], opening: int = 10_000, number: str = "1/1", closing: int | None = None, forms: str = "FF"
) -> str:
    """An independent writer: one statement in EUR."""

    def balance(tag: str, cents: int) -> str:
        return f":{tag}:{'C' if cents >= 0 else 'D'}261005EUR{abs(cents) // 100},{abs(cents) % 100:02d}\r\n"

    total = opening + sum(cents for _, cents, _ in bookings)
    text = f":20:STMT\r\n:25:{IBAN}\r\n:28C:{number}\r\n" + balance("60" + forms[0], opening)
    for day, cents, words in bookings:
        amount = f"{'C' if cents >= 0 else 'D'}{abs(cents) // 100},{abs(cents) % 100:02d}"
        text += f":61:{day:%y%m%d}{day:%m%d}{amount}NTRFNONREF\r\n:86:{words}\r\n"
    return text + balance("62" + forms[1], total if closing is None else closing) + "-\r\n"


def camt(
    bookings: list[Booking], opening: int = 10_000, closing: int | None = None, extra: str = "", status: str = "BOOK"
) -> str:
    """An independent writer: one statement in EUR, as text."""
    total = opening + sum(cents for _, cents, _ in bookings)

    def signed(cents: int) -> str:
        side = "CRDT" if cents >= 0 else "DBIT"
        return f'<Amt Ccy="EUR">{abs(cents) // 100}.{abs(cents) % 100:02d}</Amt><CdtDbtInd>{side}</CdtDbtInd>'

    def balance(code: str, cents: int) -> str:
        return f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>{signed(cents)}<Dt><Dt>2026-10-05</Dt></Dt></Bal>"

    entries = "".join(
        f"<Ntry>{signed(cents)}<Sts>{status}</Sts><BookgDt><Dt>{day}</Dt></BookgDt><NtryDtls><TxDtls><RmtInf><Ustrd>{words}</Ustrd></RmtInf>"
        f"</TxDtls></NtryDtls></Ntry>\n"
        for day, cents, words in bookings
    )
    return (
        f'<?xml version="1.0"?>{extra}\n<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.08">'
        f"<BkToCstmrStmt><Stmt><Id>S1</Id><Acct><Id><IBAN>{IBAN}</IBAN></Id><Ccy>EUR</Ccy></Acct>"
        f"{balance('OPBD', opening)}{balance('CLBD', total if closing is None else closing)}"
        f"\n{entries}</Stmt></BkToCstmrStmt></Document>"
    )


DAY = date(2026, 10, 5)
WORDS = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=30)
BOOKINGS = st.lists(
    st.tuples(st.dates(date(2026, 1, 1), date(2026, 12, 31)), st.integers(-99_999_999, 99_999_999), WORDS), max_size=12
)
OFTEN = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def folder_of(tmp_path: Path, files: dict[str, str]) -> Path:
    folder = tmp_path / str(next(NEXT))
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@OFTEN
@given(BOOKINGS, st.integers(-10_000_000, 10_000_000))
def test_what_was_written_is_read_in_both_formats(
    tmp_path: Path, pull_folder: Pull, bookings: list[Booking], opening: int
) -> None:
    wanted = [(day, cents, words) for day, cents, words in bookings]
    ids = []
    for text in (mt940(bookings, opening), camt(bookings, opening)):
        pulled = pull_folder(folder_of(tmp_path, {"2026-10-05.txt": text}), "{date}*")
        assert pulled.faults == ()
        assert [(x["booked_on"], x["amount_minor"], x["description"]) for x in pulled.lines] == wanted
        assert [x["amount_minor"] for x in pulled.balances] == [
            opening,
            opening + sum(cents for _, cents, _ in bookings),
        ]
        assert len(set(pulled.ids)) == len(bookings)
        ids.append(pulled.ids)
    assert ids[0] == ids[1]


@OFTEN
@given(BOOKINGS, st.integers(1, 5_000))
def test_a_statement_that_does_not_tie_stages_nothing(
    tmp_path: Path, pull_folder: Pull, bookings: list[Booking], off: int
) -> None:
    total = 10_000 + sum(cents for _, cents, _ in bookings)
    for text in (mt940(bookings, closing=total + off), camt(bookings, closing=total - off)):
        pulled = pull_folder(folder_of(tmp_path, {"a": text}))
        assert (pulled.lines, pulled.balances) == ([], [])
        assert [fault.path.rstrip("?") for fault in pulled.faults] == ["$.fault"]


@OFTEN
@given(st.lists(BOOKINGS, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_identity_survives_redelivery_other_names_and_file_order(
    tmp_path: Path, pull_folder: Pull, days: list[list[Booking]], random: Any
) -> None:
    texts, opening = [], 10_000
    for number, bookings in enumerate(days):
        unique = [(DAY + timedelta(number), cents, words) for _, cents, words in bookings]
        texts.append(mt940(unique, opening, f"{number + 1}/1"))
        opening += sum(cents for _, cents, _ in unique)
    names = [f"{chr(97 + n)}.sta" for n in range(len(texts))]
    first = pull_folder(folder_of(tmp_path, dict(zip(names, texts, strict=True))))
    random.shuffle(texts)
    again = pull_folder(folder_of(tmp_path, dict(zip(names, texts, strict=True))))
    assert sorted(first.ids) == sorted(again.ids)
    assert len(set(first.ids)) == sum(map(len, days))
    assert len(first.payloads) == len(days)
    assert {d["source_id"] for d in first.documents} == {d["source_id"] for d in again.documents}


def test_the_reason_names_file_account_statement_and_both_figures(pull_text: Pull) -> None:
    pulled = pull_text({"october.sta": mt940([(DAY, -2_50, "COFFEE")], closing=9_700)})
    assert [fault.message for fault in pulled.faults] == [
        f"october.sta: statement STMT 1/1 of account ***{IBAN[-4:]}: opening 100.00 and 1 lines of -2.50 make 97.50 EUR, "
        "but the stated closing balance is 97.00"
    ]
    assert pulled.documents[0]["lines"][0]["amount"] == "-2.50"


def test_one_refused_statement_of_a_file_leaves_the_others(pull_text: Pull) -> None:
    good, bad = mt940([(DAY, 100, "A")], number="1/1"), mt940([(DAY, 100, "B")], number="2/1", closing=0)
    pulled = pull_text({"a.sta": good + bad})
    assert [line["description"] for line in pulled.lines] == ["A"]
    assert len(pulled.faults) == 1


def test_two_equal_lines_on_a_day_are_two_lines(pull_text: Pull) -> None:
    pulled = pull_text({"a.sta": mt940([(DAY, -500, "COFFEE"), (DAY, -500, "COFFEE")])})
    first, second = pulled.ids
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], ":1", ":2")


def test_the_same_file_under_two_names_is_read_once(pull_text: Pull) -> None:
    text = mt940([(DAY, -500, "COFFEE")])
    pulled = pull_text({"a.sta": text, "a-resent.sta": text})
    assert len(pulled.documents) == len(pulled.lines) == 1
    assert pulled.request.notes["repeated_files"] == ["a.sta"]
    assert pulled.request.repeated == 1


def test_a_statement_sent_again_in_another_form_has_the_same_lines(pull_text: Pull) -> None:
    pulled = pull_text({"a.sta": mt940([(DAY, -500, "COFFEE")]), "a.xml": camt([(DAY, -500, "COFFEE")])})
    assert len(pulled.lines) == 2
    assert len(set(pulled.ids)) == 1


def test_pages_of_a_statement_count_equal_lines_together(pull_text: Pull) -> None:
    one = mt940([(DAY, -500, "COFFEE")], 10_000, "7/1", forms="FM")
    two = mt940([(DAY, -500, "COFFEE")], 9_500, "7/2", forms="MF")
    pulled = pull_text({"a.sta": one + two})
    assert pulled.faults == ()
    assert [line_id[-2:] for line_id in pulled.ids] == [":1", ":2"]


def test_equal_lines_in_two_files_that_continue_each_other_are_left_to_a_person(pull_text: Pull) -> None:
    pulled = pull_text(
        {"a.sta": mt940([(DAY, -500, "COFFEE")], 10_000, "7/1"), "b.sta": mt940([(DAY, -500, "COFFEE")], 9_500, "8/1")}
    )
    assert len(pulled.lines) == 1
    assert "an equal line stands in a.sta" in pulled.faults[0].message


def test_a_broken_copy_does_not_take_the_place_of_the_good_statement(pull_text: Pull) -> None:
    good, cut = mt940([(DAY, 100, "A")]), mt940([], closing=10_100)
    pulled = pull_text({"a.sta": good, "b.sta": cut})
    assert [line["description"] for line in pulled.lines] == ["A"]
    ids = [document["source_id"] for document in pulled.documents]
    assert ids[1].startswith(f"{ids[0]}:refused:")


def test_a_reversed_credit_is_money_out(pull_text: Pull) -> None:
    text = mt940([(DAY, 5_00, "BACK")], closing=9_500).replace("C5,00N", "RC5,00N")
    pulled = pull_text({"a.sta": text})
    assert [line["amount_minor"] for line in pulled.lines] == [-500]


def test_a_booking_over_new_year_keeps_its_year(pull_text: Pull) -> None:
    text = mt940([(date(2026, 12, 31), 5_00, "X")]).replace(":61:2612311231", ":61:2612310101")
    pulled = pull_text({"a.sta": text})
    assert [line["booked_on"] for line in pulled.lines] == [date(2027, 1, 1)]


def test_pending_entries_are_staged_as_pending_and_do_not_count(pull_text: Pull) -> None:
    pulled = pull_text({"a.xml": camt([(DAY, -500, "HOLD")], closing=10_000, status="PDNG")})
    assert [(line["state"], line["amount_minor"]) for line in pulled.lines] == [("pending", -500)]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', "line 1: it has a document type declaration"),
        ('<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>', "line 1: it has a document type declaration"),
        ("<wrong>", "not XML"),
    ],
)
def test_hostile_xml_is_refused(pull_text: Pull, extra: str, message: str) -> None:
    pulled = pull_text({"a.xml": camt([], extra=extra)})
    assert message in pulled.faults[0].message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('<Amt Ccy="EUR">5.00</Amt>', '<Amt Ccy="EUR">5,00</Amt>'), "line 3: '5,00' is no amount"),
        (('<Amt Ccy="EUR">5.00</Amt>', '<Amt Ccy="EUR">1e2</Amt>'), "line 3: '1e2' is no amount"),
        (('<Amt Ccy="EUR">5.00</Amt>', '<Amt Ccy="USD">5.00</Amt>'), "line 3: it is in USD, the account in EUR"),
        (("<Dt>2026-10-06</Dt>", "<Dt>2026-13-06</Dt>"), "line 3: '2026-13-06' is no date"),
        (("<Sts>BOOK</Sts>", "<Sts>WHAT</Sts>"), "line 3: an entry's status is 'WHAT'"),
        (("camt.053.001.08", "camt.052.001.08"), "camt.052.001.08 is no CAMT.053 statement"),
    ],
)
def test_a_wrong_camt_names_its_line(pull_text: Pull, change: tuple[str, str], message: str) -> None:
    text = camt([(DAY + timedelta(1), 500, "X")])
    assert change[0] in text
    pulled = pull_text({"a.xml": text.replace(*change)})
    assert message in pulled.faults[0].message
    assert pulled.lines == []


def test_an_amount_with_more_decimals_than_its_currency_is_refused(pull_text: Pull) -> None:
    text = camt([(DAY, 500, "X")]).replace(">5.00<", ">5.001<").replace(">105.00<", ">105.001<")
    pulled = pull_text({"a.xml": text})
    assert [fault.message for fault in pulled.faults] == ["105.001 has more decimals than EUR has (2)"]


BAI2 = (
    "01,BANK,CO,261006,0700,1,,,2/\n02,CO,BANK,1,261005,2359,USD,2/\n03,123,USD,010,10000,,,015,9000,,/\n"
    "16,475,1000,V,261006,,REF,INV 7,CHEQUE 12/\n88,MORE WORDS/\n49,20000,4/\n98,20000,1,6/\n99,20000,1,8/\n"
)


def test_bai2_details_take_their_side_from_the_type_code(pull_text: Pull) -> None:
    pulled = pull_text({"a.bai": BAI2})
    assert pulled.faults == ()
    (line,) = pulled.lines
    assert (line["amount_minor"], line["booked_on"], line["reference"]) == (-1000, DAY, "INV 7")
    assert line["description"] == "CHEQUE 12 MORE WORDS"
    assert pulled.documents[0]["lines"][0]["value_on"] == "2026-10-06"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("49,20000,4", "49,20001,4"), "line 6: the account's control total is 20001, its amounts make 20000"),
        (("49,20000,4", "49,20000,5"), "line 6: the account's number of records is 5, it has 4"),
        (("98,20000,1,6", "98,20000,2,6"), "line 7: the group's number of members is 2, what stands in it makes 1"),
        (("98,20000,1,6", "98,20000,1,7"), "line 7: the group's number of records is 7, what stands in it makes 6"),
        (("99,20000,1,8", "99,30000,1,8"), "line 8: the file's control total is 30000, what stands in it makes 20000"),
        (("99,20000,1,8/\n", ""), "the file's trailer (99) is missing, so it may be cut off"),
        (("16,475", "16,777"), "line 4: type code '777' is neither a credit (100-399) nor a debit (400-699)"),
        (("1000,V", "10x0,V"), "line 4: '10x0' is no amount"),
        (("261005", "269905"), "line 2: '269905' is no date (YYMMDD)"),
        (("16,475,1000,V", "17,475,1000,V"), "an account's trailer (49) is missing before record 17"),
    ],
)
def test_a_wrong_bai2_names_its_line(pull_text: Pull, change: tuple[str, str], message: str) -> None:
    assert change[0] in BAI2
    pulled = pull_text({"a.bai": BAI2.replace(*change)})
    assert message in pulled.faults[0].message
    assert pulled.lines == []


def ofx(fitids: list[str]) -> str:
    lines = "".join(
        f"<STMTTRN><TRNTYPE>DEBIT<DTPOSTED>20261005233000[-5:EST]<TRNAMT>-5.00<FITID>{f}<NAME>COFFEE</STMTTRN>\n"
        for f in fitids
    )
    return (
        "OFXHEADER:100\nDATA:OFXSGML\nVERSION:102\nSECURITY:NONE\nENCODING:USASCII\nCHARSET:1252\nCOMPRESSION:NONE\nOLDFILEUID:NONE\n"
        "NEWFILEUID:NONE\n\n<OFX><BANKMSGSRSV1><STMTTRNRS><TRNUID>1<STATUS><CODE>0<SEVERITY>INFO</STATUS><STMTRS><CURDEF>USD<BANKACCTFROM>"
        f"<BANKID>1<ACCTID>77<ACCTTYPE>CHECKING</BANKACCTFROM><BANKTRANLIST><DTSTART>20261001<DTEND>20261005\n{lines}</BANKTRANLIST>"
        "<LEDGERBAL><BALAMT>-12.5<DTASOF>20261005</LEDGERBAL></STMTRS></STMTTRNRS></BANKMSGSRSV1></OFX>"
    )


def test_ofx_is_read_without_an_opening_balance_and_says_so(pull_text: Pull) -> None:
    pulled = pull_text({"a.ofx": ofx(["1", "2"])})
    assert pulled.request.notes["statements_without_opening"] == 1
    assert [(b["kind"], b["amount_minor"]) for b in pulled.balances] == [("closing", -1250)]
    assert pulled.ids == ["77:1", "77:2"]
    assert {line["booked_on"] for line in pulled.lines} == {DAY}


def test_a_repeated_fitid_identifies_nothing(pull_text: Pull) -> None:
    pulled = pull_text({"a.ofx": ofx(["1", "1", "2"])})
    assert len(set(pulled.ids)) == 3
    assert [line_id.startswith("77:") for line_id in pulled.ids] == [False, False, True]


def test_an_unknown_file_is_kept_and_refused(pull_text: Pull) -> None:
    pulled = pull_text({"a.pdf": b"%PDF-1.7"})
    assert [f.message for f in pulled.faults] == ["a.pdf: line 1: it is neither MT940, CAMT.053, OFX nor BAI2"]
    assert pulled.kept == {"a.pdf": b"%PDF-1.7"}


def test_a_missing_folder_fails_the_pull(tmp_path: Path, pull_folder: Pull) -> None:
    with pytest.raises(ConnectError, match="there is no folder"):
        pull_folder(tmp_path / "absent")


def test_a_copy_under_way_is_left_alone(pull_text: Pull) -> None:
    pulled = pull_text({".2026-10-05.xml.part": "<half"})
    assert pulled.documents == []
    assert pulled.request.notes["files"] == 0


@pytest.mark.parametrize("pattern", ["{day}*", "../{date}*", "/etc/*", "{date!x}", ""])
def test_a_pattern_that_is_none_is_named(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match="is no pattern"):
        SOURCE.options(folder=tmp_path, pattern=pattern)


def test_accounts_are_renamed_and_lines_categorised(pull_text: Pull) -> None:
    rules = [{"contains": "stripe", "role": "payout_in_transit", "direction": "in"}]
    text = mt940([(DAY, 100, "STRIPE PAYOUT"), (DAY, -100, "STRIPE FEE")])
    pulled = pull_text({"a.sta": text}, accounts={IBAN: "eur"}, categorise=rules)
    assert [line["role"] for line in pulled.lines] == ["payout_in_transit", "uncategorised_expense"]
    assert {line["bank_role"] for line in pulled.lines} == {"bank:eur"}


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("5", "EUR", "5.00"),
        ("5.10", "EUR", "5.10"),
        ("18.150", "EUR", "18.15"),
        ("1.005", "EUR", "1.005"),
        ("500", "JPY", "500"),
        ("-0.00", "EUR", "0.00"),
        ("-0.5", "KWD", "-0.500"),
        ("100", "EUR", "100.00"),
    ],
)
def test_an_amount_has_one_text(amount: str, currency: str, text: str) -> None:
    assert money_text(Decimal(amount), currency) == text


def test_the_sandbox_companys_week_posts_every_line(tmp_path: Path, pull_folder: Pull) -> None:
    company = Company()
    days = [company.start + timedelta(n) for n in range(7)]
    write_files(company, days[0], days[-1], tmp_path)
    account = next(a for a in company.bank_accounts if a.connection == "bank_eur")
    for day in days:
        pulled = pull_folder(tmp_path / "bank_eur", "{date}*", day)
        wanted = company.bank_lines("bank_eur", account.account_id, day)
        assert pulled.faults == ()
        assert [(x["amount_minor"], x["booked_on"], x["account_id"]) for x in pulled.lines] == [
            (w.amount, w.day, account.account_id) for w in wanted
        ]
        assert len(set(pulled.ids)) == len(wanted)
        assert [b["amount_minor"] for b in pulled.balances][-1] == company.closing_balance(account, day)


def test_a_line_becomes_a_balanced_entry(pull_text: Pull, tmp_path: Path) -> None:
    pull_text({"a.sta": mt940([(DAY, -2_50, "COFFEE")])})
    options = SOURCE.options(folder=tmp_path, pattern="*")
    from ledger_pipeline.connect.mapping import Settings
    from ledger_pipeline.connect.source import Request

    moment: Any = None
    request = Request("bank", "statements", DAY, moment, moment, options, None)
    payloads = [p for page in SOURCE.stream("statements").read(request) for p in page]
    tables = SOURCE.plans(options)["statements"].run(payloads, [1], Settings("bank", options.model_dump())).tables

    def no_rates(currency: str, base: str, day: date) -> Any:
        raise LookupError(currency)

    made = journal.post(RULES["bank_transaction"], tables, base="EUR", zone="Europe/Dublin", rates=no_rates)
    assert [(x["role"], x["amount_minor"]) for x in made.lines.to_pylist()] == [
        (f"bank:{IBAN}", -250),
        ("uncategorised_expense", 250),
    ]
