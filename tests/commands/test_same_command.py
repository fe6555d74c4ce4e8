"""The same command typed again: it submits what an interrupted one did not, and nothing twice without a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import cast

import pytest
from sqlalchemy import update

from caliban.attempts import Owner, Submission, SubmissionState
from caliban.errors import StoreError
from caliban.records import JsonObject, NewJob
from caliban.store.database import Store
from caliban.store.journal import Journal
from caliban.store.models import BatchRow, JobRow, SubmissionRow
from caliban.store.owner import to_text
from caliban.store.submissions import utc_now
from caliban.submission.submit import InterruptedSubmissionError, Submitter
from tests.builders import elsewhere, owner, read_group, submissions
from tests.commands.test_submit import FakeLaunch, submit
from tests.conftest import ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

SWEEP = ("--experiment_config", "experiment.json")
IMAGE = "sha256:" + "ab" * 32
ENDED = 2**22 + 1
"""No process has an id as high."""


@pytest.fixture(autouse=True)
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    (cwd / "experiment.json").write_text('{"sleep": [0, 1, 2, 3]}')
    return cwd


@pytest.fixture(autouse=True)
def image(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is built and pushed whenever it is needed."""
    monkeypatch.setattr("caliban.submission.images.Images.get", lambda *_: IMAGE)
    monkeypatch.setattr("caliban.submission.images.Images.build", lambda *_: None)


def killed_after(store: Store, service: FakeService, sent: int, *, by: Owner | None = None) -> None:
    """Leave what a command leaves that is killed after ``sent`` of four jobs were accepted."""
    with store.writing() as session:
        session.execute(update(BatchRow).values(finished=None, owner=to_text(by or owner(ENDED))))
        rows = session.query(SubmissionRow).order_by(SubmissionRow.id).all()[sent:]
        for row in rows:
            service.jobs.pop(row.token)
            service._names.pop(row.name)
            job_id, row.state, row.job_id, row.sent = row.job_id, SubmissionState.OPEN, None, None
            session.flush()
            session.query(JobRow).filter(JobRow.id == job_id).delete()


def accept_all(service: FakeService, count: int = 4) -> None:
    service.expect("submit", *[service.accept] * count)


def attempts(store: Store) -> list[int]:
    return [len(experiment.jobs) for experiment in read_group(store, all_jobs=True).experiments]


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_after_a_kill_the_same_command_submits_the_rest(
    store: Store, remote: FakeService, context: ScreenContext, sent: int
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, sent)
    accept_all(remote, 4 - sent)
    assert submit(context, *SWEEP) == 0
    assert attempts(store) == [1, 1, 1, 1]
    at = f"{context.clock.utc_now().astimezone():%H:%M}"
    line = f"continuing the submission interrupted at {at}: {sent} of 4 jobs were already submitted\n"
    assert line in context.err


def test_what_was_sent_is_looked_up_before_the_rest_is_submitted(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 2)
    [third, fourth] = [row for row in submissions(store) if row.state is SubmissionState.OPEN]
    for submission in (third, fourth):
        Journal(store, owner=owner(ENDED)).mark_sent(submission)
    remote.take({"image": IMAGE}, third)
    remote.expect("find", remote.look_up, remote.look_up)
    accept_all(remote, 1)
    assert submit(context, *SWEEP) == 0
    assert attempts(store) == [1, 1, 1, 1]
    assert "3 of 4 jobs were already submitted" in context.err


def test_a_command_killed_after_its_last_job_submits_nothing_when_it_is_typed_again(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 4)
    assert submit(context, *SWEEP) == 0
    assert attempts(store) == [1, 1, 1, 1]
    assert "4 of 4 jobs were already submitted" in context.err


def test_after_that_it_adds_an_attempt_to_each_and_says_so(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    assert "already" not in context.err
    accept_all(remote)
    submit(context, *SWEEP)
    assert attempts(store) == [2, 2, 2, 2]
    assert "4 experiments already have jobs; this adds an attempt to each\n" in context.err


def test_one_experiment_is_announced_in_the_singular(store: Store, remote: FakeService, context: ScreenContext) -> None:
    accept_all(remote, 2)
    submit(context)
    submit(context)
    assert "1 experiment already has a job; this adds an attempt to it\n" in context.err


def test_an_interrupted_command_is_not_continued_by_another_one(
    store: Store, remote: FakeService, context: ScreenContext, cwd: Path
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 2)
    (cwd / "experiment.json").write_text('{"sleep": [0, 1]}')
    accept_all(remote, 2)
    submit(context, *SWEEP)
    assert attempts(store) == [2, 2, 0, 0]
    assert "2 experiments already have jobs; this adds an attempt to each\n" in context.err


def test_the_order_of_the_experiments_does_not_make_another_command(
    store: Store, remote: FakeService, context: ScreenContext, cwd: Path
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 3)
    (cwd / "experiment.json").write_text('{"sleep": [3, 2, 1, 0]}')
    accept_all(remote, 1)
    submit(context, *SWEEP)
    assert attempts(store) == [1, 1, 1, 1]


def test_the_command_of_another_user_is_another_command(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 3)
    accept_all(remote)
    submit(replace(context, user="mei"), *SWEEP)
    assert len([row for row in submissions(store) if row.user == "mei"]) == 4


def test_a_flag_asks_for_new_attempts_of_all(store: Store, remote: FakeService, context: ScreenContext) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 3)
    accept_all(remote)
    submit(context, *SWEEP, "--new_attempts")
    assert attempts(store) == [2, 2, 2, 1]
    assert "continuing" not in context.err


def test_jobs_that_resubmit_or_an_earlier_version_submitted_meanwhile_count(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 3)
    with store.writing() as session:
        other = session.query(JobRow).first()
        assert other is not None
        job = {"created": other.created, "container": "x", "status": other.status, "details": {}, "user": "totoro"}
        session.add(JobRow(**job, experiment_id=4, job_spec_id=other.job_spec_id))
    assert submit(context, *SWEEP) == 0
    assert "4 of 4 jobs were already submitted" in context.err


def test_a_refused_job_is_submitted_again_when_an_interrupted_command_is_continued(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    remote.expect("submit", remote.refuse, remote.accept, remote.accept, remote.accept)
    submit(context, *SWEEP)
    killed_after(store, remote, 4)
    accept_all(remote, 1)
    submit(context, *SWEEP)
    assert sorted(attempts(store)) == [1, 1, 1, 2]
    assert "3 of 4 jobs were already submitted" in context.err


def test_without_a_group_the_same_command_continues_in_the_group_that_it_created(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    arguments = (*SWEEP, "--xgroup", "")
    accept_all(remote)
    submit(context, *arguments)
    killed_after(store, remote, 3)
    context.clock.wait(Event(), 60)
    accept_all(remote, 1)
    submit(context, *arguments)
    assert len({row.group for row in submissions(store)}) == 1
    assert "3 of 4 jobs were already submitted" in context.err


def test_an_interruption_of_another_day_is_reported_with_its_date(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 3)
    then = context.clock.utc_now().astimezone()
    context.clock.wait(Event(), timedelta(days=1).total_seconds())
    accept_all(remote, 1)
    submit(context, *SWEEP)
    assert f"interrupted at {then:%Y-%m-%d %H:%M}: 3 of 4" in context.err


def test_after_ctrl_c_the_same_command_submits_the_rest(
    store: Store, remote: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast(dict[str, object], Submitter.__init__.__kwdefaults__), "parallel", 1)

    def interrupted(spec: JsonObject, submission: Submission) -> NewJob:
        remote.interrupt()
        return remote.accept(spec, submission)

    remote.expect("submit", interrupted, *[remote.accept] * 3)
    with pytest.raises(InterruptedSubmissionError):
        submit(context, *SWEEP)
    assert [row.state.value for row in submissions(store)] == ["DONE", *["ABANDONED"] * 3]
    submit(context, *SWEEP)
    assert attempts(store) == [1, 1, 1, 1]
    assert "1 of 4 jobs were already submitted" in context.err


def test_while_a_command_runs_the_same_one_starts_nothing_and_says_who_is_submitting(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 1, by=elsewhere())
    with pytest.raises(StoreError, match="already being submitted by totoro on ") as caught:
        submit(context, *SWEEP)
    assert caught.value.id == "already-being-submitted"
    assert attempts(store) == [1, 0, 0, 0]


def test_while_a_command_follows_its_last_job_the_same_one_starts_nothing(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 4, by=elsewhere())
    with pytest.raises(StoreError, match="already being submitted"):
        submit(context, *SWEEP)


@contextmanager
def during_the_build(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> Iterator[None]:
    """Let ``action`` happen while the command builds its image."""
    actions = iter([action])

    def get(*_: object) -> str:
        for each in actions:
            each()
        return IMAGE

    with monkeypatch.context() as patch:
        patch.setattr("caliban.submission.images.Images.get", get)
        yield


def test_what_another_terminal_submits_during_the_build_is_not_submitted_again(
    store: Store, remote: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_all(remote)
    with during_the_build(monkeypatch, lambda: submit(context, *SWEEP)):
        assert submit(context, *SWEEP) == 1
    assert attempts(store) == [1, 1, 1, 1]
    assert "[already-resubmitted]" in context.err


def test_additional_attempts_are_not_added_by_two_terminals_at_once(
    store: Store, remote: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept_all(remote, 8)
    submit(context, *SWEEP)
    with during_the_build(monkeypatch, lambda: submit(context, *SWEEP)):
        submit(context, *SWEEP)
    assert attempts(store) == [2, 2, 2, 2]


def test_everything_is_journaled_before_the_first_request(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    seen: list[list[SubmissionState]] = []
    remote.on_submit = lambda submission: seen.append([row.state for row in submissions(store)])
    accept_all(remote)
    submit(context, *SWEEP)
    assert len(seen[0]) == 4
    assert {row.batch.id for row in submissions(store) if row.batch} == {1}


def preview(context: ScreenContext, *arguments: str) -> list[str]:
    """Return what ``--dry_run`` prints of a command that is typed now."""
    before = context.out
    assert submit(context, *arguments, "--dry_run") == 0
    return context.out.removeprefix(before).splitlines()


def test_a_dry_run_of_the_first_command_says_nothing_of_others(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    shown = preview(context, *SWEEP)
    assert shown[:2] == ["the following jobs would be submitted, in the experiment group resubmit_test:", shown[1]]
    assert shown[5] == ""


@pytest.mark.parametrize("sent", [0, 1, 3])
def test_a_dry_run_shows_the_jobs_that_would_be_submitted_to_continue(
    store: Store, remote: FakeService, context: ScreenContext, sent: int
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, sent)
    before = submissions(store)
    shown = preview(context, *SWEEP)
    at = f"{context.clock.utc_now().astimezone():%H:%M}"
    were = f"{sent} of 4 jobs were already submitted"
    assert shown[1 : 6 - sent] == [
        *(f"cpu.py --foo 3 --sleep {number}" for number in range(sent, 4)),
        f"this command would continue the submission interrupted at {at}: {were}",
    ]
    assert (submissions(store), attempts(store)) == (before, [1] * sent + [0] * (4 - sent))


def test_a_dry_run_says_that_no_job_is_left(store: Store, remote: FakeService, context: ScreenContext) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 4)
    shown = preview(context, *SWEEP)
    assert shown[0] == "no jobs would be submitted in the experiment group resubmit_test"
    assert shown[1].endswith(": 4 of 4 jobs were already submitted")
    assert shown[-1] == "nothing was submitted"


def test_a_dry_run_names_the_group_that_an_unnamed_one_would_continue_in(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    arguments = (*SWEEP, "--xgroup", "")
    accept_all(remote)
    submit(context, *arguments)
    killed_after(store, remote, 3)
    [name] = {row.group for row in submissions(store)}
    context.clock.wait(Event(), 60)
    assert preview(context, *arguments)[0] == f"the following jobs would be submitted, in the experiment group {name}:"


def test_a_dry_run_says_that_attempts_would_be_added(store: Store, remote: FakeService, context: ScreenContext) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    assert "4 experiments already have jobs; this adds an attempt to each" in preview(context, *SWEEP)
    shown = preview(context, *SWEEP, "--new_attempts")
    assert len([line for line in shown if line.startswith("cpu.py ")]) == 4
    assert not any("already" in line for line in shown)


def test_a_dry_run_says_that_the_same_command_is_running(
    store: Store, remote: FakeService, context: ScreenContext
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 2, by=elsewhere())
    shown = preview(context, *SWEEP)
    assert any(line.startswith("cannot be submitted now: these experiments are already being") for line in shown)


def test_a_dry_run_says_what_would_be_looked_up(store: Store, remote: FakeService, context: ScreenContext) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 2)
    with store.writing() as session:
        session.execute(
            update(SubmissionRow)
            .where(SubmissionRow.state == SubmissionState.OPEN)
            .values(sent=utc_now(session, context.clock))
        )
    line = "2 submissions of an interrupted command would be looked up first; what exists is not submitted again"
    assert line in preview(context, *SWEEP)


@pytest.mark.parametrize(("zone", "continues"), [(None, True), ("zone-b", True), ("zone-c", False)])
def test_a_dry_run_continues_only_where_the_jobs_may_go(
    store: Store,
    remote: FakeService,
    context: ScreenContext,
    monkeypatch: pytest.MonkeyPatch,
    zone: str | None,
    continues: bool,
) -> None:
    accept_all(remote)
    submit(context, *SWEEP)
    killed_after(store, remote, 1)
    monkeypatch.setattr(FakeLaunch, "chosen", lambda launch: {"zone": zone} if zone else {})
    assert any("this command would continue" in line for line in preview(context, *SWEEP)) is continues


def test_a_dry_run_works_without_a_store_that_can_be_read(remote: FakeService, context: ScreenContext) -> None:
    broken = replace(context, environ={**context.environ, "CALIBAN_DB_URL": "postgresql://localhost:1/x"})
    assert any(line.startswith("cannot be submitted now: ") for line in preview(broken, *SWEEP))
