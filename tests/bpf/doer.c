// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Does one thing that the kernel half must see, in a chosen way.
 *
 *   doer exit CODE              ends with that code
 *   doer raise SIGNAL           ends by that signal
 *   doer threads CODE           six threads that sleep; the first one ends the process with that code
 *   doer orphan CODE            the first thread ends by itself; another one ends the process later
 *   doer storm CODE             six threads that call exit(2), each for itself, at the same moment
 *   doer reexec                 another thread than the first one executes this program: exit 7
 *   doer dlopen FILE COUNT      opens and closes a library so often
 *   doer map FILE COUNT         maps a file as code so often
 *   doer race FILE              six threads map a file as code at the same moment
 *   doer read FILE              maps a file, but not as code
 *   doer name BYTES COMMAND...  calls itself so, and executes the command in a child
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 6

static pthread_barrier_t barrier;
static const char *file, *self;
static int code;

static void die(const char *what)
{
	perror(what);
	exit(99);
}

static void map(int protection)
{
	int fd = open(file, O_RDONLY);

	if (fd < 0 || mmap(NULL, 4096, protection, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		die(file);
	close(fd);
}

static void *sleeps(void *unused)
{
	pthread_barrier_wait(&barrier);
	pause();
	return unused;
}

static void *ends(void *unused)
{
	prctl(PR_SET_NAME, "worker");
	pthread_barrier_wait(&barrier);
	usleep(2000);
	exit(code);
	return unused;
}

static void *leaves(void *unused)
{
	pthread_barrier_wait(&barrier);
	syscall(SYS_exit, code);
	return unused;
}

static void *maps(void *unused)
{
	pthread_barrier_wait(&barrier);
	map(PROT_READ | PROT_EXEC);
	return unused;
}

static void *executes(void *unused)
{
	pthread_barrier_wait(&barrier);
	execl(self, self, "exit", "7", (char *)NULL);
	die(self);
	return unused;
}

static void start(int count, void *(*function)(void *), pthread_t *threads)
{
	pthread_barrier_init(&barrier, NULL, count + 1);
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, function, NULL))
			die("pthread_create");
}

int main(int argc, char **argv)
{
	struct rlimit core = { RLIM_INFINITY, RLIM_INFINITY };
	const char *way = argc > 1 ? argv[1] : "";
	pthread_t threads[THREADS];

	self = argv[0];
	file = argc > 2 ? argv[2] : "";
	code = atoi(file);
	if (!strcmp(way, "exit"))
		return code;
	if (!strcmp(way, "raise")) {
		setrlimit(RLIMIT_CORE, &core);
		raise(code);
	} else if (!strcmp(way, "threads")) {
		start(THREADS - 1, sleeps, threads);
		pthread_barrier_wait(&barrier);
		exit(code);
	} else if (!strcmp(way, "orphan")) {
		start(1, ends, threads);
		pthread_barrier_wait(&barrier);
		syscall(SYS_exit, 3);
	} else if (!strcmp(way, "storm")) {
		start(THREADS - 1, leaves, threads);
		leaves(NULL);
	} else if (!strcmp(way, "reexec")) {
		start(1, executes, threads);
		sleeps(NULL);
	} else if (!strcmp(way, "dlopen")) {
		for (int i = atoi(argv[3]); i > 0; i--) {
			void *library = dlopen(file, RTLD_NOW);

			if (!library)
				die(dlerror());
			dlclose(library);
		}
		return 0;
	} else if (!strcmp(way, "map")) {
		for (int i = atoi(argv[3]); i > 0; i--)
			map(PROT_READ | PROT_EXEC);
		return 0;
	} else if (!strcmp(way, "race")) {
		start(THREADS, maps, threads);
		pthread_barrier_wait(&barrier);
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		return 0;
	} else if (!strcmp(way, "read")) {
		map(PROT_READ);
		return 0;
	} else if (!strcmp(way, "name")) {
		pid_t child;
		int status;

		prctl(PR_SET_NAME, file);
		child = fork();
		if (!child) {
			execvp(argv[3], argv + 3);
			_exit(127);
		}
		waitpid(child, &status, 0);
		return 0;
	}
	return 98;
}
