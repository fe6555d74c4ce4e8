"""What can be made to go wrong at a stand-in, so many times, for one of its methods."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["delay", "hold", "status", "refuse", "drop", "garbage", "replace"]


PAGE = b"<!DOCTYPE html>\n<html><title>Sign in to the network</title></html>"
"""What a gateway or a login page answers with any status."""


@dataclass(frozen=True)
class Hold:
    """Lets a test go on when requests have arrived, and the requests when the test says so."""

    arrivals: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    released: threading.Event = field(default_factory=threading.Event)

    def __reduce__(self) -> tuple[type[Hold], tuple[()]]:
        """Let faults be copied to other processes: a copy holds nothing yet."""
        return Hold, ()

    def wait_for(self, requests: int) -> None:
        """Wait until so many requests have arrived."""
        for _ in range(requests):
            assert self.arrivals.acquire(timeout=60), "no further request arrived"

    def pass_through(self) -> None:
        """Called for the request."""
        self.arrivals.release()
        assert self.released.wait(60), "the request was never released"


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        method: the id of the method, ``ml.projects.jobs.create`` or ``oauth.token``; ``*`` for any.
        kind: ``delay`` the answer by ``seconds``; ``hold`` the request until ``hold`` is released; answer with
            ``status`` and do nothing; ``refuse``: break the connection and do nothing; ``drop``: do what was asked, and
            break the connection instead of answering; ``garbage``: do what was asked, and answer 200 with a page of
            HTML; ``replace``: do what was asked, and answer with ``status``, ``body`` and ``headers`` instead, as a
            proxy or a policy may.
        times: how often.
        retry_after: the header of that name.
        message: the error's message.
        body: of an answer that replaces another one.
        headers: of such an answer.
    """

    method: str
    kind: Kind
    times: int = 1
    status: int = 503
    seconds: float = 0.0
    hold: Hold = field(default_factory=Hold)
    retry_after: str | None = None
    message: str = "The service is currently unavailable."
    body: bytes = PAGE
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """The faults that are still to come."""

    pending: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> None:
        """Let ``fault`` happen from now on."""
        with self._lock:
            self.pending.append(fault)

    def next(self, method: str) -> Fault | None:
        """The fault that this request meets, used up by it; None for none."""
        with self._lock:
            for fault in self.pending:
                if fault.method in ("*", method) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None
