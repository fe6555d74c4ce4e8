from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError
from caliban.platforms.caip import job_spec as caip_job_spec
from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.machine_catalog import Gpu
from tests.platforms.caip.helpers import IMAGE, NAME, NEW_IMAGE, PEER_SPEC
from tests.platforms.google.helpers import PROJECT, TOKEN
from tests.standins.jobs import Jobs

NOW = datetime(2020, 5, 29, 11, 2, 59)


def new_job(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "base": "caliban_totoro",
        "index": 2,
        "image": IMAGE,
        "region": "us-central1",
        "machine_type": "n1-highcpu-32",
        "gpu": None,
        "arguments": ["--foo", "3", "--sleep", "2"],
    }
    return caip_job_spec.training_job(**{**given, **changes})


def test_a_new_job_on_cpus_has_the_shape_of_caliban_0_4_2() -> None:
    assert new_job() == {
        "jobId": "caliban_totoro_2",
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "caliban_totoro",
            "docker_image": "gcr_iototoro-projectcffd1475aacalatest",
            "foo": "3",
            "sleep": "2",
        },
        "trainingInput": {
            "masterConfig": {
                "imageUri": IMAGE,
                "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
            },
            "scaleTier": "CUSTOM",
            "masterType": "n1-highcpu-32",
            "region": "us-central1",
            "args": ["--foo", "3", "--sleep", "2"],
        },
    }


def test_a_new_job_on_gpus_asks_for_them() -> None:
    job = new_job(gpu=Gpu(2, "NVIDIA_TESLA_V100"), machine_type="n1-standard-8")
    assert job["trainingInput"]["masterConfig"]["acceleratorConfig"] == {"count": 2, "type": "NVIDIA_TESLA_V100"}
    assert job["labels"]["gpu_enabled"] == "true"


def test_labels_of_the_user_override_those_of_flags() -> None:
    labels = new_job(labels={"Team": "Blue Shift", "foo": "mine"})["labels"]
    assert (labels["team"], labels["foo"]) == ("blueshift", "mine")


def test_labels_of_caliban_cannot_be_replaced() -> None:
    labels = new_job(labels={"job_name": "x", "caliban_token": "y"}, arguments=["--gpu_enabled", "true"])["labels"]
    assert (labels["job_name"], labels["gpu_enabled"]) == ("caliban_totoro", "false")
    assert "caliban_token" not in labels


def test_there_is_always_room_for_the_token() -> None:
    spec = new_job(arguments=[word for number in range(100) for word in (f"--flag{number}", "1")])
    sent = google_labels.request_body(spec, "jobId", NAME, TOKEN)
    assert len(google_labels.labels_of(sent)) == 64
    assert google_labels.has_token(sent, TOKEN)


def test_a_recorded_job_with_the_maximum_of_labels_loses_one_for_the_token() -> None:
    spec = {**PEER_SPEC, "labels": {f"key{number}": "" for number in range(64)}}
    sent = google_labels.request_body(spec, "jobId", NAME, TOKEN)
    assert list(google_labels.labels_of(sent))[-2:] == ["key62", "caliban_token"]


@given(
    st.lists(st.text(max_size=80), max_size=80),
    st.text(min_size=1, max_size=200),
    st.dictionaries(st.text(max_size=70), st.text(max_size=70)),
)
def test_whatever_the_user_writes_the_service_accepts_the_job(
    arguments: list[str], name: str, labels: dict[str, str]
) -> None:
    job = new_job(arguments=arguments, base=google_labels.job_base(name), labels=labels)
    sent = google_labels.request_body(job, "jobId", google_labels.full_name(job["jobId"], TOKEN, NOW), TOKEN)
    assert Jobs().create(PROJECT, sent)["state"] == "QUEUED"


def test_another_image_is_put_into_the_job_and_its_label() -> None:
    changed = caip_job_spec.with_image(PEER_SPEC, NEW_IMAGE)
    assert caip_job_spec.image_of(changed) == NEW_IMAGE
    assert google_labels.labels_of(changed)["docker_image"] == "gcr_iototoro-project81b2087b5026latest"


def test_a_job_without_labels_gets_none_with_its_image() -> None:
    spec = {key: value for key, value in PEER_SPEC.items() if key != "labels"}
    assert "labels" not in caip_job_spec.with_image(spec, NEW_IMAGE)


def test_the_spec_of_a_sibling_gets_other_arguments_and_their_labels() -> None:
    changed = caip_job_spec.with_arguments(PEER_SPEC, NEW_IMAGE, ["--bar", "5"])
    assert changed == {
        **PEER_SPEC,
        "labels": {
            "gpu_enabled": "false",
            "tpu_enabled": "false",
            "job_name": "caliban_totoro",
            "docker_image": "gcr_iototoro-project81b2087b5026latest",
            "bar": "5",
        },
        "trainingInput": {
            **PEER_SPEC["trainingInput"],
            "masterConfig": {
                "imageUri": NEW_IMAGE,
                "acceleratorConfig": {"count": 0, "type": "ACCELERATOR_TYPE_UNSPECIFIED"},
            },
            "args": ["--bar", "5"],
        },
    }


def test_labels_of_caliban_stay_if_a_flag_has_the_same_name() -> None:
    spec = new_job(arguments=["--job_name", "mine"])
    assert caip_job_spec.with_arguments(spec, IMAGE, [])["labels"] == {
        key: value for key, value in spec["labels"].items() if key in ("gpu_enabled", "tpu_enabled", "job_name")
    } | {"docker_image": spec["labels"]["docker_image"]}


def test_a_spec_without_arguments_can_get_some() -> None:
    training_input = {key: value for key, value in PEER_SPEC["trainingInput"].items() if key != "args"}
    changed = caip_job_spec.with_arguments({**PEER_SPEC, "trainingInput": training_input}, IMAGE, ["--x", "1"])
    assert google_labels.labels_of(changed)["x"] == "1"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"jobId": "x"}, "trainingInput is missing"),
        ({"trainingInput": "x"}, "trainingInput is missing"),
        ({"trainingInput": {}}, "masterConfig is missing"),
        ({"trainingInput": {"masterConfig": {"imageUri": ""}}}, "masterConfig has no imageUri"),
    ],
)
def test_a_malformed_spec_is_reported_with_what_is_missing(spec: dict[str, object], problem: str) -> None:
    with pytest.raises(PlatformError) as caught:
        caip_job_spec.with_image(spec, NEW_IMAGE)
    assert caught.value.id == "malformed-job-spec"
    assert caught.value.cause == f"in the recorded job spec: {problem}"
