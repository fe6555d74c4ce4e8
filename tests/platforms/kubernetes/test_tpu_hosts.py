"""TPU slices of several machines are refused, for new jobs and for re-runs."""

from __future__ import annotations

from typing import Any

import pytest

from caliban.errors import PlatformError
from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.gke_platform import GkePlatform
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.resources import Hardware, parse_tpu_spec
from caliban.platforms.kubernetes.tpu_hosts import of_one_host
from tests.platforms.kubernetes.helpers import IMAGE, NEW_IMAGE, platform_context

TOPOLOGY = "cloud.google.com/gke-tpu-topology"
PLATFORMS = (GkePlatform, KubeconfigPlatform)


def spec(limits: dict[str, object], **pod: Any) -> dict[str, Any]:
    containers = [{"name": "x", "image": IMAGE, "args": [], "resources": {"limits": limits}}]
    return {"backoffLimit": 0, "template": {"spec": {"containers": containers, **pod}}}


def affinity(*topologies: str) -> dict[str, Any]:
    rule = {"key": TOPOLOGY, "operator": "In", "values": list(topologies)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


# https://cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus, read in November 2026
SEVERAL = [
    *[("4", topology) for topology in ("2x4", "4x4", "4x8", "8x8", "8x16", "16x16", "2x2x2", "2x4x4", "8x16x16")],
    ("8", "4x4"),
    (4, "2x2x4"),
    ("1", "2x2"),
]
ONE = [
    ("1", "1x1"),
    ("4", "2x2"),
    ("8", "2x4"),
    (8, "2x4"),
    ("4", "2x2x1"),
    ("4", ""),
    ("4", "malformed"),
    ("x", "4x4"),
]


@pytest.mark.parametrize(("chips", "topology"), SEVERAL)
def test_a_machine_with_fewer_chips_than_the_topology_is_one_of_several(chips: object, topology: str) -> None:
    for pod in ({"nodeSelector": {TOPOLOGY: topology}}, {"affinity": affinity("1x1", topology)}):
        with pytest.raises(PlatformError) as caught:
            of_one_host(spec({"google.com/tpu": chips}, **pod))
        assert caught.value.id == "tpu-several-hosts"
        assert "JobSet" in str(caught.value.cause)


@pytest.mark.parametrize(("chips", "topology"), ONE)
def test_slices_of_one_machine_are_accepted(chips: object, topology: str) -> None:
    of_one_host(spec({"google.com/tpu": chips}, nodeSelector={TOPOLOGY: topology}))


@pytest.mark.parametrize("text", ["4xV4", "1xV5E", "4xV5E", "8xV5E", "4xV5P", "1xV6E", "4xV6E", "8xV6E", "4xV7X"])
def test_what_the_flag_offers_is_of_one_machine(text: str) -> None:
    hardware = Hardware(parse_tpu_spec(text, is_gke=True))
    of_one_host(job_spec.new_job_spec(base="x", image=IMAGE, arguments=[], hardware=hardware))


def test_the_chips_of_all_containers_of_a_pod_count() -> None:
    made = spec({"google.com/tpu": "2"}, nodeSelector={TOPOLOGY: "2x2x1"})
    made["template"]["spec"]["containers"] *= 2
    of_one_host(made)


@pytest.mark.parametrize("platform_type", PLATFORMS)
@pytest.mark.parametrize(
    "recorded",
    [
        spec({"cloud-tpus.google.com/preemptible-v2": 32}),
        spec({"cloud-tpus.google.com/v3": "2048"}),
        spec({"google.com/tpu": "4"}, nodeSelector={TOPOLOGY: "4x4"}),
    ],
)
def test_a_rerun_of_a_recorded_slice_of_several_machines_is_refused(
    platform_type: type[GkePlatform | KubeconfigPlatform], recorded: dict[str, Any]
) -> None:
    platform = platform_type(platform_context())
    with pytest.raises(PlatformError) as caught:
        platform.with_image(recorded, NEW_IMAGE)
    with pytest.raises(PlatformError) as again:
        platform.with_arguments(recorded, NEW_IMAGE, [])
    assert caught.value.id == again.value.id == "tpu-several-hosts"


def test_a_recorded_device_of_one_machine_is_run_again() -> None:
    recorded = spec({"cloud-tpus.google.com/preemptible-v2": 8})
    assert KubeconfigPlatform(platform_context()).with_image(recorded, NEW_IMAGE)["backoffLimit"] == 0
