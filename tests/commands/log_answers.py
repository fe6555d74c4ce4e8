"""Answers of a platform that is asked for the output of jobs, and outputs in the store."""

from __future__ import annotations

from collections.abc import Sequence

from caliban.errors import CalibanError, PlatformError
from caliban.outputs.stored import StoredOutput
from caliban.platforms.base import LogRequest
from caliban.records import JobRecord
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from tests.conftest import ScreenContext
from tests.fake_service import FakeService

GROUP = ("--xgroup", "resubmit_test")


GONE = PlatformError("output-gone", "the container was removed", hint="keep containers")


class Answer:
    """An answer of the platform: the lines of each job; the requests that it got."""

    def __init__(self, service: FakeService, outputs: dict[int, Sequence[object] | CalibanError]) -> None:
        self.requests: dict[int, LogRequest] = {}
        self._outputs = outputs
        service.expect("logs", *[self._answer] * len(outputs))

    def _answer(self, job: JobRecord, request: LogRequest) -> object:
        self.requests[job.id] = request
        return self._outputs[job.id]


def store_output(store: Store, context: ScreenContext, job_id: int, data: bytes, **fields: object) -> None:
    with store.writing() as session:
        record_outputs(session, [StoredOutput(job_id, data, **fields)], context.clock)  # type: ignore[arg-type]
