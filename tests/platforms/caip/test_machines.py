from __future__ import annotations

import pytest

from caliban.errors import ExitCode, UsageError
from caliban.platforms.caip.machines import CATALOG
from caliban.platforms.google.machine_catalog import Gpu, Hardware
from tests.standins.discovery import Discovery

CENTRAL = "us-central1"


def refusal(region: str, machine_type: str, gpu: Gpu | None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        CATALOG.check(Hardware(region, machine_type, gpu))
    assert caught.value.exit_code == ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize(
    ("region", "machine_type", "gpu"),
    [
        (CATALOG.default_region, CATALOG.default_cpu_machine, None),
        (CATALOG.default_region, CATALOG.default_gpu_machine, CATALOG.default_gpu),
        ("europe-west4", "n1-standard-8", Gpu(8, "NVIDIA_TESLA_V100")),
        ("asia-southeast1", "a2-highgpu-2g", Gpu(2, "NVIDIA_TESLA_A100")),
        ("us-west1", "n1-highcpu-64", Gpu(4, "NVIDIA_TESLA_P100")),
        ("europe-north1", "n2-highmem-80", None),
    ],
)
def test_an_available_combination_is_accepted(region: str, machine_type: str, gpu: Gpu | None) -> None:
    CATALOG.check(Hardware(region, machine_type, gpu))


def test_an_unknown_region_is_refused_with_a_suggestion() -> None:
    error = refusal("us-centrall", "n1-standard-8", None)
    assert error.id == "unknown-region"
    assert error.message == 'AI Platform Training has no region "us-centrall"'
    assert str(error.hint).startswith("did you mean us-central1? available: us-central1, us-east1,")
    assert str(error.hint).endswith("or override this check with --force")


def test_an_unknown_machine_type_is_refused_with_the_available_ones() -> None:
    error = refusal(CENTRAL, "banana", None)
    assert error.id == "unknown-machine-type"
    assert str(error.hint).startswith("available: e2-standard-4,")


def test_a_gpu_that_the_region_does_not_have_is_refused_with_those_that_have_it() -> None:
    error = refusal("us-east4", "n1-standard-8", Gpu(1, "NVIDIA_TESLA_V100"))
    assert error.id == "gpu-not-in-region"
    assert error.message == "not available on AI Platform Training: us-east4 has no V100"
    assert error.hint == (
        "V100 is available in us-central1, us-east1, us-west1, europe-west4, asia-east1; us-east4 has P4, T4; "
        "or override this check with --force"
    )


def test_a_region_without_gpus_says_so() -> None:
    assert "europe-north1 has no GPUs" in str(refusal("europe-north1", "n1-standard-8", CATALOG.default_gpu).hint)


def test_a_count_that_the_machine_cannot_have_is_refused_with_the_possible_ones() -> None:
    error = refusal(CENTRAL, "n1-standard-16", Gpu(1, "NVIDIA_TESLA_V100"))
    assert error.id == "gpu-not-on-machine"
    assert error.message == "not available on AI Platform Training: n1-standard-16 cannot have 1xV100"
    assert error.hint == (
        "n1-standard-16 can have 2xV100, 4xV100, 8xV100; 1xV100 is available on n1-standard-4, n1-standard-8, "
        "n1-highmem-2, n1-highmem-4, n1-highmem-8; or override this check with --force"
    )


def test_a_count_that_no_machine_can_have_is_refused_with_the_possible_ones() -> None:
    error = refusal(CENTRAL, "n1-standard-8", Gpu(3, "NVIDIA_TESLA_T4"))
    assert "a machine can have 1, 2, 4 T4" in str(error.hint)


@pytest.mark.parametrize("machine_type", ["e2-standard-4", "c2-standard-60", "n1-standard-96", "a2-highgpu-1g"])
def test_a_gpu_that_the_machine_cannot_have_is_refused(machine_type: str) -> None:
    assert refusal(CENTRAL, machine_type, Gpu(1, "NVIDIA_TESLA_P100")).id == "gpu-not-on-machine"


def test_a_machine_with_built_in_gpus_is_refused_without_them() -> None:
    error = refusal(CENTRAL, "a2-highgpu-4g", None)
    assert error.hint == "add --gpu_spec 4xA100; or override this check with --force"


@pytest.mark.parametrize(
    ("machine_type", "gpu_type", "counts"),
    [
        ("n1-standard-4", "NVIDIA_TESLA_K80", (1, 2, 4, 8)),
        ("n1-highmem-32", "NVIDIA_TESLA_P4", (2, 4)),
        ("n1-standard-64", "NVIDIA_TESLA_T4", (4,)),
        ("n1-standard-64", "NVIDIA_TESLA_K80", ()),
        ("n1-highcpu-64", "NVIDIA_TESLA_K80", (8,)),
        ("n1-highmem-96", "NVIDIA_TESLA_V100", (8,)),
        ("n1-standard-8", "NVIDIA_TESLA_A100", ()),
        ("a2-megagpu-16g", "NVIDIA_TESLA_A100", (16,)),
    ],
)
def test_larger_machines_need_more_gpus(machine_type: str, gpu_type: str, counts: tuple[int, ...]) -> None:
    assert CATALOG.gpu_counts(machine_type, gpu_type) == counts


@pytest.mark.parametrize("text", ["2xV100", "2xv100", " 2xNVIDIA_TESLA_V100 ", "2xnvidia-tesla-v100"])
def test_gpus_are_parsed_from_count_and_type(text: str) -> None:
    assert CATALOG.parse_gpus(text) == Gpu(2, "NVIDIA_TESLA_V100")


@pytest.mark.parametrize("text", ["", "V100", "0xV100", "2 V100", "2xH100", "x"])
def test_malformed_gpus_are_refused_with_the_available_types(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        CATALOG.parse_gpus(text)
    assert caught.value.message == f'expected COUNTxTYPE, for example 2xP100, got "{text}"'
    assert caught.value.hint == "available types: K80, P4, P100, T4, V100, A100"


@pytest.mark.parametrize(
    ("gpu", "machine_type"),
    [
        (None, "n1-highcpu-32"),
        (Gpu(1, "NVIDIA_TESLA_P100"), "n1-standard-8"),
        (Gpu(4, "NVIDIA_TESLA_A100"), "a2-highgpu-4g"),
        (Gpu(3, "NVIDIA_TESLA_P100"), "n1-standard-8"),
    ],
)
def test_the_default_machine_can_have_the_gpus(gpu: Gpu | None, machine_type: str) -> None:
    assert CATALOG.default_machine(gpu) == machine_type


def test_every_gpu_of_the_catalog_is_in_the_api_and_available_on_a_machine() -> None:
    schema = Discovery("ml", "v1").document["schemas"]["GoogleCloudMlV1__AcceleratorConfig"]
    for name in {name for names in CATALOG.regions.values() for name in names}:
        assert f"NVIDIA_TESLA_{name}" in schema["properties"]["type"]["enum"]
        assert CATALOG.machines_for(Gpu(1, f"NVIDIA_TESLA_{name}"))


def test_every_machine_type_is_listed_once() -> None:
    assert len(set(CATALOG.machine_types)) == len(CATALOG.machine_types)
