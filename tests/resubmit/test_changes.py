"""``caliban resubmit ... -- --seed 11``: from the command line to the rows of the store, on a fake platform."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from caliban.errors import CalibanError, ImageError, UsageError
from caliban.records import JobStatus, JsonObject
from caliban.resubmit import changes
from caliban.store.database import Store
from caliban.store.models import ExperimentOriginRow, ExperimentRow
from tests.builders import OTHER_IMAGE, add_group, leave_open, read_group, submissions
from tests.calls import call, result_of
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock, FakeEngine

GROUP = ("--xgroup", "resubmit_test")
YES = (*GROUP, "--yes")
FAILED, SUCCEEDED, STOPPED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.STOPPED, JobStatus.RUNNING
LAB: JsonObject = {"image_id": "lab:1"}


def group_of(store: Store, *states: JobStatus | None, spec: JsonObject = LAB) -> None:
    add_group(store, *states, container_spec=spec)


def lines_of(store: Store) -> list[tuple[str, str | None, int | None]]:
    """The command line, the state and the origin of each experiment."""
    return [
        (" ".join(each.arguments), each.latest.status.value if each.latest else None, each.origin)
        for each in read_group(store).experiments
    ]


def origins(store: Store) -> list[tuple[int, int]]:
    with store.reading() as session:
        rows = session.scalars(select(ExperimentOriginRow).order_by(ExperimentOriginRow.experiment_id))
        return [(row.experiment_id, row.origin_id) for row in rows]


def test_a_changed_parameter_makes_a_new_experiment_of_the_same_group(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--", "--sleep", "11") == 0
    assert lines_of(store) == [("--foo 3 --sleep 0", "FAILED", None), ("--foo 3 --sleep 11", "SUBMITTED", 1)]
    assert service.arguments_of("submit") == [{"image": "lab:1", "arguments": ["--foo", "3", "--sleep", "11"]}]


def test_the_plan_shows_the_new_command_line_the_old_job_and_the_change(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    call(context, "resubmit", *GROUP, "--dry_run", "--", "--sleep", "11", "--fast")
    lines = context.out.splitlines()
    assert lines[1] == "lab:1 --foo 3 --fast --sleep 11"
    assert lines[2].startswith("  job 1        FAILED")
    assert lines[3] == "    parameters: --sleep 0 -> 11, --fast added (recorded as a new experiment)"


def test_a_dry_run_writes_nothing(store: Store, service: FakeService, context: ScreenContext) -> None:
    group_of(store, FAILED)
    call(context, "resubmit", *GROUP, "--dry_run", "--", "--sleep", "11")
    assert (len(lines_of(store)), origins(store)) == (1, [])


@pytest.mark.parametrize("words", [(), ("--",)])
def test_without_words_nothing_is_changed(
    words: tuple[str, ...], store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, *words) == 0
    assert lines_of(store) == [("--foo 3 --sleep 0", "SUBMITTED", None)]


def test_a_file_makes_several_experiments_of_each_chosen_one(
    store: Store, service: FakeService, make_context: MakeContext, cwd: Path
) -> None:
    group_of(store, FAILED, FAILED)
    (cwd / "seeds.json").write_text('{"seed": [1, 2], "sleep": null, "lr": 0.5}')
    service.expect("submit", service.accept, service.accept)
    context = make_context("")
    assert call(context, "resubmit", *YES, "--job", "1", "--experiment_config", "seeds.json", "--", "--foo", "4") == 0
    assert [line for line, *_ in lines_of(store)[2:]] == ["--foo 4 --seed 1 --lr 0.5", "--foo 4 --seed 2 --lr 0.5"]
    assert origins(store) == [(3, 1), (4, 1)]


def test_changes_are_read_from_standard_input(store: Store, service: FakeService, make_context: MakeContext) -> None:
    group_of(store, FAILED)
    service.expect("submit", service.accept)
    assert call(make_context('{"sleep": 7}'), "resubmit", *YES, "--experiment_config", "stdin") == 0
    assert [line for line, *_ in lines_of(store)] == ["--foo 3 --sleep 0", "--foo 3 --sleep 7"]


@pytest.mark.parametrize(
    ("text", "words", "id"),
    [
        ('{"sleep": [1, 2]}', ("--", "--sleep", "3"), "conflicting-parameters"),
        ('{"sleep": "\\u0000"}', (), "malformed-json"),
        ('{"sl\\u0000eep": 1}', (), "malformed-json"),
        ('{"sleep": "\\ud800"}', (), "malformed-json"),
        ('{"sleep": {}}', (), "malformed-experiments"),
        ("{}", ("--", "data.csv"), "not-a-parameter"),
    ],
)
def test_a_wrong_change_is_refused_before_anything_else(
    text: str, words: tuple[str, ...], id: str, store: Store, service: FakeService, context: ScreenContext, cwd: Path
) -> None:
    group_of(store, FAILED)
    (cwd / "more.json").write_text(text)
    with pytest.raises(CalibanError) as caught:
        call(context, "resubmit", *YES, "--experiment_config", "more.json", *words)
    assert caught.value.id == id
    assert len(lines_of(store)) == 1


def test_an_ambiguous_change_is_a_problem_of_its_job(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    assert call(context, "resubmit", *YES, "--", "--Foo", "1", "--no-foo") == 1
    assert 'error: cannot change "--no-foo": --foo is recorded' in context.err
    assert len(lines_of(store)) == 1


def test_an_experiment_that_exists_is_used_again(store: Store, service: FakeService, context: ScreenContext) -> None:
    group_of(store, FAILED, SUCCEEDED)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "1") == 0
    assert "parameters: --sleep 0 -> 1 (experiment 2 of this group, again: its job 2 succeeded)" in context.out
    assert lines_of(store) == [("--foo 3 --sleep 0", "FAILED", None), ("--foo 3 --sleep 1", "SUBMITTED", None)]
    assert [each.resubmits for each in submissions(store)] == [2]


def test_an_experiment_that_was_recorded_but_never_submitted_is_used_again(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, None)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "1") == 0
    assert "(experiment 2 of this group, never run)" in context.out
    assert [state for _, state, _ in lines_of(store)] == ["FAILED", "SUBMITTED"]


def test_an_experiment_that_runs_already_is_left_out(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, RUNNING)
    service.expect("statuses", polls(RUNNING=[2]))
    assert call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "1") == 0
    assert "not finished (running)" in context.out
    assert submissions(store) == []


def test_the_state_of_an_experiment_that_exists_is_refreshed_first(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, RUNNING)
    service.expect("statuses", polls(FAILED=[2]))
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "1") == 0
    assert [state for _, state, _ in lines_of(store)] == ["FAILED", "SUBMITTED"]


def test_changes_that_make_the_same_experiment_are_submitted_once(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, FAILED, FAILED)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--", "--sleep", "9") == 0
    assert "    submitted once: experiments 2, 3 would have the same parameters" in context.out.splitlines()
    assert (len(lines_of(store)), origins(store)) == (4, [(4, 1)])


def test_a_chosen_experiment_that_others_become_runs_with_its_own_settings(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, FAILED)
    found = result_of(context, "resubmit", *GROUP, "--dry_run", "--json", "--", "--sleep", "1")
    [job] = found["jobs"]
    assert (job["experiment"]["id"], job["settings_of_job"], job["also_from"]) == (2, 2, [1])
    assert (job["origin"], job["parameters"]) == (None, [])


def test_the_documents_have_the_changes_and_the_origin(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    group_of(store, FAILED)
    changed = {
        "origin": 1,
        "parameters": [{"flag": "--sleep", "before": "0", "after": "11"}],
        "also_from": [],
        "same_command_line": [],
        "resubmits": None,
    }
    [planned] = result_of(make_context(""), "resubmit", *GROUP, "--dry_run", "--json", "--", "--sleep", "11")["jobs"]
    assert {key: planned[key] for key in changed} == changed
    assert planned["experiment"]["id"] is None
    service.expect("submit", service.accept)
    [done] = result_of(make_context(""), "resubmit", *YES, "--json", "--", "--sleep", "11")["jobs"]
    assert {key: done[key] for key in changed} == changed
    assert (done["experiment"]["id"], done["experiment"]["origin"]) == (2, 1)


def test_status_names_the_origin(store: Store, service: FakeService, make_context: MakeContext) -> None:
    group_of(store, FAILED)
    service.expect("submit", service.accept)
    call(make_context(""), "resubmit", *YES, "--", "--sleep", "11")
    service.expect("statuses", polls(SUCCEEDED=[2]))
    found = result_of(make_context(""), "status", *GROUP, "--json")["groups"][0]["experiments"]
    assert [each["origin"] for each in found] == [None, 1]
    shown = make_context("")
    call(shown, "status", *GROUP, "--history")
    assert "    parameters changed from experiment 1" in shown.out.splitlines()


@pytest.mark.parametrize("limit", [1, 3])
def test_limit_counts_jobs_after_the_file_is_expanded(
    limit: int, store: Store, service: FakeService, context: ScreenContext, cwd: Path
) -> None:
    group_of(store, FAILED, FAILED)
    (cwd / "seeds.json").write_text('{"seed": [1, 2]}')
    flags = ("--experiment_config", "seeds.json", "--limit", str(limit), "--dry_run", "--json")
    found = result_of(context, "resubmit", *GROUP, *flags)
    assert len(found["jobs"]) == limit
    assert [each["reason"].partition(",")[0] for each in found["left_out"]] == [f"beyond --limit {limit}"] * (
        2 if limit == 1 else 1
    )


def test_too_many_jobs_are_refused(
    store: Store, service: FakeService, context: ScreenContext, monkeypatch: pytest.MonkeyPatch, cwd: Path
) -> None:
    monkeypatch.setattr(changes, "MAX_EXPERIMENTS", 3)
    group_of(store, FAILED, FAILED)
    (cwd / "seeds.json").write_text('{"seed": [1, 2]}')
    with pytest.raises(UsageError) as caught:
        call(context, "resubmit", *YES, "--experiment_config", "seeds.json")
    assert (caught.value.id, "4 jobs" in caught.value.message) == ("too-many-experiments", True)


def test_experiments_with_the_same_command_line_are_shown_as_such(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    group_of(store, FAILED, spec={"image_id": "lab:1", "job_mode": "CPU"})
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "    experiment 1, same command line as experiment 2" in context.out.splitlines()


def test_a_failed_build_records_nothing(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext, cwd: Path
) -> None:
    (cwd / "cpu.py").write_text("")
    group_of(
        store, FAILED, spec={"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}
    )
    fake_engine.expect(ImageError("build-failed", "the build failed"))
    assert call(context, "resubmit", *YES, "--", "--sleep", "11") == 1
    assert len(lines_of(store)) == 1


def test_the_image_of_a_new_experiment_is_rebuilt(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext, cwd: Path
) -> None:
    (cwd / "cpu.py").write_text("")
    group_of(
        store, FAILED, spec={"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}
    )
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--", "--sleep", "11") == 0
    assert service.arguments_of("submit") == [{"image": OTHER_IMAGE, "arguments": ["--foo", "3", "--sleep", "11"]}]


def test_the_same_changes_again_run_the_experiment_again(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    group_of(store, FAILED)
    for number, state in enumerate(("FAILED", "SUCCEEDED"), 2):
        service.expect("submit", service.accept)
        assert call(make_context(""), "resubmit", *YES, "--", "--sleep", "11") == 0
        service.expect("statuses", polls(**{state: [number]}))
        call(make_context(""), "status", *GROUP)
    service.expect("submit", service.accept)
    context = make_context("")
    assert call(context, "resubmit", *YES, "--", "--sleep", "11") == 0
    assert "(experiment 2 of this group, again: its job 3 succeeded)" in context.out
    assert len(lines_of(store)) == 2


def test_an_open_submission_of_the_changed_experiment_leaves_it_out(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED, None)
    leave_open(store, read_group(store).experiments[1], host="catbus", pid=4711, renewed=context.clock.utc_now())
    call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "1")
    assert "being submitted by totoro on catbus" in context.out
    assert len(submissions(store)) == 1


def test_an_experiment_of_caliban_0_4_2_without_kwargs_and_with_numbers_is_changed(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, FAILED)
    with store.writing() as session:
        session.execute(ExperimentRow.__table__.update().values(args=["--foo", 3], kwargs=None))  # type: ignore[attr-defined]
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *YES, "--", "--foo", "4") == 0
    assert service.arguments_of("submit") == [{"image": "lab:1", "arguments": ["--foo", "4"]}]


def test_the_arguments_arrive_byte_for_byte(store: Store, service: FakeService, context: ScreenContext) -> None:
    group_of(store, FAILED)
    service.expect("submit", service.accept)
    words = ["--a", "two  words", "--b=\"'", "--c", "ä☃", "--d", "", "--e", "$HOME;`x`\n\t\\"]
    assert call(context, "resubmit", *YES, "--", *words) == 0
    assert service.arguments_of("submit") == [{"image": "lab:1", "arguments": ["--foo", "3", *words, "--sleep", "0"]}]


def test_a_recorded_experiment_that_was_never_submitted_runs_with_the_settings_of_its_origin(
    store: Store, service: FakeService, make_context: MakeContext
) -> None:
    group_of(store, FAILED, FAILED)
    origin = read_group(store).experiments[0]
    changes.record_experiments(
        [replace(origin, id=0, kwargs={"sleep": 11}, origin=1)], store, "totoro", "resubmit_test", FakeClock()
    )
    context = make_context("")
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "  never run; would run on TEST with the settings of job 1" in context.out.splitlines()


def test_a_named_job_that_succeeded_is_left_out_with_the_flag_that_chooses_it(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    group_of(store, SUCCEEDED, FAILED)
    assert call(context, "resubmit", *YES, "--job", "1", "--", "--sleep", "11") == 0
    assert "1 succeeded" in context.out
    assert "(--all_jobs resubmits jobs regardless of their state)" in context.out
