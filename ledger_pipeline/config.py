"""ledger.yaml: entities, connections, chart, schedule. A mistake is named by file, line and key, with the values that are known.

Loading reads the file only. References (`${NAME}`, `${vault:…}`) are replaced when a connection's options are asked for, so that secrets are
read where they are used and the code location loads without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ledger_pipeline.model import routing
from ledger_pipeline.model.accounts import DEFAULT_CHART, Account, Chart
from ledger_pipeline.model.money import DIGITS
from ledger_pipeline.model.routing import Route
from ledger_pipeline.operations.settings import CHANNELS, AlertsConfig, FreshnessConfig, HealthConfig, RetriesConfig
from ledger_pipeline.secrets.keeper import Keeper, Version, keeper
from ledger_pipeline.secrets.references import BadReference, Reference, SecretError, references, replaced

FILE_NAME = "ledger.yaml"


class ConfigError(Exception):
    """What is wrong with the configuration, one line per mistake."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = list(mistakes)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AccountConfig(_Model):
    """An account that is added to the chart, or that replaces the one with its code."""

    code: str
    name: str
    type: Literal["asset", "liability", "equity", "income", "expense"]
    roles: tuple[str, ...] = ()


class ClosingConfig(_Model):
    """What a month may still show when it is closed."""

    quarantine_limit: int = Field(default=0, ge=0)
    """Quarantined records of the month's sync dates."""
    clearing_days: int = Field(default=10, ge=0)
    """How old, at the month's end, what stands on a clearing account may be when neither time nor rates explain it."""


class EntityConfig(_Model):
    """A legal company."""

    name: str
    base_currency: str
    time_zone: str
    fiscal_year_start: int = Field(default=1, ge=1, le=12)
    """Month in which its fiscal year begins."""
    country: str = ""
    """ISO 3166-1 alpha-2; its bank holidays count when payments are matched (empty: TARGET's)."""
    accounts: tuple[AccountConfig, ...] = ()
    closing: ClosingConfig = ClosingConfig()

    @field_validator("base_currency")
    @classmethod
    def _known_currency(cls, value: str) -> str:
        if value not in DIGITS:
            raise ValueError(f"{value!r} is no active ISO 4217 currency code (such as USD, EUR, GBP)")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone (such as Europe/London)")
        return value

    @field_validator("country")
    @classmethod
    def _known_country(cls, value: str) -> str:
        if value:
            import holidays

            if value not in holidays.list_supported_countries(include_aliases=False):
                raise ValueError(f"{value!r} is no ISO 3166 country code whose holidays are known (such as US, GB)")
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which its days begin."""
        return ZoneInfo(self.time_zone)

    @cached_property
    def chart(self) -> Chart:
        """The default chart with this entity's own accounts on top."""
        return Chart([*DEFAULT_CHART, *(Account(a.code, a.name, a.type, a.roles) for a in self.accounts)])


class RouteConfig(_Model):
    """Records that another entity than the connection's books: those whose fields all hold one of the given values (`US-*` is a prefix)."""

    entity: str
    record: str = "sale"
    when: dict[str, tuple[str, ...]] = Field(min_length=1)


class ConnectionConfig(BaseModel):
    """One account at one source system; everything besides these keys is the source's own options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    entity: str
    source: str
    is_enabled: bool = True
    quarantine_limit: float = Field(0.1, ge=0, le=1)
    """Share of a day's records that may be quarantined before the gate closes."""
    shares_keys: bool = False
    """True: it may have the same secret as another connection that says so."""
    webhook_secrets: tuple[str, ...] = Field(default=(), max_length=4)
    """What its provider signs webhooks with, `${…}` unreplaced; two while one replaces the other. Only the receiver reads them."""
    has_webhooks: bool = False
    """Take the webhooks of a provider that signs with a key of its own (Plaid)."""
    is_sandbox: bool | None = None
    """True: left out of health. Without a word it is one whose address is on the loopback."""
    freshness_hours: int | None = Field(None, ge=1, le=23)
    """Instead of freshness.hours."""
    route: tuple[RouteConfig, ...] = ()
    """The first route that fits says which entity books a record; without one it is the connection's own."""
    same_as: tuple[str, ...] = ()
    """Connections of the entity that tell of the same events: each event is posted once, by whoever tells it first."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes as the model executes them."""
        return tuple(Route(r.entity, r.record, tuple(r.when.items())) for r in self.route)

    @property
    def options(self) -> dict[str, Any]:
        """The source's options as they stand in the file, `${…}` unreplaced."""
        return dict(self.model_extra or {})


class ScheduleConfig(_Model):
    """When the nightly sync starts."""

    cron: str = "30 2 * * *"
    time_zone: str = ""
    """Of `cron`; empty: each entity's own."""
    catch_up_days: int = Field(default=7, ge=0)
    """How far back missed nights are looked for; 0: not at all."""
    catch_up_attempts: int = Field(default=3, ge=1)
    """Runs that a missed night gets."""
    is_running: bool = True
    """False: the schedule waits until somebody switches it on in the UI."""
    start: str = "2026-10-01"
    """First sync date (YYYY-MM-DD) that partitions offer."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value and value not in available_timezones():
            raise ValueError(f"{value!r} is no IANA time zone (such as Europe/London)")
        return value


class RatesConfig(_Model):
    """Where reference rates come from when the history that is built in ends."""

    url: str = ""
    """A zip or CSV in the ECB's form (eurofxref-hist.zip); empty: nothing is fetched."""


class ExecutionConfig(_Model):
    """Where the steps of a run are executed."""

    engine: Literal["in_process", "multiprocess", "celery", "k8s"] = "in_process"
    options: dict[str, Any] = {}
    """Configuration of Dagster's executor of that name; `${NAME}` as a whole value is read by the process that runs."""


EventType = Literal["entry.posted", "payout.reconciled", "invoice.paid", "gate.closed", "period.closed"]


class EndpointConfig(_Model):
    """Who is told of events, by Standard Webhooks."""

    url: str
    """https, or http on loopback; often a secret itself (`${NAME}`)."""
    secrets: tuple[str, ...] = Field(min_length=1, max_length=4)
    """`whsec_…`, `${…}` unreplaced; every event is signed with each, so that a receiver may change over."""
    types: tuple[EventType, ...] = get_args(EventType)


class LedgerConfig(_Model):
    """The whole file."""

    environment: Literal["production", "sandbox"] | None = None
    """Which credentials belong here; None: those of all connections must agree."""
    database_url: str = ""
    """PostgreSQL ≥ 15; empty for the embedded server."""
    data_folder: str = ".ledger"
    entities: dict[str, EntityConfig]
    connections: dict[str, ConnectionConfig]
    schedule: ScheduleConfig = ScheduleConfig()
    rates: RatesConfig = RatesConfig()
    alerts: AlertsConfig = AlertsConfig()
    execution: ExecutionConfig = ExecutionConfig()
    events: dict[str, EndpointConfig] = {}
    """Endpoints by name; the name is what logs show."""
    freshness: FreshnessConfig = FreshnessConfig()
    retries: RetriesConfig = RetriesConfig()
    health: HealthConfig = HealthConfig()

    def told_of(self, type_: str) -> list[str]:
        """Names of the endpoints that want events of a type."""
        return [name for name, endpoint in self.events.items() if type_ in endpoint.types]

    def entity_of(self, connection: str) -> EntityConfig:
        """The entity that a connection belongs to."""
        return self.entities[self.connections[connection].entity]

    def freshness_hours(self, connection: str) -> int:
        """Within how many hours after its end a connection's day must be in the books."""
        return self.connections[connection].freshness_hours or self.freshness.hours

    def connection(self, name: str) -> ConnectionConfig:
        """By name; raises ConfigError with the known ones."""
        if name not in self.connections:
            raise ConfigError([f"unknown connection {name!r}; known are {', '.join(sorted(self.connections))}"])
        return self.connections[name]


_NAME = re.compile(r"[a-z][a-z0-9_]*")


def load(path: Path, known_sources: Sequence[str]) -> LedgerConfig:
    """Read and validate the file; raises ConfigError with every mistake at once, each as `file:line: key: what`."""
    document = _read(path)
    try:
        config = LedgerConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError([_mistake(path, document, tuple(e["loc"]), _said(e)) for e in error.errors()]) from None
    mistakes = list(_cross_check(path, document, config, known_sources))
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _read(path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    try:
        document = YAML().load(path.read_text())
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; `ledger-pipeline init` writes one"]) from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError([f"{path}:{line}: not YAML: {error.problem}"]) from None
    if not isinstance(document, dict):
        raise ConfigError([f"{path}:1: expected a mapping with entities and connections"])
    return document


def _said(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "unknown key"
    return str(error["msg"]).removeprefix("Value error, ")


def _mistake(path: Path, document: Any, location: tuple[str | int, ...], message: str) -> str:
    known = _known_keys(location) if message == "unknown key" else ""
    return f"{path}:{_line(document, location)}: {'.'.join(map(str, location))}: {message}{known}"


def _known_keys(location: tuple[str | int, ...]) -> str:
    models: dict[int, type[BaseModel]] = {1: LedgerConfig}
    by_parent: dict[str, type[BaseModel]] = {
        "schedule": ScheduleConfig,
        "rates": RatesConfig,
        "alerts": AlertsConfig,
        "execution": ExecutionConfig,
        "freshness": FreshnessConfig,
        "retries": RetriesConfig,
        "health": HealthConfig,
        "entities": EntityConfig,
    }
    channel = str(location[3]) if location[:2] == ("alerts", "channels") and len(location) > 4 else ""
    model = CHANNELS.get(channel) or models.get(len(location)) or by_parent.get(str(location[0]))
    return f"; known are {', '.join(model.model_fields)}" if model else ""


def _line(document: Any, location: tuple[str | int, ...]) -> int:
    """1-based line of a key, or of the closest parent that stands in the file."""
    line, node = 0, document
    for key in location:
        try:
            line = node.lc.item(key)[0] if isinstance(key, int) else node.lc.key(key)[0]
            node = node[key]
        except (AttributeError, KeyError, IndexError, TypeError):
            break
    return int(line) + 1


def _cross_check(path: Path, document: Any, config: LedgerConfig, known_sources: Sequence[str]) -> list[str]:
    mistakes = []
    for name, connection in config.connections.items():
        at = ("connections", name)
        if not _NAME.fullmatch(name):
            mistakes.append(_mistake(path, document, at, "a connection's name is lower case letters, digits and _"))
        if connection.entity not in config.entities:
            known = ", ".join(config.entities)
            mistakes.append(
                _mistake(path, document, (*at, "entity"), f"unknown entity {connection.entity!r}; known are {known}")
            )
        if connection.source not in known_sources:
            known = ", ".join(known_sources)
            mistakes.append(
                _mistake(path, document, (*at, "source"), f"unknown source {connection.source!r}; known are {known}")
            )
        mistakes += [
            _mistake(path, document, (*at, "same_as", number), wrong)
            for number, other in enumerate(connection.same_as)
            if (wrong := _same_as_mistake(config, name, other))
        ]
        for number, route in enumerate(connection.routes):
            where = (*at, "route", number)
            if route.entity not in config.entities:
                known = ", ".join(config.entities)
                mistakes.append(_mistake(path, document, where, f"unknown entity {route.entity!r}; known are {known}"))
            elif wrong := routing.mistake(route):
                mistakes.append(_mistake(path, document, where, wrong))
    return mistakes


def _same_as_mistake(config: LedgerConfig, name: str, other: str) -> str | None:
    """Why a connection can't tell of the same events as another, or None."""
    if other not in config.connections:
        return f"unknown connection {other!r}; known are {', '.join(sorted(config.connections))}"
    if other == name:
        return "a connection tells of its own events anyway"
    own, theirs = config.connections[name].entity, config.connections[other].entity
    if own != theirs:
        return f"{other} belongs to {theirs}, {name} to {own}: one event is one entity's"
    seen, waiting = {other}, [other]
    while waiting:
        for further in config.connections[waiting.pop()].same_as:
            if further == name:
                return f"{other} says already that it tells of the same events as {name}: once is enough"
            if further in config.connections and further not in seen:
                seen.add(further)
                waiting.append(further)
    return None


def resolve(value: Any, environment: Mapping[str, str] | None = None, *, version: Version = "current") -> Any:
    """Replace references (docs/secrets.md) in texts, also inside lists and mappings; raises ConfigError naming each that leads nowhere.

    `previous`: the values before the last rotation, where a secret manager keeps them. Managers' answers are remembered for a minute.
    """
    source = keeper if environment is None else Keeper(environment)
    mistakes: list[str] = []

    def value_of(reference: Reference) -> str:
        try:
            return source.value(reference, version)
        except SecretError as error:
            mistakes.append(str(error))
            return ""

    try:
        resolved = replaced(value, value_of)
    except BadReference as error:
        raise ConfigError([str(error)]) from None
    if mistakes:
        raise ConfigError(mistakes)
    return resolved


def expire(value: Any) -> None:
    """Ask the secret managers anew for what these texts refer to, at the next `resolve`."""
    keeper.expire(references(value))


def find(folder: Path | None = None) -> Path:
    """ledger.yaml of the folder, or the sandbox company's, which comes with the package."""
    own = (folder or Path.cwd()) / FILE_NAME
    return own if own.exists() else Path(__file__).parent / "sandbox" / "demo.ledger.yaml"
