from __future__ import annotations

import getpass
import os
import pwd
from datetime import timedelta
from pathlib import Path

import pytest

from caliban.cli.context import Context, login_name
from caliban.errors import UsageError
from tests.conftest import Screen, ScreenContext
from tests.fakes import FakeClock


@pytest.mark.parametrize(
    ("environ", "user"),
    [
        ({"CALIBAN_USER": "mei", "LOGNAME": "satsuki", "USER": "totoro"}, "mei"),
        ({"LOGNAME": "satsuki", "USER": "totoro"}, "satsuki"),
        ({"USER": "totoro"}, "totoro"),
        ({"CALIBAN_USER": "", "USER": "totoro"}, "totoro"),
    ],
)
def test_the_environment_names_the_user(environ: dict[str, str], user: str) -> None:
    assert login_name(environ) == user


def test_without_a_variable_the_system_names_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "satsuki")
    assert login_name({}) == "satsuki"


@pytest.mark.parametrize("error", [KeyError("uid not found: 4711"), OSError("no username set")])
def test_a_user_id_without_a_name_is_an_error_with_a_hint(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)
    with pytest.raises(UsageError) as caught:
        login_name({})
    assert (caught.value.id, caught.value.message, caught.value.hint) == (
        "no-user",
        "cannot determine the user name",
        "set $CALIBAN_USER to your name",
    )


def test_the_context_describes_the_process(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_current_directory_that_was_removed_is_an_error_with_a_hint(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = tmp_path / "removed"
    removed.mkdir()
    monkeypatch.chdir(removed)
    removed.rmdir()
    with pytest.raises(UsageError) as caught:
        _ = Context.of_this_process(screen.console).cwd
    assert (caught.value.id, caught.value.message) == ("no-folder", "cannot determine the current directory")


def test_the_time_is_that_of_the_clock(context: ScreenContext, clock: FakeClock) -> None:
    before = context.now()
    clock.seconds += 90
    assert context.now() - before == timedelta(seconds=90)


def process(screen: Screen, monkeypatch: pytest.MonkeyPatch, **environ: str | None) -> Context:
    """Return the context of this process with some variables set, or removed."""
    for name, value in environ.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return Context.of_this_process(screen.console)


@pytest.mark.parametrize("home", [None, ""])
def test_without_a_variable_the_user_database_names_the_home_directory(
    home: str | None, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert process(screen, monkeypatch, HOME=home).home == Path(pwd.getpwuid(os.getuid()).pw_dir)


@pytest.mark.parametrize("home", ["relative", ".", "\udcff", "/tmp/\udcff", "~"])
def test_a_home_directory_that_is_no_absolute_path_in_utf8_is_an_error(
    home: str, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as caught:
        _ = process(screen, monkeypatch, HOME=home).home
    assert caught.value.id in ("no-folder", "variable-not-text")


def test_a_variable_that_is_not_text_is_an_error_where_it_is_used(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = process(screen, monkeypatch, PROJECT_ID="a\udcff", CALIBAN_USER="mei")
    assert context.user == "mei"
    with pytest.raises(UsageError) as caught:
        context.environ.get("PROJECT_ID")
    assert (caught.value.id, caught.value.message) == (
        "variable-not-text",
        "the environment variable PROJECT_ID is not valid UTF-8: b'a\\xff'",
    )
    assert dict(context.environ)["PROJECT_ID"] == "a\udcff"


def test_utf8_is_read_in_any_locale(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process(screen, monkeypatch, CALIBAN_USER="gr\udcc3\udcb6").user == "grö"


def test_a_variable_does_not_hide_who_the_person_is(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    context = process(screen, monkeypatch, CALIBAN_USER="someone-else")
    assert (context.user, context.login) == ("someone-else", pwd.getpwuid(os.getuid()).pw_name)
