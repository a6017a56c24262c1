"""E-mail over TLS against a real mail server with a certificate of its own: both kinds of TLS, a refused certificate, a refused password."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ledger_pipeline.operations.delivery import raise_alerts
from ledger_pipeline.operations.settings import AlertsConfig
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.operations.test_delivery import Clock, alert, rows

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # it is inside TLS already
USER, PASSWORD = "ledger", "smtp-secret-password"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@dataclass
class Box:
    """What the server took, and the passwords that it was told."""

    port: int = 0
    mails: list[Message] = field(default_factory=list)
    passwords: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


class _Server(Controller):
    """On a port that the system chooses; the base class looks whether it is up at the port that it was told."""

    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(certificate: Path, security: str) -> Iterator[Box]:
    """A mail server on loopback that takes a login, and nothing before TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    box = Box()

    def login(server: Any, session: Any, envelope: Any, mechanism: str, told: LoginPassword) -> AuthResult:
        box.passwords.append(told.password.decode())
        return AuthResult(success=(told.login, told.password) == (USER.encode(), PASSWORD.encode()), handled=False)

    how: dict[str, Any] = {"hostname": "127.0.0.1", "port": 0, "authenticator": login, "auth_required": True}
    if security == "tls":
        controller = _Server(box, ssl_context=context, auth_require_tls=False, **how)
    elif security == "starttls":
        controller = _Server(box, tls_context=context, require_starttls=True, **how)
    else:
        controller = _Server(box, **how)
    controller.start()
    try:
        box.port = controller.port
        yield box
    finally:
        controller.stop()


def config(box: Box, security: str, password: str = PASSWORD) -> AlertsConfig:
    channel = {
        "type": "email", "name": "books-mail", "host": "127.0.0.1", "port": box.port, "security": security, "user": USER,
        "password": password, "sender": "books@x.example", "to": ["ann@x.example"],
    }  # fmt: skip
    return AlertsConfig.model_validate({"channels": [channel]})


STATE = "SELECT channel, state, attempts, error FROM ops.alert_delivery"


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_is_sent_with_login_over_tls(
    security: str, certificate: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with mail_server(certificate, security) as box:
        raise_alerts(database, config(box, security), [alert()], Clock())
    assert [mail["Subject"] for mail in box.mails] == ["[ledger] A run failed: stripe_us 2026-10-05"]
    assert box.passwords == [PASSWORD]
    assert rows(database, STATE) == [("books-mail", "sent", 1, "")]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_is_refused_and_no_password_sent(
    security: str, certificate: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with mail_server(certificate, security) as box, caplog.at_level(logging.ERROR):
        raise_alerts(database, config(box, security), [alert()], Clock())
    said = "the mail server's certificate is refused: self-signed certificate"
    assert rows(database, STATE) == [("books-mail", "pending", 1, said)]
    assert f"alert channel books-mail: {said}" in caplog.text
    assert (box.mails, box.passwords) == ([], [])
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize(
    ("offers", "asks", "said"),
    [
        ("none", "starttls", "the mail server can't do what is asked: STARTTLS extension not supported by server."),
        ("starttls", "tls", "TLS with the mail server failed (WRONG_VERSION_NUMBER); is `security: tls` right for its port?"),
        ("starttls", "starttls", "the mail server answered 535"),
    ],
)  # fmt: skip
def test_what_else_goes_wrong_is_said_without_the_password(
    offers: str, asks: str, said: str, certificate: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with mail_server(certificate, offers) as box:
        raise_alerts(database, config(box, asks, "wrong-password"), [alert()], Clock())
    assert rows(database, STATE) == [("books-mail", "pending", 1, said)]
    assert box.mails == []
    assert set(box.passwords) == ({"wrong-password"} if "535" in said else set())
