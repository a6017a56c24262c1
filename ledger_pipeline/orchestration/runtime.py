"""What every step needs: the configuration, the database, the sources and a clock. Made when a step runs, not when code is loaded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from ledger_pipeline import config as configuration
from ledger_pipeline import sources
from ledger_pipeline.config import ConfigError, LedgerConfig
from ledger_pipeline.connect import fx
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.connect.mapping import Plan, Settings
from ledger_pipeline.connect.redact import remember
from ledger_pipeline.connect.source import Source
from ledger_pipeline.model.journal import Rates
from ledger_pipeline.model.records import RECORDS
from ledger_pipeline.model.routing import Route
from ledger_pipeline.orchestration import credentials
from ledger_pipeline.secrets.keeper import Version
from ledger_pipeline.store import embedded, rates, schema
from ledger_pipeline.store.database import Connection, Database

log = logging.getLogger(__name__)

BOOKS_DATABASE = "ledger"


def check_same_as(config: LedgerConfig) -> None:
    """Raises ConfigError where connections that shall tell of the same events have no kind of record in common."""
    mistakes = []
    for name, connection in config.connections.items():
        for other in connection.same_as:
            own, theirs = (
                {r for r in sources.load(config.connections[n].source).records if RECORDS[r].identity}
                for n in (name, other)
            )
            if not own & theirs:
                kinds = f"{name} has {_list(own)}, {other} has {_list(theirs)}"
                mistakes.append(f"connections.{name}.same_as: no kind of record is told by both: {kinds}")
    if mistakes:
        raise ConfigError(mistakes)


def _list(records: set[str]) -> str:
    return ", ".join(sorted(records)) or "none that has an identity"


@dataclass(frozen=True, slots=True)
class Link:
    """A connection, ready to work: its source, its validated options and its entity."""

    name: str
    entity: str
    base_currency: str
    zone: Any
    source: Source
    options: Any
    plans: dict[str, Plan]
    settings: Settings
    quarantine_limit: float
    routes: tuple[Route, ...] = ()

    @property
    def entities(self) -> tuple[str, ...]:
        """The entities whose books it feeds: its own first, then those that records are routed to."""
        return tuple(dict.fromkeys((self.entity, *(route.entity for route in self.routes))))

    def window(self, sync_date: date) -> tuple[datetime, datetime]:
        """[start, end) in UTC of a sync date: the entity's calendar day, whatever the clocks do in it."""
        start = datetime(sync_date.year, sync_date.month, sync_date.day, tzinfo=self.zone)
        following = sync_date + timedelta(days=1)
        end = datetime(following.year, following.month, following.day, tzinfo=self.zone)
        return start.astimezone(UTC), end.astimezone(UTC)


@dataclass
class Runtime:
    """One configuration at work. `database` starts or joins the embedded server and migrates, once per process."""

    config: LedgerConfig
    folder: Path
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _rates_tried_at: datetime | None = None
    _database: Database | None = None

    @classmethod
    def from_file(cls, path: Path | None = None) -> Runtime:
        """From ledger.yaml (of the working folder, else the sandbox company's)."""
        found = path or configuration.find()
        folder = Path.cwd() if found.is_relative_to(Path(__file__).parents[1]) else found.parent
        config = configuration.load(found, sources.known())
        check_same_as(config)
        return cls(config, folder.resolve())

    @property
    def database(self) -> Database:
        """The books' database, created and migrated; with the password that `database_url` leads to now."""
        with self._lock:
            url = self._database_url()
            if self._database is None or self._database.url != url:
                made = Database(url)
                if self._database is None or repr(self._database) != repr(made):  # more than its password is another
                    schema.migrate(made)
                self._database = made
            return self._database

    def _database_url(self) -> str:
        try:
            return str(configuration.resolve(self.config.database_url)) or self._embedded_url
        except ConfigError as error:
            raise ConfigError([f"database_url: {mistake}" for mistake in error.mistakes]) from None

    @cached_property
    def _embedded_url(self) -> str:
        return Database(embedded.start(self.data_folder / "postgres")).with_name(BOOKS_DATABASE).url

    @property
    def data_folder(self) -> Path:
        """Where the embedded server and delivered files live."""
        folder = Path(str(configuration.resolve(self.config.data_folder)))
        return folder if folder.is_absolute() else self.folder / folder

    def link(self, name: str) -> Link:
        """A connection by name, with the secrets that its options lead to now.

        Raises ConfigError when its options don't fit its source, a secret can't be had, or live and test credentials are mixed.
        """
        with self._lock:
            given = self.resolved(name)
            kept = self._links.get(name)
            if kept is None or kept[0] != given:
                kept = self._links[name] = given, self._link(name, given)
            return kept[1]

    def resolved(self, name: str, version: Version = "current") -> dict[str, Any]:
        """A connection's options with every reference replaced; raises ConfigError naming the option."""
        found, mistakes = {}, []
        for option, value in self.config.connection(name).options.items():
            try:
                found[option] = configuration.resolve(value, version=version)
            except ConfigError as error:
                mistakes += [f"connections.{name}.{option}: {mistake}" for mistake in error.mistakes]
        if mistakes:
            raise ConfigError(mistakes)
        return found

    def other_secrets(self, link: Link) -> Iterator[Link]:
        """For a connection whose key was refused: the same with freshly read secrets, then with those before the last rotation.

        Only what differs from all that was tried; two at most.
        """
        tried = [link.options]
        configuration.expire(self.config.connection(link.name).options)
        versions: tuple[Version, ...] = ("current", "previous")
        for version in versions:
            other = self._link(link.name, self.resolved(link.name, version))
            if other.options not in tried:
                tried.append(other.options)
                yield other

    def rates(self, connection: Connection) -> Rates:
        """The ECB's reference rates: those of the package, then those that were fetched into this database."""
        return fx.ReferenceRates(rates.load(connection))

    def refresh_rates(self) -> tuple[int, list[str]]:
        """Fetch newer rates from `rates.url`; as `store.rates.keep`. Raises ConnectError, and ConfigError when no URL is given."""
        url = str(configuration.resolve(self.config.rates.url))
        if not url:
            raise ConfigError(["rates.url is not set: there is nowhere to fetch rates from"])
        quotes = fx.fetch(url)
        with self.database.connect() as connection:
            return rates.keep(connection, quotes, url, self.clock())

    def refresh_rates_for(self, day: date) -> None:
        """Fetch newer rates when a day's aren't known, at most once an hour and process; what fails is logged, and what needs them waits."""
        if not self.config.rates.url or day <= fx.history_ends() or self._tried_rates_within_an_hour():
            return
        with self.database.connect("reader") as connection:
            try:
                self.rates(connection)("USD", "EUR", day)
            except LookupError:
                pass
            else:
                return
        self._rates_tried_at = self.clock()
        try:
            self.refresh_rates()
        except ConnectError as error:
            log.warning("exchange rates could not be refreshed: %s", error)

    def _tried_rates_within_an_hour(self) -> bool:
        return self._rates_tried_at is not None and self.clock() - self._rates_tried_at < timedelta(hours=1)

    @cached_property
    def _links(self) -> dict[str, tuple[dict[str, Any], Link]]:
        return {}

    def _link(self, name: str, given: dict[str, Any]) -> Link:
        from pydantic import ValidationError

        connection = self.config.connection(name)
        entity = self.config.entity_of(name)
        source = sources.load(connection.source)
        try:
            options = source.options.model_validate(given)
        except ValidationError as error:
            known = ", ".join(source.options.model_fields)
            raise ConfigError(
                [
                    f"connections.{name}.{'.'.join(map(str, e['loc']))}: {e['msg']} (options of {source.name}: {known})"
                    for e in error.errors()
                ]
            ) from None
        remember(str(given[name]) for name in source.options.secret_names() if given.get(name))
        if mistakes := credentials.refuse_mixed(self.config, name, given):
            raise ConfigError(mistakes)
        return Link(
            name,
            connection.entity,
            entity.base_currency,
            entity.zone,
            source,
            options,
            source.plans(options),
            Settings(name, options.model_dump()),
            connection.quarantine_limit,
            connection.routes,
        )
