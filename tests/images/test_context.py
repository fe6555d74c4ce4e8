from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.errors import ImageError
from caliban.images import context as context_module
from caliban.images.context import BuildContext, collect
from caliban.images.secret_files import GENERIC, SecretFiles
from caliban.images.secret_finder import MAX_TEXT
from caliban.images.secret_rules import Rule, mark
from caliban.images.spec import BuildSpec
from tests.sampling import examples
from tests.sockets import make_socket

from .helpers import Project

RULES = GENERIC.combined(
    SecretFiles(
        rules=(
            Rule("a default key", names=("default_key.json",)),
            Rule("a token", names=("cloud/tokens.db",), variables=("LAB_KEY", "LAB_OTHER_KEY")),
            Rule("a key", text=(mark('"kind": "key"', '"kind"'), mark('"secret"', "secret"))),
            Rule("a login", text=(mark('"kind": "user"', '"kind"'), mark('"token"', "token"))),
        )
    )
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


def gather(spec: BuildSpec, **environ: str) -> BuildContext:
    return collect(spec, "FROM x\n", environ, RULES)


def unpacked(context: BuildContext) -> dict[str, tarfile.TarInfo]:
    data = b"".join(context.stream(lambda _: None))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive.getmembers()}


def names(spec: BuildSpec) -> list[str]:
    return [name for name, member in unpacked(gather(spec)).items() if not member.isdir()]


def failure(spec: BuildSpec) -> ImageError:
    with pytest.raises(ImageError) as caught:
        list(gather(spec).stream(lambda _: None))
    return caught.value


def test_a_top_level_script_includes_the_whole_project(project: Project) -> None:
    project.write("lib/a.py", "")
    assert names(project.spec()) == ["Dockerfile", "code/cpu.py", "code/lib/a.py"]


def test_a_script_in_a_directory_includes_its_top_level_directory_only(project: Project) -> None:
    project.write("trainer/deep/train.py", "")
    project.write("trainer/model.py", "")
    assert names(project.spec("trainer/deep/train.py")) == [
        "Dockerfile",
        "code/trainer/deep/train.py",
        "code/trainer/model.py",
    ]


def test_a_dockerfile_of_the_project_is_an_ordinary_file(project: Project) -> None:
    project.write("Dockerfile", "FROM scratch\n")
    assert names(project.spec()) == ["Dockerfile", "code/Dockerfile", "code/cpu.py"]


def test_an_extra_directory_is_sent_once(project: Project) -> None:
    project.write("data/deep/points.txt", "")
    spec = project.spec(extra_dirs=("data/deep",))
    assert names(spec) == ["Dockerfile", "extra/0/data/deep/points.txt", "code/cpu.py"]


@pytest.mark.parametrize("extra", [".", "trainer"])
def test_an_extra_directory_may_contain_the_script(project: Project, extra: str) -> None:
    project.write("trainer/train.py", "")
    assert "extra/0/trainer/train.py" in names(project.spec("trainer/train.py", extra_dirs=(extra,)))


def test_a_link_to_a_directory_of_the_project_is_sent_as_a_directory(project: Project) -> None:
    project.write("src/trainer/train.py", "")
    (project.directory / "trainer").symlink_to("src/trainer")
    assert names(project.spec("trainer/train.py")) == ["Dockerfile", "code/trainer/train.py"]


def test_a_link_to_a_directory_outside_the_project_is_an_error(project: Project, tmp_path: Path) -> None:
    project.write("trainer/train.py", "")
    spec = project.spec("trainer/train.py")
    (project.directory / "trainer").rename(tmp_path / "outside")
    (project.directory / "trainer").symlink_to(tmp_path / "outside")
    assert failure(spec).id == "folder-leads-out"


def test_order_owner_and_times_do_not_depend_on_the_machine(project: Project) -> None:
    for name in ("b", "a", "c/z", "c/y"):
        os.utime(project.write(name, ""), (1000, 1000))
    members = unpacked(gather(project.spec()))
    assert [name for name in members if name.startswith("code/")] == [
        "code/a",
        "code/b",
        "code/c",
        "code/c/y",
        "code/c/z",
        "code/cpu.py",
    ]
    assert members["code/a"].mtime == 1000
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_modes_are_kept(project: Project, mode: int) -> None:
    project.write("tool", "").chmod(mode)
    assert unpacked(gather(project.spec()))["code/tool"].mode == mode


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60),
    content=st.binary(max_size=2000),
)
def test_any_name_and_content_arrive_byte_for_byte(project: Project, name: str, content: bytes) -> None:
    path = project.directory / "any" / f"x{name}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    # Without rules: some contents of four bytes are those of key stores.
    data = b"".join(collect(project.spec(), "FROM x\n", {}, SecretFiles()).stream(lambda _: None))
    path.unlink()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(f"code/any/x{name}")
        assert file is not None
        assert file.read() == content


def test_a_name_that_is_not_utf_8_arrives_as_it_is(project: Project) -> None:
    (project.directory / os.fsdecode(b"latin-\xe9")).touch()
    assert f"code/{os.fsdecode(bytes([*b'latin-', 0xE9]))}" in unpacked(gather(project.spec()))


def test_a_large_file_arrives_in_chunks_that_add_up(project: Project) -> None:
    (project.directory / "large").write_bytes(b"x" * 1_000_001)
    context = gather(project.spec())
    sent: list[int] = []
    chunks = list(context.stream(sent.append))
    assert sum(sent) == context.size
    assert max(map(len, chunks)) < 1_000_000


def test_dockerignore_may_include_what_is_excluded_by_default(project: Project) -> None:
    project.write(".dockerignore", "!.git/config\n")
    project.write(".git/config", "")
    project.write(".git/objects", "")
    assert [name for name in names(project.spec()) if ".git" in name] == ["code/.git/config"]


def test_a_script_that_dockerignore_excludes_is_an_error(project: Project) -> None:
    project.write(".dockerignore", "*.py\n")
    error = failure(project.spec())
    assert error.id == "script-ignored"
    assert "!cpu.py" in (error.hint or "")


def test_dependency_files_are_sent_whatever_dockerignore_says(project: Project) -> None:
    project.write(".dockerignore", "*\n!cpu.py\n")
    project.write("requirements.txt", "six")
    project.write("environment.yml", "")
    assert names(project.spec()) == [
        "Dockerfile",
        "conda/environment.yml",
        "requirements/requirements.txt",
        "code/cpu.py",
    ]


def test_requirements_are_followed_within_the_project_only(project: Project) -> None:
    project.write("requirements.txt", "-r a/b.txt\n--constraint=limits.txt\n-rnone.txt\n-r ../outside\n-r /etc/hosts\n")
    project.write("a/b.txt", "-r ../requirements.txt\n")
    project.write("limits.txt", "")
    project.directory.parent.joinpath("outside").touch()
    found = [name for name in names(project.spec()) if name.startswith("requirements/")]
    assert found == ["requirements/requirements.txt", "requirements/a/b.txt", "requirements/limits.txt"]


def test_packaging_files_and_package_markers_come_before_the_code(project: Project) -> None:
    for name in ("setup.py", "README.md", "notes.md", "src/pkg/__init__.py", "src/pkg/model.py", "src/pkg/_version.py"):
        project.write(name, "")
    found = [name for name in names(project.spec()) if name.startswith("packaging/")]
    assert found == [
        "packaging/README.md",
        "packaging/setup.py",
        "packaging/src/pkg/__init__.py",
        "packaging/src/pkg/_version.py",
    ]


def test_sockets_and_pipes_are_left_out(project: Project) -> None:
    os.mkfifo(project.directory / "pipe")
    make_socket(project.directory / "sock")
    assert names(project.spec()) == ["Dockerfile", "code/cpu.py"]


def test_a_link_is_sent_with_the_target_that_it_names(project: Project) -> None:
    (project.directory / "link").symlink_to("../elsewhere")
    member = unpacked(gather(project.spec()))["code/link"]
    assert (member.issym(), member.linkname) == (True, "../elsewhere")


KEY = '{"kind": "key", "secret": "x"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".creds", ""),
        (".ssh/id_rsa", ""),
        ("default_key.json", ""),
        ("cloud/tokens.db", ""),
        ("key.json", KEY),
        ("adc.json", '{"kind": "user", "token": "x"}'),
        ("named.bin", ""),
        ("other.bin", ""),
    ],
)
def test_credentials_are_left_out_with_a_warning(project: Project, name: str, content: str) -> None:
    project.write(name, content)
    named, other = (str(project.directory / file) for file in ("named.bin", "other.bin"))
    context = gather(project.spec(), LAB_KEY=named, LAB_OTHER_KEY=other)
    assert [file.name for file in context.files if file.path and file.path.is_file()] == ["code/cpu.py"]
    assert tuple(context.credentials) == (name if "/" not in name or name.startswith("cloud") else Path(name).parts[0],)
    assert [warning.split()[0] for warning in context.warnings()] == list(context.credentials)


@pytest.mark.parametrize("content", ["{}", '{"kind": "key"}', " " * 2 * MAX_TEXT + KEY])
def test_other_json_files_are_included_without_a_warning(project: Project, content: str) -> None:
    project.write("data.json", content)
    context = gather(project.spec(), LAB_KEY="/no/such/file")
    assert "code/data.json" in [file.name for file in context.files]
    assert context.warnings() == []


def test_a_name_is_a_credential_in_its_directory_only(project: Project) -> None:
    project.write("elsewhere/tokens.db", "")
    assert gather(project.spec()).warnings() == []


def test_without_platforms_only_generic_names_are_credentials(project: Project) -> None:
    project.write("key.json", KEY)
    project.write(".netrc", "")
    assert list(collect(project.spec(), "FROM x\n", {}).credentials) == [".netrc"]


def test_a_large_context_causes_a_warning_with_its_largest_directories(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context_module, "LARGE_CONTEXT", 100)
    project.write("data/a", "x" * 2500)
    project.write("more/b", "x" * 300)
    (warning,) = gather(project.spec()).warnings()
    assert "data (2 kB), more (300 B)" in warning
    assert ".dockerignore" in warning


def test_a_file_that_was_deleted_in_the_meantime_is_an_error(project: Project) -> None:
    path = project.write("data", "x")
    context = gather(project.spec())
    path.unlink()
    with pytest.raises(ImageError) as caught:
        list(context.stream(lambda _: None))
    assert caught.value.id == "context-unreadable"
    assert str(path) in caught.value.message


def test_an_unreadable_dockerignore_is_an_error(project: Project) -> None:
    (project.directory / ".dockerignore").mkdir()
    assert failure(project.spec()).id == "context-unreadable"


def test_an_unreadable_directory_is_an_error(project: Project) -> None:
    project.write("trainer/train.py", "")
    spec = project.spec(extra_dirs=("trainer",))
    (project.directory / "trainer/train.py").unlink()
    (project.directory / "trainer").rmdir()
    assert failure(spec).id == "context-unreadable"
