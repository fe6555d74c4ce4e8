"""Which engine has the container of a job.

The engine that has the container with the recorded id, and the label of a submission, is the job's: nobody else makes
that container. Names do not matter for that: those of machines change with the network, or with each build of a
development container, and so does the identity of Podman's engines, which contains one.

Only where a container is missing its engine has to be known: it was removed from that one, and may run on any other.
"""

from __future__ import annotations

import socket

from caliban.attempts import Submission
from caliban.errors import PlatformError
from caliban.escapes import escaped
from caliban.images.docker.identity import EngineIdentity
from caliban.platforms.docker.client import is_reference
from caliban.platforms.docker.details import MACHINE_KEY, DockerDestination
from caliban.platforms.stored_json import one_line, text
from caliban.records import JobDetails, JsonObject


def unnamed(details: JobDetails) -> str | None:
    """Return why the container of a job cannot be looked for; None where it can."""
    if details.display_name is None:
        return "no container name recorded"
    if not all(is_reference(name) for name in (details.display_name, details.id or details.display_name)):
        return "the recorded name or id of its container is malformed"
    return None


def other_engine(details: JobDetails, here: EngineIdentity, machine: str | None) -> str | None:
    """Return why a job that is not on this engine is on another one; None where that is not known.

    Args:
        details: of the job.
        here: the engine that answers.
        machine: on which machine it is, where that is known.
    """
    if (problem := unnamed(details)) is not None:
        return problem
    raw = details.raw
    if text(raw, "engine") is None:  # of an earlier version, or an engine without an id
        host = raw.get("host")
        return None if host == socket.gethostname() else f"the job runs on {_shown(host)}"
    return other_id(raw, recorded_machine(raw), here, machine)


def other_id(recorded: JsonObject, recorded_on: str | None, here: EngineIdentity, machine: str | None) -> str | None:
    """Return that what is recorded names another engine; None where it names this one, or none.

    Args:
        recorded: a destination, or details.
        recorded_on: the machine of the engine, or None.
        here: the engine that answers.
        machine: its machine, or None.
    """
    there = DockerDestination.from_json(recorded)
    if there.engine in (None, here.id) or _is_renamed(there, recorded_on, here, machine):
        return None
    return f"the job is on another Docker Engine ({_shown(there.engine_name or there.engine)})"


def absence_counts(recorded: JsonObject, recorded_on: str | None, here: EngineIdentity, machine: str | None) -> bool:
    """Return whether a container that this engine does not have does not exist; arguments as of :func:`other_id`.

    Machines that were cloned from one image may have engines of one id, but then of different names; and not the same
    id of the operating system, which is made when a machine starts for the first time.
    """
    there = DockerDestination.from_json(recorded)
    if there.engine is None:
        return False
    return there == DockerDestination.of(here) or _is_renamed(there, recorded_on, here, machine)


def id_without_name(recorded: JsonObject) -> str | None:
    """Return the id of the engine of a recorded destination, without a name; None where it has none."""
    return _without_name(DockerDestination.from_json(recorded))


def submitted_on(submission: Submission) -> str | None:
    """Return the machine of the process that made a submission, or None."""
    return submission.batch.owner.machine if submission.batch else None


def recorded_machine(raw: JsonObject) -> str | None:
    """Return the machine in the details of a job, or None."""
    return text(raw, MACHINE_KEY)


def check_engine(submission: Submission, here: EngineIdentity, machine: str | None) -> None:
    """Check that a submission names no other engine.

    Raises:
        PlatformError: ``job-out-of-reach``.
    """
    obstacle = other_id(submission.destination, submitted_on(submission), here, machine)
    if obstacle is not None:
        raise out_of_reach(f"cannot look up the submission {submission.name}", obstacle)


def out_of_reach(message: str, cause: str) -> PlatformError:
    """Return the error for a job that this engine cannot be asked about."""
    return PlatformError(
        "job-out-of-reach",
        message,
        cause=cause,
        hint="run the command where DOCKER_HOST, or the docker context, names that engine",
    )


def _is_renamed(there: DockerDestination, recorded_on: str | None, here: EngineIdentity, machine: str | None) -> bool:
    """Return whether a recorded engine is this one, on the same machine under another name."""
    is_same_machine = machine is not None and machine == recorded_on
    return is_same_machine and _without_name(there) == _without_name(DockerDestination.of(here))


def _without_name(destination: DockerDestination) -> str | None:
    """Return the id of an engine, without the name that that of a Podman engine begins with."""
    engine, name = destination.engine, destination.engine_name
    return engine.removeprefix(f"{name}:") if engine and name else engine


def _shown(recorded: object) -> str:
    """Return a recorded name as it may be shown: a row may have been written by anyone."""
    return escaped(one_line(str(recorded)) or "unknown")
