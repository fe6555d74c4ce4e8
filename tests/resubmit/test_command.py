"""``caliban resubmit`` from the command line to the rows of the store, on a fake platform."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.attempts import SubmissionState
from caliban.errors import CalibanError, ImageError, UsageError
from caliban.records import JobStatus, JsonObject, PlatformId
from caliban.store.database import Store
from caliban.submission.submit import InterruptedSubmissionError
from tests.builders import (
    CPU_SPEC,
    OTHER_IMAGE,
    SHORT_IMAGE,
    add_group,
    latest_states,
    leave_open,
    read_group,
    submissions,
)
from tests.calls import call
from tests.conftest import MakeContext, ScreenContext
from tests.fake_platform import end, polls
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

GROUP = ("--xgroup", "resubmit_test")


FAILED, SUCCEEDED, STOPPED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.STOPPED, JobStatus.RUNNING


@pytest.fixture
def project(cwd: Path) -> JsonObject:
    """The recorded container spec of an existing project."""
    (cwd / "cpu.py").write_text("")
    return {"build_path": str(cwd), "job_mode": "CPU", "package": [["python"], ".", "cpu.py", None]}


def test_failed_jobs_are_listed_confirmed_rebuilt_and_run_again(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, make_context: MakeContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, STOPPED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept, service.accept)
    context = make_context("y\n")
    assert call(context, "resubmit", *GROUP) == 0
    assert latest_states(store) == ["SUCCEEDED", "SUBMITTED", "SUBMITTED"]
    old = f"TEST 2020-05-29 10:53:40 container: {SHORT_IMAGE} name: fake"
    assert context.out.splitlines()[:5] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        f"  job 2        FAILED        {old}-2",
        "cpu.py --foo 3 --sleep 2",
        f"  job 3        STOPPED       {old}-3",
    ]
    assert context.err == (
        "\n do you wish to resubmit these 2 jobs? [yN]: y\nrebuilding containers...\n2 experiments: 2 submitted\n"
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
    [submission] = submissions(store)
    assert line.endswith(f"container: {OTHER_IMAGE[:19]} name: {submission.name}")


def test_one_image_is_built_for_all_jobs_of_a_container_spec(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", *[service.accept] * 3)
    call(context, "resubmit", *GROUP, "--yes")
    assert len(fake_engine.built) == 1


def test_an_existing_image_is_not_rebuilt(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert (fake_engine.built, "rebuilding" in context.err) == ([], False)
    assert service.arguments_of("submit") == [{"image": "lab:1", "arguments": ["--foo", "3", "--sleep", "0"]}]


def test_yes_skips_the_question(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert "do you wish" not in context.err


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("n\n", "nothing was resubmitted\n"),
        ("\n", "nothing was resubmitted\n"),
        ("", "no answer, nothing was resubmitted; in scripts, add --yes\n"),
    ],
)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_without_confirmation_nothing_is_submitted(
    typed: str,
    message: str,
    is_terminal: bool,
    store: Store,
    service: FakeService,
    fake_engine: FakeEngine,
    make_context: MakeContext,
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    context = make_context(typed, is_terminal=is_terminal)
    assert call(context, "resubmit", *GROUP) == 1
    assert (service.calls, submissions(store), context.err.endswith(message)) == ([], [], True)


def test_states_are_refreshed_and_recorded_first(
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
    service.expect("statuses", polls(unavailable=[1]))
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert context.out.startswith(
        "nothing to resubmit in the experiment group resubmit_test: 1 not finished (last known state running; no route)"
    )
    assert "give up what can never be asked again: caliban abandon --xgroup resubmit_test" in context.err


def test_all_jobs_runs_every_experiment_again(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, FAILED, None, container_spec={"image_id": "lab:1"})
    service.expect("submit", *[service.accept] * 3)
    assert call(context, "resubmit", *GROUP, "--all_jobs", "--yes") == 0
    assert latest_states(store) == ["SUBMITTED"] * 3


def test_a_group_without_failed_jobs_is_reported(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED)
    assert call(context, "resubmit", *GROUP) == 0
    assert (context.out, context.err) == (
        "nothing to resubmit in the experiment group resubmit_test: 1 succeeded "
        "(--all_jobs resubmits jobs regardless of their state)\n",
        "",
    )


def test_an_experiment_without_a_job_gets_one(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, SUCCEEDED, None, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert latest_states(store) == ["SUCCEEDED", "SUBMITTED"]


def test_a_refused_job_is_reported_and_the_others_are_submitted(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.refuse, service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "error: the fake quota is exceeded [fake-quota]\n  cause: 0 left\n  hint: wait\n" in context.err
    assert sorted(latest_states(store)) == ["FAILED", "SUBMITTED"]


def test_a_failed_build_affects_only_its_own_jobs(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    fake_engine.expect(ImageError("build-step-failed", "step 3 failed", cause="no matching distribution"))
    service.expect("submit", service.accept, service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "error: step 3 failed [build-step-failed]\n  cause: no matching distribution\n" in context.err
    assert "\n3 experiments: 2 submitted, 1 not submitted\n" in context.err


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({**CPU_SPEC, "build_path": "/nowhere/cpu"}, "build-folder-gone"),
        ({"build_path": "/nowhere/cpu"}, "malformed-container-spec"),
    ],
)
def test_images_that_cannot_be_rebuilt_are_reported_before_the_question(
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
    before, question, _ = context.err.partition("do you wish to resubmit these 2 jobs?")
    assert (f"[{error}]" in before, bool(question)) == (True, True)


def test_without_a_job_that_can_be_submitted_there_is_no_question(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"build_path": "/nowhere"})
    assert call(context, "resubmit", *GROUP) == 1
    assert ("[malformed-container-spec]" in context.err, "do you wish" in context.err) == (True, False)


def test_a_malformed_job_is_reported_and_the_others_are_submitted(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"}, job_spec={"surprise": 1})
    add_group(store, FAILED, container_spec={"image_id": "lab:2"})
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert "[malformed-job-spec]" in context.err
    assert latest_states(store) == ["FAILED", "SUBMITTED"]


def test_an_unreachable_engine_is_reported_before_the_question(
    store: Store, service: FakeService, make_context: MakeContext, tmp_path: Path, project: JsonObject
) -> None:
    add_group(store, FAILED, container_spec=project)
    context = make_context("y\n")
    context.environ["DOCKER_HOST"] = "unix:///nonexistent/sock"  # type: ignore[index]  # a dict in tests
    with pytest.raises(ImageError) as caught:
        call(context, "resubmit", *GROUP)
    assert (caught.value.id, "do you wish" in context.err) == ("docker-unreachable", False)


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--yes",)])
def test_without_a_group_the_groups_are_listed(flags: tuple[str, ...], store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, name="one")
    add_group(store, FAILED, name="two")
    with pytest.raises(UsageError) as caught:
        call(context, "resubmit", *flags)
    assert (caught.value.id, caught.value.hint) == (
        "no-xgroup",
        "run: caliban resubmit --xgroup NAME; your experiment groups: one, two",
    )


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--yes",)])
def test_a_misspelt_group_is_reported_with_a_suggestion(
    flags: tuple[str, ...], store: Store, context: ScreenContext
) -> None:
    add_group(store, FAILED)
    with pytest.raises(CalibanError) as caught:
        call(context, "resubmit", "--xgroup", "resubmit_tset", *flags)
    assert (caught.value.id, caught.value.hint) == ("unknown-xgroup", "did you mean resubmit_test?")


def test_a_misspelt_group_creates_no_store(context: ScreenContext, home: Path) -> None:
    with pytest.raises(CalibanError, match='totoro has no experiment group "x"'):
        call(context, "resubmit", "--xgroup", "x", "--yes")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("flags", [(), ("--dry_run",), ("--all_jobs",)])
def test_an_empty_group_is_reported(flags: tuple[str, ...], store: Store, context: ScreenContext) -> None:
    add_group(store)
    assert call(context, "resubmit", *GROUP, *flags) == 0
    assert context.out == "nothing to resubmit: the experiment group resubmit_test has no experiments\n"


def test_what_another_process_is_submitting_is_skipped(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    one, _ = add_group(store, FAILED, FAILED, container_spec={"image_id": "lab:1"}).experiments
    leave_open(store, one, host="catbus", pid=4711, renewed=context.clock.utc_now())
    service.expect("submit", service.accept)
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert latest_states(store) == ["FAILED", "SUBMITTED"]


def test_a_job_of_an_interrupted_command_is_recorded_and_not_run_twice(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    service.expect("submit", service.lose_answer)
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    service.expect("find", service.look_up)
    service.expect("statuses", polls(RUNNING=[2]))
    assert call(context, "resubmit", *GROUP, "--yes") == 0
    assert (latest_states(store), [row.state for row in submissions(store)]) == (["RUNNING"], [SubmissionState.DONE])


def test_an_interrupt_reports_what_was_started(
    store: Store, foreground: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, FAILED, container_spec={"image_id": "lab:1"})
    foreground.on_submit = lambda submission: foreground.interrupt()
    foreground.expect("submit", foreground.accept)
    foreground.expect("stop", end(STOPPED))
    with pytest.raises(InterruptedSubmissionError):
        call(context, "resubmit", *GROUP, "--yes")
    assert "\n3 experiments: 1 stopped, 2 not started\n" in context.err
    assert latest_states(store) == ["STOPPED", "FAILED", "FAILED"]


def test_groups_of_other_users_are_never_touched(
    store: Store, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    add_group(store, FAILED, user="mei", container_spec={"image_id": "lab:1"})
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    [other] = read_group(store, user="mei").experiments
    assert other.latest is not None
    assert other.latest.status is FAILED


def test_a_rerun_is_built_from_the_directory_as_it_is_now(
    store: Store, project: JsonObject, cwd: Path, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    (cwd / "requirements.txt").write_text("numpy\n")
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes")
    assert fake_engine.built[0].requirements_path == "requirements.txt"


def test_a_job_of_an_unknown_platform_is_reported(
    store: Store, unknown_platform: PlatformId, context: ScreenContext
) -> None:
    add_group(store, FAILED, platform=unknown_platform, container_spec={"image_id": "lab:1"})
    assert call(context, "resubmit", *GROUP, "--yes") == 1
    assert (
        "error: this installation of caliban cannot use the platform MAINFRAME [platform-not-supported]" in context.err
    )


def test_flags_choose_what_is_run_again(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, FAILED, STOPPED, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    assert (
        call(context, "resubmit", *GROUP, "--yes", "--state", "failed", "--match", "sleep=1,2,3", "--limit", "1") == 0
    )
    assert latest_states(store) == ["FAILED", "SUBMITTED", "STOPPED", "FAILED"]


def test_attempts_are_counted(
    store: Store, project: JsonObject, service: FakeService, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=project)
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    call(context, "resubmit", *GROUP, "--yes", "--max_attempts", "2")
    service.expect("statuses", polls(FAILED=[2]))
    call(context, "resubmit", *GROUP, "--yes", "--max_attempts", "2")
    assert "nothing to resubmit in the experiment group resubmit_test: 1 already had 2 attempts" in context.out


def test_only_what_may_be_chosen_is_asked_about(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING, RUNNING)
    service.expect("statuses", polls(RUNNING=[2]))
    call(context, "resubmit", *GROUP, "--dry_run", "--match", "sleep=1")


def test_a_job_that_is_not_in_the_group_is_an_error(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED)
    with pytest.raises(CalibanError) as caught:
        call(context, "resubmit", *GROUP, "--dry_run", "--job", "7")
    assert caught.value.id == "unknown-job"
