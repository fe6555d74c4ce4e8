from __future__ import annotations

import pytest

from caliban.cli.terminal import coloured, has_colours, size_of
from tests.conftest import MakeScreen
from tests.fakes import FakeClock, FakeStream

LINE = "    job 1        FAILED       LOCAL 2020-05-29 10:53:40 container: lab:1"
XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        (XTERM, True, True),
        (XTERM, False, False),
        ({**XTERM, "CLICOLOR_FORCE": "1"}, False, False),
        ({**XTERM, "NO_COLOR": "1"}, True, False),
        ({**XTERM, "NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": ""}, True, False),
        ({}, True, False),
    ],
)
def test_colours_are_for_terminals_that_have_them(environ: dict[str, str], is_terminal: bool, expected: bool) -> None:
    assert has_colours(FakeStream(is_terminal=is_terminal), environ) == expected


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (LINE, LINE.replace("FAILED", "\x1b[31mFAILED\x1b[0m")),
        ("  job 1        SUCCEEDED    TEST", "  job 1        \x1b[32mSUCCEEDED\x1b[0m    TEST"),
        ("    attempt 2  job 1        RUNNING   TEST", "    attempt 2  job 1        \x1b[36mRUNNING\x1b[0m   TEST"),
        ("  experiment id 1: job 1 FAILED ", "  experiment id 1: job 1 FAILED "),
        ("xgroup FAILED:", "xgroup FAILED:"),
        ("", ""),
    ],
)
def test_only_the_state_of_a_job_has_a_colour(line: str, shown: str) -> None:
    assert coloured(line) == shown


def test_a_listing_on_a_pipe_has_no_colours_and_is_not_cut(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM, COLUMNS="40")
    screen = make_screen()
    screen.console.listing(LINE)
    assert screen.stdout.text == f"{LINE}\n"


def test_a_listing_on_a_terminal_is_coloured_and_cut_to_its_width(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM, COLUMNS="40")
    screen = make_screen(is_terminal=True)
    screen.console.listing(LINE)
    assert screen.stdout.text == "    job 1        \x1b[31mFAILED\x1b[0m       LOCAL 2...\n"


def test_what_a_listing_contains_cannot_control_the_terminal(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM)
    screen = make_screen(is_terminal=True)
    screen.console.listing("    job 1        FAILED \x1b[2J")
    assert screen.stdout.text == "    job 1        \x1b[31mFAILED\x1b[0m \\x1b[2J\n"


@pytest.mark.parametrize("columns", ["", "x", "-1", "0", "9" * 30])
def test_a_terminal_of_unknown_size_does_not_cut(columns: str) -> None:
    assert size_of(FakeStream(is_terminal=True), {"COLUMNS": columns}) is None


def test_a_closed_stream_is_no_terminal() -> None:
    stream = FakeStream(is_terminal=True)
    stream.close()
    assert size_of(stream, {}) is None


def test_a_live_listing_is_drawn_in_one_piece_over_the_one_before(make_screen: MakeScreen, clock: FakeClock) -> None:
    make_screen.environ.update(XTERM, COLUMNS="10", LINES="3")
    screen = make_screen(is_terminal=True)
    with screen.console.live() as live:
        live.draw(["one", "a long line", "three", "four"])
    assert "\x1b[Hone\x1b[K\r\na long ...\x1b[K\r\nthree\x1b[K\x1b[J" in screen.stdout.text


def test_the_terminal_is_as_before_when_a_live_listing_fails(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM)
    screen = make_screen(is_terminal=True)
    with pytest.raises(KeyboardInterrupt), screen.console.live():
        raise KeyboardInterrupt
    assert screen.stdout.text.endswith("\x1b[?7h\x1b[?25h\x1b[?1049l")


def test_messages_are_shown_below_a_live_listing(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM, COLUMNS="80", LINES="24")
    screen = make_screen(is_terminal=True)
    with screen.console.live() as live:
        screen.console.warn("no route")
        live.draw(["one"])
    assert "one\x1b[K\r\nwarning: no route\x1b[K\x1b[J" in screen.stdout.text
    assert screen.stderr.text == ""


def test_after_a_live_listing_messages_are_written_as_ever(make_screen: MakeScreen) -> None:
    make_screen.environ.update(XTERM)
    screen = make_screen(is_terminal=True)
    with screen.console.live():
        pass
    screen.console.warn("no route")
    assert screen.stderr.text == "warning: no route\n"
