"""Requests and events as lines of JSON: how a test talks with a program in another language."""

import asyncio
import itertools
import json

from harness.raw import DEADLINE, Silence


class Refused(Exception):
    """The program could not do what it was asked."""


class Lines:
    """One conversation: requests are answered, and what happens by itself is kept until asked."""

    def __init__(self, reader, writer, name):
        self.name = name
        self.heard: list[tuple[str, object]] = []
        self.console: list[str] = []
        self._writer = writer
        self._answers: dict[int, asyncio.Future] = {}
        self._numbers = itertools.count(1)
        self._fresh = asyncio.Event()
        self._pump = asyncio.get_running_loop().create_task(self._read(reader))

    async def ask(self, ability, *words, timeout=3 * DEADLINE):
        """Has something done and returns its result."""
        if self._pump.done():
            raise Refused(f"{self.name}: {ability}{words}: it has ended\n{self.story()}")
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        request = {"id": number, "do": ability, "with": words}
        self._writer.write(json.dumps(request).encode() + b"\n")
        try:
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise Silence(f"{self.name} did not {ability}{words}\n{self.story()}") from None
        except Refused as refused:
            raise Refused(f"{self.name}: {ability}{words}: {refused}\n{self.story()}") from None

    async def wait(self, kind, where=lambda value: True, timeout=DEADLINE):
        """The first event of that kind that fits and was not taken yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            for index, (name, value) in enumerate(self.heard):
                if name == kind and where(value):
                    del self.heard[index]
                    return value
            patience = deadline - loop.time()
            if patience <= 0 or self._pump.done():
                raise Silence(f"{self.name}: no {kind} within {timeout:.0f} s\n{self.story()}")
            self._fresh.clear()
            try:
                await asyncio.wait_for(self._fresh.wait(), patience)
            except TimeoutError:
                pass

    async def body(self, text):
        return await self.wait("message", lambda message: message["body"] == text)

    def all(self, kind):
        """Everything of that kind that was not taken yet, in order."""
        return [value for name, value in self.heard if name == kind]

    def story(self):
        heard = [f"  {kind}: {json.dumps(value)[:200]}" for kind, value in self.heard[-20:]]
        return "\n".join([f"  --- {self.name} heard", *heard, "  --- and its console said",
                          *("  " + line for line in self.console[-20:])])

    async def close(self):
        self._writer.close()
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _read(self, reader):
        while line := await reader.readline():
            self._take(json.loads(line))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Refused("it ended"))
        self._fresh.set()

    def _take(self, message):
        event = message.get("event")
        if event is None:
            answer = self._answers.pop(message["id"])
            if answer.done():
                return
            if "error" in message:
                answer.set_exception(Refused(message["error"]))
            else:
                answer.set_result(message["result"])
        elif event["kind"] == "console":
            self.console.append(event["value"])
        else:
            self.heard.append((event["kind"], event.get("value")))
            self._fresh.set()
