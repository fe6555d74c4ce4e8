from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from caliban.errors import ImageError
from caliban.images.build_secrets import ARGUMENT, LAUNCHER, BuildSecrets, collect_secrets
from caliban.images.pip_config import read_pip_config
from caliban.redaction import forget_secrets, hide_secrets


@pytest.fixture(autouse=True)
def _forgotten_secrets() -> Iterator[None]:
    yield
    forget_secrets()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(home: Path, name: str, text: str) -> Path:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def collected(home: Path, **environ: str) -> BuildSecrets:
    return collect_secrets({"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "none"), **environ})


def options(home: Path, **environ: str) -> dict[str, str]:
    config = read_pip_config({"XDG_CONFIG_DIRS": str(home / "none"), **environ}, home)
    return {name: value for name, value in config.options.items() if value.startswith("https://") or name == "timeout"}


@pytest.mark.parametrize("name", [".config/pip/pip.conf", ".pip/pip.conf"])
def test_the_files_of_the_user_are_read(home: Path, name: str) -> None:
    write(home, name, "[global]\nindex-url = https://a/simple\n")
    assert options(home)["index-url"] == "https://a/simple"


def test_the_file_of_the_virtual_environment_precedes_that_of_the_user(home: Path) -> None:
    write(home, ".config/pip/pip.conf", "[global]\nindex_url = https://a/simple\n")
    write(home, "venv/pip.conf", "[global]\nindex-url = https://b/simple\n")
    assert options(home, VIRTUAL_ENV=str(home / "venv"))["index-url"] == "https://b/simple"


def test_the_section_of_the_command_precedes_the_global_one(home: Path) -> None:
    write(home, ".pip/pip.conf", "[install]\nindex-url = https://install/simple\n")
    write(home, ".config/pip/pip.conf", "[global]\nindex-url = https://global/simple\n")
    assert options(home)["index-url"] == "https://install/simple"


def test_the_named_file_replaces_that_of_the_user(home: Path) -> None:
    write(home, ".config/pip/pip.conf", "[global]\nextra-index-url = https://a/simple\n")
    named = write(home, "named.conf", "[global]\nindex-url = https://b/simple\n")
    assert options(home, PIP_CONFIG_FILE=str(named)) == {"index-url": "https://b/simple"}


def test_no_file_is_read_where_pip_reads_none(home: Path) -> None:
    write(home, ".config/pip/pip.conf", "[global]\nindex-url = https://a/simple\n")
    assert options(home, PIP_CONFIG_FILE=os.devnull) == {}


@pytest.mark.parametrize(
    ("environ", "option", "value"),
    [
        ({"PIP_INDEX_URL": "https://a"}, "index-url", "https://a"),
        ({"PIP_EXTRA_INDEX_URL": "https://a https://b"}, "extra-index-url", "https://a https://b"),
        ({"UV_INDEX_URL": "https://a"}, "index-url", "https://a"),
        ({"UV_DEFAULT_INDEX": "https://a", "UV_INDEX_URL": "https://b"}, "index-url", "https://a"),
        ({"UV_EXTRA_INDEX_URL": "https://a"}, "extra-index-url", "https://a"),
        ({"UV_INDEX": "lab=https://a https://b"}, "extra-index-url", "https://a https://b"),
        ({"UV_DEFAULT_INDEX": "https://a", "PIP_INDEX_URL": "https://b"}, "index-url", "https://b"),
        (
            {"UV_INDEX": "my-lab=https://a/x", "UV_INDEX_MY_LAB_USERNAME": "me", "UV_INDEX_MY_LAB_PASSWORD": "p w"},
            "extra-index-url",
            "https://me:p%20w@a/x",
        ),
        ({"PIP_DEFAULT_TIMEOUT": "100"}, "timeout", "100"),
    ],
)
def test_variables_of_pip_and_uv_are_read(home: Path, environ: dict[str, str], option: str, value: str) -> None:
    write(home, ".config/pip/pip.conf", "[global]\nindex-url = https://file\n")
    assert options(home, **environ)[option] == value


def test_a_malformed_file_is_left_out_with_a_warning(home: Path) -> None:
    write(home, ".config/pip/pip.conf", "index-url = https://me:planted-secret@a\n")
    config = read_pip_config({"XDG_CONFIG_DIRS": "/none"}, home)
    assert "pip.conf" in "".join(config.warnings)
    assert "planted-secret" not in "".join(config.warnings)


def test_trusted_hosts_and_proxies_are_passed_on(home: Path) -> None:
    secrets = collected(home, PIP_TRUSTED_HOST="a b", PIP_PROXY="http://me:planted-secret@proxy:3128")
    assert secrets.variables["PIP_TRUSTED_HOST"] == "a b"
    assert secrets.variables["PIP_PROXY"] == "http://me:planted-secret@proxy:3128"
    assert "planted-secret" not in hide_secrets("the password is planted-secret")


def test_directories_of_this_machine_are_not_passed_on(home: Path) -> None:
    secrets = collected(home, PIP_FIND_LINKS="/opt/wheels https://a/wheels file:///x", PIP_TARGET="/x", PIP_USER="1")
    assert {name for name in secrets.variables if name not in ("PIP_CERT", "PIP_TIMEOUT")} == {"PIP_FIND_LINKS"}
    assert secrets.variables["PIP_FIND_LINKS"] == "https://a/wheels"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:planted-secret@host/simple", "me"),
        ("https://planted-secret@host/simple", "host"),
        ("https://__token__:planted%2Dsecret@host/simple", "__token__"),
    ],
)
def test_the_password_or_token_of_an_index_is_hidden(home: Path, url: str, shown: str) -> None:
    collected(home, PIP_INDEX_URL=url)
    hidden = hide_secrets(f"{shown} has planted-secret")
    assert hidden == f"{shown} has ***"


def test_only_the_logins_of_the_indexes_in_use_are_passed_on(home: Path) -> None:
    text = 'machine a login me password "planted \\"secret"\nmachine b login me password other-secret\n'
    write(home, ".netrc", text).chmod(0o600)
    secrets = collected(home, PIP_INDEX_URL="https://a/simple")
    assert "other-secret" not in secrets.files["netrc"]
    assert write(home, "out", secrets.files["netrc"]).exists()
    from netrc import netrc

    assert netrc(str(home / "out")).authenticators("a") == ("me", "", 'planted "secret')


def test_the_logins_of_indexes_that_the_files_name_are_passed_on(home: Path) -> None:
    write(home, "logins", "machine a login me password planted-secret\n").chmod(0o600)
    environ = {"HOME": str(home), "NETRC": str(home / "logins"), "XDG_CONFIG_DIRS": "/none"}
    assert "planted-secret" in collect_secrets(environ, urls=["https://a/simple"]).files["netrc"]


def test_variables_that_the_files_use_are_passed_on_and_hidden(home: Path) -> None:
    environ = {"HOME": str(home), "TOKEN": "planted-secret", "XDG_CONFIG_DIRS": "/none"}
    secrets = collect_secrets(environ, variables=["TOKEN", "MISSING"])
    assert secrets.variables["TOKEN"] == "planted-secret"
    assert any("${MISSING}" in warning for warning in secrets.warnings)
    assert "planted-secret" not in hide_secrets("planted-secret")


def test_indexes_of_pyproject_have_the_logins_of_variables(home: Path) -> None:
    environ = {"HOME": str(home), "XDG_CONFIG_DIRS": "/none", "POETRY_HTTP_BASIC_LAB_USERNAME": "me"}
    environ["POETRY_HTTP_BASIC_LAB_PASSWORD"] = "planted-secret"
    secrets = collect_secrets(environ, indexes=[("lab", "https://a/simple")])
    assert secrets.variables["PIP_EXTRA_INDEX_URL"] == "https://me:planted-secret@a/simple"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:3141/x", "http://localhost:1/x", "http://[::1]:1/", "http://a.localhost"]
)
def test_an_index_on_this_machine_is_recognized(home: Path, url: str) -> None:
    assert collected(home, PIP_INDEX_URL=url).uses_this_machine


@pytest.mark.parametrize("url", ["https://pypi.org/simple", "https://10.0.0.1/x", "http://[", "nonsense"])
def test_other_indexes_are_elsewhere(home: Path, url: str) -> None:
    assert not collected(home, PIP_INDEX_URL=url).uses_this_machine


def test_nothing_is_passed_where_nothing_is_configured() -> None:
    assert BuildSecrets().build_arguments() == {}


def test_settings_that_are_too_large_are_an_error() -> None:
    noise = base64.b64encode(os.urandom(90_000)).decode()
    with pytest.raises(ImageError) as caught:
        BuildSecrets({"A": noise}).build_arguments()
    assert caught.value.id == "pip-settings-too-large"
    assert noise[:100] not in f"{caught.value.message} {caught.value.cause}"


def launched(arguments: dict[str, str], directory: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LAUNCHER, str(directory), sys.executable, "-c", code]
    environ = {**os.environ, **arguments}
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def test_a_command_gets_variables_and_files_which_are_gone_afterwards(tmp_path: Path) -> None:
    secrets = BuildSecrets({"PIP_CERT": "{files}/cert.pem", "TOKEN": "x"}, {"cert.pem": "text of the file"})
    code = (
        "import os\nfor n in ('PIP_CERT', 'TOKEN'): print(os.environ[n])\n"
        f"print(open(os.environ['PIP_CERT']).read(), os.getcwd(), {ARGUMENT!r} in os.environ)\n"
    )
    done = launched(secrets.build_arguments(), tmp_path, code)
    path, token, rest = done.stdout.splitlines()
    assert (token, rest) == ("x", f"text of the file {tmp_path} False")
    assert path.startswith("/dev/shm/")
    assert not Path(path).exists()


@pytest.mark.parametrize("arguments", [{}, {ARGUMENT: "ftp://proxy:21"}])
def test_without_settings_the_command_runs_as_it_is(tmp_path: Path, arguments: dict[str, str]) -> None:
    done = launched(arguments, tmp_path, f"import os, sys\nprint(os.environ.get({ARGUMENT!r}))\nsys.exit(3)")
    assert (done.stdout, done.returncode) == (f"{arguments.get(ARGUMENT)}\n", 3)


def test_the_exit_code_is_that_of_the_command(tmp_path: Path) -> None:
    arguments = BuildSecrets({"A": "b"}).build_arguments()
    assert launched(arguments, tmp_path, "import sys\nsys.exit(3)").returncode == 3


def test_the_argument_is_hidden_in_messages() -> None:
    (value,) = BuildSecrets({"A": "b"}).build_arguments().values()
    assert json.loads(zlib.decompress(base64.b64decode(value.split(":")[1]))) == {"variables": {"A": "b"}, "files": {}}
    url = f"Max retries exceeded with url: /v1.41/build?buildargs=%7B%22{ARGUMENT}%22%3A+%22{value[:20]}"
    assert value[8:20] not in hide_secrets(url)
    assert value not in hide_secrets(f"the value is {value}")


def test_the_program_that_starts_commands_is_one_line() -> None:
    assert "\n" not in LAUNCHER
