"""What is probably in an image by accident is named once, with sizes and the lines that leave it out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caliban.images import accidental
from caliban.images import context_warnings as context_warnings_module
from caliban.images.accidental import LARGE, MANY_FILES, NOTICEABLE, human
from caliban.images.context import collect
from caliban.images.context_warnings import context_warnings
from caliban.images.spec import BuildSpec

from .helpers import Project

Fill = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


@pytest.fixture
def fill(project: Project) -> Fill:
    """Make a file of a size that takes no space on the disk."""

    def fill(name: str, size: int = 0) -> Path:
        path = project.write(name, "")
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return fill


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Collect the paths that this thread opens meanwhile."""
    opened: list[str] = []
    is_over = False

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not is_over:
            opened.append(str(arguments[0]))

    sys.addaudithook(hook)
    yield opened
    is_over = True


def warnings(spec: BuildSpec) -> list[str]:
    return collect(spec, "FROM x\n", {}).warnings()


@pytest.mark.parametrize(
    ("name", "marker", "what"),
    [
        (".venv", "lib/big.so", "a virtual environment"),
        ("venv", "lib/big.so", "a virtual environment"),
        ("my-env", "pyvenv.cfg", "a virtual environment"),
        ("tools/conda", "conda-meta/history", "a virtual environment"),
        ("web/node_modules", "x/index.js", "packages of Node.js"),
        (".mypy_cache", "x.json", "a cache"),
        ("wandb", "run-1/x.log", "records of earlier runs"),
    ],
)
def test_what_no_image_needs_is_named_with_its_size(
    project: Project, fill: Fill, name: str, marker: str, what: str
) -> None:
    fill(f"{name}/{marker}")
    fill(f"{name}/deep/er/x.bin", NOTICEABLE)
    (warning,) = warnings(project.spec())
    assert warning == (
        f"the build context is 10 MB, with {name} (10 MB, {what}); if the job does not need it, add this line to "
        f'.dockerignore: "{name}"'
    )


@pytest.mark.parametrize("name", [".git", "lib/__pycache__"])
def test_what_is_left_out_unless_it_is_included_is_named_when_it_is(project: Project, fill: Fill, name: str) -> None:
    fill(f"{name}/x.bin", NOTICEABLE)
    assert warnings(project.spec()) == []
    project.write(".dockerignore", f"!{name}\n")
    assert len(warnings(project.spec())) == 1


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"data/a.csv": 0.6, "data/b.csv": 0.6}, ["data"]),
        ({"data/raw/a.csv": 0.6, "data/raw/b.csv": 0.6, "data/readme.md": 0}, ["data/raw"]),
        ({"weights/model.pt": 1.5}, ["weights/model.pt"]),
        ({"model.ckpt": 1, "data/x": 2}, ["data/x", "model.ckpt"]),
        ({"a/x": 1, "a/y": 1, "b/x": 1, ".venv/x": 1}, ["a", ".venv", "b/x"]),
        ({f"part{number}/x": 0.4 for number in range(5)}, []),
    ],
)
def test_what_is_large_is_named_where_it_is(
    project: Project, fill: Fill, files: dict[str, float], named: list[str]
) -> None:
    for name, size in files.items():
        fill(name, int(size * LARGE))
    found = accidental.accidents(collect(project.spec(), "", {}).files, "cpu.py")
    assert [each.path for each in found] == named


def test_the_directory_of_the_script_is_never_named(project: Project, fill: Fill) -> None:
    project.write("trainer/train.py", "")
    fill("trainer/data/a", LARGE)
    fill("trainer/data/b", LARGE)
    (warning,) = warnings(project.spec("trainer.train"))
    assert warning.endswith('add this line to .dockerignore: "trainer/data"')


@pytest.mark.parametrize(
    ("name", "size"), [(".venv/x", NOTICEABLE - 1), ("data/x", LARGE - 1), ("wandb/x", 0), ("cpu.py", 2 * LARGE)]
)
def test_small_projects_hear_nothing(project: Project, fill: Fill, name: str, size: int) -> None:
    fill(name, size)
    assert warnings(project.spec()) == []


def test_many_small_files_are_named(project: Project, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accidental, "MANY_FILES", 5)
    for number in range(5):
        fill(f"node_modules/{number}/x.js")
    assert len(warnings(project.spec())) == 1
    assert MANY_FILES > 1000


ODD = [".venv", "data [1]", "#data", "!data", "a*b", "back\\slash", "a{1}", "x^y", "a|b", "daté"]


@pytest.mark.parametrize("name", ODD)
def test_the_line_leaves_out_what_it_was_given_for_and_nothing_else(project: Project, fill: Fill, name: str) -> None:
    fill(f"{name}/x", 2 * LARGE)
    fill(f"{name}/y", 2 * LARGE)
    fill("other/x")
    files = collect(project.spec(), "", {}).files
    (found,) = accidental.accidents(files, "cpu.py")
    project.write(".dockerignore", f"{found.ignore_line}\n")
    left = {file.source for file in files} - {file.source for file in collect(project.spec(), "", {}).files}
    assert (left, warnings(project.spec())) == ({name, f"{name}/x", f"{name}/y"}, [])


def test_an_extra_directory_is_counted_once(project: Project, fill: Fill) -> None:
    fill("data/x", LARGE)
    fill("data/y", LARGE)
    (warning,) = warnings(project.spec(extra_dirs=("data",)))
    assert "data (200 MB)" in warning


def test_more_than_can_be_shown_is_counted(project: Project, fill: Fill) -> None:
    for number in range(12):
        fill(f"{number}.bin", LARGE)
    (warning,) = warnings(project.spec())
    assert " and 4 more; " in warning


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (1_500_000, "2 MB"), (12_300_000_000, "12.3 GB")])
def test_sizes_have_units(size: int, text: str) -> None:
    assert human(size) == text


@pytest.mark.parametrize(
    "target", ["{outside}/data", "../outside/data", "{project}/real", "../project/real", "left-out"]
)
def test_a_link_that_leads_nowhere_in_the_image_is_named(project: Project, tmp_path: Path, target: str) -> None:
    (tmp_path / "outside" / "data").mkdir(parents=True)
    project.write("real", "")
    project.write("left-out", "")
    project.write(".dockerignore", "left-out\n")
    link = target.format(outside=tmp_path / "outside", project=project.directory)
    (project.directory / "link").symlink_to(link)
    (warning,) = warnings(project.spec())
    assert warning.startswith("this link leads to nothing in the image, which has files of the project only: link -> ")
    assert f"link -> {link};" in warning


@pytest.mark.parametrize("target", ["real", "sub/real", "sub/../real", ".", "nowhere", "/usr/bin/env", "/dev/null"])
def test_a_link_that_works_in_the_image_or_nowhere_is_not_named(project: Project, target: str) -> None:
    project.write("real", "")
    project.write("sub/real", "")
    (project.directory / "link").symlink_to(target)
    assert warnings(project.spec()) == []


def test_links_of_a_virtual_environment_are_not_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "python3").touch()
    project.write(".venv/bin/x", "")
    (project.directory / ".venv/bin/python").symlink_to(tmp_path / "python3")
    assert warnings(project.spec()) == []


def test_a_link_out_of_the_package_is_named(project: Project) -> None:
    project.write("common/x.py", "")
    project.write("trainer/train.py", "")
    (project.directory / "trainer" / "common").symlink_to("../common")
    (warning,) = warnings(project.spec("trainer.train"))
    assert "trainer/common -> ../common" in warning
    assert warnings(project.spec("trainer.train", extra_dirs=("common",))) == []


def test_a_dry_run_reads_no_file(project: Project, fill: Fill) -> None:
    fill("data/x", LARGE).chmod(0)
    spec = project.spec()
    with opened_files() as opened:
        (warning,) = context_warnings(spec)
    assert warning.startswith("the build context is 100 MB, with data/x")
    assert not [path for path in opened if path.startswith(str(project.directory)) and path.endswith(("/x", ".py"))]


def test_a_dry_run_looks_at_a_limited_number_of_files(
    project: Project, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_warnings_module, "MAX_ENTRIES", 5)
    for number in range(10):
        fill(f"{number}")
    assert context_warnings(project.spec()) == [
        "the build context has more than 5 files; their sizes are not looked at in a dry run"
    ]


def test_a_dry_run_says_why_the_image_could_not_be_built(project: Project) -> None:
    project.write(".dockerignore", "[\n")
    assert context_warnings(project.spec()) == ['invalid pattern in .dockerignore: "["']
