# SPDX-License-Identifier: Apache-2.0
"""The collector: the inventory is spooled, then posted over HTTPS until a 2xx says that it is durable there.

A post is the state first. The collector answers that it has it, or names the parts it lacks; those are sent,
and the state again. What does not arrive stays in the spool and goes with the next `send` or `resume`.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from agent import errors
from agent.document import Draft
from agent.model import canonical, limits, wire
from agent.posting import enrolment, last_post
from agent.posting.identity import load_key
from agent.posting.spool import SEQ_MAX, Counts, Spool, Spooled
from agent.sinks import Context, Receipt, Spec

if TYPE_CHECKING:
    from agent.posting.client import Answer, Client

# One round when nothing is missing, two when parts are. The others are for a collector that forgets parts
# between them.
_ROUNDS_MAX = 4
# Half of what the collector allows: a part of one repeated word is sent as it is rather than refused as a
# bomb.
_RATIO_MAX = limits.EXPANSION_RATIO_MAX // 2
# The content is at fault and will be the next time too. (403 and 404 are about who we are, and can be set
# right.)
_CONTENT_STATUS = {400, 413, 415, 422}


class Settings(Struct, frozen=True):
    """None: the way to the collector is in [collector], for enrolment needs it too."""


SPEC = Spec(settings=Settings, enrolled=True)


def send(draft: Draft, settings: Settings, context: Context) -> Receipt:
    """Spool the inventory, then post it.

    Raises:
        ConfigError: the host is not enrolled.
        StateError: the spool cannot be written; the state before is still in it.
        UnreachableError: not now. It stays spooled.
        RefusedError: never like this. It is in quarantine when its content is why.
    """
    post = _Post(context)
    return post.deliver(post.spool.put(draft))


def resume(context: Context) -> Receipt | None:
    """Post what the spool holds, and None when it holds nothing. Raises what `send` raises."""
    post = _Post(context)
    waiting = post.spool.load()
    return None if waiting is None else post.deliver(waiting)


class _Post:
    """One post, with what it needs at hand."""

    def __init__(self, context: Context) -> None:
        if context.state is None:
            raise errors.ConfigError("posting needs the agent's state directory, and this run has none")
        self._state = context.state
        self._way = context.collector
        self._clock_ns = context.host.now_ns
        self._enrolment = enrolment.require(context.state)
        key = load_key(context.state)
        if key is None or key.host_id != self._enrolment.host_id:
            raise errors.StateError(
                f"the key in {context.state.path} is not that of {self._enrolment.host_id}, which was"
                f" enrolled; enrol this host again"
            )
        self._key = key
        self.spool = Spool(context.state, key)

    def deliver(self, spooled: Spooled) -> Receipt:
        """Post until a 2xx, and note for people what became of it."""
        try:
            receipt = self._deliver_trusting(spooled)
        except errors.AgentError as error:
            last_post.note_failure(self._state, self._clock_ns(), str(error))
            raise
        last_post.note_delivery(
            self._state,
            self._clock_ns(),
            outcome=receipt.outcome,
            seq=receipt.seq,
            next_post_s=receipt.next_post_s,
        )
        return receipt

    def _deliver_trusting(self, spooled: Spooled) -> Receipt:
        """Once more with a changed CA, when it is one that was announced."""
        from agent.posting import tls

        try:
            return self._deliver(spooled)
        except tls.UntrustedError as error:
            if not self._enrolment.ca_pins:
                raise
            try:
                self._enrolment = enrolment.follow_ca(self._state, self._enrolment, self._way, self._clock_ns)
            except errors.CollectorError:
                # That no announced CA is there either says nothing more than the first error did.
                raise error from None
            return self._deliver(self.spool.load() or spooled)

    def _deliver(self, spooled: Spooled) -> Receipt:
        url = self._enrolment.url
        told = self.spool.counts()
        with enrolment.connect(url, self._enrolment.ca_pem, self._way, self._clock_ns) as client:
            answer = self._rounds(client, spooled, told)
            if answer.status == 409:
                spooled = self._advance(client, spooled, answer)
                answer = self._rounds(client, spooled, told)
            if answer.status == 409:
                raise errors.UnreachableError(
                    f"{url} has a later state of this host again; another agent posts with a copy of this"
                    f" host's key. Enrol one of the two anew"
                )
            self.spool.delivered(spooled, told)
            return Receipt(
                where=url,
                outcome="unchanged" if answer.status == 204 else "accepted",
                seq=spooled.seq,
                next_post_s=answer.pace.next_post_s,
                rescan=answer.pace.rescan,
                clock_doubt=client.clock_doubt,
            )

    def _rounds(self, client: Client, spooled: Spooled, told: Counts) -> Answer:
        """The collector's last word on one state: a 200 or 204, or the 409 of a later state."""
        path = f"/v1/hosts/{self._key.host_id}/state"
        try:
            for _ in range(_ROUNDS_MAX):
                answer = self._put(client, path, _state_body(spooled, told))
                if answer.status != 202:
                    return answer
                for digest in _missing(answer, spooled, client.url):
                    self._put(client, f"/v1/parts/{digest}", spooled.parts[digest])
        except errors.RefusedError as error:
            if error.status in _CONTENT_STATUS:
                self.spool.refused(spooled)
            raise
        raise errors.UnreachableError(f"{client.url} keeps asking for parts that it was sent")

    def _advance(self, client: Client, spooled: Spooled, answer: Answer) -> Spooled:
        seq = answer.problem.seq if answer.problem else None
        if seq is None or not spooled.seq <= seq < SEQ_MAX:
            raise errors.UnreachableError(
                f"{client.url} has a later state of this host, and no sensible number for it"
            )
        found = self.spool.advance(seq)
        if found is None:
            raise errors.StateError(f"the spool in {self._state.path} was emptied while its state was posted")
        return found

    def _put(self, client: Client, path: str, body: bytes) -> Answer:
        headers = {"Content-Type": wire.MEDIA_JSON}
        # Without a time and a name in it, the same content gives the same bytes.
        packed = gzip.compress(body, mtime=0)
        if len(body) <= len(packed) * _RATIO_MAX:
            body, headers["Content-Encoding"] = packed, "gzip"
        return client.exchange("PUT", path, body, headers=headers, key=self._key)


def _state_body(spooled: Spooled, told: Counts) -> bytes:
    live = spooled.live
    if losses := told.losses():
        live = canonical.encode(msgspec.json.decode(live) | {"spool": losses})
    return canonical.encode(
        wire.StateRequest(
            manifest=msgspec.Raw(spooled.manifest), signature=spooled.signature, live=msgspec.Raw(live)
        )
    )


def _missing(answer: Answer, spooled: Spooled, url: str) -> tuple[str, ...]:
    try:
        missing = msgspec.json.decode(answer.body, type=wire.MissingReply).missing
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.UnreachableError(f"{url} lacks parts and does not say which") from error
    if not missing or not set(missing) <= spooled.parts.keys():
        raise errors.UnreachableError(f"{url} asks for parts that are none of this state's")
    return missing
