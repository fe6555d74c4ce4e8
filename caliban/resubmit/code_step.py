"""The step of a re-run that compares the code: reads the projects, and shows what changed."""

from __future__ import annotations

from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.code_record import CodeRecord
from caliban.images.code import scan
from caliban.images.slow_progress import slow_progress
from caliban.images.spec import BuildSpec
from caliban.platforms.registry import Platforms
from caliban.resubmit.code import Comparison, compare_code, diff_lines, warning
from caliban.resubmit.code_options import CodeOptions
from caliban.resubmit.plan import Plan
from caliban.store.database import Store
from caliban.submission.setup import secret_files


def compared(plan: Plan, context: Context, platforms: Platforms, store: Store) -> Comparison:
    """Compare what each job of a plan ran with what would be built now."""
    rules = secret_files(platforms.context.options)

    def read(source: BuildSpec) -> CodeRecord | None:
        with slow_progress(context.console, "project files", "file", context.clock) as on_file:
            return scan(source, context.environ, rules, on_file)

    return compare_code(plan, store, read)


def show(comparison: Comparison, options: CodeOptions, console: Console) -> None:
    """Show the differences where they are wanted, and warn of jobs that would fail again."""
    if options.diff:
        console.print("")
        for line in diff_lines(comparison):
            console.print(line, keep="\t")
    text = warning(comparison.plan)
    if text is not None:
        console.warn(text)
