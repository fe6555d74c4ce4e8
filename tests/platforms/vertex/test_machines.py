from __future__ import annotations

import pytest

from caliban.errors import UsageError
from caliban.platforms.google.machine_catalog import Gpu, Hardware, short_name
from caliban.platforms.vertex.machines import CATALOG
from tests.standins.discovery import Discovery

CENTRAL = "us-central1"
L4 = Gpu(1, "NVIDIA_L4")


def refusal(region: str, machine_type: str, gpu: Gpu | None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        CATALOG.check(Hardware(region, machine_type, gpu))
    return caught.value


@pytest.mark.parametrize(
    ("region", "machine_type", "gpu"),
    [
        (CATALOG.default_region, CATALOG.default_cpu_machine, None),
        (CATALOG.default_region, CATALOG.default_gpu_machine, CATALOG.default_gpu),
        ("europe-west4", "n1-standard-8", Gpu(8, "NVIDIA_TESLA_V100")),
        ("asia-southeast1", "a2-ultragpu-2g", Gpu(2, "NVIDIA_A100_80GB")),
        ("us-east5", "a3-megagpu-8g", Gpu(8, "NVIDIA_H100_MEGA_80GB")),
        ("europe-west9", "n2-highmem-80", None),
    ],
)
def test_an_available_combination_is_accepted(region: str, machine_type: str, gpu: Gpu | None) -> None:
    CATALOG.check(Hardware(region, machine_type, gpu))


def test_an_unknown_region_is_refused() -> None:
    assert refusal("us-centrall", "e2-standard-8", None).message == 'Vertex AI has no region "us-centrall"'


def test_a_gpu_that_a_region_has_only_for_predictions_is_refused() -> None:
    assert refusal("asia-east1", "g2-standard-8", L4).message == ("not available on Vertex AI: asia-east1 has no L4")


def test_a_built_in_gpu_is_refused_on_other_machines_with_those_that_have_it() -> None:
    error = refusal(CENTRAL, "n1-standard-8", Gpu(2, "NVIDIA_L4"))
    assert error.message == "not available on Vertex AI: n1-standard-8 cannot have 2xL4"
    assert error.hint == (
        "n1-standard-8 can have T4, P4, P100, V100; 2xL4 is available on g2-standard-24; "
        "or override this check with --force"
    )


def test_a_count_that_no_machine_has_is_refused_with_the_possible_ones() -> None:
    error = refusal(CENTRAL, "g2-standard-8", Gpu(3, "NVIDIA_L4"))
    assert (
        error.hint
        == "g2-standard-8 can have 1xL4; a machine can have 1, 2, 4, 8 L4; or override this check with --force"
    )


def test_a_machine_with_built_in_gpus_is_refused_without_them() -> None:
    error = refusal(CENTRAL, "a3-highgpu-8g", None)
    assert error.hint == "add --gpu_spec 8xH100_80GB; or override this check with --force"


def test_retired_gpus_are_on_no_machine() -> None:
    assert CATALOG.gpu_counts("n1-standard-8", "NVIDIA_TESLA_K80") == ()


@pytest.mark.parametrize(
    ("text", "gpu"),
    [
        ("2xT4", Gpu(2, "NVIDIA_TESLA_T4")),
        ("1xl4", L4),
        ("1xnvidia-l4", L4),
        ("1xA100", Gpu(1, "NVIDIA_TESLA_A100")),
        ("1xA100-80GB", Gpu(1, "NVIDIA_A100_80GB")),
        ("8xH100", Gpu(8, "NVIDIA_H100_80GB")),
        ("8xH100_MEGA", Gpu(8, "NVIDIA_H100_MEGA_80GB")),
        ("8xNVIDIA_H200_141GB", Gpu(8, "NVIDIA_H200_141GB")),
    ],
)
def test_gpus_are_parsed_by_short_or_full_name(text: str, gpu: Gpu) -> None:
    assert CATALOG.parse_gpus(text) == gpu


@pytest.mark.parametrize("text", ["1xK80", "1xH", "L4", "0xL4", "1xA100_40GB"])
def test_malformed_gpus_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected COUNTxTYPE"):
        CATALOG.parse_gpus(text)


@pytest.mark.parametrize(
    ("machine_type", "gpu", "wants_gpu", "expected"),
    [
        (None, None, True, Hardware(CENTRAL, "g2-standard-8", L4)),
        (None, None, False, Hardware(CENTRAL, "e2-standard-8", None)),
        (None, Gpu(4, "NVIDIA_L4"), True, Hardware(CENTRAL, "g2-standard-48", Gpu(4, "NVIDIA_L4"))),
        ("a2-highgpu-2g", None, True, Hardware(CENTRAL, "a2-highgpu-2g", Gpu(2, "NVIDIA_TESLA_A100"))),
        ("a2-highgpu-2g", None, False, Hardware(CENTRAL, "a2-highgpu-2g", None)),
    ],
)
def test_defaults_fit_what_the_user_chose(
    machine_type: str | None, gpu: Gpu | None, wants_gpu: bool, expected: Hardware
) -> None:
    assert CATALOG.choose(None, machine_type, gpu, wants_gpu=wants_gpu) == expected


def test_every_region_has_an_endpoint() -> None:
    endpoints = {endpoint["location"] for endpoint in Discovery("aiplatform", "v1").document["endpoints"]}
    assert set(CATALOG.regions) <= endpoints


def test_every_gpu_is_in_the_api_and_available_on_a_machine_and_in_a_region() -> None:
    schema = Discovery("aiplatform", "v1").document["schemas"]["GoogleCloudAiplatformV1MachineSpec"]
    somewhere = {name for names in CATALOG.regions.values() for name in names}
    assert set(CATALOG.gpu_types) <= set(schema["properties"]["acceleratorType"]["enum"])
    assert somewhere == {short_name(gpu_type) for gpu_type in CATALOG.gpu_types}
    for gpu_type in CATALOG.gpu_types:
        assert any(CATALOG.gpu_counts(machine_type, gpu_type) for machine_type in CATALOG.machine_types)


def test_every_machine_type_is_listed_once() -> None:
    assert len(set(CATALOG.machine_types)) == len(CATALOG.machine_types)
