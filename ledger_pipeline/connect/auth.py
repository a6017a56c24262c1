"""How a request proves who sends it: flows that yield requests and receive answers, and do no I/O but through a
token store.

A flow yields the request to send, signed; where a token has to be fetched or renewed first it yields that request
too. The client sends whatever is yielded and sends the answer back in. Rotating refresh tokens are used once: the
store's lock spans reading the stored token, renewing it and saving the new one, across processes.
"""

from __future__ import annotations

import base64
import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote

import msgspec

from ledger_pipeline.connect.errors import AuthError, TransportError
from ledger_pipeline.connect.redact import MASK, Secret

if TYPE_CHECKING:
    from ledger_pipeline.connect.client import Request, Response

Flow = Generator["Request", "Response", None]

_LEEWAY_SECONDS = 60  # a token is renewed this long before it expires, so that it survives the request


class Auth(Protocol):
    """`flow` signs requests; `secrets` are all texts that must never be printed, tokens seen so far included."""

    def flow(self, request: Request) -> Flow: ...

    def secrets(self) -> Iterable[str]: ...


class NoAuth:
    """For sources that ask for no key."""

    def flow(self, request: Request) -> Flow:
        yield request

    def secrets(self) -> Iterable[str]:
        return ()


@dataclass(frozen=True, slots=True)
class Bearer:
    """`Authorization: Bearer <token>`."""

    token: Secret

    def flow(self, request: Request) -> Flow:
        yield request.with_headers({"Authorization": f"Bearer {self.token.reveal()}"})

    def secrets(self) -> Iterable[str]:
        return (self.token.reveal(),)


@dataclass(frozen=True, slots=True)
class Basic:
    """`Authorization: Basic …`, in UTF-8 and without form-encoding the two parts, as providers expect it."""

    user: str
    password: Secret

    def flow(self, request: Request) -> Flow:
        yield request.with_headers({"Authorization": _basic(self.user, self.password)})

    def secrets(self) -> Iterable[str]:
        pair = f"{self.user}:{self.password.reveal()}"
        return (pair, self.password.reveal()) if self.password.reveal() else (pair, self.user)


@dataclass(frozen=True, slots=True)
class HeaderKeys:
    """Keys in headers of their own: `HeaderKeys({"X-Shopify-Access-Token": Secret(…)})`."""

    keys: Mapping[str, Secret]

    def flow(self, request: Request) -> Flow:
        yield request.with_headers({name: secret.reveal() for name, secret in self.keys.items()})

    def secrets(self) -> Iterable[str]:
        return tuple(secret.reveal() for secret in self.keys.values())


@dataclass(frozen=True, slots=True)
class BodyKeys:
    """Keys in the JSON body (Plaid): `BodyKeys({"client_id": …, "secret": …, "access_token": …})`."""

    keys: Mapping[str, Secret]

    def flow(self, request: Request) -> Flow:
        yield request.with_json({name: secret.reveal() for name, secret in self.keys.items()})

    def secrets(self) -> Iterable[str]:
        return tuple(secret.reveal() for secret in self.keys.values())


class Token(msgspec.Struct, frozen=True):
    """`expires_at` is a Unix time in seconds; None where the server doesn't say."""

    access_token: str
    refresh_token: str | None = None
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"Token({MASK}, expires_at={self.expires_at})"

    def is_fresh(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at - _LEEWAY_SECONDS


class TokenStore(Protocol):
    """Where tokens live between runs. `lock` excludes every other thread and process from the same connection's
    token.
    """

    def load(self, connection: str) -> Token | None: ...

    def save(self, connection: str, token: Token) -> None: ...

    def lock(self, connection: str) -> AbstractContextManager[None]: ...


class FileTokenStore:
    """A file per connection, readable by its owner only, replaced atomically and on disk before `save` returns.

    `lock` waits `lock_seconds` and then raises TransportError. Locks are flock(2): one machine, no network file
    systems.
    """

    def __init__(self, folder: Path, lock_seconds: float = 120) -> None:
        self._folder = folder
        self._lock_seconds = lock_seconds

    def load(self, connection: str) -> Token | None:
        try:
            return msgspec.json.decode(self._path(connection).read_bytes(), type=Token)
        except FileNotFoundError:
            return None

    def save(self, connection: str, token: Token) -> None:
        path = self._path(connection)
        handle, name = tempfile.mkstemp(dir=self._made(), prefix=path.name)  # mkstemp makes 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(token))
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise
        self._sync_folder()

    @contextmanager
    def lock(self, connection: str) -> Iterator[None]:
        path = self._made() / (self._path(connection).name + ".lock")
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for(handle, connection)
            yield
        finally:
            os.close(handle)  # releases the lock

    def _wait_for(self, handle: int, connection: str) -> None:
        deadline = time.monotonic() + self._lock_seconds
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                raise TransportError(
                    connection, f"another process has held the token's lock for {self._lock_seconds:.0f} s"
                )
            time.sleep(0.02)

    def _path(self, connection: str) -> Path:
        return self._folder / f"{quote(connection, safe='')}.token.json"

    def _made(self) -> Path:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._folder

    def _sync_folder(self) -> None:
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Answer(msgspec.Struct):
    """RFC 6749 section 5.1; some servers write the number as a string."""

    access_token: str
    refresh_token: str | None = None
    expires_in: float | str | None = None


class _Refusal(msgspec.Struct):
    error: str = ""
    error_description: str = ""


@dataclass
class _OAuth2:
    """Shared by the grants below: keeps a token in memory, renews it under the store's lock, and once more after a
    401.
    """

    connection: str
    token_url: str
    client_id: str
    client_secret: Secret
    store: TokenStore
    scope: str = ""
    client_auth: Literal["basic", "body"] = "basic"
    now: Callable[[], float] = time.time
    _token: Token | None = field(default=None, repr=False)
    _seen: set[str] = field(default_factory=set, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _grant(self, token: Token | None) -> tuple[dict[str, str], bool]:
        """The token request's form, and whether it may be sent twice."""
        raise NotImplementedError

    def flow(self, request: Request) -> Flow:
        token = self._token
        if token is None or not token.is_fresh(self.now()):
            token = yield from self._renewed(request, rejected=None)
        answer = yield request.with_headers({"Authorization": f"Bearer {token.access_token}"})
        if answer.status == 401:
            token = yield from self._renewed(request, rejected=token.access_token)
            yield request.with_headers({"Authorization": f"Bearer {token.access_token}"})

    def secrets(self) -> Iterable[str]:
        with self._guard:
            return (self.client_secret.reveal(), f"{self.client_id}:{self.client_secret.reveal()}", *self._seen)

    def _renewed(self, request: Request, rejected: str | None) -> Generator[Request, Response, Token]:
        """A token that isn't the rejected one: another process's, if it was quicker, or a new one, stored before it
        is used.
        """
        with self.store.lock(self.connection):
            stored = self.store.load(self.connection)
            self._remember(stored)
            if stored is not None and stored.access_token != rejected and stored.is_fresh(self.now()):
                return self._keep(stored)
            form, is_safe = self._grant(stored)
            answer = yield self._token_request(request, form, is_safe)
            token = self._parsed(answer, stored)
            self.store.save(self.connection, token)
            return self._keep(token)

    def _token_request(self, request: Request, form: dict[str, str], is_safe: bool) -> Request:
        if self.scope:
            form["scope"] = self.scope
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self.client_auth == "basic":
            headers["Authorization"] = _basic(self.client_id, self.client_secret)
        else:
            form |= {"client_id": self.client_id, "client_secret": self.client_secret.reveal()}
        return type(request)("POST", self.token_url, headers=headers, data=form, is_safe=is_safe)

    def _parsed(self, answer: Response, stored: Token | None) -> Token:
        if answer.status >= 300:
            try:
                refusal = msgspec.json.decode(answer.json_bytes, type=_Refusal)
            except msgspec.DecodeError:
                refusal = _Refusal()
            reason = f"{refusal.error} {refusal.error_description}".strip() or "no reason given"
            raise answer.fault(AuthError, f"no token, {answer.status}: {reason}", is_transient=answer.status >= 500)
        fields = answer.decode(_Answer)
        old = stored.refresh_token if stored else None
        expires_at = None if fields.expires_in is None else self.now() + float(fields.expires_in)
        return Token(fields.access_token, fields.refresh_token or old, expires_at)

    def _remember(self, token: Token | None) -> None:
        if token is not None:
            with self._guard:
                self._seen |= {text for text in (token.access_token, token.refresh_token) if text}

    def _keep(self, token: Token) -> Token:
        self._remember(token)
        self._token = token
        return token


@dataclass
class OAuth2ClientCredentials(_OAuth2):
    """Tokens for the application itself. The token request changes nothing, so it is repeated like a read."""

    def _grant(self, token: Token | None) -> tuple[dict[str, str], bool]:
        return {"grant_type": "client_credentials"}, True


@dataclass
class OAuth2Refresh(_OAuth2):
    """A user's consent, kept alive by refresh tokens that may change at each use. `first` starts the chain where the
    store is empty.

    The token request is sent exactly once: when its answer is lost, the old refresh token may be spent already.
    """

    first: Secret | None = None

    def _grant(self, token: Token | None) -> tuple[dict[str, str], bool]:
        refresh_token = token.refresh_token if token else None
        if refresh_token is None and self.first is not None:
            refresh_token = self.first.reveal()
            with self._guard:
                self._seen.add(refresh_token)
        if refresh_token is None:
            raise AuthError(self.connection, "there is no refresh token; the connection has to be authorised again")
        return {"grant_type": "refresh_token", "refresh_token": refresh_token}, False


def _basic(user: str, password: Secret) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
