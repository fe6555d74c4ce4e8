"""``caliban cluster job submit`` in namespaces with rules, on a stand-in cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from caliban.errors import CalibanError, UsageError
from caliban.store.database import Store
from tests.builders import latest_states, submissions
from tests.calls import call
from tests.conftest import ScreenContext
from tests.platforms.kubernetes.helpers import assert_valid
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.status import LIMIT_RANGES, NAMESPACES, QUOTAS

IMAGE = "registry.example.com/lab/cpu:1"
SUBMIT = ("cluster", "job", "submit", "--xgroup", "resubmit_test", "--nogpu", "--image_tag", IMAGE)
GPU = ("cluster", "job", "submit", "--xgroup", "resubmit_test", "--image_tag", IMAGE)
GKE = ("--cluster_name", "blueshift", "--export", "job.yaml")
MODULE = ("cpu.py", "--", "--foo", "3")
ALL_FLAGS = (
    *("--queue", "lab", "--queue_priority", "low", "--priority_class", "high", "--service_account", "trainer"),
    *("--image_pull_secret", "login", "--env", "HF_TOKEN=hunter22", "--toleration", "dedicated=ml:NoSchedule"),
    *("--node_selector", "zone=a", "--volume", "data:/data", "--limit_cpu", "2000", "--limit_mem", "900"),
    *("--run_as_user", "1000", "--job_patch", "patch.yaml"),
)


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "patch.yaml").write_text("metadata: {annotations: {cost: x}}\nspec: {ttlSecondsAfterFinished: 3600}\n")
    return cwd


@pytest.fixture
def cluster() -> Iterator[KubeApi]:
    with KubeApi("1.36", {"default"}) as running:
        yield running


@pytest.fixture
def user(context: ScreenContext, cluster: KubeApi, tmp_path: Path) -> ScreenContext:
    return replace(context, environ={"KUBECONFIG": str(cluster.write_kubeconfig(tmp_path / "kubeconfig", "lab"))})


def add(cluster: KubeApi, kind: str, **spec: Any) -> None:
    resource = {"quota": QUOTAS, "range": LIMIT_RANGES}[kind]
    cluster.state.add(resource, {"metadata": {"name": kind, "namespace": "default"}, "spec": spec})


def sent(cluster: KubeApi) -> list[Any]:
    """The jobs that were really created."""
    return [each.body for each in cluster.requests if each.method == "jobs.create" and "dryRun" not in each.query]


def container_of(job: Any) -> Any:
    return job["spec"]["template"]["spec"]["containers"][0]


def test_all_flags_are_in_the_job_and_in_that_of_a_rerun(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    assert call(user, *SUBMIT, *ALL_FLAGS, *MODULE) == 0
    (job,) = sent(cluster)
    assert_valid(job)
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab"
    assert (job["metadata"]["annotations"], job["spec"]["ttlSecondsAfterFinished"]) == ({"cost": "x"}, 3600)
    assert pod["tolerations"] == [{"key": "dedicated", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}]
    assert container_of(job)["resources"] == {
        "requests": {"cpu": "2000m", "memory": "900M"},
        "limits": {"cpu": "2000m", "memory": "900M"},
    }
    cluster.jobs.resume(job["metadata"]["name"])
    cluster.jobs.fail(job["metadata"]["name"], 3)
    (Path(user.cwd) / "patch.yaml").unlink()

    assert call(user, "resubmit", "--xgroup", "resubmit_test", "--yes") == 0

    _, again = sent(cluster)
    names = [each.pop("name") for each in (job["metadata"], again["metadata"])]
    for each in (job, again):
        for metadata in (each["metadata"], each["spec"]["template"]["metadata"]):
            metadata["labels"].pop("caliban.token")
    assert again == job
    assert names[0] != names[1]
    assert latest_states(store) == ["SUBMITTED"]


def test_a_dry_run_shows_all_but_secrets(user: ScreenContext, cluster: KubeApi) -> None:
    assert call(user, *SUBMIT, *ALL_FLAGS, "--dry_run", "-v", *MODULE) == 0
    assert cluster.requests == []
    (line,) = (line for line in user.out.splitlines() if line.startswith("each job: "))
    assert line == (
        "each job: cpu 2000m, memory 900M, cpu limit 2000m, memory limit 900M, queue lab, queue priority low, "
        "priority class high, service account trainer, image pull secret login, env HF_TOKEN, "
        "toleration dedicated=ml:NoSchedule, node zone=a, volume data at /data, user 1000, patch patch.yaml"
    )
    shown = yaml.safe_load(user.out.split("---\n", 1)[1].split("\n\nnothing")[0])
    assert container_of(shown)["env"][-1] == {"name": "HF_TOKEN", "value": "***"}
    assert shown["spec"]["ttlSecondsAfterFinished"] == 3600
    assert "hunter22" not in user.out + user.err


def test_an_export_has_everything_and_is_not_checked_with_the_cluster(
    user: ScreenContext, cluster: KubeApi, cwd: Path
) -> None:
    assert call(user, *SUBMIT, *ALL_FLAGS, "--export", "job.json", *MODULE) == 0
    assert cluster.requests == []
    exported = json.loads((cwd / "job.json").read_text())
    assert_valid(exported)
    assert container_of(exported)["env"][-1] == {"name": "HF_TOKEN", "value": "hunter22"}
    assert exported["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"


def test_the_flags_work_on_gke(user: ScreenContext, cwd: Path) -> None:
    assert call(user, *SUBMIT, *ALL_FLAGS, *GKE, "--project_id", "totoro-project", *MODULE) == 0
    exported = yaml.safe_load((cwd / "job.yaml").read_text())
    assert_valid(exported)
    selector = exported["spec"]["template"]["spec"]["nodeSelector"]
    assert selector == {"cloud.google.com/gke-spot": "true", "zone": "a"}
    assert container_of(exported)["resources"]["requests"] == {"cpu": "2000m", "memory": "900M"}


@pytest.mark.parametrize(
    ("flags", "id"),
    [
        (("--limit_cpu", "100", "--min_cpu", "200"), "limit-below-request"),
        (("--limit_mem", "100", "--min_mem", "200"), "limit-below-request"),
        (("--queue", "No"), "invalid-value"),
        (("--job_patch", "gone.yaml"), "file-not-found"),
        (("--job_patch", "cpu.py"), "malformed-job-patch"),
        (("--gpu_limit", "1"), "gpu-or-not"),
        ((*GKE, "--node_selector", "cloud.google.com/gke-spot=false"), "conflicting-flags"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_built_or_sent(
    user: ScreenContext, cluster: KubeApi, home: Path, flags: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(user, *SUBMIT, *flags, *MODULE)
    assert (caught.value.id, cluster.requests) == (id, [])
    assert not (home / ".caliban").exists()


def test_a_limit_of_gpus_of_another_kind_is_requested(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    assert call(user, *GPU, "--gpu_limit", "amd.com/gpu=2", *MODULE) == 0
    (job,) = sent(cluster)
    assert container_of(job)["resources"] == {"limits": {"amd.com/gpu": "2"}}


@pytest.mark.parametrize(("limit", "accepted"), [("2", True), ("3", False), ("amd.com/gpu=2", False)])
def test_a_limit_of_gpus_is_what_is_requested(user: ScreenContext, limit: str, accepted: bool) -> None:
    flags = (*GPU, "--gpu_spec", "2", "--gpu_limit", limit, "--dry_run", *MODULE)
    if accepted:
        assert call(user, *flags) == 0
    else:
        with pytest.raises(UsageError, match="is not what --gpu_spec 2 requests"):
            call(user, *flags)


def test_requests_and_limits_that_a_quota_requires_are_added_recorded_and_reported(
    user: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    add(cluster, "quota", hard={"limits.cpu": "1", "limits.memory": "8Gi"})
    assert call(user, *SUBMIT, "--min_mem", "500", *MODULE) == 0
    (job,) = sent(cluster)
    resources = {"requests": {"memory": "500M"}, "limits": {"cpu": "1", "memory": "500M"}}
    assert container_of(job)["resources"] == resources
    assert (
        "for the rules of the namespace default, each job has: memory 500M, cpu limit 1, memory limit 500M; "
        "others: --limit_cpu, --limit_mem\n"
    ) in user.err
    cluster.jobs.fail(job["metadata"]["name"], 3)
    assert call(user, "resubmit", "--xgroup", "resubmit_test", "--yes") == 0
    assert container_of(sent(cluster)[1])["resources"] == resources


def test_a_job_that_can_never_run_in_a_namespace_is_refused_before_it_is_recorded(
    user: ScreenContext, cluster: KubeApi, home: Path
) -> None:
    add(cluster, "range", limits=[{"type": "Container", "max": {"memory": "1Gi"}}])
    with pytest.raises(UsageError) as caught:
        call(user, *SUBMIT, "--min_mem", "5000", *MODULE)
    assert (caught.value.id, sent(cluster)) == ("outside-limit-range", [])
    assert not (home / ".caliban").exists()


def test_rules_that_the_user_may_not_read_are_no_rules(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    add(cluster, "quota", hard={"limits.cpu": "1"})
    cluster.forbidden.update({"resourcequotas.list", "limitranges.list", "namespaces.get"})
    assert call(user, *SUBMIT, *MODULE) == 0
    (job,) = sent(cluster)
    assert "resources" not in container_of(job)


def test_rules_are_read_once_for_all_jobs(user: ScreenContext, cluster: KubeApi, store: Store, cwd: Path) -> None:
    (cwd / "experiment.json").write_text('{"seed": [1, 2, 3, 4]}')
    assert call(user, *SUBMIT, "--experiment_config", "experiment.json", *MODULE) == 0
    assert (cluster.counts["resourcequotas.list"], cluster.counts["limitranges.list"]) == (1, 1)
    assert cluster.counts["jobs.create"] == 4


def test_a_namespace_that_enforces_the_restricted_profile_gets_it(
    user: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    with cluster.state.change(NAMESPACES, "", "default") as namespace:
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    assert call(user, *SUBMIT, *MODULE) == 0
    (job,) = sent(cluster)
    assert job["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container_of(job)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "add --run_as_user 1000" in user.err


def test_an_image_of_which_nothing_is_known_is_not_restricted(
    user: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    assert call(user, *SUBMIT, *MODULE) == 0
    (job,) = sent(cluster)
    assert "securityContext" not in job["spec"]["template"]["spec"]
    assert "securityContext" not in container_of(job)


@pytest.mark.parametrize(("uid", "is_restricted"), [(0, False), (1234, True)])
def test_an_image_that_is_built_here_is_restricted_unless_root_builds_it(
    user: ScreenContext, cwd: Path, monkeypatch: pytest.MonkeyPatch, uid: int, is_restricted: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    (cwd / ".calibanconfig.json").write_text('{"registry": "registry.example.com/lab"}')
    command = ("cluster", "job", "submit", "--nogpu", "--dry_run", "-v")
    assert call(user, *command, *MODULE) == 0
    assert ("runAsNonRoot: true" in user.out) == is_restricted


def test_what_the_cluster_says_to_a_patch_is_reported_before_anything_is_recorded(
    user: ScreenContext, cluster: KubeApi, cwd: Path, home: Path
) -> None:
    (cwd / "patch.yaml").write_text("spec: {ttlSeconds: 5}\n")
    with pytest.raises(CalibanError) as caught:
        call(user, *SUBMIT, "--job_patch", "patch.yaml", *MODULE)
    assert 'unknown field "spec.ttlSeconds"' in str(caught.value.cause)
    assert "--job_patch" in str(caught.value.hint)
    assert sent(cluster) == []
    assert not (home / ".caliban").exists()


def test_a_job_without_these_flags_is_not_checked_with_the_cluster_first(
    user: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    assert call(user, *SUBMIT, *MODULE) == 0
    assert cluster.counts["jobs.create"] == len(submissions(store)) == 1


@pytest.mark.parametrize(
    ("flags", "env"),
    [(("--env", "HF_TOKEN=hunter2222"), ""), ((), "env: [{name: HF_TOKEN, value: hunter2222}]")],
)
def test_a_secret_of_a_job_that_the_cluster_repeats_is_hidden(
    user: ScreenContext, cluster: KubeApi, cwd: Path, flags: tuple[str, ...], env: str
) -> None:
    own = f"spec: {{containers: [{{name: '*', {env}}}]}}"
    (cwd / "patch.yaml").write_text(f"spec: {{activeDeadlineSeconds: hunter2222, template: {{{own}}}}}\n")
    with pytest.raises(CalibanError) as caught:
        call(user, *SUBMIT, *flags, "--job_patch", "patch.yaml", *MODULE)
    assert "hunter2222" not in f"{caught.value.message} {caught.value.cause}"
