"""People who write to each other while the server is killed, and the book that is kept of it.

Every message has an id of its own. A sender writes into the book what it sent and what the server
acknowledged with `<a h='N'/>`; a recipient what it received. What is acknowledged must be in the
book of its recipient in the end: that is promise P1. Duplicates are allowed (P2).
"""

import asyncio
import contextlib
import itertools
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from harness.raw import CLIENT, SM, Client, Closed, Silence, Stream

PAUSE = 0.001  # between two messages of a sender: Python must keep up with reading as well
WINDOW = 200  # messages on the way to the server before a sender waits for an acknowledgement
TROUBLE = (Closed, ConnectionError, OSError, Silence, AssertionError, asyncio.IncompleteReadError)


@dataclass
class Book:
    sent: dict = field(default_factory=dict)  # id -> recipient's bare JID
    acked: set = field(default_factory=set)
    received: dict = field(default_factory=lambda: defaultdict(list))  # bare JID -> ids in order
    resumed: Counter = field(default_factory=Counter)

    def missing(self):
        """Ids that were acknowledged and never arrived."""
        arrived = {jid: set(ids) for jid, ids in self.received.items()}
        return sorted(
            ident for ident in self.acked if ident not in arrived.get(self.sent[ident], ())
        )

    def duplicates(self):
        return sum(n - 1 for ids in self.received.values() for n in Counter(ids).values())

    def out_of_order(self):
        """Pairs of ids that one recipient first saw in another order than they were sent."""
        wrong = []
        for jid, ids in self.received.items():
            last = {}
            for ident in dict.fromkeys(ids):  # the first arrival of each
                sender, _, number = ident.rpartition("-")
                if int(number) < last.get(sender, -1):
                    wrong.append((jid, ident, last[sender]))
                last[sender] = max(int(number), last.get(sender, -1))
        return wrong


class Sender:
    """Sends as fast as its window allows; comes back after each crash, resumes or begins anew."""

    def __init__(self, server, account, targets, book, seed):
        self.server, self.account, self.targets, self.book = server, account, targets, book
        self.chance = random.Random(seed)
        self.numbers = itertools.count()
        self.link = None
        self.waiting: list[tuple[int, str]] = []  # (count when sent, id) not acknowledged yet

    async def run(self, stop: asyncio.Event):
        while not stop.is_set():
            with contextlib.suppress(*TROUBLE):
                await self._connect()
                await self._talk(stop)
            if not stop.is_set():
                await self.server.up.wait()

    async def _connect(self):
        before = self.link
        link = Client(self.server, self.account, f"s{self.chance.random()}")
        await link.authenticate()
        resumed = False
        if before is not None and before.resumption:
            answer = await link.resume(before)
            resumed = answer.tag == f"{{{SM}}}resumed"
            # The h of a failed resumption counts as well: XEP-0198 section 5, and P1 with it.
            self._settle(answer.get("h"))
            self.book.resumed["senders resumed" if resumed else "senders began anew"] += 1
        if not resumed:
            await link.bind()
            await link.enable()
        self.link = link
        again = [ident for _, ident in self.waiting]
        self.waiting = []
        if resumed:
            link.sent -= len(again)  # what was not handled is sent again, as the XEP asks
        for ident in again:
            await self._send(ident)
        await link.request()

    async def _talk(self, stop):
        hearing = asyncio.create_task(self._hear())
        try:
            while not stop.is_set() and not hearing.done():
                while len(self.waiting) >= WINDOW and not hearing.done():
                    await self._room_or_end(hearing)
                ident = f"{self.account.name}-{next(self.numbers)}"
                self.book.sent[ident] = self.chance.choice(self.targets)
                await self._send(ident)
                if self.link.sent % 20 == 0:
                    await self.link.request()
                await asyncio.sleep(PAUSE)
            if hearing.done():
                hearing.result()
        finally:
            await _end(hearing)

    async def _room_or_end(self, hearing):
        await self.link.request()
        self._room = asyncio.Event()
        room = asyncio.ensure_future(self._room.wait())
        await asyncio.wait({hearing, room}, return_when=asyncio.FIRST_COMPLETED)
        room.cancel()

    _room = None

    async def _hear(self):
        while True:
            element = await Stream.next(self.link, timeout=60)
            if element.tag == f"{{{SM}}}a":
                self._settle(element.get("h"))
            elif element.tag == f"{{{SM}}}r":
                await self.link.acknowledge()
            elif element.tag.startswith(f"{{{CLIENT}}}"):
                self.link.handled += 1

    def _settle(self, handled):
        if handled is None:
            return
        handled = int(handled)
        for count, ident in self.waiting:
            if count <= handled:
                self.book.acked.add(ident)
        self.waiting = [(count, ident) for count, ident in self.waiting if count > handled]
        if self._room is not None and len(self.waiting) < WINDOW:
            self._room.set()

    async def _send(self, ident):
        self.waiting.append((self.link.sent + 1, ident))
        await self.link.message(self.book.sent[ident], f"text of {ident}", ident)

    async def finish(self):
        """Everything that is still on its way is acknowledged before the books are compared."""
        while self.waiting:
            with contextlib.suppress(*TROUBLE):
                if self.link is None or self.link._ended:
                    await self._connect()
                await self.link.request()
                element = await Stream.next(self.link, timeout=20)
                if element.tag == f"{{{SM}}}a":
                    self._settle(element.get("h"))
                elif element.tag == f"{{{SM}}}r":
                    await self.link.acknowledge()
                elif element.tag.startswith(f"{{{CLIENT}}}"):
                    self.link.handled += 1


class Recipient:
    """Receives. `manner`: online (always there), resuming (its link is cut now and then)."""

    def __init__(self, server, account, book, manner, seed):
        self.server, self.account, self.book, self.manner = server, account, book, manner
        self.chance = random.Random(seed)
        self.link = None

    async def run(self, stop: asyncio.Event):
        while not stop.is_set():
            with contextlib.suppress(*TROUBLE):
                await self.connect()
                patience = 3600 if self.manner == "online" else self.chance.uniform(0.05, 0.4)
                await self.hear(stop, patience)
                if self.manner == "resuming" and not stop.is_set():
                    self.link.cut()
                    continue
            if not stop.is_set():
                await self.server.up.wait()

    async def connect(self):
        before = self.link
        link = Client(self.server, self.account, "home")
        await link.authenticate()
        resumed = False
        if before is not None and before.resumption:
            answer = await link.resume(before)
            resumed = answer.tag == f"{{{SM}}}resumed"
            self.book.resumed["recipients resumed" if resumed else "recipients began anew"] += 1
        if not resumed:
            await link.bind()
            await link.enable()
            await link.send_stanza("<presence/>")
        self.link = link

    async def hear(self, stop, patience):
        stopping = asyncio.ensure_future(stop.wait())
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        try:
            while not stop.is_set() and loop.time() < end:
                hearing = asyncio.ensure_future(self._next())
                await asyncio.wait({hearing, stopping}, timeout=max(0.01, end - loop.time()),
                                   return_when=asyncio.FIRST_COMPLETED)
                if not hearing.done():
                    await _end(hearing)
                    return
                hearing.result()
        finally:
            stopping.cancel()

    async def _next(self, timeout=3600):
        """One message into the book; it is counted as handled in the same breath."""
        element = await self.link.next(timeout)
        if element.tag == f"{{{CLIENT}}}message" and element.get("type") != "error":
            self.book.received[self.account.jid].append(element.get("id"))

    async def drain(self, wanted):
        """Logs in for good and hears until all `wanted` ids have arrived or nothing more comes."""
        await self.connect()
        await self.link.acknowledge()
        with contextlib.suppress(Silence):
            while not wanted <= set(self.book.received[self.account.jid]):
                await self._next(timeout=15)
        await self.link.acknowledge()
        with contextlib.suppress(*TROUBLE):
            await self.link.ping()
        await self.link.close()


async def _end(task):
    """Cancels until it is over: `wait_for` swallows a cancellation that meets a result."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled():
        task.exception()  # looked at, so nobody warns
