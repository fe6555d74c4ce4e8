"""What an engine of ours added to the firewall goes with it; rules of others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import engine_network

BEFORE = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [12:720]
:OUTPUT ACCEPT [0:0]
-A INPUT -s 192.0.2.1/32 -j DROP
COMMIT
"""
AFTER = """\
*filter
:INPUT ACCEPT [9:540]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -s 192.0.2.1/32 -j DROP
-A INPUT -s 192.0.2.2/32 -j DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER-USER -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE
COMMIT
"""


def test_rules_then_chains_of_the_engine_are_removed_and_the_policy_is_restored() -> None:
    assert engine_network.undoing(BEFORE, AFTER).splitlines() == [
        "*filter",
        ":FORWARD ACCEPT [0:0]",
        "-D FORWARD -j DOCKER-USER",
        "-D FORWARD -o docker0 -j DOCKER",
        "-D DOCKER-USER -j RETURN",
        "-X DOCKER",
        "-X DOCKER-USER",
        "COMMIT",
        "*nat",
        "-D POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "-D POSTROUTING -s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE",
        "-X DOCKER",
        "COMMIT",
    ]


def test_the_rules_of_an_engine_that_was_there_before_stay() -> None:
    assert engine_network.undoing(AFTER, AFTER) == ""


def test_the_policy_of_a_table_that_was_not_there_before_is_to_accept() -> None:
    assert ":FORWARD ACCEPT [0:0]\n" in engine_network.undoing("", AFTER)


def test_what_a_killed_engine_left_is_removed_before_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, applied = [BEFORE], list[str]()
    monkeypatch.setattr(engine_network, "_TOOLS", ("iptables",))
    monkeypatch.setattr(engine_network, "_save", lambda tool: saved[-1])
    monkeypatch.setattr(engine_network, "_apply", lambda tool, changes: applied.append(changes))
    monkeypatch.setattr(engine_network, "_BRIDGE", tmp_path)  # exists, so it is left alone
    engine_network.record(tmp_path)
    saved.append(AFTER)
    engine_network.record(tmp_path)
    assert applied == [engine_network.undoing(BEFORE, AFTER)]
