// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which processes end, and how?
 *
 * sched_process_exit is reached by every thread; a process has ended when none of its threads is
 * alive. What wait(2) will say of it stands in two places, as in the kernel's own
 * wait_task_zombie().
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Constants of the kernel, which are macros there and so not in vmlinux.h. */
#define PF_KTHREAD	  0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004

/* A process that has ended. */
struct ended {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

/* Of two threads that end at once both may find none alive; the first to come here reports it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended);
	__type(value, __u32);
} process_exit_ended SEC(".maps");

RING(process_exit);

static __always_inline __u32 status_of(struct task_struct *leader, struct signal_struct *signal)
{
	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(signal, group_exit_code);
	return BPF_CORE_READ(leader, exit_code);
}

SEC("raw_tracepoint/sched_process_exit")
int process_exit(void *context)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct counters *counted = own_counters(EVENT_PROCESS_EXIT);
	struct scratch *scratch = own_scratch();
	struct process_exit *exited;
	struct ended ended = {};
	__u32 tgid, tid, end, one = 1;

	if (!counted || !scratch)
		return 0;
	if (BPF_CORE_READ(signal, live.counter) || BPF_CORE_READ(task, flags) & PF_KTHREAD) {
		counted->filtered++;
		return 0;
	}
	if (!is_caller_wanted(counted, &tgid, &tid) || !is_reported(counted))
		return 0;
	exited = (struct process_exit *)(scratch->data - sizeof(struct process_exit));
	fill_header(&exited->header, task, tgid, tid, EVENT_PROCESS_EXIT);
	ended.start_ns = exited->header.start_ns;
	ended.tgid = tgid;
	if (bpf_map_update_elem(&process_exit_ended, &ended, &one, BPF_NOEXIST)) {
		counted->repeated++;
		return 0;
	}
	/* The name of the process is that of its first thread, not of the one that ends last. */
	bpf_probe_read_kernel_str(exited->header.comm, sizeof(exited->header.comm),
				  BPF_CORE_READ(leader, comm));
	exited->ppid = tgid_of((__u64)BPF_CORE_READ(leader, real_parent));
	exited->status = status_of(leader, signal);
	exited->reserved = 0;
	/* Before Linux 6.16 the memory is given up by now, and the executable with it. */
	end = write_executable(&exited->header, BPF_CORE_READ(task, mm, exe_file), 0,
			       &exited->exe_bytes);
	submit(counted, &process_exit_ring, exited, sizeof(*exited), end);
	return 0;
}
