# SPDX-License-Identifier: Apache-2.0
"""How does a reader know that this host said it? Signatures over manifests, requests and the enrolment.

One key signs three kinds of text, and none can be taken for another: a manifest begins with `{`, the base of
a request's signature with `"`, the proof of an enrolment with `enroll:`.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.model import wire
from agent.model.inventory import Signature
from agent.posting.identity import HostKey
from agent.secret import Secret

if TYPE_CHECKING:
    import httpx


def sign_manifest(manifest: bytes, key: HostKey) -> Signature:
    """The detached signature over a manifest's bytes as they stand."""
    return Signature(
        algorithm="ed25519",
        public_key=key.public_base64,
        value=base64.b64encode(key.sign(manifest)).decode(),
    )


def is_signed(manifest: bytes, signature: Signature) -> bool:
    """Whether the signature is its public key's over these bytes. The caller must know whose key it is."""
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature.public_key, validate=True))
        public.verify(base64.b64decode(signature.value, validate=True), manifest)
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def enrolment_proof(token: Secret, key: HostKey) -> str:
    """Base64 of the signature that shows the collector we hold the private half, bound to this token."""
    return base64.b64encode(key.sign(b"enroll:" + token.reveal().encode())).decode()


def sign_request(request: httpx.Request, key: HostKey, created_ns: int) -> None:
    """Add Content-Digest, Signature-Input and Signature to a request whose body is complete.

    Args:
        request: its `content` is the body as it will be sent, compressed or not.
        key: its host id is the key id.
        created_ns: nanoseconds since 1970 by the host's clock. The collector records it and does not insist
        on it,
            for a host whose clock is years off must still converge.

    Source: RFC 9421 (sections 2.5 and 3.1), RFC 9530.
    """
    from http_message_signatures import HTTPMessageSigner, algorithms

    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519)
    prepared = signer.prepare(
        request,
        key_id=key.host_id,
        created=dt.datetime.fromtimestamp(created_ns // 1_000_000_000, dt.UTC),
        label=wire.SIGNATURE_LABEL,
        # The label itself is not signed; the tag says inside the signature what it is for (RFC 9421, 7.2.7).
        tag=wire.SIGNATURE_LABEL,
        covered_component_ids=wire.COVERED,
        body=request.content,
    )
    signer.apply(request, prepared, key.sign(prepared.signature_base))
