"""Small packages with commands, laid out as by ``pip install --target``."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from textwrap import dedent

HELLO = """
    DESCRIPTION = "Greet somebody."

    def add_arguments(parser):
        parser.add_argument("--name", default="you")

    def run(args, context):
        context.console.print(f"hello {args.name}, says {context.user}")
        return 0
"""


def add_package(
    site: Path,
    package: str,
    entry_points: dict[str, str],
    modules: dict[str, str],
    group: str = "caliban.commands",
) -> None:
    """Add a package with commands to ``site``, or with platforms.

    Args:
        site: a directory of ``sys.path``.
        package: its name.
        entry_points: command -> ``module`` or ``module:attribute``.
        modules: module -> source.
        group: of the entry points.
    """
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}")
    for module, source in modules.items():
        (site / f"{module}.py").write_text(dedent(source))


def python_path(site: Path) -> dict[str, str]:
    """Return the environment variable with which a process finds the packages in ``site``."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


def wheel_of(site: Path, directory: Path) -> Path:
    """Build a wheel of the only package in ``site``."""
    [info] = site.glob("*.dist-info")
    (info / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    (info / "RECORD").write_text("")
    wheel = directory / f"{info.stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in sorted(site.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(site))
    return wheel
