"""Why Kueue keeps jobs suspended: its ``Workload`` objects, one for each job, say what is missing. No I/O.

Sources: https://kueue.sigs.k8s.io/docs/tasks/troubleshooting/troubleshooting_jobs/ and kubernetes-sigs/kueue v0.17
(apis/kueue/v1beta2/workload_types.go, pkg/controller/constants/constants.go, pkg/workload/admissionchecks.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from caliban.platforms.kubernetes.details import object_at, objects_in
from caliban.platforms.kubernetes.job_spec import label_of, name_of
from caliban.platforms.kubernetes.pod_status import Explanation
from caliban.records import JsonObject

GROUP = "kueue.x-k8s.io"
VERSIONS = ("v1beta2", "v1beta1")
"""Of the API, the preferred one first; Kueue before 0.15 serves the last only."""
JOB_UID_LABEL = f"{GROUP}/job-uid"
QUEUE_LABEL = f"{GROUP}/queue-name"


def explanations(jobs: Sequence[JsonObject], workloads: Iterable[JsonObject]) -> dict[str, list[Explanation]]:
    """Return why Kueue does not let suspended jobs run, by the job's name; nothing of jobs that it does not manage.

    Args:
        jobs: that are suspended, as the cluster returned them.
        workloads: of the jobs; none where they cannot be listed. The newest of a job counts.
    """
    of_job: dict[str, JsonObject] = {}
    for workload in sorted(workloads, key=_created):
        of_job[str(label_of(workload, JOB_UID_LABEL))] = workload
    found: dict[str, list[Explanation]] = {}
    for job in jobs:
        why = _why(job, of_job.get(str(object_at(job, "metadata").get("uid"))))
        if why:
            found[name_of(job)] = [Explanation(why)]
    return found


def _why(job: JsonObject, workload: JsonObject | None) -> str | None:
    queue = label_of(job, QUEUE_LABEL)
    if workload is None:
        return f"waiting in the Kueue queue {queue}" if queue else None
    spec = object_at(workload, "spec")
    queue = queue or str(spec.get("queueName") or "")
    what = _obstacle(workload)
    if spec.get("active") is False:
        return _joined("stopped by Kueue", _message(workload, "Evicted", "True") or what)
    if _holds(workload, "Admitted"):
        return "admitted by Kueue, starts soon"
    return _joined(f"waiting in the Kueue queue {queue}" if queue else "waiting for Kueue", what)


def _obstacle(workload: JsonObject) -> str | None:
    """Return what a workload lacks: quota, or once it has that, checks such as new nodes."""
    if not _holds(workload, "QuotaReserved"):
        return _message(workload, "QuotaReserved", "False")
    for check in objects_in(object_at(workload, "status"), "admissionChecks"):
        if check.get("state") != "Ready":
            words = f"the admission check {check.get('name')} is {str(check.get('state')).lower()}"
            return _joined(words, str(check.get("message") or ""))
    return _message(workload, "Admitted", "False")


def _holds(workload: JsonObject, kind: str) -> bool:
    return _condition(workload, kind).get("status") == "True"


def _message(workload: JsonObject, kind: str, status: str) -> str | None:
    found = _condition(workload, kind)
    return str(found.get("message") or found.get("reason") or "") if found.get("status") == status else None


def _condition(workload: JsonObject, kind: str) -> Mapping[str, object]:
    each = objects_in(object_at(workload, "status"), "conditions")
    return next((condition for condition in each if condition.get("type") == kind), {})


def _joined(words: str, message: str | None) -> str:
    return f"{words}: {message}" if message else words


def _created(workload: JsonObject) -> str:
    return str(object_at(workload, "metadata").get("creationTimestamp") or "")
