"""Auth flows on real sockets; a rotating refresh token is used once, whoever else is running."""

from __future__ import annotations

import base64
import multiprocessing
import os
import stat
import threading
import time
from urllib.parse import parse_qs

import pytest

from ledger_pipeline.connect.auth import (
    Basic,
    Bearer,
    FileTokenStore,
    HeaderKeys,
    OAuth2ClientCredentials,
    OAuth2Refresh,
    Secret,
    Token,
)
from ledger_pipeline.connect.client import Client
from ledger_pipeline.connect.errors import AuthError, BadPayload, ServerFault, TransportError

from .conftest import Answer, to_json


def form(got) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(got.body.decode()).items()}


class Provider:
    """An OAuth 2 provider with rotating refresh tokens; a spent one is refused, like at Xero or QuickBooks."""

    def __init__(self) -> None:
        self.serial = 0
        self.valid_refresh = "refresh-0"
        self.valid_access = "access-0"
        self.refreshes = 0
        self.spent_twice = 0
        self.lock = threading.Lock()

    def __call__(self, got) -> Answer:
        with self.lock:
            if got.path == "/token":
                return self.token(form(got))
            if got.headers.get("Authorization") != f"Bearer {self.valid_access}":
                return to_json({"error": "expired"}, status=401)
            return to_json({"ok": True})

    def token(self, fields) -> Answer:
        if fields["grant_type"] == "refresh_token" and fields["refresh_token"] != self.valid_refresh:
            self.spent_twice += 1
            return to_json({"error": "invalid_grant"}, status=400)
        time.sleep(0.05)
        self.refreshes += 1
        self.serial += 1
        self.valid_access, self.valid_refresh = f"access-{self.serial}", f"refresh-{self.serial}"
        return to_json({"access_token": self.valid_access, "refresh_token": self.valid_refresh, "expires_in": 3600})


def refresh_auth(url, store, **more) -> OAuth2Refresh:
    return OAuth2Refresh("xero_uk", f"{url}/token", "client", Secret("client-secret"), store, **more)


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (Bearer(Secret("sk_1")), {"Authorization": "Bearer sk_1"}),
        (
            Basic("me", Secret("pässword")),
            {"Authorization": "Basic " + base64.b64encode("me:pässword".encode()).decode()},
        ),
        (HeaderKeys({"X-A": Secret("1"), "X-B": Secret("2")}), {"X-A": "1", "X-B": "2"}),
    ],
)
def test_keys_go_where_they_belong(serve, connect, auth, headers):
    server = serve([Answer()])
    connect(server.url, auth).get("/x")
    assert {name: server.got[0].headers[name] for name in headers} == headers


def test_a_fixed_key_that_is_refused_is_not_tried_again(serve, connect):
    server = serve([Answer(401), Answer()])
    with pytest.raises(AuthError):
        connect(server.url, Bearer(Secret("sk_1"))).get("/x")
    assert len(server.got) == 1


def test_client_credentials_fetch_a_token_once_and_store_it(serve, connect, tmp_path):
    provider = Provider()
    server = serve(provider)
    store = FileTokenStore(tmp_path)
    auth = OAuth2ClientCredentials(
        "xero_uk", f"{server.url}/token", "client", Secret("client-secret"), store, scope="read"
    )
    client = connect(server.url, auth)
    client.get("/x")
    client.get("/x")
    assert [got.path for got in server.got] == ["/token", "/x", "/x"]
    assert form(server.got[0]) == {"grant_type": "client_credentials", "scope": "read"}
    assert server.got[0].headers["Authorization"] == "Basic " + base64.b64encode(b"client:client-secret").decode()
    assert store.load("xero_uk").access_token == "access-1"


def test_client_keys_can_stand_in_the_body(serve, connect, tmp_path):
    server = serve(Provider())
    auth = refresh_auth(server.url, FileTokenStore(tmp_path), client_auth="body", first=Secret("refresh-0"))
    connect(server.url, auth).get("/x")
    assert form(server.got[0])["client_secret"] == "client-secret"
    assert "Authorization" not in server.got[0].headers


def test_an_expired_token_is_renewed_and_the_new_refresh_token_stored_before_use(serve, connect, tmp_path):
    provider = Provider()
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("access-0", "refresh-0", time.time() + 30))  # within the leeway: as good as expired
    stored_at_use = []

    def script(got):
        if got.path == "/x":
            stored_at_use.append(store.load("xero_uk").refresh_token)
        return provider(got)

    server = serve(script)
    connect(server.url, refresh_auth(server.url, store)).get("/x")
    assert stored_at_use == ["refresh-1"]
    token = store.load("xero_uk")
    assert token.expires_at == pytest.approx(time.time() + 3600, abs=10)


def test_a_refresh_answer_without_a_refresh_token_keeps_the_old_one(serve, connect, tmp_path):
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("old", "keep-me", 0.0))
    server = serve([to_json({"access_token": "new", "expires_in": "3600"}), Answer()])
    connect(server.url, refresh_auth(server.url, store)).get("/x")
    assert store.load("xero_uk").refresh_token == "keep-me"


def test_a_401_renews_once_and_repeats_even_a_write(serve, connect, tmp_path):
    provider = Provider()
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("revoked", "refresh-0", time.time() + 3600))
    server = serve(provider)
    connect(server.url, refresh_auth(server.url, store)).post("/x", {"amount": 1})
    assert [got.path for got in server.got] == ["/x", "/token", "/x"]


def test_a_second_401_is_an_auth_error(serve, connect, tmp_path):
    provider = Provider()
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("revoked", "refresh-0", time.time() + 3600))
    server = serve(lambda got: provider(got) if got.path == "/token" else Answer(401))
    with pytest.raises(AuthError):
        connect(server.url, refresh_auth(server.url, store)).get("/x")
    assert [got.path for got in server.got] == ["/x", "/token", "/x"]


def test_after_a_401_another_process_s_newer_token_is_used_without_a_refresh(serve, connect, tmp_path):
    provider = Provider()
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("access-0", "refresh-0", time.time() + 3600))
    server = serve(provider)
    client = connect(server.url, refresh_auth(server.url, store))
    client.get("/x")
    provider.valid_access = "access-by-another"
    store.save("xero_uk", Token("access-by-another", "refresh-by-another", time.time() + 3600))
    client.get("/x")
    assert [got.path for got in server.got] == ["/x", "/x", "/x"]


def test_a_spent_refresh_token_is_an_auth_error_that_names_the_reason(serve, connect, tmp_path):
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("old", "spent", 0.0))
    server = serve(Provider())
    with pytest.raises(AuthError, match="invalid_grant") as caught:
        connect(server.url, refresh_auth(server.url, store)).get("/x")
    assert not caught.value.is_transient
    assert store.load("xero_uk").refresh_token == "spent"


def test_without_any_refresh_token_nothing_is_sent(serve, connect, tmp_path):
    server = serve(Provider())
    with pytest.raises(AuthError, match="authorised again"):
        connect(server.url, refresh_auth(server.url, FileTokenStore(tmp_path))).get("/x")
    assert server.got == []


@pytest.mark.parametrize(("answer", "error"), [(Answer(500), ServerFault), (Answer(fault="reset"), TransportError)])
def test_a_refresh_whose_outcome_is_unknown_is_not_repeated_and_frees_the_lock(serve, connect, tmp_path, answer, error):
    store = FileTokenStore(tmp_path, lock_seconds=0.2)
    store.save("xero_uk", Token("old", "refresh-0", 0.0))
    server = serve([answer])
    with pytest.raises(error) as caught:
        connect(server.url, refresh_auth(server.url, store)).get("/x")
    assert caught.value.is_outcome_unknown
    assert len(server.got) == 1
    with store.lock("xero_uk"):
        pass


def test_a_client_credentials_request_is_repeated_like_a_read(serve, connect, tmp_path):
    provider = Provider()
    server = serve(lambda got: Answer(503) if got.number == 1 else provider(got))
    auth = OAuth2ClientCredentials(
        "xero_uk", f"{server.url}/token", "client", Secret("s3cret"), FileTokenStore(tmp_path)
    )
    assert connect(server.url, auth).get("/x").status == 200


def test_a_token_answer_without_a_token_is_a_bad_payload(serve, connect, tmp_path):
    server = serve([to_json({"token": "x"})])
    with pytest.raises(BadPayload, match="access_token"):
        connect(server.url, refresh_auth(server.url, FileTokenStore(tmp_path), first=Secret("r"))).get("/x")


def _one_process(url, folder, barrier, results):
    client = Client("xero_uk", url, refresh_auth(url, FileTokenStore(folder)), timeout=(5, 10))
    barrier.wait(30)
    results.put(client.get("/x").status)


def test_eight_processes_refresh_a_rotating_token_exactly_once(serve, tmp_path):
    provider = Provider()
    server = serve(provider)
    FileTokenStore(tmp_path).save("xero_uk", Token("access-0", "refresh-0", 0.0))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_one_process, args=(server.url, tmp_path, barrier, results)) for _ in range(8)]
    for process in processes:
        process.start()
    statuses = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert statuses == [200] * 8
    assert (provider.refreshes, provider.spent_twice) == (1, 0)


@pytest.mark.parametrize("is_expired", [True, False])
def test_sixteen_threads_refresh_once_whether_expired_or_rejected(serve, connect, tmp_path, is_expired):
    provider = Provider()
    provider.valid_access = "another"
    server = serve(provider)
    store = FileTokenStore(tmp_path)
    store.save("xero_uk", Token("access-0", "refresh-0", 0.0 if is_expired else time.time() + 3600))
    client = connect(server.url, refresh_auth(server.url, store), timeout=(5, 10))
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(client.get("/x").status)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert statuses == [200] * 16
    assert (provider.refreshes, provider.spent_twice) == (1, 0)


def test_the_token_file_is_the_owner_s_alone_and_replaced_whole(tmp_path):
    store = FileTokenStore(tmp_path / "tokens")
    old = os.umask(0)
    try:
        store.save("a/../b c", Token("one", "r", 1.0))
        store.save("a/../b c", Token("two", "r", 2.0))
    finally:
        os.umask(old)
    [file] = [path for path in (tmp_path / "tokens").iterdir() if path.suffix == ".json"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert store.load("a/../b c") == Token("two", "r", 2.0)
    assert store.load("other") is None
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_a_lock_that_is_never_freed_ends_in_an_error(tmp_path):
    store = FileTokenStore(tmp_path, lock_seconds=0.1)
    with (
        store.lock("xero_uk"),
        store.lock("another"),
        pytest.raises(TransportError, match="lock"),
        store.lock("xero_uk"),
    ):
        pytest.fail("the lock was given twice")
