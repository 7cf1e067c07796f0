"""A proxy on 127.0.0.1 in front of Redis or the S3 server, whose faults are switched while it runs.

    with FaultProxy(store.ports.s3) as proxy:
        settings = Settings(s3_endpoint_url=proxy.url, ...)
        with proxy.fault(Answer(503, share=0.5)):
            ...

It relays bytes as they are: what was signed for its own address (presigned URLs, the Host header) is what
the server sees, and the server's address never has to be known. Connections that are open when the fault
is switched feel the new one too.

    Pass       everything goes through
    Refuse     nobody listens, and connections that were open are reset
    Answer     requests are answered with a status of ours and never reach the server (HTTP alone)
    Slow       so many bytes a second in each direction, each piece later by a latency
    Cut        reset in the middle of a message
    BlackHole  connections are made, nothing arrives; what was sent arrives when the fault ends
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import h11

__all__ = ["Answer", "BlackHole", "Cut", "Fault", "FaultProxy", "Pass", "Refuse", "Slow"]

HOST = "127.0.0.1"
_CHUNK = 64 * 1024
_T = TypeVar("_T")


@dataclass(frozen=True)
class Pass:
    pass


@dataclass(frozen=True)
class Refuse:
    pass


@dataclass(frozen=True)
class BlackHole:
    pass


@dataclass(frozen=True)
class Answer:
    """`share` of the requests, drawn by the proxy's seed; the others go through."""

    status: int = 503
    share: float = 1.0


@dataclass(frozen=True)
class Slow:
    """`bytes_per_s` of each direction of a connection; None is no limit."""

    bytes_per_s: int | None = None
    latency_s: float = 0.0


@dataclass(frozen=True)
class Cut:
    """A connection is reset once more than `after_bytes` of a message have passed, head included. A message
    is what one side sends without the other saying something. `times` of them; None is all."""

    after_bytes: int = 4096
    times: int | None = None


Fault = Pass | Refuse | Answer | Slow | Cut | BlackHole


class FaultProxy:
    """In front of ``127.0.0.1:target``; a context. `target` may be set later, before the first connection.

    `seen` counts what was done, by the name of the fault: connections for Refuse (those reset), Cut and
    BlackHole, requests for Answer, pieces for Slow; "Pass" counts connections.
    """

    def __init__(self, target: int | None = None, *, port: int | None = None, seed: int = 0) -> None:
        self.target = target
        self.seen: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._fault: Fault = Pass()
        self._cuts_left: int | None = None
        # Bound now: the port is this proxy's for as long as it lives, also while nobody listens.
        self._reserved = _bound(port or 0)
        self.port: int = self._reserved.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def start(self) -> FaultProxy:
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._reserved.close()

    def __enter__(self) -> FaultProxy:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def current(self) -> Fault:
        return self._fault

    def set(self, fault: Fault) -> None:
        """From now on; returns when it holds."""
        self._call(self._set(fault))

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[None]:
        """For as long as the context lasts; then everything passes."""
        self.set(fault)
        try:
            yield
        finally:
            self.set(Pass())

    # In the loop's thread

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _set(self, fault: Fault) -> None:
        self._fault = fault
        self._cuts_left = fault.times if isinstance(fault, Cut) else None
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(fault, Refuse):
            await self._close()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, sock=_bound(self.port), backlog=2048)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        tasks = [connection.task for connection in self._open]
        for connection in list(self._open):
            self.seen["Refuse"] += 1
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    async def passable(self) -> None:
        """Wait while nothing may arrive."""
        if isinstance(self._fault, BlackHole):
            self.seen["BlackHole"] += 1
        while isinstance(self._fault, BlackHole):
            await self._changed.wait()

    async def delay(self, size: int) -> None:
        if isinstance(fault := self._fault, Slow):
            self.seen["Slow"] += 1
            await asyncio.sleep(fault.latency_s + size / (fault.bytes_per_s or float("inf")))

    def piece(self) -> int:
        """How much to relay at once: what is slow shall be slow evenly."""
        fault = self._fault
        if isinstance(fault, Slow) and fault.bytes_per_s is not None:
            return max(1, min(_CHUNK, fault.bytes_per_s // 10))
        if isinstance(fault, Cut):
            return max(1, min(_CHUNK, fault.after_bytes))
        return _CHUNK

    def cuts(self, passed: int) -> bool:
        """Whether a message of which `passed` bytes have been relayed ends here."""
        if not isinstance(fault := self._fault, Cut) or passed <= fault.after_bytes or self._cuts_left == 0:
            return False
        if self._cuts_left is not None:
            self._cuts_left -= 1
        self.seen["Cut"] += 1
        return True

    def answer(self) -> int | None:
        """The status the request that begins now is answered with instead of the server's."""
        fault = self._fault
        if not isinstance(fault, Answer) or self._random.random() >= fault.share:
            return None
        self.seen["Answer"] += 1
        return fault.status


class _Reset(Exception):
    """The connection is to be broken."""


class _Connection:
    """A caller's connection, and ours to the server once it is needed."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._upstream: asyncio.StreamWriter | None = None
        self._passed = 0
        self._upwards = True
        task = asyncio.current_task()
        assert task is not None
        self.task = task

    def abort(self) -> None:
        self._break()
        self.task.cancel()

    async def run(self) -> None:
        self._proxy.seen["Pass"] += 1
        down: asyncio.Task[None] | None = None
        try:
            await self._proxy.passable()
            reader, self._upstream = await asyncio.open_connection(HOST, self._proxy.target)
            down = asyncio.create_task(self._relay(reader, self._writer, upwards=False))
            up = asyncio.create_task(self._requests(self._upstream))
            done, _ = await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
            if up in done and up.exception() is None and not down.done():
                # One side has said all it has to say; the other may still answer.
                await down
            up.cancel()
            for task in done:
                task.result()
        except (OSError, _Reset, asyncio.CancelledError):
            self._break()
        finally:
            if down is not None:
                down.cancel()
            self._writer.close()
            if self._upstream is not None:
                self._upstream.close()

    async def _requests(self, upstream: asyncio.StreamWriter) -> None:
        """What the caller sends; each request asks anew whether it is answered here."""
        request = _Request()
        while piece := await self._read(self._reader, upwards=True):
            if request.over:
                request = _Request(request.rest)
            if request.began:
                await self._write(upstream, piece)
                request.feed(piece)
                continue
            status = self._proxy.answer()
            if status is not None:
                await self._answer(status, request, piece)
                return
            await self._write(upstream, piece)
            request.feed(piece)
        with suppress(OSError):
            upstream.write_eof()

    async def _answer(self, status: int, request: _Request, piece: bytes) -> None:
        """Once the request is over, or waits to be told to go on; then the connection ends."""
        request.feed(piece)
        while not request.over and not request.waits:
            if not (piece := await self._reader.read(_CHUNK)):
                break
            request.feed(piece)
        body = b"<Error><Code>ServiceUnavailable</Code><Message>a fault on purpose</Message></Error>"
        head = (
            f"HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        self._writer.write_eof()
        # Closed with something unread, the kernel would reset it, and the answer might never be read.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                while await self._reader.read(_CHUNK):
                    pass
        assert self._upstream is not None
        self._upstream.close()

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool
    ) -> None:
        while piece := await self._read(reader, upwards=upwards):
            await self._write(writer, piece)
        with suppress(OSError):
            writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader, *, upwards: bool) -> bytes:
        piece = await reader.read(self._proxy.piece())
        await self._proxy.passable()
        await self._proxy.delay(len(piece))
        if upwards is not self._upwards:
            self._upwards, self._passed = upwards, 0
        self._passed += len(piece)
        if self._proxy.cuts(self._passed):
            raise _Reset
        return piece

    async def _write(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(piece)
        await writer.drain()

    def _break(self) -> None:
        """As a machine that dies does: a reset, no orderly end."""
        for writer in (self._writer, self._upstream):
            if writer is None:
                continue
            with suppress(OSError, AttributeError):
                sock: socket.socket = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class _Request:
    """Where a request ends in the bytes of a connection. Bytes that are no HTTP are one endless request."""

    def __init__(self, first: bytes = b"") -> None:
        self._http: h11.Connection | None = h11.Connection(h11.SERVER)
        self.began = False
        self.over = False
        self.waits = False
        self.rest = b""
        if first:
            self.feed(first)

    def feed(self, piece: bytes) -> None:
        self.began = True
        if self._http is None:
            return
        try:
            self._http.receive_data(piece)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Request):
                    self.waits = any(name == b"expect" for name, _ in event.headers)
                elif isinstance(event, h11.EndOfMessage):
                    self.over, self.rest = True, self._http.trailing_data[0]
                    return
                elif not isinstance(event, h11.Data):
                    return
        except h11.RemoteProtocolError:
            self._http = None


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Several may be bound to the port, of which at most one listens.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock
