"""Where the examples of the reference are played: a Juliet and a Romeo of their own for each.

Examples speak of juliet@example.net and 127.0.0.1:5280; on the stage these are other names, which
are exchanged on the way in and out.
"""

import asyncio
import base64
import json
import re

from harness.raw import CLIENT, Client, Scram
from harness.server import Account

from .chat import COOKIE, PROTOCOL, User
from .documents import OPENAPI

DOMAIN = "example.net"
PASSWORD = "wherefore-art-thou"
# A token of the right form that no session has.
NOBODYS = "0000" + "f" * 48
TOPIC, KEY = "weather", "sesame-open-sesame"
CURSOR = re.compile(r"^[0-9a-f]{1,8}-\d+$")
ROSTER = "jabber:iq:roster"
# The cookie of a request is not sent along with the token.
OPENERS = {"juliet", "friends", "letter", "tablet", "cookie", "challenge", "proof", "guess",
           "readers", "waiting", "flood", "unread", "ended", "crowd", "guesses"}


class Stage:
    _count = 0

    def __init__(self, server, people):
        Stage._count += 1
        self.server, self.people = server, people
        self.accounts = {}
        for name in ("juliet", "romeo"):
            account = Account(f"{name}{Stage._count}", DOMAIN, PASSWORD)
            server.add_user(account)
            self.accounts[name] = account
        host, port = server.http
        self._names = [(f"{name}@{DOMAIN}", account.jid)
                       for name, account in self.accounts.items()]
        self._names.append(("127.0.0.1:5280", f"{host}:{port}"))
        self.juliet = User(server, self.accounts["juliet"])
        people.push_async_callback(self.juliet.leave)
        self.romeo = self.tablet = self.scram = None
        self.by_cookie = False
        self.cursors = {}  # of the documents, and what they are here
        self.events = []  # what Juliet has heard before the example
        self._seen = None

    # Names.

    def live(self, value):
        """What stands in a document, as it is here."""
        text = value if isinstance(value, str) else json.dumps(value)
        for documented, name in self._names:
            text = text.replace(documented, name)
        if self.juliet.token:
            text = text.replace(TOKEN, self.juliet.token)
        return text if isinstance(value, str) else json.loads(text)

    def documented(self, value):
        """What came, as the documents call it."""
        text = value if isinstance(value, str) else json.dumps(value)
        for documented, name in self._names:
            text = text.replace(name, documented)
        return text if isinstance(value, str) else json.loads(text)

    async def cursor(self, documented):
        """The cursor of an example: e-0 is where the session began, others are where it is now."""
        if documented not in self.cursors:
            epoch, _, offset = documented.partition("-")
            if documented == "e-0":
                self.cursors[documented] = self.juliet.cursor
            elif epoch.startswith("fffffff"):
                self.cursors[documented] = documented
            else:
                answer = await self.juliet.ask("GET", "/v1/session", token=self.juliet.token)
                if answer.status != 200:  # there is none, and the example does not need it
                    return documented
                self.cursors[documented] = json.loads(answer.body)["cursor"]
        return self.cursors[documented]

    async def with_cursors(self, value):
        """The same with the cursors of this session, wherever a value is one."""
        if isinstance(value, dict):
            return {name: await self.with_cursors(item) for name, item in value.items()}
        if isinstance(value, str) and CURSOR.match(value.strip('"')):
            return value.replace(value.strip('"'), await self.cursor(value.strip('"')))
        return value

    # What there was before. The words of `x-given`.

    async def given(self, words):
        assert set(words) <= set(OPENAPI["x-given"]), words
        for word in words:
            await getattr(self, f"given_{word}")()

    async def given_juliet(self):
        await self._come()

    async def _come(self, **opening):
        if self.juliet.token:
            return
        await self.juliet.login(**opening)
        await self.hears("roster", lambda event: event.get("whole"))
        await self.hears("presence", lambda event: event["from"] == self.juliet.jid)

    async def given_romeo(self):
        if self.romeo is None:
            self.romeo = Client(self.server, self.accounts["romeo"], "tcp")
            self.people.push_async_callback(self.romeo.close)
            await self.romeo.login()

    async def given_friends(self):
        await self.given_juliet()
        await self.given_romeo()
        juliet, romeo = (self.accounts[name].jid for name in ("juliet", "romeo"))
        await self.subscribe(romeo, "subscribe")
        await self._romeo_hears("subscribe")
        await self.romeo.send_stanza(f"<presence type='subscribed' to='{juliet}'/>")
        await self.romeo.send_stanza(f"<presence type='subscribe' to='{juliet}'/>")
        await self.hears("subscription", lambda event: event["action"] == "subscribe")
        # Romeo has not asked for his roster, so he is not told that she agrees, but sees her.
        await self.subscribe(romeo, "subscribed")
        await self.romeo.expect(f"{{{CLIENT}}}presence",
                                where=lambda p: p.get("from") == self.juliet.jid)
        await self.hears("roster", lambda event: event["items"]
                         and event["items"][0]["subscription"] == "both")
        await self.hears("presence", lambda event: event["from"] == self.romeo.jid)

    async def _romeo_hears(self, kind):
        await self.romeo.expect(f"{{{CLIENT}}}presence", where=lambda p: p.get("type") == kind)

    async def subscribe(self, to, action):
        await self.juliet.do("POST", "/v1/subscriptions", {"to": to, "action": action}, 204)

    async def given_letter(self):
        """She is told as if she had a client before: nobody is there, so it is stored."""
        await self.given_romeo()
        await self.romeo.message(self.accounts["juliet"].jid, "Farewell", "r4")
        await self.romeo.ping()
        await self.given_juliet()

    async def given_tablet(self):
        await self.given_juliet()
        self.tablet = Client(self.server, self.accounts["juliet"], "tablet")
        self.people.push_async_callback(self.tablet.close)
        await self.tablet.login()
        await self.hears("presence", lambda event: event["from"] == self.tablet.jid)

    async def given_cookie(self):
        await self._come(cookie=True)
        self.by_cookie = True

    async def given_challenge(self):
        account = self.accounts["juliet"]
        self.scram = Scram(account.name, account.password)
        opening = self.juliet.opening(password=None, mechanism="SCRAM-SHA-256",
                                      initial=self.scram.first())
        answer = await self.juliet.ask("POST", "/v1/session", opening)
        assert answer.status == 200, answer
        said = json.loads(answer.body)
        self.juliet.token = said["session"]
        self.challenge = said["challenge"]

    async def given_proof(self):
        await self.given_challenge()
        self.proof = self.scram.final(self.challenge)

    async def given_guess(self):
        await self.given_challenge()
        self.scram.password = "rosaline"
        self.proof = self.scram.final(self.challenge)

    async def given_readers(self):
        await self.given_juliet()
        for _ in range(32):
            await (await self.juliet.stream()).begin()

    async def given_waiting(self):
        """Requests to somebody who does not answer."""
        await self.given_juliet()
        await self.given_romeo()
        socket = await self.juliet.socket()
        for number in range(64):
            await socket.say({"type": "iq", "kind": "get", "to": self.romeo.jid,
                              "xml": [f"<x xmlns='urn:example:{number}'/>"]})
        for _ in range(64):
            await self.romeo.expect(f"{{{CLIENT}}}iq")

    async def given_flood(self):
        await self.given_juliet()
        await self.juliet.do("POST", "/v1/requests", {"type": "subscribe", "topic": TOPIC}, 204)
        for _ in range(12):
            await self.publish("x" * 15_998)

    async def given_unread(self):
        await self.given_juliet()
        await self.given_romeo()
        for number in range(10):
            await self.romeo.message(self.juliet.jid, "x" * 16_000, f"u{number}")
        await self.romeo.ping()

    async def publish(self, data):
        answer = await self.juliet.ask("POST", f"/v1/topics/{TOPIC}", json.dumps(data), token=KEY)
        assert answer.status == 202, answer

    async def given_ended(self):
        await self.given_juliet()
        answer = await self.juliet.ask("DELETE", "/v1/session", token=self.juliet.token)
        assert answer.status == 204, answer

    async def given_crowd(self):
        for number in range(30):
            tab = User(self.server, self.accounts["juliet"], f"tab {number}")
            self.people.push_async_callback(tab.leave)
            await tab.login()
            await (await tab.stream()).begin()

    async def given_guesses(self):
        """The first wait is so short that it could be over before anybody looks."""
        for _ in range(2):
            await self._guess_until_refused()

    async def _guess_until_refused(self):
        while True:
            answer = await self.juliet.ask("POST", "/v1/session",
                                           self.juliet.opening(password="rosaline"))
            if answer.status == 503:
                wait = int(answer.headers["retry-after"])
                break
            assert answer.status == 401, answer
        await asyncio.sleep(wait)
        await self.juliet.ask("POST", "/v1/session", self.juliet.opening(password="rosaline"))

    async def hears(self, kind, where=lambda event: True):
        """Waits by polls until Juliet has heard this, now or before."""
        while True:
            for event in self.events:
                if event["type"] == kind and where(event):
                    return event
            seen = self._seen or self.juliet.cursor
            answer = await self.juliet.poll(seen)
            assert answer.status == 200, answer
            said = json.loads(answer.body)
            assert said["events"], f"no such {kind}: {self.events}"
            self._seen = said["next"]
            self.events += said["events"]

    # What happens. The steps of `x-when`.

    async def play(self, steps):
        for step in steps:
            (who, deed), = step.items()
            if (who, deed) == ("juliet", f"logs in on TCP as juliet@{DOMAIN}/tab"):
                other = Client(self.server, self.accounts["juliet"], "tab")
                self.people.push_async_callback(other.close)
                await other.login(presence=False)
            elif (who, deed) == ("server", "stops"):
                # Its end is waited for elsewhere: here it would not answer any more.
                self.stopping = asyncio.get_running_loop().run_in_executor(None, self.server.stop)
            elif who == "publisher":
                await self.publish(deed)
            elif who == "juliet":
                answer = await self.juliet.ask("POST", "/v1/requests", self.live(deed),
                                               token=self.juliet.token)
                assert answer.status in (200, 204), answer
            else:
                await getattr(self, who).send_stanza(self.live(deed))

    # Requests.

    async def prepare(self, example):
        """The octets of a documented request."""
        change = example.change
        query = {parameter["name"]: parameter["example"]
                 for parameter in example.operation.get("parameters", [])
                 if parameter.get("in") == "query" and parameter.get("required")}
        query |= change.get("query", {})
        query = {name: self.live(await self.with_cursors(value))
                 for name, value in query.items() if value is not None}
        headers = await self.with_cursors(change.get("headers", {}))
        headers = {name: value and self.live(value) for name, value in headers.items()}
        if example.path == "/v1/socket":
            headers = {"Upgrade": "websocket", "Connection": "Upgrade",
                       "Sec-WebSocket-Version": "13",
                       "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                       "Sec-WebSocket-Protocol": PROTOCOL} | headers
        fields = [f"{name}: {value}" for name, value in headers.items() if value is not None]
        named = {"none": None, "nobody": NOBODYS, "key": KEY}
        token = named.get(change.get("token"), self.juliet.token)
        path = example.path.replace("{topic}", TOPIC)
        if self.by_cookie and "token" not in change:
            fields.append(f"Cookie: {COOKIE}={token}")
            token = None
        return self.juliet.request(
            change.get("method", example.method.upper()), path, await self._body(example),
            token=token, query=query, fields=fields)

    async def _body(self, example):
        body = example.body
        if "octets" in example.change:
            return " " * example.change["octets"]
        if not isinstance(body, dict):
            return None if not isinstance(body, str) else body
        body = self.live(await self.with_cursors(body))
        if "initial" in body:
            initial = base64.b64decode(body["initial"]).decode()
            name = self.accounts["juliet"].name
            body["initial"] = base64.b64encode(
                initial.replace("n=juliet,", f"n={name},").encode()).decode()
        if "response" in body and hasattr(self, "proof"):
            body["response"] = self.proof
        return body


TOKEN = next(
    example["value"]["session"]
    for example in OPENAPI["paths"]["/v1/session"]["post"]["responses"]["201"]["content"]
    ["application/json"]["examples"].values())
