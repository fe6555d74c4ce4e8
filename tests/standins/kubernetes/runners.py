"""What becomes of an accepted Job: a script's end, or what its container really does on a Docker Engine."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tests.standins.kubernetes.controller import JobController
from tests.standins.kubernetes.state import Object
from tests.standins.kubernetes.status import StatusError

_POLL_S = 0.05
_NOT_RUN, _NOT_EXECUTED = 125, (126, 127)
_START_ERROR = 128
_LOG_LINES = 80


class Scripted:
    """Each Job's container runs for ``step_s`` seconds, and exits with what ``outcome`` gives; again, while it may."""

    def __init__(self, outcome: Callable[[Object], int], step_s: float = 0.0) -> None:
        self._outcome = outcome
        self._step_s = step_s
        self._closing = threading.Event()

    def run(self, job: Object, jobs: JobController) -> None:
        """Take one Job to its end, as long as it is there and not suspended."""

        def once() -> None:
            with jobs.only_for(job):
                jobs.start(*_place(job))
            if not self._closing.wait(self._step_s):
                _end(job, jobs, self._outcome(job))

        _repeat(job, jobs, once, self._closing)

    def close(self) -> None:
        """Leave every Job as it is."""
        self._closing.set()


class Docker:
    """Each Job's first container runs with its command, args and environment; its exit code is the pod's end."""

    def __init__(self, client: Sequence[str], environ: Mapping[str, str]) -> None:
        self._client = tuple(client)
        self._environ = dict(environ)
        self._names: list[str] = []
        self._closing = threading.Event()

    def run(self, job: Object, jobs: JobController) -> None:
        """Run one Job's container until the Job has ended or is gone."""
        _repeat(job, jobs, lambda: self._run_once(job, jobs), self._closing)

    def close(self) -> None:
        """End every container that still runs."""
        self._closing.set()
        for name in list(self._names):
            self._kill(name)

    def _run_once(self, job: Object, jobs: JobController) -> None:
        container = job["spec"]["template"]["spec"]["containers"][0]
        name, namespace = _place(job)
        with jobs.only_for(job):
            jobs.create_pod(name, namespace)
        refusal = self._pull(container)
        if refusal is not None:
            with jobs.only_for(job):
                jobs.image_pull_fails(name, refusal[1], namespace, refusal[0])
            while not self._closing.wait(_POLL_S) and jobs.goes_on(job):
                continue
            return
        with jobs.only_for(job):
            jobs.start(name, namespace)
        code, words = self._exit_of(job, jobs, container)
        if self._closing.is_set():
            return
        if code == _NOT_RUN or (code in _NOT_EXECUTED and words.startswith("docker: ")):
            _end(job, jobs, _START_ERROR, "StartError", words)
        else:
            is_told = container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            _end(job, jobs, code, "Error", words if is_told else "")

    def _pull(self, container: Mapping[str, Any]) -> tuple[str, str] | None:
        """Why the image cannot be had, as reason and message; None where it is there."""
        image, policy = container["image"], container["imagePullPolicy"]
        is_here = self._call("image", "inspect", image).returncode == 0
        # An image that exists on the engine alone is what a registry would give to a cluster.
        if is_here:
            return None
        if policy == "Never":
            return "ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never'
        pulled = self._call("pull", "--quiet", image)
        words = f"ErrImagePull: {pulled.stderr.decode(errors='replace').strip()}"
        return None if pulled.returncode == 0 else ("ImagePullBackOff", words)

    def _exit_of(self, job: Object, jobs: JobController, container: Mapping[str, Any]) -> tuple[int, str]:
        name = f"standin-{job['metadata']['uid']}-{time.monotonic_ns()}"
        self._names.append(name)
        process = subprocess.Popen(
            [*self._client, "run", "--rm", "--name", name, *_arguments(container)],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        words: list[bytes] = []

        def read() -> None:
            for line in process.stdout or ():
                words.append(line)
                with suppress(StatusError, ValueError):  # the Job is removed while its container ends
                    jobs.write(job["metadata"]["name"], line, job["metadata"]["namespace"])

        reader = threading.Thread(target=read)
        reader.start()
        while process.poll() is None:
            if self._closing.wait(_POLL_S) or not jobs.goes_on(job):
                self._kill(name)
        reader.join()
        self._names.remove(name)
        tail = b"".join(words).decode("utf-8", "replace").strip().splitlines()[-_LOG_LINES:]
        return process.returncode, "\n".join(tail)

    def _kill(self, name: str) -> None:
        self._call("kill", name)
        time.sleep(_POLL_S)

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [*self._client, *arguments]
        return subprocess.run(command, env=self._environ, capture_output=True, check=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags by which a process is told what becomes of Jobs."""
    parser.add_argument("--docker", help="run accepted Jobs with this Docker client: docker, docker -H unix://...")
    parser.add_argument("--exit-code", type=int, help="let each Job's container end like this")
    parser.add_argument("--step", type=float, default=0.0, help="seconds that a container runs, with --exit-code")


def chosen(given: argparse.Namespace, environ: Mapping[str, str]) -> Scripted | Docker | None:
    """The runner that the flags ask for; None for Jobs that wait for the controller's steps."""
    if given.docker:
        return Docker(shlex.split(given.docker), environ)
    return Scripted(lambda job: int(given.exit_code), given.step) if given.exit_code is not None else None


def _arguments(container: Mapping[str, Any]) -> list[str]:
    """What ``docker run`` is given for a container: ``command`` is its entrypoint, as for the kubelet."""
    variables = [f"{variable['name']}={variable.get('value', '')}" for variable in container.get("env") or []]
    options = [word for variable in variables for word in ("--env", variable)]
    command = container.get("command") or []
    if command:
        options += ["--entrypoint", command[0]]
    return [*options, container["image"], *command[1:], *(container.get("args") or [])]


def _repeat(job: Object, jobs: JobController, once: Callable[[], None], closing: threading.Event) -> None:
    """One pod after another, until the Job has ended or is gone."""
    while not closing.is_set() and jobs.goes_on(job):
        try:
            once()
        except (StatusError, ValueError):
            # A request has removed, suspended or ended the Job between two steps; the next look tells which.
            closing.wait(_POLL_S)


def _end(job: Object, jobs: JobController, code: int, reason: str = "Error", message: str = "") -> None:
    name, namespace = _place(job)
    with jobs.only_for(job):
        if code == 0:
            jobs.succeed(name, namespace)
        else:
            jobs.fail(name, code, reason, namespace, message=message)


def _place(job: Mapping[str, Any]) -> tuple[str, str]:
    return job["metadata"]["name"], job["metadata"]["namespace"]
