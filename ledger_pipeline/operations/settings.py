"""What ledger.yaml says about running the nights: channels of alerts, freshness, retries, health. Read by `config`."""

from __future__ import annotations

import re
from string import Formatter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ledger_pipeline.connect.environments import is_loopback
from ledger_pipeline.model.alert import FIELDS, Severity

TEXT = "{title}: {connection}, {partition}. {sentence} {link}{repeats}"
SUBJECT = "[ledger] {title}: {connection} {partition}"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def checked_template(text: str) -> str:
    """A template that names known fields and nothing inside them; raises ValueError with the known ones."""
    known = ", ".join(FIELDS)
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"no template: {error}; known fields are {known}") from None
    for _, name, form, conversion in parsed:
        if name is None:
            continue
        if name not in FIELDS:
            raise ValueError(f"unknown field {{{name}}} in a template; known are {known}")
        if form or conversion:
            raise ValueError(f"{{{name}}} takes no format in a template")
    return text


class _Channel(_Model):
    name: str = ""
    """Names it in the table of deliveries; its type when empty."""
    min_severity: Severity = "warning"
    """`error` leaves warnings out."""
    text: str = TEXT

    @field_validator("text", "subject", check_fields=False)
    @classmethod
    def _known_fields(cls, value: str) -> str:
        return checked_template(value)


class SlackChannel(_Channel):
    """An incoming webhook of Slack, Mattermost or what else takes `{"text": …}`. Empty `url`: switched off."""

    type: Literal["slack"]
    url: str


class HttpChannel(_Channel):
    """Any HTTP address: POST of a JSON object with `text` and all fields. Empty `url`: switched off."""

    type: Literal["http"]
    url: str
    headers: dict[str, str] = {}


class EmailChannel(_Channel):
    """A message by SMTP. Empty `host`: switched off."""

    type: Literal["email"]
    host: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str = ""
    password: str = ""
    sender: str
    to: tuple[str, ...] = Field(min_length=1)
    subject: str = SUBJECT

    @field_validator("password")
    @classmethod
    def _is_encrypted(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("host", "")
        if "${" not in host and is_in_the_clear(host, info.data.get("security", ""), value):
            raise ValueError(IN_THE_CLEAR)
        return value


IN_THE_CLEAR = "security: none would send it unencrypted to another machine; set security to starttls or tls, or leave out user and password"


def is_in_the_clear(host: str, security: str, password: str) -> bool:
    """A password would go over the network unencrypted; loopback is no network, and an empty host is no channel."""
    return bool(password and host) and security == "none" and not is_loopback(host)


CHANNELS: dict[str, type[BaseModel]] = {"slack": SlackChannel, "http": HttpChannel, "email": EmailChannel}
Channel = Annotated[SlackChannel | HttpChannel | EmailChannel, Field(discriminator="type")]


class AlertsConfig(_Model):
    """Who hears of what goes wrong, besides the log."""

    webhook_url: str = ""
    """Short for one channel of type http."""
    ui_url: str = ""
    """Where the Dagster UI is, for links and the heartbeat (http://127.0.0.1:3000)."""
    channels: tuple[Channel, ...] = ()
    same_minutes: int = Field(default=60, ge=0)
    """What repeats within so many minutes is counted, not sent again."""
    messages_per_ten_minutes: int = Field(default=10, ge=1)
    """Per channel; what is more comes as one summary that names each."""
    check_severity: Severity = "error"
    """`warning` also alerts failed checks that only warn."""
    stuck_minutes: int = Field(default=30, ge=1)
    """A run without an event for so long is stuck."""
    long_run_minutes: int = Field(default=180, ge=1)
    """A run that takes longer is, too."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> AlertsConfig:
        names = [name for name, _ in self.named()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two channels are called {twice[0]!r}; give each a name")
        return self

    def named(self) -> list[tuple[str, SlackChannel | HttpChannel | EmailChannel]]:
        """(name, channel) of all, `${…}` unreplaced."""
        own: list[tuple[str, SlackChannel | HttpChannel | EmailChannel]] = []
        if self.webhook_url:
            own.append(("webhook", HttpChannel(type="http", url=self.webhook_url)))
        return [*own, *((channel.name or channel.type, channel) for channel in self.channels)]


class FreshnessConfig(_Model):
    """When a day must be in the books."""

    hours: int = Field(default=12, ge=1, le=23)
    """After its end, in the entity's zone."""


class RetriesConfig(_Model):
    """How a step is tried again after a transient fault: `seconds`, doubled each time, with jitter."""

    max_retries: int = Field(default=3, ge=0, le=10)
    seconds: int = Field(default=30, ge=0)


class HealthConfig(_Model):
    """From when on health warns and fails."""

    clock_skew_warn_seconds: int = 60
    clock_skew_fail_seconds: int = 300
    quota_warn: float = Field(default=0.2, ge=0, le=1)
    quota_fail: float = Field(default=0.05, ge=0, le=1)
    disk_warn: float = Field(default=0.15, ge=0, le=1)
    disk_fail: float = Field(default=0.05, ge=0, le=1)
    last_record_warn_days: int = Field(default=7, ge=1)
    daemon_seconds: int = Field(default=300, ge=60)
    queue_warn_minutes: int = Field(default=60, ge=1)
    keep_days: int = Field(default=90, ge=1)


_SPACES = re.compile(r"\s+")


def one_line(text: str) -> str:
    """Without line ends, as a subject or a line of a summary."""
    return _SPACES.sub(" ", text).strip()
