"""Remote platforms that do not answer, refuse, or list late, when a user asks why jobs failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.commands.test_remote_morning import TRACE, USAGE
from tests.conftest import Finished, ForkedCaliban
from tests.forkserver import ForkServer
from tests.json_documents import checked
from tests.safety.services import GROUP, AiPlatform, Kubernetes, Service, VertexAi
from tests.standins.faults import Fault

LOGS = ("logs", *GROUP, "--failed", "--tail", "1")
LAST_LINES = ["ValueError: loss is nan at step 17", USAGE.splitlines()[-1]]
EXITED = "The replica workerpool0-0 exited with a non-zero status of {}. Termination reason: Error."
MINUTES = 60


class Group:
    """Jobs of one service, and their user.

    Args:
        service: a running stand-in.
        directory: for the files of the user.
        server: runs the commands.
        count: how many jobs.
        environ: beyond that of the service.
    """

    def __init__(
        self, service: Service, directory: Path, server: ForkServer, count: int, environ: Mapping[str, str]
    ) -> None:
        home, self._project = directory / "home", directory / "cpu"
        for each in (home, self._project):
            each.mkdir()
        (self._project / "cpu.py").write_text("")
        (self._project / "experiment.json").write_text(json.dumps({"step": list(range(count))}))
        self._service, self._server = service, server
        given = {**service.environ(directory), **environ}
        self._environ = ForkedCaliban(home, self._project, server).environment(given)

    def caliban(self, *words: str, later: int = 0) -> Finished:
        """Run a command, so many seconds from now."""
        setup, options = "tests.safety.tracing:setup_time", {"clock_offset": later}
        return self._server.call(words, environ=self._environ, cwd=self._project, setup=setup, options=options)

    def submit(self) -> list[str]:
        """Submit the jobs; return their names in the order of experiments."""
        self.caliban(*self._service.command())
        return [job.name for job in sorted(self._service.jobs(), key=lambda job: int(job.arguments.split()[-1]))]


Start = Callable[..., Group]


@pytest.fixture
def start(tmp_path: Path, fork_server: ForkServer) -> Start:
    return lambda service, count=4, **environ: Group(service, tmp_path, fork_server, count, environ)


@pytest.fixture
def cluster() -> Iterator[Kubernetes]:
    with Kubernetes() as service:
        yield service


@pytest.fixture
def vertex() -> Iterator[VertexAi]:
    with VertexAi() as service:
        service.stand_in.logging.quota = 1000
        yield service


def fail_on(cluster: Kubernetes, names: list[str]) -> None:
    """Let the first two jobs of a cluster fail, and the third one run."""
    jobs = cluster.stand_in.jobs
    for name, output, code in zip(names, (TRACE.format(step=17), USAGE), (1, 2), strict=False):
        jobs.start(name)
        jobs.write(name, output)
        jobs.fail(name, code)
    jobs.start(names[2])


def fail_at(vertex: VertexAi, names: list[str]) -> None:
    """Let the first two jobs of Vertex AI fail."""
    for name, output, code in zip(names, (TRACE.format(step=17), USAGE), (1, 2), strict=False):
        for line in output.splitlines():
            vertex.stand_in.logging.write(name.rpartition("/")[2], line)
        vertex.stand_in.jobs.set_state(name, "JOB_STATE_RUNNING")
        vertex.stand_in.jobs.set_state(name, "JOB_STATE_FAILED", EXITED.format(code))


def last_lines(logs: Finished) -> list[str]:
    return [line for line in logs.stdout.splitlines() if not line.startswith("== job ")]


@pytest.fixture(params=["unreachable", "credentials rejected"])
def lost(request: pytest.FixtureRequest, start: Start) -> Iterator[Group]:
    """A group on a cluster that does not answer any more since the ends of two jobs were seen."""
    with Kubernetes() as cluster:
        group = start(cluster)
        fail_on(cluster, group.submit())
        group.caliban("status", *GROUP)
        if request.param == "credentials rejected":
            cluster.stand_in.faults.add(Fault("*", "status", 1000, status=401, message="Unauthorized"))
            yield group
            return
    yield group


def test_where_a_cluster_cannot_be_asked_the_stored_output_is_shown_with_the_reason(lost: Group) -> None:
    logs = lost.caliban(*LOGS)
    assert (logs.returncode, last_lines(logs)) == (0, LAST_LINES)
    assert logs.stderr.count(": output from the experiment store: cannot reach the cluster of the context lab: ") == 2


def test_where_a_cluster_cannot_be_asked_the_last_states_are_shown_with_the_reason(lost: Group) -> None:
    status = lost.caliban("status", *GROUP)
    assert (status.returncode, status.stdout.count("(last known state; cannot reach the cluster of")) == (0, 2)
    assert "  1 code_error      ValueError: loss is nan at step 17 (model.py:7)\n" in status.stdout


def test_a_running_job_of_a_cluster_that_cannot_be_asked_is_an_error_that_says_why(lost: Group) -> None:
    logs = lost.caliban("logs", *GROUP, "--state", "running")
    assert (logs.returncode, last_lines(logs)) == (1, [])
    assert "error: cannot show the output of job" in logs.stderr


def test_a_missing_permission_for_pods_is_named(cluster: Kubernetes, start: Start) -> None:
    group = start(cluster)
    fail_on(cluster, group.submit())
    cluster.stand_in.forbidden.add("pods/log.get")
    logs = group.caliban(*LOGS)
    assert (logs.returncode, logs.stderr.count("[output-refused]")) == (1, 2)
    assert '"get pods/log"' in logs.stderr


def test_a_missing_permission_of_cloud_logging_is_named(vertex: VertexAi, start: Start) -> None:
    group = start(vertex, CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING=vertex.stand_in.url)
    fail_at(vertex, group.submit())
    vertex.stand_in.logging.forbidden.add("logging.logEntries.list")
    logs = group.caliban(*LOGS)
    assert (logs.returncode, logs.stderr.count("[output-refused]")) == (1, 2)
    assert "the permission logging.logEntries.list" in logs.stderr


def test_output_that_was_not_permitted_is_stored_once_it_is(cluster: Kubernetes, start: Start) -> None:
    group = start(cluster)
    names = group.submit()
    fail_on(cluster, names)
    cluster.stand_in.forbidden.add("pods/log.get")
    group.caliban("status", *GROUP)
    cluster.stand_in.forbidden.clear()
    group.caliban("status", *GROUP)
    for name in names:
        cluster.stand_in.jobs.remove(name)
    assert last_lines(group.caliban(*LOGS)) == LAST_LINES


def test_as_long_as_output_is_not_permitted_a_few_requests_are_made_for_all_jobs(
    cluster: Kubernetes, start: Start
) -> None:
    group = start(cluster, count=20)
    for name in group.submit():
        cluster.stand_in.jobs.start(name)
        cluster.stand_in.jobs.fail(name)
    cluster.stand_in.forbidden.add("pods/log.get")
    group.caliban("status", *GROUP)
    before = cluster.stand_in.counts["pods/log.get"]
    group.caliban("status", *GROUP)
    assert 1 <= cluster.stand_in.counts["pods/log.get"] - before <= 8


@pytest.fixture
def late(vertex: VertexAi, start: Start) -> Group:
    """A group whose ends were seen before any entry of its output had arrived; it has now, and was kept for a while."""
    group = start(vertex, CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING=vertex.stand_in.url)
    names, logging = group.submit(), vertex.stand_in.logging
    logging.hidden_lists = 1000
    fail_at(vertex, names)
    group.caliban("status", *GROUP)
    logging.arrive()
    group.caliban("status", *GROUP, later=5 * MINUTES)
    for name in names:
        logging.forget(name.rpartition("/")[2])
    return group


def test_output_that_arrives_after_the_end_was_seen_is_stored(late: Group) -> None:
    logs = late.caliban(*LOGS, later=10 * MINUTES)
    assert (logs.returncode, last_lines(logs)) == (0, LAST_LINES)


def test_output_that_arrives_after_the_end_was_seen_is_part_of_the_reason(late: Group) -> None:
    status = late.caliban("status", *GROUP, later=10 * MINUTES)
    assert "  1 code_error      ValueError: loss is nan at step 17 (model.py:7)\n" in status.stdout


def test_before_any_output_has_arrived_it_is_not_said_that_a_job_wrote_nothing(vertex: VertexAi, start: Start) -> None:
    group = start(vertex, CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING=vertex.stand_in.url)
    names = group.submit()
    vertex.stand_in.logging.hidden_lists = 1000
    fail_at(vertex, names)
    logs = group.caliban(*LOGS)
    assert (logs.returncode, logs.stderr.count("[output-not-ready]")) == (1, 2)


@pytest.mark.parametrize("make", [Kubernetes, VertexAi, AiPlatform])
def test_a_job_that_was_refused_at_submission_has_its_reason(make: type[Service], start: Start) -> None:
    with make() as service:
        group = start(service)
        words = "exceeded quota: the lab has 3 jobs"
        service.stand_in.faults.add(Fault(service.create, "status", 1, status=403, message=words))
        group.submit()
        status = group.caliban("status", *GROUP)
        logs = group.caliban("logs", *GROUP, "--failed")
    summary = rf"^4 experiments: 1 failed, 3 submitted\n  1 refused  .*: {words}\n"
    assert re.search(summary, status.stdout, re.MULTILINE)
    assert (logs.returncode, last_lines(logs)) == (0, [])
    assert "never ran: " in logs.stderr
    assert words in logs.stderr


def test_failures_of_a_job_on_ai_platform_are_grouped(start: Start) -> None:
    with AiPlatform() as service:
        group = start(service, CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING=service.stand_in.url)
        names = group.submit()
        for name, output, code in zip(names, (TRACE.format(step=17), USAGE), (1, 2), strict=False):
            for line in output.splitlines():
                service.stand_in.logging.write(name, line, task="master-replica-0")
            service.stand_in.jobs.set_state(name, "RUNNING")
            error = f"The replica master 0 exited with a non-zero status of {code}."
            service.stand_in.jobs.set_state(name, "FAILED", error)
        before = group.caliban("status", *GROUP).stdout
        for name in names:
            service.stand_in.logging.forget(name)
        logs, document = group.caliban(*LOGS), group.caliban("status", *GROUP, "--json")
    assert "  1 code_error      ValueError: loss is nan at step 17 (model.py:7)\n" in before
    assert last_lines(logs) == LAST_LINES
    causes = [cause["text"] for cause in checked(document.stdout)["summary"]["causes"]]
    assert causes == ["ValueError: loss is nan at step 17 (model.py:7)", f"exit code 2: {LAST_LINES[1]}"]


@pytest.mark.parametrize("make", [Kubernetes, VertexAi, AiPlatform])
def test_jobs_that_were_stopped_are_no_failures(make: type[Service], start: Start) -> None:
    with make() as service:
        group = start(service)
        group.submit()
        stopped = group.caliban("stop", *GROUP, "--yes")
        service.end_jobs("STOPPED")  # Vertex AI takes a moment
        status = group.caliban("status", *GROUP)
        logs = group.caliban(*LOGS)
    assert stopped.returncode == 0
    assert "\n4 experiments: 4 stopped\nre-run:  caliban resubmit" in status.stdout
    assert (logs.returncode, logs.stdout) == (0, "")
