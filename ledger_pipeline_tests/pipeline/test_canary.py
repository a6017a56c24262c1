"""Nights over planted secrets and personal data, good and bad ones: what is written anywhere but in the declared columns has none of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from psycopg import sql
from typer.testing import CliRunner

from ledger_pipeline.cli import app
from ledger_pipeline.cli_support import lines_of
from ledger_pipeline.config import ConfigError
from ledger_pipeline.connect.auth import FileTokenStore, OAuth2Refresh
from ledger_pipeline.connect.client import Client
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.connect.redact import Secret
from ledger_pipeline.orchestration import nights
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.secrets.keeper import keeper
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.webhooks.serve import receiving

DAY = date(2026, 10, 5)
NAME, EMAIL, PHONE = "Zebulon Quagmire", "zebulon.quagmire@example.net", "+447700900461"
STREET, IBAN = "17 Larkspur Crescent", "GB33BUKB20201555555555"
PERSONAL = (NAME, "Zebulon", "Quagmire", EMAIL, PHONE, STREET, IBAN)
SECRETS = {
    "STRIPE_OK": "sk_test_cnry0ok", "STRIPE_REFUSED": "sk_test_cnry1refused", "STRIPE_DOWN": "sk_test_cnry2down",
    "STRIPE_AWAY": "rk_test_cnry3away", "SHOP_TOKEN": "shpat_cnry4shop", "PLAID_CLIENT": "cnry5client",
    "PLAID_SECRET": "cnry6secret", "PLAID_TOKEN": "access-sandbox-cnry7token", "HOOK": "cnry8hook", "DB_PASSWORD": "cnry9password",
    "IN_NEW": "whsec_cnry10in", "IN_OLD": "whsec_cnry11in", "OUT_PATH": "cnry12path", "GONE_PATH": "cnry13path",
    "OUT_NEW": "whsec_" + base64.b64encode(b"cnry14" * 4).decode(), "OUT_OLD": "whsec_" + base64.b64encode(b"cnry15" * 4).decode(),
    "SMTP_PASSWORD": "cnry16smtp", "ALERT_HEADER": "cnry17header", "VAULT_TOKEN": "hvs.cnry18vault", "PROXY_PASSWORD": "cnry19proxy",
    "ACCESS": "cnry20access", "REFRESH": "cnry21refresh", "ROTATED": "cnry22rotated", "CLIENT_SECRET": "cnry23client",
}  # fmt: skip
CANARY = re.compile("|".join(map(re.escape, [*PERSONAL, *SECRETS.values()])), re.IGNORECASE)

DECLARED = {
    "raw.record.payload": "what the source sent, exactly; it is the evidence",
    "raw.file.content": "a delivered file, exactly",
    "staging.packed.columns": "the staged columns of this list once more, as Arrow",
    "staging.bank_transaction.description": "the bank's words, by which a line is categorised and matched",
    "staging.bank_transaction.reference": "the payer's reference, by which a line is matched",
    "staging.processor_transaction.description": "the processor's words, which a person sees beside an open item",
    "staging.sale_line.title": "what was sold, as the till or the shop says it",
}
"""Columns that may hold personal data (docs/secrets.md says the same). No column may hold a secret."""

CONFIG = """\
environment: sandbox
retries: {{max_retries: 0}}
database_url: {database}
data_folder: {folder}/data
entities:
  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}
connections:
  stripe_ok: {{entity: acme, source: stripe, base_url: {url}/stripe_ok, api_key: "${{STRIPE_OK}}", webhook_secrets: ["${{IN_NEW}}", "${{IN_OLD}}"]}}
  stripe_refused: {{entity: acme, source: stripe, is_sandbox: false, base_url: {url}/refused, api_key: "${{file:{folder}/stripe_refused}}"}}
  stripe_down: {{entity: acme, source: stripe, is_sandbox: false, base_url: {url}/down, api_key: "${{vault:secret/books#key}}"}}
  stripe_locked: {{entity: acme, source: stripe, is_sandbox: false, base_url: {url}/down, api_key: "${{vault:secret/locked#key}}"}}
  stripe_away: {{entity: acme, source: stripe, is_sandbox: false, base_url: {url}/away, api_key: "${{STRIPE_AWAY}}"}}
  shop: {{entity: acme, source: shopify, is_sandbox: false, shop_url: {url}/shop, access_token: "${{SHOP_TOKEN}}"}}
  plaid:
    entity: acme
    source: plaid
    base_url: {url}/plaid
    client_id: "${{PLAID_CLIENT}}"
    secret: "${{PLAID_SECRET}}"
    access_token: "${{PLAID_TOKEN}}"
  bank: {{entity: acme, source: bank_file, folder: {folder}/inbox/bank}}
  stall:
    entity: acme
    source: delimited_file
    folder: {folder}/inbox/stall
    map:
      record: sale
      group_by: no
      columns: {{occurred_at: {{column: at}}, quantity: n, unit_price: price, gateway: paid_by, title: what}}
      currency: currency
alerts:
  webhook_url: {url}/alerts/${{HOOK}}
  channels:
    - {{type: email, host: 127.0.0.1, port: {mail_port}, security: none, user: books, password: "${{SMTP_PASSWORD}}", sender: a@x.example, to: [b@x.example]}}
    - {{type: http, url: "{url}/down/${{HOOK}}", headers: {{Authorization: "Bearer ${{ALERT_HEADER}}"}}}}
events:
  out: {{url: "{url}/down/${{OUT_PATH}}", secrets: ["${{OUT_NEW}}", "${{OUT_OLD}}"]}}
  gone: {{url: "{url}/gone/${{GONE_PATH}}", secrets: ["${{OUT_NEW}}", "${{OUT_OLD}}"]}}
"""


# what the systems answer -------------------------------------------------------------------------------------------------


def charge(number: int, **odd: Any) -> dict[str, Any]:
    """A balance transaction with the customer behind it."""
    person = {"name": NAME, "email": EMAIL, "phone": PHONE, "address": {"line1": STREET}}
    source = {
        "id": f"ch_{number}",
        "object": "charge",
        "amount": 1000,
        "currency": "usd",
        "billing_details": person,
        "metadata": {},
    }
    return {
        "id": f"txn_{number}", "object": "balance_transaction", "amount": 1000, "fee": 59, "net": 941, "currency": "usd",
        "type": "charge", "reporting_category": "charge", "created": 1791201600 + number, "description": f"Order for {NAME}, {EMAIL}",
        "source": source, "exchange_rate": None, **odd,
    }  # fmt: skip


def line(number: int, **odd: Any) -> dict[str, Any]:
    """A bank line of a person's payment."""
    return {
        "transaction_id": f"t{number}", "account_id": "acc1", "date": DAY.isoformat(), "pending": False, "amount": -12.5,
        "iso_currency_code": "USD", "unofficial_currency_code": None, "name": f"PAYMENT FROM {NAME} {IBAN}", **odd,
    }  # fmt: skip


CHARGES = [
    charge(1),
    charge(2, currency=NAME),
    charge(3, type=EMAIL),
    charge(4, amount=PHONE),
]
LINES = [line(1), line(2, iso_currency_code=IBAN), line(3, date=f"{NAME}, {STREET}"), line(4, date=PHONE)]
ACCOUNTS = [
    {"account_id": "acc1", "balances": {"current": 12.5, "iso_currency_code": "USD", "unofficial_currency_code": None}}
]


def answer(path: str, headers: dict[str, str], body: str) -> tuple[int, Any, dict[str, str]]:
    """(status, JSON, headers); systems that fail say all that they were told, and about whom."""
    told = (
        " ".join(headers.get(name, "") for name in ("Authorization", "X-Shopify-Access-Token", "X-Vault-Token"))
        + f" {body}"
    )
    echo = {
        "error": {
            "message": f"it fails for {EMAIL} {IBAN} {PHONE}",
            "api_key": told,
            "told": told,
            "url": f"{path}?api_key={told}",
        }
    }
    system, what = path.split("/")[1], path.rpartition("/")[2].partition("?")[0]
    if system == "stripe_ok":
        return 200, {"data": CHARGES if what == "balance_transactions" else [], "has_more": False}, {}
    if system == "plaid" and what == "sync":
        return 200, {"added": LINES, "modified": [], "removed": [], "has_more": False, "next_cursor": "c1"}, {}
    if system == "plaid":
        return 200, {"accounts": ACCOUNTS}, {}
    if system == "shop":
        return (
            200,
            {
                "errors": [
                    {"message": f"token {told} of {EMAIL}", "path": ["orders"], "extensions": {"code": "ACCESS_DENIED"}}
                ]
            },
            {},
        )
    if system == "vault" and what == "books":
        return 200, {"data": {"data": {"key": SECRETS["STRIPE_DOWN"]}, "metadata": {"version": 1}}}, {}
    if system == "oauth":
        return oauth(what, body, echo)
    if system == "away":
        return 302, echo, {"Location": f"http://localhost:9/{told.split()[-1]}?token={told.split()[-1]}"}
    return (
        {"refused": 401, "down": 500, "alerts": 200, "vault": 403, "gone": 410}[system],
        echo,
        {"X-Echo": told.strip().replace("\n", "")},
    )


def oauth(what: str, body: str, echo: Any) -> tuple[int, Any, dict[str, str]]:
    """Tokens for the first refresh token; a refusal that repeats everything for the next; an API that fails."""
    if what == "token" and SECRETS["REFRESH"] in body:
        return 200, {"access_token": SECRETS["ACCESS"], "refresh_token": SECRETS["ROTATED"], "expires_in": 3600}, {}
    if what == "token":
        return 400, {"error": "invalid_grant", "error_description": f"it was {body}"}, {}
    return 401 if what == "expired" else 500, echo, {}


@dataclass
class Systems:
    """All of them on loopback, and the alerts that they got."""

    url: str = ""
    alerts: list[str] = field(default_factory=list)


@pytest.fixture
def systems() -> Iterator[Systems]:
    made = Systems()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if self.path.startswith("/alerts"):
                assert self.path == f"/alerts/{SECRETS['HOOK']}"
                made.alerts.append(body)
            status, content, more = answer(self.path, dict(self.headers), body)
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(data))}.items():
                self.send_header(name, value.replace("\n", " "))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join(5)


def with_password(database: Database) -> str:
    """The same server by a URL with a password in it; its socket takes any."""
    parts = urlsplit(database.url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user.partition(':')[0]}:${{DB_PASSWORD}}@{host}").geturl()


def deliver(folder: Path) -> None:
    """A statement with people in it, one that is none, and a day of receipts of which too many are bad."""
    (folder / "inbox" / "bank").mkdir(parents=True)
    (folder / "inbox" / "stall").mkdir()
    tag = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"
    text = f"""<Document xmlns="{tag}"><BkToCstmrStmt><Stmt><Id>S1</Id><CreDtTm>{DAY}T20:00:00+00:00</CreDtTm>
<Acct><Id><IBAN>GB82WEST12345698765432</IBAN></Id><Ccy>USD</Ccy></Acct>
<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="USD">0</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{DAY}</Dt></Dt></Bal>
<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="USD">5</Amt><CdtDbtInd>CRDT</CdtDbtInd><Dt><Dt>{DAY}</Dt></Dt></Bal>
<Ntry><Amt Ccy="USD">5</Amt><CdtDbtInd>CRDT</CdtDbtInd><Sts>BOOK</Sts><BookgDt><Dt>{DAY}</Dt></BookgDt>
<NtryDtls><TxDtls><Refs><EndToEndId>{NAME}</EndToEndId></Refs><RltdPties><Dbtr><Nm>{NAME}</Nm></Dbtr></RltdPties>
<RmtInf><Ustrd>{NAME} {IBAN} {STREET}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>
</Stmt></BkToCstmrStmt></Document>"""
    (folder / "inbox" / "bank" / f"{DAY}.xml").write_text(text)
    (folder / "inbox" / "bank" / f"{DAY}-amount.xml").write_text(text.replace('"USD">5', f'"USD">{NAME}'))
    (folder / "inbox" / "bank" / f"{DAY}-date.xml").write_text(
        text.replace(f"<BookgDt><Dt>{DAY}", f"<BookgDt><Dt>{STREET}")
    )
    (folder / "inbox" / "bank" / f"{DAY}-odd.xml").write_text(f"{NAME} {IBAN}")
    (folder / "inbox" / "bank" / f"{DAY}.ofx").write_text(f"OFXHEADER:100\nDATA:OFXSGML\n\n<OFX><{NAME}>{IBAN}</OFX>")
    good = [f"{n},{DAY}T10:00:00+00:00,1,2.00,cash,Print for {NAME},USD" for n in range(20)]
    odd = [
        "{},{}T10:00:00+00:00,1,2.00,cash,x,USD",
        "{},{}T10:00:00+00:00,1,{name},cash,x,USD",
        "{},{}T10:00:00+00:00,{email},2.00,cash,x,USD",
    ]
    odd += [
        "{},{name},1,2.00,cash,x,USD",
        "{},{}T10:00:00+00:00,1,2.00,cash,x,{name}",
        "{},{}T10:00:00+00:00,1,2.00,{phone},x,USD,more",
    ]
    odd += ["{},{}T10:00:00+00:00,1,{iban},cash,x,USD", "{},{}T10:00:00+00:00,1,{street},cash,x,USD"]
    who = {"name": NAME, "email": EMAIL, "phone": PHONE, "iban": IBAN, "street": STREET}
    bad = [text.format(n, DAY, **who) for n, text in enumerate(odd, 30)]
    (folder / "inbox" / "stall" / f"{DAY}.csv").write_text(
        "\n".join(["no,at,n,price,paid_by,what,currency", *good, *bad]) + "\n"
    )


# where it is looked for --------------------------------------------------------------------------------------------------


def in_text(where: str, text: str) -> set[str]:
    """Findings as `where: canary`."""
    return {f"{where}: {found}" for found in CANARY.findall(text)}


_TEXTS = """
    SELECT table_schema, table_name, column_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
     WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
       AND data_type NOT IN ('bigint', 'integer', 'boolean', 'date', 'timestamp with time zone', 'timestamp without time zone')
"""


def in_database(name: str, database: Database, declared: frozenset[str] = frozenset()) -> set[str]:
    """Every column of every table that can hold text; personal data may stand in the declared ones, secrets nowhere."""
    found: set[str] = set()
    with psycopg.connect(database.url, autocommit=True) as connection:
        for schema, table, column in connection.execute(_TEXTS).fetchall():
            place = f"{schema}.{table}.{column}"
            query = sql.SQL("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL").format(
                sql.Identifier(column), sql.Identifier(schema, table)
            )
            for (text,) in connection.execute(query):
                plain = bytes.fromhex(text[2:]).decode(errors="replace") if text.startswith("\\x") else text
                for canary in CANARY.findall(plain):
                    if place not in declared or canary in SECRETS.values():
                        found.add(f"{name} {place}: {canary}")
    return found


def in_folder(folder: Path) -> set[str]:
    """Every file below."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        one
        for path in files
        for one in in_text(str(path.relative_to(folder)), path.read_bytes().decode(errors="replace"))
    }


@dataclass
class Office:
    """The configuration, and everything that its nights wrote."""

    folder: Path
    systems: Systems
    database: Database
    logged: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)

    @property
    def dagster(self) -> Database:
        return self.database.with_name("dagster")

    def book(self, *names: str) -> list[nights.Ran]:
        """A night of these connections (all) and the books, as `sync` does it, in this process."""
        runtime = Runtime.from_file(self.folder / "ledger.yaml")
        with nights.instance(runtime) as instance:
            work = nights.Nights(runtime, self.folder / "ledger.yaml", instance)
            return [*(work.connection(name, DAY) for name in names or runtime.config.connections), work.books(DAY)]

    def command(self, *arguments: str) -> None:
        """A command's output, and what it says about an error."""
        result = CliRunner().invoke(app, [*arguments, "--config", str(self.folder / "ledger.yaml")])
        self.printed.append(f"{arguments}: {result.output}")
        if isinstance(result.exception, Exception):
            self.printed += lines_of(result.exception) or [repr(result.exception)]

    def leaks(self) -> list[str]:
        """All findings, by place."""
        found = in_database("books", self.database, frozenset(DECLARED)) | in_database("dagster", self.dagster)
        found |= in_folder(self.folder / "data")
        for where, texts in (("log", self.logged), ("output", self.printed), ("alert", self.systems.alerts)):
            found |= {one for text in texts for one in in_text(where, text)}
        return sorted(found)


class Recorder(logging.Handler):
    """Keeps every record of every logger as a formatter would write it, with its traceback."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self.texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


class MailServer(Controller):
    """Refuses every login, and repeats it."""

    def __init__(self) -> None:
        super().__init__(self, "127.0.0.1", 0, authenticator=self._refuse, auth_require_tls=False, auth_required=True)

    def _refuse(self, server: Any, session: Any, envelope: Any, mechanism: str, told: LoginPassword) -> AuthResult:
        return AuthResult(success=False, handled=False, message=f"535 {told.login!r} {told.password!r} is refused")

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mail_port() -> Iterator[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a login without TLS
        server = MailServer()
        server.start()
    yield server.port
    server.stop()


@pytest.fixture
def office(
    tmp_path: Path, database: Database, systems: Systems, mail_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Office]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VAULT_ADDR", f"{systems.url}/vault")
    monkeypatch.setattr(logging.getLogger("mail.log"), "propagate", False)  # the mail server's own
    keeper.forget()
    (tmp_path / "stripe_refused").write_text(SECRETS["STRIPE_REFUSED"] + "\n")
    (tmp_path / "stripe_refused").chmod(0o400)
    text = CONFIG.format(folder=tmp_path, url=systems.url, mail_port=mail_port, database="{database}").replace(
        "{database}", with_password(database)
    )
    (tmp_path / "ledger.yaml").write_text(text)
    deliver(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setitem(Client.__init__.__kwdefaults__ or {}, "sleep", lambda _: None)
    made = Office(tmp_path, systems, database)
    recorder, root = Recorder(made.logged), logging.getLogger()
    level = root.level
    root.addHandler(recorder)
    root.setLevel(logging.DEBUG)
    yield made
    keeper.forget()
    root.removeHandler(recorder)
    root.setLevel(level)


def refuse_people(database: Database) -> None:
    """From now on PostgreSQL refuses rows with the name in them, and says the whole row."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(
            f"ALTER TABLE staging.bank_transaction ADD CHECK (description NOT LIKE '%{NAME}%') NOT VALID"
        )


@pytest.mark.slow
def test_no_secret_and_no_personal_datum_leaves_the_declared_columns(
    office: Office, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = {ran.connection for ran in office.book() if not ran.is_success}
    assert failed == {"stripe_refused", "stripe_down", "stripe_away", "stripe_locked", "shop", "stall"}
    refuse_people(office.database)
    assert {ran.connection for ran in office.book("plaid", "bank") if not ran.is_success} == {"plaid", "bank"}
    office.command("quarantine")
    for command in ("quarantine", "fates", "measures", "trial-balance", "verify", "open-items"):
        office.command(command, "--json")
    told_before = len(office.systems.alerts)
    outside_the_nights(office, monkeypatch)
    office.printed += capfd.readouterr()
    with psycopg.connect(office.database.url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT connection) FROM ops.quarantine").fetchone()
        assert row is not None
        assert row[0] >= 10  # the planted mapping faults were met
        assert row[1] == 4
        errors = connection.execute(
            "SELECT DISTINCT channel, error FROM ops.alert_delivery WHERE state <> 'sent' ORDER BY 1"
        ).fetchall()
        assert {("email", "the mail server answered 535"), ("http", "the address answered 500")} < set(errors)
        assert ("http", "the address was not reached (ProxyError)") in errors
        assert connection.execute("SELECT DISTINCT endpoint, status FROM ops.delivery ORDER BY 1").fetchall() == [("gone", 410), ("out", None), ("out", 500)]  # fmt: skip
        assert connection.execute("SELECT count(*) FROM ops.webhook_event").fetchone() == (2,)
    assert told_before == len(failed) + 2
    assert len(office.systems.alerts) > told_before, "the endpoint that is gone was told"
    assert office.leaks() == []
    prove_that_leaks_are_found(office)


def outside_the_nights(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events out, webhooks in, health and heartbeat; then again with a proxy that isn't there."""
    commands = (
        ("events", "deliver"), ("events", "list", "--json"), ("webhooks", "status", "--json"), ("health", "--json"), ("heartbeat",),
        ("log", "--json"), ("config", "check"), ("duplicates", "--json"),
    )  # fmt: skip
    receive_webhooks(office)
    for command in commands:
        office.command(*command)
    monkeypatch.setenv("HTTP_PROXY", f"http://books:{SECRETS['PROXY_PASSWORD']}@127.0.0.1:9")
    with psycopg.connect(office.database.url, autocommit=True) as connection:
        connection.execute("UPDATE ops.outbox SET due_at = now() - interval '1 day' WHERE state = 'pending'")
        connection.execute("UPDATE ops.alert_delivery SET next_at = now() - interval '1 day'")
    for command in commands:
        office.command(*command)
    monkeypatch.delenv("HTTP_PROXY")
    office.command("events", "deliver")


def receive_webhooks(office: Office) -> None:
    """Signed with each live secret; then unsigned, wrongly signed, and with a secret where none belongs."""
    with receiving(office.folder / "ledger.yaml", office.database) as serving:
        for number, secret in enumerate((SECRETS["IN_NEW"], SECRETS["IN_OLD"])):
            body = json.dumps({"id": f"evt_{number}", "type": "charge.succeeded", "created": int(time.time())}).encode()
            now = int(time.time())
            signature = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
            signed = {"Stripe-Signature": f"t={now},v1={signature}"}
            assert requests.post(f"{serving.url}/stripe_ok", body, headers=signed, timeout=10).status_code == 200
            for headers in ({}, {"Stripe-Signature": f"t={now},v1={secret}"}, {"Stripe-Signature": secret}):
                answer = requests.post(f"{serving.url}/stripe_ok", secret.encode(), headers=headers, timeout=10)
                assert answer.status_code in (400, 401)
                office.printed.append(answer.text)


def prove_that_leaks_are_found(office: Office) -> None:
    """A leak in each place is named."""
    with psycopg.connect(office.database.url, autocommit=True) as connection:
        connection.execute(
            "UPDATE ops.quarantine SET reason = %s WHERE quarantine_id = (SELECT min(quarantine_id) FROM ops.quarantine)",
            (EMAIL,),
        )
        connection.execute("UPDATE staging.processor_transaction SET role = %s", (SECRETS["PLAID_TOKEN"],))
    with psycopg.connect(office.dagster.url, autocommit=True) as connection:
        connection.execute("UPDATE run_tags SET value = %s WHERE id = (SELECT max(id) FROM run_tags)", (IBAN,))
    (office.folder / "data" / "step.err").write_text(STREET)
    office.logged.append(SECRETS["STRIPE_OK"])
    office.printed.append(NAME)
    office.systems.alerts.append(PHONE)
    found = " ".join(office.leaks())
    for expected in (
        "books ops.quarantine.reason",
        "staging.processor_transaction.role",
        "dagster public.run_tags.value",
        "step.err",
        "log: sk_test",
        "output: Zeb",
        "alert: +44",
    ):
        assert expected in found


# what can't be reached by a night -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:cnry9password@127.0.0.1:9/books",
        "postgresql://app:cnry9password/x@127.0.0.1:9/books",
        "postgresql://app:cnry9password@127.0.0.1:nine/books",
        "postgres ql://app:cnry9password@127.0.0.1:9/books",
        "host=127.0.0.1 port=9 password=cnry9password what",
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_password(url: str, tmp_path: Path) -> None:
    (tmp_path / "ledger.yaml").write_text(
        f'database_url: "{url}"\nentities:\n  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}\nconnections: {{}}\n'
    )
    with pytest.raises(Exception) as error:  # noqa: PT011 - which one differs
        _ = Runtime.from_file(tmp_path / "ledger.yaml").database
    told = "".join(traceback.format_exception(error.value)) + repr(Database(url))
    assert "cnry9" not in told
    assert isinstance(error.value, ConfigError | psycopg.OperationalError)


@pytest.mark.parametrize("path", ["failing", "expired"])
def test_an_oauth_connection_that_fails_tells_no_token(
    path: str, systems: Systems, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The API fails with both tokens in use, or they are refused and so is the one that would renew them."""
    auth = OAuth2Refresh(
        *("books", f"{systems.url}/oauth/token", "client", Secret(SECRETS["CLIENT_SECRET"]), FileTokenStore(tmp_path)),
        client_auth="body",
        first=Secret(SECRETS["REFRESH"]),
    )
    client = Client("books", f"{systems.url}/oauth", auth=auth, sleep=lambda _: None)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectError) as error:
        client.get(f"/{path}")
    logging.getLogger("books").error("it failed", exc_info=error.value)
    told = "".join(traceback.format_exception(error.value)) + repr((auth, client)) + caplog.text
    assert SECRETS["ROTATED"] in "".join(file.read_text() for file in tmp_path.rglob("*") if file.is_file())
    assert in_text("oauth", told) == set()
