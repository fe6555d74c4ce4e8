"""``make demo``: an example of a rerun, with the real commands and a real Docker Engine.

Runs under ``dev/with_services.py --base-image``, with the Python of ``.venv``. HOME is a temporary directory, so the
store is the default one, ``~/.caliban/caliban.db``, and is removed afterwards.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import secrets
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from services.engine_api import EngineApi
from services.shell import Failure, Interrupted, say, unwind_on_signals

GROUP = "resubmit_test"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "cpu"
BUG, FIX = "(seconds - 1)", "max(seconds - 1, 1)"
_REMOVED_VARIABLES = ("CALIBAN_DB_URL", "XDG_CONFIG_HOME", "GOOGLE_APPLICATION_CREDENTIALS")


@dataclass(frozen=True)
class Demo:
    """The demo's home directory, the project in it, and the environment variables of the commands."""

    home: Path
    project: Path
    environment: dict[str, str]

    def caliban(self, arguments: str, *, answer: str | None = None, expected: int) -> str:
        """Show and run a command, and show and return its output.

        Args:
            arguments: the command line after ``caliban``.
            answer: the answer to its question.
            expected: its exit code.

        Raises:
            Failure: it ended with another exit code.
        """
        _show(f"\n$ caliban {arguments}\n")
        process = subprocess.Popen(
            ["caliban", *shlex.split(arguments)],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # in the order in which a terminal shows both
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            if answer is not None:
                process.stdin.write(f"{answer}\n".encode())
            process.stdin.close()
            lines = []
            for line in process.stdout:
                lines.append(line.decode(errors="replace"))
                _show(lines[-1])
        if process.returncode != expected:
            raise Failure(f"`caliban {arguments}` ended with exit code {process.returncode} instead of {expected}")
        return "".join(lines)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _comment(text: str) -> None:
    _show(f"\n# {text}\n")


def set_up(home: Path) -> Demo:
    """Copy the example into the demo's home directory, and configure the available base image."""
    project = home / "cpu"
    shutil.copytree(EXAMPLE, project)
    base_image = os.environ["CALIBAN_TEST_BASE_IMAGE"]
    (project / ".calibanconfig.json").write_text(json.dumps({"base_image": base_image}) + "\n")
    # two demos at the same time must not share images, because each removes its own
    (project / "demo.txt").write_text(f"{secrets.token_hex(8)}\n")
    environment = {name: value for name, value in os.environ.items() if name not in _REMOVED_VARIABLES}
    environment["HOME"] = str(home)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return Demo(home, project, environment)


def play(demo: Demo) -> None:
    """Run a group, show its state and why a job failed, fix the code, rerun the failed job, show the state again.

    Raises:
        Failure: a command or a job did not end as expected.
    """
    _comment("Run two experiments. One fails because of a bug in cpu.py, so the exit code is 1.")
    run = f"run --xgroup {GROUP} --nogpu --experiment_config experiment.json cpu.py -- --foo 3"
    demo.caliban(run, expected=1)
    _check_states(demo.caliban(f"status --xgroup {GROUP}", expected=0), {"FAILED": 1, "SUCCEEDED": 1})
    _comment("See why: the end of the output of the failed job.")
    _check_reason(demo.caliban(f"logs --xgroup {GROUP} --failed --tail 3", expected=0))
    _comment("Fix the bug:")
    _fix(demo.project / "cpu.py")
    _comment("Rerun only the failed experiment, in a new image. (The question is answered with `y`.)")
    demo.caliban(f"resubmit --xgroup {GROUP}", answer="y", expected=0)
    _check_states(demo.caliban(f"status --xgroup {GROUP}", expected=0), {"SUCCEEDED": 2})


def _check_reason(output: str) -> None:
    if "ZeroDivisionError: division by zero" not in output:
        raise Failure("the output of the failed job does not have its error")


def _check_states(listing: str, expected: dict[str, int]) -> None:
    found: dict[str, int] = {}
    for state in re.findall(r"^\s*job \d+\s+([A-Z]+)", listing, re.MULTILINE):
        found[state] = found.get(state, 0) + 1
    if found != expected:
        raise Failure(f"`caliban status` shows jobs in the states {found} instead of {expected}")


def _fix(script: Path) -> None:
    before = script.read_text()
    after = before.replace(BUG, FIX)
    if after == before:
        raise Failure(f"{BUG} not found in {script.name}")
    script.write_text(after)
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), script.name, script.name, "", "", 0, "")
    _show("".join(f"{line}\n" for line in diff))


def clean_up(demo: Demo) -> None:
    """Remove the containers and images in the demo's store."""
    store = demo.home / ".caliban" / "caliban.db"
    if not store.exists():
        return
    with closing(sqlite3.connect(store)) as connection:
        images = [str(image) for (image,) in connection.execute("SELECT DISTINCT container FROM jobs")]
    api = EngineApi(os.environ["DOCKER_HOST"])
    for image in images:
        for container in api.containers_of_image(image):
            api.remove_container(container)
        api.remove_image(image)


def main() -> int:
    """Play the demo, and always remove its containers and images."""
    missing = [name for name in ("DOCKER_HOST", "CALIBAN_TEST_BASE_IMAGE") if name not in os.environ]
    if missing:
        say(f"{' and '.join(missing)} not set; run: make demo")
        return 2
    unwind_on_signals()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="caliban-demo-") as home:
        demo = set_up(Path(home))
        try:
            play(demo)
        except Interrupted as interrupted:
            return 128 + interrupted.number
        except Failure as failure:
            sys.stdout.flush()
            say(f"the demo failed: {failure.message}")
            return 1
        finally:
            clean_up(demo)
    _comment(f"Both experiments succeeded. The demo took {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
