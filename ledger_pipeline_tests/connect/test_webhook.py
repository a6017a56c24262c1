"""Webhooks are genuine or refused: each scheme against the provider's own library, every bit flipped, both sides of the window."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import standardwebhooks
import stripe
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.connect.webhook import (
    MAX_DEPTH,
    BodyHmac,
    Delivery,
    Scheme,
    SignedBodyHash,
    StandardHmac,
    TimedHmac,
    Webhook,
    WebhookRefused,
    require_shallow,
    standard_headers,
    standard_key,
)
from ledger_pipeline.sandbox.hooks import Told
from ledger_pipeline.sources.plaid import sandbox as plaid
from ledger_pipeline.sources.plaid import sandbox_webhooks as plaid_webhooks
from ledger_pipeline.sources.plaid.spec import WEBHOOK as PLAID
from ledger_pipeline.sources.shopify import sandbox_webhooks as shopify_webhooks
from ledger_pipeline.sources.shopify.spec import WEBHOOK as SHOPIFY
from ledger_pipeline.sources.stripe import sandbox_webhooks as stripe_webhooks
from ledger_pipeline.sources.stripe.spec import WEBHOOK as STRIPE

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
BODY = json.dumps(
    {"id": "evt_1", "type": "charge.succeeded", "created": int(NOW.timestamp()), "data": {"object": {"id": "ch_1"}}}
).encode()
WHSEC = "whsec_" + base64.b64encode(b"k" * 32).decode()


@dataclass(frozen=True)
class Case:
    """A scheme, what verifies it, and how a provider signs."""

    scheme: Scheme
    keys: Sequence[Any]
    sign: Callable[[bytes, datetime], dict[str, str]]
    is_timed: bool = True

    def delivery(self, body: bytes = BODY, signed_at: datetime = NOW, at: datetime = NOW) -> Delivery:
        return Delivery({k.lower(): v for k, v in self.sign(body, signed_at).items()}, body, at)


def told(body: bytes) -> Told:
    return Told(NOW, "orders/create", "w1", body)


CASES = {
    "stripe": Case(
        STRIPE.scheme, [b"old", b"whsec_sandbox_c"], lambda body, at: stripe_webhooks.signed(told(body), "c", at)
    ),
    "shopify": Case(
        SHOPIFY.scheme,
        [b"old", b"sandbox_c"],
        lambda body, at: shopify_webhooks.signed(told(body), "c", at),
        is_timed=False,
    ),
    "plaid": Case(PLAID.scheme, [plaid.webhook_jwk()], lambda body, at: plaid_webhooks.signed(told(body), "c", at)),
    "standard": Case(StandardHmac(), [WHSEC.encode()], lambda body, at: standard_headers("msg_1", at, body, [WHSEC])),
}
HEADERS = {
    "stripe": "stripe-signature",
    "shopify": "x-shopify-hmac-sha256",
    "plaid": "plaid-verification",
    "standard": "webhook-signature",
}
every_case = pytest.mark.parametrize("name", CASES)


def reason(case: Case, delivery: Delivery, keys: Sequence[Any] | None = None) -> str:
    with pytest.raises(WebhookRefused) as caught:
        case.scheme.verify(delivery, case.keys if keys is None else keys)
    return caught.value.reason


@every_case
def test_what_the_provider_signed_is_genuine(name: str) -> None:
    case = CASES[name]
    signed = case.scheme.verify(case.delivery(), case.keys)
    assert signed.secret_no == (2 if len(case.keys) == 2 else 1)
    assert signed.at == (NOW if case.is_timed else None)


@every_case
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bit_flipped_in_the_body_is_refused(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    delivery = case.delivery()
    at = data.draw(st.integers(0, 8 * len(BODY) - 1))
    body = bytearray(BODY)
    body[at // 8] ^= 1 << at % 8
    assert reason(case, Delivery(delivery.headers, bytes(body), NOW)) == "wrong_signature"


@every_case
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_bit_flipped_in_the_signature_is_refused(name: str, data: st.DataObject) -> None:
    case, header = CASES[name], HEADERS[name]
    delivery = case.delivery()
    text = delivery.headers[header]
    span = text.index(",v0=") if name == "stripe" else len(text)  # v0 is no signature of ours
    at = data.draw(st.integers(0, 7 * span - 1))
    changed = text[: at // 7] + chr(ord(text[at // 7]) ^ 1 << at % 7) + text[at // 7 + 1 :]
    with pytest.raises(WebhookRefused):
        case.scheme.verify(Delivery({**delivery.headers, header: changed}, BODY, NOW), case.keys)


@every_case
@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=80), body=st.binary(max_size=80))
def test_nonsense_is_refused_and_nothing_else_is_raised(name: str, text: str, body: bytes) -> None:
    case = CASES[name]
    headers = {
        HEADERS[name]: text,
        "webhook-id": text,
        "webhook-timestamp": text,
    }
    delivery = Delivery(headers, body, NOW)

    def look() -> None:
        case.scheme.key_id(delivery)
        case.scheme.verify(delivery, case.keys)

    with pytest.raises(WebhookRefused):
        look()


@every_case
def test_a_re_serialised_body_is_refused(name: str) -> None:
    case = CASES[name]
    again = json.dumps(json.loads(BODY), separators=(",", ":")).encode()
    assert again != BODY
    assert reason(case, Delivery(case.delivery().headers, again, NOW)) == "wrong_signature"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_timed])
def test_the_window_has_two_sides(name: str) -> None:
    case = CASES[name]
    window = timedelta(minutes=5)
    for at in (NOW - window, NOW + window):
        case.scheme.verify(case.delivery(signed_at=at), case.keys)
    assert reason(case, case.delivery(signed_at=NOW - window - timedelta(seconds=1))) == "stale"
    assert reason(case, case.delivery(signed_at=NOW + window + timedelta(seconds=1))) == "future"


@every_case
def test_another_secret_and_a_missing_header_are_refused(name: str) -> None:
    case = CASES[name]
    other = plaid.webhook_jwk() | {"x": base64.urlsafe_b64encode(bytes(31) + b"\x05").rstrip(b"=").decode()}
    keys = [other] if name == "plaid" else [WHSEC.replace("a", "b").encode() if name == "standard" else b"another"]
    assert reason(case, case.delivery(), keys) in ("wrong_signature", "wrong_key")
    assert reason(case, Delivery({}, BODY, NOW)) == "unsigned"


# the providers' own libraries -------------------------------------------------------------------------------------------


def test_stripes_library_and_ours_agree() -> None:
    now = int(datetime.now(UTC).timestamp())
    signature = stripe.WebhookSignature._compute_signature(f"{now}.{BODY.decode()}", "whsec_x")  # type: ignore[attr-defined]
    header = f"t={now},v1={'0' * 64},v1={signature}"
    delivery = Delivery({"stripe-signature": header}, BODY, datetime.now(UTC))
    assert TimedHmac("Stripe-Signature").verify(delivery, [b"whsec_x"]).secret_no == 1
    event = stripe.Webhook.construct_event(BODY, header, "whsec_x")  # type: ignore[no-untyped-call]
    assert event["id"] == STRIPE.event("c", delivery, STRIPE.scheme.verify(delivery, [b"whsec_x"])).event_id


def test_stripes_library_takes_what_the_sandbox_signs() -> None:
    headers = stripe_webhooks.signed(told(BODY), "c", datetime.now(UTC))
    assert stripe.Webhook.construct_event(BODY, headers["Stripe-Signature"], "whsec_sandbox_c")  # type: ignore[no-untyped-call]


def test_standard_webhooks_library_and_ours_agree_both_ways() -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    headers = standard_headers("msg_1", now, BODY, [other, WHSEC])
    assert standardwebhooks.Webhook(WHSEC).verify(BODY, headers) == json.loads(BODY)
    theirs = standardwebhooks.Webhook(WHSEC).sign("msg_1", now, BODY.decode())
    made = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": theirs}
    assert StandardHmac().verify(Delivery(made, BODY, now), [WHSEC.encode()]).id == "msg_1"


# Plaid's key ------------------------------------------------------------------------------------------------------------


def jwt(header: dict[str, Any], claims: dict[str, Any], signature: bytes = bytes(64)) -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_the_algorithm_is_pinned() -> None:
    claims = {"iat": int(NOW.timestamp()), "request_body_sha256": hashlib.sha256(BODY).hexdigest()}
    scheme = SignedBodyHash("Plaid-Verification")
    public = json.dumps(plaid.webhook_jwk()).encode()
    for algorithm in ("none", "HS256", "ES384", "es256"):
        text = jwt({"alg": algorithm, "kid": "k"}, claims)
        forged = text.rpartition(".")[0]
        token = jwt({"alg": algorithm, "kid": "k"}, claims, hmac.digest(public, forged.encode(), "sha256"))
        with pytest.raises(WebhookRefused, match="not signed with ES256"):
            scheme.verify(Delivery({"plaid-verification": token}, BODY, NOW), [plaid.webhook_jwk()])


@pytest.mark.parametrize(
    "change",
    [
        {"expired_at": int(NOW.timestamp())},
        {"alg": "RS256"},
        {"crv": "P-384"},
        {"use": "enc"},
        {"x": "AAAA"},
    ],
)
def test_an_expired_or_other_key_is_refused(change: dict[str, Any]) -> None:
    case = CASES["plaid"]
    assert reason(case, case.delivery(), [plaid.webhook_jwk() | change]) == "wrong_key"


def test_a_key_that_expires_later_counts() -> None:
    case = CASES["plaid"]
    case.scheme.verify(case.delivery(), [plaid.webhook_jwk() | {"expired_at": int(NOW.timestamp()) + 1}])


# what a delivery says ---------------------------------------------------------------------------------------------------


def event(webhook: Webhook, case: Case, body: bytes = BODY) -> Any:
    delivery = case.delivery(body)
    return webhook.event("c", delivery, case.scheme.verify(delivery, case.keys))


def test_an_event_says_what_changed() -> None:
    found = event(STRIPE, CASES["stripe"])
    assert (found.event_id, found.topic, found.subject, found.occurred_at) == ("evt_1", "charge.succeeded", "ch_1", NOW)
    assert STRIPE.streams_of(found.topic) == ("balance_transactions",)
    assert STRIPE.streams_of("charge.dispute.closed") == ("balance_transactions", "disputes", "events")
    assert STRIPE.streams_of("customer.created") == ()
    shop = event(SHOPIFY, CASES["shopify"], b'{"id": 42, "email": "a@example.invalid"}')
    assert (shop.event_id, shop.topic, shop.subject) == ("w1", "orders/create", "42")
    assert shop.body is None, "Shopify's bodies have names and addresses"
    assert shop.once_by == hashlib.sha256(b'{"id": 42, "email": "a@example.invalid"}').digest()


def test_a_change_in_the_future_counts_as_received_now() -> None:
    body = BODY.replace(str(int(NOW.timestamp())).encode(), b"9999999999")
    assert event(STRIPE, CASES["stripe"], body).occurred_at == NOW


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'"x"', b'{"type": "x"}', b'{"id": "a\\u0000b", "type": "x"}', b"\xff"]
)
def test_a_body_without_id_and_topic_is_malformed(body: bytes) -> None:
    with pytest.raises(WebhookRefused) as caught:
        event(STRIPE, CASES["stripe"], body)
    assert caught.value.reason == "malformed"


def test_depth_is_limited_before_anything_reads_the_body() -> None:
    def nested(depth: int, opener: bytes = b"[", closer: bytes = b"]") -> bytes:
        return opener * depth + closer * depth

    require_shallow(nested(MAX_DEPTH))
    for body in (nested(MAX_DEPTH + 1), nested(500_000), b'{"a":' * 40 + b"1" + b"}" * 40):
        with pytest.raises(WebhookRefused, match="nested"):
            require_shallow(body)
    require_shallow(b'{"a": "' + b"[{" * 100 + b'", "b\\"' + b"[" * 100 + b'": "\\\\"}')
    require_shallow(b"[1]," * 1000)


def test_a_secret_of_standard_webhooks_is_checked_and_never_shown() -> None:
    for bad in ("abc", "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(ValueError, match="whsec_ and the base64") as caught:
            standard_key(bad)
        assert bad == "whsec_" or bad not in str(caught.value)


def test_schemes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret is compared with every signature, whichever comes first."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    case = CASES["stripe"]
    case.scheme.verify(case.delivery(), [b"whsec_sandbox_c", b"other", b"third"])
    assert len(compared) == 3
    assert isinstance(SHOPIFY.scheme, BodyHmac)
