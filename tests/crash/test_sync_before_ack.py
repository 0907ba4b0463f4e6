"""`strace` as a witness: an fdatasync ends between the arrival of a message and its `<a/>`."""

import re
import shutil

import pytest

from harness.raw import Client

MESSAGES = 20
CALLS = "fdatasync,fsync,sendto,sendmsg,write,writev,recvfrom,recvmsg,read,readv"

pytestmark = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


async def test_nothing_is_acknowledged_before_it_is_on_the_disk(new_server, tmp_path):
    trace = tmp_path / "trace"
    # -D: the server stays our child, so it is stopped by its own pid.
    wrapper = ["strace", "-D", "-f", "-s", "2000", "-e", f"trace={CALLS}", "-o", str(trace)]
    server = new_server(wrapper=wrapper, options={"c2s.require_tls": False}).start()
    away = server.account("away")
    romeo = Client(server, server.account("romeo"))
    async with romeo:
        await romeo.login(direct_tls=None, managed=True)  # plain, so that strace can read it
        for number in range(MESSAGES):
            await romeo.message(away.jid, f"witness-{number:03d}", f"w{number}")
            first = romeo.sent
            await romeo.acknowledged()
            assert romeo.acked >= first
    assert server.stop() == 0

    events = read_trace(trace.read_text(errors="replace"))
    for number in range(MESSAGES):
        arrived = next(i for i, e in enumerate(events) if e == ("in", number))
        acked = next(i for i, (kind, h) in enumerate(events)
                     if kind == "ack" and i > arrived and h >= covering(events, number))
        synced = [i for i, (kind, begun) in enumerate(events)
                  if kind == "synced" and begun > arrived and i < acked]
        assert synced, f"message {number} was acknowledged before a sync: {events[arrived:acked + 1]}"


def covering(events, number):
    """The h that covers this message: presence came first, then one message after the other."""
    before = [h for kind, h in events if kind == "ack"]
    assert before, "no acknowledgement was seen on the wire"
    return number + 2


def read_trace(text):
    """What happened in order: ("in", message), ("synced", index where it began), ("ack", h)."""
    events, begun = [], {}
    for line in text.splitlines():
        pid = line.split(None, 1)[0]
        if re.search(r"\b(recvfrom|recvmsg|read|readv)\b", line):
            events += [("in", int(n)) for n in re.findall(r"<body>witness-(\d+)", line)]
        if re.search(r"\b(sendto|sendmsg|write|writev)\(", line):
            events += [("ack", int(h)) for h in re.findall(r"<a [^>]*h=\\?['\"](\d+)", line)]
        if re.search(r"\bf(data)?sync\(", line):
            begun[pid] = len(events)
            events.append(("sync", -1))
            if "= 0" in line:
                events.append(("synced", begun[pid]))
        elif re.search(r"f(data)?sync resumed.*= 0", line):
            events.append(("synced", begun.get(pid, -1)))
    return events
