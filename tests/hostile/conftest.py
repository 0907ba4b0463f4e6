"""The people on stage while a hostile peer does its worst, and what must hold afterwards."""

import pytest

from harness.raw import Client

# Short patience, so that the row about slow logins takes seconds.
OPTIONS = {"limits.login_timeout": 5}


@pytest.fixture(scope="module")
def server(new_server):
    server = new_server(options=OPTIONS).start()
    server.victim = server.account("victim")
    server.neighbour = server.account("bystander")
    server.hostile = server.account("mallory")
    yield server
    assert server.alive(), f"the server died:\n{server.log_tail()}"
    assert server.panics() == 0, f"a panic was caught:\n{server.log_tail()}"
    assert server.stop() == 0 or server.kind != "encke"


class Stage:
    """A victim who is attacked and a bystander who only wants to chat."""

    def __init__(self, server):
        self.server = server
        self.peers = []

    async def open(self):
        self.victim = await self.person(self.server.victim, "home")
        self.bystander = await self.person(self.server.neighbour, "home")
        return self

    async def person(self, account, resource="bare", **how):
        client = Client(self.server, account, resource)
        self.peers.append(client)
        return await client.login(**how)

    async def peer(self, stage):
        """The hostile peer, brought to where its row begins."""
        peer = Client(self.server, self.server.hostile, "evil", name="mallory")
        self.peers.append(peer)
        if stage == "bound":
            return await peer.login()
        if stage == "managed":
            return await peer.login(managed=True)
        if stage == "authenticated":
            await peer.authenticate()
            return peer
        await peer.connect(direct_tls=stage == "tls")
        if stage in ("clear", "tls"):
            await peer.open()
        else:
            peer._new_parser()
        return peer

    async def all_is_well(self):
        """A bystander still answers, the victim's stream lives, and a new login works."""
        assert self.server.alive(), f"the server died:\n{self.server.log_tail()}"
        await self.bystander.ping()
        await self.victim.ping()
        newcomer = await self.person(self.server.neighbour, "newcomer")
        await newcomer.message(self.bystander.jid, "still here?", "alive")
        await self.bystander.body("still here?")

    async def close(self):
        for peer in self.peers:
            await peer.close()


@pytest.fixture
async def stage(server):
    stage = Stage(server)
    await stage.open()
    yield stage
    await stage.close()
