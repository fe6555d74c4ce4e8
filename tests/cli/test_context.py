from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from caliban.cli.context import Context, login_name
from caliban.errors import UsageError
from tests.conftest import Screen


@pytest.mark.parametrize(
    ("environ", "user"),
    [
        ({"CALIBAN_USER": "mei", "LOGNAME": "satsuki", "USER": "totoro"}, "mei"),
        ({"LOGNAME": "satsuki", "USER": "totoro"}, "satsuki"),
        ({"USER": "totoro"}, "totoro"),
        ({"CALIBAN_USER": "", "USER": "totoro"}, "totoro"),
    ],
)
def test_the_user_is_named_by_the_environment(environ: dict[str, str], user: str) -> None:
    assert login_name(environ) == user


def test_without_a_word_in_the_environment_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "satsuki")
    assert login_name({}) == "satsuki"


@pytest.mark.parametrize("error", [KeyError("uid not found: 4711"), OSError("no username set")])
def test_a_bare_user_id_is_told_with_what_to_do(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(UsageError) as caught:
        login_name({})
    assert (caught.value.id, caught.value.hint) == ("no-user", "set $CALIBAN_USER to your name")


def test_the_context_is_that_of_the_process(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/mei")
    monkeypatch.setenv("CALIBAN_USER", "mei")
    found = Context.of_this_process(screen.console)
    assert (found.cwd, found.home, found.user, found.environ["CALIBAN_USER"]) == (
        tmp_path,
        Path("/home/mei"),
        "mei",
        "mei",
    )
