"""A submission whose process has ended: whether it became a job."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from caliban.attempts import Batch, Owner
from caliban.errors import PlatformError
from caliban.platforms.vertex.platform import VertexPlatform
from tests.fakes import FakeClock
from tests.platforms.google.helpers import POLICY, TOKEN
from tests.platforms.vertex.helpers import VertexBackend, submission

LONG_AGO_S = 25 * 3600.0


def test_a_job_that_is_listed_is_found_with_one_request(backend: VertexBackend, platform: VertexPlatform) -> None:
    backend.accept(token=TOKEN)
    assert platform.find(submission()) is not None
    assert backend.counts("list") == (1,)


def test_a_job_that_is_listed_late_is_found(backend: VertexBackend, platform: VertexPlatform) -> None:
    backend.service.jobs.lag_s = 7
    backend.accept(token=TOKEN)
    assert platform.find(submission()) is not None
    assert backend.reporter.lines == [
        "Vertex AI may list new jobs late; looking for jobs of an interrupted command ..."
    ]


def test_a_missing_job_is_certain_only_once_the_list_is_consistent(platform: VertexPlatform, clock: FakeClock) -> None:
    assert platform.find(submission()) is None
    assert clock.seconds >= POLICY.consistency_delay


def test_the_submissions_of_one_process_are_waited_for_once(backend: VertexBackend, platform: VertexPlatform) -> None:
    platform.find(submission())
    [before] = backend.counts("list")
    for number in range(20):
        assert platform.find(submission(token=f"{number:016x}")) is None
    assert backend.counts("list") == (before + 20,)


def test_submissions_of_this_process_are_waited_for_each_time(platform: VertexPlatform, clock: FakeClock) -> None:
    ours = replace(submission(), pid=os.getpid())
    for _ in range(2):
        before = clock.seconds
        assert platform.find(ours) is None
        assert clock.seconds - before >= POLICY.consistency_delay


def test_a_submission_of_long_ago_is_looked_up_once(backend: VertexBackend, platform: VertexPlatform) -> None:
    assert platform.find(submission(age_s=LONG_AGO_S)) is None
    assert backend.counts("list") == (1,)


@pytest.mark.parametrize("hours", [1, 8, 14])
def test_a_submission_that_only_seems_old_is_waited_for(platform: VertexPlatform, clock: FakeClock, hours: int) -> None:
    """The clock of its machine is behind, or shows the time of another zone."""
    assert platform.find(submission(age_s=hours * 3600)) is None
    assert clock.seconds >= POLICY.consistency_delay


def test_processes_of_two_containers_with_one_name_and_process_id_are_waited_for_each(
    platform: VertexPlatform, clock: FakeClock
) -> None:
    for number in (1, 2):
        before = clock.seconds
        batch = Batch(number, Owner(None, None, None, 7, None), 0, 0)
        assert platform.find(replace(submission(), batch=batch)) is None
        assert clock.seconds - before >= POLICY.consistency_delay


def test_a_submission_dated_in_the_future_is_waited_for_no_longer(platform: VertexPlatform, clock: FakeClock) -> None:
    assert platform.find(submission(age_s=-LONG_AGO_S)) is None
    assert clock.seconds == POLICY.consistency_delay


def test_a_job_in_another_region_is_not_taken_for_ours(backend: VertexBackend, platform: VertexPlatform) -> None:
    backend.accept(token=TOKEN, region="europe-west4")
    assert platform.find(submission(age_s=LONG_AGO_S)) is None


def test_an_interrupted_search_decides_nothing(platform: VertexPlatform) -> None:
    platform.context.stopping.set()
    with pytest.raises(PlatformError) as caught:
        platform.find(submission())
    assert caught.value.id == "look-up-interrupted"
