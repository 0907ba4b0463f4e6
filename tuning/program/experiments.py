"""What a setting changes, on loopback, in namespaces that vanish with the experiment."""

import errno
import os
import random
import select
import socket
import struct
import subprocess
import time

from . import namespace
from .namespace import Child, inside, stepwise

SERVER = ("127.0.0.1", 5222)
#: Sockets of one process; below the usual limits of descriptors.
SOCKETS = 9_000


def backlog(clients=6_000, busy=0.5):
    """net.core.somaxconn: clients come at once while the server is busy for half a second."""
    for value in (128, 1_024, 4_096, 16_384):
        found = inside(_storm, clients, busy, settings={"net.core.somaxconn": value})
        yield {"somaxconn": value, "clients": clients, **found}


def _storm(clients, busy):
    listener = socket.create_server(SERVER, backlog=65_535)
    listener.setblocking(False)
    poll = select.epoll()
    start = time.monotonic()
    waiting = {}
    for _ in range(clients):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(SERVER)
        waiting[client.fileno()] = client
        poll.register(client, select.EPOLLOUT | select.EPOLLET)
    held, accepted, late = [], [], 0.0
    while len(accepted) < clients and time.monotonic() - start < 12:
        if time.monotonic() - start > busy:
            late = _accept(listener, accepted, late, start)
        for number, _ in poll.poll(0.01):
            held.append(waiting.pop(number, None))
    seen = namespace.counters("TcpExt.ListenOverflows", "TcpExt.TCPReqQFullDoCookies")
    return {
        "dropped": seen["TcpExt.ListenOverflows"],
        "SYN cookies": seen["TcpExt.TCPReqQFullDoCookies"],
        "accepted": len(accepted),
        "last after s": round(late, 2),
    }


def _accept(listener, accepted, late, start):
    while True:
        try:
            accepted.append(listener.accept()[0])
            late = time.monotonic() - start
        except BlockingIOError:
            return late


def syn_queue(flood=20_000):
    """net.ipv4.tcp_max_syn_backlog: addresses that never answer, then 100 honest clients."""
    for cookies in (1, 0):
        for value in (128, 2_048, 16_384):
            settings = {
                "net.ipv4.tcp_max_syn_backlog": value,
                "net.ipv4.tcp_syncookies": cookies,
                "net.ipv4.conf.all.rp_filter": 0,
                "net.ipv4.conf.lo.rp_filter": 0,
            }
            found = inside(_flood, flood, settings=settings)
            yield {"tcp_syncookies": cookies, "tcp_max_syn_backlog": value, **found}


def _flood(flood):
    # Answers to these addresses go nowhere.
    subprocess.run(["ip", "route", "add", "10.0.0.0/8", "dev", "lo"], check=True)
    listener = socket.create_server(SERVER, backlog=4_096)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    for number in range(flood):
        source = socket.inet_aton(f"10.1.{number >> 8 & 255}.{number & 255}")
        raw.sendto(_syn(source, 1_024 + number % 60_000), (SERVER[0], 0))
    honest, start = 0, time.monotonic()
    for _ in range(100):
        with socket.socket() as client:
            client.settimeout(0.2)
            honest += client.connect_ex(SERVER) == 0
    listener.close()
    names = ("TCPReqQFullDoCookies", "TCPReqQFullDrop", "ListenDrops")
    seen = namespace.counters(*(f"TcpExt.{name}" for name in names))
    return {
        "SYN": flood,
        **{name: seen[f"TcpExt.{name}"] for name in names},
        "honest of 100": honest,
        "s": round(time.monotonic() - start, 2),
    }


def _syn(source, port):
    target = socket.inet_aton(SERVER[0])
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target)
    segment = struct.pack("!HHIIBBHHH", port, SERVER[1], 7, 0, 0x50, 2, 64_240, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, 6, len(segment)) + segment
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head + segment[:16] + struct.pack("!HH", ~total & 0xFFFF, 0)


def ports(wanted=30_000):
    """net.ipv4.ip_local_port_range: 30,000 connections from one address to one port."""
    for value in ("32768 60999", "1024 65535"):
        settings = {"net.ipv4.ip_local_port_range": value}
        found = inside(_exhaust, wanted, settings=settings)
        yield {"ip_local_port_range": value, **found}


def _exhaust(wanted):
    listener = socket.create_server(SERVER, backlog=4_096)
    held = []
    count, error = 0, 0
    while not error and count < wanted:
        held.append(Child(_connect_many, (listener, min(SOCKETS, wanted - count))))
        more, error = held[-1].report()
        count += more
    for child in held:
        child.end()
    then = errno.errorcode[error] if error else "-"
    return {"wanted": wanted, "connections": count, "then": then}


@stepwise
def _connect_many(listener, count, step):
    """Reports how many it got, and the error that ended it (0: none); then holds them."""
    sockets = []
    for _ in range(count):
        client = socket.socket()
        error = client.connect_ex(SERVER)
        if error:
            break
        sockets += [client, listener.accept()[0]]
    step((len(sockets) // 2, error))


def reserved():
    """net.ipv4.ip_local_reserved_ports: clients connect, then a server starts on 5222."""
    for value in ("", "5222-5223,5269"):
        settings = {
            "net.ipv4.ip_local_port_range": "5000 5999",
            "net.ipv4.ip_local_reserved_ports": value,
        }
        found = inside(_steal, settings=settings)
        yield {"ip_local_reserved_ports": value or "(none)", **found}


def _steal():
    other = ("127.0.0.1", 4_000)
    listener = socket.create_server(other, backlog=4_096)
    clients = []
    while True:
        client = socket.socket()
        if client.connect_ex(other):
            break
        clients += [client, listener.accept()[0]]
    taken = any(client.getsockname()[1] == SERVER[1] for client in clients[::2])
    try:
        socket.create_server(SERVER).close()
        listens = "yes"
    except OSError as error:
        listens = errno.errorcode[error.errno]
    return {"clients": len(clients) // 2, "5222 taken": taken, "server can listen": listens}


def hash_size(connections=150_000, buckets=(32_768, 262_144, 2_097_152), rounds=15):
    """net.ipv4.tcp_child_ehash_entries: octets to and fro over random connections."""
    groups = {}
    try:
        for count in buckets:
            # The table is made with the namespace: set by the parent, read at its birth.
            groups[count] = Child(_hold, (connections, count), settings={})
        for group in groups.values():
            group.report()
        times = {count: [] for count in buckets}
        for _ in range(rounds):
            for count, group in groups.items():
                group.go_on()
                times[count].append(group.report())
    finally:
        for group in groups.values():
            group.end()
    for count, taken in times.items():
        taken.sort()
        yield {
            "tcp_child_ehash_entries": count,
            "sockets": 2 * connections,
            "us per message": round(taken[len(taken) // 2], 2),
            "fastest": round(taken[0], 2),
        }


@stepwise
def _hold(connections, buckets, step):
    namespace.write("net.ipv4.tcp_child_ehash_entries", buckets)
    namespace.write("net.ipv4.ip_local_port_range", "1024 65535")
    namespace.enter()
    namespace.write("net.ipv4.ip_local_port_range", "1024 65535")
    with open("/proc/sys/net/ipv4/tcp_ehash_entries") as file:
        assert int(file.read()) == buckets
    listener = socket.create_server(("", SERVER[1]), backlog=4_096)
    holders = []
    for number in range(-(-connections // SOCKETS)):
        source = f"127.0.{1 + number // 2}.1"
        holders.append(Child(_pairs, (listener, source, SOCKETS)))
        holders[-1].report()
    step()
    order = random.Random(5)
    while True:
        total = 0.0
        for holder in order.sample(holders, len(holders)):
            holder.go_on()
            total += holder.report()
        if not step(total / len(holders)):
            return None


@stepwise
def _pairs(listener, source, count, step):
    pairs = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        client.bind((source, 0))
        client.connect(("127.0.0.1", SERVER[1]))
        pairs.append((client, listener.accept()[0]))
    order, taken = random.Random(os.getpid()), 0.0
    while step(taken):
        chosen = order.sample(pairs, 200)
        start = time.perf_counter()
        for client, server in chosen:
            client.send(b"x" * 200)
            server.recv(400)
        taken = (time.perf_counter() - start) / len(chosen) * 1e6
    return None


def buffers(connections=8_000):
    """tcp_rmem and tcp_wmem: memory of sockets that idle, and of such that nobody reads."""
    kinds = {
        "the usual": {},
        "small": {
            "net.ipv4.tcp_rmem": "4096 16384 262144",
            "net.ipv4.tcp_wmem": "4096 16384 262144",
        },
        "large": {
            "net.ipv4.tcp_rmem": "4096 262144 33554432",
            "net.ipv4.tcp_wmem": "4096 262144 33554432",
        },
    }
    for name, settings in kinds.items():
        yield {"buffers": name, **inside(_memory, connections, settings=settings)}


def _memory(connections):
    listener = socket.create_server(SERVER, backlog=4_096)
    before = _slab(), namespace.tcp_pages()
    pairs = []
    for _ in range(connections):
        client = socket.create_connection(SERVER)
        pairs.append((client, listener.accept()[0]))
    idle = _slab(), namespace.tcp_pages()
    for client, _ in pairs:
        client.send(b"x" * 200)
    unread = namespace.tcp_pages()
    stuck = []
    for client, _ in pairs[:50]:
        client.setblocking(False)
        sent = 0
        try:
            while True:
                sent += client.send(b"x" * 65_536)
        except BlockingIOError:
            stuck.append(sent)
    return {
        "slab KB per connection": round((idle[0] - before[0]) / connections / 1000, 2),
        "pages": idle[1] - before[1],
        "pages with 200 octets unread": unread - before[1],
        "stuck peer takes KB": sum(stuck) // len(stuck) // 1000,
    }


def _slab():
    with open("/proc/meminfo") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Slab:"))


EXPERIMENTS = {
    "backlog": backlog,
    "syn-queue": syn_queue,
    "ports": ports,
    "reserved-ports": reserved,
    "hash-size": hash_size,
    "buffers": buffers,
}
