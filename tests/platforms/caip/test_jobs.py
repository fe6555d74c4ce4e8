from __future__ import annotations

import re
import string
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import PlatformError
from caliban.platforms.caip import job_spec as caip_job_spec
from caliban.platforms.caip.platform import CaipPlatform
from caliban.platforms.google import labels as google_labels
from caliban.platforms.google.machine_catalog import Gpu
from tests.platforms.caip.helpers import IMAGE, NAME, NEW_IMAGE, PEER_SPEC, PROJECT, TOKEN, platform_context
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


def test_a_new_job_on_cpus_has_the_shape_that_the_peer_records() -> None:
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


def test_a_persons_labels_are_cleaned_and_win_over_flags() -> None:
    labels = new_job(labels={"Team": "Blue Shift", "foo": "mine"})["labels"]
    assert (labels["team"], labels["foo"]) == ("blueshift", "mine")


def test_nobody_replaces_calibans_own_labels() -> None:
    labels = new_job(labels={"job_name": "x", "caliban_token": "y"}, arguments=["--gpu_enabled", "true"])["labels"]
    assert (labels["job_name"], labels["gpu_enabled"]) == ("caliban_totoro", "false")
    assert "caliban_token" not in labels


def test_there_is_always_room_for_the_token() -> None:
    spec = new_job(arguments=[word for number in range(100) for word in (f"--flag{number}", "1")])
    sent = caip_job_spec.request_body(spec, NAME, TOKEN)
    assert len(google_labels.labels_of(sent)) == 64
    assert google_labels.has_token(sent, TOKEN)


def test_a_peers_job_with_every_label_used_gives_one_up_for_the_token() -> None:
    spec = {**PEER_SPEC, "labels": {f"key{number}": "" for number in range(64)}}
    sent = caip_job_spec.request_body(spec, NAME, TOKEN)
    assert list(google_labels.labels_of(sent))[-2:] == ["key62", "caliban_token"]


@given(
    st.lists(st.text(max_size=80), max_size=80),
    st.text(min_size=1, max_size=200),
    st.dictionaries(st.text(max_size=70), st.text(max_size=70)),
)
def test_whatever_a_person_writes_the_service_accepts_the_job(
    arguments: list[str], name: str, labels: dict[str, str]
) -> None:
    job = new_job(arguments=arguments, base=google_labels.job_base(name), labels=labels)
    sent = caip_job_spec.request_body(job, caip_job_spec.job_id(job, TOKEN, NOW), TOKEN)
    assert Jobs().create(PROJECT, sent)["state"] == "QUEUED"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--foo", "3", "--sleep=2"], [("foo", "3"), ("sleep", "2")]),
        (["--verbose", "--lr", "-0.1", "-v"], [("verbose", "true"), ("lr", "-0.1"), ("v", "true")]),
        (["--shift", "-.5", "--last"], [("shift", "-.5"), ("last", "true")]),
        (["data.csv", "-", "-1"], []),
        (["--", "--x="], [("x", "")]),
    ],
)
def test_flags_are_read_as_a_program_would(words: Sequence[str], expected: list[tuple[str, str]]) -> None:
    assert list(google_labels.flags(words)) == expected


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("Learning.Rate", "learning_rate", "learning_rate"),
        ("0.01", "", "0_01"),
        ("/data/Set 1", "dataset1", "dataset1"),
        ("_x-1", "x-1", "_x-1"),
        ("é", "", ""),
        ("a" * 70, "a" * 63, "a" * 63),
    ],
)
def test_labels_are_cleaned_to_what_the_service_accepts(text: str, key: str, value: str) -> None:
    assert (google_labels.label_key(text), google_labels.label_value(text)) == (key, value)


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ("caliban_totoro_2", "caliban_totoro_20200529_110259_2"),
        ("caliban_totoro_20200529_105338_1", "caliban_totoro_20200529_110259_1"),
        ("resnet", "resnet_20200529_110259_01234567"),
        ("resnet_50_3", "resnet_50_20200529_110259_3"),
    ],
)
def test_a_job_is_called_by_base_time_and_index(recorded: str, expected: str) -> None:
    assert caip_job_spec.job_id({"jobId": recorded}, TOKEN, NOW) == expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("caliban_totoro", "caliban_totoro"),
        ("caliban_j.doe@example.com", "caliban_j_doe_example_com"),
        ("50 layers", "caliban_50_layers"),
        ("___", "caliban"),
        ("a" * 200, "a" * 80),
    ],
)
def test_a_base_has_letters_digits_and_underscores(name: str, base: str) -> None:
    assert google_labels.job_base(name) == base


@given(st.text(alphabet=string.ascii_letters + string.digits + "_-. ", max_size=300))
def test_every_name_that_is_tried_is_one_that_the_service_allows(name: str) -> None:
    first = caip_job_spec.job_id({"jobId": google_labels.job_base(name) + "_123456789"}, TOKEN, NOW)
    for candidate in caip_job_spec.candidate_names(first, TOKEN):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,127}", candidate)


def test_another_image_is_put_into_the_job_and_its_label() -> None:
    changed = CaipPlatform(platform_context()).with_image(PEER_SPEC, NEW_IMAGE)
    assert caip_job_spec.image_of(changed) == NEW_IMAGE
    assert google_labels.labels_of(changed)["docker_image"] == "gcr_iototoro-project81b2087b5026latest"


def test_all_else_stays_when_the_image_changes() -> None:
    assert CaipPlatform(platform_context()).with_image(PEER_SPEC, IMAGE) == PEER_SPEC


def test_a_job_without_labels_gets_none_with_its_image() -> None:
    spec = {key: value for key, value in PEER_SPEC.items() if key != "labels"}
    assert "labels" not in caip_job_spec.with_image(spec, NEW_IMAGE)


def test_the_recorded_spec_is_never_changed_in_place() -> None:
    caip_job_spec.with_arguments(PEER_SPEC, NEW_IMAGE, ["--foo", "4"])
    assert caip_job_spec.image_of(PEER_SPEC) == IMAGE
    assert PEER_SPEC["labels"]["foo"] == "3"


def test_a_siblings_spec_is_used_with_other_arguments_and_their_labels() -> None:
    changed = CaipPlatform(platform_context()).with_arguments(PEER_SPEC, NEW_IMAGE, ["--bar", "5"])
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


def test_own_labels_stay_though_a_flag_has_the_same_name() -> None:
    spec = new_job(arguments=["--job_name", "mine"])
    assert caip_job_spec.with_arguments(spec, IMAGE, [])["labels"] == {
        key: value for key, value in spec["labels"].items() if key in ("gpu_enabled", "tpu_enabled", "job_name")
    } | {"docker_image": spec["labels"]["docker_image"]}


def test_a_spec_whose_job_takes_no_arguments_may_get_some() -> None:
    training_input = {key: value for key, value in PEER_SPEC["trainingInput"].items() if key != "args"}
    changed = caip_job_spec.with_arguments({**PEER_SPEC, "trainingInput": training_input}, IMAGE, ["--x", "1"])
    assert google_labels.labels_of(changed)["x"] == "1"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"jobId": "x"}, "it has no trainingInput"),
        ({"trainingInput": "x"}, "it has no trainingInput"),
        ({"trainingInput": {}}, "it has no masterConfig"),
        ({"trainingInput": {"masterConfig": {"imageUri": ""}}}, "masterConfig names no imageUri"),
    ],
)
def test_a_malformed_spec_is_told_with_what_it_lacks(spec: dict[str, object], problem: str) -> None:
    with pytest.raises(PlatformError) as caught:
        caip_job_spec.with_image(spec, NEW_IMAGE)
    assert caught.value.id == "malformed-job-spec"
    assert caught.value.cause == f"in the recorded job spec: {problem}"


def test_a_spec_without_a_name_cannot_be_named_anew() -> None:
    with pytest.raises(PlatformError) as caught:
        caip_job_spec.job_id({}, TOKEN, NOW)
    assert caught.value.cause == "in the recorded job spec: it has no jobId"


def test_the_console_shows_a_job_at_its_own_address() -> None:
    assert caip_job_spec.console_url(PROJECT, NAME) == (
        "https://console.cloud.google.com/mlengine/jobs/caliban_totoro_20200529_110259_1?project=totoro-project"
    )


def test_gcloud_streams_a_jobs_log() -> None:
    assert caip_job_spec.stream_logs_command(PROJECT, NAME) == (
        "gcloud ai-platform jobs stream-logs caliban_totoro_20200529_110259_1 --project totoro-project"
    )
