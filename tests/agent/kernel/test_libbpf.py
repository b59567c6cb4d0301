# SPDX-License-Identifier: Apache-2.0
"""Is the one sentence found that says why libbpf or the verifier refused? On recorded messages."""

from __future__ import annotations

import errno

import pytest

from agent import errors
from agent.kernel import libbpf
from agent.kernel.libbpf import BpfError, last_words

# Recorded on Linux 6.18 with libbpf 1.1.2.
VERIFIER = """\
libbpf: prog 'refused': BPF program load failed: Permission denied
libbpf: prog 'refused': -- BEGIN PROG LOAD LOG --
0: R1=ctx() R10=fp0
; struct counters *counted = own_counters(); @ refused.bpf.c:23
4: (85) call bpf_map_lookup_elem#1
; return counted ? counted[1].own : 0; @ refused.bpf.c:25
invalid access to map value, value_size=56 off=88 size=8
R0 min value is outside of the allowed memory range
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'refused': failed to load: -13
libbpf: failed to load object 'refused'
"""
EMPTY_LOG = """\
libbpf: prog 'traced': BPF program load failed: Operation not permitted
libbpf: prog 'traced': failed to load: -1
libbpf: failed to load object 'traced'
"""
TRACEPOINT = """\
libbpf: failed to determine tracepoint 'syscalls/sys_exit_openat' perf event ID: No such file or directory
libbpf: prog 'exit_openat': failed to create tracepoint 'syscalls/sys_exit_openat' perf event: No such file
"""
# The end of a log that was larger than what is kept.
LARGE = """\
libbpf: -- BEGIN PROG LOAD LOG --
478: (bf) r1 = r4
BPF program is too large. Processed 1000001 insn
processed 1000001 insns (limit 1000000) max_states_per_insn 39 total_states 15867 peak_states 1060
-- END PROG LOAD LOG --
libbpf: prog 'x': failed to load: -7
libbpf: failed to load object 'file_open'
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (VERIFIER, "R0 min value is outside of the allowed memory range"),
        (EMPTY_LOG, "prog 'traced': BPF program load failed: Operation not permitted"),
        (LARGE, "BPF program is too large. Processed 1000001 insn"),
        ("", ""),
        ("libbpf: failed to load object 'x'\n", ""),
    ],
)
def test_the_reason_is_found_before_the_general_sentences(log: str, words: str) -> None:
    """The last line of either log says nothing that one did not know."""
    assert last_words(log) == words


def test_an_error_says_step_object_program_errno_and_reason() -> None:
    """One sentence, from which somebody far away must find the cause."""
    # Given what libbpf said when there was no tracefs
    # When it becomes an error
    error = BpfError("attach", "file_open", "exit_openat", errno.ENOENT, TRACEPOINT)
    # Then everything is in its message, and the whole log beside it
    assert str(error).startswith(
        "cannot attach file_open program exit_openat: ENOENT: prog 'exit_openat': failed to create"
    )
    assert (error.step, error.program, error.number, error.log) == (
        "attach",
        "exit_openat",
        errno.ENOENT,
        TRACEPOINT,
    )
    assert error.exit_code == errors.EXIT_KERNEL


def test_an_error_without_words_has_those_of_errno() -> None:
    """Some failures say nothing at all."""
    assert BpfError("open", "x", None, errno.EINVAL, "").reason == "EINVAL: Invalid argument"


def test_a_host_without_libbpf_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is no Python package, so pip cannot have brought it."""
    # Given a host where the library is not found
    monkeypatch.setattr(libbpf, "SONAME", "libbpf-of-nobody.so.1")
    # When it is loaded
    with pytest.raises(errors.AttachError) as caught:
        libbpf.Library()
    # Then the message names it and the packages
    assert "libbpf-of-nobody.so.1" in str(caught.value)
    assert "install the package libbpf1 or libbpf" in str(caught.value)
