"""Resource flags, and the requests and node labels that they come to."""

from __future__ import annotations

import pytest

from caliban.errors import UsageError
from caliban.platforms.kubernetes.resources import (
    Hardware,
    accelerator_in,
    any_gpu,
    default_requests,
    parse_gpu_limit,
    parse_gpu_spec,
    parse_tpu_spec,
    without_tolerations,
)


@pytest.mark.parametrize(
    ("text", "count", "label"),
    [
        ("1xK80", 1, "nvidia-tesla-k80"),
        ("2xV100", 2, "nvidia-tesla-v100"),
        ("2xv100", 2, "nvidia-tesla-v100"),
        ("8xNVIDIA_TESLA_T4", 8, "nvidia-tesla-t4"),
        ("1xnvidia-l4", 1, "nvidia-l4"),
        ("1xA100", 1, "nvidia-tesla-a100"),
        ("1xA100-80GB", 1, "nvidia-a100-80gb"),
        ("8xnvidia-h100-80gb", 8, "nvidia-h100-80gb"),
        ("8xH100_MEGA", 8, "nvidia-h100-mega-80gb"),
        ("8xnvidia-h200-141gb", 8, "nvidia-h200-141gb"),
    ],
)
def test_gpus_of_a_type_are_selected_by_gke_s_label(text: str, count: int, label: str) -> None:
    parsed = parse_gpu_spec(text, is_gke=True)
    assert (parsed.count, parsed.resource) == (count, "nvidia.com/gpu")
    assert parsed.selector == {"cloud.google.com/gke-accelerator": label}


@pytest.mark.parametrize("is_gke", [True, False])
def test_a_count_of_gpus_is_of_any_type_on_any_cluster(is_gke: bool) -> None:
    parsed = parse_gpu_spec("2", is_gke=is_gke)
    assert (parsed.count, parsed.type, parsed.selector) == (2, None, {})


@pytest.mark.parametrize("text", ["", "0", "0xV100", "-1", "100xV100", "V100", "2x", "2xV101", "2 V100", "2.5"])
@pytest.mark.parametrize("is_gke", [True, False])
def test_a_malformed_gpu_spec_is_refused_with_the_types(text: str, is_gke: bool) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gpu_spec(text, is_gke=is_gke)
    assert (caught.value.id, caught.value.message) == (
        "gpu-spec-malformed",
        f'expected COUNTxTYPE for --gpu_spec, got "{text}"',
    )
    assert "K80, P4, P100, V100, T4, L4, A100, " in str(caught.value.hint)


def test_gpu_types_are_supported_on_gke_only() -> None:
    with pytest.raises(UsageError) as caught:
        parse_gpu_spec("2xV100", is_gke=False)
    assert (caught.value.id, caught.value.message, caught.value.hint) == (
        "gpu-type-elsewhere",
        "GPUs of the type V100 can be requested on GKE only",
        "use --gpu_spec 2 for any type, or choose a GKE cluster with --cluster_name instead of a context",
    )


@pytest.mark.parametrize(
    ("text", "label", "topology"),
    [
        ("4xV4", "tpu-v4-podslice", "2x2x1"),
        ("1xV5E", "tpu-v5-lite-podslice", "1x1"),
        ("4xtpu-v5e", "tpu-v5-lite-podslice", "2x2"),
        ("4xV5P", "tpu-v5p-slice", "2x2x1"),
        ("8xtpu_v6e", "tpu-v6e-slice", "2x4"),
    ],
)
def test_tpus_are_selected_by_type_and_topology(text: str, label: str, topology: str) -> None:
    parsed = parse_tpu_spec(text, is_gke=True)
    assert parsed.resource == "google.com/tpu"
    assert parsed.selector == {
        "cloud.google.com/gke-tpu-accelerator": label,
        "cloud.google.com/gke-tpu-topology": topology,
    }


@pytest.mark.parametrize("text", ["", "8", "V5E", "3xV5E", "8xV2", "0xV5E", "4xV100", "x4xV5E"])
def test_tpus_that_no_machine_has_are_refused_with_the_choices(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tpu_spec(text, is_gke=True)
    assert caught.value.id == "tpu-spec-malformed"
    assert caught.value.hint == "choose one of 4xV4, 1xV5E, 4xV5E, 8xV5E, 4xV5P, 1xV6E, 4xV6E, 8xV6E, 4xV7X"


@pytest.mark.parametrize("is_gke", [True, False])
@pytest.mark.parametrize(
    "text",
    ["16xV5E", "8xV4", "8xV5P", "12xV5P", "64xV6E", "256xV6E", "8xV7X", "32xV2", "2048xV3", "4x4xV6E", "2x2x2xV4"],
)
def test_tpus_of_several_machines_need_a_jobset(text: str, is_gke: bool) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tpu_spec(text, is_gke=is_gke)
    assert caught.value.id == "tpu-several-hosts"
    assert "JobSet" in str(caught.value.cause)


def test_a_topology_of_one_machine_may_be_written_too() -> None:
    assert parse_tpu_spec("2x4xV5E", is_gke=True) == parse_tpu_spec("8xV5E", is_gke=True)


@pytest.mark.parametrize(
    ("text", "count", "resource"),
    [
        ("2", 2, "nvidia.com/gpu"),
        ("nvidia.com/gpu=2", 2, "nvidia.com/gpu"),
        ("nvidia.com/mig-1g.5gb=3", 3, "nvidia.com/mig-1g.5gb"),
        ("nvidia.com/gpu.shared=1", 1, "nvidia.com/gpu.shared"),
        ("amd.com/gpu=1", 1, "amd.com/gpu"),
        ("gpu.intel.com/i915=1", 1, "gpu.intel.com/i915"),
        ("lab.example.com/fpgpu=1", 1, "lab.example.com/fpgpu"),
    ],
)
def test_gpus_are_limited_by_the_name_of_their_resource(text: str, count: int, resource: str) -> None:
    parsed = parse_gpu_limit(text)
    assert (parsed.count, parsed.resource, parsed.selector) == (count, resource, {})
    hardware = Hardware(parsed)
    assert accelerator_in(hardware.limits, {}) == parsed
    assert without_tolerations(hardware.tolerations) == []


@pytest.mark.parametrize(
    "text", ["", "0", "=1", "amd.com/gpu", "amd.com/gpu=", "amd.com/gpu=0", "cpu=2", "x/y=1", "1.5"]
)
def test_a_malformed_limit_of_gpus_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--gpu_limit: expected RESOURCE=COUNT"):
        parse_gpu_limit(text)


def test_tpus_are_supported_on_gke_only() -> None:
    with pytest.raises(UsageError) as caught:
        parse_tpu_spec("4xV5E", is_gke=False)
    assert (caught.value.id, caught.value.hint) == (
        "tpu-elsewhere",
        "choose a GKE cluster with --cluster_name instead of a context",
    )


@pytest.mark.parametrize(
    ("machine_type", "with_gpu", "requests"),
    [
        (None, False, (31_000, 119_000)),
        (None, True, (1_500, None)),
        ("n1-standard-8", False, (7_000, None)),
        ("n1-standard-8", True, (7_000, None)),
        ("n1-standard-1", False, (None, None)),
        ("e2-micro", False, (None, None)),
        ("a2-highgpu-1g", True, (None, None)),
    ],
)
def test_the_default_requests_on_gke_are_most_of_a_machine(
    machine_type: str | None, with_gpu: bool, requests: tuple[int | None, int | None]
) -> None:
    assert default_requests(any_gpu() if with_gpu else None, machine_type) == requests


@pytest.mark.parametrize(
    ("hardware", "text"),
    [
        (Hardware(), "no resource requests"),
        (Hardware(any_gpu()), "1 GPU"),
        (Hardware(parse_gpu_spec("2", is_gke=False)), "2 GPUs"),
        (
            Hardware(parse_gpu_spec("2xV100", is_gke=True), "n1-standard-8", 7000, 2000, is_spot=True),
            "2xV100, n1-standard-8, cpu 7000m, memory 2000M, Spot",
        ),
        (Hardware(parse_gpu_limit("amd.com/gpu=1")), "1xamd.com/gpu"),
        (Hardware(limit_cpu=500, limit_mem=900), "cpu limit 500m, memory limit 900M"),
    ],
)
def test_hardware_is_described_in_one_line(hardware: Hardware, text: str) -> None:
    assert str(hardware) == text
