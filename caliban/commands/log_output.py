"""Write the output of jobs to standard output, as text or as one document."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from caliban.causes import reason_of
from caliban.cli import documents, log_lines, render
from caliban.cli.context import Context
from caliban.errors import CalibanError, ExitCode, StoreError, one_line
from caliban.outputs.line_choice import LastLines, Pattern, WholeLines, as_drawn, text_of
from caliban.outputs.stored import StoredOutput
from caliban.platforms.base import LogRequest
from caliban.platforms.registry import Platforms
from caliban.records import JsonObject, OutputLine
from caliban.store.database import Access, Store, open_store
from caliban.store.job_logs import read_outputs
from caliban.submission.feeds import End
from caliban.submission.output import ChosenJob, OutputReader, Result, Source, never_ran, stored_lines, unavailable

_STORED_AT_A_TIME = 64
_IN_MEMORY = 16 << 20
"""Bytes of a document that are kept in memory; the rest is in a temporary file."""

_GONE = "output-gone"


@dataclass(frozen=True)
class Wanted:
    """Which lines are wanted, and how they are shown.

    Attributes:
        tail: only the last ones, this many; None for all.
        pattern: only those that match; None for all.
        follow: whether to go on until the jobs end.
        with_times: whether to show when they were written.
    """

    tail: int | None = None
    pattern: Pattern | None = None
    follow: bool = False
    with_times: bool = False


class _StoredOutputs:
    """The outputs in the store, of a few jobs at a time; the store is opened when the first one is needed."""

    def __init__(self, url: str, context: Context, at_end: ExitStack) -> None:
        self._url, self._context, self._at_end = url, context, at_end
        self._store: Store | None = None
        self._read: dict[int, StoredOutput | None] = {}

    def get(self, job_id: int, following: Sequence[int]) -> StoredOutput | None:
        """Return a job's output; those of the ``following`` jobs are read in the same statement."""
        if job_id not in self._read:
            ids = [job_id, *following][:_STORED_AT_A_TIME]
            try:
                found = self._read_all(ids)
            except StoreError as error:
                return StoredOutput(job_id, unavailable=one_line(error))
            self._read = {each: found.get(each) for each in ids}
        return self._read.pop(job_id)

    def _read_all(self, ids: Sequence[int]) -> dict[int, StoredOutput]:
        if self._store is None:
            self._store = self._at_end.enter_context(open_store(self._url, Access.READ, self._context.console))
        with self._store.reading() as session:
            return read_outputs(session, ids)


class _JobLines:
    """The lines of one job, as far as they are wanted."""

    def __init__(self, chosen: ChosenJob, wanted: Wanted) -> None:
        self.chosen = chosen
        self.has_any = False
        self.has_times = False
        self.is_cut = False
        self._wanted = wanted
        self._whole = WholeLines()
        is_live = wanted.follow and not chosen.job.status.is_final
        self._last = None if wanted.tail is None or is_live else LastLines(wanted.tail)

    def take(self, lines: Sequence[OutputLine], *, as_they_come: bool) -> list[OutputLine]:
        """Return those that can be shown now."""
        self.has_any = self.has_any or bool(lines)
        self.has_times = self.has_times or any(line.time is not None for line in lines)
        if as_they_come and self._wanted.pattern is None and self._last is None:
            return list(lines)
        return self._matching([whole for line in lines for whole in self._whole.add(line)])

    def rest(self) -> list[OutputLine]:
        """Return those that can be shown at the end of the output."""
        lines = self._matching(list(self._whole.rest()))
        if self._last is None:
            return lines
        self.is_cut = self._last.is_cut
        return self._last.take()

    def restart(self) -> None:
        """Begin again with another source."""
        if self._wanted.tail is not None:
            self._last = LastLines(self._wanted.tail)

    def _matching(self, lines: list[OutputLine]) -> list[OutputLine]:
        lines = list(map(as_drawn, lines)) if self._wanted.pattern is None else self._wanted.pattern.matching(lines)
        if self._last is None:
            return lines
        for line in lines:
            self._last.add(line)
        return []


class LogOutput:
    """Shows the output of jobs.

    Args:
        context: the process.
        platforms: where the jobs run.
        url: of the store.
        wanted: which lines.
        names_one: whether only one job can be meant: it has no header.
    """

    def __init__(self, context: Context, platforms: Platforms, url: str, wanted: Wanted, *, names_one: bool) -> None:
        self._context = context
        self._console = context.console
        self._platforms = platforms
        self._url = url
        self._wanted = wanted
        self._names_one = names_one
        self._jobs: Sequence[_JobLines] = ()
        self._styles: Sequence[log_lines.LineStyle] = ()
        self._announced: set[int] = set()
        self._headed: set[int] = set()
        self._hints: set[str] = set()
        self._failed = 0
        self._document: _Document | None = None

    def show(self, jobs: Sequence[ChosenJob], is_default: bool) -> int:
        """Show the outputs of jobs, one after the other; where several are followed, as they come.

        Args:
            jobs: which ones.
            is_default: whether the user named none: which one it is goes to standard error.
        """
        self._jobs = [_JobLines(job, self._wanted) for job in jobs]
        together = self._wanted.follow and len(jobs) > 1
        self._styles = self._line_styles(jobs, together=together)
        if is_default and jobs:
            self._console.info(log_lines.header(jobs[0].experiment, jobs[0].job))
        with ExitStack() as at_end:
            if self._console.writes_document:
                self._document = at_end.enter_context(_Document())
            stored = _StoredOutputs(self._url, self._context, at_end)
            try:
                self._read(stored, together=together)
            except KeyboardInterrupt:
                self._report_running()
                raise
            if self._document is not None:
                at_end.pop_all()  # the document is read when the command ends
                self._console.document(
                    documents.document("caliban.logs/1", jobs=self._document.jobs), self._document.texts()
                )
        return ExitCode.NOT_DONE if self._failed else ExitCode.DONE

    def _line_styles(self, jobs: Sequence[ChosenJob], *, together: bool) -> list[log_lines.LineStyle]:
        records = [each.job for each in jobs]
        with_colour = self._console.has_colours
        prefixes = log_lines.prefixes(records, with_colour=with_colour) if together else [""] * len(jobs)
        style = log_lines.LineStyle("", self._wanted.with_times, self._console.is_terminal)
        return [replace(style, prefix=prefix) for prefix in prefixes]

    def _read(self, stored: _StoredOutputs, *, together: bool) -> None:
        wanted = self._wanted
        request = LogRequest(wanted.tail if wanted.pattern is None else None, wanted.follow)
        reader = OutputReader(self._platforms, request)
        feeds = reader.feeds([each.chosen.job for each in self._jobs], together=together)
        feeds.start()
        try:
            items = feeds.interleaved(self._is_read) if together else feeds.in_order(self._on_silence)
            for index, lines, end in items:
                self._show(index, lines, end, stored, together=together)
                if not self._is_read():
                    break
        finally:
            feeds.abandon()
            self._platforms.context.stopping.set()

    def _is_read(self) -> bool:
        return self._console.has_reader

    def _on_silence(self, index: int) -> bool:
        job = self._jobs[index].chosen.job
        if index not in self._announced and not self._wanted.follow:
            self._announced.add(index)
            self._console.info(f"reading the output of job {job.id} ...")
        return self._is_read()

    def _show(
        self,
        index: int,
        lines: Sequence[OutputLine],
        end: End[Result] | None,
        stored: _StoredOutputs,
        *,
        together: bool,
    ) -> None:
        job = self._jobs[index]
        if not (self._names_one or together or self._document) and index not in self._headed:
            self._headed.add(index)
            self._console.print(log_lines.header(job.chosen.experiment, job.chosen.job))
        self._write(index, job.take(lines, as_they_come=self._shows_bytes(index)))
        if end is not None:
            self._end(index, end.result, stored)

    def _shows_bytes(self, index: int) -> bool:
        style = self._styles[index]
        return not (style.prefix or style.with_times or self._document)

    def _write(self, index: int, lines: Sequence[OutputLine]) -> None:
        if not lines:
            return
        if self._document is not None:
            self._document.add(self._jobs[index].chosen.job.id, lines)
            return
        style = self._styles[index]
        self._console.job_output(b"".join(map(style.shown, lines)), is_stderr=False)

    def _end(self, index: int, result: Result, stored: _StoredOutputs) -> None:
        """Show the rest; what the store has where no other source has any; and what is missing, and why."""
        lines = self._jobs[index]
        job = lines.chosen.job
        in_store: StoredOutput | None = None
        is_empty = result.error is None and not lines.has_any  # or forgotten: not every service tells
        if (result.source is None or is_empty) and not never_ran(job) and job.status.is_final:
            in_store = stored.get(job.id, [each.chosen.job.id for each in self._jobs[index + 1 :]])
        if (result.source is None and result.error is not None) or (is_empty and in_store and in_store.data):
            if in_store is not None and in_store.unavailable is None:
                lines.restart()
                result = Result(Source.STORE, None, result.error)
                self._write(index, lines.take(list(stored_lines(in_store)), as_they_come=False))
            else:
                result = Result(None, unavailable(result, in_store))
        self._write(index, lines.rest())
        if self._document is None:
            self._console.job_output(b"", is_stderr=False)
        is_complete = result.error is None and (in_store is None or in_store.is_complete) and not lines.is_cut
        if self._document is not None:
            self._document.end(lines.chosen, result, is_complete=is_complete)
        self._report(lines, result, in_store)

    def _report(self, lines: _JobLines, result: Result, in_store: StoredOutput | None) -> None:
        job, wanted = lines.chosen.job, self._wanted
        if result.error is not None:
            self._report_error(lines, result.error)
            return
        better = result.better_error
        if result.source is Source.STORE and in_store is not None and not in_store.is_complete:
            self._console.info(
                f"job {job.id}: only the last {_size(len(in_store.data))} of its output, from the experiment store"
                f"{'' if better is None else f': {one_line(better)}'}"
            )
        elif better is not None and better.id != _GONE:
            place = "the experiment store" if result.source is Source.STORE else "the log file of this machine"
            self._console.info(f"job {job.id}: output from {place}: {one_line(better)}")
        if never_ran(job):
            self._console.info(f"job {job.id} never ran: {reason_of(job) or 'refused'}")
        elif not lines.has_any and wanted.tail != 0:
            self._console.info(f"job {job.id} has written nothing{'' if job.status.is_final else ' yet'}")
        if wanted.with_times and lines.has_any and not lines.has_times:
            self._console.info(f"job {job.id}: the times of its lines are not known")
        if lines.is_cut:
            self._console.info(f"job {job.id}: only the last 16 MiB of these lines are shown")

    def _report_error(self, lines: _JobLines, error: CalibanError) -> None:
        """Report why an output is not shown; a hint once for all jobs."""
        self._failed += 1
        what = "the rest of the output" if lines.has_any else "the output"
        hint = None if error.hint in self._hints else error.hint
        if hint is not None:
            self._hints.add(hint)
        message = f"cannot show {what} of job {lines.chosen.job.id}: {error.message}"
        self._console.error(CalibanError(error.id, message, cause=error.cause, hint=hint))

    def _report_running(self) -> None:
        running = sum(not each.chosen.job.status.is_final for each in self._jobs)
        if self._wanted.follow and running:
            self._console.info(f"{render.count(running, 'job')} {'is' if running == 1 else 'are'} still running")


def _size(number: int) -> str:
    return render.count(number, "byte") if number < 1024 else f"{number / 1024:.0f} KiB"


@contextmanager
def _temporary_file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CalibanError(
            "temporary-file-failed",
            "cannot keep the lines of the document in a temporary file",
            cause=str(error),
            hint="set $TMPDIR to a directory with more space, or choose fewer lines with --tail",
        ) from error


class _Document:
    """The lines of a document, in a temporary file where they are many; and its jobs."""

    def __init__(self) -> None:
        self.jobs: list[JsonObject] = []
        self._numbers: dict[int, int] = {}
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="ascii")  # noqa: SIM115 - see close

    def __enter__(self) -> _Document:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, job_id: int, lines: Sequence[OutputLine]) -> None:
        """Add lines of a job."""
        self._numbers[job_id] = self._numbers.get(job_id, 0) + len(lines)
        for line in lines:
            fields = {
                "job": job_id,
                "stream": "stderr" if line.is_stderr else "stdout",
                "time": documents.moment(line.time, precise=True),
                "source": line.source,
                "text": text_of(line.data),
            }
            with _temporary_file_errors():
                self._file.write(f"{documents.encoded(fields)}\n")

    def end(self, chosen: ChosenJob, result: Result, *, is_complete: bool) -> None:
        """Add a job, after its lines."""
        self.jobs.append(
            {
                **documents.job_fields(chosen.job),
                "group": chosen.group,
                "experiment_id": chosen.experiment.id,
                "command_line": render.command_line(chosen.experiment),
                "output": {
                    "source": result.source.value if result.source else None,
                    "lines": self._numbers.get(chosen.job.id, 0),
                    "is_complete": is_complete,
                    "error": documents.error_fields(result.error) if result.error else None,
                },
            }
        )

    def texts(self) -> documents.Texts:
        """Return the lines, as the last field of the document; from now on, nothing is written to the file."""
        with _temporary_file_errors():
            self._file.seek(0)
        return documents.Texts("lines", self._encoded())

    def _encoded(self) -> Iterator[str]:
        for text in self._file:
            yield text.rstrip("\n")
        self._file.close()
