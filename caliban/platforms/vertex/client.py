"""The requests of aiplatform v1 that are made.

Source: the discovery document that google-api-python-client ships, ``aiplatform.v1.json``. Each region has its own
endpoint: https://cloud.google.com/vertex-ai/docs/reference/rest#service-endpoint
"""

from __future__ import annotations

from typing import Any

from caliban.errors import PlatformError
from caliban.platforms.google.identifiers import VERTEX_JOB
from caliban.platforms.google.jobs_client import JobsClient
from caliban.platforms.vertex.details import VertexDestination
from caliban.records import JsonObject


class VertexClient(JobsClient[VertexDestination]):
    """The custom jobs of Vertex AI. A job's id is its resource name.

    The filter of ``pages`` compares ``display_name``, ``state``, ``create_time`` and ``labels``:
    ``labels.caliban_token=abc``, ``display_name:"caliban_*"``; its option ``readMask`` names the fields to return.
    """

    list_key = "customJobs"
    name_key = "displayName"
    id_key = "name"

    def _collection(self, place: VertexDestination) -> Any:  # noqa: ANN401 - created at run time
        return self._google.resource("aiplatform", "v1", "projects", "locations", "customJobs", region=place.region)

    def _parent(self, place: VertexDestination) -> str:
        return f"projects/{place.project}/locations/{place.region}"

    def _resource(self, place: VertexDestination, job_id: str) -> str:
        if not self._is_identity(VERTEX_JOB.check(job_id), {}, place):
            raise PlatformError(
                VERTEX_JOB.id,
                f"cannot query the job {job_id}: it is recorded to run in another region, {place.region}",
                hint=VERTEX_JOB.hint,
            )
        return job_id

    def _is_identity(self, job_id: object, body: JsonObject, place: VertexDestination) -> bool:
        return VERTEX_JOB.is_valid(job_id) and str(job_id).split("/")[3] == place.region
