"""A key is rotated while the process goes on: at the provider, in a file, in AWS Secrets Manager, in Vault; and the database's password."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger_pipeline.connect.errors import AuthError
from ledger_pipeline.orchestration import steps
from ledger_pipeline.orchestration.runtime import Runtime
from ledger_pipeline.store import raw
from ledger_pipeline.store.database import Database
from ledger_pipeline_tests.secrets.vault_server import Vault

DAY = date(2026, 10, 5)
OLD, NEW = "sk_test_old_key", "sk_test_new_key"


class Provider:
    """A Stripe without records that takes the keys in `accepted`."""

    def __init__(self) -> None:
        self.url = ""
        self.accepted = {OLD}
        self.seen: list[str] = []

    def status(self, key: str) -> int:
        self.seen.append(key)
        return 200 if key in self.accepted else 401


@contextmanager
def serving(provider: Provider) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = provider.status(self.headers["Authorization"].removeprefix("Bearer "))
            data = json.dumps(
                {"data": [], "has_more": False} if status == 200 else {"error": {"message": "bad key"}}
            ).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    with serving(made):
        yield made


Put = Callable[[str], None]


@pytest.fixture(params=["file", "aws", "vault"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Put]:
    """(reference, what puts a new value there)."""
    if request.param == "file":
        path = tmp_path / "stripe"
        return f"${{file:{path}}}", lambda value: _replace(path, value)
    if request.param == "aws":
        aws = request.getfixturevalue("aws")
        aws.create_secret(Name="stripe", SecretString="{}")
        return "${aws:stripe#k}", lambda v: aws.put_secret_value(SecretId="stripe", SecretString=json.dumps({"k": v}))
    vault: Vault = request.getfixturevalue("vault")
    return "${vault:secret/stripe#k}", lambda value: vault.put("secret/stripe", k=value)


def _replace(path: Path, value: str) -> None:
    made = path.with_suffix(".new")
    made.touch(0o600)
    made.write_text(value + "\n")
    made.replace(path)


def runtime(folder: Path, database: Database, provider: Provider, reference: str) -> Runtime:
    path = folder / "ledger.yaml"
    path.write_text(
        f"database_url: {database.url}\nentities:\n  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}\n"
        f"connections:\n  stripe_us:\n    entity: acme\n    source: stripe\n    base_url: {provider.url}\n    api_key: {reference}\n"
    )
    return Runtime.from_file(path)


def pull(made: Runtime) -> raw.Pull:
    link = made.link("stripe_us")
    return steps.pull(made, link, link.source.stream("payouts"), DAY, "test")


def test_a_process_goes_on_with_the_new_key(
    tmp_path: Path, database: Database, provider: Provider, place: tuple[str, Put]
) -> None:
    reference, put = place
    put(OLD)
    made = runtime(tmp_path, database, provider, reference)
    pull(made)
    put(NEW)
    provider.accepted = {NEW}
    pull(made)
    pull(made)
    assert provider.seen[0] == OLD
    assert provider.seen[-2:] == [NEW, NEW]
    assert len(provider.seen) <= 4  # the old key was tried at most once after the rotation


def test_a_key_that_is_rotated_in_the_middle_of_a_step_is_read_anew(
    tmp_path: Path, database: Database, provider: Provider, place: tuple[str, Put]
) -> None:
    reference, put = place
    put(OLD)
    made = runtime(tmp_path, database, provider, reference)
    link = made.link("stripe_us")
    put(NEW)
    provider.accepted = {NEW}
    steps.pull(made, link, link.source.stream("payouts"), DAY, "test")
    assert provider.seen == [OLD, NEW]
    with database.connect("reader") as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM raw.attempt), (SELECT count(*) FROM raw.pull)"
        ).fetchone()
    assert counts == (2, 1)  # what the refused key began did not end


@pytest.mark.parametrize("place", ["aws", "vault"], indirect=True)
def test_while_the_provider_knows_the_old_key_only_the_version_before_is_used(
    tmp_path: Path, database: Database, provider: Provider, place: tuple[str, Put]
) -> None:
    reference, put = place
    put(OLD)
    put(NEW)
    pull(runtime(tmp_path, database, provider, reference))
    assert provider.seen == [NEW, OLD]


def test_a_key_that_is_refused_in_all_its_versions_is_not_tried_again_and_again(
    tmp_path: Path, database: Database, provider: Provider, place: tuple[str, Put]
) -> None:
    reference, put = place
    put("sk_test_first")
    put(OLD)
    made = runtime(tmp_path, database, provider, reference)
    made.link("stripe_us")
    put(NEW)
    provider.accepted = set()
    with pytest.raises(AuthError) as error:
        pull(made)
    assert len(provider.seen) == len(set(provider.seen)) <= 3
    assert not any(key in str(error.value) for key in provider.seen)


def test_an_unchanged_key_is_tried_once(
    tmp_path: Path, database: Database, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRIPE_KEY", "sk_test_wrong")
    with pytest.raises(AuthError):
        pull(runtime(tmp_path, database, provider, "${STRIPE_KEY}"))
    assert provider.seen == ["sk_test_wrong"]


def test_a_connections_options_are_validated_anew_only_when_they_change(
    tmp_path: Path, database: Database, provider: Provider
) -> None:
    path = tmp_path / "stripe"
    _replace(path, OLD)
    made = runtime(tmp_path, database, provider, f"${{file:{path}}}")
    first = made.link("stripe_us")
    assert made.link("stripe_us") is first
    _replace(path, NEW)
    assert made.link("stripe_us").options.api_key.get_secret_value() == NEW


def test_the_databases_password_may_change(tmp_path: Path, database: Database, server: Database) -> None:
    """The socket's trust takes any password; what counts is that the next session is opened with the new one."""
    path = tmp_path / "password"
    _replace(path, "old")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SELECT 1")
    user, host = database.url.partition("@")[::2]
    (tmp_path / "ledger.yaml").write_text(
        f"database_url: {user.removesuffix(':')}:${{file:{path}}}@{host}\n"
        "entities:\n  acme: {name: Acme, base_currency: USD, time_zone: UTC}\nconnections: {}\n"
    )
    made = Runtime.from_file(tmp_path / "ledger.yaml")
    first = made.database
    assert made.database is first
    _replace(path, "new")
    assert ":new@" in made.database.url
    with made.database.connect("reader") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
