"""How Vertex AI finds machines for custom jobs, and how often it runs them: what flags say, checked. Pure.

Sources: ``GoogleCloudAiplatformV1Scheduling`` and ``GoogleCloudAiplatformV1ReservationAffinity`` in the discovery
document (revision 20261106), and below
https://docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/ the pages schedule-jobs-dws
(flex start), use-reservations and understanding-training-service (restarts).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from caliban.durations import duration_text
from caliban.errors import UsageError
from caliban.platforms.google.identifiers import PROJECT, REGION
from caliban.platforms.google.launch import SchedulingOptions
from caliban.platforms.google.machine_catalog import Gpu, Hardware, short_name
from caliban.platforms.stored_json import text
from caliban.platforms.vertex.machines import FLEX_START_GPUS
from caliban.records import JsonObject

SPOT, FLEX_START = "SPOT", "FLEX_START"
NOT_STANDARD = (SPOT, FLEX_START)
"""Strategies other than the default. The API still accepts ``ON_DEMAND`` and ``LOW_COST``, which are deprecated."""

ONE_ATTEMPT: Mapping[str, object] = {"disableRetries": True}
"""A job runs once. Without it, the service runs a job again, by itself and unseen, after internal errors and exit codes
that may be transient. It overrides ``restartJobOnWorkerRestart``."""

ANY_RESERVATION = "any"
LONGEST_FLEX_START_S = 7 * 86400
_RESERVATION_KEY = "compute.googleapis.com/reservation-name"
_COMPUTE_URL = re.compile(r"https://(?:www|compute)\.googleapis\.com/compute/[a-z0-9]{1,10}/")
_NAME = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_RESERVATION = re.compile(
    rf"projects/(?:{PROJECT.pattern})/zones/(?P<region>{REGION.pattern})-[a-z0-9]{{1,8}}/reservations/{_NAME}"
    rf"(?:/reservationBlocks/{_NAME}(?:/reservationSubBlocks/{_NAME})?)?",
    re.ASCII,
)


def check(hardware: Hardware, options: SchedulingOptions, *, force: bool) -> None:
    """Check what the flags say about machines, before anything is built.

    Args:
        hardware: of each job.
        options: how to find it.
        force: leave it to the service whether it has GPUs for flex start, or the reservation in the region.

    Raises:
        UsageError: ``wrong-usage``, ``conflicting-flags``, ``reservation-malformed``; unless ``force``,
            ``flex-start-unavailable``, ``reservation-not-in-region``.
    """
    if options.max_wait_s is not None and not options.is_flex_start:
        raise UsageError(
            "wrong-usage",
            "--max_wait needs --flex_start",
            cause="only jobs with flex start have a limit for the time that they wait for machines",
            hint="add --flex_start",
        )
    _check_conflicts(options)
    if options.is_flex_start:
        check_flex_start_timeout(options.timeout_s)
        if not force:
            check_flex_start(hardware.gpu)
    if options.reservation and not force and not is_in_region(options.reservation, hardware.region):
        raise _not_in_region(options.reservation, hardware.region)


def reservation_name(given: str) -> str:
    """Return the value of ``--reservation``: ``any``, or a resource name; a URL as gcloud prints it is one, too.

    Raises:
        UsageError: ``reservation-malformed``.
    """
    name = _COMPUTE_URL.sub("", given, count=1)
    if name != ANY_RESERVATION and _RESERVATION.fullmatch(name) is None:
        raise UsageError(
            "reservation-malformed",
            f'expected "any" or projects/PROJECT/zones/ZONE/reservations/NAME, got "{given}"',
            hint='list reservations with: gcloud compute reservations list --format="value(selfLink)"',
        )
    return name


def affinity(reservation: str | None) -> dict[str, object]:
    """Return the fields of a machine spec for the value of ``--reservation``; {} for none."""
    if reservation is None:
        return {}
    if reservation == ANY_RESERVATION:
        return {"reservationAffinity": {"reservationAffinityType": "ANY_RESERVATION"}}
    return {
        "reservationAffinity": {
            "reservationAffinityType": "SPECIFIC_RESERVATION",
            "key": _RESERVATION_KEY,
            "values": [reservation],
        }
    }


def is_in_region(reservation: str, region: str) -> bool:
    """Return whether jobs in a region can use a reservation, given as for ``--reservation``."""
    match = _RESERVATION.fullmatch(reservation)
    return match["region"] == region if match else reservation == ANY_RESERVATION


def recorded_reservation(machine: JsonObject) -> str | None:
    """Return the reservation of a recorded machine spec as ``--reservation`` takes it; None for none."""
    recorded = machine.get("reservationAffinity")
    if not isinstance(recorded, Mapping):
        return None
    kind, values = text(recorded, "reservationAffinityType"), recorded.get("values")
    if kind == "ANY_RESERVATION":
        return ANY_RESERVATION
    names = [str(each) for each in values] if isinstance(values, list) else []
    return ", ".join(names) or None if kind == "SPECIFIC_RESERVATION" else None


def scheduling(options: SchedulingOptions) -> dict[str, object]:
    """Return the ``scheduling`` of a new job."""
    strategy = SPOT if options.is_spot else FLEX_START if options.is_flex_start else None
    made: dict[str, object] = {"strategy": strategy} if strategy else {}
    if options.max_wait_s is not None:
        made["maxWaitDuration"] = f"{options.max_wait_s}s"
    if options.timeout_s is not None:
        made["timeout"] = f"{options.timeout_s}s"
    return {**made, **ONE_ATTEMPT}


def summary_lines(options: SchedulingOptions) -> tuple[str, ...]:
    """Return what ``--dry_run`` shows of flex start and a reservation."""
    lines = []
    if options.is_flex_start:
        wait = options.max_wait_s
        longest = "24 hours" if wait is None else duration_text(wait) if wait else None
        lines.append(f"each job waits for its machines (flex start){f' for up to {longest}' if longest else ''}")
    if options.reservation == ANY_RESERVATION:
        lines.append("each job uses any reservation of such machines, else machines on demand")
    elif options.reservation:
        lines.append(f"each job uses the reservation {options.reservation}")
    return tuple(lines)


def check_flex_start(gpu: Gpu | None) -> None:
    """Check that flex start has these GPUs.

    Raises:
        UsageError: ``flex-start-unavailable``.
    """
    if gpu is None or gpu.type not in FLEX_START_GPUS:
        available = ", ".join(short_name(each) for each in FLEX_START_GPUS)
        raise UsageError(
            "flex-start-unavailable",
            f"Vertex AI has no flex start for {f'jobs with {gpu}' if gpu else 'jobs without GPUs'}",
            hint=f"GPUs with flex start: {available}; for machines on demand, omit --flex_start (resubmit: add "
            "--nonpreemptible); or override this check with --force",
        )


def check_flex_start_timeout(timeout: int | None) -> None:
    """Check that jobs with flex start may run for so many seconds; None for the default.

    Raises:
        UsageError: ``flex-start-unavailable``.
    """
    if timeout is not None and timeout > LONGEST_FLEX_START_S:
        raise UsageError(
            "flex-start-unavailable",
            "jobs with flex start may run for 7 days at most",
            cause=f"--timeout is {timeout} seconds",
            hint="use a shorter --timeout, or omit --flex_start",
        )


def _check_conflicts(options: SchedulingOptions) -> None:
    """Check that only one way to machines is named.

    Reservations are for machines on demand: neither flex start
    (https://docs.cloud.google.com/gemini-enterprise-agent-platform/machine-learning/training/use-reservations) nor Spot
    VMs (https://docs.cloud.google.com/compute/docs/instances/reservations-consume#limitations) use them.
    """
    given = [
        flag
        for flag, is_given in (
            ("--spot", options.is_spot),
            ("--flex_start", options.is_flex_start),
            ("--reservation", options.reservation is not None),
        )
        if is_given
    ]
    if len(given) > 1:
        raise UsageError(
            "conflicting-flags",
            f"{given[0]} and {given[1]} cannot be combined",
            cause="a job gets its machines in one of these ways",
            hint="omit one of them",
        )


def _not_in_region(reservation: str, region: str) -> UsageError:
    match = _RESERVATION.fullmatch(reservation)
    there = match["region"] if match else "another region"
    return UsageError(
        "reservation-not-in-region",
        f"the jobs run in {region}, but the reservation is in {there}",
        cause=f"--reservation {reservation}",
        hint=f"add --region {there}",
    )
