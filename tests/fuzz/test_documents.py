"""Records of any content: every document is JSON, and as its schema says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from caliban.attempts import Submission
from caliban.cli import documents
from caliban.config import ProjectConfig
from caliban.errors import CalibanError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import (
    ContainerRecord,
    Destination,
    ExperimentRecord,
    FailureCause,
    GroupRecord,
    JobDetails,
    JobExit,
    JobMode,
    JobRecord,
    JobStatus,
    JsonObject,
    Outcome,
    OutputError,
)
from caliban.resubmit.documents import plan_document, resubmit_document
from caliban.resubmit.plan import Plan, PlannedJob
from caliban.resubmit.selection import SkippedExperiment
from caliban.summary import GroupCounts
from tests.fuzz.test_store_rows import DEEP, JSON_VALUES
from tests.json_documents import checked
from tests.sampling import examples


@dataclass(frozen=True)
class AnyDestination(Destination):
    """What a platform of somebody else may return."""

    found: JsonObject

    def to_json(self) -> JsonObject:
        return self.found


TEXT = st.text(st.characters(), max_size=8) | st.sampled_from(["", "\x7f", "\ud83d", "\U0001f600", "\\ud800", DEEP])
IDS = st.integers(0, 2**63 - 1)
ZONES = st.none() | st.timezones() | st.sampled_from([timezone(timedelta(hours=23, minutes=59)), timezone.utc])
TIMES = st.datetimes(timezones=ZONES) | st.sampled_from(
    [datetime.min, datetime.max, datetime.max.replace(tzinfo=timezone.utc)]
)
OBJECTS = st.dictionaries(TEXT, JSON_VALUES, max_size=3)
ODD_OBJECTS = (
    OBJECTS | OBJECTS.map(MappingProxyType) | st.dictionaries(st.integers() | st.none(), st.binary(), max_size=2)
)

ERRORS = st.builds(CalibanError, TEXT, TEXT, cause=st.none() | TEXT, hint=st.none() | TEXT)
EXITS = st.builds(
    JobExit,
    st.none() | st.integers() | st.integers(120, 260),
    st.none() | st.sampled_from(FailureCause),
    st.none() | TEXT,
)
DETAILS = st.builds(
    JobDetails,
    id=st.none() | TEXT,
    display_name=st.none() | TEXT,
    destination=st.none() | st.builds(AnyDestination, ODD_OBJECTS),
    exit=st.none() | EXITS,
    pending_reason=st.none() | TEXT,
    started=st.none() | TIMES,
    ended=st.none() | TIMES,
    links=st.lists(TEXT, max_size=2).map(tuple),
)
OUTPUT_ERRORS = st.builds(OutputError, st.none() | TEXT, TEXT, st.none() | TEXT)
JOBS = st.builds(
    JobRecord,
    id=IDS,
    platform=TEXT,
    spec_id=IDS,
    spec=OBJECTS,
    container=TEXT,
    status=st.sampled_from(JobStatus),
    details=DETAILS,
    created=TIMES,
    user=st.none() | TEXT,
    refresh_error=st.none() | TEXT,
    output_error=st.none() | OUTPUT_ERRORS,
)
CONTAINERS = st.builds(
    ContainerRecord,
    IDS,
    OBJECTS | st.fixed_dictionaries({"extra_dirs": JSON_VALUES, "package": JSON_VALUES, "job_mode": JSON_VALUES}),
)
EXPERIMENTS = st.builds(
    ExperimentRecord,
    IDS,
    st.lists(TEXT, max_size=3).map(tuple),
    ODD_OBJECTS,
    CONTAINERS,
    st.lists(JOBS, max_size=3).map(tuple),
)
GROUPS = st.builds(GroupRecord, IDS, TEXT, st.lists(EXPERIMENTS, max_size=2).map(tuple))
SUBMISSIONS = st.builds(
    Submission,
    id=IDS,
    token=TEXT,
    experiment_id=IDS,
    group=TEXT,
    job_spec_id=IDS,
    resubmits=st.none(),
    platform=TEXT,
    destination=ODD_OBJECTS,
    name=TEXT,
    user=TEXT,
    host=TEXT,
    pid=IDS,
    created=TIMES,
)
OUTCOMES = st.builds(Outcome, EXPERIMENTS, st.none() | JOBS, st.none() | ERRORS)
COUNTS = st.builds(
    GroupCounts,
    TEXT,
    st.dictionaries(
        st.sampled_from([*(state.value.lower() for state in JobStatus), "never run"]), st.integers(0, 10**6)
    ),
    st.none() | TIMES,
)
SOURCES = st.builds(
    BuildSpec,
    TEXT.filter(lambda text: "\0" not in text).map(Path),
    st.just(Package(("python",), ".", "cpu.py")),
    st.sampled_from(JobMode),
    st.just(ProjectConfig()),
) | st.builds(ImageSpec, TEXT)


def written(document: JsonObject, code: int = 1, error: CalibanError | None = None) -> Mapping[str, object]:
    """The document as it is written, read again."""
    return checked("".join(documents.encoded_parts(documents.completed(document, code, error), None)))


@settings(max_examples=examples(200))
@given(TEXT, st.lists(GROUPS, max_size=2), st.lists(SUBMISSIONS, max_size=1), st.none() | ERRORS)
def test_any_groups_are_a_status(
    user: str, groups: Sequence[GroupRecord], in_doubt: Sequence[Submission], error: CalibanError | None
) -> None:
    found = written(documents.status_document(user, groups, in_doubt), 1, error)
    summary = found["summary"]
    assert isinstance(summary, dict)
    latest = [each.latest for group in groups for each in group.experiments if each.latest]
    assert sum(len(each["job_ids"]) for each in summary["causes"]) == sum(
        job.status is JobStatus.FAILED for job in latest
    )
    assert sum(summary["states"].values()) + summary["never_run"] == summary["experiments"]


@settings(max_examples=examples(100))
@given(TEXT, st.lists(COUNTS, max_size=3))
def test_any_counts_are_groups(user: str, groups: Sequence[GroupCounts]) -> None:
    written(documents.groups_document(user, groups))


@settings(max_examples=examples(100))
@given(st.lists(OUTCOMES, max_size=3), st.integers(0, 3), TEXT)
def test_any_outcomes_are_those_of_a_submission(outcomes: Sequence[Outcome], not_started: int, group: str) -> None:
    jobs = [documents.outcome_fields(outcome) for outcome in outcomes]
    summary = documents.summary_fields(outcomes, not_started)
    written(documents.document("caliban.submit/1", group=group, platform="LOCAL", summary=summary, jobs=jobs))
    assert summary["attempts"] == len(outcomes) + not_started


@settings(max_examples=examples(100))
@given(
    TEXT,
    st.lists(st.tuples(EXPERIMENTS, JOBS, st.none() | ERRORS, SOURCES | ERRORS), max_size=3),
    st.lists(OUTCOMES, max_size=2),
)
def test_any_plan_is_one_of_a_rerun(
    group: str,
    planned: Sequence[tuple[ExperimentRecord, JobRecord, CalibanError | None, BuildSpec | ImageSpec | CalibanError]],
    outcomes: Sequence[Outcome],
) -> None:
    jobs = tuple(
        PlannedJob(experiment, template, source, problem=problem) for experiment, template, problem, source in planned
    )
    skipped = tuple(SkippedExperiment(outcome.experiment, group) for outcome in outcomes)
    plan = Plan(group, jobs, skipped)
    written(plan_document(plan, [group]))
    written(resubmit_document(plan, outcomes, 0))


@settings(max_examples=examples(100))
@given(ERRORS, st.integers(1, 255))
def test_any_error_is_a_document(error: CalibanError, code: int) -> None:
    found = checked("".join(documents.encoded_parts(documents.completed(None, code, error), None)))
    assert found["exit_code"] == code
