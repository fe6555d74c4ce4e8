"""What becomes of an accepted Job: a script's end, or what its container really does on a Docker Engine."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
            jobs.start(*_place(job))
            if self._closing.wait(self._step_s):
                return
            code = self._outcome(job)
            end = jobs.succeed if code == 0 else lambda *place: jobs.fail(place[0], code, namespace=place[1])
            end(*_place(job))

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
        jobs.create_pod(*_place(job))
        refusal = self._pull(container)
        if refusal is not None:
            jobs.image_pull_fails(job["metadata"]["name"], refusal, job["metadata"]["namespace"])
            while not self._closing.wait(_POLL_S) and jobs.goes_on(job):
                continue
            return
        jobs.start(*_place(job))
        code, words = self._exit_of(job, jobs, container)
        if self._closing.is_set() or not jobs.goes_on(job):
            return
        said = words if container["terminationMessagePolicy"] == "FallbackToLogsOnError" else ""
        name, namespace = _place(job)
        if code == 0:
            jobs.succeed(name, namespace)
        elif code == _NOT_RUN or (code in _NOT_EXECUTED and words.startswith("docker: ")):
            jobs.fail(name, _START_ERROR, "StartError", namespace, message=words)
        else:
            jobs.fail(name, code, "Error", namespace, message=said)

    def _pull(self, container: Mapping[str, Any]) -> str | None:
        """Why the image cannot be had; None where it is there."""
        image, policy = container["image"], container["imagePullPolicy"]
        is_here = self._call("image", "inspect", image).returncode == 0
        # An image that exists on the engine alone is what a registry would give to a cluster.
        if is_here:
            return None
        if policy == "Never":
            return f'Container image "{image}" is not present with pull policy of Never'
        pulled = self._call("pull", "--quiet", image)
        return None if pulled.returncode == 0 else f"ErrImagePull: {pulled.stderr.decode(errors='replace').strip()}"

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
        reader = threading.Thread(target=lambda: words.append(process.stdout.read() if process.stdout else b""))
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


def _place(job: Mapping[str, Any]) -> tuple[str, str]:
    return job["metadata"]["name"], job["metadata"]["namespace"]
