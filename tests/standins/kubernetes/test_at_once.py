"""Many who ask at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.standins.kubernetes import KubeApi, Quota
from tests.standins.kubernetes.callers import JOBS, Raw, job_body

CALLERS = 16


def test_one_of_many_gets_the_name(raw: Raw) -> None:
    with ThreadPoolExecutor(CALLERS) as callers:
        codes = Counter(callers.map(lambda _: raw.send("POST", JOBS, job_body()).status_code, range(CALLERS)))
    assert codes == {201: 1, 409: CALLERS - 1}


def test_a_quota_holds_whoever_is_first(raw: Raw, cluster: KubeApi) -> None:
    cluster.quota = Quota("compute", 5)
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = callers.map(lambda n: raw.send("POST", JOBS, job_body(f"job-{n}")).status_code, range(CALLERS))
        assert Counter(answers) == {201: 5, 403: CALLERS - 5}


def test_every_change_has_a_resource_version_of_its_own(raw: Raw, cluster: KubeApi) -> None:
    with ThreadPoolExecutor(CALLERS) as callers:
        made = callers.map(lambda n: raw.send("POST", JOBS, job_body(f"job-{n}")).json(), range(CALLERS))
        versions = {job["metadata"]["resourceVersion"] for job in made}
    before = cluster.jobs.get("job-0")["metadata"]["resourceVersion"]
    cluster.jobs.start("job-0")
    assert len(versions) == CALLERS
    assert int(cluster.jobs.get("job-0")["metadata"]["resourceVersion"]) > int(before)
