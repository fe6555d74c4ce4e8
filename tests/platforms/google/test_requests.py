"""Requests to Google's APIs, by the example of AI Platform: retries, tokens, and errors in Google's words."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from caliban.errors import one_line
from caliban.platforms.caip.client import CaipClient
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.google.client import Google
from caliban.platforms.google.errors import GoogleRefusedError, GoogleUnreachableError
from caliban.platforms.retry import RetryPolicy
from tests.fakes import FakeClock
from tests.platforms.caip.helpers import NAME, body
from tests.platforms.google.helpers import POLICY, PROJECT, platform_context
from tests.standins.faults import Fault
from tests.standins.ml_v1 import MlV1

GET = "ml.projects.jobs.get"
CREATE = "ml.projects.jobs.create"
PLACE = CaipDestination(PROJECT)


def jobs(service: MlV1, key: Path, policy: RetryPolicy = POLICY, clock: FakeClock | None = None) -> CaipClient:
    return CaipClient(Google(platform_context(service=service, cloud_key=key, clock=clock), policy))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_transient_failure_is_retried(service: MlV1, key: Path, status: int) -> None:
    service.faults.add(Fault(GET, "status", times=2, status=status))
    assert jobs(service, key).get(PLACE, NAME) is None
    assert service.counts[GET] == 3


def test_a_broken_connection_is_retried(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "refuse"))
    assert jobs(service, key).get(PLACE, NAME) is None
    assert service.counts[GET] == 2


def test_a_timeout_is_retried(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "delay", seconds=0.5))
    assert jobs(service, key, replace(POLICY, read_timeout=0.2)).get(PLACE, NAME) is None
    assert service.counts[GET] == 2


@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_is_not_retried(service: MlV1, key: Path, status: int) -> None:
    service.faults.add(Fault(GET, "status", status=status, message="no"))
    with pytest.raises(GoogleRefusedError):
        jobs(service, key).get(PLACE, NAME)
    assert service.counts[GET] == 1


def test_after_the_deadline_the_error_says_how_many_attempts_were_made(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", times=1000))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).get(PLACE, NAME)
    tried = service.counts[GET]
    assert tried > 2
    assert caught.value.message == (f"cannot get the job {NAME} of project {PROJECT}: service unavailable")
    assert re.fullmatch(
        rf"The service is currently unavailable\.\n\(tried {tried} times in \d\d s\)", str(caught.value.cause)
    )


def test_a_retry_after_header_is_followed(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", status=429, retry_after="7"))
    clock = FakeClock()
    assert jobs(service, key, clock=clock).get(PLACE, NAME) is None
    assert clock.seconds == 7


def test_a_retry_after_beyond_the_deadline_ends_the_attempts_at_once(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", status=429, retry_after="3600", message="Quota exceeded."))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).get(PLACE, NAME)
    assert caught.value.id == "google-quota-exhausted"
    assert caught.value.cause == "Quota exceeded.\n(tried once; the service asks to wait 3600 s)"


def test_requests_name_their_user_agent(service: MlV1, key: Path) -> None:
    jobs(service, key).get(PLACE, NAME)
    assert service.requests[-1].headers["user-agent"] == f"caliban/{metadata.version('caliban')}"


def test_a_revoked_token_is_renewed_once(service: MlV1, key: Path) -> None:
    caller = jobs(service, key)
    caller.get(PLACE, NAME)
    service.account.revoke_tokens()
    assert caller.get(PLACE, NAME) is None
    assert (service.counts["oauth.token"], service.counts[GET]) == (2, 3)


def test_a_new_token_that_is_not_accepted_either_is_an_error(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(GET, "status", times=2, status=401, message="Request had invalid credentials."))
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).get(PLACE, NAME)
    assert caught.value.id == "google-not-authenticated"
    assert caught.value.cause == "Request had invalid credentials."
    assert "clock" in str(caught.value.hint)


def test_a_missing_permission_is_reported_in_googles_words(service: MlV1, key: Path) -> None:
    service.forbidden.add("ml.jobs.create")
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create(PLACE, body())
    assert caught.value.id == "google-permission-denied"
    assert caught.value.message == f"cannot submit the job {NAME} to project {PROJECT}: permission denied"
    assert caught.value.cause == (
        "Permission 'ml.jobs.create' denied on resource '//ml.googleapis.com/projects/totoro-project' (or it may not "
        "exist).\nIAM_PERMISSION_DENIED, permission: ml.jobs.create, resource: projects/totoro-project"
    )


def test_an_unknown_project_is_reported_in_googles_words(service: MlV1, key: Path) -> None:
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create(CaipDestination("no-such-project"), body())
    assert caught.value.id == "google-not-found"
    assert caught.value.message == (f"cannot submit the job {NAME} to project no-such-project: not found")
    assert "The project no-such-project was not found" in str(caught.value.cause)
    assert caught.value.hint == "check whether --project_id names the right project"


def test_an_unknown_field_in_a_body_is_reported_with_its_name(service: MlV1, key: Path) -> None:
    with pytest.raises(GoogleRefusedError) as caught:
        jobs(service, key).create(PLACE, {**body(), "priority": "high"})
    assert caught.value.id == "google-bad-request"
    assert caught.value.status == "INVALID_ARGUMENT"
    assert caught.value.cause == (
        "Invalid JSON payload received. Unknown name \"priority\" at 'job': Cannot find field."
    )


def test_a_submission_is_sent_once_even_when_the_answer_is_lost(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "drop"))
    with pytest.raises(GoogleUnreachableError) as caught:
        jobs(service, key).create(PLACE, body())
    assert service.counts[CREATE] == 1
    assert caught.value.message == (
        f"cannot submit the job {NAME} to project {PROJECT}: cannot reach {service.url}v1/projects/{PROJECT}/jobs"
    )


def test_an_endpoint_that_refuses_connections_is_an_error(service: MlV1, key: Path) -> None:
    away = platform_context({"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": "http://127.0.0.1:9/"}, cloud_key=key)
    with pytest.raises(GoogleUnreachableError) as caught:
        CaipClient(Google(away, POLICY)).get(PLACE, NAME)
    assert caught.value.id == "google-unreachable"
    assert "refused" in str(caught.value.cause)


def test_an_answer_that_is_not_json_is_an_error(service: MlV1, key: Path) -> None:
    service.faults.add(Fault(CREATE, "garbage"))
    with pytest.raises(GoogleUnreachableError) as caught:
        jobs(service, key).create(PLACE, body())
    assert caught.value.id == "google-misunderstood"
    assert caught.value.cause == "<html>A proxy's page</html>"


def test_a_login_in_netrc_does_not_replace_the_token(
    service: MlV1, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert jobs(service, key).get(PLACE, NAME) is None


def test_an_error_in_one_line_has_its_message_and_the_first_line_of_its_cause() -> None:
    error = GoogleUnreachableError("x", "cannot do it", cause="broken\nin two")
    assert one_line(error) == "cannot do it: broken"


def test_an_error_without_a_cause_in_one_line_is_its_message() -> None:
    assert one_line(GoogleUnreachableError("x", "cannot do it")) == "cannot do it"
