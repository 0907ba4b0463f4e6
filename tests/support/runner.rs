//! Plays a conversation and compares.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use encke::testing::{HEADER, Item, PASSWORD, Reader};

use super::dom::Dom;
use super::script::{Order, Script, What, local};
use super::stage::Stage;

/// How often a client that lacks something is looked at again.
const LOOKS: usize = 50;

/// A conversation on a stage.
pub struct Runner<'a> {
    stage: &'a mut dyn Stage,
    clients: Vec<Client>,
    /// What expected values captured, by name.
    captured: BTreeMap<String, String>,
    place: String,
}

struct Client {
    name: String,
    link: usize,
    reader: Reader,
    inbox: VecDeque<Item>,
    cut: bool,
}

/// Plays `script`.
///
/// # Panics
/// At the first thing that is not as it is written, with file and line.
pub fn play(script: &Script, stage: &mut dyn Stage, stage_name: &str) {
    let mut runner = Runner {
        stage,
        clients: Vec::new(),
        captured: BTreeMap::new(),
        place: String::new(),
    };
    for step in &script.steps {
        runner.place = format!("{}:{} ({stage_name})", script.path.display(), step.line);
        runner.step(&step.what);
    }
    runner.place = format!("end of {} ({stage_name})", script.path.display());
    runner.stage.settle();
    let names: Vec<String> = runner
        .clients
        .iter()
        .map(|client| client.name.clone())
        .collect();
    for name in names {
        runner.expect_nothing(&name);
    }
}

impl Runner<'_> {
    fn step(&mut self, what: &What) {
        match what {
            What::Online(names) => {
                for name in names {
                    self.log_in(name);
                    self.send(name, "<presence/>");
                    self.stage.settle();
                }
                for name in names {
                    self.receive(name);
                    self.client(name).inbox.clear();
                }
            }
            What::Login(names) => names.iter().for_each(|name| self.log_in(name)),
            What::Auth(name) => self.authenticate(name),
            What::Open(name) => {
                self.connect(name);
                self.send(name, HEADER);
                self.stage.settle();
                self.expect(name, "<stream:features/>");
            }
            What::Connect(name) => self.connect(name),
            What::Sends { who, text, times } => {
                for n in 1..=*times {
                    let text = self.fill(text).replace("$n", &n.to_string());
                    self.send(who, &text);
                }
                self.stage.settle();
            }
            What::Gets { who, xml, order } => {
                let xml = self.fill(xml);
                match order {
                    Order::Listed => self.expect(who, &xml),
                    Order::Any => self.expect_any(who, &xml),
                }
            }
            What::GetsNothing(who) => self.expect_nothing(who),
            What::GetsEnd(who) => {
                self.receive(who);
                let next = self.next(who);
                assert_eq!(next, Some(Item::End), "{}", self.place);
            }
            What::Skips(who) => {
                self.receive(who);
                self.client(who).inbox.clear();
            }
            What::Cut(who) => {
                let link = self.client(who).link;
                self.client(who).cut = true;
                self.stage.cut(link);
                self.stage.settle();
            }
            What::Closed(who) => {
                let link = self.client(who).link;
                assert!(
                    self.stage.is_closed(link),
                    "{}: the link is open",
                    self.place
                );
            }
            What::Advance(seconds) => self.stage.advance(Duration::from_secs(*seconds)),
            What::Crash => self.stage.crash(),
            What::Stop => self.stage.stop(),
        }
    }

    /// The youngest client of that name, or of that localpart.
    fn client(&mut self, name: &str) -> &mut Client {
        let place = &self.place;
        let fits = |client: &&mut Client| client.name == name || local(&client.name) == name;
        let found = self.clients.iter_mut().rev().find(fits);
        found.unwrap_or_else(|| panic!("{place}: nobody is called {name}"))
    }

    fn connect(&mut self, name: &str) {
        let link = self.stage.connect();
        self.clients.push(Client {
            name: name.into(),
            link,
            reader: Reader::default(),
            inbox: VecDeque::new(),
            cut: false,
        });
    }

    fn authenticate(&mut self, name: &str) {
        self.connect(name);
        let plain = STANDARD.encode(format!("\0{}\0{PASSWORD}", local(name)));
        self.send(name, HEADER);
        self.stage.settle();
        self.expect(name, "<stream:features/>");
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>"
        );
        self.send(name, &auth);
        self.stage.settle();
        self.expect(name, "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        self.send(name, HEADER);
        self.stage.settle();
        self.expect(name, "<stream:features/>");
    }

    fn log_in(&mut self, name: &str) {
        self.authenticate(name);
        let resource = name.split_once('/').map_or("", |(_, resource)| resource);
        let bind = format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        );
        self.send(name, &bind);
        self.stage.settle();
        self.expect(name, "<iq type='result' id='bind'/>");
    }

    fn send(&mut self, name: &str, text: &str) {
        let link = self.client(name).link;
        let text = text.replace("\\n", "\n");
        self.stage.write(link, &text);
    }

    fn receive(&mut self, name: &str) {
        let link = self.client(name).link;
        let octets = self.stage.read(link);
        let client = self.client(name);
        if client.cut {
            return;
        }
        let mut items = Vec::new();
        client.reader.receive(&octets, &mut items);
        client
            .inbox
            .extend(items.into_iter().filter(|item| *item != Item::Header));
    }

    fn next(&mut self, name: &str) -> Option<Item> {
        self.client(name).inbox.pop_front()
    }

    /// As [`Runner::next`], for what must come. Real threads may look quiet while one of them is
    /// kept off its core in the middle of a hop: then a second look finds it, and what never comes
    /// is still missed.
    fn awaited(&mut self, name: &str) -> Option<Item> {
        for _ in 0..LOOKS {
            if let Some(item) = self.next(name) {
                return Some(item);
            }
            self.stage.settle();
            self.receive(name);
        }
        self.next(name)
    }

    /// The next elements, in order. Acknowledgements that nobody asked for are passed over.
    fn expect(&mut self, name: &str, xml: &str) {
        self.receive(name);
        for wanted in self.doms(xml) {
            loop {
                let got = match self.awaited(name) {
                    Some(Item::Element(text)) => text,
                    other => panic!(
                        "{}: {name} got {other:?}\n  instead of {wanted}",
                        self.place
                    ),
                };
                let dom = Dom::parse(&got)
                    .unwrap_or_else(|e| panic!("{}: {e}", self.place))
                    .0;
                match self.compare(&wanted, &dom) {
                    Ok(()) => break,
                    Err(_) if is_acknowledgement(&dom) => {}
                    Err(why) => panic!(
                        "{}: {why}\n  {name} got {got}\n  instead of {wanted}",
                        self.place
                    ),
                }
            }
        }
    }

    fn expect_any(&mut self, name: &str, xml: &str) {
        self.receive(name);
        let mut wanted = self.doms(xml);
        while !wanted.is_empty() {
            let got = match self.awaited(name) {
                Some(Item::Element(text)) => text,
                other => panic!(
                    "{}: {name} got {other:?}\n  instead of {}",
                    self.place, wanted[0]
                ),
            };
            let dom = Dom::parse(&got)
                .unwrap_or_else(|e| panic!("{}: {e}", self.place))
                .0;
            let found = wanted
                .iter()
                .position(|wanted| self.compare(wanted, &dom).is_ok());
            match found {
                Some(at) => drop(wanted.remove(at)),
                None if is_acknowledgement(&dom) => {}
                None => panic!("{}: {name} got {got}, which is not listed", self.place),
            }
        }
    }

    fn expect_nothing(&mut self, name: &str) {
        self.receive(name);
        let place = self.place.clone();
        for item in self.client(name).inbox.drain(..) {
            let Item::Element(text) = item else {
                panic!("{place}: {name} got {item:?}")
            };
            let dom = Dom::parse(&text)
                .unwrap_or_else(|why| panic!("{place}: {why}"))
                .0;
            assert!(is_acknowledgement(&dom), "{place}: {name} got {text}");
        }
    }

    fn doms(&self, xml: &str) -> Vec<Dom> {
        Dom::parse_all(xml).unwrap_or_else(|why| panic!("{}: {why}", self.place))
    }

    /// Puts captured values in.
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.captured {
            text = text.replace(&format!("${name}"), value);
        }
        text
    }

    /// What is listed must be there; what is not listed may only be what the server adds.
    fn compare(&mut self, wanted: &Dom, got: &Dom) -> Result<(), String> {
        if (&wanted.namespace, &wanted.name) != (&got.namespace, &got.name) {
            return Err(format!("<{}> of {}", got.name, got.namespace));
        }
        for (name, value) in &wanted.attributes {
            match (value.as_str(), got.attr(name)) {
                ("-", None) => {}
                (_, None) => return Err(format!("<{}> has no {name}", got.name)),
                (pattern, Some(found)) => {
                    if let Some(capture) = pattern
                        .strip_prefix('{')
                        .and_then(|rest| rest.strip_suffix('}'))
                    {
                        self.captured.insert(capture.into(), found.into());
                    } else if !glob(pattern, found) {
                        return Err(format!("{name} is {found}"));
                    }
                }
            }
        }
        let text = wanted.text.trim();
        if !text.is_empty() && !glob(text, got.text.trim()) {
            return Err(format!("text of <{}> is {:?}", got.name, got.text));
        }
        if wanted.children.is_empty() {
            return Ok(());
        }
        self.compare_children(wanted, got)
    }

    fn compare_children(&mut self, wanted: &Dom, got: &Dom) -> Result<(), String> {
        let mut children = got.children.iter();
        for child in &wanted.children {
            loop {
                let Some(next) = children.next() else {
                    return Err(format!("<{}> is missing", child.name));
                };
                match self.compare(child, next) {
                    Ok(()) => break,
                    Err(_) if is_added(next) => {}
                    Err(why) => return Err(why),
                }
            }
        }
        match children.find(|child| !is_added(child)) {
            Some(child) => Err(format!("<{}> is too much", child.name)),
            None => Ok(()),
        }
    }
}

/// What the server may add to a message.
fn is_added(dom: &Dom) -> bool {
    dom.is("urn:xmpp:sid:0", "stanza-id") || dom.is("urn:xmpp:delay", "delay")
}

fn is_acknowledgement(dom: &Dom) -> bool {
    dom.is("urn:xmpp:sm:3", "a") || dom.is("urn:xmpp:sm:3", "r")
}

/// `*` stands for anything.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    (0..=text.len())
        .filter(|at| text.is_char_boundary(*at))
        .any(|at| glob(rest, &text[at..]))
}
