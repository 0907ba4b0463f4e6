// @xmpp/client as a program: requests on its input, events on its output, one JSON object per line,
// in the same form as chromium.mjs has it.

import { createInterface } from "node:readline";

import { load } from "./modules.mjs";

// Before Node 22 the library finds no WebSocket: then it gets the one that most people give it.
globalThis.WebSocket ??= (await load("ws")).WebSocket;
const { client, xml } = await load("@xmpp/client");

const write = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const tell = (kind, value = null) => write({ event: { kind, value } });
let xmpp = null;

const abilities = {
  /** Returns when the session is bound. */
  start: async (service, domain, username, password, resource) => {
    xmpp = client({ service, domain, username, password, resource });
    // The delay is for the sake of servers in need; here nobody else waits.
    xmpp.reconnect.delay = 50;
    xmpp.on("status", (status) => tell("status", status));
    xmpp.on("error", (error) => tell("trouble", error.condition ?? error.code ?? error.message));
    xmpp.on("stanza", (stanza) => told(stanza));
    xmpp.on("send", (element) => element.is("auth") && tell("mechanism", element.attrs.mechanism));
    // As in the library's own examples: every new session begins with presence.
    xmpp.on("online", async (jid) => {
      await xmpp.send(xml("presence"));
      tell("ready", { jid: jid.toString(), resumed: false });
    });
    xmpp.streamManagement.on("resumed", () =>
      tell("ready", { jid: xmpp.jid.toString(), resumed: true }),
    );
    xmpp.streamManagement.on("ack", (stanza) => tell("acked", stanza.attrs.id ?? null));
    xmpp.streamManagement.on("fail", (stanza) => tell("lost", stanza.attrs.id ?? null));
    return (await xmpp.start()).toString();
  },
  message: (to, id, body) =>
    xmpp.send(xml("message", { to, id, type: "chat" }, xml("body", {}, body))),
  /** The names of the roster. */
  roster: async () => {
    const query = await xmpp.iqCaller.get(xml("query", "jabber:iq:roster"));
    return query.getChildren("item").map((item) => item.attrs.jid);
  },
  managed: () => xmpp.streamManagement.enabled,
  stop: async () => void (await xmpp.stop()),
};

function told(stanza) {
  const { from, id, type } = stanza.attrs;
  tell(stanza.name, { from, id, type: type ?? null, body: stanza.getChildText("body") });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { id, do: name, with: words } = JSON.parse(line);
  Promise.resolve()
    .then(() => abilities[name](...words))
    .then(
      (result) => write({ id, result: result ?? null }),
      (error) => write({ id, error: String(error.condition ?? error.message ?? error) }),
    );
}
process.exit(0);
