// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which files of cryptography does a process open, and with what result?
 *
 * Everything is read as the call returns. At its entry the page with the name is often not in
 * memory yet and a BPF program cannot wait for it (measured: 0 of 1000 such names seen at entry,
 * all of them at exit); and only at exit is the result known. The arguments are still in the saved
 * registers.
 *
 * What the process's other threads write over the name between the kernel's reading and ours is not
 * detected: this observes, it does not enforce.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Constants of the kernel's UAPI, which are macros there and so not in vmlinux.h. */
#define AT_FDCWD	(-100)
#define EFAULT		14
#define RESOLVE_IN_ROOT 0x10
/* O_CREAT | O_WRONLY | O_TRUNC, which creat(2) stands for; the same on all architectures of BPF. */
#define CREAT_FLAGS	01101

/* 2 MB of kernel memory. When there are more different opens than this, the oldest give way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct fold_key);
	__type(value, struct fold);
} file_open_folds SEC(".maps");

RING(file_open);

/* The arguments of one call. */
struct call {
	const char *name;
	const struct open_how *how; /* openat2 alone; flags and resolve are then behind it */
	__u64 flags;
	__u64 resolve;
	__s32 dirfd;
};

/* The record in this CPU's scratch: its fixed part ends where the names begin. */
static __always_inline struct file_open *record_in(struct scratch *scratch)
{
	return (struct file_open *)(scratch->data - sizeof(struct file_open));
}

/*
 * A number for everything that makes two opens equal, never 0.
 *
 * A process that crafts names to collide can only hide its own opens, and has easier ways to do so.
 */
static __always_inline __u64 fold_key_of(const struct file_open *open, const struct path *base,
					 struct file *exe_file)
{
	__u64 hash = mixed(open->header.start_ns, open->flags);

	hash = mixed(hash, open->result < 0 ? open->result : 0);
	/* The same name means another file in another directory or root. */
	hash = mixed(mixed(hash, (__u64)base->dentry), (__u64)base->mnt);
	/* The process may have executed another program since. */
	hash = hash_data(mixed(hash, (__u64)exe_file), open->name_bytes);
	return hash ? hash : 1;
}

/* Count an open that equals a reported one. */
static __always_inline bool is_folded(const struct fold_key *key)
{
	struct fold *fold = bpf_map_lookup_elem(&file_open_folds, key);

	if (!fold)
		return false;
	__sync_fetch_and_add(&fold->count, 1);
	fold->last_ns = bpf_ktime_get_ns();
	return true;
}

/* The directory that the name begins at; no dentry when its descriptor is not open. */
static __always_inline struct path read_base(struct task_struct *task, const struct call *call,
					     bool absolute)
{
	struct path base = {};
	struct file **descriptors;
	struct fdtable *table;
	struct file *file;

	if (absolute && !(call->resolve & RESOLVE_IN_ROOT)) {
		base.dentry = BPF_CORE_READ(task, fs, root.dentry);
		base.mnt = BPF_CORE_READ(task, fs, root.mnt);
		return base;
	}
	if (call->dirfd == AT_FDCWD) {
		base.dentry = BPF_CORE_READ(task, fs, pwd.dentry);
		base.mnt = BPF_CORE_READ(task, fs, pwd.mnt);
		return base;
	}
	table = BPF_CORE_READ(task, files, fdt);
	if ((__u32)call->dirfd >= BPF_CORE_READ(table, max_fds))
		return base;
	descriptors = BPF_CORE_READ(table, fd);
	if (bpf_probe_read_kernel(&file, sizeof(file), descriptors + (__u32)call->dirfd) || !file)
		return base;
	base.dentry = BPF_CORE_READ(file, f_path.dentry);
	base.mnt = BPF_CORE_READ(file, f_path.mnt);
	return base;
}

/* Append the base and the executable to a record. Returns the bytes in `data`. */
static __always_inline __u32 write_paths(struct file_open *open, struct path *base,
					 struct file *exe_file)
{
	__u32 at = open->name_bytes;
	int end = -1;

	if (base->dentry)
		end = write_path(at, (__u64)base->dentry, (__u64)base->mnt);
	if (end < 0) {
		open->header.notes |= NOTE_BASE_CUT;
	} else {
		open->base_bytes = end - at;
		at = end;
	}
	return write_executable(&open->header, exe_file, at, &open->exe_bytes);
}

static __always_inline int observe(struct call *call, long result)
{
	struct counters *counted = own_counters(EVENT_FILE_OPEN);
	struct scratch *scratch = own_scratch();
	struct fold_key key = {};
	struct fold fold = {};
	struct task_struct *task;
	struct file_open *open;
	struct open_how how;
	struct file *exe_file;
	__u32 tgid, tid, bytes;
	__u16 notes = 0;
	struct path base;
	long n;

	if (!counted || !scratch)
		return 0;
	if (!is_caller_wanted(counted, &tgid, &tid))
		return 0;

	/* One byte more than allowed, so that a name that is too long shows itself. */
	n = bpf_probe_read_user_str(scratch->data, NAME_BYTES_MAX + 1, call->name);
	if (n <= 0) {
		/* Where the kernel could not read the name either there was nothing to see. */
		if (result == -EFAULT)
			counted->filtered++;
		else
			counted->faulted++;
		return 0;
	}
	bytes = n - 1;
	if (n > NAME_BYTES_MAX)
		notes |= NOTE_NAME_TRUNCATED;

	/* Also the zeros that is_wanted() needs before the name. */
	open = record_in(scratch);
	__builtin_memset(open, 0, sizeof(*open));
	if (!is_wanted(bytes)) {
		counted->filtered++;
		return 0;
	}
	if (call->how) {
		if (bpf_probe_read_user(&how, sizeof(how), call->how)) {
			notes |= NOTE_FLAGS_UNREAD;
		} else {
			call->flags = how.flags;
			call->resolve = how.resolve;
		}
	}
	if (call->flags & settings.flags_ignored) {
		counted->filtered++;
		return 0;
	}
	if (!is_reported(counted))
		return 0;

	task = (struct task_struct *)bpf_get_current_task();
	exe_file = BPF_CORE_READ(task, mm, exe_file);
	base = read_base(task, call, scratch->data[0] == '/');
	fill_header(&open->header, task, tgid, tid, EVENT_FILE_OPEN);
	open->header.notes = notes;
	open->flags = call->flags;
	open->result = result;
	open->name_bytes = bytes;
	/* Without a base the name means nothing, so the next one may mean something else. */
	if (settings.fold && base.dentry) {
		key.key = fold_key_of(open, &base, exe_file);
		key.tgid = tgid;
		if (is_folded(&key)) {
			counted->folded++;
			return 0;
		}
		open->header.fold_key = key.key;
	}

	bytes = write_paths(open, &base, exe_file);
	if (!submit(counted, &file_open_ring, open, sizeof(*open), bytes))
		return 0;
	/* Only now that the event is in the ring: its equals must not vanish with a lost one. */
	if (key.key)
		bpf_map_update_elem(&file_open_folds, &key, &fold, BPF_NOEXIST);
	return 0;
}

/* Called by sys_exit.bpf.c, not attached. */
SEC("tp_btf/sys_exit")
int BPF_PROG(file_open, struct pt_regs *registers, long result)
{
	struct call call = {.dirfd = AT_FDCWD};

	switch ((__u32)NUMBER(registers)) {
#ifdef __TARGET_ARCH_x86
	case NR_OPEN:
		call.name = (const char *)PT_REGS_PARM1_CORE_SYSCALL(registers);
		call.flags = (__u32)PT_REGS_PARM2_CORE_SYSCALL(registers);
		break;
	case NR_CREAT:
		call.name = (const char *)PT_REGS_PARM1_CORE_SYSCALL(registers);
		call.flags = CREAT_FLAGS;
		break;
#endif
	case NR_OPENAT:
		call.dirfd = (__s32)PT_REGS_PARM1_CORE_SYSCALL(registers);
		call.name = (const char *)PT_REGS_PARM2_CORE_SYSCALL(registers);
		call.flags = (__u32)PT_REGS_PARM3_CORE_SYSCALL(registers);
		break;
	case NR_OPENAT2:
		call.dirfd = (__s32)PT_REGS_PARM1_CORE_SYSCALL(registers);
		call.name = (const char *)PT_REGS_PARM2_CORE_SYSCALL(registers);
		call.how = (const struct open_how *)PT_REGS_PARM3_CORE_SYSCALL(registers);
		break;
	}
	return observe(&call, result);
}
