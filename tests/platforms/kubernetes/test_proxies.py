"""The way to an API server: proxies by the rules of kubectl, and what certificates are trusted."""

from __future__ import annotations

import datetime
import ssl
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from caliban.platforms.kubernetes.client import Cluster
from caliban.platforms.kubernetes.connection import make_tls
from caliban.platforms.kubernetes.kubeconfig import Kubeconfig
from caliban.platforms.kubernetes.proxies import checked_proxy, proxy_of
from tests.platforms.kubernetes.helpers import QUICK, platform_context
from tests.platforms.kubernetes.test_kubeconfig import content, kubeconfig, refusal, write
from tests.proxies import ProxyServer
from tests.standins.kubernetes import KubeApi

SERVER = "https://api.lab.example.com:6443"


@pytest.mark.parametrize(
    ("given", "complete"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("https://proxy", "https://proxy:443"),
        ("socks5://proxy", "socks5://proxy:1080"),
        ("socks5h://[::1]:9", "socks5h://[::1]:9"),
        ("proxy.lab:3128", "http://proxy.lab:3128"),
        ("proxy", "http://proxy:80"),
        ("127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("me:pass@proxy:3128", "http://me:pass@proxy:3128"),
        ("HTTP://Proxy:1/", "http://proxy:1"),
        (" http://proxy:1\n", "http://proxy:1"),
    ],
)
def test_the_url_of_a_proxy_is_completed(given: str, complete: str) -> None:
    assert checked_proxy(given) == complete


@pytest.mark.parametrize(
    "given",
    [
        "gopher://x",
        "socks4://x",
        "http://",
        "http://:1",
        "http://x:y",
        "http://x:99999",
        "http://x/y",
        "a b",
        "[::1",
        "x\0",
    ],
)
def test_what_is_no_proxy_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(ValueError, match=r"it is|its scheme") as caught:
        checked_proxy(given.replace("http://", "http://me:secret@"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HTTPS_PROXY": "http://a"}, "http://a:80"),
        ({"https_proxy": "a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}, "http://a:80"),
        ({"HTTPS_PROXY": "", "https_proxy": "http://b"}, "http://b:80"),
        ({"HTTP_PROXY": "http://a", "ALL_PROXY": "http://b", "all_proxy": "http://b"}, None),
        ({}, None),
    ],
)
def test_the_proxy_of_the_environment_is_the_one_of_kubectl(environ: dict[str, str], expected: str | None) -> None:
    assert proxy_of(SERVER, environ) == expected


@pytest.mark.parametrize(
    ("host", "listed", "is_direct"),
    [
        ("api.lab.example.com", "example.com", True),
        ("api.lab.example.com", ".example.com", True),
        ("api.lab.example.com", "*.example.com", True),
        ("api.lab.example.com", "x, API.lab.Example.com ,y", True),
        ("api.lab.example.com", "api.lab.example.com:6443", True),
        ("api.lab.example.com", "api.lab.example.com:443", False),
        ("api.lab.example.com", "ample.com", False),
        ("api.lab.example.com", "*", True),
        ("api.lab.example.com", ",,", False),
        ("example.com", ".example.com", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "11.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:6443", True),
        ("10.1.2.3", "10.1.2.3:1", False),
        ("10.1.2.3", "2.3", False),
        ("10.1.2.3", "nonsense/8", False),
        ("[fd00::1]", "fd00::/8", True),
        ("[fd00::1]", "[fd00:0::1]:6443", True),
        ("[fd00::1]", "fd00::1", True),
        ("localhost", "", True),
        ("127.9.9.9", "", True),
        ("[::1]", "", True),
    ],
)
def test_no_proxy_excepts_what_it_excepts_for_kubectl(host: str, listed: str, is_direct: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        found = proxy_of(f"https://{host}:6443", {"HTTPS_PROXY": "http://proxy:1", name: listed})
        assert (found is None) == is_direct


def test_a_malformed_proxy_of_the_environment_is_reported_by_its_variable(tmp_path: Path) -> None:
    file = write(tmp_path / "config", content("lab", server=SERVER))
    found = Kubeconfig({"KUBECONFIG": str(file), "https_proxy": "gopher://me:secret@proxy"}, tmp_path)
    error = refusal(lambda: found.connection("lab"))
    assert (error.id, "https_proxy" in str(error.cause)) == ("proxy-malformed", True)
    assert "secret" not in str(vars(error))


def test_a_malformed_proxy_of_a_cluster_is_an_error_of_the_kubeconfig(tmp_path: Path) -> None:
    found = kubeconfig(tmp_path, "lab", cluster={"proxy-url": "gopher://me:secret@proxy"})
    error = refusal(lambda: found.connection("lab"))
    assert (error.id, "proxy-url of the cluster c" in str(error.cause)) == ("kubeconfig-malformed", True)
    assert "secret" not in str(vars(error))


def test_the_proxy_of_a_cluster_counts_before_that_of_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path / "config", content("lab", cluster={"proxy-url": "http://own"}))
    found = Kubeconfig({"KUBECONFIG": str(file), "HTTPS_PROXY": "http://other", "NO_PROXY": "*"}, tmp_path)
    assert found.connection("lab").proxy == "http://own:80"


# real proxies


@pytest.fixture(scope="module")
def cluster() -> Iterator[KubeApi]:
    with KubeApi() as running:
        yield running


def client(cluster: KubeApi, tmp_path: Path, environ: dict[str, str], **more: Any) -> Cluster:
    """Return a client of a server whose name nobody but the proxy can resolve."""
    value = {
        "certificate-authority-data": cluster.certificate_authority,
        "tls-server-name": "localhost",
        **more,
    }
    given = content(
        "lab", server=f"https://api.lab.invalid:{cluster.port}", cluster=value, user={"token": cluster.access.token}
    )
    environ = {"KUBECONFIG": str(write(tmp_path / "config", given)), **environ}
    return Cluster(Kubeconfig(environ, tmp_path).connection("lab"), "lab", platform_context(), QUICK)


@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1", "127.0.0.1", "https://localhost", "socks5://127.0.0.1", "socks5h://127.0.0.1"]
)
def test_a_cluster_is_reached_through_a_proxy_that_resolves_its_name(
    cluster: KubeApi, tmp_path: Path, url: str, is_own: bool
) -> None:
    tls = cluster.authority.server_context() if url.startswith("https") else None
    with ProxyServer("socks5" if url.startswith("socks5") else "http", tls) as proxy:
        address = f"{url}:{proxy.port}"
        own, environ = ({"proxy-url": address}, {}) if is_own else ({}, {"HTTPS_PROXY": address})
        made = client(cluster, tmp_path, environ, **own)
        for _ in range(2):
            made.check_namespace("default")
        assert proxy.asked == [f"api.lab.invalid:{cluster.port}"]


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_gets_the_login_of_its_url_decoded(cluster: KubeApi, tmp_path: Path, kind: str) -> None:
    with ProxyServer(kind) as proxy:
        proxy.login = ("me", "p@ss:w")
        made = client(cluster, tmp_path, {"HTTPS_PROXY": f"{kind}://me:p%40ss%3Aw@127.0.0.1:{proxy.port}"})
        made.check_namespace("default")


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_a_proxy_that_refuses_the_login_is_reported_without_the_password(
    cluster: KubeApi, tmp_path: Path, kind: str
) -> None:
    with ProxyServer(kind) as proxy:
        proxy.login = ("me", "right")
        made = client(cluster, tmp_path, {"HTTPS_PROXY": f"{kind}://me:wrong-one@127.0.0.1:{proxy.port}"})
        error = refusal(partial(made.check_namespace, "default"))
        assert error.id == "kubernetes-unreachable"
        assert "wrong-one" not in str(vars(error))


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_proxy_that_cannot_be_reached_is_named(cluster: KubeApi, tmp_path: Path, kind: str) -> None:
    made = client(cluster, tmp_path, {"HTTPS_PROXY": f"{kind}://me:secret@127.0.0.1:9"})
    error = refusal(partial(made.check_namespace, "default"))
    assert (error.id, f"through the proxy {kind}://127.0.0.1:9)" in str(error.cause)) == (
        "kubernetes-unreachable",
        True,
    )
    assert "secret" not in str(vars(error))


# certificates


@pytest.mark.parametrize("name", ["wrong.example.com", "192.0.2.1"])
def test_a_certificate_of_another_name_is_reported_with_what_to_correct(
    cluster: KubeApi, tmp_path: Path, name: str
) -> None:
    authority = {"certificate-authority-data": cluster.certificate_authority, "tls-server-name": name}
    user = {"token": cluster.access.token}
    found = kubeconfig(tmp_path, "lab", server=cluster.url, cluster=authority, user=user)
    made = Cluster(found.connection("lab"), "lab", platform_context(), QUICK)
    error = refusal(partial(made.check_namespace, "default"))
    assert "certificate cannot be verified" in error.message
    assert "tls-server-name" in str(error.hint)


_PEM, _PKCS8, _PLAIN = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def chain(*, has_identifiers: bool) -> tuple[str, str, ssl.SSLContext]:
    """Return the certificates of a root and an intermediate CA, and the TLS settings of a server below them."""
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made: list[tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = []
    for name in ("root", "intermediate", "localhost"):
        key = ec.generate_private_key(ec.SECP256R1())
        issuer, signer = (made[-1][0].subject, made[-1][1]) if made else (_named(name), key)
        builder = x509.CertificateBuilder(
            issuer, _named(name), key.public_key(), x509.random_serial_number(), now - day, now + day
        )
        if name == "localhost":
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        else:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if has_identifiers:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        made.append((builder.sign(signer, hashes.SHA256()), key))
    pems = [certificate.public_bytes(_PEM).decode() for certificate, _ in made]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:
        key_pem = made[-1][1].private_bytes(_PEM, _PKCS8, _PLAIN).decode()
        file.write(pems[2] + pems[1] + key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    return pems[0], pems[1], context


def handshake(client_side: ssl.SSLContext, server_side: ssl.SSLContext) -> None:
    """Connect two ends in memory."""
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [
        client_side.wrap_bio(pipes[0], pipes[1], server_hostname="localhost"),
        server_side.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("has_identifiers", [True, False])
def test_a_ca_without_key_identifiers_is_trusted_whatever_the_flags_of_python(has_identifiers: bool) -> None:
    root, _, server = chain(has_identifiers=has_identifiers)
    made = make_tls(root)
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT
    handshake(made, server)


def test_an_intermediate_ca_is_trusted_without_its_root_as_by_kubectl() -> None:
    _, intermediate, server = chain(has_identifiers=True)
    handshake(make_tls(intermediate), server)


def test_another_ca_is_not_trusted() -> None:
    (_, _, server), (other, _, _) = chain(has_identifiers=True), chain(has_identifiers=True)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(make_tls(other), server)


def test_a_key_in_the_file_of_a_ca_is_ignored() -> None:
    root, _, server = chain(has_identifiers=True)
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(_PEM, _PKCS8, _PLAIN).decode()
    handshake(make_tls(f"{key}{root}"), server)
