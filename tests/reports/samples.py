# SPDX-License-Identifier: Apache-2.0
"""A small fleet in memory: assets with only what a test is about, parts by their true digests, hosts."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from typing import Any

from agent.model.asset import AnyAsset, Certificate, Library, LibraryUse, PublicKey, SignatureAlgorithm
from agent.model.canonical import digest
from agent.model.inventory import Entry, PartDigests, SectionState, Status, decode_part, encode_part
from agent.model.location import Location, Package
from reports.view import HostView

NOW = dt.datetime(2026, 11, 20, 12, 0, 0, tzinfo=dt.UTC)
SEEN = "2026-11-20T11:00:00.000000Z"
CERTIFICATES = "certificates"


def day(text: str) -> dt.datetime:
    """The first instant of a day, UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def sha256(text: str) -> str:
    """Some digest that belongs to a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def rsa(bits: int | None = 2048) -> PublicKey:
    """An RSA key of that size."""
    return PublicKey(algorithm="RSA", bits=bits, spki_sha256=sha256(f"rsa {bits}"))


def ec(curve: str | None, bits: int | None = None) -> PublicKey:
    """An EC key on that curve."""
    return PublicKey(algorithm="EC", curve=curve, bits=bits, spki_sha256=sha256(f"ec {curve} {bits}"))


def signed(oid: str, name: str | None = None, hash_name: str | None = None) -> SignatureAlgorithm:
    """A signature by that scheme."""
    return SignatureAlgorithm(oid=oid, name=name, hash=hash_name)


SHA256_RSA = signed("1.2.840.113549.1.1.11", "sha256WithRSAEncryption", "SHA-256")
SHA1_RSA = signed("1.2.840.113549.1.1.5", "sha1WithRSAEncryption", "SHA-1")


def certificate(subject: str = "CN=www.example.com", **fields: Any) -> Certificate:  # noqa: ANN401 - any field of the type
    """A certificate valid through the year 2027, with whatever a test wants otherwise."""
    plain: dict[str, Any] = {
        "subject": subject,
        "issuer": "CN=Example CA",
        "serial": "0a",
        "not_before": "2026-01-01T00:00:00.000000Z",
        "not_after": "2027-12-31T23:59:59.000000Z",
        "key": rsa(),
        "signature": SHA256_RSA,
    }
    plain |= fields
    plain.setdefault("sha256", sha256(repr(sorted(plain.items(), key=lambda item: item[0]))))
    return Certificate(**plain)


def library(version: str = "3.0.15", **fields: Any) -> Library:  # noqa: ANN401 - any field of the type
    """libcrypto of that version."""
    plain: dict[str, Any] = {"family": "openssl", "name": "libcrypto", "version": version}
    return Library(**(plain | {"build_id": sha256(version)[:40]} | fields))


def use(*, deleted: bool = False, version: str = "3.0.15") -> LibraryUse:
    """libssl in use."""
    return LibraryUse(family="openssl", name="libssl", version=version, deleted=deleted)


def entry(key: str, asset: AnyAsset, **where: Any) -> Entry:  # noqa: ANN401 - any field of Location
    """An asset in a place; a key that is a path is also the place."""
    if key.startswith("/"):
        where.setdefault("path", key)
    return Entry(key=key, asset=asset, where=Location(**where))


def nothing(status: Status, reason: str | None = None) -> SectionState:
    """A section of which nothing was seen."""
    return SectionState(status=status, detector=1, reason=reason, parts=PartDigests())


CA_CERTIFICATES = Package(manager="dpkg", name="ca-certificates", version="20230311")


class Fleet:
    """Parts by digest. Counts how often each is opened, since a part must be opened once."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.opened: Counter[str] = Counter()

    def load(self, part: str) -> tuple[Entry, ...]:
        """A `reports.view.Loader`."""
        self.opened[part] += 1
        return decode_part(self.parts[part])

    def part(self, *entries: Entry) -> str | None:
        """Keep a part; its digest, or None when it is empty."""
        if not entries:
            return None
        data = encode_part(entries)
        self.parts[digest(data)] = data
        return digest(data)

    def section(
        self,
        *local: Entry,
        vendor: tuple[Entry, ...] = (),
        status: Status = "complete",
        reason: str | None = None,
        sampled: bool = False,
        detector: int = 1,
    ) -> SectionState:
        """A section with these entries; one that is not complete gets a reason."""
        return SectionState(
            status=status,
            reason=reason or (None if status == "complete" else "2 not permitted"),
            sampled=sampled,
            detector=detector,
            parts=PartDigests(vendor=self.part(*vendor), local=self.part(*local)),
        )

    def host(self, name: str, last_seen: str | None = SEEN, **sections: SectionState) -> HostView:
        """A host with these sections."""
        return HostView(host_id=f"h-{sha256(name)[:32]}", name=name, last_seen=last_seen, sections=sections)
