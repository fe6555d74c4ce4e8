"""The stand-in is strict where the service is: else tests that stand on it would prove nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes import FakeClock
from tests.standins.clients import Client, error, wait_until
from tests.standins.faults import Fault
from tests.standins.jobs import FINAL
from tests.standins.ml_v1 import MlV1
from tests.standins.runners import Docker, Scripted
from tests.standins.training import Quota

PROJECT = "totoro-project"
JOBS = f"v1/projects/{PROJECT}/jobs"
ROOT = Path(__file__).parents[2]


def job_body(job_id: str = "a_job", image: str = "gcr.io/totoro-project/x:latest", **fields: Any) -> dict[str, Any]:
    training_input = {"region": "us-central1", "scaleTier": "CUSTOM", "masterType": "n1-standard-4"}
    return {"jobId": job_id, "trainingInput": {**training_input, "masterConfig": {"imageUri": image}}, **fields}


@pytest.fixture
def service() -> Iterator[MlV1]:
    with MlV1() as running:
        yield running


@pytest.fixture
def client(service: MlV1, tmp_path: Path) -> Client:
    return Client(service.url, service.write_key_file(tmp_path / "key.json"))


def test_an_accepted_job_is_queued_and_told_with_what_the_service_adds(client: Client) -> None:
    answer = client.send("POST", JOBS, job_body()).json()
    assert answer["state"] == "QUEUED"
    assert {"createTime", "etag", "trainingOutput"} < set(answer)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"jobId": ""}, "job.job_id Error: The job id is required"),
        ({"jobId": "9lives"}, "start with a letter"),
        ({"jobId": "with-dash"}, "letters, numbers and underscores"),
        ({"jobId": "a" * 129}, "128 characters"),
        ({"labels": {"Upper": "x"}}, "Invalid label Upper=x"),
        ({"labels": {"1st": "x"}}, "keys start with a letter"),
        ({"labels": {"key": "a.b"}}, "Invalid label key=a.b"),
        ({"labels": {"key": "v" * 64}}, "at most 63"),
        ({"labels": {f"k{number}": "" for number in range(65)}}, "no more than 64 labels"),
        ({"labels": {"key": 3}}, "Invalid value at 'job.labels.key' (string), 3"),
        ({"labels": []}, "Invalid value at 'job.labels' (TYPE_MESSAGE)"),
        ({"color": "blue"}, "Unknown name \"color\" at 'job': Cannot find field."),
        ({"etag": "not base64!"}, "Invalid value at 'job.etag' (byte)"),
        ({"trainingInput": None}, "Exactly one of training_input and prediction_input"),
    ],
)
def test_a_job_that_the_service_would_not_accept_is_refused(
    client: Client, changes: Mapping[str, Any], words: str
) -> None:
    body = {key: value for key, value in {**job_body(), **changes}.items() if value is not None}
    refused = error(client.send("POST", JOBS, body))
    assert (refused["code"], refused["status"]) == (400, "INVALID_ARGUMENT")
    assert words in refused["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": ""}, "training_input.region Error: It is required"),
        ({"masterType": ""}, "master_type Error: Required for the CUSTOM tier"),
        ({"scaleTier": "HUGE"}, "Invalid value at 'job.training_input.scale_tier'"),
        ({"masterConfig": {}}, "Either master_config.image_uri or package_uris"),
        ({"masterConfig": "x"}, "Invalid value at 'job.training_input.master_config' (TYPE_MESSAGE)"),
        ({"args": "--foo 3"}, "Invalid value at 'job.training_input.args' (TYPE_MESSAGE)"),
        ({"args": ["--foo", 3]}, "Invalid value at 'job.training_input.args[1]' (string), 3"),
        ({"args": ["x"], "masterConfig": {"imageUri": "i", "containerArgs": ["y"]}}, "It excludes"),
        ({"workerCount": "two"}, "Invalid value at 'job.training_input.worker_count' (int64)"),
        ({"enableWebAccess": "yes"}, "Invalid value at 'job.training_input.enable_web_access' (boolean)"),
        ({"scheduling": {"priority": 1.5}}, "Invalid value at 'job.training_input.scheduling.priority' (int32)"),
        (
            {"masterConfig": {"imageUri": "i", "acceleratorConfig": {"count": 1}}},
            "accelerator_config Error: Count and type must both be given",
        ),
        (
            {"masterConfig": {"imageUri": "i", "acceleratorConfig": {"count": True, "type": "NVIDIA_TESLA_T4"}}},
            "Invalid value at 'job.training_input.master_config.accelerator_config.count' (int64)",
        ),
    ],
)
def test_a_training_input_that_the_service_would_not_accept_is_refused(
    client: Client, changes: Mapping[str, Any], words: str
) -> None:
    body = job_body()
    body["trainingInput"].update(changes)
    assert words in error(client.send("POST", JOBS, body))["message"]


def test_what_only_the_service_sets_is_ignored_in_a_new_job(client: Client) -> None:
    assert client.send("POST", JOBS, job_body(state="SUCCEEDED")).json()["state"] == "QUEUED"


def test_a_name_is_taken_once_in_a_project(client: Client) -> None:
    client.send("POST", JOBS, job_body())
    refused = error(client.send("POST", JOBS, job_body()))
    assert refused["status"] == "ALREADY_EXISTS"
    assert refused["message"] == "Field: job.job_id Error: A job with this id already exists."


def test_nobody_is_served_without_a_token(service: MlV1) -> None:
    assert requests.get(service.url + JOBS, timeout=5).json()["error"]["status"] == "UNAUTHENTICATED"


def test_a_token_ends(tmp_path: Path) -> None:
    with MlV1(token_life_s=0) as service:
        token = service.account.answer(b"grant_type=x", service.token_uri)
        assert token.body["error"] == "unsupported_grant_type"
        client = Client(service.url, service.write_key_file(tmp_path / "key.json"))
        assert client.send("GET", JOBS).status_code == 401


def test_an_assertion_signed_with_another_key_gives_no_token(service: MlV1, tmp_path: Path) -> None:
    import google.auth.exceptions

    with MlV1(projects=["wonder-project"]) as other:
        stranger = other.account.write_key_file(tmp_path / "key.json", service.token_uri)
    with pytest.raises(google.auth.exceptions.RefreshError, match="Invalid JWT Signature"):
        Client(service.url, stranger)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 10, "iat": 0}, "reasonable timeframe"),
        ({"aud": "https://elsewhere.example.com"}, "Failed audience check"),
        ({"iss": "somebody@example.com"}, "account not found"),
        ({"scope": ""}, "Invalid OAuth scope"),
    ],
)
def test_an_assertion_with_wrong_claims_gives_no_token(
    service: MlV1, tmp_path: Path, claims: dict[str, Any], words: str
) -> None:
    import google.auth.crypt
    import google.auth.jwt

    key = service.write_key_file(tmp_path / "key.json")
    signer = google.auth.crypt.RSASigner.from_service_account_file(str(key))  # type: ignore[no-untyped-call]
    now = int(time.time())
    good = {"iss": service.account.email, "aud": service.token_uri, "iat": now, "exp": now + 60, "scope": "x"}
    assertion = google.auth.jwt.encode(signer, {**good, **claims}).decode()  # type: ignore[no-untyped-call]
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
    refused = requests.post(service.token_uri, data=form, timeout=5)
    assert refused.status_code == 400
    assert words in refused.json()["error_description"]


def test_an_assertion_that_is_no_jwt_gives_no_token(service: MlV1) -> None:
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "x"}
    assert requests.post(service.token_uri, data=form, timeout=5).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("verb", "path", "code"),
    [
        ("GET", "v1/projects/unknown/jobs", 404),
        ("GET", f"{JOBS}/nothing", 404),
        ("POST", f"{JOBS}/nothing:cancel", 404),
        ("GET", f"v1/projects/{PROJECT}/models", 403),
        ("POST", f"v1/projects/{PROJECT}:predict", 403),
        ("GET", "v2/projects", 404),
        ("DELETE", f"{JOBS}/a_job", 404),
        ("PATCH", f"{JOBS}/a_job", 403),
        ("GET", f"{JOBS}?pageSize=ten", 400),
        ("GET", f"{JOBS}?pageSize=-1", 400),
        ("GET", f"{JOBS}?limit=10", 400),
        ("GET", f"{JOBS}?pageToken=made-up", 400),
        ("GET", f"{JOBS}?filter=color%3Dblue", 400),
    ],
)
def test_what_there_is_not_is_not_served(client: Client, verb: str, path: str, code: int) -> None:
    assert error(client.send(verb, path, {} if verb == "POST" else None))["code"] == code


def test_a_body_that_is_no_json_is_refused(client: Client, service: MlV1) -> None:
    answer = client.session.post(service.url + JOBS, data="{", headers={"Content-Type": "application/json"})
    assert error(answer)["message"] == "Invalid JSON payload received."


def test_pages_hold_twenty_jobs_and_a_hundred_at_most_the_newest_first(client: Client, service: MlV1) -> None:
    for number in range(130):
        service.jobs.create(PROJECT, job_body(f"job_{number}"))
    first = client.send("GET", JOBS).json()
    assert [job["jobId"] for job in first["jobs"]] == [f"job_{number}" for number in range(129, 109, -1)]
    large = client.send("GET", f"{JOBS}?pageSize=1000").json()
    rest = client.send("GET", f"{JOBS}?pageSize=1000&pageToken={large['nextPageToken']}").json()
    assert (len(large["jobs"]), len(rest["jobs"]), "nextPageToken" in rest) == (100, 30, False)


def test_a_page_token_is_good_for_its_own_filter_only(client: Client, service: MlV1) -> None:
    for number in range(30):
        service.jobs.create(PROJECT, job_body(f"job_{number}"))
    token = client.send("GET", JOBS).json()["nextPageToken"]
    assert client.send("GET", f"{JOBS}?filter=jobId:job*&pageToken={token}").status_code == 400


def test_no_jobs_are_an_empty_answer(client: Client) -> None:
    assert client.send("GET", JOBS).json() == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobId:rnn*", {"rnn_1", "rnn_2"}),
        ("jobId:rnn* AND state:FAILED", {"rnn_2"}),
        ("labels.phase=test", {"rnn_1"}),
        ('jobId="cnn_1"', {"cnn_1"}),
        ("labels.phase:*", {"rnn_1"}),
    ],
)
def test_filters_select_jobs(client: Client, service: MlV1, text: str, expected: set[str]) -> None:
    service.jobs.create(PROJECT, job_body("rnn_1", labels={"phase": "test"}))
    service.jobs.create(PROJECT, job_body("rnn_2"))
    service.jobs.create(PROJECT, job_body("cnn_1"))
    service.jobs.set_state("rnn_2", "FAILED")
    answer = client.session.get(service.url + JOBS, params={"filter": text}).json()
    assert {job["jobId"] for job in answer["jobs"]} == expected


def test_jobs_older_than_ninety_days_are_told_but_not_listed(client: Client, service: MlV1) -> None:
    service.jobs.create(PROJECT, job_body())
    service.jobs.age("a_job", 91)
    assert client.send("GET", JOBS).json() == {}
    assert client.send("GET", f"{JOBS}/a_job").json()["jobId"] == "a_job"


def test_a_job_can_be_forgotten(client: Client, service: MlV1) -> None:
    service.jobs.create(PROJECT, job_body())
    service.jobs.forget("a_job")
    assert client.send("GET", f"{JOBS}/a_job").status_code == 404


def test_a_job_that_has_ended_cannot_be_cancelled(client: Client, service: MlV1) -> None:
    service.jobs.create(PROJECT, job_body())
    assert client.send("POST", f"{JOBS}/a_job:cancel", {}).json() == {}
    assert error(client.send("POST", f"{JOBS}/a_job:cancel", {}))["status"] == "FAILED_PRECONDITION"


def test_the_quota_of_submissions_refills(tmp_path: Path, clock: FakeClock) -> None:
    with MlV1(quota=Quota(1, 0.5), clock=clock) as service:
        client = Client(service.url, service.write_key_file(tmp_path / "key.json"))
        client.send("POST", JOBS, job_body("first"))
        refused = client.send("POST", JOBS, job_body("second"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        clock.seconds += 0.6
        assert client.send("POST", JOBS, job_body("second")).status_code == 200


def test_requests_are_counted_by_method(client: Client, service: MlV1) -> None:
    client.send("GET", JOBS)
    client.send("GET", "nowhere")
    assert service.counts == {"oauth.token": 1, "ml.projects.jobs.list": 1, "unknown": 1}


def test_a_dropped_answer_leaves_its_job_behind(client: Client, service: MlV1) -> None:
    service.faults.add(Fault("ml.projects.jobs.create", "drop"))
    with pytest.raises(requests.ConnectionError):
        client.send("POST", JOBS, job_body())
    assert service.jobs.find("a_job").state == "QUEUED"


def test_a_refused_connection_leaves_nothing_behind(client: Client, service: MlV1) -> None:
    service.faults.add(Fault("ml.projects.jobs.create", "refuse"))
    with pytest.raises(requests.ConnectionError):
        client.send("POST", JOBS, job_body())
    assert service.jobs.all() == []


def test_scripted_jobs_come_to_the_end_that_the_script_gives_them() -> None:
    runner = Scripted(lambda job: "FAILED" if job.id == "bad" else "SUCCEEDED")
    with MlV1(runner=runner) as service:
        for name in ("good", "bad"):
            service.jobs.create(PROJECT, job_body(name))
        wait_until(lambda: all(job.state in FINAL for job in service.jobs.all()))
    assert service.jobs.find("good").state == "SUCCEEDED"
    words = "The replica master 0 exited with a non-zero status of 1."
    assert service.jobs.find("bad").outputs["errorMessage"] == words


def test_a_scripted_job_can_be_cancelled() -> None:
    with MlV1(runner=Scripted(lambda job: "SUCCEEDED", step_s=10)) as service:
        service.jobs.create(PROJECT, job_body())
        service.jobs.cancel(PROJECT, "a_job")
        wait_until(lambda: service.jobs.find("a_job").state == "CANCELLED")


def container_job(name: str, code: str, image: str) -> dict[str, Any]:
    body = job_body(name, image)
    body["trainingInput"]["args"] = ["python3", "-c", code]
    return body


def test_a_jobs_end_is_what_its_container_really_did(base_image: str) -> None:
    with MlV1(runner=Docker(["docker"], os.environ)) as service:
        service.jobs.create(PROJECT, container_job("good", "print('fine')", base_image))
        service.jobs.create(PROJECT, container_job("bad", "raise SystemExit('no such file')", base_image))
        service.jobs.create(PROJECT, container_job("lost", "pass", "localhost:1/no-such-image:1"))
        wait_until(lambda: all(job.state in FINAL for job in service.jobs.all()), 120)
    ends = {job.id: (job.state, job.outputs.get("errorMessage", "").split(":")[0]) for job in service.jobs.all()}
    assert ends == {
        "good": ("SUCCEEDED", ""),
        "bad": ("FAILED", "The replica master 0 exited with a non-zero status of 1.\nno such file"),
        "lost": ("FAILED", "The image could not be run"),
    }


def test_a_cancelled_job_ends_its_container(base_image: str) -> None:
    with MlV1(runner=Docker(["docker"], os.environ)) as service:
        service.jobs.create(PROJECT, container_job("long", "import time; time.sleep(600)", base_image))
        wait_until(lambda: service.jobs.find("long").state == "RUNNING")
        service.jobs.cancel(PROJECT, "long")
        wait_until(lambda: service.jobs.find("long").state == "CANCELLED", 60)


def test_no_container_outlives_the_stand_in(base_image: str) -> None:
    with MlV1(runner=Docker(["docker"], os.environ)) as service:
        service.jobs.create(PROJECT, container_job("left_alone", "import time; time.sleep(600)", base_image))
        wait_until(lambda: service.jobs.find("left_alone").state == "RUNNING")
    listed = subprocess.run(
        ["docker", "ps", "--quiet", "--filter", "name=left_alone"], capture_output=True, check=True, text=True
    )
    assert listed.stdout == ""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["--port-file", str(tmp_path / "url"), "--key-file", str(tmp_path / "key.json")]
    arguments += ["--project", PROJECT, "--outcome", "SUCCEEDED", "--step", "600"]
    started = subprocess.Popen([sys.executable, "-m", "tests.standins.ml_v1", *arguments], cwd=ROOT)
    try:
        wait_until((tmp_path / "url").exists)
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


@pytest.mark.usefixtures("process")
def test_as_a_process_it_is_steered_and_looked_at_over_http(tmp_path: Path) -> None:
    url = (tmp_path / "url").read_text()
    client = Client(url, tmp_path / "key.json")
    fault = {"method": "ml.projects.jobs.list", "kind": "status", "status": 500}
    requests.post(f"{url}_standin/faults", json=fault, timeout=5)
    assert [client.send("GET", JOBS).status_code for _ in range(2)] == [500, 200]
    client.send("POST", JOBS, job_body())
    requests.post(f"{url}_standin/jobs", json={"jobId": "a_job", "state": "FAILED", "errorMessage": "x"}, timeout=5)
    seen = requests.get(f"{url}_standin/state", timeout=5).json()
    assert (seen["jobs"][0]["state"], seen["jobs"][0]["project"]) == ("FAILED", PROJECT)
    assert seen["counts"] == {"oauth.token": 1, "ml.projects.jobs.list": 2, "ml.projects.jobs.create": 1}
    assert json.loads(json.dumps(job_body())) == seen["requests"][-1]["body"]
