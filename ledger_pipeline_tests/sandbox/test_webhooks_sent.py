"""`sandbox webhooks` says what it sends and what comes next; it fails when nobody takes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from ledger_pipeline.cli import app


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    got: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            got.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["sandbox", "webhooks", "--seconds", "1", "--hours", "24", *arguments])
    return done.exit_code, done.output


def test_what_happened_is_sent_and_what_comes_next_is_said(receiver: tuple[str, list[str]]) -> None:
    url, got = receiver
    code, output = run("--to", url, "--connection", "shopify_us")
    assert code == 0
    assert set(got) == {"/shopify_us"}
    assert f"shopify_us: {len(got)} answered 200; next: " in output
    assert " of shopify_us at " in output


def test_a_receiver_that_is_not_there_is_said(receiver: tuple[str, list[str]]) -> None:
    code, output = run("--to", "http://127.0.0.1:9", "--connection", "shopify_us")
    assert code == 1
    assert "not answered: is the receiver there?" in output


def test_an_unknown_connection_is_refused_with_the_known_ones() -> None:
    code, output = run("--connection", "strip")
    assert code == 2
    assert "'strip' has no webhooks" in output
