from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from importlib import metadata
from pathlib import Path

import pytest

from caliban.platforms.caip.client import JobsService
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleRefusedError, GoogleUnreachableError, one_line
from caliban.platforms.retry import RetryPolicy, parse_retry_after
from tests.platforms.caip.helpers import NAME, PROJECT, QUICK, SHORT, body, platform_context
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1

GET = "ml.projects.jobs.get"
CREATE = "ml.projects.jobs.create"


def jobs(service: MlV1, key: Path, retry_policy: RetryPolicy = QUICK) -> JobsService:
    return JobsService(Google(platform_context(service=service, cloud_key=key), retry_policy))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(service: MlV1, key: Path, status: int) -> None:
    service.faults.add(Fault(GET, "status", times=2, status=status))
    assert jobs(service, key).get(PROJECT, NAME) is None
    assert service.counts[GET] == 3


def test_a_broken_connection_is_tried_again(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "refuse"))
    assert jobs(service, key).get(PROJECT, NAME) is None
    assert service.counts[GET] == 2


def test_a_timeout_is_tried_again(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "delay", seconds=1))
    assert jobs(service, key, replace(QUICK, read_timeout=0.2)).get(PROJECT, NAME) is None
    assert service.counts[GET] == 2


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_is_final(service: MlV1, key: Path, status: int) -> None:
    service.faults.add(Fault(GET, "status", status=status, message="no"))
    with pytest.raises(GoogleRefusedError):
        jobs(service, key).get(PROJECT, NAME)
    assert service.counts[GET] == 1


def test_patience_ends_with_how_often_was_tried(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", times=1000))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key, SHORT).get(PROJECT, NAME)
    tried = service.counts[GET]
    assert tried > 2
    assert caught.value.message == (
        f"cannot ask project {PROJECT} after the job {NAME}: Google's service fails just now"
    )
    assert re.fullmatch(
        rf"The service is currently unavailable\.\n\(tried {tried} times in \d s\)", str(caught.value.cause)
    )


def test_retry_after_is_obeyed(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", status=429, retry_after="1"))
    begun = time.monotonic()
    assert jobs(service, key).get(PROJECT, NAME) is None
    assert time.monotonic() - begun >= 1


def test_a_longer_retry_after_than_patience_allows_ends_it_at_once(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", status=429, retry_after="3600", message="Quota exceeded."))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).get(PROJECT, NAME)
    assert caught.value.id == "google-quota-exhausted"
    assert caught.value.cause == "Quota exceeded.\n(tried once; the service asks to wait 3600 s)"


@pytest.mark.parametrize(("text", "expected"), [(None, None), (" 7 ", 7.0), ("soon", None)])
def test_retry_after_is_understood_in_seconds(text: str | None, expected: float | None) -> None:
    assert parse_retry_after(text) == expected


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_retry_after_is_understood_as_a_date(zone: str) -> None:
    moment = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30)).replace("+0000", zone)
    assert parse_retry_after(moment) == pytest.approx(30, abs=2)


def test_requests_say_who_sends_them(service: MlV1, key: Path) -> None:
    jobs(service, key).get(PROJECT, NAME)
    assert service.requests[-1].headers["user-agent"] == f"caliban/{metadata.version('caliban')}"


def test_a_token_that_was_withdrawn_is_renewed_once(service: MlV1, key: Path) -> None:
    caller = jobs(service, key)
    caller.get(PROJECT, NAME)
    service.account.revoke_tokens()
    assert caller.get(PROJECT, NAME) is None
    assert (service.counts["oauth.token"], service.counts[GET]) == (2, 3)


def test_a_new_token_that_is_not_accepted_either_is_told(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", times=2, status=401, message="Request had invalid credentials."))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).get(PROJECT, NAME)
    assert caught.value.id == "google-not-authenticated"
    assert caught.value.cause == "Request had invalid credentials."
    assert "clock" in str(caught.value.hint)


def test_a_missing_permission_is_named_in_googles_words(service: MlV1, key: Path) -> None:
    service.forbidden.add("ml.jobs.create")
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create(PROJECT, body())
    assert caught.value.id == "google-permission-denied"
    assert caught.value.message == f"cannot submit the job {NAME} to project {PROJECT}: permission denied"
    assert caught.value.cause == (
        "Permission 'ml.jobs.create' denied on resource '//ml.googleapis.com/projects/totoro-project' (or it may not "
        "exist).\nIAM_PERMISSION_DENIED, permission: ml.jobs.create, resource: projects/totoro-project"
    )


def test_an_unknown_project_is_named_in_googles_words(service: MlV1, key: Path) -> None:
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create("no-such-project", body())
    assert caught.value.id == "google-not-found"
    assert caught.value.message == (
        f"cannot submit the job {NAME} to project no-such-project: Google knows no such thing"
    )
    assert "The project no-such-project was not found" in str(caught.value.cause)
    assert caught.value.hint == "see whether --project_id names the right project"


def test_a_body_that_the_api_does_not_know_is_told_with_the_field(service: MlV1, key: Path) -> None:
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create(PROJECT, {**body(), "priority": "high"})
    assert caught.value.id == "google-bad-request"
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.cause == (
        "Invalid JSON payload received. Unknown name \"priority\" at 'job': Cannot find field."
    )


def test_a_submission_is_sent_once_even_when_the_answer_is_lost(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "drop"))
    with pytest.raises(GoogleUnreachableError) as caught:
        jobs(service, key).create(PROJECT, body())
    assert service.counts[CREATE] == 1
    assert caught.value.message == (
        f"cannot submit the job {NAME} to project {PROJECT}: cannot reach {service.url}v1/projects/{PROJECT}/jobs"
    )


def test_an_endpoint_that_is_not_there_is_told(service: MlV1, key: Path) -> None:
    away = platform_context({"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": "http://127.0.0.1:9/"}, cloud_key=key)
    with pytest.raises(GoogleUnreachableError) as caught:
        JobsService(Google(away, SHORT)).get(PROJECT, NAME)
    assert caught.value.id == "google-unreachable"
    assert "refused" in str(caught.value.cause)


def test_an_answer_that_is_no_json_is_told(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "garbage"))
    with pytest.raises(GoogleUnreachableError) as caught:
        jobs(service, key).create(PROJECT, body())
    assert caught.value.id == "google-misunderstood"
    assert caught.value.cause == "<html>A proxy's page</html>"


def test_netrc_does_not_take_the_place_of_the_token(
    service: MlV1, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert jobs(service, key).get(PROJECT, NAME) is None


def test_an_error_as_a_remark_is_one_line() -> None:
    error = GoogleUnreachableError("x", "cannot do it", cause="broken\nin two")
    assert one_line(error) == "cannot do it: broken"


def test_an_error_without_a_cause_as_a_remark_is_its_message() -> None:
    assert one_line(GoogleUnreachableError("x", "cannot do it")) == "cannot do it"
