"""Those who call a stand-in cluster in tests: the official client, and plain HTTP by which anything can be sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from kubernetes import client, config  # type: ignore[import-untyped, unused-ignore]

from tests.standins.kubernetes import KubeApi

JOBS = "/apis/batch/v1/namespaces/default/jobs"


def job_body(name: str = "a-job", **spec: Any) -> dict[str, Any]:
    """A Job of one container, as a person would write it."""
    container = {"name": "main", "image": "registry.example.com/x:1", "args": ["--foo", "3"]}
    pod = {"containers": [container], "restartPolicy": "Never"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": pod}, **spec},
    }


@dataclass(frozen=True)
class Official:
    """The official client's view of a context."""

    batch: Any
    core: Any
    version: Any

    @classmethod
    @contextmanager
    def of(cls, kubeconfig: Path, context: str | None = None) -> Iterator[Official]:
        connect: Callable[..., Any] = config.new_client_from_config
        with connect(str(kubeconfig), context=context) as api:
            yield cls(client.BatchV1Api(api), client.CoreV1Api(api), client.VersionApi(api))


@dataclass(frozen=True)
class Raw:
    """Plain HTTP with the cluster's token."""

    session: requests.Session
    url: str

    @classmethod
    def of(cls, cluster: KubeApi, directory: Path) -> Raw:
        authority = directory / "ca.pem"
        authority.write_bytes(cluster.authority.certificate)
        session = requests.Session()
        session.trust_env = False  # $REQUESTS_CA_BUNDLE would come before the cluster's own authority
        session.verify = str(authority)
        session.headers["Authorization"] = f"Bearer {cluster.access.token}"
        return cls(session, cluster.url)

    def send(self, verb: str, path: str, body: object = None, **more: Any) -> requests.Response:
        return self.session.request(verb, self.url + path, json=body, timeout=10, **more)


def refusal(answer: requests.Response) -> dict[str, Any]:
    """The Status that an answer is."""
    status: dict[str, Any] = answer.json()
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
    assert status["code"] == answer.status_code
    return status


def told(error: client.ApiException) -> dict[str, Any]:
    """The Status that the official client was answered."""
    status: dict[str, Any] = json.loads(error.body or "")
    assert (status["kind"], status["code"]) == ("Status", error.status)
    return status


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
