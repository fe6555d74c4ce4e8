"""Whatever a project's directory or a command line has, a command ends soon, with an error that says what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from caliban import input_files, jsonc
from caliban.config import CONFIG_FILE, load_config
from caliban.errors import CalibanError, ImageError, UsageError
from caliban.images import context as context_module
from caliban.images.context import collect
from caliban.images.package import Package
from caliban.images.requirements import read_requirements
from caliban.images.secret_finder import SecretFinder
from caliban.images.spec import BuildSpec
from caliban.platforms.registry import secret_files
from caliban.records import JobMode
from caliban.submission.experiments import parse_experiments
from tests.calls import call
from tests.conftest import ScreenContext
from tests.sampling import examples
from tests.sockets import make_socket

DRY_RUN = ("run", "--nogpu", "--dry_run")


@pytest.fixture
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("print()\n")
    return cwd


def spec_of(project: Path, module: str = "cpu.py", extra_dirs: tuple[str, ...] = ()) -> BuildSpec:
    package, config = Package.parse(module, project), load_config(project)
    return BuildSpec.detect(project, package, job_mode=JobMode.CPU, config=config, extra_dirs=extra_dirs)


def build(project: Path, module: str = "cpu.py", extra_dirs: tuple[str, ...] = ()) -> list[str]:
    """Collect and send the build context; return the names in it."""
    context = collect(spec_of(project, module, extra_dirs), "FROM x\n", {}, secret_files())
    for _ in context.stream(lambda _: None):
        pass
    return [file.name for file in context.files]


def failure(project: Path, module: str = "cpu.py", extra_dirs: tuple[str, ...] = ()) -> CalibanError:
    with pytest.raises(CalibanError) as caught:
        build(project, module, extra_dirs)
    assert caught.value.hint
    assert len(caught.value.message) < 1000
    return caught.value


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "directory": (Path.mkdir, "it is a directory"),
    "pipe": (os.mkfifo, "it is a named pipe"),
    "socket": (make_socket, "it is a socket"),
    "endless device": (lambda path: path.symlink_to("/dev/zero"), "it is a character device"),
    "terminal": (lambda path: path.symlink_to("/dev/tty"), "it is a character device"),
    "loop": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "broken link": (lambda path: path.symlink_to("nowhere"), "it is a link to a file that does not exist"),
}
FILES = {
    CONFIG_FILE: "config-unreadable",
    "requirements.txt": "project-unreadable",
    "environment.yml": "project-unreadable",
    "setup.py": "project-unreadable",
    "pyproject.toml": "project-unreadable",
    ".dockerignore": "context-unreadable",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_an_error(project: Path, name: str, kind: str) -> None:
    make, cause = KINDS[kind]
    make(project / name)
    error = failure(project)
    assert (error.id, error.cause) == (FILES[name], cause)


@pytest.mark.parametrize("kind", KINDS)
def test_an_experiment_file_that_is_no_file_is_an_error(project: Path, context: ScreenContext, kind: str) -> None:
    make, cause = KINDS[kind]
    make(project / "e.json")
    with pytest.raises(UsageError) as caught:
        call(context, *DRY_RUN, "--experiment_config", "e.json", "cpu.py")
    assert (caught.value.id, caught.value.cause) == ("no-experiment-config", cause)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_not_read_as_a_part_of_the_code(project: Path, kind: str) -> None:
    KINDS[kind][0](project / "odd")
    assert set(build(project)) <= {"code", "code/.", "code/cpu.py", "code/odd"}


@pytest.mark.parametrize(
    "name", ["x" * 300, "x/" * 3000 + "y", "a\0b", "\ud800", "loop", "loop/x", "cpu.py/x", "a." * 30_000, "../" * 2000]
)
def test_a_module_that_no_file_can_be_is_an_error(project: Path, name: str) -> None:
    (project / "loop").symlink_to("loop")
    assert failure(project, name).id in ("module-not-found", "module-outside-folder")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000 + "y", "a\0b", "loop", "loop/x", "cpu.py"])
def test_an_extra_directory_that_no_directory_can_be_is_an_error(project: Path, name: str) -> None:
    (project / "loop").symlink_to("loop")
    assert failure(project, extra_dirs=(name,)).id in ("extra-dir-outside-folder", "extra-dir-not-found")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "loop", "cpu.py/x"])
@pytest.mark.parametrize("flag", ["--experiment_config", "--cloud_key"])
def test_a_path_on_the_command_line_that_no_file_can_be_is_an_error(
    project: Path, context: ScreenContext, flag: str, name: str
) -> None:
    (project / "loop").symlink_to("loop")
    with pytest.raises(UsageError) as caught:
        call(context, *DRY_RUN, flag, name, "cpu.py")
    assert (bool(caught.value.cause or caught.value.hint), len(caught.value.message) < 400) == (True, True)


@pytest.mark.parametrize(
    "words",
    [
        ("x" * 120_000,),
        ("run", "--" + "x" * 120_000, "cpu.py"),
        ("run", "x" * 120_000, "cpu.py"),
        ("run", *(["x" * 100] * 1000), "cpu.py"),
        ("run", *(f"--x{number}" for number in range(1000)), "cpu.py"),
        ("run", "--nogpu=" + "x" * 120_000, "cpu.py"),
        ("cloud", "--platform", "x" * 120_000, "cpu.py"),
        ("status", "--max_jobs", "9" * 120_000),
        ("build", "a\0b"),
        ("build", "\ud800"),
        ("build", os.fsdecode(b"latin-\xe9")),
    ],
    ids=lambda words: words[0][:10],
)
def test_an_error_about_huge_or_odd_arguments_is_short(context: ScreenContext, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        call(context, *words)
    error = caught.value
    assert len(error.message) + len(error.cause or "") + len(error.hint or "") < 12_000


def test_blank_lines_of_requirements_take_no_time(project: Path) -> None:
    """A pattern over the whole file would need time with the square of the number of lines."""
    (project / "requirements.txt").write_text("\n" * 300_000 + " " * 300_000 + "\n-r more.txt\n" + "-r" + " " * 300_000)
    (project / "more.txt").write_text("")
    assert "requirements/more.txt" in build(project)


def test_blank_lines_of_pyproject_take_no_time(project: Path) -> None:
    (project / "pyproject.toml").write_text("\n" * 300_000 + "  [ project ]  # here\n")
    assert spec_of(project).setup_extras == ("cpu",)


def test_many_requirement_files_are_each_read_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "requirements.txt").write_text("".join(f"-r r{number}.txt\n" for number in range(300)) * 3)
    for number in range(300):
        (project / f"r{number}.txt").write_text("-r requirements.txt\n-c r0.txt\n-r " + "x" * 5000 + "\n-r a\0b\n")
    counted: list[object] = []
    read = input_files.read_bytes

    def count(path: input_files.AnyPath, **limits: int) -> bytes:
        counted.append(path)
        return read(path, **limits)

    monkeypatch.setattr(input_files, "read_bytes", count)
    assert len(read_requirements(project, "requirements.txt").files) == len(counted) == 301


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_requirements_are_decoded_as_by_pip(project: Path, encoding: str) -> None:
    (project / "requirements.txt").write_text("-r more.txt\r\n", encoding=encoding)
    (project / "more.txt").write_text("")
    assert "requirements/more.txt" in build(project)


@pytest.mark.parametrize(
    "name", ["requirements.txt", "environment.yml", "pyproject.toml", CONFIG_FILE, ".dockerignore"]
)
def test_a_file_that_is_too_large_is_an_error(project: Path, name: str) -> None:
    with (project / name).open("wb") as file:
        file.truncate(10 * 1024**3)
    assert (failure(project).cause or "").startswith("larger than")


def test_a_setup_script_and_data_of_any_size_are_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("setup.py", "data.bin"):
        with (project / name).open("wb") as file:
            file.truncate(10 * 1024**4)
    context = collect(spec_of(project), "FROM x\n", {}, secret_files())
    assert context.size > 20 * 1024**4


def test_a_project_with_too_many_files_is_an_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "MAX_ENTRIES", 50)
    for number in range(100):
        (project / f"{number}").touch()
    error = failure(project)
    assert (error.id, ".dockerignore" in (error.hint or "")) == ("too-many-files", True)


def test_what_dockerignore_excludes_is_not_counted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_module, "MAX_ENTRIES", 50)
    (project / "data").mkdir()
    for number in range(100):
        (project / "data" / f"{number}").touch()
    (project / ".dockerignore").write_text("data\n")
    assert "code/cpu.py" in build(project)


def test_a_suggestion_reads_no_more_than_some_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (project / f"a{number:02}.py").touch()
    monkeypatch.setattr("caliban.images.package._SCANNED_FILES", 5)
    assert len((failure(project, "nothing.here").hint or "").split(", ")) <= 5


@pytest.mark.slow
def test_directories_may_be_deeper_than_functions_can_call(project: Path) -> None:
    deep = project
    for _ in range(1200):
        deep /= "d"
        deep.mkdir()
    try:
        assert len(build(project)) > 1200
    finally:
        for directory in (deep, *islice(deep.parents, 1199)):
            directory.rmdir()


def test_a_path_that_is_too_long_to_be_opened_is_an_error(project: Path) -> None:
    here = Path.cwd()
    try:
        os.chdir(project)
        for _ in range(25):
            Path("d" * 200).mkdir()
            os.chdir("d" * 200)
    finally:
        os.chdir(here)
    error = failure(project)
    assert (error.id, error.cause) == ("context-unreadable", "File name too long")


def test_links_that_form_loops_are_copied_as_links(project: Path) -> None:
    (project / "here").symlink_to(".")
    (project / "a").symlink_to("b")
    (project / "b").symlink_to("a")
    assert {"code/here", "code/a", "code/b"} <= set(build(project))


@pytest.mark.parametrize("when", ["collecting", "sending"])
def test_a_file_that_vanishes_is_an_error_that_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (project / "gone").write_text("x")
    find = SecretFinder.find_file

    def remove(self: SecretFinder, path: Path, source: str) -> str | None:
        if when == "collecting" and source == "gone":
            path.unlink()
        return find(self, path, source)

    monkeypatch.setattr(SecretFinder, "find_file", remove)

    def remove_and_send() -> None:
        context = collect(spec_of(project), "FROM x\n", {}, secret_files())
        (project / "gone").unlink()
        list(context.stream(lambda _: None))

    with pytest.raises(ImageError) as caught:
        remove_and_send()
    assert caught.value.id == "context-unreadable"
    assert "removed while" in (caught.value.cause or "")
    assert "run the command again" in (caught.value.hint or "")


@pytest.mark.parametrize("replacement", ["link", "pipe", "directory"])
def test_a_file_that_is_replaced_before_it_is_sent_carries_nothing_else(
    project: Path, tmp_path: Path, replacement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / "data"
    path.write_text("harmless")
    (tmp_path / "secret").write_text("a secret")
    context = collect(spec_of(project), "FROM x\n", {}, secret_files())
    check = Path.lstat

    def replace(self: Path) -> os.stat_result:
        found = check(self)
        if self == path:
            path.unlink()
            make: dict[str, Callable[[], object]] = {
                "link": lambda: path.symlink_to(tmp_path / "secret"),
                "pipe": lambda: os.mkfifo(path),
                "directory": path.mkdir,
            }
            make[replacement]()
        return found

    monkeypatch.setattr(Path, "lstat", replace)
    with pytest.raises(ImageError) as caught:
        list(context.stream(lambda _: None))
    assert caught.value.id == "context-changed"


def test_a_file_that_grows_is_sent_as_it_was_collected(project: Path) -> None:
    (project / "log").write_text("x")
    context = collect(spec_of(project), "FROM x\n", {}, secret_files())
    (project / "log").write_text("x" * 10_000)
    assert len(b"".join(context.stream(lambda _: None))) < 20_000


def test_a_permission_error_names_the_file(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "data").write_text("x")
    opened = os.open

    def refuse(path: object, *args: int) -> int:
        if str(path).endswith("data"):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    error = failure(project)
    assert (error.id, error.cause) == ("context-unreadable", "Permission denied")
    assert str(project / "data") in error.message


# The decoders of project files, with any content. The first argument of each is a directory with cpu.py.
DECODERS: dict[str, Callable[[Path, bytes], object]] = {
    "experiment.json": lambda project, content: parse_experiments(content.decode(errors="replace"), source="e.json"),
    **{
        name: lambda project, content, name=name: (  # type: ignore[misc]
            (project / name).write_bytes(content),
            build(project),
        )
        for name in FILES
    },
    "key": lambda project, content: ((project / "credentials.json").write_bytes(content), build(project)),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["cpu", "[a,b]"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["base_image", "apt_packages", "cpu", "[a,b]", "include_credentials"]) | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            b"{",
            b"}",
            b"[",
            b"]",
            b'"',
            b"'",
            b"\\",
            b"/*",
            b"*/",
            b"//",
            b"#",
            b",",
            b":",
            b"\n",
            b"\r\n",
            b"\0",
            b"-r ",
            b"!",
            b"**/",
            b"*",
            b"..",
            b"/",
            b"[project]",
            b"1e999",
            b"NaN",
            b"\xff",
            b"\xef\xbb\xbf",
            b"\xff\xfe",
            b"\\ud800",
            b"\\u0000",
            b"-----BEGIN PRIVATE KEY-----\n",
            b"QUJD" * 20,
            b"password: ",
            b"a",
            b"cpu.py",
            b"more.txt",
            b" ",
        ]
    ),
    max_size=20,
).map(b"".join)
CONTENTS = st.binary(max_size=60) | FRAGMENTS | JSON.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=CONTENTS)
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 100_000)
@example(content=b"1" * 100_000)
@example(content=b'{"a": "' + b"\\" * 60_000)
@example(content=b"/*" * 30_000)
@example(content=b"\n" * 60_000)
@example(content=b"**/" * 20_000)
@example(content=b"\xff\xfe" * 1000)
def test_any_content_of_a_project_file_is_used_or_an_error_with_a_hint(
    project: Path, name: str, content: bytes
) -> None:
    (project / "more.txt").write_bytes(b"")
    try:
        DECODERS[name](project, content)
    except CalibanError as error:
        assert error.hint  # noqa: PT017 - success is correct, too
        assert len(error.message) + len(error.cause or "") < 2000  # noqa: PT017
    finally:
        for each in project.iterdir():
            if each.name != "cpu.py":
                each.unlink()


@settings(max_examples=examples(300))
@given(CONTENTS.map(lambda content: content.decode(errors="replace")))
def test_any_text_is_json_or_an_error_with_a_hint(text: str) -> None:
    try:
        jsonc.loads(text, source="x")
    except UsageError as error:
        assert (error.id, bool(error.hint)) == ("malformed-json", True)  # noqa: PT017
