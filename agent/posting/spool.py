# SPDX-License-Identifier: Apache-2.0
"""What has the collector not got yet? The latest state, kept on disk until a 2xx, and the number it goes by.

An inventory is a state, not a log: only the latest one is kept, so the spool is bounded by one inventory
however long the collector is away. Two promises hold through a crash at any moment:

- the spool holds one whole state, the old or the new, never a mixture: one file, replaced by rename, with a
checksum; - no number (`seq`) is ever used for two different manifests: it is written down before it is used.

What never reached the collector is counted and told with the next post.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from msgspec import Struct

from agent import errors
from agent.document import Draft
from agent.model import canonical, limits
from agent.model.inventory import Manifest, SealedInventory, Signature, decode_manifest
from agent.posting import signing
from agent.posting.identity import HostKey
from agent.state import StateDirectory

_SPOOL = "spool"
_COUNTER = "counter"
_MAGIC = b"cryptofleet-spool-1 "
_HEADER_BYTES = len(_MAGIC) + len("sha256:") + 64 + 1
_COUNTER_BYTES_MAX = 4096
# The document is an envelope around parts and manifest, whose own limits are checked before.
_SPOOL_BYTES_MAX = limits.DOCUMENT_BYTES_MAX + _HEADER_BYTES
# Integers of documents end at 2**53; a collector that answers with more is wrong, and so must we not become.
SEQ_MAX = 2**53 - 1


class Counts(Struct, omit_defaults=True, kw_only=True, frozen=True):
    """The number of the last post, and what has been lost since the collector last heard of us."""

    seq: int = 0
    replaced: int = 0
    """States that a later one took the place of before they were known to have arrived."""
    damaged: int = 0
    """Files that turned out damaged; they are in quarantine."""
    refused: int = 0
    """States that the collector would not have; they are in quarantine."""

    def losses(self) -> dict[str, int]:
        """What there is to tell, by name; empty when nothing was lost."""
        return {
            name: count for name, count in msgspec.structs.asdict(self).items() if count and name != "seq"
        }


@dataclass(frozen=True, kw_only=True)
class Spooled:
    """A state as it will be posted: numbered and signed. `manifest`, `parts` and `live` are exact bytes."""

    seq: int
    manifest: bytes
    signature: Signature
    parts: dict[str, bytes]
    live: bytes


class Spool:
    """The spool in a state directory."""

    def __init__(self, state: StateDirectory, key: HostKey) -> None:
        self._state = state
        self._key = key

    def put(self, draft: Draft) -> Spooled:
        """Number, sign and keep a new state in place of whatever was there.

        Raises:
            StateError: it cannot be kept; what was there is still there.
            AgentError: it is larger than any collector takes.
        """
        with self._state.locked():
            held = self.load()
            counts = self._counts()
            lost = counts.replaced + (held is not None)
            seq = self._next(counts, held, 0, replaced=lost)
            live = canonical.encode(draft.live)
            if len(live) > limits.LIVE_BYTES_MAX // 2:
                # It is true only now and in no digest; it must not cost the state. Half is left for ours.
                live = canonical.encode({"omitted_bytes": len(live)})
            spooled = self._seal(draft.manifest(seq, self._key.host_id), draft.parts, live)
            self._keep(spooled)
            return spooled

    def load(self) -> Spooled | None:
        """The state that waits, or None. A damaged file goes to quarantine and is counted.

        Raises:
            StateError: the directory cannot be read or trusted.
        """
        with self._state.locked():
            data = self._state.read(_SPOOL, _SPOOL_BYTES_MAX)
            if data is None:
                return None
            spooled = self._open(data)
            if spooled is None:
                self._state.set_aside(_SPOOL)
                counts = self._counts()
                self._save(msgspec.structs.replace(counts, damaged=counts.damaged + 1))
            return spooled

    def advance(self, seq: int) -> Spooled | None:
        """Give the waiting state a number above `seq`, which the collector has seen, and sign it anew.

        Returns:
            None when nothing waits any more.

        Raises:
            StateError: it cannot be kept.
        """
        with self._state.locked():
            held = self.load()
            if held is None:
                return None
            seq = self._next(self._counts(), held, seq)
            manifest = msgspec.structs.replace(decode_manifest(held.manifest), seq=seq)
            spooled = self._seal(manifest, held.parts, held.live)
            self._keep(spooled)
            return spooled

    def number(self) -> int:
        """A number for a signed document that goes another way, so that the collector can tell its place.

        Raises:
            StateError: it cannot be kept, and so must not be used.
        """
        with self._state.locked():
            return self._next(self._counts(), self.load(), 0)

    def delivered(self, spooled: Spooled, told: Counts) -> None:
        """Forget a state that the collector has, and the losses it was told of. A later state stays.

        Raises:
            StateError: it cannot be removed. It will be posted again, which does no harm.
        """
        with self._state.locked():
            counts = self._counts()
            left = {name: max(getattr(counts, name) - count, 0) for name, count in told.losses().items()}
            # Should the counter have been lost, the state that goes now was the last to know its number.
            after = msgspec.structs.replace(counts, seq=max(counts.seq, spooled.seq), **left)
            if after != counts:
                self._save(after)
            if self._holds(spooled):
                self._state.remove(_SPOOL)

    def refused(self, spooled: Spooled) -> None:
        """Set aside, and count, a state that the collector will never take, so that it is not posted again.

        Raises:
            StateError: it cannot be moved.
        """
        with self._state.locked():
            if self._holds(spooled):
                counts = self._counts()
                seq = max(counts.seq, spooled.seq)
                self._save(msgspec.structs.replace(counts, seq=seq, refused=counts.refused + 1))
                self._state.set_aside(_SPOOL)

    def counts(self) -> Counts:
        """The last number and the losses. Raises StateError."""
        with self._state.locked():
            return self._counts()

    def _holds(self, spooled: Spooled) -> bool:
        """Whether this state, and no later one, is in the spool."""
        held = self.load()
        return held is not None and held.seq == spooled.seq

    def _next(self, counts: Counts, held: Spooled | None, seen: int, *, replaced: int | None = None) -> int:
        """A number above all that were ever used, on disk before it is used."""
        # The spooled number counts too: the counter may have been lost or restored from a backup.
        seq = max(counts.seq, held.seq if held else 0, seen) + 1
        if seq > SEQ_MAX:
            raise errors.StateError(
                f"the post number {seq} is beyond 2**53 - 1; remove {self._state.path}/counter"
            )
        self._save(
            msgspec.structs.replace(
                counts, seq=seq, replaced=counts.replaced if replaced is None else replaced
            )
        )
        return seq

    def _seal(self, manifest: Manifest, parts: dict[str, bytes], live: bytes) -> Spooled:
        data = canonical.encode(manifest)
        if len(data) > limits.MANIFEST_BYTES_MAX:
            raise errors.AgentError(
                f"the manifest has {len(data)} bytes and the limit is {limits.MANIFEST_BYTES_MAX};"
                f" fewer labels or scanners make it smaller"
            )
        signature = signing.sign_manifest(data, self._key)
        return Spooled(seq=manifest.seq, manifest=data, signature=signature, parts=parts, live=live)

    def _keep(self, spooled: Spooled) -> None:
        document = SealedInventory(
            manifest=msgspec.Raw(spooled.manifest),
            parts={digest: msgspec.Raw(data) for digest, data in spooled.parts.items()},
            signature=spooled.signature,
            live=msgspec.Raw(spooled.live),
        )
        data = _framed(canonical.encode(document))
        if len(data) > _SPOOL_BYTES_MAX:
            raise errors.AgentError(
                f"the inventory has {len(data)} bytes and the limit is {limits.DOCUMENT_BYTES_MAX};"
                f" run fewer scanners, or exclude the directories that hold so much"
            )
        self._state.write(_SPOOL, data)

    def _open(self, data: bytes) -> Spooled | None:
        """The state in a spool file's bytes; None when they are damaged or another key's."""
        body = _unframed(data)
        if body is None:
            return None
        try:
            document = msgspec.json.decode(body, type=SealedInventory)
            manifest = bytes(document.manifest)
            seq = decode_manifest(manifest).seq
        except (msgspec.DecodeError, canonical.MalformedDocumentError):
            return None
        signature = document.signature
        if (
            signature is None
            or signature.public_key != self._key.public_base64
            or not signing.is_signed(manifest, signature)
        ):
            return None
        parts = {digest: bytes(part) for digest, part in document.parts.items()}
        return Spooled(
            seq=seq, manifest=manifest, signature=signature, parts=parts, live=bytes(document.live)
        )

    def _counts(self) -> Counts:
        data = self._state.read(_COUNTER, _COUNTER_BYTES_MAX)
        if data is None:
            return Counts()
        body = _unframed(data)
        if body is not None:
            try:
                return msgspec.json.decode(body, type=Counts)
            except (msgspec.DecodeError, msgspec.ValidationError):
                body = None
        # A lost number costs nothing: the collector answers with the last one it saw, and we go on from
        # there.
        self._state.set_aside(_COUNTER)
        counts = Counts(damaged=1)
        self._save(counts)
        return counts

    def _save(self, counts: Counts) -> None:
        self._state.write(_COUNTER, _framed(canonical.encode(counts)))


@dataclass(frozen=True, kw_only=True)
class Glimpse:
    """What a spool holds, for people."""

    counts: Counts
    is_waiting: bool
    """Whether a state waits to be posted."""
    damaged: tuple[str, ...]
    """Files that are not whole; the next run sets them aside and says so."""


def glimpse(state: StateDirectory) -> Glimpse:
    """What is there, without changing or locking anything.

    Raises:
        StateError: the directory cannot be read or trusted.
    """
    held = state.read(_SPOOL, _SPOOL_BYTES_MAX)
    counted = state.read(_COUNTER, _COUNTER_BYTES_MAX)
    damaged = [
        name for name, data in ((_SPOOL, held), (_COUNTER, counted)) if data and _unframed(data) is None
    ]
    counts = Counts()
    body = None if counted is None else _unframed(counted)
    if body is not None:
        try:
            counts = msgspec.json.decode(body, type=Counts)
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged.append(_COUNTER)
    return Glimpse(
        counts=counts, is_waiting=held is not None and _SPOOL not in damaged, damaged=tuple(sorted(damaged))
    )


def _framed(body: bytes) -> bytes:
    """One line with the checksum, then the bytes: `tail -n +2 spool | jq .` reads it."""
    return _MAGIC + canonical.digest(body).encode() + b"\n" + body


def _unframed(data: bytes) -> bytes | None:
    header, body = data[:_HEADER_BYTES], data[_HEADER_BYTES:]
    return body if header == _MAGIC + canonical.digest(body).encode() + b"\n" else None
