"""Start one container for a submission, and none for one that was given up.

A job is created by the ``docker`` client, whose arguments users know, and started by a request of its own. Only the
start runs the program, so a client that goes on after caliban was killed does no harm. The container has the
submission's name and token. States of the container, and of the submission's journal row:

========== ================================================ ======================================================
container  row is open                                      row was closed by another process
========== ================================================ ======================================================
none       ``submit`` creates it; ``find``: no job          a late ``docker create`` leaves a container that nobody
                                                            starts
created    ``submit`` asks the journal, then starts it by   its creator is forbidden to start it, and removes it; a
           its name; ``find`` takes the name away, then     start that was under way names a container that is not
           removes it: no job                               there any more
running    the job: ``submit`` and ``find`` adopt it        adopted before the row was closed
exited     the job, with its end                            likewise
========== ================================================ ======================================================

- Docker refuses a second container of one name, so that a token starts one container, whichever process does it.
- A container is started by its name, and given up by taking the name away. Whichever the engine does first decides: a
  start finds no container of that name, or the container runs when it is looked at after the renaming. It is removed
  without force, which the engine refuses for one that runs.
- Killed between two steps, a process leaves one of the states of the table, which the next command settles.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from caliban.attempts import Submission
from caliban.bounded import DeadlineExceededError
from caliban.errors import CalibanError, ImageError, one_line
from caliban.images.docker.silence import INTERVAL, TRANSFER_SECONDS, DaemonWatch
from caliban.platforms.base import MaySend, NotSentError
from caliban.platforms.context import PlatformContext
from caliban.platforms.docker.client import Container, Containers
from caliban.platforms.docker.errors import client_missing, not_created, not_started, translate_errors
from caliban.redaction import clean_text
from caliban.threads import watched

if TYPE_CHECKING:
    from docker.errors import APIError

    from caliban.images.docker.engine import Engine

CREATE_SECONDS = 120.0
"""How long the docker client has to create a container of an image that the engine has."""

_PIECE = 1 << 16
_MAX_STDERR = 1 << 20

_WARNING = re.compile(r"warning:?\s*", re.IGNORECASE)
_NOTICE = re.compile(r"deprecat", re.IGNORECASE)
_GIVEN_UP = "-given-up"
"""What the name of a container ends with that is not to be started."""


class CreateError(Exception):
    """``docker create`` failed; the container may exist nevertheless.

    Attributes:
        stderr: what the client wrote.
        exit_code: of the client; None where it did not end.
    """

    def __init__(self, stderr: str, exit_code: int | None) -> None:
        super().__init__(stderr)
        self.stderr = stderr
        self.exit_code = exit_code


def create(
    command: Sequence[str], image: str, submission: Submission, context: PlatformContext, *, downloads: bool = False
) -> None:
    """Run ``docker create``, and pass on its warnings.

    Args:
        command: the whole command.
        image: which it names.
        submission: for which it is.
        context: the process.
        downloads: whether the client downloads the image first, which may take as long as it goes on.

    Raises:
        CreateError: it failed.
        RefusedError: there is no docker command.
        CalibanError: the engine cannot be reached.
    """
    engine = context.engine()
    try:
        client = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=dict(context.environ),
            start_new_session=True,  # Ctrl-C must not interrupt the request
        )
    except (OSError, ValueError) as error:  # ValueError: a null character in an argument
        raise client_missing(submission, error) from error
    slow = f"still creating the container {submission.name} ..."
    try:
        if downloads:
            stderr = _watched_output(client, engine, image)
        else:
            stderr = engine.within(CREATE_SECONDS, lambda: _tail(_output(client)), slow)
        exit_code = engine.within(CREATE_SECONDS, client.wait, slow)
    except DeadlineExceededError as error:
        raise CreateError(f"docker create: {error}", None) from error
    except ImageError as error:
        raise CreateError(f"docker create: {one_line(error)}", None) from error
    finally:
        if client.poll() is None:
            with suppress(ProcessLookupError, PermissionError):  # it has ended; on macOS, it is ending
                os.killpg(client.pid, signal.SIGKILL)  # with the credential helper that it may have started
            client.wait()
    text = stderr.decode("utf-8", "backslashreplace")
    if exit_code != 0:
        raise CreateError(text, exit_code)
    for warning in client_warnings(text):
        context.warn(warning)


def _watched_output(client: subprocess.Popen[bytes], engine: Engine, image: str) -> bytes:
    """Return what a client writes that downloads an image: a line for each layer that has arrived."""
    engine.on_slow(f"downloading the image {image} ...")
    watch = DaemonWatch(engine, lambda: (f"downloading the image {image}", TRANSFER_SECONDS))
    with closing(watched(lambda _: _output(client), engine.clock, watch, INTERVAL)) as pieces:
        return _tail(pieces)


def _tail(pieces: Iterator[bytes]) -> bytes:
    """Return the last part of what a client writes, where its error is."""
    kept = b""
    for piece in pieces:
        kept = (kept + piece)[-_MAX_STDERR:]
    return kept


def _output(client: subprocess.Popen[bytes]) -> Generator[bytes, None, None]:
    assert client.stderr is not None
    with client.stderr as stream:
        while piece := os.read(stream.fileno(), _PIECE):
            yield piece


def client_warnings(stderr: str) -> list[str]:
    """Return the warnings in what the docker client wrote, each in one line; the rest is the progress of a download."""
    lines = (clean_text(line).strip() for line in stderr.splitlines())
    return [f"docker: {_WARNING.sub('', line)}" for line in lines if _WARNING.match(line) or _NOTICE.search(line)]


def create_and_start(
    create: Callable[[], None],
    containers: Containers,
    submission: Submission,
    may_send: MaySend,
    before_start: Callable[[Container], None] = lambda container: None,
) -> Container:
    """Create the container of a submission and start it; one that was started before is returned as it is.

    Args:
        create: creates it; see :func:`create`.
        containers: of the engine.
        submission: which.
        may_send: see :meth:`caliban.platforms.base.Platform.submit`.
        before_start: called with the container once it was created, and before it is started.

    Raises:
        RefusedError: the container was not created, or cannot be started.
        NotSentError: another process gave the submission up.
        CalibanError: anything else; whether it runs is unknown, unless it was not created.
    """
    may_send()  # so that the next command looks for the container if this one is killed before the start
    failure: CreateError | None = None
    try:
        create()
    except CreateError as error:
        failure = error
    container = _own(containers, submission)
    if container is None:
        if failure is None:
            raise NotSentError("not-sent", f"the container {submission.name} was removed before it was started")
        raise not_created(submission, failure.stderr, failure.exit_code) from failure
    if container.state.was_started:
        return container
    before_start(container)
    try:
        may_send()
    except NotSentError:
        give_up(containers, submission)
        raise
    return _start(containers, container, submission)


def give_up(containers: Containers, submission: Submission) -> Container | None:
    """Remove what was created for a submission and not started; return its container if that was started.

    Only for a submission that nobody may start any more.
    """
    message = f"cannot remove the container {submission.name}, which was not started"
    with translate_errors("cannot check whether the container was started"):
        found = containers.with_token(submission.token)
    started = next((each for each in found if each.state.was_started), None)
    for each in found:
        if not each.state.was_started:
            with translate_errors(message):
                started = _take_away(containers, each, submission) or started
    return started


def _take_away(containers: Containers, created: Container, submission: Submission) -> Container | None:
    """Remove a container that was not started; return it if it was started meanwhile.

    Another process may do the same at the same time.
    """
    if not created.name.endswith(_GIVEN_UP):
        containers.rename(created.id, submission.name + _GIVEN_UP)
    now = containers.inspect(created.id)
    if now is not None and not now.state.was_started:
        containers.remove(created.id)
        now = containers.inspect(created.id)
    return now if now is not None and now.state.was_started else None


def _own(containers: Containers, submission: Submission) -> Container | None:
    """Return the container of a submission, started or not; leave out one that was given up."""
    with translate_errors("cannot check whether the container was created"):
        found = containers.with_token(submission.token)
    found.sort(key=lambda each: (each.state.was_started, each.name == submission.name))
    return found[-1] if found and (found[-1].state.was_started or found[-1].name == submission.name) else None


def _start(containers: Containers, container: Container, submission: Submission) -> Container:
    """Start a container that was created.

    Raises:
        RefusedError: it cannot be started, and is removed.
        NotSentError: another process removed it.
        CalibanError: whether it was started is unknown.
    """
    import docker.errors

    try:
        with translate_errors(f"cannot start the container {submission.name}", passing=(docker.errors.APIError,)):
            containers.start(submission.name)
    except docker.errors.APIError as error:
        return _after_refusal(containers, container, submission, error)
    except CalibanError:
        # the request may have arrived
        with translate_errors("cannot check whether the container was started"):
            now = containers.inspect(container.id)
        if now is None or not now.state.was_started:
            raise
        return now
    return container


def _after_refusal(containers: Containers, container: Container, submission: Submission, error: APIError) -> Container:
    """Return the container if it was started nevertheless; otherwise remove it, and raise why it was not."""
    with translate_errors("cannot check whether the container was started"):
        now = containers.inspect(container.id)
    if now is not None and now.state.was_started:
        return now
    if now is None or now.name != submission.name:
        raise NotSentError(
            "not-sent", f"the submission {submission.name} was already settled by another process"
        ) from error
    if (started := give_up(containers, submission)) is not None:
        return started
    raise not_started(submission, str(error.explanation or error)) from error
