"""Which files are credentials, by the rules of all platforms together."""

from __future__ import annotations

from pathlib import Path

import pytest

from caliban.images.context import BuildContext, collect
from caliban.images.secret_finder import MAX_TEXT
from caliban.platforms.registry import secret_files
from tests.images.helpers import Project

KEY = '{"type": "service_account", "private_key": "x"}'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


def gather(project: Project, **environ: str) -> BuildContext:
    return collect(project.spec(), "FROM x\n", environ, secret_files())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".creds", ""),
        (".boto", ""),
        (".kube", ""),
        ("application_default_credentials.json", ""),
        ("gcloud/credentials.db", ""),
        ("gcloud/access_tokens.db", ""),
        ("gcloud/legacy_credentials", ""),
        ("key.json", KEY),
        ("other.json", KEY.replace("service_account", "external_service_account")),
        ("adc.json", '{"type": "authorized_user", "refresh_token": "x"}'),
        ("named.bin", ""),
    ],
)
def test_credentials_of_every_platform_are_left_out(project: Project, name: str, content: str) -> None:
    project.write(name, content)
    named = str(project.directory / "named.bin")
    assert gather(project, GOOGLE_APPLICATION_CREDENTIALS=named).credentials.keys() == {name}


@pytest.mark.parametrize("content", ["{}", '{"type": "service_account"}', " " * 2 * MAX_TEXT + KEY])
def test_other_files_are_included(project: Project, content: str) -> None:
    for name in ("data.json", "lab/credentials.db"):
        project.write(name, content)
    assert gather(project, GOOGLE_APPLICATION_CREDENTIALS="/no/such/file").credentials == {}
