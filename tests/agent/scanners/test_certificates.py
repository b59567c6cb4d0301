# SPDX-License-Identifier: Apache-2.0
"""Certificates on fixtures of Debian and Fedora hosts, on hostile ones, and on this machine."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.host import Host
from agent.model import canonical
from agent.model.asset import Certificate, TrustStore
from agent.model.inventory import Entry, encode_part
from agent.model.location import Package
from agent.readers.certificate_files import FILE_BYTES_MAX
from agent.scanners import Scan, certificates
from tests.agent import openssl
from tests.agent.cli.commands import may_be_nobody
from tests.agent.openssl import Made

MOUNTS = "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n"
CA_CERTIFICATES = Package(manager="dpkg", name="ca-certificates", version="20230311")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """As many roots as make a trust store, and some more."""
    folder = tmp_path_factory.mktemp("roots")
    return [openssl.make(folder, f"/O=Example/CN=Root {number:02}") for number in range(24)]


@pytest.fixture(scope="session")
def web(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A server's certificate."""
    return openssl.make(
        tmp_path_factory.mktemp("web"), "/CN=web7.example", "-addext", "basicConstraints=critical,CA:FALSE"
    )


def plant(root: Path, files: dict[str, bytes]) -> Path:
    """Files at absolute paths of the host, and a mount table."""
    for path, content in {"/proc/self/mountinfo": MOUNTS.encode(), **files}.items():
        here = Path(f"{root}{path}")
        here.parent.mkdir(parents=True, exist_ok=True)
        here.write_bytes(content)
    return root


def link(root: Path, path: str, target: str) -> None:
    """A symbolic link on the host."""
    Path(f"{root}{path}").parent.mkdir(parents=True, exist_ok=True)
    Path(f"{root}{path}").symlink_to(target)


def scan(root: Path) -> Scan:
    """The section of a fixture."""
    return certificates.scan(Host(str(root)))


def by_key(found: Scan) -> dict[str, Entry]:
    """Entries by key, which must be unique and encodable."""
    assert encode_part(found.entries)
    return {entry.key: entry for entry in found.entries}


def certificate(entry: Entry) -> Certificate:
    """The entry's asset, which must be one."""
    assert isinstance(entry.asset, Certificate)
    return entry.asset


def store(entry: Entry) -> TrustStore:
    """The entry's asset, which must be one."""
    assert isinstance(entry.asset, TrustStore)
    return entry.asset


def sha256(made: Made) -> str:
    """The fingerprint, as openssl tells it."""
    return openssl.read(made.der).sha256


def debian(root: Path, roots: list[Made]) -> Path:
    """A Debian host after update-ca-certificates: a package of roots, links to them, and the bundle."""
    folder = "/usr/share/ca-certificates/mozilla"
    paths = [f"{folder}/Root_{number:02}.crt" for number in range(len(roots))]
    plant(root, {path: made.certificate for path, made in zip(paths, roots, strict=True)})
    plant(
        root,
        {
            BUNDLE: b"".join(made.certificate for made in roots),
            "/var/lib/dpkg/info/ca-certificates.list": "\n".join(["/.", folder, *paths, ""]).encode(),
            "/var/lib/dpkg/status": b"Package: ca-certificates\nVersion: 20230311\n",
        },
    )
    for number, path in enumerate(paths):
        link(root, f"/etc/ssl/certs/Root_{number:02}.pem", path)
        link(root, f"/etc/ssl/certs/{number:08x}.0", f"Root_{number:02}.pem")
    link(root, "/usr/lib/ssl/cert.pem", BUNDLE)
    link(root, "/usr/lib/ssl/certs", "/etc/ssl/certs")
    return root


def test_a_debian_host_as_installed_is_all_vendors(tmp_path: Path, roots: list[Made]) -> None:
    """A fleet of such hosts shares one part: the bundle that no package lists is in it too."""
    found = scan(debian(tmp_path, roots))

    entries = by_key(found)
    assert (found.status, found.skipped) == ("complete", {})
    assert all(entry.where.package == CA_CERTIFICATES for entry in found.entries)
    assert len(entries) == len(roots) + 1
    bundle = store(entries[BUNDLE])
    assert bundle.members == tuple(sorted(map(sha256, roots)))
    assert (bundle.reference, bundle.added, bundle.removed) == ("ca-certificates", (), ())
    assert entries[BUNDLE].where.aliases == ("/usr/lib/ssl/cert.pem",)
    one = entries["/usr/share/ca-certificates/mozilla/Root_03.crt"]
    assert one.where.aliases == ("/etc/ssl/certs/00000003.0", "/etc/ssl/certs/Root_03.pem")
    assert certificate(one).subject == "CN=Root 03,O=Example"


def difference(before: Scan, after: Scan) -> tuple[set[str], set[str], set[str]]:
    """Keys that are new, gone, and changed."""
    one, other = by_key(before), by_key(after)
    changed = {key for key in one.keys() & other.keys() if one[key] != other[key]}
    return other.keys() - one.keys(), one.keys() - other.keys(), changed


def test_a_local_root_is_one_new_entry_and_one_changed(tmp_path: Path, roots: list[Made], web: Made) -> None:
    """What update-ca-certificates does with a file in /usr/local/share/ca-certificates."""
    *shipped, local = roots
    before = scan(debian(tmp_path, shipped))
    own = "/usr/local/share/ca-certificates/corp.crt"
    plant(tmp_path, {own: local.certificate, BUNDLE: b"".join(made.certificate for made in roots)})
    link(tmp_path, "/etc/ssl/certs/corp.pem", own)
    link(tmp_path, "/etc/ssl/certs/0a0b0c0d.0", "corp.pem")

    after = scan(tmp_path)

    assert difference(before, after) == ({own}, set(), {BUNDLE})
    entries = by_key(after)
    assert store(entries[BUNDLE]).added == (sha256(local),)
    assert entries[BUNDLE].where.package is None
    assert entries[own].where.package is None
    assert entries[own].where.aliases == ("/etc/ssl/certs/0a0b0c0d.0", "/etc/ssl/certs/corp.pem")


def test_a_root_written_into_the_bundle_by_hand_gets_an_entry_there(
    tmp_path: Path, roots: list[Made]
) -> None:
    """No other file shows what it is, so the bundle's own entry must."""
    *shipped, local = roots
    before = scan(debian(tmp_path, shipped))
    plant(tmp_path, {BUNDLE: b"".join(made.certificate for made in reversed(roots))})

    after = scan(tmp_path)

    key = f"{BUNDLE}#CN=Root {len(shipped)},O=Example"
    assert difference(before, after) == ({key}, set(), {BUNDLE})
    entry = by_key(after)[key]
    assert certificate(entry).sha256 == sha256(local)
    assert (entry.where.path, entry.where.package) == (BUNDLE, None)


def test_a_root_that_is_switched_off_is_told_as_removed(tmp_path: Path, roots: list[Made]) -> None:
    """dpkg-reconfigure ca-certificates: the file stays, the bundle lacks it."""
    root = debian(tmp_path, roots)
    plant(root, {BUNDLE: b"".join(made.certificate for made in roots[1:])})

    bundle = by_key(scan(root))[BUNDLE]

    assert store(bundle).removed == (sha256(roots[0]),)
    assert bundle.where.package is None


def test_a_file_that_somebody_put_beside_the_packages_is_not_shipped(
    tmp_path: Path, roots: list[Made]
) -> None:
    """/usr/share/ca-certificates is open to administrators too; what no package owns there is local."""
    *shipped, local = roots
    root = debian(tmp_path, shipped)
    plant(
        root,
        {
            "/usr/share/ca-certificates/corp/corp.crt": local.certificate,
            BUNDLE: b"".join(made.certificate for made in roots),
        },
    )

    assert store(by_key(scan(root))[BUNDLE]).added == (sha256(local),)


P11_KIT = "/usr/share/pki/ca-trust-source/ca-bundle.trust.p11-kit"
EXTRACTED = "/etc/pki/ca-trust/extracted"
# Extended key usage, as p11-kit writes an extension: OID, then the encoding of SEQUENCE { emailProtection }.
EMAIL_ONLY = "0%13%06%03U%1D%25%04%0C0%0A%06%08%2B%06%01%05%05%07%03%04"


def p11_kit(roots: list[Made], *, distrusted: int, email_only: int) -> bytes:
    """The source of Fedora's ca-certificates."""
    page = b"# This is a bundle of X.509 certificates of public Certificate Authorities.\n"
    for number, made in enumerate(roots):
        trust = (
            b"x-distrusted: true" if number == distrusted else b"trusted: true\nnss-mozilla-ca-policy: true"
        )
        page += (
            b'[p11-kit-object-v1]\nlabel: "Root"\n'
            + trust
            + b"\nmodifiable: false\n"
            + made.certificate
            + b"\n"
        )
        if number == email_only:
            key = openssl.run("x509", "-noout", "-pubkey", given=made.certificate)
            page += (
                b'[p11-kit-object-v1]\nlabel: "Root"\nclass: x-certificate-extension\nobject-id: 2.5.29.37\n'
                b'value: "' + EMAIL_ONLY.encode() + b'"\nmodifiable: false\n' + key + b"\n"
            )
    return page


def test_a_fedora_host_as_installed_adds_and_removes_nothing(tmp_path: Path, roots: list[Made]) -> None:
    """Each bundle has what the source trusts for its purpose, and OpenSSL's format has all of it."""
    for_tls = b"".join(made.certificate for number, made in enumerate(roots) if number not in (3, 5))
    for_email = b"".join(made.certificate for number, made in enumerate(roots) if number != 3)
    trusted = [
        openssl.run("x509", "-trustout", "-addtrust", "serverAuth", given=made.certificate) for made in roots
    ]
    root = plant(
        tmp_path,
        {
            P11_KIT: p11_kit(roots, distrusted=3, email_only=5),
            f"{EXTRACTED}/pem/tls-ca-bundle.pem": for_tls,
            f"{EXTRACTED}/pem/objsign-ca-bundle.pem": for_tls,
            f"{EXTRACTED}/pem/email-ca-bundle.pem": for_email,
            f"{EXTRACTED}/openssl/ca-bundle.trust.crt": b"".join(trusted),
            f"{EXTRACTED}/pem/directory-hash/Root.pem": roots[0].certificate,
        },
    )
    link(root, "/etc/pki/tls/certs/ca-bundle.crt", f"{EXTRACTED}/pem/tls-ca-bundle.pem")

    entries = by_key(scan(root))

    stores = {key: store(entry) for key, entry in entries.items() if isinstance(entry.asset, TrustStore)}
    assert set(stores) == set(entries)
    assert {key: len(one.members) for key, one in stores.items()} == {
        P11_KIT: 24,
        f"{EXTRACTED}/pem/tls-ca-bundle.pem": 22,
        f"{EXTRACTED}/pem/objsign-ca-bundle.pem": 22,
        f"{EXTRACTED}/pem/email-ca-bundle.pem": 23,
        f"{EXTRACTED}/openssl/ca-bundle.trust.crt": 24,
    }
    assert all((one.added, one.removed) == ((), ()) for one in stores.values())
    assert entries[f"{EXTRACTED}/pem/tls-ca-bundle.pem"].where.aliases == (
        "/etc/pki/tls/certs/ca-bundle.crt",
    )
    # No rpm is run on a directory, so nothing is known to be a package's; the source is named by its path.
    assert stores[f"{EXTRACTED}/pem/tls-ca-bundle.pem"].reference == P11_KIT


def test_an_anchor_added_on_fedora_is_told(tmp_path: Path, roots: list[Made], web: Made) -> None:
    """update-ca-trust with a file in /etc/pki/ca-trust/source/anchors, and a root in the blocklist."""
    anchor = "/etc/pki/ca-trust/source/anchors/corp.pem"
    kept = b"".join(made.certificate for made in roots[2:])
    root = plant(
        tmp_path,
        {
            P11_KIT: p11_kit(roots[1:], distrusted=-1, email_only=-1),
            anchor: roots[0].certificate,
            f"{EXTRACTED}/pem/tls-ca-bundle.pem": roots[0].certificate + kept,
        },
    )

    entries = by_key(scan(root))

    bundle = store(entries[f"{EXTRACTED}/pem/tls-ca-bundle.pem"])
    assert (bundle.added, bundle.removed) == ((sha256(roots[0]),), (sha256(roots[1]),))
    assert set(entries) == {P11_KIT, anchor, f"{EXTRACTED}/pem/tls-ca-bundle.pem"}


def test_a_python_bundle_is_one_trust_store_and_its_neighbours_are_none(
    tmp_path: Path, roots: list[Made], web: Made
) -> None:
    """certifi in a virtual environment and under the system's interpreter; not the tests of packages."""
    cacert = b"".join(made.certificate for made in roots)
    venv = "/opt/app/lib/python3.12/site-packages"
    system = "/usr/lib/python3/dist-packages"
    root = plant(
        tmp_path,
        {
            f"{venv}/certifi/cacert.pem": cacert,
            f"{venv}/pip/_vendor/certifi/cacert.pem": cacert,
            f"{venv}/somepackage/tests/server.pem": web.certificate,
            BUNDLE: cacert,
        },
    )
    link(root, f"{system}/certifi/cacert.pem", BUNDLE)

    entries = by_key(scan(root))

    assert set(entries) == {
        BUNDLE, f"{venv}/certifi/cacert.pem", f"{venv}/pip/_vendor/certifi/cacert.pem"
    }  # fmt: skip
    assert store(entries[f"{venv}/certifi/cacert.pem"]).reference is None
    assert entries[BUNDLE].where.aliases == (f"{system}/certifi/cacert.pem",)


def test_what_is_no_root_stands_by_itself_in_a_trust_store(
    tmp_path: Path, roots: list[Made], web: Made
) -> None:
    """A server's certificate in a large bundle would be a digest that nobody looks up."""
    content = web.certificate + b"".join(made.certificate for made in roots)

    entries = by_key(scan(plant(tmp_path, {"/etc/ssl/all.pem": content})))

    assert set(entries) == {"/etc/ssl/all.pem", "/etc/ssl/all.pem#CN=web7.example"}
    assert len(store(entries["/etc/ssl/all.pem"]).members) == len(roots) + 1


def test_keys_tell_file_and_subject(tmp_path: Path, roots: list[Made], web: Made) -> None:
    """One certificate: the path. Several: path and subject. Several of a subject: and the digest."""
    again = openssl.make(tmp_path, "/CN=web7.example")
    root = plant(
        tmp_path / "root",
        {
            "/etc/one.pem": web.certificate,
            "/etc/twice.pem": web.certificate + b"\n" + web.certificate,
            "/etc/chain.pem": web.certificate + roots[0].certificate,
            "/etc/renewed.pem": web.certificate + again.certificate + roots[1].certificate,
        },
    )

    entries = by_key(scan(root))

    assert set(entries) == {
        "/etc/one.pem",
        "/etc/twice.pem",
        "/etc/chain.pem#CN=web7.example",
        "/etc/chain.pem#CN=Root 00,O=Example",
        f"/etc/renewed.pem#CN=web7.example#{sha256(web)[:12]}",
        f"/etc/renewed.pem#CN=web7.example#{sha256(again)[:12]}",
        "/etc/renewed.pem#CN=Root 01,O=Example",
    }


def test_names_made_to_collide_are_told_apart(tmp_path: Path, roots: list[Made], web: Made) -> None:
    """Two entries with one key would fail the section for everybody."""
    root = plant(
        tmp_path,
        {
            "/etc/a": web.certificate + roots[0].certificate,
            "/etc/a#CN=web7.example": roots[1].certificate,
            "/etc/a#CN=web7.example (2)": roots[2].certificate,
        },
    )

    found = scan(root)

    assert len(by_key(found)) == 4
    assert found.entries == scan(root).entries


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(order=st.permutations(range(24)), twice=st.sets(st.integers(0, 23)))
def test_no_order_of_blocks_shows(
    order: list[int], twice: set[int], tmp_path: Path, roots: list[Made]
) -> None:
    """A tool that writes its bundle in the order of a directory makes no change."""
    chosen = [roots[number].certificate for number in order]
    doubled = chosen + [roots[number].certificate for number in sorted(twice)]
    with tempfile.TemporaryDirectory(dir=tmp_path) as one, tempfile.TemporaryDirectory(dir=tmp_path) as other:
        whole = {
            BUNDLE: b"".join(made.certificate for made in roots),
            "/etc/few.pem": b"".join(made.certificate for made in roots[:3]),
        }
        plain = plant(Path(one), whole)
        few = [roots[number].certificate for number in order if number < 3]
        shuffled = plant(Path(other), {"/etc/few.pem": b"".join(few), BUNDLE: b"".join(doubled)})

        # Also before they are sorted: a budget cuts them off in this order.
        assert scan(plain).entries == scan(shuffled).entries


def test_der_is_known_by_its_bytes_and_not_by_its_name(tmp_path: Path, web: Made) -> None:
    """Every scanner measured misses a DER certificate without an extension."""
    key = openssl.run("pkey", "-outform", "DER", given=web.key)
    root = plant(
        tmp_path,
        {
            "/etc/server": web.der,
            "/etc/key.crt": key,
            "/etc/longer.der": web.der + b"\0",
            "/etc/shorter.cer": web.der[:-1],
        },
    )

    found = scan(root)

    assert set(by_key(found)) == {"/etc/server"}
    assert (found.status, found.skipped) == ("complete", {})


def test_a_garbled_block_is_counted_and_the_others_are_read(
    tmp_path: Path, web: Made, roots: list[Made]
) -> None:
    """A half-written file is malformed, once, with its path. It hides nothing: the status is complete."""
    damaged = roots[0].certificate.replace(b"MII", b"M!I", 1)
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    root = plant(
        tmp_path,
        {
            "/etc/half.pem": web.certificate[: len(web.certificate) // 2],
            "/etc/mixed.pem": damaged + web.certificate + begin,
            "/etc/no-certificate.pem": begin
            + base64.encodebytes(b"not a certificate, but long enough " * 3)
            + end,
        },
    )
    link(root, "/etc/link-to-half.pem", "half.pem")

    found = scan(root)

    assert set(by_key(found)) == {"/etc/mixed.pem"}
    assert (found.status, found.skipped) == ("complete", {"malformed": 3})
    assert found.examples == [
        "malformed: /etc/half.pem", "malformed: /etc/mixed.pem", "malformed: /etc/no-certificate.pem"
    ]  # fmt: skip


def test_no_byte_of_a_private_key_comes_out(tmp_path: Path, web: Made) -> None:
    """Alone, beside its certificate, damaged, as DER, or under a certificate's marker."""
    rsa = openssl.make(tmp_path, "/CN=rsa", newkey="rsa:1024")
    keys = [web.key, rsa.key, openssl.run("pkey", "-traditional", given=rsa.key)]
    ders = [openssl.run("pkey", "-outform", "DER", given=key) for key in keys]
    mislabelled = rsa.key.replace(b"PRIVATE KEY", b"CERTIFICATE")
    files = {"/etc/ssl/private/combined.pem": web.certificate + web.key, "/etc/mislabelled.pem": mislabelled}
    for number, (key, key_der) in enumerate(zip(keys, ders, strict=True)):
        files |= {
            f"/etc/{number}.key": key,
            f"/etc/{number}.half": key[: len(key) // 2],
            f"/etc/{number}.der": key_der,
        }

    found = scan(plant(tmp_path / "root", files))

    said = json.dumps([json.loads(canonical.encode(entry)) for entry in found.entries]) + repr(found)
    assert set(by_key(found)) == {"/etc/ssl/private/combined.pem"}
    secrets = [line for key in keys for line in key.decode().splitlines()[1:-1] if len(line) > 20]
    assert len(secrets) > 10
    for secret in [*secrets, *(key_der.hex()[40:100] for key_der in ders)]:
        assert secret not in said
    assert found.skipped == {"malformed": 1}


def test_what_a_link_leads_to_is_read_wherever_it_stands(
    tmp_path: Path, web: Made, roots: list[Made]
) -> None:
    """Who links to a file uses it: one in /data, with a link in /etc. Loops and dead ends do no harm."""
    root = plant(
        tmp_path,
        {
            "/data/certs/web.pem": web.certificate,
            "/etc/letsencrypt/archive/x/cert1.pem": roots[0].certificate,
        },
    )
    link(root, "/etc/nginx/web.pem", "/data/certs/web.pem")
    link(root, "/etc/letsencrypt/live/x/cert.pem", "../../archive/x/cert1.pem")
    link(root, "/etc/loop", "loop")
    link(root, "/etc/up", "/etc")
    link(root, "/etc/out", f"../../../../../../../../../../{tmp_path}/root")
    link(root, "/etc/dead", "/nothing")

    entries = by_key(scan(root))

    assert {key: entry.where.aliases for key, entry in entries.items()} == {
        "/data/certs/web.pem": ("/etc/nginx/web.pem",),
        "/etc/letsencrypt/archive/x/cert1.pem": ("/etc/letsencrypt/live/x/cert.pem",),
    }


def test_circumstances_are_told_and_are_not_part_of_the_asset(tmp_path: Path, web: Made) -> None:
    """Owner, group and mode are the file's; the same certificate elsewhere is the same asset."""
    root = plant(
        tmp_path, {"/etc/a.pem": web.certificate, "/srv/b": web.der, "/etc/passwd": b"web:x:70001:7:::/\n"}
    )
    Path(f"{root}/etc/a.pem").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(root / "etc/a.pem", 70001, 70002)

    entries = by_key(scan(root))

    assert entries["/etc/a.pem"].where.mode == "0640"
    if os.geteuid() == 0:
        assert (entries["/etc/a.pem"].where.owner, entries["/etc/a.pem"].where.group) == ("web", "gid:70002")
    assert entries["/etc/a.pem"].asset == entries["/srv/b"].asset


def test_names_of_any_bytes_reach_the_document(tmp_path: Path, web: Made) -> None:
    """A path with a newline, one that is no UTF-8, a subject with both kinds of trouble."""
    names = {
        b"new\nline.pem": "/etc/new\nline.pem",
        b"caf\xe9.pem": r"/etc/caf\xe9.pem",
        b"back\\.pem": r"/etc/back\\.pem",
    }
    root = plant(tmp_path, {f"/etc/{os.fsdecode(name)}": web.certificate for name in names})

    found = scan(root)

    assert set(by_key(found)) == set(names.values())
    for entry in found.entries:
        assert canonical.unescape_text(entry.where.path or "") in {b"/etc/" + name for name in names}


def test_large_and_binary_files_are_passed_by_and_a_large_bundle_is_told(tmp_path: Path, web: Made) -> None:
    """A log that quotes a certificate is no place for one; a bundle too large to be read is a gap."""
    padding = b"#" * FILE_BYTES_MAX
    root = plant(
        tmp_path,
        {
            "/var/lib/x/dump.sql": padding + b"\n" + web.certificate,
            "/etc/huge.pem": web.certificate + padding,
            "/home/x/markers": web.certificate + b"-----BEGIN CERTIFICATE-----\n" * 5000,
            "/etc/program": b"\x7fELF\0\0" + web.certificate,
            "/etc/late.conf": b"# comment\n" * 10_000 + web.certificate,
        },
    )

    found = scan(root)

    assert set(by_key(found)) == {"/etc/late.conf"}
    assert (found.status, found.skipped, found.examples) == (
        "partial", {"too_large": 2}, ["too_large: /etc/huge.pem", "too_large: /home/x/markers"]
    )  # fmt: skip


def test_a_home_on_a_network_makes_the_section_partial(tmp_path: Path, web: Made) -> None:
    """Unknown is not none: the reader must see that /home was not looked at."""
    mounts = MOUNTS + "30 22 0:40 / /home rw - nfs4 filer:/home rw\n"
    root = plant(tmp_path, {"/home/alice/x.pem": web.certificate, "/proc/self/mountinfo": mounts.encode()})

    found = scan(root)

    assert found.entries == []
    assert (found.status, found.reason) == ("partial", "1 on network file systems, which are never touched")
    assert found.examples == ["network_fs: /home"]


def test_homes_are_searched_and_their_toolchains_are_not(tmp_path: Path, web: Made) -> None:
    """Also a home outside /home; never the inside of packages, caches, version control and containers."""
    kept = {
        "/home/a/tls/web.pem",
        "/home/a/.minikube/profiles/m/client.crt",
        "/data/homes/bob/x.pem",
        "/root/ca.pem",
    }
    left = {
        "/home/a/.cache/x.pem", "/home/a/src/.git/x.pem", "/home/a/src/node_modules/x/y.pem",
        "/home/a/.local/share/containers/storage/x.pem", "/home/a/1/2/3/4/5/6/7/deep.pem",
        "/root/.rustup/a.pem", "/usr/lib/daemon/x.pem",
        "/var/lib/docker/overlay2/x/diff/etc/x.pem", "/tmp/x.pem", "/usr/share/doc/x.pem",
    }  # fmt: skip
    passwd = b"root:x:0:0::/root:/bin/sh\nbob:x:1001:1::/data/homes/bob:\ndaemon:x:1:1::/usr/lib/daemon:\n"
    root = plant(tmp_path, {"/etc/passwd": passwd, **dict.fromkeys(kept | left, web.certificate)})

    assert set(by_key(scan(root))) == kept


BUDGETS = {"_NAMES_MAX": 8, "_TEXT_BYTES_MAX": 2000, "_CERTIFICATES_MAX": 2, "_ENTRIES_BYTES_MAX": 2000}


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_spent_budget_is_a_partial_section_and_the_same_every_time(
    budget: str, tmp_path: Path, roots: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user with a million files must not hide what the host runs on, nor make every day look different."""
    files = {f"/home/a/{number}.pem": made.certificate for number, made in enumerate(roots)}
    root = plant(tmp_path, {"/etc/first.pem": roots[-1].certificate, **files})
    monkeypatch.setattr(certificates, budget, BUDGETS[budget])

    found, again = scan(root), scan(root)

    assert found.status == "partial"
    assert set(found.skipped) == {"budget"}
    assert found.entries == again.entries
    assert 1 <= len(by_key(found)) < len(files)
    assert "/etc/first.pem" in by_key(found)


def test_a_link_of_the_host_comes_before_the_homes(
    tmp_path: Path, roots: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What /etc points at must not be left to what a user's files leave of the budget."""
    files = {f"/home/a/{number}.pem": made.certificate for number, made in enumerate(roots[1:])}
    root = plant(tmp_path, {"/data/host.pem": roots[0].certificate, **files})
    link(root, "/etc/host.pem", "/data/host.pem")
    monkeypatch.setattr(certificates, "_CERTIFICATES_MAX", 2)

    found = by_key(scan(root))

    assert found["/data/host.pem"].where.aliases == ("/etc/host.pem",)
    assert len(found) == 2


def test_more_links_than_a_document_holds_are_cut_and_counted(
    tmp_path: Path, web: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may make a hundred thousand links to one file."""
    monkeypatch.setattr(certificates, "_ALIASES_MAX", 3)
    root = plant(tmp_path, {"/etc/a.pem": web.certificate})
    for number in range(9):
        link(root, f"/home/x/{number}", "/etc/a.pem")

    found = scan(root)

    assert by_key(found)["/etc/a.pem"].where.aliases == ("/home/x/0", "/home/x/1", "/home/x/2")
    assert found.skipped == {"budget": 1}


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that any user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


SCAN = """
import json, sys
from agent.host import Host
from agent.scanners import certificates
found = certificates.scan(Host(sys.argv[1]))
print(json.dumps([[entry.key for entry in found.entries], found.status, found.skipped, found.examples]))
"""


@pytest.mark.root
def test_what_we_may_not_read_makes_the_section_partial(shared: Path, house: Path, web: Made) -> None:
    """Run as nobody, on files and directories of somebody else's."""
    may_be_nobody()
    names = ("/etc/a.pem", "/etc/b.pem", "/etc/ssl/private/c.pem")
    root = plant(shared, dict.fromkeys(names, web.certificate))
    (root / "etc/b.pem").chmod(0o600)
    (root / "etc/ssl/private").chmod(0o700)
    link(root, "/etc/also-b.pem", "b.pem")
    argv = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-c",
        SCAN,
        str(root),
    ]

    done = subprocess.run(argv, cwd=house, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["/etc/a.pem"], "partial", {"denied": 2}, ["denied: /etc/b.pem", "denied: /etc/ssl/private"]
    ]  # fmt: skip


def test_this_machine_has_what_openssl_finds_in_its_own_directory() -> None:
    """Every certificate file of OpenSSL's directory, by the fingerprint openssl tells."""
    folder = Path("/etc/ssl/certs")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    found = certificates.scan(Host())
    ours: dict[str, set[str]] = {}
    for entry in found.entries:
        digests = entry.asset.members if isinstance(entry.asset, TrustStore) else (certificate(entry).sha256,)
        for name in (entry.where.path, *entry.where.aliases):
            ours.setdefault(name or "", set()).update(digests)
    theirs = {
        path: openssl.run("x509", "-in", path, "-outform", "DER")
        for path in sorted(folder.glob("*.pem"))[:30]
    }

    assert theirs
    for path, der in theirs.items():
        digest = openssl.run("dgst", "-sha256", "-r", given=der).split()[0].decode()
        assert digest in ours[str(path)], path
    bundle = folder / "ca-certificates.crt"
    if bundle.exists():
        assert len(ours[str(bundle)]) == len(set(bundle.read_text().split("-----BEGIN CERTIFICATE-----")[1:]))
