"""Runs the table: each row, then a bystander, a new login, and at the end the memory."""

import asyncio

import pytest

from steps import Send
from table import ROWS

# What may be left after the whole table: the allocator's own, and the 13 MB of messages that the
# rows about slow readers leave in the offline store, which its index still has in a write buffer.
MEMORY_MARGIN = (24 + 16) * 1024 * 1024
# Seconds in which freed pages must have gone back to the system.
PATIENCE = 45

_memory = {}


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_withstands(row, stage, server):
    _memory.setdefault(server, server.pss())
    words = {
        "victim": stage.victim.jid, "domain": server.domain, "me": server.hostile.jid,
        "bystander": stage.bystander.jid, "victim_bare": server.victim.jid,
        "name": server.hostile.name, "password": server.hostile.password,
        "victim_name": server.victim.name,
    }
    peer = await stage.peer(row.begins)
    for step in row.steps:
        if isinstance(step, str):
            await peer.send(fill(step, words))
        elif isinstance(step, Send):
            await peer.send(step.make(words))
        else:
            await step.check(peer, stage)
    await stage.all_is_well()


async def test_memory_is_back(server, connect):
    """What the table took is given back while the server goes on working as usual."""
    before = _memory.get(server)
    if before is None:
        pytest.skip("no row ran")
    client = await connect(server.neighbour)
    for _ in range(PATIENCE):
        after = server.pss()
        if after - before < MEMORY_MARGIN:
            break
        await client.ping()
        await asyncio.sleep(1)  # the allocator returns pages by its own clock
    print(f"PSS {before / 1e6:.1f} MB before the table, {after / 1e6:.1f} MB after it")
    assert after - before < MEMORY_MARGIN, f"the server kept {(after - before) / 1e6:.1f} MB"


def test_every_class_of_the_issue_has_a_row():
    classes = [*range(1, 30), *range(33, 38), 51, 53, 54, 57, 58, 59]
    missing = [number for number in classes if all(row.number != number for row in ROWS)]
    elsewhere = {19: "unit tests of the comparison", 35: "no component can connect yet"}
    assert set(missing) <= set(elsewhere), f"classes without a row: {missing}"


def fill(text, words):
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text
