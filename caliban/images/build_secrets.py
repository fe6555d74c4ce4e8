"""What a build needs to reach private package indexes, in a form that leaves no trace in the image.

It is one build argument with the name of a predefined variable. Docker's builder (and Podman's) pass these to each
step, and keep them out of the image, its history and the cache key, since proxies have passwords too
(https://docs.docker.com/reference/dockerfile/#predefined-args). The steps that install packages run their command
through ``LAUNCHER``, which reads the argument, writes files to memory (``/dev/shm``), and removes them at the end. pip
does not use this variable: it is the proxy for FTP.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import unquote, urlsplit

from caliban import input_files
from caliban.errors import ImageError
from caliban.images.pip_config import PipConfig, host_of, index_with_login, read_pip_config, split_url
from caliban.input_files import InputFileError
from caliban.redaction import register_secrets

ARGUMENT = "FTP_PROXY"
"""The build argument."""

_PREFIX = "caliban:"
_FILES = "{files}"
_MAX_BYTES = 60_000
"""Of the argument: an environment variable may have 128 KiB."""
_MAX_CERTIFICATES = 32_000
_URL_OPTIONS = ("index-url", "extra-index-url", "find-links", "proxy")

_LAUNCHER = f"""\
import base64, json, os, shutil, subprocess, sys, tempfile, zlib
os.chdir(sys.argv[1])
command = sys.argv[2:]
value = os.environ.get("{ARGUMENT}", "")
if not value.startswith("{_PREFIX}"):
    os.execvp(command[0], command)
del os.environ["{ARGUMENT}"]
data = json.loads(zlib.decompress(base64.b64decode(value[{len(_PREFIX)}:])).decode())
memory = "/dev/shm"
files = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
try:
    for name, text in data["files"].items():
        with open(os.path.join(files, name), "w") as file:
            file.write(text)
    for name, text in data["variables"].items():
        os.environ[name] = text.replace("{_FILES}", files)
    code = subprocess.call(command)
finally:
    shutil.rmtree(files)
sys.exit(code if code >= 0 else 128 - code)
"""

LAUNCHER = f"exec({_LAUNCHER!r})"
"""A program for the image's Python: it runs the command that its arguments are, in the directory that is the first.

One line: the entrypoints of some base images (conda run) accept no other arguments.
"""


@dataclass(frozen=True)
class BuildSecrets:
    """Variables and files for the steps that install packages.

    Attributes:
        variables: by name.
        files: contents by name.
        uses_this_machine: whether an index, or a proxy, is at this machine's loopback address.
        warnings: what cannot be passed on.
    """

    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    uses_this_machine: bool = False
    warnings: tuple[str, ...] = ()

    def build_arguments(self) -> dict[str, str]:
        """Return the build arguments, to be passed by name and value; empty where nothing is needed.

        Raises:
            ImageError: ``pip-settings-too-large``.
        """
        if not self.variables and not self.files:
            return {}
        data = json.dumps({"variables": dict(self.variables), "files": dict(self.files)})
        value = _PREFIX + base64.b64encode(zlib.compress(data.encode())).decode()
        if len(value) > _MAX_BYTES:
            raise ImageError(
                "pip-settings-too-large",
                "cannot build the image: the settings of package indexes are too large",
                hint="remove large values from pip's configuration, PIP_* and UV_* variables",
            )
        register_secrets(value, value.removeprefix(_PREFIX))
        return {ARGUMENT: value}


def collect_secrets(
    environ: Mapping[str, str],
    *,
    variables: Iterable[str] = (),
    urls: Iterable[str] = (),
    indexes: Iterable[tuple[str, str]] = (),
) -> BuildSecrets:
    """Return what the builds of this user need, and hide its secrets in every message from now on.

    Args:
        environ: the environment variables.
        variables: names that files of dependencies refer to (``${TOKEN}``).
        urls: of files of dependencies, whose logins may be in ``.netrc``.
        indexes: names and URLs of further indexes, of pyproject.toml.
    """
    home = Path(environ["HOME"]) if environ.get("HOME") else None
    config = read_pip_config(environ, home)
    warnings = list(config.warnings)
    values = {name: environ[name] for name in variables if name in environ}
    unset = [f"${{{name}}}" for name in variables if name not in environ]
    if unset:
        warnings.append(f"the dependencies use {', '.join(sorted(unset))}, which is not set")
    passed = _passed(config)
    named = [index_with_login(name, url, environ) for name, url in indexes]
    if named:
        passed["extra-index-url"] = " ".join([*passed.get("extra-index-url", "").split(), *named])
    files: dict[str, str] = {}
    for option, name in (("cert", "cert.pem"), ("client-cert", "client.pem")):
        content = _small_file(passed.pop(option, None))
        if content is not None:
            files[name], passed[option] = content, f"{_FILES}/{name}"
    used = [*config.words(*_URL_OPTIONS), *urls, *named]
    logins = _netrc({host for host in map(host_of, used) if host}, environ, home, warnings)
    variables_of_pip = {f"PIP_{option.upper().replace('-', '_')}": value for option, value in passed.items()}
    if logins:
        files["netrc"] = logins
        variables_of_pip["NETRC"] = f"{_FILES}/netrc"
    register_secrets(*values.values(), *_secrets_of(used), files.get("client.pem"))
    return BuildSecrets({**values, **variables_of_pip}, files, any(map(_is_loopback, used)), tuple(warnings))


def _passed(config: PipConfig) -> dict[str, str]:
    """Return the options that mean the same in a container: directories of this machine do not."""
    passed = dict(config.options)
    links = [word for word in config.words("find-links") if "://" in word and not word.startswith("file:")]
    passed.pop("find-links", None)
    if links:
        passed["find-links"] = " ".join(links)
    else:
        passed.pop("no-index", None)
    for option in ("index-url", "extra-index-url"):
        words = [word for word in config.words(option) if not word.startswith("file:")]
        passed.pop(option, None)
        if words:
            passed[option] = " ".join(words)
    return passed


def _small_file(path: str | None) -> str | None:
    """Return the text of a file of certificates; None for none, and for a bundle of public ones, which images have."""
    if path is None:
        return None
    try:
        return input_files.read_text(Path(path).expanduser(), limit=_MAX_CERTIFICATES)
    except InputFileError:
        return None


def _netrc(hosts: Iterable[str], environ: Mapping[str, str], home: Path | None, warnings: list[str]) -> str:
    """Return a netrc file with the logins of these hosts only; "" where there are none."""
    candidates = [Path(environ["NETRC"])] if environ.get("NETRC") else []
    candidates += [home / name for name in (".netrc", "_netrc")] if home is not None and not candidates else []
    path = next((path for path in candidates if input_files.is_file(path)), None)
    if path is None:
        return ""
    try:
        logins = netrc(str(path))
    except (NetrcParseError, OSError, ValueError) as error:
        warnings.append(f"cannot read {path}: {type(error).__name__}; building without its logins")
        return ""
    lines = []
    for host in sorted(hosts):
        found = logins.authenticators(host)
        if found is not None and found[2]:
            register_secrets(found[2])
            lines.append(f"machine {host} login {_quoted(found[0] or '')} password {_quoted(found[2])}\n")
    return "".join(lines)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _secrets_of(urls: Iterable[str]) -> set[str]:
    """Return the passwords of URLs, and the users of those that have nothing else."""
    found = set()
    for url in urls:
        secret = split_url(url, lambda value: urlsplit(value).password or urlsplit(value).username)
        if secret:
            found |= {secret, unquote(secret)}
    return found


def _is_loopback(url: str) -> bool:
    host = host_of(url if "://" in url else f"//{url}")
    if host is None:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
