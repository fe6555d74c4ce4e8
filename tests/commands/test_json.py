"""``--json`` of the commands; :func:`tests.calls.call` checks every document by its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from caliban.errors import CalibanError
from caliban.outputs.stored import StoredOutput
from caliban.records import JobStatus, OutputError
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from tests.builders import IMAGE, add_group
from tests.calls import call, result_of
from tests.conftest import ForkedCaliban, MakeContext, ScreenContext
from tests.databases import sent_statements
from tests.fake_platform import end, polls
from tests.fake_service import FakeService
from tests.fakes import FakeClock
from tests.json_documents import checked

FAILED, SUCCEEDED, RUNNING = JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.RUNNING
GROUP = ("--xgroup", "resubmit_test")


def document(context: ScreenContext) -> dict[str, Any]:
    found = json.loads(context.out)
    assert isinstance(found, dict)
    return found


def test_status_has_groups_experiments_and_jobs(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, None)
    call(context, "status", *GROUP, "--json")
    [group] = document(context)["groups"]
    found = [
        (each["command_line"], each["state"], [job["id"] for job in each["jobs"]]) for each in group["experiments"]
    ]
    assert found == [("cpu.py --foo 3 --sleep 0", "FAILED", [1]), ("cpu.py --foo 3 --sleep 1", None, [])]


def test_status_counts_states_and_causes(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED, FAILED, SUCCEEDED, None)
    call(context, "status", *GROUP, "--json")
    summary = document(context)["summary"]
    states = {state: number for state, number in summary["states"].items() if number}
    assert (summary["experiments"], summary["never_run"], states) == (4, 1, {"FAILED": 2, "SUCCEEDED": 1})
    assert [each["job_ids"] for each in summary["causes"]] == [[1, 2]]


def test_no_jobs_are_a_document_too(store: Store, context: ScreenContext) -> None:
    assert call(context, "status", "--json") == 0
    assert document(context)["groups"] == []


def test_why_a_state_is_not_known_is_part_of_the_job(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    call(context, "status", *GROUP, "--json")
    [experiment] = document(context)["groups"][0]["experiments"]
    assert "no route" in experiment["jobs"][0]["refresh_error"]


def test_a_plan_has_what_is_chosen_and_what_is_left_out(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    add_group(store, FAILED, SUCCEEDED)
    call(context, "resubmit", *GROUP, "--dry_run", "--json")
    plan = document(context)
    assert [each["resubmits"]["id"] for each in plan["jobs"]] == [1]
    assert [(each["job"]["id"], each["reason"]) for each in plan["left_out"]] == [(2, "succeeded")]
    assert [each["jobs"] for each in plan["images"]] == [1]


def test_a_plan_says_why_a_job_cannot_be_submitted(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    call(context, "resubmit", *GROUP, "--dry_run", "--json")
    [job] = document(context)["jobs"]
    assert job["error"]["id"]


def test_nothing_to_resubmit_is_a_document_too(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED)
    assert call(context, "resubmit", *GROUP, "--json") == 0
    found = document(context)
    assert (found["schema"], found["jobs"], len(found["left_out"])) == ("caliban.resubmit/1", [], 1)


def test_what_would_be_stopped_has_its_group(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]))
    call(context, "stop", "--dry_run", "--json")
    assert [(each["group"], each["job"]["id"]) for each in document(context)["jobs"]] == [("resubmit_test", 1)]


def test_nothing_to_stop_is_a_document_too(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, SUCCEEDED)
    assert call(context, "stop", *GROUP, "--json") == 0
    assert document(context)["jobs"] == []


@pytest.mark.parametrize("answer", ["", "n\n", "y\n"])
def test_without_a_terminal_nobody_is_asked(
    store: Store, service: FakeService, make_context: MakeContext, answer: str
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]))
    context = make_context(answer)
    with pytest.raises(CalibanError) as caught:
        call(context, "stop", *GROUP, "--json")
    assert (caught.value.id, context.out) == ("confirmation-needed", "")


def test_abandon_lists_jobs_whose_state_is_unknown(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(unavailable=[1]))
    call(context, "abandon", *GROUP, "--dry_run", "--json")
    assert document(context)["schema"] == "caliban.abandon-plan/1"


def test_clusters_are_those_of_the_kubeconfig(context: ScreenContext, home: Path) -> None:
    (home / ".kube").mkdir()
    config = {
        "contexts": [{"name": "lab", "context": {"cluster": "c", "namespace": "ml"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://localhost:1"}}],
        "current-context": "lab",
    }
    (home / ".kube" / "config").write_text(json.dumps(config))
    call(context, "cluster", "ls", "--json")
    [found] = document(context)["contexts"]
    assert (found["name"], found["namespace"], found["is_current"]) == ("lab", "ml", True)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        (("status", "--json", "--nosuch"), "unknown-flag"),
        (("stauts", "--json"), "unknown-command"),
        (("--json",), "unknown-flag"),
        (("status", "--json=1"), "invalid-value"),
        (("status", "--max_jobs", "x", "--json"), "invalid-value"),
        (("run", "--json"), "missing-argument"),
        (("status", "--json", "--", "x"), "unexpected-argument"),
        (("resubmit", "--json"), "no-xgroup"),
        (("resubmit", "--json", "--xgroup", "nosuch"), "unknown-xgroup"),
        (("run", "--json", "--nogpu", "nosuch.py"), None),
        (("help", "--json"), "unknown-flag"),
    ],
)
def test_errors_are_documents(forked_caliban: ForkedCaliban, words: tuple[str, ...], id: str | None) -> None:
    finished = forked_caliban(*words)
    found = checked(finished.stdout)
    assert (found["schema"], found["exit_code"]) == ("caliban.error/1", finished.returncode)
    assert found["id"] == (id or found["id"])
    assert f"[{found['id']}]" in finished.stderr


def test_the_flag_of_a_script_is_not_ours(forked_caliban: ForkedCaliban) -> None:
    assert forked_caliban("run", "--nogpu", "nosuch.py", "--", "--json").stdout == ""


def test_help_is_no_document(forked_caliban: ForkedCaliban) -> None:
    assert forked_caliban("status", "--json", "--help").stdout.startswith("usage: caliban status")


def test_a_preview_has_the_experiments(forked_caliban: ForkedCaliban, cwd: Path) -> None:
    (cwd / "cpu.py").write_text("")
    config = '[{"lr": 0.1, "x": NaN}]'
    finished = forked_caliban(
        "run",
        "--nogpu",
        "--dry_run",
        "--json",
        "--experiment_config",
        "stdin",
        "cpu.py",
        stdin=config.replace(', "x": NaN', ""),
    )
    found = checked(finished.stdout)
    assert (found["schema"], [each["kwargs"] for each in found["jobs"]]) == ("caliban.submit-plan/1", [{"lr": 0.1}])


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-16", "latin-1"])
def test_a_document_is_json_whatever_the_locale(forked_caliban: ForkedCaliban, locale: str, encoding: str) -> None:
    finished = forked_caliban("version", "--json", env={"LC_ALL": locale, "PYTHONIOENCODING": encoding})
    assert checked(finished.stdout)["schema"] == "caliban.version/1"


def test_image_of_a_job_is_whole(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    call(context, "status", *GROUP, "--json")
    [experiment] = document(context)["groups"][0]["experiments"]
    assert experiment["jobs"][0]["image"] == IMAGE


def test_groups_have_the_states_of_their_experiments(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, FAILED, SUCCEEDED, None, name="night")
    call(context, "groups", "--json")
    [group] = document(context)["groups"]
    states = {state: number for state, number in group["states"].items() if number}
    assert (group["name"], group["experiments"], group["never_run"], states) == (
        "night",
        4,
        1,
        {"FAILED": 2, "SUCCEEDED": 1},
    )
    assert group["last_submitted"].endswith("Z")


def test_no_groups_are_a_document_too(context: ScreenContext) -> None:
    assert call(context, "groups", "--json") == 0
    assert document(context)["groups"] == []


def test_a_group_without_jobs_was_never_submitted(store: Store, context: ScreenContext) -> None:
    add_group(store, None)
    call(context, "groups", "--json")
    assert document(context)["groups"][0]["last_submitted"] is None


@pytest.mark.parametrize(("flags", "jobs"), [((), [3]), (("--history",), [1, 2, 3]), (("--max_jobs", "2"), [2, 3])])
def test_the_history_has_all_attempts(
    flags: tuple[str, ...], jobs: list[int], store: Store, context: ScreenContext
) -> None:
    for _ in range(3):
        add_group(store, FAILED)
    call(context, "status", *GROUP, *flags, "--json")
    [experiment] = document(context)["groups"][0]["experiments"]
    assert [job["id"] for job in experiment["jobs"]] == jobs


def test_the_flags_that_select_jobs_select_those_of_the_document(store: Store, context: ScreenContext) -> None:
    add_group(store, FAILED, SUCCEEDED, FAILED)
    call(context, "status", *GROUP, "--state", "failed", "--match", "sleep=2", "--json")
    found = document(context)
    assert [each["kwargs"] for each in found["groups"][0]["experiments"]] == [{"sleep": 2}]
    assert found["summary"]["states"]["FAILED"] == 1


def test_failures_are_counted_as_in_the_summary_for_people(
    store: Store, service: FakeService, context: ScreenContext
) -> None:
    """By exception and frame, whatever the message; by exit code where there is no exception."""
    add_group(store, FAILED, FAILED, details={"ret_code": 137})
    add_group(store, FAILED, name="other", details={"ret_code": 1})
    with store.writing() as session:
        outputs = [
            StoredOutput(job_id, b"", error=OutputError("ValueError", f"loss is nan at step {job_id}", "a.py:1"))
            for job_id in (1, 2)
        ]
        record_outputs(session, outputs, FakeClock())
    call(context, "status", "--json")
    causes = document(context)["summary"]["causes"]
    assert [(each["error_type"], each["frame"], each["text"], each["job_ids"]) for each in causes] == [
        ("ValueError", "a.py:1", "ValueError: loss is nan at step ... (a.py:1)", [1, 2]),
        (None, None, "exit code 1", [3]),
    ]


ODD = {
    "big": 10**400,
    "small": -(2**63) - 1,
    "nan": float("nan"),
    "infinite": float("-inf"),
    "half": "\ud800",
    "nul": "\x00\x1b[2J\u202e",
    "deep": json.loads("[" * 200 + "]" * 200),
    "": None,
    "--json": True,
    "schema": "caliban.error/1",
}


def test_odd_parameters_are_valid_json(store: Store, service: FakeService, context: ScreenContext) -> None:
    add_group(store, FAILED)
    with store.writing() as session:
        session.execute(text("UPDATE experiments SET kwargs = :kwargs"), {"kwargs": json.dumps(ODD)})
    call(context, "status", *GROUP, "--json")
    [experiment] = document(context)["groups"][0]["experiments"]
    found = experiment["kwargs"]
    assert (found["big"], found["small"], found["nan"], found["infinite"]) == (
        10**400,
        -(2**63) - 1,
        "NaN",
        "-Infinity",
    )
    assert (found["half"], found["nul"], found["schema"]) == ("\\ud800", "\x00\x1b[2J\u202e", "caliban.error/1")
    assert json.dumps(found["deep"]) == "[" * 39 + '"(list)"' + "]" * 39


@pytest.mark.parametrize("year", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1969-12-31 23:59:59"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_times_of_any_year_have_one_form(
    year: str, zone: str, store: Store, context: ScreenContext, time_zone: Callable[[str], None]
) -> None:
    add_group(store, FAILED)
    with store.writing() as session:
        session.execute(text("UPDATE jobs SET created = :created"), {"created": year})
    time_zone(zone)
    call(context, "status", *GROUP, "--json")
    [experiment] = document(context)["groups"][0]["experiments"]
    assert len(experiment["jobs"][0]["created"]) == len("2026-11-25T02:10:13Z")


@pytest.mark.parametrize("command", ["status", "groups"])
def test_the_number_of_statements_does_not_depend_on_that_of_jobs(
    command: str, store: Store, service: FakeService, make_context: MakeContext
) -> None:
    numbers = []
    for jobs in (1, 40):
        add_group(store, *[FAILED] * jobs)
        with sent_statements() as sent:
            assert call(make_context(), command, "--json") == 0
        numbers.append(len(sent))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize(("answer", "id"), [("y\n", None), ("n\n", "not-confirmed"), ("", "confirmation-needed")])
def test_on_a_terminal_the_question_and_what_it_is_about_are_on_standard_error(
    answer: str, id: str | None, store: Store, service: FakeService, make_context: MakeContext
) -> None:
    add_group(store, RUNNING)
    service.expect("statuses", polls(RUNNING=[1]))
    if id is None:
        service.expect("stop", end(JobStatus.STOPPED))
    terminal = make_context(answer, is_terminal=True)
    found = result_of(terminal, "stop", *GROUP, "--json")
    assert (found["schema"], found.get("id")) == ("caliban.error/1" if id else "caliban.stop/1", id)
    assert "the following jobs would be stopped:\n" in terminal.err
    assert " stop 1 job? [yN]: " in terminal.err
