from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from caliban.cli.history import attempt_line, history_lines
from caliban.history import Attempt, Change, Resources, changes, history_of
from caliban.records import JobDetails, JobExit, JobRecord, JobStatus, JsonObject
from tests.builders import IMAGE, OTHER_IMAGE, SHORT_IMAGE, a_group, a_job, an_experiment
from tests.fake_service import FakeDestination

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


def with_spec(spec: JsonObject, **fields: object) -> JobRecord:
    return replace(a_job(1, spec=spec), **fields)  # type: ignore[arg-type]


def texts(before: JobRecord, after: JobRecord) -> list[str]:
    return [change.text for change in changes(before, after)]


def test_attempts_are_numbered_from_the_oldest_on() -> None:
    [history] = history_of(a_group(an_experiment(1, a_job(2), a_job(5))), NOW)
    assert [(each.number, each.job.id) for each in history.attempts] == [(1, 2), (2, 5)]


def test_equal_attempts_have_no_changes() -> None:
    assert texts(a_job(1), a_job(2)) == []


def test_another_image_is_a_change_wherever_the_spec_names_it() -> None:
    before = with_spec({"command": ["run", IMAGE, "--lr"], "container": IMAGE})
    after = with_spec({"command": ["run", OTHER_IMAGE, "--lr"], "container": OTHER_IMAGE}, container=OTHER_IMAGE)
    assert texts(before, after) == ["image"]


def test_the_name_of_a_job_is_no_change() -> None:
    jobs = [with_spec({"jobId": name}, details=JobDetails(display_name=name)) for name in ("a-1", "a-2")]
    assert texts(*jobs) == []


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"machine": {"count": 1}}, {"machine": {"count": 2}}, "machine.count 1 -> 2"),
        ({"command": ["-m", "4g"]}, {"command": ["-m", "8g"]}, "command 4g -> 8g"),
        ({"command": ["-m", "4g"]}, {"command": ["-m", "8g", "--init"]}, "command"),
        ({"command": ["-e", "TOKEN=a"]}, {"command": ["-e", "TOKEN=b"]}, "command"),
        ({"password": "a"}, {"password": "b"}, "password"),
        ({}, {"spot": True}, "spot"),
        ({"spot": True}, {"spot": False}, "spot True -> False"),
        ({"pools": [{"replicas": 1}]}, {"pools": [{"replicas": 3}]}, "pools[0].replicas 1 -> 3"),
    ],
)
def test_changes_of_the_spec_name_the_value_and_show_amounts_only(
    before: JsonObject, after: JsonObject, text: str
) -> None:
    assert texts(with_spec(before), with_spec(after)) == [text]


def test_labels_are_not_compared() -> None:
    assert texts(with_spec({"labels": {"name": "a"}}), with_spec({"labels": {"name": "b"}})) == []


def test_another_platform_is_one_change() -> None:
    after = with_spec({"other": 1}, platform="MOON")
    assert texts(with_spec({"spec": 1}), after) == ["platform TEST -> MOON"]


def test_another_destination_is_a_change() -> None:
    before, after = (
        with_spec({}, details=JobDetails(destination=FakeDestination(zone))) for zone in ("zone-a", "zone-b")
    )
    assert texts(before, after) == ["zone"]


def job_of(started: datetime | None, ended: datetime | None, status: JobStatus = JobStatus.FAILED) -> JobRecord:
    return replace(a_job(status=status), details=JobDetails(started=started, ended=ended))


@pytest.mark.parametrize(
    ("job", "seconds"),
    [
        (job_of(NOW - timedelta(seconds=90), NOW - timedelta(seconds=30)), 60),
        (job_of(NOW - timedelta(seconds=90), None, JobStatus.RUNNING), 90),
        (job_of(NOW - timedelta(seconds=90), None), None),
        (job_of(None, NOW), None),
        (job_of(NOW, NOW - timedelta(seconds=5)), 0),
        (job_of(NOW.replace(tzinfo=None), NOW), None),
    ],
)
def test_a_duration_is_known_where_start_and_end_are(job: JobRecord, seconds: float | None) -> None:
    [history] = history_of(a_group(an_experiment(1, job)), NOW)
    assert history.attempts[0].seconds == seconds


def test_an_attempt_is_one_line() -> None:
    job = replace(
        a_job(41), details=JobDetails(display_name="n", started=NOW, exit=JobExit(1)), user="mei", platform="LOCAL"
    )
    line = attempt_line(Attempt(2, job, 65, (Change("image"), Change("command", "4g", "8g"))))
    assert line == (
        f"attempt 2  job 41       FAILED       LOCAL {NOW.astimezone():%Y-%m-%d %H:%M:%S}  1m 05s     {SHORT_IMAGE}  "
        "by mei  changed: image, command 4g -> 8g  name: n  (exit code 1)"
    )


def test_the_duration_of_a_job_that_runs_is_marked() -> None:
    line = attempt_line(Attempt(1, a_job(status=JobStatus.RUNNING), 65, ()))
    assert "  1m 05s+  " in line


def test_many_changes_are_counted() -> None:
    line = attempt_line(Attempt(2, a_job(), None, tuple(Change(f"c{n}") for n in range(9))))
    assert "changed: c0, c1, c2, c3, 5 more" in line


def test_a_start_in_a_year_that_no_machine_has_seen_is_shown() -> None:
    job = replace(a_job(), details=JobDetails(started=datetime.min.replace(tzinfo=timezone.utc)))
    assert "1-01-01 00:00:00" in attempt_line(Attempt(1, job, None, ()))


def test_only_the_newest_attempts_are_listed_with_their_numbers() -> None:
    group = a_group(an_experiment(1, a_job(2), a_job(5), a_job(9)), an_experiment(2))
    lines = list(history_lines(group, Path("/home/totoro"), NOW, 2))
    assert [line.split("  job")[0].strip() for line in lines if "attempt" in line] == ["attempt 2", "attempt 3"]
    assert lines[-1] == "    never run"


def test_changed_resources_are_named_as_their_platform_does_and_not_by_their_place() -> None:
    jobs = [with_spec({"pod": {"limit": limit}, "image": "a", "other": limit}) for limit in ("4g", "8g")]
    group = a_group(an_experiment(1, *jobs))
    [history] = history_of(group, NOW, lambda job: Resources({"memory": str(job.spec["other"])}, ("pod",)))
    first, second = history.attempts
    assert (first.resources, second.resources) == ((), (Change("memory", "4g", "8g"),))
    assert [change.text for change in second.changes] == ["other 4g -> 8g"]
    assert "  changed: other 4g -> 8g  resources: memory 4g -> 8g" in attempt_line(second)


def test_resources_of_another_platform_are_not_compared() -> None:
    jobs = [with_spec({"limit": "4g"}), with_spec({"limit": "8g"}, platform="MOON")]
    [history] = history_of(a_group(an_experiment(1, *jobs)), NOW, lambda job: Resources({"memory": job.platform}))
    assert [(each.resources, [change.text for change in each.changes]) for each in history.attempts] == [
        ((), []),
        ((), ["platform TEST -> MOON"]),
    ]
