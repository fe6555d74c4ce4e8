"""An image that the docker client downloads when it creates a container: that has an end, and words."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.attempts import Submission
from caliban.images.docker.engine import Engine
from caliban.images.docker.silence import INTERVAL, TRANSFER_SECONDS
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.start import CreateError, create
from tests.fakes import FakeClock
from tests.test_helper_process import wait_until_ended

from .fake_engine import FakeDocker


class SilenceClock(FakeClock):
    """Lets the intervals of a silence pass at once when the client has written, and waits for what is answered."""

    def __init__(self, begun: Path) -> None:
        super().__init__()
        self._begun = begun

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if seconds != INTERVAL:
            return event.wait(20)
        while not self._begun.exists() and not event.wait(0.005):
            pass
        return super().wait(event, seconds)


def ask(context: PlatformContext, script: str, submission: Submission, clock: FakeClock) -> tuple[str, list[str]]:
    """Create a container of an image that is not there; return the error, and what was said."""
    said: list[str] = []
    with closing(Engine.connect(context.environ)) as connected:
        engine = replace(connected, clock=clock, on_slow=said.append)
        process = replace(context, engine=lambda: engine)
        with pytest.raises(CreateError) as caught:
            create(("/bin/sh", "-c", script), "lab:2", submission, process, downloads=True)
    return caught.value.stderr, said


def test_a_download_that_stands_still_is_given_up_with_words(
    docker: FakeDocker, context: PlatformContext, submission: Submission, tmp_path: Path
) -> None:
    begun, clock = tmp_path / "pid", SilenceClock(tmp_path / "pid")
    starts_helper = f"/bin/sleep 1000 & echo $$ $! > {begun}.new; /bin/mv {begun}.new {begun}"
    script = f"echo Pulling >&2; {starts_helper}; exec /bin/sleep 1000"
    error, said = ask(context, script, submission, clock)
    assert "has reported nothing for 60 min while downloading the image lab:2" in error
    assert clock.seconds >= TRANSFER_SECONDS
    assert said[0] == "downloading the image lab:2 ..."
    assert "nothing for 60 s while downloading the image lab:2; it answers other requests" in said[1]
    client, helper = map(int, begun.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(client, 0)
    wait_until_ended(helper)


def test_a_download_that_fails_has_the_words_of_the_client(
    docker: FakeDocker, context: PlatformContext, submission: Submission, tmp_path: Path
) -> None:
    error, said = ask(context, "echo pull access denied >&2; exit 1", submission, SilenceClock(tmp_path / "never"))
    assert error == "pull access denied\n"
    assert len(said) == 1
