"""Class 51: peers that ask and do not read, and sessions whose client does not fetch."""

import contextlib

import pytest
import pytest_asyncio

from clients.bosh import Bosh
from clients.http import Talk, request
from harness.raw import CLIENT, Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

PEERS = 2
REQUESTS = 200_000
RECEIVE_BUFFER = 65_536
# Round trips of others in a row within which the kernel takes nothing more: the server reads no
# more of this connection.
STUCK = 100
# What the server may need for one who does not read: its bound for unsent answers, several times.
MEMORY_MARGIN = 16 * 1024 * 1024
LARGE = "x" * 60_000
MESSAGES = 40


async def test_200000_requests_of_each_who_does_not_read(server, unnoticed):
    """It is read no more, keeps its place, costs no memory, and gets every answer when it reads."""
    kinds = [(request(server.http, f"GET {path} HTTP/1.1"), mark) for path, mark in (
        ("/.well-known/host-meta", b"<XRD"), ("/.well-known/host-meta.json", b"links"),
        ("/nothing", b"not-found"))]
    asked = [(number * number + number // 7) % len(kinds) for number in range(REQUESTS)]
    octets = b"".join(kinds[kind][0] for kind in asked)
    async with contextlib.AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(Talk(server.http, receive_buffer=RECEIVE_BUFFER))
                 for _ in range(PEERS)]
        before = server.pss()
        taken = dict.fromkeys(talks, 0)
        # One after the other: who is alone gets more of the server's time.
        for talk in talks:
            stuck = 0
            while stuck < STUCK and taken[talk] < len(octets):
                now = talk.send_at_once(octets[taken[talk]:taken[talk] + 65_536])
                taken[talk] += now
                stuck = 0 if now else stuck + 1
                await unnoticed.ping()
        grown = server.pss() - before
        assert grown < MEMORY_MARGIN, f"{grown / 1e6:.1f} MB for {PEERS} who do not read"
        talk = talks[0]
        sent = taken[talk]
        # Now it reads, and goes on where it was.
        whole = 0
        for number, kind in enumerate(asked[:2_000]):
            whole += len(kinds[kind][0])
            if whole > sent:
                sent += talk.send_at_once(octets[sent:sent + 4_096])
                if whole > sent:
                    break
            answer = await talk.answer()
            assert kinds[kind][1] in answer.body, f"request {number}: {answer}"
        assert number > 100


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def unfetched(server, chatting):
    """Messages for a session of BOSH whose client does not poll, until the session ends for it.
    Returns what its client fetches at last, and what a new session gets then: numbers of messages
    and the identifiers that the server gave them.
    """
    account = server.account("sleepy")
    async with Bosh(server, account) as sleepy, Client(server, server.account("chatty")) as chatty:
        await sleepy.login()
        await chatty.login()
        before = server.pss()
        for number in range(MESSAGES):
            await chatty.message(account.jid, f"{number} {LARGE}", f"k{number}")
        await chatty.ping()
        await chatting.ping()
        assert server.pss() - before < MEMORY_MARGIN
        answer = await sleepy.ask()
        late = messages(answer.element)
        while answer.type is None and len(late) < MESSAGES:
            answer = await sleepy.ask(sleepy.ping())
            late += messages(answer.element)
        assert answer.condition == "remote-stream-error" and b"policy-violation" in \
            answer.answer.body, answer
        await sleepy.is_gone()
        async with Client(server, account, "awake") as awake:
            await awake.login(presence=False)
            await awake.send_stanza("<presence/>")
            new = await messages_until(awake, lambda e: e.get("from") == awake.jid)
            await chatty.message(account.jid, "the last", "last")
            new += await messages_until(
                awake, lambda e: e.findtext(f"{{{CLIENT}}}body") == "the last")
    return late, new


async def test_what_a_client_does_not_fetch_is_not_lost(unfetched, unnoticed):
    """Every message is there, in order, and one that comes again says that it is the same."""
    late, new = unfetched
    assert sorted({number for number, _ in late + new}) == list(range(MESSAGES))
    assert late == sorted(late) and new == sorted(new)
    assert len(set(late + new)) == MESSAGES, "a repetition under another identifier"


def messages(element):
    """Number and stanza-id of each message."""
    return [(int(message.findtext(f"{{{CLIENT}}}body").split(" ")[0]),
             message.find("{urn:xmpp:sid:0}stanza-id").get("id"))
            for message in element.iter(f"{{{CLIENT}}}message")]


async def messages_until(client, is_last):
    """All messages before an element, none of which is passed over."""
    heard = []
    while not is_last(element := await client.next()):
        heard += messages(element)
    return heard
