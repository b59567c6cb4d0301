# SPDX-License-Identifier: Apache-2.0
"""How does a process give up all that it may do? In layers, each of which holds where the others are missing.

What is left is reading the descriptors that it is handed, computing, and answering on one socket. Every layer
says whether it holds, and why it does not: without root there is no other user to become, and under the unit
there is no CAP_SYS_ADMIN for a network of its own. System calls are filtered everywhere.

The filter is a list of numbers written here and a program of four kinds of instruction. Weighed instead: the
bindings of libseccomp (the kept ones are a few months old, the known one has had no release since 2021, and
all need a library that not every host has), and Landlock (knows files and TCP only, since 5.13, and restricts
nothing that this list allows). Strict mode (read, write, exit) leaves no way to get memory. The list changes
only when Python or its C library begins to need another call for pure computing, which a test shows.

Sources: prctl(2), seccomp(2), capabilities(7), credentials(7), include/uapi/linux/{filter,seccomp,audit}.h,
arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import resource
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

# Users that nobody is: above what distributions, systemd and user namespaces give away, below the two that
# mean "none". Not `nobody`, which services share: whoever is the same user may stop and kill. Each child is
# another one, by its number, which is below 2**22 (PID_MAX_LIMIT).
NOBODY_FROM = 0xFFB00000
# The socket's number in the child, after /dev/null as 0, 1 and 2.
SOCKET_FD = 3
# Of memory, on top of what the child was born with. The largest file that a scanner reads whole has 4 MiB;
# what Python makes of it may have thirty times as much.
GROWTH_BYTES_MAX = 256 * 1024 * 1024
# A child that has used half of it is replaced between two questions, so only one that never ends comes here.
CPU_S_MAX = 600

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWNET = 0x40000000
_CAP_KILL = 5
_CAPABILITY_VERSION_3 = 0x20080522


class Layer(Struct, frozen=True):
    """One way in which a child is held.

    Attributes:
        name: what it takes away, in words.
        reason: why it does not hold; None where it holds.
    """

    name: str
    reason: str | None = None


class _Calls(NamedTuple):
    """One architecture's numbers of the system calls that are named here."""

    audit: int
    """AUDIT_ARCH_*, which seccomp compares first: the numbers mean other calls elsewhere."""
    allowed: dict[str, int]
    allowed_unless_executable: dict[str, int]
    """mmap and mprotect: allowed without PROT_EXEC, so that no bytes of a file become code."""
    capset: int


# Reading by position or in order, and where a file ends (lseek); memory; the moment; the one socket. `fstat`
# is the old call, which newer C libraries make again: `newfstatat` takes a path too, and a path is none of a
# child's business. `sendto` can send bytes and, unlike sendmsg, no descriptors.
_CALLS = {
    "x86_64": _Calls(
        audit=0xC000003E,
        allowed={
            "read": 0, "close": 3, "fstat": 5, "lseek": 8, "munmap": 11, "brk": 12, "rt_sigprocmask": 14,
            "rt_sigreturn": 15, "pread64": 17, "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39,
            "sendto": 44, "recvmsg": 47, "exit": 60, "gettimeofday": 96, "gettid": 186, "futex": 202,
            "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "getrandom": 318,
        },
        allowed_unless_executable={"mmap": 9, "mprotect": 10},
        capset=126,
    ),
    "aarch64": _Calls(
        audit=0xC00000B7,
        allowed={
            "close": 57, "lseek": 62, "read": 63, "pread64": 67, "fstat": 80, "exit": 93, "exit_group": 94,
            "futex": 98, "clock_gettime": 113, "sched_yield": 124, "restart_syscall": 128,
            "rt_sigprocmask": 135, "rt_sigreturn": 139, "gettimeofday": 169, "getpid": 172, "gettid": 178,
            "sendto": 206, "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "madvise": 233,
            "getrandom": 278,
        },
        allowed_unless_executable={"mmap": 222, "mprotect": 226},
        capset=91,
    ),
}  # fmt: skip


def confine(socket_fd: int, files_max: int, parent: int) -> tuple[Layer, ...]:
    """Give up everything but one socket, which becomes SOCKET_FD. For a new child, before it reads anything.

    Args:
        socket_fd: the socket.
        files_max: how many descriptors it may be handed at a time.
        parent: pid of the process that made it.

    Returns:
        The layers, in the order in which they were laid.

    Raises:
        OSError: the descriptors of the parent could not be closed, so that nothing may be read here.
    """
    _close_descriptors(socket_fd)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        # Of the parent's handlers none may run here. A terminal and `timeout` signal the whole group; whether
        # there is still something to read is the parent's to decide, and it takes the child with it.
        ignored = number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("shared memory", _forget_shared_memory),
        ("limits", lambda: _limit(files_max)),
        ("network namespace", lambda: _check("unshare", _libc().unshare(_CLONE_NEWNET))),
        ("capability bounding set", _drop_bounding_set),
        ("groups", lambda: os.setgroups([])),
        ("user", _become_nobody),
        ("capabilities", _drop_capabilities),
        ("not dumpable", lambda: _prctl(_PR_SET_DUMPABLE, 0)),
        # After the user: a change of it makes the kernel forget this wish (prctl(2)).
        ("ends with its parent", lambda: _end_with(parent)),
        ("no new privileges", lambda: _prctl(_PR_SET_NO_NEW_PRIVS, 1)),
        ("system calls", _filter_calls),
    )
    return (Layer("descriptors"), *(_lay(name, step) for name, step in steps))


def _lay(name: str, step: Callable[[], None]) -> Layer:
    try:
        step()
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        return Layer(name, why[:1].lower() + why[1:])
    return Layer(name)


def _close_descriptors(socket_fd: int) -> None:
    """No lock, key, ring, log or terminal of the parent stays open."""
    # Where standard input was closed the socket may have this number already.
    os.dup2(socket_fd, SOCKET_FD)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(SOCKET_FD):
        os.dup2(null, number)
    # Listed, because the largest number allowed may be a thousand million, and older kernels close one by
    # one.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > SOCKET_FD:
            try:
                os.close(int(name))
            except OSError as error:
                # The listing's own is closed by now.
                if error.errno != errno.EBADF:
                    raise


def _forget_shared_memory() -> None:
    """Unmap what others would see us write to, as the page that tells the kernel what of a ring is read."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as page:
        fields = [line.split(maxsplit=2) for line in page]
    for extent, permissions, _ in fields:
        if permissions[1] == "w" and permissions[3] == "s":
            start, end = (int(address, 16) for address in extent.split("-"))
            _check("munmap", _libc().munmap(ctypes.c_void_p(start), ctypes.c_size_t(end - start)))


def _drop_bounding_set() -> None:
    for capability in range(64):
        if _libc().prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) < 0:
            return
        _prctl(_PR_CAPBSET_DROP, capability)


def _become_nobody() -> None:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as page:
        effective = next(line.split()[1] for line in page if line.startswith("CapEff:"))
    if os.geteuid() == 0 and not int(effective, 16) >> _CAP_KILL & 1:
        # Neither by kill(2) nor by its own end, which the kernel signals with the parent's rights.
        raise PermissionError(errno.EPERM, "without CAP_KILL its parent could not end another user's process")
    own = NOBODY_FROM + os.getpid()
    os.setresgid(own, own, own)
    os.setresuid(own, own, own)


def _drop_capabilities() -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Two words each of what is effective, permitted and inheritable.
    _check("capset", _libc().syscall(_calls().capset, header, bytes(24)))


def _limit(files_max: int) -> None:
    # When the host is short of memory, this is what it can best do without.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as page:
        page.write("1000")
    with open("/proc/self/statm", encoding="ascii") as page:
        size_bytes = int(page.read().split()[0]) * mmap.PAGESIZE
    limits = {
        resource.RLIMIT_AS: size_bytes + GROWTH_BYTES_MAX,
        resource.RLIMIT_CPU: CPU_S_MAX,
        # One more than its own and all that it may be handed: the kernel drops what it has no number for.
        resource.RLIMIT_NOFILE: SOCKET_FD + 1 + files_max,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (lowered, lowered))


def _end_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # It may have ended before the kernel was asked.
    if os.getppid() != parent:
        os._exit(0)


# -- system calls --------------------------------------------------------------------------------------------

# include/uapi/linux/bpf_common.h: load a word, compare with a constant, test bits, return. Jumps are
# relative.
_LOAD, _EQUAL, _TEST, _RETURN = 0x20, 0x15, 0x45, 0x06
# Offsets in struct seccomp_data: number, architecture, and the low word of the third argument.
_NUMBER_AT, _ARCHITECTURE_AT, _PROTECTION_AT = 0, 4, 32
_ALLOW = 0x7FFF0000
# Not killed: a library that only tries, for example to open a configuration of its own, goes on without.
_REFUSE = 0x00050000 | errno.EPERM
_PROT_EXEC = 4


def _program(calls: _Calls) -> list[tuple[int, int, int, int]]:
    """The filter: (code, jump if true, jump if false, constant) each."""
    allowed = sorted(calls.allowed.values())
    checked = sorted(calls.allowed_unless_executable.values())
    # The last five: refuse, load, test, allow, refuse.
    rest = len(allowed) + len(checked)
    program = [(_LOAD, 0, 0, _ARCHITECTURE_AT), (_EQUAL, 0, rest + 1, calls.audit), (_LOAD, 0, 0, _NUMBER_AT)]
    for number in allowed:
        rest -= 1
        program.append((_EQUAL, rest + 3, 0, number))
    for number in checked:
        rest -= 1
        program.append((_EQUAL, rest + 1, 0, number))
    program += [
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _PROTECTION_AT),
        (_TEST, 1, 0, _PROT_EXEC),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return program


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_calls() -> None:
    program = _program(_calls())
    # struct sock_filter, in the byte order of this machine.
    encoded = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    _check(
        "prctl",
        _libc().prctl(
            _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(program), encoded)), 0, 0
        ),
    )


def _calls() -> _Calls:
    machine = os.uname().machine
    # A 32-bit Python under a 64-bit kernel makes other calls than uname(2) tells.
    if machine not in _CALLS or struct.calcsize("P") != 8:
        raise ValueError(f"the numbers of system calls of {machine} are not known here")
    return _CALLS[machine]


# -- the C library -------------------------------------------------------------------------------------------


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    """prctl(2); the arguments that it does not use must be zero."""
    unsigned = ctypes.c_ulong
    _check("prctl", _libc().prctl(option, unsigned(argument), unsigned(0), unsigned(0), unsigned(0)))


def _check(call: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number).lower()}")
