/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What do the kernel half and the Python half of the agent say to each other?
 *
 * This file is the ABI and needs no other header, because the BPF programs, a C compiler on any
 * host and the tests all read it. agent/kernel/event.py is its other half; tests/bpf compares the
 * two through the BTF of the compiled objects. README.md says what every field means and costs.
 *
 * Both halves run on one machine: integers are in its byte order, and every structure is laid out
 * so that no compiler has to pad it.
 */
#ifndef EVENT_H
#define EVENT_H

typedef unsigned short event_u16;
typedef unsigned int event_u32;
typedef int event_s32;
typedef unsigned long long event_u64;

/*
 * PATH_MAX of Linux: the kernel refuses an open with a longer name, its NUL included. So no name of
 * a file that was really opened is ever cut, and no suffix can be hidden behind a long path.
 * Records have the length of what is in them, so the bound costs nothing in the ring.
 */
#define NAME_BYTES_MAX	    4096
/* A directory or executable beyond this is marked cut. The longest on a Debian host has 176. */
#define PATH_BYTES_MAX	    1024
/* NAME_MAX of Linux: no component of a path is longer. */
#define COMPONENT_BYTES_MAX 255

/* Filters are compared as machine words under a mask, so their length is bounded by whole words. */
#define SUFFIX_BYTES_MAX    16
#define BASENAME_BYTES_MAX  16
#define DIRECTORY_BYTES_MAX 32
#define SUFFIXES_MAX	    32
#define BASENAMES_MAX	    8
#define DIRECTORIES_MAX	    8

/* What of the arguments of a program is reported: the beginning. Those of a Java server have 3 KB.
 */
#define ARGV_BYTES_MAX	    4096

/* Processes that one run of the agent consists of: who waits, who looks, who reads. */
#define OWN_MAX		    4

#define EVENT_FILE_OPEN	    1
#define EVENT_LIB_LOAD	    2
#define EVENT_PROCESS_EXEC  3
#define EVENT_PROCESS_EXIT  4
#define EVENT_KINDS	    5 /* one more than the last */

/* Kinds of system calls that a program can be given, as they return. */
#define CALLS_OPEN	    0 /* open creat openat openat2 */
#define CALLS_MAP	    1 /* mmap */
#define CALLS		    2

/* event_header.notes: what is not as it should be in this record. */
#define NOTE_NAME_TRUNCATED \
	0x1 /* the name is longer than NAME_BYTES_MAX; the kernel refused it too */
#define NOTE_BASE_CUT	  0x2  /* the directory is too deep or too long, or could not be read */
#define NOTE_EXE_CUT	  0x4  /* the same of the executable */
#define NOTE_EXE_DELETED  0x8  /* the executable has been removed, or never was in a file system */
#define NOTE_FLAGS_UNREAD 0x10 /* the flags were in memory that could not be read (openat2) */
#define NOTE_FILE_CUT	  0x20 /* as NOTE_BASE_CUT of a mapped file: only its name is here */
#define NOTE_FILE_DELETED 0x40 /* as NOTE_EXE_DELETED of a mapped file */
#define NOTE_ARGV_CUT	  0x80 /* there are more than ARGV_BYTES_MAX, or they could not be read */

/* Before every event. 72 bytes. */
struct event_header {
	event_u64 time_ns;  /* CLOCK_MONOTONIC */
	event_u64 start_ns; /* CLOCK_BOOTTIME at which the process began: with tgid, its identity */
	event_u64 cgroup_id; /* inode of its directory in the cgroup2 hierarchy */
	event_u64 fold_key;  /* not 0: further such events are counted under this key */
	event_u32 tgid;	     /* process number, in the agent's pid namespace */
	event_u32 tid;
	event_u32 uid; /* real, in the initial user namespace */
	event_u32 gid;
	event_u32 mount_ns; /* inode of its mount namespace: whose root its paths begin at */
	event_u16 kind;	    /* EVENT_* */
	event_u16 notes;    /* NOTE_* */
	char comm[16];	    /* NUL-terminated */
};

/*
 * One open(2), creat(2), openat(2) or openat2(2), seen as it returns. 96 bytes, then the name, the
 * base and the executable one after another, without separators.
 *
 * The name is as the process wrote it. The base is the directory that it begins at (root, working
 * directory or dirfd). Base and executable are components from the last to the first, each with its
 * NUL; none at all means the root directory, or for the executable: a kernel thread.
 */
struct file_open {
	struct event_header header;
	event_u64 flags;  /* O_*, of this machine's architecture */
	event_s32 result; /* file descriptor, or negative errno */
	event_u32 name_bytes;
	event_u32 base_bytes;
	event_u32 exe_bytes;
};

/*
 * Which file it is. An inode's number may be given to another file once this one is deleted, and a
 * file may be written over: the generation tells the first, the change time (ctime, which no
 * program can set) both.
 */
struct file_identity {
	event_u64 inode;
	event_u64 changed_ns; /* CLOCK_REALTIME */
	event_u32 device;     /* of its file system, as the kernel packs it: 12 and 20 bits */
	event_u32 generation;
};

/*
 * The first executable mapping of a file in a process, by mmap(2), seen as it returns. 120 bytes,
 * then the file and the executable, each as components from the last to the first.
 */
struct lib_load {
	struct event_header header;
	struct file_identity file;
	event_u64 address; /* of the mapping */
	event_u64 length;  /* of the mapping, as it was asked for */
	event_u32 file_bytes;
	event_u32 exe_bytes;
};

/*
 * A process has become another program, by execve(2) or execveat(2). 88 bytes, then the arguments,
 * each with its NUL, and the executable.
 */
struct process_exec {
	struct event_header header;
	event_u32 ppid; /* 0: outside of the agent's pid namespace */
	event_u32 argv_bytes;
	event_u32 exe_bytes;
	event_u32 reserved;
};

/* The last thread of a process has ended. 88 bytes, then the executable. */
struct process_exit {
	struct event_header header;
	event_u32 ppid;
	event_u32 status; /* as wait(2) gives it */
	event_u32 exe_bytes;
	event_u32 reserved;
};

/* Bytes and the mask of those that count. */
struct suffix {
	event_u64 value[SUFFIX_BYTES_MAX / 8];
	event_u64 mask[SUFFIX_BYTES_MAX / 8];
};

struct basename {
	event_u64 value[BASENAME_BYTES_MAX / 8];
	event_u64 mask[BASENAME_BYTES_MAX / 8];
};

struct directory {
	event_u64 value[DIRECTORY_BYTES_MAX / 8];
	event_u64 mask[DIRECTORY_BYTES_MAX / 8];
};

/* The whole of .rodata. Written by Python before loading, constant to the verifier after. */
struct settings {
	struct suffix suffixes[SUFFIXES_MAX];	  /* at the end of the name; ASCII case is folded */
	struct basename basenames[BASENAMES_MAX]; /* at the beginning of its last component */
	struct directory directories[DIRECTORIES_MAX]; /* at the beginning of the name */
	event_u64 pid_ns_device;      /* report this pid namespace alone, by its numbers */
	event_u64 pid_ns_inode;	      /* 0: all namespaces, by the initial one's numbers */
	event_u64 flags_ignored;      /* opens with any of these flags are filtered */
	event_u32 own_tgids[OWN_MAX]; /* the agent itself, of which nothing is reported; 0: none */
	event_u32 own_family;	      /* not 0: nor of its descendants */
	event_u32 only_tgid;	      /* not 0: report this process alone */
	event_u32 follow;	      /* not 0: and its descendants */
	event_u32 suffix_count;
	event_u32 basename_count;
	event_u32 directory_count;
	event_u32 fold; /* not 0: report equal opens once and count the rest */
	event_u32 reserved;
};

/*
 * The entry of one kind of event in the per-CPU map `counters`, whose key is EVENT_*. Every call
 * that a program saw is in exactly one of them, so what is missing can always be said.
 */
struct counters {
	event_u64 submitted; /* put into the ring */
	event_u64 lost;	     /* matched, but the ring was full */
	event_u64 faulted;   /* the name could not be read */
	event_u64 filtered;  /* matched no filter */
	event_u64 own;	     /* by the agent or, where they are not wanted, its descendants */
	event_u64 foreign;   /* from another pid namespace */
	event_u64 folded;    /* matched, and counted in `folds` instead */
	event_u64 repeated;  /* matched, and was reported of this process before */
};

/* Map `file_open_folds`: events that were not reported because they equal a reported one. */
struct fold_key {
	event_u64 key; /* event_header.fold_key */
	event_u32 tgid;
	event_u32 reserved;
};

struct fold {
	event_u64 count;
	event_u64 last_ns; /* CLOCK_MONOTONIC */
};

#endif
