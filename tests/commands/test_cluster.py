"""The commands of ``caliban cluster``, on a stand-in cluster; those that need no connection, without one."""

from __future__ import annotations

import json
import re
import resource
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
from tests.conftest import ForkedCaliban, ScreenContext
from tests.fakes import FakeEngine
from tests.platforms.kubernetes.helpers import assert_valid
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.kubernetes import KubeApi, Quota

IMAGE = "registry.example.com/lab/cpu:1"
SUBMIT = ("cluster", "job", "submit", "--xgroup", "resubmit_test", "--nogpu")
GROUP = (*SUBMIT, "--experiment_config", "experiment.json", "--image_tag", IMAGE)
MODULE = ("cpu.py", "--", "--foo", "3")
NOWHERE = "https://192.0.2.1:6443"


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "experiment.json").write_text('{"sleep": [2, 1]} // seconds\n')
    return cwd


@pytest.fixture
def cluster() -> Iterator[KubeApi]:
    with KubeApi("1.33", {"default", "lab"}) as running:
        yield running


@pytest.fixture
def user(context: ScreenContext, cluster: KubeApi, tmp_path: Path) -> ScreenContext:
    """A user whose kubeconfig has the contexts ``lab`` and, as the current one, ``current``."""
    file = cluster.write_kubeconfig(tmp_path / "kubeconfig", "lab")
    cluster.write_kubeconfig(file, "current")
    return replace(context, environ={"KUBECONFIG": str(file)})


@pytest.fixture
def gke(no_google_login: None) -> Iterator[ContainerV1]:
    with ContainerV1({"totoro-project"}) as running:
        yield running


@pytest.fixture
def google_user(context: ScreenContext, gke: ContainerV1, tmp_path: Path) -> ScreenContext:
    """A user with a Google Cloud key, and no kubeconfig."""
    key = gke.write_key_file(tmp_path / "key.json")
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER": gke.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
    }
    return replace(context, environ=environ)


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (("--cluster_name", "blueshift", "--context", "lab"), "cluster-or-context"),
        (("--zone", "us-central1-a"), "zone-without-cluster"),
        (("--gpu_spec", "1"), "gpu-or-not"),
        (("--label", "caliban.token=x"), "malformed-label"),
        (("--label", "a b=x"), "malformed-label"),
        (("--tpu_spec", "8xV5E"), "tpu-elsewhere"),
        (("--flex_start",), "flex-start-unavailable"),
        (("--tpu_spec", "3xV5E", "--cluster_name", "blueshift"), "tpu-spec-malformed"),
        (("--context", "gone"), "unknown-context"),
        (("--export", "jobs.txt"), "export-format"),
        (("--export", "nowhere/jobs.yaml"), "export-folder-missing"),
    ],
)
def test_wrong_flags_are_refused_before_any_request(
    user: ScreenContext, cluster: KubeApi, home: Path, arguments: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(user, *GROUP, *arguments, *MODULE)
    assert (caught.value.id, cluster.requests) == (id, [])
    assert not (home / ".caliban").exists()


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (("--gpu_spec", "2xV101"), "gpu-spec-malformed"),
        (("--gpu_spec", "2xV100"), "gpu-type-elsewhere"),
        (("--gpu_spec", "2", "--tpu_spec", "4xV5E"), "gpu-or-not"),
    ],
)
def test_unsupported_gpus_are_refused_before_any_request(
    user: ScreenContext, cluster: KubeApi, arguments: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(user, "cluster", "job", "submit", "--image_tag", IMAGE, *arguments, *MODULE)
    assert (caught.value.id, cluster.requests) == (id, [])


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("--min_cpu", "thousandths of a CPU, such as 1500"), ("--min_mem", "megabytes, such as 4000, or 4G or 4Gi")],
)
@pytest.mark.parametrize("value", ["0", "many"])
def test_amounts_are_positive(forked_caliban: ForkedCaliban, flag: str, expected: str, value: str) -> None:
    answer = forked_caliban(*SUBMIT, f"{flag}={value}", "cpu.py")
    assert answer.returncode == 2
    assert f'{flag}: expected {expected}, got "{value}"' in answer.stderr


def test_without_any_cluster_the_hint_has_both_ways_to_choose_one(forked_caliban: ForkedCaliban) -> None:
    answer = forked_caliban(*GROUP, *MODULE, env={"KUBECONFIG": ""})
    assert answer.returncode == 2
    assert "[no-cluster]" in answer.stderr
    assert "--context" in answer.stderr
    assert "--cluster_name" in answer.stderr


def test_jobs_go_to_the_current_context_by_default(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    assert call(user, *GROUP, *MODULE) == 0
    assert latest_states(store) == ["SUBMITTED", "SUBMITTED"]
    places = [(each.destination["context"], each.destination["namespace"]) for each in submissions(store)]
    assert places == [("current", "default")] * 2
    assert sorted(body["spec"]["template"]["spec"]["containers"][0]["args"][-1] for body in bodies(cluster)) == [
        "1",
        "2",
    ]


def bodies(cluster: KubeApi) -> list[Any]:
    return cluster.bodies("jobs.create")


def test_jobs_go_to_the_chosen_context_and_namespace(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    assert call(user, *GROUP, "--context", "lab", "--namespace", "lab", *MODULE) == 0
    assert {(each.destination["context"], each.destination["namespace"]) for each in submissions(store)} == {
        ("lab", "lab")
    }
    assert {job["metadata"]["namespace"] for job in _jobs(cluster)} == {"lab"}


def _jobs(cluster: KubeApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.control("/_standin/state", {})["jobs"]
    return found


def test_the_default_namespace_is_that_of_the_context(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    cluster.write_kubeconfig(Path(user.environ["KUBECONFIG"]), "current", namespace="lab")
    assert call(user, *GROUP, *MODULE) == 0
    assert {job["metadata"]["namespace"] for job in _jobs(cluster)} == {"lab"}


def test_the_complete_job_follows_the_flags(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    flags = ("--name", "My Job", "--label", "team=vision", "--min_cpu", "500", "--min_mem", "100")
    assert call(user, *SUBMIT, "--image_tag", IMAGE, *flags, *MODULE) == 0
    (submission,), (sent,) = submissions(store), bodies(cluster)
    labels = {
        "team": "vision",
        "caliban.token": submission.token,
        "caliban.group": "resubmit_test",
        "caliban.experiment": "1",
    }
    assert sent == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"my-job-{submission.token[:10]}", "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {
                            "name": "my-job",
                            "image": IMAGE,
                            "args": ["--foo", "3"],
                            "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}],
                            "resources": {"requests": {"cpu": "500m", "memory": "100M"}},
                            "volumeMounts": [{"name": "shared-memory", "mountPath": "/dev/shm"}],
                        }
                    ],
                    "restartPolicy": "Never",
                    "volumes": [{"name": "shared-memory", "emptyDir": {"medium": "Memory"}}],
                },
            },
        },
    }
    assert_valid(sent)


def test_a_refused_job_is_recorded_and_the_others_are_submitted(
    user: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    cluster.quota = Quota("compute", 1)
    assert call(user, *GROUP, *MODULE) == 1
    assert sorted(latest_states(store)) == ["FAILED", "SUBMITTED"]
    assert "exceeded quota: compute" in user.err


def test_a_missing_namespace_is_an_error_before_anything_is_built(
    user: ScreenContext, cluster: KubeApi, home: Path
) -> None:
    with pytest.raises(CalibanError) as caught:
        call(user, *GROUP, "--namespace", "gone", *MODULE)
    assert (caught.value.id, bodies(cluster)) == ("namespace-not-found", [])
    assert not (home / ".caliban").exists()


def test_building_an_image_requires_a_registry(user: ScreenContext, cluster: KubeApi) -> None:
    with pytest.raises(UsageError) as caught:
        call(user, *SUBMIT, *MODULE)
    assert (caught.value.id, cluster.requests) == ("no-registry", [])
    assert "--image_tag" in str(caught.value.hint)


def test_a_dry_run_sends_and_writes_nothing(user: ScreenContext, cluster: KubeApi, home: Path) -> None:
    assert call(user, *GROUP, "--dry_run", *MODULE) == 0
    assert cluster.requests == []
    assert not (home / ".caliban").exists()
    assert user.out.splitlines() == [
        "the following jobs would be submitted, in the experiment group resubmit_test:",
        "cpu.py --foo 3 --sleep 2",
        "cpu.py --foo 3 --sleep 1",
        "",
        f"container image: {IMAGE}",
        "each job: no resource requests",
        "cluster: current context of the kubeconfig",
        "",
        "nothing was submitted: to submit these jobs, run this command without --dry_run",
    ]


def test_a_dry_run_for_gke_shows_the_requests_of_each_job(google_user: ScreenContext, gke: ContainerV1) -> None:
    flags = ("--cluster_name", "blueshift", "--image_tag", IMAGE, "--dry_run")
    assert call(google_user, "cluster", "job", "submit", *flags, "--gpu_spec", "2xV100", *MODULE) == 0
    assert gke.requests == []
    assert "each job: 2xV100, cpu 1500m, Spot\ncluster: blueshift on GKE\n" in google_user.out


def test_a_verbose_dry_run_shows_the_jobs_as_yaml(user: ScreenContext, cluster: KubeApi) -> None:
    assert call(user, *GROUP, "--dry_run", "-v", *MODULE) == 0
    shown = list(yaml.safe_load_all(user.out.split("---\n", 1)[1].split("\n\nnothing")[0]))
    assert [each["metadata"]["name"] for each in shown] == ["caliban-totoro-TOKEN"] * 2
    assert [each["spec"]["template"]["spec"]["containers"][0]["args"] for each in shown] == [
        ["--foo", "3", "--sleep", "2"],
        ["--foo", "3", "--sleep", "1"],
    ]
    assert cluster.requests == []


@pytest.fixture
def exporter(context: ScreenContext, tmp_path: Path) -> ScreenContext:
    """A user who can reach neither a cluster nor a Docker daemon."""
    return replace(context, environ={"KUBECONFIG": str(tmp_path / "none"), "DOCKER_HOST": "unix:///nowhere.sock"})


@pytest.mark.parametrize("name", ["jobs.yaml", "jobs.yml"])
def test_jobs_are_exported_as_yaml_documents(exporter: ScreenContext, cwd: Path, home: Path, name: str) -> None:
    assert call(exporter, *GROUP, "--export", name, *MODULE) == 0
    documents = list(yaml.safe_load_all((cwd / name).read_text()))
    assert [each["spec"]["template"]["spec"]["containers"][0]["args"][-1] for each in documents] == ["2", "1"]
    for document in documents:
        assert_valid(document)
    assert exporter.err == f"wrote 2 jobs to {name}; submit with: kubectl apply -f {name}\n"
    assert not (home / ".caliban").exists()


def test_several_jobs_are_exported_as_a_json_list(exporter: ScreenContext, cwd: Path) -> None:
    assert call(exporter, *GROUP, "--export", "jobs.json", *MODULE) == 0
    exported = json.loads((cwd / "jobs.json").read_text())
    assert (exported["apiVersion"], exported["kind"], len(exported["items"])) == ("v1", "List", 2)
    for item in exported["items"]:
        assert_valid(item)


def test_one_job_is_exported_without_a_list(exporter: ScreenContext, cwd: Path) -> None:
    assert call(exporter, *SUBMIT, "--image_tag", IMAGE, "--namespace", "lab", "--export", "job.json", *MODULE) == 0
    exported = json.loads((cwd / "job.json").read_text())
    assert_valid(exported)
    labels = {"caliban.group": "resubmit_test"}
    name = exported["metadata"].pop("name")
    assert re.fullmatch("caliban-totoro-[0-9a-f]{10}", name)
    assert exported["metadata"] == {"labels": labels, "namespace": "lab"}
    assert exported["spec"]["template"]["metadata"] == {"labels": labels}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gpu_spec", "2xA100", "--cluster_name", "blueshift"),
        ("--tpu_spec", "4xV5E", "--cluster_name", "blueshift", "--nonpreemptible"),
        ("--machine_type", "n1-standard-8", "--cluster_name", "blueshift"),
        ("--gpu_spec", "1"),
    ],
)
def test_exported_jobs_with_accelerators_are_valid(
    exporter: ScreenContext, cwd: Path, arguments: tuple[str, ...]
) -> None:
    command = ("cluster", "job", "submit", "--image_tag", IMAGE, *arguments, "--export", "job.yaml")
    assert call(exporter, *command, "cpu.py") == 0
    assert_valid(yaml.safe_load((cwd / "job.yaml").read_text()))


def test_a_job_with_flex_start_selects_such_nodes_and_no_spot_nodes(exporter: ScreenContext, cwd: Path) -> None:
    flags = ("--gpu_spec", "1xL4", "--cluster_name", "blueshift", "--flex_start")
    assert call(exporter, "cluster", "job", "submit", "--image_tag", IMAGE, *flags, "--export", "j.json", "cpu.py") == 0
    pod = json.loads((cwd / "j.json").read_text())["spec"]["template"]["spec"]
    labels = {"gke-accelerator": "nvidia-l4", "gke-flex-start": "true"}
    assert pod["nodeSelector"] == {f"cloud.google.com/{name}": value for name, value in labels.items()}
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu"]


def test_each_exported_job_has_a_unique_name(exporter: ScreenContext, cwd: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        call(exporter, *GROUP, "--export", name, *MODULE)
    names = [
        each["metadata"]["name"]
        for name in ("a.yaml", "b.yaml")
        for each in yaml.safe_load_all((cwd / name).read_text())
    ]
    assert len(set(names)) == 4


def test_a_dry_run_of_an_export_writes_nothing(exporter: ScreenContext, cwd: Path) -> None:
    assert call(exporter, *GROUP, "--export", "jobs.yaml", "--dry_run", *MODULE) == 0
    assert not (cwd / "jobs.yaml").exists()
    assert exporter.out.endswith("to export these jobs, run this command without --dry_run\n")


def test_an_export_replaces_an_earlier_one_with_default_permissions(exporter: ScreenContext, cwd: Path) -> None:
    (cwd / "jobs.yaml").write_text("old")
    (cwd / "usual").write_text("")
    call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    assert (cwd / "jobs.yaml").stat().st_mode == (cwd / "usual").stat().st_mode
    assert "old" not in (cwd / "jobs.yaml").read_text()


def test_a_failed_export_leaves_all_files_unchanged(exporter: ScreenContext, cwd: Path) -> None:
    (cwd / "jobs.yaml").write_text("old")
    before = sorted(cwd.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # like a full disk
    try:
        with pytest.raises(CalibanError) as caught:
            call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.id == "export-failed"
    assert (sorted(cwd.iterdir()), (cwd / "jobs.yaml").read_text()) == (before, "old")


def test_an_export_over_a_directory_fails(exporter: ScreenContext, cwd: Path) -> None:
    (cwd / "jobs.yaml").mkdir()
    before = sorted(cwd.iterdir())
    with pytest.raises(CalibanError) as caught:
        call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    assert (caught.value.id, sorted(cwd.iterdir())) == ("export-failed", before)


def test_an_export_checks_the_registry_before_it_builds_an_image(
    context: ScreenContext, fake_engine: FakeEngine, cwd: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, *SUBMIT, "--export", "jobs.yaml", *MODULE)
    assert (caught.value.id, fake_engine.built) == ("no-registry", [])


def test_contexts_are_listed_with_a_mark_at_the_current_one(user: ScreenContext, cluster: KubeApi) -> None:
    assert call(user, "cluster", "ls") == 0
    location = user.environ["KUBECONFIG"]
    assert user.out.splitlines() == [
        f"contexts of the kubeconfig {location}:",
        f"  lab      {cluster.url}  namespace: default",
        f"* current  {cluster.url}  namespace: default",
        "",
        "for the GKE clusters of a project, add --project_id",
    ]
    assert cluster.requests == []


def test_gke_clusters_are_listed_without_a_kubeconfig(google_user: ScreenContext, gke: ContainerV1) -> None:
    gke.add("totoro-project", GkeCluster("redshift", "europe-west4", status="STOPPING"))
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    assert call(google_user, "cluster", "ls") == 0
    assert google_user.out.splitlines() == [
        f"no kubeconfig: {google_user.home}/.kube/config",
        "",
        "GKE clusters of project totoro-project:",
        "  blueshift  us-central1-a  RUNNING       1.33.1-gke.1000  0 nodes",
        "  redshift   europe-west4   STOPPING      1.33.1-gke.1000  0 nodes",
    ]


def test_a_project_without_clusters_is_reported(google_user: ScreenContext) -> None:
    assert call(google_user, "cluster", "ls") == 0
    assert google_user.out.endswith("project totoro-project has no GKE clusters\n")


def test_the_jobs_of_a_namespace_are_listed(user: ScreenContext, cluster: KubeApi, store: Store) -> None:
    call(user, *SUBMIT, "--image_tag", IMAGE, *MODULE)
    (job,) = _jobs(cluster)
    name, created = job["metadata"]["name"], job["metadata"]["creationTimestamp"]
    cluster.jobs.fail(name, 3)
    assert call(user, "cluster", "job", "ls") == 0
    assert user.out.splitlines()[-2:] == [
        "jobs of the cluster of the context current, namespace default:",
        f"  {name}  FAILED     {created}  group: resubmit_test  (exit code 3)",
    ]


def test_a_namespace_without_jobs_is_reported(user: ScreenContext) -> None:
    assert call(user, "cluster", "job", "ls", "--namespace", "lab") == 0
    assert user.out == "no jobs in the cluster of the context current, namespace lab\n"


def test_zones_that_did_not_respond_are_a_warning(google_user: ScreenContext, gke: ContainerV1) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    gke.missing_zones.add("us-central1-a")
    assert call(google_user, "cluster", "ls") == 0
    assert "warning: these zones did not respond to GKE and may have more clusters: us-central1-a\n" in google_user.err


def test_a_gke_cluster_is_found_by_its_name(google_user: ScreenContext, gke: ContainerV1, store: Store) -> None:
    with KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        assert call(google_user, *SUBMIT, "--image_tag", IMAGE, "--cluster_name", "blueshift", *MODULE) == 0
        (sent,) = bodies(cluster)
    assert_valid(sent)
    pod = sent["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "31000m", "memory": "119000M"}}
    (submission,) = submissions(store)
    assert {key: submission.destination[key] for key in ("project", "location", "cluster", "namespace")} == {
        "project": "totoro-project",
        "location": "us-central1-a",
        "cluster": "blueshift",
        "namespace": "default",
    }


def test_a_context_needs_no_google_credentials(
    user: ScreenContext, cluster: KubeApi, store: Store, no_google_login: None
) -> None:
    assert call(user, *SUBMIT, "--image_tag", IMAGE, *MODULE) == 0
    assert len(bodies(cluster)) == 1
