// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which processes descend from one that is followed, when their parents are gone?
 *
 * A process is found to be a descendant by its parents when it does something that is reported
 * (is_followed() in common.bpf.c). That fails for one whose parent has ended before, as every
 * daemon's has: so each child of a followed process is remembered when it is born, and forgotten
 * when the kernel frees it, after its end was reported. Loaded only when descendants are wanted.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Arguments: the parent, the child. Also called for threads, which are in their process already. */
SEC("raw_tracepoint/sched_process_fork")
int follow_fork(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *child = (struct task_struct *)context->args[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);
	__u64 start_ns;

	if (tgid != (__u32)BPF_CORE_READ(child, pid) || !is_followed())
		return 0;
	start_ns = BPF_CORE_READ(child, start_boottime);
	bpf_map_update_elem(&followed, &tgid, &start_ns, BPF_ANY);
	return 0;
}

/* Argument: a task that nothing refers to any more. */
SEC("raw_tracepoint/sched_process_free")
int follow_free(struct bpf_raw_tracepoint_args *context)
{
	struct task_struct *task = (struct task_struct *)context->args[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u64 *start_ns;

	if (tgid != (__u32)BPF_CORE_READ(task, pid))
		return 0;
	start_ns = bpf_map_lookup_elem(&followed, &tgid);
	/* Its number may have been given to another one since. */
	if (start_ns && *start_ns == BPF_CORE_READ(task, start_boottime))
		bpf_map_delete_elem(&followed, &tgid);
	return 0;
}
