"""Debian packages of the machine, and how the machine reaches its package indexes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from services.cache import cache_directory, locked
from services.shell import Failure, run, say

USUAL_CERTIFICATES = Path("/usr/share/ca-certificates")
"""Where Debian's package ca-certificates has the CA certificates that every machine trusts."""

_POLICY = Path("/usr/sbin/policy-rc.d")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_USER_IN_URL = re.compile(r"://[^/\s]*@")
_APT_ADVICE = "the machine's own apt-get must work: try it by hand"


_ADMINISTRATORS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find_program(name: str) -> str | None:
    """Find a program on the PATH, and where :func:`administrators_path` looks."""
    return shutil.which(name, path=administrators_path())


def administrators_path() -> str:
    """Return the PATH with the directories of administrators, which that of cron, of sudo and of plain users lacks.

    An engine looks for iptables there, and dpkg for ldconfig.
    """
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*known, *(each for each in _ADMINISTRATORS if each not in known)])


def install(packages: list[str], *, why: str) -> None:
    """Install Debian packages; none of their services is started.

    Raises:
        Failure: we are not root, there is no apt-get, or it fails.
    """
    wish = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise Failure(f"{why}: there is no apt-get to install {' '.join(packages)} with", "install it by hand")
    if os.geteuid() != 0:
        raise Failure(f"{why}: only root may install {' '.join(packages)}", f"run as root: {wish}")
    say(f"{why}: {wish}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": administrators_path()}
    options = ["-q", "-o", "DPkg::Lock::Timeout=300"]
    with locked(cache_directory() / "apt.lock", waiting="waiting for another apt-get of ours"), _ServicesStayDown():
        run(["apt-get", *options, "update"], "apt-get update", environment=environment, hint=_APT_ADVICE)
        run(
            ["apt-get", *options, "install", "-y", "--no-install-recommends", *packages],
            f"installing {' '.join(packages)}",
            environment=environment,
            hint=_APT_ADVICE,
        )


def unpack(packages: list[str], *, why: str) -> Path:
    """Download Debian packages and unpack them in the cache directory; return the root of their files.

    Nothing is installed: Debian's runc would replace the containerd.io of a machine that has Docker from elsewhere.
    apt's lists and cache are its own ones too, so this works for any user.

    Raises:
        Failure: there is no apt-get, or it fails.
    """
    text = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise Failure(f"{why}: there is no apt-get to download {text} with", "use Debian or a derivative of it")
    directory = cache_directory() / "programs" / f"debian-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    directory.parent.mkdir(exist_ok=True)
    with locked(directory.with_suffix(".lock"), waiting=f"another run is downloading {text}"):
        if not directory.exists():
            say(f"{why}: downloading {text}")
            partial = directory.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _download(packages, partial / "apt")
            for package in sorted((partial / "apt").glob("*.deb")):
                run(["dpkg-deb", "--extract", package, partial], f"unpacking {package.name}")
            shutil.rmtree(partial / "apt")
            partial.rename(directory)
    return directory


def _download(packages: list[str], directory: Path) -> None:
    for name in ("lists/partial", "archives/partial"):
        (directory / name).mkdir(parents=True)
    options = [f"Dir::State::Lists={directory}/lists", f"Dir::Cache={directory}", "APT::Sandbox::User=root"]
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    run([*apt, "update"], "apt-get update", hint=_APT_ADVICE, directory=directory)
    run([*apt, "download", *packages], f"downloading {' '.join(packages)}", hint=_APT_ADVICE, directory=directory)


class _ServicesStayDown:
    """Keep a package from starting its service: we start our own, elsewhere.

    ``invoke-rc.d`` asks policy-rc.d; 101 is "action forbidden by policy" (Debian's
    /usr/share/doc/init-system-helpers/README.policy-rc.d.gz). A policy that is there already is left alone.
    """

    _text = "#!/bin/sh\n# put here by caliban's dev/services/debian.py while it installs; may be removed\nexit 101\n"

    def __enter__(self) -> None:
        if not _POLICY.exists():
            _POLICY.write_text(self._text)
            _POLICY.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        # One that a killed run left behind is ours as well.
        if _POLICY.exists() and _POLICY.read_text() == self._text:
            _POLICY.unlink()


def has_user_in_url(text: str) -> bool:
    """Say whether a URL in the text names a user: what is copied into an image must not carry a password."""
    return _USER_IN_URL.search(text) is not None


def bookworm_sources() -> str:
    """Give the apt sources for a bookworm image: the machine's own where it is one.

    Empty for those that mmdebstrap knows by itself. The machine's sources count when Debian's own keyring
    signs them and no URL names a user.
    """
    release = Path("/etc/os-release")
    if not release.exists() or "VERSION_CODENAME=bookworm" not in release.read_text():
        return ""
    for path in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        text = path.read_text() if path.exists() else ""
        if "bookworm" in text and not has_user_in_url(text) and _signed_by_debian(text):
            return "".join(f"{line}\n" for line in text.splitlines() if not line.lstrip().startswith("#"))
    return ""


def _signed_by_debian(text: str) -> bool:
    signers: list[str] = re.findall(r"signed-by\s*[:=]\s*(\S+)", text, re.IGNORECASE)
    return all("debian-archive-keyring" in signer for signer in signers)


def apt_settings() -> str:
    """Give the machine's apt settings that decide how an index is reached and believed, for a file in apt.conf.d."""
    if shutil.which("apt-config") is None:
        return ""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=False).stdout
    wanted = re.compile(r"Acquire::(https?|Check-|Retries|ForceIPv)[^ ]* \"[^\"]+\";")
    return "".join(f"{line}\n" for line in dump.splitlines() if wanted.match(line) and not has_user_in_url(line))


def pip_settings() -> str:
    """Give a pip.conf with the indexes that pip uses on this machine, as far as a container can reach them.

    Directories of the machine and URLs that name a user are left out.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings: dict[str, str] = {}
    # Later ones win, as in pip: files first, then environment variables.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        found = re.fullmatch(r"(?:global|install|:env:)\.(index-url|extra-index-url|trusted-host|timeout)='(.*)'", line)
        if found and not has_user_in_url(found[2]) and "file:" not in found[2] and not found[2].startswith("/"):
            settings[found[1]] = found[2]
    # pip of a later version brings a CA bundle of its own.
    settings["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))


def own_certificates() -> Iterator[tuple[str, str]]:
    """Yield (file name, PEM text) for each CA certificate that this machine trusts beyond Debian's usual ones."""
    bundle = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
    # Without Debian's package there is nothing to compare with; an image has the usual ones by itself.
    if not bundle.is_file() or not USUAL_CERTIFICATES.is_dir():
        return
    known = {found.strip() for path in USUAL_CERTIFICATES.rglob("*.crt") for found in _certificates(path)}
    for certificate in _certificates(bundle):
        if certificate.strip() not in known:
            digest = hashlib.sha256(certificate.strip().encode()).hexdigest()[:16]
            yield f"machine-{digest}.crt", certificate.strip() + "\n"


def _certificates(path: Path) -> list[str]:
    return _CERTIFICATE.findall(path.read_text(encoding="utf-8", errors="replace"))
