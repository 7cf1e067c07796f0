"""Those who wait: long polls and event streams, all at once, from a process of their own.

    python -m tests.benchmarks.crowd HOST PORT < plan.json

The plan has the key, and the ids of jobs that are polled, streamed, and taken next by those whose job has
ended. "waiting" is said once everybody waits; when standard input ends, what was seen is said as JSON: when
each job was seen to have ended, how many answers of each kind there were, and what went wrong.

It speaks HTTP itself: a client made for comfort would need more of the machine than the service.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from typing import Any, NamedTuple

__all__ = ["main"]

_HOLD_S = 30
# As many come at the same moment.
_AT_ONCE = 200


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]


class Person:
    """Somebody with a connection, which is made anew when it breaks."""

    def __init__(self, address: tuple[str, int], key: str) -> None:
        self._address = address
        self._key = key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str, **headers: str) -> Answer:
        """The head of the answer; OSError, EOFError."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._address[0]}", f"Authorization: Bearer {self._key}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._lines.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        return Answer(int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs})

    async def body(self, answer: Answer) -> bytes:
        body = await self._lines.readexactly(int(answer.headers.get("content-length", 0)))
        if answer.headers.get("connection") == "close":
            self.hang_up()
        return body

    async def line(self) -> bytes:
        """Empty at the end of the answer's connection."""
        return await self._lines.readline()

    @property
    def _lines(self) -> asyncio.StreamReader:
        assert self._reader is not None
        return self._reader

    def hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Crowd:
    def __init__(self, address: tuple[str, int], plan: dict[str, Any]) -> None:
        self._address = address
        self._plan = plan
        self._spare = iter(plan["spare"])
        self._door = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self.ended: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def wait_until(self, over: asyncio.Event) -> None:
        people = [self._lives(self._poll, job_id) for job_id in self._plan["polled"]]
        people += [self._lives(self._stream, job_id) for job_id in self._plan["streamed"]]
        tasks = [asyncio.create_task(person) for person in people]
        while self._waiting < len(tasks):
            await asyncio.sleep(0.05)
        # The last of them have sent their request; that much time to arrive.
        await asyncio.sleep(1)
        _say("waiting")
        await over.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _lives(self, way: Any, job_id: str) -> None:
        person = Person(self._address, self._plan["key"])
        async with self._door:
            await person.body(await person.get(f"/v1/jobs/{job_id}"))
        self._waiting += 1
        while True:
            try:
                await way(person, job_id)
            except (OSError, EOFError) as error:
                self.errors[type(error).__name__] += 1
                person.hang_up()
                await asyncio.sleep(1)
            if job_id in self.ended:
                job_id = next(self._spare)

    async def _poll(self, person: Person, job_id: str) -> None:
        """Until the job has ended."""
        etag = ""
        while job_id not in self.ended:
            path = f"/v1/jobs/{job_id}?wait={_HOLD_S}" if etag else f"/v1/jobs/{job_id}"
            answer = await person.get(path, **({"If_None_Match": etag} if etag else {}))
            body = await person.body(answer)
            if answer.status not in (200, 304):
                self.errors[f"{answer.status} to a long poll"] += 1
            elif answer.status == 200 and json.loads(body)["done"]:
                self.ended[job_id] = time.time()
            rest = float(answer.headers.get("retry-after", 0))
            self.answers["long polls that were not held" if rest else "long polls"] += 1
            etag = answer.headers.get("etag", etag)
            await asyncio.sleep(rest)

    async def _stream(self, person: Person, job_id: str) -> None:
        """Until the job has ended, or the stream."""
        answer = await person.get(f"/v1/jobs/{job_id}/events")
        if answer.status != 200:
            self.errors[f"{answer.status} to an event stream"] += 1
            await person.body(answer)
            await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
            return
        while line := await person.line():
            self.answers["lines of event streams"] += 1
            if line.startswith(b"data:") and b'"cancelled"' in line:
                self.ended[job_id] = time.time()
                break
        person.hang_up()


async def _run(address: tuple[str, int], plan: dict[str, Any]) -> dict[str, Any]:
    crowd, over, loop = Crowd(address, plan), asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, daemon=True).start()
    await crowd.wait_until(over)
    return {"ended": crowd.ended, "answers": crowd.answers, "errors": crowd.errors}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    plan = json.loads(sys.stdin.readline())
    _say(json.dumps(asyncio.run(_run((sys.argv[1], int(sys.argv[2])), plan))))


if __name__ == "__main__":
    main()
