/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What does every probe share? The settings, the counters, a place to build a record, the event
 * header, who is asked about and who is not, the filter by name, and the path of a file.
 *
 * What is only declared here is in common.bpf.c; the objects of all probes and of that file become
 * one, monitor.bpf.o. So the kernel's BTF is read once however many probes are wanted, and the
 * probes share what they know. Include vmlinux.h and the headers of libbpf first.
 */
#ifndef COMMON_BPF_H
#define COMMON_BPF_H

#include "event.h"

/*
 * What differs between machines: where the call's number is saved, whether a 32-bit program made it
 * (TS_COMPAT, TIF_32BIT of the kernel), whose numbers mean other calls; and the numbers
 * (asm/unistd_64.h of x86, asm-generic/unistd.h of all newer machines).
 */
#ifdef __TARGET_ARCH_x86
#define NUMBER(registers) ((registers)->orig_ax)
#define IS_32_BIT(task)	  (BPF_CORE_READ(task, thread_info.status) & 0x2)
#define NR_OPEN		  2
#define NR_CREAT	  85
#define NR_OPENAT	  257
#define NR_MMAP		  9
#else
#define NUMBER(registers) ((registers)->syscallno)
#define IS_32_BIT(task)	  (BPF_CORE_READ(task, thread_info.flags) & (1 << 22))
#define NR_OPENAT	  56
#define NR_MMAP		  222
#endif
#define NR_OPENAT2 437

/* volatile: the compiler must not believe the zeros that Python replaces before loading. */
extern const volatile struct settings settings;

/*
 * Each probe has a ring of its own, named after it, so that one which is busy does not cost the
 * others their events. Python may choose another size before loading.
 */
#define RING(probe)                                   \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_RINGBUF);   \
		__uint(max_entries, 4 * 1024 * 1024); \
	} probe##_ring SEC(".maps")

struct counters_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_KINDS);
	__type(key, __u32);
	__type(value, struct counters);
};
extern struct counters_map counters SEC(".maps");

/* Programs that sys_exit.bpf.c hands system calls to, by CALLS_*. Filled by Python. */
struct calls_map {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, CALLS);
	__type(key, __u32);
	__type(value, __u32);
};
extern struct calls_map calls SEC(".maps");

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

/*
 * One for each CPU, which nothing else uses meanwhile: the kernel calls tracepoints' programs
 * without preemption and never one inside another.
 */
struct scratches_map {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
};
extern struct scratches_map scratches SEC(".maps");

/*
 * Processes below settings.only_tgid, when those are wanted: its descendants are found by their
 * parents, and stay in here when they have lost them (daemons do so on purpose).
 *
 * key: the number in the initial pid namespace; value: start_ns, so that no other process is taken
 * for one that has gone.
 */
struct followed_map {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u64);
};
extern struct followed_map followed SEC(".maps");

/* Functions of common.bpf.c. They take numbers alone; see there. */
extern int is_wanted(__u32 bytes);
extern __u64 hash_data(__u64 hash, __u32 bytes);
extern int write_path(__u32 at, __u64 dentry_address, __u64 mount_address);
extern __u32 tgid_of(__u64 task_address);
extern int is_own_family(void);
extern int is_followed(void);

static __always_inline struct scratch *own_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline struct counters *own_counters(__u32 kind)
{
	return bpf_map_lookup_elem(&counters, &kind);
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

/* Whether a process of that number is the agent. */
static __always_inline bool is_own(__u32 tgid)
{
	__u32 i;

	for (i = 0; i < OWN_MAX; i++)
		if (settings.own_tgids[i] == tgid)
			return true;
	return false;
}

/*
 * Whether to look closer at what the caller does, by what is known of it at once. Counts it when
 * not. Every probe asks this first, and is_reported() once it knows that the call is one to report.
 */
static __always_inline bool is_caller_wanted(struct counters *counted, __u32 *tgid, __u32 *tid)
{
	if (!read_caller(tgid, tid)) {
		counted->foreign++;
		return false;
	}
	if (is_own(*tgid)) {
		counted->own++;
		return false;
	}
	if (settings.only_tgid && !settings.follow && *tgid != settings.only_tgid) {
		counted->filtered++;
		return false;
	}
	return true;
}

/* The same by whom the caller descends from, which takes some 0.2 us. */
static __always_inline bool is_reported(struct counters *counted)
{
	if (settings.own_family && is_own_family()) {
		counted->own++;
		return false;
	}
	if (settings.only_tgid && settings.follow && !is_followed()) {
		counted->filtered++;
		return false;
	}
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

/* d_unlinked() of the kernel: not in the hash of names any more, or never was. */
static __always_inline bool is_unlinked(struct dentry *dentry)
{
	return !BPF_CORE_READ(dentry, d_hash.pprev);
}

/*
 * Append the executable of a process to a record.
 *
 * at: where in `data`. bytes: gets the length of what was appended.
 * Returns the position after it.
 */
static __always_inline __u32 write_executable(struct event_header *header, struct file *file,
					      __u32 at, __u32 *bytes)
{
	struct dentry *dentry;
	int end;

	*bytes = 0;
	if (!file)
		return at;
	dentry = BPF_CORE_READ(file, f_path.dentry);
	if (is_unlinked(dentry))
		header->notes |= NOTE_EXE_DELETED;
	end = write_path(at, (__u64)dentry, (__u64)BPF_CORE_READ(file, f_path.mnt));
	if (end < 0) {
		header->notes |= NOTE_EXE_CUT;
		return at;
	}
	*bytes = end - at;
	return end;
}

/*
 * Put a record into a ring, and count it. The reader looks by a timer: to wake it for each event
 * costs the caller 3 us. Returns false when it was lost.
 *
 * record: its fixed part, right before `data`. data_bytes: of what follows.
 */
static __always_inline bool submit(struct counters *counted, void *ring, void *record,
				   __u32 fixed_bytes, __u32 data_bytes)
{
	/* Else the compiler checks one register and uses another, which the verifier does not see.
	 */
	barrier_var(data_bytes);
	if (data_bytes > DATA_BYTES_MAX)
		data_bytes = DATA_BYTES_MAX;
	if (bpf_ringbuf_output(ring, record, fixed_bytes + data_bytes, BPF_RB_NO_WAKEUP)) {
		counted->lost++;
		return false;
	}
	counted->submitted++;
	return true;
}

static __always_inline __u64 mixed(__u64 hash, __u64 word)
{
	/* 2^64 divided by the golden ratio: every bit of a word reaches the upper half. */
	hash = (hash ^ word) * 0x9E3779B97F4A7C15ULL;
	return hash ^ (hash >> 29);
}

#endif
