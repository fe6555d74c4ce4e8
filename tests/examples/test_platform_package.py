"""The example of a platform in a package of its own: built, installed and used as by its users, without Docker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Caliban, Finished

CLONE = Path(__file__).resolve().parents[2]
EXAMPLE = CLONE / "examples" / "platform"
pytestmark = pytest.mark.slow

BROKEN = "import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(600 if '--wait' in sys.argv else 0)\n1 / 0\n"
WITHOUT_DOCKER = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
FIXED = BROKEN.replace("1 / 0\n", "")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the installed package."""
    source = tmp_path_factory.mktemp("example") / "platform"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, capture_output=True, text=True)
    return site


class Installed:
    """Caliban with the package, on a machine without Docker."""

    def __init__(self, caliban: Caliban, site: Path) -> None:
        self._caliban = caliban
        self._environ = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
        self.script = caliban.cwd / "train.py"
        self.script.write_text(BROKEN)
        self.jobs = caliban.home / ".caliban" / "subprocess"

    def __call__(self, *arguments: str, **environ: str) -> Finished:
        return self._caliban(*arguments, env={**self._environ, **WITHOUT_DOCKER, **environ})

    def environment(self) -> dict[str, str]:
        return self._caliban.environment({**self._environ, **WITHOUT_DOCKER})

    def wait(self, jobs: int) -> None:
        """Wait until so many jobs have ended."""
        while len(list(self.jobs.glob("*/exit"))) < jobs:
            time.sleep(0.02)

    def states(self, group: str) -> list[str]:
        lines = self("status", "--xgroup", group).stdout.splitlines()
        return [line.split()[2] for line in lines if line.strip().startswith("job ")]


@pytest.fixture
def installed(forked_caliban: Caliban, site: Path) -> Iterator[Installed]:
    made = Installed(forked_caliban, site)
    yield made
    made("stop", "--yes")


def test_jobs_are_submitted_listed_fixed_and_run_again(installed: Installed, cwd: Path) -> None:
    (cwd / "experiment.json").write_text('{"epochs": [1, 2]}')
    submitted = installed(
        "subprocess", "--xgroup", "lab", "--experiment_config", "experiment.json", "train.py", "--", "--foo", "3"
    )
    assert (submitted.returncode, submitted.stderr.splitlines()[-1]) == (0, "2 experiments: 2 running")
    installed.wait(2)
    assert installed.states("lab") == ["FAILED", "FAILED"]

    shown = installed("resubmit", "--xgroup", "lab", "--dry_run")
    assert f"docker config 1, for 2 jobs: no image, would run in {cwd}" in shown.stdout
    installed.script.write_text(FIXED)
    again = installed("resubmit", "--xgroup", "lab", "--yes")
    assert (again.returncode, again.stderr.splitlines()[-1]) == (0, "2 experiments: 2 running")
    installed.wait(4)
    assert installed.states("lab") == ["SUCCEEDED", "SUCCEEDED"]
    outputs = sorted(path.read_text().splitlines()[0] for path in installed.jobs.glob("*/output"))
    assert outputs == sorted(2 * ["['--foo', '3', '--epochs', '1']", "['--foo', '3', '--epochs', '2']"])


def test_a_running_job_is_stopped_and_run_again(installed: Installed) -> None:
    installed("subprocess", "--xgroup", "lab", "train.py", "--", "--wait")
    assert installed.states("lab") == ["RUNNING"]
    assert installed("stop", "--xgroup", "lab", "--yes").returncode == 0
    assert installed.states("lab") == ["STOPPED"]
    assert installed("resubmit", "--xgroup", "lab", "--yes").returncode == 0
    assert installed.states("lab") == ["RUNNING"]


def test_a_refused_job_is_recorded_with_its_reason(installed: Installed) -> None:
    refused = installed("subprocess", "--xgroup", "lab", "train.py", PATH="/nonexistent")
    assert refused.returncode == 1
    assert "cause: command not found: python" in refused.stderr
    [job] = [line for line in installed("status", "--xgroup", "lab").stdout.splitlines() if " job " in line]
    assert "FAILED" in job
    assert job.endswith(" was not started: command not found: python)")


def test_the_command_has_no_flags_for_images(run_caliban: Caliban, site: Path) -> None:
    shown = Installed(run_caliban, site)("subprocess", "--help").stdout
    assert "--nice N" in shown
    assert "--nogpu" not in shown
    assert "image" not in shown


def test_a_dry_run_names_the_directory(installed: Installed, cwd: Path) -> None:
    shown = installed("subprocess", "--xgroup", "lab", "--dry_run", "train.py")
    assert f"\ndirectory: {cwd}\n" in shown.stdout


def test_without_the_package_its_jobs_are_listed_and_cannot_be_run_again(
    installed: Installed, forked_caliban: Caliban
) -> None:
    installed("subprocess", "--xgroup", "lab", "train.py")
    installed.wait(1)
    assert installed("resubmit", "--xgroup", "lab", "--dry_run").returncode == 0
    assert installed.states("lab") == ["FAILED"]

    listed = forked_caliban("status", "--xgroup", "lab")
    assert (listed.returncode, "SUBPROCESS" in listed.stdout) == (0, True)
    refused = forked_caliban("resubmit", "--xgroup", "lab", "--all_jobs", "--yes")
    assert refused.returncode == 1
    assert "this installation of caliban cannot use the platform SUBPROCESS [platform-not-supported]" in refused.stderr


def test_the_installed_package_keeps_every_promise_of_a_platform(site: Path, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "contract_case.py", tmp_path)
    environ = {
        **os.environ,
        "CALIBAN_TEST_PLATFORM": "contract_case:SubprocessCase",
        "PYTHONPATH": os.pathsep.join([str(site), str(tmp_path), str(CLONE)]),
    }
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-o", "pythonpath=", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*pytest_command, str(CLONE / "tests" / "platforms" / "contract")],
        cwd=CLONE,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


GATED = """
import pathlib, sys, time
print("started", flush=True)
while not pathlib.Path("go").exists():
    time.sleep(0.02)
print("went", flush=True)
while "--endless" in sys.argv:
    print("more", flush=True)
    time.sleep(0.01)
"""


def start_logs(installed: Installed, *arguments: str, command: str = "exec $caliban logs") -> subprocess.Popen[str]:
    """Start ``caliban logs`` in a second terminal."""
    line = command.replace("$caliban", f"{sys.executable} -m caliban").replace("logs", f"logs {' '.join(arguments)}")
    return subprocess.Popen(
        ["bash", "-c", line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=installed.environment(),
        cwd=installed.script.parent,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_output_of_failed_jobs_is_shown_also_after_it_was_removed(installed: Installed, cwd: Path) -> None:
    (cwd / "experiment.json").write_text('{"epochs": [1, 2]}')
    installed("subprocess", "--xgroup", "lab", "--experiment_config", "experiment.json", "train.py")
    installed.wait(2)
    last = ("logs", "--xgroup", "lab", "--failed", "--tail", "1")
    shown = installed(*last)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [line for line in shown.stdout.splitlines() if not line.startswith("==")] == [
        "ZeroDivisionError: division by zero",
        "ZeroDivisionError: division by zero",
    ]
    for each in installed.jobs.glob("*/output"):
        each.unlink()
    again = installed(*last)
    assert (again.returncode, again.stdout) == (0, shown.stdout)


def test_a_running_job_is_followed_until_it_ends(installed: Installed, cwd: Path) -> None:
    installed.script.write_text(GATED)
    installed("subprocess", "--xgroup", "lab", "train.py")
    with start_logs(installed, "--follow") as process:
        assert first_line(process) == "started\n"
        (cwd / "go").touch()
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode, "Traceback" in err) == ("went\n", 0, False)


@pytest.mark.parametrize("jobs", ["[1]", "[1, 2]"])
def test_a_reader_that_leaves_ends_the_command_quietly(jobs: str, installed: Installed, cwd: Path) -> None:
    installed.script.write_text(GATED)
    (cwd / "experiment.json").write_text(f'{{"epochs": {jobs}}}')
    (cwd / "go").touch()
    line = ("--xgroup", "lab", "--experiment_config", "experiment.json", "train.py", "--", "--endless")
    installed("subprocess", *line)
    command = "set -o pipefail; $caliban logs | head -n 2"
    with start_logs(installed, "--xgroup", "lab", "--follow", command=command) as process:
        out, err = process.communicate(timeout=60)
    assert (len(out.splitlines()), err, process.returncode) == (2, "", 0)
    assert set(installed.states("lab")) == {"RUNNING"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_following_and_leaves_the_job_alone(
    number: signal.Signals, code: int, installed: Installed
) -> None:
    installed.script.write_text(GATED)
    installed("subprocess", "--xgroup", "lab", "train.py")
    with start_logs(installed, "--xgroup", "lab", "--follow") as process:
        lines = [first_line(process), first_line(process)]
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (lines[1], process.returncode) == ("started\n", code)
    assert err == "1 job is still running\ninterrupted\n"
    assert installed.states("lab") == ["RUNNING"]
