"""slixmpp as a user would run it, with its events in a queue that a test can wait for."""

import asyncio

import slixmpp

from .raw import DEADLINE, Silence

PLUGINS = ["xep_0012", "xep_0030", "xep_0049", "xep_0054", "xep_0092", "xep_0191", "xep_0198",
           "xep_0199", "xep_0202", "xep_0203", "xep_0280", "xep_0352"]
EVENTS = ["message", "message_error", "presence_available", "presence_away",
          "presence_unavailable", "presence_subscribe", "presence_subscribed",
          "presence_unsubscribed", "roster_update", "carbon_received",
          "carbon_sent", "session_start", "session_resumed", "sm_enabled", "sm_failed",
          "failed_auth", "failed_all_auth", "disconnected", "stanza_acked", "stream_error",
          "connection_failed", "blocked", "unblocked", "got_online", "got_offline"]


class Slix(slixmpp.ClientXMPP):
    def __init__(self, server, account, resource="slix", password=None, mechanism=None,
                 direct_tls=False):
        sasl = {"sasl_mech": mechanism} if mechanism else {}
        super().__init__(f"{account.jid}/{resource}", password or account.password, **sasl)
        self.place = server
        self.ca_certs = str(server.authority.file)
        self.direct_tls = direct_tls
        self.enable_direct_tls = direct_tls
        self.enable_starttls = not direct_tls
        self.enable_plaintext = False
        # These tests say themselves what they want to happen.
        self.auto_authorize = None
        self.auto_subscribe = False
        for plugin in PLUGINS:
            self.register_plugin(plugin)
        self.heard: list[tuple[str, object]] = []
        self._fresh = asyncio.Event()
        for event in EVENTS:
            self.add_event_handler(event, self._keeper(event))

    def _keeper(self, event):
        def keep(value):
            self.heard.append((event, value))
            self._fresh.set()

        return keep

    def reach(self):
        host, port = self.place.tls if self.direct_tls else self.place.clear
        self.connect(host, port)

    async def login(self, presence=True):
        self.reach()
        await self.wait("session_start")
        await self.get_roster()
        if presence:
            self.send_presence()
            await self.wait("presence_available", lambda p: p["from"] == self.boundjid)
        return self

    async def wait(self, event, where=lambda value: True, timeout=DEADLINE):
        """The first event of that name that fits and was not taken yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            for index, (name, value) in enumerate(self.heard):
                if name == event and where(value):
                    del self.heard[index]
                    return value
            patience = deadline - loop.time()
            if patience <= 0:
                seen = [name for name, _ in self.heard]
                raise Silence(f"{self.boundjid}: no {event} within {timeout:.0f} s; heard {seen}")
            self._fresh.clear()
            try:
                await asyncio.wait_for(self._fresh.wait(), patience)
            except TimeoutError:
                pass

    async def body(self, text, timeout=DEADLINE):
        return await self.wait("message", lambda m: m["body"] == text, timeout)

    def count(self, event, where=lambda value: True):
        return sum(1 for name, value in self.heard if name == event and where(value))

    async def leave(self):
        if self.transport is None:
            return
        try:
            await asyncio.wait_for(self.disconnect(wait=1), DEADLINE)
        except (TimeoutError, asyncio.CancelledError):
            self.abort()
