"""Flex start, reservations, and how often a job runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from caliban.errors import UsageError
from caliban.platforms.google.labels import request_body
from caliban.platforms.launch import Launch, LaunchContext
from caliban.platforms.vertex.launch import LAUNCHER
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobUpdate
from tests.platforms.vertex.helpers import IMAGE, NAME, NEW_IMAGE, SPEC, VertexBackend, recorded_job, submission
from tests.standins.custom_job_rules import check_custom_job

RESERVATION = "projects/totoro-project/zones/us-central1-a/reservations/lab"
BLOCK = f"{RESERVATION}/reservationBlocks/b1"
SPECIFIC = {"reservationAffinityType": "SPECIFIC_RESERVATION", "key": "compute.googleapis.com/reservation-name"}
WAITING = "waiting for machines (flex start)"
FLEX = ("--gpu_spec", "1xL4", "--flex_start")


def prepared(*words: str) -> Launch:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--nogpu", action="store_true")
    LAUNCHER.add_arguments(parser)
    here = Path("/nonexistent")
    context = LaunchContext("totoro", here, here, {}, datetime(2026, 11, 25, 11, 2, 59), wants_gpu=False)
    return LAUNCHER.prepare(parser.parse_args(words), context)


def job_spec(*words: str) -> Any:
    """Return a new job's ``jobSpec``, once the service would have accepted it."""
    spec = prepared(*words).job_spec(1, [], IMAGE)
    check_custom_job(request_body(spec, "displayName", NAME, "token"), any_registry=False)
    return spec["jobSpec"]


@pytest.mark.parametrize(
    ("words", "scheduling"),
    [
        ((), {"disableRetries": True}),
        (("--spot",), {"strategy": "SPOT", "disableRetries": True}),
        (FLEX, {"strategy": "FLEX_START", "disableRetries": True}),
        ((*FLEX, "--max_wait", "2h"), {"strategy": "FLEX_START", "maxWaitDuration": "7200s", "disableRetries": True}),
        ((*FLEX, "--max_wait", "0"), {"strategy": "FLEX_START", "maxWaitDuration": "0s", "disableRetries": True}),
        (
            (*FLEX, "--timeout", "7d"),
            {"strategy": "FLEX_START", "timeout": "604800s", "disableRetries": True},
        ),
    ],
)
def test_a_job_runs_once_on_machines_that_are_found_as_the_flags_say(words: tuple[str, ...], scheduling: Any) -> None:
    assert job_spec(*words)["scheduling"] == scheduling


@pytest.mark.parametrize(
    ("given", "affinity"),
    [
        ("any", {"reservationAffinityType": "ANY_RESERVATION"}),
        (RESERVATION, {**SPECIFIC, "values": [RESERVATION]}),
        (BLOCK, {**SPECIFIC, "values": [BLOCK]}),
        (f"{BLOCK}/reservationSubBlocks/s1", {**SPECIFIC, "values": [f"{BLOCK}/reservationSubBlocks/s1"]}),
        (f"https://www.googleapis.com/compute/v1/{RESERVATION}", {**SPECIFIC, "values": [RESERVATION]}),
    ],
)
def test_a_reservation_is_that_of_every_worker_pool(given: str, affinity: Any) -> None:
    pools = job_spec("--worker_count", "3", "--reservation", given)["workerPoolSpecs"]
    assert [pool["machineSpec"]["reservationAffinity"] for pool in pools] == [affinity, affinity]


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("--max_wait", "2h"), "wrong-usage"),
        (("--max_wait", "0"), "wrong-usage"),
        ((*FLEX, "--spot"), "conflicting-flags"),
        ((*FLEX, "--reservation", "any"), "conflicting-flags"),
        (("--spot", "--reservation", RESERVATION), "conflicting-flags"),
        (("--flex_start",), "flex-start-unavailable"),
        (("--flex_start", "--gpu_spec", "1xT4"), "flex-start-unavailable"),
        ((*FLEX, "--timeout", "169h"), "flex-start-unavailable"),
        (("--reservation", "lab"), "reservation-malformed"),
        (("--reservation", ""), "reservation-malformed"),
        (("--reservation", f"{RESERVATION}\n"), "reservation-malformed"),
        (("--reservation", RESERVATION.replace("us-central1-a", "us-central1")), "reservation-malformed"),
        (("--reservation", RESERVATION, "--region", "europe-west4"), "reservation-not-in-region"),
    ],
)
def test_machines_that_cannot_be_had_in_this_way_are_refused_before_anything_is_built(
    words: tuple[str, ...], id: str
) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(*words)
    assert (caught.value.id, bool(caught.value.hint)) == (id, True)


@pytest.mark.parametrize(
    "words", [("--flex_start", "--gpu_spec", "1xT4"), ("--reservation", RESERVATION, "--region", "europe-west4")]
)
def test_what_the_catalog_may_not_know_yet_is_left_to_the_service_with_force(words: tuple[str, ...]) -> None:
    prepared(*words, "--force")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (FLEX, "each job waits for its machines (flex start) for up to 24 hours"),
        ((*FLEX, "--max_wait", "90m"), "each job waits for its machines (flex start) for up to 1h 30m"),
        ((*FLEX, "--max_wait", "0"), "each job waits for its machines (flex start)"),
        (("--reservation", "any"), "each job uses any reservation of such machines, else machines on demand"),
        (("--reservation", RESERVATION), f"each job uses the reservation {RESERVATION}"),
    ],
)
def test_a_dry_run_says_how_the_machines_are_found(words: tuple[str, ...], line: str) -> None:
    assert prepared(*words).summary_lines()[1:] == (line,)


@pytest.mark.parametrize("words", [(*FLEX, "--max_wait", "0"), ("--reservation", RESERVATION)])
def test_a_re_run_has_flex_start_and_the_reservation_of_the_recorded_job(
    backend: VertexBackend, platform: VertexPlatform, words: tuple[str, ...]
) -> None:
    spec: Any = prepared(*words).job_spec(1, ["--foo", "3"], IMAGE)
    platform.submit(platform.with_image(spec, NEW_IMAGE), submission(), lambda: None)
    sent, recorded = backend.service.jobs.all()[-1].body["jobSpec"], spec["jobSpec"]
    assert sent["scheduling"] == recorded["scheduling"]
    assert sent["workerPoolSpecs"][0]["machineSpec"] == recorded["workerPoolSpecs"][0]["machineSpec"]


@pytest.mark.parametrize(
    ("state", "started", "reason"),
    [
        ("QUEUED", False, "waiting for machines (flex start)"),
        ("PENDING", False, "waiting for machines (flex start)"),
        ("RUNNING", True, None),
        ("EXPIRED", False, "expired: no machines within the time limit (scheduling.maxWaitDuration)"),
        ("EXPIRED", True, "expired"),
    ],
)
def test_a_job_with_flex_start_says_that_it_waits_for_machines(
    backend: VertexBackend, platform: VertexPlatform, state: str, started: bool, reason: str | None
) -> None:
    spec = prepared(*FLEX).job_spec(1, [], IMAGE)
    new = platform.submit(spec, submission(), lambda: None)
    job = replace(recorded_job(new.details.id), spec=spec, details=new.details)
    if started:
        backend.set_state(job, "RUNNING")
    backend.set_state(job, state)
    [update] = platform.statuses([job]).values()
    assert isinstance(update, JobUpdate)
    after = job.updated(update)
    assert (new.details.pending_reason, after.details.pending_reason or after.reason) == (WAITING, reason)


def test_a_job_recorded_before_is_run_again_as_recorded(platform: VertexPlatform) -> None:
    spec: Any = {**SPEC, "jobSpec": {**SPEC["jobSpec"], "scheduling": {}}}
    again: Any = platform.with_image(spec, NEW_IMAGE)
    assert again["jobSpec"]["scheduling"] == {}
