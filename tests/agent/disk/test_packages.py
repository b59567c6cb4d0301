# SPDX-License-Identifier: Apache-2.0
"""Who owns a file: against dpkg -S and a real rpm database, and the arrangements that make it hard."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.disk.packages import owners
from agent.host import Host
from agent.model.location import Package

STATUS = """\
Package: libdemo1
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 1:2.3-4
Description: a library
 Version: not this one

Package: libdemo1
Status: install ok installed
Architecture: i386
Multi-Arch: same
Version: 1:2.3-4

Package: demo
Status: deinstall ok config-files
Architecture: all
Version: 7
"""


def debian(root: Path, lists: dict[str, list[str]], diversions: Sequence[str] = ()) -> Host:
    """A merged-/usr host with these list files."""
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "var/lib/dpkg/diversions").write_text("".join(f"{line}\n" for line in diversions))
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    for name, paths in lists.items():
        (info / f"{name}.list").write_bytes(b"".join(os.fsencode(path) + b"\n" for path in ("/.", *paths)))
    return Host(str(root))


def test_owner_and_version_come_from_dpkgs_own_files(tmp_path: Path) -> None:
    """Where two architectures own a file, one answer, the same on every host."""
    host = debian(
        tmp_path,
        {"libdemo1:i386": ["/usr/share/x"], "libdemo1:amd64": ["/usr/share/x"], "demo": ["/etc/demo"]},
    )

    found = owners(host, ["/usr/share/x", "/etc/demo", "/etc/other", "/etc"])

    assert found == {
        "/usr/share/x": Package(manager="dpkg", name="libdemo1", version="1:2.3-4"),
        "/etc/demo": Package(manager="dpkg", name="demo", version="7"),
    }


def test_a_package_may_list_the_path_through_the_link_at_the_root(tmp_path: Path) -> None:
    """/usr is merged: half of the packages still list /lib/..., and either name may be asked."""
    host = debian(tmp_path, {"demo": ["/lib/a.so", "/usr/lib/b.so"]})

    found = owners(host, ["/usr/lib/a.so", "/lib/a.so", "/usr/lib/b.so", "/lib/b.so", "/usr/lib/c.so"])

    assert sorted(found) == ["/lib/a.so", "/lib/b.so", "/usr/lib/a.so", "/usr/lib/b.so"]


def test_a_diverted_file_belongs_to_the_package_it_came_with(tmp_path: Path) -> None:
    """dpkg-divert: the other packages' file is elsewhere, and the diverter's stands in its place."""
    host = debian(
        tmp_path,
        {"demo": ["/usr/bin/tool", "/lib/own.so"], "a-diverter": ["/usr/bin/tool"]},
        [
            "/usr/bin/tool", "/usr/bin/tool.real", "a-diverter",
            "/usr/lib/own.so", "/usr/lib/own.so.dist", ":",
        ],
    )  # fmt: skip

    found = owners(host, ["/usr/bin/tool", "/usr/bin/tool.real", "/usr/lib/own.so", "/usr/lib/own.so.dist"])

    assert {path: package.name for path, package in found.items()} == {
        "/usr/bin/tool": "a-diverter",
        "/usr/bin/tool.real": "demo",
        # The administrator diverted it away: what stands there now came with no package.
        "/usr/lib/own.so.dist": "demo",
    }


def test_names_that_are_not_utf8_are_matched_as_bytes(tmp_path: Path) -> None:
    """A file name is bytes; neither side may be decoded on the way."""
    path = os.fsdecode(b"/usr/share/caf\xe9")
    host = debian(tmp_path, {"demo": [path]})

    assert list(owners(host, [path])) == [path]


def test_a_host_without_a_package_manager_owns_nothing(tmp_path: Path) -> None:
    """No database is no error: there are hosts and images without one."""
    assert owners(Host(str(tmp_path)), ["/etc/passwd"]) == {}


def test_a_database_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Else every file would become unowned for a day, and every entry a change."""
    host = debian(tmp_path, {"demo": ["/etc/demo"]})
    (tmp_path / "var/lib/dpkg/status").unlink()
    (tmp_path / "var/lib/dpkg/status").mkdir()

    with pytest.raises(errors.UnreadableError):
        owners(host, ["/etc/demo"])


def test_dpkg_gives_the_same_answers() -> None:
    """Every file of several packages, of /etc and of the libraries' directory, asked of dpkg -S."""
    if shutil.which("dpkg") is None:
        pytest.skip("dpkg is not there")
    paths = {
        os.path.join(folder, name)
        for root in ("/etc", "/usr/lib/x86_64-linux-gnu", "/usr/sbin", "/usr/share/ca-certificates")
        for folder, _, names in os.walk(root)
        for name in names
    }
    theirs: dict[str, set[str]] = {}
    # Both spellings, because dpkg knows only the one in its lists.
    spellings = {**{path: path for path in paths}, **{path.removeprefix("/usr"): path for path in paths}}
    asked = sorted(spelling for spelling in spellings if not re.search(r"[][*?\\]", spelling))
    for at in range(0, len(asked), 2000):
        done = subprocess.run(
            ["dpkg", "-S", *asked[at : at + 2000]], capture_output=True, text=True, check=False
        )
        for line in done.stdout.splitlines():
            names, _, path = line.rpartition(": ")
            if not names.startswith("diversion by"):
                theirs.setdefault(spellings[path], set()).update(
                    name.split(":")[0] for name in names.split(", ")
                )
    diverted = set(Path("/var/lib/dpkg/diversions").read_text().splitlines())

    ours = owners(Host(), paths)

    assert len(theirs) > 500
    for path in paths - diverted:
        if re.search(r"[][*?\\]", path):
            continue
        assert (path in ours) == (path in theirs), path
        if path in ours:
            assert ours[path].name in theirs[path]
    package = ours["/etc/debian_version"]
    version = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", package.name], capture_output=True, text=True, check=True
    )
    assert package.version == version.stdout


class RpmHost(Host):
    """A fixture on which rpm is run, with its own root, in place of not at all."""

    def run_tool(self, argv: Sequence[str], *, timeout_s: float = 20, bytes_max: int = 0) -> bytes:
        self.asked = list(argv)
        where = ["--root", self.root, "--define", "_dbpath /var/lib/rpm"]
        return subprocess.run([argv[0], *where, *argv[1:]], capture_output=True, check=True).stdout


class SaysHost(Host):
    """A fixture whose rpm says what it is told to say."""

    says: bytes | None = b""

    def run_tool(self, argv: Sequence[str], *, timeout_s: float = 20, bytes_max: int = 0) -> bytes:
        if self.says is None:
            raise errors.ToolError("rpm took too long")
        return self.says


def fedora(root: Path, says: bytes | None) -> SaysHost:
    """A host with a database and a program of rpm's."""
    for path in ("var/lib/rpm/rpmdb.sqlite", "usr/bin/rpm"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    (root / "lib64").symlink_to("usr/lib64")
    host = SaysHost(str(root))
    host.says = says
    return host


def test_rpms_answer_is_read(tmp_path: Path) -> None:
    """Packages with and without files, files of two packages, a merged /usr."""
    host = fedora(
        tmp_path,
        b"=openssl-libs 1:3.0.7-24.el9\n/etc/pki/x\n/usr/share/common\n=empty 1-1\n"
        b"=zlib 1.2-3.el9\n/lib64/libz.so.1\n/usr/share/common\n",
    )  # fmt: skip

    found = owners(host, ["/usr/lib64/libz.so.1", "/etc/pki/x", "/usr/share/common", "/etc/none"])

    assert found == {
        "/usr/lib64/libz.so.1": Package(manager="rpm", name="zlib", version="1.2-3.el9"),
        "/etc/pki/x": Package(manager="rpm", name="openssl-libs", version="1:3.0.7-24.el9"),
        "/usr/share/common": Package(manager="rpm", name="openssl-libs", version="1:3.0.7-24.el9"),
    }


def test_without_a_database_rpm_is_not_run(tmp_path: Path) -> None:
    """On Debian the program may be there, and running it would make a database."""
    host = fedora(tmp_path, None)
    (tmp_path / "var/lib/rpm/rpmdb.sqlite").unlink()

    assert owners(host, ["/etc/pki/x"]) == {}


def test_rpm_without_an_answer_is_an_error_on_the_running_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is a directory has no rpm to run; on a running host silence must not mean unowned."""
    host = fedora(tmp_path, None)
    assert owners(host, ["/etc/pki/x"]) == {}

    monkeypatch.setattr(host, "root", "/")
    with pytest.raises(errors.ToolError):
        owners(host, ["/etc/pki/x"])


SPEC = """\
Name: demo-certificates
Version: 1.2
Release: 3
Epoch: 4
Summary: demo
License: demo
BuildArch: noarch
%description
demo
%install
mkdir -p %{buildroot}/etc/pki/demo %{buildroot}/lib64
echo a > "%{buildroot}/etc/pki/demo/with space.pem"
ln -s a %{buildroot}/etc/pki/demo/link.pem
echo a > %{buildroot}/lib64/libdemo.so.1
%files
/etc/pki/demo
/lib64/libdemo.so.1
%package empty
Summary: no files
%description empty
demo
%files empty
"""


@pytest.mark.root
def test_a_real_rpm_database_is_read(tmp_path: Path) -> None:
    """Packages built and installed by rpm itself, into a root of their own."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("rpmbuild is not there")
    (tmp_path / "demo.spec").write_text(SPEC)
    # rpmbuild opens its user's own database, and makes one where there is none.
    places = ["--define", f"_topdir {tmp_path}/build", "--define", f"_dbpath {tmp_path}/builder"]
    build = ["rpmbuild", "--quiet", *places, "-bb", f"{tmp_path}/demo.spec"]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root = tmp_path / "root"
    (root / "usr/lib64").mkdir(parents=True)
    (root / "usr/bin").mkdir()
    (root / "usr/bin/rpm").touch()
    (root / "lib64").symlink_to("usr/lib64")
    built = [str(path) for path in (tmp_path / "build").rglob("*.rpm")]
    install = ["rpm", "--root", str(root), "--define", "_dbpath /var/lib/rpm", "-i", "--nodeps", *built]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    found = owners(
        RpmHost(str(root)),
        ["/etc/pki/demo/with space.pem", "/etc/pki/demo/link.pem", "/usr/lib64/libdemo.so.1", "/etc/pki"],
    )

    demo = Package(manager="rpm", name="demo-certificates", version="4:1.2-3")
    assert found == dict.fromkeys(
        ("/etc/pki/demo/with space.pem", "/etc/pki/demo/link.pem", "/usr/lib64/libdemo.so.1"), demo
    )
