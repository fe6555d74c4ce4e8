"""Which files are credentials: names, contents in any form, files of this machine; what is none; at a bounded cost."""

from __future__ import annotations

import base64
import json
import os
import pickle
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from caliban.images.context import collect
from caliban.images.secret_files import SecretFiles
from caliban.platforms.registry import secret_files

from .helpers import Project
from .secret_samples import PEM, add, gather, private_key, serialized

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n" + "MIIB" + "a" * 60 + "\n-----END CERTIFICATE-----\n"


ACCOUNT = {"type": "service_account", "private_key_id": "1", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIE\n"}


LOGIN = {"type": "authorized_user", "client_id": "1", "client_secret": "2", "refresh_token": "3"}


TOKEN = {"access_token": "a" * 40, "refresh_token": "b" * 40, "token_type": "Bearer", "expires_in": 3599}


KUBECONFIG = "apiVersion: v1\nkind: Config\nclusters: []\nusers:\n- name: me\n  user:\n    token: abcdef\n"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", "base:1")
    made.write("cpu.py", "print()\n")
    return made


@pytest.fixture
def other_file(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


def found(project: Project, name: str, content: bytes = b"") -> bool:
    """Whether a file is left out, with a line about it."""
    add(project, name, content)
    context = gather(project)
    is_left_out = name not in {file.source for file in context.files}
    assert is_left_out == any(warning.startswith(name.split("/")[0]) for warning in context.warnings())
    return is_left_out


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words("""
.env .env.local .env.production prod.env config/.env .envrc .ENV
id_rsa id_dsa id_ecdsa id_ed25519 id_ed25519_sk ID_RSA keys/id_rsa id_rsa.bak id_rsa.old id_rsa~ id_rsa.1
.env.swp .env~ .netrc.20240101
server.key SERVER.KEY putty.ppk AuthKey.p8
store.p12 store.pfx store.jks debug.keystore passwords.kdbx host.keytab
.netrc _netrc .netrc.bak .pgpass .my.cnf .git-credentials .config/git/credentials
.config/gh/hosts.yml gh/hosts.yml glab-cli/config.yml .config/hub
.docker/config.json .dockercfg containers/auth.json
.npmrc .pypirc pip.conf .pip/pip.conf .config/pip/pip.conf pip.ini .cargo/credentials.toml .m2/settings.xml
.huggingface/token .cache/huggingface/token huggingface/stored_tokens kaggle.json .kaggle/kaggle.json
.vault-token .terraformrc .terraform.d/credentials.tfrc.json terraform.tfvars terraform.tfstate prod.auto.tfvars
.aws/credentials .aws/config .azure/msal_token_cache.json .ssh/config .gnupg/secring.gpg .kube/config .oci/config
kubeconfig kubeconfig.yaml prod.kubeconfig
client_secret.json client_secret_123.apps.example.com.json token.pickle
.boto .config/gcloud/anything application_default_credentials.json gcloud/credentials.db
.databrickscfg rclone.conf .s3cfg .streamlit/secrets.toml secrets.yaml secrets.json lab_accessKeys.csv
""")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_the_name_of_credentials_is_left_out(project: Project, name: str) -> None:
    assert found(project, name)


OTHER_NAMES = _words("""
.env.example .env.sample .env.template env.py environment.py .env.py .envs/notes
id_rsa.pub id_ed25519.pub keys.py key.txt monkey.py keyboard.json README.key.md
credentials.py secrets.py token.py netrc.md kaggle.py hosts.yml token tokenizer.json tokenizer_config.json
config.json docker/config.json config settings auth.json huggingface/model vault.py gcloud.md aws/credentials.md
ca.pem cert.pem chain.crt ca-bundle.crt data.tfrecord model.p terraform.tf pip.py npmrc.md kube/config.py
""")


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_file_with_a_similar_name_is_included(project: Project, name: str) -> None:
    assert not found(project, name)


TEXTS: dict[str, bytes] = {
    "PKCS 8": PEM,
    "PKCS 8, encrypted": serialized(Encoding.PEM, encryption=BestAvailableEncryption(b"x")),
    "PKCS 1": serialized(Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
    "PKCS 1, encrypted": serialized(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption=BestAvailableEncryption(b"x")
    ),
    "SEC 1": serialized(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, "ec"),
    "OpenSSH": serialized(Encoding.PEM, PrivateFormat.OpenSSH, "ed25519"),
    "PGP": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n",
    "SSH 2": b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nComment: x\n",
    "PuTTY": b"PuTTY-User-Key-File-3: ssh-ed25519\n",
    "with Windows lines": PEM.replace(b"\n", b"\r\n"),
    "after a certificate": CERTIFICATE.encode() + PEM,
    "after attributes": b"Bag Attributes\n    localKeyID: 01\n" + PEM,
    "indented in YAML": b"tls:\n  key: |\n" + b"".join(b"    " + line + b"\n" for line in PEM.splitlines()),
    "in JSON": json.dumps({"a": [{"key": PEM.decode()}]}).encode(),
    "in JSON in JSON": json.dumps({"secret": json.dumps({"key": PEM.decode()})}).encode(),
    "in a comment": b"".join(b"# " + line + b"\n" for line in PEM.splitlines()),
    "escaped": json.dumps(PEM.decode()).replace("-", "\\u002d").encode(),
    "base64": base64.b64encode(PEM),
    "base64 in lines": base64.encodebytes(PEM),
    "base64 in a manifest": b"kind: Secret\ndata:\n  tls.key: " + base64.b64encode(PEM) + b"\n",
    "base64 of DER": base64.encodebytes(serialized(Encoding.DER)),
    "UTF-16": PEM.decode().encode("utf-16"),
    "UTF-16 without mark": PEM.decode().encode("utf-16-le"),
    "UTF-16, big endian": PEM.decode().encode("utf-16-be"),
    "UTF-32": PEM.decode().encode("utf-32"),
    "with a byte order mark": b"\xef\xbb\xbf" + PEM,
    "far down": b"a line of text\n" * 60_000 + PEM,
    "JSON web key": b'{"kty": "RSA", "n": "x", "e": "AQAB", "d": "' + b"a" * 300 + b'"}',
    "age": b"# created\nAGE-SECRET-KEY-1" + b"Q" * 58,
    "service account": json.dumps(ACCOUNT).encode(),
    "service account, indented": json.dumps(ACCOUNT, indent=8).encode(),
    "service account in a list": json.dumps({"accounts": [{"nested": ACCOUNT}]}, indent=2).encode(),
    "service account in JSON": json.dumps({"key": json.dumps(ACCOUNT)}).encode(),
    "service account in YAML": b"key:\n  type: service_account\n  private_key: |\n    secret\n",
    "service account in Python's form": repr({"type": "service_account", "private_key": "x"}).encode(),
    "service account, UTF-16": json.dumps(ACCOUNT).encode("utf-16"),
    "service account, escaped": json.dumps(ACCOUNT).replace("e", "\\u0065").encode(),
    "service account, base64": base64.b64encode(json.dumps(ACCOUNT).encode()),
    "service account in an environment file": b"KEY='" + json.dumps(ACCOUNT).encode() + b"'\n",
    "application default login": json.dumps(LOGIN).encode(),
    "application default login in YAML": b"type: authorized_user\nrefresh_token: 1//abc\n",
    "OAuth token": json.dumps(TOKEN).encode(),
    "OAuth client": json.dumps({"installed": {"client_id": "1.apps", "client_secret": "GOCSPX-" + "a" * 28}}).encode(),
    "access token": b"ya29." + b"a" * 60 + b"\n",
    "Hugging Face": b"hf_" + b"Ab1" * 11 + b"x\n",
    "GitHub": b"token=ghp_" + b"A1" * 18,
    "GitHub, fine-grained": b"github_pat_" + b"A1_" * 27,
    "Vault": b"hvs." + b"A1" * 30,
    "npm": b"//registry.example.com/:_authToken=0123456789abcdef\n",
    "netrc": b"machine example.com login me password secret\n",
    "netrc in lines": b"machine example.com\n\tlogin me\n\tpassword secret\n",
    "AWS": b"[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = " + b"a" * 40,
    "AWS variables": b"export AWS_SECRET_ACCESS_KEY=" + b"a" * 40,
    "AWS table": b"Access key ID,Secret access key\nAKIA,abc\n",
    "Azure": b"DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + b"a" * 86 + b"==",
    "registry": b'{"auths": {"registry.example.com": {"auth": "bWU6c2VjcmV0"}}}',
    "AWS, as its service writes it": b'{"AccessKey": {"SecretAccessKey": "' + b"a" * 40 + b'"}}',
    "service account in TOML": b'type = "service_account"\nprivate_key = """x"""\n',
    "Azure service principal": b'{"clientId": "1", "clientSecret": "' + b"a" * 34 + b'", "tenantId": "2"}',
    "git": b"https://me:0123456789abcdef@git.example.com\n",
    "netrc without login": b"machine api.example.com password 0123456789\n",
    "WireGuard": b"[Interface]\nPrivateKey = " + b"A" * 43 + b"=\n",
    "OpenVPN": b"-----BEGIN OpenVPN Static key V1-----\n0123\n",
    "Kaggle": b'{"username":"me","key":"0123456789abcdef0123456789abcdef"}',
    "kubeconfig": KUBECONFIG.encode(),
    "kubeconfig in JSON": b'{"kind": "Config", "users": [{"user": {"client-key-data": "LS0t"}}]}',
    "kubeconfig with Windows lines": KUBECONFIG.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("name", ["data.txt", "x"])
def test_a_text_with_credentials_is_left_out(project: Project, name: str, content: bytes) -> None:
    assert found(project, name, content)


DER: dict[str, bytes] = {
    **{f"{kind}, PKCS 8": serialized(Encoding.DER, kind=kind) for kind in ("rsa", "ec", "ed25519")},
    "PKCS 8, encrypted": serialized(Encoding.DER, encryption=BestAvailableEncryption(b"x")),
    "PKCS 1": serialized(Encoding.DER, PrivateFormat.TraditionalOpenSSL),
    "SEC 1": serialized(Encoding.DER, PrivateFormat.TraditionalOpenSSL, "ec"),
    "PKCS 12": pkcs12.serialize_key_and_certificates(b"a", private_key(), None, None, NoEncryption()),
    "PKCS 8 with a line end": serialized(Encoding.DER) + b"\n",
    "PKCS 12 without length": bytes.fromhex("3080020103308006092a864886f70d010701a080") + bytes(40),
    "Java": b"\xfe\xed\xfe\xed\x00\x00\x00\x02",
    "Java, JCE": b"\xce\xce\xce\xce\x00\x00\x00\x02",
    "pickled token": pickle.dumps({"token": "ya29." + "a" * 60}),
}


@pytest.mark.parametrize("content", DER.values(), ids=DER)
def test_a_binary_key_is_left_out(project: Project, content: bytes) -> None:
    assert found(project, "data.bin", content)


HARMLESS: dict[str, bytes] = {
    "certificates": CERTIFICATE.encode() * 200,
    "public key": private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "public key, DER": private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "text about keys": b'It starts with "-----BEGIN PRIVATE KEY-----".\n\n```\n-----BEGIN PRIVATE KEY-----\n...\n```\n',
    "vocabulary": json.dumps(
        {"<s>": 0, "refresh_token": 1, "access_token": 2, "private_key": 3, "service_account": 4}
    ).encode(),
    "tokenizer": json.dumps({"bos_token": "<s>", "token": "<unk>", "eos_token": "</s>", "pad_token": None}).encode(),
    "type without key": b'{"type": "service_account"}',
    "key without value": b'{"type": "service_account", "private_key": ""}',
    "manifest": b"kind: Config\nusers: none\n",
    "array": struct.pack("<1000d", *range(1000)),
    "zeros": bytes(5000),
    "asn.1": b"0\x03\x02\x01\x00",
    "base64 image": base64.b64encode(bytes(range(256)) * 40),
    "hashes": b"0123456789abcdef0123456789abcdef01234567  data.bin\n" * 50,
    "requirements": b"# hf_transfer\nhuggingface_hub>=0.2\ntoken-utils==1\n",
    "empty": b"",
}


@pytest.mark.parametrize("content", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("name", ["data.txt", "token.json", "credentials.json", "ca.pem", "x"])
def test_a_file_without_credentials_is_included(project: Project, name: str, content: bytes) -> None:
    assert not found(project, name, content)


@pytest.mark.parametrize(
    "name",
    [
        "token.json",
        "credentials.json",
        "credentials",
        "my_token.json",
        "credentials.yaml",
        ".dbt/profiles.yml",
        "clouds.yaml",
    ],
)
def test_a_password_in_a_file_for_credentials_is_left_out(project: Project, name: str) -> None:
    assert found(project, name, b'{"user": "me", "password": "correct horse"}')


@pytest.mark.parametrize("name", [".netrc (1)", ".env copy", "id_rsa copy", ".pypirc "])
def test_a_copy_of_a_file_for_credentials_is_left_out(project: Project, name: str) -> None:
    assert found(project, name)


def test_a_private_key_with_the_name_of_a_public_key_is_left_out(project: Project) -> None:
    assert found(project, "id_rsa.pub", PEM)


def test_the_key_in_the_documentation_of_aws_is_none(project: Project) -> None:
    assert not found(project, "notes.md", b"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\n")


def test_source_code_is_never_left_out(project: Project) -> None:
    assert not found(project, "keys.py", b'KEY = """' + PEM + b'"""')


def test_public_parts_with_the_name_of_a_key_are_included(project: Project) -> None:
    assert not found(project, "server.key", CERTIFICATE.encode())


def test_a_backup_of_credentials_is_found_by_its_content_in_any_directory(project: Project) -> None:
    assert found(project, "deep/er/backup.2024.bin", PEM)


@pytest.mark.parametrize("variable", ["GOOGLE_APPLICATION_CREDENTIALS", "KUBECONFIG", "NETRC", "PIP_CONFIG_FILE"])
def test_a_file_that_a_variable_names_is_left_out_under_any_name(
    project: Project, variable: str, other_file: Path
) -> None:
    other_file.write_text("secret")
    (project.directory / "hard-link").hardlink_to(other_file)
    context = gather(project, **{variable: f"/nowhere{os.pathsep}{other_file}"})
    assert context.credentials == {"hard-link": "a credentials file of this machine"}


@pytest.mark.parametrize(
    "name",
    [".netrc", ".ssh/work", ".aws/credentials", ".config/gcloud/x", ".config/gh/hosts.yml", ".cache/huggingface/token"],
)
def test_a_hard_link_to_credentials_of_the_user_is_left_out(project: Project, tmp_path: Path, name: str) -> None:
    path = tmp_path / "home" / name
    path.parent.mkdir(parents=True)
    path.write_text("secret")
    (project.directory / "data.bin").hardlink_to(path)
    assert gather(project, HOME=str(tmp_path / "home")).credentials.keys() == {"data.bin"}


def test_a_link_to_credentials_elsewhere_carries_no_content(project: Project, other_file: Path) -> None:
    other_file.write_bytes(PEM)
    (project.directory / "link").symlink_to(other_file)
    assert b"PRIVATE KEY" not in b"".join(gather(project).stream(lambda _: None))


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "VERSION", "requirements-dev.txt"])
@pytest.mark.parametrize("target", [".netrc", "deep/key"])
def test_packaging_files_that_link_to_credentials_are_left_out(project: Project, name: str, target: str) -> None:
    project.write("setup.py", "")
    add(project, target, b"x " + PEM)
    (project.directory / name).symlink_to(target)
    context = gather(project)
    assert name in context.credentials
    assert b"PRIVATE KEY" not in b"".join(context.stream(lambda _: None))


def test_credentials_of_an_extra_directory_are_left_out(project: Project) -> None:
    add(project, "data/.ssh/id_rsa", PEM)
    add(project, "data/key", PEM)
    context = collect(project.spec(extra_dirs=("data",)), "FROM x\n", {}, secret_files())
    assert context.credentials == {"data/.ssh": "a directory with credentials", "data/key": "a private key"}


def test_an_extra_directory_that_is_for_credentials_is_left_out(project: Project) -> None:
    add(project, ".ssh/id_rsa", PEM)
    context = collect(project.spec(extra_dirs=(".ssh",)), "FROM x\n", {}, secret_files())
    assert b"PRIVATE KEY" not in b"".join(context.stream(lambda _: None))
    assert context.credentials.keys() == {".ssh"}


@pytest.mark.parametrize("name", [".env", "tests/data", "tests"])
def test_what_the_configuration_includes_is_included(project: Project, name: str) -> None:
    add(project, ".env", b"A=1")
    add(project, "tests/data/key.pem", PEM)
    add(project, "tests/data/.ssh/config")
    project.write(".calibanconfig.json", json.dumps({"include_credentials": [name]}))
    expected = {".env", "tests/data/.ssh", "tests/data/key.pem"} - {
        each for each in (".env", "tests/data/.ssh", "tests/data/key.pem") if f"{each}/".startswith(f"{name}/")
    }
    assert gather(project).credentials.keys() == expected


def test_dockerignore_cannot_include_credentials(project: Project) -> None:
    project.write(".dockerignore", "!.env\n!**\n")
    assert found(project, ".env")


def test_what_dockerignore_excludes_causes_no_line(project: Project) -> None:
    project.write(".dockerignore", ".env\nkeys\n")
    add(project, "keys/id_rsa", PEM)
    add(project, ".env")
    assert gather(project).warnings() == []


def test_a_line_says_what_was_left_out_and_how_to_include_it(project: Project) -> None:
    add(project, "a b/.env")
    assert gather(project).warnings() == [
        "a b/.env is not copied into the image: it is environment variables with secrets; if it has to be in the "
        'image, add "a b/.env" to "include_credentials" in .calibanconfig.json'
    ]


def test_many_credentials_cause_some_lines_and_a_number(project: Project) -> None:
    for number in range(25):
        add(project, f"{number}.p12")
    assert gather(project).warnings()[20:] == ["5 more files with credentials are not copied"]


def test_a_given_key_file_is_left_out_whatever_it_contains(project: Project, tmp_path: Path) -> None:
    key = add(project, "opaque")
    rules = secret_files().combined(SecretFiles(files=(str(key),)))
    assert collect(project.spec(), "FROM x\n", {}, rules).credentials.keys() == {"opaque"}
