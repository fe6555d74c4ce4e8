"""Jobs of AI Platform Training as jobs of Vertex AI, whole bodies compared; dropped settings are reported."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError
from caliban.platforms.caip.details import parse_details as parse_caip_details
from caliban.platforms.caip.machines import CATALOG as CAIP_CATALOG
from caliban.platforms.google.labels import request_body
from caliban.platforms.migration import Migration
from caliban.platforms.vertex import job_spec as vertex_job_spec
from caliban.platforms.vertex.details import VertexDestination, parse_details
from caliban.platforms.vertex.from_caip import migrate
from caliban.records import JobDetails, JobRecord, JobStatus
from tests.platforms.caip.helpers import IMAGE, NEW_IMAGE, PEER_SPEC
from tests.platforms.google.helpers import PROJECT, TOKEN
from tests.standins.custom_job_rules import check_custom_job
from tests.standins.discovery import Discovery

STORES = Path(__file__).parents[2] / "data" / "peer_stores"
DISK = {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100}
WORKER_IMAGE = "gcr.io/totoro-project/worker:latest"


def recorded(spec: Mapping[str, Any], platform: str = "CAIP") -> JobRecord:
    raw = {"jobId": "caliban_totoro_20200529_110259_1", "project_id": PROJECT}
    details = parse_caip_details(JobStatus.FAILED, raw)
    return JobRecord(1, platform, 1, spec, IMAGE, JobStatus.FAILED, details, datetime(2020, 5, 29, 10, 53))


def a_spec(**training_input: Any) -> dict[str, Any]:
    """Return the spec of a job on one n1-standard-8 in us-central1, changed; None removes a field."""
    whole = {
        "scaleTier": "CUSTOM",
        "masterType": "n1-standard-8",
        "masterConfig": {"imageUri": IMAGE},
        "region": "us-central1",
        "args": ["--foo", "3"],
        **training_input,
    }
    return {"jobId": "lab_1", "trainingInput": {key: value for key, value in whole.items() if value is not None}}


def placed(region: str) -> JobDetails:
    """Return the details of a migrated job."""
    return parse_details(JobStatus.FAILED, {"project_id": PROJECT, "region": region})


def migrated(**training_input: Any) -> Migration:
    return migrate(recorded(a_spec(**training_input)))


def a_pool(
    machine: str = "n1-standard-8",
    gpu: tuple[str, int] | None = None,
    *,
    count: int = 1,
    image: str = IMAGE,
    **container: Any,
) -> dict[str, Any]:
    accelerators = {"acceleratorType": gpu[0], "acceleratorCount": gpu[1]} if gpu else {}
    return {
        "machineSpec": {"machineType": machine, **accelerators},
        "diskSpec": DISK,
        "containerSpec": {"imageUri": image, **(container or {"args": ["--foo", "3"]})},
        "replicaCount": str(count),
    }


def pools(migration: Migration) -> Any:
    job_spec: Any = migration.spec["jobSpec"]
    return job_spec["workerPoolSpecs"]


def peer_jobs() -> list[JobRecord]:
    """Return every CAIP job in the stores of caliban 0.4.2."""
    jobs = []
    for store in sorted(STORES.glob("*.sqlite")):
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            rows = connection.execute("SELECT spec FROM job_specs WHERE platform = 'CAIP' ORDER BY id").fetchall()
        jobs += [recorded(json.loads(spec)) for (spec,) in rows]
    return jobs


def test_the_job_of_the_user_document_is_the_same_on_vertex_ai() -> None:
    assert migrate(recorded(PEER_SPEC)) == Migration(
        spec={
            "displayName": "caliban_totoro_1",
            "labels": PEER_SPEC["labels"],
            "jobSpec": {
                "workerPoolSpecs": [a_pool("n1-highcpu-32", args=["--foo", "3", "--sleep", "1"])],
                "scheduling": {"disableRetries": True},
            },
        },
        details=placed("us-central1"),
    )


def test_a_migrated_job_has_a_destination_on_vertex_ai() -> None:
    assert migrated(region="europe-west4").details.destination == VertexDestination(PROJECT, "europe-west4")
    assert migrated(region=None).details.destination == VertexDestination(PROJECT, "us-central1")


def test_a_job_without_a_recorded_project_is_migrated_without_a_destination() -> None:
    job = replace(recorded(PEER_SPEC), details=JobDetails())
    assert migrate(job).details.destination is None


def test_the_stores_of_caliban_0_4_2_have_jobs_to_migrate() -> None:
    assert len(peer_jobs()) == 6


@pytest.mark.parametrize("job", peer_jobs(), ids=lambda job: str(job.spec["jobId"]))
def test_every_job_of_caliban_0_4_2_is_migrated_completely(job: JobRecord) -> None:
    given: Any = job.spec
    machine = given["trainingInput"]["masterType"]
    asked = given["trainingInput"]["masterConfig"]["acceleratorConfig"]
    gpu = (asked["type"], asked["count"]) if asked["count"] else None
    pool = a_pool(machine, gpu, args=given["trainingInput"]["args"])
    pool["containerSpec"]["imageUri"] = given["trainingInput"]["masterConfig"]["imageUri"]
    assert migrate(job) == Migration(
        spec={
            "displayName": given["jobId"],
            "labels": given["labels"],
            "jobSpec": {"workerPoolSpecs": [pool], "scheduling": {"disableRetries": True}},
        },
        details=placed(given["trainingInput"]["region"]),
    )


def test_a_job_with_every_setting_is_migrated_completely() -> None:
    spec = a_spec(
        masterConfig={
            "imageUri": IMAGE,
            "acceleratorConfig": {"count": "2", "type": "NVIDIA_TESLA_V100"},
            "diskConfig": {"bootDiskType": "pd-standard", "bootDiskSizeGb": 500},
        },
        workerType="n1-highmem-8",
        workerCount="3",
        workerConfig={"imageUri": WORKER_IMAGE},
        evaluatorType="n1-standard-4",
        evaluatorCount="1",
        scheduling={"maxRunningTime": "7200s", "maxWaitTime": "3600s", "priority": 7},
        serviceAccount="trainer@totoro-project.iam.gserviceaccount.com",
        network="projects/12345/global/networks/lab",
        enableWebAccess=True,
        encryptionConfig={"kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
        jobDir="gs://lab/out",
        useChiefInTfConfig=True,
    )
    assert migrate(recorded({**spec, "labels": {"team": "vision"}})) == Migration(
        spec={
            "displayName": "lab_1",
            "labels": {"team": "vision"},
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        **a_pool(gpu=("NVIDIA_TESLA_V100", 2)),
                        "diskSpec": {"bootDiskType": "pd-standard", "bootDiskSizeGb": 500},
                    },
                    a_pool("n1-highmem-8", count=3, image=WORKER_IMAGE, args=["--foo", "3"]),
                    {},
                    a_pool("n1-standard-4"),
                ],
                "scheduling": {"timeout": "7200s", "disableRetries": True},
                "serviceAccount": "trainer@totoro-project.iam.gserviceaccount.com",
                "network": "projects/12345/global/networks/lab",
                "enableWebAccess": True,
                "baseOutputDirectory": {"outputUriPrefix": "gs://lab/out"},
            },
            "encryptionSpec": {"kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"},
        },
        details=placed("us-central1"),
        dropped_settings=(
            "scheduling.maxWaitTime: the job waits for machines for longer than 3600s",
            "scheduling.priority: Vertex AI has no priorities",
            "jobDir: Vertex AI does not pass --job-dir to the program; directories in it are in $AIP_MODEL_DIR, "
            "$AIP_CHECKPOINT_DIR and $AIP_TENSORBOARD_LOG_DIR",
        ),
    )


@pytest.mark.parametrize(
    ("legacy", "machine", "gpu"),
    [
        ("standard", "n1-standard-4", None),
        ("large_model", "n1-highmem-8", None),
        ("complex_model_m", "n1-highcpu-16", None),
        ("complex_model_l", "n1-highcpu-32", None),
        ("standard_p100", "n1-standard-8", ("NVIDIA_TESLA_P100", 1)),
        ("complex_model_m_p100", "n1-standard-16", ("NVIDIA_TESLA_P100", 4)),
        ("standard_v100", "n1-standard-8", ("NVIDIA_TESLA_V100", 1)),
        ("large_model_v100", "n1-highmem-8", ("NVIDIA_TESLA_V100", 1)),
        ("complex_model_m_v100", "n1-standard-16", ("NVIDIA_TESLA_V100", 4)),
        ("complex_model_l_v100", "n1-standard-32", ("NVIDIA_TESLA_V100", 8)),
    ],
)
def test_a_legacy_machine_type_becomes_that_of_compute_engine(
    legacy: str, machine: str, gpu: tuple[str, int] | None
) -> None:
    found = migrated(masterType=legacy)
    assert (pools(found), found.dropped_settings) == ([a_pool(machine, gpu)], ())


@pytest.mark.parametrize(
    ("changes", "machine", "gpu", "lost"),
    [
        (
            {"masterType": "complex_model_s"},
            "n1-standard-8",
            None,
            "masterType: n1-standard-8, with more memory, replaces complex_model_s (n1-highcpu-8)",
        ),
        (
            {"masterType": "standard_gpu"},
            "n1-standard-8",
            ("NVIDIA_TESLA_T4", 1),
            "acceleratorConfig: 1xT4 replaces 1xK80, which Google retired",
        ),
        (
            {"scaleTier": "BASIC_GPU", "masterType": None},
            "n1-standard-8",
            ("NVIDIA_TESLA_T4", 1),
            "acceleratorConfig: 1xT4 replaces 1xK80, which Google retired",
        ),
        (
            {"masterType": "complex_model_m_gpu"},
            "n1-standard-16",
            ("NVIDIA_TESLA_T4", 4),
            "acceleratorConfig: 4xT4 replaces 4xK80, which Google retired",
        ),
    ],
)
def test_replaced_hardware_is_reported(
    changes: Mapping[str, Any], machine: str, gpu: tuple[str, int] | None, lost: str
) -> None:
    found = migrated(**changes)
    assert (pools(found), found.dropped_settings) == ([a_pool(machine, gpu)], (lost,))


def test_a_machine_with_built_in_gpus_keeps_them() -> None:
    assert pools(migrated(masterType="a2-highgpu-1g")) == [a_pool("a2-highgpu-1g", ("NVIDIA_TESLA_A100", 1))]


@pytest.mark.parametrize("changes", [{"scaleTier": "BASIC"}, {"scaleTier": None}])
def test_a_job_without_a_machine_type_is_of_the_basic_tier(changes: Mapping[str, Any]) -> None:
    assert pools(migrated(masterType=None, **changes)) == [a_pool("n1-standard-4")]


def test_the_premium_tier_keeps_its_workers_and_servers_and_their_number_is_reported() -> None:
    found = migrated(scaleTier="PREMIUM_1", masterType=None, useChiefInTfConfig=True)
    assert pools(found) == [
        a_pool("n1-highcpu-16"),
        a_pool("n1-highcpu-16", count=19),
        a_pool("n1-highmem-8", count=11),
    ]
    assert found.dropped_settings == ("scaleTier: PREMIUM_1 becomes 1 master, 19 workers and 11 parameter servers",)


def test_hardware_that_is_not_in_the_catalog_is_reported_and_kept() -> None:
    found = migrated(
        region="australia-southeast1",
        masterConfig={"imageUri": IMAGE, "acceleratorConfig": {"count": 1, "type": "NVIDIA_TESLA_P100"}},
    )
    assert pools(found) == [a_pool(gpu=("NVIDIA_TESLA_P100", 1))]
    [line] = found.dropped_settings
    assert line.startswith("masterType: Vertex AI may refuse it: ")


def test_the_other_name_of_the_first_machine_is_reported_if_there_are_several() -> None:
    found = migrated(workerType="n1-standard-8", workerCount=2)
    assert found.dropped_settings == (
        "useChiefInTfConfig: $TF_CONFIG always names the first machine chief, not master",
    )


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"runtimeVersion": "2.1"}, "runtimeVersion: Vertex AI has no equivalent"),
        ({"packageUris": ["gs://lab/x.tar.gz"]}, "packageUris: Vertex AI has no equivalent"),
        ({"someday": 1}, "someday: Vertex AI has no equivalent"),
        (
            {"masterConfig": {"imageUri": IMAGE, "tpuTfVersion": "2.1"}},
            "masterConfig.tpuTfVersion: Vertex AI has no equivalent",
        ),
        (
            {"masterConfig": {"imageUri": IMAGE, "diskConfig": {"bootDiskSizeGb": 50}}},
            "masterConfig.diskConfig: the boot disk has 100 GB, the minimum",
        ),
    ],
)
def test_a_setting_without_an_equivalent_is_reported(changes: Mapping[str, Any], lost: str) -> None:
    found = migrated(**changes)
    assert (pools(found), found.dropped_settings) == ([a_pool()], (lost,))


def test_the_command_and_arguments_of_a_pool_are_kept() -> None:
    config = {"imageUri": IMAGE, "containerCommand": ["python", "-m"], "containerArgs": ["trainer"]}
    assert pools(migrated(args=None, masterConfig=config)) == [a_pool(command=["python", "-m"], args=["trainer"])]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"hyperparameters": {"goal": "MAXIMIZE"}}, "it tunes hyperparameters"),
        ({"masterType": "cloud_tpu"}, "it uses TPUs"),
        ({"scaleTier": "BASIC_TPU"}, "it uses TPUs"),
        ({"workerType": "cloud_tpu", "workerCount": 1}, "it uses TPUs"),
        (
            {"masterConfig": {"imageUri": IMAGE, "acceleratorConfig": {"count": 8, "type": "TPU_V3"}}},
            "it uses TPUs",
        ),
        ({"masterType": "complex_model_l_gpu"}, "n1-standard-32 cannot have 8xT4 instead of 8xK80"),
        ({"masterConfig": None, "packageUris": ["gs://x"], "pythonModule": "trainer"}, "it has no container image"),
    ],
)
def test_a_job_that_cannot_run_without_a_dropped_setting_is_not_migrated(
    changes: Mapping[str, Any], cause: str
) -> None:
    with pytest.raises(PlatformError) as caught:
        migrated(**changes)
    assert caught.value.id == "not-translatable"
    assert cause in str(caught.value.cause)


@pytest.mark.parametrize("platform", ["LOCAL", "GKE", "KUBERNETES", "TEST"])
def test_a_job_of_another_platform_is_not_migrated(platform: str) -> None:
    with pytest.raises(PlatformError, match=f"cannot migrate jobs on {platform} to Vertex AI"):
        migrate(recorded(PEER_SPEC, platform))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"trainingInput": {"masterConfig": {"imageUri": IMAGE}}},
        {**a_spec(), "jobId": ""},
        a_spec(workerCount="many"),
        a_spec(workerCount=1),
        a_spec(args="--foo"),
        a_spec(scheduling=[]),
    ],
)
def test_a_malformed_spec_is_an_error(spec: Mapping[str, Any]) -> None:
    with pytest.raises(PlatformError) as caught:
        migrate(recorded(spec))
    assert caught.value.id == "malformed-job-spec"


def test_a_new_image_replaces_the_old_one_but_not_another_image_of_a_worker() -> None:
    found = migrated(
        workerType="n1-standard-4",
        workerCount=1,
        workerConfig={"imageUri": WORKER_IMAGE},
        evaluatorType="n1-standard-4",
        evaluatorCount=1,
    )
    changed: Any = vertex_job_spec.with_arguments(found.spec, NEW_IMAGE, ["--foo", "4"])
    assert changed["jobSpec"]["workerPoolSpecs"] == [
        a_pool(image=NEW_IMAGE, args=["--foo", "4"]),
        a_pool("n1-standard-4", image=WORKER_IMAGE, args=["--foo", "4"]),
        {},
        a_pool("n1-standard-4", image=NEW_IMAGE, args=["--foo", "4"]),
    ]


MACHINES = st.sampled_from(
    [*CAIP_CATALOG.machine_types, "standard", "large_model", "complex_model_s", "complex_model_m", "standard_gpu"]
)
GPUS = st.fixed_dictionaries({"count": st.integers(0, 4), "type": st.sampled_from(CAIP_CATALOG.gpu_types)})
CONFIGS = st.fixed_dictionaries(
    {"imageUri": st.sampled_from([IMAGE, WORKER_IMAGE])},
    optional={
        "acceleratorConfig": GPUS,
        "diskConfig": st.fixed_dictionaries(
            {}, optional={"bootDiskSizeGb": st.integers(1, 2000), "bootDiskType": st.sampled_from(["pd-ssd"])}
        ),
        "containerCommand": st.lists(st.text(min_size=1), max_size=3),
        "containerArgs": st.lists(st.text(), max_size=3),
    },
)
SECONDS = st.integers(1, 10**6).map(lambda number: f"{number}s")
INPUTS = st.fixed_dictionaries(
    {
        "scaleTier": st.sampled_from(["CUSTOM", "BASIC", "STANDARD_1", "PREMIUM_1", "BASIC_GPU"]),
        "region": st.sampled_from(sorted(CAIP_CATALOG.regions)),
        "masterConfig": CONFIGS,
        **{f"{role}Type": MACHINES for role in ("master", "worker", "parameterServer", "evaluator")},
    },
    optional={
        "args": st.lists(st.text(), max_size=5),
        **{f"{role}Count": st.integers(0, 9).map(str) for role in ("worker", "parameterServer", "evaluator")},
        **{f"{role}Config": CONFIGS for role in ("worker", "parameterServer", "evaluator")},
        "scheduling": st.fixed_dictionaries({}, optional={"maxRunningTime": SECONDS, "maxWaitTime": SECONDS}),
        "serviceAccount": st.just("trainer@totoro-project.iam.gserviceaccount.com"),
        "network": st.just("projects/12345/global/networks/lab"),
        "enableWebAccess": st.booleans(),
        "encryptionConfig": st.just({"kmsKeyName": "projects/p/locations/l/keyRings/r/cryptoKeys/k"}),
        "jobDir": st.just("gs://lab/out"),
        "useChiefInTfConfig": st.booleans(),
    },
)
DISCOVERY = Discovery("aiplatform", "v1")


@given(training_input=INPUTS)
def test_vertex_ai_accepts_every_migrated_job(training_input: dict[str, Any]) -> None:
    try:
        found = migrate(recorded({**PEER_SPEC, "trainingInput": training_input}))
    except PlatformError as error:
        assert error.id == "not-translatable"  # noqa: PT017 - K80s that no T4s can replace
        return
    spec = vertex_job_spec.with_image(found.spec, NEW_IMAGE)
    body = request_body(spec, "displayName", "caliban_totoro_20261125_110259_1", TOKEN)
    DISCOVERY.check_schema("GoogleCloudAiplatformV1CustomJob", body)
    check_custom_job(body, any_registry=False)
