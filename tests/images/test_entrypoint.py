"""What of a base image's ENTRYPOINT runs the program that it is given."""

from __future__ import annotations

import pytest

from caliban.images.entrypoint import Program, split

NVIDIA = b"""#!/bin/bash
for _file in "${_PARTS[@]}"; do
  case "${_file}" in
    *.txt) cat "${_file}";;
    *.sh)  source "${_file}";;
  esac
done
# exec "$@" in the end
if [[ $# -eq 0 ]]; then
  exec "/bin/bash"
else
  exec "$@"
fi
"""
JUPYTER = b"""#!/bin/bash
if [ $# -eq 0 ]; then
    cmd=( "bash" )
else
    cmd=( "$@" )
fi
if [ "$(id -u)" == 0 ]; then
    exec sudo --preserve-env --set-home --user "${NB_USER}" PATH="${PATH}" "${cmd[@]}"
else
    exec "${cmd[@]}"
fi
"""
PROGRAMS = {
    "tini": b"\x7fELF",
    "dumb-init": b"\x7fELF",
    "gosu": b"\x7fELF",
    "env": b"\x7fELF",
    "conda": b"#!/opt/conda/bin/python\n",
    "micromamba": b"\x7fELF",
    "python3": b'\x7fELF\0exec "$@"',
    "bash": b"\x7fELF",
    "sh": b"\x7fELF",
    "nvidia_entrypoint.sh": NVIDIA,
    "start.sh": JUPYTER,
    "start-notebook.sh": b'#!/bin/bash\nexec /usr/local/bin/start-notebook.py "$@"\n',
    "postgres.sh": b'#!/bin/sh\nif [ "$1" = serve ]; then\n  exec gosu lab "$@"\nfi\nexec "$@"\n',
    "server.sh": b'#!/bin/sh\n# exec "$@"\nexec gunicorn app:app "$@"\n',
    "silent.sh": b"#!/bin/sh\nwait-for-database\n",
    "activate.sh": b'#!/bin/sh\n. /opt/env/bin/activate && exec "$@"\n',
    "plain.sh": b'#!/bin/sh\numask 2\n"$@"\n',
}


def look(word: str) -> Program | None:
    start = PROGRAMS.get(word.rpartition("/")[2])
    return None if start is None else Program(start)


@pytest.mark.parametrize(
    "entrypoint",
    [
        ["/opt/nvidia/nvidia_entrypoint.sh"],
        ["tini", "-g", "--", "start.sh"],
        ["tini", "-s", "-e", "143", "--"],
        ["/usr/bin/dumb-init", "--rewrite", "15:2"],
        ["postgres.sh"],
        ["activate.sh"],
        ["plain.sh"],
        ["conda", "run", "-n", "train", "--no-capture-output"],
        ["conda", "run", "--name=train"],
        ["/bin/micromamba", "-p", "/env", "run"],
        ["gosu", "lab"],
        ["env", "-u", "HOME", "A=1"],
        ["bash", "/activate.sh"],
        ["bash", "-c", 'source activate train && exec "$@"', "bash"],
        ["bash", "-c", 'exec "$0" "$@"'],
        ["tini", "--", "nvidia_entrypoint.sh"],
    ],
    ids=" ".join,
)
def test_what_runs_the_given_program_is_kept(entrypoint: list[str]) -> None:
    found = split(entrypoint, look)
    assert (found.kept, found.is_missed) == (tuple(entrypoint), False)


@pytest.mark.parametrize(
    "entrypoint",
    [
        ["start-notebook.sh"],
        ["server.sh"],
        ["silent.sh"],
        ["/no/such/program"],
        ["python3", "serve.py"],
        ["sh", "-c", "exec top -b"],
        ["bash", "server.sh"],
        ["conda", "info"],
    ],
    ids=" ".join,
)
def test_a_program_that_runs_no_other_is_dropped_and_missed(entrypoint: list[str]) -> None:
    found = split(entrypoint, look)
    assert (found.kept, found.dropped, found.is_missed) == ((), tuple(entrypoint), True)


@pytest.mark.parametrize("entrypoint", [["python3"], ["python3", "-u"], ["/bin/bash"], ["/bin/sh", "-c"]], ids=" ".join)
def test_an_interpreter_alone_is_dropped_and_not_missed(entrypoint: list[str]) -> None:
    found = split(entrypoint, look)
    assert (found.kept, found.is_missed) == ((), False)


@pytest.mark.parametrize(
    ("entrypoint", "kept", "dropped"),
    [
        (["tini", "--", "start-notebook.sh"], ["tini", "--"], ["start-notebook.sh"]),
        (
            ["conda", "run", "-n", "train", "python3", "serve.py"],
            ["conda", "run", "-n", "train"],
            ["python3", "serve.py"],
        ),
        (["activate.sh", "python3", "serve.py"], ["activate.sh"], ["python3", "serve.py"]),
    ],
)
def test_only_the_program_at_the_end_is_dropped(entrypoint: list[str], kept: list[str], dropped: list[str]) -> None:
    found = split(entrypoint, look)
    assert (found.kept, found.dropped) == (tuple(kept), tuple(dropped))


@pytest.mark.parametrize(
    ("entrypoint", "kept"),
    [
        (["/bin/bash", "-lc"], ["/bin/bash", "-lc", 'exec "$@"', "bash"]),
        (["bash", "--login"], ["bash", "--login", "-c", 'exec "$@"', "bash"]),
        (["bash", "-o", "pipefail", "-l", "-c"], ["bash", "-o", "pipefail", "-l", "-c", 'exec "$@"', "bash"]),
        (["bash", "-c", '. activate; exec "$@"'], ["bash", "-c", '. activate; exec "$@"', "bash"]),
    ],
)
def test_a_shell_that_sets_up_an_environment_runs_the_program_in_it(entrypoint: list[str], kept: list[str]) -> None:
    assert split(entrypoint, look).kept == tuple(kept)


@pytest.mark.parametrize(
    ("entrypoint", "expected"),
    [
        (["tini", "--"], False),
        (["plain.sh"], False),
        (["activate.sh"], True),
        (["nvidia_entrypoint.sh"], True),
        (["conda", "run", "-n", "x"], True),
        (["bash", "-lc"], True),
    ],
)
def test_what_may_activate_an_environment_is_known(entrypoint: list[str], expected: bool) -> None:
    """Dependencies are installed in that environment."""
    assert split(entrypoint, look).activates is expected


@pytest.mark.parametrize("entrypoint", [["conda"], ["conda", "run"], ["tini", "-e"], ["gosu"], ["env"], ["bash", "-o"]])
def test_an_entrypoint_that_ends_too_early_is_kept_or_dropped(entrypoint: list[str]) -> None:
    found = split(entrypoint, look)
    assert found.kept + found.dropped == tuple(entrypoint)
