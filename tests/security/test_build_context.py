"""An image contains only files of the recorded directory, despite links, patterns or a manipulated store."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from caliban.config import load_config
from caliban.errors import CalibanError, ImageError
from caliban.images.context import collect
from caliban.images.docker.build_plan import readable_plan
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, parse_container_spec
from caliban.platforms.registry import secret_files
from caliban.records import JobMode, JobStatus
from caliban.store.database import Store
from tests.builders import add_group
from tests.calls import call
from tests.conftest import ScreenContext
from tests.fake_service import FakeService
from tests.fakes import FakeEngine

SECRET = b"planted-outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory next to the project, with all kinds of files that a project can have."""
    directory = tmp_path / "outside"
    (directory / "pkg").mkdir(parents=True)
    for name in ("secret.txt", "requirements.txt", "environment.yml", "setup.py", "pkg/__init__.py", "cpu.py"):
        (directory / name).write_bytes(SECRET)
    return directory


@pytest.fixture
def project(cwd: Path) -> Path:
    (cwd / "cpu.py").write_text("")
    return cwd


def spec_of(project: Path, *extra_dirs: str) -> BuildSpec:
    return BuildSpec.detect(
        project,
        Package.parse("cpu.py", project),
        job_mode=JobMode.CPU,
        config=load_config(project),
        extra_dirs=extra_dirs,
    )


def build_context(spec: BuildSpec) -> tuple[bytes, list[str]]:
    """Return the build context that the engine gets, and the names in it."""
    content = b"".join(
        collect(spec, "FROM x\n", {}, secret_files(), plan=readable_plan(spec)).stream(lambda count: None)
    )
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
    return content, names


@pytest.mark.parametrize("name", ["requirements.txt", "environment.yml", "setup.py"])
def test_a_dependency_file_that_links_outside_is_rejected(project: Path, outside: Path, name: str) -> None:
    (project / name).symlink_to(outside / name)
    with pytest.raises(ImageError) as caught:
        build_context(spec_of(project))
    assert (caught.value.id, name in caught.value.message) == ("folder-leads-out", True)


def test_requirements_that_include_a_link_to_outside_are_rejected(project: Path, outside: Path) -> None:
    (project / "requirements.txt").write_text("-r more.txt\n")
    (project / "more.txt").symlink_to(outside / "requirements.txt")
    with pytest.raises(ImageError, match=r"requirements\.txt, line 1: -r more\.txt is outside the project directory"):
        build_context(spec_of(project))


@pytest.mark.parametrize("name", ["../outside/requirements.txt", "a/../../outside/requirements.txt"])
def test_requirements_outside_the_directory_are_rejected(project: Path, outside: Path, name: str) -> None:
    (project / "requirements.txt").write_text(f"-r {name}\n")
    with pytest.raises(ImageError, match="is outside the project directory"):
        build_context(spec_of(project))


def test_requirements_at_an_absolute_path_are_not_included(project: Path, outside: Path) -> None:
    (project / "requirements.txt").write_text(f"-r {outside}/requirements.txt\n")
    assert SECRET not in build_context(spec_of(project))[0]


def test_a_dependency_file_may_be_a_link_inside_the_directory(project: Path) -> None:
    (project / "base.txt").write_text("numpy\n")
    (project / "requirements.txt").symlink_to("base.txt")
    assert "requirements/requirements.txt" in build_context(spec_of(project))[1]


def test_links_in_the_code_are_sent_as_links(project: Path, outside: Path) -> None:
    (project / "data").symlink_to(outside)
    (project / "secret.txt").symlink_to(outside / "secret.txt")
    (project / "up").symlink_to("../outside/secret.txt")
    content, names = build_context(spec_of(project))
    assert SECRET not in content
    assert [name for name in names if name.startswith("code/data/")] == []


def test_links_in_an_extra_directory_are_sent_as_links(project: Path, outside: Path) -> None:
    (project / "extra").mkdir()
    (project / "extra" / "link").symlink_to(outside)
    assert SECRET not in build_context(spec_of(project, "extra"))[0]


def test_an_extra_directory_below_a_link_to_outside_is_rejected(project: Path, outside: Path) -> None:
    (project / "way").mkdir()
    (project / "way" / "pkg").mkdir()
    spec = spec_of(project, "way/pkg")
    (project / "way" / "pkg").rmdir()
    (project / "way").rmdir()
    (project / "way").symlink_to(outside)
    with pytest.raises(ImageError, match="way/pkg is a link to a path outside"):
        build_context(spec)


@pytest.mark.parametrize(
    "pattern", ["!../outside/secret.txt", "!/**", "!../**", "!{outside}/secret.txt", "!**", "!code/../../outside/*"]
)
def test_dockerignore_cannot_include_files_from_outside(project: Path, outside: Path, pattern: str) -> None:
    (project / ".dockerignore").write_text(f"nothing\n{pattern.format(outside=outside)}\n")
    content, names = build_context(spec_of(project))
    assert SECRET not in content
    assert not [name for name in names if ".." in name or name.startswith("/")]


@pytest.mark.parametrize("pattern", ["[", "[a-", "!", "!!", "\\", "a[]b", "**[", "(", "*" * 50])
def test_an_unusual_dockerignore_pattern_causes_no_unexpected_error(project: Path, pattern: str) -> None:
    (project / ".dockerignore").write_text(f"{pattern}\n")
    try:
        build_context(spec_of(project))
    except CalibanError as error:
        assert error.hint  # noqa: PT017 - success is correct, too


MANIPULATED = {
    "package path": {"package": [["python"], "..", "cpu.py", None]},
    "absolute package path": {"package": [["python"], "/etc", "cpu.py", None]},
    "script path": {"package": [["python"], ".", "../outside/cpu.py", None]},
    "absolute script path": {"package": [["python"], ".", "/etc/passwd", None]},
    "extra dir": {"extra_dirs": ["../outside"]},
    "hidden extra dir": {"extra_dirs": ["pkg/../../outside"]},
    "absolute extra dir": {"extra_dirs": ["/etc"]},
    "requirements": {"requirements_path": "../outside/requirements.txt"},
    "absolute requirements": {"requirements_path": "/etc/passwd"},
    "conda": {"conda_env_path": "../outside/environment.yml"},
    "relative build path": {"build_path": "../outside"},
    "nul": {"extra_dirs": ["a\x00b"]},
}


@pytest.mark.parametrize("wrong", MANIPULATED.values(), ids=MANIPULATED)
def test_a_manipulated_record_that_points_outside_is_rejected(
    project: Path,
    outside: Path,
    wrong: dict[str, object],
    store: Store,
    home: Path,
    service: FakeService,
    fake_engine: FakeEngine,
    context: ScreenContext,
) -> None:
    add_group(store, JobStatus.FAILED, container_spec=spec_of(project).as_record())
    with closing(sqlite3.connect(home / ".caliban" / "caliban.db")) as database, database:
        manipulated = {**spec_of(project).as_record(), **wrong}
        database.execute("UPDATE container_specs SET spec = ?", (json.dumps(manipulated),))

    code = call(context, "resubmit", "--xgroup", "resubmit_test", "--yes")

    # the fake engine and the fake service fail on any request
    assert (code, "[malformed-container-spec]" in context.err) == (1, True)


def test_a_manipulated_record_that_names_a_link_to_outside_is_rejected(project: Path, outside: Path) -> None:
    (project / "pkg").symlink_to(outside / "pkg")
    record = {**spec_of(project).as_record(), "package": [["python"], "pkg", "pkg/__init__.py", None]}
    spec = parse_container_spec(record)
    assert isinstance(spec, BuildSpec)
    with pytest.raises(ImageError) as caught:
        build_context(spec.refreshed())
    assert caught.value.id == "folder-leads-out"


def test_a_script_replaced_by_a_link_to_outside_is_not_followed(project: Path, outside: Path) -> None:
    spec = spec_of(project)
    (project / "cpu.py").unlink()
    (project / "cpu.py").symlink_to(outside / "cpu.py")
    assert SECRET not in build_context(spec.refreshed())[0]


@pytest.mark.parametrize("name", ["key", "key.txt", "config.yaml", "key.json.bak", ".hidden"])
@pytest.mark.parametrize(
    "content",
    [
        {"type": "service_account", "private_key": "x"},
        {"type": "authorized_user", "refresh_token": "x"},
        {"type": "external_account_authorized_user", "refresh_token": "x"},
        {
            "type": "impersonated_service_account",
            "source_credentials": {"type": "authorized_user", "refresh_token": "x"},
        },
        {"type": "gdch_service_account", "private_key": "x"},
    ],
    ids=lambda content: content["type"] if isinstance(content, dict) else content,
)
def test_key_files_of_any_type_and_name_are_excluded(project: Path, name: str, content: dict[str, object]) -> None:
    (project / name).write_text("\ufeff\n  " + json.dumps(content, indent=2))
    assert f"code/{name}" not in build_context(spec_of(project))[1]


@pytest.mark.parametrize("name", [".docker/config.json", ".config/gcloud/credentials.db", ".kube/config", ".dockercfg"])
def test_logins_of_other_tools_are_excluded(project: Path, name: str) -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    assert f"code/{name}" not in build_context(spec_of(project))[1]


def test_code_that_mentions_keys_is_included(project: Path) -> None:
    (project / "oauth.py").write_text('KEY = {"type": "service_account", "private_key": ""}\n')
    assert "code/oauth.py" in build_context(spec_of(project))[1]
