from __future__ import annotations

from pathlib import Path

import pytest

from caliban.images.requirements import Requirements, read_requirements


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in (
        "requirements/base.txt",
        "my file.txt",
        "limits.txt",
        "wheels/a-1-py3-none-any.whl",
        "wheels/index.html",
        "wheels/notes.md",
        "requirements/wheels/b-1.tar.gz",
        "libs/common/setup.py",
        "setup.py",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.txt").touch()
    return root


def read(root: Path, text: str | bytes) -> Requirements:
    (root / "requirements.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_requirements(root, "requirements.txt")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("-r requirements/base.txt", "requirements/base.txt"),
        ("-rrequirements/base.txt", "requirements/base.txt"),
        ("--requirement requirements/base.txt", "requirements/base.txt"),
        ("--requirement=requirements/base.txt", "requirements/base.txt"),
        ("  -r   requirements/base.txt  # the base", "requirements/base.txt"),
        ("-r \\\nrequirements/base.txt", "requirements/base.txt"),
        ("-r 'my file.txt'", "my file.txt"),
        ("-r file:requirements/base.txt", "requirements/base.txt"),
        ("-c limits.txt", "limits.txt"),
        ("--constraint=limits.txt", "limits.txt"),
        ("--pre -r limits.txt", "limits.txt"),
        ("\ufeff-r limits.txt", "limits.txt"),
        ("-r limits.txt\r\nsix\r\n", "limits.txt"),
        ("-r ./requirements/../limits.txt", "limits.txt"),
    ],
)
def test_files_that_a_requirements_file_names_are_found(root: Path, text: str, name: str) -> None:
    assert read(root, text).files == ["requirements.txt", name]


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_names_the_codec(root: Path, codec: str) -> None:
    assert read(root, "-r limits.txt\n".encode(codec)).files == ["requirements.txt", "limits.txt"]


@pytest.mark.parametrize(
    "text",
    ["# -r limits.txt", "six # -r limits.txt", "# comment \\\n# -r limits.txt", "-r none.txt", "-r https://h/x.txt"],
)
def test_what_is_no_file_of_the_project_is_left_to_pip(root: Path, text: str) -> None:
    assert read(root, text).files == ["requirements.txt"]


def test_nested_paths_are_relative_to_the_file_that_has_them(root: Path) -> None:
    (root / "requirements/base.txt").write_text("-c ../limits.txt\n-r ../requirements.txt\n")
    assert read(root, "-r requirements/base.txt").files == ["requirements.txt", "requirements/base.txt", "limits.txt"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("-e .", ""),
        (".", ""),
        ("./", ""),
        (".[dev]", ""),
        ("-e .[dev,test]", ""),
        ("--editable=.", ""),
        ("-e libs/common", "libs/common"),
        ("./libs/common", "libs/common"),
        ("libs/common", "libs/common"),
        ("./libs/common[x] ; python_version > '3'", "libs/common"),
        ("./libs/common --config-settings x=y", "libs/common"),
        ("common @ file:libs/common", "libs/common"),
        ("common[x] @ file:./libs/common ; python_version > '3'", "libs/common"),
        ("file:libs/common#egg=common", "libs/common"),
        ("-e file:libs/common", "libs/common"),
        ("-e 'libs/common'", "libs/common"),
    ],
)
def test_a_project_that_pip_builds_is_found_and_filtered(root: Path, text: str, path: str) -> None:
    found = read(root, f"six\n{text}\ntoml\n")
    assert [each.path for each in found.projects] == [path]
    assert found.filtered == {"requirements.txt": b"six\n\ntoml\n"}


@pytest.mark.parametrize(
    "text",
    [
        "six",
        "six==1.16.0 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01",
        "six ; python_version < '4'",
        "common",
        "common @ https://host/common-1.zip",
        "git+https://host/x.git@v1#egg=x",
        "-e git+ssh://git@host/x.git#egg=x",
        "https://host/x.whl",
        "six --config-settings a=./b",
    ],
)
def test_requirements_from_the_network_are_no_projects(root: Path, text: str) -> None:
    found = read(root, text)
    assert (found.projects, found.archives, found.filtered) == ([], [], {})


@pytest.mark.parametrize(
    "text", ["./wheels/a-1-py3-none-any.whl", "wheels/a-1-py3-none-any.whl", "a @ file:wheels/a-1-py3-none-any.whl"]
)
def test_an_archive_is_found(root: Path, text: str) -> None:
    assert read(root, text).archives == ["wheels/a-1-py3-none-any.whl"]


@pytest.mark.parametrize("text", ["-f ./wheels", "--find-links wheels", "--find-links=file:wheels", "-fwheels"])
def test_the_archives_of_find_links_are_found(root: Path, text: str) -> None:
    assert read(root, text).archives == ["wheels/a-1-py3-none-any.whl", "wheels/index.html"]


def test_find_links_are_relative_to_the_file_where_that_has_such_a_directory(root: Path) -> None:
    (root / "requirements/base.txt").write_text("-f wheels\n")
    assert read(root, "-r requirements/base.txt").archives == ["requirements/wheels/b-1.tar.gz"]


@pytest.mark.parametrize(
    "text",
    [
        "-r ../outside/x.txt",
        "-c ../outside/x.txt",
        "-e ../outside",
        "../outside",
        "outside @ file:../outside",
        "-f ../outside",
        "../outside/x.whl",
        "-r libs/../../outside/x.txt",
    ],
)
def test_a_path_that_leads_out_of_the_project_is_found(root: Path, text: str) -> None:
    (name,) = read(root, f"six\n{text}\n").outside
    assert name.where == f"requirements.txt, line 2: {text}"


@pytest.mark.parametrize("text", ["-r /etc/x.txt", "x @ file:///opt/x.whl", "-e /opt/x", "-f /wheels", "/opt/x.whl"])
def test_an_absolute_path_may_be_in_the_base_image(root: Path, text: str) -> None:
    found = read(root, text)
    assert [each.text for each in found.elsewhere] == [text]
    assert found.filtered == {}


def test_variables_and_urls_are_found(root: Path) -> None:
    found = read(root, "--index-url https://${USER_1}:${TOKEN}@host/simple\n-r ${DIR}\n$NOT ${not}\n")
    assert found.variables == {"USER_1", "TOKEN", "DIR"}
    assert found.urls == ["https://${USER_1}:${TOKEN}@host/simple"]
