# SPDX-License-Identifier: Apache-2.0
"""How do we call libbpf? A typed binding through ctypes; its failures become BpfError, with its own words.

libbpf does the part that is hard to do right (ELF, BTF, CO-RE relocation, tracefs); it is not on the path of
events. Version 1.0 or newer is needed, as every distribution since 2022 has it. Source: bpf/libbpf.h of
libbpf 1.1.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import sys
from collections import deque
from collections.abc import Iterator
from typing import Literal

from agent import errors

SONAME = "libbpf.so.1"
# What libbpf says in one step; 64 messages hold the whole story of an object with many programs.
MESSAGES_MAX = 64
# One message is as large as the verifier's log, which libbpf lets grow to 16 MiB before it gives up (E2BIG).
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
# What we keep of it: the reason is at its end.
MESSAGE_BYTES_KEPT = 64 * 1024

Step = Literal["open", "prepare", "load", "attach", "read", "write"]
Pointer = int

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_LEVEL_DEBUG = 2
# What libbpf puts before a verifier's log; put back where only the end of a log is kept.
_LOG_BEGIN = "libbpf: -- BEGIN PROG LOAD LOG --\n"
# Sentences of libbpf that follow the one with the reason.
_GENERAL = ("failed to load object", "failed to load: -")

# name: (result, arguments). Pointers are c_void_p: libbpf's structures are opaque to us.
_P, _I, _S, _Z = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
_FUNCTIONS = {
    "bpf_object__open_mem": (_P, [_P, _Z, _P]),
    "bpf_object__load": (_I, [_P]),
    "bpf_object__close": (None, [_P]),
    "bpf_object__next_program": (_P, [_P, _P]),
    "bpf_object__next_map": (_P, [_P, _P]),
    "bpf_program__name": (_S, [_P]),
    "bpf_program__set_autoload": (_I, [_P, ctypes.c_bool]),
    "bpf_program__fd": (_I, [_P]),
    "bpf_program__attach": (_P, [_P]),
    "bpf_link__destroy": (_I, [_P]),
    "bpf_link__fd": (_I, [_P]),
    "bpf_iter_create": (_I, [_I]),
    "bpf_map__name": (_S, [_P]),
    "bpf_map__fd": (_I, [_P]),
    "bpf_map__set_max_entries": (_I, [_P, ctypes.c_uint32]),
    "bpf_map__max_entries": (ctypes.c_uint32, [_P]),
    "bpf_map__set_autocreate": (_I, [_P, ctypes.c_bool]),
    "bpf_map__initial_value": (_P, [_P, ctypes.POINTER(_Z)]),
    "bpf_map_lookup_elem": (_I, [_I, _P, _P]),
    "bpf_map_update_elem": (_I, [_I, _P, _P, ctypes.c_uint64]),
    "bpf_map_get_next_key": (_I, [_I, _P, _P]),
    "libbpf_num_possible_cpus": (_I, []),
    "libbpf_set_print": (_P, [_PRINT]),
}


class _OpenOptions(ctypes.Structure):
    """The head of struct bpf_object_open_opts; `sz` tells libbpf how much of it we know."""

    _fields_ = [("sz", ctypes.c_size_t), ("object_name", ctypes.c_char_p)]


class BpfError(errors.KernelError):
    """One step with one object or program failed.

    Attributes:
        step: what was being done.
        program: which one, or None when it was the object as a whole.
        number: errno.
        reason: errno's name and the last thing that the verifier, or else libbpf, said.
        log: everything that was said.
    """

    def __init__(self, step: Step, what: str, program: str | None, number: int, log: str) -> None:
        name = errno.errorcode.get(number, str(number))
        said = last_words(log)
        self.reason = f"{name}: {said}" if said else f"{name}: {os.strerror(number)}"
        super().__init__(f"cannot {step} {what}{f' program {program}' if program else ''}: {self.reason}")
        self.step = step
        self.program = program
        self.number = number
        self.log = log


def last_words(log: str) -> str:
    """The line of libbpf's or the verifier's messages that says why; empty when there is none.

    The verifier's log ends with a count of instructions, libbpf's messages with general sentences about the
    object: the reason stands before them.
    """
    said = ""
    verifier = ""
    is_verifier = False
    for line in log.splitlines():
        if line.startswith("libbpf: "):
            is_verifier = line.endswith("BEGIN PROG LOAD LOG --")
            if not is_verifier and not any(general in line for general in _GENERAL):
                said = line.removeprefix("libbpf: ").strip()
        elif line.startswith("-- END PROG LOAD LOG"):
            is_verifier = False
        elif is_verifier and line.strip() and not line.startswith("processed "):
            verifier = line.strip()
    return verifier or said


class Library:
    """libbpf, loaded. One per process: it has one print function for all callers, and we keep its words."""

    def __init__(self) -> None:
        path = SONAME
        bundle = getattr(sys, "_MEIPASS", None)
        if bundle is not None and os.path.exists(os.path.join(bundle, SONAME)):
            # The frozen file carries its own, tested together with the objects.
            path = os.path.join(bundle, SONAME)
        try:
            self._c = ctypes.CDLL(path, use_errno=True)
            for name, (result, arguments) in _FUNCTIONS.items():
                function = getattr(self._c, name)
                function.restype = result
                function.argtypes = arguments
        except (OSError, AttributeError) as error:
            raise errors.AttachError(
                f"{SONAME} (1.0 or newer) cannot be used: {error}; install the package libbpf1 or libbpf"
            ) from error
        self._messages: deque[str] = deque(maxlen=MESSAGES_MAX)
        libc = ctypes.CDLL(None)
        # Anonymous memory: pages that no message ever reaches cost nothing.
        self._page = mmap.mmap(-1, MESSAGE_BYTES_MAX)
        buffer = (ctypes.c_char * MESSAGE_BYTES_MAX).from_buffer(self._page)

        def keep(level: int, form: bytes, arguments: int) -> int:
            # A va_list parameter is one pointer in the calling conventions of x86-64 and arm64, so it can be
            # passed on.
            if level < _LEVEL_DEBUG:
                length = libc.vsnprintf(
                    buffer, ctypes.c_size_t(MESSAGE_BYTES_MAX), form, ctypes.c_void_p(arguments)
                )
                end = max(0, min(length, MESSAGE_BYTES_MAX - 1))
                message = self._page[max(0, end - MESSAGE_BYTES_KEPT) : end].decode("utf-8", "replace")
                self._messages.append(message if end <= MESSAGE_BYTES_KEPT else _LOG_BEGIN + message)
            return 0

        # Kept as an attribute: libbpf holds only the address.
        self._keep = _PRINT(keep)
        self._c.libbpf_set_print(self._keep)

    @staticmethod
    @functools.cache
    def shared() -> Library:
        """The process's one instance. Raises AttachError."""
        return Library()

    def _begin(self) -> None:
        self._messages.clear()
        ctypes.set_errno(0)

    def _failure(self, step: Step, what: str, program: str | None = None, result: int = 0) -> BpfError:
        number = -result if result < 0 else ctypes.get_errno()
        return BpfError(step, what, program, number, "".join(self._messages))

    # -- objects ---------------------------------------------------------------------------------------------

    def open_object(self, image: bytes, name: str) -> Pointer:
        """Parse an object. The image must live as long as the object. Raises BpfError."""
        self._begin()
        options = _OpenOptions(ctypes.sizeof(_OpenOptions), name.encode())
        opened = self._c.bpf_object__open_mem(image, len(image), ctypes.byref(options))
        if not opened:
            raise self._failure("open", name)
        return int(opened)

    def load_object(self, opened: Pointer, name: str) -> None:
        """Create the maps and put the programs through the verifier. Raises BpfError."""
        self._begin()
        result = self._c.bpf_object__load(opened)
        if result:
            raise self._failure("load", name, result=result)

    def close_object(self, opened: Pointer) -> None:
        """Free it, its maps and its programs; what is attached stays so until its link is destroyed."""
        self._c.bpf_object__close(opened)

    # -- programs --------------------------------------------------------------------------------------------

    def programs(self, opened: Pointer) -> dict[str, Pointer]:
        """Programs of an object by name, in the order of its file."""
        return dict(self._walk(opened, "program"))

    def set_autoload(self, program: Pointer, *, autoload: bool) -> None:
        """Whether loading the object loads this program."""
        self._c.bpf_program__set_autoload(program, autoload)

    def program_fd(self, program: Pointer) -> int:
        """File descriptor of a loaded program."""
        return int(self._c.bpf_program__fd(program))

    def attach(self, program: Pointer, what: str, name: str) -> Pointer:
        """Attach a program as its section says; returns its link. Raises BpfError."""
        self._begin()
        link = self._c.bpf_program__attach(program)
        if not link:
            raise self._failure("attach", what, name)
        return int(link)

    def destroy_link(self, link: Pointer) -> None:
        """Detach: no call begins to run the program after this; one that had begun ends in microseconds."""
        self._c.bpf_link__destroy(link)

    def open_iterator(self, link: Pointer, what: str, name: str) -> int:
        """A descriptor to read an attached iterator from once, the caller's to close. Raises BpfError."""
        self._begin()
        fd = int(self._c.bpf_iter_create(self._c.bpf_link__fd(link)))
        if fd < 0:
            raise self._failure("read", what, name, result=fd)
        return fd

    # -- maps ------------------------------------------------------------------------------------------------

    def maps(self, opened: Pointer) -> dict[str, Pointer]:
        """Maps of an object by name; .rodata has the object's name before it."""
        return dict(self._walk(opened, "map"))

    def map_fd(self, of_map: Pointer) -> int:
        """File descriptor of a map of a loaded object."""
        return int(self._c.bpf_map__fd(of_map))

    def set_max_entries(self, of_map: Pointer, entries: int, what: str) -> None:
        """Size of a map, before loading. Raises BpfError."""
        self._begin()
        result = self._c.bpf_map__set_max_entries(of_map, entries)
        if result:
            raise self._failure("prepare", what, result=result)

    def max_entries(self, of_map: Pointer) -> int:
        """Size of a map."""
        return int(self._c.bpf_map__max_entries(of_map))

    def set_autocreate(self, of_map: Pointer, *, autocreate: bool) -> None:
        """Whether loading the object creates this map."""
        self._c.bpf_map__set_autocreate(of_map, autocreate)

    def initial_value(self, of_map: Pointer) -> ctypes.Array[ctypes.c_char]:
        """The bytes that a data section will have when the object is loaded; writable."""
        size = ctypes.c_size_t()
        address = self._c.bpf_map__initial_value(of_map, ctypes.byref(size))
        return (ctypes.c_char * size.value).from_address(address) if address else (ctypes.c_char * 0)()

    def lookup(self, fd: int, key: bytes, value_bytes: int) -> bytes | None:
        """Value of a key; None when it is not there. Raises BpfError."""
        value = ctypes.create_string_buffer(value_bytes)
        self._begin()
        result = self._c.bpf_map_lookup_elem(fd, key, value)
        if result == -errno.ENOENT:
            return None
        if result:
            raise self._failure("read", "a map", result=result)
        return value.raw

    def update(self, fd: int, key: bytes, value: bytes) -> None:
        """Put a value under a key. Raises BpfError."""
        self._begin()
        result = self._c.bpf_map_update_elem(fd, key, value, 0)
        if result:
            raise self._failure("write", "a map", result=result)

    def keys(self, fd: int, key_bytes: int) -> Iterator[bytes]:
        """Keys of a map in no order; one may come twice, when another vanishes meanwhile."""
        key = None
        following = ctypes.create_string_buffer(key_bytes)
        while self._c.bpf_map_get_next_key(fd, key, following) == 0:
            key = following.raw
            yield key

    def possible_cpus(self) -> int:
        """CPUs that a per-CPU map has a value for, which may be more than there are."""
        return int(self._c.libbpf_num_possible_cpus())

    def _walk(self, opened: Pointer, kind: str) -> Iterator[tuple[str, Pointer]]:
        following = getattr(self._c, f"bpf_object__next_{kind}")
        name = getattr(self._c, f"bpf_{kind}__name")
        found = None
        while found := following(opened, found):
            yield name(found).decode(), int(found)
