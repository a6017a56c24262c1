"""Plays HashiCorp Vault on loopback: KV version 2 with versions and deletions, tokens, AppRole and Kubernetes logins.

Paths, fields and statuses as https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2, …/auth/approle and …/auth/kubernetes say.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Vault:
    """What it holds, and what it was asked for. `fails` answers every request with that status."""

    def __init__(self) -> None:
        self.url = ""
        self.secrets: dict[str, list[dict[str, Any] | None]] = {}
        self.tokens = {"root"}
        self.logins = {"approle": {"role_id": "role", "secret_id": "id"}, "kubernetes": {"role": "books", "jwt": "pod"}}
        self.lease_seconds = 3600
        self.fails = 0
        self.asked: list[str] = []
        self._numbers = itertools.count(1)

    def put(self, place: str, **fields: Any) -> None:
        """A new version of `mount/path`."""
        self.secrets.setdefault(place, []).append(fields)

    def answer(self, method: str, url: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        parts = urlsplit(url)
        _, _, mount, *rest = parts.path.split("/")
        self.asked.append(parts.path)
        if self.fails:
            return self.fails, {"errors": ["it fails"]}
        if mount == "auth":
            return self._login(rest[0], body)
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        versions = self.secrets.get(f"{mount}/{'/'.join(rest[1:])}", [])
        number = int(parse_qs(parts.query).get("version", ["0"])[0]) or len(versions)
        if method != "GET" or rest[0] != "data" or not 1 <= number <= len(versions):
            return 404, {"errors": []}
        fields = versions[number - 1]
        deleted = "" if fields is not None else "2026-11-01T00:00:00Z"
        metadata = {"version": number, "deletion_time": deleted, "destroyed": False, "custom_metadata": None}
        return 404 if fields is None else 200, {"data": {"data": fields, "metadata": metadata}}

    def _login(self, kind: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.logins.get(kind) != body:
            return 400, {"errors": ["invalid role or secret ID"]}
        token = f"hvs.{kind}-{next(self._numbers)}"
        self.tokens.add(token)
        return 200, {"auth": {"client_token": token, "lease_duration": self.lease_seconds, "renewable": True}}


@contextmanager
def running() -> Iterator[Vault]:
    """On a free port while the block runs."""
    vault = Vault()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, answer = vault.answer(self.command, self.path, self.headers.get("X-Vault-Token", ""), body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    vault.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield vault
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
