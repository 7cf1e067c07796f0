"""A real receiver of webhooks on 127.0.0.1 that answers as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from featherweight import WebhookEvent, verify_webhook

__all__ = ["Received", "Receiver", "receiver"]

Behaviour = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, *secrets: str) -> WebhookEvent:
        return verify_webhook(self.body, self.headers, secrets)


class Receiver:
    """`behaviours` are by path: a status, a list of them of which the last repeats, or what is called with
    the handler. Without one the answer is 204."""

    def __init__(self) -> None:
        self.behaviours: dict[str, int | list[int] | Behaviour] = {}
        self.requests: list[Received] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def at(self, path: str) -> list[Received]:
        with self._lock:
            return [request for request in self.requests if request.path == path]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with served._lock:
                    served.requests.append(Received(self.path, headers, body))
                    count = sum(request.path == self.path for request in served.requests)
                with suppress(OSError):
                    served._answer(self, count)

            do_GET = do_POST  # noqa: N815 - the names are http.server's

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, count: int) -> None:
        behaviour = self.behaviours.get(handler.path, 204)
        if callable(behaviour):
            behaviour(handler)
            return
        statuses = [behaviour] if isinstance(behaviour, int) else behaviour
        answer(handler, statuses[min(count, len(statuses)) - 1])


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    """`headers` are spelt with underscores."""
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def receiver() -> Iterator[Receiver]:
    served = Receiver()
    served.start()
    try:
        yield served
    finally:
        served.stop()
