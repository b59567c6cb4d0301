# SPDX-License-Identifier: Apache-2.0
"""Would this kernel take our programs from this process? Asked with the smallest programs that tell.

Names of capabilities and files of configuration do not answer it: a container's root has every capability of
its own user namespace and none here, a seccomp filter says no to bpf(2) whoever asks, and lockdown to some
programs and not to others. Nothing is attached, and what was loaded is closed at once: no process of the host
notices.

Source: bpf(2); Linux include/uapi/linux/bpf.h (union bpf_attr, struct bpf_insn).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

# glibc has no wrapper for bpf(2). Sources: the tables arch/*/*/syscall*.tbl of the first, and
# include/uapi/asm-generic/unistd.h for the last three.
_BPF = {
    "x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361,
    "aarch64": 280, "riscv64": 280, "loongarch64": 280,
}  # fmt: skip

_MAP_CREATE, _PROG_LOAD = 0, 5
_MAP_TYPE_RINGBUF = 27
_PROG_TYPE_TRACEPOINT = 5
_FUNC_PROBE_READ_KERNEL = 113
# union bpf_attr grows with each kernel; what a kernel does not know must be 0, so we give what we set.
# map_type, key_size, value_size, max_entries, map_flags
_MAP_ATTR = struct.Struct("=5I")
# prog_type, insn_cnt, insns, license, log_level, log_size, log_buf, kern_version, prog_flags
_PROG_ATTR = struct.Struct("=2I2Q2IQ2I")
_LICENSE = b"GPL"

# code, registers (destination in the low four bits, source in the high), offset, immediate
_INSTRUCTION = struct.Struct("<BBhi")
_MOV_IMMEDIATE, _MOV, _ADD_IMMEDIATE, _CALL, _EXIT = 0xB7, 0xBF, 0x07, 0x85, 0x95

_NOTHING = ((_MOV_IMMEDIATE, 0, 0, 0), (_EXIT, 0, 0, 0))
_READS_KERNEL = (
    (_MOV, 0xA1, 0, 0),  # r1 = r10, the frame
    (_ADD_IMMEDIATE, 1, 0, -8),  # r1 -= 8
    (_MOV_IMMEDIATE, 2, 0, 8),  # r2 = 8
    (_MOV_IMMEDIATE, 3, 0, 0),  # r3 = 0
    (_CALL, 0, 0, _FUNC_PROBE_READ_KERNEL),
    *_NOTHING,
)


def load_program() -> str | None:
    """Load a tracepoint program that does nothing; None where the kernel took it, else what it said.

    It needs CAP_BPF and CAP_PERFMON in the initial user namespace, and nobody who filters bpf(2).
    """
    return _load(_NOTHING)


def load_kernel_reader() -> str | None:
    """The same with one that reads the kernel's memory, which lockdown may forbid (kernel_lockdown(7))."""
    return _load(_READS_KERNEL)


def create_ring(size: int) -> str | None:
    """Make a ring buffer (Linux 5.8) of so many bytes, a power of 2; None where the kernel did.

    Before Linux 5.11 its memory counts against RLIMIT_MEMLOCK.
    """
    return _bpf(_MAP_CREATE, _MAP_ATTR.pack(_MAP_TYPE_RINGBUF, 0, 0, size, 0))


def _load(instructions: tuple[tuple[int, int, int, int], ...]) -> str | None:
    code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*one) for one in instructions))
    words = ctypes.create_string_buffer(_LICENSE)
    return _bpf(
        _PROG_LOAD,
        _PROG_ATTR.pack(
            _PROG_TYPE_TRACEPOINT,
            len(instructions),
            ctypes.addressof(code),
            ctypes.addressof(words),
            *(0, 0, 0, 0, 0),
        ),
    )


def _bpf(command: int, attributes: bytes) -> str | None:
    """bpf(2): None where it worked, what it gave closed again; else the name of the error, and its words."""
    number = _BPF.get(os.uname().machine)
    if number is None or sys.byteorder != "little":
        return f"not tried on {os.uname().machine}"
    given = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(number, command, ctypes.byref(given), len(attributes))
    if fd < 0:
        failure = ctypes.get_errno()
        return f"{errno.errorcode.get(failure, str(failure))}, {os.strerror(failure).lower()}"
    os.close(fd)
    return None
