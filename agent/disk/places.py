# SPDX-License-Identifier: Apache-2.0
"""Where does a Linux host keep certificates and keys? What is searched and what is left out, with reasons.

A place is searched for whatever its bytes say it holds; names decide only where not to look. Temporary
directories, documentation, the distribution's programs and what containers hold are no places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.disk.walk import ANY_DEPTH
from agent.host import Host
from agent.redact import HUMAN_UIDS


@dataclass(frozen=True)
class Place:
    """One directory to search."""

    path: str
    why: str
    depth_max: int = ANY_DEPTH


# A home is searched this deep. It reaches ~/.minikube/profiles/NAME/client.crt and the bundle of a virtual
# environment in ~/PROJECT/.venv/lib/python3.X/site-packages; what lies deeper is the inside of somebody's
# project.
_HOME_DEPTH = 6

# What the host runs on comes first, so that a user who fills his home spends nothing of what it needs.
PLACES = (
    Place("/etc", "configuration, the trust anchors of the distribution, and what administrators install"),
    Place("/usr/share/ca-certificates", "roots that Debian's ca-certificates ships"),
    Place("/usr/share/pki", "roots that Fedora's and SUSE's ca-certificates ship"),
    Place("/usr/lib/ssl", "OPENSSLDIR of Debian's OpenSSL"),
    Place("/usr/local/share", "local roots for update-ca-certificates"),
    Place("/usr/local/etc", "configuration of software built on this host"),
    Place("/usr/local/ssl", "OPENSSLDIR of an OpenSSL built on this host"),
    Place("/var/spool/postfix/etc", "copies for the chroot that postfix runs in"),
    Place("/var/kerberos", "certificates of the key distribution centre (Fedora)"),
    Place("/var/lib", "services that make or receive certificates: databases, Kubernetes, VPNs, agents"),
    Place("/var/www", "web sites whose owners keep certificates beside them"),
    Place("/srv", "data of services (FHS 3.17)"),
    Place("/opt", "add-on software (FHS 3.13)"),
    Place("/root", "what administrators leave behind", _HOME_DEPTH),
    Place("/home", "client certificates and what people work on", _HOME_DEPTH + 1),
)
_HOME_WHY = "home of a human user outside /home"

# Directories that are never entered, wherever they stand, by name.
_LEFT_NAMES = {
    **dict.fromkeys((".git", ".hg", ".svn", ".bzr"), "storage of version control"),
    **dict.fromkeys((".cache", "__pycache__", ".npm", ".yarn", ".ccache"), "caches: made again when needed"),
    **dict.fromkeys(
        (
            ".cargo",
            ".rustup",
            ".m2",
            ".gradle",
            ".ivy2",
            ".pyenv",
            ".rbenv",
            ".nvm",
            ".sdkman",
            ".asdf",
            ".tox",
            ".nox",
        ),
        "toolchains and the packages they fetched, with the certificates of their tests",
    ),
    **dict.fromkeys((".vscode-server", ".vscode", ".cursor-server"), "an editor's program files"),
    "node_modules": "packages of JavaScript, with the certificates of their tests",
    "site-packages": "packages of Python: only the bundles of `PYTHON_BUNDLES` are looked for",
    "dist-packages": "the same on Debian",
}
# The same by path; `*` stands for one name.
_LEFT_PATHS = {
    "/etc/pki/ca-trust/extracted/pem/directory-hash": "tls-ca-bundle.pem again, one file for each root",
    "/var/lib/ca-certificates/pem": "ca-bundle.pem again, one file for each root",
    "/var/lib/ca-certificates/openssl": "the same with OpenSSL's trust settings",
    **dict.fromkeys(
        (
            "/var/lib/buildkit",
            "/var/lib/containerd",
            "/var/lib/containers",
            "/var/lib/docker",
            "/var/lib/flatpak",
            "/var/lib/incus",
            "/var/lib/kubelet/pods",
            "/var/lib/libvirt/images",
            "/var/lib/lxc",
            "/var/lib/lxd",
            "/var/lib/machines",
            "/var/lib/portables",
            "/var/lib/rancher/*/agent/containerd",
            "/var/lib/snapd",
            "/home/*/.local/share/containers",
            "/home/*/.local/share/docker",
            "/root/.local/share/containers",
            "/root/.local/share/docker",
        ),
        "what containers, machines and images hold is theirs, under names that change with every start",
    ),
    **dict.fromkeys(
        (
            "/var/lib/apt",
            "/var/lib/dnf",
            "/var/lib/dpkg",
            "/var/lib/man-db",
            "/var/lib/mlocate",
            "/var/lib/PackageKit",
            "/var/lib/plocate",
            "/var/lib/rpm",
            "/var/lib/yum",
        ),
        "databases of package managers and of file names",
    ),
    "/var/lib/postgresql/*/*/base": "tables: many files, none of ours",
    "/var/lib/postgresql/*/*/pg_wal": "the same",
    "/var/lib/pgsql/*/data/base": "the same",
    "/var/lib/pgsql/*/data/pg_wal": "the same",
    "/var/lib/systemd/coredump": "memory of crashed programs; nobody put it there",
    "/home/*/.local/share/Trash": "thrown away",
    "/home/*/go/pkg": "packages that Go fetched",
    "/root/go/pkg": "the same",
}
_LEFT = re.compile("|".join(re.escape(path).replace(r"\*", "[^/]+") for path in _LEFT_PATHS), re.DOTALL)

# Where an interpreter's packages stand, and the trust stores that packages carry with them.
_PYTHON_PARENTS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
PYTHON_TREES = ("dist-packages", "site-packages")
PYTHON_BUNDLES = (
    "botocore/cacert.pem",
    "certifi/cacert.pem",
    "httplib2/cacerts.txt",
    "pip/_vendor/certifi/cacert.pem",
)
# Homes that passwd(5) puts where programs stand are no homes.
_NO_HOMES = re.compile(r"/(?:bin|boot|dev|lib|lib64|nonexistent|proc|run|sbin|sys|usr)(?:/|$)")


def places(host: Host) -> list[Place]:
    """Every place of a host, the most important first."""
    elsewhere = [
        Place(home, _HOME_WHY, _HOME_DEPTH)
        for home, uid in sorted(host.homes().items())
        if uid in HUMAN_UIDS
        and home.count("/") > 1
        and not home.startswith("/home/")
        and not _NO_HOMES.match(home)
    ]
    return [*PLACES, *elsewhere]


def is_left_out(path: str) -> bool:
    """Whether a directory is never entered. `path` is absolute and has no links in it."""
    return path.rpartition("/")[2] in _LEFT_NAMES or _LEFT.fullmatch(path) is not None


def python_trees(host: Host, resolve: Callable[[str], str | None]) -> list[str]:
    """Directories of packages of the host's own Python interpreters, there or not.

    Args:
        resolve: real path of a directory, or None where we may not step (`Walker.resolve`).
    """
    return [
        f"{parent}/{name}/{tree}"
        for parent in _PYTHON_PARENTS
        for name in (host.list_dir(parent) if resolve(parent) and host.exists(parent) else ())
        if name.startswith("python3")
        for tree in PYTHON_TREES
    ]
