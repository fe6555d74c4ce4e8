"""``caliban resubmit --more_memory 2``, ``--machine_type``: from the command line to the rows of the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import select

from caliban.errors import UsageError
from caliban.history import history_of
from caliban.platforms.caip.job_spec import training_job
from caliban.platforms.docker.job_spec import new_job_spec
from caliban.platforms.google.machine_catalog import Gpu
from caliban.platforms.kubernetes.job_spec import new_job_spec as cluster_job
from caliban.platforms.kubernetes.resources import Hardware
from caliban.platforms.registry import resources_of
from caliban.records import JobStatus, JsonObject
from caliban.store.database import Store
from caliban.store.models import JobSpecRow
from tests.builders import a_group, a_job, add_group, an_experiment, read_group
from tests.calls import call, result_of
from tests.conftest import ScreenContext
from tests.fake_platform import polls
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

GROUP = ("--xgroup", "resubmit_test")
DRY_RUN = (*GROUP, "--dry_run")
FAILED = JobStatus.FAILED
NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)
LAB: JsonObject = {"image_id": "lab:1"}
CLUSTER: JsonObject = {"context": "lab", "namespace": "default", "name": "caliban-totoro-0123456789"}


def local_group(store: Store, *docker_run_args: str, jobs: int = 1) -> None:
    spec = new_job_spec("lab:1", ["--foo", "3"], docker_run_args=docker_run_args, gpu=False)
    add_group(store, *[FAILED] * jobs, container_spec=LAB, platform="LOCAL", job_spec=spec)


def cluster_group(store: Store, **hardware: object) -> None:
    spec = cluster_job(base="lab", image="lab:1", arguments=["--foo", "3"], hardware=Hardware(**hardware))  # type: ignore[arg-type]
    add_group(
        store, FAILED, container_spec={"image_id": "lab:2"}, platform="KUBERNETES", job_spec=spec, details=CLUSTER
    )


def refused(context: ScreenContext, *arguments: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        call(context, "resubmit", *arguments)
    return caught.value


def resources_line(context: ScreenContext) -> str:
    [line] = [line for line in context.out.splitlines() if line.startswith("    resources: ")]
    return line.removeprefix("    resources: ")


def test_the_plan_shows_the_memory_before_and_after(store: Store, context: ScreenContext) -> None:
    local_group(store, "-m", "4g")
    call(context, "resubmit", *DRY_RUN, "--more_memory", "2")
    lines = context.out.splitlines()
    assert lines[2].startswith("  job 1        FAILED")
    assert lines[3] == "    resources: memory 4g -> 8g"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--more_memory", "1.5"), "memory 4000M -> 6000M"),
        (("--min_mem", "9000", "--min-cpu", "500"), "cpu none -> 500m, memory 4000M -> 9000M"),
        (("--machine_type", "n1-standard-8"), "machine_type none -> n1-standard-8"),
        (("--gpu_spec", "2"), "accelerator none -> 2 GPUs"),
    ],
)
def test_jobs_on_clusters_take_the_flags_of_cluster_job_submit(
    arguments: tuple[str, ...], line: str, store: Store, context: ScreenContext
) -> None:
    cluster_group(store, min_mem=4000)
    call(context, "resubmit", *DRY_RUN, *arguments)
    assert resources_line(context) == line


def test_the_plan_as_json_has_the_changes(store: Store, context: ScreenContext) -> None:
    local_group(store, "-m", "4g")
    [job] = result_of(context, "resubmit", *DRY_RUN, "--json", "--more_memory", "2")["jobs"]
    assert job["resources"] == [{"setting": "memory", "before": "4g", "after": "8g"}]


def test_the_same_resources_are_no_change(store: Store, context: ScreenContext) -> None:
    local_group(store, "-m", "4g")
    call(context, "resubmit", *DRY_RUN, "--docker_run_args", "-m 4g")
    assert "resources:" not in context.out


@pytest.mark.parametrize(
    ("flag", "value"),
    [("machine_type", "n1-standard-8"), ("min_mem", "1000"), ("region", "us-central1"), ("spot", None)],
)
def test_a_flag_that_the_platform_does_not_have_ends_the_command_and_names_the_job(
    flag: str, value: str | None, store: Store, context: ScreenContext
) -> None:
    local_group(store)
    error = refused(context, *GROUP, "--yes", f"--{flag}", *([value] if value else []))
    assert error.id == "flag-not-on-platform"
    assert error.message == f"job 1 runs on LOCAL, which does not support --{flag}"
    assert error.cause == "LOCAL has --docker_run_args, --more_memory, --nogpu, --timeout"


def test_a_platform_without_changes_of_resources_has_no_such_flag(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=LAB)
    error = refused(context, *GROUP, "--yes", "--more_memory", "2")
    assert (error.id, error.cause) == ("flag-not-on-platform", "TEST has no flags for resources")


def test_one_job_whose_platform_lacks_the_flag_stops_all(store: Store, context: ScreenContext) -> None:
    local_group(store, "-m", "4g")
    cluster_group(store, min_mem=4000)
    assert refused(context, *GROUP, "--yes", "--timeout", "1h").message.startswith("job 2 runs on KUBERNETES")
    call(context, "resubmit", *DRY_RUN, "--job", "1", "--timeout", "1h")
    assert resources_line(context) == "timeout none -> 3600s"


def test_an_impossible_change_ends_the_command_and_names_the_job(store: Store, context: ScreenContext) -> None:
    local_group(store)
    error = refused(context, *GROUP, "--yes", "--more_memory", "2")
    assert (error.id, error.message) == (
        "no-memory-recorded",
        "job 1: --more_memory: no limit of memory is recorded",
    )


def migrated_group(store: Store) -> None:
    spec = training_job(
        base="lab",
        index=1,
        image="gcr.io/p/lab:1",
        region="us-central1",
        machine_type="n1-standard-8",
        gpu=Gpu(1, "NVIDIA_TESLA_K80"),
        arguments=["--foo", "3"],
    )
    add_group(store, FAILED, container_spec=LAB, platform="CAIP", job_spec=spec, details={"project_id": "p"})


def test_changes_are_made_to_the_migrated_job(store: Store, context: ScreenContext) -> None:
    migrated_group(store)
    call(context, "resubmit", *DRY_RUN, "--platform", "vertex", "--machine_type", "n1-standard-16", "--spot")
    assert resources_line(context) == "machine_type n1-standard-8 -> n1-standard-16, spot off -> on"


def test_a_flag_of_the_other_platform_is_refused_where_nothing_is_migrated(
    store: Store, context: ScreenContext
) -> None:
    migrated_group(store)
    error = refused(context, *DRY_RUN, "--spot")
    assert error.message == "job 1 runs on CAIP, which does not support --spot"


def test_machines_are_checked_before_anything_is_built(
    store: Store, fake_engine: FakeEngine, context: ScreenContext
) -> None:
    migrated_group(store)
    error = refused(context, *GROUP, "--yes", "--platform", "vertex", "--machine_type", "n1-standrd-8")
    assert (error.id, error.message) == (
        "unknown-machine-type",
        'job 1: Vertex AI has no machine type "n1-standrd-8"',
    )
    assert fake_engine.built == []


@pytest.mark.parametrize(
    ("arguments", "id"),
    [
        (("--more_memory", "1"), "invalid-value"),
        (("--more_memory", "0.5"), "invalid-value"),
        (("--more_memory", "-2"), "invalid-value"),
        (("--more_memory", "nan"), "invalid-value"),
        (("--more_memory", "1e9"), "invalid-value"),
        (("--min_mem", "0"), "invalid-value"),
        (("--timeout", "soon"), "invalid-value"),
        (("--nogpu", "--gpu_spec", "1xT4"), "gpu-or-not"),
        (("--spot", "--nonpreemptible"), "conflicting-flags"),
    ],
)
def test_wrong_flags_are_refused(arguments: tuple[str, ...], id: str, store: Store, context: ScreenContext) -> None:
    local_group(store, "-m", "4g")
    assert refused(context, *GROUP, "--yes", *arguments).id == id


def test_a_mistyped_flag_is_not_taken_for_one_of_the_script(store: Store, context: ScreenContext) -> None:
    local_group(store)
    assert refused(context, *GROUP, "--machine_typ", "n1-standard-8").hint == "did you mean --machine_type?"


def test_help_lists_the_flags_once_and_explains_the_own_one(
    context: ScreenContext, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(context, "resubmit", "--help")
    text = capsys.readouterr().out
    assert text.count("--machine_type") == 1
    assert "--more_memory FACTOR" in text


def specs(store: Store) -> list[JsonObject]:
    with store.reading() as session:
        return list(session.scalars(select(JobSpecRow.spec).order_by(JobSpecRow.id)))


def test_a_new_attempt_of_the_same_experiment_has_the_changed_spec(
    store: Store, resizable: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, container_spec=LAB, job_spec={"image": "lab:1", "arguments": [], "memory": 4})
    resizable.expect("submit", resizable.accept)
    assert call(context, "resubmit", *GROUP, "--yes", "--more_memory", "2") == 0
    [experiment] = read_group(store, all_jobs=True).experiments
    assert [job.spec["memory"] for job in experiment.jobs] == [4, 8]


def test_the_next_attempt_keeps_what_was_changed(store: Store, resizable: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec=LAB, job_spec={"image": "lab:1", "arguments": [], "memory": 4})
    resizable.expect("submit", resizable.accept, resizable.accept)
    resizable.expect("statuses", polls(FAILED=[2]))
    call(context, "resubmit", *GROUP, "--yes", "--more_memory", "2")
    call(context, "resubmit", *GROUP, "--yes")
    assert [spec.get("memory") for spec in specs(store)][-1] == 8


def test_parameters_and_resources_change_together(
    store: Store, resizable: FakeService, context: ScreenContext, tmp_path: Path
) -> None:
    add_group(store, FAILED, container_spec=LAB, job_spec={"image": "lab:1", "arguments": [], "memory": 4})
    resizable.expect("submit", resizable.accept)
    assert call(context, "resubmit", *GROUP, "--yes", "--more_memory", "2", "--", "--sleep", "9") == 0
    [_, made] = read_group(store).experiments
    assert made.latest is not None
    assert (made.arguments, made.latest.spec["memory"]) == (("--foo", "3", "--sleep", "9"), 8)


def test_the_history_shows_what_changed(store: Store, resizable: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, container_spec=LAB, job_spec={"image": "lab:1", "arguments": [], "memory": 4})
    resizable.expect("submit", resizable.accept)
    resizable.expect("statuses", polls(FAILED=[2]))
    call(context, "resubmit", *GROUP, "--yes", "--more_memory", "2")
    call(context, "status", *GROUP, "--history")
    assert "resources: memory 4 -> 8  " in context.out


def test_the_history_names_the_resources_of_local_jobs() -> None:
    limits = (("-m", "24m", "--memory-swap", "24m"), ("--memory", "96m", "--memory-swap", "96m"))
    specs = [new_job_spec("lab:1", ["--foo", "3"], docker_run_args=words, gpu=False) for words in limits]
    specs.append({**specs[1], "timeout": 3600})
    jobs = [replace(a_job(number), platform="LOCAL", spec=spec) for number, spec in enumerate(specs, 1)]
    [history] = history_of(a_group(an_experiment(1, *jobs)), NOW, resources_of)
    assert [[change.text for change in each.resources] for each in history.attempts] == [
        [],
        ["memory 24m -> 96m", "memory_swap 24m -> 96m"],
        ["timeout none -> 3600s"],
    ]
    assert [each.changes for each in history.attempts] == [(), (), ()]
