"""``make test-dockerignore``: compares how caliban and BuildKit read ``.dockerignore``, with random files and projects.

With ``--record``, writes what BuildKit answers into ``tests/data/dockerignore.json``, for the cases that it has; its
``ignore`` may be edited. BuildKit's own Go modules are compiled; see ``services/dockerignore/main.go``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caliban.errors import ImageError
from caliban.images.context import paths_sent
from caliban.images.dockerignore import Ignored
from services.cache import locked
from services.go_build import find_go, programs_directory
from services.shell import Failure, run, say
from services.versions import FSUTIL, PATTERNMATCHER

TABLE = Path(__file__).resolve().parent.parent / "tests" / "data" / "dockerignore.json"
_SOURCE = Path(__file__).resolve().parent / "services" / "dockerignore" / "main.go"
_SHOWN = 10
_NAMES = [*("a", "b", "A", "ab", "a.b", "b.py", "x.py", ".a", "a b", "a\\b", "[a]", "!a", "#a", "é", "^a", "a*")]
_NAMES += [*("a$", "a\nb", "1", "_", "..a", "a]", "a|b", "{a}")]
_PLAIN_NAMES = ["a", "b", "ab", "x.py", "b.py"]
_PARTS = ["a", "b", "ab", "x.py", "*.py", "*", "**", "a*", "*b", "?", "[ab]", "..", "."]
_PIECES = [*("a", "b", "A", ".", "-", "/", "*", "**", "**/", "/**", "?", "[ab]", "[!a]", "[^a]", "[a-b]", "[", "]")]
_PIECES += [*("..", "!", "#", " ", "\\", "é", "x.py", "^", "$", "+", "(", ")", "|", "{", "}", "[*]", "[?]", "\\n")]
_PIECES += [*("[[:alpha:]]", "[\\]]", "\\*", "\\a", "\\b", "\\w", "[\\W]", "\t", "\r", "1", "_", "//", "[a-", "\xa0")]


@dataclass(frozen=True)
class Case:
    """A project: its ``.dockerignore``, its files, and its empty directories, which end with a slash."""

    ignore: str
    paths: tuple[str, ...]

    def make(self, root: Path) -> None:
        """Make the files. What is a file and a directory is a directory."""
        for path in sorted(self.paths, key=lambda path: -path.count("/")):
            place = root / path
            (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.touch()


def random_case(chance: random.Random) -> Case:
    """Return a case of few names, so that patterns match."""
    names = chance.choice((_NAMES, _PLAIN_NAMES))
    paths = ["/".join(chance.choices(names, k=chance.randint(1, 4))) for _ in range(chance.randint(1, 8))]
    lines = [_random_line(chance) for _ in range(chance.randint(1, 5))]
    if chance.random() < 0.4:
        lines.insert(0, chance.choice(["*", "**", "a", "*/*"]))
    ignore = chance.choice(["\n", "\n\n", "\r\n"]).join(lines) + chance.choice(["", "\n"])
    return Case(ignore, tuple(path + chance.choice(["", "", "", "/"]) for path in paths))


def _random_line(chance: random.Random) -> str:
    start = chance.choice(["", "", "!", " ", "! ", ""])
    if chance.random() < 0.4:
        return start + "".join(chance.choices(_PIECES, k=chance.randint(1, 5)))
    parts = chance.choices(_PARTS, k=chance.randint(1, 4))
    return start + chance.choice(["", "", "/"]) + "/".join(parts) + chance.choice(["", "", "/"])


def ours(case: Case, root: Path) -> list[str] | None:
    """Return what caliban would send of a project; None where the file is invalid."""
    try:
        return sorted(paths_sent(root, Ignored.parse(case.ignore.encode())))
    except ImageError:
        return None


def buildkits(cases: Sequence[Case], roots: Sequence[Path]) -> list[list[str] | None]:
    """Return what BuildKit would send of each project; None where the build fails."""
    asked = [json.dumps({"ignore": case.ignore, "root": str(root)}) for case, root in zip(cases, roots, strict=True)]
    program = _built() / "dockerignore"
    done = subprocess.run([program], input="\n".join(asked), capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [None if each["error"] else sorted(each["paths"]) for each in answers]


def _built() -> Path:
    recipe = f"{FSUTIL} {PATTERNMATCHER} {_SOURCE.read_text()}"
    directory = programs_directory() / f"dockerignore-{hashlib.sha256(recipe.encode()).hexdigest()[:8]}"
    with locked(programs_directory() / "dockerignore.lock", waiting="another run is building it"):
        if not (directory / "dockerignore").exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            shutil.copy(_SOURCE, directory)
            modules = [f"github.com/tonistiigi/fsutil@v{FSUTIL}", f"github.com/moby/patternmatcher@v{PATTERNMATCHER}"]
            environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false", "GOWORK": "off"}
            for arguments in (["mod", "init", "caliban.invalid/dockerignore"], ["get", *modules], ["build", "."]):
                command = [find_go(), "-C", str(directory), *arguments]
                run(command, f"go {arguments[0]}", environment=environment, ends_with_us=True)
    return directory


def _made(cases: Sequence[Case], directory: str) -> Iterator[Path]:
    for number, case in enumerate(cases):
        root = Path(directory, str(number))
        root.mkdir()
        case.make(root)
        yield root


def compare(number: int, seed: int) -> int:
    """Compare random cases, and return the exit code."""
    chance = random.Random(seed)
    cases = [random_case(chance) for _ in range(number)]
    different = 0
    with tempfile.TemporaryDirectory() as directory:
        roots = [*_made(cases, directory)]
        for case, root, expected in zip(cases, roots, buildkits(cases, roots), strict=True):
            found = ours(case, root)
            different += found != expected
            if found != expected and different <= _SHOWN:
                say(f"{case}\n  BuildKit: {expected}\n  caliban:  {found}")
    say(f"{number} cases with seed {seed}: {different} differ")
    return int(different > 0)


def record() -> int:
    """Write BuildKit's answers into the table."""
    table = json.loads(TABLE.read_text("utf-8"))
    cases = [Case(each["ignore"], tuple(table["files"])) for each in table["cases"]]
    with tempfile.TemporaryDirectory() as directory:
        root = next(_made(cases[:1], directory))
        for each, kept in zip(table["cases"], buildkits(cases, [root] * len(cases)), strict=True):
            each["kept"] = kept
    rows = ",\n".join("  " + json.dumps(each, ensure_ascii=False) for each in table["cases"])
    files = json.dumps(table["files"], ensure_ascii=False)
    TABLE.write_text(f'{{\n "files": {files},\n "cases": [\n{rows}\n ]\n}}\n', "utf-8")
    return 0


def main() -> int:
    """Compare or record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write BuildKit's answers into the table")
    parser.add_argument("--cases", type=int, default=5000, help="random cases to compare")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="which cases")
    arguments = parser.parse_args()
    try:
        return record() if arguments.record else compare(arguments.cases, arguments.seed)
    except Failure as failure:
        say(f"{failure.message}\nhint: {failure.hint}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
