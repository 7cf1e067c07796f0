"""The log of a job: what its process printed and the sentences it said, bounded in size."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

__all__ = ["Hidden", "JobLog"]

_CUT = b"\n[... %d bytes left out ...]\n"


class Hidden:
    """Texts, such as the path of a folder of ours, that are shown as something else."""

    def __init__(self, shown: Mapping[str, str]) -> None:
        # The longest first: a folder's name begins with its parent's.
        self._shown = sorted(shown.items(), key=lambda pair: -len(pair[0]))

    def __call__(self, text: str) -> str:
        for hidden, shown in self._shown:
            text = text.replace(hidden, shown)
        return text


class JobLog:
    """Keeps the first and the last `half_bytes` of what is written. Sentences may come from any thread."""

    def __init__(self, hidden: Hidden, *, half_bytes: int = 512 * 1024) -> None:
        self._hidden = hidden
        self._half = half_bytes
        self._lock = threading.Lock()
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out = 0
        self._line = b""

    def write(self, data: bytes) -> None:
        """Output as it comes, in pieces of any size."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._add(line + b"\n")
        if len(self._line) > 64 * 1024:
            self._add(self._line)
            self._line = b""

    def say(self, level: str, message: str) -> None:
        """A sentence on a line of its own."""
        self._add(f"[{level}] {message}\n".encode())

    @property
    def tail(self) -> bytes:
        """The end of it, where a dying process says why."""
        return b"".join([bytes(self._head[-4096:]), *list(self._tail)[-20:], self._line])[-4096:]

    def getvalue(self) -> bytes:
        if self._line:
            self._add(self._line)
            self._line = b""
        cut = _CUT % self._left_out if self._left_out else b""
        return bytes(self._head) + cut + b"".join(self._tail)

    def _add(self, line: bytes) -> None:
        line = self._hidden(line.decode(errors="replace")).encode()
        with self._lock:
            if not self._tail and len(self._head) + len(line) <= self._half:
                self._head += line
                return
            self._tail.append(line)
            self._tail_bytes += len(line)
            while self._tail_bytes > self._half:
                gone = len(self._tail.popleft())
                self._tail_bytes -= gone
                self._left_out += gone
