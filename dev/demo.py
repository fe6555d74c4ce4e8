"""``make demo``: the story of a re-run, told by the real commands on a real Docker Engine.

Runs under ``dev/with_services.py --base-image``, with the Python of ``.venv``. Everything happens in a temporary
folder that is HOME as well, so the store is the default one, ``~/.caliban/caliban.db``, and is gone afterwards.
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
MISTAKE, MENDED = "(seconds - 1)", "max(seconds - 1, 1)"
_LEFT_OUT_OF_ENVIRONMENT = ("CALIBAN_DB_URL", "XDG_CONFIG_HOME", "GOOGLE_APPLICATION_CREDENTIALS")


@dataclass(frozen=True)
class Stage:
    """Where the story takes place: the demo's own HOME, the project in it, and what the commands find around them."""

    home: Path
    project: Path
    environment: dict[str, str]

    def caliban(self, arguments: str, *, answer: str | None = None, expected: int) -> str:
        """Show a command, run it, and give its standard output, which is shown as well.

        Args:
            arguments: after ``caliban``, as typed.
            answer: what is typed at its question.
            expected: its exit code.

        Raises:
            Failure: it ended with another one.
        """
        _show(f"\n$ caliban {arguments}\n")
        process = subprocess.Popen(
            ["caliban", *shlex.split(arguments)],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
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


def _tell(text: str) -> None:
    _show(f"\n# {text}\n")


def set_the_stage(home: Path) -> Stage:
    """Copy the example into the demo's HOME and let it build on the base image that is there."""
    project = home / "cpu"
    shutil.copytree(EXAMPLE, project)
    base_image = os.environ["CALIBAN_TEST_BASE_IMAGE"]
    (project / ".calibanconfig.json").write_text(json.dumps({"base_image": base_image}) + "\n")
    # Two demos at the same moment must not share images: the first to end removes its own.
    (project / "demo.txt").write_text(f"{secrets.token_hex(8)}\n")
    environment = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT_OF_ENVIRONMENT}
    environment["HOME"] = str(home)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return Stage(home, project, environment)


def tell_the_story(stage: Stage) -> None:
    """Run, look, mend, re-run, look again.

    Raises:
        Failure: something ended otherwise than it should.
    """
    _tell("Two experiments. One of them comes upon a mistake in cpu.py, so the command ends with exit code 1.")
    run = f"run --xgroup {GROUP} --nogpu --experiment_config experiment.json cpu.py -- --foo 3"
    stage.caliban(run, expected=1)
    _check_states(stage.caliban(f"status --xgroup {GROUP}", expected=0), {"FAILED": 1, "SUCCEEDED": 1})
    _tell("The mistake is mended:")
    _mend(stage.project / "cpu.py")
    _tell("Only what failed runs again, in a new image. (`y` is the answer to its question.)")
    stage.caliban(f"resubmit --xgroup {GROUP}", answer="y", expected=0)
    _check_states(stage.caliban(f"status --xgroup {GROUP}", expected=0), {"SUCCEEDED": 2})


def _check_states(listing: str, expected: dict[str, int]) -> None:
    found: dict[str, int] = {}
    for state in re.findall(r"^\s*job \d+\s+([A-Z]+)", listing, re.MULTILINE):
        found[state] = found.get(state, 0) + 1
    if found != expected:
        raise Failure(f"`caliban status` shows jobs in the states {found} instead of {expected}")


def _mend(script: Path) -> None:
    before = script.read_text()
    after = before.replace(MISTAKE, MENDED)
    if after == before:
        raise Failure(f"{script.name} has no {MISTAKE} to mend")
    script.write_text(after)
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), script.name, script.name, "", "", 0, "")
    _show("".join(f"{line}\n" for line in diff))


def clean_up(stage: Stage) -> None:
    """Remove the containers and images that the demo's store knows of."""
    store = stage.home / ".caliban" / "caliban.db"
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
    """Tell the story, and take away what it leaves, however it ends."""
    missing = [name for name in ("DOCKER_HOST", "CALIBAN_TEST_BASE_IMAGE") if name not in os.environ]
    if missing:
        say(f"{' and '.join(missing)} not set: run this with `make demo`")
        return 2
    unwind_on_signals()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="caliban-demo-") as home:
        stage = set_the_stage(Path(home))
        try:
            tell_the_story(stage)
        except Interrupted as interrupted:
            return 128 + interrupted.number
        except Failure as failure:
            sys.stdout.flush()
            say(f"the demo did not end as it should: {failure.message}")
            return 1
        finally:
            clean_up(stage)
    _tell(f"Both experiments have succeeded. The demo took {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
