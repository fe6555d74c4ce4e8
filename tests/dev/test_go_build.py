"""Programs from Go modules are built once, completely or not at all. A script stands in for Go: builds take minutes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.go_build import GoModule, build, find_go
from services.kubernetes_programs import go_mod, kubernetes_module
from services.shell import Failure

DEV = Path(__file__).resolve().parents[2] / "dev"

FAKE_GO = """\
#!/bin/sh
[ "$1" = version ] && { echo "go version $GO_VERSION linux/amd64"; exit; }
[ "$1" = -C ] || exit 90
source=$2; shift 2
echo "$CGO_ENABLED $@" >>"$GO_CALLS"
case "$1" in
  mod) [ ! -e "$source/go.mod" ] && touch "$source/go.mod" || exit 91 ;;
  get) [ -e "$source/go.mod" ] || exit 92 ;;
  build)
    while [ "$1" != -o ]; do shift; done
    case "$3" in *broken*) echo "broken.go:1: undefined: x"; exit 1;; esac
    if [ -n "$GO_SLEEP" ]; then echo building; exec sleep "$GO_SLEEP"; fi
    printf '#!/bin/sh\\necho %s\\n' "$3" >"$2"; chmod 755 "$2" ;;
  *) exit 93 ;;
esac
"""

MODULE = GoModule("tool", "example.com/tool", "1.2.3", {"one": "example.com/tool/cmd/one", "two": "example.com/two"})


@pytest.fixture
def go(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which the stand-in writes down how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "go").write_text(FAKE_GO)
    (programs / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("GO_VERSION", "go1.26.0")
    monkeypatch.setenv("GO_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_all_programs_of_a_module_are_built(go: Path) -> None:
    directory = build(MODULE)
    output = [subprocess.check_output([directory / name], text=True) for name in ("one", "two")]
    assert output == ["example.com/tool/cmd/one\n", "example.com/two\n"]


def test_the_pinned_version_is_required_in_an_empty_module(go: Path) -> None:
    build(MODULE)
    assert go.read_text().splitlines()[:2] == ["0 mod init caliban.invalid/build", "0 get example.com/tool@v1.2.3"]


def test_a_second_run_builds_nothing(go: Path) -> None:
    assert build(MODULE) == build(MODULE)
    assert go.read_text().count(" build ") == 2


@pytest.mark.parametrize("changed", [replace(MODULE, version="1.2.4"), replace(MODULE, tags="seccomp")])
def test_another_version_or_another_recipe_has_a_directory_of_its_own(go: Path, changed: GoModule) -> None:
    assert build(changed) != build(MODULE)


def test_the_source_is_not_kept(go: Path) -> None:
    assert sorted(path.name for path in build(MODULE).iterdir()) == ["one", "two"]


def test_a_build_that_fails_is_reported_in_gos_words_and_is_repeated(
    go: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(MODULE, programs={"one": "example.com/one", "two": "example.com/broken"})
    for _ in range(2):
        with pytest.raises(Failure, match=r"building two failed with exit code 1; its last lines:\n.*undefined: x"):
            build(broken)
    assert capsys.readouterr().err.count("one (1 of 2)") == 2


def test_a_build_that_was_killed_is_not_taken_for_a_finished_one(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"from services.go_build import GoModule, build; build({MODULE!r})"
    monkeypatch.setenv("GO_SLEEP", "60")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=DEV, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "one (1 of 2)" not in process.stderr.readline():
        assert process.poll() is None
    process.kill()
    process.communicate()
    monkeypatch.delenv("GO_SLEEP")
    assert sorted(path.name for path in build(MODULE).iterdir()) == ["one", "two"]


def test_preparations_are_made_before_a_build_only(go: Path) -> None:
    prepared: list[int] = []
    for _ in range(2):
        build(MODULE, prepare=lambda: prepared.append(1))
    assert prepared == [1]


def test_a_machine_without_go_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(Failure, match="go is not installed") as told:
        find_go()
    assert "https://go.dev/dl/" in told.value.hint


def test_an_old_go_is_refused(go: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_VERSION", "go1.19.8")
    with pytest.raises(Failure, match=r"is too old: go version go1\.19\.8"):
        find_go()


PUBLISHED = """\
module k8s.io/kubernetes

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	k8s.io/api v0.0.0
	k8s.io/klog/v2 v2.130.1
	k8s.io/kubelet v0.0.0 // indirect
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/kubelet => ./staging/src/k8s.io/kubelet
)
"""


def test_kubernetes_is_built_with_the_published_versions_of_its_siblings() -> None:
    assert go_mod(PUBLISHED, "1.36.3").splitlines() == [
        "module caliban.invalid/build",
        "",
        "go 1.26.0",
        "",
        "require (",
        "\tgithub.com/google/uuid v1.6.0",
        "\tk8s.io/api v0.36.3",
        "\tk8s.io/klog/v2 v2.130.1",
        "\tk8s.io/kubelet v0.36.3 // indirect",
        ")",
        "",
        "replace (",
        ")",
        "require k8s.io/kubernetes v1.36.3",
        "replace k8s.io/api => k8s.io/api v0.36.3",
        "replace k8s.io/kubelet => k8s.io/kubelet v0.36.3",
    ]


def test_kubernetes_knows_its_version() -> None:
    variables = kubernetes_module("1.34.4").variables
    assert {name.rpartition(".")[2]: value for name, value in variables.items()} == {
        "gitVersion": "v1.34.4",
        "gitMajor": "1",
        "gitMinor": "34",
    }
