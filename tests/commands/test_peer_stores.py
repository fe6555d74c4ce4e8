"""What ``status`` and ``resubmit --dry_run`` say of stores that caliban 0.4.2 made, word for word.

Each file of ``expected/`` holds the user, the store, the command, and all that is printed. The user has named a key
for Google Cloud that is not there, so that no word of Google's, and no login of whoever runs the tests, is in it.
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
FORM = re.compile(r"# (\w+) looks at (\S+)\n\$ caliban (.*)\n((?:.*\n)*)# standard error\n((?:.*\n)*)")
CASES = sorted(file.stem for file in EXPECTED.glob("*.txt"))


@dataclass(frozen=True)
class Case:
    """One file of ``expected/``, and the store in a folder of its own."""

    user: str
    store: Path
    words: list[str]
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
        """All that could be changed: the bytes, the times, what lies beside."""
        stat = self.store.stat()
        return self.store.read_bytes(), stat.st_mtime_ns, stat.st_mode, os.listdir(self.store.parent)  # noqa: PTH208


def read_case(name: str, folder: Path) -> Case:
    match = FORM.fullmatch((EXPECTED / f"{name}.txt").read_text())
    assert match is not None, f"{name}.txt has another form than the others"
    user, store, words, out, err = match.groups()
    (folder / "store").mkdir()
    copied = Path(shutil.copy(STORES / store, folder / "store"))
    copied.chmod(0o640)
    return Case(user, copied, shlex.split(words), out, err)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return read_case(request.param, tmp_path)


def test_the_expected_outputs_are_there() -> None:
    assert len(CASES) == 13


def test_the_output_is_the_expected_one(case: Case, context: ScreenContext) -> None:
    in_case = replace(context, environ=case.environ, user=case.user)
    assert (call(in_case, *case.words), context.out, context.err) == (0, case.out, case.err)


def test_the_store_is_left_as_it_was(case: Case, context: ScreenContext) -> None:
    before = case.state()
    call(replace(context, environ=case.environ, user=case.user), *case.words)
    assert case.state() == before


def test_nothing_appears_in_the_home_folder(case: Case, context: ScreenContext) -> None:
    call(replace(context, environ=case.environ, user=case.user), *case.words)
    assert list(context.home.iterdir()) == []


@pytest.mark.parametrize("name", ["status_of_walkthrough", "dry_run_of_mixed"])
def test_the_installed_command_prints_the_same(name: str, run_caliban: Caliban, tmp_path: Path) -> None:
    case = read_case(name, tmp_path)
    before = case.state()
    done = run_caliban(*case.words, env=case.environ)
    assert (done.returncode, done.stdout, done.stderr, case.state()) == (0, case.out, case.err, before)


@pytest.mark.parametrize("words", [("status",), ("resubmit", "--dry_run"), ("resubmit", "--yes")])
@pytest.mark.parametrize(
    ("user", "group", "hint"),
    [
        ("totoro", "mixd", "did you mean mixed?"),
        ("totoro", "qqqq", "your experiment groups: mixed, empty"),
        ("mei", "empty", "your experiment groups: mixed"),
    ],
)
def test_a_group_of_nobody_or_somebody_else_is_told(
    words: tuple[str, ...], user: str, group: str, hint: str, context: ScreenContext, tmp_path: Path
) -> None:
    case = read_case("status_of_mixed", tmp_path)
    before = case.state()
    with pytest.raises(CalibanError, match=f"{user} has no experiment group {group}") as caught:
        call(replace(context, environ=case.environ, user=user), *words, "--xgroup", group)
    assert (caught.value.hint, case.state()) == (hint, before)
