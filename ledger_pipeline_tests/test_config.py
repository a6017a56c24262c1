"""Bad ledger.yaml files paired with what is said of them; variables from the environment; secrets stay out of messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline import config, sources
from ledger_pipeline.config import ConfigError, LedgerConfig
from ledger_pipeline.orchestration.runtime import Runtime

GOOD = """\
entities:
  acme:
    name: Acme Inc.
    base_currency: USD
    time_zone: America/New_York
connections:
  shop_us:
    entity: acme
    source: stripe
    api_key: sk_live_hunter2
"""
KNOWN = ("plaid", "stripe")

BAD: dict[str, tuple[str, str, list[str]]] = {
    # what is replaced in the good file, by what, and what is said
    "unknown key at the top": ("connections:", "conections: {}\nconnections:", ["6: conections: unknown key; known are environment, database_url, data_folder, entities, connections, schedule, rates, alerts, execution, events, freshness, retries, health"]),
    "unknown key of an entity": ("    base_currency", "    colour: red\n    base_currency", ["4: entities.acme.colour: unknown key; known are name, base_currency, time_zone, fiscal_year_start, country, accounts, closing"]),
    "unknown key of the schedule": ("connections:", "schedule:\n  every: night\nconnections:", ["7: schedule.every: unknown key; known are cron, time_zone, catch_up_days, catch_up_attempts, is_running, start"]),
    "unknown currency": ("USD", "USX", ["4: entities.acme.base_currency: 'USX' is no active ISO 4217 currency code (such as USD, EUR, GBP)"]),
    "unknown time zone": ("America/New_York", "New York", ["5: entities.acme.time_zone: 'New York' is no IANA time zone (such as Europe/London)"]),
    "unknown country": ("    time_zone", "    country: UK\n    time_zone", ["5: entities.acme.country: 'UK' is no ISO 3166 country code whose holidays are known (such as US, GB)"]),
    "unknown entity": ("entity: acme", "entity: acne", ["8: connections.shop_us.entity: unknown entity 'acne'; known are acme"]),
    "unknown source": ("source: stripe", "source: stripes", ["9: connections.shop_us.source: unknown source 'stripes'; known are plaid, stripe"]),
    "a name that is none": ("shop_us:", "Shop-US:", ["7: connections.Shop-US: a connection's name is lower case letters, digits and _"]),
    "missing name": ("    name: Acme Inc.\n", "", ["2: entities.acme.name: Field required"]),
    "missing source": ("    source: stripe\n", "", ["7: connections.shop_us.source: Field required"]),
    "no connections": (GOOD[GOOD.index("connections:") :], "", ["1: connections: Field required"]),
    "a limit beyond the whole": ("    source: stripe", "    source: stripe\n    quarantine_limit: 2", ["10: connections.shop_us.quarantine_limit: Input should be less than or equal to 1"]),
    "no mapping": (GOOD, "- a\n- b\n", ["1: expected a mapping with entities and connections"]),
    "every mistake at once": ("USD\n    time_zone: America/New_York", "usd\n    time_zone: Mars", ["4: entities.acme.base_currency: 'usd' is no active ISO 4217 currency code (such as USD, EUR, GBP)", "5: entities.acme.time_zone: 'Mars' is no IANA time zone (such as Europe/London)"]),
    "both cross checks at once": ("entity: acme\n    source: stripe", "entity: b\n    source: c", ["8: connections.shop_us.entity: unknown entity 'b'; known are acme", "9: connections.shop_us.source: unknown source 'c'; known are plaid, stripe"]),
    "an account of no type": ("connections:", "    accounts:\n      - {code: '1', name: A, type: money}\nconnections:", ["7: entities.acme.accounts.0.type: Input should be 'asset', 'liability', 'equity', 'income' or 'expense'"]),
}  # fmt: skip


def load(folder: Path, text: str) -> LedgerConfig:
    path = folder / "ledger.yaml"
    path.write_text(text)
    return config.load(path, KNOWN)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(folder, text)
    return error.value.mistakes


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_named_by_file_line_and_key(tmp_path: Path, case: str) -> None:
    old, new, said = BAD[case]
    assert old in GOOD
    assert mistakes(tmp_path, GOOD.replace(old, new, 1)) == [f"{tmp_path / 'ledger.yaml'}:{one}" for one in said]


def test_what_is_no_yaml_is_named_by_its_line(tmp_path: Path) -> None:
    said = mistakes(tmp_path, GOOD + "  other: {entity: acme\n")
    assert said[0].startswith(f"{tmp_path / 'ledger.yaml'}:")
    assert ": not YAML: " in said[0]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; `ledger-pipeline init` writes one"):
        config.load(tmp_path / "ledger.yaml", KNOWN)


def test_a_good_file_has_its_defaults(tmp_path: Path) -> None:
    made = load(tmp_path, GOOD)
    assert made.connection("shop_us").options == {"api_key": "sk_live_hunter2"}
    assert made.connection("shop_us").quarantine_limit == 0.1
    assert made.connection("shop_us").is_enabled
    assert made.entity_of("shop_us").zone.key == "America/New_York"
    assert made.database_url == ""


def test_an_entitys_own_accounts_stand_on_top_of_the_chart(tmp_path: Path) -> None:
    account = "    accounts:\n      - {code: '1010', name: Till, type: asset, roles: ['bank:till']}\nconnections:"
    chart = load(tmp_path, GOOD.replace("connections:", account)).entities["acme"].chart
    assert (chart.account_of("bank:till"), chart.account_of("bank:x")) == ("1010", "1000")


def test_an_unknown_connection_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown connection 'shop_uk'; known are shop_us"):
        load(tmp_path, GOOD).connection("shop_uk")


# variables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("${A}", "1"),
        ("x${A}y${B:-z}", "x1yz"),
        ("${B:-}", ""),
        ("${A:-other}", "1"),
        ("${EMPTY:-full}", "full"),
        ("$A {A} ${}", "$A {A} ${}"),
        (["${A}", {"k": "${A}"}, 5, None, True], ["1", {"k": "1"}, 5, None, True]),
    ],
)
def test_variables_are_replaced(value: Any, resolved: Any) -> None:
    assert config.resolve(value, {"A": "1", "EMPTY": ""}) == resolved


def test_every_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        config.resolve({"a": "${ONE}", "b": ["${TWO} ${SET}"]}, {"SET": "secret-value"})
    assert error.value.mistakes == ["environment variable ONE is not set", "environment variable TWO is not set"]


def test_a_file_is_loaded_without_its_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    made = load(tmp_path, GOOD.replace("sk_live_hunter2", "${NO_SUCH_KEY}"))
    assert made.connection("shop_us").options == {"api_key": "${NO_SUCH_KEY}"}


def runtime(folder: Path, text: str) -> Runtime:
    path = folder / "ledger.yaml"
    path.write_text(text)
    return Runtime.from_file(path)


def test_a_connection_says_which_variable_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    made = runtime(tmp_path, GOOD.replace("sk_live_hunter2", "${NO_SUCH_KEY}"))
    with pytest.raises(ConfigError) as error:
        made.link("shop_us")
    assert str(error.value) == "connections.shop_us.api_key: environment variable NO_SUCH_KEY is not set"
    monkeypatch.setenv("NO_SUCH_KEY", "sk_x")
    assert made.link("shop_us").options.api_key.get_secret_value() == "sk_x"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "api_key:",
            "apikey:",
            "connections.shop_us.apikey: Extra inputs are not permitted (options of stripe: api_key, base_url, account)",
        ),
        (
            "api_key:",
            "apikey:",
            "connections.shop_us.api_key: Field required (options of stripe: api_key, base_url, account)",
        ),
        ("sk_live_hunter2", "[sk_live_hunter2]", "connections.shop_us.api_key: Input should be a valid string"),
    ],
)
def test_options_that_do_not_fit_are_named_with_the_known_ones(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        runtime(tmp_path, GOOD.replace(old, new)).link("shop_us")
    assert any(mistake.startswith(said) for mistake in error.value.mistakes), error.value.mistakes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("api_key:", "apikey:"),
        ("sk_live_hunter2", "[sk_live_hunter2]"),
        ("source: stripe", "source: strip"),
        ("entity: acme", "entity: x"),
    ],
)
def test_no_message_shows_a_secret(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(ConfigError) as error:
        runtime(tmp_path, GOOD.replace(old, new)).link("shop_us")
    assert "hunter2" not in str(error.value)


def test_a_links_repr_hides_its_secret(tmp_path: Path) -> None:
    assert "hunter2" not in repr(runtime(tmp_path, GOOD).link("shop_us").options)


def test_a_sync_date_is_the_entitys_calendar_day(tmp_path: Path) -> None:
    from datetime import date, timedelta

    link = runtime(tmp_path, GOOD).link("shop_us")
    start, end = link.window(date(2026, 10, 5))
    assert (start.isoformat(), end.isoformat()) == ("2026-10-05T04:00:00+00:00", "2026-10-06T04:00:00+00:00")
    start, end = link.window(date(2026, 11, 1))
    assert end - start == timedelta(hours=25)


def test_the_template_and_the_demo_are_sound() -> None:
    package = Path(config.__file__).parent
    for path in (package / "templates" / "ledger.yaml", package / "sandbox" / "demo.ledger.yaml"):
        assert config.load(path, sources.known()).connections


def test_the_working_folders_file_wins_over_the_demo(tmp_path: Path) -> None:
    assert config.find(tmp_path).name == "demo.ledger.yaml"
    (tmp_path / "ledger.yaml").write_text(GOOD)
    assert config.find(tmp_path) == tmp_path / "ledger.yaml"
