"""The requests of ml v1 that are made.

Source: the discovery document that google-api-python-client ships, ``ml.v1.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from caliban.platforms.base import ServiceRetiredError
from caliban.platforms.caip.details import CaipDestination
from caliban.platforms.google.errors import ForeignAnswerError, GoogleRefusedError
from caliban.platforms.google.identifiers import CAIP_JOB
from caliban.platforms.google.jobs_client import JobsClient
from caliban.platforms.google.transport import ApiRequest, execute_once
from caliban.records import JsonObject

RETIRED = "AI Platform Training was shut down by Google on 2025-01-31, and Container Registry on 2025-03-18"
"""Sources: https://cloud.google.com/ai-platform/docs/deprecations and
https://cloud.google.com/artifact-registry/docs/transition/gcr-repositories#deprecation
"""

_SUCCESSOR = "vertex"
_HINT = (
    f"run its jobs again on Vertex AI (--platform {_SUCCESSOR}), and submit new ones there: omit --platform caip, and "
    'remove "cloud_platform": "caip" from .calibanconfig.json'
)
_RETIRED_MESSAGES = ("has been deprecated. Please use Vertex AI", "SERVICE_DISABLED", "has not been used in project")
_NO_SUCH_METHOD = "Method not found"


class CaipClient(JobsClient[CaipDestination]):
    """The jobs of AI Platform Training.

    Every method also raises :class:`~caliban.platforms.base.ServiceRetiredError` (``service-gone``): the service was
    shut down, or is disabled in the project. ``pages`` lists only jobs of the last 90 days.

    Source: https://cloud.google.com/ai-platform/training/docs/managing-models-jobs
    """

    list_key = "jobs"
    name_key = id_key = "jobId"

    def check(self, place: CaipDestination) -> None:
        """Check that the service is there, by listing one job. Any other refusal does not answer that."""
        request = self._jobs(place).list(parent=self._parent(place), pageSize=1)
        with suppress(GoogleRefusedError):
            self._execute(request, f"list the jobs of {place}")

    def _send(self, execute: Callable[[ApiRequest, str], JsonObject], request: ApiRequest, action: str) -> JsonObject:
        try:
            return super()._send(execute, request, action)
        except (GoogleRefusedError, ForeignAnswerError) as error:
            retired = retirement(error)
            # A page may come from a proxy that replaced the answer to an accepted job: it ends no submission.
            if retired is not None and (retired.is_certain or execute is not execute_once):
                raise retired from error
            raise

    def _collection(self, place: CaipDestination) -> Any:  # noqa: ANN401 - created at run time
        return self._google.resource("ml", "v1", "projects", "jobs")

    def _parent(self, place: CaipDestination) -> str:
        return f"projects/{place.project}"

    def _resource(self, place: CaipDestination, job_id: str) -> str:
        return f"projects/{place.project}/jobs/{CAIP_JOB.check(job_id)}"

    def _is_identity(self, job_id: object, body: JsonObject, place: CaipDestination) -> bool:
        return job_id == body[self.name_key]


def retirement(error: GoogleRefusedError | ForeignAnswerError) -> ServiceRetiredError | None:
    """Return the error for a refusal that means the service was shut down; None for any other refusal.

    Since the shutdown Google answers 400, "Cloud AI Platform has been deprecated. Please use Vertex AI"
    (https://github.com/hashicorp/terraform-provider-google/issues/22249), and 403, SERVICE_DISABLED, where the API is
    not enabled (https://cloud.google.com/apis/design/errors#error_info). An API that no longer exists answers 404 with
    a page of HTML or "Method not found", 410 or 501; a missing job, 404 with another message in JSON.
    """
    cause = error.cause or ""
    is_page = error.is_page if isinstance(error, ForeignAnswerError) else _is_page(error)
    is_retired = (
        (error.code in (410, 501) and (is_page or isinstance(error, GoogleRefusedError)))
        or (error.code == 404 and (is_page or cause.startswith(_NO_SUCH_METHOD)))
        or (error.code in (400, 403) and any(message in cause for message in _RETIRED_MESSAGES))
    )
    if not is_retired:
        return None
    shown = f"HTTP {error.code}, with an HTML page as answer" if is_page else error.cause
    return ServiceRetiredError(
        "service-gone", RETIRED, cause=shown, hint=_HINT, successor=_SUCCESSOR, is_certain=not is_page
    )


def _is_page(error: GoogleRefusedError) -> bool:
    return not error.status and (error.cause or "").lstrip().startswith("<")
