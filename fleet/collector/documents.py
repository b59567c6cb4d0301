# SPDX-License-Identifier: Apache-2.0
"""Is a received document one of ours, and free of contradictions? Pure: bytes in, a post or a refusal out."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.model import canonical, inventory, limits, wire
from agent.model.inventory import Manifest, Signature
from fleet import errors
from fleet.store.records import Host, Post

T = TypeVar("T")

# This version and the two before it, so that a fleet can be upgraded collector first and agents over months.
SCHEMAS = tuple(range(max(1, inventory.SCHEMA - 2), inventory.SCHEMA + 1))
# What surrounds manifest and live in a state request: field names and the signature.
_ENVELOPE_BYTES_MAX = 4 * 1024
STATE_BYTES_MAX = limits.MANIFEST_BYTES_MAX + limits.LIVE_BYTES_MAX + _ENVELOPE_BYTES_MAX
ENROLL_BYTES_MAX = 4 * 1024
# A section's name is a scanner's module name.
_SECTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


class _HostHead(msgspec.Struct):
    host_id: str | None = None


class _Head(msgspec.Struct):
    """What can be read of a manifest of any schema, before its version says how to read the rest."""

    schema: int
    host: _HostHead


class _Sealed(msgspec.Struct):
    """What of a whole document tells whether its host is one of ours."""

    manifest: msgspec.Raw
    signature: Signature | None = None


_STATE = msgspec.json.Decoder(wire.StateRequest)
_ENROLL = msgspec.json.Decoder(wire.EnrollRequest)
_HEAD = msgspec.json.Decoder(_Head)
_SEALED = msgspec.json.Decoder(_Sealed)
_LIVE = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_enroll(body: bytes) -> wire.EnrollRequest:
    """An enrolment request, checked in form.

    Raises:
        errors.RefusedError: malformed.
    """
    return _received(_ENROLL, body, "enrolment request")


def read_state(body: bytes, host: Host, received_ns: int, skew_ms: int | None) -> Post:
    """The post in a state request of this host.

    Raises:
        errors.RefusedError: malformed, inconsistent, too-large, unsupported-schema.
    """
    request = _received(_STATE, body, "state request")
    manifest_bytes = bytes(request.manifest)
    if not is_signed_by(manifest_bytes, request.signature, host.public_key):
        raise errors.RefusedError(
            "inconsistent", "the manifest's signature is not this host's over these bytes"
        )
    return _post(manifest_bytes, request.signature, bytes(request.live), host, received_ns, skew_ms)


def read_part(digest: str, body: bytes) -> None:
    """Make sure that the bytes are a part and have that digest.

    Raises:
        errors.RefusedError: malformed, inconsistent.
    """
    found = canonical.digest(body)
    if not hmac.compare_digest(found, digest):
        raise errors.RefusedError("inconsistent", f"the body's digest is {found}, the path says {digest}")
    _translated(lambda: inventory.decode_part(body))


def read_inventory(body: bytes, find: Callable[[str], Host | None], received_ns: int) -> Post:
    """The post in a whole document, whose manifest must be signed by the enrolled host it names.

    Raises:
        errors.RefusedError: malformed, forbidden, inconsistent, too-large, unsupported-schema.
    """
    host = _signer(body, find)
    sealed = _translated(lambda: inventory.decode_sealed(body))
    manifest_bytes = bytes(sealed.manifest)
    # The reading that found the signer passes over what stands twice; this one, which counts, does not.
    if sealed.signature is None or not is_signed_by(manifest_bytes, sealed.signature, host.public_key):
        raise _unsigned()
    post = _post(manifest_bytes, sealed.signature, bytes(sealed.live), host, received_ns, None)
    parts = {digest: bytes(raw) for digest, raw in sealed.parts.items()}
    named = {
        digest
        for state in post.manifest.sections.values()
        for digest in (state.parts.vendor, state.parts.local)
        if digest is not None
    }
    if parts.keys() - named:
        raise errors.RefusedError(
            "inconsistent", "the document brings a part that its manifest does not name"
        )
    for digest, part in parts.items():
        read_part(digest, part)
    return msgspec.structs.replace(post, parts=parts)


def _signer(body: bytes, find: Callable[[str], Host | None]) -> Host:
    """The enrolled host that signed the manifest of a whole document, of which nothing else is looked at.

    Anybody may send one, and checking all of 64 MiB takes seconds and a gigabyte: that is for who has shown
    to be known here.
    """
    sealed = _decoded(_SEALED, body, "document")
    manifest = bytes(sealed.manifest)
    if len(manifest) > limits.MANIFEST_BYTES_MAX:
        raise errors.RefusedError("too-large", "the manifest is too large", limit=limits.MANIFEST_BYTES_MAX)
    host_id = _received(_HEAD, manifest, "manifest").host.host_id
    host = find(host_id) if host_id is not None else None
    if (
        host is None
        or sealed.signature is None
        or not is_signed_by(manifest, sealed.signature, host.public_key)
    ):
        raise _unsigned()
    if host.revoked_at is not None:
        raise errors.RefusedError("forbidden", "this host was revoked")
    return host


def _unsigned() -> errors.RefusedError:
    return errors.RefusedError(
        "forbidden", "only a document whose manifest is signed by a host enrolled here is taken"
    )


def is_signed_by(manifest: bytes, signature: Signature, public_key: bytes) -> bool:
    """Whether the signature is one over these bytes by this key; the key it names must be this one, too."""
    try:
        named = base64.b64decode(signature.public_key, validate=True)
        value = base64.b64decode(signature.value, validate=True)
        if not hmac.compare_digest(named, public_key):
            return False
        Ed25519PublicKey.from_public_bytes(public_key).verify(value, manifest)
    except (binascii.Error, ValueError, InvalidSignature):
        return False
    return True


def _post(
    manifest_bytes: bytes,
    signature: Signature,
    live: bytes,
    host: Host,
    received_ns: int,
    skew_ms: int | None,
) -> Post:
    if len(manifest_bytes) > limits.MANIFEST_BYTES_MAX:
        raise errors.RefusedError("too-large", "the manifest is too large", limit=limits.MANIFEST_BYTES_MAX)
    head = _decoded(_HEAD, manifest_bytes, "manifest")
    if head.host.host_id != host.host_id:
        raise errors.RefusedError("inconsistent", f"the manifest names another host than {host.host_id}")
    if head.schema not in SCHEMAS:
        detail = f"the manifest has schema {head.schema}; upgrade the collector or the agent"
        raise errors.RefusedError("unsupported-schema", detail, supported=SCHEMAS)
    manifest = _translated(lambda: inventory.decode_manifest(manifest_bytes))
    _check_sense(manifest, host)
    if len(live) > limits.LIVE_BYTES_MAX:
        raise errors.RefusedError("too-large", "`live` is too large", limit=limits.LIVE_BYTES_MAX)
    _decoded(_LIVE, live, "live document")
    return Post(
        host_id=host.host_id,
        manifest=manifest,
        manifest_bytes=manifest_bytes,
        signature=canonical.encode(signature),
        live=live,
        received_ns=received_ns,
        skew_ms=skew_ms,
    )


def _check_sense(manifest: Manifest, host: Host) -> None:
    """What the types cannot say."""
    if manifest.seq < 1:
        raise errors.RefusedError("inconsistent", "seq is 0: this manifest was never meant to be posted")
    if manifest.host.kind != host.kind:
        detail = f"the manifest is of kind {manifest.host.kind}, the host is enrolled as {host.kind}"
        raise errors.RefusedError("inconsistent", detail)
    for name, state in manifest.sections.items():
        if not _SECTION_NAME.fullmatch(name):
            raise errors.RefusedError("malformed", f"{name[:80]!r} is not a section's name")
        if state.status in ("failed", "absent") and (state.parts.vendor or state.parts.local):
            raise errors.RefusedError("inconsistent", f"section {name} is {state.status} and yet has parts")
        for digest in (state.parts.vendor, state.parts.local):
            if digest is not None and not canonical.is_digest(digest):
                raise errors.RefusedError("malformed", f"section {name} names a part {digest[:80]!r}")
        if any(count < 0 for count in state.skipped.values()):
            raise errors.RefusedError("inconsistent", f"section {name} has skipped less than nothing")


def _received(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    _translated(lambda: canonical.check_received(body))
    return _decoded(decoder, body, what)


def _decoded(decoder: msgspec.json.Decoder[T], data: bytes, what: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise errors.RefusedError("malformed", f"the {what} has not the expected form: {error}") from error


def _translated(check: Callable[[], T]) -> T:
    try:
        return check()
    except canonical.MalformedDocumentError as error:
        raise errors.RefusedError("malformed", str(error)) from error
