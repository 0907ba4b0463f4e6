"""A disk that is full: live delivery goes on, what must be stored is refused, and it recovers."""

import asyncio
import contextlib
import errno
import re
import subprocess

import pytest

from harness.raw import CLIENT, Client

DISK = 256 * 1024 * 1024
LETTER = "x" * 100_000


@pytest.fixture
def small_disk(new_server):
    """A server whose data directory is a small file system of its own."""
    server = new_server(options={"limits.offline_messages_max": 1_000_000})
    place = server.folder / "data"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(place)],
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (root is needed)")
    yield server
    if server.alive():
        server.kill()
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place):
    """Takes all the space that is left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    with pytest.raises(OSError) as full:
        (place / "more").write_bytes(b"\0" * 8192)
    assert full.value.errno == errno.ENOSPC
    (place / "more").unlink(missing_ok=True)
    return ballast


async def test_a_full_disk_refuses_what_must_be_stored_and_recovers(small_disk):
    server = small_disk.start()
    away = server.account("away")
    romeo = Client(server, server.account("romeo"))
    juliet = Client(server, server.account("juliet"))
    async with romeo, juliet:
        await romeo.login(managed=True)
        await juliet.login(managed=True)
        ballast = fill(server.folder / "data")

        refused = await send_until_refused(romeo, away)
        assert "resource-constraint" in refused, refused[:1000]
        assert re.search("type=.wait", refused), refused[:1000]

        await romeo.message(juliet.jid, "live delivery goes on", "live")
        await juliet.body("live delivery goes on")
        assert server.alive()

        ballast.unlink()
        await until_stored(romeo, away)
        newcomer = Client(server, away)
        async with newcomer:
            await newcomer.login()
            await newcomer.body("there is space again", timeout=30)
    assert await asyncio.to_thread(server.stop) == 0


async def send_until_refused(sender, away):
    """Space that was set aside before may take some; then the refusal must come."""
    for number in range(2 * DISK // len(LETTER)):
        await sender.message(away.jid, LETTER, f"letter{number}")
        if number % 10 == 9:
            await sender.ping(timeout=30)
        error = re.search(rb"<message[^>]*type=.error.*?</message>", bytes(sender.received), re.S)
        if error:
            return error.group(0).decode()
    raise AssertionError("a full disk took everything")


async def until_stored(sender, away):
    """The server may need a moment to notice that there is space; it needs no restart."""
    for number in range(100):
        await sender.message(away.jid, "there is space again", f"again{number}")
        answer = asyncio.ensure_future(
            sender.expect(f"{{{CLIENT}}}message", where=lambda m: m.get("id") == f"again{number}")
        )
        await asyncio.wait({answer}, timeout=0.2)
        if not answer.done():
            answer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answer
            await sender.acknowledged(timeout=30)
            return
        await asyncio.sleep(0.1)  # a refusal comes at once; nothing says when there is space
    raise AssertionError("the server did not notice that there is space again")
