"""Machines of AI Platform Training: regions, GPUs, and the machines that come with GPUs.

Sources, as of 2021, when the service was last extended:

- regions: https://cloud.google.com/ai-platform/training/docs/regions
- GPUs per region: https://cloud.google.com/compute/docs/gpus/gpu-regions-zones, whose GPUs the service uses
- machines with GPUs: https://cloud.google.com/ai-platform/training/docs/using-gpus
"""

from __future__ import annotations

from collections.abc import Mapping

from caliban.platforms.google.machine_catalog import Catalog, Gpu

_REGIONS: Mapping[str, tuple[str, ...]] = {
    "us-central1": ("K80", "P4", "P100", "V100", "T4", "A100"),
    "us-east1": ("K80", "P100", "V100", "T4"),
    "us-east4": ("P4", "T4"),
    "us-west1": ("K80", "P100", "V100", "T4"),
    "us-west2": ("P4", "T4"),
    "us-west3": (),
    "northamerica-northeast1": ("P4",),
    "southamerica-east1": ("T4",),
    "europe-north1": (),
    "europe-west1": ("K80", "P100"),
    "europe-west2": ("T4",),
    "europe-west3": ("T4",),
    "europe-west4": ("P4", "P100", "V100", "T4", "A100"),
    "europe-west6": (),
    "asia-east1": ("K80", "P100", "V100", "T4"),
    "asia-east2": (),
    "asia-northeast1": ("T4",),
    "asia-northeast2": (),
    "asia-northeast3": ("T4",),
    "asia-south1": ("T4",),
    "asia-southeast1": ("P4", "T4", "A100"),
    "australia-southeast1": ("P4", "P100", "T4"),
}
"""Region -> GPUs available there, by short name."""

CATALOG = Catalog(
    service="AI Platform Training",
    regions=_REGIONS,
    gpu_types=tuple(f"NVIDIA_TESLA_{name}" for name in ("K80", "P4", "P100", "T4", "V100", "A100")),
    with_gpus={
        "a2-highgpu-1g": Gpu(1, "NVIDIA_TESLA_A100"),
        "a2-highgpu-2g": Gpu(2, "NVIDIA_TESLA_A100"),
        "a2-highgpu-4g": Gpu(4, "NVIDIA_TESLA_A100"),
        "a2-highgpu-8g": Gpu(8, "NVIDIA_TESLA_A100"),
        "a2-megagpu-16g": Gpu(16, "NVIDIA_TESLA_A100"),
    },
    default_region="us-central1",
    default_gpu=Gpu(1, "NVIDIA_TESLA_P100"),
    default_cpu_machine="n1-highcpu-32",
    default_gpu_machine="n1-standard-8",
)
"""The defaults are those that caliban 0.4.2 documents, so that the same command costs the same."""
