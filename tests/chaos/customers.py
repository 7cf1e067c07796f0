"""Those who want jobs done: threads that use the client library as programs of users do."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from featherweight import Client, JobError, JobHandle
from featherweight.errors import APIError, ConnectionFailed, ServiceUnavailable, StorageError
from featherweight.events import Event
from featherweight.eventstream import UnknownEvent
from featherweight.resources import Dataset, Model
from tests.chaos.inputs import data_path, model_path
from tests.chaos.orders import Order

__all__ = ["Customers", "Served"]

_log = logging.getLogger(__name__)

# A program that is told that the service is away comes back, for longer than any outage of a run lasts.
_PATIENCE_S = 240.0

_T = TypeVar("_T")


@dataclass
class Served:
    """What became of an order, as its customer saw it. `told` are the states of the event stream; `gave_up`
    is what went wrong for the customer. Times are of `time.monotonic`."""

    order: Order
    job_id: str | None = None
    state: str | None = None
    ended_at: float | None = None
    told: list[str] = field(default_factory=list)
    downloaded: list[str] = field(default_factory=list)
    gave_up: str | None = None

    @property
    def over(self) -> bool:
        return self.ended_at is not None


class Customers:
    """`count` at once, each of whom sends an order, waits for its job, fetches what it made, and sends the
    next. Started once; daemons, so that one who waits forever ends with the run."""

    def __init__(
        self, url: str, api_key: str, orders: Sequence[Order], *, inputs: Path, count: int, name: str
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._inputs = inputs
        self._name = name
        self._waiting = deque(orders)
        self._sent: dict[str, tuple[Model, Dataset]] = {}
        self._sending = {order.model: threading.Lock() for order in orders}
        self.served = [Served(order) for order in orders]
        self._threads = [
            threading.Thread(target=self._work, name=f"customer-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> int:
        """How many orders are over, whichever way."""
        return sum(served.over for served in self.served)

    def _work(self) -> None:
        with Client(self._url, self._api_key, max_retries=8) as client:
            while True:
                try:
                    order = self._waiting.popleft()
                except IndexError:
                    return
                served = self.served[order.number]
                try:
                    self._serve(client, served)
                except Exception:  # noqa: BLE001 - whatever it is, the customer was not served
                    served.gave_up = traceback.format_exc()
                    _log.warning("order %d: given up\n%s", order.number, served.gave_up)
                    served.ended_at = served.ended_at or time.monotonic()

    def _serve(self, client: Client, served: Served) -> None:
        order = served.order
        model, dataset = self._files(client, order)
        # The same key whenever it is tried again: it is one job, however often it is asked for.
        job = _patiently(
            lambda: client.compress(
                model,
                order.spec,
                dataset=dataset,
                name=f"{self._name}-{order.number}",
                idempotency_key=f"{self._name}-{order.number}",
            )
        )
        served.job_id = job.id
        hear = (lambda event: _note(served, event)) if order.follows else None
        try:
            _patiently(lambda: job.wait(on_event=hear))
        except JobError as error:
            served.gave_up = str(error)
        served.state = str(job.state)
        served.ended_at = time.monotonic()
        if served.gave_up is None and order.follows:
            served.downloaded = _downloaded(job)

    def _files(self, client: Client, order: Order) -> tuple[Model, Dataset]:
        if order.sends:
            return self._upload(client, order)
        with self._sending[order.model]:
            if order.model not in self._sent:
                self._sent[order.model] = self._upload(client, order)
            return self._sent[order.model]

    def _upload(self, client: Client, order: Order) -> tuple[Model, Dataset]:
        """Under names of this order's own: two who send the same file at once would share an upload."""
        with tempfile.TemporaryDirectory(dir=self._inputs) as folder:
            files = [model_path(self._inputs, order.model), data_path(self._inputs, order.model)]
            links = [Path(folder, f"{order.number}-{path.name}") for path in files]
            for path, link in zip(files, links, strict=True):
                os.link(path, link)
            return (
                _patiently(lambda: client.models.upload(links[0])),
                _patiently(lambda: client.datasets.upload(links[1])),
            )


def _note(served: Served, event: Event | UnknownEvent) -> None:
    if event.type == "state":
        served.told.append(event.state)


def _downloaded(job: JobHandle) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        return [path.name for path in _patiently(lambda: job.download(folder))]


def _patiently(ask: Callable[[], _T]) -> _T:
    """The answer of `ask`, asked again while the service or the storage is away."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except (ConnectionFailed, StorageError, APIError) as error:
            if not _is_passing(error) or time.monotonic() > deadline:
                raise
            _log.info("the service is away: %s", error)
        time.sleep(1.0)


def _is_passing(error: ConnectionFailed | StorageError | APIError) -> bool:
    """What a program may be told while something is away. A 500 of the service is not among it."""
    if isinstance(error, APIError):
        # The second: an API that was killed held the key, and nobody has let go of it yet.
        return isinstance(error, ServiceUnavailable) or error.code == "idempotency_key_in_flight"
    return isinstance(error, ConnectionFailed) or error.status >= 500
