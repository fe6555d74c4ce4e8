"""Runs caliban commands in processes forked from one that has imported everything, so that none pays for imports.

Each command is a process of its own, which runs :func:`caliban.main.main` and can be killed. Starting Python and
importing what a command needs takes about a second of CPU time; a fork takes milliseconds.

The server reads requests from standard input and answers on standard output, one line of JSON each: ``{"id": 1,
"invocation": {...}}`` is answered by ``{"id": 1, "pid": 42}``, and by ``{"id": 1, "code": 0}`` when the process has
ended; the code is negative for a signal, as in :mod:`subprocess`.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import itertools
import json
import os
import pkgutil
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, cast

import pytest
from sqlalchemy.orm import configure_mappers

import caliban
from caliban.attempts import Rerun, Submission
from caliban.platforms.google.client import api_description
from caliban.records import JobStatus, JobUpdate, NewJob
from caliban.store.checks import NewSubmission
from caliban.store.database import Access, Store, open_store
from caliban.store.group_stop import newest_batch
from caliban.store.journal import Journal, new_token
from caliban.store.queries import recent_attempts
from caliban.store.recorders import submitters
from caliban.store.states import record_states
from tests.builders import add_group, leave_open, parse_details
from tests.fake_service import FakeDestination
from tests.fakes import RecordingReporter
from tests.once import load_keys_without_checks, share_compiled_statements

_CLONE_NEWPID = 0x20000000

_TIMEOUT = 120
"""Seconds after which the kernel ends a command."""

_LIBRARIES = (
    *("absl.app", "alembic.command", "docker", "psycopg", "requests", "sqlalchemy.dialects.postgresql", "tqdm", "yaml"),
    *("google.auth.transport.requests", "google.oauth2.credentials", "google.oauth2.reauth"),
    *("google.oauth2.service_account", "googleapiclient.discovery", "netrc"),
    *("tests.safety.tracing", "urllib3.connectionpool", "urllib3.poolmanager"),
)
"""What commands import when they need it."""


@dataclass(frozen=True)
class Invocation:
    """A command to run.

    Attributes:
        arguments: the command line after ``caliban``.
        environ: all environment variables.
        cwd: the working directory.
        stdin, stdout, stderr: paths of the files for the standard streams.
        setup: ``module:function`` to call in the process before the command, with ``options`` as keyword arguments; it
            returns a function that is called when the command has ended, unless the process was killed.
        options: values that JSON can express.
        is_apart: whether the process sees no other process, nor is seen, as in a container: it has the id 1 in a
            namespace of its own. It requires root.
    """

    arguments: Sequence[str]
    environ: Mapping[str, str]
    cwd: str
    stdin: str
    stdout: str
    stderr: str
    setup: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    is_apart: bool = False


@dataclass(frozen=True)
class ForkedProcess:
    """A command that runs, or has ended."""

    pid: int
    _code: Future[int]

    def wait(self, seconds: float | None = None) -> int:
        """Return the exit code; negative for a signal.

        Raises:
            TimeoutError: it has not ended within ``seconds``.
        """
        return self._code.result(seconds)

    @property
    def has_ended(self) -> bool:
        return self._code.done()


class ForkServer:
    """A client of the server, which it starts and stops.

    Args:
        environ: environment variables of the server; each command has those of its invocation.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver"],
            env=environ,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._ids = itertools.count()
        self._pids: dict[int, Future[int]] = {}
        self._codes: dict[int, Future[int]] = {}
        self._lock = threading.Lock()
        self._has_ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self, *invocations: Invocation) -> list[ForkedProcess]:
        """Start commands at the same time."""
        started = [(next(self._ids), invocation) for invocation in invocations]
        lines = [json.dumps({"id": number, "invocation": asdict(invocation)}) + "\n" for number, invocation in started]
        stdin = self._process.stdin
        assert stdin is not None
        with self._lock:
            assert not self._has_ended, "the fork server has ended"
            for number, _ in started:
                self._pids[number], self._codes[number] = Future(), Future()
            stdin.write("".join(lines).encode())
            stdin.flush()
        return [ForkedProcess(self._pids[number].result(), self._codes[number]) for number, _ in started]

    def run(self, *invocations: Invocation) -> list[int]:
        """Run commands at the same time, and return their exit codes."""
        return [process.wait() for process in self.start(*invocations)]

    def call(
        self,
        arguments: Sequence[str],
        *,
        environ: Mapping[str, str],
        cwd: Path,
        stdin: str = "",
        setup: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as :func:`subprocess.run` does with captured output; its output goes into pipes."""
        with tempfile.TemporaryDirectory(prefix="caliban-test-") as directory, ThreadPoolExecutor(2) as threads:
            streams = [f"{directory}/{name}" for name in ("stdin", "stdout", "stderr")]
            Path(streams[0]).write_text(stdin)
            for stream in streams[1:]:
                os.mkfifo(stream)
            out, err = (threads.submit(Path(stream).read_text) for stream in streams[1:])
            made = Invocation(
                arguments, environ, str(cwd), streams[0], streams[1], streams[2], setup=setup, options=options or {}
            )
            [code] = self.run(made)
            return subprocess.CompletedProcess(arguments, code, out.result(), err.result())

    def close(self) -> None:
        """Stop the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "pid" in answer:
                self._pids[answer["id"]].set_result(answer["pid"])
            else:
                self._codes[answer["id"]].set_result(answer["code"])
        with self._lock:
            self._has_ended = True
            for waiting in (*self._pids.values(), *self._codes.values()):
                if not waiting.done():
                    waiting.set_exception(RuntimeError("the fork server has ended"))

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _import_everything()
    running: dict[int, int] = {}
    woken = _wake_when_a_child_ends()
    requests = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if key.fd == woken:
                    for number, code in _ended(running):
                        answers.write(json.dumps({"id": number, "code": code}) + "\n")
                    continue
                if not data:
                    return
                *lines, requests = (requests + data).split(b"\n")
                begun = [
                    (request["id"], _fork(Invocation(**request["invocation"]))) for request in map(json.loads, lines)
                ]
                for number, pid in begun:
                    running[pid] = number
                    answers.write(json.dumps({"id": number, "pid": pid}) + "\n")


def _wake_when_a_child_ends() -> int:
    """Return a descriptor that becomes readable with every SIGCHLD."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    return read


def _ended(running: dict[int, int]) -> list[tuple[int, int]]:
    """Return the ids and exit codes of the commands that have ended since the last call."""
    ended: list[tuple[int, int]] = []
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            break
        ended.append((running.pop(pid), os.waitstatus_to_exitcode(status)))
    return ended


def _import_everything() -> None:
    for module in pkgutil.walk_packages(caliban.__path__, "caliban."):
        if module.name != "caliban.__main__" and ".migrations" not in module.name:
            importlib.import_module(module.name)
    for name in _LIBRARIES:
        importlib.import_module(name)
    configure_mappers()
    for api in ("aiplatform", "container", "ml"):
        api_description(api, "v1")
    load_keys_without_checks()
    share_compiled_statements()
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/caliban.db"
        with open_store(url, Access.WRITE, RecordingReporter()) as store:
            _use(store)
    # the collector would write to, and thereby copy, most pages that a child shares with its parent
    gc.collect()
    gc.freeze()
    gc.disable()


def _use(store: Store) -> None:
    """Compile the statements that most commands send."""
    [experiment, _] = add_group(store, JobStatus.FAILED, None).experiments
    leave_open(store, experiment)
    journal = Journal(store)
    [left_open] = journal.open_submissions("totoro")
    journal.abandon(left_open, "")
    with store.reading() as session:
        recent_attempts(session, parse_details, "totoro", 8)
        newest = newest_batch(session)
    [job] = experiment.jobs
    submitters(store, [job.id])
    with store.writing() as session:
        record_states(session, {job.id: JobUpdate(JobStatus.FAILED)})
    entry = NewSubmission(experiment.id, "TEST", {}, FakeDestination(), "fake", new_token(), Rerun(job.id))
    [opened] = journal.open_batch([entry], user="totoro", since=newest)
    assert isinstance(opened, Submission)
    journal.mark_sent(opened)
    journal.settle(opened, NewJob("lab:1", JobStatus.SUBMITTED))
    assert opened.batch is not None
    journal.finish(opened.batch.id)


def _fork(invocation: Invocation) -> int:
    pid = os.fork()
    if pid == 0:
        if invocation.is_apart:
            _enter_namespace()
        _run(invocation)
    return pid


def _enter_namespace() -> None:
    """Go on in a process that is the first of a namespace; this one ends as that does.

    Source: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWPID) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a namespace for processes")
    pid = os.fork()
    if pid != 0:
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))


def _run(invocation: Invocation) -> NoReturn:
    """Run the command and end the process, whatever happens."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(_TIMEOUT)
        random.seed()
        tempfile.tempdir = None  # that of the environment of the command
        for number, name in enumerate((invocation.stdin, invocation.stdout, invocation.stderr)):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(name, flags, 0o600), number)
        # the server's have cached whether its files are seekable
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        os.closerange(3, 64)
        os.chdir(invocation.cwd)
        os.environ.clear()
        os.environ.update(invocation.environ)
        time.tzset()
        paths = invocation.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:0] = [path for path in paths if path and path not in sys.path]
        code = _main(invocation)
    except BaseException:  # noqa: BLE001 - for whoever reads the file of standard error
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(invocation: Invocation) -> int:
    from caliban.main import main

    teardown = _setup(invocation)
    sys.argv = ["caliban", *invocation.arguments]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        teardown()


def _setup(invocation: Invocation) -> Callable[[], None]:
    if invocation.setup is None:
        return lambda: None
    module, _, name = invocation.setup.partition(":")
    function = getattr(importlib.import_module(module), name)
    return cast("Callable[[], None]", function(**invocation.options))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer(os.environ) as server:
        yield server


if __name__ == "__main__":
    _serve()
