"""docs/json.md: its examples are documents. The jq expressions of all pages answer what they are for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from caliban.outputs.stored import StoredOutput
from caliban.records import JobStatus, OutputError, OutputLine
from caliban.store.database import Store
from caliban.store.job_logs import record_outputs
from caliban.store.models import JobRow
from tests.builders import add_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeClock
from tests.json_documents import Schema, fields, file_of, fitting, items, schemas, validator

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "json.md").read_text(encoding="utf-8")
JQ_PAGES = PAGE + (DOCS / "resubmit.md").read_text(encoding="utf-8")
JQ = re.findall(r"^(caliban [^|\n]+--json) \| jq (-\w) '([^']+)'$", JQ_PAGES, re.MULTILINE)
ELIDED = {"...": True}


def examples() -> Iterator[tuple[str, Any, Schema]]:
    """Yield the heading, the value and the schema of each example."""
    parts = schemas()["common-1.json"]["$defs"]
    for section in PAGE.split("\n### ")[1:]:
        heading = section.partition("\n")[0]
        schema = schemas()[file_of(heading)] if "/" in heading else parts[heading]
        for text in re.findall(r"^```json\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            yield heading, json.loads(text.replace("{...}", '{"...": true}')), schema


EXAMPLES = list(examples())


def wrong(value: object, schema: Schema, path: str = "$") -> Iterator[str]:
    """Yield what is wrong with an example, in which objects may be elided."""
    if value == ELIDED:
        if not validator({"type": schema.get("type", "object")}).is_valid(value):
            yield f"{path}: not an object"
        return
    if not isinstance(value, dict | list):
        yield from (f"{path}: {error.message}" for error in validator(schema).iter_errors(value))
        return
    schema = schema if isinstance(value, list) else fitting(schema, value)
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from wrong(each, items(schema) or {}, f"{path}[{number}]")
        return
    known = fields(schema)
    if known and set(known) != set(value):
        yield f"{path}: {sorted(set(known) ^ set(value))}"
    for name in set(known) & set(value):
        yield from wrong(value[name], known[name], f"{path}.{name}")


@pytest.mark.parametrize(
    ("heading", "value", "schema"), EXAMPLES, ids=lambda each: each if isinstance(each, str) else ""
)
def test_an_example_is_as_the_schema_says(heading: str, value: Any, schema: Schema) -> None:
    assert list(wrong(value, schema)) == []


def test_every_document_has_an_example() -> None:
    documents = {schema["title"] for name, schema in schemas().items() if name != "common-1.json"}
    assert documents <= {heading for heading, _, _ in EXAMPLES}


def jobs(document: Any) -> Iterator[Any]:
    for group in document["groups"]:
        for experiment in group["experiments"]:
            yield from experiment["jobs"]


def csv(*values: object) -> str:
    return ",".join(f'"{each}"' if isinstance(each, str) else "" if each is None else str(each) for each in values)


ANSWERS: dict[str, Callable[[Any], list[str]]] = {
    '.groups[].experiments[].jobs[] | select(.state == "FAILED") | "\\(.id) \\(.cause) \\(.reason)"': lambda document: [
        f"{job['id']} {job['cause']} {job['reason']}" for job in jobs(document) if job["state"] == "FAILED"
    ],
    '.summary.causes[] | "\\(.job_ids | length) \\(.cause) \\(.text)"': lambda document: [
        f"{len(each['job_ids'])} {each['cause']} {each['text']}" for each in document["summary"]["causes"]
    ],
    '.groups[].experiments[] | select(.jobs[-1].cause == "code_error") '
    "| [.kwargs.lr, .kwargs.seed, .jobs[-1].error.message] | @csv": lambda document: [
        csv(each["kwargs"].get("lr"), each["kwargs"].get("seed"), (each["jobs"][-1]["error"] or {}).get("message"))
        for group in document["groups"]
        for each in group["experiments"]
        if each["jobs"] and each["jobs"][-1]["cause"] == "code_error"
    ],
    ".jobs[] | [.job.id, .job.state, .error.id]": lambda document: [
        json.dumps(
            [(each["job"] or {}).get("id"), (each["job"] or {}).get("state"), (each["error"] or {}).get("id")],
            separators=(",", ":"),
        )
        for each in document["jobs"]
    ],
    '.lines[] | "\\(.job): \\(.text)"': lambda document: [
        f"{each['job']}: {each['text']}" for each in document["lines"]
    ],
    '.left_out[] | "\\(.experiment.id) \\(.reason)"': lambda document: [
        f"{each['experiment']['id']} {each['reason']}" for each in document["left_out"]
    ],
    '.jobs[] | select(.job.state != "SUCCEEDED") | "\\(.experiment.id) \\(.job.cause)"': lambda document: [
        f"{each['experiment']['id']} {(each['job'] or {'cause': None})['cause'] or 'null'}"
        for each in document["jobs"]
        if each["job"] is None or each["job"]["state"] != "SUCCEEDED"
    ],
}
"""Each expression of the pages, in Python."""


def answer(flag: str, expression: str, text: str) -> list[str]:
    """What jq prints; where it is not installed, what it would print."""
    if shutil.which("jq") is None:
        return ANSWERS[expression](json.loads(text))
    done = subprocess.run(["jq", flag, expression], input=text, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_expression_of_the_pages_is_tested() -> None:
    assert {expression for _, _, expression in JQ} == set(ANSWERS)
    assert JQ_PAGES.count("| jq -") == len(JQ)


@pytest.fixture
def night(store: Store, logging: FakeService) -> Store:
    """A group with four failures, and other experiments."""
    failed, succeeded = JobStatus.FAILED, JobStatus.SUCCEEDED
    add_group(store, failed, succeeded, failed, failed, failed, None, name="night")
    details = {1: {"ret_code": 1}, 3: {"ret_code": 1}, 4: {"ret_code": 137, "reason": "OOMKilled"}, 5: {"error": "no"}}
    with store.writing() as session:
        for job_id, found in details.items():
            session.execute(update(JobRow).where(JobRow.id == job_id).values(details=found))
        errors = {1: OutputError("ValueError", "loss is nan at step 17", "train.py:41"), 3: None, 4: None}
        outputs = [StoredOutput(job_id, b"x", error=error) for job_id, error in errors.items()]
        record_outputs(session, outputs, FakeClock())
    return store


FIRST = JQ[0][2]


def test_which_jobs_failed_and_why_is_one_short_expression(night: Store, context: ScreenContext) -> None:
    call(context, "status", "--xgroup", "night", "--json")
    assert len(FIRST) < 100
    assert answer("-r", FIRST, context.out) == [
        "1 code_error exit code 1: ValueError: loss is nan at step 17",
        "3 code_error exit code 1",
        "4 code_error exit code 137 (SIGKILL): OOMKilled",
        "5 refused no",
    ]


@pytest.mark.parametrize(("command", "flag", "expression"), JQ, ids=lambda each: each[:30])
def test_jq_reads_the_documents(
    command: str, flag: str, expression: str, night: Store, logging: FakeService, context: ScreenContext
) -> None:
    words = command.split()[1:]
    if words[0] == "logs":
        logging.expect("logs", *(lambda job, request: [OutputLine(b"x\n")] for _ in range(3)))
    try:
        call(context, *words)
    finally:
        found = answer(flag, expression, context.out)
    assert found == ANSWERS[expression](json.loads(context.out))
    assert found
