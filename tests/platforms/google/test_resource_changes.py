"""Machines and GPUs of a re-run on Google's training services."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import UsageError
from caliban.platforms.caip.machines import CATALOG as CAIP
from caliban.platforms.google.machine_catalog import Catalog, Hardware
from caliban.platforms.google.machine_memory import larger_machine, memory_gb
from caliban.platforms.google.resource_changes import changed_hardware
from caliban.platforms.resources import ResourceRequest
from caliban.platforms.vertex.machines import CATALOG as VERTEX

GPU_MACHINES = frozenset(VERTEX.with_gpus)


def hardware(machine_type: str, gpu: str | None = None, region: str = "us-central1") -> Hardware:
    return Hardware(region, machine_type, VERTEX.parse_gpus(gpu) if gpu else None)


def changed(before: Hardware, *, catalog: Catalog = VERTEX, **request: object) -> Hardware:
    return changed_hardware(before, ResourceRequest(Path("/nowhere"), **request), catalog)  # type: ignore[arg-type]


@pytest.mark.parametrize("catalog", [VERTEX, CAIP], ids=["VERTEX", "CAIP"])
def test_the_memory_of_every_machine_is_known(catalog: Catalog) -> None:
    assert [each for each in catalog.machine_types if memory_gb(each) is None] == []


@pytest.mark.parametrize("name", ["n1-standard", "n1-standard-x", "n9-huge-4", "standard_gpu", "", "a2-highgpu-3g"])
def test_the_memory_of_other_machines_is_not_known(name: str) -> None:
    assert memory_gb(name) is None


@pytest.mark.parametrize(
    ("before", "factor", "machine_type"),
    [
        (hardware("n1-standard-4"), "2", "n1-standard-8"),
        (hardware("n1-standard-4"), "1.5", "n1-highmem-4"),
        (hardware("e2-standard-8"), "2", "e2-highmem-8"),
        (hardware("e2-standard-32"), "2", "n2-highmem-32"),
        (hardware("n1-highmem-96"), "2", "m1-megamem-96"),
        (hardware("g2-standard-8", "1xL4"), "2", "g2-standard-16"),
        (hardware("n1-standard-8", "1xT4"), "2", "n1-standard-16"),
        (hardware("a2-highgpu-1g", "1xA100_80GB"), "1.5", "a2-ultragpu-1g"),
    ],
)
def test_more_memory_is_the_smallest_machine_that_has_it(before: Hardware, factor: str, machine_type: str) -> None:
    after = changed(before, more_memory=Decimal(factor))
    assert (after.machine_type, after.gpu) == (machine_type, before.gpu)


@given(st.sampled_from(VERTEX.machine_types), st.decimals("1.1", "4", places=1))
def test_a_larger_machine_has_enough_memory_and_the_same_gpus(machine_type: str, factor: Decimal) -> None:
    gpu = VERTEX.with_gpus.get(machine_type)
    candidates = (
        VERTEX.machines_for(gpu) if gpu else [each for each in VERTEX.machine_types if each not in GPU_MACHINES]
    )
    larger = larger_machine(machine_type, factor, candidates)
    enough = [each for each in candidates if (memory_gb(each) or 0) >= (memory_gb(machine_type) or 0) * factor]
    assert larger in enough if enough else larger is None


def test_the_error_says_how_much_there_is_and_what_to_do() -> None:
    with pytest.raises(UsageError) as caught:
        changed(hardware("a2-highgpu-1g", "1xA100"), more_memory=Decimal(2))
    assert caught.value.id == "no-larger-machine"
    assert (caught.value.cause, "--gpu_spec" in (caught.value.hint or "")) == ("a2-highgpu-1g has 85 GB", True)


@pytest.mark.parametrize(
    ("before", "request_", "after"),
    [
        (hardware("n1-standard-4"), {"machine_type": "n1-standard-8"}, hardware("n1-standard-8")),
        (hardware("n1-standard-8", "1xT4"), {"gpu_spec": "2xT4"}, hardware("n1-standard-8", "2xT4")),
        (hardware("n1-standard-8", "1xT4"), {"gpu_spec": "1xL4"}, hardware("g2-standard-8", "1xL4")),
        (hardware("n1-standard-8", "1xT4"), {"nogpu": True}, hardware("n1-standard-8")),
        (hardware("g2-standard-8", "1xL4"), {"nogpu": True}, hardware("e2-standard-8")),
        (hardware("n1-standard-8", "1xT4"), {"machine_type": "g2-standard-8"}, hardware("g2-standard-8", "1xL4")),
        (hardware("g2-standard-8", "1xL4"), {"region": "us-east1"}, hardware("g2-standard-8", "1xL4", "us-east1")),
        (
            hardware("n1-standard-8", "1xT4"),
            {"gpu_spec": "1xL4", "more_memory": Decimal(2)},
            hardware("g2-standard-16", "1xL4"),
        ),
    ],
)
def test_changed_hardware(before: Hardware, request_: dict[str, Any], after: Hardware) -> None:
    assert changed(before, **request_) == after


@pytest.mark.parametrize(
    ("before", "request_", "id"),
    [
        (hardware("n1-standard-8"), {"machine_type": "n1-standrd-8"}, "unknown-machine-type"),
        (hardware("n1-standard-8"), {"region": "us-nowhere1"}, "unknown-region"),
        (hardware("n1-standard-8"), {"region": "../etc"}, "region-malformed"),
        (hardware("n1-standard-8"), {"machine_type": "g2-standard-8"}, "gpu-not-on-machine"),
        (hardware("g2-standard-8", "1xL4"), {"machine_type": "n1-standard-8"}, "gpu-not-on-machine"),
        (hardware("n1-standard-8", "1xT4"), {"region": "us-east5"}, "gpu-not-in-region"),
        (hardware("n1-standard-8", "1xT4"), {"gpu_spec": "T4"}, "gpu-spec-malformed"),
        (hardware("n1-standard-8"), {"gpu_spec": "1xT4", "machine_type": "e2-standard-8"}, "gpu-not-on-machine"),
        (hardware("n1-standard-8"), {"machine_type": "n1-standard-16", "more_memory": Decimal(2)}, "conflicting-flags"),
        (hardware("c9-new-8"), {"more_memory": Decimal(2)}, "no-memory-recorded"),
    ],
)
def test_what_the_service_does_not_offer_is_refused(before: Hardware, request_: dict[str, Any], id: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(before, **request_)
    assert caught.value.id == id


def test_force_skips_the_catalog() -> None:
    assert changed(hardware("n1-standard-8"), machine_type="c9-new-8", force=True) == hardware("c9-new-8")


def test_hardware_that_the_catalog_does_not_have_any_more_stays_where_nothing_of_it_changes() -> None:
    before = hardware("c9-old-8", region="us-old1")
    assert changed(before, timeout=60) == before
