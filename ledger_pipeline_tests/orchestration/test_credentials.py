"""Live and test credentials are never mixed, and every connection has keys of its own: what `config check` says, and what refuses to work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline.cli_support import check_config
from ledger_pipeline.config import ConfigError
from ledger_pipeline.connect.environments import by_host, by_prefix
from ledger_pipeline.orchestration.runtime import Runtime

ENTITY = "entities:\n  acme: {name: Acme, base_currency: USD, time_zone: UTC}\nconnections:\n"
LIVE_STRIPE = {"source": "stripe", "api_key": "rk_live_hunter2"}
TEST_STRIPE = {"source": "stripe", "api_key": "sk_test_hunter3", "base_url": "http://127.0.0.1:1/s"}
LIVE_PLAID = {"source": "plaid", "client_id": "c", "secret": "hunter4", "access_token": "access-production-hunter5"}
TEST_PLAID = LIVE_PLAID | {"access_token": "access-sandbox-hunter6", "base_url": "https://sandbox.plaid.com"}
LIVE_SHOP = {"source": "shopify", "shop_url": "https://acme.myshopify.com", "access_token": "shpat_hunter7"}
TEST_SHOP = {"source": "shopify", "shop_url": "http://localhost:1/shop", "access_token": "shpat_hunter8"}
A_LIVE, A_TEST = "is a live account's", "is a test account's or a sandbox's"


def written(folder: Path, environment: str | None, **connections: dict[str, Any]) -> Path:
    lines = [f"environment: {environment}\n"] if environment else []
    lines.append(ENTITY)
    for name, options in connections.items():
        lines += [f"  {name}:\n    entity: acme\n", *(f"    {key}: {value}\n" for key, value in options.items())]
    path = folder / "ledger.yaml"
    path.write_text("".join(lines))
    return path


def mistakes(path: Path) -> list[str]:
    found = [mistake.removeprefix(f"{path}: ") for mistake in check_config(path)[0]]
    assert "hunter" not in str(found)
    return found


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (LIVE_STRIPE, "sandbox", [f"api_key: {A_LIVE}"]),
        (TEST_STRIPE, "production", [f"api_key: {A_TEST}", f"base_url: {A_TEST}"]),
        (
            LIVE_STRIPE | {"api_key": "sk_live_hunter2", "base_url": "http://127.0.0.1:1"},
            "production",
            [f"base_url: {A_TEST}"],
        ),
        (TEST_STRIPE | {"base_url": "https://api.stripe.com"}, "production", [f"api_key: {A_TEST}"]),
        (LIVE_PLAID, "sandbox", [f"access_token: {A_LIVE}", f"base_url: {A_LIVE}"]),
        (TEST_PLAID, "production", [f"access_token: {A_TEST}", f"base_url: {A_TEST}"]),
        (LIVE_SHOP, "sandbox", [f"shop_url: {A_LIVE}"]),
        (TEST_SHOP, "production", [f"shop_url: {A_TEST}"]),
    ],
)
def test_what_does_not_belong_is_named_and_refused(
    tmp_path: Path, options: dict[str, Any], environment: str, said: list[str]
) -> None:
    path = written(tmp_path, environment, one=options)
    expected = [f"connections.one.{one}, and this is a {environment} configuration (environment)" for one in said]
    assert mistakes(path) == expected
    with pytest.raises(ConfigError) as error:
        Runtime.from_file(path).link("one")
    assert error.value.mistakes == expected


@pytest.mark.parametrize("environment", [None, "right"])
@pytest.mark.parametrize(
    ("connections", "found"),
    [
        ({"a": LIVE_STRIPE, "b": LIVE_PLAID, "c": LIVE_SHOP}, "production"),
        ({"a": TEST_STRIPE, "b": TEST_PLAID, "c": TEST_SHOP}, "sandbox"),
    ],
)
def test_credentials_of_one_kind_are_taken(
    tmp_path: Path, connections: dict[str, Any], found: str, environment: str | None
) -> None:
    path = written(tmp_path, environment and found, **connections)
    assert mistakes(path) == []
    assert check_config(path)[1]["environment"] == found
    assert Runtime.from_file(path).link("b").name == "b"


def test_without_an_environment_credentials_must_agree(tmp_path: Path) -> None:
    path = written(tmp_path, None, one=TEST_SHOP, two=LIVE_STRIPE, three=TEST_STRIPE)
    expected = (
        f"connections.two.api_key: {A_LIVE}, but connections.one.shop_url {A_TEST}: give each a configuration of its own and say "
        "which one it is (environment: production or sandbox)"
    )
    assert mistakes(path) == [expected]
    with pytest.raises(ConfigError) as error:
        Runtime.from_file(path).link("three")
    assert error.value.mistakes == [expected]


def test_a_disabled_connection_says_nothing_about_the_others(tmp_path: Path) -> None:
    assert mistakes(written(tmp_path, None, one=TEST_SHOP | {"is_enabled": "false"}, two=LIVE_STRIPE)) == []


def test_a_key_behind_a_reference_is_judged_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_KEY", "sk_test_hunter9")
    path = written(tmp_path, "production", one=LIVE_STRIPE | {"api_key": "${STRIPE_KEY}"})
    assert mistakes(path) == [
        f"connections.one.api_key: {A_TEST}, and this is a production configuration (environment)"
    ]


def test_an_unknown_environment_is_named(tmp_path: Path) -> None:
    assert mistakes(written(tmp_path, "staging", one=LIVE_STRIPE)) == [
        f"{tmp_path}/ledger.yaml:1: environment: Input should be 'production' or 'sandbox'"
    ]


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("http://127.0.0.1:8400/x", "test"),
        ("http://[::1]:8400", "test"),
        ("https://api.example.com", "live"),
        ("https://shop.example.org", "live"),
        ("https://example.org.evil.com", None),
        ("https://evilexample.org", None),
        ("http://[broken", None),
        ("", None),
    ],
)
def test_an_address_tells_by_its_host(value: str, mode: str | None) -> None:
    assert by_host(live=("api.example.com", ".example.org"))(value) == mode
    assert by_prefix(live=("l_",), test=("t_",))(value) is None


# a key of one's own -------------------------------------------------------------------------------------------


OWN = "every connection needs a key of its own (or `shares_keys: true` in both)"


def test_two_connections_with_one_value_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, None, one=LIVE_STRIPE, two=LIVE_STRIPE)
    assert mistakes(path) == [f"connections.two.api_key: the same secret as connections.one.api_key; {OWN}"]


def test_two_connections_with_one_reference_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "shpat_hunter")
    one = LIVE_SHOP | {"access_token": "${KEY}"}
    path = written(tmp_path, None, one=one, two=one | {"access_token": "${env:KEY}"})
    assert mistakes(path) == [f"connections.two.access_token: the same secret as connections.one.access_token; {OWN}"]


def test_the_same_value_behind_two_references_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_1", "shpat_hunter")
    monkeypatch.setenv("KEY_2", "shpat_hunter")
    path = written(tmp_path, None, **{n: LIVE_SHOP | {"access_token": f"${{KEY_{n[-1]}}}"} for n in ("s1", "s2")})
    assert len(mistakes(path)) == 1


def test_connections_that_say_so_may_share_a_key(tmp_path: Path) -> None:
    sharing = LIVE_STRIPE | {"shares_keys": "true"}
    assert mistakes(written(tmp_path, None, one=sharing, two=sharing)) == []
    assert len(mistakes(written(tmp_path, None, one=sharing, two=LIVE_STRIPE))) == 1


def test_a_developers_account_may_be_that_of_several_items(tmp_path: Path) -> None:
    other = LIVE_PLAID | {"access_token": "access-production-other"}
    assert mistakes(written(tmp_path, None, one=LIVE_PLAID, two=other)) == []
    assert len(mistakes(written(tmp_path, None, one=LIVE_PLAID, two=LIVE_PLAID))) == 1
