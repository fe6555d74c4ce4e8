"""What jobs write, with a real engine and tqdm: on a terminal, in files and pipes, in log files, and afterwards."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from caliban.errors import CalibanError
from caliban.images.docker.engine import Engine
from caliban.outputs.paths import log_path
from caliban.platforms.base import LogRequest
from caliban.platforms.registry import parse_details
from caliban.records import FailureCause, JobRecord, OutputLine
from caliban.store.address import store_url
from caliban.store.database import Access, open_store
from caliban.store.queries import find_job
from caliban.submission.setup import make_platforms
from tests.e2e.conftest import Researcher, running_jobs, wait_until
from tests.e2e.started import StartedCommand
from tests.fakes import RecordingReporter
from tests.reading import read_output

RUN = ("run", "--xgroup", "g", "--nogpu")
RESUBMIT = ("resubmit", "--xgroup", "g", "--yes")
BAR = """
import sys, time
from tqdm import tqdm
pause, code = (*sys.argv[1:], "0", "0")[:2]
for step in tqdm(range(20), desc="train", mininterval=0, miniters=1):
    time.sleep(float(pause))
print("done")
sys.exit(int(code))
"""


@pytest.fixture
def with_tqdm(researcher: Researcher) -> Researcher:
    """A project whose jobs draw a bar; the engine's cache keeps its image for the session."""
    researcher.write("requirements.txt", "tqdm\n")
    researcher.write("cpu.py", BAR)
    return researcher


def on_terminal(researcher: Researcher, *arguments: str) -> list[tuple[float, bytes]]:
    """Run a command on a terminal, and return what it shows, with the times."""
    user, program = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "caliban", *arguments],
        cwd=researcher.project,
        env=researcher.environ,
        stdin=program,
        stdout=program,
        stderr=program,
        start_new_session=True,
    )
    os.close(program)
    shown = []
    with suppress(OSError):  # the end of the terminal
        while select.select([user], [], [], 120)[0]:
            shown.append((time.monotonic(), os.read(user, 65536)))
    os.close(user)
    assert process.wait(60) in (0, 1)
    return shown


def log_of(researcher: Researcher, job: int = 1) -> Path:
    return researcher.home / ".caliban" / "logs" / f"{researcher.details(job)['name']}.log"


def record(researcher: Researcher, job_id: int = 1) -> JobRecord:
    url = store_url(researcher.environ, researcher.home)
    with open_store(url, Access.READ, RecordingReporter()) as store, store.reading() as session:
        job = find_job(session, parse_details, job_id)
    assert job is not None
    return job


def logs(researcher: Researcher, job_id: int = 1, tail: int | None = None, *, follow: bool = False) -> list[OutputLine]:
    platforms = make_platforms(researcher.environ, researcher.home, RecordingReporter())
    return read_output(platforms, record(researcher, job_id), LogRequest(tail, follow))[0]


def test_a_bar_moves_on_a_terminal(with_tqdm: Researcher) -> None:
    shown = on_terminal(with_tqdm, *RUN, "cpu.py", "--", "0.07")
    states = [moment for moment, data in shown if b"train:" in data]
    assert len(states) >= 10
    assert states[-1] - states[0] > 0.8


def test_in_files_a_bar_is_its_last_state(with_tqdm: Researcher) -> None:
    result = with_tqdm.caliban(*RUN, "cpu.py")
    bars = [line for line in result.err.splitlines() if "train:" in line]
    assert (result.out, len(bars), "20/20" in bars[0]) == ("done\n", 1, True)
    assert [line for line in log_of(with_tqdm).read_text().splitlines() if "/20" in line] == bars


def test_standard_output_of_resubmit_can_be_parsed(with_tqdm: Researcher) -> None:
    with_tqdm.caliban(*RUN, "cpu.py", "--", "0", "1")
    result = with_tqdm.caliban(*RESUBMIT)
    assert len(re.findall(r"^  job \d+ +FAILED +LOCAL .* container: sha256:.*$", result.out, re.MULTILINE)) == 2
    assert ("done" in result.out, "train:" in result.out) == (False, False)
    assert ("done\n" in result.err, "20/20" in result.err) == (True, True)


def test_both_streams_are_in_the_order_in_which_the_engine_reads_them(researcher: Researcher) -> None:
    code = "import sys, time\nfor n in range(6):\n    print(n, file=(sys.stdout, sys.stderr)[n % 2], flush=True)\n"
    researcher.write("cpu.py", code + "    time.sleep(0.3)\n")  # it reads them side by side
    researcher.caliban(*RUN, "cpu.py")
    assert log_of(researcher).read_text().split() == [str(number) for number in range(6)]
    assert [(int(line.data), line.is_stderr) for line in logs(researcher)] == [(n, n % 2 == 1) for n in range(6)]


def test_binary_output_arrives_byte_for_byte(researcher: Researcher) -> None:
    data = bytes(range(256)) * 1000
    researcher.write("cpu.py", "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 1000)\n")
    out = researcher.project.parent / "out"
    with out.open("wb") as stdout:
        subprocess.run(
            [sys.executable, "-m", "caliban", *RUN, "cpu.py"],
            cwd=researcher.project,
            env=researcher.environ,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    assert out.read_bytes() == data


def test_a_log_file_is_bounded(researcher: Researcher) -> None:
    researcher.environ.update(CALIBAN_LOG_HEAD="1K", CALIBAN_LOG_TAIL="2K")
    researcher.write("cpu.py", "for n in range(200_000):\n    print(n)\n")
    researcher.caliban(*RUN, "cpu.py")
    content = log_of(researcher).read_text()
    assert (len(content) < 3200, content.startswith("0\n1\n"), content.endswith("\n199999\n")) == (True, True, True)
    assert "bytes of output were left out here]\n" in content
    assert log_of(researcher).stat().st_mode & 0o777 == 0o600


def test_a_reader_that_does_not_read_does_not_hold_up_the_job(
    researcher: Researcher, processes: list[StartedCommand]
) -> None:
    researcher.write("cpu.py", "for n in range(6000):\n    print('x' * 8191)\n")
    process = researcher.start(*RUN, "cpu.py")
    processes.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    wait_until(lambda: " RUNNING " not in researcher.caliban("status", "--xgroup", "g").out, 120)
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, len(out)) == (0, 6000 * 8192)


@pytest.fixture
def killed(researcher: Researcher, processes: list[StartedCommand]) -> Researcher:
    """A researcher whose command was killed while its job wrote; the job ends by itself."""
    code = "import time\nfor n in range(40):\n    print(n, flush=True)\n    time.sleep(0.04)\nprint('end', end='')\n"
    researcher.write("cpu.py", code)
    process = researcher.start(*RUN, "cpu.py")
    processes.append(process)
    wait_until(lambda: researcher.store.exists() and bool(running_jobs(researcher)))
    wait_until(lambda: log_of(researcher).exists() and "5\n" in log_of(researcher).read_text())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return researcher


def test_after_a_kill_the_log_file_is_made_whole_when_the_end_is_seen(killed: Researcher, engine: Engine) -> None:
    engine.client.api.wait(str(killed.details(1)["name"]))
    killed.caliban("status", "--xgroup", "g")
    assert log_of(killed).read_text() == "".join(f"{n}\n" for n in range(40)) + "end"


def test_a_job_is_followed_to_its_end(killed: Researcher) -> None:
    lines = logs(killed, follow=True)
    assert b"".join(line.data for line in lines) == b"".join(b"%d\n" % n for n in range(40)) + b"end"
    assert all(line.time is not None for line in lines)


def test_output_survives_its_container(with_tqdm: Researcher, engine: Engine) -> None:
    with_tqdm.caliban(*RUN, "cpu.py")
    assert b"".join(line.data for line in logs(with_tqdm, tail=1)) != b""
    engine.client.api.remove_container(str(with_tqdm.details(1)["name"]))
    assert b"done\n" in [line.data for line in logs(with_tqdm)]
    path = log_path(with_tqdm.home, record(with_tqdm))
    assert path is not None
    path.unlink()
    with pytest.raises(CalibanError) as caught:
        logs(with_tqdm)
    assert caught.value.id == "output-gone"


def test_a_log_driver_that_cannot_be_read(researcher: Researcher) -> None:
    researcher.write("cpu.py", "print('shown nevertheless')\n")
    result = researcher.caliban(*RUN, "--docker_run_args", "--log-driver none", "cpu.py")
    assert (result.out, [line.data for line in logs(researcher)]) == (
        "shown nevertheless\n",
        [b"shown nevertheless\n"],
    )
    log_of(researcher).unlink()
    with pytest.raises(CalibanError) as caught:
        logs(researcher)
    assert caught.value.id == "output-refused"


@pytest.mark.parametrize("flag", ["--tty", "--restart on-failure:2"])
def test_containers_with_a_terminal_or_restarts_have_their_output_once(researcher: Researcher, flag: str) -> None:
    researcher.write("cpu.py", "import sys\nprint('a' * 40_000)\nprint('last', end='')\nsys.exit(1)\n")
    result = researcher.caliban(*RUN, "--docker_run_args", flag, "cpu.py")
    runs = 1 if flag == "--tty" else 3
    assert (result.out.count("a" * 40_000), result.out.count("last")) == (runs, runs)
    written = b"".join(line.data for line in logs(researcher))
    assert (written.count(b"a" * 40_000), written.count(b"last")) == (runs, runs)


KILL = "import os, signal\nos.kill(os.getpid(), signal.{})\nimport time\ntime.sleep(60)\n"
EAT = "x = []\nwhile True:\n    x.append(bytearray(10_000_000))\n"
CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {EAT!r}])\nsys.exit(3)\n"


@pytest.mark.parametrize(
    ("code", "flags", "exit_code", "cause"),
    [
        ("raise ValueError('loss is nan')\n", "", 1, FailureCause.CODE_ERROR),
        (KILL.format("SIGSEGV"), "", 139, FailureCause.CODE_ERROR),
        (KILL.format("SIGKILL"), "", 137, FailureCause.STOPPED),
        (KILL.format("SIGTERM"), "", 143, FailureCause.STOPPED),
        (EAT, "--memory 40m --memory-swap 40m", 137, FailureCause.OUT_OF_MEMORY),
        (CHILD, "--memory 60m --memory-swap 60m", 3, FailureCause.OUT_OF_MEMORY),
        ("", "--entrypoint /no/such/program --init=false", None, FailureCause.IMAGE),
        ("", "--device /dev/no-such-device", None, FailureCause.REFUSED),
    ],
    ids=["exception", "SIGSEGV", "SIGKILL", "SIGTERM", "memory", "memory of a child", "program", "device"],
)
def test_the_cause_of_a_failure(
    researcher: Researcher, code: str, flags: str, exit_code: int | None, cause: FailureCause
) -> None:
    researcher.write("cpu.py", code)
    result = researcher.caliban(*RUN, *(("--docker_run_args", flags) if flags else ()), "cpu.py")
    end = record(researcher).details.exit
    assert end is not None, result.err
    assert (end.code, end.cause) == (exit_code, cause), result.err


def test_a_container_that_somebody_kills(
    researcher: Researcher, engine: Engine, run_until_running: Callable[[str], StartedCommand]
) -> None:
    process = run_until_running("[6000]")
    engine.client.api.kill(str(researcher.details(1)["name"]))
    process.communicate(timeout=60)
    end = record(researcher).details.exit
    assert end is not None
    assert (end.code, end.cause) == (137, FailureCause.STOPPED)
