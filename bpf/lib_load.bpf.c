// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which files does a process map as code?
 *
 * That is how libraries come into a process, whoever brings them: the dynamic linker at its start,
 * dlopen(3), LD_PRELOAD, a virtual machine. The file is the descriptor's, so no name is believed.
 * What the kernel maps itself is not seen here: the program and its interpreter, see process_exec.
 *
 * Python tells which of them hold cryptography, by their content, and puts the others into
 * `lib_load_boring`. A file that is written over or replaced is another one; see event.h.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Constants of the kernel, which are macros there and so not in vmlinux.h. */
#define PROT_EXEC     0x4
#define MAP_ANONYMOUS 0x20
#define S_IFMT	      0170000
#define S_IFREG	      0100000
#define EEXIST	      17
/* The largest errno that a system call returns; what is above -4096 is one. */
#define ERRNO_MAX     4095
/* Kernels 6.13 and later keep a flag in the nanoseconds of a change time (I_CTIME_QUERIED). */
#define NANOSECONDS   0x7fffffff
#define SECOND_NS     1000000000ULL

/* Files that nobody wants to hear of again. When there are more, the longest unseen give way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct file_identity);
	__type(value, __u32);
} lib_load_boring SEC(".maps");

/* One file in one process, since it became the program that it is. */
struct use {
	struct file_identity file;
	__u64 start_ns;
	__u64 programs; /* how many it has executed */
	__u32 tgid;
	__u32 reserved;
};

/* What was reported: the dynamic linker maps a library in several pieces, and some twice. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct use);
	__type(value, __u32);
} lib_load_uses SEC(".maps");

RING(lib_load);

/* An inode's change time by the names that it had: until Linux 6.5, and until 6.10. */
struct inode___until_6_5 {
	struct timespec64 i_ctime;
} __attribute__((preserve_access_index));

struct inode___until_6_10 {
	struct timespec64 __i_ctime;
} __attribute__((preserve_access_index));

static __always_inline __u64 changed_ns(struct inode *inode)
{
	struct inode___until_6_10 *older = (void *)inode;
	struct inode___until_6_5 *oldest = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		return BPF_CORE_READ(inode, i_ctime_sec) * SECOND_NS +
		       (BPF_CORE_READ(inode, i_ctime_nsec) & NANOSECONDS);
	if (bpf_core_field_exists(older->__i_ctime))
		return BPF_CORE_READ(older, __i_ctime.tv_sec) * SECOND_NS +
		       BPF_CORE_READ(older, __i_ctime.tv_nsec);
	return BPF_CORE_READ(oldest, i_ctime.tv_sec) * SECOND_NS +
	       BPF_CORE_READ(oldest, i_ctime.tv_nsec);
}

/* The file behind a descriptor of the current process. */
static __always_inline struct file *file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **descriptors;
	struct file *file;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	descriptors = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), descriptors + fd))
		return NULL;
	return file;
}

/* Write the path of the mapped file; only its name when it is too deep or too long. */
static __always_inline __u32 write_file(struct lib_load *load, struct scratch *scratch,
					struct file *file)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	int end;

	if (is_unlinked(dentry))
		load->header.notes |= NOTE_FILE_DELETED;
	end = write_path(0, (__u64)dentry, (__u64)BPF_CORE_READ(file, f_path.mnt));
	if (end > 0)
		return end;
	load->header.notes |= NOTE_FILE_CUT;
	end = bpf_probe_read_kernel_str(scratch->data, COMPONENT_BYTES_MAX + 1,
					BPF_CORE_READ(dentry, d_name.name));
	return end > 0 ? end : 0;
}

/* Called by sys_exit.bpf.c, not attached. */
SEC("tp_btf/sys_exit")
int BPF_PROG(lib_load, struct pt_regs *registers, unsigned long address)
{
	struct counters *counted = own_counters(EVENT_LIB_LOAD);
	struct scratch *scratch = own_scratch();
	struct task_struct *task;
	struct lib_load *load;
	struct inode *inode;
	struct file *file;
	struct use use = {};
	__u32 tgid, tid, end, one = 1;

	if (!counted || !scratch)
		return 0;
	/* Most mappings of a host are memory, and end here. */
	if (address >= (unsigned long)-ERRNO_MAX ||
	    !(PT_REGS_PARM3_CORE_SYSCALL(registers) & PROT_EXEC) ||
	    PT_REGS_PARM4_CORE_SYSCALL(registers) & MAP_ANONYMOUS) {
		counted->filtered++;
		return 0;
	}
	if (!is_caller_wanted(counted, &tgid, &tid))
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	file = file_of(task, (__u32)PT_REGS_PARM5_CORE_SYSCALL(registers));
	if (!file) {
		/* Another thread has closed it since. */
		counted->faulted++;
		return 0;
	}
	inode = BPF_CORE_READ(file, f_inode);
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFREG) {
		counted->filtered++;
		return 0;
	}
	use.file.inode = BPF_CORE_READ(inode, i_ino);
	use.file.changed_ns = changed_ns(inode);
	use.file.device = BPF_CORE_READ(inode, i_sb, s_dev);
	use.file.generation = BPF_CORE_READ(inode, i_generation);
	if (bpf_map_lookup_elem(&lib_load_boring, &use.file)) {
		counted->filtered++;
		return 0;
	}
	use.start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	use.programs = BPF_CORE_READ(task, self_exec_id);
	use.tgid = tgid;
	if (bpf_map_lookup_elem(&lib_load_uses, &use)) {
		counted->repeated++;
		return 0;
	}
	if (!is_reported(counted))
		return 0;
	/* Of two threads that map it at once, one comes first. */
	if (bpf_map_update_elem(&lib_load_uses, &use, &one, BPF_NOEXIST) == -EEXIST) {
		counted->repeated++;
		return 0;
	}

	load = (struct lib_load *)(scratch->data - sizeof(struct lib_load));
	fill_header(&load->header, task, tgid, tid, EVENT_LIB_LOAD);
	load->file = use.file;
	load->address = address;
	load->length = PT_REGS_PARM2_CORE_SYSCALL(registers);
	end = write_file(load, scratch, file);
	load->file_bytes = end;
	end = write_executable(&load->header, BPF_CORE_READ(task, mm, exe_file), end,
			       &load->exe_bytes);
	/* The next mapping of a file that is lost is reported instead. */
	if (!submit(counted, &lib_load_ring, load, sizeof(*load), end))
		bpf_map_delete_elem(&lib_load_uses, &use);
	return 0;
}
