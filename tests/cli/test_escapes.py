"""What is shown cannot control a terminal, forge a line or hide a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caliban.errors import CalibanError
from caliban.escapes import escaped
from caliban.redaction import escape_controls
from tests.conftest import MakeScreen, Screen


@given(st.text())
def test_escaped_text_is_one_visible_line(text: str) -> None:
    assert escaped(text).isprintable()


@given(st.text())
def test_texts_of_several_lines_are_escaped_by_the_same_table(text: str) -> None:
    assert escape_controls(text) == "".join(char if char in "\n\t" else escaped(char) for char in text)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_visible_text_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    "text", ["größe", "e\u0301", "日本語", "مرحبا", "हिन्दी", "🐈", "❤\ufe0f", "✓", "résumé (1)", "a\\x1b", "%s{}"]
)
def test_text_of_all_scripts_stays_as_it_is(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("char", "shown"),
    [
        ("\x1b", "\\x1b"),
        ("\x00", "\\x00"),
        ("\x07", "\\x07"),
        ("\n", "\\n"),
        ("\r", "\\r"),
        ("\t", "\\t"),
        ("\x7f", "\\x7f"),
        ("\x9b", "\\x9b"),
        ("\x85", "\\x85"),
        ("\xa0", "\\xa0"),
        ("\xad", "\\xad"),
        ("\u034f", "\\u034f"),
        ("\u061c", "\\u061c"),
        ("\u115f", "\\u115f"),
        ("\u200b", "\\u200b"),
        ("\u200d", "\\u200d"),
        ("\u2028", "\\u2028"),
        ("\u202e", "\\u202e"),
        ("\u2066", "\\u2066"),
        ("\u2800", "\\u2800"),
        ("\u3000", "\\u3000"),
        ("\u3164", "\\u3164"),
        ("\ufeff", "\\ufeff"),
        ("\udcff", "\\udcff"),
        ("\ue000", "\\ue000"),
        ("\uffff", "\\uffff"),
        ("\U000e0041", "\\U000e0041"),
        ("\U000e0100", "\\U000e0100"),
    ],
)
def test_what_is_not_visible_is_escaped(char: str, shown: str) -> None:
    assert escaped(f"a{char}b") == f"a{shown}b"


EVIL = "x\x1b]0;title\x07\r\nerror: forged\u202e"
SHOWN = "x\\x1b]0;title\\x07\\r\\nerror: forged\\u202e"


def test_every_way_to_write_escapes(make_screen: MakeScreen) -> None:
    screen = make_screen("n\n")
    console = screen.console
    console.print(EVIL)
    console.info(EVIL)
    console.warn(EVIL)
    console.error(CalibanError("x", EVIL))
    console.confirm(EVIL)
    with console.progress(EVIL, total=1, unit="job") as progress:
        progress.note(EVIL)
        make_screen.clock.seconds += 60
        progress.advance()
    assert screen.stdout.text == f"{SHOWN}\n"
    assert screen.stderr.text == (
        f"{SHOWN}\nwarning: {SHOWN}\nerror: {SHOWN} [x]\n\n {SHOWN} [yN]: n\n{SHOWN}: 1 of 1 jobs ({SHOWN})\n"
    )


def test_a_bar_escapes_its_title_and_its_note(make_screen: MakeScreen) -> None:
    screen = make_screen(is_terminal=True)
    with screen.console.progress("\x1b[2J\u202e", total=2, unit="job") as progress:
        progress.note("\x1b]0;x\x07")
        progress.advance()
        screen.console.info("x")
    assert ("\\x1b[2J\\u202e" in screen.stderr.text, "\\x1b]0;x\\x07" in screen.stderr.text) == (True, True)
    assert not {"\x1b[2J", "\u202e", "\x07"} & {screen.stderr.text[i : i + n] for i in range(999) for n in (1, 4)}


def test_the_lines_of_a_cause_cannot_look_like_errors(screen: Screen) -> None:
    screen.console.error(CalibanError("x", "no", cause="one\nerror: forged\x0berror: two\u2028error: three\r"))
    assert [line for line in screen.stderr.text.splitlines() if not line.startswith(" ")] == ["error: no [x]"]


def test_the_output_of_a_job_is_not_escaped(screen: Screen) -> None:
    screen.console.job_output(b"\x1b[31mred\r\n", is_stderr=False)
    assert screen.stdout.written == b"\x1b[31mred\r\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the bar that cannot be closed
@pytest.mark.parametrize("method", ["__init__", "update", "display", "clear", "close", "set_postfix_str"])
def test_a_bar_that_cannot_be_drawn_stops_nothing(
    method: str, make_screen: MakeScreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tqdm import tqdm

    def fail(*args: object, **kwargs: object) -> None:
        raise TypeError("the value of $TQDM_MININTERVAL is no number")

    monkeypatch.setattr(tqdm, method, fail)
    with make_screen(is_terminal=True).console.progress("x", total=1, unit="job") as progress:
        progress.advance()
        progress.note("y")


def test_a_line_of_thousands_of_characters_is_shortened(screen: Screen) -> None:
    screen.console.error(CalibanError("x", f"file not found: /{'x' * 5000}/end"))
    assert len(screen.stderr.text) < 1100
    assert screen.stderr.text.endswith("xxx/end [x]\n")
