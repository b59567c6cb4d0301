# SPDX-License-Identifier: Apache-2.0
"""The kernel half's counterpart: runs BPF programs for a limited time and types what they saw.

monitor     a timed window over some probes: the one thing the rest of the agent calls
probes/     one file per probe, each with one object of bpf/
fold        events into observations: who used which file, by day
event       the Python side of bpf/event.h
preflight   what is missing on this host, and what to do about it
ring, object, libbpf    the mapping of the ring, the life of an object, the C library
"""

from __future__ import annotations
