"""Runs the rows of rows.py; a bystander on a connection of their own must notice nothing."""

import pytest
import pytest_asyncio

from clients.frames import CONTINUATION, PING, PONG, TEXT, RawSocket, close, frame
from clients.websocket import FRAMING
from rows import FRAMES, HANDSHAKES, MESSAGES


# One event loop for the file, so that the bystander's connection lives through all of it.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def peer(server, unnoticed):
    """The hostile peer."""
    async with RawSocket(server) as peer:
        yield peer


def as_set(wanted):
    return set(wanted) if isinstance(wanted, tuple) else {wanted}


@pytest.mark.parametrize("row", HANDSHAKES, ids=str)
async def test_handshake(row, peer, server, site):
    words = {"host": "{}:{}".format(*server.http), "site": site.origin,
             "site_by_tls": site.origin.replace("http:", "https:")}
    how = {name: value.format(**words) if isinstance(value, str) else value
           for name, value in row.how.items()}
    how["add"] = [(name, value.format(**words)) for name, value in how.get("add", ())]
    status, headers = await peer.ask(peer.request(**how))
    assert status in as_set(row.status), headers
    for name, value in row.headers.items():
        assert headers.get(name) == value, headers
    if status == 101:
        assert headers["sec-websocket-accept"] == peer.accept()
        assert headers["upgrade"].lower() == "websocket"
        await peer.send(frame(TEXT, peer.header()))
        await peer.text("<open ")
        await peer.text("features")


@pytest.mark.parametrize("row", FRAMES, ids=str)
async def test_frames(row, peer):
    await peer.upgrade()
    for octets in row.octets:
        await peer.send(octets)
    code, _ = await peer.closed()
    assert code in as_set(row.code)


@pytest.mark.parametrize("row", MESSAGES, ids=str)
async def test_messages(row, peer, server):
    await peer.begin()
    await peer.send(frame(TEXT, row.text.replace("{domain}", server.domain)))
    code, text = await peer.closed()
    assert any(f"<{condition} " in text for condition in as_set(row.condition)), text
    assert "<close " in text, "RFC 7395, 3.6: the error is followed by a close element"
    assert code == 1000


async def test_a_wrong_host_is_unknown(peer):
    await peer.upgrade()
    await peer.send(frame(TEXT, peer.header("elsewhere.test")))
    code, text = await peer.closed()
    assert text.index("<open ") < text.index("<host-unknown ") < text.index("<close ")
    assert code == 1000


async def test_a_stream_is_closed_in_order(peer):
    await peer.begin()
    await peer.send(frame(TEXT, f"<close xmlns='{FRAMING}'/>"))
    code, text = await peer.closed()
    assert "<close " in text and FRAMING in text
    assert code == 1000


# What is unusual and right.


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125))], ids=len)
async def test_a_ping_is_answered(peer, payload):
    await peer.upgrade()
    await peer.send(frame(PING, payload))
    assert await peer.frame() == (PONG, payload)


async def test_ten_pings_in_one_packet_are_answered_in_order(peer):
    await peer.upgrade()
    await peer.send(b"".join(frame(PING, f"{number}") for number in range(10)))
    assert [await peer.frame() for _ in range(10)] == [(PONG, b"%d" % n) for n in range(10)]


async def test_pongs_that_nobody_asked_for_are_nothing(peer):
    await peer.upgrade()
    await peer.send(frame(PONG, "unasked") + frame(PING, "asked"))
    assert await peer.frame() == (PONG, b"asked")


@pytest.mark.parametrize("size", [1, 7, 1000], ids=lambda size: f"by {size}")
async def test_a_message_in_fragments_with_pings_between(peer, size):
    await peer.upgrade()
    header = peer.header().replace("<open", "<open x='\U0001d11e\u20ac'").encode()
    pieces = [header[at:at + size] for at in range(0, len(header), size)]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        await peer.send(frame(CONTINUATION if number else TEXT, piece, fin=last))
        if not last:
            await peer.send(frame(PING, f"{number}"))
            assert await peer.frame() == (PONG, b"%d" % number)
    await peer.text("<open ")
    await peer.text("features")


async def test_octet_by_octet(peer):
    request = peer.request()
    for at in range(len(request) - 1):
        await peer.send(request[at:at + 1])
    status, _ = await peer.ask(request[-1:])
    assert status == 101
    for octet in frame(TEXT, peer.header()):
        await peer.send(bytes([octet]))
    await peer.text("<open ")
    await peer.text("features")


async def test_all_in_one_packet(peer):
    """A client need not wait for the answer of the handshake's server before its first frame."""
    status, _ = await peer.ask(peer.request() + frame(TEXT, peer.header()) + frame(PING, "p"))
    assert status == 101
    await peer.text("<open ")
    heard = await peer.text("features")
    assert heard.startswith("<")
    assert await peer.frame() == (PONG, b"p")


@pytest.mark.parametrize("code", [1000, 3000])
async def test_a_close_frame_alone_ends_it(peer, code):
    await peer.begin()
    await peer.send(close(code))
    answer, _ = await peer.closed()
    assert answer in (1000, code)
