"""Processes of caliban that begin at once: forked from one that has imported everything already.

Each is a process of its own, which runs the whole command by ``caliban.main.main`` and can be killed. The nursery takes
a line of JSON, a list of :class:`LaunchOptions`, on its standard input, runs them all at the same time, and answers
with a line
of exit codes: negative for the signal that ended the process, as :mod:`subprocess` has it.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from tests.safety.tracing import Point, Tracer

_LIFE_S = 120
_IMPORTED = (
    *("caliban.main", "caliban.commands.cloud", "caliban.commands.submit"),
    *("caliban.commands.cluster.job_submit", "caliban.commands.status", "caliban.commands.stop"),
    *("caliban.resubmit.command", "caliban.resubmit.preflight", "caliban.resubmit.report"),
    *("caliban.submission.submit", "caliban.submission.reconcile", "caliban.submission.refresh"),
    *("caliban.submission.pipeline", "caliban.platforms.google.client"),
    *(
        "caliban.platforms.caip.platform",
        "caliban.platforms.vertex.platform",
        "caliban.platforms.kubernetes.kubeconfig_platform",
    ),
    *("caliban.images.registry.push", "caliban.images.docker.engine", "caliban.store.upgrade", "caliban.store.journal"),
    *("google.oauth2.service_account", "google.auth.transport.requests", "googleapiclient.discovery", "psycopg"),
    *("kubernetes.client.api.batch_v1_api", "kubernetes.client.api.core_v1_api", "kubernetes.config.kube_config"),
)


@dataclass(frozen=True)
class LaunchOptions:
    """A command to run.

    Attributes:
        words: the command line after ``caliban``.
        environ: the whole environment.
        cwd: the folder that it is called in.
        out, err: files that take its standard output and error.
        point: where it is killed: a :class:`~tests.safety.tracing.Point` as a tuple, or None.
        recording: a file that takes what it passed, or None.
        retry_policy: its :class:`~caliban.platforms.retry.RetryPolicy`, in part; {} for the usual one.
    """

    arguments: Sequence[str]
    environ: Mapping[str, str]
    cwd: str
    out: str
    err: str
    point: tuple[str, int, str, int] | None = None
    recording: str | None = None
    retry_policy: Mapping[str, float] | None = None


class Nursery:
    """A client of the process; a context manager that ends it."""

    def __init__(self) -> None:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.safety.nursery"],
            env=environ,
            cwd=Path(__file__).parent.parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, invocations: Sequence[LaunchOptions]) -> list[int]:
        """Run them all at once, to the end of the last."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(invocation) for invocation in invocations]) + "\n")
        self._process.stdin.flush()
        result = self._process.stdout.readline()
        assert result, "the nursery ended"
        codes: list[int] = json.loads(result)
        return codes

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()


def _serve() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        invocations = [LaunchOptions(**given) for given in json.loads(line)]
        begun = [_fork(invocation) for invocation in invocations]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) for process_id in begun]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


def _fork(invocation: LaunchOptions) -> int:
    process_id = os.fork()
    if process_id == 0:
        _run_command(invocation)
    return process_id


def _run_command(invocation: LaunchOptions) -> NoReturn:
    """Run the command, and end: whatever happens, no process of the nursery's goes on from here."""
    signal.alarm(_LIFE_S)
    random.seed()
    code = 70
    try:
        for number, name in ((0, os.devnull), (1, invocation.out), (2, invocation.err)):
            opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, number)
        os.chdir(invocation.cwd)
        os.environ.clear()
        os.environ.update(invocation.environ)
        code = _command(invocation)
    except BaseException:  # noqa: BLE001 - told to whoever reads the file
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(invocation: LaunchOptions) -> int:
    from caliban.main import main

    if invocation.retry_policy:
        _set_retry_policy(invocation.retry_policy)
    watch = Tracer(
        Point(*invocation.point) if invocation.point else None,
        Path(invocation.recording) if invocation.recording else None,
    )
    watch.install()
    sys.argv = ["caliban", *invocation.arguments]
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.settrace(None)
        watch.save()


def _set_retry_policy(retry_policy: Mapping[str, Any]) -> None:
    """Replace the default retry policy, so that retries take less time."""
    from caliban.platforms.google import client
    from caliban.platforms.kubernetes import platform
    from caliban.platforms.retry import RetryPolicy

    for module in (client, platform):
        vars(module)["DEFAULT"] = RetryPolicy(**retry_policy)


if __name__ == "__main__":
    _serve()
