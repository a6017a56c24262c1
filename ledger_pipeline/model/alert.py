"""An alert: what a person should hear of, said once. Pure data; how it is kept and sent stands elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Severity = Literal["warning", "error"]
Kind = Literal[
    "run_failed",
    "check_failed",
    "stale",
    "stuck_run",
    "tick_failed",
    "night_missing",
    "unhealthy",
    "daemon_dead",
    "webserver_dead",
    "code_location_dead",
    "database_dead",
    "disk_full",
    "alerts_unsent",
    "endpoint_disabled",
    "event_given_up",
]

TITLES: dict[Kind, str] = {
    "run_failed": "A run failed",
    "check_failed": "A check failed",
    "stale": "Books are out of date",
    "stuck_run": "A run is stuck",
    "tick_failed": "A schedule or sensor failed",
    "night_missing": "A night is missing",
    "unhealthy": "Health check failed",
    "daemon_dead": "The Dagster daemon is dead",
    "webserver_dead": "The Dagster webserver is dead",
    "code_location_dead": "The code location doesn't load",
    "database_dead": "PostgreSQL is dead",
    "disk_full": "The disk is filling up",
    "alerts_unsent": "Alerts could not be delivered",
    "endpoint_disabled": "An endpoint was disabled",
    "event_given_up": "An event was given up",
}
"""What a message says first."""


@dataclass(frozen=True, slots=True)
class Alert:
    """`event_key` names this occurrence: the same one is kept once. `about` says what makes two occurrences the same trouble.

    `connection` and `partition` are empty where there is none; `sentence` is the error in one sentence, without secrets; `link` leads to the
    run in the UI; `noticed_at` is UTC.
    """

    kind: Kind
    event_key: str
    sentence: str
    noticed_at: datetime
    severity: Severity = "error"
    connection: str = ""
    partition: str = ""
    link: str = ""
    run_id: str = ""
    about: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`A run failed`."""
        return TITLES[self.kind]

    @property
    def fingerprint(self) -> str:
        """The same for occurrences of the same trouble."""
        parts = (self.kind, self.connection, self.partition, *(self.about or (self.sentence,)))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]

    def fields(self) -> dict[str, str]:
        """What a template may name, as text; what there is none of is a dash."""
        return {
            "title": self.title,
            "kind": self.kind,
            "severity": self.severity,
            "connection": self.connection or "–",
            "partition": self.partition or "–",
            "sentence": self.sentence,
            "link": self.link,
            "run_id": self.run_id or "–",
            "noticed_at": self.noticed_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        }


FIELDS = (
    *("title", "kind", "severity", "connection", "partition", "sentence", "link", "run_id", "noticed_at", "repeats"),
)
"""What a template may name."""
