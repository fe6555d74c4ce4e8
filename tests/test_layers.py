"""What import-linter cannot check of the layers."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "caliban"
PLATFORM_WORDS = re.compile(
    r"google|gcloud|gcr\.io|pkg\.dev|\bgke\b|\bcaip\b|ai.?platform|vertex|kubernetes|kubectl|kubeconfig", re.IGNORECASE
)
EXCEPTIONS = {
    "config.py": {"gcloud"},  # a key of caliban 0.4.2's configuration file, which is recognised to be refused
    "store/migrations/versions/v0001_baseline.py": {"caip", "gke"},  # released migrations never change
    "store/migrations/versions/v0002_journal.py": {"vertex", "kubernetes", "caip", "gke"},
    "store/migrations/versions/v0003_free_platforms.py": {"vertex", "kubernetes", "caip", "gke"},
}


def test_no_word_of_a_platform_occurs_outside_its_directory() -> None:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("platforms/"):
            words = {word.lower() for word in PLATFORM_WORDS.findall(path.read_text(encoding="utf-8"))}
            if left := words - EXCEPTIONS.get(name, set()):
                found[name] = sorted(left)
    assert found == {}


def test_no_code_outside_platforms_compares_a_platforms_id() -> None:
    comparison = re.compile(r"(?<!sys\.)platform(?:\.id)? (?:==|!=|is|is not|in) [\"\'(]")
    found = [path for path in PACKAGE.rglob("*.py") if comparison.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_backend_directory_has_the_same_files() -> None:
    expected = {"__init__.py", "platform.py", "job_spec.py", "details.py", "launch.py"}
    backends = ("docker", "caip", "vertex", "kubernetes")
    missing = {
        backend: expected - {path.name for path in (PACKAGE / "platforms" / backend).glob("*.py")}
        for backend in backends
    }
    assert missing == {backend: set() for backend in backends}
