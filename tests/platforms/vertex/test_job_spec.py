from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError
from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.launch import SchedulingOptions
from caliban.platforms.google.machine_catalog import Gpu
from caliban.platforms.vertex import job_spec as vertex_job_spec
from caliban.platforms.vertex.job_spec import Machines
from tests.platforms.google.helpers import PROJECT, TOKEN
from tests.platforms.vertex.helpers import IMAGE, NAME, NEW_IMAGE, REGION, SPEC
from tests.standins.custom_job_rules import check_custom_job
from tests.standins.discovery import Discovery

NOW = datetime(2026, 11, 25, 11, 2, 59)
DISCOVERY = Discovery("aiplatform", "v1")


def new_job(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "base": "caliban_totoro",
        "index": 2,
        "image": IMAGE,
        "machines": Machines("e2-standard-8"),
        "arguments": ["--foo", "3", "--sleep", "2"],
    }
    return vertex_job_spec.custom_job(**{**given, **changes})


def pools(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = spec["jobSpec"]["workerPoolSpecs"]
    return found


def refuse_what_the_service_refuses(body: Mapping[str, Any]) -> None:
    method = DISCOVERY.method("POST", f"/v1/projects/{PROJECT}/locations/{REGION}/customJobs")
    assert method is not None
    DISCOVERY.check_body(method, body, "custom_job")
    check_custom_job(body, any_registry=False)


def test_a_new_job_on_cpus_is_one_pool_of_one_machine() -> None:
    assert new_job() == {
        "displayName": "caliban_totoro_2",
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "caliban_totoro",
            "docker_image": "us-docker_pkg_devtotoro-projectlabcffd1475aacalatest",
            "foo": "3",
            "sleep": "2",
        },
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {"machineType": "e2-standard-8"},
                    "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                    "containerSpec": {"imageUri": IMAGE, "args": ["--foo", "3", "--sleep", "2"]},
                    "replicaCount": "1",
                }
            ],
            "scheduling": {"disableRetries": True},
        },
    }


def test_a_job_of_several_machines_has_a_second_pool_for_all_but_the_first() -> None:
    pool = {
        "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2},
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 250},
        "containerSpec": {"imageUri": IMAGE, "args": ["--foo", "3", "--sleep", "2"]},
    }
    job = new_job(machines=Machines("n1-standard-8", Gpu(2, "NVIDIA_TESLA_T4"), count=4, disk_gb=250))
    assert pools(job) == [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "3"}]
    assert job["labels"]["gpu_enabled"] == "true"


def test_scheduling_options_are_in_the_job() -> None:
    options = SchedulingOptions(
        "totoro@totoro-project.iam.gserviceaccount.com", "projects/1/global/networks/lab", True, 5400
    )
    spec = dict(new_job(scheduling=options)["jobSpec"])
    del spec["workerPoolSpecs"]
    assert spec == {
        "scheduling": {"strategy": "SPOT", "timeout": "5400s", "disableRetries": True},
        "serviceAccount": "totoro@totoro-project.iam.gserviceaccount.com",
        "network": "projects/1/global/networks/lab",
    }


@pytest.mark.parametrize(
    ("machine_type", "disk"),
    [("a3-highgpu-8g", "pd-ssd"), ("a3-ultragpu-8g", "hyperdisk-balanced"), ("a4-highgpu-8g", "hyperdisk-balanced")],
)
def test_a_machine_gets_a_disk_that_it_supports(machine_type: str, disk: str) -> None:
    assert pools(new_job(machines=Machines(machine_type)))[0]["diskSpec"]["bootDiskType"] == disk


@given(
    st.lists(st.text(max_size=80), max_size=80),
    st.text(min_size=1, max_size=200),
    st.dictionaries(st.text(max_size=70), st.text(max_size=70)),
    st.integers(1, 5),
)
def test_whatever_the_user_writes_the_service_accepts_the_job(
    arguments: list[str], name: str, labels: dict[str, str], count: int
) -> None:
    machines = Machines("n1-standard-8", Gpu(1, "NVIDIA_TESLA_T4"), count)
    job = new_job(arguments=arguments, base=google_labels.job_base(name), labels=labels, machines=machines)
    refuse_what_the_service_refuses(
        google_labels.request_body(job, "displayName", google_labels.full_name(job["displayName"], TOKEN, NOW), TOKEN)
    )


def test_a_job_is_sent_under_its_full_name_with_the_token() -> None:
    assert google_labels.request_body(SPEC, "displayName", NAME, TOKEN) == {
        **SPEC,
        "displayName": NAME,
        "labels": {**SPEC["labels"], "caliban_token": TOKEN},
    }


def test_another_image_is_put_into_each_pool_and_the_label() -> None:
    spec = new_job(machines=Machines("e2-standard-8", count=3))
    changed = vertex_job_spec.with_image(spec, NEW_IMAGE)
    expected = new_job(machines=Machines("e2-standard-8", count=3), image=NEW_IMAGE)
    assert changed == expected


def test_all_else_stays_when_the_image_changes() -> None:
    spec = {**SPEC, "encryptionSpec": {"kmsKeyName": "k"}, "jobSpec": {**SPEC["jobSpec"], "tensorboard": "t"}}
    assert vertex_job_spec.with_image(spec, IMAGE) == spec


def test_the_label_of_an_image_by_digest_is_its_name() -> None:
    image = f"us-docker.pkg.dev/totoro-project/lab/81b2087b5026@sha256:{'ab' * 32}"
    changed = vertex_job_spec.with_image(SPEC, image)
    assert (vertex_job_spec.image_of(changed), changed["labels"]) == (
        image,
        {**SPEC["labels"], "docker_image": "us-docker_pkg_devtotoro-projectlab81b2087b5026"},
    )


def test_a_job_without_labels_gets_none_with_its_image() -> None:
    spec = {key: value for key, value in SPEC.items() if key != "labels"}
    assert "labels" not in vertex_job_spec.with_image(spec, NEW_IMAGE)


def test_the_spec_of_a_sibling_gets_other_arguments_and_their_labels() -> None:
    changed = vertex_job_spec.with_arguments(SPEC, NEW_IMAGE, ["--bar", "5"])
    assert changed == {
        "displayName": "caliban_totoro_1",
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "caliban_totoro",
            "docker_image": "us-docker_pkg_devtotoro-projectlab81b2087b5026latest",
            "bar": "5",
        },
        "jobSpec": {
            "workerPoolSpecs": [
                {
                    "machineSpec": {"machineType": "e2-standard-8"},
                    "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                    "containerSpec": {"imageUri": NEW_IMAGE, "args": ["--bar", "5"]},
                    "replicaCount": "1",
                }
            ],
            "scheduling": {"disableRetries": True},
        },
    }


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"displayName": "x"}, "jobSpec is missing"),
        ({"jobSpec": {}}, "workerPoolSpecs is missing"),
        ({"jobSpec": {"workerPoolSpecs": []}}, "workerPoolSpecs is missing"),
        ({"jobSpec": {"workerPoolSpecs": ["x"]}}, "workerPoolSpecs is missing"),
        ({"jobSpec": {"workerPoolSpecs": [{}]}}, "containerSpec is missing"),
        ({"jobSpec": {"workerPoolSpecs": [{"containerSpec": {"imageUri": ""}}]}}, "imageUri is missing"),
    ],
)
def test_a_malformed_spec_is_reported_with_what_is_missing(spec: dict[str, object], problem: str) -> None:
    with pytest.raises(PlatformError) as caught:
        vertex_job_spec.with_image(spec, NEW_IMAGE)
    assert caught.value.id == "malformed-job-spec"
    assert caught.value.cause == f"in the recorded job spec: {problem}"
