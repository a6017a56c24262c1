"""Webhooks: a source declares how its provider signs them and which streams a topic changes; the schemes here verify.

Everything is checked over the raw body and in constant time, before a byte of it is parsed. Several secrets may be live while one
replaces the other. A time that is signed must lie within the scheme's window, in the past and in the future.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from ledger_pipeline.model.webhooks import Event

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Client

Reason = Literal["unsigned", "wrong_signature", "wrong_key", "stale", "future", "too_deep", "malformed"]
MAX_DEPTH = 32
"""Arrays and objects within each other; the deepest event of the three providers has 12."""
MAX_SIGNATURES = 16
"""So many signatures of one header are looked at."""


class WebhookRefused(Exception):
    """A delivery that is not taken; says why and never what was in it."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request as it came: header names in lower case, the body's exact bytes, and when it was received (UTC)."""

    headers: Mapping[str, str]
    body: bytes
    at: datetime

    def header(self, name: str) -> str:
        """A header's value; refuses the delivery without it."""
        value = self.headers.get(name.lower())
        if not value:
            raise WebhookRefused("unsigned", f"no header {name}")
        return value


@dataclass(frozen=True, slots=True)
class Signed:
    """A delivery that is genuine: which of the secrets proved it (1 is the first), when it was signed, and the scheme's own id for it."""

    secret_no: int
    at: datetime | None = None
    id: str = ""


class Scheme(Protocol):
    """How a provider signs. `keys` are the connection's live secrets, or the one public key that `key_id` names."""

    @property
    def needs_secrets(self) -> bool:
        """False where the provider's public keys are asked for instead."""
        ...

    def key_id(self, delivery: Delivery) -> str:
        """The public key that a delivery names, "" where secrets are used."""
        ...

    def verify(self, delivery: Delivery, keys: Sequence[Any]) -> Signed:
        """Raise WebhookRefused for what isn't genuine."""
        ...


def _within(signed_at: datetime, received_at: datetime, tolerance: timedelta) -> None:
    if signed_at < received_at - tolerance:
        raise WebhookRefused("stale", f"signed more than {tolerance.total_seconds():.0f} s before it was received")
    if signed_at > received_at + tolerance:
        raise WebhookRefused("future", f"signed more than {tolerance.total_seconds():.0f} s after it was received")


def _instant(text: str) -> datetime:
    if not re.fullmatch(r"[0-9]{1,11}", text):
        raise WebhookRefused("malformed", "the signed time is not in Unix seconds")
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (OverflowError, ValueError, OSError):
        raise WebhookRefused("malformed", "the signed time is out of range") from None


def _matching(given: Sequence[bytes], content: bytes, secrets: Sequence[bytes]) -> int:
    """Number of the secret (from 1) that made one of the signatures; every pair is compared, in constant time."""
    found = 0
    for number, secret in enumerate(secrets, 1):
        expected = hmac.digest(secret, content, "sha256")
        for one in given[:MAX_SIGNATURES]:
            if hmac.compare_digest(expected, one) and not found:
                found = number
    if not found:
        raise WebhookRefused("wrong_signature", "no live secret made this signature")
    return found


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if re.fullmatch(r"[0-9a-f]{64}", text) else b""
    except ValueError:
        return b""


def _base64(text: str) -> bytes:
    """The bytes, empty where it isn't exactly how they are written: one signature has one spelling."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if base64.b64encode(found).decode() == text else b""


@dataclass(frozen=True, slots=True)
class TimedHmac:
    """`t=…,v1=…`: HMAC-SHA256 in hex over `t.body` (Stripe). Other schemes in the header are passed over."""

    name: str
    tolerance: timedelta = timedelta(minutes=5)
    needs_secrets: bool = True

    def key_id(self, delivery: Delivery) -> str:
        """None: secrets are shared."""
        return ""

    def verify(self, delivery: Delivery, keys: Sequence[Any]) -> Signed:
        """The signature first, then the window, so that only a genuine one is told that it is late."""
        pairs = [part.partition("=") for part in delivery.header(self.name).split(",")]
        times = [value for name, _, value in pairs if name.strip() == "t"]
        given = [_hex(value) for name, _, value in pairs if name.strip() == "v1"]
        if len(times) != 1 or not given:
            raise WebhookRefused("malformed", f"{self.name} needs one t and a v1")
        number = _matching(given, times[0].encode() + b"." + delivery.body, keys)
        signed_at = _instant(times[0])
        _within(signed_at, delivery.at, self.tolerance)
        return Signed(number, signed_at)


@dataclass(frozen=True, slots=True)
class BodyHmac:
    """HMAC-SHA256 in base64 over the body alone (Shopify): no time is signed, so nothing but a kept id stops a replay."""

    name: str
    needs_secrets: bool = True

    def key_id(self, delivery: Delivery) -> str:
        """None: secrets are shared."""
        return ""

    def verify(self, delivery: Delivery, keys: Sequence[Any]) -> Signed:
        """As the protocol says."""
        return Signed(_matching([_base64(delivery.header(self.name))], delivery.body, keys))


@dataclass(frozen=True, slots=True)
class StandardHmac:
    """Standard Webhooks (https://www.standardwebhooks.com): `v1,<base64>` over `id.timestamp.body`; secrets are `whsec_<base64>`."""

    tolerance: timedelta = timedelta(minutes=5)
    needs_secrets: bool = True

    def key_id(self, delivery: Delivery) -> str:
        """None: secrets are shared."""
        return ""

    def verify(self, delivery: Delivery, keys: Sequence[Any]) -> Signed:
        """As the protocol says; the id is that of the header, which is signed."""
        id_, time = delivery.header("webhook-id"), delivery.header("webhook-timestamp")
        signatures = delivery.header("webhook-signature").split(" ")
        given = [_base64(one.removeprefix("v1,")) for one in signatures if one.startswith("v1,")]
        secrets = [standard_key(secret.decode()) for secret in keys]
        number = _matching(given, b".".join((id_.encode(), time.encode(), delivery.body)), secrets)
        signed_at = _instant(time)
        _within(signed_at, delivery.at, self.tolerance)
        return Signed(number, signed_at, id_)


def standard_key(secret: str) -> bytes:
    """The key of a `whsec_…` secret; raises ValueError when it isn't one, without showing it."""
    key = _base64(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else b""
    if len(key) < 24:
        raise ValueError("a Standard Webhooks secret is whsec_ and the base64 of at least 24 bytes")
    return key


def standard_headers(id_: str, at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """The headers of an outgoing event, signed with each of the secrets."""
    time = str(int(at.timestamp()))
    content = b".".join((id_.encode(), time.encode(), body))
    signatures = [base64.b64encode(hmac.digest(standard_key(secret), content, "sha256")).decode() for secret in secrets]
    return {
        "webhook-id": id_,
        "webhook-timestamp": time,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


class _JwtHeader(msgspec.Struct):
    alg: str
    kid: str


class _JwtClaims(msgspec.Struct):
    iat: int
    request_body_sha256: str


@dataclass(frozen=True, slots=True)
class SignedBodyHash:
    """A JWT, ES256 and nothing else, whose claims are `iat` and the body's SHA-256 (Plaid); its key is asked for by `kid`."""

    name: str
    tolerance: timedelta = timedelta(minutes=5)
    needs_secrets: bool = False

    def key_id(self, delivery: Delivery) -> str:
        """The `kid` of the token's header, not verified yet."""
        return self._parts(delivery)[0].kid

    def _parts(self, delivery: Delivery) -> tuple[_JwtHeader, bytes, bytes, bytes]:
        """(header, signed text, claims, signature)."""
        token = delivery.header(self.name)
        parts = token.split(".")
        if len(parts) != 3 or len(token) > 4096:
            raise WebhookRefused("malformed", f"{self.name} is no JWT")
        try:
            header, claims, signature = (_base64url(part) for part in parts)
            found = msgspec.json.decode(header, type=_JwtHeader)
        except (ValueError, msgspec.MsgspecError):
            raise WebhookRefused("malformed", f"{self.name} is no JWT") from None
        if found.alg != "ES256":
            raise WebhookRefused("wrong_signature", "the token is not signed with ES256")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", found.kid):
            raise WebhookRefused("malformed", "the token names no usable key")
        return found, ".".join(parts[:2]).encode(), claims, signature

    def verify(self, delivery: Delivery, keys: Sequence[Any]) -> Signed:
        """`keys` is the one JSON Web Key that `key_id` names."""
        _, text, claims, signature = self._parts(delivery)
        (key,) = keys
        _verify_es256(key, text, signature, delivery.at)
        try:
            told = msgspec.json.decode(claims, type=_JwtClaims)
        except msgspec.MsgspecError:
            raise WebhookRefused("malformed", "the token lacks iat or request_body_sha256") from None
        signed_at = _instant(str(told.iat))
        _within(signed_at, delivery.at, self.tolerance)
        hash_ = hashlib.sha256(delivery.body).hexdigest()
        if not hmac.compare_digest(hash_.encode(), told.request_body_sha256.encode()):
            raise WebhookRefused("wrong_signature", "the token is for another body")
        return Signed(1, signed_at, f"{told.iat}-{hash_}")


def _base64url(text: str) -> bytes:
    """Raises ValueError where the text isn't how these bytes are written without padding."""
    found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != text:
        raise ValueError("not canonical base64url")
    return found


def _verify_es256(key: Mapping[str, Any], text: bytes, signature: bytes, at: datetime) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    kind = (key.get("kty"), key.get("crv"), key.get("alg", "ES256"), key.get("use", "sig"))
    if kind != ("EC", "P-256", "ES256", "sig"):
        raise WebhookRefused("wrong_key", "the key that the token names isn't for ES256")
    expired_at = key.get("expired_at")
    if expired_at is not None and int(expired_at) <= at.timestamp():
        raise WebhookRefused("wrong_key", "the key that the token names has expired")
    if len(signature) != 64:
        raise WebhookRefused("wrong_signature", "an ES256 signature has 64 bytes")
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        x, y = (int.from_bytes(_base64url(str(key.get(name, ""))), "big") for name in ("x", "y"))
        public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        raise WebhookRefused("wrong_key", "the key that the token names is no point of P-256") from None
    try:
        public.verify(encode_dss_signature(r, s), text, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise WebhookRefused("wrong_signature", "the key did not make this signature") from None


# what a delivery says ---------------------------------------------------------------------------------------------------

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def require_shallow(body: bytes, limit: int = MAX_DEPTH) -> None:
    """Refuse a body that nests deeper than `limit`, before anything recursive reads it."""
    brackets = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") <= limit:
        return
    depth = 0
    for one in brackets:
        depth += 1 if one in b"[{" else -1
        if depth > limit:
            raise WebhookRefused("too_deep", f"nested more than {limit} deep")


_TEXT = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True)
class Webhook:
    """A source's webhooks: the scheme, what names an event, and the streams that a topic changes.

    `topic`, `event_id`, `subject` and `occurred_at` are paths in the body, or `header:Name`; several are joined by dots. An `event_id`
    that is empty is the scheme's own. `streams`: (pattern of topics, streams). `is_id_signed` is False where the id stands in a header
    that the signature doesn't cover: then the same body is not taken twice either, whatever id it comes with.
    """

    scheme: Scheme
    topic: tuple[str, ...]
    streams: tuple[tuple[str, tuple[str, ...]], ...]
    event_id: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    occurred_at: str = ""
    is_id_signed: bool = True
    keeps_body: bool = True
    fetch_key: Callable[[Client, str], Mapping[str, Any]] | None = None
    """Asks the provider for the public key of that id."""

    def streams_of(self, topic: str) -> tuple[str, ...]:
        """The streams that change with a topic; none where nothing is pulled for it."""
        found = (streams for pattern, streams in self.streams if fnmatchcase(topic, pattern))
        return tuple(dict.fromkeys(stream for streams in found for stream in streams))

    def event(self, connection: str, delivery: Delivery, signed: Signed) -> Event:
        """What a genuine delivery says; raises WebhookRefused for a body that is too deep, no JSON object or without id and topic."""
        require_shallow(delivery.body)
        try:
            body = msgspec.json.decode(delivery.body)
        except (msgspec.MsgspecError, RecursionError):
            raise WebhookRefused("malformed", "the body is no JSON") from None
        if not isinstance(body, dict):
            raise WebhookRefused("malformed", "the body is no JSON object")

        def said(parts: tuple[str, ...]) -> str:
            return ".".join(_part(delivery, body, part) for part in parts).strip(".")

        id_, topic = (said(self.event_id) if self.event_id else signed.id), said(self.topic)
        if not _TEXT.fullmatch(id_) or not _TEXT.fullmatch(topic):
            raise WebhookRefused("malformed", "no usable id or topic")
        subject = said(self.subject)
        hash_ = hashlib.sha256(delivery.body).digest()
        return Event(
            connection,
            id_,
            topic,
            subject if _TEXT.fullmatch(subject) else "",
            min(self._occurred_at(delivery, body, signed), delivery.at),
            delivery.at,
            signed.secret_no,
            hash_,
            len(delivery.body),
            delivery.body if self.keeps_body else None,
            None if self.is_id_signed else hash_,
        )

    def _occurred_at(self, delivery: Delivery, body: Mapping[str, Any], signed: Signed) -> datetime:
        """The provider's time of the change, else the signed one, else when it was received."""
        text = _part(delivery, body, self.occurred_at) if self.occurred_at else ""
        try:
            found = _instant(text) if text.isdigit() else datetime.fromisoformat(text)
        except (ValueError, WebhookRefused):
            return signed.at or delivery.at
        return found.astimezone(UTC) if found.tzinfo else signed.at or delivery.at


def _part(delivery: Delivery, body: Mapping[str, Any], part: str) -> str:
    """A header's value or a scalar of the body, as text; empty where there is none."""
    if part.startswith("header:"):
        return delivery.headers.get(part.removeprefix("header:").lower(), "")
    found: Any = body
    for name in part.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
