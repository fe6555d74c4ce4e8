from __future__ import annotations

from datetime import timedelta

from sqlalchemy import insert

from caliban.records import JobStatus
from caliban.store.database import Store
from caliban.store.models import ExperimentGroupRow
from tests.builders import CREATED, add_group
from tests.calls import call
from tests.conftest import MakeContext, MakeScreen, ScreenContext
from tests.fakes import FakeClock

FAILED, SUCCEEDED, RUNNING, SUBMITTED = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING, JobStatus.SUBMITTED
HINT = "states as last recorded; to refresh those of a group, run: caliban status --xgroup NAME\n"


def test_groups_are_listed_with_their_recorded_states(store: Store, context: ScreenContext, clock: FakeClock) -> None:
    add_group(store, *[SUCCEEDED] * 31, *[FAILED] * 8, RUNNING, SUBMITTED, None, name="night")
    clock.seconds = (CREATED + timedelta(minutes=5) - clock.now()).total_seconds()
    assert call(context, "groups") == 0
    assert context.out.splitlines() == [
        "NAME   EXPERIMENTS  SUCCEEDED  FAILED  RUNNING  LAST",
        "night           42         31       8        2  5 min ago",
    ]
    assert context.err == HINT


def test_an_experiment_counts_by_its_latest_job(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED)
    add_group(store, SUCCEEDED)
    call(context, "groups")
    assert context.out.splitlines()[1].split()[:5] == ["resubmit_test", "1", "1", "0", "0"]


def test_the_group_with_the_newest_job_is_last(store: Store, context: ScreenContext) -> None:
    for name in ("one", "two", "one"):
        add_group(store, SUCCEEDED, name=name)
    with store.writing() as session:
        session.execute(
            insert(ExperimentGroupRow).values(user="totoro", name="never", created=CREATED - timedelta(days=1))
        )
    call(context, "groups")
    assert [line.split()[0] for line in context.out.splitlines()] == ["NAME", "never", "one", "two"]
    assert context.out.splitlines()[1].split()[1:] == ["0", "0", "0", "0", "never"]


def test_groups_of_other_users_and_groups_without_a_name_are_not_listed(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, user="mei")
    with store.writing() as session:
        session.execute(insert(ExperimentGroupRow).values(user="totoro", name=None, created=CREATED))
    assert call(context, "groups") == 0
    assert (context.out, context.err) == (
        "",
        "totoro has no experiment groups yet; to run experiments, see: caliban run --help\n",
    )


def test_groups_of_the_same_name_count_as_one(store: Store, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED, name="night")
    with store.writing() as session:
        session.execute(insert(ExperimentGroupRow).values(user="totoro", name="night", created=CREATED))
    call(context, "groups")
    assert len(context.out.splitlines()) == 2


def test_without_a_store_there_are_no_groups(context: ScreenContext) -> None:
    assert (call(context, "groups"), context.out) == (0, "")
    assert not (context.home / ".caliban").exists()


def test_columns_stay_aligned_below_long_and_wide_names(
    store: Store, make_context: MakeContext, make_screen: MakeScreen
) -> None:
    make_screen.environ.update(COLUMNS="80")
    for name in ("夜間実験", "n" * 200, "a\nb\x1b[2J"):
        add_group(store, SUCCEEDED, name=name)
    context = make_context(is_terminal=True)
    call(context, "groups")
    lines = context.out.splitlines()
    assert len(lines) == 4
    assert all(len(line) <= 80 for line in lines)
    assert any(line.startswith("夜間実験 ") for line in lines)
    assert any(line.startswith("a\\nb\\x1b[2J ") for line in lines)


def test_no_hint_is_given_where_all_jobs_have_ended(store: Store, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED, FAILED)
    call(context, "groups")
    assert context.err == ""
