/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What does every probe share? The configuration, the ring, the counters, the event header, the
 * filter by name, and the path of a file in the kernel.
 *
 * Each probe is one object with its own copy of these maps. Include vmlinux.h and the headers of
 * libbpf first.
 */
#ifndef COMMON_BPF_H
#define COMMON_BPF_H

#include "event.h"

/* volatile: the compiler must not believe the zeros that Python replaces before loading. */
const volatile struct settings settings = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 * 1024 * 1024); /* Python may choose another size before loading */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

/* The largest fixed part of an event. */
#define HEAD_BYTES_MAX 256
/* After it: a name, and two paths of PATH_BYTES_MAX and one more component at most. */
#define DATA_BYTES_MAX 8192

/*
 * A record is built here, because the verifier wants a constant size for a place in the ring. The
 * fixed part of every kind ends where `data` begins, so that one piece of code can work on the
 * names of all.
 */
struct scratch {
	char head[HEAD_BYTES_MAX];
	char data[DATA_BYTES_MAX];
	/* The last component that write_path() reads may begin at the end of `data`. */
	char overflow[COMPONENT_BYTES_MAX + 1];
	/* write_path()'s position: the verifier does not follow what is in memory, else it gives
	 * up. */
	__u32 at;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *own_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline struct counters *own_counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

/* Who calls, by the numbers that the agent knows processes by. False: in another pid namespace. */
static __always_inline bool read_caller(__u32 *tgid, __u32 *tid)
{
	struct bpf_pidns_info in_namespace;
	__u64 both;

	if (settings.pid_ns_inode) {
		if (bpf_get_ns_current_pid_tgid(settings.pid_ns_device, settings.pid_ns_inode,
						&in_namespace, sizeof(in_namespace)))
			return false;
		*tgid = in_namespace.tgid;
		*tid = in_namespace.pid;
		return true;
	}
	both = bpf_get_current_pid_tgid();
	*tgid = both >> 32;
	*tid = (__u32)both;
	return true;
}

static __always_inline void fill_header(struct event_header *header, struct task_struct *task,
					__u32 tgid, __u32 tid, __u16 kind)
{
	__u64 uid_gid = bpf_get_current_uid_gid();

	header->time_ns = bpf_ktime_get_ns();
	header->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	header->cgroup_id = bpf_get_current_cgroup_id();
	header->fold_key = 0;
	header->tgid = tgid;
	header->tid = tid;
	header->uid = (__u32)uid_gid;
	header->gid = uid_gid >> 32;
	header->mount_ns = BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
	header->kind = kind;
	header->notes = 0;
	bpf_get_current_comm(header->comm, sizeof(header->comm));
}

/*
 * The functions below have loops, and are not static: the verifier then looks at each of them once,
 * by itself, and not once for every way that leads to a call. That is why they take only numbers.
 * They work on this CPU's scratch, which nothing else uses meanwhile: the kernel calls tracepoints'
 * programs without preemption and never one inside another.
 */

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

static __always_inline __u64 mixed(__u64 hash, __u64 word)
{
	/* 2^64 divided by the golden ratio: every bit of a word reaches the upper half. */
	hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
	return hash ^ (hash >> 29);
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

#endif
