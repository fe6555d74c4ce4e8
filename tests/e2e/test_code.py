"""Change or keep the code of a re-run, with the installed command, a real Docker Engine and a cluster's stand-in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Researcher, wait_until
from tests.images.test_git_state import git
from tests.standins.kubernetes import KubeApi
from tests.standins.kubernetes.runners import Docker

RESUBMIT = ("resubmit", "--xgroup", "resubmit_test")
FLAGS = ("--xgroup", "resubmit_test", "--nogpu", "cpu.py", "--", "--foo", "3", "--sleep", "1")
NOWHERE = "unix:///nowhere/docker.sock"


@pytest.mark.slow
def test_the_code_is_fixed_moved_and_kept(researcher: Researcher, tmp_path: Path) -> None:
    git(researcher.project, "init", "-q")
    git(researcher.project, "add", ".")
    git(researcher.project, "commit", "-q", "-m", "Add an error")
    commit = git(researcher.project, "rev-parse", "HEAD")
    assert researcher.caliban("run", *FLAGS).code == 1

    same = researcher.caliban(*RESUBMIT, "--dry_run")
    assert "    code: unchanged since job 1" in same.lines
    assert "warning: job 1 failed because of an error in the code" in same.err

    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    fixed = researcher.caliban(*RESUBMIT, "--dry_run", "--diff")
    assert "    code: cpu.py +1 -1 since job 1" in fixed.lines
    assert f"code since job 1 (commit {commit[:12]}):" in fixed.lines
    assert [line for line in fixed.lines if line.startswith(("+", "-"))] == [
        "--- a/cpu.py",
        "+++ b/cpu.py",
        "-if args.sleep == 1:",
        "+if args.sleep == -1:",
    ]
    assert "warning" not in fixed.err
    [planned] = json.loads(researcher.caliban(*RESUBMIT, "--dry_run", "--json").out)["jobs"]
    assert (planned["code"]["commit"], planned["code"]["is_dirty"]) == (commit, False)

    moved = tmp_path / "moved"
    shutil.move(researcher.project, moved)
    gone = researcher.caliban(*RESUBMIT, "--yes", cwd=moved)
    assert (gone.code, "[build-folder-gone]" in gone.err) == (1, True)
    assert researcher.caliban(*RESUBMIT, "--yes", "--build_path", ".", cwd=moved).code == 0
    again = researcher.caliban(*RESUBMIT, "--yes", "--all_jobs", cwd=tmp_path)
    assert again.code == 0, again.err
    assert "    code: unchanged since job 2" in again.lines

    shutil.rmtree(moved)
    kept = researcher.caliban(*RESUBMIT, "--yes", "--all_jobs", "--no_rebuild", cwd=tmp_path)
    assert kept.code == 0, kept.err
    assert researcher.rows("SELECT count(DISTINCT container) FROM jobs WHERE id > 1") == [(1,)]
    assert researcher.rows("SELECT count(DISTINCT manifest_id), count(build_path) FROM submission_builds") == [(2, 3)]


@pytest.fixture
def lab(researcher: Researcher, registry: str, base_image: str) -> Iterator[KubeApi]:
    """A cluster in the researcher's kubeconfig, whose jobs run images of a registry."""
    config = {"base_image": base_image, "registry": f"{registry}/lab"}
    researcher.write(".calibanconfig.json", json.dumps(config))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "PROJECT_ID", "KUBECONFIG"):
        researcher.environ.pop(name, None)
    with KubeApi("1.33", {"default"}, runner=Docker(["docker"], os.environ)) as cluster:
        (researcher.home / ".kube").mkdir()
        cluster.write_kubeconfig(researcher.home / ".kube" / "config", "lab")
        yield cluster


@pytest.mark.slow
def test_a_cluster_runs_the_recorded_image_without_docker_here(researcher: Researcher, lab: KubeApi) -> None:
    submitted = researcher.caliban("cluster", "job", "submit", "--context", "lab", *FLAGS)
    assert submitted.code == 0, submitted.err
    wait_until(lambda: " FAILED " in researcher.caliban("status", "--xgroup", "resubmit_test").out)
    shutil.rmtree(researcher.project)

    kept = researcher.caliban(*RESUBMIT, "--no_rebuild", "--yes", cwd=researcher.home, DOCKER_HOST=NOWHERE)

    assert kept.code == 0, kept.err
    first, second = lab.bodies("jobs.create")
    image, again = (each["spec"]["template"]["spec"]["containers"][0]["image"] for each in (first, second))
    assert image == again
    assert "@sha256:" in image
    assert "rebuilding" not in kept.err
    assert "it would probably fail again" in kept.err
