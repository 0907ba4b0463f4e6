//! A server that is just enough of one, and that misbehaves on demand: one thread a connection.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// What the server does wrong, with the hundredth message that it sees or from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Lose,
    Duplicate,
    /// Two messages change places.
    Swap,
    /// One message goes to somebody else.
    Misdeliver,
    /// One message comes back as an error.
    Bounce,
    /// The stream of a client ends with an error.
    Throw,
    /// Nobody may log in.
    Refuse,
    /// Connections are taken and nothing is ever said.
    Mute,
}

const AT: u64 = 100;

#[derive(Default)]
struct Shared {
    online: HashMap<String, TcpStream>,
    messages: u64,
    /// What was taken aside, to be sent after the next message for the same user.
    aside: Option<(String, String)>,
}

/// Starts the server; it lives as long as the test.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Mutex::new(Shared::default()));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || serve(socket, fault, &shared));
        }
    });
    address
}

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='1' from='localhost' version='1.0'>";

fn serve(mut socket: TcpStream, fault: Fault, shared: &Mutex<Shared>) {
    let mut received = String::new();
    let mut user = String::new();
    let mut octets = [0; 4096];
    while let Ok(count) = socket.read(&mut octets) {
        if count == 0 {
            break;
        }
        if fault == Fault::Mute {
            continue;
        }
        received.push_str(std::str::from_utf8(&octets[..count]).unwrap());
        while let Some(end) = end_of_item(&received) {
            let item: String = received.drain(..end).collect();
            if item.starts_with("<message") {
                route(&item, &user, fault, shared);
                continue;
            }
            let answer = answer(&item, &mut user, fault);
            if item.starts_with("<presence") {
                let mut shared = shared.lock().unwrap();
                shared
                    .online
                    .insert(user.clone(), socket.try_clone().unwrap());
            }
            if socket.write_all(answer.as_bytes()).is_err() || answer == "</stream:stream>" {
                return;
            }
        }
    }
}

/// Good for what the generator sends: no quoted `>`, no nested element of the same name.
fn end_of_item(text: &str) -> Option<usize> {
    let text_start = text.find('<')?;
    let rest = &text[text_start..];
    let head = rest.find('>')? + 1;
    let open = rest.starts_with("<?") || rest.starts_with("<stream:") || rest.starts_with("</");
    if open || rest[..head].ends_with("/>") {
        return Some(text_start + head);
    }
    let name = rest[1..].split([' ', '>']).next()?;
    let close = format!("</{name}>");
    Some(text_start + rest.find(&close)? + close.len())
}

fn answer(item: &str, user: &mut String, fault: Fault) -> String {
    let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>";
    if item.starts_with("<stream:") {
        let features = if user.is_empty() {
            "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
             </mechanisms>"
        } else {
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
        };
        format!("{HEADER}<stream:features>{features}</stream:features>")
    } else if item.starts_with("<auth") {
        if fault == Fault::Refuse {
            return "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
                .to_owned();
        }
        let start = item.find('>').unwrap() + 1;
        let text = base64_text(&item[start..item.find("</auth>").unwrap()]);
        *user = text.split('\0').nth(1).unwrap().to_owned();
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned()
    } else if item.contains(bind) {
        let jid = format!("<jid>{user}@localhost/lt</jid>");
        format!("<iq type='result' id='bind'>{bind}{jid}</bind></iq>")
    } else if item.contains("jabber:iq:roster") {
        "<iq type='result' id='roster'><query xmlns='jabber:iq:roster'/></iq>".to_owned()
    } else if item.starts_with("</") {
        "</stream:stream>".to_owned()
    } else {
        String::new()
    }
}

fn base64_text(text: &str) -> String {
    use base64::Engine;
    let octets = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    String::from_utf8(octets).unwrap()
}

fn route(message: &str, from: &str, fault: Fault, shared: &Mutex<Shared>) {
    let mut shared = shared.lock().unwrap();
    shared.messages += 1;
    let to = message
        .split("to='")
        .nth(1)
        .unwrap()
        .split('@')
        .next()
        .unwrap()
        .to_owned();
    if shared.aside.as_ref().is_some_and(|(name, _)| *name == to) {
        let (_, late) = shared.aside.take().unwrap();
        send(&mut shared, &to, message);
        send(&mut shared, &to, &late);
        return;
    }
    let mut fault = fault;
    if shared.messages != AT {
        fault = Fault::None;
    }
    match fault {
        Fault::Lose => {}
        Fault::Duplicate => {
            send(&mut shared, &to, message);
            send(&mut shared, &to, message);
        }
        Fault::Swap => shared.aside = Some((to, message.to_owned())),
        Fault::Misdeliver => {
            let other = shared
                .online
                .keys()
                .find(|name| **name != to)
                .cloned()
                .unwrap();
            send(&mut shared, &other, message);
        }
        Fault::Bounce => {
            let bounce = message.replace("type='chat'", "type='error'").replace(
                "</message>",
                "<error type='cancel'><service-unavailable xmlns='s'/></error></message>",
            );
            send(&mut shared, from, &bounce);
        }
        Fault::Throw => send(
            &mut shared,
            &to,
            "<stream:error><policy-violation xmlns='s'/></stream:error></stream:stream>",
        ),
        _ => send(&mut shared, &to, message),
    }
}

fn send(shared: &mut Shared, to: &str, text: &str) {
    if let Some(socket) = shared.online.get_mut(to) {
        let _ = socket.write_all(text.as_bytes());
    }
}
