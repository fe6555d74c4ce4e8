"""The options about package indexes that pip uses on this machine: of its files, and of ``PIP_*``, ``UV_*`` variables.

Sources: https://pip.pypa.io/en/stable/topics/configuration/,
https://docs.astral.sh/uv/reference/environment/.
"""

from __future__ import annotations

import configparser
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from caliban import input_files
from caliban.input_files import InputFileError

OPTIONS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "trusted-host",
    "no-index",
    "proxy",
    "cert",
    "client-cert",
    "timeout",
    "retries",
)
"""What reaches a build. Options about where and how packages are installed are this machine's only."""

_ALIASES = {"default-timeout": "timeout", "pypi-url": "index-url"}
_NAMED_INDEX = re.compile(r"([A-Za-z0-9._-]+)=(\w+://.*)", re.DOTALL)


@dataclass(frozen=True)
class PipConfig:
    """pip's options.

    Attributes:
        options: by name, those of ``OPTIONS``; several URLs of one are separated by spaces.
        warnings: files that could not be read.
    """

    options: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()

    def words(self, *names: str) -> list[str]:
        """Return the values of options, one by one."""
        return [word for name in names for word in self.options.get(name, "").split()]


def read_pip_config(environ: Mapping[str, str], home: Path | None) -> PipConfig:
    """Return pip's options; variables precede files, and those of pip precede those of uv."""
    warnings: list[str] = []
    found: dict[str, str] = {}
    for path in _files(environ, home):
        try:
            found.update(_sections(input_files.read_text(path, errors="replace")))
        except InputFileError as error:
            if not error.is_missing:
                warnings.append(f"cannot read pip's configuration {path}: {error.cause}; building without it")
        except configparser.Error as error:
            warnings.append(f"cannot read pip's configuration {path}: {type(error).__name__}; building without it")
    options = {**_of_section(found, "global"), **_of_section(found, "install")}
    options.update(_uv_options(environ))
    options.update(_pip_options(environ))
    return PipConfig({name: value for name, value in options.items() if value.strip()}, tuple(warnings))


def _files(environ: Mapping[str, str], home: Path | None) -> Iterator[Path]:
    """Yield pip's files, those that others override first."""
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return
    for directory in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep):
        yield Path(directory, "pip", "pip.conf")
    yield Path("/etc/pip.conf")
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    if home is not None and not (named and os.path.exists(named)):  # noqa: PTH110 - any path
        yield home / ".pip/pip.conf"
        yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
        if sys.platform == "darwin":
            yield home / "Library/Application Support/pip/pip.conf"
    for variable in ("CONDA_PREFIX", "VIRTUAL_ENV"):
        if environ.get(variable):
            yield Path(environ[variable], "pip.conf")
    if named:
        yield Path(named).expanduser()


def _sections(text: str) -> dict[str, str]:
    """Return the options of a file by ``section.option``.

    Raises:
        configparser.Error: malformed.
    """
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {
        f"{section}.{_name(option)}": value
        for section in parser.sections()
        for option, value in parser.items(section)
        if isinstance(value, str)
    }


def _of_section(found: Mapping[str, str], section: str) -> dict[str, str]:
    return {name: found[f"{section}.{name}"] for name in OPTIONS if f"{section}.{name}" in found}


def _name(option: str) -> str:
    name = option.lower().replace("_", "-").removeprefix("--")
    return _ALIASES.get(name, name)


def _pip_options(environ: Mapping[str, str]) -> dict[str, str]:
    names = {_name(key.removeprefix("PIP_")): value for key, value in environ.items() if key.startswith("PIP_")}
    return {name: names[name] for name in OPTIONS if names.get(name)}


def _uv_options(environ: Mapping[str, str]) -> dict[str, str]:
    def indexes(*variables: str) -> str:
        words = (word for variable in variables for word in environ.get(variable, "").split())
        return " ".join(uv_index(word, environ) for word in words)

    options = {
        "index-url": indexes("UV_DEFAULT_INDEX") or indexes("UV_INDEX_URL"),
        "extra-index-url": indexes("UV_INDEX", "UV_EXTRA_INDEX_URL"),
        "find-links": " ".join(environ.get("UV_FIND_LINKS", "").replace(",", " ").split()),
        "trusted-host": environ.get("UV_INSECURE_HOST", ""),
        "no-index": environ.get("UV_NO_INDEX", ""),
    }
    return {name: value for name, value in options.items() if value}


def uv_index(value: str, environ: Mapping[str, str]) -> str:
    """Return the URL of an index of uv, ``URL`` or ``NAME=URL``, with the login that variables have for the name."""
    match = _NAMED_INDEX.fullmatch(value)
    return value if match is None else index_with_login(match[1], match[2], environ)


def index_with_login(name: str, url: str, environ: Mapping[str, str]) -> str:
    """Return the URL of a named index with the login that the variables of uv or Poetry have for it."""
    key = re.sub(r"[^A-Z0-9]", "_", name.upper())
    for prefix in (f"UV_INDEX_{key}", f"POETRY_HTTP_BASIC_{key}"):
        user, password = environ.get(f"{prefix}_USERNAME", ""), environ.get(f"{prefix}_PASSWORD", "")
        if user or password:
            return _with_login(url, user, password)
    return url


def _with_login(url: str, user: str, password: str) -> str:
    """Return a URL with a user and a password, unless it has some."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" in rest.partition("/")[0]:
        return url
    user, password = quote(user, safe=""), quote(password, safe="")
    return f"{scheme}://{user}{':' if password else ''}{password}@{rest}"


def split_url(url: str, part: Callable[[str], str | None]) -> str | None:
    """Return a part of a URL; None where it has none, or is malformed."""
    try:
        return part(url)
    except ValueError:
        return None


def host_of(url: str) -> str | None:
    """Return the host of a URL."""
    return split_url(url, lambda value: urlsplit(value).hostname)
