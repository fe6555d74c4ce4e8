from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from services.engine import docker_engine

WITH_SERVICES = Path(__file__).resolve().parents[2] / "dev" / "with_services.py"
NOT_BROUGHT_UP = 125

pytestmark = pytest.mark.usefixtures("cache", "scratch")


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files that PostgreSQL's user may enter; what a killed run leaves goes with it."""
    with tempfile.TemporaryDirectory(prefix="caliban-dev-test-") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WITH_SERVICES), *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], number: signal.Signals) -> int:
    process.send_signal(number)
    process.communicate(timeout=60)
    return process.returncode


def answers(url: str) -> bool:
    try:
        psycopg.connect(url.replace("+psycopg", ""), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def soon(happens: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


PRINT_URL_AND_WAIT = "echo $CALIBAN_TEST_POSTGRESQL_URL; exec sleep 60"


def test_the_exit_code_is_the_commands() -> None:
    assert run("--", "sh", "-c", "exit 7")[0] == 7


def test_options_of_the_command_are_left_to_it() -> None:
    assert run("--", "echo", "--docker")[1] == "--docker\n"


def test_a_command_that_is_not_there_is_told() -> None:
    code, _, stderr = run("--", "no-such-command")
    assert (code, "cannot run no-such-command" in stderr) == (127, True)


def test_a_command_that_a_signal_ends_has_the_exit_code_that_shells_give() -> None:
    assert run("--", "sh", "-c", "kill -9 $$")[0] == 128 + signal.SIGKILL


def test_postgresql_answers_the_command() -> None:
    query = (
        "import os, psycopg; "
        "url = os.environ['CALIBAN_TEST_POSTGRESQL_URL'].replace('+psycopg', ''); "
        "print(psycopg.connect(url).execute('select current_user').fetchone()[0])"
    )
    assert run("--postgresql", "--", sys.executable, "-c", query)[:2] == (0, "postgres\n")


def test_postgresql_is_gone_when_the_command_has_ended() -> None:
    url = run("--postgresql", "--", "sh", "-c", "echo $CALIBAN_TEST_POSTGRESQL_URL")[1].strip()
    assert not answers(url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_takes_down_what_was_started(number: signal.Signals) -> None:
    process = start("--postgresql", "--", "sh", "-c", PRINT_URL_AND_WAIT)
    url = first_line(process)
    assert (end(process, number), answers(url)) == (128 + number, False)


def test_a_signal_reaches_the_command() -> None:
    trap = "trap 'echo asked to end; exit 3' TERM; echo ready; for _ in $(seq 300); do sleep 0.1; done"
    process = start("--", "sh", "-c", trap)
    first_line(process)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "asked to end\n"


def test_what_was_started_ends_even_when_we_are_killed() -> None:
    process = start("--postgresql", "--", "sh", "-c", PRINT_URL_AND_WAIT)
    url = first_line(process)
    process.kill()
    assert soon(lambda: not answers(url))


def test_the_command_ends_even_when_we_are_killed() -> None:
    process = start("--", "sh", "-c", "echo $$; exec sleep 60")
    pid = int(first_line(process))
    process.kill()
    assert soon(lambda: not is_running(pid))


@pytest.mark.slow
def test_the_directories_of_a_killed_run_are_removed_by_the_next(scratch: Path) -> None:
    process = start("--postgresql", "--", "sh", "-c", PRINT_URL_AND_WAIT)
    url = first_line(process)
    process.kill()
    process.wait()
    assert soon(lambda: not answers(url))
    run("--postgresql", "--", "true")
    assert list(scratch.glob("*postgresql*")) == []


def test_the_registry_answers_the_command() -> None:
    ask = (
        "import os, urllib.request as r; print(r.urlopen(f'http://{os.environ[\"CALIBAN_TEST_REGISTRY\"]}/v2/').status)"
    )
    assert run("--registry", "--", sys.executable, "-c", ask, no_proxy="*")[:2] == (0, "200\n")


def test_a_cache_directory_that_others_may_write_to_is_refused(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    code, _, stderr = run("--peer", "--", "true")
    assert (code, "others may write to the cache directory" in stderr) == (NOT_BROUGHT_UP, True)


def test_a_cache_directory_that_is_a_link_is_refused(cache: Path, tmp_path: Path) -> None:
    cache.symlink_to(tmp_path)
    code, _, stderr = run("--peer", "--", "true")
    assert (code, "is not a directory" in stderr) == (NOT_BROUGHT_UP, True)


def test_the_cluster_that_the_environment_names_is_left_to_the_command() -> None:
    command = ("--kubernetes", "--", "sh", "-c", "echo $CALIBAN_TEST_CONTEXT $KUBECONFIG")
    assert run(*command, CALIBAN_TEST_CONTEXT="mine", KUBECONFIG="/my/config")[:2] == (0, "mine /my/config\n")


@pytest.mark.docker
def test_the_docker_engine_of_the_machine_is_used_though_a_current_one_is_wanted() -> None:
    with docker_engine() as engine:
        command = ("--current-engine", "--", "sh", "-c", "echo $DOCKER_HOST")
        assert run(*command, DOCKER_HOST=engine.address)[:2] == (0, f"{engine.address}\n")
