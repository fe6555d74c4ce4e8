"""The only module that uses standard input, output and error, terminals and progress bars.

Whatever is shown, except the output of jobs, is escaped here (:mod:`caliban.escapes`): a name from a store or a
message of a service cannot control the terminal, or look like a line of ours.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

from caliban.cli import documents, render, terminal
from caliban.cli.columns import cut
from caliban.cli.job_rows import JobRows
from caliban.cli.live import LiveListing
from caliban.cli.progress import Bar, Lines, draw
from caliban.cli.streams import Output, wait_for_room
from caliban.clock import Clock, SystemClock
from caliban.errors import CalibanError
from caliban.escapes import escaped
from caliban.input_files import DEFAULT_LIMIT, read_stream
from caliban.outputs.progress_bars import LastStates
from caliban.records import JsonObject
from caliban.reporter import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

_MAX_ANSWER = 1000
"""Characters of an answer that are read; a longer one is no "yes"."""


class Console:
    """The standard streams. Listings go to standard output, everything else to standard error.

    Listings and the output of jobs share no stream that a script reads: a command that shows both sets one of the two
    switches. With ``--json``, standard output gets one document and nothing else: listings are shown only before a
    question, on standard error. It implements :class:`caliban.reporter.Reporter`, and may be used by several threads at
    once.

    Attributes:
        jobs_to_stderr: whether what jobs write to standard output goes to standard error, which leaves standard output
            to a listing or a document.
        listing_to_stderr: whether listings go to standard error, which leaves standard output to jobs.
        writes_document: whether ``--json`` was given; the output of jobs goes to standard error.
    """

    def __init__(
        self,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        clock: Clock | None = None,
        environ: Mapping[str, str] | None = None,
        wait_for_input: Callable[[TextIO], None] = lambda stream: None,
    ) -> None:
        self.jobs_to_stderr = False
        self.listing_to_stderr = False
        self._stdin = stdin or sys.stdin
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._clock = clock or SystemClock()
        self._environ = os.environ if environ is None else environ
        self._wait_for_input = wait_for_input
        self._held: list[str] | None = None  # what is shown below a live listing
        self._lock = threading.RLock()
        self._bars: list[tqdm] = []  # type: ignore[type-arg]  # tqdm is generic only in its stubs
        self._rows = JobRows()
        self.writes_document = False
        self._document: JsonObject | None = None
        self._texts: documents.Texts | None = None
        self._is_document_written = False
        self._listing: list[str] = []  # what --json has not shown
        self._states = {False: LastStates(), True: LastStates()}  # of what jobs write, for files and pipes
        for stream in (self._stdout, self._stderr):
            if isinstance(stream, io.TextIOWrapper):  # a listing must not fail at a name in another script
                stream.reconfigure(errors="backslashreplace")

    def print(self, *lines: str, keep: str = "") -> None:
        """Write lines of a listing to standard output. Line breaks within a line are escaped.

        Args:
            lines: what to write.
            keep: characters that are not escaped: the tabs of source code.
        """
        if self.writes_document:
            self._listing.extend(lines)
            return
        stream = self._stderr if self.listing_to_stderr else self._stdout
        wait_for_room(stream)
        self._write(stream, lines, keep)

    @property
    def width(self) -> int | None:
        """The columns of the terminal that standard output is; None where it is none."""
        size = terminal.size_of(self._stdout, self._environ)
        return size.columns if size else None

    @property
    def has_reader(self) -> bool:
        """Whether somebody may still read standard output; what nobody reads need not be continued."""
        binary = getattr(self._stdout, "buffer", None)
        return binary.has_reader() if isinstance(binary, Output) else True

    @property
    def is_live(self) -> bool:
        """Whether :meth:`live` can redraw a listing."""
        return terminal.can_move_cursor(self._stdout, self._environ)

    def listing(self, *lines: str) -> None:
        """Write lines of a listing to standard output; on a terminal in colours, and not longer than its rows."""
        if self.writes_document or self.listing_to_stderr:
            self.print(*lines)
            return
        wait_for_room(self._stdout)
        width = self.width
        text = "".join(f"{self._shown(line, width)}\n" for line in lines)
        with self._lock, self._bars_hidden():
            self._put(self._stdout, text)

    def _shown(self, line: str, width: int | None) -> str:
        line = escaped(line)
        if width is not None:
            line = cut(line, width)
        return terminal.coloured(line) if terminal.has_colours(self._stdout, self._environ) else line

    @contextlib.contextmanager
    def live(self) -> Iterator[LiveListing]:
        """Show a listing that is redrawn, on the other screen of the terminal. Messages are shown below it meanwhile.

        It may only be used where :attr:`is_live`.
        """
        with self._lock:
            self._held = []
            self._put(self._stdout, terminal.ENTER_LIVE)
        try:
            yield LiveListing(self._size, self._draw)
        finally:
            with self._lock:
                self._held = None
                self._put(self._stdout, terminal.LEAVE_LIVE)

    def _size(self) -> os.terminal_size:
        return terminal.size_of(self._stdout, self._environ) or os.terminal_size((80, 24))

    def _draw(self, lines: Sequence[str]) -> None:
        """Draw a listing over the one before, in one write: nothing flickers."""
        size = self._size()
        with self._lock:
            notes = list(dict.fromkeys(self._held or ()))[-max(1, size.lines // 3) :]
            if self._held is not None:
                self._held.clear()
            shown = [*lines[: max(0, size.lines - len(notes))], *notes][: size.lines]
            self._put(self._stdout, terminal.frame([self._shown(line, size.columns) for line in shown]))

    def info(self, *lines: str) -> None:
        """Write lines to standard error. Line breaks within a line are escaped."""
        with self._lock:
            if self._held is not None and terminal.is_terminal(self._stderr):
                self._held.extend(lines)
                return
        self._write(self._stderr, lines)

    def warn(self, line: str) -> None:
        """Write a warning to standard error."""
        self.info(f"warning: {line}")

    def error(self, error: CalibanError) -> None:
        """Write an error to standard error: what failed, why, and what to do."""
        self.info(*render.error_lines(error))

    @property
    def is_terminal(self) -> bool:
        """Whether standard output is a terminal."""
        return terminal.is_terminal(self._stdout)

    @property
    def has_colours(self) -> bool:
        """Whether standard output is a terminal that shows colours, and the user wants them."""
        return terminal.has_colours(self._stdout, self._environ)

    def document(self, document: JsonObject | Callable[[], JsonObject], texts: documents.Texts | None = None) -> None:
        """Set what ``--json`` writes to standard output when the command ends (:mod:`caliban.cli.documents`).

        Args:
            document: it, or what makes it, which is called with ``--json`` only. A later one takes its place: there is
                never more than one.
            texts: its last field, a list that may be longer than memory.
        """
        if self.writes_document:
            self._document = document() if callable(document) else document
            self._texts = texts

    def write_document(self, exit_code: int, error: CalibanError | None = None, *, has_failed: bool = False) -> None:
        """Write the document, once; without ``--json``, nothing.

        Args:
            exit_code: of the process.
            error: what ended the command, or None.
            has_failed: whether the command's own could not be made: that of the error takes its place.
        """
        if not self.writes_document or self._is_document_written:
            return
        completed = documents.completed(None if has_failed else self._document, exit_code, error)
        parts = documents.encoded_parts(completed, self._texts)
        first = next(parts)
        self._is_document_written = True  # from its first byte on
        binary = getattr(self._stdout, "buffer", None)
        with self._lock, self._bars_hidden():
            for text in itertools.chain([first], parts):
                wait_for_room(self._stdout)
                if binary is None:
                    self._stdout.write(text)
                else:
                    self._stdout.flush()
                    binary.write(text.encode("ascii"))  # JSON is UTF-8, whatever the encoding of the locale
            self._stdout.flush()

    def job_output(self, data: bytes, *, is_stderr: bool) -> None:
        """Pass on a job's output: byte for byte to a terminal, elsewhere in whole lines and without the states of bars.

        An empty piece ends the output: an unfinished line is passed on. So does a line of ours that follows.
        """
        stream = self._job_stream(is_stderr)
        wait_for_room(stream)
        with self._lock, self._bars_hidden():
            if not data:
                self._put_held_back()
                self._states[is_stderr] = LastStates()  # what follows is of another job
            elif stream.isatty():
                self._put_output(stream, data)
            else:
                self._put_output(stream, self._states[is_stderr].feed(data))

    def _job_stream(self, is_stderr: bool) -> TextIO:
        return self._stderr if is_stderr or self.jobs_to_stderr or self.writes_document else self._stdout

    def _put_output(self, stream: TextIO, data: bytes) -> None:
        binary = getattr(stream, "buffer", None)
        stream.write(self._rows.before_theirs(stream) if data else "")
        if binary is None:
            stream.write(data.decode("utf-8", "backslashreplace"))
        else:
            stream.flush()
            binary.write(data)
        stream.flush()
        self._rows.written(stream, data)

    def _put_held_back(self) -> None:
        """Write the unfinished lines of jobs, each on a row of its own where both streams end up in one file."""
        held = [(self._job_stream(is_stderr), states.flush()) for is_stderr, states in self._states.items()]
        (_, first), (stream, second) = held
        for target, data in held:
            self._put_output(target, data)
            if data is first and first and second and self._rows.is_taken(stream):
                self._put_output(stream, b"\n")

    def read_input(self, limit: int = DEFAULT_LIMIT) -> str:
        """Return all of standard input, read as UTF-8.

        Args:
            limit: bytes, at most.

        Raises:
            InputFileError: it is longer, cannot be read, or is not UTF-8.
        """
        self._wait_for_input(self._stdin)
        return read_stream(self._stdin, "standard input", limit)

    def confirm(self, question: str) -> bool | None:
        """Ask a question and return whether the answer is y or yes; None at the end of input."""
        with self._lock, self._bars_hidden():
            self._put(self._stderr, f"\n {escaped(question)} [yN]: ")
        try:
            answer = self._read_line()
        except KeyboardInterrupt:
            self.info("")  # what follows starts on a line of its own
            raise
        if not answer.endswith("\n") or not self._stdin.isatty():
            self.info(answer.strip())  # nobody typed it here, or not its line break
        return answer.strip().lower() in ("y", "yes") if answer else None

    def _read_line(self) -> str:
        """Return the next line of standard input, or its beginning; "" at its end, or where it cannot be read."""
        try:
            self._wait_for_input(self._stdin)
            return self._stdin.readline(_MAX_ANSWER)
        except UnicodeDecodeError:
            return "(not text)\n"
        except (OSError, ValueError):  # a terminal that is gone, a directory, a closed stream
            return ""

    def agreed(self, question: str, what: str) -> bool:
        """Ask for confirmation, and report if there is none.

        Args:
            question: ``stop 1 job?``.
            what: what is done after a yes, as a participle: ``stopped``.

        Raises:
            CalibanError: with ``--json``: ``confirmation-needed`` where nobody can be asked, ``not-confirmed``.
        """
        if self.writes_document:
            return self._agreed_for_document(question, what)
        answer = self.confirm(question)
        if answer is None:
            self.info(f"no answer, nothing was {what}; in scripts, add --yes")
        elif not answer:
            self.info(f"nothing was {what}")
        return bool(answer)

    def _agreed_for_document(self, question: str, what: str) -> bool:
        answer = None
        if self._stdin.isatty():
            self.info(*self._listing)
            answer = self.confirm(question)
        if answer is None:
            raise CalibanError("confirmation-needed", f"no answer, nothing was {what}", hint="in scripts, add --yes")
        if not answer:
            raise CalibanError("not-confirmed", f"nothing was {what}")
        return True

    @contextlib.contextmanager
    def progress(self, title: str, *, total: int | None, unit: str) -> Iterator[Progress]:
        """Show the progress of something: a bar on a terminal, a line every two seconds elsewhere."""
        bar = self._new_bar(title, total, unit) if self._stderr.isatty() and self._held is None else None
        if bar is None:
            yield Lines(self, title, total, unit, self._clock)
            return
        with self._lock:
            self._bars.append(bar)
        try:
            yield Bar(bar, self._lock, self._is_row_free)
        finally:
            with self._lock:
                self._put(self._stderr, "")  # the bar is removed with all of its row
                self._bars.remove(bar)
                draw(bar.close)

    def _new_bar(self, title: str, total: int | None, unit: str) -> tqdm | None:  # type: ignore[type-arg]  # as above
        """Return a bar; None where $TQDM_... variables or the terminal do not allow one."""
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # a thread that draws at any time
        bars: list[tqdm] = []  # type: ignore[type-arg]  # as above

        def create() -> None:
            bars.append(
                tqdm(
                    total=total,
                    desc=escaped(title),
                    unit=unit if unit == "B" else f" {unit}",
                    unit_scale=unit == "B",
                    file=self._stderr,
                    leave=False,
                    dynamic_ncols=True,
                )
            )

        with self._lock:
            self._put(self._stderr, "")
            draw(create)
        return bars[0] if bars else None

    def _write(self, stream: TextIO, lines: Sequence[str], keep: str = "") -> None:
        with self._lock, self._bars_hidden():
            self._put(stream, "".join(f"{escaped(line, keep=keep)}\n" for line in lines))

    def _put(self, stream: TextIO, text: str) -> None:
        """Write what starts on a line of its own, also after the output of a job that ended without a line break."""
        self._put_held_back()
        stream.write(self._rows.before_ours(stream))
        stream.write(text)
        stream.flush()

    def _is_row_free(self) -> bool:
        """Return whether a bar can be drawn: not over a line of a job that has no line break yet."""
        return not self._rows.is_taken(self._stderr)

    @contextlib.contextmanager
    def _bars_hidden(self) -> Iterator[None]:
        for bar in self._bars if self._is_row_free() else ():
            draw(partial(bar.clear, nolock=True))
        try:
            yield
        finally:
            for bar in self._bars if self._is_row_free() else ():
                draw(partial(bar.refresh, nolock=True))
