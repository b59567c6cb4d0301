# SPDX-License-Identifier: Apache-2.0
"""What does one host say about itself? The manifest, its parts, and the whole document."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.model import canonical, limits
from agent.model.asset import AnyAsset
from agent.model.location import Location

_T = TypeVar("_T")

# Raised when an older collector would misread a newer document; unknown fields alone do not raise it.
SCHEMA = 1

Digest = Annotated[str, Meta(pattern=canonical.DIGEST_PATTERN, description="sha256: and 64 hex digits.")]
Timestamp = Annotated[
    str, Meta(pattern=canonical.TIMESTAMP_PATTERN, description="UTC with six fractional digits.")
]
Status = Literal["complete", "partial", "absent", "failed"]
HostKind = Literal["agent", "ssh", "import", "external"]
SkipReason = Literal[
    "denied", "unreadable", "vanished", "too_large", "malformed", "budget", "network_fs", "lost", "crashed"
]


class Entry(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """One asset in one place."""

    key: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=limits.STRING_CHARS_MAX,
            description="Stable natural name, unique in its section.",
        ),
    ]
    asset: Annotated[AnyAsset, Meta(description="What it is.")]
    where: Annotated[Location, Meta(description="Where it is.")]


class PartDigests(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The two halves of a section's entries. An absent half has no entries."""

    vendor: Annotated[Digest | None, Meta(description="Entries that a distribution package owns.")] = None
    local: Annotated[Digest | None, Meta(description="Everything else.")] = None


class SectionState(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """How far one scanner got, and what it found."""

    status: Annotated[
        Status,
        Meta(
            description="complete; partial: something was skipped; absent: nothing to look at; failed: no answer."
        ),
    ]
    detector: Annotated[
        int, Meta(ge=1, description="Version of the scanner's reading; a step explains differences.")
    ]
    sampled: Annotated[bool, Meta(description="True: what was seen in use. False: what is there.")] = False
    reason: Annotated[str | None, Meta(description="Why it is not complete, in words.")] = None
    skipped: Annotated[
        dict[SkipReason, int], Meta(description="How many things were not looked at, by cause.")
    ] = {}
    examples: Annotated[
        tuple[str, ...], Meta(max_length=limits.EXAMPLES_MAX, description="A few of them.")
    ] = ()
    rung: Annotated[str | None, Meta(description="The method used, where there are several.")] = None
    rung_reason: Annotated[str | None, Meta(description="Why no better method was used.")] = None
    parts: Annotated[PartDigests, Meta(description="Digests of the canonical bytes of the entries.")]


class HostIdentity(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """Which host speaks. Names help people; `host_id` is what counts."""

    kind: Annotated[HostKind, Meta(description="How the document came to be.")]
    hostname: Annotated[str, Meta(description="uname nodename.")]
    host_id: Annotated[str | None, Meta(description="Given at enrolment; absent before.")] = None
    machine_id_sha256: Annotated[
        str | None, Meta(description="Hash of /etc/machine-id; hints at clones, proves nothing.")
    ] = None
    os: Annotated[str | None, Meta(description="PRETTY_NAME of os-release.")] = None
    kernel: Annotated[str | None, Meta(description="uname -r.")] = None
    arch: Annotated[str | None, Meta(description="uname -m.")] = None
    labels: Annotated[
        dict[str, str],
        Meta(max_length=limits.LABELS_MAX, description="The operator's own, from the agent's configuration."),
    ] = {}


class AgentIdentity(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """Which program looked."""

    version: Annotated[str, Meta(description="Version of the agent.")]
    digest: Annotated[Digest | None, Meta(description="Of the frozen file; absent when run from source.")] = (
        None
    )


class Manifest(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The signed head of an inventory: who, when, how far, and the digests of what was found."""

    schema: Annotated[int, Meta(ge=1, description="Version of this document's form.")]
    host: HostIdentity
    agent: AgentIdentity
    collected_at: Annotated[Timestamp, Meta(description="When the scan ended, by the host's clock.")]
    sections: Annotated[
        dict[str, SectionState], Meta(max_length=limits.SECTIONS_MAX, description="By scanner name.")
    ]
    seq: Annotated[
        int, Meta(ge=0, description="Counts the host's posts; 0 when it was never meant to be posted.")
    ] = 0
    pseudonym_key_id: Annotated[
        str | None, Meta(description="Which key hid human users' names; absent when none were hidden so.")
    ] = None


class Signature(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A detached Ed25519 signature (RFC 8032) over the manifest's bytes as they stand."""

    algorithm: Literal["ed25519"]
    public_key: Annotated[str, Meta(description="Raw public key, base64.")]
    value: Annotated[str, Meta(description="Signature, base64.")]


class Inventory(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """A whole document with its types, for those who read one."""

    manifest: Manifest
    parts: Annotated[dict[str, tuple[Entry, ...]], Meta(description="Entries by part digest.")]
    signature: Annotated[Signature | None, Meta(description="Absent when the host is not enrolled.")] = None
    live: Annotated[dict[str, Any], Meta(description="What is true only now; in no digest.")] = {}


class SealedInventory(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The same document with the bytes that digests and signature speak of kept verbatim."""

    manifest: msgspec.Raw
    parts: dict[str, msgspec.Raw]
    signature: Signature | None = None
    live: msgspec.Raw = msgspec.Raw(b"{}")


_MANIFEST = msgspec.json.Decoder(Manifest)
_ENTRIES = msgspec.json.Decoder(tuple[Entry, ...])
_SEALED = msgspec.json.Decoder(SealedInventory)


def encode_part(entries: Iterable[Entry]) -> bytes:
    """Canonical bytes of one part: entries sorted by key, so any order of discovery gives the same bytes.

    Raises:
        ValueError: two entries share a key; a bug of the scanner that made them.
    """
    ordered = sorted(entries, key=lambda entry: entry.key)
    for before, after in itertools.pairwise(ordered):
        if before.key == after.key:
            raise ValueError(f"two entries have the key {before.key[:200]!r}")
    return canonical.encode(ordered)


def decode_part(data: bytes) -> tuple[Entry, ...]:
    """Entries of a received part, checked in form, order and number.

    Raises:
        canonical.MalformedDocumentError: what is wrong and where.
    """
    entries: tuple[Entry, ...] = _decode(_ENTRIES, data, "part", limits.PART_BYTES_MAX)
    if len(entries) > limits.ENTRIES_MAX:
        raise canonical.MalformedDocumentError(
            f"{len(entries)} entries in one part; the limit is {limits.ENTRIES_MAX}"
        )
    for before, after in itertools.pairwise(entries):
        if before.key >= after.key:
            raise canonical.MalformedDocumentError(
                f"entries are not sorted by unique key at {after.key[:200]!r}"
            )
    return entries


def decode_manifest(data: bytes) -> Manifest:
    """A received manifest, checked in form.

    Raises:
        canonical.MalformedDocumentError: what is wrong and where.
    """
    manifest: Manifest = _decode(_MANIFEST, data, "manifest", limits.MANIFEST_BYTES_MAX)
    canonical.parse_timestamp(manifest.collected_at)
    return manifest


def decode_sealed(data: bytes) -> SealedInventory:
    """A whole received document; manifest and parts are still the sender's bytes.

    Raises:
        canonical.MalformedDocumentError: what is wrong and where.
    """
    return _decode(_SEALED, data, "document", limits.DOCUMENT_BYTES_MAX)


def _decode(decoder: msgspec.json.Decoder[_T], data: bytes, what: str, bytes_max: int) -> _T:
    if len(data) > bytes_max:
        raise canonical.MalformedDocumentError(f"a {what} of {len(data)} bytes; the limit is {bytes_max}")
    canonical.check_received(data)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise canonical.MalformedDocumentError(f"the {what} has not the expected form: {error}") from error
