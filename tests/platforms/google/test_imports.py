from __future__ import annotations

import subprocess
import sys

import pytest


def modules_after(imports: str, *names: str) -> str:
    """Return those of the top-level modules that are imported with ``imports``."""
    program = f"import sys, {imports}; print(*sorted({{*{names}}} & {{m for m in sys.modules}}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    return ended.stdout.strip()


LIBRARIES = ("google.auth", "googleapiclient", "httplib2", "requests", "docker", "sqlalchemy")


@pytest.mark.parametrize("backend", ["caip", "vertex"])
def test_a_platform_is_imported_without_any_library_of_google_or_http(backend: str) -> None:
    assert modules_after(f"caliban.platforms.{backend}.platform", *LIBRARIES) == ""


@pytest.mark.parametrize("backend", ["caip", "vertex"])
def test_listing_jobs_imports_no_platform(backend: str) -> None:
    platforms = ("caliban.platforms.base", "caliban.platforms.google.training_platform")
    assert modules_after(f"caliban.platforms.{backend}.details", *platforms, *LIBRARIES) == ""


@pytest.mark.parametrize("backend", ["caip", "vertex"])
def test_the_flags_of_a_launcher_import_no_library_and_no_client(backend: str) -> None:
    platforms = ("caliban.platforms.google.client", "caliban.platforms.google.training_platform")
    assert modules_after(f"caliban.platforms.{backend}.launch", *platforms, *LIBRARIES) == ""
