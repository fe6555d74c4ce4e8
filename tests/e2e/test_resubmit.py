"""The walkthrough of caliban_resubmit.rst with the installed command and a real Docker Engine."""

from __future__ import annotations

import re

from tests.e2e.conftest import RUN, Researcher


def normalized(text: str) -> list[str]:
    """Return the lines of a listing with dates, hashes and names replaced, and without the last error of a job."""
    replaced = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "DATE", text)
    replaced = re.sub(r"sha256:[0-9a-f]{12}(?![0-9a-f])", "IMAGE", replaced)
    replaced = re.sub(r"\(exit code 1: .*\)$", "(exit code 1)", replaced, flags=re.MULTILINE)
    return re.sub(r"caliban-\d{8}-\d{6}-[0-9a-f]{8}", "NAME", replaced).splitlines()


def test_a_failed_experiment_is_fixed_and_rerun_with_one_command(researcher: Researcher) -> None:
    ran = researcher.caliban(*RUN)
    assert ran.code == 1
    assert ran.lines == ["running 3 2.0", "running 3 1.0"]
    assert normalized(ran.err)[-8:-3] == [
        "cpu.py --foo 3 --sleep 2",
        "  job 1        SUCCEEDED    LOCAL DATE container: IMAGE name: NAME",
        "cpu.py --foo 3 --sleep 1",
        "  job 2        FAILED       LOCAL DATE container: IMAGE name: NAME (exit code 1)",
        "2 experiments: 1 succeeded, 1 failed",
    ]

    before = researcher.caliban("status", "--xgroup", "resubmit_test")
    tree = [
        "xgroup resubmit_test:",
        f"docker config 1: job_mode: CPU, build url: {researcher.project}, extra dirs: None",
        "  experiment id 1: cpu.py --foo 3 --sleep 2",
        "    job 1        SUCCEEDED    LOCAL DATE container: IMAGE name: NAME",
        "  experiment id 2: cpu.py --foo 3 --sleep 1",
        "    job 2        FAILED       LOCAL DATE container: IMAGE name: NAME (exit code 1)",
    ]
    assert (before.code, normalized(before.out)[:6]) == (0, tree)
    assert before.lines[6] == "2 experiments: 1 succeeded, 1 failed"
    assert before.lines[-2:] == [
        "output:  caliban logs --xgroup resubmit_test --failed",
        "re-run:  caliban resubmit --xgroup resubmit_test",
    ]

    researcher.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    resubmitted = researcher.caliban("resubmit", "--xgroup", "resubmit_test", stdin="y\n")
    assert resubmitted.code == 0
    assert normalized(resubmitted.out) == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        "  job 2        FAILED       LOCAL DATE container: IMAGE name: NAME (exit code 1)",
        "    code: cpu.py +1 -1 since job 2",
        "cpu.py --foo 3 --sleep 1",
        "  job 3        SUCCEEDED    LOCAL DATE container: IMAGE name: NAME",
    ]
    assert "running 3 1.0\n" in resubmitted.err
    assert "\n do you wish to resubmit these 1 jobs? [yN]: y\nrebuilding containers...\n" in resubmitted.err

    after = researcher.caliban("status", "--xgroup", "resubmit_test")
    assert normalized(after.out) == [
        *tree[:-1],
        "    job 3        SUCCEEDED    LOCAL DATE container: IMAGE name: NAME",
        "2 experiments: 2 succeeded",
    ]
    images = [line.split("container: ")[1].split()[0] for line in before.lines + after.lines if "container: " in line]
    assert images[0] == images[1] == images[2] != images[3], "the fixed code runs in a new image"


def test_nothing_is_resubmitted_when_all_jobs_succeeded(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.replace("cpu.py", "args.sleep == 1", "args.sleep == -1")
    group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")

    again = group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")

    assert again.code == 0
    assert again.out == (
        "nothing to resubmit in the experiment group resubmit_test: 2 succeeded "
        "(--all_jobs resubmits jobs regardless of their state)\n"
    )


def test_a_rerun_that_fails_is_recorded_with_its_exit_code(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.replace("cpu.py", 'sys.exit("a coding error")', "sys.exit(7)")

    result = group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test", "--yes")

    assert result.code == 1
    assert "(exit code 7)" in result.out
    assert group_with_a_failure.details(3)["ret_code"] == 7


def test_all_jobs_resubmits_every_job(group_with_a_failure: Researcher) -> None:
    result = group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test", "--all_jobs", "--yes")

    assert result.code == 1
    assert group_with_a_failure.rows("SELECT experiment_id, status FROM jobs WHERE id > 2 ORDER BY id") == [
        (1, "SUCCEEDED"),
        (2, "FAILED"),
    ]


def test_running_a_group_again_adds_jobs_to_the_same_experiments(group_with_a_failure: Researcher) -> None:
    group_with_a_failure.caliban(*RUN)

    assert group_with_a_failure.rows("SELECT experiment_id FROM jobs ORDER BY id") == [(1,), (2,), (1,), (2,)]
    assert group_with_a_failure.rows("SELECT count(*) FROM container_specs") == [(1,)]


def test_a_dry_run_shows_the_plan_and_writes_nothing(group_with_a_failure: Researcher) -> None:
    store = group_with_a_failure.store
    before = (store.read_bytes(), sorted(store.parent.iterdir()))

    result = group_with_a_failure.caliban(
        "resubmit", "--xgroup", "resubmit_test", "--dry_run", DOCKER_HOST="unix:///nowhere.sock"
    )

    assert result.code == 0
    assert normalized(result.out) == [
        "the following jobs would be resubmitted:",
        "cpu.py --foo 3 --sleep 1",
        "  job 2        FAILED       LOCAL DATE container: IMAGE name: NAME (exit code 1)",
        "    code: unchanged since job 2",
        "",
        "container images:",
        f"  docker config 1, for 1 job: would be rebuilt from {group_with_a_failure.project} (job_mode: CPU)",
        "",
        "left out:",
        "  cpu.py --foo 3 --sleep 2 (experiment 1, job 1): succeeded",
        "",
        "nothing was submitted: to resubmit these jobs, run this command without --dry_run",
    ]
    assert (store.read_bytes(), sorted(store.parent.iterdir())) == before


def test_the_answer_no_resubmits_nothing(group_with_a_failure: Researcher) -> None:
    result = group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test", stdin="n\n")

    assert result.code == 1
    assert result.err.endswith("nothing was resubmitted\n")
    assert group_with_a_failure.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_end_of_input_resubmits_nothing_and_names_the_flag_for_scripts(group_with_a_failure: Researcher) -> None:
    result = group_with_a_failure.caliban("resubmit", "--xgroup", "resubmit_test")

    assert result.code == 1
    assert "in scripts, add --yes" in result.err
    assert group_with_a_failure.rows("SELECT count(*) FROM jobs") == [(2,)]
