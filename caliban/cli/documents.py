"""The JSON documents of ``--json``, made from records. Pure; docs/json.md describes them, caliban/schemas checks them.

A document is one JSON object with ``schema``, ``exit_code`` and ``error``. Its other fields are the command's. Fields
are added, never renamed or removed: whoever changes one makes a new version of the schema.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from caliban.attempts import Submission
from caliban.causes import cause_of, reason_of, signal_name
from caliban.cli import render
from caliban.clock import rfc3339
from caliban.errors import CalibanError
from caliban.records import (
    ContainerRecord,
    ExperimentRecord,
    GroupRecord,
    JobRecord,
    JobStatus,
    JsonObject,
    Outcome,
    OutputError,
)
from caliban.summary import NEVER_RUN, CauseCount, GroupCounts, outcomes_summary, summary_of

_DEEPEST = 50
"""Levels of lists and objects below a document; what is nested deeper becomes a string."""

_DEEPEST_VALUE = 40
"""The same below a value that users or platforms have chosen, such as parameters."""

_ESCAPES = re.compile(r"\\u(?:d[89ab]\w\w\\ud[c-f]\w\w|(?P<half>d[89a-f]\w\w))|\\.")

ERROR = "caliban.error/1"


def document(schema: str, **fields: object) -> JsonObject:
    """Return a document of a command.

    Args:
        schema: its name and version: ``caliban.status/1``.
        fields: what the command reports; names and meaning never change within a version.
    """
    return {"schema": schema, "exit_code": 0, "error": None, **fields}


def completed(found: JsonObject | None, exit_code: int, error: CalibanError | None) -> JsonObject:
    """Return the one document that a process writes.

    Args:
        found: what the command reported; None where it did not come to that.
        exit_code: of the process.
        error: what ended the command, or None.
    """
    told = error_fields(error) if error else None
    if found is not None:
        return {**found, "exit_code": exit_code, "error": told}
    if told is None:
        told = error_fields(CalibanError("no-document", "the command ended without a result"))
    return {"schema": ERROR, "exit_code": exit_code, **told}


def encoded(value: object) -> str:
    r"""Return a document as JSON, in ASCII and on one line.

    JSON has no NaN and no infinities: they become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``. Half of a
    surrogate pair, which is no character, becomes the text ``\ud800``, as people see it.
    """
    try:
        text = json.dumps(value, allow_nan=False, default=_as_dict)
    except (ValueError, RecursionError, TypeError):
        text = json.dumps(plain(value), allow_nan=False)
    if "\\ud" in text:
        text = _ESCAPES.sub(lambda found: f"\\\\u{found['half']}" if found["half"] else found[0], text)
    return text.replace("\x7f", "\\u007f")


@dataclass(frozen=True)
class Texts:
    """A list of a document, whose items are encoded one by one.

    Attributes:
        name: the field's name.
        items: each an encoded value.
    """

    name: str
    items: Iterable[str]


def encoded_parts(document: JsonObject, texts: Texts | None) -> Iterator[str]:
    """Yield a document as JSON in one line, with its line break, in pieces; ``texts`` is its last field."""
    whole = encoded(document)
    if texts is None or document.get("schema") == ERROR:
        yield f"{whole}\n"
        return
    yield f'{whole[:-1]}, "{texts.name}": ['
    for number, item in enumerate(texts.items):
        yield f", {item}" if number else item
    yield "]}\n"


def plain(value: object, levels: int = _DEEPEST) -> object:
    """Return a value of a record or store in the types of JSON; see :func:`encoded`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value).encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, int):
        return value
    if levels and isinstance(value, Mapping):
        return {str(plain(str(key))): plain(each, levels - 1) for key, each in value.items()}
    if levels and isinstance(value, Sequence) and not isinstance(value, bytes):
        return [plain(each, levels - 1) for each in value]
    return f"({type(value).__name__})"


def _value(value: object) -> object:
    return plain(value, _DEEPEST_VALUE)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _as_dict(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def moment(time: datetime | None, *, precise: bool = False) -> str | None:
    """Return a time in UTC, see :func:`caliban.clock.rfc3339`; None where there is none."""
    return None if time is None else rfc3339(time, precise=precise)


def error_fields(error: CalibanError) -> JsonObject:
    """Return ``id``, ``message``, ``cause`` and ``hint`` of an error."""
    return {"id": error.id, "message": error.message, "cause": error.cause or None, "hint": error.hint or None}


def job_fields(job: JobRecord) -> JsonObject:
    """Return what is known of a job."""
    details, cause = job.details, cause_of(job)
    code = details.exit.code if details.exit else None
    return {
        "id": job.id,
        "platform": job.platform,
        "state": job.status.value,
        "created": moment(job.created),
        "started": moment(details.started),
        "ended": moment(details.ended),
        "duration_seconds": _duration(details.started, details.ended),
        "exit_code": code,
        "signal": None if code is None else signal_name(code),
        "cause": cause.value if cause else None,
        "reason": reason_of(job),
        "message": details.reason,
        "error": _output_error(job.output_error),
        "image": job.container,
        "name": details.display_name,
        "service_id": details.id,
        "destination": _value(details.destination.to_json()) if details.destination else None,
        "links": list(details.links),
        "refresh_error": job.refresh_error,
        "user": job.user,
    }


def _duration(started: datetime | None, ended: datetime | None) -> float | None:
    if started is None or ended is None:
        return None
    try:
        seconds = (ended - started).total_seconds()
    except TypeError:  # one of the two has no time zone
        return None
    return round(seconds, 3) if seconds >= 0 else None


def _output_error(error: OutputError | None) -> JsonObject | None:
    return None if error is None else {"type": error.type, "message": error.message, "frame": error.frame}


def container_fields(container: ContainerRecord) -> JsonObject:
    """Return what is recorded of a container spec: what is built, or the image that is used."""
    spec = container.spec
    extra_dirs = spec.get("extra_dirs")
    return {
        "id": container.id,
        "entrypoint": container.entrypoint,
        "job_mode": _text(spec.get("job_mode")),
        "build_path": _text(spec.get("build_path")),
        "extra_dirs": [str(each) for each in extra_dirs] if isinstance(extra_dirs, list | tuple) else [],
        "image": _text(spec.get("image_id")),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def experiment_fields(experiment: ExperimentRecord) -> JsonObject:
    """Return an experiment without its jobs."""
    return {
        "id": experiment.id or None,
        "command_line": render.command_line(experiment),
        "args": _value(experiment.args),
        "kwargs": _value(experiment.kwargs),
        "container": container_fields(experiment.container),
        "origin": experiment.origin,
    }


def new_experiment_fields(experiment: ExperimentRecord) -> JsonObject:
    """Return the parameters of an experiment that is not recorded yet."""
    found = experiment_fields(experiment)
    return {key: found[key] for key in ("command_line", "args", "kwargs")}


def group_fields(group: GroupRecord) -> JsonObject:
    """Return a group with its experiments, and the jobs of each, oldest first."""
    return {
        "id": group.id,
        "name": group.name,
        "experiments": [
            {
                **experiment_fields(each),
                "state": each.latest.status.value if each.latest else None,
                "jobs": [job_fields(job) for job in each.jobs],
            }
            for each in group.experiments
        ],
    }


def outcome_fields(outcome: Outcome) -> JsonObject:
    """Return the result of one attempt: whose it was, the job if one was recorded, and the error if there was one."""
    return {
        "experiment": experiment_fields(outcome.experiment),
        "job": job_fields(outcome.job) if outcome.job else None,
        "error": error_fields(outcome.error) if outcome.error else None,
        "ok": outcome.is_good,
    }


def summary_fields(outcomes: Sequence[Outcome], not_started: int = 0) -> JsonObject:
    """Count the attempts of a command by the states of their jobs, and those that failed by cause."""
    jobs = [outcome.job for outcome in outcomes if outcome.job is not None]
    return {
        "attempts": len(outcomes) + not_started,
        "states": state_counts(job.status for job in jobs),
        "not_submitted": len(outcomes) - len(jobs),
        "not_started": not_started,
        "causes": causes_fields(outcomes_summary(outcomes).causes),
    }


def state_counts(states: Iterable[JobStatus]) -> JsonObject:
    """Return the number of jobs in each state; every state is there."""
    counts = Counter(states)
    return {state.value: counts[state] for state in JobStatus}


def causes_fields(causes: Iterable[CauseCount]) -> list[JsonObject]:
    """Return the jobs that failed, by what they have in common: as the summary for people counts them."""
    return [
        {
            "cause": each.cause.value,
            "error_type": each.error_type,
            "frame": each.frame,
            "text": each.text or None,
            "job_ids": list(each.job_ids),
        }
        for each in causes
    ]


def submission_fields(submission: Submission) -> JsonObject:
    """Return a submission that is under way, or whose outcome is unknown."""
    return {
        "name": submission.name,
        "group": submission.group,
        "experiment_id": submission.experiment_id,
        "platform": submission.platform,
        "destination": _value(submission.destination),
        "user": submission.user,
        "host": submission.host,
        "process": submission.pid,
        "created": moment(submission.created),
        "token": submission.token,
    }


def status_document(user: str, groups: Sequence[GroupRecord], in_doubt: Sequence[Submission]) -> JsonObject:
    """Return what ``caliban status`` shows.

    Args:
        user: whose groups they are.
        groups: with the experiments and jobs that were selected.
        in_doubt: submissions of interrupted commands whose outcome is unknown.
    """
    experiments = [experiment for group in groups for experiment in group.experiments]
    return document(
        "caliban.status/1",
        user=user,
        summary=experiments_summary(experiments),
        groups=[{**group_fields(group), "summary": experiments_summary(group.experiments)} for group in groups],
        in_doubt=submissions_fields(in_doubt),
    )


def experiments_summary(experiments: Sequence[ExperimentRecord]) -> JsonObject:
    """Count experiments by the states of their latest jobs, and those that failed by cause."""
    latest = [each.latest for each in experiments if each.latest]
    return {
        "experiments": len(experiments),
        "states": state_counts(job.status for job in latest),
        "never_run": len(experiments) - len(latest),
        "causes": causes_fields(summary_of(experiments).causes),
    }


def groups_document(user: str, groups: Sequence[GroupCounts]) -> JsonObject:
    """Return what ``caliban groups`` shows."""
    return document("caliban.groups/1", user=user, groups=[_counted(group) for group in groups])


def _counted(group: GroupCounts) -> JsonObject:
    return {
        "name": group.name,
        "experiments": group.experiments,
        "states": {state.value: group.counts.get(state.value.lower(), 0) for state in JobStatus},
        "never_run": group.counts.get(NEVER_RUN, 0),
        "last_submitted": moment(group.last),
    }


def submissions_fields(submissions: Iterable[Submission]) -> list[JsonObject]:
    """Return several submissions."""
    return [submission_fields(each) for each in submissions]
