"""A PostgreSQL store whose rows or tables another session locks, or whose server falls silent."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
import pytest
from sqlalchemy import make_url

from caliban.errors import StoreError
from caliban.store import engines, server_connection
from caliban.store.database import Access, Store, open_store
from tests.databases import PostgresqlServer, empty_store, sent_statements
from tests.fakes import RecordingReporter

from .helpers import WhenReported, add_experiments, peer_history, read_group

pytestmark = pytest.mark.postgresql

LOCKED = "the experiment store {} is locked by another process; waiting for up to 5 minutes ..."

LOCKS = {
    "a row": "SELECT * FROM experiment_groups FOR UPDATE",
    "a table": "LOCK TABLE experiments IN ACCESS EXCLUSIVE MODE",
    "a table that is read by others": "LOCK TABLE experiments IN EXCLUSIVE MODE",
    "a table that is indexed": "LOCK TABLE experiments IN SHARE MODE",
}


@pytest.fixture
def url(postgresql_server: PostgresqlServer) -> Iterator[str]:
    with postgresql_server.database(empty_store) as made:
        yield made


@pytest.fixture
def store(url: str, reporter: RecordingReporter) -> Iterator[Store]:
    with open_store(url, Access.WRITE, reporter) as opened:
        add_experiments(opened, "mei", "g", 1)
        yield opened


@contextmanager
def session(url: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session of somebody else."""
    with closing(psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(False))) as other:
        yield other


@pytest.fixture
def quick(quick: WhenReported, monkeypatch: pytest.MonkeyPatch) -> WhenReported:
    """Makes the waits for a server short, too."""
    monkeypatch.setattr(server_connection, "PROBE_PERIOD", 0.1)
    monkeypatch.setattr(server_connection, "_PROBE_SECONDS", 0.1)
    return quick


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_is_waited_for_with_one_word(
    store: Store,
    url: str,
    reporter: RecordingReporter,
    quick: WhenReported,
    lock: str,
) -> None:
    with session(url) as other:
        other.execute(lock)
        quick(other.rollback)
        add_experiments(store, "mei", "g", 3)
    assert reporter.lines == [LOCKED.format(store.location)]
    assert len(read_group(store, "mei", "g").experiments) == 3


def test_a_reader_waits_too(store: Store, url: str, reporter: RecordingReporter, quick: WhenReported) -> None:
    with session(url) as other:
        other.execute(LOCKS["a table"])
        quick(other.rollback)
        assert len(read_group(store, "mei", "g").experiments) == 1
    assert reporter.lines == [LOCKED.format(store.location)]


@pytest.mark.parametrize("lock", ["SELECT * FROM job_specs", f"SELECT pg_advisory_xact_lock({0x63616C6962616E})"])
def test_an_upgrade_waits_for_readers_and_other_upgrades(
    postgresql_server: PostgresqlServer,
    reporter: RecordingReporter,
    quick: WhenReported,
    lock: str,
) -> None:
    with postgresql_server.database(peer_history) as url, session(url) as other:
        other.execute(lock)
        quick(other.rollback)
        open_store(url, Access.WRITE, reporter).close()
        assert [line.startswith("the experiment store ") for line in reporter.lines] == [True]
        assert "is locked by another process" in reporter.lines[0]


@pytest.mark.parametrize("lock", ["SELECT * FROM job_specs", f"SELECT pg_advisory_xact_lock({0x63616C6962616E})"])
def test_an_upgrade_that_waited_in_vain_has_changed_nothing(
    postgresql_server: PostgresqlServer,
    reporter: RecordingReporter,
    quick: object,
    monkeypatch: pytest.MonkeyPatch,
    lock: str,
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.5)
    with postgresql_server.database(peer_history) as url, session(url) as other:
        other.execute(lock)
        with pytest.raises(StoreError) as caught:
            open_store(url, Access.WRITE, reporter)
        assert caught.value.id == "store-locked"
        other.rollback()
        assert other.execute("SELECT to_regclass('submissions')").fetchone() == (None,)


def test_after_minutes_it_is_an_error_that_names_the_session(
    store: Store, url: str, quick: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.5)
    with session(url) as other:
        other.execute(LOCKS["a table that is read by others"])
        with pytest.raises(StoreError) as caught:
            add_experiments(store, "mei", "g", 3)
        error = caught.value
        assert error.id == "store-locked"
        assert f"held by session {other.info.backend_pid} (user " in (error.cause or "")
        assert "idle in transaction" in (error.cause or "")
        assert "pg_stat_activity" in (error.hint or "")
        assert "pg_blocking_pids" in (error.hint or "")
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        assert other.execute(waiting).fetchone() == (0,), "the server still waits for nobody"
    assert len(read_group(store, "mei", "g").experiments) == 1, "the store can be used afterwards"


def test_a_statement_that_is_answered_needs_no_other(store: Store) -> None:
    with sent_statements() as sent:
        read_group(store, "mei", "g")
    assert not any("pg_" in statement for statement in sent)


PROGRAM = """
import sys
from caliban.store.database import *
from sqlalchemy import text
class Reporter:
    def info(self, line): print(line, flush=True)
import caliban.store.engines as engines; engines._REPORT_AFTER = 0.1
import caliban.store.server_connection as connections; connections._PROBE_SECONDS = 0.5
with open_store(sys.argv[1], Access.WRITE, Reporter()) as store, store.writing() as session:
    print("open", flush=True)
    sys.stdin.readline()
    session.execute(text(sys.argv[2]))
"""


def run(url: str, statement: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, statement],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process


def go_on(process: subprocess.Popen[bytes]) -> bytes:
    """Let the process send its statement; return what it says when it waits."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_ctrl_c_ends_the_wait_for_a_lock(url: str, store: Store) -> None:
    with session(url) as other:
        other.execute(LOCKS["a table"])
        waiting = run(url, "SELECT * FROM experiments")
        assert b"is locked by another process" in go_on(waiting)
        waiting.send_signal(signal.SIGINT)
        _, stderr = waiting.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr


class Proxy:
    """Passes everything on between clients and the server, until it falls silent.

    Attributes:
        silent_at: what a client sends from which on nothing is passed on; None for never.
        is_silent: whether it passes nothing on, new connections included.
        trickle: whether the server then seems to send a byte now and then.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._target = (str(parsed.query.get("host") or parsed.host or "127.0.0.1"), parsed.port or 5432)
        port = self._listening.getsockname()[1]
        query = {key: value for key, value in parsed.query.items() if key not in ("host", "port")}
        self.url = parsed.set(host="127.0.0.1", port=port, query=query).render_as_string(hide_password=False)
        self.silent_at: bytes | None = None
        self.is_silent = False
        self.over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = self._connect()
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(*pair, pair[0] is client), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = self._target
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{host}/.s.PGSQL.{port}")
        return connection

    def _pass_on(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(65536):
                if from_client and self.silent_at is not None and self.silent_at in data:
                    self.is_silent = True
                if self.is_silent:
                    self.over.wait()
                    return
                target.sendall(data)

    def close(self) -> None:
        self._listening.close()
        self.over.set()


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with closing(Proxy(url)) as made:
        yield made


def write(store: Store) -> None:
    add_experiments(store, "mei", "g", 2)


def read(store: Store) -> None:
    read_group(store, "mei", "g")


@pytest.mark.parametrize(
    ("at", "call"),
    [
        (b"BEGIN", write),
        (b"INSERT", write),
        (b"SELECT", write),
        (b"COMMIT", write),
        (b"SELECT", read),
        (b"ROLLBACK", read),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else value.__name__,
)
def test_a_server_that_falls_silent_is_given_up_with_a_word(
    proxy: Proxy,
    reporter: RecordingReporter,
    quick: object,
    monkeypatch: pytest.MonkeyPatch,
    at: bytes,
    call: Callable[[Store], None],
) -> None:
    with open_store(proxy.url, Access.WRITE, reporter) as store:
        add_experiments(store, "mei", "g", 1)
        proxy.silent_at = at
        monkeypatch.setattr(engines, "BUSY_TIMEOUT", 0.5)
        monkeypatch.setattr(server_connection, "_CANCEL_SECONDS", 0.01)
        with pytest.raises(StoreError) as caught:
            call(store)
    assert proxy.is_silent
    assert caught.value.id == "store-unreachable"
    assert caught.value.cause == "connection closed: the server has not answered within 0 s"
    assert [line.startswith("waiting for an answer of the PostgreSQL server") for line in reporter.lines] == [True]


@pytest.mark.parametrize("access", list(Access))
def test_a_server_that_accepts_and_says_nothing_is_given_up(
    proxy: Proxy, reporter: RecordingReporter, monkeypatch: pytest.MonkeyPatch, access: Access
) -> None:
    proxy.is_silent = True
    monkeypatch.setattr(server_connection, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr("caliban.threads.SLOW", 0.05)
    with pytest.raises(StoreError) as caught:
        open_store(proxy.url, access, reporter)
    assert caught.value.id == "store-unreachable"
    assert "no answer within" in (caught.value.cause or "")
    assert reporter.lines[0].startswith("waiting for the PostgreSQL server of the experiment store ")


def test_ctrl_c_ends_the_wait_for_a_silent_server(proxy: Proxy, store: Store) -> None:
    waiting = run(proxy.url, "SELECT * FROM experiments")
    proxy.silent_at = b"SELECT * FROM experiments"
    assert b"waiting for an answer of the PostgreSQL server" in go_on(waiting)
    waiting.send_signal(signal.SIGINT)
    _, stderr = waiting.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
