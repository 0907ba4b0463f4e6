"""encke's own chat page, and what somebody does with it."""

import json


class Chat:
    """A person in front of the page: a window or a tab of it."""

    def __init__(self, page, account, origin, via="socket"):
        self.page, self.account = page, account
        self.url = f"{origin}/?via={via}"

    async def open(self):
        await self.page.open(self.url)
        return self

    async def login(self, password=None):
        await self.open()
        await self.page.fill("[name=user]", self.account.jid)
        await self.page.fill("[name=password]", password or self.account.password)
        await self.page.press("[name=password]", "Enter")
        if password is None:
            await self.connected()
        return self

    async def connected(self):
        await self.page.until("document.getElementById('state').dataset.state === 'online'")

    async def add(self, jid, name=""):
        await self.page.click("#add")
        await self.page.fill("#adding [name=jid]", jid)
        await self.page.fill("#adding [name=nick]", name)
        await self.page.press("#adding [name=nick]", "Enter")

    async def talk_with(self, jid):
        """Opens the conversation, as a click in the list does."""
        await self.page.evaluate(f"void open({json.dumps(jid)})")
        await self.page.see("#open")

    async def say(self, text):
        await self.page.fill("#text", text)
        await self.page.press("#text", "Enter")

    async def shows(self, *texts):
        """Waits until the open conversation is exactly this."""
        await self._agree(texts, "#messages .text", "textContent")

    async def marks(self, *marks):
        """Waits until our messages are marked so."""
        await self._agree(marks, "#messages .mine .mark", "dataset.mark")

    async def sees(self, jid, show):
        """Waits until a contact is shown so."""
        await self.page.see(f'#people a[title="{jid}"] .avatar[data-show="{show}"]')

    async def _agree(self, wanted, where, what):
        wanted = json.dumps(wanted)
        now = f"JSON.stringify([...document.querySelectorAll('{where}')].map((e) => e.{what}))"
        try:
            await self.page.until(f"{now} === JSON.stringify({wanted})")
        except Exception as trouble:
            there = await self.page.evaluate(now)
            raise AssertionError(f"wanted {wanted[:2000]}\nthere   {there[:2000]}") from trouble


async def befriend(asker, other):
    """Both see each other then."""
    await asker.add(other.account.jid)
    await other.page.click("#requests .main")
    await asker.page.click("#requests .main")
    await asker.sees(other.account.jid, "online")
    await other.sees(asker.account.jid, "online")
    await asker.talk_with(other.account.jid)
    await other.talk_with(asker.account.jid)
