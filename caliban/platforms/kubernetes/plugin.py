"""Run a credential plugin: without a terminal, for a bounded time, with a bounded output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from caliban.clock import SystemClock

TIMEOUT = 60
"""Seconds that a plugin may take."""

_MAX_OUTPUT = 2**20
_MAX_CAUSE = 2000
_REPORT_AFTER = 3
_POLL = 0.2


class PluginError(Exception):
    """A plugin gave no credential. The message goes on after its name: ``wrote no JSON``.

    Attributes:
        is_missing: whether it is not installed.
    """

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


def run_plugin(
    command: Sequence[str],
    environ: Mapping[str, str],
    directory: Path,
    on_wait: Callable[[], None] = lambda: None,
    timeout: float = TIMEOUT,
) -> str:
    """Run a program, and return its standard output. It gets no input, and is killed when it takes too long.

    Args:
        command: program and arguments; not run by a shell.
        environ: its environment variables.
        directory: where it runs.
        on_wait: called when it takes longer than a few seconds.
        timeout: in seconds.

    Raises:
        PluginError: it failed; with what it wrote to standard error.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=directory if str(directory) != "." else None,
            env=dict(environ),
            start_new_session=True,  # so that what it started can be ended with it
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "malformed command"
        is_missing = isinstance(error, FileNotFoundError)
        raise PluginError(f"cannot be run: {reason}: {command[0][:200]}", is_missing=is_missing) from error
    try:
        output, errors = _communicate(process, on_wait, timeout)
    finally:
        _end(process)
    if process.returncode != 0:
        said = errors.decode("utf-8", "replace").strip()[-_MAX_CAUSE:]
        raise PluginError(f"failed with exit code {process.returncode}" + (f": {said}" if said else ""))
    return output.decode("utf-8", "replace")


def _communicate(
    process: subprocess.Popen[bytes], on_wait: Callable[[], None], timeout: float
) -> tuple[bytearray, bytearray]:
    """Return what a process writes until it ends; a process of its own that keeps its streams open is not waited for.

    In real time, as the process runs.
    """
    clock = SystemClock()
    started = clock.monotonic()
    assert process.stdout is not None
    assert process.stderr is not None
    written = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    is_reported = False
    with selectors.DefaultSelector() as selector:
        for descriptor in written:
            selector.register(descriptor, selectors.EVENT_READ)
        while True:
            has_ended = process.poll() is not None
            ready = selector.select(0 if has_ended else _POLL) if selector.get_map() else []
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                written[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fd)
                if len(written[key.fd]) > _MAX_OUTPUT:
                    raise PluginError(f"wrote more than {_MAX_OUTPUT} bytes")
            if has_ended and not ready:
                break
            spent = clock.monotonic() - started
            if spent > timeout:
                raise PluginError(f"did not end within {timeout:.0f} s; does it wait for a login?")
            if spent > _REPORT_AFTER and not is_reported:
                is_reported = True
                on_wait()
            if not selector.get_map() and not has_ended:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
    output, errors = written.values()
    return output, errors


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process and of those that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
