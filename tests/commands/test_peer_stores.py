"""What ``status`` and ``resubmit --dry_run`` print for stores of caliban 0.4.2.

Each file of ``expected/`` contains the user, the store, the command and its whole output. The user names a key file for
Google Cloud that does not exist, so that the output depends neither on Google's services nor on a login.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from caliban.errors import CalibanError
from tests.calls import call
from tests.conftest import Caliban, ScreenContext

EXPECTED = Path(__file__).parent / "expected"
STORES = Path(__file__).parent.parent / "data" / "peer_stores"
FORM = re.compile(r"# user (\w+), store (\S+)\n\$ caliban (.*)\n((?:.*\n)*)# standard error\n((?:.*\n)*)")
CASES = sorted(file.stem for file in EXPECTED.glob("*.txt"))


@dataclass(frozen=True)
class Case:
    """A file of ``expected/``, and a copy of its store."""

    user: str
    store: Path
    arguments: list[str]
    out: str
    err: str

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "CALIBAN_DB_URL": f"sqlite:///{self.store}",
            "CALIBAN_USER": self.user,
            "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json",
        }

    def state(self) -> object:
        """Return what a command could change: content, time and mode of the file, and other files."""
        stat = self.store.stat()
        return self.store.read_bytes(), stat.st_mtime_ns, stat.st_mode, os.listdir(self.store.parent)  # noqa: PTH208


def read_case(name: str, directory: Path) -> Case:
    match = FORM.fullmatch((EXPECTED / f"{name}.txt").read_text())
    assert match is not None, f"{name}.txt is malformed"
    user, store, arguments, out, err = match.groups()
    (directory / "store").mkdir()
    copied = Path(shutil.copy(STORES / store, directory / "store"))
    copied.chmod(0o640)
    return Case(user, copied, shlex.split(arguments), out, err)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return read_case(request.param, tmp_path)


def test_every_expected_output_is_tested() -> None:
    assert len(CASES) == 14


def test_the_output_is_as_expected(case: Case, context: ScreenContext) -> None:
    in_case = replace(context, environ=case.environ, user=case.user)
    assert (call(in_case, *case.arguments), context.out, context.err) == (0, case.out, case.err)


def test_the_store_is_not_changed(case: Case, context: ScreenContext) -> None:
    before = case.state()
    call(replace(context, environ=case.environ, user=case.user), *case.arguments)
    assert case.state() == before


def test_nothing_is_created_in_the_home_directory(case: Case, context: ScreenContext) -> None:
    call(replace(context, environ=case.environ, user=case.user), *case.arguments)
    assert list(context.home.iterdir()) == []


@pytest.mark.parametrize("name", ["status_of_walkthrough", "dry_run_of_mixed"])
def test_the_installed_command_prints_the_same(name: str, run_caliban: Caliban, tmp_path: Path) -> None:
    case = read_case(name, tmp_path)
    before = case.state()
    done = run_caliban(*case.arguments, env=case.environ)
    assert (done.returncode, done.stdout, done.stderr, case.state()) == (0, case.out, case.err, before)


@pytest.mark.parametrize("arguments", [("status",), ("resubmit", "--dry_run"), ("resubmit", "--yes")])
@pytest.mark.parametrize(
    ("user", "group", "hint"),
    [
        ("totoro", "mixd", "did you mean mixed?"),
        ("totoro", "qqqq", "your experiment groups: mixed, empty"),
        ("mei", "empty", "your experiment groups: mixed"),
    ],
)
def test_an_unknown_group_is_reported_with_a_suggestion(
    arguments: tuple[str, ...], user: str, group: str, hint: str, context: ScreenContext, tmp_path: Path
) -> None:
    case = read_case("status_of_mixed", tmp_path)
    before = case.state()
    with pytest.raises(CalibanError, match=f'{user} has no experiment group "{group}"') as caught:
        call(replace(context, environ=case.environ, user=user), *arguments, "--xgroup", group)
    assert (caught.value.hint, case.state()) == (hint, before)
