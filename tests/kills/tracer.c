/* Number the operations by which a process, or one that it starts, changes files below a root, and
   send it a signal before one of them. A filter in the kernel stops the process at these calls
   alone, so that it runs at almost full speed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Where the arguments of a call name files: F a descriptor, D the directory of paths that follow,
   P a path. Other letters are conditions: O flags that open for writing, M a shared map that can
   be written, L a lock, C a copy by reference. */
struct call { int number; const char *name, *arguments; };
#define CALL(name, arguments) {SYS_##name, #name, arguments},
static const struct call calls[] = {
#ifdef SYS_open /* newer machines have the calls with "at" alone */
    CALL(open, "O1P0") CALL(creat, "P0") CALL(rename, "P0P1") CALL(link, "P0P1")
    CALL(symlink, "P1") CALL(unlink, "P0") CALL(rmdir, "P0") CALL(mkdir, "P0") CALL(chmod, "P0")
    CALL(chown, "P0") CALL(mknod, "P0") CALL(utimes, "P0")
#endif
#ifdef SYS_renameat
    CALL(renameat, "D0P1D2P3")
#endif
    CALL(openat, "O2D0P1") CALL(openat2, "D0P1") CALL(renameat2, "D0P1D2P3")
    CALL(linkat, "D0P1D2P3") CALL(symlinkat, "D1P2") CALL(unlinkat, "D0P1") CALL(mkdirat, "D0P1")
    CALL(fchmodat, "D0P1") CALL(fchownat, "D0P1") CALL(mknodat, "D0P1") CALL(utimensat, "D0P1")
    CALL(write, "F0") CALL(pwrite64, "F0") CALL(writev, "F0") CALL(pwritev, "F0")
    CALL(pwritev2, "F0") CALL(truncate, "P0") CALL(ftruncate, "F0") CALL(fallocate, "F0")
    CALL(fsync, "F0") CALL(fdatasync, "F0") CALL(fchmod, "F0") CALL(fchown, "F0")
    CALL(copy_file_range, "F2") CALL(sendfile, "F0") CALL(splice, "F2") CALL(flock, "F0")
    CALL(setxattr, "P0") CALL(fsetxattr, "F0") CALL(fcntl, "L1F0") CALL(ioctl, "C1F0")
    CALL(mmap, "M2F4")
};
#define N_CALLS ((int)(sizeof calls / sizeof *calls))

/* For the child: be traced from here on, and wait for the parent. */
int be_traced(void)
{
    struct sock_filter code[2 * N_CALLS + 2];
    struct sock_fprog program = {2 * N_CALLS + 2, code};
    code[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                           offsetof(struct seccomp_data, nr));
    for (int i = 0; i < N_CALLS; i++) {
        code[2 * i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                       calls[i].number, 0, 1);
        code[2 * i + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    code[2 * N_CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return errno;
    raise(SIGSTOP);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) ? errno : 0;
}

/* A name in /proc, or the path of an open file. */
static void resolve(pid_t pid, int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/%d/cwd" : "/proc/%d/fd/%d", pid, fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
}

static void read_path(pid_t pid, uint64_t address, char *path)
{
    /* A string may end just before a page that is not there. */
    for (size_t n = 0; n < PATH_MAX - 1;) {
        size_t step = 256 - (address + n) % 256;
        if (step > PATH_MAX - 1 - n)
            step = PATH_MAX - 1 - n;
        struct iovec here = {path + n, step}, there = {(void *)(address + n), step};
        ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
        path[n + (got < 0 ? 0 : got)] = 0;
        if (got <= 0 || memchr(path + n, 0, got))
            return;
        n += got;
        path[n] = 0;
    }
}

static int holds(char condition, uint64_t value, const uint64_t *arguments)
{
    switch (condition) {
    case 'O': return (value & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
    case 'M': return (value & PROT_WRITE) && (arguments[3] & MAP_SHARED);
    case 'L': return value == F_SETLK || value == F_SETLKW || value == F_OFD_SETLK ||
                     value == F_OFD_SETLKW;
    case 'C': return value == FICLONE || value == FICLONERANGE;
    }
    return 1;
}

/* What a stopped process is about to do, "" if that changes nothing below the root. */
static void describe(pid_t pid, const char *root, char *text, size_t size)
{
    struct __ptrace_syscall_info info;
    const struct call *call = calls;
    int directory = AT_FDCWD, inside = 0;
    text[0] = 0;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0)
        return;
    const uint64_t *arguments = info.seccomp.args;
    while (call < calls + N_CALLS && call->number != (int)info.seccomp.nr)
        call++;
    if (call == calls + N_CALLS)
        return;
    size_t n = snprintf(text, size, "%s", call->name), length = strlen(root);
    for (const char *at = call->arguments; *at; at += 2) {
        char path[2 * PATH_MAX] = "", end[PATH_MAX] = "";
        uint64_t value = arguments[at[1] - '0'];
        if (*at == 'D')
            directory = (int)value;
        else if (*at == 'F')
            resolve(pid, (int)value, path);
        else if (*at == 'P') {
            if (value)
                read_path(pid, value, end);
            if (*end != '/') {
                resolve(pid, directory, path);
                if (*end)
                    strcat(path, "/");
            }
            strcat(path, end);
        } else if (!holds(*at, value, arguments))
            break;
        if (!*path)
            continue;
        int below = !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
        inside |= below;
        n += snprintf(text + n, size - n, " %s", below ? path + length : path);
    }
    if (!inside)
        text[0] = 0;
}

/* For the parent: let the child run, with a line in the log for each operation: seconds, call,
   paths. Before number `at` (from 1; 0 for never) it gets the signal, of which, if it is SIGKILL,
   all that it started die too. Returns how it ended, as waitpid says. */
int watch(pid_t child, const char *root, long at, int signum, const char *log)
{
    static pid_t others[4096];
    static char text[3 * PATH_MAX];
    int status, result = -1, n_others = 0;
    long count = 0;
    struct timespec start, now;
    FILE *file = fopen(log, "w");
    if (!file)
        return -1;
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) { /* it may not be traced, and has said so */
        fclose(file);
        return status;
    }
    ptrace(PTRACE_SETOPTIONS, child, 0,
           PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
               PTRACE_O_TRACECLONE);
    clock_gettime(CLOCK_MONOTONIC, &start);
    ptrace(PTRACE_CONT, child, 0, 0);
    for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
        int event = status >> 16, deliver = 0;
        if (!WIFSTOPPED(status)) {
            if (pid == child)
                result = status;
            continue;
        }
        if (event == PTRACE_EVENT_SECCOMP) {
            describe(pid, root, text, sizeof text);
            if (*text) {
                clock_gettime(CLOCK_MONOTONIC, &now);
                fprintf(file, "%.4f %s\n", now.tv_sec - start.tv_sec +
                        1e-9 * (now.tv_nsec - start.tv_nsec), text);
                if (++count == at) {
                    kill(child, signum);
                    for (int i = 0; signum == SIGKILL && i < n_others; i++)
                        kill(others[i], SIGKILL);
                }
            }
        } else if (event) {
            unsigned long new;
            ptrace(PTRACE_GETEVENTMSG, pid, 0, &new);
            if (n_others < 4096)
                others[n_others++] = (pid_t)new;
        } else if (WSTOPSIG(status) != SIGSTOP && WSTOPSIG(status) != SIGTRAP)
            deliver = WSTOPSIG(status);
        ptrace(PTRACE_CONT, pid, 0, deliver);
    }
    fclose(file);
    return result;
}
