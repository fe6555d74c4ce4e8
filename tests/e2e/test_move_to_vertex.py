"""The walk-through's group of caliban 0.4.2 on AI Platform, moved over to Vertex AI with a real Docker Engine.

The store is the one that caliban 0.4.2 made, with the folder of the code rewritten. The two services are stand-ins:
AI Platform as it answers since its end, and Vertex AI, which runs each accepted job's image on the Docker Engine.
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
def heir(researcher: Researcher, registry: str, base_image: str) -> Researcher:
    """A researcher with the store that caliban 0.4.2 left, and the code that it speaks of, mended."""
    researcher.store.parent.mkdir(mode=0o700)
    shutil.copy(PEER_STORE, researcher.store)
    with sqlite3.connect(researcher.store) as connection:
        ((text,),) = connection.execute("SELECT spec FROM container_specs").fetchall()
        spec = json.dumps({**json.loads(text), "build_path": str(researcher.folder)})
        connection.execute("UPDATE container_specs SET spec = ?", (spec,))
    connection.close()
    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    config = {"base_image": base_image, "registry": f"{registry}/{PROJECT}"}
    researcher.write(".calibanconfig.json", json.dumps(config))
    return researcher


@pytest.fixture
def vertex(heir: Researcher) -> Iterator[AiplatformV1]:
    """Vertex AI, with the researcher's key to it."""
    with AiplatformV1({PROJECT}, runner=Docker(["docker"], os.environ), any_registry=True) as service:
        heir.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"] = service.url
        heir.environ["GOOGLE_APPLICATION_CREDENTIALS"] = str(service.write_key_file(heir.home / "key.json"))
        yield service


@pytest.fixture
def ended(heir: Researcher, vertex: AiplatformV1) -> Iterator[MlV1]:
    """AI Platform as it answers since its end, for the same account."""
    with MlV1({PROJECT}) as service:
        service.account = vertex.account
        service.end = shut_down()
        heir.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_ML"] = service.url
        yield service


def test_a_group_of_caliban_0_4_2_is_moved_to_vertex_ai(heir: Researcher, vertex: AiplatformV1, registry: str) -> None:
    answer = heir.caliban(*RESUBMIT, "--platform", "vertex", stdin="y\n")

    assert answer.code == 0, answer.err
    assert answer.lines[:4] == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        "  job 2        FAILED        CAIP 2020-05-29 10:53:40 container: "
        "gcr.io/totoro-project/cffd1475aaca:latest name: caliban_totoro_20200529_105338_1",
        "1 job would be moved to VERTEX",
    ]
    ((token, name, image, resubmits, target),) = heir.rows(
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
                ]
            },
        }
    ]

    wait_until(lambda: bool(re.search(r"job 3 +SUCCEEDED +VERTEX", heir.caliban(*STATUS).out)))
    assert heir.rows("SELECT experiment_id, platform FROM job_specs ORDER BY id") == [
        (1, "CAIP"),
        (2, "CAIP"),
        (2, "VERTEX"),
    ]


def test_without_the_flag_the_hint_is_the_command_that_moves_the_group(
    heir: Researcher, vertex: AiplatformV1, ended: MlV1
) -> None:
    refused = heir.caliban(*RESUBMIT, "--yes")

    assert refused.code == 1
    assert refused.err.count("[service-gone]") == 1
    assert "Step 1" not in refused.err
    assert heir.rows("SELECT count(*) FROM jobs") == [(2,)]
    assert ended.counts["ml.projects.jobs.list"] == 1
    [command] = re.findall(r"(caliban resubmit --xgroup .* --platform vertex)$", refused.err, re.MULTILINE)

    moved = heir.caliban(*shlex.split(command)[1:], "--yes")

    assert moved.code == 0, moved.err
    assert [body["displayName"] for body in vertex.bodies(CREATE)] == [
        name for (name,) in heir.rows("SELECT name FROM submissions")
    ]
