"""Namespaces of the kernel that vanish with the test."""

import contextlib
import ctypes
import fcntl
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

# <linux/sockios.h>, <linux/if.h>, <linux/sched.h>
SIOCSIFADDR, SIOCSIFFLAGS = 0x8916, 0x8914
IFF_UP = 1
CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def namespace(*kinds):
    """Words that make a command run in a new namespace."""
    holder = subprocess.Popen(
        ["unshare", *kinds, "sh", "-c", "echo ready; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = holder.stdout.readline()
        if said != "ready\n":
            pytest.skip(f"no namespace can be made here: {said.strip()}")
        yield ["nsenter", f"--target={holder.pid}", *kinds]
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


class Network:
    """A network of one host that nobody else can reach, with an address that is not loopback."""

    ADDRESS = "198.51.100.1"

    def __init__(self, words):
        self.words = words
        self._pid = next(word for word in words if word.startswith("--target=")).split("=")[1]
        self._inside(self._raise)

    def connect(self, address):
        """A connected socket of there; it stays there wherever it is used."""
        return self._inside(lambda: socket.create_connection(address, timeout=10))

    def _inside(self, act):
        # A thread may be in another network than its process.
        with ThreadPoolExecutor(1, initializer=self._enter) as thread:
            return thread.submit(act).result()

    def _enter(self):
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self._pid}/ns/net") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def _raise(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for name, address in (("lo", "127.0.0.1"), ("lo:1", self.ADDRESS)):
                where = struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0,
                                    socket.inet_aton(address))
                fcntl.ioctl(any_socket, SIOCSIFADDR, where)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))


@contextlib.contextmanager
def network():
    """A network that vanishes with the test."""
    with namespace("--net") as words:
        yield Network(words)
