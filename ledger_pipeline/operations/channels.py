"""How a message leaves: Slack-compatible webhooks, any HTTP address, e-mail by SMTP. An address is a secret: no error has it."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any, Protocol

import requests

from ledger_pipeline import config as configuration
from ledger_pipeline.connect.redact import Redactor, remember, remember_address
from ledger_pipeline.model.alert import Alert, Severity
from ledger_pipeline.operations.settings import (
    IN_THE_CLEAR,
    AlertsConfig,
    EmailChannel,
    HttpChannel,
    SlackChannel,
    is_in_the_clear,
    one_line,
)

TIMEOUT_SECONDS = 10
SENTENCE = 700
"""Characters of a sentence that a message carries."""
SUMMARY_LINE, SUMMARY_LENGTH = 240, 12_000
"""Characters of a line of a summary, and of a whole one; a longer one becomes several messages."""
_redact = Redactor()


class AlertFailed(Exception):
    """A channel didn't take a message; says why without its address, which is a key in many chats."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a subject of one line, the text, and the alerts that it tells of."""

    subject: str
    text: str
    alerts: tuple[Alert, ...]


class Sender(Protocol):
    """Sends one message or raises AlertFailed."""

    def __call__(self, message: Message) -> None: ...


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel at work: what it takes, how it words it, how it sends."""

    name: str
    min_severity: Severity
    text: str
    subject: str
    send: Sender

    def takes(self, alert: Alert) -> bool:
        """False for a warning where only errors are wanted."""
        return self.min_severity == "warning" or alert.severity == "error"

    def of_one(self, alert: Alert, repeats: int = 0) -> Message:
        """The channel's template, filled; `repeats` is how often the same was noticed since the last message about it."""
        return Message(filled(self.subject, alert, repeats), filled(self.text, alert, repeats), (alert,))

    def of_many(self, alerts: Sequence[Alert]) -> list[tuple[Message, int]]:
        """A summary that names each, in as many messages as it takes: (message, how many alerts it names)."""
        parts: list[list[Alert]] = [[]]
        length = 0
        for alert in alerts:
            size = len(_line(alert)) + 1
            if parts[-1] and length + size > SUMMARY_LENGTH:
                parts.append([])
                length = 0
            parts[-1].append(alert)
            length += size
        made = []
        for number, part in enumerate(parts, 1):
            of = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
            head = f"{len(alerts)} alerts in one message{of}"
            text = "\n".join([f"{head}:", *(_line(alert) for alert in part)])
            made.append((Message(f"[ledger] {head}", text, tuple(part)), len(part)))
        return made


def _line(alert: Alert) -> str:
    who = ", ".join(part for part in (alert.connection, alert.partition) if part) or "–"
    return one_line(f"- {alert.title}: {who}. {_redact(alert.sentence)}")[:SUMMARY_LINE] + (
        f" {alert.link}" if alert.link else ""
    )


def filled(template: str, alert: Alert, repeats: int = 0) -> str:
    """A template with an alert's fields, redacted."""
    fields = alert.fields() | {"sentence": _redact(alert.sentence)[:SENTENCE]}
    more = f" (and {repeats} times more since the last message)" if repeats else ""
    return template.format(**fields, repeats=more).strip()


def opened(name: str, one: SlackChannel | HttpChannel | EmailChannel) -> Channel | None:
    """A channel with its `${…}` read now; None when it has no address. Raises ConfigError when a variable isn't set."""
    settings: dict[str, Any] = configuration.resolve(one.model_dump(exclude={"text", "subject"}))
    if isinstance(one, EmailChannel):
        if not settings["host"]:
            return None
        if is_in_the_clear(settings["host"], settings["security"], settings["password"]):
            raise configuration.ConfigError([f"alert channel {name}: password: {IN_THE_CLEAR}"])
        return Channel(name, one.min_severity, one.text, one.subject, _Mail(settings))
    if not settings["url"]:
        return None
    send: Sender = (
        _Slack(settings["url"]) if isinstance(one, SlackChannel) else _Http(settings["url"], settings["headers"])
    )
    return Channel(name, one.min_severity, one.text, "", send)


def unavailable(name: str, min_severity: Severity, why: str) -> Channel:
    """A channel that can't be opened: it takes nothing, and says why."""

    def refuse(message: Message) -> None:
        raise AlertFailed(why)

    return Channel(name, min_severity, "{title}", "", refuse)


def open_channels(config: AlertsConfig) -> list[Channel]:
    """The channels that have an address; one whose variable isn't set is there, too, and takes nothing."""
    found = []
    for name, one in config.named():
        try:
            channel = opened(name, one)
        except configuration.ConfigError as error:
            channel = unavailable(name, one.min_severity, str(error))
        if channel is not None:
            found.append(channel)
    return found


class _Slack:
    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, message: Message) -> None:
        _post(self._url, {"text": escaped(message.text)}, {})


class _Http:
    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url, self._headers = url, headers

    def __call__(self, message: Message) -> None:
        alerts = [{**alert.fields(), "sentence": _redact(alert.sentence)} for alert in message.alerts]
        single = alerts[0] if len(alerts) == 1 else {}
        old_names = {"error": single["sentence"]} if single else {}  # what the first version called it
        _post(self._url, {"text": message.text, **single, **old_names, "alerts": alerts}, self._headers)


class _Mail:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._of = settings

    def __call__(self, message: Message) -> None:
        mail = EmailMessage()
        mail["Subject"] = one_line(message.subject)[:200]
        mail["From"] = self._of["sender"]
        mail["To"] = ", ".join(self._of["to"])
        mail.set_content(message.text)
        remember([self._of["password"]])
        try:
            with self._server() as server:
                if self._of["security"] == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if self._of["user"]:
                    server.login(self._of["user"], self._of["password"])
                refused = server.send_message(mail)
        except smtplib.SMTPResponseException as error:
            raise AlertFailed(f"the mail server answered {error.smtp_code}") from None
        except ssl.SSLCertVerificationError as error:
            raise AlertFailed(f"the mail server's certificate is refused: {error.verify_message}") from None
        except ssl.SSLError as error:
            why = f"TLS with the mail server failed ({error.reason}); is `security: {self._of['security']}` right for its port?"
            raise AlertFailed(why) from None
        except smtplib.SMTPNotSupportedError as error:
            raise AlertFailed(f"the mail server can't do what is asked: {error}") from None
        except (OSError, smtplib.SMTPException) as error:
            raise AlertFailed(f"the mail server was not reached ({type(error).__name__})") from None
        if refused:
            raise AlertFailed(f"the mail server refused {len(refused)} of {len(self._of['to'])} recipients")

    def _server(self) -> smtplib.SMTP:
        where = {"host": self._of["host"], "port": self._of["port"], "timeout": TIMEOUT_SECONDS}
        if self._of["security"] == "tls":
            return smtplib.SMTP_SSL(**where, context=ssl.create_default_context())
        return smtplib.SMTP(**where)


def _post(url: str, body: dict[str, Any], headers: dict[str, str]) -> None:
    try:
        remember_address(url)
        answer = requests.post(url, json=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except (requests.RequestException, UnicodeError) as error:
        raise AlertFailed(f"the address was not reached ({type(error).__name__})") from None
    if not 200 <= answer.status_code < 300:
        raise AlertFailed(f"the address answered {answer.status_code}")


def escaped(text: str) -> str:
    """As Slack wants it: nothing in an error can call a whole channel together."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
