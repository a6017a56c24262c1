"""Whether the connections' credentials belong together: live ones and tests' never in one configuration, and to each connection its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ledger_pipeline import sources
from ledger_pipeline.config import LedgerConfig
from ledger_pipeline.connect.environments import Mode
from ledger_pipeline.secrets.keeper import Keeper, keeper
from ledger_pipeline.secrets.references import BadReference, Reference, SecretError, references, replaced

Environment = Literal["production", "sandbox"]
_BELONGS: dict[Mode, Environment] = {"live": "production", "test": "sandbox"}
_SAYS: dict[Mode, str] = {"live": "a live account's", "test": "a test account's or a sandbox's"}


@dataclass(frozen=True, slots=True)
class Sign:
    """What an option's value tells about its account."""

    connection: str
    option: str
    mode: Mode

    def __str__(self) -> str:
        return f"connections.{self.connection}.{self.option}: is {_SAYS[self.mode]}"


def signs(config: LedgerConfig, name: str, options: Mapping[str, Any]) -> list[Sign]:
    """Those of one connection's options, as they stand in the file or resolved."""
    modes = sources.load(config.connections[name].source).options.modes(options)
    return [Sign(name, option, mode) for option, mode in modes.items()]


def visible_signs(config: LedgerConfig, variables: Keeper = keeper) -> list[Sign]:
    """Those of all enabled connections that the file and the environment show; no file is read and no manager asked for it."""

    def seen(reference: Reference) -> str:
        try:
            return variables.value(reference) if reference.scheme == "env" else str(reference)
        except SecretError:
            return str(reference)

    found: list[Sign] = []
    for name, connection in config.connections.items():
        if connection.is_enabled:
            try:
                found += signs(config, name, replaced(connection.options, seen))
            except BadReference:
                continue  # its own link names it
    return found


def mixed(config: LedgerConfig, found: list[Sign]) -> list[str]:
    """One mistake per sign that doesn't belong to the configuration's environment, or one for signs that contradict each other."""
    if config.environment:
        return [
            f"{sign}, and this is a {config.environment} configuration (environment)"
            for sign in dict.fromkeys(found)
            if _BELONGS[sign.mode] != config.environment
        ]
    in_order = sorted(found, key=lambda sign: list(config.connections).index(sign.connection))
    first = {mode: next((sign for sign in in_order if sign.mode == mode), None) for mode in _BELONGS}
    if first["live"] and first["test"]:
        return [
            f"{first['live']}, but {str(first['test']).replace(': is', ' is', 1)}: give each a configuration of its own "
            "and say which one it is (environment: production or sandbox)"
        ]
    return []


def environment_of(config: LedgerConfig, found: list[Sign]) -> Environment | None:
    """The declared one, else the one that all signs agree on; None where nothing tells."""
    if config.environment:
        return config.environment
    said = {_BELONGS[sign.mode] for sign in found}
    return said.pop() if len(said) == 1 else None


def refuse_mixed(config: LedgerConfig, name: str, options: Mapping[str, Any]) -> list[str]:
    """Why a connection with these resolved options may not be used here."""
    own = signs(config, name, options)
    is_alone = config.environment is not None or not config.connections[name].is_enabled
    return mixed(config, own if is_alone else [*own, *visible_signs(config)])


def shared(config: LedgerConfig, resolved: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Secrets that two connections have in common, by reference or by value, unless both say `shares_keys`."""
    owners: dict[tuple[str, str], tuple[str, str]] = {}
    mistakes: list[str] = []
    for name, option, marks in _secrets(config, resolved):
        earlier = [owners[mark] for mark in marks if mark in owners]
        other = next((one for one in earlier if one[0] != name and not _may_share(config, name, option, *one)), None)
        if other:
            mistakes.append(
                f"connections.{name}.{option}: the same secret as connections.{other[0]}.{other[1]}; every connection needs a key of "
                "its own (or `shares_keys: true` in both)"
            )
        owners |= {mark: (name, option) for mark in marks if mark not in owners}
    return mistakes


def _secrets(
    config: LedgerConfig, resolved: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """(connection, option, what it is known by) of every secret option that is given."""
    for name, connection in config.connections.items():
        for option in sources.load(connection.source).options.secret_names():
            given = connection.options.get(option)
            if not isinstance(given, str) or not given:
                continue
            try:
                marks = [("reference", str(reference)) for reference in references(given)]
            except BadReference:
                continue  # its own link names it
            value = resolved.get(name, {}).get(option)
            yield name, option, [*marks, *([("value", str(value))] if value else [])]


def _may_share(config: LedgerConfig, name: str, option: str, other: str, other_option: str) -> bool:
    one, two = config.connections[name], config.connections[other]
    if one.shares_keys and two.shares_keys:
        return True
    is_account = option in sources.load(one.source).options.account_keys
    return is_account and one.source == two.source and option == other_option
