# SPDX-License-Identifier: Apache-2.0
"""The table of places: every row has its reason, and none contradicts another."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.disk import places
from agent.host import Host


def test_every_place_is_named_once_with_its_reason() -> None:
    """A row without a reason cannot be judged by whoever wants to remove it."""
    paths = [place.path for place in places.PLACES]

    assert len(set(paths)) == len(paths)
    assert all(place.why for place in places.PLACES)
    assert not any(places.is_left_out(path) for path in paths)


@pytest.mark.parametrize(
    "path",
    [
        "/srv/app/.git",
        "/opt/x/node_modules",
        "/home/alice/.cache",
        "/var/lib/docker",
        "/var/lib/rancher/k3s/agent/containerd",
        "/var/lib/postgresql/15/main/base",
        "/home/new\nline/go/pkg",
        "/etc/pki/ca-trust/extracted/pem/directory-hash",
    ],
)
def test_what_is_left_out_is_known_by_name_or_path(path: str) -> None:
    """Caches, containers, other people's packages."""
    assert places.is_left_out(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/ssl",
        "/var/lib/dockerish",
        "/var/lib/docker2",
        "/srv/var/lib/docker",
        "/var/lib/rancher/k3s/server/tls",
        "/var/lib/postgresql/15/main",
        "/home/alice/.minikube",
        "/home/a/b/go/pkg",
        "/etc/pki/ca-trust/extracted/pem",
    ],
)
def test_what_looks_like_it_is_searched(path: str) -> None:
    """One name too much left out is a gap that nobody sees."""
    assert not places.is_left_out(path)


def test_homes_of_human_users_elsewhere_are_places(tmp_path: Path) -> None:
    """Not those of services, and not a home that is the whole host."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/root:\nalice:x:1000:1::/home/alice:\nbob:x:1001:1::/data/bob:\n"
        "daemon:x:1:1::/data/daemon:\nnobody:x:65534:1::/nonexistent/x:\neve:x:1002:1::/:\nmal:x:1003:1::/proc/1:\n"
        "ann:x:1004:1::/usr/share/ann:\nlea:x:1005:1::/library/lea:\n"
    )

    found = places.places(Host(str(tmp_path)))

    assert [place.path for place in found[len(places.PLACES) :]] == ["/data/bob", "/library/lea"]
