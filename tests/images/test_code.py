"""What is recorded of the files that enter an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.code_record import MAX_TEXT, CodeManifest, CodeRecord
from caliban.images import code as code_module
from caliban.images.code import CodeRecorder, scan
from caliban.images.context import collect
from caliban.images.spec import BuildSpec
from caliban.input_files import open_regular as opened

from .helpers import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


def recorded(spec: BuildSpec) -> CodeRecord:
    found = scan(spec, {})
    assert found is not None
    return found


def paths(spec: BuildSpec) -> list[str]:
    return [each.path for each in recorded(spec).manifest.files]


def test_the_files_of_the_image_are_recorded_once_each(project: Project) -> None:
    project.write("requirements.txt", "attrs==1\n")  # which is copied before the code, and with it
    project.write("lib/a.py", "A = 1\n")
    assert paths(project.spec()) == ["cpu.py", "lib/a.py", "requirements.txt"]


def test_what_is_excluded_or_secret_is_not_recorded(project: Project) -> None:
    project.write(".dockerignore", "data\n")
    project.write("data/a.csv", "1\n")
    project.write(".env", "API_TOKEN=hf_abcdefghijklmnopqrstuvwx\n")
    record = recorded(project.spec())
    assert not {"data/a.csv", ".env"} & set(record.manifest.by_path)
    assert not any(b"hf_abc" in text for text in record.texts.values())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "--index-url https://mei:hunter22@example.com/simple\nattrs\n"),
        ("key.py", "KEY = 'hf_abcdefghijklmnopqrstuvwx'\n"),
        ("blob.py", "a\0b"),
        ("long.py", "#" * (MAX_TEXT + 1)),
    ],
)
def test_a_text_with_a_secret_and_what_is_no_text_or_long_is_recorded_without_its_content(
    project: Project, name: str, text: str
) -> None:
    project.write(name, text)
    record = recorded(project.spec())
    assert record.manifest.by_path[name].sha256 not in record.texts


def test_a_file_that_was_included_despite_its_credentials_is_recorded_without_its_content(project: Project) -> None:
    project.write(".calibanconfig.json", '{"include_credentials": ["conf"]}')
    project.write("conf/.env", "USER=mei\n")
    record = recorded(project.spec())
    assert record.manifest.by_path["conf/.env"].sha256 not in record.texts


def test_the_texts_of_a_build_are_kept_up_to_a_limit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "MAX_TEXTS", 20)
    for name in "abcd":
        project.write(f"{name}.py", f"{name} = 1234\n")
    assert sum(map(len, recorded(project.spec()).texts.values())) <= 20


def test_a_project_with_too_many_files_is_not_recorded(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "MAX_FILES", 1)
    project.write("other.py", "")
    assert scan(project.spec(), {}) is None


def test_a_project_that_takes_long_to_read_is_not_compared(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "MAX_SCANNED", 3)
    assert scan(project.spec(), {}) is None


def test_a_build_and_a_plan_record_the_same(project: Project) -> None:
    (project.directory / "link").symlink_to("cpu.py")
    spec = project.spec()
    recorder = CodeRecorder(spec)
    list(collect(spec, "FROM x\n", {}).stream(lambda _: None, recorder))
    assert recorder.record == scan(spec, {})


def test_what_was_not_sent_to_its_end_is_not_recorded(project: Project) -> None:
    recorder = CodeRecorder(project.spec())
    next(collect(project.spec(), "FROM x\n", {}).stream(lambda _: None, recorder), None)
    stream = collect(project.spec(), "FROM x\n", {})._pieces(lambda _: None, recorder)
    next(stream)
    assert recorder.record is None


def test_each_file_is_read_once_for_the_build_and_its_record(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = project.spec()
    context = collect(spec, "FROM x\n", {})
    read: list[str] = []

    def counted(path: Path, **how: bool) -> object:
        read.append(path.name)
        return opened(path, **how)

    monkeypatch.setattr("caliban.images.context_stream.open_regular", counted)
    list(context.stream(lambda _: None, CodeRecorder(spec)))
    assert read == ["cpu.py"]


def test_the_directory_of_a_project_does_not_change_its_manifest(project: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "moved", "base:1")
    other.write("cpu.py", "print()\n")
    assert recorded(other.spec()).manifest.sha256 == recorded(project.spec()).manifest.sha256


@pytest.mark.parametrize("change", ["base_image", "mode", "executable", "requirements"])
def test_whatever_enters_the_image_changes_the_manifest(project: Project, change: str) -> None:
    before = recorded(project.spec()).manifest
    if change == "executable":
        (project.directory / "cpu.py").chmod(0o755)
    elif change == "requirements":
        project.write("requirements.txt", "attrs\n")
    else:
        key, value = ("base_image", "other:2") if change == "base_image" else ("default_mode", "GPU")
        project.write(".calibanconfig.json", f'{{"{key}": "{value}"}}')
    assert recorded(project.spec()).manifest.sha256 != before.sha256


def test_a_manifest_is_read_as_it_was_written(project: Project) -> None:
    manifest = recorded(project.spec()).manifest
    assert CodeManifest.parse(manifest.content) == manifest


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": [[1]], "settings": {}}', b"[" * 100_000, b"\xff"])
def test_a_damaged_manifest_is_none(content: bytes) -> None:
    assert CodeManifest.parse(content) is None
