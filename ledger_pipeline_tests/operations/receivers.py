"""Real receivers on loopback: an HTTP address and a mail server that keep what they get."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """`status` is what it answers next; `got` the bodies that it took or refused."""

    url: str = ""
    status: int = 200
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


@contextmanager
def hook(status: int = 200) -> Iterator[Hook]:
    """An HTTP address."""
    kept = Hook(status=status)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            kept.headers.append(dict(self.headers))
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}/services/T0/secret-token"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield kept
        finally:
            server.shutdown()


@dataclass
class Mailbox:
    """`mails` are the messages that it took; `refuse` is a reply to RCPT instead of 250."""

    port: int = 0
    mails: list[Message] = field(default_factory=list)
    refuse: str = ""


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """A mail server of a few verbs, without TLS."""
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode():
                verb = line.split(" ", 1)[0].strip().upper()
                if verb == "DATA":
                    self.say("354 go on")
                    lines = []
                    while (one := self.rfile.readline().decode()) != ".\r\n":
                        lines.append(one.removeprefix("."))
                    box.mails.append(message_from_string("".join(lines), policy=default))
                    self.say("250 taken")
                elif verb == "QUIT":
                    self.say("221 bye")
                    return
                elif verb == "RCPT" and box.refuse:
                    self.say(box.refuse)
                else:
                    self.say("250 fine")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        box.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield box
        finally:
            server.shutdown()
