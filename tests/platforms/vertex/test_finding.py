"""A submission whose owner is gone: whether it became a job."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.errors import PlatformError
from caliban.platforms.google.errors import GoogleError
from caliban.platforms.vertex.platform import VertexPlatform
from caliban.records import JobStatus, NewJob
from tests.platforms.caip.helpers import HeardReporter
from tests.platforms.vertex.helpers import (
    IMAGE,
    NAME,
    PROJECT,
    QUICK,
    REGION,
    TOKEN,
    body,
    platform_context,
    submission,
)
from tests.standins.aiplatform_v1 import AiplatformV1

LIST = "aiplatform.projects.locations.customJobs.list"
LONG_AGO_S = 3600.0


@pytest.mark.parametrize(
    ("state", "expected"),
    [("JOB_STATE_RUNNING", JobStatus.RUNNING), ("JOB_STATE_UNSPECIFIED", JobStatus.UNKNOWN)],
)
def test_a_job_is_found_with_its_present_state(
    service: AiplatformV1, platform: VertexPlatform, state: str, expected: JobStatus
) -> None:
    service.jobs.create(PROJECT, REGION, body(token=TOKEN))
    service.jobs.set_state(NAME, state)
    place = {"project_id": PROJECT, "region": REGION, "name": service.jobs.find(NAME).name, "displayName": NAME}
    assert platform.find(submission()) == NewJob(IMAGE, expected, place)
    assert service.counts[LIST] == 1


def test_a_job_that_the_list_shows_late_is_found(service: AiplatformV1, key: Path, reporter: HeardReporter) -> None:
    service.jobs.lag_s = 0.7
    service.jobs.create(PROJECT, REGION, body(token=TOKEN))
    patient = VertexPlatform(
        platform_context(service=service, cloud_key=key, reporter=reporter), replace(QUICK, consistency_delay=5)
    )
    assert patient.find(submission()) is not None
    assert reporter.lines == ["Vertex AI may show new jobs late; looking for those of an interrupted command ..."]


def test_no_job_is_believed_only_once_one_would_be_listed(platform: VertexPlatform) -> None:
    begun = time.monotonic()
    assert platform.find(submission()) is None
    assert time.monotonic() - begun >= QUICK.consistency_delay


def test_the_submissions_of_one_owner_are_waited_for_once(service: AiplatformV1, platform: VertexPlatform) -> None:
    platform.find(submission())
    looked = service.counts[LIST]
    for number in range(20):
        assert platform.find(submission(token=f"{number:016x}")) is None
    assert service.counts[LIST] - looked == 20


def test_what_this_very_process_left_is_waited_for_each_time(service: AiplatformV1, platform: VertexPlatform) -> None:
    ours = replace(submission(), pid=os.getpid())
    for _ in range(2):
        begun = time.monotonic()
        assert platform.find(ours) is None
        assert time.monotonic() - begun >= QUICK.consistency_delay


def test_a_submission_of_long_ago_is_looked_for_once(service: AiplatformV1, platform: VertexPlatform) -> None:
    assert platform.find(submission(age_s=LONG_AGO_S)) is None
    assert service.counts[LIST] == 1


def test_a_submission_of_a_clock_that_was_ahead_is_waited_for_no_longer(platform: VertexPlatform) -> None:
    begun = time.monotonic()
    assert platform.find(submission(age_s=-LONG_AGO_S)) is None
    assert time.monotonic() - begun < 60


def test_another_submissions_job_is_not_taken_for_ours(service: AiplatformV1, platform: VertexPlatform) -> None:
    service.jobs.create(PROJECT, REGION, body(token="another"))
    service.jobs.create(PROJECT, "europe-west4", body(token=TOKEN))
    assert platform.find(submission(age_s=LONG_AGO_S)) is None


def test_an_interrupted_look_decides_nothing(service: AiplatformV1, key: Path) -> None:
    around = platform_context(service=service, cloud_key=key)
    around.stopping.set()
    with pytest.raises(PlatformError) as caught:
        VertexPlatform(around, QUICK).find(submission())
    assert caught.value.id == "look-up-interrupted"


def test_a_service_that_cannot_be_asked_for_a_job_is_an_error(service: AiplatformV1, platform: VertexPlatform) -> None:
    service.forbidden.add("aiplatform.customJobs.list")
    with pytest.raises(GoogleError):
        platform.find(submission())
