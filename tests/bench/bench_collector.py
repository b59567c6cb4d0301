# SPDX-License-Identifier: Apache-2.0
"""How many signed posts does one core of a collector take, over TLS, each durable before its answer?

`fleet serve` runs in a process of its own, held to one core; the senders run on the others. What they send
was made and signed before. Beside the rate by the clock stands the collector's own processor time per post,
which a busy machine disturbs less: its inverse is what the core takes when it does nothing else.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.model import canonical
from agent.model.inventory import SectionState
from fleet.config import DataDir
from tests.fleet.documents import manifest, part, section
from tests.fleet.running import Running, running
from tests.fleet.sender import Line, Sender

Row = tuple[str, str, str, str]

HOSTS = 16
ROUNDS = 3
UNCHANGED = 80
CHANGED = 30
# What a host of ours says: eight sections, most of them with both parts.
SHARED = [part(*range(1000 * number, 1000 * number + 20)) for number in range(12)]


@dataclass
class Poster:
    """One host with its connection and the requests it will send."""

    sender: Sender
    line: Line
    local: bytes
    seq: int = 0

    def state(self) -> bytes:
        """A signed request with the host's next state."""
        self.seq += 1
        sections: dict[str, SectionState] = {
            f"section_{number}": section(vendor=SHARED[number], local=SHARED[number + 4], rung="maps")
            for number in range(7)
        }
        sections["certificates"] = section(vendor=SHARED[11], local=self.local)
        body = self.sender.state(manifest(self.sender.host_id, self.seq, sections))
        return self.sender.request("PUT", f"/v1/hosts/{self.sender.host_id}/state", body)

    def part(self, body: bytes) -> bytes:
        """A signed request that uploads a part."""
        return self.sender.request("PUT", f"/v1/parts/{canonical.digest(body)}", body)

    def send(self, requests: list[tuple[bytes, int]]) -> None:
        """Send one after the other; each must be answered as expected."""
        for request, expected in requests:
            status = self.line.ask(request)
            if status != expected:
                raise RuntimeError(f"answered {status}, not {expected}")


@contextlib.contextmanager
def fleet(collector: Running) -> Iterator[list[Poster]]:
    """Hosts that have posted once, each on a connection that stays open."""
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(collector.client())
        token = collector.token(uses=HOSTS)
        posters = []
        for number in range(HOSTS):
            sender = Sender(client)
            sender.enroll(token).raise_for_status()
            line = stack.enter_context(contextlib.closing(Line(collector.url, collector.ca)))
            poster = Poster(sender, line, local=part(1_000_000 * (number + 1)))
            poster.send([(poster.part(body), 204) for body in [*SHARED, poster.local]])
            poster.send([(poster.state(), 200)])
            posters.append(poster)
        yield posters


def measure(
    collector: Running, batches: list[list[tuple[bytes, int]]], posters: list[Poster]
) -> tuple[float, float]:
    """All hosts send their batch at once: seconds by the clock, seconds of the collector's processor time."""
    failures: list[BaseException] = []

    def work(poster: Poster, batch: list[tuple[bytes, int]]) -> None:
        try:
            poster.send(batch)
        except (OSError, RuntimeError) as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(posters, batches, strict=True)]
    cpu_s, begin = _cpu_s(collector.process.pid), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - begin, _cpu_s(collector.process.pid) - cpu_s


def unchanged_batch(poster: Poster) -> list[tuple[bytes, int]]:
    """Posts that say what was said before."""
    return [(poster.state(), 204) for _ in range(UNCHANGED)]


def changed_batch(poster: Poster, number: int) -> list[tuple[bytes, int]]:
    """Posts with one new part each: refused for it, the part, and again. `number` begins what no host has."""
    batch = []
    for step in range(CHANGED):
        poster.local = part(number + step)
        state = poster.state()
        batch += [(state, 202), (poster.part(poster.local), 204), (state, 200)]
    return batch


def run() -> list[Row]:
    """Unchanged posts, and posts with one changed part, which are three requests."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder, running(DataDir(Path(folder) / "collector")) as collector:
        _hold_to_one_core(collector.process.pid)
        try:
            unchanged, changed = [], []
            with fleet(collector) as posters:
                for done in range(ROUNDS):
                    batches = [unchanged_batch(poster) for poster in posters]
                    unchanged.append(measure(collector, batches, posters))
                    batches = [
                        changed_batch(poster, 1_000_000 * (host + 1) + CHANGED * done + 1)
                        for host, poster in enumerate(posters)
                    ]
                    changed.append(measure(collector, batches, posters))
        finally:
            os.sched_setaffinity(0, cores)
    how = f"{HOSTS} hosts at once, 8 sections, TLS 1.3 keep-alive, fsync before each answer, {ROUNDS} rounds"
    return [
        *_rows("collector: unchanged posts", HOSTS * UNCHANGED, unchanged, how),
        *_rows("collector: posts with one new part (3 requests)", HOSTS * CHANGED, changed, how),
    ]


def _rows(what: str, count: int, rounds: list[tuple[float, float]], how: str) -> list[Row]:
    rates = [count / wall_s for wall_s, _ in rounds]
    costs = [1000 * cpu_s / count for _, cpu_s in rounds]
    return [
        (
            f"{what}, per second",
            f"{statistics.median(rates):.0f}",
            f"{min(rates):.0f}..{max(rates):.0f}",
            how,
        ),
        (
            f"{what}, CPU ms each",
            f"{statistics.median(costs):.2f}",
            f"{min(costs):.2f}..{max(costs):.2f}",
            how,
        ),
    ]


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _hold_to_one_core(pid: int) -> None:
    """The collector on one core, the senders on the others, where there are any."""
    cores = sorted(os.sched_getaffinity(0))
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores[:1])
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])
