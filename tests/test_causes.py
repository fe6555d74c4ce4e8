"""Why jobs failed, in words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from caliban.causes import cause_of, exit_text, reason_of, signal_name
from caliban.records import FailureCause, JobDetails, JobExit, JobRecord, JobStatus, OutputError
from tests.builders import a_job

NAN = OutputError("ValueError", "loss is nan at step 17", "train.py:41")
CODE, OOM, UNKNOWN = FailureCause.CODE_ERROR, FailureCause.OUT_OF_MEMORY, FailureCause.UNKNOWN
PAGE = Path(__file__).parent.parent / "docs" / "causes.md"


def failed(
    code: int | None = None,
    cause: FailureCause | None = None,
    message: str | None = None,
    error: OutputError | None = None,
    status: JobStatus = JobStatus.FAILED,
) -> JobRecord:
    details = JobDetails(exit=JobExit(code, cause, message))
    return replace(a_job(1, status), details=details, output_error=error)


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (failed(1, CODE, None, NAN), "exit code 1: ValueError: loss is nan at step 17"),
        (failed(1, CODE), "exit code 1"),
        (failed(1, CODE, "exit code 1: oops"), "exit code 1: oops"),
        (failed(1, CODE, "exit code 1"), "exit code 1"),
        (failed(139, CODE), "exit code 139 (SIGSEGV)"),
        (failed(2, CODE, None, OutputError(None, "a.py: error: bad")), "exit code 2: a.py: error: bad"),
        (failed(1, CODE, None, OutputError("KeyError", "")), "exit code 1: KeyError"),
        (failed(137, OOM, "out of memory"), "out of memory, exit code 137 (SIGKILL)"),
        (failed(137, OOM, "OOMKilled, exit code 137"), "out of memory, exit code 137 (SIGKILL)"),
        (failed(137, OOM, "OOMKilled"), "out of memory, exit code 137 (SIGKILL)"),
        (failed(137, OOM, None, NAN), "out of memory, exit code 137 (SIGKILL)"),
        (failed(None, OOM), "out of memory"),
        (failed(None, FailureCause.TIMEOUT, "DeadlineExceeded: late"), "timed out: DeadlineExceeded: late"),
        (failed(None, FailureCause.TIMEOUT, "DeadlineExceeded"), "timed out"),
        (failed(None, FailureCause.TIMEOUT, "expired"), "timed out: expired"),
        (failed(143, FailureCause.TIMEOUT), "timed out, exit code 143 (SIGTERM)"),
        (failed(None, FailureCause.PREEMPTED, "PreemptionByScheduler"), "preempted"),
        (failed(None, FailureCause.REFUSED, "no quota"), "no quota"),
        (failed(None, FailureCause.REFUSED), "refused"),
        (failed(None, FailureCause.IMAGE, "ErrImagePull: not found"), "ErrImagePull: not found"),
        (failed(128, FailureCause.IMAGE, "StartError, exit code 128: no file"), "exit code 128: StartError: no file"),
        (failed(None, FailureCause.INFRASTRUCTURE), "infrastructure failure"),
        (failed(None, UNKNOWN, None, NAN), "ValueError: loss is nan at step 17"),
        (failed(None, UNKNOWN, "the reason"), "the reason"),
        (failed(), None),
        (replace(a_job(1, JobStatus.FAILED), details=JobDetails()), None),
        (failed(0, status=JobStatus.SUCCEEDED), None),
        (failed(message="no such job", status=JobStatus.UNKNOWN), "no such job"),
        (replace(a_job(1, JobStatus.RUNNING), details=JobDetails(pending_reason="suspended")), "suspended"),
    ],
)
def test_the_reason_of_a_job(job: JobRecord, reason: str | None) -> None:
    assert reason_of(job) == reason


MEMORY = [
    OutputError("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB"),
    OutputError("torch.cuda.OutOfMemoryError", "x"),
    OutputError("RuntimeError", "CUDA out of memory. Tried to allocate"),
    OutputError("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"),
    OutputError("tensorflow.python.framework.errors_impl.ResourceExhaustedError", "OOM when allocating tensor"),
    OutputError("jaxlib.xla_extension.XlaRuntimeError", "RESOURCE_EXHAUSTED: Out of memory while trying to"),
    OutputError("MemoryError", ""),
    OutputError("numpy.core._exceptions._ArrayMemoryError", "Unable to allocate 1 TiB"),
    OutputError("std::bad_alloc", "std::bad_alloc"),
    OutputError("OSError", "[Errno 12] Cannot allocate memory"),
    OutputError("java.lang.OutOfMemoryError", "Java heap space"),
    OutputError(None, "Error: cannot allocate vector of size 7.5 Gb"),
]


@pytest.mark.parametrize("error", MEMORY, ids=str)
def test_an_error_that_says_that_memory_was_missing_is_the_cause(error: OutputError) -> None:
    assert cause_of(failed(1, CODE, None, error)) is OOM


@pytest.mark.parametrize(
    ("job", "cause"),
    [
        (failed(1, CODE, None, NAN), CODE),
        (failed(1), CODE),
        (failed(), UNKNOWN),
        (failed(None, UNKNOWN, None, NAN), CODE),
        (failed(None, UNKNOWN, None, OutputError(None, "ERROR x")), UNKNOWN),
        (failed(None, FailureCause.PREEMPTED, None, MEMORY[0]), FailureCause.PREEMPTED),
        (failed(0, status=JobStatus.SUCCEEDED, error=MEMORY[0]), None),
        (failed(143, CODE, status=JobStatus.STOPPED), FailureCause.STOPPED),
        (failed(None, UNKNOWN, "gone", status=JobStatus.UNKNOWN), UNKNOWN),
        (a_job(1, JobStatus.RUNNING), None),
        (a_job(1, JobStatus.SUBMITTED), None),
    ],
)
def test_the_cause_of_a_job(job: JobRecord, cause: FailureCause | None) -> None:
    assert cause_of(job) is cause


@pytest.mark.parametrize(
    ("code", "name"),
    [(129, "SIGHUP"), (137, "SIGKILL"), (143, "SIGTERM"), (159, "SIGSYS"), (-9, "SIGKILL")]
    + [(code, None) for code in (0, 1, 125, 127, 128, 160, 255, -1000)],
)
def test_an_exit_code_above_128_names_its_signal(code: int, name: str | None) -> None:
    assert signal_name(code) == name
    assert exit_text(failed(code)) == (f"exit code {code} ({name})" if name else f"exit code {code}")


def test_an_exit_code_that_is_not_known_has_no_text() -> None:
    assert exit_text(failed()) is None


def test_each_cause_has_a_section_that_says_what_to_do() -> None:
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert [section.split("\n")[0] for section in sections] == [cause.value for cause in FailureCause]
    assert all("What to do: " in section for section in sections)
