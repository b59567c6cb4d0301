/* SPDX-License-Identifier: Apache-2.0 */
/* process_crowd N NAME...: N processes that have libraries mapped and files open, until this one ends. A NAME that
 * begins with a slash is a file, any other one a library. /etc/passwd and /etc/group are open in any case.
 *
 * Says "ready" when all of them stand, then waits for its standard input to close. The children die with it, and it
 * with its own parent. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 0;
	pid_t parent = getpid();
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 2; i < argc; i++)
		if (argv[i][0] == '/' && open(argv[i], O_RDONLY) < 0) {
			perror(argv[i]);
			return 1;
		} else if (argv[i][0] != '/' && !dlopen(argv[i], RTLD_NOW)) {
			fprintf(stderr, "%s\n", dlerror());
			return 1;
		}
	if (open("/etc/passwd", O_RDONLY) < 0 || open("/etc/group", O_RDONLY) < 0)
		return 1;
	for (int i = 0; i < count; i++) {
		pid_t child = fork();

		if (child < 0) {
			perror("fork");
			return 1;
		}
		if (!child) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			/* The parent may have ended before the line above. */
			if (getppid() != parent)
				_exit(0);
			for (;;)
				pause();
		}
	}
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}
