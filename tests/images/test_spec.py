from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE, load_config
from caliban.errors import ImageError, UsageError
from caliban.images.package import Package
from caliban.images.spec import BuildSpec, ImageSpec, parse_container_spec
from caliban.records import JobMode, JsonObject

STORES = Path(__file__).parent.parent / "data" / "peer_stores"
SCRIPT = Package(("python",), ".", "cpu.py")
PEER_RECORD: JsonObject = {
    "adc_path": None,
    "build_path": "/home/u/proj",
    "caliban_config": {
        "base_image": "base:1",
        "default_mode": "CPU",
        "gcloud": {},
        "julia_version": None,
        "mlflow_config": None,
        "build_time_credentials": False,
        "uv": {},
        "apt_packages": {"gpu": [], "cpu": []},
    },
    "conda_env_path": None,
    "credentials_path": None,
    "extra_dirs": ["data"],
    "job_mode": "CPU",
    "no_cache": False,
    "package": [["python", "-m"], "trainer", "trainer/train.py", "trainer.train"],
    "requirements_path": "requirements.txt",
    "setup_extras": ["cpu"],
}


def peer_specs() -> list[str]:
    found = []
    for store in sorted(STORES.glob("*.sqlite")):
        with sqlite3.connect(f"file:{store}?mode=ro&immutable=1", uri=True) as connection:
            found += [str(row[0]) for row in connection.execute("SELECT spec FROM container_specs ORDER BY id")]
        connection.close()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/cpu.py").touch()
    return tmp_path / "project"


def detect(
    folder: Path, *, mode: JobMode = JobMode.CPU, dirs: tuple[str, ...] = (), extras: tuple[str, ...] = ()
) -> BuildSpec:
    config = load_config(folder)
    return BuildSpec.detect(folder, SCRIPT, job_mode=mode, config=config, extra_dirs=dirs, setup_extras=extras)


def malformed(record: object) -> ImageError:
    assert isinstance(record, dict)
    with pytest.raises(ImageError) as caught:
        parse_container_spec(record)
    assert caught.value.id == "malformed-container-spec"
    return caught.value


def test_there_are_specs_of_the_peer_to_read() -> None:
    assert len(peer_specs()) == 4


@pytest.mark.parametrize("text", peer_specs())
def test_a_spec_that_the_peer_recorded_is_recorded_again_as_it_was(text: str) -> None:
    assert parse_container_spec(json.loads(text)).as_record() == json.loads(text)


def test_a_full_record_is_read_key_by_key() -> None:
    spec = parse_container_spec(PEER_RECORD)
    assert isinstance(spec, BuildSpec)
    assert spec == BuildSpec(
        build_path=Path("/home/u/proj"),
        package=Package(("python", "-m"), "trainer", "trainer/train.py", "trainer.train"),
        job_mode=JobMode.CPU,
        config=spec.config,
        extra_dirs=("data",),
        setup_extras=("cpu",),
        requirements_path="requirements.txt",
    )
    assert spec.config.base_image_for(JobMode.CPU) == "base:1"


def test_a_full_record_is_written_again_as_it_was() -> None:
    assert parse_container_spec(PEER_RECORD).as_record() == PEER_RECORD


def test_recorded_credentials_are_passed_over() -> None:
    record = parse_container_spec({**PEER_RECORD, "credentials_path": "key.json", "adc_path": "adc.json"}).as_record()
    assert (record["credentials_path"], record["adc_path"]) == (None, None)


def test_a_record_that_names_only_an_image_has_no_package() -> None:
    spec = parse_container_spec({"image_id": "gcr.io/p/x:latest"})
    assert spec == ImageSpec("gcr.io/p/x:latest", None)
    assert spec.as_record() == {"image_id": "gcr.io/p/x:latest"}


def test_the_package_of_an_image_may_name_what_is_in_the_image_alone() -> None:
    spec = ImageSpec("x:1", Package(("python",), ".", "/opt/train.py"))
    assert parse_container_spec(spec.as_record()) == spec


def test_an_image_of_ours_is_recorded_with_its_package() -> None:
    spec = ImageSpec("x:1", SCRIPT)
    assert spec.as_record() == {"image_id": "x:1", "package": [["python"], ".", "cpu.py", None]}
    assert parse_container_spec(spec.as_record()) == spec


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("build_path", None),
        ("build_path", "relative"),
        ("job_mode", "TPU"),
        ("job_mode", 3),
        ("package", None),
        ("package", "cpu.py"),
        ("package", [[], ".", "cpu.py", None]),
        ("package", [["python"], ".", "cpu.py"]),
        ("package", ["python", ".", "cpu.py", None]),
        ("package", [["python"], ".", None, None]),
        ("package", [["python"], ".", "../cpu.py", None]),
        ("package", [["python"], "/etc", "cpu.py", None]),
        ("extra_dirs", "data"),
        ("extra_dirs", [3]),
        ("extra_dirs", ["../data"]),
        ("setup_extras", ["a]; id"]),
        ("requirements_path", "/etc/passwd"),
        ("conda_env_path", ""),
        ("caliban_config", []),
        ("caliban_config", {"base_image": 3}),
        ("caliban_config", {"no_such_key": 3}),
    ],
)
def test_a_wrong_record_is_told_by_its_key(key: str, value: object) -> None:
    assert key in malformed({**PEER_RECORD, key: value}).message


def test_an_empty_image_name_is_told_by_its_key() -> None:
    assert "image_id" in malformed({"image_id": ""}).message


def test_a_folder_with_nothing_but_a_script_needs_nothing(folder: Path) -> None:
    spec = detect(folder)
    assert (spec.requirements_path, spec.conda_env_path, spec.setup_extras, spec.extra_dirs) == (None, None, None, ())
    assert spec.as_record()["build_path"] == str(folder)


def test_the_files_that_name_dependencies_are_found(folder: Path) -> None:
    for name in ("requirements.txt", "environment.yml", "setup.py"):
        (folder / name).touch()
    spec = detect(folder)
    assert (spec.requirements_path, spec.conda_env_path) == ("requirements.txt", "environment.yml")


@pytest.mark.parametrize(("mode", "first"), [(JobMode.CPU, "cpu"), (JobMode.GPU, "gpu")])
def test_the_mode_is_the_first_extra_of_a_project_with_a_setup_py(folder: Path, mode: JobMode, first: str) -> None:
    (folder / "setup.py").touch()
    assert detect(folder, mode=mode, extras=("dev",)).setup_extras == (first, "dev")


def test_a_mode_that_was_asked_for_as_an_extra_is_not_named_twice(folder: Path) -> None:
    (folder / "setup.py").touch()
    assert detect(folder, extras=("dev", "cpu")).setup_extras == ("dev", "cpu")


def test_a_pyproject_that_describes_a_project_is_installed(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert detect(folder).setup_extras == ("cpu",)


def test_a_pyproject_with_settings_of_tools_alone_is_not_installed(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 120\n")
    assert detect(folder).setup_extras is None


def test_a_pyproject_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "pyproject.toml").mkdir()
    with pytest.raises(UsageError, match=r"pyproject\.toml cannot be read"):
        detect(folder)


def test_extras_of_a_folder_that_cannot_be_installed_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        detect(folder, extras=("dev",))
    assert caught.value.id == "extras-without-setup"


@pytest.mark.parametrize("extra", ["", "a b", "a]", "a,b", "$x", "é"])
def test_an_extra_that_is_no_name_is_refused(folder: Path, extra: str) -> None:
    (folder / "setup.py").touch()
    with pytest.raises(UsageError) as caught:
        detect(folder, extras=(extra,))
    assert caught.value.id == "malformed-extra"


@pytest.mark.parametrize("given", ["data", "./data", "data/", "data//"])
def test_an_extra_folder_is_recorded_relative_to_the_project(folder: Path, given: str) -> None:
    (folder / "data").mkdir()
    assert detect(folder, dirs=(given,)).extra_dirs == ("data",)


@pytest.mark.parametrize("given", ["..", "../other", "data/../..", "/etc", "", "link", "a\0b"])
def test_an_extra_folder_outside_the_project_is_refused(folder: Path, given: str) -> None:
    (folder / "link").symlink_to(folder.parent)
    with pytest.raises(UsageError) as caught:
        detect(folder, dirs=(given,))
    assert caught.value.id == "extra-dir-outside-folder"


@pytest.mark.parametrize("given", ["none", "cpu.py"])
def test_an_extra_folder_that_is_not_there_is_refused(folder: Path, given: str) -> None:
    with pytest.raises(UsageError) as caught:
        detect(folder, dirs=(given,))
    assert caught.value.id == "extra-dir-not-found"


def test_a_rerun_takes_what_the_folder_holds_now(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text('{"base_image": "old:1"}')
    (folder / "environment.yml").touch()
    spec = detect(folder)
    (folder / CONFIG_FILE).write_text('{"base_image": "new:1"}')
    (folder / "environment.yml").unlink()
    (folder / "requirements.txt").touch()
    (folder / "setup.py").touch()
    refreshed = spec.refreshed()
    assert refreshed.config.base_image_for(JobMode.CPU) == "new:1"
    assert (refreshed.conda_env_path, refreshed.requirements_path) == (None, "requirements.txt")
    assert refreshed.setup_extras == ("cpu",)


def test_a_rerun_takes_the_recorded_configuration_where_the_folder_has_none(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text('{"base_image": "old:1"}')
    spec = detect(folder)
    (folder / CONFIG_FILE).unlink()
    assert spec.refreshed().config.base_image_for(JobMode.CPU) == "old:1"


def rerun_failure(spec: BuildSpec) -> str:
    with pytest.raises(ImageError) as caught:
        spec.refreshed()
    assert caught.value.hint
    return caught.value.id


def test_a_rerun_without_its_folder_is_refused() -> None:
    spec = parse_container_spec({**PEER_RECORD, "build_path": "/no/such/folder"})
    assert isinstance(spec, BuildSpec)
    assert rerun_failure(spec) == "build-folder-gone"


def test_a_rerun_without_its_script_is_refused(folder: Path) -> None:
    spec = detect(folder)
    (folder / "cpu.py").unlink()
    assert rerun_failure(spec) == "script-gone"


def test_a_rerun_without_an_extra_folder_is_refused(folder: Path) -> None:
    (folder / "data").mkdir()
    spec = detect(folder, dirs=("data",))
    (folder / "data").rmdir()
    assert rerun_failure(spec) == "extra-dir-gone"
