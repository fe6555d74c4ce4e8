"""The flags of ``caliban cloud``, and the job specs and requests that they come to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import UsageError
from caliban.platforms.caip import launch as caip_launch
from caliban.platforms.flags import duration
from caliban.platforms.google.launch import TrainingLauncher
from caliban.platforms.launch import JobPreview, Launch, LaunchContext
from caliban.platforms.vertex import launch as vertex_launch
from caliban.platforms.vertex.details import VertexDestination
from tests.platforms.vertex.helpers import IMAGE, SPEC, VertexBackend

VERTEX, CAIP = vertex_launch.LAUNCHER, caip_launch.LAUNCHER
JOB = JobPreview(1, ("--foo", "3"), "resubmit_test")


def prepared(
    launcher: TrainingLauncher, directory: Path, *words: str, environ: Any = None, gpu: bool = False
) -> Launch:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--nogpu", action="store_true")
    launcher.add_arguments(parser)
    context = LaunchContext(
        "totoro", directory, directory, environ or {}, datetime(2026, 11, 25, 11, 2, 59), wants_gpu=gpu
    )
    return launcher.prepare(parser.parse_args(words), context)


def requests(launch: Launch, image: str | None = IMAGE, jobs: Sequence[JobPreview] = (JOB,)) -> list[dict[str, Any]]:
    return [json.loads(text) for text in launch.request_text(jobs, image).replace("}\n{", "}\0{").split("\0")]


def test_the_request_for_vertex_ai_is_shown_whole(tmp_path: Path) -> None:
    [request] = requests(prepared(VERTEX, tmp_path, "--name", "lab"))
    labels = {**SPEC["labels"], "job_name": "lab", "caliban_token": "token"}
    assert request == {**SPEC, "displayName": "lab_20261125_110259_1", "labels": labels}


def test_every_job_has_its_request(tmp_path: Path) -> None:
    shown = requests(prepared(VERTEX, tmp_path), jobs=(JOB, JobPreview(2, (), "resubmit_test")))
    assert [request["displayName"].rpartition("_")[2] for request in shown] == ["1", "2"]


def test_every_flag_of_vertex_ai_is_in_the_job_spec(tmp_path: Path) -> None:
    machines = ("--machine_type", "n1-standard-8", "--gpu_spec", "2xT4", "--worker_count", "3", "--disk_size", "250")
    scheduling = (
        "--spot",
        "--timeout",
        "1h30m",
        "--service_account",
        "a@b.c",
        "--network",
        "projects/1/global/networks/n",
    )
    launch = prepared(VERTEX, tmp_path, *machines, *scheduling, "--label", "team=vision")
    spec: Any = launch.job_spec(1, [], IMAGE)
    pool = {
        "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2},
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 250},
        "containerSpec": {"imageUri": IMAGE, "args": []},
    }
    assert spec["jobSpec"] == {
        "workerPoolSpecs": [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "2"}],
        "scheduling": {"strategy": "SPOT", "timeout": "5400s", "disableRetries": True},
        "serviceAccount": "a@b.c",
        "network": "projects/1/global/networks/n",
    }
    assert spec["labels"]["team"] == "vision"
    assert launch.summary_lines() == ("each job, on Vertex AI: 3 machines, each 2xT4 on n1-standard-8 in us-central1",)


def test_the_job_spec_for_ai_platform_has_the_shape_of_caliban_0_4_2(tmp_path: Path) -> None:
    launch = prepared(CAIP, tmp_path, "--region", "us-west1", gpu=True)
    spec = launch.job_spec(1, [], IMAGE)
    assert (launch.platform, spec["jobId"]) == ("CAIP", "caliban_totoro_1")
    assert spec["trainingInput"] == {
        "masterConfig": {"imageUri": IMAGE, "acceleratorConfig": {"count": 1, "type": "NVIDIA_TESLA_P100"}},
        "scaleTier": "CUSTOM",
        "masterType": "n1-standard-8",
        "region": "us-west1",
        "args": [],
    }
    assert launch.summary_lines() == ("each job, on AI Platform Training: 1xP100 on n1-standard-8 in us-west1",)


@pytest.mark.parametrize(
    ("words", "environ", "config", "image"),
    [
        ((), {}, {}, "gcr.io/your-project/IMAGE:latest"),
        ((), {"PROJECT_ID": "wonder-project"}, {}, "gcr.io/wonder-project/IMAGE:latest"),
        (("--project_id", "totoro-project"), {}, {}, "gcr.io/totoro-project/IMAGE:latest"),
        ((), {}, {"registry": "localhost:5000"}, "localhost:5000/IMAGE:latest"),
        ((), {}, {"repository": "localhost:5000/lab"}, "localhost:5000/lab:IMAGE"),
    ],
)
def test_an_image_that_is_not_built_yet_is_named_by_its_repository(
    tmp_path: Path, words: Sequence[str], environ: dict[str, str], config: dict[str, str], image: str
) -> None:
    (tmp_path / ".calibanconfig.json").write_text(json.dumps(config))
    [request] = requests(prepared(VERTEX, tmp_path, *words, environ=environ), None)
    assert request["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]["imageUri"] == image


@pytest.mark.parametrize(
    ("words", "region"), [((), "asia-east1"), (("--region", "europe-west4"), "europe-west4")], ids=["environ", "flag"]
)
def test_jobs_on_vertex_ai_go_to_the_region_of_the_flag_or_the_environment(
    vertex: VertexBackend, tmp_path: Path, words: Sequence[str], region: str
) -> None:
    launch = prepared(VERTEX, tmp_path, *words, environ={"REGION": "asia-east1"})
    assert launch.destination(vertex.platform()) == VertexDestination("totoro-project", region)


@pytest.fixture
def vertex(clock: Any, tmp_path: Path) -> VertexBackend:
    return VertexBackend(clock, tmp_path)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--service_account", ["a@b.c"]),
        ("--network", ["projects/1/global/networks/n"]),
        ("--spot", []),
        ("--flex_start", []),
        ("--max_wait", ["0"]),
        ("--reservation", ["any"]),
        ("--timeout", ["24h"]),
        ("--disk_size", ["200"]),
        ("--worker_count", ["2"]),
    ],
)
def test_a_flag_that_ai_platform_does_not_support_is_refused(tmp_path: Path, flag: str, value: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(CAIP, tmp_path, flag, *value)
    assert caught.value.id == "flag-not-on-platform"
    assert caught.value.message == f"AI Platform Training does not support {flag}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86400), ("90m", 5400), ("3600", 3600), ("3600s", 3600), ("7d", 604800), ("1d2h3m4s", 93784)],
)
def test_a_duration_has_days_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["1h30", "soon", "0", "", "-1", "1.5h", "1000000000000", "٣h"])
def test_a_malformed_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f'got "{text}"'):
        duration(text)


@pytest.mark.parametrize(("flag", "value"), [("--disk_size", "99"), ("--worker_count", "0")])
def test_a_number_that_is_too_small_is_refused(tmp_path: Path, flag: str, value: str) -> None:
    with pytest.raises(argparse.ArgumentError, match="expected an integer >= "):
        prepared(VERTEX, tmp_path, flag, value)


def test_gpus_and_no_gpus_cannot_be_combined(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(VERTEX, tmp_path, "--nogpu", "--gpu_spec", "1xL4")
    assert caught.value.id == "gpu-or-not"


def test_a_machine_that_is_not_available_is_refused_unless_forced(tmp_path: Path) -> None:
    unavailable = ("--gpu_spec", "1xL4", "--region", "europe-west9")
    with pytest.raises(UsageError, match="europe-west9 has no L4"):
        prepared(VERTEX, tmp_path, *unavailable)
    prepared(VERTEX, tmp_path, "--force", *unavailable)
