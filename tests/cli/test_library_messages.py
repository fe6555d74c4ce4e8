"""What libraries log is shown without secrets, and so is what a traceback contains."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caliban.cli.console import Console
from caliban.cli.internal_error import save_traceback
from caliban.cli.library_messages import silence_libraries
from caliban.redaction import register_secrets
from tests.fakes import FakeStream


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    made = FakeStream()
    silence_libraries(Console(FakeStream(), FakeStream(), made))
    return made


def test_a_message_of_a_library_is_one_line_without_secrets(stderr: FakeStream) -> None:
    register_secrets("opaque-token")
    logging.getLogger("library").error("sent %r\nto http://totoro:pw1234@host/ with opaque-token", b"Bearer abc\n")
    assert stderr.text == "library: sent b'Bearer ***' to http://host/ with ***\n"


def test_a_saved_traceback_has_no_registered_secret_and_no_header(tmp_path: Path) -> None:
    register_secrets("opaque-token")
    try:
        raise ValueError("opaque-token") from KeyError("Invalid header value b'Bearer abc\\n'")
    except ValueError as error:
        saved = save_traceback(error)
    assert saved is not None
    text = saved.read_text()
    saved.unlink()
    assert "ValueError: ***" in text
    assert "abc" not in text
