// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Opens one file in a chosen way, so often that a test knows exactly what the kernel half must see.
 *
 *   opener WAY COUNT FILE [DIRECTORY]
 *
 * Ways: open creat openat openat2 in_root (openat2 with RESOLVE_IN_ROOT below DIRECTORY) at (openat
 * below DIRECTORY) cold (the name is in a page that was not touched before; DIRECTORY is a scratch
 * file for it) chroot (to DIRECTORY first) fault (no readable name) write thread. The calls are made
 * directly: a C library turns open() into openat(). Exits 0 whatever the calls return.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *way, *file, *directory;
static int count;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* A copy of the name in a page that is mapped and in the file, but not in our page table. */
static char *cold_name(int fd)
{
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);

	if (page == MAP_FAILED)
		die("mmap");
	return page;
}

static void *calls(void *unused)
{
	int below = directory ? open(directory, O_PATH | O_DIRECTORY) : AT_FDCWD;
	struct open_how how = { .flags = O_RDONLY | O_NOFOLLOW };
	int page_fd = -1;

	if (!strcmp(way, "cold")) {
		page_fd = open(directory, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (page_fd < 0 || pwrite(page_fd, file, strlen(file) + 1, 0) < 0 || ftruncate(page_fd, 4096))
			die(directory);
	}
	if (!strcmp(way, "chroot") && (chroot(directory) || chdir("/")))
		die(directory);
	for (int i = 0; i < count; i++) {
		char *page = NULL;
		int fd;

		if (!strcmp(way, "open")) {
			fd = syscall(SYS_open, file, O_RDONLY | O_CLOEXEC, 0);
		} else if (!strcmp(way, "creat")) {
			fd = syscall(SYS_creat, file, 0600);
		} else if (!strcmp(way, "openat2")) {
			fd = syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof(how));
		} else if (!strcmp(way, "in_root")) {
			how.resolve = RESOLVE_IN_ROOT;
			fd = syscall(SYS_openat2, below, file, &how, sizeof(how));
		} else if (!strcmp(way, "at")) {
			fd = syscall(SYS_openat, below, file, O_RDONLY, 0);
		} else if (!strcmp(way, "cold")) {
			page = cold_name(page_fd);
			fd = syscall(SYS_openat, AT_FDCWD, page, O_RDONLY, 0);
		} else if (!strcmp(way, "fault")) {
			fd = syscall(SYS_openat, AT_FDCWD, (char *)8, O_RDONLY, 0);
		} else if (!strcmp(way, "write")) {
			fd = syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CREAT | O_APPEND, 0600);
		} else {
			fd = syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC, 0);
		}
		if (fd >= 0)
			close(fd);
		if (page)
			munmap(page, 4096);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 4)
		return 2;
	way = argv[1];
	count = atoi(argv[2]);
	file = argv[3];
	directory = argc > 4 ? argv[4] : NULL;
	if (strcmp(way, "thread")) {
		calls(NULL);
	} else {
		if (pthread_create(&thread, NULL, calls, NULL))
			die("pthread_create");
		pthread_join(thread, NULL);
	}
	return 0;
}
