"""Answers about containers that no engine gives: the job concerned keeps its state, and hides no other job."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.platforms.docker.client import Container
from caliban.platforms.docker.details import container_update, parse_details
from caliban.platforms.docker.platform import DockerPlatform
from caliban.platforms.docker.state import ContainerState, OddStateError
from caliban.records import JobRecord, JobStatus, JobUpdate, JsonObject, StatusUnavailable
from tests.fake_service import may_send

from .fake_engine import FakeDocker

ODD = (
    *(b"", b"[]", b"5", b"null", b"{}", b"<html>", b"\xff\xfe", b"[" * 100_000, b'{"Id": 5}', b'{"Id": "x"}'),
    *(
        b'{"Id": "x", "State": []}',
        b'{"Id": "x", "State": {"Status": 5}}',
        b'{"Id": "x", "State": {"Status": "flying"}}',
    ),
)
LABELLED = b'{"Id": "x", "State": {"Status": "exited", "ExitCode": null}, "Config": {"Labels": {"caliban.token": "x"}}}'
KEYS = (
    "Id",
    "Name",
    "State",
    "Config",
    "Status",
    "ExitCode",
    "Labels",
    "StopTimeout",
    "StartedAt",
    "Error",
    "OOMKilled",
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("body", [*ODD, LABELLED], ids=lambda body: repr(body[:30]))
def test_an_odd_answer_about_one_container_hides_no_other_job(
    platform: DockerPlatform,
    docker: FakeDocker,
    running: JobRecord,
    spec: JsonObject,
    submission: Submission,
    body: bytes,
) -> None:
    second = platform.submit(spec, replace(submission, token="f" * 32, name="caliban-2"), may_send)
    other = replace(running, id=69, details=second.details)
    for container in docker.containers.values():
        container.end(0)
    docker.hooks[f"GET /containers/{running.details.id}/json"] = lambda: (200, body)
    answers = platform.statuses([running, other])
    assert isinstance(answers[running.id], StatusUnavailable)
    assert "\n" not in str(answers[running.id])
    assert getattr(answers[other.id], "status", None) is JobStatus.SUCCEEDED


@pytest.mark.parametrize("body", [*ODD, LABELLED], ids=lambda body: repr(body[:30]))
def test_an_odd_answer_while_a_job_is_stopped_or_followed_is_an_error(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, body: bytes
) -> None:
    for call in (platform.stop, platform.follow):
        docker.hooks[f"GET /containers/{running.details.id}/json"] = lambda: (200, body)
        with pytest.raises(PlatformError) as caught:
            call(running)
        assert caught.value.id == "docker-engine-failed"


@pytest.mark.parametrize("body", [b"", b"5", b"null", b"{}", b"[5]", b"[[]]", b'[{"Id": 5}]', b"<html>", b'"x"'])
def test_an_odd_list_of_containers_leaves_states_and_outcomes_open(
    platform: DockerPlatform, docker: FakeDocker, running: JobRecord, submission: Submission, body: bytes
) -> None:
    docker.hooks["GET /containers/json"] = lambda: (200, body)
    answer = platform.statuses([running])[running.id]
    assert isinstance(answer, StatusUnavailable) or answer.status is JobStatus.UNKNOWN
    docker.hooks["GET /containers/json"] = lambda: (200, body)
    with pytest.raises(PlatformError):
        platform.find(submission)


@given(JSON)
def test_no_container_causes_another_error(raw: object) -> None:
    with suppress(OddStateError):
        container = Container.from_json(raw)
        container_update({}, container.state)


@given(st.dictionaries(st.sampled_from([*KEYS, "FinishedAt"]), JSON), st.sampled_from(["running", "exited", "created"]))
def test_no_state_causes_another_error(raw: dict[str, object], status: str) -> None:
    with suppress(OddStateError):
        update = container_update({}, ContainerState.from_json({**raw, "Status": status}))
        assert isinstance(update, JobUpdate)


@given(st.dictionaries(st.sampled_from(["ret_code", "name", "engine", "error", "cause", "started", "reason"]), JSON))
def test_no_stored_details_cause_an_error(raw: dict[str, object]) -> None:
    for status in JobStatus:
        parse_details(status, raw)
