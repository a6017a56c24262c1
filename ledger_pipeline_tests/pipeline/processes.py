"""Processes of a test in groups of their own, with what they write in a file: started, waited for, killed, and none left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Process:
    """A process group with its output in a file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """As a power cut would: the whole group, at once."""
        os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)

    def end(self) -> None:
        """Ask, then kill what is left of the group."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, how)
            except ProcessLookupError:
                return
            try:
                self.popen.wait(8)
            except subprocess.TimeoutExpired:
                continue


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(what: Callable[[], bool], seconds: float, every: float = 0.2, alive: tuple[Process, ...] = ()) -> None:
    """Wait; raises AssertionError after `seconds`, or as soon as one of `alive` has ended, with what it wrote."""
    end = time.monotonic() + seconds
    while not what():
        for process in alive:
            assert process.popen.poll() is None, f"{process.name} ended: {process.text()[-3000:]}"
        assert time.monotonic() < end, "\n".join([f"not within {seconds} s", *(p.text()[-3000:] for p in alive)])
        time.sleep(every)


def listens(port: int) -> bool:
    """Somebody answers there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def processes() -> Iterator[Callable[[Process], Process]]:
    """Keeps track of processes; they have ended when the block has."""
    with ExitStack() as stack:

        def keep(process: Process) -> Process:
            stack.callback(process.end)
            return process

        yield keep


def lives(pid: int) -> bool:
    """A process of that number works; one that only waits to be reaped doesn't."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_all_in(folder: Path) -> None:
    """Kill what still works there: workers that outlived who started them."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(folder):
                process.kill()
