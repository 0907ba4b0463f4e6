// One headless Chromium for all tests. It listens on a socket in the file system; a connection is a
// person with a browser of their own: one context, one page or several, gone when the connection
// ends.
//
// Both sides write one JSON object per line. A request is {id, do, with: [...]} and is answered by
// {id, result} or {id, error}; {event} is what the page told by `tell(...)` or has on its console.
//
//   node chromium.mjs SOCKET PROGRAM

import { createServer } from "node:net";
import { createInterface } from "node:readline";

import { load } from "./modules.mjs";

// For what a page is to show, in milliseconds.
const PATIENCE = 20_000;
const [socket, program] = process.argv.slice(2);
const { chromium } = await load("playwright-core");

const browser = await chromium.launch({
  executablePath: program,
  headless: true,
  // Root has no sandbox, and a container has a small /dev/shm.
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});

// Who leaves without having read everything resets the connection: that ends one window only.
const server = createServer((connection) =>
  attend(connection).catch((error) => {
    console.error(error);
    connection.destroy();
  }),
);
server.listen(socket, () => console.log("ready"));
// Whoever started this holds its input open: when they are gone, so is the browser.
process.stdin.resume().on("end", () => browser.close().finally(() => process.exit(0)));

async function attend(connection) {
  const write = (message) => {
    if (connection.writable) connection.write(JSON.stringify(message) + "\n");
  };
  const tell = (kind, value) => write({ event: { kind, value } });
  connection.on("error", () => {});

  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-US" });
  connection.on("close", () => context.close().catch(() => {}));
  await context.exposeBinding("tell", (_, kind, value) => tell(kind, value));
  // What the browser asked for, by kind.
  const asked = {};
  context.on("request", (request) => {
    asked[request.resourceType()] = (asked[request.resourceType()] ?? 0) + 1;
  });

  const tabs = [];
  const open = async () => {
    const page = await context.newPage();
    page.on("console", (message) => tell("console", `${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => tell("console", `uncaught: ${error.message}`));
    page.on("dialog", (dialog) => {
      tell("dialog", dialog.message());
      return dialog.accept();
    });
    page.setDefaultTimeout(PATIENCE);
    return tabs.push(abilitiesOf(page)) - 1;
  };
  await open();
  const abilities = {
    ...tabs[0],
    tab: open,
    on: (tab, name, ...words) => tabs[tab][name](...words),
    asked: (kind) => asked[kind] ?? 0,
    offline: (isOffline) => context.setOffline(isOffline),
    before: (script) => context.addInitScript(script),
  };
  for await (const line of createInterface({ input: connection })) {
    const { id, do: name, with: words } = JSON.parse(line);
    // Not awaited: while one request waits for something to appear, another may make it appear.
    Promise.resolve()
      .then(() => abilities[name](...words))
      .then(
        (result) => write({ id, result: result ?? null }),
        (error) => write({ id, error: String(error.message ?? error) }),
      );
  }
}

function abilitiesOf(page) {
  return {
    open: async (url) => void (await page.goto(url)),
    reload: async () => void (await page.reload()),
    call: (name, ...words) => page.evaluate(([n, w]) => window[n](...w), [name, words]),
    evaluate: (expression) => page.evaluate(expression),
    // Asked from here: within the page its policy forbids to run a text as a program.
    until: async (expression) => {
      const end = Date.now() + PATIENCE;
      while (!(await page.evaluate(expression))) {
        if (Date.now() > end) throw new Error("it did not become true");
        await new Promise((resume) => setTimeout(resume, 20));
      }
    },
    fill: (where, text) => page.fill(where, text),
    press: (where, key) => page.press(where, key),
    click: (where) => page.click(where),
    select: async (where, value) => void (await page.selectOption(where, value)),
    key: (key) => page.keyboard.press(key),
    type: (text) => page.keyboard.type(text),
    see: async (where) => void (await page.waitForSelector(where)),
    gone: async (where) => void (await page.waitForSelector(where, { state: "hidden" })),
    read: async (where) => page.locator(where).allInnerTexts(),
    look: async (width, height, colorScheme) => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
    },
    screenshot: async (path) => void (await page.screenshot({ path })),
    shut: () => page.close(),
  };
}
