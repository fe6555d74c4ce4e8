"""The walkthrough of caliban_resubmit.rst on Kubernetes, with a real Docker Engine, registry and client libraries.

The clusters and GKE are stand-ins. They validate requests as strictly as the real ones, and run the image of each
accepted job on the Docker Engine, so that the state of a job is that of its container.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CommandResult, Researcher, wait_until
from tests.e2e.test_peer import peer
from tests.platforms.kubernetes.helpers import PEER_DETAILS, PEER_SPEC, PEER_STORE, assert_valid
from tests.standins.container_v1 import ContainerV1, GkeCluster
from tests.standins.faults import Fault
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.requests import keep, prepared_job
from tests.standins.kubernetes.runners import Docker

PROJECT = "totoro-project"
FLAGS = (
    *("--xgroup", "resubmit_test", "--nogpu", "--experiment_config", "experiment.json"),
    *("cpu.py", "--", "--foo", "3"),
)
SUBMIT = ("cluster", "job", "submit")
RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
STATUS = ("status", "--xgroup", "resubmit_test")
GKE_FLAGS = ("--cluster_name", "blueshift", "--nonpreemptible", "--min_cpu", "100", "--min_mem", "100")


@pytest.fixture
def repository(researcher: Researcher, registry: str, base_image: str) -> str:
    """The repository to which the project's images are pushed."""
    path = f"{registry}/{PROJECT}"
    researcher.write(".calibanconfig.json", json.dumps({"base_image": base_image, "registry": path}))
    return path


@pytest.fixture
def lab(researcher: Researcher, repository: str, no_google: None) -> Iterator[KubeApi]:
    """A cluster in the researcher's kubeconfig."""
    with KubeApi("1.33", {"default", "lab"}, runner=Docker(["docker"], os.environ)) as cluster:
        (researcher.home / ".kube").mkdir()
        cluster.write_kubeconfig(researcher.home / ".kube" / "config", "lab")
        yield cluster


@pytest.fixture
def no_google(researcher: Researcher) -> None:
    """No Google credentials."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "PROJECT_ID", "KUBECONFIG"):
        researcher.environ.pop(name, None)
    researcher.environ["CLOUDSDK_CONFIG"] = str(researcher.home / "gcloud")


@pytest.fixture
def gke(researcher: Researcher, repository: str, no_google: None) -> Iterator[ContainerV1]:
    """GKE, and the researcher's key file for it."""
    with ContainerV1({PROJECT}) as service:
        key = service.write_key_file(researcher.home / "key.json")
        researcher.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER"] = service.url
        researcher.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
        yield service


@pytest.fixture
def blueshift(gke: ContainerV1) -> Iterator[KubeApi]:
    """The GKE cluster that caliban 0.4.2 recorded, the second in the list of clusters."""
    docker = Docker(["docker"], os.environ)
    with KubeApi("1.33", accepts=gke.account.accepts, runner=docker) as cluster:
        cluster.access.tokens.clear()
        gke.add(PROJECT, GkeCluster("another", "asia-east1"))
        gke.add(PROJECT, GkeCluster("blueshift", "us-central1-a", cluster))
        yield cluster


@pytest.fixture
def wait_for_jobs(researcher: Researcher) -> Callable[..., CommandResult]:
    """Wait until every job of the group has ended, and return the last listing."""

    def wait(*arguments: str) -> CommandResult:
        results: list[CommandResult] = []

        def none_runs() -> bool:
            results.append(researcher.caliban(*(arguments or STATUS)))
            return not re.search(" (SUBMITTED|RUNNING) ", results[-1].out)

        wait_until(none_runs)
        return results[-1]

    return wait


def normalized(result: CommandResult, repository: str) -> list[str]:
    """Return standard output with the user document's registry, dates and hashes."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2020-05-29 10:53:40", result.out)
    text = re.sub(
        rf"{repository}/[0-9a-f]{{12}}@sha256:[0-9a-f]{{12}}(?![0-9a-f])", f"gcr.io/{PROJECT}/cffd1475aaca:latest", text
    )
    text = re.sub(r"job \d ", "job N ", text)  # jobs are submitted concurrently
    text = re.sub(r"caliban-totoro-[0-9a-f]{10}", "caliban-totoro-0123456789", text)
    return text.splitlines()


def walkthrough(
    researcher: Researcher,
    repository: str,
    wait_for_jobs: Callable[..., CommandResult],
    platform: str,
    *submit: str,
) -> None:
    submitted = researcher.caliban(*submit, *FLAGS)
    assert submitted.code == 0, submitted.err
    assert "Submitting request!" in submitted.err

    before = wait_for_jobs()
    job = f"{platform} 2020-05-29 10:53:40 container: gcr.io/{PROJECT}/cffd1475aaca:latest name: "
    failure = f"    job N        FAILED    {job}caliban-totoro-0123456789"
    assert normalized(before, repository)[:5] == [
        "xgroup resubmit_test:",
        f"docker config 1: job_mode: CPU, build url: {researcher.project}, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 2",
        f"    job N        SUCCEEDED {job}caliban-totoro-0123456789",
        "  experiment id 2: cpu.py --foo 3 --sleep 1",
    ]
    assert normalized(before, repository)[5].startswith(failure)
    assert "exit code 1" in before.out

    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = researcher.caliban(*RESUBMIT, stdin="y\n")
    assert resubmitted.code == 0, resubmitted.err
    shown = normalized(resubmitted, repository)
    assert shown[:2] == ["the following jobs would be resubmitted:", "cpu.py --foo 3 --sleep 1"]
    assert shown[2].startswith(failure.replace("    job", "  job"))
    question = resubmitted.err.index("\n do you wish to resubmit these 1 jobs? [yN]: y\n")
    assert question < resubmitted.err.index("rebuilding containers...") < resubmitted.err.index("Submitting request!")

    states = re.findall(rf"job (\d+) +(\w+) +{platform.strip()} .* container: (\S+)", wait_for_jobs().out)
    assert [state for _, state, _ in states] == ["SUCCEEDED", "SUCCEEDED"]
    assert states[1][0] == "3"
    first, rerun = (image for _, _, image in states)
    assert first != rerun, "the fixed code runs in a new image"


def test_the_walkthrough_on_a_kubeconfig_context(
    researcher: Researcher, lab: KubeApi, repository: str, wait_for_jobs: Callable[..., CommandResult]
) -> None:
    walkthrough(researcher, repository, wait_for_jobs, "KUBERNETES", *SUBMIT, "--context", "lab")
    assert {researcher.details(job)["context"] for job in (1, 2, 3)} == {"lab"}
    for body in lab.bodies("jobs.create"):
        assert_valid(body)


def test_the_walkthrough_on_gke(
    researcher: Researcher, blueshift: KubeApi, repository: str, wait_for_jobs: Callable[..., CommandResult]
) -> None:
    walkthrough(researcher, repository, wait_for_jobs, "     GKE", *SUBMIT, *GKE_FLAGS)
    zones = {researcher.details(job)["cluster_zone"] for job in (1, 2, 3)}
    assert zones == {"us-central1-a"}


TRAINER = """
import sys
print(sys.argv[1:])
sys.exit("a coding error")
"""


@pytest.fixture
def peer_group(researcher: Researcher, blueshift: KubeApi, base_image: str, repository: str, tmp_path: Path) -> Path:
    """The project of the experiment that caliban 0.4.2 ran on GKE in the group ``mixed``; its job has failed.

    The recorded build directory is replaced, as it does not exist on this machine; the other experiments of the group,
    which ran elsewhere, are moved to another group.
    """
    project = tmp_path / "trainer-project"
    (project / "trainer").mkdir(parents=True)
    (project / "data").mkdir()
    (project / "data" / "x").write_text("")
    (project / "trainer" / "__init__.py").write_text("")
    (project / "trainer" / "train.py").write_text(TRAINER)
    researcher.store.parent.mkdir()
    shutil.copy(PEER_STORE, researcher.store)
    with sqlite3.connect(researcher.store) as store:
        ((text,),) = store.execute("SELECT spec FROM container_specs WHERE id = 3")
        config = {"base_image": base_image, "registry": repository}
        spec = {**json.loads(text), "build_path": str(project), "caliban_config": config, "requirements_path": None}
        store.execute("UPDATE container_specs SET spec = ? WHERE id = 3", [json.dumps(spec)])
        store.execute("UPDATE experiments SET xgroup_id = 3 WHERE xgroup_id = 1 AND id != 6")
    metadata = PEER_DETAILS["job"]["metadata"]
    body = {"metadata": {"name": metadata["name"]}, "spec": copy.deepcopy(PEER_SPEC)}
    job = prepared_job(body, "default", version="1.33", manager="caliban", admit=lambda name: None)
    job["metadata"]["uid"] = metadata["uid"]
    keep(blueshift.state, job, is_dry_run=False)
    for _ in range(5):
        blueshift.jobs.fail(metadata["name"], 3)
    return project


def test_a_gke_group_of_caliban_0_4_2_is_rerun_on_its_recorded_cluster(
    researcher: Researcher, peer_group: Path, blueshift: KubeApi, wait_for_jobs: Callable[..., CommandResult]
) -> None:
    status = ("status", "--xgroup", "mixed")
    before = researcher.caliban(*status)
    assert re.search(r"job 7 +FAILED +GKE .*exit code 3", before.out), before.out + before.err

    train = peer_group / "trainer" / "train.py"
    train.write_text(train.read_text().replace('sys.exit("a coding error")', ""))
    result = researcher.caliban("resubmit", "--xgroup", "mixed", "--yes")

    assert result.code == 0, result.err
    after = wait_for_jobs(*status)
    assert re.search(r"job 10 +SUCCEEDED +GKE ", after.out), after.out
    ((token, name, image),) = researcher.rows(
        "SELECT token, name, container FROM submissions JOIN jobs ON job_id = jobs.id"
    )
    labels = {"caliban.token": token, "caliban.group": "mixed", "caliban.experiment": "6"}
    spec = copy.deepcopy(PEER_SPEC)
    spec["template"]["metadata"]["labels"] = labels
    spec["template"]["spec"]["containers"][0]["image"] = image
    assert image != PEER_SPEC["template"]["spec"]["containers"][0]["image"]
    assert blueshift.bodies("jobs.create") == [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}, "spec": spec}
    ]
    assert re.fullmatch("job-stop-test-[0-9a-f]{10}", str(name))
    details: Any = researcher.details(10)
    assert {key: details[key] for key in ("cluster_name", "cluster_zone", "project_id")} == {
        key: PEER_DETAILS[key] for key in ("cluster_name", "cluster_zone", "project_id")
    }


def test_a_deleted_cluster_is_reported_and_no_other_cluster_is_used(
    researcher: Researcher, peer_group: Path, gke: ContainerV1, blueshift: KubeApi
) -> None:
    researcher.caliban("status", "--xgroup", "mixed")
    gke.remove(PROJECT, "us-central1-a", "blueshift")
    gke.add(PROJECT, GkeCluster("blueshift", "europe-west4", blueshift))

    result = researcher.caliban("resubmit", "--xgroup", "mixed", "--yes")

    assert result.code == 1
    assert f"project {PROJECT} has no GKE cluster blueshift in us-central1-a" in result.err
    assert blueshift.bodies("jobs.create") == []


def test_a_refused_job_is_recorded_with_its_reason_and_the_others_are_submitted(
    researcher: Researcher, lab: KubeApi, wait_for_jobs: Callable[..., CommandResult]
) -> None:
    lab.faults.add(Fault("jobs.create", "status", status=403, message="not for you"))

    result = researcher.caliban(*SUBMIT, *FLAGS)

    assert result.code == 1
    assert "not for you" in result.err
    assert sorted(researcher.rows("SELECT state FROM submissions")) == [("DONE",), ("FAILED",)]
    assert "not for you" in wait_for_jobs().out


def test_a_job_is_submitted_once_after_a_lost_response(researcher: Researcher, lab: KubeApi) -> None:
    lab.faults.add(Fault("jobs.create", "drop"))

    result = researcher.caliban(*SUBMIT, *FLAGS)

    assert result.code == 0, result.err
    assert len(lab.control("/_standin/state", {})["jobs"]) == 2
    assert researcher.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_stop_stops_running_jobs(researcher: Researcher, lab: KubeApi) -> None:
    researcher.write("experiment.json", '{"sleep": [6000]}')
    researcher.caliban(*SUBMIT, *FLAGS)
    wait_until(lambda: " RUNNING " in researcher.caliban(*STATUS).out)

    stopped = researcher.caliban("stop", "--xgroup", "resubmit_test", stdin="y\n")

    assert stopped.code == 0, stopped.err
    assert lab.control("/_standin/state", {})["jobs"] == []
    assert " STOPPED " in researcher.caliban(*STATUS).out
    assert "cpu.py --foo 3 --sleep 6000" in researcher.caliban(*RESUBMIT, "--dry_run").out


def test_the_log_command_and_the_console_page_are_shown(researcher: Researcher, blueshift: KubeApi) -> None:
    result = researcher.caliban(*SUBMIT, *GKE_FLAGS, *FLAGS)

    details: Any = researcher.details(1)
    name = details["job"]["metadata"]["name"]
    context = f"gke_{PROJECT}_us-central1-a_blueshift"
    assert f"kubectl --context {context} --namespace default logs --follow job/{name}" in result.err
    page = f"https://console.cloud.google.com/kubernetes/job/us-central1-a/blueshift/default/{name}/details"
    assert page in result.err


def test_exported_jobs_equal_submitted_jobs_except_for_names_and_labels(
    researcher: Researcher, lab: KubeApi, repository: str
) -> None:
    file = researcher.home / "jobs.json"  # a file in the project directory would change the image
    researcher.caliban(*SUBMIT, "--export", str(file), *FLAGS)
    researcher.caliban(*SUBMIT, *FLAGS)

    exported = json.loads(file.read_text())["items"]

    def without_labels(job: Any) -> Any:
        spec = {**job["spec"], "template": {**job["spec"]["template"], "metadata": {}}}
        return json.dumps(spec, sort_keys=True)

    assert sorted(map(without_labels, exported)) == sorted(map(without_labels, lab.bodies("jobs.create")))
    assert lab.counts["jobs.create"] == 2


def test_caliban_0_4_2_reads_a_store_with_our_gke_jobs(
    researcher: Researcher, blueshift: KubeApi, gke: ContainerV1, wait_for_jobs: Callable[..., CommandResult]
) -> None:
    researcher.caliban(*SUBMIT, *GKE_FLAGS, *FLAGS)
    wait_for_jobs()
    researcher.write(".calibanconfig.json", "{}")  # caliban 0.4.2 does not know the key registry

    done = peer(researcher, *STATUS)

    states = re.findall(r"experiment id (\d)|(SUCCEEDED|FAILED) +GKE .* name: caliban-totoro-", done.stderr)
    assert states == [("1", ""), ("", "SUCCEEDED"), ("2", ""), ("", "FAILED")]


def test_caliban_0_4_2_reads_the_other_groups_of_a_store_with_our_kubernetes_jobs(
    researcher: Researcher, lab: KubeApi
) -> None:
    """It cannot show a group with such jobs, because it does not know the platform."""
    image = ("--image_tag", "localhost:1/no/such:image")
    researcher.caliban(*SUBMIT, "--xgroup", "elsewhere", *image, "--nogpu", "cpu.py")
    researcher.caliban("run", "--xgroup", "here", "--nogpu", "cpu.py")

    researcher.write(".calibanconfig.json", "{}")  # caliban 0.4.2 does not know the key registry

    done = peer(researcher, "status", "--xgroup", "here")

    assert re.search(r"SUCCEEDED +LOCAL", done.stderr), done.stderr
