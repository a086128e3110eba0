"""The guard: a process that runs no script, and outlives the one that does for as long as it takes
to end everything that it started. It needs nothing but the standard library."""

import fcntl
import os
import resource
import select
import signal
import socket

# The highest descriptors are the least likely to be closed or replaced by a script.
CONTROL_MIN = 500


def begin():
    """The control socket, in the process that is guarded."""
    control = take_control()
    guard(control)
    try:
        # The system takes this process before the server when memory runs out.
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write("500")
    except OSError:
        pass
    return control


def prctl(option, value):
    """Asks the system for something that Python has no name for; without it some safety is lost."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def take_control():
    """Moves the control socket away from standard input, which scripts read."""
    try:
        descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, CONTROL_MIN)
    except OSError:
        descriptor = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 10)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return socket.socket(fileno=descriptor)


def guard(control):
    """Forks. The child returns and runs the models. This process runs no script: it waits until the
    child or the server has ended, ends what the child started, and ends as the child did.
    """
    prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: what loses its parent becomes a child of this process.
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    own = os.getpid()
    worker = os.fork()
    if worker == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(awake)
        os.close(wake)
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != own:
            os._exit(1)
        os.setpgid(0, 0)
        return
    status = watch(control, awake, worker)
    end_family(worker)
    if status is not None and os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(own, number)
    os._exit(0 if status is None else os.WEXITSTATUS(status))


def watch(control, awake, worker):
    """How the worker has ended; None when the server has, or wants it to."""
    poll = select.poll()
    poll.register(control, 0x2000)  # POLLRDHUP
    poll.register(awake, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != awake:
                return None
            try:
                os.read(awake, 4096)
            except BlockingIOError:
                pass
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if ended == worker:
                return status
            if ended == 0:
                break


def end_family(worker):
    """Kills what is left: the worker's group, and whoever has become a child of this process."""
    try:
        os.killpg(worker, signal.SIGKILL)
    except OSError:
        pass
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as listing:
                children = [int(child) for child in listing.read().split()]
        except OSError:
            children = [worker]
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except OSError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
