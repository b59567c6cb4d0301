# SPDX-License-Identifier: Apache-2.0
"""What must hold for every store? Tests of the contract alone; a subclass says of which store."""

from __future__ import annotations

from concurrent.futures import wait
from dataclasses import dataclass, field

import pytest

from agent.model import canonical
from agent.model.inventory import SectionState
from fleet.enroll import Applicant, new_token, token_digest
from fleet.store import Store
from fleet.store.records import (
    Accepted,
    Ahead,
    Enrolled,
    EnrolmentRefused,
    Garbage,
    HostGone,
    Missing,
    NewToken,
    Post,
    PostOutcome,
    Unchanged,
)
from tests.fleet.documents import manifest, part, section

SECOND_NS = 1_000_000_000
DAY_NS = 24 * 3600 * SECOND_NS
# 2026-01-01T00:00:00Z: the tests' clock begins here.
T0_NS = 1_767_225_600 * SECOND_NS


def at(ns: int) -> str:
    """The timestamp of a moment."""
    return canonical.timestamp(ns)


@dataclass
class Fleet:
    """A store and a clock that moves on by one second whenever something is done."""

    store: Store
    now_ns: int = T0_NS
    hosts: int = 0
    seqs: dict[str, int] = field(default_factory=dict)

    def tick(self, ns: int = SECOND_NS) -> int:
        self.now_ns += ns
        return self.now_ns

    def token(self, *, uses: int = 1, ttl_ns: int = DAY_NS, group: str | None = None) -> str:
        """The hash of a new token."""
        sha256 = token_digest(new_token())
        now_ns = self.tick()
        token = NewToken(sha256=sha256, uses_max=uses, expires_at=at(now_ns + ttl_ns), group=group)
        self.store.add_token(token, actor="operator:test", now_ns=now_ns).result()
        return sha256

    def applicant(self, token: str, number: int | None = None) -> Applicant:
        if number is None:
            self.hosts += 1
            number = self.hosts
        key = number.to_bytes(32, "big")
        return Applicant(token_sha256=token, public_key=key, hostname=f"web{number}", machine_id_sha256=None)

    def enroll(self, applicant: Applicant) -> Enrolled | EnrolmentRefused:
        return self.store.enroll(applicant, origin="127.0.0.1", now_ns=self.tick()).result()

    def host(self, *, group: str | None = None) -> str:
        """A new host's id."""
        outcome = self.enroll(self.applicant(self.token(group=group)))
        assert isinstance(outcome, Enrolled)
        return outcome.host_id

    def upload(self, host_id: str, body: bytes, *, lease_ns: int = DAY_NS) -> bool:
        now_ns = self.tick()
        digest = canonical.digest(body)
        return self.store.put_part(
            host_id, digest, body, leased_until_ns=now_ns + lease_ns, now_ns=now_ns
        ).result()

    def post(self, host_id: str, seq: int, sections: dict[str, SectionState], **more: object) -> Post:
        """A post as the collector hands it over."""
        document = manifest(host_id, seq, sections, **more)
        return Post(
            host_id=host_id,
            manifest=document,
            manifest_bytes=canonical.encode(document),
            signature=b'{"algorithm":"ed25519"}',
            live=b"{}",
            received_ns=self.tick(),
            skew_ms=-250,
        )

    def say(self, host_id: str, sections: dict[str, SectionState], **more: object) -> PostOutcome:
        """What the store makes of the host's next state."""
        seq = self.seqs[host_id] = self.seqs.get(host_id, 0) + 1
        return self.store.put_state(self.post(host_id, seq, sections, **more)).result()

    def show(self, host_id: str, sections: dict[str, SectionState], *bodies: bytes) -> None:
        """Upload these parts and say this."""
        for body in bodies:
            assert self.upload(host_id, body)
        assert isinstance(self.say(host_id, sections), Accepted)

    def sections(self, host_id: str, moment: str | None = None) -> dict[str, SectionState]:
        (found,) = self.store.snapshots(at=moment, host_id=host_id)
        return found.sections


class StoreContract:
    """The suite. A subclass gives a fixture `store`."""

    @pytest.fixture
    def fleet(self, store: Store) -> Fleet:
        return Fleet(store)

    # -- tokens and hosts ----------------------------------------------------------------------------------

    def test_a_token_enrols_as_many_hosts_as_it_says(self, fleet: Fleet) -> None:
        """A token for two hosts that leaks afterwards is worth nothing."""
        # Given a token for two / When three ask / Then two are in
        token = fleet.token(uses=2)
        outcomes = [fleet.enroll(fleet.applicant(token)) for _ in range(3)]
        assert [type(outcome) for outcome in outcomes] == [Enrolled, Enrolled, EnrolmentRefused]
        assert outcomes[2] == EnrolmentRefused("used-up token")
        assert [found.uses for found in fleet.store.tokens()] == [2]

    def test_a_repeated_enrolment_is_the_same_host_and_no_second_use(self, fleet: Fleet) -> None:
        """An answer that was lost is asked for again."""
        token = fleet.token()
        applicant = fleet.applicant(token)
        first = fleet.enroll(applicant)
        again = fleet.enroll(applicant)
        assert isinstance(first, Enrolled)
        assert again == Enrolled(first.host_id, again=True)
        assert [found.uses for found in fleet.store.tokens()] == [1]

    @pytest.mark.parametrize("why", ["unknown token", "expired token", "revoked token"])
    def test_a_token_that_is_not_valid_enrols_nobody(self, fleet: Fleet, why: str) -> None:
        """Each reason is told apart for operators; the host learns none."""
        token = fleet.token(ttl_ns=10 * SECOND_NS)
        if why == "unknown token":
            token = token_digest(new_token())
        elif why == "expired token":
            fleet.tick(10 * SECOND_NS)
        else:
            assert fleet.store.revoke_token(1, actor="operator:test", now_ns=fleet.tick()).result()
        applicant = fleet.applicant(token)
        assert fleet.enroll(applicant) == EnrolmentRefused(why)  # type: ignore[arg-type]  # one of its literals
        assert fleet.store.host(applicant.host_id) is None

    def test_two_hosts_racing_for_one_use_do_not_both_get_in(self, fleet: Fleet) -> None:
        """A count that is read before it is written counts wrong."""
        token = fleet.token()
        racing = [
            fleet.store.enroll(fleet.applicant(token), origin="-", now_ns=fleet.tick()) for _ in range(8)
        ]
        wait(racing)
        assert sum(isinstance(future.result(), Enrolled) for future in racing) == 1

    def test_a_revoked_host_is_out_and_cannot_come_back_with_its_key(self, fleet: Fleet) -> None:
        """Revocation is of the key: a new token does not heal a stolen one."""
        # Given a host with a state
        token = fleet.token(uses=5)
        applicant = fleet.applicant(token)
        outcome = fleet.enroll(applicant)
        assert isinstance(outcome, Enrolled)
        host_id = outcome.host_id
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        before = at(fleet.now_ns)
        # When it is revoked
        assert fleet.store.revoke_host(host_id, actor="operator:test", now_ns=fleet.tick()).result()
        # Then it may say and upload nothing, is in no view of now, and no token lets its key in
        assert fleet.say(host_id, {}) == HostGone()
        assert not fleet.upload(host_id, part(2))
        assert fleet.store.snapshots() == []
        assert fleet.enroll(fleet.applicant(fleet.token(), number=1)) == EnrolmentRefused("revoked host")
        # And what it had said is still known
        assert fleet.sections(host_id, before) == {"libraries": section(local=part(1))}
        assert [change.kind for change in fleet.store.changes()] == ["appeared", "vanished"]

    def test_a_host_moves_to_another_group_with_another_token(self, fleet: Fleet) -> None:
        """The same key is the same host, with its history."""
        host_id = fleet.host(group="web")
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        moved = fleet.enroll(fleet.applicant(fleet.token(group="db"), number=1))
        assert moved == Enrolled(host_id, again=False)
        (found,) = fleet.store.snapshots()
        assert (found.host.group, set(found.sections)) == ("db", {"libraries"})

    # -- states --------------------------------------------------------------------------------------------

    def test_what_a_host_says_is_what_is_read_back(self, fleet: Fleet) -> None:
        """Every member of a section's state survives, also those that say why something was not seen."""
        host_id = fleet.host(group="web")
        said = {
            "certificates": section(local=part(1), vendor=part(2), detector=3),
            "libraries": section(
                vendor=part(3),
                status="partial",
                reason="2 not permitted",
                skipped={"denied": 2, "too_large": 1},
                examples=("/root/a", "/root/b"),
            ),
            "observed_files": section(status="absent", reason="no BTF", sampled=True),
            "processes": section(sampled=True, rung="maps", rung_reason="PROCMAP_QUERY needs Linux 6.11"),
            "host": section(status="failed", reason="bug in scanner"),
        }
        fleet.show(host_id, said, part(1), part(2), part(3))
        (found,) = fleet.store.snapshots()
        assert found.sections == said
        assert found.last_seen == at(fleet.now_ns)
        assert (found.host.name, found.host.group, found.host.seq, found.host.skew_ms) == (
            "web1",
            "web",
            1,
            -250,
        )
        assert fleet.store.part(canonical.digest(part(1))) == part(1)
        assert fleet.store.part(canonical.digest(b"nothing")) is None

    def test_the_manifest_is_kept_to_the_byte(self, fleet: Fleet) -> None:
        """Its signature must verify years later."""
        host_id = fleet.host()
        post = fleet.post(host_id, 1, {"libraries": section()})
        # Given bytes that are no canonical form, with a member we do not know
        odd = post.manifest_bytes[:-1] + b', "future": {"z": 1, "a": [ ]}}'
        post = Post(
            **{name: getattr(post, name) for name in post.__struct_fields__} | {"manifest_bytes": odd}
        )
        assert fleet.store.put_state(post).result() == Accepted(1)
        assert fleet.store.manifest(host_id) == (odd, b'{"algorithm":"ed25519"}')

    def test_an_unchanged_state_moves_only_when_the_host_was_seen(self, fleet: Fleet) -> None:
        """The common case is cheap and leaves no history."""
        host_id = fleet.host()
        state = {"libraries": section(local=part(1))}
        fleet.show(host_id, state, part(1))
        history = fleet.store.changes()
        assert fleet.say(host_id, state) == Unchanged(2)
        (found,) = fleet.store.snapshots()
        assert (found.last_seen, found.host.seq) == (at(fleet.now_ns), 2)
        assert fleet.store.changes() == history

    def test_new_labels_are_kept_though_the_sections_are_the_same(self, fleet: Fleet) -> None:
        """Unchanged sections must not hide that the host is called otherwise now."""
        host_id = fleet.host()
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        outcome = fleet.say(
            host_id, {"libraries": section(local=part(1))}, hostname="db1", labels={"env": "prod"}
        )
        assert outcome == Unchanged(2)
        (found,) = fleet.store.snapshots()
        assert (found.host.name, found.host.labels) == ("db1", {"env": "prod"})

    def test_the_same_post_gets_the_same_answer_and_changes_nothing(self, fleet: Fleet) -> None:
        """A reply that was lost is asked for again, after a change as after none."""
        host_id = fleet.host()
        fleet.upload(host_id, part(1))
        state = {"libraries": section(local=part(1))}
        for seq, outcome in ((1, Accepted(1)), (2, Unchanged(2))):
            post = fleet.post(host_id, seq, state)
            assert fleet.store.put_state(post).result() == outcome
            before = fleet.store.snapshots()
            assert fleet.store.put_state(post).result() == outcome
            assert fleet.store.snapshots() == before

    def test_an_overtaken_or_other_state_of_the_same_number_is_refused(self, fleet: Fleet) -> None:
        """The host's own count orders; two states with one number cannot both be right."""
        host_id = fleet.host()
        assert fleet.store.put_state(fleet.post(host_id, 7, {"libraries": section()})).result() == Accepted(7)
        before = fleet.store.snapshots()
        assert fleet.store.put_state(fleet.post(host_id, 6, {})).result() == Ahead(7)
        assert fleet.store.put_state(fleet.post(host_id, 7, {})).result() == Ahead(7)
        assert fleet.store.snapshots() == before

    def test_a_state_whose_parts_are_not_all_here_is_not_taken_at_all(self, fleet: Fleet) -> None:
        """No half-updated host."""
        host_id = fleet.host()
        fleet.upload(host_id, part(1))
        said = {"libraries": section(local=part(1)), "certificates": section(local=part(2), vendor=part(3))}
        missing = Missing(tuple(sorted([canonical.digest(part(2)), canonical.digest(part(3))])))
        assert fleet.store.put_state(fleet.post(host_id, 1, said)).result() == missing
        assert fleet.sections(host_id) == {}
        fleet.upload(host_id, part(2))
        fleet.upload(host_id, part(3))
        assert fleet.store.put_state(fleet.post(host_id, 1, said)).result() == Accepted(1)

    def test_a_part_of_another_host_is_missing_until_it_is_shown(self, fleet: Fleet) -> None:
        """A digest is no proof of having the content."""
        one, other = fleet.host(), fleet.host()
        fleet.show(one, {"libraries": section(local=part(1))}, part(1))
        assert fleet.say(other, {"libraries": section(local=part(1))}) == Missing(
            (canonical.digest(part(1)),)
        )
        fleet.show(other, {"libraries": section(local=part(1))}, part(1))

    def test_a_host_may_go_back_to_what_it_had(self, fleet: Fleet) -> None:
        """What it referred to once it has shown once."""
        host_id = fleet.host()
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        fleet.show(host_id, {"libraries": section(local=part(2))}, part(2))
        assert fleet.say(host_id, {"libraries": section(local=part(1))}) == Accepted(3)

    def test_a_whole_document_brings_its_parts(self, fleet: Fleet) -> None:
        """Hand-carried documents need no upload before."""
        host_id = fleet.host()
        post = fleet.post(host_id, 1, {"libraries": section(local=part(1), vendor=part(2))})
        bodies = {canonical.digest(body): body for body in (part(1), part(2))}
        whole = Post(**{name: getattr(post, name) for name in post.__struct_fields__} | {"parts": bodies})
        assert fleet.store.put_state(whole).result() == Accepted(1)
        assert fleet.store.part(canonical.digest(part(2))) == part(2)

    def test_what_a_host_could_not_deliver_is_recorded_once(self, fleet: Fleet) -> None:
        """The agent forgets its losses once they were told, whether or not anything else had changed."""
        host_id = fleet.host()
        told = b'{"spool":{"replaced":3}}'
        for seq in (1, 2):
            post = fleet.post(host_id, seq, {"host": section()})
            fields = {name: getattr(post, name) for name in post.__struct_fields__}
            outcome = fleet.store.put_state(Post(**fields | {"live": told})).result()
            # A lost answer is asked for again, and is no second loss.
            assert fleet.store.put_state(Post(**fields | {"live": told})).result() == outcome
        losses = [record for record in fleet.store.audit() if record.action == "losses-told"]
        assert [record.detail for record in losses] == ['{"losses":{"replaced":3}}'] * 2
        assert {record.subject for record in losses} == {f"host:{host_id}"}

    def test_two_states_at_once_leave_one_whole_state(self, fleet: Fleet) -> None:
        """A host that posts twice at the same moment ends with the later number, not with a mixture."""
        host_id = fleet.host()
        for number in range(20):
            fleet.upload(host_id, part(number))
        posts = [
            fleet.post(
                host_id, seq, {"libraries": section(local=part(seq)), "host": section(local=part(seq))}
            )
            for seq in range(1, 20)
        ]
        futures = [fleet.store.put_state(post) for post in reversed(posts)]
        outcomes = [future.result() for future in futures]
        assert outcomes[0] == Accepted(19)
        assert set(outcomes[1:]) == {Ahead(19)}
        assert fleet.sections(host_id) == {name: section(local=part(19)) for name in ("host", "libraries")}

    # -- history -------------------------------------------------------------------------------------------

    def test_every_earlier_state_can_be_read_as_it_was(self, fleet: Fleet) -> None:
        """What changed between then and now is the product's question."""
        host_id = fleet.host()
        states: list[dict[str, SectionState]] = [
            {"libraries": section(local=part(1))},
            {"libraries": section(local=part(2)), "host": section(local=part(1))},
            {"libraries": section(local=part(2), status="partial", reason="denied", skipped={"denied": 1})},
            {"libraries": section(status="failed", reason="no")},
            {"libraries": section(local=part(1))},
        ]
        moments = [at(fleet.now_ns)]
        for state in states:
            for body in (part(1), part(2)):
                fleet.upload(host_id, body)
            assert isinstance(fleet.say(host_id, state), Accepted)
            moments.append(at(fleet.now_ns))
        assert [fleet.sections(host_id, moment) for moment in moments] == [{}, *states]
        assert fleet.sections(host_id) == states[-1]
        # A microsecond before a change it was still as before.
        assert fleet.sections(host_id, at(fleet.now_ns - 1000)) == states[-2]

    def test_a_failed_section_does_not_show_what_was_known_before(self, fleet: Fleet) -> None:
        """Silence is not health: the last known parts must not look current."""
        host_id = fleet.host()
        fleet.show(host_id, {"certificates": section(local=part(1))}, part(1))
        assert isinstance(
            fleet.say(host_id, {"certificates": section(status="failed", reason="no")}), Accepted
        )
        found = fleet.sections(host_id)["certificates"]
        assert (found.status, found.reason, found.parts.vendor, found.parts.local) == (
            "failed",
            "no",
            None,
            None,
        )

    def test_a_section_that_is_no_longer_sent_is_gone_now_and_there_then(self, fleet: Fleet) -> None:
        """A scanner that was switched off leaves no stale rows."""
        host_id = fleet.host()
        fleet.show(host_id, {"libraries": section(local=part(1)), "host": section()}, part(1))
        before = at(fleet.now_ns)
        assert isinstance(fleet.say(host_id, {"host": section()}), Accepted)
        assert set(fleet.sections(host_id)) == {"host"}
        assert set(fleet.sections(host_id, before)) == {"host", "libraries"}

    def test_changes_say_what_led_from_what_to_what(self, fleet: Fleet) -> None:
        """A feed with a cursor: who has read up to here reads on from here."""
        host_id = fleet.host()
        for body in (part(1), part(2)):
            fleet.upload(host_id, body)
        first = section(local=part(1))
        steps = [
            first,
            section(local=part(2)),
            section(local=part(2), status="partial", reason="denied"),
            section(local=part(2), detector=2),
        ]
        for state in steps:
            fleet.say(host_id, {"libraries": state})
        fleet.say(host_id, {})
        found = fleet.store.changes()
        kinds = ["appeared", "content", "status", "detector", "vanished"]
        assert [change.kind for change in found] == kinds
        assert [(change.old, change.new) for change in found] == list(
            zip([None, *steps], [*steps, None], strict=True)
        )
        assert [change.cursor for change in found] == sorted({change.cursor for change in found})
        assert fleet.store.changes(after=found[1].cursor, limit=2) == found[2:4]
        assert fleet.store.changes(host_id="h-" + "0" * 32) == []

    def test_a_server_clock_set_back_does_not_disorder_history(self, fleet: Fleet) -> None:
        """Intervals never overlap and never end before they begin, whatever our own clock does."""
        host_id = fleet.host()
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        fleet.tick(-3600 * SECOND_NS)
        fleet.show(host_id, {"libraries": section(local=part(2))}, part(2))
        fleet.show(host_id, {"libraries": section(local=part(3))}, part(3))
        assert fleet.sections(host_id) == {"libraries": section(local=part(3))}
        moments = [change.at for change in fleet.store.changes()]
        assert moments == sorted(set(moments))

    def test_a_host_was_last_seen_when_it_was_and_not_later(self, fleet: Fleet) -> None:
        """A view of a moment in a long silence says since when there was silence."""
        host_id = fleet.host()
        before = at(fleet.now_ns)
        state = {"libraries": section()}
        fleet.say(host_id, state)
        seen = at(fleet.now_ns)
        silent = at(fleet.tick(5 * DAY_NS))
        fleet.tick(5 * DAY_NS)
        fleet.say(host_id, state)
        fleet.tick(3600 * SECOND_NS)
        between = at(fleet.now_ns)
        fleet.tick(3600 * SECOND_NS)
        fleet.say(host_id, state)
        answers = [self._last_seen(fleet, moment) for moment in (before, seen, silent, between, None)]
        assert answers == [None, seen, seen, between, at(fleet.now_ns)]

    def _last_seen(self, fleet: Fleet, moment: str | None) -> str | None:
        (found,) = fleet.store.snapshots(at=moment)
        return found.last_seen

    def test_a_host_is_not_there_before_it_was_enrolled(self, fleet: Fleet) -> None:
        """A fleet then had the hosts of then."""
        before = at(fleet.now_ns)
        host_id = fleet.host()
        assert fleet.store.snapshots(at=before) == []
        assert [found.host.host_id for found in fleet.store.snapshots(at=at(fleet.now_ns))] == [host_id]

    # -- upkeep --------------------------------------------------------------------------------------------

    def test_only_what_nothing_refers_to_is_collected(self, fleet: Fleet) -> None:
        """Uploads are kept for their lease, then thrown away; what a state refers to stays."""
        host_id, other = fleet.host(), fleet.host()
        fleet.show(host_id, {"libraries": section(local=part(1))}, part(1))
        fleet.upload(host_id, part(2), lease_ns=60 * SECOND_NS)
        fleet.upload(host_id, part(3), lease_ns=60 * SECOND_NS)
        fleet.upload(other, part(3), lease_ns=600 * SECOND_NS)
        fleet.upload(other, part(1), lease_ns=60 * SECOND_NS)

        def collect() -> Garbage:
            return fleet.store.collect_garbage(now_ns=fleet.now_ns).result()

        assert collect() == Garbage()
        fleet.tick(100 * SECOND_NS)
        assert collect() == Garbage(leases=3, parts=1, bytes=len(part(2)))
        kept = [number for number in (1, 2, 3) if fleet.store.part(canonical.digest(part(number)))]
        assert kept == [1, 3]
        # And the leases are gone with it: what one uploaded in vain is missing again.
        assert fleet.say(other, {"libraries": section(local=part(1))}) == Missing(
            (canonical.digest(part(1)),)
        )

    def test_garbage_is_collected_in_batches(self, fleet: Fleet) -> None:
        """A long collection would make posts wait."""
        host_id = fleet.host()
        for number in range(7):
            fleet.upload(host_id, part(number), lease_ns=SECOND_NS)
        fleet.tick(DAY_NS)
        taken = [fleet.store.collect_garbage(now_ns=fleet.now_ns, batch=3).result().leases for _ in range(4)]
        assert taken == [3, 3, 1, 0]

    def test_the_audit_log_says_who_did_what_and_holds_no_token(self, fleet: Fleet) -> None:
        """Also what was refused."""
        token = fleet.token(group="web")
        host = fleet.enroll(fleet.applicant(token))
        assert isinstance(host, Enrolled)
        fleet.enroll(fleet.applicant(token))
        fleet.enroll(fleet.applicant(token_digest("cft_wrong")))
        fleet.store.revoke_token(1, actor="operator:eve", now_ns=fleet.tick()).result()
        fleet.store.revoke_host(host.host_id, actor="operator:eve", now_ns=fleet.tick()).result()
        found = fleet.store.audit()
        assert [(record.action, record.subject) for record in found] == [
            ("token-created", "token:1"),
            ("enrolled", "token:1"),
            ("enrolment-refused", "token:1"),
            ("enrolment-refused", "token"),
            ("token-revoked", "token:1"),
            ("host-revoked", f"host:{host.host_id}"),
        ]
        assert '"reason":"used-up token"' in found[2].detail
        assert token not in "".join(record.detail for record in found)
        assert fleet.store.check_audit() is None

    def test_a_write_check_says_nothing_when_all_is_well(self, fleet: Fleet) -> None:
        """Readiness is asked often; it must not grow anything."""
        for _ in range(3):
            assert fleet.store.check_writable(now_ns=fleet.tick()).result() is None

    def test_many_posts_at_once_are_all_taken(self, fleet: Fleet) -> None:
        """Posts share transactions; none may be lost or mixed with another."""
        hosts = [fleet.host() for _ in range(40)]
        for number, host_id in enumerate(hosts):
            fleet.upload(host_id, part(number))
        futures = [
            fleet.store.put_state(fleet.post(host_id, 1, {"libraries": section(local=part(number))}))
            for number, host_id in enumerate(hosts)
        ]
        assert {type(future.result()) for future in futures} == {Accepted}
        found = {
            snapshot.host.host_id: snapshot.sections["libraries"] for snapshot in fleet.store.snapshots()
        }
        assert found == {host_id: section(local=part(number)) for number, host_id in enumerate(hosts)}
