"""Experiments without a job: they are run as their interrupted command was about to run them."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from caliban.attempts import SubmissionState
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Store
from caliban.store.first_submissions import first_submissions
from caliban.store.models import JobSpecRow, SubmissionRow
from tests.builders import CREATED, add_group, latest_states, submissions
from tests.calls import call, result_of
from tests.conftest import MakeContext, ScreenContext
from tests.databases import sent_statements
from tests.fake_service import FakeService

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
LAB: JsonObject = {"image_id": "lab:1"}
SPEC: JsonObject = {"image": "lab:1", "arguments": ["--foo", "3"]}


def add_submission(
    store: Store,
    experiment_id: int,
    *,
    spec: JsonObject = SPEC,
    state: SubmissionState = SubmissionState.ABANDONED,
    user: str = "totoro",
    host: str | None = None,
) -> None:
    """Record what a command was about to submit when it was killed."""
    with store.writing() as session:
        row = JobSpecRow(experiment_id=experiment_id, platform="TEST", spec=dict(spec), created=CREATED)
        session.add(row)
        session.flush()
        session.execute(
            insert(SubmissionRow).values(
                token=f"{row.id:016}",
                experiment_id=experiment_id,
                job_spec_id=row.id,
                platform="TEST",
                target={},
                name="fake",
                user=user,
                host=host or "here",
                pid=1,
                created=CREATED,
                state=state,
            )
        )


@pytest.fixture(autouse=True)
def this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")


def test_an_experiment_whose_first_submission_never_arrived_is_run_as_it_was_to_be(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, None, container_spec=LAB)
    add_submission(store, 1)
    service.expect("submit", service.accept)
    assert call(context, *RESUBMIT, "--yes") == 0
    [sent] = service.arguments_of("submit")
    assert sent == {**SPEC, "arguments": ["--foo", "3", "--sleep", "0"]}
    assert latest_states(store) == ["SUBMITTED"]
    assert submissions(store)[-1].resubmits is None
    line = "never run; would run on TEST with the settings that it was submitted with"
    assert f"lab:1 --foo 3 --sleep 0\n  {line}\n" in context.out


def test_its_own_record_counts_more_than_the_job_of_another_experiment(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, JobStatus.SUCCEEDED, None, None, container_spec=LAB)
    add_submission(store, 2)
    jobs = result_of(make_context(), *RESUBMIT, "--dry_run", "--json")["jobs"]
    assert [(job["experiment"]["id"], job["settings_of_job"]) for job in jobs] == [(2, None), (3, 1)]


def test_the_newest_submission_counts(store: Store) -> None:
    add_group(store, None, container_spec=LAB)
    for image in ("lab:1", "lab:2"):
        add_submission(store, 1, spec={**SPEC, "image": image})
    assert first_submissions(store, [1])[1].spec["image"] == "lab:2"


def test_json_says_that_its_settings_are_not_those_of_a_job(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, None, container_spec=LAB)
    add_submission(store, 1)
    [job] = result_of(make_context(), *RESUBMIT, "--dry_run", "--json")["jobs"]
    assert (job["settings_of_job"], job["platform"], job["resubmits"]) == (None, "TEST", None)


def test_changed_parameters_apply_to_it(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, None, container_spec=LAB)
    add_submission(store, 1)
    service.expect("submit", service.accept)
    assert call(context, *RESUBMIT, "--yes", "--", "--sleep", "7") == 0
    assert service.arguments_of("submit") == [{**SPEC, "arguments": ["--foo", "3", "--sleep", "7"]}]


@pytest.mark.parametrize(("user", "host", "shown"), [("mei", "here", "mei"), ("totoro", "laptop", "totoro on laptop")])
def test_what_someone_else_recorded_is_shown(
    user: str, host: str, shown: str, store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, None, container_spec=LAB)
    add_submission(store, 1, user=user, host=host)
    assert call(context, *RESUBMIT, "--dry_run") == 0
    assert f"recorded by {shown}, and part of the re-run:" in context.out


def test_an_experiment_without_a_job_and_without_a_record_is_left_out(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, None, container_spec=LAB)
    assert call(context, *RESUBMIT, "--dry_run") == 0
    assert "never submitted, and no other experiment has its container spec" in context.out


def test_a_recorded_image_cannot_be_kept_of_what_never_ran(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, None)
    add_submission(store, 1)
    [job] = result_of(make_context(), *RESUBMIT, "--dry_run", "--json", "--no_rebuild")["jobs"]
    assert job["error"]["message"] == "no image is recorded for experiment 1, which never ran"


def test_an_experiment_with_a_job_has_none(store: Store) -> None:
    add_group(store, JobStatus.FAILED, container_spec=LAB)
    add_submission(store, 1)
    assert first_submissions(store, [1]) == {}


def test_all_of_a_large_group_are_read_in_one_statement(store: Store) -> None:
    add_group(store, *[None] * 200, container_spec=LAB)
    for number in range(1, 201):
        add_submission(store, number)
    with sent_statements() as statements:
        assert len(first_submissions(store, range(1, 201))) == 200
    assert len(statements) == 1


def test_a_store_without_a_journal_has_none(store: Store) -> None:
    add_group(store, None)
    store.has_journal = False
    assert first_submissions(store, [1]) == {}
