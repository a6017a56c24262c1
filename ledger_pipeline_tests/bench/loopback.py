"""A provider on loopback that answers every request with JSON."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[str, bytes], bytes]
"""From the path with its query, and the body that was sent, to the body that is answered."""


def server(answer: Answer) -> ThreadingHTTPServer:
    """On a free port; not serving yet."""

    class Provider(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = answer(self.path, self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Provider)


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The URL; in a thread of this process, which ends with the block."""
    provider = server(answer)
    thread = threading.Thread(target=provider.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{provider.server_port}"
    finally:
        provider.shutdown()
        provider.server_close()
        thread.join(10)
