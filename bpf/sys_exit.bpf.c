// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which probe is a system call for, as it returns?
 *
 * Every call of every process ends here while this is attached, so one program looks at its number
 * and the others are called by it: a second one that is attached costs each call 60 ns more. The
 * kernel's own tracepoints for single calls would cost 30 ns less, but need tracefs mounted, and
 * each of them takes 70 ms to be detached.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/sys_exit")
int BPF_PROG(sys_exit, struct pt_regs *registers)
{
	__u32 kind;

	switch ((__u32)NUMBER(registers)) {
#ifdef __TARGET_ARCH_x86
	case NR_OPEN:
	case NR_CREAT:
#endif
	case NR_OPENAT:
	case NR_OPENAT2:
		kind = CALLS_OPEN;
		break;
	case NR_MMAP:
		kind = CALLS_MAP;
		break;
	default:
		return 0;
	}
	if (IS_32_BIT((struct task_struct *)bpf_get_current_task()))
		return 0;
	/* Nothing happens when no probe wants this kind. */
	bpf_tail_call(ctx, &calls, kind);
	return 0;
}
