"""What is taken over from the machine: its packages, its indexes, its virtual environments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from services import debian
from services.environments import make_environment
from services.postgresql import programs_directory
from services.sharing import with_path
from services.shell import Failure, run

pytestmark = pytest.mark.usefixtures("cache")

FAKE_APT = """\
#!/bin/sh
[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 90
echo "$@" >> "$APT_CALLS"
[ -e "$APT_POLICY" ] || exit 91
case "$*" in *no-such-package*) echo "E: Unable to locate package no-such-package"; exit 100;; esac
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for apt-get that writes down what it is asked; installing for real would change the machine."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(FAKE_APT)
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APT_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("APT_POLICY", str(tmp_path / "policy-rc.d"))
    monkeypatch.setattr(debian, "_POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "calls"


def test_packages_are_installed_after_an_update_without_questions(apt: Path) -> None:
    debian.install(["docker.io", "iptables"], why="no Docker Engine answers")
    assert apt.read_text().splitlines() == [
        "-q -o DPkg::Lock::Timeout=300 update",
        "-q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends docker.io iptables",
    ]


def test_services_find_the_programs_of_administrators_with_the_path_of_cron(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apt.parent / "bin" / "apt-get").write_text('#!/bin/sh\necho "$PATH" > "$APT_CALLS"\n')
    monkeypatch.setenv("PATH", f"{apt.parent / 'bin'}:/usr/bin:/bin")
    debian.install(["docker.io"], why="for a test")
    wanted = f"{apt.parent / 'bin'}:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
    assert apt.read_text().strip() == wanted
    assert with_path([Path("/opt/engine")])["PATH"] == f"/opt/engine:{wanted}"


def test_a_package_that_cannot_be_installed_is_told_in_apts_words(apt: Path) -> None:
    with pytest.raises(Failure, match="Unable to locate package no-such-package"):
        debian.install(["no-such-package"], why="for a test")


def test_services_may_start_again_after_an_install(apt: Path, tmp_path: Path) -> None:
    debian.install(["docker.io"], why="for a test")
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_policy_of_the_machine_stays(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "policy-rc.d").write_text("#!/bin/sh\nexit 0\n")
    debian.install(["docker.io"], why="for a test")
    assert (tmp_path / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


def test_who_is_not_root_is_told_what_to_run(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Failure) as told:
        debian.install(["postgresql"], why="there is no initdb")
    assert told.value.hint == "run as root: apt-get install --no-install-recommends postgresql"


def test_a_pip_index_of_the_machine_counts_in_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pip.example.com/simple")
    assert "index-url = https://pip.example.com/simple\n" in debian.pip_settings()


def test_a_password_for_a_pip_index_stays_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@pip.example.com/simple")
    assert "secret" not in debian.pip_settings()


def test_a_directory_of_the_machine_is_no_index_for_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/wheels")
    assert "/srv/wheels" not in debian.pip_settings()


def test_an_authority_that_only_this_machine_trusts_goes_into_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = "-----BEGIN CERTIFICATE-----\nb25seSBoZXJl\n-----END CERTIFICATE-----\n"
    (tmp_path / "bundle").write_text(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle"))
    monkeypatch.setattr(debian, "USUAL_CERTIFICATES", tmp_path)
    assert [text for _, text in debian.own_certificates()] == [certificate]


@pytest.fixture
def makings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What venv and pip are asked for; a stand-in does it, as the real ones take seconds."""
    made: list[str] = []

    def make(command: list[str | Path], what: str) -> None:
        words = [str(word) for word in command]
        made.append(what)
        if words[1:3] == ["-m", "venv"]:
            programs = Path(words[3]) / "bin"
            programs.mkdir(parents=True)
            (programs / "python").symlink_to(sys.executable)
        else:
            assert words[1:] == ["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "pip"]

    monkeypatch.setattr("services.environments.run", make)
    return made


def make(directory: Path, source: bytes = b"one") -> None:
    make_environment(directory, ["pip"], source, ["python", "--version"])


@pytest.mark.slow
def test_an_environment_has_what_it_requires(tmp_path: Path) -> None:
    make_environment(tmp_path / "venv", ["pip"], b"one", ["python", "-c", "import pip"])
    run([tmp_path / "venv" / "bin" / "pip", "--version"], "asking pip")


def test_an_environment_is_made_once(tmp_path: Path, makings: list[str]) -> None:
    make(tmp_path / "venv")
    make(tmp_path / "venv")
    assert makings == [f"making the virtual environment {tmp_path / 'venv'}", "pip install pip"]


def test_an_environment_is_made_again_when_its_source_changes(tmp_path: Path, makings: list[str]) -> None:
    make(tmp_path / "venv", b"one")
    make(tmp_path / "venv", b"two")
    assert makings[2:] == makings[:2]


def test_an_environment_that_does_not_work_is_made_again(tmp_path: Path, makings: list[str]) -> None:
    make(tmp_path / "venv")
    (tmp_path / "venv" / "bin" / "python").unlink()
    make(tmp_path / "venv")
    assert makings[2:] == makings[:2]


def test_a_step_that_fails_is_told_with_its_last_lines() -> None:
    with pytest.raises(Failure, match="counting failed with exit code 3; its last lines:\n    one\n    two"):
        run(["sh", "-c", "echo one; echo two; exit 3"], "counting")


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(Failure, match=r"looking failed: .*no-such-program"):
        run(["no-such-program"], "looking")


def test_postgresqls_programs_are_found_together() -> None:
    directory = programs_directory()
    assert directory is not None
    assert (directory / "postgres").exists()


def test_this_python_can_run_the_scripts() -> None:
    run([sys.executable, Path(debian.__file__).parents[1] / "with_services.py", "--help"], "asking for help")
