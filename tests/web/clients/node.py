"""Programs in Node: where their packages are, a headless Chromium, and @xmpp/client."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.server import ROOT

from .lines import Lines

PROGRAMS = Path(__file__).resolve().parents[1] / "node"
MODULES = Path(os.environ.get("WEB_MODULES", ROOT / "tests" / ".cache" / "web"))
START_DEADLINE = 60
# Enough for the longest line, which is what a page tells about a long message.
LINE_OCTETS_MAX = 1 << 20


def command(program, *words):
    node = os.environ.get("WEB_NODE") or shutil.which("node")
    assert node, "node is missing: run tests/all web"
    assert (MODULES / "node_modules").is_dir(), f"no packages in {MODULES}: run tests/all web"
    return [node, str(PROGRAMS / program), *words]


def environment():
    return {**os.environ, "WEB_MODULES": str(MODULES)}


class Chromium:
    """One browser for a whole run; every test opens windows of its own in it."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="encke-web-")
        self._socket = f"{self._folder.name}/socket"
        program = os.environ.get("WEB_CHROMIUM") or shutil.which("chromium")
        assert program, "chromium is missing: run tests/all web"
        with open(f"{self._folder.name}/log", "w+") as log:
            self._process = subprocess.Popen(
                command("chromium.mjs", self._socket, program), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, env=environment(),
            )
            if self._process.stdout.readline() != b"ready\n":
                log.seek(0)
                raise AssertionError(f"Chromium did not start:\n{log.read()[-4000:]}")

    async def window(self, name="a browser"):
        """A window of somebody who was never here before."""
        streams = await asyncio.open_unix_connection(self._socket, limit=LINE_OCTETS_MAX)
        return Window(*streams, name)

    def close(self):
        self._process.stdin.close()  # it takes that for the end of the run
        try:
            self._process.wait(START_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._folder.cleanup()


class Page:
    """What a user does with a page. Whoever is one has `ask`."""

    async def open(self, url):
        await self.ask("open", url)

    async def reload(self):
        await self.ask("reload")

    async def call(self, function, *words):
        """Calls a function of the page."""
        return await self.ask("call", function, *words)

    async def fill(self, where, text):
        await self.ask("fill", where, text)

    async def press(self, where, key):
        await self.ask("press", where, key)

    async def click(self, where):
        await self.ask("click", where)

    async def see(self, where):
        """Waits until an element of this selector is to be seen."""
        await self.ask("see", where)

    async def read(self, where):
        """The texts of all elements of this selector."""
        return await self.ask("read", where)

    async def evaluate(self, expression):
        return await self.ask("evaluate", expression)

    async def until(self, expression):
        """Waits until an expression of the page is true."""
        await self.ask("until", expression)

    async def gone(self, where):
        """Waits until no element of this selector is to be seen."""
        await self.ask("gone", where)

    async def select(self, where, value):
        await self.ask("select", where, value)

    async def key(self, *keys):
        """Keys on whatever has the focus."""
        for key in keys:
            await self.ask("key", key)

    async def type(self, text):
        await self.ask("type", text)

    async def look(self, width=1280, height=720, scheme="light"):
        """The size of the window, and whether the system is light or dark."""
        await self.ask("look", width, height, scheme)

    async def screenshot(self, path):
        await self.ask("screenshot", str(path))


class Window(Lines, Page):
    """A browser of somebody's own, and its first tab."""

    async def tab(self):
        return Tab(self, await self.ask("tab"))

    async def asked(self, kind):
        """How often the browser asked for something of this kind (a `resourceType`)."""
        return await self.ask("asked", kind)

    async def offline(self, is_offline):
        await self.ask("offline", is_offline)

    async def before(self, script):
        """Runs this in every page before its own scripts."""
        await self.ask("before", script)


class Tab(Page):
    """Another tab of a browser."""

    def __init__(self, window, number):
        self.window, self.number = window, number

    async def ask(self, ability, *words):
        return await self.window.ask("on", self.number, ability, *words)

    async def shut(self):
        await self.ask("shut")


class XmppJs(Lines):
    """@xmpp/client in a process of its own."""

    @classmethod
    async def new(cls, name="@xmpp/client"):
        process = await asyncio.create_subprocess_exec(
            *command("xmppjs.mjs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=environment(), limit=LINE_OCTETS_MAX,
        )
        client = cls(process.stdout, process.stdin, name)
        client._process = process
        return client

    async def start(self, service, account, resource="node"):
        """Logs in and returns the full JID."""
        return await self.ask(
            "start", service, account.domain, account.name, account.password, resource
        )

    async def close(self):
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), START_DEADLINE)
        except TimeoutError:
            self._process.kill()
        await super().close()


def versions():
    """The packages that the lock file names, for the head of a report."""
    lock = json.loads((PROGRAMS.parent / "package-lock.json").read_text())
    wanted = lock["packages"][""]["dependencies"]
    return ", ".join(f"{name} {version}" for name, version in wanted.items())
