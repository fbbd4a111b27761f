"""Runs one Python program in a jail. A script of its own, started by sandbox.py, that imports next
to nothing, because starting Python is what a short program costs.

    python -I -S jail.py CODE_FD REPORT_FD TIMEOUT_S MEMORY_BYTES OUTPUT_BYTES PROCESSES MODE

The program is read from CODE_FD and uses this process's standard streams. One line goes to
REPORT_FD: "error WHY" where the jail could not be built, "timeout", or "status N" with the
program's exit code (negative: the signal that killed it).
"""

import ctypes
import os
import resource
import select
import sys

NOBODY = 65534
OWN = 1 << 24  # from here on uids that nobody has, one for each process id
WRITABLE_BYTES = 16 << 20  # of the program's own folder, held in memory
SHOWN = ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", sys.base_prefix)
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mnt uts ipc pid net
CLONE_NEWUSER = 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, SIGKILL = 1, 4, 38, 9
SPARE = 256  # threads that this user's other programs may start while one runs without a jail
STACK_BYTES = 120 << 20  # deep recursion through C; Linux leaves a stack 128 MiB to grow into
CAPABILITY_VERSION = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def checked(what: str, result: int) -> None:
    if result:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    names = (source.encode(), target.encode(), kind.encode())
    checked(f"mount {target}", libc.mount(*names, flags, options.encode()))


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def leave_the_system() -> None:
    """New namespaces: no network, no other processes, mounts that nobody else sees."""
    uid, gid = os.getuid(), os.getgid()
    checked("unshare", libc.unshare(NAMESPACES | (CLONE_NEWUSER if uid else 0)))
    if uid:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{NOBODY} {uid} 1")
        write("/proc/self/gid_map", f"{NOBODY} {gid} 1")


def change_root() -> None:
    """A root that holds Python and its libraries, read-only, and one small writable folder."""
    root = "/proc"  # a mount point that always exists, and that nothing below is read from
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs")
    for source in SHOWN:
        target = root + source
        if os.path.exists(target) or not os.path.exists(source):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(source):  # /lib -> usr/lib
            os.symlink(os.readlink(source), target)
            continue
        if os.path.isdir(source):
            os.mkdir(target)
        else:
            write(target, "")
        mount(source, target, "none", MS_BIND | MS_REC)
    os.mkdir(f"{root}/work")
    read_only = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY)
    where = (AT_FDCWD, root.encode(), AT_RECURSIVE, read_only, ctypes.sizeof(read_only))
    checked("mount_setattr", libc.syscall(SYS_MOUNT_SETATTR, *where))
    mount("tmpfs", f"{root}/work", "tmpfs", options=f"size={WRITABLE_BYTES},mode=777")
    os.chroot(root)
    os.chdir("/work")


def own_uid() -> int:
    """A uid that no other sandbox has, because the limit of processes is that of a uid; NOBODY in a
    container that maps too few."""
    uid = OWN + os.getpid()
    with open("/proc/self/uid_map") as file:
        ranges = [[int(number) for number in line.split()] for line in file]
    return uid if any(first <= uid < first + n for first, _, n in ranges) else NOBODY


def drop_rights(uid: int) -> None:
    if os.getuid() == 0:  # whom the process limit would not bind
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(uid, uid, uid)
    version, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    checked("capset", libc.capset(version, none))


def counted(jailed: bool) -> int:
    """What the limit of processes counts beside the program: as root in a jail nothing, as another
    user the process that watches it, without a jail all threads of this user, now and later."""
    if not jailed:
        return running() + SPARE
    return 1 if os.getuid() else 0


def running() -> int:
    """The threads of this user."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # it has ended
            continue
    return found


def set_limits(timeout_s: float, memory: int, output: int, processes: int) -> None:
    for what, value in (
        (resource.RLIMIT_CPU, int(timeout_s) + 1),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (value, value))
    most = resource.getrlimit(resource.RLIMIT_STACK)[1]
    stack = STACK_BYTES if most == resource.RLIM_INFINITY else min(STACK_BYTES, most)
    resource.setrlimit(resource.RLIMIT_STACK, (stack, most))


def watch(child: int, timeout_s: float) -> str:
    ended, _, _ = select.select([os.pidfd_open(child)], [], [], timeout_s)
    os.kill(child, SIGKILL)  # process 1 of its namespace: all others in it die too
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"status {status}" if ended else "timeout"


def main() -> None:
    code, report = int(sys.argv[1]), int(sys.argv[2])
    timeout_s, memory, output = float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    processes, jailed = int(sys.argv[6]), sys.argv[7] == "namespaces"
    with open(code, encoding="utf-8", errors="replace") as file:
        program = file.read()
    try:
        uid, beside = own_uid(), counted(jailed)
        if jailed:
            leave_the_system()
        child = os.fork()  # the first process of the new process namespace
        if child:
            os.write(report, watch(child, timeout_s).encode())
            return
        if jailed:
            change_root()
            drop_rights(uid)
        libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # its processes cannot trace each other
        set_limits(timeout_s, memory, output, processes + beside)
    except OSError as error:
        os.write(report, f"error {error}\n".encode())
        return
    os.close(report)
    sys.argv = ["program.py"]
    exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
