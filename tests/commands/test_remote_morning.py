"""The morning after on remote platforms: of 40 jobs some failed at night, and the platform forgets their output."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.conftest import Finished, ForkedCaliban
from tests.forkserver import ForkServer
from tests.json_documents import checked
from tests.safety.services import GROUP, NAMESPACE, Kubernetes, Service, VertexAi
from tests.standins.kubernetes.status import JOBS

pytestmark = pytest.mark.slow

JOB_COUNT = 40
TRACE = """\
epoch 1
Traceback (most recent call last):
  File "/usr/app/cpu.py", line 41, in <module>
    train(args)
  File "/usr/app/model.py", line 7, in train
    raise ValueError("loss is nan at step {step}")
ValueError: loss is nan at step {step}
"""
USAGE = "usage: cpu.py [-h] --lr LR\ncpu.py: error: the following arguments are required: --lr\n"


class Night(ABC):
    """What happens to the jobs of a platform at night: the first of them fail, each in its own way.

    Attributes:
        service: the stand-in of the platform.
        summary: what ``status`` shows of the failures.
        reasons: of the failed jobs, in the order of experiments.
        causes: likewise.
        told: likewise, a line of the output of each; None where a job's output could never be read.
        output: the API method that returns the output of a job.
    """

    service: Service
    summary: ClassVar[str]
    reasons: ClassVar[Sequence[str]]
    causes: ClassVar[Sequence[str]]
    told: ClassVar[Sequence[str | None]]
    output: ClassVar[str]

    @abstractmethod
    def environ(self, directory: Path) -> Mapping[str, str]:
        """Return the environment of the commands."""

    @abstractmethod
    def pass_by(self, names: Sequence[str]) -> None:
        """Let the jobs end; they are in the order of experiments."""

    @abstractmethod
    def forget(self, names: Sequence[str]) -> None:
        """Let the platform lose what it has of jobs that have ended."""


class KubernetesNight(Night):
    output = "pods/log.get"
    summary = """\
40 experiments: 35 succeeded, 5 failed
  2 code_error      ValueError: loss is nan at step ... (model.py:7)
  1 code_error      exit code 2: cpu.py: error: the following arguments are required: --lr
  1 out_of_memory   exit code 137 (SIGKILL)
  1 timeout         DeadlineExceeded: Job was active longer than specified deadline
"""
    reasons = (
        "exit code 1: ValueError: loss is nan at step 17",
        "exit code 1: ValueError: loss is nan at step 230",
        "exit code 2: cpu.py: error: the following arguments are required: --lr",
        "out of memory, exit code 137 (SIGKILL)",
        "timed out: DeadlineExceeded: Job was active longer than specified deadline",
    )
    causes = ("code_error", "code_error", "code_error", "out_of_memory", "timeout")
    told = (
        *("ValueError: loss is nan at step 17", "ValueError: loss is nan at step 230"),
        *("cpu.py: error: the following arguments are required: --lr", "epoch 1", None),
    )

    def __init__(self) -> None:
        self.service = self._kubernetes = Kubernetes()

    def environ(self, directory: Path) -> Mapping[str, str]:
        return self.service.environ(directory)

    def pass_by(self, names: Sequence[str]) -> None:
        jobs = self._kubernetes.stand_in.jobs
        for name in names:
            jobs.start(name)
        for name, output in zip(names, (TRACE.format(step=17), TRACE.format(step=230), USAGE), strict=False):
            jobs.write(name, output)
        for name in names[3:]:
            jobs.write(name, "epoch 1\n")
        jobs.fail(names[0])
        jobs.fail(names[1])
        jobs.fail(names[2], 2)
        jobs.fail(names[3], 137, "OOMKilled")
        with self._kubernetes.stand_in.state.change(JOBS, NAMESPACE, names[4]) as job:  # as a policy of a cluster does
            job["spec"]["activeDeadlineSeconds"] = 3600
        jobs.finish_by_deadline(names[4])  # which deletes its pods
        for name in names[5:]:
            jobs.succeed(name)

    def forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._kubernetes.stand_in.jobs.remove(name)


class VertexNight(Night):
    output = "logging.entries.list"
    summary = """\
40 experiments: 34 succeeded, 6 failed
  2 code_error      ValueError: loss is nan at step ... (model.py:7)
  1 code_error      exit code 2: cpu.py: error: the following arguments are required: --lr
  1 out_of_memory   Replicas low on memory: workerpool0.
  1 preempted       The instance was preempted.
  1 timeout         expired
"""
    reasons = (
        "exit code 1: ValueError: loss is nan at step 17",
        "exit code 1: ValueError: loss is nan at step 230",
        "exit code 2: cpu.py: error: the following arguments are required: --lr",
        "out of memory: Replicas low on memory: workerpool0.",
        "timed out: expired",
        "preempted: The instance was preempted.",
    )
    causes = ("code_error", "code_error", "code_error", "out_of_memory", "timeout", "preempted")
    told = (*KubernetesNight.told[:3], "epoch 1", "epoch 1", "epoch 1")

    def __init__(self) -> None:
        self.service = self._vertex = VertexAi()
        self._logging = self._vertex.stand_in.logging
        self._logging.quota = 1000  # the tests ask more often than a person does

    def environ(self, directory: Path) -> Mapping[str, str]:
        url = self._vertex.stand_in.url
        return {**self.service.environ(directory), "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING": url}

    def pass_by(self, names: Sequence[str]) -> None:
        exited = "The replica workerpool0-0 exited with a non-zero status of {}. Termination reason: Error."
        for name, output in zip(names, (TRACE.format(step=17), TRACE.format(step=230), USAGE), strict=False):
            self._write(name, output)
        for name in names[3:]:
            self._write(name, "epoch 1\n")
        errors = [exited.format(1), exited.format(1), exited.format(2), "Replicas low on memory: workerpool0.", None]
        jobs = self._vertex.stand_in.jobs
        for name, error in zip(names, [*errors, "The instance was preempted."], strict=False):
            jobs.set_state(name, "JOB_STATE_RUNNING")
            jobs.set_state(name, f"JOB_STATE_{'FAILED' if error else 'EXPIRED'}", error or "")
        for name in names[6:]:
            jobs.set_state(name, "JOB_STATE_SUCCEEDED")

    def _write(self, name: str, output: str) -> None:
        for line in output.splitlines():
            self._logging.write(name.rpartition("/")[2], line)

    def forget(self, names: Sequence[str]) -> None:
        for name in names:
            self._logging.forget(name.rpartition("/")[2])


NIGHTS = {"Kubernetes": KubernetesNight, "Vertex AI": VertexNight}


@dataclass
class Look:
    """What the commands of the morning show."""

    status: Finished
    logs: Finished
    document: Finished


@dataclass
class Morning:
    """Two looks: while the platform has everything, and when it has forgotten it.

    Attributes:
        first_requests: of the first command after the end, by API method.
        requests: of a command after that.
    """

    night: Night
    before: Look
    after: Look
    first_requests: Counter[str]
    requests: int


@pytest.fixture(scope="module", params=list(NIGHTS.values()), ids=list(NIGHTS))
def morning(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer
) -> Iterator[Morning]:
    directory = tmp_path_factory.mktemp("night")
    home, project = directory / "home", directory / "cpu"
    for each in (home, project):
        each.mkdir()
    (project / "cpu.py").write_text("")
    (project / "experiment.json").write_text(json.dumps({"step": list(range(JOB_COUNT))}))
    night: Night = request.param()
    with night.service:
        environ = ForkedCaliban(home, project, fork_server).environment(night.environ(directory))

        def caliban(*words: str, later: int = 8 * 60 * 60) -> Finished:
            setup, options = "tests.safety.tracing:setup_time", {"clock_offset": later}
            return fork_server.call(words, environ=environ, cwd=project, setup=setup, options=options)

        def look() -> Look:
            return Look(
                caliban("status", *GROUP),
                caliban("logs", *GROUP, "--failed", "--tail", "3"),
                caliban("status", *GROUP, "--json"),
            )

        submitted = caliban(*night.service.command(), later=0)
        assert submitted.returncode == 0, submitted.stderr
        jobs = sorted(night.service.jobs(), key=lambda job: int(job.arguments.split()[-1]))
        night.pass_by([job.name for job in jobs])
        counts = night.service.stand_in.counts
        caliban("status", *GROUP)
        first_requests = night.service.stand_in.counts - counts
        before = look()
        night.forget([job.name for job in jobs])
        asked = len(night.service.stand_in.requests)
        caliban("status", *GROUP)
        requests = len(night.service.stand_in.requests) - asked
        yield Morning(night, before, look(), first_requests, requests)


@pytest.fixture(params=["before", "after"])
def seen(request: pytest.FixtureRequest, morning: Morning) -> Look:
    found = getattr(morning, request.param)
    assert isinstance(found, Look)
    return found


def test_status_groups_the_failures(seen: Look, morning: Morning) -> None:
    status = seen.status.stdout
    assert seen.status.returncode == 0
    assert status[status.index("40 experiments") :].startswith(morning.night.summary)


def test_status_has_the_reason_of_each_job(seen: Look, morning: Morning) -> None:
    failed = [line for line in seen.status.stdout.splitlines() if " FAILED " in line]
    assert [re.sub(r"^.*? \((.*)\)$", r"\1", line) for line in failed] == list(morning.night.reasons)


def test_the_last_lines_of_each_failed_job_tell_the_reason(seen: Look, morning: Morning) -> None:
    jobs = [job.splitlines()[1:] for job in seen.logs.stdout.split("== job ")[1:]]
    assert [line for line, lines in zip(morning.night.told, jobs, strict=True) if line and lines[-1:] != [line]] == []


def test_output_that_could_never_be_read_is_an_error_of_its_job(seen: Look, morning: Morning) -> None:
    missing = morning.night.told.count(None)
    assert (seen.logs.returncode, seen.logs.stderr.count("error: cannot show the output of job")) == (
        int(missing > 0),
        missing,
    )


def test_a_script_learns_which_experiments_failed_and_why(seen: Look, morning: Morning) -> None:
    [group] = checked(seen.document.stdout)["groups"]
    failed = [job for each in group["experiments"] for job in each["jobs"] if job["state"] == "FAILED"]
    assert [job["cause"] for job in failed] == list(morning.night.causes)
    assert [job["reason"] for job in failed] == list(morning.night.reasons)


def test_jobs_whose_end_is_recorded_are_not_asked_about(morning: Morning) -> None:
    assert morning.requests == 0


def test_the_output_of_each_job_is_asked_for_once_when_its_end_is_first_seen(morning: Morning) -> None:
    deleted = morning.night.told.count(None)  # pods
    assert morning.first_requests[morning.night.output] == JOB_COUNT - deleted


def test_besides_output_an_end_takes_one_request_for_all_jobs_and_at_most_one_for_each(morning: Morning) -> None:
    """One for each where Vertex AI lists a job late, and for the pods of each on Kubernetes."""
    assert sum(morning.first_requests.values()) - morning.first_requests[morning.night.output] <= JOB_COUNT + 10
