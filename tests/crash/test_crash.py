"""`kill -9` and restart in a loop, with real processes: nothing that was acknowledged is lost.

    tests/all crash                    5 rounds
    CRASH_ROUNDS=100 tests/all crash   as many as one likes
"""

import asyncio
import os
import random
import time

import pytest

from world import Book, Recipient, Sender

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("CRASH_SEED", "0")) or random.randrange(1 << 32)
MANNERS = ["online", "online", "resuming", "resuming", "offline", "offline"]
SENDERS = 6
# A recipient who is away for the whole run must not be full, else bounces are right.
OPTIONS = {"limits.offline_messages_max": 1_000_000}


@pytest.mark.timeout(120 + ROUNDS * 30)
async def test_no_acknowledged_message_is_lost(new_server, capsys):
    server = new_server(options=OPTIONS).start()
    server.up = asyncio.Event()
    server.up.set()
    chance = random.Random(SEED)
    book = Book()
    recipients = [
        Recipient(server, server.account(manner), book, manner, chance.random())
        for manner in MANNERS
    ]
    targets = [recipient.account.jid for recipient in recipients]
    senders = [
        Sender(server, server.account("sender"), targets, book, chance.random())
        for _ in range(SENDERS)
    ]
    with capsys.disabled():
        print(f"\n\n  seed {SEED} (CRASH_SEED repeats the choices, not the timing)")
        print("  round    lived     sent    acked  arrived   ready after")
        await _rounds(server, senders, recipients, book, chance)
        _report(book, recipients)

    assert len(book.acked) > 100 * ROUNDS, f"only {len(book.acked)} messages were acknowledged"
    missing = book.missing()
    assert not missing, f"{len(missing)} acknowledged messages are lost: {missing[:20]}"
    wrong = book.out_of_order()
    assert not wrong, f"{len(wrong)} came out of order: {wrong[:10]}"
    assert await asyncio.to_thread(server.stop) == 0


async def _rounds(server, senders, recipients, book, chance):
    stop = asyncio.Event()
    people = senders + [r for r in recipients if r.manner != "offline"]
    tasks = [asyncio.create_task(one.run(stop)) for one in people]
    for number in range(1, ROUNDS + 1):
        lived = chance.uniform(0.6, 2.5)
        await _spend(lived, tasks)
        server.up.clear()
        server.kill()
        ready = time.monotonic()
        await asyncio.to_thread(server.start)
        ready = time.monotonic() - ready
        server.up.set()
        arrived = sum(len(ids) for ids in book.received.values())
        print(f"  {number:5d}  {lived:5.1f} s {len(book.sent):8d} {len(book.acked):8d} "
              f"{arrived:8d}   {ready * 1000:6.0f} ms")
    await _spend(1.0, tasks)
    stop.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    for sender in senders:
        await asyncio.wait_for(sender.finish(), 60)
        await sender.link.close()
    for recipient in recipients:
        jid = recipient.account.jid
        wanted = {ident for ident in book.acked if book.sent[ident] == jid}
        await recipient.drain(wanted)


async def _spend(seconds, tasks):
    """Lets everybody work for a while; a task that fails meanwhile fails the test at once."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _report(book, recipients):
    print("\n  recipient       acked for  arrived  missing")
    missing = set(book.missing())
    for recipient in recipients:
        jid = recipient.account.jid
        wanted = [ident for ident in book.acked if book.sent[ident] == jid]
        lost = sum(1 for ident in wanted if ident in missing)
        arrived = len(set(book.received[jid]))
        print(f"  {recipient.account.name:14} {len(wanted):10d} {arrived:8d} {lost:8d}")
    print(f"\n  {len(book.sent)} sent, {len(book.acked)} acknowledged, {len(missing)} lost, "
          f"{book.duplicates()} duplicates, {len(book.out_of_order())} out of order")
    print("  " + ", ".join(f"{n} {what}" for what, n in sorted(book.resumed.items())) + "\n")
