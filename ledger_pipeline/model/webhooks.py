"""What of a received webhook is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """A genuine webhook. `body` is None where the source says that it isn't kept; `once_by` is a second identity, by its content.

    `occurred_at` is the provider's time of the change, `secret_no` says which of the live secrets had signed (from 1).
    """

    connection: str
    event_id: str
    topic: str
    subject: str
    occurred_at: datetime
    received_at: datetime
    secret_no: int
    body_hash: bytes
    body_size: int
    body: bytes | None
    once_by: bytes | None
