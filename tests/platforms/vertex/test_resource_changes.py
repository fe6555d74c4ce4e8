"""Custom jobs with other resources than they had."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

import pytest

from caliban.errors import UsageError
from caliban.platforms.context import PlatformContext
from caliban.platforms.google.launch import SchedulingOptions
from caliban.platforms.google.machine_catalog import Gpu
from caliban.platforms.resources import ChangedResources, ResourceRequest
from caliban.platforms.vertex.details import VertexDestination, parse_details, place_details
from caliban.platforms.vertex.job_spec import Machines, custom_job
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.platforms.vertex.scheduling import affinity
from caliban.records import JobStatus
from tests.builders import a_job
from tests.fakes import RecordingReporter

PLACE = VertexDestination("totoro-project", "us-central1")
T4, L4 = Gpu(1, "NVIDIA_TESLA_T4"), Gpu(1, "NVIDIA_L4")


def spec_of(machines: Machines, scheduling: SchedulingOptions | None = None) -> dict[str, Any]:
    return custom_job(
        base="caliban_totoro",
        index=1,
        image="gcr.io/p/a:latest",
        machines=machines,
        arguments=["--foo", "3"],
        scheduling=scheduling,
    )


def changed(spec: dict[str, Any], **request: object) -> ChangedResources:
    details = parse_details(JobStatus.FAILED, place_details(PLACE, "job"))
    job = replace(a_job(1, spec=spec), platform="VERTEX", details=details)
    platform = VertexPlatform(PlatformContext({}, Path("/nowhere"), RecordingReporter(), no_engine))
    return platform.with_resources(job, ResourceRequest(Path("/nowhere"), **request))  # type: ignore[arg-type]


def no_engine() -> NoReturn:
    raise AssertionError("these tests need no Docker Engine")


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        (Machines("n1-standard-4"), {"machine_type": "n1-standard-8"}, Machines("n1-standard-8")),
        (Machines("n1-standard-4"), {"more_memory": Decimal(2)}, Machines("n1-standard-8")),
        (Machines("n1-standard-8", T4), {"nogpu": True}, Machines("n1-standard-8")),
        (Machines("n1-standard-8"), {"gpu_spec": "1xL4"}, Machines("g2-standard-8", L4)),
        (Machines("n1-standard-8", T4, 3), {"gpu_spec": "1xL4"}, Machines("g2-standard-8", L4, 3)),
        (
            Machines("a3-highgpu-8g", Gpu(8, "NVIDIA_H100_80GB"), disk_gb=200),
            {"gpu_spec": "8xB200"},
            Machines("a4-highgpu-8g", Gpu(8, "NVIDIA_B200"), disk_gb=200),
        ),
    ],
)
def test_changed_machines_are_what_the_submitting_command_would_request(
    before: Machines, request_: dict[str, object], after: Machines
) -> None:
    assert changed(spec_of(before), **request_).spec == spec_of(after)


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        (SchedulingOptions(), {"spot": True, "timeout": 60}, SchedulingOptions(is_spot=True, timeout_s=60)),
        (SchedulingOptions(is_spot=True), {"nonpreemptible": True}, SchedulingOptions()),
        (SchedulingOptions(timeout_s=60), {"timeout": 7200}, SchedulingOptions(timeout_s=7200)),
        (SchedulingOptions(network="n"), {"nonpreemptible": True}, SchedulingOptions(network="n")),
    ],
)
def test_changed_scheduling_is_what_the_submitting_command_would_request(
    before: SchedulingOptions, request_: dict[str, object], after: SchedulingOptions
) -> None:
    machines = Machines("n1-standard-8")
    assert changed(spec_of(machines, before), **request_).spec == spec_of(machines, after)


RESERVATION = "projects/totoro-project/zones/us-central1-a/reservations/lab"


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        (None, {"spot": True}, None),
        ("any", {"region": "europe-west4"}, "any"),
        (RESERVATION, {"region": "europe-west4"}, None),
        (RESERVATION, {"region": "us-central1"}, RESERVATION),
        (RESERVATION, {"spot": True}, None),
        ("any", {"spot": True}, None),
        (RESERVATION, {"nonpreemptible": True}, RESERVATION),
        (RESERVATION, {"machine_type": "n1-standard-16"}, RESERVATION),
        (RESERVATION, {"timeout": 60}, RESERVATION),
    ],
)
def test_a_reservation_is_kept_unless_the_machines_cannot_use_it(
    before: str | None, request_: dict[str, object], after: str | None
) -> None:
    made = changed(spec_of(Machines("n1-standard-8", count=2, reservation=before)), **request_)
    pools: Any = made.spec["jobSpec"]
    expected = affinity(after).get("reservationAffinity")
    assert [pool["machineSpec"].get("reservationAffinity") for pool in pools["workerPoolSpecs"]] == [expected] * 2
    assert VertexPlatform.resource_settings(made.spec, made.details)["reservation"] == after


FLEX = SchedulingOptions(is_flex_start=True, max_wait_s=7200)


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        ({"timeout": 60}, SchedulingOptions(is_flex_start=True, max_wait_s=7200, timeout_s=60)),
        ({"spot": True}, SchedulingOptions(is_spot=True)),
        ({"nonpreemptible": True}, SchedulingOptions()),
    ],
)
def test_the_longest_wait_goes_with_flex_start(request_: dict[str, object], after: SchedulingOptions) -> None:
    machines = Machines("g2-standard-8", L4)
    assert changed(spec_of(machines, FLEX), **request_).spec == spec_of(machines, after)


@pytest.mark.parametrize("request_", [{"gpu_spec": "1xT4"}, {"nogpu": True}, {"timeout": 8 * 86400}])
def test_a_change_that_flex_start_does_not_allow_is_refused(request_: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        changed(spec_of(Machines("g2-standard-8", L4), FLEX), **request_)
    assert caught.value.id == "flex-start-unavailable"


def test_a_recorded_strategy_that_google_deprecated_is_run_as_recorded() -> None:
    spec = spec_of(Machines("n1-standard-8"))
    spec["jobSpec"]["scheduling"] = {"strategy": "LOW_COST"}
    assert changed(spec, machine_type="n1-standard-16").spec["jobSpec"]["scheduling"] == {"strategy": "LOW_COST"}  # type: ignore[index]


def test_another_region_is_another_destination() -> None:
    spec = spec_of(Machines("n1-standard-8"))
    made = changed(spec, region="europe-west4")
    assert (made.spec, made.details.destination) == (spec, replace(PLACE, region="europe-west4"))


def test_worker_pools_with_other_machines_stay() -> None:
    spec = spec_of(Machines("n1-standard-8", count=2))
    other = {**spec["jobSpec"]["workerPoolSpecs"][1], "machineSpec": {"machineType": "n1-highmem-2"}}
    spec["jobSpec"]["workerPoolSpecs"] += [{}, other]
    pools: Any = changed(spec, machine_type="n1-standard-16").spec["jobSpec"]
    machines = [pool.get("machineSpec", {}).get("machineType") for pool in pools["workerPoolSpecs"]]
    assert machines == ["n1-standard-16", "n1-standard-16", None, "n1-highmem-2"]


def test_disks_that_the_user_chose_stay() -> None:
    spec = spec_of(Machines("n1-standard-8"))
    spec["jobSpec"]["workerPoolSpecs"][0]["diskSpec"]["bootDiskType"] = "pd-standard"
    pools: Any = changed(spec, machine_type="n1-standard-16").spec["jobSpec"]
    assert pools["workerPoolSpecs"][0]["diskSpec"]["bootDiskType"] == "pd-standard"


def test_strategies_of_others_become_regular_machines() -> None:
    spec = spec_of(Machines("n1-standard-8"))
    spec["jobSpec"]["scheduling"] = {"strategy": "FLEX_START"}
    made = changed(spec, nonpreemptible=True)
    settings = [VertexPlatform.resource_settings(each, made.details)["spot"] for each in (spec, made.spec)]
    assert settings == ["FLEX_START", "off"]
