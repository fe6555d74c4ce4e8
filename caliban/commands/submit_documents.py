"""The JSON documents of the submitting commands: what they submitted, exported, or would submit. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caliban.cli import documents
from caliban.images.spec import BuildSpec, ImageSpec
from caliban.records import ImageRef, JsonObject, Outcome

if TYPE_CHECKING:
    from caliban.commands.preview import Preview
    from caliban.commands.submit import Request
    from caliban.platforms.launch import Exporter


def submit_document(request: Request, outcomes: Sequence[Outcome], not_started: int) -> JsonObject:
    """Return the attempts that were submitted; those that an interrupted command had submitted are not among them."""
    return documents.document(
        "caliban.submit/1",
        group=request.xgroup,
        platform=request.launch.platform,
        summary=documents.summary_fields(outcomes, not_started),
        jobs=[documents.outcome_fields(outcome) for outcome in outcomes],
    )


def export_document(request: Request, exporter: Exporter, image: ImageRef) -> JsonObject:
    """Return the jobs that were written to a file."""
    return documents.document(
        "caliban.export/1",
        group=request.xgroup,
        platform=request.launch.platform,
        file=str(exporter.export_file),
        image=image,
        jobs=[documents.new_experiment_fields(each) for each in request.previews()],
    )


def plan_document(preview: Preview, request: Request) -> JsonObject:
    """Return what ``--dry_run`` would do."""
    return documents.document(
        "caliban.submit-plan/1",
        group=preview.forecast.xgroup,
        platform=request.launch.platform,
        action=preview.verb,
        jobs=[documents.new_experiment_fields(each) for each in preview.forecast.experiments],
        image=source_fields(request.source, is_needed=request.launcher.image_flag is not None),
        destination=request.launch.chosen(),
        notes=[*preview.forecast.lines, *request.launch.summary_lines()],
        warnings=list(preview.warnings),
        requests=preview.requests or None,
    )


def source_fields(source: BuildSpec | ImageSpec, *, is_needed: bool = True) -> JsonObject:
    """Return where an image comes from.

    Args:
        source: of the image.
        is_needed: whether jobs run in an image; otherwise they run in the directory that it would be built from.
    """
    if isinstance(source, ImageSpec):
        return {"action": "use", "image": source.image, "build_path": None, "job_mode": None}
    return {
        "action": "build" if is_needed else "none",
        "image": None,
        "build_path": str(source.build_path),
        "job_mode": source.job_mode.value,
    }
