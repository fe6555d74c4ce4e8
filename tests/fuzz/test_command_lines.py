"""Arbitrary command lines of every command: exit code 0, 1 or 2, and errors in the one format."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from absl import app, logging
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caliban.cli import command_table
from caliban.cli.command_line import parse
from caliban.cli.console import Console
from caliban.errors import CalibanError
from tests.conftest import ForkedCaliban
from tests.fakes import FakeStream
from tests.sampling import examples

ABSL = (app, logging)
"""The modules whose flags every command takes, as the process imports them."""

FLAGS = (
    *("--help", "-h", "--helpfull", "--version", "--xgroup", "--dry_run", "--dry-run", "--yes", "-y", "--all_jobs"),
    *("--project_id", "--cloud_key", "--platform", "--max_jobs", "--nogpu", "-d", "--dir", "--extras", "--no_cache"),
    *("--experiment_config", "--docker_run_args", "--image_id", "--zone", "--cluster_name", "--namespace", "--label"),
    *(
        "--machine_type",
        "--gpu_spec",
        "--region",
        "--export",
        "--context",
        "-v",
        "--name",
        "--nosuch",
        "-",
        "--",
        "---",
    ),
    *(
        "--flagfile",
        "--undefok",
        "--verbosity",
        "--log_dir",
        "--stderrthreshold",
        "--noyes",
        "--helpxml",
        "--helpshort",
    ),
    *("--logger_levels", "--v", "--pdb_post_mortem=false", "--only_check_args=false", "--xgroup=", "--=", "--=x", "-="),
)
VALUES = (
    *("", " ", "\n", "\t", "0", "-1", "1e309", "9" * 5000, "nan", "None", "true", "stdin", ".", "..", "/", "~", "*"),
    *("/dev/null", "/dev/zero", "cpu.py", "a/../b", "x" * 5000, "%", "%s", "%(prog)s", "{}", "{0}", "'", '"', "\\"),
    *("\x1b[31m", "\u202e", "\udcff", "\u2028", "é", "☃", "gs://b/o", "k=v", "=", "=v", "k=", "1x2", "2xV100", "@f"),
)
ARGUMENTS = st.lists(
    st.one_of(
        st.sampled_from(FLAGS),
        st.sampled_from(VALUES),
        st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from(VALUES)),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    ),
    max_size=8,
)
COMMANDS: st.SearchStrategy[list[str]] = st.one_of(
    st.sampled_from([name.split() for name in command_table.BUILT_IN]),
    st.just(["cluster"]),
    st.just(["cluster", "job"]),
    st.just([]),
)
ERROR = re.compile(r"error: .+ \[[a-z0-9-]+\]")


@given(COMMANDS, ARGUMENTS)
@settings(max_examples=examples(500), suppress_health_check=[HealthCheck.differing_executors])
def test_a_command_line_is_parsed_or_refused(command: list[str], arguments: list[str]) -> None:
    console = Console(FakeStream(), FakeStream(), FakeStream())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            parse(["caliban", *command, *arguments], console)
        except CalibanError as error:
            console.error(error)
        except SystemExit:  # after the help
            return


@pytest.fixture
def offline(forked_caliban: ForkedCaliban) -> dict[str, str]:
    """Variables with which no service can be reached."""
    kubeconfig = forked_caliban.home / "kubeconfig"
    return {
        "DOCKER_HOST": f"unix://{forked_caliban.home}/no.sock",
        "KUBECONFIG": str(kubeconfig),
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(forked_caliban.home / "gcloud"),
        "PATH": "/nowhere",
        "https_proxy": "http://127.0.0.1:9",
    }


@given(command=COMMANDS, arguments=ARGUMENTS)
@settings(
    max_examples=examples(30),
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.function_scoped_fixture],
)
def test_a_process_ends_with_a_documented_code_and_without_a_traceback(
    command: list[str],
    arguments: list[str],
    forked_caliban: ForkedCaliban,
    offline: dict[str, str],
) -> None:
    (forked_caliban.cwd / "cpu.py").touch()
    done = forked_caliban(*command, *arguments, env=offline)
    reported = done.stderr.splitlines()
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr
    assert "internal-error" not in done.stderr
    if done.returncode == 2:
        assert any(ERROR.fullmatch(line) for line in reported), done.stderr
    assert_visible(done.stderr)


def assert_visible(text: str) -> None:
    assert [line for line in text.split("\n") if not line.isprintable()] == []


def test_a_file_of_flags_is_read_with_bounds(forked_caliban: ForkedCaliban, tmp_path: Path) -> None:
    for source in ("/dev/zero", str(tmp_path), str(tmp_path / "missing"), "\udcff"):
        done = forked_caliban("status", f"--flagfile={source}")
        assert (done.returncode, done.stderr.startswith("error: ")) == (2, True)
