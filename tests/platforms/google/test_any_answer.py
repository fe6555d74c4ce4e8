"""Whatever a service answers, a platform reports a state, a reason or an error of ours; never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google.errors import ForeignAnswerError, GoogleRefusedError, parse_error, refusal_of
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobStatus, JobUpdate, StatusUnavailable
from tests.fakes import FakeClock
from tests.platforms.caip.helpers import CaipBackend
from tests.platforms.google.helpers import POLICY, TOKEN, Backend
from tests.platforms.vertex.helpers import VertexBackend
from tests.sampling import examples
from tests.standins.faults import Fault

EXAMPLES = settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    *("name", "jobId", "displayName", "state", "labels", "error", "errorMessage", "startTime", "endTime", "createTime"),
    *("jobSpec", "trainingInput", "jobs", "customJobs", "nextPageToken"),
)
JOBS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8)
STATUSES = st.sampled_from([200, 200, 200, 400, 401, 403, 404, 409, 429, 500, 503, 520])
BODIES = st.binary(max_size=50) | JOBS.map(json.dumps).map(str.encode) | VALUES.map(json.dumps).map(str.encode)


@pytest.fixture(scope="module", params=[CaipBackend, VertexBackend], ids=["caip", "vertex"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    made: Backend = request.param(FakeClock(), tmp_path_factory.mktemp("key"))
    with made.service:
        yield made


@pytest.fixture(scope="module")
def platform(backend: Backend) -> TrainingPlatform[Any]:
    return backend.platform(replace(POLICY, deadline=0, quota_deadline=0, consistency_delay=0))


def answer_everything_with(backend: Backend, status: int, body: bytes) -> None:
    backend.service.faults.pending[:] = [
        Fault(backend.method(name), "replace", status=status, body=body, times=1000)
        for name in ("create", "get", "list", "cancel")
    ]


@EXAMPLES
@given(status=STATUSES, body=BODIES)
@example(status=200, body=b'{"name": {}, "jobId": [], "customJobs": [{"labels": 7}]}')
def test_a_status_request_has_a_state_or_a_reason(
    backend: Backend, platform: TrainingPlatform[Any], status: int, body: bytes
) -> None:
    job = backend.job()
    answer_everything_with(backend, status, body)
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate | StatusUnavailable)


@EXAMPLES
@given(status=STATUSES, body=BODIES)
def test_a_submission_is_accepted_refused_or_unknown(
    backend: Backend, platform: TrainingPlatform[Any], status: int, body: bytes
) -> None:
    answer_everything_with(backend, status, body)
    try:
        new = platform.submit(backend.spec, replace(backend.submission(), token=f"{TOKEN}{id(body)}"), lambda: None)
    except RefusedError as refused:
        platform.parse_details(JobStatus.FAILED, refused.details)
    except CalibanError as unknown:
        f"{unknown.message} {unknown.cause}".encode()
    else:
        assert new.details.id


@EXAMPLES
@given(status=STATUSES, body=BODIES)
def test_a_lookup_and_a_stop_have_an_answer_or_an_error(
    backend: Backend, platform: TrainingPlatform[Any], status: int, body: bytes
) -> None:
    answer_everything_with(backend, status, body)
    for call in (lambda: platform.find(backend.submission()), lambda: platform.stop(backend.job())):
        try:
            call()
        except CalibanError as error:
            f"{error.message} {error.cause}".encode()


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps({"error": value}).encode()))
def test_any_body_of_an_error_can_be_shown(content: bytes) -> None:
    status, cause = parse_error(content, "reason")
    f"{status} {cause}".encode()


@given(
    st.dictionaries(
        st.sampled_from(["code", "message", "status", "details"]), VALUES | st.just(403) | st.just("NOT_FOUND")
    )
)
def test_a_refusal_has_the_code_and_a_status_of_its_own(error: dict[str, object]) -> None:
    made = refusal_of(403, "Forbidden", json.dumps({"error": error}).encode(), "do it", None)
    is_own = (
        type(error.get("code")) is int
        and error["code"] == 403
        and isinstance(error.get("message"), str)
        and error.get("status") == "NOT_FOUND"
    )
    assert isinstance(made, GoogleRefusedError if is_own else ForeignAnswerError)


@given(st.dictionaries(st.sampled_from((*FIELDS, "project_id", "region", "started", "cause")), VALUES))
def test_any_stored_details_can_be_read(raw: dict[str, object]) -> None:
    for status in JobStatus:
        CaipPlatform.parse_details(status, raw)
        VertexPlatform.parse_details(status, raw)
