"""The documentation agrees with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from caliban.cli import command_table
from caliban.config import ProjectConfig
from caliban.errors import ExitCode
from caliban.platforms.base import Platform
from caliban.submission.experiments import parse_experiments

CLONE = Path(__file__).resolve().parent.parent
PAGES = [CLONE / "README.md", CLONE / "CONTRIBUTING.md", *sorted((CLONE / "docs").glob("*.md"))]


def page(name: str) -> str:
    return (CLONE / name).read_text(encoding="utf-8")


def heading_anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_command_reference_is_up_to_date() -> None:
    checked = subprocess.run([sys.executable, CLONE / "dev" / "docs.py", "--check"], check=False)

    assert checked.returncode == 0, "run `make docs`"


@pytest.mark.parametrize("name", command_table.BUILT_IN)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `caliban {name}` |" in page("README.md")


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_documented(code: ExitCode) -> None:
    assert f"| {code.value} | `{code.name}` |" in page("docs/exit-codes.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_are_valid(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_to_sections_are_valid(path: Path) -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", path.read_text(encoding="utf-8"))

    pages = [(path.parent / name if name else path, anchor) for name, anchor in links]
    assert [(page.name, anchor) for page, anchor in pages if anchor not in heading_anchors(page.read_text())] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_make_targets_in_the_documentation_exist(path: Path) -> None:
    targets = re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE)

    named = re.findall(r"(?:`|^ {4})make ([a-z]+)", path.read_text(encoding="utf-8"), re.MULTILINE)

    assert set(named) <= set(targets)


def test_every_key_of_the_project_configuration_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", page("docs/project-config.md"), re.MULTILINE))

    assert documented == {name for name, field in ProjectConfig.__dataclass_fields__.items() if field.metadata}


def test_the_example_experiment_file_expands_as_documented() -> None:
    example, expected = code_blocks(page("docs/experiment-config.md"))

    experiments = parse_experiments(example, source="the example")

    lines = [
        " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in each.items() if value)
        for each in experiments
    ]
    assert lines == expected.splitlines()


def test_the_tutorial_shows_how_its_script_fails(tmp_path: Path) -> None:
    [script] = [block for block in code_blocks(page("docs/tutorial.md")) if block.startswith("import argparse")]
    [shown] = [block for block in code_blocks(page("docs/tutorial.md")) if block.startswith("== job")]
    (tmp_path / "cpu.py").write_text(script.replace("time.sleep(args.sleep)", ""), encoding="utf-8")

    command = [sys.executable, "cpu.py", "--foo", "3", "--sleep", "1"]
    failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    # Python 3.10, unlike that of the default base image, does not underline the expression
    expected = [line for line in shown.splitlines()[1:] if set(line) - set(" ~^")]
    assert [line for line in failed.stderr.splitlines() if set(line) - set(" ~^")][-len(expected) :] == expected


def test_the_example_plugin_is_a_command() -> None:
    example = next(block for block in code_blocks(page("docs/plugins.md")) if "DESCRIPTION" in block)
    namespace: dict[str, object] = {}
    exec(compile(example, "plugins.md", "exec"), namespace)

    assert {"DESCRIPTION", "add_arguments", "run"} <= set(namespace)


def excerpts() -> list[tuple[str, str]]:
    """Return the path and the text of each excerpt from a file: a code block that begins with the path as a comment."""
    blocks = (block.partition("\n") for path in PAGES for block in code_blocks(path.read_text(encoding="utf-8")))
    return [(first[2:], rest) for first, _, rest in blocks if re.fullmatch(r"# \S+/\S+\.\w+", first)]


@pytest.mark.parametrize(("path", "text"), excerpts(), ids=lambda value: value if "\n" not in value else "")
def test_an_excerpt_is_what_the_file_says(path: str, text: str) -> None:
    assert text in page(path)


def test_the_guide_names_everything_that_a_platform_implements() -> None:
    guide = page("docs/add-a-platform.md")

    assert [name for name in sorted(Platform.__abstractmethods__) if f"`{name}`" not in guide] == []
