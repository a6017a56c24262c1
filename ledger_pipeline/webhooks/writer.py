"""Durable and fast: one task writes what many requests brought in one transaction, and each is answered after its commit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import psycopg

from ledger_pipeline.model.webhooks import Event
from ledger_pipeline.store import webhooks
from ledger_pipeline.store.database import Database

log = logging.getLogger(__name__)
BATCH = 500
STATEMENT_SECONDS = 5
_Waiting = tuple[Event, "asyncio.Future[bool]"]


class NotStored(Exception):
    """The database didn't take a batch; whether it was committed is unknown, so the provider has to send it again."""


class Writer:
    """Stores events in batches. While one commit is under way the next batch gathers, so that load makes batches larger, not queues."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._connection: psycopg.AsyncConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self.commits = 0

    async def __aenter__(self) -> Writer:
        await self._connected()
        self._task = asyncio.create_task(self._run(), name="webhook-writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends when all that was put is answered."""
        await self._queue.join()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await self._connection.close()

    async def put(self, event: Event) -> bool:
        """Store an event; True when it is new, False when it was known. Raises NotStored."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((event, future))
        return await future

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await self._store(batch)
            finally:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(NotStored("the receiver is stopping"))
                    self._queue.task_done()

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        unique: dict[tuple[str, str], Event] = {}
        for event, _ in batch:
            unique.setdefault((event.connection, event.event_id), event)
        try:
            connection = await self._connected()
            cursor = await connection.execute(webhooks.STORE, webhooks.columns(list(unique.values())))
            new = set(await cursor.fetchall())
        except (psycopg.Error, OSError) as error:
            log.error("%d webhooks were not stored: %s", len(batch), type(error).__name__)
            await self._disconnect()
            for _, future in batch:
                if not future.done():
                    future.set_exception(NotStored(type(error).__name__))
            return
        self.commits += 1
        for event, future in batch:
            key = (event.connection, event.event_id)
            if not future.done():
                future.set_result(key in new)
            new.discard(key)

    async def _connected(self) -> psycopg.AsyncConnection:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(
                self._database.url,
                connect_timeout=STATEMENT_SECONDS,
                application_name="ledger-pipeline webhooks",
                autocommit=True,
                prepare_threshold=1,
            )
            for setting in (
                "ROLE ledger_pipeline_writer",
                "TIME ZONE 'UTC'",
                "synchronous_commit = on",
                f"statement_timeout = '{STATEMENT_SECONDS}s'",
            ):
                await self._connection.execute(f"SET {setting}".encode())
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()
