"""The schemas of the documents of ``--json``: complete, used, valid themselves, and part of what is installed."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from caliban.cli import command_table
from tests.json_documents import Schema, fields, file_of, items, parts, schemas, undescribed

CLONE = Path(__file__).resolve().parent.parent
LISTED = "\n".join(
    line
    for line in (CLONE / "docs" / "json.md").read_text(encoding="utf-8").split("\n")
    if line.startswith("| `caliban ")
)
DOCUMENTS = {
    command: set(re.findall(r"`(caliban\.[a-z-]+/\d+)`", rest))
    for command, rest in re.findall(r"^\| `caliban ([^`]+)` \|(.*)$", LISTED, re.MULTILINE)
}
"""The documents of each command, as docs/json.md lists them."""

COMMON = "common-1.json"


def commands_with_json() -> set[str]:
    found = set()
    for name, entry in command_table.BUILT_IN.items():
        parser = argparse.ArgumentParser(add_help=False)
        command_table.load(entry).add_arguments(parser)
        if any("--json" in action.option_strings for action in parser._actions):
            found.add(name)
    return found


def all_schemas(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield a schema, and all in it, with their paths."""
    yield path, schema
    for name, each in (*schema.get("properties", {}).items(), *schema.get("$defs", {}).items()):
        yield from all_schemas(each, f"{path}.{name}")
    for each in (*schema.get("anyOf", ()), *schema.get("allOf", ()), *filter(None, [schema.get("items")])):
        yield from all_schemas(each, f"{path}[]")


def test_every_command_with_json_has_its_documents_listed() -> None:
    assert set(DOCUMENTS) == commands_with_json()
    assert all(DOCUMENTS.values())


@pytest.mark.parametrize("name", ["status", "groups", "logs", "resubmit", "run", "cloud", "cluster job submit", "stop"])
def test_a_command_that_lists_or_submits_has_json(name: str) -> None:
    assert name in commands_with_json()


def test_every_listed_document_has_a_schema_and_every_schema_is_listed() -> None:
    listed = {file_of(each) for found in DOCUMENTS.values() for each in found}
    assert listed | {COMMON, "error-1.json"} == set(schemas())


def test_every_document_that_the_code_makes_is_listed_and_no_other() -> None:
    sources = (file.read_text(encoding="utf-8") for file in (CLONE / "caliban").rglob("*.py"))
    made = {name for source in sources for name in re.findall(r'"(caliban\.[a-z-]+/\d+)"', source)}
    assert made == {each for found in DOCUMENTS.values() for each in found} | {"caliban.error/1"}


@pytest.mark.parametrize("file", schemas())
def test_a_schema_is_valid_itself(file: str) -> None:
    Draft202012Validator.check_schema(schemas()[file])
    assert schemas()[file]["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("file", [name for name in schemas() if name != COMMON])
def test_a_schema_has_the_name_of_its_document(file: str) -> None:
    schema = schemas()[file]
    assert file_of(schema["title"]) == file
    assert schema["properties"]["schema"]["const"] == schema["title"]


@pytest.mark.parametrize("file", schemas())
def test_everything_in_a_schema_is_described(file: str) -> None:
    found = [
        path
        for path, schema in all_schemas(schemas()[file], file)
        if not any("description" in each or "title" in each for each in parts(schema))
        and schema != {"type": "null"}
        and not path.endswith("[]")
    ]
    assert found == []


@pytest.mark.parametrize("file", schemas())
def test_every_field_is_always_there(file: str) -> None:
    """A reader needs no default for a missing one."""
    for path, schema in all_schemas(schemas()[file], file):
        required = {name for each in parts(schema) for name in each.get("required", ())}
        assert set(fields(schema)) == required, path


@pytest.mark.parametrize("file", schemas())
def test_a_reader_of_today_accepts_the_fields_of_tomorrow(file: str) -> None:
    closed = [path for path, each in all_schemas(schemas()[file], file) if each.get("additionalProperties") is False]
    assert closed == []


@pytest.mark.parametrize("file", schemas())
def test_every_time_has_a_format(file: str) -> None:
    for path, schema in all_schemas(schemas()[file], file):
        if path.rpartition(".")[2] in ("created", "started", "ended", "time", "last_submitted"):
            assert schema.get("format") == "date-time", path


def test_every_reference_leads_somewhere() -> None:
    for file, schema in schemas().items():
        for _, each in all_schemas(schema, file):
            list(parts(each))
            items(each)


def test_every_common_part_is_used() -> None:
    used = {
        each["$ref"].rpartition("/")[2]
        for file, schema in schemas().items()
        for _, each in all_schemas(schema, file)
        if "$ref" in each
    }
    assert used == set(schemas()[COMMON]["$defs"])


def test_a_field_without_a_description_is_found() -> None:
    document = {"schema": "caliban.version/1", "exit_code": 0, "error": {"id": "x", "why": 1}, "version": None, "x": 1}
    error: Schema = {"id": "", "message": "", "cause": None, "hint": None, "why": 1}
    assert list(undescribed({**document, "error": error}, schemas()["version-1.json"])) == ["$.error.why", "$.x"]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the source archive and the wheel of caliban."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(CLONE / "caliban", source / "caliban", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CLONE / name, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    subprocess.run(command, check=True, capture_output=True)  # the wheel is built from the source archive
    return built


@pytest.mark.slow
def test_the_wheel_and_the_source_archive_have_every_schema(distribution: Path) -> None:
    [wheel], [archive] = distribution.glob("*.whl"), distribution.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = {name for name in opened.namelist() if "schemas/" in name}
    with tarfile.open(archive) as opened_archive:
        in_archive = {name.partition("/")[2] for name in opened_archive.getnames() if "schemas/" in name}
    assert in_wheel == in_archive == {f"caliban/schemas/{name}" for name in schemas()}
