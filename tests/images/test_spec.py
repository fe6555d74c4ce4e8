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
def directory(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/cpu.py").touch()
    return tmp_path / "project"


def detect(
    directory: Path, *, mode: JobMode = JobMode.CPU, dirs: tuple[str, ...] = (), extras: tuple[str, ...] = ()
) -> BuildSpec:
    config = load_config(directory)
    return BuildSpec.detect(directory, SCRIPT, job_mode=mode, config=config, extra_dirs=dirs, setup_extras=extras)


def malformed(record: object) -> ImageError:
    assert isinstance(record, dict)
    with pytest.raises(ImageError) as caught:
        parse_container_spec(record)
    assert caught.value.id == "malformed-container-spec"
    return caught.value


def test_the_stores_of_caliban_0_4_2_have_specs() -> None:
    assert len(peer_specs()) == 4


@pytest.mark.parametrize("text", peer_specs())
def test_a_spec_of_caliban_0_4_2_is_written_unchanged(text: str) -> None:
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


def test_a_full_record_is_written_unchanged() -> None:
    assert parse_container_spec(PEER_RECORD).as_record() == PEER_RECORD


def test_recorded_credentials_are_ignored() -> None:
    record = parse_container_spec({**PEER_RECORD, "credentials_path": "key.json", "adc_path": "adc.json"}).as_record()
    assert (record["credentials_path"], record["adc_path"]) == (None, None)


def test_a_record_that_names_only_an_image_has_no_package() -> None:
    spec = parse_container_spec({"image_id": "gcr.io/p/x:latest"})
    assert spec == ImageSpec("gcr.io/p/x:latest", None)
    assert spec.as_record() == {"image_id": "gcr.io/p/x:latest"}


def test_the_package_of_an_image_may_name_files_of_the_image() -> None:
    spec = ImageSpec("x:1", Package(("python",), ".", "/opt/train.py"))
    assert parse_container_spec(spec.as_record()) == spec


def test_an_image_is_recorded_with_its_package() -> None:
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
def test_a_malformed_record_is_an_error_that_names_the_key(key: str, value: object) -> None:
    assert key in malformed({**PEER_RECORD, key: value}).message


def test_an_empty_image_name_is_an_error_that_names_the_key() -> None:
    assert "image_id" in malformed({"image_id": ""}).message


def test_a_directory_with_a_script_only_has_no_dependencies(directory: Path) -> None:
    spec = detect(directory)
    assert (spec.requirements_path, spec.conda_env_path, spec.setup_extras, spec.extra_dirs) == (None, None, None, ())
    assert spec.as_record()["build_path"] == str(directory)


def test_dependency_files_are_found(directory: Path) -> None:
    for name in ("requirements.txt", "environment.yml", "setup.py"):
        (directory / name).touch()
    spec = detect(directory)
    assert (spec.requirements_path, spec.conda_env_path) == ("requirements.txt", "environment.yml")


@pytest.mark.parametrize(("mode", "first"), [(JobMode.CPU, "cpu"), (JobMode.GPU, "gpu")])
def test_the_mode_is_the_first_extra_of_a_project_with_a_setup_py(directory: Path, mode: JobMode, first: str) -> None:
    (directory / "setup.py").touch()
    assert detect(directory, mode=mode, extras=("dev",)).setup_extras == (first, "dev")


def test_a_mode_given_as_an_extra_is_not_repeated(directory: Path) -> None:
    (directory / "setup.py").touch()
    assert detect(directory, extras=("dev", "cpu")).setup_extras == ("dev", "cpu")


def test_a_pyproject_that_describes_a_project_is_installed(directory: Path) -> None:
    (directory / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert detect(directory).setup_extras == ("cpu",)


def test_a_pyproject_with_settings_of_tools_only_is_not_installed(directory: Path) -> None:
    (directory / "pyproject.toml").write_text("[tool.ruff]\nline-length = 120\n")
    assert detect(directory).setup_extras is None


def test_an_unreadable_pyproject_is_an_error(directory: Path) -> None:
    (directory / "pyproject.toml").mkdir()
    with pytest.raises(UsageError, match=r"cannot read pyproject\.toml"):
        detect(directory)


def test_extras_of_a_project_that_cannot_be_installed_are_an_error(directory: Path) -> None:
    with pytest.raises(UsageError) as caught:
        detect(directory, extras=("dev",))
    assert caught.value.id == "extras-without-setup"


@pytest.mark.parametrize("extra", ["", "a b", "a]", "a,b", "$x", "é"])
def test_an_invalid_name_of_an_extra_is_an_error(directory: Path, extra: str) -> None:
    (directory / "setup.py").touch()
    with pytest.raises(UsageError) as caught:
        detect(directory, extras=(extra,))
    assert caught.value.id == "malformed-extra"


@pytest.mark.parametrize("given", ["data", "./data", "data/", "data//"])
def test_an_extra_directory_is_recorded_relative_to_the_project(directory: Path, given: str) -> None:
    (directory / "data").mkdir()
    assert detect(directory, dirs=(given,)).extra_dirs == ("data",)


@pytest.mark.parametrize("given", ["..", "../other", "data/../..", "/etc", "", "link", "a\0b"])
def test_an_extra_directory_outside_the_project_is_an_error(directory: Path, given: str) -> None:
    (directory / "link").symlink_to(directory.parent)
    with pytest.raises(UsageError) as caught:
        detect(directory, dirs=(given,))
    assert caught.value.id == "extra-dir-outside-folder"


@pytest.mark.parametrize("given", ["none", "cpu.py"])
def test_a_missing_extra_directory_is_an_error(directory: Path, given: str) -> None:
    with pytest.raises(UsageError) as caught:
        detect(directory, dirs=(given,))
    assert caught.value.id == "extra-dir-not-found"


def test_a_rerun_uses_the_present_files(directory: Path) -> None:
    (directory / CONFIG_FILE).write_text('{"base_image": "old:1"}')
    (directory / "environment.yml").touch()
    spec = detect(directory)
    (directory / CONFIG_FILE).write_text('{"base_image": "new:1"}')
    (directory / "environment.yml").unlink()
    (directory / "requirements.txt").touch()
    (directory / "setup.py").touch()
    refreshed = spec.refreshed()
    assert refreshed.config.base_image_for(JobMode.CPU) == "new:1"
    assert (refreshed.conda_env_path, refreshed.requirements_path) == (None, "requirements.txt")
    assert refreshed.setup_extras == ("cpu",)


def test_a_rerun_uses_the_recorded_configuration_where_there_is_no_file(directory: Path) -> None:
    (directory / CONFIG_FILE).write_text('{"base_image": "old:1"}')
    spec = detect(directory)
    (directory / CONFIG_FILE).unlink()
    assert spec.refreshed().config.base_image_for(JobMode.CPU) == "old:1"


def rerun_failure(spec: BuildSpec) -> str:
    with pytest.raises(ImageError) as caught:
        spec.refreshed()
    assert caught.value.hint
    return caught.value.id


def test_a_rerun_without_its_directory_is_an_error() -> None:
    spec = parse_container_spec({**PEER_RECORD, "build_path": "/no/such/directory"})
    assert isinstance(spec, BuildSpec)
    assert rerun_failure(spec) == "build-folder-gone"


def test_a_rerun_without_its_script_is_an_error(directory: Path) -> None:
    spec = detect(directory)
    (directory / "cpu.py").unlink()
    assert rerun_failure(spec) == "script-gone"


def test_a_rerun_without_an_extra_directory_is_an_error(directory: Path) -> None:
    (directory / "data").mkdir()
    spec = detect(directory, dirs=("data",))
    (directory / "data").rmdir()
    assert rerun_failure(spec) == "extra-dir-gone"


def test_a_script_whose_program_the_default_base_image_does_not_have_is_an_error(directory: Path) -> None:
    (directory / "fit.R").write_text("x <- 1")
    with pytest.raises(UsageError) as caught:
        BuildSpec.detect(
            directory,
            Package.parse("fit.R", directory),
            job_mode=JobMode.CPU,
            config=load_config(directory),
        )
    assert caught.value.id == "script-not-runnable"
    assert "Rscript" in (caught.value.hint or "")


@pytest.mark.parametrize("config", ['{"base_image": "r-base:4"}', '{"apt_packages": ["r-base-core"]}'])
def test_a_script_of_another_program_is_built_where_the_image_may_have_it(directory: Path, config: str) -> None:
    (directory / "fit.R").write_text("x <- 1")
    (directory / CONFIG_FILE).write_text(config)
    spec = BuildSpec.detect(
        directory, Package.parse("fit.R", directory), job_mode=JobMode.CPU, config=load_config(directory)
    )
    assert spec.package.command == ("Rscript", "fit.R")
