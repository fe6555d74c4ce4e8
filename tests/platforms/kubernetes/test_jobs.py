"""What is sent to a cluster: whole jobs compared, and each taken by three versions of Kubernetes."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError, UsageError
from caliban.platforms.kubernetes import job_spec as jobs
from caliban.platforms.kubernetes.resources import Hardware, any_gpu, parse_gpu_spec, parse_tpu_spec
from tests.platforms.kubernetes.helpers import (
    IMAGE,
    NAME,
    NEW_IMAGE,
    OUR_LABELS,
    PEER_SPEC,
    TOKEN,
    assert_valid,
    submission,
)

RFC_1123 = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
TOKENS = st.text("0123456789abcdef", min_size=16, max_size=16)


def new_job(hardware: Hardware, **labels: str) -> dict[str, Any]:
    spec = jobs.new_job_spec(
        base="caliban-totoro", image=IMAGE, arguments=["--foo", "3"], hardware=hardware, labels=labels
    )
    return jobs.manifest(spec, "caliban-totoro-0123456789", OUR_LABELS)


def test_a_new_job_is_whole() -> None:
    made = new_job(Hardware())
    assert made == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "caliban-totoro-0123456789", "labels": OUR_LABELS},
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {"labels": OUR_LABELS},
                "spec": {
                    "containers": [
                        {
                            "name": "caliban-totoro",
                            "image": "gcr.io/totoro-project/cffd1475aaca:latest",
                            "args": ["--foo", "3"],
                            "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
                            "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
                        }
                    ],
                    "restartPolicy": "Never",
                    "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
                },
            },
        },
    }
    assert_valid(made)


def differences(made: dict[str, Any]) -> dict[str, Any]:
    """What hardware adds to a job."""
    pod, plain = made["spec"]["template"]["spec"], new_job(Hardware())["spec"]["template"]["spec"]
    container, plain_container = pod["containers"][0], plain["containers"][0]
    found = {key: value for key, value in pod.items() if key != "containers" and plain.get(key) != value}
    return found | {key: value for key, value in container.items() if plain_container.get(key) != value}


def test_a_job_with_gpus_on_spot_nodes_of_gke_asks_for_them_and_bears_their_taints() -> None:
    made = new_job(Hardware(parse_gpu_spec("2xV100", is_gke=True), min_cpu=1500, is_spot=True))
    assert differences(made) == {
        "resources": {"requests": {"cpu": "1500m"}, "limits": {"nvidia.com/gpu": "2"}},
        "nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-v100", "cloud.google.com/gke-spot": "true"},
        "tolerations": [
            {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        ],
    }
    assert_valid(made)


def test_a_job_with_tpus_asks_for_the_slice_of_one_host() -> None:
    made = new_job(Hardware(parse_tpu_spec("8xv5e", is_gke=True)))
    assert differences(made) == {
        "resources": {"limits": {"google.com/tpu": "8"}},
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
            "cloud.google.com/gke-tpu-topology": "2x4",
        },
        "tolerations": [{"key": "google.com/tpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert_valid(made)


def test_a_job_with_any_gpu_names_no_type() -> None:
    made = new_job(Hardware(any_gpu()))
    assert differences(made) == {
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert_valid(made)


def test_a_machine_cpu_and_memory_are_asked_for() -> None:
    made = new_job(Hardware(machine_type="n1-standard-8", min_cpu=7000, min_mem=20_000))
    assert differences(made) == {
        "resources": {"requests": {"cpu": "7000m", "memory": "20000M"}},
        "nodeSelector": {"node.kubernetes.io/instance-type": "n1-standard-8"},
    }
    assert_valid(made)


def test_labels_of_a_person_stand_beside_ours_on_job_and_pod() -> None:
    made = new_job(Hardware(), team="vision", **{"lab.example.com/cost": "x"})
    expected = {"team": "vision", "lab.example.com/cost": "x", **OUR_LABELS}
    assert made["metadata"]["labels"] == expected
    assert made["spec"]["template"]["metadata"]["labels"] == expected
    assert_valid(made)


def test_a_recorded_spec_is_run_again_with_another_image_and_nothing_else() -> None:
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["spec"]["containers"][0]["image"] = NEW_IMAGE
    assert jobs.with_image(PEER_SPEC, NEW_IMAGE) == expected


def test_a_sibling_s_spec_is_taken_with_other_arguments_and_nothing_else() -> None:
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["spec"]["containers"][0].update(image=NEW_IMAGE, args=["--foo", "4"])
    assert jobs.with_arguments(PEER_SPEC, NEW_IMAGE, ["--foo", "4"]) == expected


def test_a_recorded_spec_is_left_as_it_was() -> None:
    before = copy.deepcopy(PEER_SPEC)
    jobs.with_image(PEER_SPEC, NEW_IMAGE)
    jobs.with_arguments(PEER_SPEC, NEW_IMAGE, [])
    jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    assert before == PEER_SPEC


def test_a_recorded_spec_becomes_a_job_that_differs_in_labels_alone() -> None:
    made = jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["metadata"]["labels"] = OUR_LABELS
    assert made == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "labels": OUR_LABELS},
        "spec": expected,
    }
    assert_valid(made)


def test_a_pod_template_keeps_what_else_its_metadata_says() -> None:
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["metadata"] = {"annotations": {"a": "b"}, "labels": {"team": "vision"}}
    made: Any = jobs.manifest(spec, NAME, OUR_LABELS)
    metadata = {"annotations": {"a": "b"}, "labels": {"team": "vision", **OUR_LABELS}}
    assert made["spec"]["template"]["metadata"] == metadata


def test_labels_of_an_earlier_attempt_give_way_to_those_of_this_one() -> None:
    earlier: Any = jobs.manifest(PEER_SPEC, NAME, {**OUR_LABELS, "caliban.token": "0" * 16})
    again: Any = jobs.manifest(earlier["spec"], NAME, OUR_LABELS)
    assert again["metadata"]["labels"] == again["spec"]["template"]["metadata"]["labels"] == OUR_LABELS


def test_a_submission_is_told_by_its_labels() -> None:
    assert jobs.submission_labels(submission()) == OUR_LABELS


def test_the_image_of_a_recorded_spec_is_found() -> None:
    assert jobs.image_of(PEER_SPEC) == IMAGE


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "it has no template"),
        ({"template": None}, "it has no template"),
        ({"template": {}}, "it has no spec"),
        ({"template": {"spec": {}}}, "it does not have exactly one container"),
        ({"template": {"spec": {"containers": []}}}, "it does not have exactly one container"),
        ({"template": {"spec": {"containers": [{}, {}]}}}, "it does not have exactly one container"),
        ({"template": {"spec": {"containers": ["x"]}}}, "it does not have exactly one container"),
        ({"template": {"spec": {"containers": {"image": "x"}}}}, "it does not have exactly one container"),
        ({"template": {"spec": {"containers": [{"name": "x"}]}}}, "its container names no image"),
        ({"template": {"spec": {"containers": [{"image": ""}]}}}, "its container names no image"),
        ({"template": {"spec": {"containers": [{"image": 3}]}}}, "its container names no image"),
        ({"container": IMAGE, "command": ["docker", "run"]}, "it has no template"),
    ],
)
def test_a_spec_that_is_no_job_s_is_refused_with_what_is_wrong(spec: dict[str, Any], problem: str) -> None:
    for make in (
        lambda: jobs.with_image(spec, NEW_IMAGE),
        lambda: jobs.with_arguments(spec, NEW_IMAGE, []),
        lambda: jobs.image_of(spec),
        lambda: jobs.job_name(spec, TOKEN),
    ):
        with pytest.raises(PlatformError) as caught:
            make()
        assert (caught.value.id, caught.value.cause) == ("malformed-job-spec", f"in the recorded job spec: {problem}")
        assert caught.value.hint == "submit the experiment anew with caliban cluster job submit"


def test_a_job_is_called_after_its_container_and_token() -> None:
    assert jobs.job_name(PEER_SPEC, TOKEN) == NAME


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("caliban-totoro", "caliban-totoro"),
        ("My Job", "my-job"),
        ("a__b..c", "a-b-c"),
        ("--x--", "x"),
        ("Übung", "bung"),
        ("日本", "caliban"),
        ("", "caliban"),
        ("x" * 100, "x" * 40),
        ("x" * 39 + "-y", "x" * 39),
    ],
)
def test_a_name_becomes_what_clusters_take(name: str, base: str) -> None:
    assert jobs.job_base(name) == base


@given(st.text(), TOKENS)
def test_every_name_of_a_job_and_of_its_container_is_a_label_of_rfc_1123(name: str, token: str) -> None:
    base = jobs.job_base(name)
    spec = jobs.new_job_spec(base=base, image=IMAGE, arguments=[], hardware=Hardware())
    for made in (base, *jobs.candidate_names(jobs.job_name(spec, token), token)):
        assert RFC_1123.fullmatch(made)


@given(st.text(), TOKENS)
def test_a_recorded_container_s_name_whatever_it_is_makes_a_job_s_name(name: str, token: str) -> None:
    spec = {"template": {"spec": {"containers": [{"name": name, "image": IMAGE}]}}}
    assert RFC_1123.fullmatch(jobs.job_name(spec, token))


@given(st.text(), TOKENS)
def test_the_names_to_try_differ_and_are_always_the_same(name: str, token: str) -> None:
    first = f"{jobs.job_base(name)}-{token[:10]}"
    tried = jobs.candidate_names(first, token)
    assert tried == jobs.candidate_names(first, token)
    assert (tried[0], len(set(tried))) == (first, 2)


def test_the_second_name_carries_the_rest_of_the_token() -> None:
    assert jobs.candidate_names(NAME, TOKEN) == (NAME, f"{NAME}-abcdef")


@given(st.text(min_size=1))
def test_a_group_s_name_becomes_a_label_s_value(group: str) -> None:
    value = jobs.label_value(group)
    assert re.fullmatch(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", value)
    assert len(value) <= 63


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("team", "vision"),
        ("Team", "Vision_2.0"),
        ("lab.example.com/team", ""),
        ("a" * 63, "b" * 63),
        ("a" * 253 + "/x", "y"),
        ("1", "2"),
    ],
)
def test_a_label_that_a_cluster_takes_is_taken(key: str, value: str) -> None:
    jobs.check_label(key, value)
    assert_valid(new_job(Hardware(), **{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "x"),
        ("-x", "y"),
        ("x-", "y"),
        ("a" * 64, "x"),
        ("x", "b" * 64),
        ("x", "-y"),
        ("x", "a b"),
        ("x", "ü"),
        ("x", "y\n"),
        ("x\n", "y"),
        ("/x", "y"),
        ("a/", "y"),
        ("a/b/c", "y"),
        ("Lab.example.com/x", "y"),
        ("lab..example/x", "y"),
        ("lab.-x/x", "y"),
        ("a" * 254 + "/x", "y"),
        ("caliban.token", "x"),
        ("caliban.group", "x"),
        ("caliban.experiment", "x"),
    ],
)
def test_a_label_that_no_cluster_takes_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        jobs.check_label(key, value)
    assert (caught.value.id, caught.value.message) == (
        "malformed-label",
        f"{key}={value} is not a label that a cluster takes",
    )


def test_a_job_carries_the_token_that_it_was_submitted_with() -> None:
    made = jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    assert jobs.has_token(made, TOKEN)
    assert not jobs.has_token(made, "f" * 16)
    assert not jobs.has_token({"metadata": {"name": "x"}}, TOKEN)
    assert not jobs.has_token({}, TOKEN)
