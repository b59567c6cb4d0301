// SPDX-License-Identifier: Apache-2.0
/*
 * How long does a system call take on this machine? Best of 20 chunks, in nanoseconds, one number.
 *
 *   monitor_calls getppid|open|memory|code|start COUNT FILE
 *
 * open: open and close FILE. memory, code: map a page, of nothing or of FILE as code, and unmap it.
 * start: start FILE and wait for its end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNKS 20

extern char **environ;

static double now_ns(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * 1e9 + at.tv_nsec;
}

static void one(char what, char *file, int fd)
{
	int code = what == 'c', status;
	char *words[] = { file, NULL };
	pid_t child;
	void *page;

	switch (what) {
	case 'g':
		syscall(SYS_getppid);
		return;
	case 'o':
		close(open(file, O_RDONLY));
		return;
	case 's':
		if (posix_spawn(&child, file, NULL, NULL, words, environ) || waitpid(child, &status, 0) < 0)
			exit(1);
		return;
	default:
		page = mmap(NULL, 4096, code ? PROT_READ | PROT_EXEC : PROT_READ | PROT_WRITE,
			    code ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS, code ? fd : -1, 0);
		munmap(page, 4096);
	}
}

int main(int argc, char **argv)
{
	int each = argc > 3 ? atoi(argv[2]) / CHUNKS : 0;
	double best = 1e18, spent;
	int fd;

	if (!each)
		return 2;
	fd = open(argv[3], O_RDONLY);
	for (int chunk = 0; chunk < CHUNKS; chunk++) {
		double begin = now_ns();

		for (int i = 0; i < each; i++)
			one(argv[1][0], argv[3], fd);
		spent = (now_ns() - begin) / each;
		if (spent < best)
			best = spent;
	}
	printf("%.0f\n", best);
	return 0;
}
