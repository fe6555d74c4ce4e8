"""Credential helpers end, and leave nothing behind."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from caliban.bounded import DeadlineExceededError, TooLargeError
from caliban.clock import SystemClock
from caliban.helper_process import run_helper
from caliban.threads import within
from tests.fakes import FakeClock


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return False


def wait_until_ended(pid: int) -> None:
    for _ in range(1000):
        if not is_running(pid):
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")


def test_a_helper_is_given_its_input_and_its_output_returned() -> None:
    code = "import sys; sys.stderr.write('err'); print(sys.stdin.read()); sys.exit(3)"
    result = run_helper(script(code), SystemClock(), stdin=b"host")
    assert (result.code, result.stdout, result.stderr) == (3, b"host\n", b"err")


def test_a_helper_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "sys.stdout.close(); sys.stderr.close(); os.close(1); os.close(2); time.sleep(1000)"
    )

    class Clock(FakeClock):
        def wait(self, event: object, seconds: float) -> bool:
            while not pids.exists() or not pids.read_text(encoding="ascii"):
                time.sleep(0.01)
            return super().wait(event, seconds)  # type: ignore[arg-type]

    with pytest.raises(DeadlineExceededError, match="did not end within 60 s"):
        run_helper(script(code), Clock())
    for pid in pids.read_text(encoding="ascii").split():
        wait_until_ended(int(pid))


def test_a_helper_that_takes_long_causes_one_word() -> None:
    said: list[str] = []
    clock = FakeClock()
    with pytest.raises(DeadlineExceededError):
        run_helper(script("import time; time.sleep(1000)"), clock, seconds=30, on_slow=lambda: said.append("slow"))
    assert (said, clock.seconds) == (["slow"], 30)


def test_what_a_helper_leaves_behind_does_not_keep_its_output_open() -> None:
    code = "import subprocess; child = subprocess.Popen(['sleep', '1000']); print(child.pid)"
    result = run_helper(script(code), SystemClock())
    wait_until_ended(int(result.stdout))


def test_a_helper_that_writes_without_end_is_killed() -> None:
    with pytest.raises(TooLargeError, match="wrote more than 1 MiB"):
        run_helper(["yes"], SystemClock())


def test_a_helper_that_reads_nothing_is_no_error() -> None:
    assert run_helper(["true"], SystemClock(), stdin=bytes(1 << 20)).code == 0


def test_a_missing_helper_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        run_helper(["caliban-no-such-helper"], SystemClock())


def test_a_call_that_hangs_is_given_up() -> None:
    hanging = threading.Event()

    def hang() -> None:
        hanging.wait(20)

    with pytest.raises(DeadlineExceededError):
        within(30, hang, FakeClock())
    hanging.set()


def test_what_a_call_raises_is_raised() -> None:
    def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        within(30, fail, SystemClock())
