"""Experiments that were made from others: recorded and linked in one transaction, and found again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from caliban.clock import SystemClock
from caliban.records import ContainerRecord, ExperimentRecord, GroupRecord
from caliban.store.database import Access, Store, open_store
from caliban.store.origins import ExperimentIndex, record_derived
from caliban.store.queries import experiments_of_flag_sets, group_attempts, recent_attempts
from tests.builders import CPU_SPEC, an_experiment
from tests.fakes import RecordingReporter

from .helpers import Statements, keep_raw, migrate_down

CLOCK = SystemClock()


def a_group(store: Store, size: int, name: str = "night") -> GroupRecord:
    flag_sets = [(("--foo", "3"), {"sleep": number}) for number in range(size)]
    with store.writing() as session:
        return experiments_of_flag_sets(
            session, keep_raw, user="mei", group=name, container_spec=CPU_SPEC, flag_sets=flag_sets
        )


def derived(origin: ExperimentRecord, seed: object = 11) -> ExperimentRecord:
    return replace(origin, id=0, kwargs={**origin.kwargs, "seed": seed}, origin=origin.id)


def record(store: Store, *experiments: ExperimentRecord, name: str = "night") -> list[int]:
    with store.writing() as session:
        return record_derived(session, experiments, user="mei", group=name, clock=CLOCK)


def read(store: Store, name: str = "night") -> GroupRecord:
    with store.reading() as session:
        group = group_attempts(session, keep_raw, "mei", name, per_experiment=1)
    assert group is not None
    return group


def test_a_derived_experiment_has_the_group_and_container_of_its_origin(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    [number] = record(store, derived(origin))
    assert read(store).experiments == (origin, replace(derived(origin), id=number))


def test_one_that_exists_is_returned_and_keeps_its_origin(store: Store) -> None:
    one, two = a_group(store, 2).experiments
    [first] = record(store, derived(one))
    same = replace(derived(two), args=one.args, kwargs={**one.kwargs, "seed": 11})
    assert record(store, same) == [first]
    assert [each.origin for each in read(store).experiments] == [None, None, one.id]


def test_the_command_line_decides_however_it_is_recorded(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    [first] = record(store, derived(origin))
    as_words = replace(origin, id=0, args=("--foo", "3", "--sleep", "0", "--seed", "11"), kwargs={}, origin=origin.id)
    assert record(store, as_words) == [first]


def test_equal_ones_are_recorded_once(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    first, second = record(store, derived(origin), derived(origin))
    assert first == second


@pytest.mark.parametrize("size", [1, 300])
def test_the_number_of_statements_is_constant(size: int, store: Store, statements: Statements) -> None:
    group = a_group(store, size)
    with statements() as sent:
        record(store, *map(derived, group.experiments))
    assert len([each for each in sent if "advisory" not in each]) == 6


def test_commands_at_the_same_time_make_one_experiment(store_url: str) -> None:
    with open_store(store_url, Access.WRITE, RecordingReporter()) as store:
        [origin] = a_group(store, 1).experiments
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: record(store, derived(origin)), range(8)))
        assert len({number for [number] in found}) == 1
        assert len(read(store).experiments) == 2


def test_groups_of_the_same_name_count_as_one(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    with store.writing() as session:
        session.execute(
            text("INSERT INTO experiment_groups (id, name, created, \"user\") VALUES (77, 'night', :now, 'mei')"),
            {"now": "2026-01-01 00:00:00"},
        )
        session.execute(text("UPDATE experiments SET xgroup_id = 77"))
    record(store, derived(origin))
    with store.reading() as session:
        assert set(session.scalars(text("SELECT xgroup_id FROM experiments"))) == {77}


def test_an_experiment_without_a_container_spec_is_derived_too(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    with store.writing() as session:
        session.execute(text("UPDATE experiments SET container_spec_id = NULL"))
    record(store, derived(replace(origin, container=ContainerRecord(0, {}))))
    assert [each.container.id for each in read(store).experiments] == [0, 0]


def test_a_link_is_deleted_with_its_experiment(store: Store) -> None:
    [origin] = a_group(store, 1).experiments
    [number] = record(store, derived(origin))
    with store.writing() as session:
        session.execute(text(f"DELETE FROM experiments WHERE id = {number}"))
    with store.reading() as session:
        assert session.scalars(text("SELECT experiment_id FROM experiment_origins")).all() == []


@pytest.mark.parametrize("revision", ["base", "0001", "0002", "0003", "0004", "0005"])
def test_a_store_that_was_not_upgraded_has_no_origins(revision: str, store_url: str) -> None:
    with open_store(store_url, Access.WRITE, RecordingReporter()) as store:
        a_group(store, 1)
    migrate_down(store_url, revision)
    with open_store(store_url, Access.READ, RecordingReporter()) as store, store.reading() as session:
        group = group_attempts(session, keep_raw, "mei", "night", per_experiment=None)
        assert group is not None
        assert [each.origin for each in group.experiments] == [None]
        assert recent_attempts(session, keep_raw, "mei", None) == []


def test_of_several_with_the_same_command_line_the_one_with_equal_flags_is_found() -> None:
    one = an_experiment(1, args=("--seed", "3"), kwargs={})
    two = an_experiment(2, args=(), kwargs={"seed": 3})
    index = ExperimentIndex([one, two])
    assert index.find(replace(two, id=0)) is two
    assert index.find(an_experiment(0, args=(), kwargs={"seed": "3"})) is one
    assert index.find(an_experiment(0, args=(), kwargs={"seed": 4})) is None


def test_experiments_of_other_containers_are_not_the_same() -> None:
    index = ExperimentIndex([an_experiment(1)])
    other = ContainerRecord(9, {**CPU_SPEC, "job_mode": "GPU"})
    equal = ContainerRecord(8, dict(CPU_SPEC))
    assert index.find(replace(an_experiment(2), container=other)) is None
    assert index.find(replace(an_experiment(2), container=equal)) is not None
