// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* One program that every verifier accepts, and one that none does: it reads past a map's value. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

RING(accepted);

SEC("raw_tracepoint/sched_process_exec")
int accepted(void *context)
{
	return settings.fold && !bpf_ringbuf_output(&accepted_ring, "", 0, 0);
}

SEC("raw_tracepoint/sched_process_exec")
int refused(void *context)
{
	struct counters *counted = own_counters(0);

	return counted ? counted[1].own : 0;
}
