// A page that does with strophe.js what its author's chat would. The test calls these functions and
// hears by `tell` what the library said.

const STATUS = Object.fromEntries(
  Object.entries(Strophe.Status).map(([name, number]) => [number, name.toLowerCase()]),
);
let connection;

/** Logs in. `options` are strophe's own. */
function login(service, jid, password, options) {
  connection = new Strophe.Connection(service, options);
  connection.rawOutput = (text) => {
    const mechanism = /<auth [^>]*mechanism=['"]([^'"]+)/.exec(text);
    if (mechanism) tell("mechanism", mechanism[1]);
  };
  reach(jid, password);
}

/** Connects again with the same connection, as a page does after the network was away. */
function reach(jid, password) {
  connection.connect(jid, password, (status, condition) => {
    if (status === Strophe.Status.CONNECTED) {
      for (const name of ["message", "presence"]) connection.addHandler(told, null, name);
      connection.addHandler(pushed, Strophe.NS.ROSTER, "iq", "set");
      tell("connected", { jid: connection.jid, resumed: Boolean(connection.hasResumed?.()) });
    } else {
      tell("status", { status: STATUS[status], condition: condition ?? null });
    }
  });
}

function told(stanza) {
  tell(stanza.nodeName, {
    from: stanza.getAttribute("from"),
    id: stanza.getAttribute("id"),
    type: stanza.getAttribute("type"),
    show: stanza.querySelector("show")?.textContent ?? null,
    body: stanza.querySelector("body")?.textContent ?? null,
  });
  return true;
}

function pushed(stanza) {
  tell("push", items(stanza));
  connection.send($iq({ type: "result", id: stanza.getAttribute("id") }));
  return true;
}

function presence(attributes = {}, show = null) {
  const stanza = $pres(attributes);
  connection.send(show ? stanza.c("show").t(show) : stanza);
}

function message(to, id, body) {
  connection.send($msg({ to, id, type: "chat" }).c("body").t(body));
}

/** The roster, as a list of {jid, name, subscription}. */
async function roster() {
  return items(await ask($iq({ type: "get" }).c("query", { xmlns: Strophe.NS.ROSTER })));
}

async function contact(jid, name) {
  const query = $iq({ type: "set" }).c("query", { xmlns: Strophe.NS.ROSTER });
  await ask(query.c("item", { jid, name }));
}

/** A round trip through the server: what came before has been handled. */
async function ping(domain) {
  await ask($iq({ type: "get", to: domain }).c("ping", { xmlns: "urn:xmpp:ping" }));
}

function leave() {
  connection.disconnect("the test is done");
}

/** Whether stream management is on. */
function managed() {
  return Boolean(connection.sm?.enabled);
}

function items(stanza) {
  const attributes = ["jid", "name", "subscription"];
  return [...stanza.getElementsByTagName("item")].map((item) =>
    Object.fromEntries(attributes.map((name) => [name, item.getAttribute(name)])),
  );
}

function ask(iq) {
  return new Promise((resolve, reject) => {
    connection.sendIQ(iq, resolve, (error) =>
      reject(new Error(error ? Strophe.serialize(error) : "no answer")),
    );
  });
}
