from __future__ import annotations

import json
import threading
from datetime import datetime

import pytest
from sqlalchemy import insert, text

from caliban.records import ExperimentRecord, GroupRecord, JobDetails, JobStatus, JobUpdate, JsonObject
from caliban.store.database import Access, Store, open_store
from caliban.store.models import ExperimentGroupRow, ExperimentRow, JobRow, JobSpecRow
from caliban.store.queries import (
    experiments_of_flag_sets,
    find_group,
    group_attempts,
    group_counts,
    group_names,
    recent_attempts,
)
from caliban.store.states import record_states
from tests.fakes import RecordingReporter

from .helpers import SPEC, Statements, add_experiments, keep_raw, read_group

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456)


def _add_jobs(store: Store, experiments: list[int], status: JobStatus = JobStatus.FAILED, user: str = "mei") -> None:
    with store.writing() as session:
        for experiment in experiments:
            spec = JobSpecRow(created=NOON, spec={"n": experiment}, platform="LOCAL", experiment_id=experiment)
            session.add(spec)
            session.flush()
            session.add(
                JobRow(
                    created=NOON,
                    job_spec_id=spec.id,
                    experiment_id=experiment,
                    container="sha256:ab",
                    status=status,
                    details={"ret_code": 1},
                    user=user,
                )
            )
            session.flush()


def _tree(groups: list[GroupRecord]) -> list[tuple[str, list[tuple[int, list[int]]]]]:
    return [
        (group.name, [(experiment.id, [job.id for job in experiment.jobs]) for experiment in group.experiments])
        for group in groups
    ]


def test_groups_are_listed_in_the_order_of_creation(peer_store: Store) -> None:
    with peer_store.reading() as session:
        assert group_names(session, "totoro") == ["mixed", "empty"]


def test_a_group_is_found_for_its_user_only(peer_store: Store) -> None:
    with peer_store.reading() as session:
        found = [find_group(session, user, "mixed") for user in ("totoro", "mei", "satsuki")]
    assert found == [1, 2, None]


def test_every_field_of_a_peer_row_is_read(peer_store: Store) -> None:
    experiment = read_group(peer_store, "totoro", "mixed", 1).experiments[1]
    job = experiment.latest
    assert job is not None
    assert (experiment.id, experiment.args, experiment.kwargs) == (2, ("--foo", "3"), {"sleep": -1})
    assert (experiment.container.id, experiment.container.spec["job_mode"]) == (1, "CPU")
    assert (job.id, job.platform, job.spec_id, job.status) == (3, "LOCAL", 3, JobStatus.FAILED)
    assert (job.container, job.details.raw) == ("sha256:" + "ab" * 32, {"ret_code": 1})
    assert (job.created, job.refresh_error) == (datetime(2021, 1, 1, 9, 10), None)
    assert list(job.spec) == ["command", "container"]


@pytest.mark.parametrize(("per_experiment", "jobs"), [(1, [3]), (2, [2, 3]), (None, [2, 3]), (0, [])])
def test_the_number_of_attempts_is_limited_per_experiment(
    peer_store: Store, per_experiment: int | None, jobs: list[int]
) -> None:
    experiment = read_group(peer_store, "totoro", "mixed", per_experiment).experiments[1]
    assert [job.id for job in experiment.jobs] == jobs


def test_an_experiment_without_jobs_is_read_too(peer_store: Store) -> None:
    group = read_group(peer_store, "totoro", "mixed", 1)
    assert [experiment.id for experiment in group.experiments if not experiment.jobs] == [8]


def test_the_newest_attempt_is_the_one_with_the_highest_id(peer_store: Store) -> None:
    with peer_store.writing() as session:
        session.execute(text("UPDATE jobs SET created = '1999-01-01 00:00:00.000000' WHERE id = 3"))
    latest = read_group(peer_store, "totoro", "mixed", 1).experiments[1].latest
    assert latest is not None
    assert latest.id == 3


def test_an_empty_group_is_a_group(peer_store: Store) -> None:
    assert read_group(peer_store, "totoro", "empty", 1) == GroupRecord(3, "empty")


def test_groups_of_the_same_name_count_as_one(store: Store) -> None:
    first = add_experiments(store, "mei", "twin", 1)
    with store.writing() as session:
        session.execute(insert(ExperimentGroupRow), [{"user": "mei", "name": "twin", "created": NOON}])
        session.execute(insert(ExperimentRow), [{"xgroup_id": first.id + 1, "created": NOON}])
    group = read_group(store, "mei", "twin", 1)
    assert (group.id, [experiment.id for experiment in group.experiments]) == (first.id, [1, 2])


def test_an_experiment_without_a_container_spec_has_an_empty_one(store: Store) -> None:
    first = add_experiments(store, "mei", "g", 1)
    with store.writing() as session:
        session.execute(insert(ExperimentRow), [{"xgroup_id": first.id, "created": NOON}])
    bare = read_group(store, "mei", "g", 1).experiments[1]
    assert (bare.container.id, bare.container.spec, bare.args, bare.kwargs) == (0, {}, (), {})


@pytest.mark.parametrize("per_experiment", [1, None])
def test_reading_a_group_takes_one_statement(
    peer_store: Store, statements: Statements, per_experiment: int | None
) -> None:
    with peer_store.reading() as session, statements() as sent:
        group_attempts(session, keep_raw, "totoro", "mixed", per_experiment=per_experiment)
    assert len(sent) == 1


def test_reading_the_recent_jobs_takes_one_statement(peer_store: Store, statements: Statements) -> None:
    with peer_store.reading() as session, statements() as sent:
        recent_attempts(session, keep_raw, "totoro", 8)
    assert len(sent) == 1


def test_finding_and_listing_groups_take_one_statement_each(peer_store: Store, statements: Statements) -> None:
    with peer_store.reading() as session, statements() as sent:
        find_group(session, "totoro", "mixed")
        group_names(session, "totoro")
    assert len(sent) == 2


def test_the_recent_jobs_are_those_with_the_highest_ids(peer_store: Store) -> None:
    with peer_store.reading() as session:
        found = recent_attempts(session, keep_raw, "totoro", 3)
    assert _tree(found) == [("mixed", [(5, [6]), (6, [7]), (7, [8])])]


def test_without_a_limit_all_jobs_of_the_user_are_recent(peer_store: Store) -> None:
    with peer_store.reading() as session:
        found = recent_attempts(session, keep_raw, "totoro", None)
    assert [job for _, tree in _tree(found) for _, jobs in tree for job in jobs] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_recent_jobs_are_ordered_by_group_and_experiment(store: Store) -> None:
    for group in ("a", "b"):
        add_experiments(store, "mei", group, 2)
    _add_jobs(store, [3, 1, 2, 1])
    with store.reading() as session:
        found = recent_attempts(session, keep_raw, "mei", 3)
    assert _tree(found) == [("a", [(1, [2, 4]), (2, [3])])]


def test_new_experiments_are_returned_in_the_order_of_their_flags(store: Store) -> None:
    group = add_experiments(store, "mei", "g", 3)
    assert [(e.args, e.kwargs, e.jobs) for e in group.experiments] == [
        (("--foo", "3"), {"sleep": number}, ()) for number in range(3)
    ]


def test_the_same_flags_are_the_same_experiments(store: Store) -> None:
    assert add_experiments(store, "mei", "g", 3) == add_experiments(store, "mei", "g", 3)


def test_existing_experiments_are_returned_with_their_latest_attempt(peer_store: Store) -> None:
    recorded = read_group(peer_store, "mei", "mixed", 1).experiments[0]
    with peer_store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            keep_raw,
            user="mei",
            group="mixed",
            container_spec=json.loads(json.dumps(recorded.container.spec)),
            flag_sets=[((), {"sleep": 10}), ((), {"sleep": 9})],
        )
    assert group.experiments[1] == recorded


def test_the_peers_container_spec_is_shared_with_new_experiments_of_its_user(peer_store: Store) -> None:
    recorded = read_group(peer_store, "totoro", "mixed", 1).experiments[0].container
    group = add_experiments(peer_store, "totoro", "other", 1, recorded.spec)
    assert group.experiments[0].container == recorded


def test_another_container_spec_is_another_experiment(store: Store) -> None:
    one = add_experiments(store, "mei", "g", 1)
    other = add_experiments(store, "mei", "g", 1, {**SPEC, "job_mode": "GPU"})
    assert (one.id, one.experiments[0].id) == (other.id, other.experiments[0].id - 1)


def test_another_group_is_another_experiment(store: Store) -> None:
    assert add_experiments(store, "mei", "a", 1).experiments[0] != add_experiments(store, "mei", "b", 1).experiments[0]


def test_another_user_has_another_group(store: Store) -> None:
    assert add_experiments(store, "mei", "g", 1).id != add_experiments(store, "totoro", "g", 1).id


def _of_flags(store: Store, *kwargs: dict[str, object]) -> tuple[ExperimentRecord, ...]:
    with store.writing() as session:
        return experiments_of_flag_sets(
            session, keep_raw, user="mei", group="g", container_spec=SPEC, flag_sets=[((), flags) for flags in kwargs]
        ).experiments


def test_the_order_of_flags_is_ignored(store: Store) -> None:
    assert len(_of_flags(store, {"a": 1, "b": 2}, {"b": 2, "a": 1})) == 1


def test_true_is_not_one(store: Store) -> None:
    assert len(_of_flags(store, {"a": True}, {"a": 1})) == 2


def test_the_order_of_arguments_is_significant(store: Store) -> None:
    with store.writing() as session:
        group = experiments_of_flag_sets(
            session,
            keep_raw,
            user="mei",
            group="g",
            container_spec=SPEC,
            flag_sets=[(("a", "b"), {}), (("b", "a"), {})],
        )
    assert len(group.experiments) == 2


def test_a_group_without_flag_sets_is_empty(store: Store) -> None:
    assert add_experiments(store, "mei", "g", 0) == GroupRecord(1, "g")


def test_the_number_of_statements_does_not_grow_with_the_flag_sets(store: Store, statements: Statements) -> None:
    with statements() as few:
        add_experiments(store, "mei", "few", 2)
    with statements() as many:
        add_experiments(store, "mei", "many", 2500)
    assert len(few) <= 8
    assert len(many) <= len(few)


def test_concurrent_processes_create_the_same_experiments_once(store: Store) -> None:
    threads = [threading.Thread(target=add_experiments, args=(store, "mei", "g", 50)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(read_group(store, "mei", "g", 1).experiments) == 50


def _update(status: JobStatus, details: JsonObject | None = None) -> JobUpdate:
    return JobUpdate(status, None if details is None else JobDetails(details))


def _states(store: Store) -> list[tuple[str, object]]:
    group = read_group(store, "mei", "g", None)
    return [
        (str(job.status), job.details.raw.get("ret_code"))
        for experiment in group.experiments
        for job in experiment.jobs
    ]


@pytest.fixture
def running(store: Store) -> Store:
    """A store with three running jobs, 1 to 3, in the group g of mei."""
    add_experiments(store, "mei", "g", 3)
    _add_jobs(store, [1, 2, 3], JobStatus.RUNNING)
    return store


def test_changed_states_are_recorded_and_counted(running: Store) -> None:
    with running.writing() as session:
        changed = record_states(
            session,
            {
                1: _update(JobStatus.FAILED, {"ret_code": 2}),
                2: _update(JobStatus.STOPPED),
                3: _update(JobStatus.RUNNING),
            },
        ).changed
    assert (changed, _states(running)) == (2, [("FAILED", 2), ("STOPPED", 1), ("RUNNING", 1)])


def test_changed_details_are_recorded_without_a_new_state(running: Store) -> None:
    with running.writing() as session:
        changed = record_states(session, {1: _update(JobStatus.RUNNING, {"ret_code": 5})}).changed
    assert (changed, _states(running)[0]) == (1, ("RUNNING", 5))


def test_equal_details_are_not_written(running: Store, statements: Statements) -> None:
    with statements() as sent, running.writing() as session:
        changed = record_states(session, {1: _update(JobStatus.RUNNING, {"ret_code": 1})}).changed
    assert (changed, len(sent)) == (0, 1)


def test_a_final_state_is_not_replaced_by_another(running: Store) -> None:
    with running.writing() as session:
        record_states(session, {1: _update(JobStatus.SUCCEEDED)})
    with running.writing() as session:
        changed = record_states(session, {1: _update(JobStatus.UNKNOWN, {"ret_code": 9})}).changed
    assert (changed, _states(running)[0]) == (0, ("SUCCEEDED", 1))


def test_an_unknown_state_is_not_final(running: Store) -> None:
    for status in (JobStatus.UNKNOWN, JobStatus.FAILED):
        with running.writing() as session:
            assert record_states(session, {1: _update(status)}).changed == 1


def test_a_job_that_is_not_in_the_store_is_not_counted(running: Store) -> None:
    with running.writing() as session:
        assert record_states(session, {4711: _update(JobStatus.FAILED)}).changed == 0


def test_recording_many_states_takes_three_statements(running: Store, statements: Statements) -> None:
    states = {
        1: _update(JobStatus.FAILED, {"ret_code": 2}),
        2: _update(JobStatus.FAILED, {"ret_code": 3}),
        3: _update(JobStatus.STOPPED),
    }
    with statements() as sent, running.writing() as session:
        record_states(session, states)
    assert len(sent) == 3


def test_more_ids_than_a_statement_can_have_are_recorded_in_parts(running: Store) -> None:
    states = dict.fromkeys(range(1, 70_000), _update(JobStatus.STOPPED))
    with running.writing() as session:
        assert record_states(session, states).changed == 3


def test_local_times_are_read_as_they_were_written(running: Store) -> None:
    latest = read_group(running, "mei", "g", 1).experiments[0].latest
    assert latest is not None
    assert latest.created == NOON


def test_a_store_never_upgraded_is_read_like_an_upgraded_one(peer_url: str, reporter: RecordingReporter) -> None:
    with open_store(peer_url, Access.READ, reporter) as store, store.reading() as session:
        before = recent_attempts(session, keep_raw, "totoro", None)
    with open_store(peer_url, Access.WRITE, reporter) as store, store.reading() as session:
        assert recent_attempts(session, keep_raw, "totoro", None) == before


def test_the_experiments_of_each_group_are_counted_by_the_state_of_their_latest_job(
    store: Store, statements: Statements
) -> None:
    ids = [each.id for each in add_experiments(store, "mei", "night", 4).experiments]
    _add_jobs(store, ids[:3])
    _add_jobs(store, ids[:1], JobStatus.SUCCEEDED)
    with store.reading() as session, statements() as sent:
        [group] = group_counts(session, "mei")
    assert (group.counts, group.last, len(sent)) == ({"succeeded": 1, "failed": 2, "never run": 1}, NOON, 1)
