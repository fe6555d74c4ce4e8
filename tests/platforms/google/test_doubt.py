"""Only a refusal by the service itself ends a submission; after any other answer the job is looked up by its token."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from caliban.errors import CalibanError
from caliban.platforms.base import RefusedError
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.records import JobStatus, JobUpdate, StatusUnavailable
from tests.fakes import FakeClock
from tests.platforms.google.helpers import POLICY, TOKEN, Backend
from tests.standins.faults import PAGE, Fault

Platform = TrainingPlatform[Any]

ONCE = replace(POLICY, deadline=0)

OF_ANOTHER_API = json.dumps({"error": "access_denied", "message": "blocked by policy"}).encode()
OF_A_GATEWAY = json.dumps({"error": {"code": 403, "message": "RBAC: access denied"}}).encode()
OF_ANOTHER_STATUS = json.dumps({"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}).encode()
WITHOUT_A_NUMBER = json.dumps({"error": {"code": "403", "message": "no", "status": "PERMISSION_DENIED"}}).encode()
OF_NO_RPC_STATUS = json.dumps({"error": {"code": 403, "message": "no", "status": "BLOCKED"}}).encode()
DEEP = b'{"error":' * 5000

REPLACED = {
    **{f"{status} with a page": (status, PAGE) for status in (400, 401, 403, 404, 405, 407, 408, 410, 413, 425, 429)},
    **{f"{status} with a page": (status, PAGE) for status in (451, 499, 500, 501, 502, 503, 504, 507, 511)},
    **{f"{status} of a gateway": (status, b"error code: 520") for status in (520, 521, 522, 524, 525, 530, 598, 599)},
    **{f"redirect {status}": (status, b"") for status in (301, 302, 303, 307, 308)},
    "200 with a page": (200, PAGE),
    "200 without a body": (200, b""),
    "200 with half a body": (200, b'{"name": "projects/1/loca'),
    "200 with a list": (200, b"[]"),
    "200 with an object of another service": (200, b'{"status": "ok"}'),
    "200 that cannot be decoded": (200, b'{"name": "\xff"}'),
    "200 with deep JSON": (200, DEEP),
    "204": (204, b""),
    "403 of another API": (403, OF_ANOTHER_API),
    "403 of a gateway in Google's form": (403, OF_A_GATEWAY),
    "403 with another code": (403, OF_ANOTHER_STATUS),
    "403 with a code that is a text": (403, WITHOUT_A_NUMBER),
    "403 with an unknown status": (403, OF_NO_RPC_STATUS),
    "403 with deep JSON": (403, DEEP),
    "403 without a body": (403, b""),
    "404 without a body": (404, b""),
    "404 with a list": (404, b'[{"error": {"code": 404}}]'),
}
SOME_REPLACED = {
    name: REPLACED[name]
    for name in (
        *(
            "403 with a page",
            "404 with a page",
            "404 without a body",
            "410 with a page",
            "403 of a gateway in Google's form",
        ),
        *("520 of a gateway", "redirect 307", "200 with a page", "200 with half a body", "204"),
        *("200 with an object of another service", "200 with deep JSON"),
    )
}


def fault(backend: Backend, method: str, kind: Any, **how: Any) -> None:
    backend.service.faults.add(Fault(backend.method(method), kind, **how))


@pytest.mark.parametrize(("status", "body"), REPLACED.values(), ids=REPLACED.keys())
def test_a_job_whose_answer_was_replaced_is_found_and_submitted_once(
    backend: Backend, platform: Platform, status: int, body: bytes
) -> None:
    fault(backend, "create", "replace", status=status, body=body, headers={"Location": "http://127.0.0.1:9/"})
    new = platform.submit(backend.spec, backend.submission(), lambda: None)
    assert new.details.display_name == backend.name
    assert backend.jobs() == [(backend.name, TOKEN)]
    assert backend.counts("create") == (1,)


@pytest.mark.parametrize(
    ("status", "body"), [(403, PAGE), (404, PAGE), (407, PAGE), (520, b""), (499, PAGE), (200, PAGE)]
)
def test_while_lookups_are_replaced_too_the_outcome_is_unknown(
    backend: Backend, platform: Platform, status: int, body: bytes
) -> None:
    for method in ("create", "get", "list"):
        fault(backend, method, "replace", status=status, body=body, times=1000)
    with pytest.raises(CalibanError) as caught:
        platform.submit(backend.spec, backend.submission(), lambda: None)
    assert not isinstance(caught.value, RefusedError)
    backend.service.faults.pending.clear()
    found = platform.find(backend.submission())
    assert found is not None
    assert backend.jobs() == [(backend.name, TOKEN)]


@pytest.mark.parametrize("status", [408, 409, 425, 499, 500, 502, 503, 504, 520, 599])
def test_an_error_of_the_service_that_may_follow_an_accepted_job_leads_to_a_lookup(
    backend: Backend, platform: Platform, status: int
) -> None:
    own = json.dumps({"error": {"code": status, "message": "no", "status": "ABORTED"}}).encode()
    fault(backend, "create", "replace", status=status, body=own)
    platform.submit(backend.spec, backend.submission(), lambda: None)
    assert backend.counts("create") == (1,)


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_an_error_object_of_the_service_itself_is_a_refusal(backend: Backend, platform: Platform, status: int) -> None:
    name = "UNIMPLEMENTED" if status == 501 else "INVALID_ARGUMENT"
    own = json.dumps({"error": {"code": status, "message": "really not", "status": name}}).encode()
    fault(backend, "create", "replace", status=status, body=own, times=1000)
    with pytest.raises(RefusedError) as caught:
        platform.submit(backend.spec, backend.submission(), lambda: None)
    assert "really not" in str(caught.value.cause)
    assert sum(backend.counts("get", "list")) == 0


def test_a_page_is_reported_with_its_status(backend: Backend, platform: Platform) -> None:
    fault(backend, "get", "replace", status=403, times=1000)
    [update] = platform.statuses([backend.accept()]).values()
    assert isinstance(update, StatusUnavailable)
    assert "the answer does not come from Google's API: HTTP 403" in update.reason


@pytest.mark.parametrize(("status", "body"), SOME_REPLACED.values(), ids=SOME_REPLACED.keys())
def test_no_replaced_answer_makes_a_job_missing(backend: Backend, status: int, body: bytes) -> None:
    jobs = [backend.accept()]
    for method in ("get", "list"):
        fault(backend, method, "replace", status=status, body=body, times=1000)
    assert {type(update) for update in backend.platform(ONCE).statuses(jobs).values()} == {StatusUnavailable}


@pytest.mark.parametrize(("status", "body"), SOME_REPLACED.values(), ids=SOME_REPLACED.keys())
def test_no_replaced_answer_settles_an_interrupted_submission(backend: Backend, status: int, body: bytes) -> None:
    backend.accept(token=TOKEN)
    for method in ("get", "list"):
        fault(backend, method, "replace", status=status, body=body, times=1000)
    with pytest.raises(CalibanError):
        backend.platform(ONCE).find(backend.submission())


def test_a_login_page_in_place_of_a_token_refuses_no_credentials(backend: Backend, platform: Platform) -> None:
    backend.service.faults.add(Fault("oauth.token", "replace", status=403))
    platform.submit(backend.spec, backend.submission(), lambda: None)
    assert backend.jobs() == [(backend.name, TOKEN)]


def test_an_unaccepted_token_is_renewed_before_the_job_is_sent_again_by_permission(
    backend: Backend, platform: Platform
) -> None:
    fault(backend, "create", "status", status=401, message="expired")
    asked: list[None] = []
    platform.submit(backend.spec, backend.submission(), lambda: asked.append(None))
    assert (len(asked), backend.counts("create"), backend.service.counts["oauth.token"]) == (2, (2,), 2)


def changed(backend: Backend, **fields: object) -> bytes:
    """Return a job as the service reports it, changed by a policy."""
    job = {"jobId": backend.name, "name": "projects/12/locations/us-central1/customJobs/42", "state": "QUEUED"}
    return json.dumps({**job, **fields}).encode()


ODD_JOBS: dict[str, dict[str, object]] = {
    "no labels": {},
    "other labels": {"labels": {"team": "x"}},
    "labels of another type": {"labels": ["x"]},
    "a state of another type": {"state": {"a": 1}},
    "an unknown state": {"state": "JOB_STATE_NEW"},
    "no spec": {"jobSpec": None, "trainingInput": 7},
    "times of another type": {"startTime": 5, "endTime": ["x"], "createTime": {}},
    "an error of another type": {"error": "x", "errorMessage": 7, "state": "FAILED"},
    "a display name of another type": {"displayName": {"a": 1}},
    "texts that cannot be stored": {"displayName": "a\x00b", "errorMessage": "\ud800"},
}


@pytest.mark.parametrize("fields", ODD_JOBS.values(), ids=ODD_JOBS.keys())
def test_of_the_answer_to_a_new_job_only_its_name_is_required(
    backend: Backend, platform: Platform, fields: dict[str, object]
) -> None:
    fault(backend, "create", "replace", status=200, body=changed(backend, **fields))
    new = platform.submit(backend.spec, backend.submission(), lambda: None)
    assert new.details.id is not None
    assert backend.counts("create") == (1,)
    json.dumps(new.details.raw).encode()


@pytest.mark.parametrize("fields", ODD_JOBS.values(), ids=ODD_JOBS.keys())
def test_an_odd_job_is_found_by_its_token(backend: Backend, platform: Platform, fields: dict[str, object]) -> None:
    label = {"labels": {"caliban_token": TOKEN}}
    job = json.loads(changed(backend, **{**fields, **label}))
    fault(backend, "get", "replace", status=200, body=json.dumps(job).encode())
    fault(backend, "list", "replace", status=200, body=json.dumps({"customJobs": [job]}).encode())
    found = platform.find(backend.submission())
    assert found is not None
    assert found.details.id is not None


@pytest.mark.parametrize("fields", ODD_JOBS.values(), ids=ODD_JOBS.keys())
def test_the_state_of_an_odd_job_is_known_or_unavailable(
    backend: Backend, platform: Platform, fields: dict[str, object]
) -> None:
    job = backend.accept()
    answered = changed(backend, **fields, jobId=job.details.id, name=job.details.id)
    fault(backend, "get", "replace", status=200, body=answered)
    [update] = platform.statuses([job]).values()
    assert isinstance(update, StatusUnavailable) or update.status is not JobStatus.UNKNOWN


@pytest.mark.parametrize(
    "page",
    [
        {"jobs": "x", "customJobs": "x"},
        {"jobs": [7], "customJobs": [None]},
        {"jobs": {"a": {}}, "customJobs": {"a": {}}},
        {"items": []},
    ],
)
def test_a_list_of_another_form_makes_no_job_missing(backend: Backend, page: dict[str, object]) -> None:
    fault(backend, "list", "replace", status=200, body=json.dumps(page).encode(), times=1000)
    updates = backend.platform(ONCE).statuses(backend.accept_many(5)).values()
    assert {type(update) for update in updates} == {StatusUnavailable}


@pytest.mark.parametrize("token", [7, ["x"], {}])
def test_a_page_token_that_is_no_text_is_an_error(backend: Backend, platform: Platform, token: object) -> None:
    fault(backend, "list", "replace", status=200, body=json.dumps({"nextPageToken": token}).encode())
    with pytest.raises(CalibanError, match="the answer does not come from Google's API"):
        list(platform.client.pages(backend.destination(), ""))


def test_a_list_that_repeats_its_page_token_ends(backend: Backend, platform: Platform) -> None:
    body = json.dumps({"nextPageToken": "again"}).encode()
    fault(backend, "list", "replace", status=200, body=body, times=1000)
    with pytest.raises(CalibanError) as caught:
        list(platform.client.pages(backend.destination(), ""))
    assert (caught.value.id, backend.counts("list")) == ("google-list-endless", (2,))


@pytest.mark.parametrize("retry_after", ["-1", "1e999", "9" * 400, "٣", "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "0"])
def test_an_odd_retry_after_is_no_error_of_ours(
    backend: Backend, platform: Platform, clock: FakeClock, retry_after: str
) -> None:
    fault(backend, "get", "status", status=429, retry_after=retry_after.encode().decode("latin-1"))
    [update] = platform.statuses([backend.accept()]).values()
    assert isinstance(update, JobUpdate | StatusUnavailable)


def test_a_service_that_asks_to_be_asked_again_at_once_is_asked_with_growing_delays(
    backend: Backend, platform: Platform
) -> None:
    fault(backend, "get", "status", status=503, retry_after="0", times=10_000)
    platform.statuses([backend.accept()])
    assert backend.counts("get") < (100,)


def test_a_body_that_decompresses_to_gigabytes_is_given_up(backend: Backend) -> None:
    bomb = gzip.compress(bytes(100_000_000), 1)
    fault(backend, "get", "replace", status=200, body=bomb, headers={"Content-Encoding": "gzip"})
    [update] = backend.platform(ONCE).statuses([backend.accept()]).values()
    assert isinstance(update, StatusUnavailable)
    assert "larger than 64 MiB" in update.reason
