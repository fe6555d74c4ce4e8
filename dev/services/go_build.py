"""Programs that are compiled from Go modules, once per version, and kept in the cache directory."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.cache import cache_directory, locked
from services.shell import Failure, run, say
from services.versions import MINIMUM_GO

_LINKER_FLAGS = "-s -w"  # without debug information: a third of the size
_GO_HINT = f"install Go {'.'.join(map(str, MINIMUM_GO))} or later: https://go.dev/dl/"


@dataclass(frozen=True)
class GoModule:
    """A module and those of its programs that are needed.

    Attributes:
        name: for people, and for the directory's name.
        module: its import path.
        version: without the ``v``.
        programs: name of the program -> import path of its package.
        tags: build tags.
        variables: Go variable -> value that the linker sets.
        cgo: whether it needs a C compiler.
        make_go_mod: gives the go.mod to build with, from the published one; the default requires the module alone.
    """

    name: str
    module: str
    version: str
    programs: Mapping[str, str]
    tags: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    cgo: bool = False
    make_go_mod: Callable[[str], str] | None = None

    @property
    def key(self) -> str:
        """Name and version, and a digest of how it is built."""
        recipe = repr((self.module, sorted(self.programs.items()), self.tags, sorted(self.variables.items()), self.cgo))
        return f"{self.name}-{self.version}-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"


def find_go() -> str:
    """Find the go command on the PATH, or where Go's own installer puts it.

    Raises:
        Failure: there is none, or it is too old.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise Failure("go is not installed", _GO_HINT)
    text = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", text)
    if found and (int(found[1]), int(found[2])) < MINIMUM_GO:
        raise Failure(f"{go} is too old: {text.strip()}", _GO_HINT)
    return go


def programs_directory() -> Path:
    """Return the directory of all compiled and unpacked programs, created if missing."""
    directory = cache_directory() / "programs"
    directory.mkdir(exist_ok=True)
    return directory


def build(module: GoModule, *, prepare: Callable[[], None] | None = None) -> Path:
    """Return the directory with the module's programs; compile them if it is missing.

    The directory gets its name when all programs are in it, so an interrupted build is not mistaken for a finished
    one. Go's own caches make the next attempt quick.

    Args:
        module: what to build.
        prepare: called before a build: installs what the build needs.

    Raises:
        Failure: Go is missing, or the build fails; with the last lines of its output.
    """
    directory = programs_directory() / module.key
    with locked(programs_directory() / f"{module.name}.lock", waiting=f"another run is building {module.name}"):
        if not directory.exists():
            go = find_go()
            if prepare is not None:
                prepare()
            started = time.monotonic()
            partial = directory.with_name(f"{directory.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            (partial / "source").mkdir(parents=True)
            _build(module, go, partial)
            shutil.rmtree(partial / "source")
            partial.rename(directory)
            say(f"built {module.name} {module.version} in {time.monotonic() - started:.0f} s")
    return directory


def _build(module: GoModule, go: str, directory: Path) -> None:
    source = directory / "source"
    environment = {
        **os.environ,
        "CGO_ENABLED": str(int(module.cgo)),
        "GOFLAGS": "-mod=mod -buildvcs=false",
        "GOWORK": "off",
    }
    what = f"{module.name} {module.version}"

    def run_go(*arguments: str, doing: str) -> None:
        run([go, "-C", str(source), *arguments], doing, environment=environment, ends_with_us=True)

    say(f"building {what}: downloading Go modules")
    if module.make_go_mod is None:
        run_go("mod", "init", "caliban.invalid/build", doing=f"creating go.mod for {what}")
        run_go("get", f"{module.module}@v{module.version}", doing=f"go get {module.module}")
    else:
        published = _published_go_mod(go, module, environment)
        (source / "go.mod").write_text(module.make_go_mod(published))
    variables = " ".join(f"-X {name}={value}" for name, value in module.variables.items())
    options = ["-trimpath", "-ldflags", f"{_LINKER_FLAGS} {variables}".strip(), "-tags", module.tags]
    for number, (name, package) in enumerate(module.programs.items(), 1):
        say(f"building {what}: {name} ({number} of {len(module.programs)})")
        run_go("build", *options, "-o", str(directory / name), package, doing=f"building {name}")


def _published_go_mod(go: str, module: GoModule, environment: Mapping[str, str]) -> str:
    name = f"{module.module}@v{module.version}"
    done = subprocess.run(
        [go, "mod", "download", "-json", name], env=environment, capture_output=True, text=True, check=False
    )
    found = re.search(r'"GoMod": "(.*)"', done.stdout)
    if done.returncode != 0 or found is None:
        raise Failure(f"go mod download {name} failed:\n{(done.stderr or done.stdout).strip()}")
    return Path(found[1]).read_text()
