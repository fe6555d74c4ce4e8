"""How long a re-run takes, as the finished jobs of the group tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from caliban.platforms import registry
from caliban.platforms.usage import accelerator_name, count_in, usage_of
from caliban.records import JobRecord, JobStatus, JsonObject
from caliban.resubmit.forecast import Forecast, fields, forecasts
from caliban.store.database import Store
from tests.builders import a_group, a_job, add_group, an_experiment
from tests.calls import call, result_of
from tests.conftest import MakeContext, ScreenContext
from tests.fake_service import FakeService

NOON = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
RESUBMIT = ("resubmit", "--xgroup", "resubmit_test", "--dry_run")


def machines(kind: str | None, count: int = 1, replicas: int = 1) -> JsonObject:
    accelerator = {"acceleratorType": kind, "acceleratorCount": count} if kind else {}
    pool = {"machineSpec": {"machineType": "g2-standard-8", **accelerator}, "replicaCount": str(replicas)}
    return {"jobSpec": {"workerPoolSpecs": [pool]}}


def job(
    id: int, hours: float | None, spec: JsonObject, status: JobStatus = JobStatus.SUCCEEDED, platform: str = "VERTEX"
) -> JobRecord:
    made = replace(a_job(id, status), platform=platform, spec=spec)
    ended = None if hours is None else NOON + timedelta(hours=hours)
    return replace(made, details=replace(made.details, started=NOON, ended=ended))


def found(templates: Sequence[JobRecord], *siblings: JobRecord) -> list[str]:
    group = a_group(*(an_experiment(number, each) for number, each in enumerate(siblings, 1)))
    return [each.line for each in forecasts(templates, group)]


L4, T4, NONE = machines("NVIDIA_L4"), machines("NVIDIA_TESLA_T4", 2), machines(None)


def test_the_median_of_the_siblings_counts() -> None:
    siblings = [job(number, hours, L4) for number, hours in enumerate([1, 3, 100], 1)]
    assert found([job(9, None, L4, JobStatus.FAILED)] * 12, *siblings) == [
        "12 jobs, about 3 h each (3 siblings), 36 L4-hours"
    ]


def test_one_job_and_one_sibling() -> None:
    assert found([job(9, None, L4)], job(1, 3, L4)) == ["1 job, about 3 h (1 sibling), 3 L4-hours"]


def test_jobs_on_other_hardware_or_platforms_are_no_siblings() -> None:
    others = [job(1, 1, T4), job(2, 2, NONE), job(3, 4, L4, platform="CAIP")]
    assert found([job(9, None, L4)], *others) == []


def test_each_kind_of_hardware_has_a_forecast() -> None:
    planned = [job(7, None, L4), job(8, None, T4), job(9, None, T4)]
    assert found(planned, job(1, 1, L4), job(2, 0.5, T4)) == [
        "1 job, about 1 h (1 sibling), 1 L4-hours",
        "2 jobs, about 30 min each (1 sibling), 2 T4-hours",
    ]


def test_hours_of_all_machines_count() -> None:
    several = machines("NVIDIA_L4", 4, replicas=3)
    assert found([job(9, None, several)], job(1, 2, several)) == ["1 job, about 2 h (1 sibling), 24 L4-hours"]
    plain = machines(None, replicas=3)
    assert found([job(9, None, plain)], job(1, 2, plain)) == ["1 job, about 2 h (1 sibling), 6 machine-hours"]


@pytest.mark.parametrize(
    "sibling",
    [
        job(1, 3, L4, JobStatus.FAILED),
        job(1, 3, L4, JobStatus.STOPPED),
        job(1, None, L4),
        job(1, -1, L4),
    ],
    ids=["failed", "stopped", "without an end", "clock that went back"],
)
def test_only_jobs_that_succeeded_and_have_times_tell_how_long(sibling: JobRecord) -> None:
    assert found([job(9, None, L4)], sibling) == []


def test_a_container_that_ended_at_once_may_have_ended_before_its_start_was_noted() -> None:
    assert found([job(9, None, L4)], job(1, -0.0001, L4)) == ["1 job, about 1 s (1 sibling), less than 0.01 L4-hours"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "60 min"),
        (9000, "2.5 h"),
        (47 * 3600, "47 h"),
        (96 * 3600, "4 days"),
        (100 * 86_400, "100 days"),
    ],
)
def test_durations_have_one_unit(seconds: float, shown: str) -> None:
    assert f"about {shown} each" in Forecast(2, seconds, 5, {"L4": 1}).line


@pytest.mark.parametrize(("seconds", "shown"), [(60, "0.03"), (1, "less than 0.01"), (1700, "0.94"), (3420, "1.9")])
def test_few_hours_are_not_rounded_to_none(seconds: float, shown: str) -> None:
    assert Forecast(2, seconds, 5, {"machine": 1}).line.endswith(f"(5 siblings), {shown} machine-hours")


def test_the_plan_has_it_before_the_question(store: Store, service: FakeService, context: ScreenContext) -> None:
    times = {"started": "2026-11-25T10:00:00Z", "ended": "2026-11-25T12:00:00Z"}
    add_group(store, JobStatus.SUCCEEDED, JobStatus.FAILED, container_spec={"image_id": "lab:1"}, details=times)
    call(context, *RESUBMIT)
    assert "1 job, about 2 h (1 sibling), 2 machine-hours" in context.out.splitlines()


def test_the_document_has_the_numbers(store: Store, service: FakeService, make_context: MakeContext) -> None:
    times = {"started": "2026-11-25T10:00:00Z", "ended": "2026-11-25T12:00:00Z"}
    add_group(store, JobStatus.SUCCEEDED, JobStatus.FAILED, container_spec={"image_id": "lab:1"}, details=times)
    assert result_of(make_context(), *RESUBMIT, "--json")["forecasts"] == [
        {"jobs": 1, "seconds_each": 7200.0, "siblings": 1, "hours": {"machine": 2.0}}
    ]


def test_what_takes_less_than_a_minute_has_no_line(store: Store, service: FakeService, context: ScreenContext) -> None:
    times = {"started": "2026-11-25T10:00:00Z", "ended": "2026-11-25T10:00:59Z"}
    add_group(store, JobStatus.SUCCEEDED, JobStatus.FAILED, container_spec={"image_id": "lab:1"}, details=times)
    call(context, *RESUBMIT)
    assert "sibling" not in context.out


def test_without_a_finished_job_there_is_none(store: Store, service: FakeService, make_context: MakeContext) -> None:
    add_group(store, JobStatus.FAILED, container_spec={"image_id": "lab:1"})
    assert result_of(make_context(), *RESUBMIT, "--json")["forecasts"] == []
    assert fields(()) == []


@pytest.mark.parametrize(
    ("platform", "spec", "usage"),
    [
        ("VERTEX", L4, {"L4": 1}),
        ("VERTEX", machines("NVIDIA_TESLA_A100", 8, 2), {"A100": 16}),
        ("VERTEX", machines("TPU_V3", 8), {"TPU-V3": 8}),
        ("VERTEX", {"jobSpec": {"workerPoolSpecs": "x"}}, {"machine": 1}),
        (
            "CAIP",
            {"trainingInput": {"masterConfig": {"acceleratorConfig": {"count": 2, "type": "NVIDIA_TESLA_P100"}}}},
            {"P100": 2},
        ),
        (
            "CAIP",
            {
                "trainingInput": {
                    "masterConfig": {"acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"}}
                }
            },
            {"machine": 1},
        ),
        ("CAIP", {"trainingInput": None}, {"machine": 1}),
        ("LOCAL", {"command": ["docker", "run", "--gpus", "all"]}, {"machine": 1}),
        ("NOWHERE", {}, {"machine": 1}),
    ],
)
def test_what_jobs_occupy(platform: str, spec: JsonObject, usage: dict[str, int]) -> None:
    assert registry.usage(platform, spec) == usage


@pytest.mark.parametrize("platform", ["GKE", "KUBERNETES"])
@pytest.mark.parametrize(
    ("selector", "limits", "usage"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, {"nvidia.com/gpu": "8"}, {"H100": 8}),
        ({"cloud.google.com/gke-accelerator": "nvidia-x1"}, {"nvidia.com/gpu": 1}, {"X1": 1}),
        ({}, {"nvidia.com/gpu": "2"}, {"GPU": 2}),
        ({"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice"}, {"google.com/tpu": "4"}, {"TPU-V5E": 4}),
        ({}, {"google.com/tpu": "4"}, {"TPU": 4}),
        ({}, {"cpu": "4", "memory": "8Gi"}, {"machine": 1}),
        ({}, None, {"machine": 1}),
    ],
)
def test_what_pods_occupy(platform: str, selector: JsonObject, limits: object, usage: dict[str, int]) -> None:
    container = {"image": "x", "resources": {"limits": limits}}
    spec = {"template": {"spec": {"nodeSelector": selector, "containers": [container]}}}
    assert registry.usage(platform, spec) == usage


@pytest.mark.parametrize(
    ("value", "count"),
    [(2, 2), ("8", 8), (True, 7), (-1, 0), ("x", 7), ("9" * 5000, 7), (None, 7), ("٣", 7), (2.5, 7)],
)
def test_counts_are_numbers_or_digits(value: object, count: int) -> None:
    assert count_in(value, 7) == count


def test_names_of_accelerators_are_short() -> None:
    names = ["NVIDIA_TESLA_T4", "nvidia-tesla-k80", "NVIDIA_A100_80GB", "TPU_V3", "GPU", ""]
    assert [accelerator_name(name) for name in names] == ["T4", "K80", "A100-80GB", "TPU-V3", "GPU", ""]
    assert usage_of({"NVIDIA_L4": 0}, 2) == {"machine": 2}
