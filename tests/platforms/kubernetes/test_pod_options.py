"""The flags for pods, and what they come to in a job."""

from __future__ import annotations

import os
from typing import Any

import pytest

from caliban.config import ProjectConfig
from caliban.errors import PlatformError, UsageError
from caliban.platforms.kubernetes import job_spec
from caliban.platforms.kubernetes.env_secrets import is_secret, without_secrets
from caliban.platforms.kubernetes.kubeconfig_platform import KubeconfigPlatform
from caliban.platforms.kubernetes.pod_options import PodOptions, literal
from caliban.platforms.kubernetes.resources import Hardware
from caliban.platforms.kubernetes.security import Security
from tests.platforms.kubernetes.helpers import IMAGE, NAME, NEW_IMAGE, OUR_LABELS, assert_valid, platform_context

ENVIRON = {"WANDB_MODE": "offline"}


def options(**flags: object) -> PodOptions:
    return PodOptions.from_options(flags, ENVIRON)


def made(chosen: PodOptions, security: Security | None = None) -> tuple[Any, Any, Any]:
    """Return a job, its pod and its container; the job of a re-run is the same but for the image."""
    spec = job_spec.new_job_spec(
        base="lab", image=IMAGE, arguments=["--foo"], hardware=Hardware(), options=chosen, security=security
    )
    job: Any = job_spec.manifest(spec, NAME, OUR_LABELS)
    assert_valid(job)
    again: Any = job_spec.manifest(job_spec.with_image(spec, NEW_IMAGE), NAME, OUR_LABELS)
    again["spec"]["template"]["spec"]["containers"][0]["image"] = IMAGE
    assert again == job
    pod = job["spec"]["template"]["spec"]
    return job, pod, pod["containers"][0]


def test_jobs_of_a_queue_are_created_suspended_with_labels_that_pods_do_not_get() -> None:
    job, pod, _ = made(options(queue="lab", queue_priority="high"))
    queue = {"kueue.x-k8s.io/queue-name": "lab", "kueue.x-k8s.io/priority-class": "high"}
    assert job["metadata"]["labels"] == {**queue, **OUR_LABELS}
    assert job["spec"]["template"]["metadata"]["labels"] == OUR_LABELS
    assert job["spec"]["suspend"] is True
    assert "priorityClassName" not in pod


def test_without_options_a_job_is_not_suspended() -> None:
    job, pod, container = made(options())
    assert set(job["spec"]) == {"backoffLimit", "podFailurePolicy", "template"}
    assert set(pod) == {"containers", "restartPolicy", "volumes"}
    assert set(container) == {"name", "image", "args", "env", "volumeMounts"}


def test_names_of_objects_are_in_the_pod() -> None:
    _, pod, _ = made(options(priority_class="high", service_account="trainer", image_pull_secret=["a", "b.c", "a"]))
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("high", "trainer")
    assert pod["imagePullSecrets"] == [{"name": "a"}, {"name": "b.c"}]


def test_variables_have_their_values_or_those_of_this_shell() -> None:
    _, _, container = made(options(env=["A=1", "B=x=y", "WANDB_MODE", "EMPTY=", "A=2"]))
    expected = {"PYTHONUNBUFFERED": "1", "A": "2", "B": "x=y", "WANDB_MODE": "offline", "EMPTY": ""}
    assert {each["name"]: each["value"] for each in container["env"]} == expected


def test_the_user_s_own_variable_wins() -> None:
    _, _, container = made(options(env=["PYTHONUNBUFFERED=0"]))
    assert container["env"] == [{"name": "PYTHONUNBUFFERED", "value": "0"}]


@pytest.mark.parametrize(
    ("text", "sent"),
    [("a$b", "a$b"), ("pa$$word", "pa$$$$word"), ("$(HOME)/x$", "$$(HOME)/x$$"), ("", ""), ("5$", "5$")],
)
def test_kubernetes_replaces_nothing_in_values_and_arguments(text: str, sent: str) -> None:
    assert literal(text) == sent
    _, _, container = made(options(env=[f"A={text}"]))
    assert container["env"][-1]["value"] == sent
    spec = job_spec.new_job_spec(base="lab", image=IMAGE, arguments=[text], hardware=Hardware())
    for each in (spec, job_spec.with_arguments(spec, IMAGE, [text])):
        assert job_spec.container_of(each)["args"] == [sent]


@pytest.mark.parametrize(
    ("text", "toleration"),
    [
        ("dedicated=ml:NoSchedule", {"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}),
        ("dedicated=ml", {"key": "dedicated", "operator": "Equal", "value": "ml"}),
        ("dedicated=:NoExecute", {"key": "dedicated", "operator": "Equal", "value": "", "effect": "NoExecute"}),
        (
            "lab.example.com/gpu:PreferNoSchedule",
            {"key": "lab.example.com/gpu", "operator": "Exists", "effect": "PreferNoSchedule"},
        ),
        ("dedicated", {"key": "dedicated", "operator": "Exists"}),
    ],
)
def test_tolerations_are_written_as_taints(text: str, toleration: dict[str, str]) -> None:
    _, pod, _ = made(options(toleration=[text, text]))
    assert pod["tolerations"] == [toleration]


def test_nodes_are_selected_by_labels() -> None:
    _, pod, _ = made(options(node_selector=["zone=a", "lab.example.com/fast=true", "empty="]))
    assert pod["nodeSelector"] == {"zone": "a", "lab.example.com/fast": "true", "empty": ""}


def test_volumes_are_mounted() -> None:
    _, pod, container = made(options(volume=["data:/data:ro", "runs/me/1:/runs/", "data/raw:/raw:rw"]))
    assert pod["volumes"][1:] == [
        {"name": "volume-1", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "volume-2", "persistentVolumeClaim": {"claimName": "runs"}},
    ]
    assert container["volumeMounts"][1:] == [
        {"name": "volume-1", "mountPath": "/data", "readOnly": True},
        {"name": "volume-2", "mountPath": "/runs", "subPath": "me/1"},
        {"name": "volume-1", "mountPath": "/raw", "subPath": "raw"},
    ]


@pytest.mark.parametrize("user", [None, 1000])
def test_the_restricted_profile(user: int | None) -> None:
    _, pod, container = made(options(), Security(user))
    expected: dict[str, object] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["securityContext"] == (expected if user is None else {**expected, "runAsUser": user})
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


MALFORMED = [
    *[
        (name, value)
        for name in ("queue", "priority_class", "service_account")
        for value in ("", "A", "a b", "-a", "a/b")
    ],
    ("queue", "q" * 64),
    ("image_pull_secret", [""]),
    ("image_pull_secret", ["Not-A-Name"]),
    *[("env", [value]) for value in ("", "=x", "1A=x", "A B=x", "..=x", "A", "A=\0", "A=\udce4")],
    *[("toleration", [value]) for value in ("", ":NoSchedule", "a=b:Never", "a:", "a b", "=x", "a=b c", "a/b/c")],
    *[("node_selector", [value]) for value in ("", "a", "=x", "a=b c", "a b=c", "a=-")],
    *[
        ("volume", [value])
        for value in (
            *("", "data", "data:", ":/data", "data:data", "data:/", "data:/a/../b", "data:/data:rx", "data:/data:"),
            *(
                "Data:/data",
                "data/:/data",
                "data/../x:/data",
                "data//x:/data",
                "/home:/data",
                "data:/a:ro:x",
                "data:/./a",
            ),
        )
    ],
]


@pytest.mark.parametrize(("flag", "value"), MALFORMED)
def test_a_malformed_value_is_refused_with_the_flag_and_what_to_write(flag: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        options(**{flag: value})
    assert (caught.value.id, caught.value.message.partition(":")[0].partition(" ")[0]) == ("invalid-value", f"--{flag}")
    assert caught.value.hint


@pytest.mark.parametrize(
    "flags",
    [
        {"queue_priority": "high"},
        {"node_selector": ["zone=a", "zone=b"]},
        {"volume": ["data:/data", "runs:/data"]},
        {"volume": ["data:/data", "data:/data/:ro"]},
        {"volume": ["data:/dev/shm"]},
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        options(**flags)
    assert caught.value.id == "conflicting-flags"


def test_an_error_does_not_show_the_value_of_a_variable() -> None:
    with pytest.raises(UsageError) as caught:
        options(env=["1A=hunter2"])
    assert "hunter2" not in str(caught.value.message)
    assert "hunter2" not in repr(options(env=["A=hunter2"]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_TOKEN", "x"),
        ("WANDB_API_KEY", "x"),
        ("PGPASSWORD", "x"),
        ("DB_PASS", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("openai.apikey", "x"),
        ("DATABASE_URL", "postgresql://totoro:hunter2@db/lab"),
        ("X", "ya29.a0AfH6SMBexample"),
        ("X", "-----BEGIN RSA PRIVATE KEY-----\nMII"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_where_a_job_is_shown(name: str, value: str) -> None:
    assert is_secret(name, value)
    spec = job_spec.new_job_spec(
        base="lab", image=IMAGE, arguments=[], hardware=Hardware(), options=options(env=[f"{name}={value}"])
    )
    shown: Any = without_secrets(spec)
    assert shown["template"]["spec"]["containers"][0]["env"][-1] == {"name": name, "value": "***"}
    assert job_spec.container_of(spec)["env"][-1]["value"] == value  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_MODE", "offline"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("MAX_NEW_TOKENS", "100"),
        ("MONKEY", "x"),
        ("KEYBOARD", "x"),
        ("DATABASE_URL", "postgresql://db/lab"),
        ("COMPASS", "x"),
        ("AUTHOR", "x"),
    ],
)
def test_other_variables_are_shown(name: str, value: str) -> None:
    assert not is_secret(name, value)


@pytest.mark.parametrize("spec", [{}, {"template": None}, {"template": {"spec": {"containers": [None, {"env": [1]}]}}}])
def test_a_spec_of_another_shape_is_shown_too(spec: dict[str, Any]) -> None:
    assert without_secrets(spec) == spec


@pytest.mark.parametrize(
    ("uid", "security", "is_refused"),
    [(0, Security(), True), (0, Security(1000), False), (0, None, False), (1234, Security(), False)],
)
def test_no_image_is_built_that_the_job_would_not_start(
    monkeypatch: pytest.MonkeyPatch, uid: int, security: Security | None, is_refused: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    spec = job_spec.new_job_spec(base="lab", image=IMAGE, arguments=[], hardware=Hardware(), security=security)
    platform = KubeconfigPlatform(platform_context())
    if is_refused:
        with pytest.raises(PlatformError) as caught:
            platform.image_platform(ProjectConfig(), spec)
        assert caught.value.id == "image-as-root"
    else:
        assert platform.image_platform(ProjectConfig(), spec) == "linux/amd64"
