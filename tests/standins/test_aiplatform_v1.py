"""The stand-in for Vertex AI is strict where the service is: else tests that stand on it would prove nothing."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.fakes import FakeClock
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.clients import Client, error, wait_until
from tests.standins.custom_job_bodies import CREATE, JOBS, LOCATION, PLACE, POOL, PROJECT, job_body
from tests.standins.training import Quota

ROOT = Path(__file__).parents[2]


SPECIFIC = {"reservationAffinityType": "SPECIFIC_RESERVATION", "key": "compute.googleapis.com/reservation-name"}


@pytest.fixture
def service() -> Iterator[AiplatformV1]:
    with AiplatformV1() as running:
        yield running


@pytest.fixture
def client(service: AiplatformV1, tmp_path: Path) -> Client:
    return Client(service.url, service.write_key_file(tmp_path / "key.json"))


def test_an_accepted_job_waits_under_a_name_that_the_service_gave_it(client: Client, service: AiplatformV1) -> None:
    answer = client.send("POST", JOBS, job_body()).json()

    assert re.fullmatch(rf"projects/{service.numbers[PROJECT]}/locations/{LOCATION}/customJobs/\d+", answer["name"])
    assert answer["state"] == "JOB_STATE_PENDING"
    assert {"createTime", "updateTime"} < set(answer)


def test_the_same_body_sent_twice_makes_two_jobs(client: Client) -> None:
    made = {client.send("POST", JOBS, job_body()).json()["name"] for _ in range(2)}

    assert len(made) == 2


def test_a_job_is_found_by_the_projects_number_and_by_its_id(client: Client) -> None:
    by_number = client.send("POST", JOBS, job_body()).json()["name"]
    by_id = f"{PLACE}/customJobs/{by_number.rpartition('/')[2]}"

    assert [client.send("GET", f"v1/{name}").json()["name"] for name in (by_number, by_id)] == [by_number] * 2


def test_numbers_of_64_bits_are_told_as_strings(client: Client) -> None:
    answer = client.send("POST", JOBS, job_body(pool={**POOL, "replicaCount": 1, "diskSpec": None})).json()

    assert answer["jobSpec"]["workerPoolSpecs"] == [POOL]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"displayName": ""}, "1.Field: display_name; Message: Required field is not set."),
        ({"displayName": "a" * 129}, "no longer than 128 characters"),
        ({"labels": {"Upper": "x"}}, "Field: labels; Message: There can be no more than 64 labels"),
        ({"labels": {"1st": "x"}}, "Field: labels; "),
        ({"labels": {"": "x"}}, "Field: labels; "),
        ({"labels": {"key": "a.b"}}, "Field: labels; "),
        ({"labels": {"key": "v" * 64}}, "Field: labels; "),
        ({"labels": {"k" * 64: "v"}}, "Field: labels; "),
        ({"labels": {f"k{number}": "" for number in range(65)}}, "Field: labels; "),
        ({"labels": {"key": 3}}, "Invalid value at 'custom_job.labels.key' (string), 3"),
        ({"color": "blue"}, "Unknown name \"color\" at 'custom_job': Cannot find field."),
        ({"jobSpec": None}, "Field: job_spec.worker_pool_specs; Message: Required field is not set."),
        ({"jobSpec": {"region": "x"}}, "Unknown name \"region\" at 'custom_job.job_spec'"),
    ],
)
def test_a_job_that_the_service_would_not_accept_is_refused(
    client: Client, service: AiplatformV1, changes: Mapping[str, Any], words: str
) -> None:
    refused = error(client.send("POST", JOBS, {**job_body(), **changes}))

    assert (refused["code"], refused["status"]) == (400, "INVALID_ARGUMENT")
    assert words in refused["message"]
    assert service.jobs.all() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"replicaCount": "2"}, "replica_count; Message: Replica count must be 1 for the first worker pool."),
        ({"replicaCount": None}, "replica_count; Message: Replica count must be 1 for the first worker pool."),
        ({"replicaCount": "one"}, "Invalid value at 'custom_job.job_spec.worker_pool_specs[0].replica_count' (int64)"),
        ({"machineSpec": {}}, "machine_spec.machine_type; Message: Required field is not set."),
        ({"containerSpec": None}, "Exactly one of container_spec and python_package_spec"),
        ({"pythonPackageSpec": {"pythonModule": "x"}}, "Exactly one of container_spec and python_package_spec"),
        ({"containerSpec": {"args": ["x"]}}, "container_spec.image_uri; Message: Required field is not set."),
        ({"containerSpec": {"imageUri": "quay.io/x/y"}}, "image quay.io/x/y must be in Container Registry"),
        ({"containerSpec": {"imageUri": "gcr.io/x", "args": [3]}}, "container_spec.args[0]' (string), 3"),
        ({"containerSpec": {"imageUri": "gcr.io/x", "env": [{"name": "1"}]}}, "env[0].name; Message: The name must"),
        ({"containerSpec": {"imageUri": "gcr.io/x", "env": [{"name": "A"}] * 101}}, "no more than 100 environment"),
        ({"diskSpec": {"bootDiskType": "tape"}}, "disk_spec.boot_disk_type; Message: The boot disk type must be"),
        ({"diskSpec": {"bootDiskSizeGb": 10}}, "disk_spec.boot_disk_size_gb; Message: The boot disk must have"),
        ({"diskSpec": {"bootDiskSizeGb": "much"}}, "disk_spec.boot_disk_size_gb' (int32)"),
        ({"machineSpec": {"machineType": "a", "acceleratorCount": 1}}, "Both `accelerator_type` and `accelerator_c"),
        (
            {"machineSpec": {"machineType": "a", "acceleratorType": "NVIDIA_TESLA_T4"}},
            "Both `accelerator_type` and `accelerator_count` should be specified or none.",
        ),
        (
            {"machineSpec": {"machineType": "a", "reservationAffinity": {"key": "k"}}},
            "reservation_affinity_type; Message: Required field is not set.",
        ),
        (
            {"machineSpec": {"machineType": "a", "reservationAffinity": {**SPECIFIC, "values": ["lab"]}}},
            "reservation_affinity.values; Message: The value must have the form",
        ),
        (
            {"machineSpec": {"machineType": "a", "reservationAffinity": {**SPECIFIC, "key": "k", "values": ["lab"]}}},
            "reservation_affinity.key; Message: The key must be",
        ),
        (
            {"machineSpec": {"machineType": "a", "acceleratorType": "ABACUS", "acceleratorCount": 1}},
            "Invalid value at 'custom_job.job_spec.worker_pool_specs[0].machine_spec.accelerator_type'",
        ),
    ],
)
def test_a_worker_pool_that_the_service_would_not_accept_is_refused(
    client: Client, changes: Mapping[str, Any], words: str
) -> None:
    assert words in error(client.send("POST", JOBS, job_body(pool={**POOL, **changes})))["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scheduling": {"timeout": "1h"}}, 'scheduling.timeout\' (google-duration), "1h"'),
        ({"scheduling": {"timeout": 3600}}, "scheduling.timeout' (google-duration), 3600"),
        ({"scheduling": {"timeout": "0s"}}, "scheduling.timeout; Message: The timeout must be positive."),
        ({"scheduling": {"strategy": "CHEAP"}}, "Invalid value at 'custom_job.job_spec.scheduling.strategy'"),
        ({"scheduling": {"maxWaitDuration": "-1s"}}, "max_wait_duration; Message: The duration must not be negative."),
        ({"scheduling": {"strategy": "FLEX_START"}}, "strategy; Message: The machines do not support the strategy"),
        (
            {"scheduling": {"strategy": "FLEX_START", "timeout": "604801s"}},
            "timeout; Message: The timeout must be at most 7 days",
        ),
        ({"network": "my-vpc"}, "network; Message: The network must have the form"),
        ({"network": "projects/totoro-project/global/networks/vpc"}, "must be given by its number"),
        ({"serviceAccount": "robot"}, "service_account; Message: The service account must be given by its email"),
    ],
)
def test_a_job_spec_that_the_service_would_not_accept_is_refused(
    client: Client, changes: Mapping[str, Any], words: str
) -> None:
    body = {"displayName": "a job", "jobSpec": {"workerPoolSpecs": [POOL], **changes}}

    assert words in error(client.send("POST", JOBS, body))["message"]


def test_every_problem_of_a_body_is_told_at_once(client: Client) -> None:
    refused = error(client.send("POST", JOBS, {"jobSpec": {"workerPoolSpecs": [{}]}}))

    assert [violation["field"] for violation in refused["details"][0]["fieldViolations"]] == [
        "display_name",
        "job_spec.worker_pool_specs[0].replica_count",
        "job_spec.worker_pool_specs[0].machine_spec.machine_type",
        "job_spec.worker_pool_specs[0].task",
    ]


@pytest.mark.parametrize("image", ["gcr.io/p/x:1", "eu.gcr.io/p/x", "us-docker.pkg.dev/p/lab/x", "docker.io/me/x:1"])
def test_an_image_may_be_in_the_registries_that_the_service_reaches(client: Client, image: str) -> None:
    assert client.send("POST", JOBS, job_body(pool={**POOL, "containerSpec": {"imageUri": image}})).status_code == 200


def test_a_test_may_have_a_registry_of_its_own(tmp_path: Path) -> None:
    with AiplatformV1(any_registry=True) as service:
        client = Client(service.url, service.write_key_file(tmp_path / "key.json"))
        body = job_body(pool={**POOL, "containerSpec": {"imageUri": "localhost:5000/x"}})

        assert client.send("POST", JOBS, body).status_code == 200


def test_more_pools_may_have_more_replicas_and_one_may_be_left_out(client: Client) -> None:
    body = job_body()
    body["jobSpec"]["workerPoolSpecs"] += [{**POOL, "replicaCount": "3"}, {}, {**POOL, "replicaCount": "1"}]

    assert client.send("POST", JOBS, body).status_code == 200


def test_what_only_the_service_sets_is_ignored_in_a_new_job(client: Client) -> None:
    body = job_body(state="JOB_STATE_SUCCEEDED", name="projects/1/locations/x/customJobs/1")

    answer = client.send("POST", JOBS, body).json()

    assert answer["state"] == "JOB_STATE_PENDING"
    assert not answer["name"].endswith("/locations/x/customJobs/1")


def test_nobody_is_served_without_a_token(service: AiplatformV1) -> None:
    assert requests.get(service.url + JOBS, timeout=5).json()["error"]["status"] == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    ("verb", "path", "code"),
    [
        ("GET", "v1/projects/unknown/locations/us-central1/customJobs", 403),
        ("GET", f"v1/projects/{PROJECT}/locations/atlantis/customJobs", 403),
        ("GET", f"v1/projects/{PROJECT}/locations/us/customJobs", 403),
        ("GET", f"{JOBS}/7", 404),
        ("POST", f"{JOBS}/7:cancel", 404),
        ("DELETE", f"{JOBS}/7", 403),
        ("GET", f"v1/{PLACE}/models", 403),
        ("GET", "v3/projects", 404),
        ("GET", f"{JOBS}?pageSize=ten", 400),
        ("GET", f"{JOBS}?pageSize=-1", 400),
        ("GET", f"{JOBS}?orderBy=name", 400),
        ("GET", f"{JOBS}?pageToken=made-up", 400),
        ("GET", f"{JOBS}?readMask=name,color", 400),
        ("GET", f"{JOBS}?readMask=display_name", 400),
    ],
)
def test_what_there_is_not_is_not_served(client: Client, verb: str, path: str, code: int) -> None:
    assert error(client.send(verb, path, {} if verb == "POST" else None))["code"] == code


def test_a_project_that_does_not_use_the_api_is_told_so(client: Client, service: AiplatformV1) -> None:
    service.disabled.add(PROJECT)

    refused = error(client.send("GET", JOBS))

    assert (refused["code"], refused["details"][0]["reason"]) == (403, "SERVICE_DISABLED")
    assert "Vertex AI API has not been used in project 123456789012 before or it is disabled" in refused["message"]


def test_a_permission_can_be_lacking(client: Client, service: AiplatformV1) -> None:
    service.forbidden.add("aiplatform.customJobs.create")

    refused = error(client.send("POST", JOBS, job_body()))

    resource = f"//aiplatform.googleapis.com/{PLACE}"
    assert refused["message"] == (
        f"Permission 'aiplatform.customJobs.create' denied on resource '{resource}' (or it may not exist)."
    )
    assert client.send("GET", JOBS).status_code == 200


def test_the_quota_of_submissions_refills(tmp_path: Path, clock: FakeClock) -> None:
    with AiplatformV1(quota=Quota(1, 0.5), clock=clock) as service:
        client = Client(service.url, service.write_key_file(tmp_path / "key.json"))
        client.send("POST", JOBS, job_body())
        refused = client.send("POST", JOBS, job_body())
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        clock.seconds += 0.6
        assert client.send("POST", JOBS, job_body()).status_code == 200


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    arguments = ["--port-file", str(tmp_path / "url"), "--key-file", str(tmp_path / "key.json")]
    arguments += ["--project", PROJECT, "--outcome", "SUCCEEDED", "--step", "600"]
    started = subprocess.Popen([sys.executable, "-m", "tests.standins.aiplatform_v1", *arguments], cwd=ROOT)
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
    fault = {"method": CREATE, "kind": "status", "status": 500}
    requests.post(f"{url}_standin/faults", json=fault, timeout=5)
    assert [client.send("POST", JOBS, job_body()).status_code for _ in range(2)] == [500, 200]
    requests.post(f"{url}_standin/lag", json={"seconds": 600}, timeout=5)
    assert client.send("GET", JOBS).json() == {}
    ended = {"name": "a job", "state": "JOB_STATE_FAILED", "errorMessage": "x"}
    requests.post(f"{url}_standin/jobs", json=ended, timeout=5)

    seen = requests.get(f"{url}_standin/state", timeout=5).json()

    assert (seen["jobs"][0]["state"], seen["jobs"][0]["project"]) == ("JOB_STATE_FAILED", PROJECT)
    assert seen["counts"] == {"oauth.token": 1, CREATE: 2, CREATE.replace("create", "list"): 1}
    assert json.loads(json.dumps(job_body())) == seen["requests"][0]["body"]
