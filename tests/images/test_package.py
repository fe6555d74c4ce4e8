from __future__ import annotations

import os
from pathlib import Path

import pytest

from caliban.errors import ExitCode, UsageError
from caliban.images import package
from caliban.images.package import Package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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


def failure(module: str, folder: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        Package.parse(module, folder)
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
def test_module_is_taken_as_caliban_0_4_2_takes_it(module: str, expected: Package, folder: Path) -> None:
    assert Package.parse(module, folder) == expected


def test_an_absolute_path_inside_the_folder_is_one_of_its_files(folder: Path) -> None:
    assert Package.parse(str(folder / "cpu.py"), folder).script_path == "cpu.py"


def test_a_script_is_started_by_its_path() -> None:
    assert Package(("python",), "trainer", "trainer/train.py").command == ("python", "trainer/train.py")


def test_a_module_is_started_by_its_name() -> None:
    assert Package(("python", "-m"), "a", "a/b.py", "a.b").command == ("python", "-m", "a.b")


def test_people_see_the_file_of_a_module() -> None:
    assert Package(("python", "-m"), "trainer", "trainer/train.py", "trainer.train").script == "trainer/train.py"


@pytest.mark.parametrize(
    ("module", "near"),
    [("cpv.py", "cpu.py"), ("trainer/trian.py", "trainer/train.py"), ("trainer.trian", "trainer.train")],
)
def test_a_misspelt_script_is_told_with_the_nearest_one(module: str, near: str, folder: Path) -> None:
    error = failure(module, folder)
    assert (error.id, error.hint) == ("module-not-found", f"did you mean {near}?")


def test_a_script_that_is_near_to_none_is_told_with_some_that_are_there(folder: Path) -> None:
    assert (failure("zzzzzzzz", folder).hint or "").startswith("there are: cpu.py, ")


def test_a_folder_without_any_script_is_told_with_examples(tmp_path: Path) -> None:
    assert "such as cpu.py" in (failure("zzz", tmp_path).hint or "")


@pytest.mark.parametrize("module", ["", ".", "no such.thing", "trainer..train"])
def test_what_names_neither_file_nor_module_is_not_found(module: str, folder: Path) -> None:
    assert failure(module, folder).id == "module-not-found"


def test_a_folder_without_a_main_is_told_as_such_with_a_script_in_it(folder: Path) -> None:
    error = failure("trainer", folder)
    assert "without a __main__.py" in error.message
    assert "trainer/train.py" in (error.hint or "") or "trainer.train" in (error.hint or "")


@pytest.mark.parametrize("module", ["../other.py", "/etc/hosts", "../project2/cpu.py"])
def test_a_script_outside_the_folder_is_refused(module: str, folder: Path) -> None:
    assert failure(module, folder).id == "module-outside-folder"


@pytest.mark.parametrize("module", ["link.py", "linked.train"])
def test_a_link_that_leads_out_of_the_folder_is_refused(module: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/train.py").touch()
    (folder / "link.py").symlink_to(tmp_path / "outside/train.py")
    (folder / "linked").symlink_to(tmp_path / "outside")
    assert failure(module, folder).id == "module-outside-folder"


def test_looking_for_candidates_ends_in_a_folder_of_many_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "_SCANNED_FILES", 1)
    assert "trainer/train.py" not in (failure("trainer/trian.py", folder).hint or "")


def test_a_folder_that_may_not_be_read_does_not_hide_the_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert failure("zzz.py", folder).id == "module-not-found"
