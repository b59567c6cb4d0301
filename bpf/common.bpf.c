// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What do the probes share, once for all of them? The maps and functions that common.bpf.h
 * declares.
 *
 * The functions have loops, and are not static: the verifier then looks at each of them once for
 * each program, by itself, and not once for every way that leads to a call. That is why they take
 * only numbers. They work on this CPU's scratch.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "common.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct settings settings = {};

struct calls_map calls SEC(".maps");
struct counters_map counters SEC(".maps");
struct scratches_map scratches SEC(".maps");
struct followed_map followed SEC(".maps");

/* 0x20 makes an ASCII letter small and leaves dots and digits; both sides of a comparison get it.
 */
#define FOLD_CASE      0x2020202020202020ULL

#define BYTES_OF(byte) (0x0101010101010101ULL * (byte))

/*
 * Where the last component of the name in `data` begins, which every open on the host has to find:
 * so eight bytes are looked at together, from the end on. A component longer than
 * COMPONENT_BYTES_MAX is refused by every file system, and so never found here.
 */
static __always_inline __u32 last_component(struct scratch *scratch, __u32 bytes)
{
	__u32 end = HEAD_BYTES_MAX + bytes;
	__u64 low, slashes;
	__u32 i;

	scratch->at = 0;
	for (i = 0; i <= COMPONENT_BYTES_MAX; i += 8) {
		if (i >= bytes)
			break;
		/* The highest bit of every byte that is a slash, and no other bit. */
		low = *(const __u64 *)(scratch->head + end - i - 8) ^ BYTES_OF('/');
		slashes = ~(((low & BYTES_OF(0x7f)) + BYTES_OF(0x7f)) | low | BYTES_OF(0x7f));
		if (!slashes)
			continue;
		/* The last byte of the name is the highest one of its word: we are little-endian.
		 */
		end = bytes - i;
		if (!(slashes >> 32)) {
			slashes <<= 32;
			end -= 4;
		}
		if (!(slashes >> 48)) {
			slashes <<= 16;
			end -= 2;
		}
		scratch->at = slashes >> 56 ? end : end - 1;
		break;
	}
	return scratch->at;
}

/*
 * Whether the name in `data` passes one of the filters.
 *
 * bytes: of the name, without its NUL: 1 .. NAME_BYTES_MAX. The SUFFIX_BYTES_MAX bytes before it
 *        must be zero, since a shorter name is compared together with them.
 */
__noinline int is_wanted(__u32 bytes)
{
	struct scratch *scratch = own_scratch();
	const __u64 *words;
	const char *name;
	__u32 at;
	__u32 i;

	if (!scratch || !bytes || bytes > NAME_BYTES_MAX)
		return 0;
	name = scratch->data;
	words = (const __u64 *)(name + bytes - SUFFIX_BYTES_MAX);
	for (i = 0; i < SUFFIXES_MAX; i++) {
		const volatile struct suffix *suffix = &settings.suffixes[i];

		if (i >= settings.suffix_count)
			break;
		if (((words[0] | FOLD_CASE) & suffix->mask[0]) == suffix->value[0] &&
		    ((words[1] | FOLD_CASE) & suffix->mask[1]) == suffix->value[1])
			return 1;
	}
	words = (const __u64 *)name;
	for (i = 0; i < DIRECTORIES_MAX; i++) {
		const volatile struct directory *directory = &settings.directories[i];

		if (i >= settings.directory_count)
			break;
		if ((words[0] & directory->mask[0]) == directory->value[0] &&
		    (words[1] & directory->mask[1]) == directory->value[1] &&
		    (words[2] & directory->mask[2]) == directory->value[2] &&
		    (words[3] & directory->mask[3]) == directory->value[3])
			return 1;
	}
	if (!settings.basename_count)
		return 0;
	at = last_component(scratch, bytes);
	if (at > NAME_BYTES_MAX)
		return 0;
	words = (const __u64 *)(name + at);
	for (i = 0; i < BASENAMES_MAX; i++) {
		const volatile struct basename *basename = &settings.basenames[i];

		if (i >= settings.basename_count)
			break;
		if ((words[0] & basename->mask[0]) == basename->value[0] &&
		    (words[1] & basename->mask[1]) == basename->value[1])
			return 1;
	}
	return 0;
}

/* A hash over the first bytes of `data`, begun with another one. Overwrites the eight bytes after.
 */
__noinline __u64 hash_data(__u64 hash, __u32 bytes)
{
	struct scratch *scratch = own_scratch();
	const __u64 *words;
	__u32 i;

	if (!scratch)
		return hash;
	/* What an older name left after this one does not count. */
	if (bytes > NAME_BYTES_MAX)
		return hash;
	*(__u64 *)(scratch->data + bytes) = 0;
	words = (const __u64 *)scratch->data;
	for (i = 0; i < NAME_BYTES_MAX / 8; i++) {
		if (i * 8 >= bytes)
			break;
		hash = mixed(hash, words[i]);
	}
	return hash;
}

/* Components and mount points of a path: the deepest of a Debian host with Python tools has 19. */
#define PATH_STEPS_MAX 48

/*
 * Write the components of a path from the last to the first, each with its NUL, to data + at.
 *
 * bpf_d_path() may not be called from tracepoints, so this walks dentries and mounts as the
 * kernel's own prepend_path() does, up to the root of the mount tree: the root of the process's
 * container. What changes during the walk (a rename) can give a path that never was; it cannot do
 * other harm.
 *
 * dentry_address, mount_address: the two pointers of a struct path.
 * Returns the position after the last component, or -1 when the path is deeper or longer.
 */
__noinline int write_path(__u32 at, __u64 dentry_address, __u64 mount_address)
{
	struct vfsmount *vfsmount = (struct vfsmount *)mount_address;
	struct mount *mount = container_of(vfsmount, struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(vfsmount, mnt_root);
	struct dentry *dentry = (struct dentry *)dentry_address;
	struct scratch *scratch = own_scratch();
	__u32 i;

	if (!scratch)
		return -1;
	scratch->at = at;
	for (i = 0; i < PATH_STEPS_MAX; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		__u32 here = scratch->at;
		struct mount *below;
		long n;

		if (dentry == root) {
			below = BPF_CORE_READ(mount, mnt_parent);
			if (below == mount || !below)
				return scratch->at;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			root = BPF_CORE_READ(below, mnt.mnt_root);
			mount = below;
			continue;
		}
		if (!parent || here - at > PATH_BYTES_MAX || here >= DATA_BYTES_MAX)
			return -1;
		n = bpf_probe_read_kernel_str(scratch->data + here, COMPONENT_BYTES_MAX + 1,
					      BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			return -1;
		scratch->at = here + n;
		/* Not the root of its mount, yet its own parent: a file without a directory
		 * (memfd). */
		if (parent == dentry)
			return scratch->at;
		dentry = parent;
	}
	return -1;
}

/* Namespaces in one another: MAX_PID_NS_LEVEL of the kernel, and the initial one. */
#define PID_NS_LEVELS_MAX 33

/*
 * The number of a task's process as the agent knows it; 0 when it is outside of the agent's pid
 * namespace, as getppid(2) has it.
 *
 * task_address: a struct task_struct.
 */
__noinline __u32 tgid_of(__u64 task_address)
{
	struct task_struct *task = (struct task_struct *)task_address;
	struct pid *pid;
	__u32 level, i;

	if (!settings.pid_ns_inode)
		return BPF_CORE_READ(task, tgid);
	pid = BPF_CORE_READ(task, group_leader, thread_pid);
	level = BPF_CORE_READ(pid, level);
	for (i = 0; i < PID_NS_LEVELS_MAX && i <= level; i++) {
		/* numbers[] is at the end of struct pid, so each has to be found by its size. */
		struct upid *one =
			(struct upid *)((__u64)pid + bpf_core_field_offset(pid->numbers) +
					(__u64)i * bpf_core_type_size(struct upid));

		if (BPF_CORE_READ(one, ns, ns.inum) == settings.pid_ns_inode)
			return BPF_CORE_READ(one, nr);
	}
	return 0;
}

/*
 * Generations that are looked at. The agent's own descendants are two: a worker and the tools that
 * it runs; a build that somebody follows has some ten (make, sh, make, sh, cc, as).
 */
#define GENERATIONS_MAX 24

/* Whether the current process descends from the agent. */
__noinline int is_own_family(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 tgid, i;

	for (i = 0; i < GENERATIONS_MAX; i++) {
		struct task_struct *parent = BPF_CORE_READ(task, real_parent);

		/* The first process of all is its own parent. */
		if (!parent || parent == task)
			return 0;
		tgid = tgid_of((__u64)parent);
		if (tgid && is_own(tgid))
			return 1;
		task = parent;
	}
	return 0;
}

/* Whether the current process is settings.only_tgid, or descends from it. Remembers it when so. */
__noinline int is_followed(void)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct task_struct *task = current;
	__u32 tgid, i;
	__u64 start_ns, *known;

	for (i = 0; i < GENERATIONS_MAX; i++) {
		struct task_struct *parent;

		tgid = BPF_CORE_READ(task, tgid);
		known = bpf_map_lookup_elem(&followed, &tgid);
		if ((known && *known == BPF_CORE_READ(task, group_leader, start_boottime)) ||
		    tgid_of((__u64)task) == settings.only_tgid) {
			if (!i)
				return 1;
			tgid = BPF_CORE_READ(current, tgid);
			start_ns = BPF_CORE_READ(current, group_leader, start_boottime);
			bpf_map_update_elem(&followed, &tgid, &start_ns, BPF_ANY);
			return 1;
		}
		parent = BPF_CORE_READ(task, real_parent);
		if (!parent || parent == task)
			return 0;
		task = parent;
	}
	return 0;
}
