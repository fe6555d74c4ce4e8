"""Answers that are lost, services that refuse, and several people at once: each experiment is re-run once."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence

import pytest
from _pytest.mark import ParameterSet

from tests.safety.crash import read_recording
from tests.safety.places import PLACES
from tests.safety.traced import Point
from tests.safety.worlds import QUICK, RESUBMIT, STATUS, World
from tests.standins.faults import Fault, Kind

EXPERIMENTS = 6
CREATE, GET, LIST, TOKEN, LOOK_UP = "create", "get", "list", "token", "look_up"
FOREVER = 10**6
KINDS: tuple[Kind, ...] = ("drop", "refuse", "garbage")


@pytest.fixture
def failed(sqlite_world: World) -> World:
    """A group whose jobs failed; the store does not know yet."""
    return with_failures(sqlite_world)


def with_failures(world: World) -> World:
    world.experiments(EXPERIMENTS)
    answer = world.submit()
    assert answer.code == 0, answer
    world.end_jobs("FAILED")
    time.sleep(1.1)  # a name has the second in it, and nobody fixes code and re-runs within one
    return world


def each(jobs: int) -> dict[str, int]:
    return {f"--foo 3 --sleep {number}": jobs for number in range(EXPERIMENTS)}


def wrong(world: World) -> tuple[list[str], dict[str, int]]:
    """What does not hold, and how many jobs there are of each experiment."""
    return world.lost_or_twice(), world.jobs_per_experiment()


PASSING = {
    "each answer lost": [Fault(CREATE, "drop", times=EXPERIMENTS)],
    "one answer of each kind lost": [Fault(one, "drop") for one in (CREATE, GET, LIST, TOKEN)],
    "a storm of lost answers": [Fault("*", "drop", times=15)],
    "a page for each answer": [Fault(CREATE, "garbage", times=EXPERIMENTS)],
    "429": [Fault(CREATE, "status", status=429, times=30)],
    "429 with Retry-After": [Fault(CREATE, "status", status=429, retry_after="1", times=EXPERIMENTS)],
    "503": [Fault(one, "status", status=503, times=times) for one, times in ((CREATE, 20), (LIST, 5), (TOKEN, 1))],
    "503 with Retry-After": [Fault(CREATE, "status", status=503, retry_after="1", times=EXPERIMENTS)],
    "broken connections": [Fault("*", "refuse", times=15)],
    "everything": [
        *(Fault(CREATE, kind, times=2) for kind in KINDS),
        *(Fault(CREATE, "status", status=status, times=3) for status in (429, 500, 502, 503, 504)),
    ],
}
LASTING = {
    "every answer lost": Fault(CREATE, "drop", times=FOREVER),
    "broken connections": Fault(CREATE, "refuse", times=FOREVER),
    "429": Fault(CREATE, "status", status=429, times=FOREVER),
    "503": Fault(CREATE, "status", status=503, times=FOREVER),
    "403": Fault(CREATE, "status", status=403, times=FOREVER),
}
ELSEWHERE = [name for name in PLACES if name != "AI Platform"]
TELLING = ("each answer lost", "a storm of lost answers", "429", "503", "everything", "every answer lost")
"""What the other services have to stand as well; what is left out tests how answers are read, which is the same code
for Google's two services, and for all how waiting is counted."""


def storms(kinds: Mapping[str, object]) -> list[ParameterSet]:
    """Every kind on AI Platform, and the telling ones on the others."""
    chosen = [("AI Platform", kind) for kind in kinds]
    chosen += [(place, kind) for place in ELSEWHERE for kind in kinds if kind in TELLING]
    return [pytest.param(place, kinds[kind], id=f"{kind} on {place}") for place, kind in chosen]


@pytest.mark.parametrize(("place_name", "faults"), storms(PASSING))
def test_temporary_failures_are_retried_until_they_end(failed: World, faults: Sequence[Fault]) -> None:
    failed.plant(*faults)

    answer = failed.caliban(*RESUBMIT)

    assert answer.code == 0, answer
    assert wrong(failed) == ([], each(2))


@pytest.mark.parametrize(("place_name", "fault"), storms(LASTING))
def test_after_lasting_failures_the_next_rerun_submits_what_is_missing(failed: World, fault: Fault) -> None:
    failed.retry_policy = {**QUICK, "deadline": 0.5, "quota_deadline": 0.5}
    failed.caliban(*STATUS)
    failed.plant(fault)
    failed.plant(Fault(LOOK_UP, "refuse", times=FOREVER))
    during = failed.caliban(*RESUBMIT)
    failed.service.faults.pending.clear()

    afterwards = [failed.caliban(*RESUBMIT) for _ in range(2)]

    assert (during.code, [answer.code for answer in afterwards]) == (1, [0, 0]), failed.answers
    assert "nothing to resubmit" in afterwards[-1].out
    assert wrong(failed) == ([], each(2))


@pytest.mark.parametrize("people", [2, 8])
def test_concurrent_reruns_of_a_group_run_each_experiment_once(world: World, people: int) -> None:
    with_failures(world)
    world.plant(Fault(CREATE, "delay", seconds=0.3, times=FOREVER))

    answers = world.at_once([RESUBMIT] * people)

    assert wrong(world) == ([], each(2))
    assert {answer.code for answer in answers} <= {0, 1}
    assert not [answer for answer in answers if "locked" in answer.err or "Traceback" in answer.err]


def test_the_second_of_two_reruns_reports_who_is_submitting(world: World) -> None:
    with_failures(world)
    world.plant(Fault(CREATE, "delay", seconds=1, times=FOREVER))

    answers = world.at_once([RESUBMIT, RESUBMIT])

    who = rf"totoro .*{re.escape(socket.gethostname())} \(process \d+\)"
    assert [answer for answer in answers if re.search(who, answer.out + answer.err)], answers


@pytest.mark.parametrize("people", [2, 8])
def test_concurrent_commands_settle_an_interrupted_rerun_once(world: World, people: int) -> None:
    with_failures(world)
    world.caliban(*STATUS)
    world.plant(Fault(CREATE, "drop", times=FOREVER))
    world.plant(Fault(LOOK_UP, "status", status=403, times=FOREVER))
    world.caliban(*RESUBMIT)
    world.service.faults.pending.clear()

    answers = world.at_once([RESUBMIT] * people)

    assert [answer.code for answer in answers] == [0] * people, answers
    assert wrong(world) == ([], each(2))


def test_eight_concurrent_first_commands_create_one_store(world: World) -> None:
    world.experiments(EXPERIMENTS)

    answers = world.at_once([world.place.command()] * 8)

    assert not [answer for answer in answers if "Traceback" in answer.err or "[store-" in answer.err]
    assert world.lost_or_twice() == []
    assert world.experiment_count() == EXPERIMENTS


def test_eight_concurrent_commands_can_use_the_store_after_a_crash_inside_a_transaction(
    failed: World,
) -> None:
    recording = failed.folder / "recording.json"
    failed.caliban(*RESUBMIT, recording=recording)
    failed.end_jobs("FAILED")
    effects = [event.function for event in read_recording(recording) if not event.line]
    failed.caliban(*RESUBMIT, point=Point("before", 0, "commit", effects.index("commit") + 1))
    assert list(failed.folder.glob("caliban.db-journal")), "the crash left no half a transaction"

    answers = failed.at_once([RESUBMIT] * 8)

    assert [answer for answer in answers if answer.code != 0 and "[already-" not in answer.err] == []
    assert not [answer for answer in answers if "[store-" in answer.err]
    assert wrong(failed) == ([], each(3))


def test_concurrent_reruns_submit_an_experiment_without_a_job_once(world: World) -> None:
    world.experiments(1)
    world.submit()
    world.experiments(EXPERIMENTS)
    world.submit(point=Point("after", 0, "commit", 3))  # after the token, and the question whether the service is there
    assert world.experiment_count() == EXPERIMENTS
    world.end_jobs("FAILED")
    world.plant(Fault(CREATE, "delay", seconds=0.3, times=FOREVER))
    world.at_once([RESUBMIT] * 8)
    assert world.lost_or_twice() == []
    assert world.jobs_per_experiment() == {**each(1), "--foo 3 --sleep 0": 2}


@pytest.mark.parametrize("place_name", ELSEWHERE)
def test_eight_concurrent_reruns_on_other_services_run_each_experiment_once(sqlite_world: World) -> None:
    with_failures(sqlite_world)
    sqlite_world.plant(Fault(CREATE, "delay", seconds=0.3, times=FOREVER))

    answers = sqlite_world.at_once([RESUBMIT] * 8)

    assert wrong(sqlite_world) == ([], each(2))
    assert {answer.code for answer in answers} <= {0, 1}
    assert not [answer for answer in answers if "locked" in answer.err or "Traceback" in answer.err]


@pytest.mark.parametrize("place_name", ELSEWHERE)
def test_eight_concurrent_commands_on_other_services_settle_an_interrupted_rerun_once(sqlite_world: World) -> None:
    with_failures(sqlite_world)
    sqlite_world.caliban(*STATUS)
    sqlite_world.plant(Fault(CREATE, "drop", times=FOREVER), Fault(LOOK_UP, "status", status=403, times=FOREVER))
    sqlite_world.caliban(*RESUBMIT)
    sqlite_world.service.faults.pending.clear()

    answers = sqlite_world.at_once([RESUBMIT] * 8)

    assert [answer.code for answer in answers] == [0] * 8, answers
    assert wrong(sqlite_world) == ([], each(2))
