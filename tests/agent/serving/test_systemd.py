# SPDX-License-Identifier: Apache-2.0
"""What systemd is told; its own side of it is in tests/agent/packaging."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from agent.serving.systemd import Notifier


def listener(address: str) -> socket.socket:
    """What systemd listens on."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(address)
    listening.settimeout(10)
    return listening


def heard(listening: socket.socket) -> list[str]:
    """All that has been said."""
    listening.setblocking(False)
    said = []
    while True:
        try:
            said.append(listening.recv(4096).decode())
        except BlockingIOError:
            return said


def test_each_word_is_one_datagram(tmp_path: Path) -> None:
    """As sd_notify(3) writes them."""
    with listener(str(tmp_path / "notify")) as listening:
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"}
        notifier = Notifier(environ)
        before_us = time.monotonic_ns() // 1000

        notifier.reloading()
        notifier.ready()
        notifier.status("next round soon")
        notifier.status("next round soon")
        notifier.alive()
        notifier.stopping()

        reloading, *others = heard(listening)
        assert others == ["READY=1", "STATUS=next round soon", "WATCHDOG=1", "STOPPING=1"]
        word, _, moment = reloading.partition("\nMONOTONIC_USEC=")
        assert word == "RELOADING=1"
        assert before_us <= int(moment) <= time.monotonic_ns() // 1000
    # And no child of ours can speak for us
    assert environ == {}
    assert notifier.watchdog_s == 3


def test_an_abstract_socket_is_one_too() -> None:
    """As in containers."""
    name = f"cryptofleet-test-{os.getpid()}"
    with listener("\0" + name) as listening:
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert heard(listening) == ["READY=1"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nonexistent"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_where_nobody_listens_the_words_go_nowhere(environ: dict[str, str]) -> None:
    """A service that is started by hand, or by something else."""
    notifier = Notifier(environ)
    notifier.ready()
    notifier.status("\udcff")
    notifier.alive()


def test_one_who_listens_and_does_not_read_keeps_nobody_waiting(tmp_path: Path) -> None:
    """The queue of datagrams is short (net.unix.max_dgram_qlen)."""
    with listener(str(tmp_path / "notify")):
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for number in range(10_000):
            notifier.status(str(number))


@pytest.mark.parametrize(
    ("pid", "is_ours"),
    [("", True), (os.getpid(), True), (os.getppid(), True), (1_000_000_000, False)],
    ids=("nobody", "itself", "its parent", "another"),
)
def test_the_watchdog_is_fed_by_the_one_it_watches_or_that_one_s_child(pid: object, is_ours: bool) -> None:
    """The one file's first process is whom systemd knows, and it only waits."""
    notifier = Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(pid)})
    assert (notifier.watchdog_s is not None) == is_ours


def test_a_number_that_is_none_is_no_watchdog() -> None:
    """Environments are anybody's."""
    assert Notifier({"WATCHDOG_USEC": "often"}).watchdog_s is None
    assert Notifier({"WATCHDOG_USEC": "0"}).watchdog_s is None
