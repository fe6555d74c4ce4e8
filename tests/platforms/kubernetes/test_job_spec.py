"""Jobs as they are sent: compared completely, and valid by the schemas of three versions of Kubernetes."""

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


def test_a_new_job_is_complete() -> None:
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
    """Return what hardware adds to a job."""
    pod, plain = made["spec"]["template"]["spec"], new_job(Hardware())["spec"]["template"]["spec"]
    container, plain_container = pod["containers"][0], plain["containers"][0]
    found = {key: value for key, value in pod.items() if key != "containers" and plain.get(key) != value}
    return found | {key: value for key, value in container.items() if plain_container.get(key) != value}


def test_gpus_on_spot_nodes_of_gke_are_requested_and_their_taints_tolerated() -> None:
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


def test_tpus_are_requested_as_a_slice_of_one_host() -> None:
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


def test_a_gpu_of_any_type_selects_no_nodes() -> None:
    made = new_job(Hardware(any_gpu()))
    assert differences(made) == {
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert_valid(made)


def test_machine_type_cpu_and_memory_are_requested() -> None:
    made = new_job(Hardware(machine_type="n1-standard-8", min_cpu=7000, min_mem=20_000))
    assert differences(made) == {
        "resources": {"requests": {"cpu": "7000m", "memory": "20000M"}},
        "nodeSelector": {"node.kubernetes.io/instance-type": "n1-standard-8"},
    }
    assert_valid(made)


def test_the_user_s_labels_are_on_job_and_pod_beside_ours() -> None:
    made = new_job(Hardware(), team="vision", **{"lab.example.com/cost": "x"})
    expected = {"team": "vision", "lab.example.com/cost": "x", **OUR_LABELS}
    assert made["metadata"]["labels"] == expected
    assert made["spec"]["template"]["metadata"]["labels"] == expected
    assert_valid(made)


def test_another_image_changes_nothing_else_of_a_recorded_spec() -> None:
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["spec"]["containers"][0]["image"] = NEW_IMAGE
    assert jobs.with_image(PEER_SPEC, NEW_IMAGE) == expected


def test_other_arguments_change_nothing_else_of_a_recorded_spec() -> None:
    expected = copy.deepcopy(PEER_SPEC)
    expected["template"]["spec"]["containers"][0].update(image=NEW_IMAGE, args=["--foo", "4"])
    assert jobs.with_arguments(PEER_SPEC, NEW_IMAGE, ["--foo", "4"]) == expected


def test_a_recorded_spec_is_not_modified() -> None:
    before = copy.deepcopy(PEER_SPEC)
    jobs.with_image(PEER_SPEC, NEW_IMAGE)
    jobs.with_arguments(PEER_SPEC, NEW_IMAGE, [])
    jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    assert before == PEER_SPEC


def test_the_job_of_a_recorded_spec_differs_in_labels_only() -> None:
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


def test_a_pod_template_keeps_its_other_metadata() -> None:
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["metadata"] = {"annotations": {"a": "b"}, "labels": {"team": "vision"}}
    made: Any = jobs.manifest(spec, NAME, OUR_LABELS)
    metadata = {"annotations": {"a": "b"}, "labels": {"team": "vision", **OUR_LABELS}}
    assert made["spec"]["template"]["metadata"] == metadata


def test_labels_of_an_earlier_attempt_are_replaced() -> None:
    earlier: Any = jobs.manifest(PEER_SPEC, NAME, {**OUR_LABELS, "caliban.token": "0" * 16})
    again: Any = jobs.manifest(earlier["spec"], NAME, OUR_LABELS)
    assert again["metadata"]["labels"] == again["spec"]["template"]["metadata"]["labels"] == OUR_LABELS


def test_the_labels_of_a_submission() -> None:
    assert jobs.submission_labels(submission()) == OUR_LABELS


def test_the_image_of_a_recorded_spec() -> None:
    assert jobs.image_of(PEER_SPEC) == IMAGE


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "template is missing"),
        ({"template": None}, "template is missing"),
        ({"template": {}}, "spec is missing"),
        ({"template": {"spec": {}}}, "expected exactly one container"),
        ({"template": {"spec": {"containers": []}}}, "expected exactly one container"),
        ({"template": {"spec": {"containers": [{}, {}]}}}, "expected exactly one container"),
        ({"template": {"spec": {"containers": ["x"]}}}, "expected exactly one container"),
        ({"template": {"spec": {"containers": {"image": "x"}}}}, "expected exactly one container"),
        ({"template": {"spec": {"containers": [{"name": "x"}]}}}, "the container has no image"),
        ({"template": {"spec": {"containers": [{"image": ""}]}}}, "the container has no image"),
        ({"template": {"spec": {"containers": [{"image": 3}]}}}, "the container has no image"),
        ({"container": IMAGE, "command": ["docker", "run"]}, "template is missing"),
    ],
)
def test_a_malformed_spec_is_refused_with_the_problem(spec: dict[str, Any], problem: str) -> None:
    for make in (
        lambda: jobs.with_image(spec, NEW_IMAGE),
        lambda: jobs.with_arguments(spec, NEW_IMAGE, []),
        lambda: jobs.image_of(spec),
        lambda: jobs.job_name(spec, TOKEN),
    ):
        with pytest.raises(PlatformError) as caught:
            make()
        assert (caught.value.id, caught.value.cause) == ("malformed-job-spec", problem)
        assert caught.value.hint == "submit the experiment again"


def test_the_name_of_a_job_is_that_of_its_container_with_the_token() -> None:
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
def test_a_name_is_converted_to_a_valid_one(name: str, base: str) -> None:
    assert jobs.job_base(name) == base


@given(st.text(), TOKENS)
def test_every_name_of_a_job_and_of_its_container_is_an_rfc_1123_label(name: str, token: str) -> None:
    base = jobs.job_base(name)
    spec = jobs.new_job_spec(base=base, image=IMAGE, arguments=[], hardware=Hardware())
    for made in (base, *jobs.candidate_names(jobs.job_name(spec, token), token)):
        assert RFC_1123.fullmatch(made)


@given(st.text(), TOKENS)
def test_any_recorded_container_name_makes_a_valid_job_name(name: str, token: str) -> None:
    spec = {"template": {"spec": {"containers": [{"name": name, "image": IMAGE}]}}}
    assert RFC_1123.fullmatch(jobs.job_name(spec, token))


@given(st.text(), TOKENS)
def test_the_candidate_names_differ_and_are_always_the_same(name: str, token: str) -> None:
    first = f"{jobs.job_base(name)}-{token[:10]}"
    names = jobs.candidate_names(first, token)
    assert names == jobs.candidate_names(first, token)
    assert (names[0], len(set(names))) == (first, 2)


def test_the_second_name_has_the_rest_of_the_token() -> None:
    assert jobs.candidate_names(NAME, TOKEN) == (NAME, f"{NAME}-abcdef")


@given(st.text(min_size=1))
def test_a_group_name_is_converted_to_a_valid_label_value(group: str) -> None:
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
def test_a_valid_label_is_accepted(key: str, value: str) -> None:
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
def test_an_invalid_label_is_refused(key: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        jobs.check_label(key, value)
    assert (caught.value.id, caught.value.message) == (
        "malformed-label",
        f'invalid label "{key}={value}"',
    )


def test_a_job_has_the_token_that_it_was_submitted_with() -> None:
    made = jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    assert jobs.has_token(made, NAME, TOKEN)
    assert not jobs.has_token(made, NAME, "f" * 16)
    assert not jobs.has_token({"metadata": {"name": "x"}}, NAME, TOKEN)
    assert not jobs.has_token({}, NAME, TOKEN)


@pytest.mark.parametrize("name", jobs.candidate_names(NAME, TOKEN))
def test_a_job_whose_labels_a_policy_removed_is_recognised_by_its_name(name: str) -> None:
    bare: dict[str, Any] = {"metadata": {"name": name, "labels": {"team": "vision"}}, "spec": {}}
    assert jobs.has_token(bare, NAME, TOKEN)
    assert not jobs.has_token(bare, "x-0000000000", "0" * 16)


def test_a_job_whose_labels_a_policy_changed_is_recognised_by_those_of_its_pods() -> None:
    made: Any = jobs.manifest(PEER_SPEC, NAME, OUR_LABELS)
    made["metadata"]["labels"] = {"example.com/caliban.token": TOKEN}
    assert jobs.has_token(made, NAME, TOKEN)


def test_a_job_of_the_name_with_another_token_is_not_the_submission_s() -> None:
    made = jobs.manifest(PEER_SPEC, NAME, {**OUR_LABELS, "caliban.token": "f" * 16})
    assert not jobs.has_token(made, NAME, TOKEN)


def with_containers(name: str, *names: str) -> dict[str, Any]:
    containers = [{"name": each, "image": f"image-of-{each}"} for each in names]
    return {"metadata": {"name": name}, "spec": {"template": {"spec": {"containers": containers}}}}


@pytest.mark.parametrize(
    ("job", "recorded", "own"),
    [
        (with_containers(NAME, "aa-proxy", "job-stop-test", "zz"), "job-stop-test", "job-stop-test"),
        (with_containers(NAME, "aa-proxy", "job-stop-test"), None, "job-stop-test"),
        (with_containers(NAME, "job", "job-stop-test"), None, "job-stop-test"),
        (with_containers(NAME, "job-stop-test", "job"), "job", "job"),
        (with_containers(NAME, "renamed"), "job-stop-test", "renamed"),
        (with_containers(NAME, "aa-proxy", "renamed"), "job-stop-test", None),
        (with_containers(NAME), "job-stop-test", None),
        ({}, "job-stop-test", None),
        ({"spec": {"template": {"spec": {"containers": ["x", {}]}}}}, None, None),
    ],
)
def test_the_own_container_is_found_by_name(job: dict[str, Any], recorded: str | None, own: str | None) -> None:
    assert jobs.own_container(job, recorded) == own


def test_the_image_is_that_of_the_own_container() -> None:
    job = with_containers(NAME, "aa-proxy", "main")
    assert jobs.image_in(job, "main") == "image-of-main"
    assert jobs.image_in(job, None) == "image-of-aa-proxy"
    assert jobs.image_in({}, "main") == ""
