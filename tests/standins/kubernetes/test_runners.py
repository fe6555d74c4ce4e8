"""Jobs that end by a script, or by what their containers did, and a cluster as a process of its own."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.callers import JOBS, Official, Raw, job_body, wait_until
from tests.standins.kubernetes.controller import finished
from tests.standins.kubernetes.runners import Docker, Scripted

ROOT = Path(__file__).parents[3]


def is_finished(cluster: KubeApi, *names: str) -> bool:
    return all(finished(cluster.jobs.get(name)) is not None for name in names)


def end_of(cluster: KubeApi, name: str) -> tuple[str, str]:
    last = cluster.jobs.get(name)["status"]["conditions"][-1]
    return last["type"], last["reason"]


def terminated(cluster: KubeApi, name: str) -> dict[str, Any]:
    """How the container of the Job's last pod has ended."""
    state: dict[str, Any] = cluster.jobs.pods(name)[-1]["status"]["containerStatuses"][0]["state"]
    return {key: state["terminated"][key] for key in ("exitCode", "reason", "message") if key in state["terminated"]}


def test_scripted_jobs_come_to_the_end_that_the_script_gives_them(tmp_path: Path) -> None:
    with KubeApi(runner=Scripted(lambda job: 3 if job["metadata"]["name"] == "bad" else 0)) as cluster:
        raw = Raw.of(cluster, tmp_path)
        for name in ("good", "bad"):
            raw.send("POST", JOBS, job_body(name, backoffLimit=1))
        wait_until(lambda: is_finished(cluster, "good", "bad"))
        assert end_of(cluster, "good") == ("Complete", "CompletionsReached")
        assert end_of(cluster, "bad") == ("Failed", "BackoffLimitExceeded")
        assert len(cluster.jobs.pods("bad")) == 2


def test_a_job_that_is_deleted_runs_no_further(tmp_path: Path) -> None:
    """Above all not as another one of its name."""
    with KubeApi(runner=Scripted(lambda job: 0 if "labels" in job["metadata"] else 3, step_s=0.2)) as cluster:
        raw = Raw.of(cluster, tmp_path)
        raw.send("POST", JOBS, job_body())
        raw.send("DELETE", f"{JOBS}/a-job?propagationPolicy=Background")
        second = job_body()
        second["metadata"]["labels"] = {"is": "second"}
        raw.send("POST", JOBS, second)
        wait_until(lambda: is_finished(cluster, "a-job"))
        assert end_of(cluster, "a-job") == ("Complete", "CompletionsReached")
        assert len(cluster.jobs.pods("a-job")) == 1


def container_job(name: str, code: str, image: str, **container: Any) -> dict[str, Any]:
    body = job_body(name, backoffLimit=0)
    (main,) = body["spec"]["template"]["spec"]["containers"]
    main.update(image=image, command=["python3"], args=["-c", code], **container)
    return body


def test_a_jobs_end_is_what_its_container_really_did(base_image: str, tmp_path: Path) -> None:
    told = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    said = "import os; raise SystemExit(os.environ['GREETING'])"
    with KubeApi(runner=Docker(["docker"], os.environ)) as cluster:
        raw = Raw.of(cluster, tmp_path)
        for body in (
            container_job("good", "print('fine')", base_image),
            container_job("bad", "raise SystemExit(7)", base_image),
            container_job("said", said, base_image, env=[{"name": "GREETING", "value": "no such file"}], **told),
            container_job("lost", "pass", "localhost:1/no-such-image:1"),
            container_job("wrong", "pass", base_image) | {"metadata": {"name": "wrong"}},
        ):
            if body["metadata"]["name"] == "wrong":
                body["spec"]["template"]["spec"]["containers"][0]["command"] = ["/no/such/program"]
            assert raw.send("POST", JOBS, body).status_code == 201
        wait_until(lambda: is_finished(cluster, "good", "bad", "said", "wrong"), 120)
        wait_until(lambda: _waits_for_image(cluster, "lost"))
        assert end_of(cluster, "good") == ("Complete", "CompletionsReached")
        assert terminated(cluster, "bad") == {"exitCode": 7, "reason": "Error"}
        assert terminated(cluster, "said") == {"exitCode": 1, "reason": "Error", "message": "no such file"}
        assert terminated(cluster, "wrong")["reason"] == "StartError"
        assert finished(cluster.jobs.get("lost")) is None


def _waits_for_image(cluster: KubeApi, name: str) -> bool:
    statuses = [pod["status"].get("containerStatuses", []) for pod in cluster.jobs.pods(name)]
    return any(
        status["state"].get("waiting", {}).get("reason") == "ImagePullBackOff" for (status,) in filter(None, statuses)
    )


@pytest.mark.parametrize("is_deleted", [True, False])
def test_no_container_outlives_its_job_or_its_cluster(base_image: str, tmp_path: Path, is_deleted: bool) -> None:
    with KubeApi(runner=Docker(["docker"], os.environ)) as cluster:
        raw = Raw.of(cluster, tmp_path)
        job = raw.send("POST", JOBS, container_job("long", "import time; time.sleep(600)", base_image)).json()
        wait_until(lambda: running_containers(job["metadata"]["uid"]) != "")
        if is_deleted:
            raw.send("DELETE", f"{JOBS}/long?propagationPolicy=Background")
            wait_until(lambda: running_containers(job["metadata"]["uid"]) == "")
    assert running_containers(job["metadata"]["uid"]) == ""


def running_containers(uid: str) -> str:
    command = ["docker", "ps", "--quiet", "--filter", f"name=standin-{uid}"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig file of a cluster that is a process of its own."""
    kubeconfig = tmp_path / "kubeconfig"
    arguments = ["--kubeconfig", str(kubeconfig), "--version", "1.36", "--namespace", "team", "--exit-code", "0"]
    command = [sys.executable, "-m", "tests.standins.kubernetes", *arguments, "--step", "600"]
    started = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(kubeconfig.exists)
        yield kubeconfig
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


class Steering:
    """The paths below ``/_standin/`` of another process."""

    def __init__(self, kubeconfig: Path) -> None:
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = kubeconfig.with_name("ca.pem")
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(authority)
        self._url = cluster["server"]

    def send(self, name: str, given: Mapping[str, Any]) -> requests.Response:
        return self._session.post(f"{self._url}/_standin/{name}", json=given, timeout=10)

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self._session.get(f"{self._url}/_standin/state", timeout=10).json()
        return found


def test_as_a_process_it_is_steered_and_looked_at_over_https(process: Path) -> None:
    steering = Steering(process)
    steering.send("faults", {"method": "jobs.list", "kind": "status", "status": 500})
    steering.send("faults", {"method": "pods.list", "kind": "delay", "seconds": 0.01})
    with Official.of(process, "lab") as official:
        official.batch.create_namespaced_job("team", {**job_body(), "spec": {**job_body()["spec"], "backoffLimit": 0}})
        with pytest.raises(Exception, match="500"):
            official.batch.list_namespaced_job("team")
        wait_until(lambda: len(official.core.list_namespaced_pod("team").items) == 1)
    wrong = steering.send("jobs", {"step": "fail", "name": "another", "namespace": "team"})
    assert (wrong.status_code, wrong.json()) == (400, {"error": 'ValueError: jobs.batch "another" not found'})
    steering.send("jobs", {"step": "fail", "name": "a-job", "namespace": "team", "exit_code": 3})
    steering.send("compact", {})
    seen = steering.state()
    assert seen["jobs"][0]["status"]["conditions"][-1]["type"] == "Failed"
    assert seen["pods"][0]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert (seen["counts"]["jobs.create"], seen["requests"][0]["method"]) == (1, "jobs.create")
