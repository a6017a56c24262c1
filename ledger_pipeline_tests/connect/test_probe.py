"""What a probe reads from one answer: whether the key is taken, the clock's skew, what is left of the quota."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger_pipeline import sources
from ledger_pipeline.connect import probe
from ledger_pipeline.connect.errors import AuthError
from ledger_pipeline.connect.probe import Quota
from ledger_pipeline_tests.conftest import SandboxCompany

CONNECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "stripe_us": ("stripe", {"base_url": "{url}/stripe_us", "api_key": "sk_test_sandbox_stripe_us"}),
    "plaid_us": (
        "plaid",
        {
            "base_url": "{url}/plaid_us",
            "client_id": "sandbox-client",
            "secret": "sandbox-secret-plaid_us",
            "access_token": "access-sandbox-plaid_us",
        },
    ),
    "shopify_us": ("shopify", {"shop_url": "{url}/shopify_us", "access_token": "shpat_sandbox_shopify_us"}),
}


def client_of(name: str, url: str, **wrong: str) -> tuple[Any, Any]:
    source_name, raw = CONNECTIONS[name]
    source = sources.load(source_name)
    options = source.options.model_validate({k: v.format(url=url) for k, v in raw.items()} | wrong)
    assert source.connect is not None
    return source, source.connect(name, options)


@pytest.mark.parametrize("name", CONNECTIONS)
def test_each_system_takes_its_probe(name: str, sandbox: SandboxCompany) -> None:
    source, client = client_of(name, sandbox.url)
    with client:
        seen = probe.look(client, source.probe)
    assert seen.is_key_tested
    assert client.stats.calls == 1
    assert seen.skew_seconds is not None
    assert abs(seen.skew_seconds) < 30
    if name == "shopify_us":
        [quota] = seen.quotas
        assert quota.window == "points"
        assert 0 < quota.left <= (quota.size or 0)


@pytest.mark.parametrize(
    ("name", "key"), [("stripe_us", "api_key"), ("plaid_us", "access_token"), ("shopify_us", "access_token")]
)
def test_a_wrong_key_is_named(name: str, key: str, sandbox: SandboxCompany) -> None:
    source, client = client_of(name, sandbox.url, **{key: "wrong-key-0123456789"})
    with client, pytest.raises(Exception, match=name) as error:
        probe.look(client, source.probe)
    assert isinstance(error.value, AuthError)
    assert "wrong-key-0123456789" not in str(error.value)


def test_a_source_without_a_probe_shows_that_its_address_answers(sandbox: SandboxCompany) -> None:
    _, client = client_of("stripe_us", sandbox.url)
    with client:
        assert probe.look(client, None).is_key_tested is False


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"X-Shopify-Shop-Api-Call-Limit": "32/40"}, [Quota(8, 40, "bucket")]),
        ({"Sforce-Limit-Info": "api-usage=18/5000"}, [Quota(4982, 5000, "day")]),
        ({"X-RateLimit-Remaining": "12", "X-RateLimit-Limit": "60"}, [Quota(12, 60, "window")]),
        ({"X-RateLimit-Remaining": "12"}, [Quota(12, None, "window")]),
        ({"X-DayLimit-Remaining": "4000", "X-MinLimit-Remaining": "59"}, [Quota(4000, 5000, "day"), Quota(59, 60, "minute")]),
        ({"X-HubSpot-RateLimit-Daily": "650000", "X-HubSpot-RateLimit-Daily-Remaining": "1"}, [Quota(1, 650000, "day")]),
        ({"X-RateLimit-Remaining": "soon", "X-Shopify-Shop-Api-Call-Limit": "many"}, []),
        ({}, []),
    ],
)  # fmt: skip
def test_rate_limit_headers_of_known_providers(headers: Mapping[str, str], expected: list[Quota]) -> None:
    assert probe.quotas(headers) == expected


def test_the_skew_is_ours_minus_theirs() -> None:
    at = datetime(2026, 10, 5, 12, 0, 30, tzinfo=UTC)
    ahead = (at - timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert probe.skew({"Date": ahead}, at) == pytest.approx(89.5)
    assert probe.skew({"Date": "yesterday"}, at) is None
    assert probe.skew({}, at) is None


def test_every_source_with_a_client_declares_a_probe() -> None:
    folder = Path(sources.__file__).parent
    assert folder.is_dir()
    without = [n for n in sources.known() if sources.load(n).connect is not None and sources.load(n).probe is None]
    assert without == []
