//! What the kernel alone takes for a message on this machine, now: a relay of bare TCP that only
//! receives and sends, between the same pairs, in a process and threads of its own.
//!
//! No server can be cheaper than that with one `recv` and one `send` a message. Machines differ,
//! and a shared one differs from hour to hour: read every figure beside this one.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;

use crate::args::{FloorArgs, RelayArgs};
use crate::bench::Ending;
use crate::process::{Usage, own_cpu_seconds};
use crate::report::{Course, Figures, Report};
use crate::sys;

/// Octets read at once.
const READ_OCTETS: usize = 64 * 1024;
/// Events taken in one turn, as a server takes them.
const EVENTS_PER_TURN: usize = 1_024;
/// How often a thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Measures the floor and shows it.
///
/// # Errors
/// When the relay cannot be started or reached.
pub fn measure(args: &FloorArgs) -> Result<Ending, String> {
    let mut report = Report {
        scenario: "floor",
        label: Some("a bare relay".into()),
        commit: None,
        options: json!({
            "pairs": args.pairs, "octets": args.octets, "window": args.window,
            "seconds": args.seconds, "threads": sys::cores(), "repeat": args.repeat,
        }),
        runs: Vec::new(),
        errors: std::collections::BTreeMap::new(),
        notes: vec!["no XMPP: what the kernel takes to receive and to send".into()],
        interrupted: false,
        course: Course::default(),
    };
    for _ in 0..args.repeat.max(1) {
        report.runs.push(once(args).map_err(|e| e.to_string())?);
    }
    report.print();
    if let Some(path) = &args.json {
        report.write(path).map_err(|e| e.to_string())?;
    }
    Ok(Ending {
        errors: false,
        nothing: false,
    })
}

/// The relay's process: it ends when its peers are gone.
///
/// # Errors
/// When it cannot listen.
pub fn relay(args: &RelayArgs) -> Result<Ending, String> {
    serve(args.connections).map_err(|e| e.to_string())?;
    Ok(Ending {
        errors: false,
        nothing: false,
    })
}

fn once(args: &FloorArgs) -> io::Result<Figures> {
    let connections = args.pairs * 2;
    let (mut relay, address) = start_relay(connections)?;
    let figures = talk(args, relay.id(), address);
    // It ends by itself as soon as the peers are gone.
    relay.wait()?;
    figures
}

fn start_relay(connections: usize) -> io::Result<(Child, SocketAddr)> {
    let mut relay = Command::new(std::env::current_exe()?)
        .args(["relay", &connections.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(output) = relay.stdout.take() {
        BufReader::new(output).read_line(&mut line)?;
    }
    match line.trim().parse() {
        Ok(address) => Ok((relay, address)),
        Err(_) => Err(io::Error::other("the relay did not say where it listens")),
    }
}

/// The peers: each end of a pair sends back what it gets, through the relay.
fn talk(args: &FloorArgs, relay: u32, address: SocketAddr) -> io::Result<Figures> {
    let mut streams = Vec::new();
    for _ in 0..args.pairs * 2 {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let (stop, octets) = (AtomicBool::new(false), AtomicU64::new(0));
    let first = vec![b'x'; args.octets * args.window];
    let mut shares = deal(streams);
    let mut figures = Figures::default();
    thread::scope(|scope| {
        for share in shares.drain(..) {
            let (stop, octets, first) = (&stop, &octets, &first);
            scope.spawn(move || echo(share, first, stop, octets));
        }
        thread::sleep(Duration::from_secs(1));
        let read = || {
            (
                Instant::now(),
                Usage::of(relay),
                octets.load(Ordering::Relaxed),
            )
        };
        let (began, before, sent) = read();
        let own = own_cpu_seconds();
        thread::sleep(Duration::from_secs(args.seconds));
        let (ended, after, received) = read();
        stop.store(true, Ordering::Relaxed);
        let messages = (received - sent) as f64 / args.octets as f64;
        figures.add("messages", messages, "");
        let seconds = (ended - began).as_secs_f64();
        figures.per("messages per second", messages, seconds, "");
        if let Some((before, after)) = before.zip(after) {
            let used = after.since(&before);
            let cpu = used.cpu_seconds * 1e6;
            figures.per("server CPU per message", cpu, messages, "µs");
            figures.add("server CPU in the kernel", used.system_share * 100.0, "%");
        }
        let own = (own_cpu_seconds() - own) * 1e6;
        figures.per("generator CPU per message", own, messages, "µs");
    });
    Ok(figures)
}

/// Connections dealt to threads by pairs, the even ones of which begin to talk.
fn deal<T>(streams: Vec<T>) -> Vec<Vec<T>> {
    let threads = sys::cores();
    let mut shares: Vec<Vec<T>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, stream) in streams.into_iter().enumerate() {
        shares[index / 2 % threads].push(stream);
    }
    shares
}

fn watch(streams: Vec<std::net::TcpStream>) -> io::Result<(Poll, Vec<TcpStream>)> {
    let poll = Poll::new()?;
    let mut watched = Vec::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE.add(Interest::WRITABLE);
        poll.registry()
            .register(&mut stream, Token(index), interest)?;
        watched.push(stream);
    }
    Ok((poll, watched))
}

fn echo(
    share: Vec<std::net::TcpStream>,
    first: &[u8],
    stop: &AtomicBool,
    octets: &AtomicU64,
) -> io::Result<()> {
    let (mut poll, mut streams) = watch(share)?;
    for stream in streams.iter_mut().step_by(2) {
        stream.write_all(first)?;
    }
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut buffer = vec![0; READ_OCTETS];
    while !stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(LOOK))?;
        for event in events.iter().filter(|event| event.is_readable()) {
            let stream = &mut streams[event.token().0];
            match stream.read(&mut buffer) {
                Ok(got) => {
                    octets.fetch_add(got as u64, Ordering::Relaxed);
                    stream.write_all(&buffer[..got])?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Accepts, and gives each connection what its neighbour sends. Which thread reads a connection is
/// as good as random, as it is where accounts belong to threads by a hash.
fn serve(connections: usize) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    say!("{}", listener.local_addr()?);
    let mut streams = Vec::new();
    for _ in 0..connections {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let streams: Arc<[std::net::TcpStream]> = streams.into();
    let threads: Vec<_> = (0..sys::cores())
        .map(|thread| {
            let streams = streams.clone();
            thread::spawn(move || pass_on(&streams, thread))
        })
        .collect();
    for thread in threads {
        // A peer that is gone is the end, however it went.
        let _ = thread.join();
    }
    Ok(())
}

/// Reads all that is ready, then writes: the turn of a server, without the server.
fn pass_on(streams: &[std::net::TcpStream], thread: usize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    for (index, stream) in streams.iter().enumerate() {
        if mixed(index) % sys::cores() == thread {
            let interest = Interest::READABLE.add(Interest::WRITABLE);
            let descriptor = stream.as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&descriptor), Token(index), interest)?;
        }
    }
    let mut events = Events::with_capacity(EVENTS_PER_TURN);
    let mut buffer = vec![0; READ_OCTETS];
    let mut output: Vec<u8> = Vec::new();
    let mut due: Vec<(usize, usize)> = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in events.iter().filter(|event| event.is_readable()) {
            let from = event.token().0;
            match (&streams[from]).read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => {
                    output.extend_from_slice(&buffer[..got]);
                    due.push((from ^ 1, got));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let mut at = 0;
        for (to, octets) in due.drain(..) {
            (&streams[to]).write_all(&output[at..at + octets])?;
            at += octets;
        }
        output.clear();
    }
}

/// A number without a pattern, made of a number.
fn mixed(number: usize) -> usize {
    (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 33
}
