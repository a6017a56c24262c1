"""Events out with their alerts: an endpoint that was disabled, and events that were given up, are told to whoever runs the pipeline."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ledger_pipeline.model.alert import Alert
from ledger_pipeline.operations import delivery
from ledger_pipeline.store.database import Connection
from ledger_pipeline.webhooks import deliver as work

if TYPE_CHECKING:
    from ledger_pipeline.orchestration.runtime import Runtime


def deliver(runtime: Runtime) -> Counter[tuple[str, str]]:
    """Deliver what is due; attempts by endpoint and outcome. Alerts are kept with what they tell of, and sent at the end."""
    alerts = runtime.config.alerts

    def keep(connection: Connection, found: list[Alert]) -> None:
        delivery.keep(connection, alerts, found)

    try:
        return work.deliver(runtime.database, work.endpoints(runtime.config), clock=runtime.clock, keep=keep)
    finally:
        delivery.deliver(runtime.database, alerts, runtime.clock)
