"""Jobs on clusters with other resources than they had."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError, UsageError
from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.quantities import amount, multiplied
from caliban.platforms.kubernetes.resource_changes import changed_spec, settings
from caliban.platforms.kubernetes.resources import Hardware, any_gpu, default_requests, parse_gpu_spec, parse_tpu_spec
from caliban.platforms.resources import ResourceRequest
from tests.platforms.kubernetes.helpers import IMAGE, NAME, OUR_LABELS, PEER_SPEC, assert_valid

TPU = parse_tpu_spec("4xV5E", is_gke=True)


def spec_of(hardware: Hardware) -> dict[str, Any]:
    return job_spec.new_job_spec(base="caliban-totoro", image=IMAGE, arguments=["--foo", "3"], hardware=hardware)


def with_amounts(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    return job_spec.with_resources(spec_of(Hardware()), requests, limits)


def changed(spec: dict[str, Any], *, is_gke: bool = True, **request: object) -> dict[str, Any]:
    made = changed_spec(spec, ResourceRequest(Path("/nowhere"), **request), is_gke=is_gke)  # type: ignore[arg-type]
    assert_valid(job_spec.manifest(made, NAME, OUR_LABELS))
    return dict(made)


def amounts_of(spec: dict[str, Any]) -> tuple[Any, Any]:
    found = spec["template"]["spec"]["containers"][0].get("resources", {})
    return found.get("requests"), found.get("limits")


def as_submitted(gpu: str | None = None, machine_type: str | None = None, *, is_spot: bool = True) -> Hardware:
    """What ``cluster job submit`` requests on GKE."""
    accelerator = parse_gpu_spec(gpu, is_gke=True) if gpu else None
    cpu, memory = default_requests(accelerator, machine_type)
    return Hardware(accelerator, machine_type, cpu, memory, is_spot)


FLEX = replace(as_submitted("1xL4", is_spot=False), is_flex_start=True)


@pytest.mark.parametrize(
    ("quantity", "factor", "text"),
    [
        ("8Gi", "2", "16Gi"),
        ("3Gi", "1.5", "4608Mi"),
        ("8Gi", "1.1", "9012Mi"),
        ("119000M", "2", "238000M"),
        ("1.5G", "2", "3G"),
        ("1001", "1.5", "1502"),
        ("1e9", "2", "2000000000"),
        ("500m", "2", "1"),
        ("64k", "2", "128k"),
        (1024, "2", "2048"),
        ("0", "2", None),
        ("8GB", "2", None),
        (None, "2", None),
        (True, "2", None),
    ],
)
def test_a_quantity_is_multiplied_in_its_own_unit_or_a_smaller_one(
    quantity: object, factor: str, text: str | None
) -> None:
    assert multiplied(quantity, Decimal(factor)) == text


@given(
    number=st.integers(1, 10**6),
    unit=st.sampled_from(["", "k", "M", "G", "Ki", "Mi", "Gi", "Ti"]),
    factor=st.decimals("1.01", "1000", places=2),
)
def test_a_multiplied_quantity_is_enough_and_hardly_more(number: int, unit: str, factor: Decimal) -> None:
    wanted = (amount(f"{number}{unit}") or 0) * factor
    made = amount(multiplied(f"{number}{unit}", factor))
    assert made is not None
    assert wanted <= made <= wanted * Decimal("1.01") + 1 or made - wanted < 1024


def test_more_memory_multiplies_requests_and_limits() -> None:
    made = changed(with_amounts({"memory": "8Gi", "cpu": "2"}, {"memory": "10Gi"}), more_memory=Decimal(2))
    assert amounts_of(made) == ({"memory": "16Gi", "cpu": "2"}, {"memory": "20Gi"})


def test_a_limit_alone_is_multiplied() -> None:
    assert amounts_of(changed(with_amounts({}, {"memory": "1G"}), more_memory=Decimal(2))) == (None, {"memory": "2G"})


@pytest.mark.parametrize("hardware", [Hardware(), as_submitted("1xV100"), as_submitted(machine_type="n1-standard-8")])
def test_without_a_memory_request_the_error_says_what_to_write(hardware: Hardware) -> None:
    with pytest.raises(UsageError) as caught:
        changed(spec_of(hardware), more_memory=Decimal(2))
    assert caught.value.id == "no-memory-recorded"
    assert str(caught.value.hint).endswith("--min_mem 16000")


def test_a_request_above_the_limit_raises_the_limit() -> None:
    made = changed(with_amounts({"cpu": "1"}, {"memory": "4Gi", "cpu": "2"}), min_mem=8000, min_cpu=4000)
    assert amounts_of(made) == ({"cpu": "4000m", "memory": "8000M"}, {"memory": "8000M", "cpu": "4000m"})


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        (as_submitted(), {"machine_type": "n1-standard-8"}, as_submitted(machine_type="n1-standard-8")),
        (
            as_submitted(machine_type="n1-standard-8"),
            {"machine_type": "n1-standard-16"},
            as_submitted(machine_type="n1-standard-16"),
        ),
        (as_submitted("1xT4"), {"gpu_spec": "2xV100"}, as_submitted("2xV100")),
        (as_submitted("1xT4"), {"nogpu": True}, as_submitted()),
        (as_submitted("1xT4"), {"nonpreemptible": True}, as_submitted("1xT4", is_spot=False)),
        (as_submitted(is_spot=False), {"spot": True}, as_submitted()),
        (FLEX, {"gpu_spec": "2xL4"}, replace(as_submitted("2xL4", is_spot=False), is_flex_start=True)),
        (FLEX, {"spot": True}, as_submitted("1xL4")),
        (FLEX, {"nonpreemptible": True}, as_submitted("1xL4", is_spot=False)),
        (replace(as_submitted("1xT4"), accelerator=TPU), {"gpu_spec": "1xL4"}, as_submitted("1xL4")),
    ],
)
def test_changed_hardware_is_what_the_submitting_command_would_request(
    before: Hardware, request_: dict[str, Any], after: Hardware
) -> None:
    assert changed(spec_of(before), **request_) == spec_of(after)


def test_requests_that_are_no_defaults_stay_on_another_machine() -> None:
    made = changed(spec_of(Hardware(None, "n1-standard-8", 2000, 5000)), machine_type="n1-standard-16")
    assert amounts_of(made)[0] == {"cpu": "2000m", "memory": "5000M"}


def test_the_same_request_changes_nothing() -> None:
    spec = spec_of(as_submitted("2xV100", "n1-standard-8"))
    assert changed(spec, gpu_spec="2xV100", machine_type="n1-standard-8", spot=True) == spec


def test_labels_and_tolerations_of_others_stay() -> None:
    spec = job_spec.with_nodes(spec_of(Hardware()), {"team": "vision"}, [{"key": "team", "operator": "Exists"}])
    pod = changed(spec, gpu_spec="1xT4", spot=True)["template"]["spec"]
    assert pod["nodeSelector"]["team"] == "vision"
    assert [each["key"] for each in pod["tolerations"]] == ["cloud.google.com/gke-spot", "nvidia.com/gpu", "team"]


def test_types_of_gpus_are_for_gke() -> None:
    with pytest.raises(UsageError) as caught:
        changed(spec_of(Hardware(any_gpu())), is_gke=False, gpu_spec="1xT4")
    assert caught.value.id == "gpu-type-elsewhere"
    assert amounts_of(changed(spec_of(Hardware(any_gpu())), is_gke=False, gpu_spec="2"))[1] == {"nvidia.com/gpu": "2"}


def test_a_job_of_caliban_0_4_2_gets_more_memory() -> None:
    requests, _ = amounts_of(dict(PEER_SPEC))
    made = changed(PEER_SPEC, more_memory=Decimal(2))
    assert amount(amounts_of(made)[0]["memory"]) == 2 * (amount(requests["memory"]) or 0)


def test_preemptible_nodes_of_caliban_0_4_2_become_regular_ones() -> None:
    selector = {"cloud.google.com/gke-preemptible": "true"}
    spec = job_spec.with_nodes(spec_of(Hardware()), selector, [{"key": next(iter(selector)), "operator": "Equal"}])
    pod = changed(spec, nonpreemptible=True)["template"]["spec"]
    assert ("nodeSelector" in pod, "tolerations" in pod) == (False, False)


def test_malformed_specs_are_an_error() -> None:
    with pytest.raises(PlatformError) as caught:
        changed({"template": {"spec": {"containers": []}}}, min_mem=1)
    assert caught.value.id == "malformed-job-spec"


def test_settings_have_the_names_of_flags_and_resources() -> None:
    assert settings(spec_of(as_submitted("2xV100", "n1-standard-8"))) == {
        "machine_type": "n1-standard-8",
        "accelerator": "2xV100",
        "cpu": "7000m",
        "cpu_limit": None,
        "memory": None,
        "memory_limit": None,
        "spot": "on",
        "flex_start": None,
    }


def test_more_than_a_machine_has_is_refused_unless_forced() -> None:
    spec = spec_of(Hardware(None, "n1-standard-8", min_mem=20_000))
    with pytest.raises(UsageError) as caught:
        changed(spec, more_memory=Decimal(2))
    assert (caught.value.id, caught.value.cause) == (
        "machine-too-small",
        "it has 30.00 GB of memory, and the system needs a part of that",
    )
    assert amounts_of(changed(spec, more_memory=Decimal(2), machine_type="n1-standard-16"))[0]["memory"] == "40000M"
    assert amounts_of(changed(spec, more_memory=Decimal(2), force=True))[0]["memory"] == "40000M"
