"""Entries of Cloud Logging that a job wrote, as lines of its output. Pure."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from caliban.platforms.stored_json import parse_time
from caliban.records import JsonObject, OutputLine

_SERVICE = "service"
"""The task that stands for the service itself, which logs what it does with the job."""
_END_MARKS = ("Job failed", "Job completed", "Job succeeded", "Job cancel", "Job was cancel")
_STDERR = frozenset({"ERROR", "CRITICAL", "ALERT", "EMERGENCY"})
"""Severities of what is written to standard error.

Source: https://docs.cloud.google.com/vertex-ai/docs/training/monitor-debug-interactive-shell and the services' logs.
"""
_TASK_LABELS = ("task_name", "ml.googleapis.com/task_name")


@dataclass(frozen=True)
class LogEntry:
    """One entry.

    Attributes:
        key: what no other entry of the project has: its time and its insert id.
        timestamp: as the service writes it, RFC 3339 with up to nine digits after the second; "" where it has none.
        task: which machine of the job wrote it: ``workerpool0-0``, ``master-replica-0``; None where it does not say.
        message: what was written, without its line break.
        is_error: whether it was written to standard error.
        split: which part of one message it is, and of how many; (0, 1) where it is a whole message.
        split_id: of that message; "" where it is a whole one.
    """

    key: tuple[str, str]
    timestamp: str
    task: str | None
    message: str
    is_error: bool
    split: tuple[int, int] = (0, 1)
    split_id: str = ""

    @property
    def is_of_program(self) -> bool:
        """Whether the job's program wrote it, not the service."""
        return self.task != _SERVICE

    @property
    def is_end_mark(self) -> bool:
        """Whether the service says in it that the job has ended; what the program wrote was logged before."""
        return self.task == _SERVICE and self.message.startswith(_END_MARKS)


def exact_time(timestamp: str) -> tuple[str, str]:
    """Return what sorts times of the service, which are in UTC, to the nanosecond."""
    seconds, _, fraction = timestamp.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


def read_entry(found: JsonObject) -> LogEntry:
    """Return an entry as the API reports it (``LogEntry`` in the discovery document); whatever is in it."""
    timestamp = found.get("timestamp")
    time = timestamp if isinstance(timestamp, str) else ""
    split = _object(found.get("split"))
    index, total = split.get("index", 0), split.get("totalSplits", 1)
    is_split = type(index) is int and type(total) is int and 0 <= index < total
    return LogEntry(
        key=(time, str(found.get("insertId") or json.dumps(found, sort_keys=True))),
        timestamp=time,
        task=_task(found),
        message=_message(found),
        is_error=str(found.get("severity")) in _STDERR,
        split=(index, total) if is_split else (0, 1),  # type: ignore[arg-type]
        split_id=str(split.get("uid") or ""),
    )


def in_order(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Return entries as the API lists the oldest first: by time and insert id; parts of one message in their order."""
    return sorted(
        entries, key=lambda entry: (exact_time(entry.timestamp), entry.split_id or entry.key[1], entry.split[0])
    )


def output_lines(entries: Iterable[LogEntry]) -> Iterator[OutputLine]:
    """Yield what the job's program wrote, line by line. What is left of a message in parts is a line, too."""
    parts: list[LogEntry] = []
    for entry in entries:
        if not entry.is_of_program:
            continue
        if parts and parts[0].split_id != entry.split_id:
            yield from _lines(parts)
            parts = []
        parts.append(entry)
        if entry.split[0] + 1 >= entry.split[1]:
            yield from _lines(parts)
            parts = []
    if parts:
        yield from _lines(parts)


def _lines(parts: Sequence[LogEntry]) -> Iterator[OutputLine]:
    """Yield the lines of one message. A carriage return is not a line break: progress bars write it."""
    first, text = parts[0], "".join(part.message for part in parts)
    data = (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "replace")
    time = parse_time(first.timestamp)
    for line in io.BytesIO(data):
        yield OutputLine(line, is_stderr=first.is_error, time=time, source=first.task)


def _message(found: JsonObject) -> str:
    text, structured = found.get("textPayload"), _object(found.get("jsonPayload"))
    if isinstance(text, str):
        return text
    message = structured.get("message")
    if isinstance(message, str):
        return message
    payload = structured or _object(found.get("protoPayload"))
    return json.dumps(payload, ensure_ascii=False) if payload else ""


def _task(found: JsonObject) -> str | None:
    own, labels = _object(_object(found.get("resource")).get("labels")), _object(found.get("labels"))
    names = (own.get("task_name"), *(labels.get(label) for label in _TASK_LABELS))
    return next((name for name in names if isinstance(name, str) and name), None)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
