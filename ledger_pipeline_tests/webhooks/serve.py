"""A receiver on loopback, over a database of the test, with the sandbox's providers as senders."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger_pipeline.sandbox.hooks import Told
from ledger_pipeline.sources.plaid import sandbox_webhooks as plaid_webhooks
from ledger_pipeline.sources.shopify import sandbox_webhooks as shopify_webhooks
from ledger_pipeline.sources.stripe import sandbox_webhooks as stripe_webhooks
from ledger_pipeline.store.database import Database
from ledger_pipeline.webhooks import receiver
from ledger_pipeline.webhooks.receiver import Limits, Receiver

SIGNERS: dict[str, Any] = {"stripe_us": stripe_webhooks, "shopify_us": shopify_webhooks, "plaid_us": plaid_webhooks}
CONFIG = """\
entities:
  acme: {{name: Acme, base_currency: USD, time_zone: UTC}}
connections:
  stripe_us: {{entity: acme, source: stripe, api_key: k, webhook_secrets: [{stripe}]}}
  stripe_off: {{entity: acme, source: stripe, api_key: k}}
  shopify_us: {{entity: acme, source: shopify, shop_url: "http://127.0.0.1:9", access_token: t, webhook_secrets: [sandbox_shopify_us]}}
  plaid_us:
    entity: acme
    source: plaid
    has_webhooks: true
    client_id: sandbox-client
    secret: sandbox-secret-plaid_us
    access_token: access-sandbox-plaid_us
    base_url: {plaid}
"""


def write_config(folder: Path, *, stripe: str = "whsec_sandbox_stripe_us", plaid: str = "http://127.0.0.1:9") -> Path:
    """ledger.yaml of the tests; `stripe` are that connection's secrets."""
    path = folder / "ledger.yaml"
    path.write_text(CONFIG.format(stripe=stripe, plaid=plaid))
    return path


@dataclass
class Serving:
    """A running receiver and what it has stored."""

    url: str
    app: Any
    database: Database

    @property
    def receiver(self) -> Receiver:
        found: Receiver = self.app.state.receiver
        return found

    def stored(self) -> list[tuple[Any, ...]]:
        """(connection, event id, topic, body) of what is stored, in the order of storing."""
        with self.database.connect("reader") as connection:
            return connection.execute(
                "SELECT connection, event_id, topic, body FROM ops.webhook_event ORDER BY event_no"
            ).fetchall()


@contextmanager
def receiving(config: Path, database: Database, limits: Limits | None = None) -> Iterator[Serving]:
    """Serve in a thread on a free port while the block runs."""
    app = receiver.create_app(config, database, limits)
    server = receiver.server(app, "127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the receiver did not start")
            time.sleep(0.01)
        try:
            yield Serving(f"http://127.0.0.1:{listener.getsockname()[1]}", app, database)
        finally:
            server.should_exit = True
            thread.join(20)


def signed(
    connection: str, body: bytes, *, id_: str = "w1", topic: str = "orders/updated", at: datetime | None = None
) -> dict[str, str]:
    """The provider's headers for a body, signed now."""
    now = at or datetime.now(UTC)
    headers: dict[str, str] = SIGNERS[connection].signed(Told(now, topic, id_, body), connection, now)
    return headers
