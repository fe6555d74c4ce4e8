"""Fixtures of tests of every layer: a context, a store, the fake platform, the installed command."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import pytest

from caliban.cli.console import Console
from caliban.cli.context import Context
from caliban.platforms import registry as platform_registry
from caliban.platforms.registry import Platforms
from caliban.redaction import forget_secrets
from caliban.store.database import Access, Store, open_store
from caliban.submission.setup import make_platforms
from tests.databases import SqliteFiles, empty_store, postgresql_server, postgresql_url, sqlite_files
from tests.docker_engine import base_image, engine, registry
from tests.fake_platform import FakePlatform
from tests.fake_service import FakeService
from tests.fakes import FakeClock, FakeEngine, FakeStream, RecordingReporter
from tests.forkserver import ForkServer, fork_server
from tests.once import load_keys_without_checks, share_compiled_statements

load_keys_without_checks()
share_compiled_statements()

# in the background of a shell, or under nohup, signals that tests send would be ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["tests.sampling", "tests.scheduling"]

__all__ = ["base_image", "engine", "fork_server", "postgresql_server", "postgresql_url", "registry", "sqlite_files"]

_SET_BY_TESTS = (
    "CALIBAN_DB_URL",
    "DOCKER_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "PROJECT_ID",
)


def pytest_report_header() -> str:
    """Report whether the tests on a real cluster run."""
    context = os.environ.get("CALIBAN_TEST_CONTEXT")
    if context:
        return f"real cluster: that of the context {context}"
    return (
        "real cluster: tests/real_cluster is skipped; to run it, set CALIBAN_TEST_CONTEXT to a context of your "
        "kubeconfig, and CALIBAN_TEST_CLUSTER_IMAGE to an image there whose entrypoint is sh"
    )


@pytest.fixture(autouse=True)
def forgotten_secrets() -> Iterator[None]:
    """Hide no secret of another test in the texts of this one."""
    forget_secrets()
    yield
    forget_secrets()


_REQUIRED_BY_FIXTURE = {
    "engine": "docker",
    "registry": "docker",
    "postgresql_server": "postgresql",
    "peer_executable": "peer",
}
"""Fixture -> marker of the service that it needs, for tests that request it directly or through another fixture."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with the services that it needs, so that ``make quick`` can leave those out."""
    for fixture in getattr(item, "fixturenames", ()):
        if fixture in _REQUIRED_BY_FIXTURE:
            item.add_marker(_REQUIRED_BY_FIXTURE[fixture])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the long tests first, so that no worker is left with one when all others have finished."""
    items.sort(key=lambda item: "safety" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Let the garbage collector look no more at what all tests share."""
    gc.collect()
    gc.freeze()


@dataclass
class Screen:
    """A console and its three streams."""

    console: Console
    stdin: FakeStream
    stdout: FakeStream
    stderr: FakeStream


@dataclass
class MakeScreen:
    """Creates screens with a common clock. Terminals have no colours, and no size, unless ``environ`` says so."""

    clock: FakeClock = field(default_factory=FakeClock)
    environ: dict[str, str] = field(default_factory=dict)

    def __call__(self, typed: str = "", *, is_terminal: bool = False) -> Screen:
        stdin = FakeStream(typed.encode(), is_terminal=is_terminal)
        stdout, stderr = FakeStream(is_terminal=is_terminal), FakeStream(is_terminal=is_terminal)
        return Screen(Console(stdin, stdout, stderr, self.clock, self.environ), stdin, stdout, stderr)


@dataclass(frozen=True)
class ScreenContext(Context):
    """A context, and what its user reads."""

    screen: Screen = field(kw_only=True)

    @property
    def out(self) -> str:
        return self.screen.stdout.text

    @property
    def err(self) -> str:
        return self.screen.stderr.text


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def time_zone() -> Iterator[Callable[[str], None]]:
    """Sets the time zone of this process until the end of the test."""

    def set_time_zone(name: str) -> None:
        patch.setenv("TZ", name)
        time.tzset()

    with pytest.MonkeyPatch.context() as patch:
        yield set_time_zone
    time.tzset()


@pytest.fixture
def make_screen(clock: FakeClock) -> MakeScreen:
    return MakeScreen(clock)


@pytest.fixture
def screen(make_screen: MakeScreen) -> Screen:
    """Pipes, and nothing typed."""
    return make_screen()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


class MakeContext(Protocol):
    def __call__(self, typed: str = "", *, is_terminal: bool = False) -> ScreenContext: ...


@pytest.fixture
def make_context(make_screen: MakeScreen, home: Path, cwd: Path, clock: FakeClock) -> MakeContext:
    """Creates contexts of user ``totoro``, whose store is in the temporary home directory."""

    def make(typed: str = "", *, is_terminal: bool = False) -> ScreenContext:
        made = make_screen(typed, is_terminal=is_terminal)
        return ScreenContext(made.console, {}, cwd, home, "totoro", clock, screen=made)

    return make


@pytest.fixture
def context(make_context: MakeContext) -> ScreenContext:
    """A command with pipes as streams, and nothing to read."""
    return make_context()


@pytest.fixture
def terminal(make_context: MakeContext) -> ScreenContext:
    """A command in a terminal, at the end of its input."""
    return make_context(is_terminal=True)


@pytest.fixture
def store_url(home: Path, sqlite_files: SqliteFiles) -> str:
    """A store of this version, empty, where commands look for it by default."""
    (home / ".caliban").mkdir(mode=0o700)
    sqlite_files.copy(empty_store, home / ".caliban" / "caliban.db")
    return f"sqlite:///{home}/.caliban/caliban.db"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(store_url, Access.WRITE, RecordingReporter()) as opened:
        yield opened


@pytest.fixture
def reporter() -> RecordingReporter:
    return RecordingReporter()


@pytest.fixture
def platforms(reporter: RecordingReporter) -> Platforms:
    """The platforms of a command without flags or environment variables."""
    return make_platforms({}, Path("/nowhere"), reporter)


@contextmanager
def fake_platform(cls: str) -> Iterator[FakeService]:
    """Provide the platform TEST by a class of ``tests.fake_platform``, and yield its service."""
    service = FakeService()
    table = cast(MutableMapping[str, platform_registry.Entry], platform_registry._BUILT_IN)
    entry = platform_registry.Entry("TEST", f"tests.fake_platform:{cls}", "tests.fake_service:fake_details")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakePlatform, "service", service, raising=False)
            patch.setitem(table, "TEST", entry)
            platform_registry._parser.cache_clear()
            yield service
    finally:
        platform_registry._parser.cache_clear()
    service.verify()


@pytest.fixture
def service() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run by themselves."""
    with fake_platform("FakePlatform") as service:
        yield service


@pytest.fixture
def resizable() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run by themselves, and can have more memory."""
    with fake_platform("FakeResizablePlatform") as service:
        yield service


@pytest.fixture
def foreground() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run while the command waits."""
    with fake_platform("FakeForegroundPlatform") as service:
        yield service


@pytest.fixture
def killing() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run while the command waits, and can be killed."""
    with fake_platform("FakeKillingPlatform") as service:
        yield service


@pytest.fixture
def logging() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run by themselves, and whose output can be read."""
    with fake_platform("FakeLoggingPlatform") as service:
        yield service


@pytest.fixture
def with_output() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run while the command waits, and have output."""
    with fake_platform("FakeLogPlatform") as service:
        yield service


@pytest.fixture
def remote() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs run elsewhere, from images that are pushed there."""
    with fake_platform("FakeRemotePlatform") as service:
        yield service


@pytest.fixture
def imageless() -> Iterator[FakeService]:
    """The service of the platform TEST, whose jobs need no container image."""
    with fake_platform("FakeImagelessPlatform") as service:
        yield service


@pytest.fixture
def unknown_platform() -> str:
    """A platform that neither this version of caliban nor an installed package provides."""
    return "MAINFRAME"


@pytest.fixture
def no_google_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine outside Google Cloud without a Google login."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", "APPENGINE_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    # google-auth reads $NO_GCE_CHECK on import, which another test may have caused
    monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", True)


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    """The Docker Engine that commands connect to."""
    made = FakeEngine()
    monkeypatch.setattr("caliban.images.docker.engine.Engine.connect", lambda environ, secret_files, on_slow: made)
    yield made
    made.verify()


Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Caliban:
    """The installed command, in its own process."""

    home: Path
    cwd: Path

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of this process, to measure coverage, without what depends on the machine."""
        kept = {name: value for name, value in os.environ.items() if name not in _SET_BY_TESTS}
        return {**kept, "HOME": str(self.home), "CALIBAN_USER": "totoro", "COLUMNS": "80", **(env or {})}

    def __call__(
        self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "caliban", *words],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(env),
            cwd=cwd or self.cwd,
            timeout=60,
            check=False,
        )

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "caliban", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(env),
            cwd=self.cwd,
        )


@pytest.fixture
def run_caliban(home: Path, cwd: Path) -> Caliban:
    return Caliban(home, cwd)


@dataclass(frozen=True)
class ForkedCaliban(Caliban):
    """The command in a process forked from one that has imported everything: for tests that are not about imports."""

    server: ForkServer

    def __call__(
        self, *words: str, stdin: str = "", env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Finished:
        return self.server.call(words, environ=self.environment(env), cwd=cwd or self.cwd, stdin=stdin)


@pytest.fixture
def forked_caliban(home: Path, cwd: Path, fork_server: ForkServer) -> ForkedCaliban:
    return ForkedCaliban(home, cwd, fork_server)
