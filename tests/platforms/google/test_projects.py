"""Which project is used: google-auth's, unless a flag or variable of caliban's names one; and the line that says so."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.auth
import pytest

from caliban.clock import SystemClock
from caliban.errors import CalibanError, UsageError
from caliban.platforms.google.client import Google
from caliban.platforms.google.launch import TrainingLaunch
from tests.fakes import RecordingReporter
from tests.platforms.google.helpers import POLICY, Backend, platform_context
from tests.platforms.google.test_launch import VERTEX, prepared
from tests.standins.identity import SUBJECT_TOKEN, Identity

pytestmark = pytest.mark.usefixtures("no_google_login")

KEY_PROJECT, SHELL_PROJECT, GCLOUD_PROJECT = "key-project", "shell-project", "gcloud-project"
VARIABLES: dict[str, dict[str, str]] = {
    "no variable": {},
    "variable": {"GOOGLE_CLOUD_PROJECT": SHELL_PROJECT},
    "old variable": {"GCLOUD_PROJECT": SHELL_PROJECT},
    "both": {"GOOGLE_CLOUD_PROJECT": SHELL_PROJECT, "GCLOUD_PROJECT": "old-project"},
    "empty": {"GOOGLE_CLOUD_PROJECT": "", "GCLOUD_PROJECT": SHELL_PROJECT},
}


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    with Identity() as running:
        running.stand_for_google(monkeypatch)
        yield running


class Machine:
    """A home with gcloud's configuration, and a gcloud that knows a project."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.reporter = RecordingReporter()
        self.environ: dict[str, str] = {}
        self._monkeypatch = monkeypatch
        (directory / "gcloud").mkdir()
        (directory / "bin").mkdir()
        program = directory / "bin" / "gcloud"
        program.write_text(f"#!/bin/sh\necho {GCLOUD_PROJECT}\n")
        program.chmod(0o755)
        self.set(CLOUDSDK_CONFIG=str(directory / "gcloud"), PATH=f"{directory / 'bin'}:/usr/bin:/bin")

    def set(self, **variables: str) -> None:
        """Set variables for us, and for google-auth."""
        self.environ.update(variables)
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def write(self, key: dict[str, Any], *, is_default: bool = False) -> Path:
        name = "gcloud/application_default_credentials.json" if is_default else "key.json"
        path = self.directory / name
        path.write_text(json.dumps(key))
        return path

    def google(self, **kwargs: Any) -> Google:
        context = platform_context(self.environ, reporter=self.reporter, clock=SystemClock(), **kwargs)
        return Google(context, POLICY)

    def project(self) -> str | None:
        """Return our project; None for the error that there is none."""
        try:
            return self.google().project()
        except UsageError as error:
            if error.id != "no-project":
                raise
            return None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def arrange(machine: Machine, identity: Identity, credentials: str, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have credentials of a kind: a file that is named, gcloud's own, or those of the machine."""
    if credentials == "machine":
        identity.stand_for_metadata(monkeypatch)
        return
    (machine.directory / "subject").write_text(SUBJECT_TOKEN)
    kind, _, place = credentials.partition(" of ")
    made = {
        "key": {**json.loads(key.read_text()), "project_id": KEY_PROJECT, "quota_project_id": "my-quota"},
        "user": identity.user(quota_project_id="my-quota"),
        "impersonated": identity.impersonated(quota_project_id="my-quota"),
        "workload": identity.external({"file": str(machine.directory / "subject")}),
    }[kind]
    path = machine.write(made, is_default=place != "the variable")
    if place != "gcloud":
        machine.set(GOOGLE_APPLICATION_CREDENTIALS=str(path))


@pytest.mark.parametrize("variables", VARIABLES)
@pytest.mark.parametrize(
    "credentials",
    [
        "key of the variable",
        "user of the variable",
        "impersonated of the variable",
        "workload of the variable",
        "key of gcloud",
        "user of gcloud",
        "impersonated of gcloud",
        "workload of gcloud",
        "user of gcloud named by the variable",
        "machine",
    ],
)
def test_the_project_is_that_of_google_auth(
    machine: Machine,
    identity: Identity,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    credentials: str,
    variables: str,
) -> None:
    arrange(machine, identity, credentials, key, monkeypatch)
    machine.set(**VARIABLES[variables])
    # google-auth itself reads no token_uri of a user
    monkeypatch.setattr("google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", f"{identity.url}/token")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, expected = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
    assert machine.project() == expected


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, None),
        ({"PROJECT_ID": KEY_PROJECT}, None),
        ({"GOOGLE_CLOUD_PROJECT": KEY_PROJECT}, f"using project {KEY_PROJECT} ($GOOGLE_CLOUD_PROJECT)"),
        (
            {"GOOGLE_CLOUD_PROJECT": SHELL_PROJECT},
            f"using project {SHELL_PROJECT} ($GOOGLE_CLOUD_PROJECT), not {KEY_PROJECT} (the credentials file); "
            "use --project_id to change that",
        ),
        (
            {"PROJECT_ID": "my-project"},
            f"using project my-project ($PROJECT_ID), not {KEY_PROJECT} (the credentials file); "
            "use --project_id to change that",
        ),
        (
            {"PROJECT_ID": "my-project", "GOOGLE_CLOUD_PROJECT": SHELL_PROJECT},
            f"using project my-project ($PROJECT_ID), not {SHELL_PROJECT} ($GOOGLE_CLOUD_PROJECT); "
            "use --project_id to change that",
        ),
    ],
)
def test_a_line_says_which_project_is_used_unless_it_is_obvious(
    machine: Machine, key: Path, environ: dict[str, str], line: str | None
) -> None:
    machine.set(**environ)
    named = machine.write({**json.loads(key.read_text()), "project_id": KEY_PROJECT})
    shared = machine.google(cloud_key=named)
    assert shared.project() == shared.project()
    assert machine.reporter.lines == ([line] if line else [])


def test_a_project_of_gcloud_is_named(machine: Machine, identity: Identity) -> None:
    machine.write(identity.user(), is_default=True)
    assert machine.project() == GCLOUD_PROJECT
    assert machine.reporter.lines == [f"using project {GCLOUD_PROJECT} (gcloud's configuration)"]


def test_the_project_of_the_flag_is_used_without_a_word(machine: Machine, key: Path) -> None:
    machine.set(GOOGLE_CLOUD_PROJECT=SHELL_PROJECT, PROJECT_ID="my-project")
    assert machine.google(project_id="flag-project", cloud_key=key).project() == "flag-project"
    assert machine.reporter.lines == []


def test_a_project_of_the_environment_needs_no_credentials_file(machine: Machine) -> None:
    machine.set(GOOGLE_CLOUD_PROJECT=SHELL_PROJECT, GOOGLE_APPLICATION_CREDENTIALS="/nowhere/key.json")
    assert machine.google().project() == SHELL_PROJECT


@pytest.mark.parametrize("name", ["projects/p", "P", "a b", "a\nb"])
def test_a_malformed_project_of_the_environment_is_refused(machine: Machine, key: Path, name: str) -> None:
    machine.set(GOOGLE_CLOUD_PROJECT=name)
    with pytest.raises(CalibanError) as caught:
        machine.google(cloud_key=key).project()
    assert caught.value.id == "project-malformed"


def test_a_re_run_says_that_it_stays_in_its_project(backend: Backend) -> None:
    platform = backend.platform(environ={"GOOGLE_CLOUD_PROJECT": SHELL_PROJECT})
    job = backend.job()
    assert platform.destination(job) == backend.destination()
    assert f"not in {SHELL_PROJECT}; use --project_id to change that" in backend.reporter.lines[0]


def test_a_dry_run_shows_the_project_of_the_environment(tmp_path: Path) -> None:
    launch = prepared(VERTEX, tmp_path, environ={"GOOGLE_CLOUD_PROJECT": SHELL_PROJECT})
    assert isinstance(launch, TrainingLaunch)
    assert launch.chosen()["project"] == SHELL_PROJECT
