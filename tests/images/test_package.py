from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban.errors import ExitCode, UsageError
from caliban.images import package
from caliban.images.package import Package


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in (
        "cpu.py",
        "run.sh",
        "tool",
        "trainer/__init__.py",
        "trainer/train.py",
        "a/b/fit.py",
        "app/__main__.py",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def failure(module: str, directory: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        Package.parse(module, directory)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("cpu.py", Package(("python",), ".", "cpu.py")),
        ("./cpu.py", Package(("python",), ".", "cpu.py")),
        ("trainer/../cpu.py", Package(("python",), ".", "cpu.py")),
        ("cpu", Package(("python", "-m"), ".", "cpu.py", "cpu")),
        ("trainer/train.py", Package(("python",), "trainer", "trainer/train.py")),
        ("trainer.train", Package(("python", "-m"), "trainer", "trainer/train.py", "trainer.train")),
        ("a/b/fit.py", Package(("python",), "a", "a/b/fit.py")),
        ("a.b.fit", Package(("python", "-m"), "a", "a/b/fit.py", "a.b.fit")),
        ("run.sh", Package(("/bin/bash",), ".", "run.sh")),
        ("tool", Package(("/bin/bash",), ".", "tool")),
        ("app", Package(("python", "-m"), "app", "app/__main__.py", "app")),
        ("app/", Package(("python", "-m"), "app", "app/__main__.py", "app")),
    ],
)
def test_module_is_interpreted_as_in_caliban_0_4_2(module: str, expected: Package, directory: Path) -> None:
    assert Package.parse(module, directory) == expected


def test_an_absolute_path_inside_the_project_is_accepted(directory: Path) -> None:
    assert Package.parse(str(directory / "cpu.py"), directory).script_path == "cpu.py"


def test_a_script_is_started_by_its_path() -> None:
    assert Package(("python",), "trainer", "trainer/train.py").command == ("python", "trainer/train.py")


def test_a_module_is_started_by_its_name() -> None:
    assert Package(("python", "-m"), "a", "a/b.py", "a.b").command == ("python", "-m", "a.b")


def test_a_module_is_shown_as_its_file() -> None:
    assert Package(("python", "-m"), "trainer", "trainer/train.py", "trainer.train").script == "trainer/train.py"


@pytest.mark.parametrize(
    ("module", "near"),
    [("cpv.py", "cpu.py"), ("trainer/trian.py", "trainer/train.py"), ("trainer.trian", "trainer.train")],
)
def test_a_misspelt_script_has_the_most_similar_one_as_a_hint(module: str, near: str, directory: Path) -> None:
    error = failure(module, directory)
    assert (error.id, error.hint) == ("module-not-found", f"did you mean {near}?")


def test_without_a_similar_script_the_hint_lists_some(directory: Path) -> None:
    assert (failure("zzzzzzzz", directory).hint or "").startswith("available: cpu.py, ")


def test_without_any_script_the_hint_has_examples(tmp_path: Path) -> None:
    assert "such as cpu.py" in (failure("zzz", tmp_path).hint or "")


@pytest.mark.parametrize("module", ["", ".", "no such.thing", "trainer..train"])
def test_what_is_neither_file_nor_module_is_not_found(module: str, directory: Path) -> None:
    assert failure(module, directory).id == "module-not-found"


def test_a_directory_without_a_main_has_a_script_in_it_as_a_hint(directory: Path) -> None:
    error = failure("trainer", directory)
    assert "without a __main__.py" in error.message
    assert "trainer/train.py" in (error.hint or "") or "trainer.train" in (error.hint or "")


@pytest.mark.parametrize("module", ["../other.py", "/etc/hosts", "../project2/cpu.py"])
def test_a_script_outside_the_project_is_an_error(module: str, directory: Path) -> None:
    assert failure(module, directory).id == "module-outside-folder"


@pytest.mark.parametrize("module", ["link.py", "linked.train"])
def test_a_link_to_a_script_outside_the_project_is_an_error(module: str, directory: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/train.py").touch()
    (directory / "link.py").symlink_to(tmp_path / "outside/train.py")
    (directory / "linked").symlink_to(tmp_path / "outside")
    assert failure(module, directory).id == "module-outside-folder"


def test_the_search_for_a_hint_ends_in_a_directory_with_many_files(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "_SCANNED_FILES", 1)
    assert "trainer/train.py" not in (failure("trainer/trian.py", directory).hint or "")


def test_an_unreadable_directory_does_not_hide_the_error(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert failure("zzz.py", directory).id == "module-not-found"


def write(directory: Path, name: str, text: str | bytes) -> str:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


@pytest.mark.parametrize(
    ("name", "text", "executable"),
    [
        ("fit", "#!/usr/bin/env python3\nimport sys\n", ("python",)),
        ("fit", "#!/usr/bin/python\n", ("python",)),
        ("fit", "#!/home/me/venv/bin/python3.11 -u\n", ("python", "-u")),
        ("fit", "#! /usr/bin/env -S python3 -X dev\r\nimport sys\r\n", ("python", "-X", "dev")),
        ("fit.cgi", "#!/usr/bin/env python3\n", ("python",)),
        ("fit.txt", "#!/usr/bin/env python3\n", ("python",)),
        ("fit.py", "#!/bin/sh\n", ("python",)),
        ("fit.PY", "", ("python",)),
        ("fit.pyz", b"#!/usr/bin/env python3\nPK\0\0", ("python",)),
        ("run", "#!/bin/bash\n", ("/bin/bash",)),
        ("run", "#!/usr/bin/env bash\n", ("/bin/bash",)),
        ("run.sh", "#!/bin/bash -e\n", ("/bin/bash", "-e")),
        ("run.sh", "#!/bin/sh\n", ("/bin/sh",)),
        ("run.sh", "#!/usr/bin/env python3\n", ("python",)),
        ("run.bash", "echo\n", ("/bin/bash",)),
        ("run", "echo hello\n", ("/bin/bash",)),
        ("fit.R", "x <- 1\n", ("Rscript",)),
        ("fit.jl", "", ("julia",)),
        ("fit", "#!/usr/bin/env Rscript\n", ("Rscript",)),
        ("fit", "#!/usr/bin/env -S uv run --script\n", ("uv", "run", "--script")),
        ("fit", "#!/opt/here/julia --project\n", ("julia", "--project")),
    ],
)
def test_a_file_is_run_by_what_its_suffix_or_first_line_names(
    tmp_path: Path, name: str, text: str, executable: tuple[str, ...]
) -> None:
    assert Package.parse(write(tmp_path, name, text), tmp_path).executable == executable


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("fit.ipynb", "{}", "jupyter nbconvert --to script fit.ipynb"),
        ("config.yaml", "a: 1\n", "such as cpu.py"),
        ("config.yml", "", "such as cpu.py"),
        ("config.json", "{}", "such as cpu.py"),
        ("pyproject.toml", "", "such as cpu.py"),
        ("requirements.txt", "six\n", "such as cpu.py"),
        ("README.md", "# fit\n", "such as cpu.py"),
        ("fit.cpp", "int main() {}\n", "such as cpu.py"),
        ("Makefile", "all:\n", "such as cpu.py"),
        ("fit", "import sys\nprint(sys.argv)\n", "#!/usr/bin/env python3"),
        ("fit", "import sys\nprint(sys.argv\n", "#!/usr/bin/env python3"),
        ("fit", b"\x7fELF\x02\x01\x01\0\0", './fit "$@"'),
        ("fit.sh", b"\x7fELF\x02\x01\x01\0\0", './fit.sh "$@"'),
        ("weights.npz", b"PK\x03\x04\0", "from a shell script"),
    ],
)
def test_a_file_that_nothing_runs_is_an_error(tmp_path: Path, name: str, text: str | bytes, hint: str) -> None:
    error = failure(write(tmp_path, name, text), tmp_path)
    assert error.id == "script-not-runnable"
    assert name in error.message
    assert hint in (error.hint or "")


@pytest.mark.parametrize("statement", ["from . import model", "from .model import NAME", "from ..lib import x as y"])
def test_a_script_with_relative_imports_has_its_module_as_a_hint(tmp_path: Path, statement: str) -> None:
    error = failure(write(tmp_path, "trainer/train.py", f"import os\n{statement}\n"), tmp_path)
    assert (error.id, error.hint) == ("script-relative-import", "run it as a module: trainer.train")
    assert statement in (error.cause or "")


@pytest.mark.parametrize(
    ("name", "hint"), [("train.py", "from model import NAME"), ("my-code/train.py", "from model import NAME")]
)
def test_relative_imports_where_there_is_no_package_have_the_absolute_one_as_a_hint(
    tmp_path: Path, name: str, hint: str
) -> None:
    error = failure(write(tmp_path, name, "from .model import NAME\n"), tmp_path)
    assert error.hint == f"remove the dots: {hint}"


@pytest.mark.parametrize(
    "source",
    [
        "import os\n",
        "try:\n    from . import model\nexcept ImportError:\n    import model\n",
        "def main():\n    from . import model\n",
        "if __package__:\n    pass\nfrom . import model\n",
        "'from . import model'\n",
        "this is not Python\n",
        "",
    ],
)
def test_a_script_whose_imports_may_work_is_run(tmp_path: Path, source: str) -> None:
    assert Package.parse(write(tmp_path, "trainer/train.py", source), tmp_path).main_module is None


def test_a_module_may_have_relative_imports(tmp_path: Path) -> None:
    write(tmp_path, "trainer/train.py", "from . import model\n")
    assert Package.parse("trainer.train", tmp_path).main_module == "trainer.train"
