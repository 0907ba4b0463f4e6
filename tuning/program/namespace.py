"""A network namespace of one's own, and the kernel's counters in it."""

import ctypes
import fcntl
import os
import pickle
import signal
import socket
import struct
import sys
import traceback

CLONE_FILES = 0x00000400
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41

LIBC = ctypes.CDLL(None, use_errno=True)


def enter():
    """Moves this process into a new network namespace with a loopback device that is up."""
    if LIBC.unshare(CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"no network namespace can be made: {os.strerror(error)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", IFF_UP_RUNNING)
        fcntl.ioctl(control, SIOCSIFFLAGS, request)


def inside(task, *arguments, settings=None):
    """Runs `task` in a child in a namespace of its own with these settings; gives its result."""
    return Child(task, arguments, settings or {}).result()


def write(name, value):
    """Sets a namespaced kernel setting. `enter` must have been called."""
    with open("/proc/sys/" + name.replace(".", "/"), "w") as file:
        file.write(f"{value}\n")


def counters(*names):
    """Sums of counters of this namespace, such as `TcpExt.ListenOverflows`."""
    found = {}
    for path in ("/proc/thread-self/net/netstat", "/proc/thread-self/net/snmp"):
        with open(path) as file:
            lines = file.read().splitlines()
        for keys, values in zip(lines[::2], lines[1::2]):
            prefix, keys = keys.split(":", 1)
            found.update(
                (f"{prefix}.{key}", int(value))
                for key, value in zip(keys.split(), values.split(":", 1)[1].split())
            )
    return {name: found.get(name, 0) for name in names}


def tcp_pages():
    """Pages in buffers of TCP sockets. The kernel counts them for the whole machine."""
    with open("/proc/thread-self/net/sockstat") as file:
        line = next(line for line in file if line.startswith("TCP:"))
    return int(line.split()[line.split().index("mem") + 1])


class Child:
    """A child process that does one task and reports once, or keeps answering until it ends."""

    def __init__(self, task, arguments=(), settings=None):
        self.results, results = os.pipe()
        orders, self.orders = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                # Whatever ends the parent ends the child: nothing is left on the machine.
                LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                os.close(self.results)
                os.close(self.orders)
                if settings is not None:
                    enter()
                    for name, value in settings.items():
                        write(name, value)
                self._answer(results, task(*arguments, *self._steps(task, orders, results)))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(results)
        os.close(orders)

    @staticmethod
    def _steps(task, orders, results):
        """A task that is marked `stepwise` gets a function: report this, wait to go on."""
        if not getattr(task, "stepwise", False):
            return ()

        def step(value=None):
            Child._answer(results, value)
            return os.read(orders, 1)

        return (step,)

    @staticmethod
    def _answer(results, value):
        octets = pickle.dumps(value)
        os.write(results, struct.pack("I", len(octets)) + octets)

    def report(self):
        """The next report; waits for it."""
        head = os.read(self.results, 4)
        if len(head) < 4:
            raise RuntimeError("a measuring process failed; its reason is above")
        (length,) = struct.unpack("I", head)
        octets = b""
        while len(octets) < length:
            octets += os.read(self.results, length - len(octets))
        return pickle.loads(octets)

    def go_on(self):
        os.write(self.orders, b".")

    def result(self):
        """The last report, and the end of the process."""
        value = self.report()
        self.end()
        return value

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.orders)
        os.close(self.results)
        os.waitpid(self.pid, 0)


def stepwise(task):
    task.stepwise = True
    return task
