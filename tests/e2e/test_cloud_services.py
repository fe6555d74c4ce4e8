"""What is specific to AI Platform or to Vertex AI: whole requests, console pages, and states."""

from __future__ import annotations

import os
import re

from tests.e2e.clouds import PROJECT, AiPlatform, VertexAi
from tests.e2e.conftest import Researcher, wait_until
from tests.e2e.started import StartedCommand
from tests.standins.faults import Fault
from tests.standins.runners import Docker

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--yes")
STATUS = ("status", "--xgroup", "resubmit_test")
FIRST = "SELECT token, container, name FROM submissions JOIN jobs ON job_id = jobs.id WHERE jobs.experiment_id = 1"


def test_the_whole_request_to_ai_platform(researcher: Researcher, ai_platform: AiPlatform, registry: str) -> None:
    researcher.caliban(*ai_platform.submit("--name", "My Job", "--label", "Team=Vision"))

    ((token, image, job_id),) = researcher.rows(FIRST)
    [sent] = [body for body in ai_platform.service.bodies(ai_platform.create) if body["jobId"] == job_id]
    assert sent == {
        "jobId": job_id,
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "my_job",
            "docker_image": re.sub("[^a-z0-9_-]", "", str(image)),
            "team": "vision",
            "foo": "3",
            "sleep": "2",
            "caliban_token": token,
        },
        "trainingInput": {
            "masterConfig": {
                "imageUri": image,
                "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
            },
            "scaleTier": "CUSTOM",
            "masterType": "n1-highcpu-32",
            "region": "us-central1",
            "args": ["--foo", "3", "--sleep", "2"],
        },
    }
    assert re.fullmatch(rf"{registry}/{PROJECT}/[0-9a-f]{{12}}:latest", str(image))


def test_the_whole_request_to_vertex_ai(researcher: Researcher, vertex_ai: VertexAi, registry: str) -> None:
    account = "robot@totoro-project.iam.gserviceaccount.com"
    network = "projects/123456789012/global/networks/lab"
    machines = ("--worker_count", "3", "--disk_size", "200", "--spot", "--timeout", "90m")
    more = ("--service_account", account, "--network", network, "--name", "My Job", "--label", "Team=Vision")
    researcher.caliban(*vertex_ai.submit(*machines, *more))

    ((token, image, name),) = researcher.rows(FIRST)
    [sent] = [body for body in vertex_ai.service.bodies(vertex_ai.create) if body["displayName"] == name]
    pool = {
        "machineSpec": {"machineType": "e2-standard-8"},
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 200},
        "containerSpec": {"imageUri": image, "args": ["--foo", "3", "--sleep", "2"]},
    }
    assert sent == {
        "displayName": name,
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "my_job",
            "docker_image": re.sub("[^a-z0-9_-]", "", str(image).partition("@")[0]),
            "team": "vision",
            "foo": "3",
            "sleep": "2",
            "caliban_token": token,
        },
        "jobSpec": {
            "workerPoolSpecs": [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "2"}],
            "scheduling": {"strategy": "SPOT", "timeout": "5400s", "disableRetries": True},
            "serviceAccount": account,
            "network": network,
        },
    }
    assert re.fullmatch(r"My_Job_\d{8}_\d{6}_1", str(name))
    assert re.fullmatch(rf"{registry}/{PROJECT}/[0-9a-f]{{12}}@sha256:[0-9a-f]{{64}}", str(image))


def test_the_page_and_the_log_command_of_an_ai_platform_job_are_shown(
    researcher: Researcher, ai_platform: AiPlatform
) -> None:
    result = researcher.caliban(*ai_platform.submit())

    name = str(researcher.details(1)["jobId"])
    assert f"https://console.cloud.google.com/mlengine/jobs/{name}?project={PROJECT}" in result.err
    assert f"gcloud ai-platform jobs stream-logs {name} --project" in result.err


def test_the_page_and_the_log_command_of_a_vertex_ai_job_are_shown(researcher: Researcher, vertex_ai: VertexAi) -> None:
    result = researcher.caliban(*vertex_ai.submit())

    number = str(researcher.details(1)["name"]).rpartition("/")[2]
    page = f"https://console.cloud.google.com/agent-platform/locations/us-central1/training/{number}?project={PROJECT}"
    assert page in result.err
    assert f"gcloud ai custom-jobs stream-logs {number} --region us-central1 --project {PROJECT}" in result.err


def test_unavailable_hardware_is_rejected_before_anything_is_built(
    researcher: Researcher, ai_platform: AiPlatform
) -> None:
    flags = ("--gpu_spec", "1xV100", "--region", "us-east4")

    result = researcher.caliban("cloud", "--platform", "caip", *flags, "cpu.py")

    assert (result.code, ai_platform.service.requests) == (2, [])
    assert "[gpu-not-in-region]" in result.err
    assert "Step 1" not in result.err


def test_an_expired_vertex_ai_job_is_shown_as_expired_and_rerun(researcher: Researcher, vertex_ai: VertexAi) -> None:
    researcher.write("experiment.json", '{"sleep": [2]}')
    vertex_ai.service.runner = None
    researcher.caliban(*vertex_ai.submit())
    vertex_ai.service.jobs.set_state(str(researcher.details(1)["name"]), "JOB_STATE_EXPIRED")

    expired = researcher.caliban(*STATUS)
    vertex_ai.service.runner = Docker(["docker"], os.environ)
    again = researcher.caliban(*RESUBMIT)
    wait_until(lambda: " SUCCEEDED " in researcher.caliban(*STATUS).out)

    assert re.search(r"job 1 +FAILED +VERTEX .* \(timed out: expired\)$", expired.out, re.MULTILINE)
    assert (again.code, vertex_ai.job_count) == (0, 2)
    assert "expired)" not in researcher.caliban(*STATUS).out


def test_a_vertex_ai_job_is_running_until_its_cancellation_ends(researcher: Researcher, vertex_ai: VertexAi) -> None:
    researcher.write("experiment.json", '{"sleep": [2]}')
    vertex_ai.service.runner = None
    researcher.caliban(*vertex_ai.submit())

    researcher.caliban("stop", "--xgroup", "resubmit_test", "--yes")
    at_first = researcher.caliban(*STATUS)
    vertex_ai.service.jobs.end_cancelled()
    at_last = researcher.caliban(*STATUS)

    assert re.search(r"job 1 +RUNNING +VERTEX .* \(cancelling\)$", at_first.out, re.MULTILINE)
    assert re.search(r"job 1 +STOPPED +VERTEX ", at_last.out)


def test_an_interrupted_job_that_vertex_ai_lists_late_is_neither_lost_nor_run_twice(
    researcher: Researcher, vertex_ai: VertexAi, processes: list[StartedCommand]
) -> None:
    service, look_up = vertex_ai.service, "aiplatform.projects.locations.customJobs.list"
    researcher.write("experiment.json", '{"sleep": [2]}')
    service.jobs.lag_s = 3600
    service.faults.add(Fault(vertex_ai.create, "drop"))
    service.faults.add(Fault(look_up, "status", status=403))
    died = researcher.caliban(*vertex_ai.submit())

    before = service.counts[look_up]
    processes.append(researcher.start(*STATUS))
    wait_until(lambda: service.counts[look_up] >= before + 2)  # the second lookup has begun
    service.jobs.lag_s = 0
    out, err = processes[0].communicate(timeout=60)

    assert (died.code, vertex_ai.job_count) == (1, 1)
    assert "which an interrupted command had submitted" in out + err
    assert researcher.rows("SELECT count(*) FROM jobs") == [(1,)]
