"""An access token goes to Google, or to the endpoint that the user set; a login or refresh token to Google's token
services. What a store, a flag or the environment contains changes none of that."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import CalibanError, UsageError
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.google.client import Google
from caliban.platforms.google.endpoints import Endpoint, api_endpoint, endpoint_override, token_endpoint_problem
from caliban.platforms.google.identifiers import CAIP_JOB, CLUSTER, LOCATION, PROJECT, REGION, VERTEX_JOB, Identifier
from caliban.platforms.google.training_platform import TrainingPlatform
from caliban.platforms.vertex.details import VertexDestination
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobRecord, JobStatus, StatusUnavailable
from tests.fakes import RecordingReporter
from tests.platforms.google.helpers import POLICY, Backend, platform_context
from tests.platforms.google.helpers import PROJECT as ID
from tests.platforms.vertex.helpers import SPEC, VertexBackend, recorded_job, submission
from tests.security.servers import Server, serving
from tests.standins.ml_v1 import MlV1

Platform = TrainingPlatform[Any]

HOSTILE = (
    "127.0.0.1:{port}/x?",
    "127.0.0.1:{port}/",
    "127.0.0.1:{port}#",
    "totoro@127.0.0.1:{port}/",
    "us-central1.127.0.0.1:{port}/x?",
    "evil.test/?",
    "us-central1\n",
    "us-central1 ",
    "us-central\u0661",
    "US-CENTRAL1",
    "..",
    "us-central1/../../x",
    "%2e%2e",
    "",
    "-",
    "us-central1-a\x00",
)


@pytest.fixture
def stranger() -> Iterator[Server]:
    """A server that must get nothing."""
    with serving(lambda request: (200, {}, b"{}")) as server:
        yield server
        assert server.requests == []


@pytest.fixture
def vertex(service: MlV1, key: Path) -> VertexPlatform:
    """Vertex AI without an override of its endpoint."""
    return VertexPlatform(platform_context(cloud_key=key), replace(POLICY, deadline=0))


def changed_job(region: str, name: str | None = None) -> JobRecord:
    """Return a recorded job as somebody changed it in the store."""
    job = recorded_job()
    raw = {**job.details.raw, "region": region, **({"name": name} if name else {})}
    return replace(job, details=VertexPlatform.parse_details(JobStatus.RUNNING, raw))


@pytest.mark.parametrize("region", HOSTILE)
def test_a_changed_region_gets_no_token_from_status_or_stop(
    vertex: VertexPlatform, service: MlV1, stranger: Server, region: str
) -> None:
    job = changed_job(region.format(port=stranger.port))
    [update] = vertex.statuses([job]).values()
    assert isinstance(update, StatusUnavailable)
    with pytest.raises(CalibanError):
        vertex.stop(job)
    assert service.requests == []


@pytest.mark.parametrize("region", HOSTILE)
def test_a_changed_region_gets_no_token_from_a_submission(
    vertex: VertexPlatform, service: MlV1, stranger: Server, region: str
) -> None:
    place = VertexDestination(ID, region.format(port=stranger.port))
    changed = replace(submission(), destination=place.to_json())
    calls: list[Callable[[], object]] = [
        lambda: vertex.connect(place),
        lambda: vertex.find(changed),
        lambda: vertex.submit(SPEC, changed, lambda: None),
        lambda: vertex.destination(changed_job(place.region)),
    ]
    for call in calls if place.region else calls[:3]:
        with pytest.raises(CalibanError):
            call()
    assert service.requests == []


@pytest.mark.parametrize("project", ["projects/p1", "p1/..", "p1?x", "p1#", "a:b:c", "p 1", "P1", "..", "p1\n", "p%2f"])
def test_a_malformed_project_is_refused_before_anything_is_sent(
    backend: Backend, platform: Platform, project: str
) -> None:
    place = replace(backend.destination(), project=project)  # type: ignore[type-var]
    with pytest.raises(CalibanError) as caught:
        platform.connect(place)
    assert caught.value.id == "project-malformed"
    assert backend.service.requests == []


@pytest.mark.parametrize("how", ["flag", "environment"])
@pytest.mark.parametrize("project", ["projects/p1", "-p", "p1/", "https://x", "a" * 100])
def test_a_malformed_project_of_the_user_is_wrong_usage(backend: Backend, project: str, how: str) -> None:
    given: dict[str, Any] = {"project_id": project} if how == "flag" else {"environ": {"PROJECT_ID": project}}
    with pytest.raises(UsageError) as caught:
        backend.platform(**given).destination(None)
    assert caught.value.id == "project-malformed"
    assert caught.value.hint == "list project IDs with: gcloud projects list"


def test_a_malformed_region_of_the_environment_is_wrong_usage(key: Path) -> None:
    platform = VertexPlatform(platform_context({"REGION": "localhost:1/x?"}, cloud_key=key), POLICY)
    with pytest.raises(UsageError) as caught:
        platform.destination(None)
    assert caught.value.id == "region-malformed"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (PROJECT, ["totoro-project", "example.com:my-project", "123456789012", "p1"]),
        (REGION, ["us-central1", "northamerica-northeast1", "europe-west12", "me-central2", "u-germany-northeast1"]),
        (LOCATION, ["us-central1", "us-central1-a", "europe-west4-b", "us-central1-ai1a"]),
        (CLUSTER, ["blueshift", "my-cluster-1", "c"]),
        (CAIP_JOB, ["caliban_totoro_20200529_110259_1"]),
        (VERTEX_JOB, ["projects/123456789012/locations/us-central1/customJobs/42"]),
        (VERTEX_JOB, ["projects/example.com:p1/locations/us-central1/customJobs/42"]),
    ],
)
def test_names_that_google_gives_are_accepted(kind: Identifier, values: list[str]) -> None:
    assert [kind.is_valid(value) for value in values] == [True] * len(values)


@pytest.mark.parametrize(
    "name",
    [
        "projects/1/locations/us-central1/customJobs/../../x",
        "projects/1/locations/us-central1/customJobs/4?x=1",
        "projects/1/locations/us-central1/pipelineJobs/42",
        "https://evil.test/",
        "42",
        "projects/1/locations/europe-west4/customJobs/42",
    ],
)
def test_a_changed_name_is_neither_queried_nor_reported_as_removed(
    vertex: VertexPlatform, service: MlV1, name: str
) -> None:
    [update] = vertex.statuses([changed_job("us-central1", name)]).values()
    assert isinstance(update, StatusUnavailable)
    assert service.requests == []


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.test/v1/x",
        "https://ml.googleapis.com@evil.test/",
        "https://ml.googleapis.com.evil.test/",
        "http://ml.googleapis.com/v1/x",
        "https://ml.googleapis.com:444/v1/x",
        "https://ml.googleapis.com\\.evil.test/",
        "//ml.googleapis.com/",
        "",
    ],
)
def test_a_request_to_another_host_than_the_endpoint_carries_no_token(uri: str) -> None:
    with pytest.raises(CalibanError) as caught:
        Endpoint("https://ml.googleapis.com/").check(uri)
    assert caught.value.id == "endpoint-not-allowed"


def test_a_request_to_the_endpoint_may_carry_a_token() -> None:
    Endpoint("https://ml.googleapis.com/").check("https://ml.googleapis.com:443/v1/projects/example.com:p1/jobs?x=1")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://10.0.0.1/",
        "http://evil.test/",
        "https://x@evil.test/",
        "https://evil.test/?x=",
        "http://localhost:80@evil.test",
    ],
)
def test_an_endpoint_that_is_not_confidential_is_refused_without_its_login(endpoint: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoint_override({"CLOUDSDK_API_ENDPOINT_OVERRIDES_ML": endpoint}, "ml")
    assert caught.value.id == "endpoint-malformed"
    assert "@" not in str(caught.value.cause)


def test_the_endpoint_of_another_region_does_not_make_a_job_missing(service: MlV1, key: Path) -> None:
    override = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": "https://europe-west4-aiplatform.googleapis.com/"}
    [update] = VertexPlatform(platform_context(override, cloud_key=key), POLICY).statuses([recorded_job()]).values()
    assert isinstance(update, StatusUnavailable)
    assert "is the endpoint of europe-west4" in update.reason


def test_the_endpoint_of_the_jobs_region_is_used() -> None:
    override = "https://us-central1-aiplatform.googleapis.com/"
    environ = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM": override}
    assert api_endpoint(environ, "aiplatform", "googleapis.com", "us-central1").url == override


@pytest.mark.parametrize("universe", ["evil.test/?", "x@evil.test", "", "evil", "a..b"])
def test_a_malformed_universe_is_refused(universe: str) -> None:
    with pytest.raises(UsageError):
        api_endpoint({}, "ml", universe, None)


@pytest.mark.parametrize(
    "url",
    [
        "https://oauth2.googleapis.com/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://www.googleapis.com/oauth2/v4/token",
        "https://sts.googleapis.com/v1/token",
        "https://oauth2-lab.p.googleapis.com/token",
        "https://sts.us-central1.rep.googleapis.com/v1/token",
        "http://localhost:8080/token",
        "http://127.0.0.1:8080/token",
        "http://[::1]:8080/token",
    ],
)
def test_token_services_of_google_and_of_this_machine_get_logins(url: str) -> None:
    assert token_endpoint_problem(url, "googleapis.com") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://oauth2.googleapis.com/token",
        "https://evil.test/token",
        "https://googleapis.com.evil.test/token",
        "https://evilgoogleapis.com/token",
        "https://oauth2.googleapis.com@evil.test/token",
        "http://localhost:80@evil.test/token",
        "http://localhost.evil.test/token",
        "https://oauth2.googleapis.com\\@evil.test/token",
        "https://oauth2.googleapis.com\n.evil.test/",
        "http://169.254.169.254/token",
        "",
    ],
)
def test_other_hosts_get_no_login(url: str) -> None:
    assert token_endpoint_problem(url, "googleapis.com") is not None


EXTERNAL: Mapping[str, Any] = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/etc/hostname"},
}
USER = {"type": "authorized_user", "client_id": "1", "client_secret": "secret-1", "refresh_token": "refresh-1"}

MISLEADING = {
    "a service account": {"token_uri": "{}"},
    "a user": {**USER, "token_uri": "{}"},
    "a token URL": {**EXTERNAL, "token_url": "{}"},
    "an introspection URL": {**EXTERNAL, "token_info_url": "{}"},
    "an impersonation URL": {**EXTERNAL, "service_account_impersonation_url": "{}"},
    "the source of an impersonation": {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/x:generateAccessToken",
        "source_credentials": {**USER, "token_uri": "{}"},
    },
    "an external user": {
        "type": "external_account_authorized_user",
        "token_url": "{}",
        "client_id": "1",
        "client_secret": "secret-1",
        "refresh_token": "refresh-1",
    },
}


@pytest.mark.parametrize("url", ["https://evil.test/token", "http://localhost:80@evil.test/", "http://10.0.0.1/token"])
@pytest.mark.parametrize("fields", MISLEADING.values(), ids=MISLEADING.keys())
def test_a_credentials_file_that_sends_its_secrets_elsewhere_is_refused(
    key: Path, fields: dict[str, object], url: str
) -> None:
    content = json.loads(key.read_text()) if "type" not in fields else {}
    key.write_text(json.dumps({**content, **fields}).replace("{}", url))
    with pytest.raises(UsageError) as caught:
        Google(platform_context(cloud_key=key), POLICY).access_token()
    assert caught.value.id == "key-malformed"


def test_a_subject_token_is_not_fetched_in_the_clear(key: Path) -> None:
    source = {"url": "http://10.0.0.1/token", "headers": {"Authorization": "Bearer planted-secret"}}
    key.write_text(json.dumps({**EXTERNAL, "credential_source": source}))
    with pytest.raises(UsageError) as caught:
        Google(platform_context(cloud_key=key), POLICY).access_token()
    assert "url of credential_source is not an https URL" in str(caught.value.cause)


def test_the_file_of_a_gcloud_login_is_checked_as_well(tmp_path: Path) -> None:
    file = tmp_path / "application_default_credentials.json"
    file.write_text(json.dumps({**USER, "token_uri": "https://evil.test/token"}))
    with pytest.raises(UsageError) as caught:
        Google(platform_context({"CLOUDSDK_CONFIG": str(tmp_path)}), POLICY).access_token()
    assert str(file) in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_service_that_redirects_passes_no_login_on(key: Path, stranger: Server, status: int) -> None:
    target = {"Location": f"http://127.0.0.1:{stranger.port}/token"}
    with serving(lambda request: (status, target, b"")) as redirecting:
        content = json.loads(key.read_text())
        key.write_text(json.dumps({**content, "token_uri": f"http://127.0.0.1:{redirecting.port}/token"}))
        with pytest.raises(CalibanError):
            Google(platform_context(cloud_key=key), replace(POLICY, deadline=0)).access_token()
    assert redirecting.requests


def test_a_proxy_does_not_see_what_is_sent_to_this_machine(
    backend: Backend, stranger: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{stranger.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    backend.platform().connect(backend.destination())


@pytest.mark.parametrize("answer", [{"access_token": 5}, {"access_token": ""}, {"access_token": "a\nb"}, [], {}, "x"])
def test_a_token_service_that_answers_oddly_is_an_error(key: Path, answer: object) -> None:
    with serving(lambda request: (200, {}, json.dumps(answer).encode())) as service:
        content = json.loads(key.read_text())
        key.write_text(json.dumps({**content, "token_uri": f"http://127.0.0.1:{service.port}/token"}))
        with pytest.raises(CalibanError) as caught:
            Google(platform_context(cloud_key=key), replace(POLICY, deadline=0)).access_token()
    assert caught.value.id in ("google-misunderstood", "credentials-refused")


@pytest.mark.parametrize("expires_in", [1e999, "soon", [], -5, None, 10**30])
def test_an_odd_life_of_a_token_is_no_traceback(key: Path, expires_in: object) -> None:
    answer = json.dumps({"access_token": "planted-token", "expires_in": expires_in})
    with serving(lambda request: (200, {}, answer.encode())) as service:
        content = json.loads(key.read_text())
        key.write_text(json.dumps({**content, "token_uri": f"http://127.0.0.1:{service.port}/token"}))
        google = Google(platform_context(cloud_key=key), replace(POLICY, deadline=0))
        shown = ""
        try:
            google.access_token()
        except CalibanError as error:
            shown = f"{error.message} {error.cause}"
    assert "planted-token" not in shown


def test_a_newline_at_the_end_of_a_token_is_not_part_of_it(key: Path) -> None:
    answer = json.dumps({"access_token": "planted-token\n", "expires_in": 3600})
    with serving(lambda request: (200, {}, answer.encode())) as service:
        content = json.loads(key.read_text())
        key.write_text(json.dumps({**content, "token_uri": f"http://127.0.0.1:{service.port}/token"}))
        assert Google(platform_context(cloud_key=key), POLICY).access_token() == "planted-token"


def test_a_credentials_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key.json")
    with pytest.raises(UsageError) as caught:
        Google(platform_context(cloud_key=tmp_path / "key.json"), POLICY).access_token()
    assert caught.value.id == "key-not-readable"


def test_links_quote_what_a_store_contains() -> None:
    details = VertexPlatform.parse_details(
        JobStatus.RUNNING, {"project_id": "p; rm -rf ~", "region": "$(x)", "name": "projects/1/`x`"}
    )
    assert details.links[1] == "gcloud ai custom-jobs stream-logs '`x`' --region '$(x)' --project 'p; rm -rf ~'"


def test_a_caip_destination_has_a_project_only() -> None:
    with pytest.raises(CalibanError):
        CaipDestination("x/y").check()


def test_vertex_jobs_of_all_regions_can_still_be_queried(tmp_path: Path) -> None:
    from tests.fakes import FakeClock

    backend = VertexBackend(FakeClock(), tmp_path)
    with backend.service:
        [update] = backend.platform().statuses([backend.accept()]).values()
    assert not isinstance(update, StatusUnavailable)


def test_a_program_for_credentials_that_hangs_is_given_up(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nsleep 10\n")
    program.chmod(0o755)
    monkeypatch.setenv("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")
    source = {"executable": {"command": str(program), "timeout_millis": 5000}}
    key.write_text(json.dumps({**EXTERNAL, "credential_source": source}))
    context = platform_context(cloud_key=key)
    with pytest.raises(CalibanError) as caught:
        Google(context, replace(POLICY, deadline=0)).access_token()
    assert "did not end within 150 s" in str(caught.value.cause)
    assert isinstance(context.reporter, RecordingReporter)
    assert context.reporter.lines == ["waiting for the program that provides Google credentials (for up to 150 s) ..."]
