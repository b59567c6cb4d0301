# SPDX-License-Identifier: Apache-2.0
"""Crypto libraries on disk: found where the dynamic linker finds them, known by their bytes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent import errors
from agent.guard.parsing import Function, InProcess, Opened, T
from agent.host import Host
from agent.model.asset import Library
from agent.model.inventory import Entry, encode_part
from agent.model.location import Location, Package
from agent.scanners import Scan, libraries
from tests.agent.elf_files import BUILD_ID, elf_file

LIBCRYPTO = elf_file("libcrypto.so.3", constants=b"\0OpenSSL 3.0.19 27 Jan 2026\0")
FOLDER = "/usr/lib/x86_64-linux-gnu"


def put(root: Path, path: str, data: bytes = LIBCRYPTO) -> Path:
    """A file of the host."""
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place


def scan_of(root: Path) -> Scan:
    """What the scanner finds; the entries are fit for a document."""
    scan = libraries.scan(Host(str(root)))
    assert encode_part(scan.entries)
    return scan


def paths(scan: Scan) -> list[str]:
    """Keys, sorted."""
    return sorted(entry.key for entry in scan.entries)


def test_a_library_is_one_entry_with_its_links_and_its_package(tmp_path: Path) -> None:
    """A link is another name of it, not another library."""
    # Given a library as a package brings it, on a host where /lib is /usr/lib
    place = put(tmp_path, f"{FOLDER}/libcrypto.so.3")
    place.chmod(0o644)
    for name in ("libcrypto.so", "libcrypto.so.0"):
        (place.parent / name).symlink_to("libcrypto.so.3")
    (tmp_path / "lib").symlink_to("usr/lib")
    put(tmp_path, "/etc/passwd", f"root:x:{os.getuid()}:0:root:/root:/bin/sh\n".encode())
    put(tmp_path, "/etc/group", f"staff:x:{place.stat().st_gid}:\n".encode())
    put(tmp_path, "/var/lib/dpkg/info/libssl3:amd64.list", f"{FOLDER}/libcrypto.so.3\n".encode())
    put(tmp_path, "/var/lib/dpkg/status", b"Package: libssl3\nArchitecture: amd64\nVersion: 3.0.19-1\n")

    scan = scan_of(tmp_path)

    assert scan.entries == [
        Entry(
            key=f"{FOLDER}/libcrypto.so.3",
            asset=Library(
                family="openssl",
                name="libcrypto",
                soname="libcrypto.so.3",
                version="3.0.19",
                build_id=BUILD_ID,
            ),
            where=Location(
                path=f"{FOLDER}/libcrypto.so.3",
                aliases=(f"{FOLDER}/libcrypto.so", f"{FOLDER}/libcrypto.so.0"),
                owner="root",
                group="staff",
                mode="0644",
                package=Package(manager="dpkg", name="libssl3", version="3.0.19-1"),
            ),
        )
    ]
    assert scan.status == "complete"


def test_every_folder_of_the_linker_is_looked_into(tmp_path: Path) -> None:
    """Those compiled in, those configured, modules, newer processors, and /opt."""
    put(
        tmp_path,
        "/etc/ld.so.conf",
        b"# comment\ninclude ld.so.conf.d/*.conf\ninclude /etc/more.conf\n/srv/old=libc5\n",
    )
    put(tmp_path, "/etc/ld.so.conf.d/a.conf", b"/srv/a\n\n  /srv/b  # b\ninclude /etc/ld.so.conf\n")
    put(tmp_path, "/etc/ld.so.conf.d/b.txt", b"/srv/no\n")
    put(tmp_path, "/etc/more.conf", b"/srv/more\nhwcap 1 nosegneg\n")
    put(tmp_path, "/etc/ld-musl-x86_64.path", b"/srv/musl:/srv/musl2\n/srv/musl3\n")
    seen = [
        "/lib64/x.so",
        "/opt/vendor/lib/x.so",
        "/srv/a/x.so",
        "/srv/b/x.so",
        "/srv/more/x.so",
        "/srv/musl/x.so",
        "/srv/musl2/x.so",
        "/srv/musl3/x.so",
        "/srv/old/x.so",
        f"{FOLDER}/engines-3/x.so",
        f"{FOLDER}/glibc-hwcaps/x86-64-v3/x.so",
        f"{FOLDER}/nss/x.so",
        f"{FOLDER}/ossl-modules/x.so",
        "/usr/lib/glibc-hwcaps/x86-64-v2/x.so",
        "/usr/lib/pkcs11/x.so",
        "/usr/lib64/x.so",
        "/usr/local/lib/x.so",
    ]
    seen += [
        "/opt/vendor/bin/tool",
        "/usr/bin/tool",
        "/usr/lib/jvm/java-17/lib/server/libjvm.so",
        "/usr/lib/node_modules/a/b/build/Release/x.node",
        "/usr/lib/python3/dist-packages/cryptography/hazmat/bindings/_rust.abi3.so",
        "/usr/libexec/tool",
        "/usr/local/bin/tool",
        "/usr/local/lib/python3.12/site-packages/x.libs/libcrypto-3a1b2c4d.so.3",
        "/usr/local/sbin/tool",
        "/usr/sbin/tool",
    ]
    unseen = [
        "/srv/no/x.so",
        "/srv/a/deep/x.so",
        "/usr/lib/python3/x.so",
        "/usr/lib/python3/dist-packages/cryptography/_rust.txt",
        "/usr/lib/jvm/java-17/lib/modules",
        "/usr/bin/deep/tool",
        "/home/user/bin/tool",
        f"{FOLDER}/gconv/x.so",
        "/opt/vendor/x.so",
    ]
    for path in seen + unseen:
        put(tmp_path, path)

    assert paths(scan_of(tmp_path)) == sorted(seen)


def test_what_is_no_crypto_library_gives_no_entry(tmp_path: Path) -> None:
    """A text of a likely name, another library, an archive, an object file; no name is enough."""
    put(tmp_path, "/usr/lib/libcrypto.so.3", b"INPUT(-lcrypto_real) OpenSSL 3.0.19 27 Jan 2026")
    put(tmp_path, "/usr/lib/libssl.so.3", elf_file("libc.so.6"))
    put(tmp_path, "/usr/lib/libcrypto.a", b"!<arch>\n")
    put(tmp_path, "/usr/lib/empty.so", b"")

    scan = scan_of(tmp_path)

    assert (scan.entries, scan.status, scan.skipped) == ([], "complete", {})


def test_a_copy_by_another_name_is_found(tmp_path: Path) -> None:
    """Content first, names last."""
    put(tmp_path, "/usr/lib/data.bin")

    assert paths(scan_of(tmp_path)) == ["/usr/lib/data.bin"]


def test_what_a_program_holds_is_an_entry_of_the_program(tmp_path: Path) -> None:
    """Where it stands and whose it is are the program's; what it is, is what is in it."""
    program = elf_file(
        None,
        constants=b"\0RSA Data Security, Inc. PKCS\0OpenSSL 3.5.7 9 Jun 2026\0",
        code_bytes=200_000,
        interpreter=b"/lib64/ld-linux-x86-64.so.2",
    )
    put(tmp_path, "/usr/bin/node", program)
    (tmp_path / "usr/bin/nodejs").symlink_to("node")
    put(tmp_path, "/var/lib/dpkg/info/nodejs.list", b"/usr/bin/node\n")
    put(tmp_path, "/var/lib/dpkg/status", b"Package: nodejs\nArchitecture: amd64\nVersion: 24.1.0-1\n")

    (entry,) = scan_of(tmp_path).entries

    assert entry.asset == Library(
        family="openssl", name="libcrypto", version="3.5.7", build_id=BUILD_ID, embedded=True
    )
    assert (entry.key, entry.where.aliases) == ("/usr/bin/node", ("/usr/bin/nodejs",))
    assert entry.where.package == Package(manager="dpkg", name="nodejs", version="24.1.0-1")


def test_a_search_beyond_the_budget_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not searched may hold anything; libraries by SONAME are known all the same."""
    monkeypatch.setattr(libraries, "_SEARCH_BYTES_TOTAL", 0)
    put(tmp_path, "/usr/lib/libcrypto.so.3")
    put(tmp_path, "/usr/bin/tool", elf_file(None, constants=bytes(1000), code_bytes=200_000))

    scan = scan_of(tmp_path)

    assert paths(scan) == ["/usr/lib/libcrypto.so.3"]
    assert (scan.skipped, scan.status) == ({"budget": 2}, "partial")


@pytest.mark.parametrize(("files", "size"), [(1, 1 << 30), (3, 1 << 30), (64, 1)])
def test_files_are_read_in_lots_and_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, size: int
) -> None:
    """Whoever reads them may be another process, and each has so many descriptors."""
    monkeypatch.setattr(libraries, "_BATCH_FILES", files)
    monkeypatch.setattr(libraries, "_BATCH_BYTES", size)
    names = [f"/usr/lib/lib{number}.so" for number in range(8)]
    for name in names:
        put(tmp_path, name)
    lots = _Lots()

    scan = libraries.scan(Host(str(tmp_path), parser=lots))

    assert paths(scan) == names
    assert max(lots.sizes) <= min(files, 8)
    assert sum(lots.sizes) == 8
    # Each was open, and all are closed.
    assert not lots.descriptors & set(map(int, os.listdir("/proc/self/fd")))


class _Lots(InProcess):
    """How many files came at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.descriptors: set[int] = set()

    def parse(
        self, function: Function[T], files: Sequence[Opened], *args: object
    ) -> list[T | errors.HostError]:
        self.sizes.append(len(files))
        self.descriptors |= {one.fd for one in files}
        return super().parse(function, files, *args)


def test_without_a_build_id_the_file_is_its_own_identity(tmp_path: Path) -> None:
    """Some builds switch the note off; then two of them could not be told apart."""
    data = elf_file("libsodium.so.23", build_id=None, constants=b"\x001.0.18\0" + bytes(3 << 20))
    put(tmp_path, "/usr/lib/libsodium.so.23", data)

    (entry,) = scan_of(tmp_path).entries

    assert isinstance(entry.asset, Library)
    assert (entry.asset.build_id, entry.asset.sha256) == (None, hashlib.sha256(data).hexdigest())


def test_a_link_that_leads_out_of_the_folders_is_followed(tmp_path: Path) -> None:
    """The linker follows it, so programs load what stands there."""
    put(tmp_path, "/srv/vendor/libcrypto.so.3")
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/libcrypto.so.3").symlink_to("/srv/vendor/libcrypto.so.3")
    (tmp_path / "usr/lib/libnowhere.so").symlink_to("/srv/nowhere")
    (tmp_path / "usr/lib/libcircle.so").symlink_to("libcircle.so")

    (entry,) = scan_of(tmp_path).entries

    assert (entry.key, entry.where.aliases) == ("/srv/vendor/libcrypto.so.3", ("/usr/lib/libcrypto.so.3",))


def test_things_that_must_not_be_opened_are_not(tmp_path: Path) -> None:
    """A FIFO would wait for ever."""
    (tmp_path / "usr/lib/libssl.so.3").mkdir(parents=True)
    os.mkfifo(tmp_path / "usr/lib/libcrypto.so.3")

    assert scan_of(tmp_path).entries == []


def test_a_malformed_library_is_counted_and_hides_nothing(tmp_path: Path) -> None:
    """It was seen for what it is."""
    put(tmp_path, "/usr/lib/libcrypto.so.3", LIBCRYPTO[:300])

    scan = scan_of(tmp_path)

    assert (scan.skipped, scan.status) == ({"malformed": 1}, "complete")
    assert scan.examples == ["malformed: /usr/lib/libcrypto.so.3"]


def test_names_of_any_bytes_reach_the_document(tmp_path: Path) -> None:
    """Whoever may write to /usr/local/lib names files as he likes."""
    for name in (b"lib\xff.so", b"lib\n.so", b"lib\\x.so"):
        put(tmp_path, "/usr/local/lib/" + os.fsdecode(name))

    assert paths(scan_of(tmp_path)) == [
        "/usr/local/lib/lib\n.so",
        "/usr/local/lib/lib\\\\x.so",
        "/usr/local/lib/lib\\xff.so",
    ]


def test_what_may_not_be_read_makes_the_section_partial() -> None:
    """Silence is not health."""
    # Given a folder that everybody may enter and a library in it that nobody may read
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        put(root, "/usr/lib/libssl.so.3", elf_file("libssl.so.3"))
        put(root, "/usr/lib/libcrypto.so.3").chmod(0)
        root.chmod(0o755)

        # When one who is not root looks
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            scan = scan_of(root)
        finally:
            os.seteuid(user)

    assert paths(scan) == ["/usr/lib/libssl.so.3"]
    assert (scan.status, scan.reason) == ("partial", "1 not permitted")
    assert scan.examples == ["denied: /usr/lib/libcrypto.so.3"]


def test_an_unchanged_folder_gives_equal_bytes_in_any_order_of_writing(tmp_path: Path) -> None:
    """No order of a file system, no inode and no time may show."""
    parts = []
    names = [f"lib{letter}.so" for letter in "abcdef"]
    for number, order in enumerate((names, names[::-1])):
        for name in order:
            os.utime(put(tmp_path / str(number), f"/usr/lib/{name}"), (number, number))
        parts.append(encode_part(scan_of(tmp_path / str(number)).entries))

    assert parts[0] == parts[1]


def test_every_crypto_library_in_the_linkers_cache_is_an_entry() -> None:
    """Against ldconfig, which knows what the linker would load on this host."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    if not Path(ldconfig).exists():
        pytest.skip("there is no ldconfig here")
    said = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=True).stdout
    name = re.compile(r"lib(ssl|crypto|gnutls|nettle|hogweed|gcrypt|nss3|sodium|ssh2|krb5|k5crypto)\.so")
    cached = {
        os.path.realpath(line.split(" => ")[1]) for line in said.splitlines() if name.match(line.strip())
    }
    if not cached:
        pytest.skip("the linker's cache of this host has no crypto library")

    scan = libraries.scan(Host())

    assert cached <= {entry.key for entry in scan.entries}
    for entry in scan.entries:
        assert entry.key == os.path.realpath(entry.key)
        assert {os.path.realpath(alias) for alias in entry.where.aliases} <= {entry.key}


def test_packages_of_this_host_are_those_dpkg_names() -> None:
    """Against dpkg -S, for every entry: who owns a file decides which part of the inventory it is in."""
    if shutil.which("dpkg-query") is None:
        pytest.skip("there is no dpkg here")
    scan = libraries.scan(Host())
    if not scan.entries:
        pytest.skip("this host has no crypto library")

    # Packages may list /lib for /usr/lib.
    spellings = [path for entry in scan.entries for path in (entry.key, entry.key.removeprefix("/usr"))]
    said = subprocess.run(["dpkg-query", "--search", *spellings], capture_output=True, text=True, check=False)
    owners: dict[str, set[str]] = {}
    for line in said.stdout.splitlines():
        packages, _, path = line.partition(": ")
        if not packages.startswith("diversion "):
            names = {package.partition(":")[0] for package in packages.split(", ")}
            owners.setdefault(path.removeprefix("/usr"), set()).update(names)
    for entry in scan.entries:
        package = entry.where.package
        expected = owners.get(entry.key.removeprefix("/usr"), set())
        if package is None:
            assert expected == set(), entry.key
        elif package.manager == "dpkg":
            assert package.name.partition(":")[0] in expected, entry.key


def test_programs_of_this_host_that_hold_libraries_are_not_linked_with_them() -> None:
    """Against ldd, which asks the dynamic linker itself."""
    if shutil.which("ldd") is None:
        pytest.skip("there is no ldd here")
    holders = [entry for entry in libraries.scan(Host()).entries if getattr(entry.asset, "embedded", False)]
    if not holders:
        pytest.skip("no program of this host has a library linked into it")

    for entry in holders:
        said = subprocess.run(["ldd", entry.key], capture_output=True, text=True, check=False).stdout
        assert getattr(entry.asset, "name", "") + ".so" not in said, entry.key
