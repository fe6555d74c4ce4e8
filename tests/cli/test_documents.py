"""Documents of ``--json``: valid JSON of records with any content."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caliban.cli import documents
from caliban.errors import CalibanError
from caliban.records import FailureCause, JobDetails, JobExit, JobStatus, OutputError
from tests.builders import a_job, an_experiment
from tests.sampling import examples

ENDED = JobDetails(
    exit=JobExit(137, FailureCause.OUT_OF_MEMORY, "OOMKilled"),
    started=datetime(2026, 11, 25, 3, 10, 13, 500_000, timezone(timedelta(hours=1))),
    ended=datetime(2026, 11, 25, 2, 10, 15, tzinfo=timezone.utc),
)


def decoded(value: object) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = documents.encoded(value)
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text, parse_constant=refuse)
    assert json.dumps(found, ensure_ascii=False).encode()  # no half of a pair
    return found


def test_numbers_that_json_does_not_have_are_strings() -> None:
    values = [float("nan"), float("inf"), float("-inf"), 1.5]
    assert decoded(values) == ["NaN", "Infinity", "-Infinity", 1.5]


def test_half_of_a_surrogate_pair_is_text() -> None:
    assert decoded({"a\udcff": "\ud800"}) == {"a\\udcff": "\\ud800"}


def test_text_of_all_scripts_and_controls_stay_what_they_are() -> None:
    text = "é 한 ퟿ ☃ \U0001f600 \x00\x1b\x7f\x9b\u202e\n"
    assert decoded(text) == text


def test_what_is_nested_too_deeply_is_named() -> None:
    value: object = "x"
    for _ in range(5000):
        value = [value]
    assert '"(list)"' in documents.encoded(value)


@settings(max_examples=examples(100))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
        max_leaves=8,
    )
)
def test_any_value_of_a_store_is_valid_json(value: object) -> None:
    decoded(value)


def test_times_are_in_utc() -> None:
    job = documents.job_fields(replace(a_job(1, JobStatus.FAILED), details=ENDED))
    assert (job["started"], job["ended"]) == ("2026-11-25T02:10:13Z", "2026-11-25T02:10:15Z")


def test_a_time_without_a_zone_is_local(time_zone: Any) -> None:
    time_zone("Asia/Tokyo")
    assert documents.moment(datetime(2026, 11, 25, 9, 0, 0)) == "2026-11-25T00:00:00Z"


@pytest.mark.parametrize("time", [datetime.min, datetime.max])
def test_a_time_that_no_machine_has_seen_has_the_same_form(time: datetime) -> None:
    assert documents.moment(time) in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")


def test_a_duration_counts_from_start_to_end() -> None:
    assert documents.job_fields(replace(a_job(1, JobStatus.FAILED), details=ENDED))["duration_seconds"] == 1.5


def test_a_job_that_ended_before_it_started_has_no_duration() -> None:
    details = replace(ENDED, started=ENDED.ended, ended=ENDED.started)
    assert documents.job_fields(replace(a_job(1, JobStatus.FAILED), details=details))["duration_seconds"] is None


def test_a_failed_job_has_its_cause_signal_and_error() -> None:
    error = OutputError("ValueError", "loss is nan", "train.py:41")
    job = documents.job_fields(replace(a_job(1, JobStatus.FAILED), details=ENDED, output_error=error))
    found = {key: job[key] for key in ("exit_code", "signal", "cause", "message", "error")}
    assert found == {
        "exit_code": 137,
        "signal": "SIGKILL",
        "cause": "out_of_memory",
        "message": "OOMKilled",
        "error": {"type": "ValueError", "message": "loss is nan", "frame": "train.py:41"},
    }


def test_an_experiment_has_its_parameters_as_values_and_as_a_command_line() -> None:
    found = documents.experiment_fields(an_experiment(args=(), kwargs={"lr": 0.1, "name": "a b"}))
    assert (found["kwargs"], found["command_line"]) == ({"lr": 0.1, "name": "a b"}, "cpu.py --lr 0.1 --name 'a b'")


def test_the_error_that_ended_a_command_is_part_of_its_document() -> None:
    found = documents.completed(documents.document("caliban.run/1", jobs=[]), 1, CalibanError("a-b", "it failed"))
    assert found == {
        "schema": "caliban.run/1",
        "exit_code": 1,
        "error": {"id": "a-b", "message": "it failed", "cause": None, "hint": None},
        "jobs": [],
    }


def test_an_error_before_there_is_a_result_is_a_document_of_its_own() -> None:
    found = documents.completed(None, 2, CalibanError("a-b", "it failed", cause="why", hint="do"))
    assert found == {
        "schema": "caliban.error/1",
        "exit_code": 2,
        "id": "a-b",
        "message": "it failed",
        "cause": "why",
        "hint": "do",
    }
