"""``caliban resubmit`` from the words of a person to the last row, on a fake platform and a real store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from caliban.errors import CalibanError, ImageError, UsageError
from caliban.records import JobStatus, JsonObject, PlatformId, SubmissionState
from caliban.store.database import Access, Store, open_store
from caliban.submission.submit import InterruptedSubmissionError
from tests.builders import CPU_SPEC, IMAGE, OTHER_IMAGE, add_group, latest_states, leave_open, read_group, submissions
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fakes import FakeEngine, FakeService, HeardReporter, end, polls

GROUP = ("--xgroup", "resubmit_test")
FAILED, SUCCEEDED, STOPPED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.STOPPED, JobStatus.RUNNING


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    """The recorded container spec of a project that is there."""
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


def test_what_failed_is_shown_agreed_to_rebuilt_and_run_again(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, STOPPED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept, service.accept)
    context = make_context("y\n")
    assert call(context, "resubmit", *GROUP) == 0
    assert latest_states(store) == ["SUCCEEDED", "SUBMITTED", "SUBMITTED"]
    old = f"TEST 2020-05-29 10:53:40 container: {IMAGE}"
    assert context.out.splitlines()[:5] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        f"  job 2        FAILED        {old}",
        "cpu.py --foo 3 --sleep 2",
        f"  job 3        STOPPED       {old}",
    ]
    assert context.err == (
        "\n do you wish to resubmit these 2 jobs? [yN]: y\nrebuilding containers...\n2 jobs: 2 submitted\n"
    )


def test_the_outcome_of_each_job_is_listed(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    context = make_context("y\n")
    call(context, "resubmit", *GROUP)
    *_, line = context.out.splitlines()
    assert line.startswith("  job 2        SUBMITTED     TEST ")
    assert line.endswith(f"container: {OTHER_IMAGE}")


def test_one_image_is_built_for_all_jobs_of_a_container_spec(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", *[service.accept] * 3)
    call(context, "resubmit", *GROUP, "--yes")
    assert len(fake_engine.built) == 1


def test_an_image_that_was_given_by_name_is_run_again_as_it_is(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert (fake_engine.built, "rebuilding" in context.err) == ([], False)
    assert service.asked("submit") == [{"image": "lab:1", "words": ["--foo", "3", "--sleep", "0"]}]


def test_yes_answers_the_question(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert "do you wish" not in context.err


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("n\n", "nothing was resubmitted\n"),
        ("\n", "nothing was resubmitted\n"),
        ("", "no answer was given, so nothing was resubmitted; in scripts, answer with --yes\n"),
    ],
)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_without_a_yes_nothing_is_submitted(
    typed: str,
    told: str,
    is_terminal: bool,
    store: Store,
    service: FakeService,
    fake_engine: FakeEngine,
    make_context: MakeContext,
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    context = make_context(typed, is_terminal=is_terminal)
    assert call(context, "resubmit", *GROUP) == 1
    assert (service.calls, submissions(store), context.err.endswith(told)) == ([], [], True)


def test_states_are_brought_up_to_date_and_recorded_first(
    store: Store, service: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, RUNNING, RUNNING, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(FAILED=[1], SUCCEEDED=[2]))
    context = make_context("n\n")
    call(context, "resubmit", *GROUP)
    assert (latest_states(store), "these 1 jobs?" in context.err) == (["FAILED", "SUCCEEDED"], True)


def test_a_job_that_may_still_run_is_not_run_again(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unreachable=[1]))
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert context.out.startswith(
        "nothing to resubmit in the experiment group resubmit_test: 1 not finished (running when last known; no route)"
    )


def test_all_jobs_runs_every_experiment_again(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, None, container_spec={"image_id": "lab:1"})
    service.expect("submit", *[service.accept] * 3)
    assert call(context, "resubmit", *GROUP, "--all_jobs", "--yes") == 0
    assert latest_states(store) == ["SUBMITTED"] * 3


def test_where_nothing_failed_nothing_is_to_be_done(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED)
    assert call(context, "resubmit", *GROUP) == 0
    assert (context.out, context.err) == (
        "nothing to resubmit in the experiment group resubmit_test: 1 succeeded "
        "(--all_jobs resubmits jobs whatever their state)\n",
        "",
    )


def test_an_experiment_that_never_got_a_job_gets_one(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, None, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert latest_states(store) == ["SUCCEEDED", "SUBMITTED"]


def test_a_refused_job_is_told_and_the_rest_go_on(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.refuse, service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "error: the fake platform has no room [fake-quota]\n  cause: 0 left\n  hint: wait\n" in context.err
    assert sorted(latest_states(store)) == ["FAILED", "SUBMITTED"]


def test_a_failed_build_keeps_only_its_own_jobs_from_running(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed", cause="no matching distribution"))
    service.expect("submit", service.accept, service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "error: step 3 failed [build-step-failed]\n  cause: no matching distribution\n" in context.err
    assert context.err.endswith("3 jobs: 1 not submitted, 2 submitted\n")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({**CPU_SPEC, "build_path": "/nowhere/cpu"}, "build-folder-gone"),
        ({"build_path": "/nowhere/cpu"}, "malformed-container-spec"),
    ],
)
def test_jobs_that_cannot_be_rebuilt_are_told_before_the_question(
    spec: JsonObject,
    error: str,
    store: Store,
    service: FakeService,
    fake_engine: FakeEngine,
    make_context: MakeContext,
) -> None:
    add_group(store, FAILED, container_spec=spec)
    add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept, service.accept)
    context = make_context("y\n")
    assert call(context, "resubmit", *GROUP) == 1
    told, question, _ = context.err.partition("do you wish to resubmit these 2 jobs?")
    assert (f"[{error}]" in told, bool(question)) == (True, True)


def test_where_no_job_can_be_run_nobody_is_asked(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec={"build_path": "/nowhere"})
    assert call(context, "resubmit", *GROUP) == 1
    assert ("[malformed-container-spec]" in context.err, "do you wish" in context.err) == (True, False)


def test_a_malformed_job_is_told_and_the_rest_go_on(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"}, job_spec={"surprise": 1})
    add_group(store, FAILED, container_spec={"image_id": "lab:2"})
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "[malformed-job-spec]" in context.err
    assert latest_states(store) == ["FAILED", "SUBMITTED"]


def test_an_engine_out_of_reach_is_told_before_the_question(
    store: Store, service: FakeService, make_context: MakeContext, tmp_path: Path, project: JsonObject
) -> None:
    add_group(store, FAILED, container_spec=project)
    context = make_context("y\n")
    context.environ["DOCKER_HOST"] = f"unix://{tmp_path}/none.sock"  # type: ignore[index]  # a dict in tests
    with pytest.raises(ImageError) as caught:
        call(context, "resubmit", *GROUP)
    assert (caught.value.id, "do you wish" in context.err) == ("docker-unreachable", False)


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--yes",)])
def test_without_a_group_the_groups_are_named(flags: tuple[str, ...], store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, name="one")
    add_group(store, FAILED, name="two")
    with pytest.raises(UsageError) as caught:
        call(context, "resubmit", *flags)
    assert (caught.value.id, caught.value.hint) == (
        "no-xgroup",
        "caliban resubmit --xgroup NAME; your experiment groups: one, two",
    )


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--yes",)])
def test_a_misspelt_group_is_told_with_what_is_close_to_it(
    flags: tuple[str, ...], store: Store, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    with pytest.raises(CalibanError) as caught:
        call(context, "resubmit", "--xgroup", "resubmit_tset", *flags)
    assert (caught.value.id, caught.value.hint) == ("unknown-xgroup", "did you mean resubmit_test?")


def test_a_misspelt_group_makes_no_store(context: ScreenContext, home: Path) -> None:
    with pytest.raises(CalibanError, match="totoro has no experiment group x"):
        call(context, "resubmit", "--xgroup", "x", "--yes")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--all_jobs",)])
def test_an_empty_group_is_nothing_to_do(flags: tuple[str, ...], store: Store, context: ScreenContext) -> None:
    add_group(store)
    assert call(context, "resubmit", *GROUP, *flags) == 0
    assert context.out == "nothing to resubmit: the experiment group resubmit_test has no experiments\n"


def test_a_dry_run_says_everything_and_does_nothing(
    store: Store, project: JsonObject, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, container_spec=project)
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    assert context.out == (
        "the following jobs would be resubmitted:\n"
        "cpu.py --foo 3 --sleep 1\n"
        f"  job 2        FAILED        TEST 2020-05-29 10:53:40 container: {IMAGE}\n"
        "\n"
        "container images:\n"
        f"  docker config 1, for 1 job: would be rebuilt from {project['build_path']} (job_mode: CPU)\n"
        "\n"
        "left out:\n"
        "  cpu.py --foo 3 --sleep 0 (experiment 1, job 1): succeeded\n"
        "\n"
        "nothing was submitted: to actually resubmit these jobs, run this command again without --dry_run\n"
    )
    assert (context.err, submissions(store)) == ("", [])


def test_a_dry_run_shows_fresh_states_and_does_not_record_them(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(FAILED=[1]))
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "\n  job 1        FAILED  " in context.out
    assert latest_states(store) == ["RUNNING"]


def test_a_dry_run_marks_states_that_are_not_fresh(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, container_spec={"image_id": "lab:1"})
    service.expect("statuses", polls(unreachable=[1]))
    call(context, "resubmit", *GROUP, "--dry_run", "--all_jobs")
    assert "(last known state; no route)\n" in context.out


def test_a_dry_run_leaves_out_what_somebody_else_is_submitting(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    one, _ = add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"}).experiments
    leave_open(store, one, host="catbus", pid=4711)
    call(context, "resubmit", *GROUP, "--dry_run")
    assert "(experiment 1, job 1): being submitted by totoro on catbus (process 4711) since" in context.out


def test_what_somebody_else_is_submitting_is_left_to_them(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    one, _ = add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"}).experiments
    leave_open(store, one, host="catbus", pid=4711)
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert latest_states(store) == ["FAILED", "SUBMITTED"]


def test_what_an_interrupted_command_had_started_is_recorded_and_not_run_twice(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.lose_answer)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    service.expect("find", service.look_up)
    service.expect("statuses", polls(RUNNING=[2]))
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert (latest_states(store), [row.state for row in submissions(store)]) == (["RUNNING"], [SubmissionState.DONE])


def test_an_interrupt_reports_what_had_begun(
    store: Store, foreground: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    foreground.watch = lambda submission: foreground.press()
    foreground.expect("submit", foreground.accept)
    foreground.expect("stop", end(STOPPED))
    with pytest.raises(InterruptedSubmissionError):
        call(context, "resubmit", *GROUP, "--yes")
    assert context.err.endswith("3 jobs: 1 stopped, 2 not started\n")
    assert latest_states(store) == ["STOPPED", "FAILED", "FAILED"]


def test_groups_of_other_users_are_never_touched(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    add_group(store, FAILED, user="mei", container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    [mine] = read_group(store, user="mei").experiments
    assert mine.latest is not None
    assert mine.latest.status is FAILED


def test_a_rerun_runs_the_folder_as_it_is_now(
    store: Store, project: JsonObject, cwd: Path, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    (cwd / "requirements.txt").write_text("numpy\n")
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert fake_engine.built[0].requirements_path == "requirements.txt"


def test_a_job_of_a_platform_of_a_later_version_is_told(
    store: Store, unknown_platform: PlatformId, context: ScreenContext
) -> None:
    add_group(store, FAILED, platform=unknown_platform, container_spec={"image_id": "lab:1"})
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "error: this version of caliban cannot reach jobs on VERTEX [platform-not-supported]" in context.err


def test_a_dry_run_reads_a_store_that_was_never_upgraded(
    home: Path, context: ScreenContext, heard: HeardReporter
) -> None:
    peer = Path(__file__).parent.parent / "data" / "peer_stores" / "walkthrough_caip.sqlite"
    (home / ".caliban").mkdir()
    shutil.copy(peer, home / ".caliban" / "caliban.db")
    assert call(context, "resubmit", *GROUP, "--dry_run") == 0
    with open_store(f"sqlite:///{home}/.caliban/caliban.db", Access.READ, heard) as store:
        assert not store.has_journal
