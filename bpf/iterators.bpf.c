// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What has every process mapped to be executed, and which files does it hold open, at this moment?
 *
 * Two iterators (Documentation/bpf/bpf_iterators.rst): the kernel walks its own tables and what is
 * written here is read like a file. Nothing is attached to any event, so a host pays for nothing
 * but the look itself. The other half is agent/kernel/iterators.py; nothing of event.h is used.
 *
 * The kernel runs a program again for the same object when its output buffer was full, and forgets
 * what the first run wrote. So what is remembered from one object to the next changes only after
 * everything has been written.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "iterators.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Constants of the kernel, which are macros there and so not in vmlinux.h. */
#define ENOENT	       2
#define VM_EXEC	       0x4
#define FMODE_BACKING  (1 << 25)
#define S_IFMT	       0170000
#define S_IFREG	       0100000
/* PATH_MAX: what d_path() writes at most, its NUL included. */
#define PATH_BYTES_MAX 4096

/*
 * What the kernel calls the programs with: each is a list of pointers (include/uapi and
 * kernel/bpf/task_iter.c). Unlike vmlinux.h's, these are not looked for in the host's kernel when
 * the programs are loaded, which takes 1 ms for each type.
 */
struct output {
	struct seq_file *file;
};

struct mapping_context {
	struct output *output;
	struct task_struct *task;
	struct vm_area_struct *vma;
};

struct descriptor_context {
	struct output *output;
	struct task_struct *task;
	__u64 fd; /* 32 bits, at the beginning */
	struct file *file;
};

const volatile struct settings settings = {};

/* Room for one record, which is built here: a program's own stack has 512 bytes. */
struct scratch {
	__u64 words[(128 + PATH_BYTES_MAX) / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* Whose objects are being walked. One reader reads each iterator once, from one end to the other.
 */
struct walk {
	__u64 start_ns;
	__s32 tgid;
	__u32 count;
};

struct walk mapped = {};
struct walk opened = {};

static __always_inline struct scratch *own_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

/* A thread has the memory and, as a rule, the descriptors of its leader; /proc/PID shows the
 * leader's. */
static __always_inline bool is_wanted(const struct task_struct *task)
{
	return task->pid == task->tgid;
}

/* As /proc/PID/maps has it: of a file on overlayfs that of the overlay, not of the layer below. */
static __always_inline struct inode *inode_of(struct file *file)
{
	if (bpf_core_field_exists(struct backing_file, user_path) && file->f_mode & FMODE_BACKING)
		return BPF_CORE_READ((struct backing_file *)file, user_path.dentry, d_inode);
	return file->f_inode;
}

static __always_inline int write_process(struct mapping_context *ctx, struct task_struct *task,
					 struct vm_area_struct *vma)
{
	struct scratch *scratch = own_scratch();
	struct process *process;
	struct file *exe;
	long bytes = -ENOENT;
	__u32 size;

	if (!scratch)
		return -1;
	process = (struct process *)scratch->words;
	/* The memory that is being walked cannot go away, and so its executable cannot. */
	exe = vma->vm_mm->exe_file;
	if (exe)
		bytes = bpf_d_path((struct path *)&exe->f_path, process->exe, PATH_BYTES_MAX);
	size = sizeof(*process);
	if (bytes > 0 && bytes <= PATH_BYTES_MAX)
		size += ((__u32)bytes + 7) & ~7U;
	process->sign = settings.sign;
	process->bytes = size;
	process->tgid = task->tgid;
	process->start_ns = task->start_boottime;
	process->cgroups = (__u64)task->cgroups;
	process->root = (__u64)BPF_CORE_READ(task, fs, root.dentry);
	process->uid = task->real_cred->uid.val;
	process->reserved = 0;
	bpf_probe_read_kernel_str(process->comm, sizeof(process->comm), task->comm);
	process->exe_bytes = bytes;
	if (size > sizeof(*process) + PATH_BYTES_MAX)
		return -1;
	return bpf_seq_write(ctx->output->file, process, size);
}

SEC("iter/task_vma")
int mappings(struct mapping_context *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct mapping mapping = {};
	struct inode *inode;
	struct file *file;
	bool is_first;

	if (!task || !vma || !(vma->vm_flags & VM_EXEC))
		return 0;
	file = vma->vm_file;
	if (!file || !is_wanted(task))
		return 0;
	is_first = mapped.tgid != task->tgid || mapped.start_ns != task->start_boottime;
	if (is_first && write_process(ctx, task, vma))
		return 0;
	inode = inode_of(file);
	mapping.dev = BPF_CORE_READ(inode, i_sb, s_dev);
	mapping.inode = BPF_CORE_READ(inode, i_ino);
	mapping.offset = (__u64)vma->vm_pgoff << settings.page_shift;
	mapping.name = (__u64)BPF_CORE_READ(file, f_path.dentry);
	mapping.length = vma->vm_end - vma->vm_start;
	if (bpf_seq_write(ctx->output->file, &mapping, sizeof(mapping)))
		return 0;
	if (is_first) {
		mapped.tgid = task->tgid;
		mapped.start_ns = task->start_boottime;
	}
	return 0;
}

SEC("iter/task_file")
int descriptors(struct descriptor_context *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct descriptor *descriptor;
	struct scratch *scratch;
	struct inode *inode;
	__u32 count, size;
	long bytes;

	if (!task || !file || !is_wanted(task))
		return 0;
	count = opened.count;
	if (opened.tgid != task->tgid || opened.start_ns != task->start_boottime)
		count = 0;
	inode = file->f_inode;
	if (count > settings.descriptors_max ||
	    (count < settings.descriptors_max && (inode->i_mode & S_IFMT) != S_IFREG))
		goto next;
	scratch = own_scratch();
	if (!scratch)
		return 0;
	descriptor = (struct descriptor *)scratch->words;
	bytes = 0;
	size = sizeof(*descriptor);
	if (count < settings.descriptors_max) {
		bytes = bpf_d_path((struct path *)&file->f_path, descriptor->path, PATH_BYTES_MAX);
		/* `anon_inode:[eventfd]`, which newer kernels count as regular. */
		if (bytes > 0 && descriptor->path[0] != '/')
			goto next;
		if (bytes > 0 && bytes <= PATH_BYTES_MAX)
			size += ((__u32)bytes + 7) & ~7U;
	}
	descriptor->bytes = size;
	descriptor->tgid = task->tgid;
	descriptor->start_ns = task->start_boottime;
	descriptor->inode = inode->i_ino;
	descriptor->dev = inode->i_sb->s_dev;
	descriptor->mount =
		BPF_CORE_READ(container_of(file->f_path.mnt, struct mount, mnt), mnt_id);
	descriptor->fd = (__u32)ctx->fd;
	descriptor->reserved = 0;
	descriptor->path_bytes = bytes;
	if (size > sizeof(*descriptor) + PATH_BYTES_MAX)
		return 0;
	if (bpf_seq_write(ctx->output->file, descriptor, size))
		return 0;
next:
	opened.tgid = task->tgid;
	opened.start_ns = task->start_boottime;
	opened.count = count + 1;
	return 0;
}
