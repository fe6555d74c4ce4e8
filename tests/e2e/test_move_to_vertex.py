"""Moving the walkthrough's group, which caliban 0.4.2 ran on AI Platform, to Vertex AI, with a real Docker Engine.

The store was made by caliban 0.4.2; only the build directory in it is replaced. The two services are stand-ins: AI
Platform as it responds since its shutdown, and Vertex AI, which runs the images of its jobs on the Docker Engine.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Researcher, wait_until
from tests.standins.aiplatform_v1 import AiplatformV1
from tests.standins.ml_v1 import MlV1, shut_down
from tests.standins.runners import Docker

PROJECT = "totoro-project"
PEER_STORE = Path(__file__).parent.parent / "data" / "peer_stores" / "walkthrough_caip.sqlite"
RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
STATUS = ("status", "--xgroup", "resubmit_test", "--max_jobs", "0")
CREATE = "aiplatform.projects.locations.customJobs.create"


@pytest.fixture
def user(researcher: Researcher, registry: str, base_image: str) -> Researcher:
    """A researcher with a store of caliban 0.4.2 and the fixed code of its experiments."""
    researcher.store.parent.mkdir(mode=0o700)
    shutil.copy(PEER_STORE, researcher.store)
    with sqlite3.connect(researcher.store) as connection:
        ((text,),) = connection.execute("SELECT spec FROM container_specs").fetchall()
        spec = json.dumps({**json.loads(text), "build_path": str(researcher.project)})
        connection.execute("UPDATE container_specs SET spec = ?", (spec,))
    connection.close()
    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    config = {"base_image": base_image, "registry": f"{registry}/{PROJECT}"}
    researcher.write(".calibanconfig.json", json.dumps(config))
    return researcher


@pytest.fixture
def vertex(user: Researcher) -> Iterator[AiplatformV1]:
    """Vertex AI, and the researcher's key file for it."""
    with AiplatformV1({PROJECT}, runner=Docker(["docker"], os.environ), any_registry=True) as service:
        user.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] = service.url
        user.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"] = service.url
        user.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(service.write_key_file(user.home / "key.json"))
        yield service


@pytest.fixture
def retired_service(user: Researcher, vertex: AiplatformV1) -> Iterator[MlV1]:
    """AI Platform as it responds since its shutdown, for the same account."""
    with MlV1({PROJECT}) as service:
        service.account = vertex.account
        service.end = shut_down()
        user.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        yield service


def test_a_group_of_caliban_0_4_2_is_moved_to_vertex_ai(user: Researcher, vertex: AiplatformV1, registry: str) -> None:
    result = user.caliban(*RESUBMIT, "--platform", "vertex", stdin="y\n")

    assert result.code == 0, result.err
    assert result.lines[:4] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        "  job 2        FAILED        CAIP 2020-05-29 10:53:40 container: "
        "gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529_105338_1",
        "1 job would be moved to VERTEX",
    ]
    ((token, name, image, resubmits, target),) = user.rows(
        "SELECT token, name, container, resubmits, target FROM submissions JOIN jobs ON job_id = jobs.id"
    )
    assert re.fullmatch(rf"{registry}/{PROJECT}/[0-9a-f]{{12}}@sha256:[0-9a-f]{{64}}", str(image))
    assert re.fullmatch(r"caliban_totoro_\d{8}_\d{6}_1", str(name))
    assert (resubmits, json.loads(str(target))) == (2, {"project": PROJECT, "region": "us-central1"})
    assert vertex.bodies(CREATE) == [
        {
            "displayName": name,
            "labels": {
                "gpu_enabled": "false",
                "tpu_enabled": "false",
                "job_name": "caliban_totoro",
                "docker_image": re.sub("[^a-z0-9_-]", "", str(image).partition("@")[0].replace(".", "_"))[:63],
                "foo": "3",
                "caliban_token": token,
            },
            "jobSpec": {
                "workerPoolSpecs": [
                    {
                        "machineSpec": {"machineType": "n1-highcpu-32"},
                        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
                        "containerSpec": {"imageUri": image, "args": ["--foo", "3", "--sleep", "1"]},
                        "replicaCount": "1",
                    }
                ],
                "scheduling": {"disableRetries": True},
            },
        }
    ]

    wait_until(lambda: bool(re.search(r"job 3 +SUCCEEDED +VERTEX", user.caliban(*STATUS).out)))
    assert user.rows("SELECT experiment_id, platform FROM job_specs ORDER BY id") == [
        (1, "CAIP"),
        (2, "CAIP"),
        (2, "VERTEX"),
    ]


def test_without_the_flag_the_hint_is_the_command_that_moves_the_group(
    user: Researcher, vertex: AiplatformV1, retired_service: MlV1
) -> None:
    refused = user.caliban(*RESUBMIT, "--yes")

    assert refused.code == 1
    assert refused.err.count("[service-gone]") == 1
    assert "Step 1" not in refused.err
    assert user.rows("SELECT count(*) FROM jobs") == [(2,)]
    assert retired_service.counts["ml.projects.jobs.list"] == 1
    [command] = re.findall(r"(caliban resubmit --xgroup .* --platform vertex)$", refused.err, re.MULTILINE)

    moved = user.caliban(*shlex.split(command)[1:], "--yes")

    assert moved.code == 0, moved.err
    assert [body["displayName"] for body in vertex.bodies(CREATE)] == [
        name for (name,) in user.rows("SELECT name FROM submissions")
    ]
