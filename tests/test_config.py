from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from caliban.config import CONFIG_FILE, DEFAULT_BASE_IMAGE, ProjectConfig, config_from_record, load_config
from caliban.errors import ExitCode, UsageError
from caliban.records import JobMode, JsonObject

PEER_RECORD: JsonObject = {
    "base_image": "base:1",
    "default_mode": "CPU",
    "gcloud": {},
    "julia_version": None,
    "mlflow_config": None,
    "build_time_credentials": False,
    "uv": {},
    "apt_packages": {"gpu": [], "cpu": []},
}


def load(directory: Path, value: object) -> ProjectConfig:
    (directory / CONFIG_FILE).write_text(json.dumps(value))
    return load_config(directory)


def failure(directory: Path, value: object) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(directory, value)
    return caught.value


def test_without_a_file_the_defaults_are_used(tmp_path: Path) -> None:
    config = load_config(tmp_path)
    assert config == ProjectConfig()
    assert config.base_image_for(JobMode.CPU) == config.base_image_for(JobMode.GPU) == DEFAULT_BASE_IMAGE
    assert config.default_mode is JobMode.GPU
    assert config.as_record() == {}


def test_one_base_image_is_used_for_both_modes(tmp_path: Path) -> None:
    config = load(tmp_path, {"base_image": "host.example.com:5000/team/base@sha256:" + "a" * 64})
    assert config.base_image_for(JobMode.CPU) == config.base_image_for(JobMode.GPU)


def test_braces_in_a_base_image_become_the_mode(tmp_path: Path) -> None:
    config = load(tmp_path, {"base_image": "team/base-{}:1"})
    assert (config.base_image_for(JobMode.CPU), config.base_image_for(JobMode.GPU)) == (
        "team/base-cpu:1",
        "team/base-gpu:1",
    )


def test_a_mode_without_a_base_image_of_its_own_gets_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, {"base_image": {"gpu": "nvidia/cuda:12.4.0-runtime-ubuntu22.04"}})
    assert config.base_image_for(JobMode.CPU) == DEFAULT_BASE_IMAGE
    assert config.base_image_for(JobMode.GPU) == "nvidia/cuda:12.4.0-runtime-ubuntu22.04"


def test_one_list_of_packages_is_used_for_both_modes(tmp_path: Path) -> None:
    config = load(tmp_path, {"apt_packages": ["git", "libsm6", "g++", "jq=1.6-2.1+deb12u1"]})
    assert config.apt_packages_for(JobMode.CPU) == ("git", "libsm6", "g++", "jq=1.6-2.1+deb12u1")
    assert config.apt_packages_for(JobMode.GPU) == config.apt_packages_for(JobMode.CPU)


def test_packages_may_differ_by_mode(tmp_path: Path) -> None:
    config = load(tmp_path, {"apt_packages": {"gpu": ["libsm6"]}})
    assert (config.apt_packages_for(JobMode.CPU), config.apt_packages_for(JobMode.GPU)) == ((), ("libsm6",))


@pytest.mark.parametrize("spelling", ["CPU", "cpu", "Cpu"])
def test_the_default_mode_may_be_written_in_any_case(tmp_path: Path, spelling: str) -> None:
    assert load(tmp_path, {"default_mode": spelling}).default_mode is JobMode.CPU


@pytest.mark.parametrize("value", ["linux/arm64", "linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/x86_64"])
def test_the_platform_of_images_is_an_operating_system_and_a_processor(tmp_path: Path, value: str) -> None:
    assert load(tmp_path, {"platform": value}).platform == value
    assert load(tmp_path, {}).platform is None


@pytest.mark.parametrize(
    "value", ["arm64", "vertex", "linux/", "linux", "windows/amd64", "linux/a b", "", 5, ["x"], None]
)
def test_any_other_platform_of_images_is_an_error(tmp_path: Path, value: object) -> None:
    error = failure(tmp_path, {"platform": value})
    assert error.message == "invalid .calibanconfig.json: platform"
    assert "linux/arm64" in (error.cause or "")


def test_the_cloud_platform_is_any_string_which_the_command_checks(tmp_path: Path) -> None:
    assert load(tmp_path, {"cloud_platform": "lab"}).cloud_platform == "lab"
    assert load(tmp_path, {}).cloud_platform is None


@pytest.mark.parametrize("value", [None, ["lab"], 3])
def test_a_cloud_platform_that_is_no_string_is_an_error(tmp_path: Path, value: object) -> None:
    error = failure(tmp_path, {"cloud_platform": value})
    assert error.message == "invalid .calibanconfig.json: cloud_platform"
    assert str(error.cause).startswith("expected the name of a platform, got ")


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "localhost:5000",
        "127.0.0.1:5000/team",
        "registry.example.com",
        "registry.example.com:8443/team/sub_team/a--b",
        "docker.io/somebody",
    ],
)
def test_a_registry_may_have_a_port_and_a_path(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, {"registry": name}).registry == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "team",
        "team/images",
        "https://registry.example.com",
        "registry.example.com/",
        "registry.example.com/team:latest",
        "registry.example.com/Team",
        "REGISTRY.example.com",
        "registry.example.com/a b",
        "registry.example.com/a//b",
        "user:secret@registry.example.com",
        "localhost:port",
        "-x.example.com",
        "registry.example.com/example.com:my-project",
        "registry.example.com\n",
    ],
)
def test_a_name_that_image_references_cannot_start_with_is_no_registry(tmp_path: Path, name: str) -> None:
    assert failure(tmp_path, {"registry": name}).message == f"invalid {CONFIG_FILE}: registry"


def test_an_invalid_registry_is_an_error_with_an_example(tmp_path: Path) -> None:
    assert failure(tmp_path, {"registry": "team"}).cause == (
        "expected a registry and a path in it, such as registry.example.com/team/images, without scheme and tag, "
        'got "team"'
    )


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("registry", "ghcr.io/Totoro-Lab"),
        ("registry", "Registry.Example.com/team"),
        ("registry", "europe-docker.pkg.dev/Totoro-Project/lab"),
        ("repository", "ghcr.io/Totoro-Lab/Digits"),
        ("repository", "docker.io/Totoro/digits"),
    ],
)
def test_upper_case_is_an_error_that_has_the_name_in_lower_case(tmp_path: Path, key: str, name: str) -> None:
    error = failure(tmp_path, {key: name})
    assert error.message == f"invalid {CONFIG_FILE}: {key}"
    assert error.cause == f'expected lower case, as in every name of an image: {name.lower()}, got "{name}"'


def test_one_repository_for_all_images_may_be_named(tmp_path: Path) -> None:
    name = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/lab/digits"
    assert load(tmp_path, {"repository": name}).repository == name


@pytest.mark.parametrize(
    "name",
    [
        "ghcr.io",
        "localhost:5000",
        "totoro/digits",
        "ghcr.io/totoro/digits:latest",
        "ghcr.io/totoro/digits@sha256:" + "ab" * 32,
        "https://ghcr.io/totoro/digits",
        "ghcr.io/totoro/digits/",
        5000,
    ],
)
def test_what_is_no_repository_is_an_error_with_an_example(tmp_path: Path, name: object) -> None:
    error = failure(tmp_path, {"repository": name})
    assert error.message == f"invalid {CONFIG_FILE}: repository"
    assert "such as ghcr.io/team/images (on Docker Hub docker.io/NAME/images)" in (error.cause or "")


def test_images_go_to_a_registry_or_to_a_repository_not_to_both(tmp_path: Path) -> None:
    error = failure(tmp_path, {"registry": "ghcr.io/totoro", "repository": "ghcr.io/totoro/digits"})
    assert (error.id, error.hint) == ("malformed-config", 'remove "registry" or "repository"')


def test_a_password_in_the_name_of_a_registry_is_not_shown(tmp_path: Path) -> None:
    cause = failure(tmp_path, {"registry": "https://user:planted-secret@registry.example.com"}).cause or ""
    assert cause.endswith('got "https://***@registry.example.com"')


def test_comments_are_allowed(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text('{\n  // ours\n  "default_mode": "cpu",\n}\n')
    assert load_config(tmp_path).default_mode is JobMode.CPU


def test_the_record_is_the_object_of_the_file(tmp_path: Path) -> None:
    value = {"base_image": "team/base-{}:1", "default_mode": "cpu"}
    assert load(tmp_path, value).as_record() == value


def test_a_misspelt_key_has_the_most_similar_one_as_a_hint(tmp_path: Path) -> None:
    error = failure(tmp_path, {"base_img": "a"})
    assert (error.id, error.hint) == ("unknown-config-key", "did you mean base_image?")
    assert error.message == f'invalid {CONFIG_FILE}: unknown key "base_img"'


def test_without_a_similar_key_the_hint_lists_all(tmp_path: Path) -> None:
    hint = failure(tmp_path, {"zzz": 1}).hint
    keys = "apt_packages, base_image, cloud_platform, default_mode, include_credentials, platform, registry, repository"
    assert hint == f"known keys: {keys}"


@pytest.mark.parametrize("value", [None, {}, [], "", False])
def test_an_empty_key_of_caliban_0_4_2_is_ignored(tmp_path: Path, value: object) -> None:
    assert load(tmp_path, {"julia_version": value, "gcloud": value}).base_image == ProjectConfig().base_image


@pytest.mark.parametrize("key", ["julia_version", "gcloud", "project_id"])
def test_a_key_of_caliban_0_4_2_with_a_value_is_an_error(tmp_path: Path, key: str) -> None:
    assert f'the key "{key}" of caliban 0.4.2 is no longer supported' in failure(tmp_path, {key: "1.9"}).message


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"base_image": 3}, "base_image"),
        ({"base_image": None}, "base_image"),
        ({"base_image": {"cpu": ["a"]}}, "base_image.cpu"),
        ({"base_image": {"tpu": "a"}}, "base_image"),
        ({"apt_packages": "git"}, "apt_packages"),
        ({"apt_packages": ["git", 3]}, "apt_packages"),
        ({"apt_packages": {"gpu": "git"}}, "apt_packages.gpu"),
        ({"default_mode": "TPU"}, "default_mode"),
        ({"default_mode": True}, "default_mode"),
        ({"registry": None}, "registry"),
        ({"registry": 5000}, "registry"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_key(tmp_path: Path, value: object, place: str) -> None:
    error = failure(tmp_path, value)
    assert error.id == "malformed-config"
    assert error.message == f"invalid {CONFIG_FILE}: {place}"


def test_an_invalid_value_is_an_error_that_says_what_was_expected(tmp_path: Path) -> None:
    assert failure(tmp_path, {"default_mode": "TPU"}).cause == 'expected CPU or GPU, got "TPU"'


def test_a_long_invalid_value_is_truncated(tmp_path: Path) -> None:
    assert len(failure(tmp_path, {"apt_packages": "x" * 1000}).cause or "") < 200


@pytest.mark.parametrize(
    "name", ["", "a b", "a\nRUN id", "a;id", "$(id)", "`id`", "a'b", 'a"b', "-a", "a\\", "a:b:c", "a\n"]
)
def test_a_base_image_that_could_inject_an_instruction_is_an_error(tmp_path: Path, name: str) -> None:
    assert failure(tmp_path, {"base_image": name}).id == "malformed-config"


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a;id", "$(id)", "`id`", "a'b", "--force-yes", "a&&b", "a\n"])
def test_a_package_that_could_inject_a_command_is_an_error(tmp_path: Path, name: str) -> None:
    assert failure(tmp_path, {"apt_packages": [name]}).id == "malformed-config"


def test_a_file_without_an_object_is_an_error(tmp_path: Path) -> None:
    assert failure(tmp_path, ["base_image"]).cause == 'expected an object, got ["base_image"]'


def test_a_malformed_file_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(UsageError, match="line 1") as caught:
        load_config(tmp_path)
    assert caught.value.exit_code is ExitCode.USAGE


def unreadable(directory: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_config(directory)
    assert (caught.value.id, bool(caught.value.hint)) == ("config-unreadable", True)
    return caught.value


def test_an_unreadable_file_is_an_error_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).mkdir()
    assert unreadable(tmp_path).cause == "it is a directory"


@pytest.mark.parametrize(
    ("target", "cause"),
    [
        ("/dev/zero", "it is a character device"),
        (CONFIG_FILE, "Too many levels of symbolic links"),
        ("missing", "it is a link to a file that does not exist"),
    ],
)
def test_a_link_to_something_else_than_a_file_is_an_error(tmp_path: Path, target: str, cause: str) -> None:
    (tmp_path / CONFIG_FILE).symlink_to(target)
    assert unreadable(tmp_path).cause == cause


def test_a_pipe_that_nobody_writes_to_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CONFIG_FILE)
    assert unreadable(tmp_path).cause == "it is a named pipe"


def test_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text("{" + " " * 1024**2 + "}")
    assert unreadable(tmp_path).cause == "larger than 1 MiB"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_an_error(tmp_path: Path, encoding: str) -> None:
    (tmp_path / CONFIG_FILE).write_text('{"cloud_platform": "é"}', encoding=encoding)
    assert "save the file as UTF-8" in (unreadable(tmp_path).hint or "")


def test_a_byte_order_mark_and_windows_line_ends_are_ignored(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(b'\xef\xbb\xbf{\r\n// why\r\n"default_mode": "CPU"\r\n}\r\n')
    assert load_config(tmp_path).default_mode is JobMode.CPU


@pytest.mark.parametrize("key", ["base_image", "registry", "cloud_platform"])
def test_a_huge_value_is_an_error_of_a_short_text(tmp_path: Path, key: str) -> None:
    error = failure(tmp_path, {key: "a.b/" + "a" * 100_000})
    assert len(error.message) + len(error.cause or "") < 400


def test_credentials_to_include_are_paths_of_the_project(tmp_path: Path) -> None:
    assert load(tmp_path, {"include_credentials": ["tests/key.pem", ".env"]}).include_credentials == (
        "tests/key.pem",
        ".env",
    )


@pytest.mark.parametrize(
    "value", ["key.pem", ["/etc/key.pem"], ["../key.pem"], ["a/../../b"], ["."], [""], ["a/"], [1]]
)
def test_credentials_elsewhere_cannot_be_included(tmp_path: Path, value: object) -> None:
    assert failure(tmp_path, {"include_credentials": value}).message.endswith("include_credentials")


def test_a_recorded_configuration_includes_no_credentials() -> None:
    assert config_from_record({"include_credentials": [".env"]}).include_credentials == ()


def test_a_config_that_caliban_0_4_2_recorded_is_read() -> None:
    config = config_from_record(PEER_RECORD)
    assert (config.base_image_for(JobMode.GPU), config.default_mode) == ("base:1", JobMode.CPU)


def test_a_config_that_caliban_0_4_2_recorded_is_written_unchanged() -> None:
    assert config_from_record(PEER_RECORD).as_record() == PEER_RECORD


def test_a_recorded_key_that_did_not_change_the_image_is_ignored() -> None:
    assert config_from_record({**PEER_RECORD, "gcloud": {"region": "us-central1"}}).default_mode is JobMode.CPU


def test_a_recorded_key_that_changed_the_image_is_an_error() -> None:
    with pytest.raises(UsageError, match="julia_version"):
        config_from_record({**PEER_RECORD, "julia_version": "1.9"})
