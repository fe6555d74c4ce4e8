"""Submitting to both training services: exactly one job for each submission, whatever gets lost."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.records import JobStatus
from tests.fake_service import may_send
from tests.fakes import FakeClock
from tests.platforms.google.helpers import OTHER_PROJECT, OTHER_TOKEN, POLICY, PROJECT, TOKEN, Backend
from tests.standins.faults import Fault
from tests.standins.training import Quota

Platform = TrainingPlatform[Any]


def lookups(backend: Backend) -> int:
    return sum(backend.counts("get", "list"))


def creations(backend: Backend) -> int:
    return backend.counts("create")[0]


def fail_creation(backend: Backend, kind: Any, **how: Any) -> None:
    backend.service.faults.add(Fault(backend.method("create"), kind, **how))


def test_a_submission_is_one_request_with_the_recorded_spec_its_full_name_and_the_token(
    backend: Backend, platform: Platform
) -> None:
    new = platform.submit(backend.spec, backend.submission(), may_send)
    labels = {**backend.spec["labels"], "caliban_token": TOKEN}
    [sent] = backend.service.bodies(backend.method("create"))
    assert sent == {**backend.spec, backend.name_key: backend.name, "labels": labels}
    assert (new.container, new.status) == (backend.image, JobStatus.SUBMITTED)
    assert (new.details.display_name, new.details.destination) == (backend.name, backend.destination())
    assert (creations(backend), lookups(backend)) == (1, 0)


def test_a_submission_goes_to_the_journaled_destination(backend: Backend, platform: Platform) -> None:
    new = platform.submit(backend.spec, backend.submission(project=OTHER_PROJECT), may_send)
    assert new.details.destination == backend.destination(OTHER_PROJECT)
    assert f"/projects/{OTHER_PROJECT}/" in backend.service.requests[-1].path


def test_after_a_lost_answer_the_job_is_looked_up_before_it_is_requested_again(
    backend: Backend, platform: Platform
) -> None:
    fail_creation(backend, "drop")
    platform.submit(backend.spec, backend.submission(), may_send)
    assert (creations(backend), lookups(backend)) == (1, 1)


def test_after_a_timeout_the_job_is_looked_up(backend: Backend) -> None:
    fail_creation(backend, "delay", seconds=0.5)
    hurried = backend.platform(replace(POLICY, read_timeout=0.2))
    hurried.submit(backend.spec, backend.submission(), may_send)
    assert backend.jobs() == [(backend.name, TOKEN)]


def test_a_request_that_never_arrived_is_sent_again_after_a_lookup(backend: Backend, platform: Platform) -> None:
    fail_creation(backend, "refuse")
    platform.submit(backend.spec, backend.submission(), may_send)
    assert creations(backend) == 2
    assert lookups(backend) >= 1
    assert backend.jobs() == [(backend.name, TOKEN)]


def test_a_failing_service_is_asked_again(backend: Backend, platform: Platform) -> None:
    fail_creation(backend, "status", times=2, status=503)
    platform.submit(backend.spec, backend.submission(), may_send)
    assert creations(backend) == 3
    assert backend.jobs() == [(backend.name, TOKEN)]


def test_an_exceeded_quota_is_waited_for_without_lookups_and_announced_once(
    backend: Backend, platform: Platform
) -> None:
    fail_creation(backend, "status", times=3, status=429)
    platform.submit(backend.spec, backend.submission(), may_send)
    assert (creations(backend), lookups(backend)) == (4, 0)
    assert backend.reporter.lines == [
        f"{backend.service_name} limits the number of requests per minute; the remaining jobs are waiting ..."
    ]


def test_a_quota_that_stays_exceeded_is_a_refusal_in_googles_words(
    backend: Backend, clock: FakeClock, tmp_path: Path
) -> None:
    with type(backend)(clock, tmp_path, Quota(submissions=1, window_s=600)).service as service:
        busy = backend.platform(service=service, cloud_key=service.write_key_file(tmp_path / "busy.json"))
        busy.submit(backend.spec, backend.submission(), may_send)
        with pytest.raises(RefusedError) as caught:
            busy.submit(backend.spec, backend.submission("another_1", OTHER_TOKEN), may_send)
    assert caught.value.id == "google-quota-exhausted"
    assert str(caught.value.cause).startswith("Quota exceeded for quota metric '")
    assert "the service asks to wait" in str(caught.value.cause)


def test_a_quota_that_one_job_waited_for_in_vain_is_not_waited_for_by_the_next(
    backend: Backend, platform: Platform
) -> None:
    fail_creation(backend, "status", times=1000, status=429)
    with pytest.raises(RefusedError):
        platform.submit(backend.spec, backend.submission(), may_send)
    before = creations(backend)
    with pytest.raises(RefusedError):
        platform.submit(backend.spec, backend.submission("another_1", OTHER_TOKEN), may_send)
    assert creations(backend) - before == 1


def test_a_denied_permission_is_a_refusal_with_destination_and_name_to_record(
    backend: Backend, platform: Platform
) -> None:
    backend.service.forbidden.add(backend.permission("create"))
    with pytest.raises(RefusedError) as caught:
        platform.submit(backend.spec, backend.submission(), may_send)
    recorded = platform.parse_details(JobStatus.FAILED, caught.value.details)
    assert caught.value.id == "google-permission-denied"
    assert (recorded.display_name, recorded.destination) == (backend.name, backend.destination())
    assert f"Permission '{backend.permission('create')}' denied" in str(caught.value.cause)


def test_a_spec_that_the_service_does_not_accept_is_a_refusal(backend: Backend, platform: Platform) -> None:
    spec, message = backend.bad_spec
    with pytest.raises(RefusedError) as caught:
        platform.submit(spec, backend.submission(), may_send)
    assert message in str(caught.value.cause)
    assert lookups(backend) == 0


def test_refused_credentials_are_a_refusal_since_nothing_was_sent(backend: Backend, platform: Platform) -> None:
    backend.service.account.refusal = ("invalid_grant", "Token has been expired or revoked.")
    with pytest.raises(RefusedError) as caught:
        platform.submit(backend.spec, backend.submission(), may_send)
    assert caught.value.cause == "invalid_grant: Token has been expired or revoked."
    assert creations(backend) == 0


def test_a_missing_key_is_a_refusal_since_nothing_was_sent(backend: Backend, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        backend.platform(cloud_key=tmp_path / "gone.json").submit(backend.spec, backend.submission(), may_send)
    assert caught.value.id == "key-not-found"


def test_after_a_service_that_keeps_failing_the_outcome_is_unknown(backend: Backend, platform: Platform) -> None:
    fail_creation(backend, "status", times=1000, status=503)
    with pytest.raises(GoogleError) as caught:
        platform.submit(backend.spec, backend.submission(), may_send)
    assert caught.value.id == "google-unavailable"


def test_after_a_refusal_that_follows_a_lost_answer_the_outcome_is_unknown(
    backend: Backend, platform: Platform
) -> None:
    fail_creation(backend, "refuse")
    fail_creation(backend, "status", status=403, message="not any more")
    with pytest.raises(CalibanError) as caught:
        platform.submit(backend.spec, backend.submission(), may_send)
    assert not isinstance(caught.value, RefusedError)


def test_after_a_lost_answer_without_a_lookup_the_outcome_is_unknown(backend: Backend, platform: Platform) -> None:
    fail_creation(backend, "drop")
    backend.service.forbidden |= {backend.permission("get"), backend.permission("list")}
    with pytest.raises(CalibanError) as caught:
        platform.submit(backend.spec, backend.submission(), may_send)
    assert not isinstance(caught.value, RefusedError)
    backend.service.forbidden.clear()
    found = platform.find(backend.submission())
    assert found is not None
    assert found.details.display_name == backend.name


def test_a_spec_without_an_image_is_an_error_before_anything_is_sent(backend: Backend, platform: Platform) -> None:
    with pytest.raises(CalibanError) as caught:
        platform.submit(backend.no_image_spec, backend.submission(), may_send)
    assert caught.value.id == "malformed-job-spec"
    assert backend.service.requests == []


@pytest.mark.slow
def test_many_threads_submit_many_jobs_with_one_token_request(backend: Backend, platform: Platform) -> None:
    tokens = [f"{number:016x}" for number in range(24)]
    threads = [
        threading.Thread(
            target=platform.submit,
            args=(backend.spec, backend.submission(f"{backend.name}{number}", token), may_send),
        )
        for number, token in enumerate(tokens)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token for _, token in backend.jobs()} == set(tokens)
    assert (backend.service.counts["oauth.token"], creations(backend)) == (1, 24)


@pytest.mark.parametrize(("state", "expected"), [("RUNNING", JobStatus.RUNNING), ("UNSPECIFIED", JobStatus.UNKNOWN)])
def test_a_job_is_found_with_its_current_state(
    backend: Backend, platform: Platform, state: str, expected: JobStatus
) -> None:
    backend.set_state(backend.accept(token=TOKEN), state)
    found = platform.find(backend.submission())
    assert found is not None
    assert (found.container, found.status, found.details.display_name) == (backend.image, expected, backend.name)


def test_a_job_of_another_submission_is_not_taken_for_ours(backend: Backend, platform: Platform) -> None:
    backend.accept(token="another")
    assert platform.find(backend.submission()) is None


def test_a_service_that_refuses_lookups_is_an_error(backend: Backend, platform: Platform) -> None:
    backend.service.forbidden |= {backend.permission("get"), backend.permission("list")}
    with pytest.raises(GoogleError):
        platform.find(backend.submission())


def test_a_name_is_base_time_and_index_of_the_recorded_one(backend: Backend, platform: Platform) -> None:
    assert platform.job_name(backend.spec, TOKEN) == "caliban_totoro_20200529_105330_1"


def test_siblings_with_one_recorded_name_get_different_names(backend: Backend, platform: Platform) -> None:
    names = {platform.job_name(backend.spec, f"{number:016x}"[::-1]) for number in range(10)}
    assert len(names) == 10


def test_a_spec_without_a_name_cannot_be_named_again(backend: Backend, platform: Platform) -> None:
    with pytest.raises(CalibanError) as caught:
        platform.job_name({}, TOKEN)
    assert caught.value.cause == f"in the recorded job spec: {backend.name_key} is missing"


def test_connecting_fetches_a_token(backend: Backend, platform: Platform) -> None:
    platform.connect(backend.destination())
    assert backend.service.counts["oauth.token"] == 1


def test_a_re_run_goes_to_the_recorded_destination(backend: Backend, platform: Platform) -> None:
    assert platform.destination(backend.job(project=OTHER_PROJECT)) == backend.destination(OTHER_PROJECT)
    assert backend.reporter.lines == []


def test_an_experiment_without_a_job_goes_to_the_project_of_the_credentials(
    backend: Backend, platform: Platform
) -> None:
    assert platform.destination(None) == backend.destination(PROJECT)


def test_a_recorded_project_overrides_the_environment_which_is_announced_once(backend: Backend) -> None:
    platform = backend.platform(environ={"PROJECT_ID": OTHER_PROJECT})
    assert [platform.destination(backend.job()) for _ in range(2)] == [backend.destination()] * 2
    assert backend.reporter.lines == [
        "re-running jobs of project totoro-project there, not in wonder-project; use --project_id to change that"
    ]


def test_the_flag_moves_a_re_run_to_another_project_which_is_announced(backend: Backend) -> None:
    platform = backend.platform(project_id=OTHER_PROJECT)
    assert platform.destination(backend.job()) == backend.destination(OTHER_PROJECT)
    assert backend.reporter.lines == [
        "re-running jobs of project totoro-project in project wonder-project (--project_id)"
    ]


def test_destinations_are_stored_and_read(backend: Backend) -> None:
    destination = backend.destination(OTHER_PROJECT)
    assert type(destination).from_json(destination.to_json()) == destination  # type: ignore[attr-defined]
    assert destination != backend.destination()
    assert re.match(r"project wonder-project\b", str(destination))
