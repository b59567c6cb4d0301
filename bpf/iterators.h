/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What do the iterators write, and what are they told? agent/kernel/iterators.py has the same once
 * more; tests/bpf compares the two. Integers are in the machine's byte order, and no compiler has
 * to pad a structure. Include vmlinux.h or linux/types.h first.
 */
#ifndef ITERATORS_H
#define ITERATORS_H

/* The whole of .rodata; written by Python before loading, constant to the verifier after. */
struct settings {
	__u64 sign;	       /* begins every struct process; nobody can guess it */
	__u32 page_shift;      /* a page has 1 << page_shift bytes */
	__u32 descriptors_max; /* of one process; beyond it one record says that there are more */
};

/* One process, before the first of its mappings. 72 bytes, then the path of its executable. */
struct process {
	__u64 sign;	/* settings.sign: by this it is told from a mapping */
	__u32 bytes;	/* of the record, a multiple of 8 */
	__s32 tgid;	/* in the initial pid namespace */
	__u64 start_ns; /* CLOCK_BOOTTIME at which it began: with tgid, its identity */
	__u64 cgroups;	/* equal numbers, equal cgroups in all hierarchies; it means nothing else */
	__u64 root;	/* equal numbers, equal root directories; it means nothing else */
	__u32 uid;	/* real, in the initial user namespace */
	__u32 reserved;
	char comm[16];	 /* NUL-terminated */
	__s64 exe_bytes; /* of the path, its NUL included; or a negative errno */
	char exe[];
};

/*
 * One executable mapping of a file. 40 bytes. Nothing in it is the process's own, neither its
 * number nor an address: processes of one program have the same bytes here.
 */
struct mapping {
	__u32 dev; /* major << 20 | minor */
	__u32 reserved;
	__u64 inode;
	__u64 offset; /* in bytes */
	__u64 length;
	__u64 name; /* equal numbers, equal names of one file; it means nothing else */
};

/* One open regular file. 48 bytes, then its path. */
struct descriptor {
	__u32 bytes; /* of the record, a multiple of 8 */
	__s32 tgid;
	__u64 start_ns;
	__u32 fd;
	__u32 reserved;
	__s64 path_bytes; /* as exe_bytes; 0: there are more than descriptors_max */
	__u64 inode;
	__u32 dev;
	__u32 mount; /* number of its mount, as mountinfo has it */
	char path[];
};

#endif
