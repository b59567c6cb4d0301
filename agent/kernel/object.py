# SPDX-License-Identifier: Apache-2.0
"""What is the life of one BPF object? Opened, set up, loaded, attached, detached, closed."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable, Collection, Iterator
from types import TracebackType
from typing import Self

from agent import errors
from agent.kernel.libbpf import BpfError, Library

# Our objects have 0.1 MB each; something else has been put there when it is larger than this.
IMAGE_BYTES_MAX = 4 * 1024 * 1024


def read_image(name: str) -> bytes:
    """The compiled object of a probe: from the frozen file, or from bpf/ of the checkout.

    Raises:
        AttachError: it was not compiled or not packaged.
    """
    roots = [
        getattr(sys, "_MEIPASS", None),
        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    ]
    places = [os.path.join(root, "bpf", f"{name}.bpf.o") for root in roots if root is not None]
    for place in places:
        try:
            with open(place, "rb") as file:
                return file.read(IMAGE_BYTES_MAX)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise errors.AttachError(f"cannot read {place}: {error.strerror}") from error
    raise errors.AttachError(f"{' and '.join(places)} not found; compile it with `make -C bpf`")


class BpfObject:
    """One object with its maps, programs and links. A context manager: leaving it detaches and frees all."""

    def __init__(self, library: Library, name: str, image: bytes) -> None:
        """Parse the image. Raises BpfError."""
        self.name = name
        self.attached: list[str] = []
        self._library = library
        self._image = image
        self._links: list[int] = []
        self._opened: int | None = library.open_object(image, name)
        self._programs = library.programs(self._opened)
        self._maps = library.maps(self._opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of its programs."""
        return tuple(self._programs)

    def set_settings(self, data: bytes) -> None:
        """Write .rodata, before loading.

        Raises:
            BpfError: the object's .rodata has another size, so it and this agent are not of one build.
        """
        values = [
            self._library.initial_value(found)
            for name, found in self._maps.items()
            if name.endswith(".rodata")
        ]
        sizes = [len(value) for value in values]
        if sizes != [len(data)]:
            said = f".rodata of {sizes} bytes, this agent writes {len(data)}: they are of different builds"
            raise BpfError("prepare", self.name, None, errno.EINVAL, f"libbpf: {said}")
        ctypes.memmove(values[0], data, len(data))

    def set_entries(self, name: str, entries: int) -> None:
        """How much a map holds, before loading: of a ring its bytes, a power of 2. Raises BpfError."""
        self._library.set_max_entries(self._maps[name], entries, self.name)

    def entries(self, name: str) -> int:
        """How much a map holds; of a ring its bytes."""
        return self._library.max_entries(self._maps[name])

    def leave_out(self, prefix: str) -> None:
        """Create none of the maps whose names begin so, which no program that is loaded may use."""
        for name, found in self._maps.items():
            if name.startswith(prefix):
                self._library.set_autocreate(found, autocreate=False)

    def load(self, programs: Collection[str] | None = None) -> None:
        """Put the named programs, or all, through the verifier. Only once for an object. Raises BpfError."""
        for name, program in self._programs.items():
            self._library.set_autoload(program, autoload=programs is None or name in programs)
        assert self._opened is not None, "an object is loaded before it is closed"
        self._library.load_object(self._opened, self.name)

    def attach(self, program: str) -> None:
        """Attach one program. Raises BpfError."""
        self._links.append(self._library.attach(self._programs[program], self.name, program))
        self.attached.append(program)

    def attach_once(self, program: str) -> None:
        """The same, unless it is attached. Raises BpfError."""
        if program not in self.attached:
            self.attach(program)

    def plug(self, program: str, name: str, index: int) -> None:
        """Have other programs of the object call this one, by an array of programs. Raises BpfError."""
        fd = self._library.program_fd(self._programs[program])
        self.put(name, index.to_bytes(4, sys.byteorder), fd.to_bytes(4, sys.byteorder))

    def open_iterator(self, program: str) -> int:
        """A descriptor to read an attached iterator from once, the caller's to close. Raises BpfError."""
        link = self._links[self.attached.index(program)]
        return self._library.open_iterator(link, self.name, program)

    def detach(self) -> None:
        """Detach all; maps and counters stay readable."""
        while self._links:
            self._library.destroy_link(self._links.pop())

    def close(self) -> None:
        """Detach all and free everything. Harmless the second time."""
        self.detach()
        if self._opened is not None:
            self._library.close_object(self._opened)
            self._opened = None

    def map_fd(self, name: str) -> int:
        """File descriptor of a map, after loading."""
        return self._library.map_fd(self._maps[name])

    def per_cpu(self, name: str, value_bytes: int, index: int = 0) -> list[bytes]:
        """One entry of a per-CPU array, one value for each possible CPU.

        Args:
            name: the map.
            value_bytes: size of a value, a multiple of 8.
            index: the entry.

        Raises:
            BpfError: the kernel refused.
        """
        cpus = self._library.possible_cpus()
        raw = (
            self._library.lookup(self.map_fd(name), index.to_bytes(4, sys.byteorder), value_bytes * cpus)
            or b""
        )
        return [raw[at : at + value_bytes] for at in range(0, len(raw), value_bytes)]

    def items(self, name: str, key_bytes: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a hash map, in no order. Raises BpfError."""
        fd = self.map_fd(name)
        for key in self._library.keys(fd, key_bytes):
            value = self._library.lookup(fd, key, value_bytes)
            if value is not None:
                yield key, value

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Set a value in a hash map. Raises BpfError."""
        self._library.update(self.map_fd(name), key, value)

    def missed(self, program: str) -> int:
        """Calls for which the kernel did not run a program, because another one was running on that CPU."""
        # fdinfo is our own descriptor's page, so no path of the host is touched.
        with open(
            f"/proc/self/fdinfo/{self._library.program_fd(self._programs[program])}", encoding="ascii"
        ) as page:
            return sum(int(line.split()[1]) for line in page if line.startswith("recursion_misses:"))


def load_willing(
    make: Callable[[], BpfObject], choose: Callable[[tuple[str, ...]], Collection[str]]
) -> tuple[BpfObject, dict[str, BpfError]]:
    """An object loaded with every wanted program that this kernel accepts, and why it refused the others.

    One refused program makes libbpf give up the whole object, and an object can be loaded only once. So in
    that case each program is tried alone in an object of its own, and then the accepted ones together.

    Args:
        make: opens the object and sets it up; called as often as needed.
        choose: which of its programs are wanted.

    Raises:
        BpfError: no program was accepted; the first one's.
    """
    whole = make()
    wanted = sorted(choose(whole.programs))
    try:
        whole.load(wanted)
        return whole, {}
    except BpfError:
        whole.close()
    refused: dict[str, BpfError] = {}
    for name in wanted:
        with make() as alone:
            try:
                alone.load((name,))
            except BpfError as error:
                refused[name] = error
    if len(refused) == len(wanted):
        raise next(iter(refused.values()))
    willing = make()
    try:
        willing.load([name for name in wanted if name not in refused])
    except BpfError:
        willing.close()
        raise
    return willing, refused
