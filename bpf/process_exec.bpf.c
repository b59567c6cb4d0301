// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which programs are started, with which arguments?
 *
 * sched_process_exec is reached when the new program's memory is in place and nothing of it has
 * run: its arguments are those that execve(2) was given, and no later renaming of itself shows.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

RING(process_exec);

/* Write the arguments to `data`. Returns their bytes. */
static __always_inline __u32 write_argv(struct process_exec *exec, struct scratch *scratch,
					struct mm_struct *mm)
{
	__u64 begin = BPF_CORE_READ(mm, arg_start);
	__u64 bytes = BPF_CORE_READ(mm, arg_end) - begin;

	/* As in submit(). */
	barrier_var(bytes);
	if (bytes > ARGV_BYTES_MAX) {
		exec->header.notes |= NOTE_ARGV_CUT;
		bytes = ARGV_BYTES_MAX;
	}
	if (bytes && bpf_probe_read_user(scratch->data, bytes, (const void *)begin)) {
		exec->header.notes |= NOTE_ARGV_CUT;
		bytes = 0;
	}
	return bytes;
}

SEC("raw_tracepoint/sched_process_exec")
int process_exec(void *context)
{
	struct counters *counted = own_counters(EVENT_PROCESS_EXEC);
	struct scratch *scratch = own_scratch();
	struct process_exec *exec;
	struct task_struct *task;
	struct mm_struct *mm;
	__u32 tgid, tid, end;

	if (!counted || !scratch || !is_caller_wanted(counted, &tgid, &tid) ||
	    !is_reported(counted))
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	mm = BPF_CORE_READ(task, mm);
	exec = (struct process_exec *)(scratch->data - sizeof(struct process_exec));
	fill_header(&exec->header, task, tgid, tid, EVENT_PROCESS_EXEC);
	exec->ppid = tgid_of((__u64)BPF_CORE_READ(task, real_parent));
	exec->reserved = 0;
	end = write_argv(exec, scratch, mm);
	exec->argv_bytes = end;
	end = write_executable(&exec->header, BPF_CORE_READ(mm, exe_file), end, &exec->exe_bytes);
	submit(counted, &process_exec_ring, exec, sizeof(*exec), end);
	return 0;
}
