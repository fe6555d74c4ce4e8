"""``caliban cluster``: its commands as a person calls them, on a stand-in cluster or, for what asks nobody, on none."""

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
from tests.conftest import Caliban, ScreenContext
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
def person(context: ScreenContext, cluster: KubeApi, tmp_path: Path) -> ScreenContext:
    """Somebody whose kubeconfig has the contexts ``lab`` and, the current one, ``current``."""
    file = cluster.write_kubeconfig(tmp_path / "kubeconfig", "lab")
    cluster.write_kubeconfig(file, "current")
    return replace(context, environ={"KUBECONFIG": str(file)})


@pytest.fixture
def gke(no_google_login: None) -> Iterator[ContainerV1]:
    with ContainerV1({"totoro-project"}) as running:
        yield running


@pytest.fixture
def googler(context: ScreenContext, gke: ContainerV1, tmp_path: Path) -> ScreenContext:
    """Somebody with a key to Google Cloud, and no kubeconfig."""
    key = gke.write_key_file(tmp_path / "key.json")
    environ = {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER": gke.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
    }
    return replace(context, environ=environ)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("--cluster_name", "blueshift", "--context", "lab"), "cluster-or-context"),
        (("--zone", "us-central1-a"), "zone-without-cluster"),
        (("--gpu_spec", "1"), "gpu-or-not"),
        (("--label", "caliban.token=x"), "malformed-label"),
        (("--label", "a b=x"), "malformed-label"),
        (("--tpu_spec", "8xV5E"), "tpu-elsewhere"),
        (("--tpu_spec", "3xV5E", "--cluster_name", "blueshift"), "tpu-spec-malformed"),
        (("--context", "gone"), "unknown-context"),
        (("--export", "jobs.txt"), "export-format"),
        (("--export", "nowhere/jobs.yaml"), "export-folder-missing"),
    ],
)
def test_flags_that_are_wrong_are_told_before_any_cluster_is_asked(
    person: ScreenContext, cluster: KubeApi, home: Path, words: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(person, *GROUP, *words, *MODULE)
    assert (caught.value.id, cluster.requests) == (id, [])
    assert not (home / ".caliban").exists()


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("--gpu_spec", "2xV101"), "gpu-spec-malformed"),
        (("--gpu_spec", "2xV100"), "gpu-type-elsewhere"),
        (("--gpu_spec", "2", "--tpu_spec", "4xV5E"), "gpu-or-not"),
    ],
)
def test_gpus_that_cannot_be_had_are_told_before_any_cluster_is_asked(
    person: ScreenContext, cluster: KubeApi, words: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(person, "cluster", "job", "submit", "--image_tag", IMAGE, *words, *MODULE)
    assert (caught.value.id, cluster.requests) == (id, [])


@pytest.mark.parametrize("flag", ["--min_cpu", "--min_mem"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many"])
def test_amounts_are_whole_numbers(run_caliban: Caliban, flag: str, value: str) -> None:
    answer = run_caliban(*SUBMIT, f"{flag}={value}", "cpu.py")
    assert answer.returncode == 2
    assert f"argument {flag}: a whole number, 1 or more, is wanted, not '{value}'" in answer.stderr


def test_without_any_cluster_both_ways_to_name_one_are_told(run_caliban: Caliban) -> None:
    answer = run_caliban(*GROUP, *MODULE, env={"KUBECONFIG": ""})
    assert answer.returncode == 2
    assert "[no-cluster]" in answer.stderr
    assert "--context" in answer.stderr
    assert "--cluster_name" in answer.stderr


def test_jobs_go_to_the_current_context_where_none_is_named(
    person: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    assert call(person, *GROUP, *MODULE) == 0
    assert latest_states(store) == ["SUBMITTED", "SUBMITTED"]
    assert [dict(each.target) for each in submissions(store)] == [{"context": "current", "namespace": "default"}] * 2
    assert sorted(body["spec"]["template"]["spec"]["containers"][0]["args"][-1] for body in bodies(cluster)) == [
        "1",
        "2",
    ]


def bodies(cluster: KubeApi) -> list[Any]:
    return cluster.bodies("jobs.create")


def test_jobs_go_where_the_flags_say(person: ScreenContext, cluster: KubeApi, store: Store) -> None:
    assert call(person, *GROUP, "--context", "lab", "--namespace", "lab", *MODULE) == 0
    assert {(each.target["context"], each.target["namespace"]) for each in submissions(store)} == {("lab", "lab")}
    assert {job["metadata"]["namespace"] for job in _jobs(cluster)} == {"lab"}


def _jobs(cluster: KubeApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.control("/_standin/state", {})["jobs"]
    return found


def test_the_context_s_namespace_is_that_of_the_jobs(person: ScreenContext, cluster: KubeApi, store: Store) -> None:
    cluster.write_kubeconfig(Path(person.environ["KUBECONFIG"]), "current", namespace="lab")
    assert call(person, *GROUP, *MODULE) == 0
    assert {job["metadata"]["namespace"] for job in _jobs(cluster)} == {"lab"}


def test_the_whole_job_is_what_the_flags_say(person: ScreenContext, cluster: KubeApi, store: Store) -> None:
    words = ("--name", "My Job", "--label", "team=vision", "--min_cpu", "500", "--min_mem", "100")
    assert call(person, *SUBMIT, "--image_tag", IMAGE, *words, *MODULE) == 0
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


def test_a_job_that_is_refused_is_recorded_and_the_others_go_on(
    person: ScreenContext, cluster: KubeApi, store: Store
) -> None:
    cluster.quota = Quota("compute", 1)
    assert call(person, *GROUP, *MODULE) == 1
    assert sorted(latest_states(store)) == ["FAILED", "SUBMITTED"]
    assert "exceeded quota: compute" in person.err


def test_a_namespace_that_is_not_there_is_told_before_anything_is_built(
    person: ScreenContext, cluster: KubeApi, home: Path
) -> None:
    with pytest.raises(CalibanError) as caught:
        call(person, *GROUP, "--namespace", "gone", *MODULE)
    assert (caught.value.id, bodies(cluster)) == ("namespace-not-found", [])
    assert not (home / ".caliban").exists()


def test_an_image_that_is_to_be_built_needs_a_registry(person: ScreenContext, cluster: KubeApi) -> None:
    with pytest.raises(UsageError) as caught:
        call(person, *SUBMIT, *MODULE)
    assert (caught.value.id, cluster.requests) == ("no-registry", [])
    assert "--image_tag" in str(caught.value.hint)


def test_a_dry_run_asks_nobody_and_writes_nothing(person: ScreenContext, cluster: KubeApi, home: Path) -> None:
    assert call(person, *GROUP, "--dry_run", *MODULE) == 0
    assert cluster.requests == []
    assert not (home / ".caliban").exists()
    assert person.out.splitlines() == [
        "the following jobs would be submitted, in the experiment group resubmit_test:",
        "cpu.py --foo 3 --sleep 2",
        "cpu.py --foo 3 --sleep 1",
        "",
        f"container image: {IMAGE}",
        "each job: whatever the cluster gives",
        "cluster: that of the kubeconfig's current context",
        "",
        "nothing was submitted: to actually submit these jobs, run this command again without --dry_run",
    ]


def test_a_dry_run_of_gke_tells_what_each_job_asks_for(googler: ScreenContext, gke: ContainerV1) -> None:
    words = ("--cluster_name", "blueshift", "--image_tag", IMAGE, "--dry_run")
    assert call(googler, "cluster", "job", "submit", *words, "--gpu_spec", "2xV100", *MODULE) == 0
    assert gke.requests == []
    assert "each job: 2xV100, cpu 1500m, Spot\ncluster: blueshift on GKE\n" in googler.out


def test_a_verbose_dry_run_shows_the_jobs_as_they_would_be(person: ScreenContext, cluster: KubeApi) -> None:
    assert call(person, *GROUP, "--dry_run", "-v", *MODULE) == 0
    shown = list(yaml.safe_load_all(person.out.split("---\n", 1)[1].split("\n\nnothing")[0]))
    assert [each["metadata"]["name"] for each in shown] == ["caliban-totoro-TOKEN"] * 2
    assert [each["spec"]["template"]["spec"]["containers"][0]["args"] for each in shown] == [
        ["--foo", "3", "--sleep", "2"],
        ["--foo", "3", "--sleep", "1"],
    ]
    assert cluster.requests == []


@pytest.fixture
def exporter(context: ScreenContext, tmp_path: Path) -> ScreenContext:
    """Somebody without any cluster that can be reached."""
    return replace(context, environ={"KUBECONFIG": str(tmp_path / "none"), "DOCKER_HOST": "unix:///nowhere.sock"})


@pytest.mark.parametrize("name", ["jobs.yaml", "jobs.yml"])
def test_jobs_are_exported_as_documents_of_yaml(exporter: ScreenContext, cwd: Path, home: Path, name: str) -> None:
    assert call(exporter, *GROUP, "--export", name, *MODULE) == 0
    documents = list(yaml.safe_load_all((cwd / name).read_text()))
    assert [each["spec"]["template"]["spec"]["containers"][0]["args"][-1] for each in documents] == ["2", "1"]
    for document in documents:
        assert_valid(document)
    assert exporter.err == f"2 jobs written to {name}: kubectl apply -f {name}\n"
    assert not (home / ".caliban").exists()


def test_several_jobs_are_exported_as_a_list_of_json(exporter: ScreenContext, cwd: Path) -> None:
    assert call(exporter, *GROUP, "--export", "jobs.json", *MODULE) == 0
    exported = json.loads((cwd / "jobs.json").read_text())
    assert (exported["apiVersion"], exported["kind"], len(exported["items"])) == ("v1", "List", 2)
    for item in exported["items"]:
        assert_valid(item)


def test_one_job_is_exported_as_itself(exporter: ScreenContext, cwd: Path) -> None:
    assert call(exporter, *SUBMIT, "--image_tag", IMAGE, "--namespace", "lab", "--export", "job.json", *MODULE) == 0
    exported = json.loads((cwd / "job.json").read_text())
    assert_valid(exported)
    labels = {"caliban.group": "resubmit_test"}
    name = exported["metadata"].pop("name")
    assert re.fullmatch("caliban-totoro-[0-9a-f]{10}", name)
    assert exported["metadata"] == {"labels": labels, "namespace": "lab"}
    assert exported["spec"]["template"]["metadata"] == {"labels": labels}


@pytest.mark.parametrize(
    "words",
    [
        ("--gpu_spec", "2xA100", "--cluster_name", "blueshift"),
        ("--tpu_spec", "4xV5E", "--cluster_name", "blueshift", "--nonpreemptible"),
        ("--machine_type", "n1-standard-8", "--cluster_name", "blueshift"),
        ("--gpu_spec", "1"),
    ],
)
def test_jobs_for_special_hardware_are_exported_as_clusters_take_them(
    exporter: ScreenContext, cwd: Path, words: tuple[str, ...]
) -> None:
    command = ("cluster", "job", "submit", "--image_tag", IMAGE, *words, "--export", "job.yaml")
    assert call(exporter, *command, "cpu.py") == 0
    assert_valid(yaml.safe_load((cwd / "job.yaml").read_text()))


def test_each_exported_job_has_a_name_of_its_own(exporter: ScreenContext, cwd: Path) -> None:
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
    assert exporter.out.endswith("to actually export these jobs, run this command again without --dry_run\n")


def test_an_export_takes_the_place_of_an_earlier_one_with_the_usual_permissions(
    exporter: ScreenContext, cwd: Path
) -> None:
    (cwd / "jobs.yaml").write_text("old")
    (cwd / "usual").write_text("")
    call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    assert (cwd / "jobs.yaml").stat().st_mode == (cwd / "usual").stat().st_mode
    assert "old" not in (cwd / "jobs.yaml").read_text()


def test_an_export_that_fails_leaves_everything_as_it_was(exporter: ScreenContext, cwd: Path) -> None:
    (cwd / "jobs.yaml").write_text("old")
    before = sorted(cwd.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as a disk that is full
    try:
        with pytest.raises(CalibanError) as caught:
            call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.id == "export-failed"
    assert (sorted(cwd.iterdir()), (cwd / "jobs.yaml").read_text()) == (before, "old")


def test_an_export_in_place_of_a_folder_fails(exporter: ScreenContext, cwd: Path) -> None:
    (cwd / "jobs.yaml").mkdir()
    before = sorted(cwd.iterdir())
    with pytest.raises(CalibanError) as caught:
        call(exporter, *GROUP, "--export", "jobs.yaml", *MODULE)
    assert (caught.value.id, sorted(cwd.iterdir())) == ("export-failed", before)


def test_an_export_that_is_to_build_an_image_builds_it_after_everything_was_checked(
    context: ScreenContext, fake_engine: FakeEngine, cwd: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, *SUBMIT, "--export", "jobs.yaml", *MODULE)
    assert (caught.value.id, fake_engine.built) == ("no-registry", [])


def test_contexts_are_listed_with_the_current_one_marked(person: ScreenContext, cluster: KubeApi) -> None:
    assert call(person, "cluster", "ls") == 0
    location = person.environ["KUBECONFIG"]
    assert person.out.splitlines() == [
        f"contexts of the kubeconfig {location}:",
        f"  lab      {cluster.url}  namespace: default",
        f"* current  {cluster.url}  namespace: default",
        "",
        "for the GKE clusters of a project, name it with --project_id",
    ]
    assert cluster.requests == []


def test_clusters_of_gke_are_listed_where_there_is_no_kubeconfig(googler: ScreenContext, gke: ContainerV1) -> None:
    gke.add("totoro-project", GkeCluster("redshift", "europe-west4", status="STOPPING"))
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    assert call(googler, "cluster", "ls") == 0
    assert googler.out.splitlines() == [
        f"the kubeconfig {googler.home}/.kube/config is not there",
        "",
        "GKE clusters of project totoro-project:",
        "  blueshift  us-central1-a  RUNNING       1.33.1-gke.1000  0 nodes",
        "  redshift   europe-west4   STOPPING      1.33.1-gke.1000  0 nodes",
    ]


def test_a_project_without_clusters_says_so(googler: ScreenContext) -> None:
    assert call(googler, "cluster", "ls") == 0
    assert googler.out.endswith("project totoro-project has no GKE clusters\n")


def test_the_jobs_of_a_namespace_are_listed(person: ScreenContext, cluster: KubeApi, store: Store) -> None:
    call(person, *SUBMIT, "--image_tag", IMAGE, *MODULE)
    (job,) = _jobs(cluster)
    name, created = job["metadata"]["name"], job["metadata"]["creationTimestamp"]
    cluster.jobs.fail(name, 3)
    assert call(person, "cluster", "job", "ls") == 0
    assert person.out.splitlines()[-2:] == [
        "jobs of the cluster of the context current, namespace default:",
        f"  {name}  FAILED     {created}  group: resubmit_test  (exit code 3)",
    ]


def test_a_namespace_without_jobs_says_so(person: ScreenContext) -> None:
    assert call(person, "cluster", "job", "ls", "--namespace", "lab") == 0
    assert person.out == "no jobs in the cluster of the context current, namespace lab\n"


def test_zones_that_do_not_answer_are_named(googler: ScreenContext, gke: ContainerV1) -> None:
    gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a"))
    gke.missing_zones.add("us-central1-a")
    assert call(googler, "cluster", "ls") == 0
    assert "warning: these zones do not answer GKE, and may have more: us-central1-a\n" in googler.err


def test_a_cluster_of_gke_is_found_by_its_name_alone(googler: ScreenContext, gke: ContainerV1, store: Store) -> None:
    with KubeApi(accepts=gke.account.accepts) as cluster:
        gke.add("totoro-project", GkeCluster("blueshift", "us-central1-a", cluster))
        assert call(googler, *SUBMIT, "--image_tag", IMAGE, "--cluster_name", "blueshift", *MODULE) == 0
        (sent,) = bodies(cluster)
    assert_valid(sent)
    pod = sent["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true"}
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "31000m", "memory": "119000M"}}
    (submission,) = submissions(store)
    assert dict(submission.target) == {
        "project": "totoro-project",
        "location": "us-central1-a",
        "cluster": "blueshift",
        "namespace": "default",
    }


def test_without_any_login_to_google_a_context_is_enough(
    person: ScreenContext, cluster: KubeApi, store: Store, no_google_login: None
) -> None:
    assert call(person, *SUBMIT, "--image_tag", IMAGE, *MODULE) == 0
    assert len(bodies(cluster)) == 1
