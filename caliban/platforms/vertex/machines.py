"""Machines of Vertex AI custom training: regions, GPUs, and the machines that come with GPUs.

Sources, as of November 2026:

- regions: https://docs.cloud.google.com/vertex-ai/docs/general/locations#available-regions
- GPUs per region: https://docs.cloud.google.com/vertex-ai/docs/general/locations#accelerators, without those that are
  marked there as not available for training
- machines with GPUs: https://docs.cloud.google.com/vertex-ai/docs/training/configure-compute#machine-types and
  https://docs.cloud.google.com/compute/docs/gpus
- names of GPUs: ``GoogleCloudAiplatformV1MachineSpec.acceleratorType`` in the discovery document
"""

from __future__ import annotations

from collections.abc import Mapping

from caliban.platforms.google.machine_catalog import Catalog, Gpu

_H100, _MEGA, _H200 = "H100_80GB", "H100_MEGA_80GB", "H200_141GB"
_RTX = "RTX_PRO_6000"

_REGIONS: Mapping[str, tuple[str, ...]] = {
    "us-central1": ("T4", "L4", "P4", "P100", "V100", "A100", "A100_80GB", _H100, _MEGA, _H200, "B200", "GB200", _RTX),
    "us-east1": ("T4", "L4", "P100", "V100", "A100", "B200", _RTX),
    "us-east4": ("T4", "L4", "P4", "A100_80GB", _H100, _MEGA, _H200, "B200", "GB200", _RTX),
    "us-east5": ("A100_80GB", _H100, _MEGA, _H200),
    "us-south1": (_H200, "B200"),
    "us-west1": ("T4", "L4", "P100", "V100", _H100, _MEGA, _H200),
    "us-west2": ("T4", "P4", "B200"),
    "us-west3": ("A100", "B200"),
    "us-west4": ("T4", "A100", _H100, _MEGA),
    "northamerica-northeast1": ("T4", "P4"),
    "northamerica-northeast2": ("L4", _H100),
    "southamerica-east1": ("T4",),
    "southamerica-west1": (),
    "europe-central2": ("T4",),
    "europe-north1": (_MEGA,),
    "europe-southwest1": (),
    "europe-west1": ("T4", "P100", _H100, _MEGA, _H200),
    "europe-west2": ("T4", "L4", _H100),
    "europe-west3": ("T4", _H100, _MEGA),
    "europe-west4": ("T4", "L4", "P4", "P100", "V100", "A100", "A100_80GB", _H100, _MEGA, _H200, "B200", _RTX),
    "europe-west6": (),
    "europe-west8": (),
    "europe-west9": (),
    "europe-west12": (),
    "me-central1": (),
    "me-central2": ("L4",),
    "me-west1": ("A100",),
    "africa-south1": (),
    "asia-east1": ("T4", "P100", "V100", _MEGA),
    "asia-east2": ("T4",),
    "asia-northeast1": ("T4", _H100, _MEGA, "B200"),
    "asia-northeast2": (),
    "asia-northeast3": ("T4", "L4", "A100", _H100),
    "asia-south1": ("T4", "L4", _H100, _H200),
    "asia-south2": (_H200, _RTX),
    "asia-southeast1": ("T4", "L4", "P4", "A100", "A100_80GB", _H100, _MEGA, "B200", _RTX),
    "asia-southeast2": ("T4",),
    "australia-southeast1": ("T4", "P4", _MEGA),
    "australia-southeast2": (),
}
"""Region -> GPUs available there, by short name."""

_WITH_GPUS: Mapping[str, tuple[str, tuple[tuple[str, int], ...]]] = {
    "NVIDIA_L4": (
        "g2-standard",
        (("4", 1), ("8", 1), ("12", 1), ("16", 1), ("24", 2), ("32", 1), ("48", 4), ("96", 8)),
    ),
    "NVIDIA_RTX_PRO_6000": ("g4-standard", (("48", 1), ("96", 2), ("192", 4), ("384", 8))),
    "NVIDIA_TESLA_A100": ("a2-highgpu", (("1g", 1), ("2g", 2), ("4g", 4), ("8g", 8))),
    "NVIDIA_A100_80GB": ("a2-ultragpu", (("1g", 1), ("2g", 2), ("4g", 4), ("8g", 8))),
    "NVIDIA_H100_80GB": ("a3-highgpu", (("1g", 1), ("2g", 2), ("4g", 4), ("8g", 8))),
    "NVIDIA_H100_MEGA_80GB": ("a3-megagpu", (("8g", 8),)),
    "NVIDIA_H200_141GB": ("a3-ultragpu", (("8g", 8),)),
    "NVIDIA_B200": ("a4-highgpu", (("8g", 8),)),
    "NVIDIA_GB200": ("a4x-highgpu", (("4g", 4),)),
}
"""GPU -> the machine family that has it, and the count for each size."""

FLEX_START_GPUS = (
    *("NVIDIA_L4", "NVIDIA_TESLA_A100", "NVIDIA_A100_80GB", "NVIDIA_H100_80GB", "NVIDIA_H100_MEGA_80GB"),
    *("NVIDIA_H200_141GB", "NVIDIA_B200"),
)
"""GPUs for which jobs can wait with flex start.

Source:
https://docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/schedule-jobs-dws#requirements
"""

_HYPERDISK_ONLY = ("a3-ultragpu-", "a4-", "a4x-", "g4-")
"""Machines that do not support Persistent Disk.

Source: https://docs.cloud.google.com/compute/docs/accelerator-optimized-machines; for the first,
``GoogleCloudAiplatformV1DiskSpec.bootDiskType`` in the discovery document too.
"""

CATALOG = Catalog(
    service="Vertex AI",
    regions=_REGIONS,
    gpu_types=(*(f"NVIDIA_TESLA_{name}" for name in ("T4", "P4", "P100", "V100")), *_WITH_GPUS),
    with_gpus={
        **{
            f"{family}-{size}": Gpu(count, gpu_type)
            for gpu_type, (family, sizes) in _WITH_GPUS.items()
            for size, count in sizes
        },
        "a2-megagpu-16g": Gpu(16, "NVIDIA_TESLA_A100"),
    },
    default_region="us-central1",
    default_gpu=Gpu(1, "NVIDIA_L4"),
    default_cpu_machine="e2-standard-8",
    default_gpu_machine="g2-standard-8",
)
"""The defaults are of the newest families that need no reservation."""


def boot_disk_type(machine_type: str) -> str:
    """Return the type of boot disk for a machine: the fastest one that most machines support."""
    return "hyperdisk-balanced" if machine_type.startswith(_HYPERDISK_ONLY) else "pd-ssd"
