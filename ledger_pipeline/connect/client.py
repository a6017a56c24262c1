"""One HTTP client for all sources and targets: it repeats what may be repeated, waits when told to, and never sends
or prints a key elsewhere.

Built on requests and urllib3. The retry loop is our own because it has to weigh four things that tenacity and
urllib3's `Retry` don't see together: throttling inside a 200, a body that broke off after the headers, a stated wait
that exceeds the time left, and an injected clock.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, TypeVar

import msgspec
import requests
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import HTTPError, InvalidHeader, LocationParseError
from urllib3.util import Url, parse_url
from urllib3.util.retry import Retry

from ledger_pipeline.connect.auth import Auth, NoAuth
from ledger_pipeline.connect.environments import is_loopback
from ledger_pipeline.connect.errors import (
    AuthError,
    BadPayload,
    ConnectError,
    RateLimited,
    RedirectRefused,
    RequestRejected,
    ServerFault,
    TransportError,
)
from ledger_pipeline.connect.limits import Limit, RateLimit
from ledger_pipeline.connect.paging import Change, Fetch, absolute
from ledger_pipeline.connect.redact import Redactor, process_wide, without_people

T = TypeVar("T")
E = TypeVar("E", bound=ConnectError)

log = logging.getLogger(__name__)

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_CHUNK = 1 << 16
_RETRY_AFTER = Retry(retry_after_max=10**9)
_URLLIB3_FILTER = process_wide  # urllib3 logs every path with its query at DEBUG


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: `json` or `data`, not both. `is_safe` allows sending it again when the outcome is unknown."""

    method: str
    url: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    data: Mapping[str, str] | bytes | None = field(default=None, repr=False)
    is_safe: bool = False

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        return replace(self, headers={**self.headers, **headers})

    def with_json(self, keys: Mapping[str, Any]) -> Request:
        """Adds keys to a JSON object; TypeError where the body is something else."""
        if self.data is not None or not (self.json is None or isinstance(self.json, Mapping)):
            raise TypeError("keys can only be added to a JSON object")
        return replace(self, json={**(self.json or {}), **keys})


class Response:
    """An answer: `status`, `headers` (any case), `json_bytes` (the decompressed body as sent), `url`, `attempts`."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        request: Request,
        connection: str,
        attempts: int,
        redactor: Redactor,
    ) -> None:
        self.status = status
        self.headers: CaseInsensitiveDict[str] = CaseInsensitiveDict(headers)
        self.json_bytes = body
        self.request = request
        self.url = request.url
        self.connection = connection
        self.attempts = attempts
        self._redactor = redactor

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.request.method} {self._redactor(self.url)} {len(self.json_bytes)} bytes>"

    def decode(self, type_: type[T]) -> T:
        """The body as a msgspec type. Raises BadPayload: transient where it isn't JSON, permanent where its shape is
        another.
        """
        try:
            return msgspec.json.decode(self.json_bytes, type=type_)
        except msgspec.ValidationError as error:
            fault = self.fault(BadPayload, f"unexpected answer: {error}", is_transient=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            fault = self.fault(BadPayload, f"not JSON: {error}; it begins {self.excerpt(80)!r}", is_transient=True)
        raise fault

    def excerpt(self, length: int = 500) -> str:
        """The start of the body, redacted."""
        return without_people(self._redactor(self.json_bytes[: 4 * length].decode(errors="replace")))[:length]

    def fault(self, error: type[E], message: str, **more: Any) -> E:
        """An error about this answer; the message is redacted."""
        return error(
            self.connection,
            without_people(self._redactor(message)),
            method=self.request.method,
            url=self._redactor(self.url),
            attempts=self.attempts,
            status=self.status,
            **more,
        )


@dataclass
class Stats:
    """What a client did, for the sync log. `bytes` counts decompressed bodies; `throttled_seconds` waits for limits
    and Retry-After.
    """

    calls: int = 0
    retries: int = 0
    throttled_seconds: float = 0.0
    bytes: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(
        self, *, calls: int = 0, retries: int = 0, throttled: float = 0.0, size: int = 0, status: int | None = None
    ) -> None:
        with self._lock:
            self.calls += calls
            self.retries += retries
            self.throttled_seconds += throttled
            self.bytes += size
            if status is not None:
                self.by_status[status] += 1


@dataclass(frozen=True, slots=True)
class _Failure:
    """No whole answer. `error` is the class to raise in the end."""

    error: type[ConnectError]
    text: str
    is_retryable: bool = True
    was_sent: bool = True


class Client:
    """Speaks to one connection. Thread-safe: a session per thread, one limit, one count.

    `session` makes a thread's `requests.Session` (proxies, certificates, mTLS); by default one that ignores the
    environment and .netrc. `timeout` is (connect, read) in seconds; `max_elapsed` bounds one request with its
    repetitions, waits for `limit` not included. `throttled` looks into a 2xx and says how many seconds to wait
    before sending it again; `refused` looks into a 2xx and returns the error that it really is; `denied` looks into another 4xx
    and says whether it is the key that is refused. A request that isn't
    `is_safe` (default: GET, HEAD, OPTIONS) is sent exactly once.
    """

    def __init__(
        self,
        connection: str,
        base_url: str,
        auth: Auth | None = None,
        limit: RateLimit | None = None,
        *,
        timeout: tuple[float, float] = (5, 60),
        max_attempts: int = 6,
        max_elapsed: float = 300,
        max_bytes: int = 128 << 20,
        headers: Mapping[str, str] | None = None,
        throttled: Callable[[Response], float | None] = lambda _: None,
        refused: Callable[[Response], ConnectError | None] = lambda _: None,
        denied: Callable[[Response], bool] = lambda _: False,
        session: Callable[[], requests.Session] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.connection = connection
        self.base_url = base_url.rstrip("/")
        self.auth: Auth = auth or NoAuth()
        self.redactor = Redactor(live=self.auth.secrets)
        self.stats = Stats()
        self._timeout, self._max_attempts, self._max_elapsed, self._max_bytes = (
            timeout,
            max_attempts,
            max_elapsed,
            max_bytes,
        )
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "ledger_pipeline",
            **(headers or {}),
        }
        self._throttled, self._refused, self._denied = throttled, refused, denied
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._bucket = (limit or Limit(per_second=1000, burst=1000)).start(clock, sleep)
        self._new_session = session or _plain_session
        self._local, self._sessions, self._lock = threading.local(), list[requests.Session](), threading.Lock()
        self._require_tls(Request("", self.base_url))
        logging.getLogger("urllib3.connectionpool").addFilter(_URLLIB3_FILTER)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def hurry(self, *, attempts: int, seconds: float) -> None:
        """From now on at most so many attempts a request, and so many seconds with their waits."""
        self._max_attempts, self._max_elapsed = attempts, seconds
        self._timeout = (min(self._timeout[0], seconds), min(self._timeout[1], seconds))

    def close(self) -> None:
        with self._lock:
            for session in self._sessions:
                session.close()
            self._sessions.clear()
        self._local = threading.local()

    def get(self, path_or_url: str, params: Mapping[str, Any] | None = None, **more: Any) -> Response:
        return self.request("GET", path_or_url, params=params, **more)

    def post(self, path_or_url: str, json: Any = None, **more: Any) -> Response:
        return self.request("POST", path_or_url, json=json, **more)

    def request(
        self,
        method: str,
        path_or_url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: Mapping[str, str] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        is_safe: bool | None = None,
    ) -> Response:
        """A 2xx answer, or one of `errors`. `json` is written by msgspec; an absolute URL must be of the base URL's
        host.
        """
        is_url = path_or_url.startswith(("http://", "https://"))
        url = path_or_url if is_url else f"{self.base_url}/{path_or_url.lstrip('/')}"
        safe = method in SAFE_METHODS if is_safe is None else is_safe
        request = Request(method, url, params or {}, headers or {}, json, data, safe)
        if _origin(url) != _origin(self.base_url):
            raise self._error(
                RedirectRefused, request, f"{_host(url)} is not this connection's host {_host(self.base_url)}"
            )
        return self._checked(self._authenticated(request))

    def fetcher(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_safe: bool | None = None,
    ) -> Fetch:
        """What pagers call: applies a `Change` to a base request. Objects inside `json` are merged (GraphQL
        variables).
        """

        def fetch(change: Change) -> Response:
            if change.url:
                return self.request(method, change.url, json=json, headers=headers, is_safe=is_safe)
            body = None if json is None and not change.json else merged(json or {}, change.json)
            query = {**(params or {}), **change.params}
            return self.request(method, path, params=query, json=body, headers=headers, is_safe=is_safe)

        return fetch

    def _authenticated(self, request: Request) -> Response:
        """Drive the auth flow: it decides what is sent, we send it; its last request's answer is ours."""
        with closing(self.auth.flow(request)) as flow:
            wanted = next(flow)
            while True:
                response = self._exchange(wanted)
                try:
                    wanted = flow.send(response)
                except StopIteration:
                    return response

    def _checked(self, response: Response) -> Response:
        status = response.status
        if status < 300:
            refusal = self._refused(response)
            if refusal is not None:
                raise refusal
            return response
        if status in (401, 403) or (status < 500 and self._denied(response)):
            raise response.fault(AuthError, f"{status}: {response.excerpt() or 'no reason given'}")
        if status < 500:
            excerpt = response.excerpt()
            raise response.fault(RequestRejected, f"{status}: {excerpt or 'no reason given'}", provider_message=excerpt)
        unknown = not response.request.is_safe
        raise response.fault(
            ServerFault, f"{status}: {response.excerpt(200)}", is_transient=False, is_outcome_unknown=unknown
        )

    def _exchange(self, request: Request) -> Response:
        """Send until there is an answer that repeating would not improve; raises when attempts or time run out."""
        deadline = self._clock() + self._max_elapsed
        attempt = 0
        while True:
            attempt += 1
            waited = self._bucket.acquire()
            deadline += waited
            self.stats.add(calls=1, throttled=waited)
            outcome: Response | _Failure | None = None
            try:
                outcome = self._followed(request, attempt, deadline)
            finally:
                self._bucket.learn(outcome if isinstance(outcome, Response) else None)
            stated, error = self._verdict(outcome, request, attempt)
            if error is None and isinstance(outcome, Response):
                return outcome
            assert error is not None  # noqa: S101 - every failure has an error
            wait = stated if stated is not None else self._jitter(0, min(30.0, 0.5 * 2 ** (attempt - 1)))
            if (
                not request.is_safe
                or attempt >= self._max_attempts
                or (isinstance(outcome, _Failure) and not outcome.is_retryable)
            ):
                raise error
            if self._clock() + wait >= deadline:
                raise self._too_long(outcome, request, attempt, wait) if stated is not None else error
            log.info("%s; waiting %.1f s", error, wait)
            self.stats.add(retries=1, throttled=stated or 0.0)
            self._sleep(wait)

    def _verdict(
        self, outcome: Response | _Failure, request: Request, attempt: int
    ) -> tuple[float | None, ConnectError | None]:
        """(the wait that the system states, the error if this were the last attempt); no error where the answer
        stands.
        """
        unknown = not request.is_safe
        if isinstance(outcome, _Failure):
            is_unknown = unknown and outcome.was_sent
            more = {"is_transient": outcome.is_retryable, "is_outcome_unknown": is_unknown}
            return None, self._error(outcome.error, request, outcome.text, attempts=attempt, **more)
        if outcome.status < 300:
            wait = self._throttled(outcome)
            return wait, None if wait is None else outcome.fault(RateLimited, "throttled", wait_seconds=wait)
        if outcome.status not in RETRYABLE:
            return None, None
        wait = _retry_after(outcome)
        text = f"{outcome.status}: {outcome.excerpt(200)}".rstrip(": ")
        if outcome.status == 429:
            return wait, outcome.fault(RateLimited, text, wait_seconds=wait)
        kind = ServerFault if outcome.status >= 500 else TransportError
        return wait, outcome.fault(kind, text, is_outcome_unknown=unknown and outcome.status != 425)

    def _too_long(self, outcome: Response | _Failure, request: Request, attempt: int, wait: float) -> RateLimited:
        status = outcome.status if isinstance(outcome, Response) else None
        message = f"{self.connection} asks to wait {wait:.0f} s, more than is left of {self._max_elapsed:.0f} s"
        return self._error(RateLimited, request, message, attempts=attempt, status=status, wait_seconds=wait)

    def _followed(self, request: Request, attempt: int, deadline: float) -> Response | _Failure:
        """One attempt, and the redirects that stay on its own host."""
        for _ in range(_MAX_REDIRECTS + 1):
            outcome = self._sent(request, attempt, deadline)
            if (
                not isinstance(outcome, Response)
                or outcome.status not in _REDIRECTS
                or "Location" not in outcome.headers
            ):
                return outcome
            target = absolute(outcome.url, outcome.headers["Location"])
            if _origin(target) != _origin(request.url):
                raise outcome.fault(RedirectRefused, f"{outcome.status} to another host, {_host(target)}")
            if outcome.status in (301, 302, 303) and request.method not in SAFE_METHODS:
                raise outcome.fault(RedirectRefused, f"{outcome.status} would turn a {request.method} into a GET")
            request = replace(request, url=target, params={})
        raise self._error(RedirectRefused, request, f"more than {_MAX_REDIRECTS} redirects", attempts=attempt)

    def _sent(self, request: Request, attempt: int, deadline: float) -> Response | _Failure:
        """Exactly one request on the wire. Errors are returned, so that no raised error drags a text with keys along
        as its context.
        """
        self._require_tls(request)
        headers = {**self._headers, **request.headers}
        data: Any = request.data
        if request.json is not None:
            headers["Content-Type"] = "application/json"
            data = msgspec.json.encode(request.json)
        try:
            with self._session().request(
                request.method,
                request.url,
                params=request.params,
                data=data,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as raw:
                body = self._body(raw, deadline)
                if isinstance(body, _Failure):
                    return body
                self.stats.add(size=len(body), status=raw.status_code)
                sent = replace(request, url=raw.url or request.url)
                return Response(raw.status_code, raw.headers, body, sent, self.connection, attempt, self.redactor)
        except (requests.RequestException, HTTPError, UnicodeError) as error:
            return self._failure(error)

    def _body(self, raw: requests.Response, deadline: float) -> bytes | _Failure:
        """The decompressed body, read as it trickles in; urllib3 raises when it is shorter than its Content-Length."""
        chunks: list[bytes] = []
        size = 0
        while chunk := raw.raw.read1(_CHUNK, decode_content=True):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raw.raw.close()
                return _Failure(BadPayload, f"the body is larger than {self._max_bytes} bytes", is_retryable=False)
            if self._clock() > deadline:
                raw.raw.close()
                return _Failure(TransportError, f"the body was not complete after {self._max_elapsed:.0f} s")
        return b"".join(chunks)

    def _failure(self, error: Exception) -> _Failure:
        name, full = type(error).__name__, str(error)
        text = self.redactor(full)[:300]
        if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in full:
            return _Failure(TransportError, f"{name}: {text}", is_retryable=False, was_sent=False)
        if isinstance(error, requests.exceptions.InvalidHeader | InvalidHeader | UnicodeError):
            return _Failure(
                AuthError, f"{name}: a header has a character that HTTP forbids; a line end in a key?", False, False
            )
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema | LocationParseError):
            return _Failure(RequestRejected, f"{name}: {text}", is_retryable=False, was_sent=False)
        if "IncompleteRead" in full:
            return _Failure(BadPayload, f"truncated: {text}")
        was_sent = not any(
            cause in full for cause in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")
        )
        return _Failure(TransportError, f"{name}: {text}", was_sent=was_sent)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._new_session()
            # Else requests prepares every redirect, also one not taken, and for that reads its body without bound.
            session.get_redirect_target = lambda resp: None  # type: ignore[method-assign]
            with self._lock:
                self._sessions.append(session)
        return session

    def _require_tls(self, request: Request) -> None:
        parsed = _parsed(request.url)
        host = (parsed.host or "").strip("[]")
        if parsed.scheme != "https" and not is_loopback(host):
            raise self._error(RedirectRefused, request, f"{parsed.scheme}://{host} is not https")

    def _error(self, kind: type[E], request: Request, message: str, **more: Any) -> E:
        return kind(
            self.connection, self.redactor(message), method=request.method, url=self.redactor(request.url), **more
        )


def _plain_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _origin(url: str) -> tuple[str | None, str | None, int | None]:
    parsed = _parsed(url)
    return parsed.scheme, parsed.host, parsed.port or {"https": 443, "http": 80}.get(parsed.scheme or "")


def _parsed(url: str) -> Url:
    """As urllib3 reads it, since urllib3 connects to it; empty where it is no URL, which is nobody's origin."""
    try:
        return parse_url(url)
    except LocationParseError:
        return Url()


def _host(url: str) -> str:
    return _parsed(url).netloc or "?"


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Two JSON objects; objects inside them (GraphQL variables) are merged one level deep."""
    nested = {
        k: {**base[k], **v} for k, v in change.items() if isinstance(v, Mapping) and isinstance(base.get(k), Mapping)
    }
    return {**base, **change, **nested}


def _retry_after(response: Response) -> float | None:
    """Seconds or an HTTP date; None where absent or unreadable."""
    header = response.headers.get("Retry-After")
    try:
        return None if header is None else _RETRY_AFTER.parse_retry_after(header)
    except InvalidHeader:
        return None
