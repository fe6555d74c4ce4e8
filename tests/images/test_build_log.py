from __future__ import annotations

from caliban.images.docker.build_log import BuildLog
from caliban.images.dockerfile import Instruction

from .helpers import RecordingReporter

STEPS = [Instruction("FROM x:1", "pull the base image"), Instruction("RUN y", "do y", "check y")]


def log_of(reporter: RecordingReporter, *streams: str) -> BuildLog:
    reporter.done.append(0)
    log = BuildLog(STEPS, reporter, reporter)
    for text in streams:
        log.feed({"stream": text})
    return log


def test_output_in_pieces_is_reported_line_by_line(reporter: RecordingReporter) -> None:
    log_of(reporter, "Step 2/2 : RUN y", "\n", "a", "b\nc", "\n")
    assert reporter.lines == ["Step 2/2 : RUN y", "ab", "c"]


def test_colours_and_intermediate_images_are_not_reported(reporter: RecordingReporter) -> None:
    log_of(
        reporter, "\x1b[91mbad\n\x1b[0m", " ---> 12ab\n", " ---> Using cache\n", "Removing intermediate container 1\n"
    )
    assert reporter.lines == ["bad", " ---> Using cache"]


def test_a_long_step_is_truncated(reporter: RecordingReporter) -> None:
    log_of(reporter, "Step 2/2 : RUN " + "y" * 1000 + "\n")
    assert len(reporter.lines[0]) == 100


def test_the_cause_has_the_last_twenty_lines_of_the_failed_step(reporter: RecordingReporter) -> None:
    log = log_of(
        reporter, "Step 1/2 : FROM x:1\nfirst\nStep 2/2 : RUN y\n", *(f"line {n}\n" for n in range(30)), "last"
    )
    log_lines = log.failure("The command 'y' returned a non-zero code: 3").cause or ""
    assert log_lines.splitlines() == [f"line {n}" for n in range(10, 30)]


def test_without_an_exit_code_the_message_of_the_engine_is_the_cause(reporter: RecordingReporter) -> None:
    error = log_of(reporter, "Step 2/2 : RUN y\n").failure("OCI runtime create failed")
    assert (error.cause, error.hint) == ("OCI runtime create failed", "check y")


def test_a_full_disk_has_a_hint_of_its_own(reporter: RecordingReporter) -> None:
    error = log_of(reporter, "Step 2/2 : RUN y\n").failure("write /x: no space left on device")
    assert error.id == "disk-full"
    assert "docker system df" in (error.hint or "")


def test_a_full_disk_is_recognized_in_the_output_of_a_step(reporter: RecordingReporter) -> None:
    log = log_of(reporter, "Step 2/2 : RUN y\npip: No space left on device\n")
    assert log.failure("returned a non-zero code: 1").id == "disk-full"


def test_a_build_that_is_rejected_before_its_first_step_has_an_error_of_its_own(reporter: RecordingReporter) -> None:
    assert log_of(reporter).failure("unknown instruction").id == "build-refused"


def test_the_image_is_read_from_the_output_of_an_old_engine(reporter: RecordingReporter) -> None:
    assert log_of(reporter, "Successfully built 12ab34\n").image == "12ab34"


def test_the_id_of_the_image_precedes_the_output(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"aux": {"ID": "sha256:1"}})
    log.feed({"stream": "Successfully built 12ab34\n"})
    assert log.image == "sha256:1"


def test_a_pull_is_reported_by_image_with_progress_by_layer(reporter: RecordingReporter) -> None:
    log = log_of(reporter)
    log.feed({"status": "Pulling from library/python", "id": "3.12-slim"})
    log.feed({"status": "Downloading", "id": "12ab", "progressDetail": {"current": 1, "total": 2}})
    log.feed({"status": "Waiting"})
    log.feed({"unknown": 1})
    assert reporter.lines == ["Pulling from library/python"]
    assert reporter.notes == ["3.12-slim: Pulling from library/python", "12ab: Downloading", "Waiting"]
