"""What each connection's webhooks are verified with: its source's scheme, its live secrets, the provider's public keys.

ledger.yaml and the secrets are read again every few seconds, so that a rotation needs no restart. Nothing is looked up while a
request waits, except a public key that isn't known yet.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_pipeline import config as configuration
from ledger_pipeline import sources
from ledger_pipeline.config import ConfigError, LedgerConfig
from ledger_pipeline.connect.errors import ConnectError
from ledger_pipeline.connect.webhook import Delivery, Signed, Webhook, WebhookRefused

log = logging.getLogger(__name__)
SECRET_SECONDS = 5.0
KEY_SECONDS = 600.0
UNKNOWN_KEY_SECONDS = 60.0
KEYS_KEPT = 64
LOOKUPS_A_MINUTE = 30
"""A stranger can name any key; so many are asked for, the rest is refused until a minute is over."""


class NotReady(Exception):
    """A connection's secrets or keys can't be had now; the provider has to send it again."""


@dataclass(frozen=True, slots=True)
class Door:
    """One connection's webhooks."""

    connection: str
    webhook: Webhook
    secrets: tuple[bytes, ...]


class Doors:
    """The connections that take webhooks, as ledger.yaml and the secrets say now."""

    def __init__(self, config_path: Path) -> None:
        self._path = config_path
        self._read_at = float("-inf")
        self._mtime = 0
        self._config: LedgerConfig | None = None
        self._open: Mapping[str, Door] = {}
        self._reading: asyncio.Task[None] | None = None
        self._keys = Keys()

    def open_all(self) -> Sequence[str]:
        """Read everything now; the names that take webhooks. Raises ConfigError."""
        mtime = self._path.stat().st_mtime_ns
        if self._config is None or mtime != self._mtime:
            self._config, self._mtime = configuration.load(self._path, sources.known()), mtime
        self._open = {name: door for name in self._config.connections if (door := self._door(self._config, name))}
        self._read_at = time.monotonic()
        return list(self._open)

    def _door(self, config: LedgerConfig, name: str) -> Door | None:
        connection = config.connections[name]
        webhook = sources.load(connection.source).webhook if connection.is_enabled else None
        if webhook is None:
            return None
        if not webhook.scheme.needs_secrets:
            return Door(name, webhook, ()) if connection.has_webhooks else None
        try:
            given = configuration.resolve(list(connection.webhook_secrets))
        except ConfigError as error:
            before = self._open.get(name)
            log.error("%s: its webhook secrets can't be read: %s", name, error)
            return before or Door(name, webhook, ())
        secrets = tuple(str(one).encode() for one in given if one)
        return Door(name, webhook, secrets) if secrets else None

    async def door(self, name: str) -> Door | None:
        """A connection's door; what is older than some seconds is read again beside the request."""
        if time.monotonic() - self._read_at > SECRET_SECONDS and (self._reading is None or self._reading.done()):
            self._reading = asyncio.create_task(self._refresh())
        return self._open.get(name)

    async def _refresh(self) -> None:
        try:
            await asyncio.to_thread(self.open_all)
        except (ConfigError, OSError) as error:
            self._read_at = time.monotonic()
            log.error("ledger.yaml can't be read, what it said before counts: %s", error)

    async def verify(self, door: Door, delivery: Delivery) -> Signed:
        """Raise WebhookRefused for what isn't genuine, NotReady when that can't be said now."""
        scheme = door.webhook.scheme
        if scheme.needs_secrets:
            if not door.secrets:
                raise NotReady("no secret of this connection can be read")
            return scheme.verify(delivery, door.secrets)
        return scheme.verify(delivery, [await self._keys.of(self, door, scheme.key_id(delivery))])

    def fetch(self, door: Door, key_id: str) -> Mapping[str, Any] | None:
        """Ask the provider; None for a key that it doesn't know."""
        assert self._config is not None and door.webhook.fetch_key is not None  # noqa: S101, PT018 - doors come from it
        source = sources.load(self._config.connections[door.connection].source)
        try:
            options = source.options.model_validate(
                configuration.resolve(self._config.connections[door.connection].options)
            )
        except (ConfigError, ValueError):
            raise NotReady("the connection's options can't be read") from None
        assert source.connect is not None  # noqa: S101
        client = source.connect(door.connection, options)
        try:
            return door.webhook.fetch_key(client, key_id)
        except ConnectError as error:
            if error.is_transient:
                raise NotReady(f"the provider's key can't be had: {type(error).__name__}") from None
            return None
        except (KeyError, TypeError):
            return None
        finally:
            client.close()


class Keys:
    """Public keys by connection and id, asked for again after some minutes, because they expire; unknown ones are remembered, too."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, Mapping[str, Any] | None]] = OrderedDict()
        self._lock = asyncio.Lock()
        self._asked: list[float] = []

    async def of(self, doors: Doors, door: Door, key_id: str) -> Mapping[str, Any]:
        """The key; raises WebhookRefused when the provider doesn't know it, NotReady when it can't be asked."""
        key = self._fresh(door, key_id)
        if key is None:
            async with self._lock:
                key = self._fresh(door, key_id) or await self._fetch(doors, door, key_id)
        if not key:
            raise WebhookRefused("wrong_key", "the provider knows no key of that id")
        return key

    def _fresh(self, door: Door, key_id: str) -> Mapping[str, Any] | None:
        """The key, {} for one that is known to be none, None when the provider has to be asked."""
        known = self._known.get((door.connection, key_id))
        if known is None:
            return None
        at, key = known
        if time.monotonic() - at > (KEY_SECONDS if key else UNKNOWN_KEY_SECONDS):
            return None
        return key or {}

    async def _fetch(self, doors: Doors, door: Door, key_id: str) -> Mapping[str, Any]:
        now = time.monotonic()
        self._asked = [at for at in self._asked if now - at < 60]
        if len(self._asked) >= LOOKUPS_A_MINUTE:
            raise NotReady("too many unknown keys were named in the last minute")
        self._asked.append(now)
        key = await asyncio.to_thread(doors.fetch, door, key_id)
        self._known[door.connection, key_id] = (now, key)
        while len(self._known) > KEYS_KEPT:
            self._known.popitem(last=False)
        return key or {}
