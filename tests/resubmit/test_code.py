"""What a re-run says about the code, and where it takes its images from, on fake platforms."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text, update

from caliban.errors import UsageError
from caliban.records import JobStatus, JsonObject
from caliban.store.code import recorded_builds
from caliban.store.database import Store
from caliban.store.models import CodeFileRow, JobRow
from tests.builders import IMAGE, OTHER_IMAGE, add_group
from tests.calls import call, result_of
from tests.conftest import MakeContext, ScreenContext
from tests.databases import sent_statements
from tests.fake_platform import end, polls
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

GROUP = ("resubmit", "--xgroup", "resubmit_test")
FAILED = JobStatus.FAILED
TRAIN = "import sys\nprint(1)\nsys.exit(1)\n"
DIGEST_IMAGE = "registry.example.com/lab/abc@sha256:" + "ef" * 32


@pytest.fixture
def project(cwd: Path) -> Path:
    (cwd / "train.py").write_text(TRAIN)
    return cwd


def spec_of(project: Path) -> JsonObject:
    return {"build_path": str(project), "job_mode": "CPU", "package": [["python"], ".", "train.py", None]}


class Lab:
    """A group whose jobs this version built once, and which failed by their own code."""

    def __init__(
        self, store: Store, project: Path, engine: FakeEngine, make: MakeContext, foreground: FakeService
    ) -> None:
        self.store, self.project, self.engine, self.make, self.foreground = store, project, engine, make, foreground

    def fail(self, jobs: int = 1, code: int = 1) -> None:
        """Run the jobs again, which then fail."""
        self.engine.expect(OTHER_IMAGE)
        self.foreground.expect("submit", *[self.foreground.accept] * jobs)
        self.foreground.expect("follow", *[end(FAILED, ret_code=code)] * jobs)
        context = self.make()
        assert call(context, *GROUP, "--yes") == 1, context.err

    def dry_run(self, *flags: str) -> ScreenContext:
        context = self.make()
        assert call(context, *GROUP, "--dry_run", *flags) == 0
        return context

    def plan(self, *flags: str) -> Any:
        return result_of(self.make(), *GROUP, "--dry_run", "--json", *flags)


@pytest.fixture
def lab(
    store: Store, project: Path, fake_engine: FakeEngine, make_context: MakeContext, foreground: FakeService
) -> Lab:
    made = Lab(store, project, fake_engine, make_context, foreground)
    add_group(store, FAILED, container_spec=spec_of(project))
    made.fail()
    return made


def test_a_job_whose_code_did_not_change_is_said_to_fail_again(lab: Lab) -> None:
    context = lab.dry_run()
    assert "    code: unchanged since job 2" in context.out.splitlines()
    assert context.err == (
        "warning: job 2 failed because of an error in the code, and nothing that enters its image has changed since: "
        "it would probably fail again\n"
    )


def test_a_fix_is_shown_with_the_number_of_its_lines(lab: Lab) -> None:
    (lab.project / "train.py").write_text(TRAIN.replace("sys.exit(1)", "sys.exit(0)"))
    context = lab.dry_run()
    assert "    code: train.py +1 -1 since job 2" in context.out.splitlines()
    assert context.err == ""


@pytest.mark.parametrize("change", ["base_image", "requirements", "mode"])
def test_a_change_of_what_else_enters_the_image_is_no_reason_to_warn(lab: Lab, change: str) -> None:
    if change == "mode":
        (lab.project / "train.py").chmod(0o755)
    elif change == "requirements":
        (lab.project / "requirements.txt").write_text("attrs\n")
    else:
        (lab.project / ".calibanconfig.json").write_text('{"base_image": "python:3.12"}')
    context = lab.dry_run()
    assert context.err == ""
    expected = {
        "base_image": "base_image changed",
        "requirements": "requirements.txt added, requirements_path changed",
        "mode": "train.py mode changed",
    }
    assert f"    code: {expected[change]} since job 2" in context.out.splitlines()


@pytest.mark.parametrize("key", ["registry", "repository"])
def test_another_place_for_the_image_does_not_enter_it(lab: Lab, key: str) -> None:
    (lab.project / ".calibanconfig.json").write_text(f'{{"{key}": "ghcr.io/totoro/digits"}}')
    context = lab.dry_run()
    assert "    code: unchanged since job 2" in context.out.splitlines()
    assert "nothing that enters its image has changed since" in context.err


def test_a_job_that_did_not_fail_by_its_code_is_not_warned_of(lab: Lab) -> None:
    with lab.store.writing() as session:
        session.execute(update(JobRow).values(details={"name": "x"}))
    assert lab.dry_run().err == ""


def test_many_changed_files_are_counted(lab: Lab) -> None:
    for name in "abcdefg":
        (lab.project / f"{name}.py").write_text("1\n")
    line = "    code: a.py added, b.py added, c.py added and 4 more files since job 2"
    assert line in lab.dry_run().out.splitlines()


def test_jobs_of_an_earlier_version_have_no_line(
    store: Store, project: Path, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=spec_of(project))
    context = make_context()
    call(context, *GROUP, "--dry_run")
    assert "code" not in context.out


def test_one_line_is_shown_for_jobs_with_the_same_change(
    store: Store, project: Path, fake_engine: FakeEngine, make_context: MakeContext, foreground: FakeService
) -> None:
    lab = Lab(store, project, fake_engine, make_context, foreground)
    add_group(store, *[FAILED] * 3, container_spec=spec_of(project))
    lab.fail(3)
    context = lab.dry_run()
    assert [line for line in context.out.splitlines() if line.strip().startswith("code")] == [
        "code of these 3 jobs: unchanged since they were submitted"
    ]
    assert context.err.startswith("warning: 3 of these jobs failed")


def test_the_plan_has_the_change_in_fields(lab: Lab) -> None:
    (lab.project / "train.py").write_text(TRAIN + "# done\n")
    [job] = lab.plan()["jobs"]
    assert job["code"] == {
        "since_job": 2,
        "unchanged": False,
        "fails_again": False,
        "files": [{"path": "train.py", "change": "changed", "added": 1, "removed": 0}],
        "settings": [],
        "commit": None,
        "is_dirty": None,
    }


def test_the_statements_of_a_plan_do_not_grow_with_the_jobs(
    store: Store, project: Path, fake_engine: FakeEngine, make_context: MakeContext, foreground: FakeService
) -> None:
    lab = Lab(store, project, fake_engine, make_context, foreground)
    add_group(store, *[FAILED] * 12, container_spec=spec_of(project))
    lab.fail(12)
    with sent_statements() as few:
        lab.dry_run("--limit", "1")
    with sent_statements() as many:
        lab.dry_run()
    assert len(many) == len(few)


def test_the_difference_is_shown_in_lines(lab: Lab) -> None:
    (lab.project / "train.py").write_text(TRAIN.replace("print(1)", "if True:\n\tprint('\x1b[31m\u202e')"))
    (lab.project / "new.py").write_text("1")
    (lab.project / "blob").write_bytes(b"\0\1")
    assert lab.dry_run("--diff").out.split("code since ")[1].split("\n\n")[0].splitlines() == [
        "job 2:",
        "Files /dev/null and b/blob differ",
        "--- /dev/null",
        "+++ b/new.py",
        "@@ -0,0 +1 @@",
        "+1",
        "\\ No newline at end of file",
        "--- a/train.py",
        "+++ b/train.py",
        "@@ -1,3 +1,4 @@",
        " import sys",
        "-print(1)",
        "+if True:",
        "+\tprint('\\x1b[31m\\u202e')",
        " sys.exit(1)",
    ]


def test_a_text_that_is_damaged_in_the_store_differs(lab: Lab) -> None:
    with lab.store.writing() as session:
        session.execute(update(CodeFileRow).values(content=b"x"))
    (lab.project / "train.py").write_text("")
    assert "Files a/train.py and b/train.py differ" in lab.dry_run("--diff").out
    assert "    code: train.py changed since job 2" in lab.dry_run().out.splitlines()


def test_the_difference_is_shown_before_the_question(lab: Lab) -> None:
    (lab.project / "train.py").write_text(TRAIN + "# done\n")
    context = lab.make("n\n")
    call(context, *GROUP, "--diff")
    assert "+# done" in context.out.splitlines()


def test_a_moved_project_is_built_where_it_is_and_that_is_remembered(lab: Lab, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.move(lab.project, moved)
    lab.engine.expect(IMAGE)
    lab.foreground.expect("submit", lab.foreground.accept)
    lab.foreground.expect("follow", end(FAILED, ret_code=1))
    assert call(lab.make(), *GROUP, "--yes", "--build_path", str(moved)) == 1
    lab.fail()
    assert [each.build_path for each in lab.engine.built[1:]] == [moved, moved]
    assert {each.build_path for each in recorded_builds(lab.store, [3, 4]).values()} == {moved}


def test_a_project_that_moved_back_is_remembered_too(lab: Lab, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(lab.project, moved)
    for directory in (moved, lab.project):
        lab.engine.expect(IMAGE)
        lab.foreground.expect("submit", lab.foreground.accept)
        lab.foreground.expect("follow", end(FAILED, ret_code=1))
        call(lab.make(), *GROUP, "--yes", "--build_path", str(directory))
    assert lab.plan()["images"][0]["build_path"] == str(lab.project)


def test_a_directory_is_relative_to_the_current_one_or_to_home(lab: Lab) -> None:
    context = lab.make()
    for path in (context.cwd / "moved", context.home / "moved"):
        path.mkdir(parents=True)
        (path / "train.py").write_text("")
    assert lab.plan("--build_path", "moved")["images"][0]["build_path"] == str(context.cwd / "moved")
    assert lab.plan("--build_path", "~/moved/")["images"][0]["build_path"] == str(context.home / "moved")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--build_path", "nowhere"), "build-path-not-found"),
        (("--build_path", ""), "build-path-not-found"),
        (("--build_path", "train.py"), "build-path-not-found"),
        (("--build_path", "empty"), "build-path-without-script"),
        (("--build_path", ".", "--no_rebuild"), "conflicting-flags"),
        (("--diff", "--no_rebuild"), "conflicting-flags"),
    ],
)
def test_a_flag_that_cannot_be_honoured_is_an_error_before_anything(
    lab: Lab, flags: tuple[str, ...], error: str
) -> None:
    (lab.make().cwd / "empty").mkdir(exist_ok=True)
    with pytest.raises(UsageError) as caught:
        call(lab.make(), *GROUP, "--yes", *flags)
    assert caught.value.id == error


def test_one_directory_is_not_given_to_two_projects(lab: Lab, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(lab.project, other)
    add_group(lab.store, FAILED, container_spec=spec_of(other))
    with pytest.raises(UsageError) as caught:
        call(lab.make(), *GROUP, "--yes", "--build_path", str(tmp_path))
    assert caught.value.id == "build-path-ambiguous"
    assert lab.plan("--build_path", str(other))["images"][0]["build_path"] == str(other)


def test_existing_images_have_no_directory(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec={"image_id": "lab:1"})
    with pytest.raises(UsageError) as caught:
        call(context, *GROUP, "--yes", "--build_path", ".")
    assert caught.value.id == "build-path-unused"


def test_a_recorded_image_runs_again_without_a_build_and_keeps_its_record(lab: Lab) -> None:
    lab.engine.images.add(OTHER_IMAGE)
    shutil.rmtree(lab.project)
    lab.foreground.expect("submit", lab.foreground.accept)
    lab.foreground.expect("follow", end(JobStatus.SUCCEEDED))
    context = lab.make()
    assert call(context, *GROUP, "--yes", "--no_rebuild") == 0
    assert len(lab.engine.built) == 1
    before, after = recorded_builds(lab.store, [2, 3]).values()
    assert before.manifest_id == after.manifest_id is not None
    assert "it would probably fail again" in context.err


def test_a_removed_image_is_an_error_before_the_question(lab: Lab) -> None:
    context = lab.make("y\n")
    assert call(context, *GROUP, "--no_rebuild") == 1
    assert "[image-removed]" in context.err
    assert "do you wish" not in context.err


def set_container(store: Store, image: str) -> None:
    with store.writing() as session:
        session.execute(update(JobRow).values(container=image))


def test_a_remote_job_runs_its_image_by_digest_without_docker(
    store: Store, service: FakeService, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise AssertionError("Docker is not needed")

    monkeypatch.setattr("caliban.images.docker.engine.Engine.connect", unreachable)
    add_group(store, FAILED, container_spec=spec_of(Path("/gone")))
    set_container(store, DIGEST_IMAGE)
    service.expect("submit", service.accept)
    assert call(make_context(), *GROUP, "--yes", "--no_rebuild") == 0
    assert service.arguments_of("submit") == [{"image": DIGEST_IMAGE, "arguments": ["--foo", "3", "--sleep", "0"]}]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("gcr.io/lab/abc:latest", "image-without-digest"),
        (IMAGE, "image-not-in-registry"),
        ("", "image-not-recorded"),
    ],
)
def test_a_remote_job_without_a_digest_is_not_submitted(
    store: Store, service: FakeService, make_context: MakeContext, image: str, error: str
) -> None:
    add_group(store, FAILED, container_spec=spec_of(Path("/gone")))
    set_container(store, image)
    context = make_context("y\n")
    assert call(context, *GROUP, "--no_rebuild") == 1
    assert f"[{error}]" in context.err
    assert "do you wish" not in context.err


def test_the_plan_says_that_nothing_is_built(lab: Lab) -> None:
    assert f"  docker config 1, for 1 job: {OTHER_IMAGE}, not rebuilt (--no_rebuild)" in (
        lab.dry_run("--no_rebuild").out.splitlines()
    )


def test_jobs_that_run_in_a_directory_are_left_alone_by_no_rebuild(
    store: Store, project: Path, imageless: FakeService, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=spec_of(project))
    imageless.expect("submit", imageless.accept)
    assert call(make_context(), *GROUP, "--yes", "--no_rebuild") == 0
    assert imageless.arguments_of("submit") == [{"image": str(project), "arguments": ["--foo", "3", "--sleep", "0"]}]


def test_a_state_that_is_polled_counts(
    store: Store, project: Path, fake_engine: FakeEngine, make_context: MakeContext, service: FakeService
) -> None:
    add_group(store, FAILED, container_spec=spec_of(project))
    fake_engine.expect(OTHER_IMAGE)
    service.expect("submit", service.accept)
    call(make_context(), *GROUP, "--yes")
    service.expect("statuses", polls(FAILED=[2]))
    context = make_context()
    call(context, *GROUP, "--dry_run")
    assert "    code: unchanged since job 2" in context.out.splitlines()


def test_a_name_that_is_no_text_is_shown_and_written_as_json(lab: Lab) -> None:
    (lab.project / os.fsdecode(b"\xff\x1b.py")).write_text("")
    assert "    code: \\udcff\\x1b.py added since job 2" in lab.dry_run().out.splitlines()
    [job] = lab.plan()["jobs"]
    assert len(job["code"]["files"]) == 1


def test_a_store_of_an_earlier_revision_is_planned_without_an_upgrade(
    store: Store, project: Path, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, FAILED, container_spec=spec_of(project))
    with store.writing() as session:
        for table in ("submission_builds", "code_manifests", "code_files"):
            session.execute(text(f"DROP TABLE {table}"))
        session.execute(text("UPDATE caliban_version SET version_num = '0005'"))
    context = make_context()
    assert call(context, *GROUP, "--dry_run", "--diff") == 0
    assert "no difference can be shown for 1 job: the code that ran is not recorded" in context.out.splitlines()


def test_an_experiment_that_never_ran_is_compared_with_the_job_whose_settings_it_takes(lab: Lab) -> None:
    add_group(lab.store, None, None, container_spec=spec_of(lab.project))
    lines = lab.dry_run().out.splitlines()
    assert lines.count("    code: unchanged since job 2") == 2


def test_an_experiment_with_changed_parameters_is_compared_with_the_chosen_one_and_not_warned_of(lab: Lab) -> None:
    context = lab.make()
    assert call(context, *GROUP, "--dry_run", "--", "--seed", "11") == 0
    assert "    code: unchanged since job 2" in context.out.splitlines()
    assert context.err == ""


def test_a_difference_of_many_jobs_is_shown_once(
    store: Store, project: Path, fake_engine: FakeEngine, make_context: MakeContext, foreground: FakeService
) -> None:
    lab = Lab(store, project, fake_engine, make_context, foreground)
    add_group(store, *[FAILED] * 7, container_spec=spec_of(project))
    lab.fail(7)
    (project / "train.py").write_text(TRAIN + "# done\n")
    lines = lab.dry_run("--diff").out.splitlines()
    assert lines.count("+# done") == 1
    assert "code since jobs 8, 9, 10, 11, 12 and 2 more:" in lines
