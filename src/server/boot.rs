//! From a configuration to a running server, and to its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;

use super::accounts::Accounts;
use super::certificate::{self, Facts, Origin};
use super::check::{EXPIRY_WARNING_DAYS, bind_trouble};
use super::config::{Config, Loaded, Mode};
use super::depot::{self, Depot};
use super::desk::Desk;
use super::exit::{Exit, Failure};
use super::live::Live;
use super::log::Log;
use super::manager::tell_manager;
use super::metrics::Errands;
use super::plan::{Machine, Plan};
use super::reload::Reloader;
use super::signals::{self, Outcome, Wish};
use super::status::Listeners;
use super::{admin, data, demo, vault};
use crate::base::event::Event;
use crate::engine::{Command, Entry, HttpPolicy, Policy, Revival};
use crate::io::{self, Bind, GiveBack, Reactors, StartError, TlsShared, Unused};
use crate::store::journal::DamageKind;
use crate::store::worker::Storage;
use crate::store::{Recovered, StreamId};
use crate::transport::http::forwarded::Source;
use crate::transport::http::network::Networks;
use crate::transport::http::origin::Origins;
use crate::transport::json::topic::Topics;

/// How often the certificate is looked at.
const DAY: Duration = Duration::from_secs(86_400);

/// The queue of what the administrator wants, with an end for those who add to it.
type Wishes = (Sender<Wish>, Receiver<Wish>);

/// How a server ended.
enum Ended {
    Stopped,
    /// To start again on the staged store; whom to tell what became of it.
    ForRestore(Box<Loaded>, Sender<Outcome>),
}

/// What comes after a stop.
#[derive(Clone, Copy)]
enum Next {
    Nothing,
    Start,
}

/// A restore that waits for the new server.
struct Restored {
    reply: Sender<Outcome>,
    former: Option<PathBuf>,
}

/// Serves until somebody wants it to stop; see [`GiveBack`].
///
/// # Errors
/// Why it cannot start.
pub fn serve(mut loaded: Loaded, give_back: GiveBack) -> Result<Exit, Failure> {
    let log = Log::start(&loaded.config).map_err(|e| {
        let line = format!("log.target {}: {e}", loaded.config.log_target);
        Failure::new(Exit::Configuration, line)
    })?;
    let wishes = signals::watch().map_err(|e| Failure::new(Exit::Internal, e))?;
    raise_descriptors();
    let mut restored = None;
    let served = loop {
        match run(loaded, &log, &wishes, give_back, &mut restored) {
            Ok(Ended::Stopped) => break Ok(Exit::Done),
            Ok(Ended::ForRestore(again, reply)) => {
                loaded = *again;
                match vault::swap(&loaded.config.data_dir) {
                    Ok(former) => restored = Some(Restored { reply, former }),
                    Err(line) => {
                        let _ = reply.send(Err(line.clone()));
                        break Err(Failure::new(Exit::Data, line));
                    }
                }
            }
            Err(failure) => {
                if let Some(Restored { reply, .. }) = restored {
                    let _ = reply.send(Err(failure.lines.join("; ")));
                }
                break Err(failure);
            }
        }
    };
    log.flush();
    served
}

fn run(
    loaded: Loaded,
    log: &Log,
    wishes: &Wishes,
    give_back: GiveBack,
    restored: &mut Option<Restored>,
) -> Result<Ended, Failure> {
    let began = Instant::now();
    let config = &loaded.config;
    let plan = Plan::new(config, Machine::here())
        .map_err(|line| Failure::new(Exit::Configuration, line))?;
    data::prepare(&config.data_dir)?;
    let depot = depot::open(config)?;
    tell_damage(&depot.recovered);
    let storage = depot.storage.clone();
    let started = start(&loaded, plan, depot, log, &wishes.0, give_back);
    let (live, reloader) = match started {
        Ok(started) => started,
        Err(failure) => {
            storage.stop();
            return Err(failure);
        }
    };
    // Recovery needed more than the server will.
    give_back(Unused::Now);
    tell_started(&loaded, &live, log, began);
    if let Some(Restored { reply, former }) = restored.take() {
        // A command that was interrupted learns of it from the log.
        let _ = reply.send(Ok(former));
    }
    let (loaded, reply) = wait(&live, reloader, &wishes.1);
    let next = if reply.is_some() {
        Next::Start
    } else {
        Next::Nothing
    };
    stop(&live, &storage, &loaded, next);
    Ok(match reply {
        Some(reply) => Ended::ForRestore(Box::new(loaded), reply),
        None => Ended::Stopped,
    })
}

/// Everything between open storage and a server that is ready.
fn start(
    loaded: &Loaded,
    plan: Plan,
    depot: Depot,
    log: &Log,
    wishes: &Sender<Wish>,
    give_back: GiveBack,
) -> Result<(Live, Reloader), Failure> {
    let config = &loaded.config;
    let Depot {
        storage,
        recovered,
        desk,
        shards,
    } = depot;
    let mut accounts = Accounts::new(storage.clone(), desk);
    // The secret is made last: where it is, the first start was finished.
    if loaded.mode == Mode::Standalone && !data::has_secret(config) {
        demo::add_accounts(&mut accounts, &config.domains[0])?;
    }
    let secret = data::secret(config)?;
    let pair = certificate::read_or_make(config)
        .map_err(|line| Failure::new(Exit::Configuration, line))?;
    let certificates = pair
        .certificates()
        .map_err(|line| Failure::new(Exit::Configuration, line))?;
    tell_certificate(&pair.chain, pair.origin, loaded.mode);
    let tls = TlsShared::new(certificates).map_err(|e| Failure::new(Exit::Internal, e))?;
    let tls = Arc::new(tls);
    let policy = Arc::new(policy(config, &plan, secret));
    let listeners = binds(config);
    let entries: Vec<Entry> = listeners.iter().map(|bind| bind.entry).collect();
    let errands = Errands::new();
    let reactors = Reactors::bind(io::Plan {
        shards: plan.shards,
        listeners,
        tls: Some(tls.clone()),
        private_descriptors: plan.private_descriptors,
        policy,
        next_id: recovered.next_id,
        events: {
            let log = log.clone();
            Arc::new(move |shard, events: &mut Vec<Event>| log.events(shard, events))
        },
        errands: errands.sink(),
        give_back,
    })
    .map_err(start_failure)?;
    let _ = shards.set(reactors.outlet());
    let listeners = listed(reactors.addresses(), &entries);
    // Before anybody is accepted: who resumes or comes for messages finds everything in place.
    hand_over(&reactors, recovered, &accounts)?;
    let counter = admin::open(&config.data_dir).map_err(|e| {
        let path = config.data_dir.join(admin::SOCKET);
        Failure::new(Exit::Data, format!("{}: {e}", path.display()))
    })?;
    let submit = {
        let storage = storage.clone();
        Arc::new(move |ops: &mut crate::store::Ops| storage.submit(ops))
    };
    let handle = reactors.start(submit).map_err(start_failure)?;
    let live = Live::new(
        handle,
        log.clone(),
        plan,
        listeners,
        &config.data_dir,
        wishes.clone(),
    );
    errands
        .serve(live.clone(), storage.clone())
        .map_err(|e| Failure::new(Exit::Internal, e))?;
    let mut desk = Desk::new(accounts, config.domains.clone(), Some(live.clone()));
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || admin::serve(&counter, &mut desk))
        .map_err(|e| Failure::new(Exit::Internal, e))?;
    Ok((
        live,
        Reloader::new(loaded.clone(), plan, secret, tls, log.clone()),
    ))
}

/// Gives the shards what the last process left: messages on their way, sessions, counts.
fn hand_over(
    reactors: &Reactors,
    recovered: Recovered,
    accounts: &Accounts,
) -> Result<(), Failure> {
    let (messages, counts) = (recovered.unsettled.len(), recovered.handled.len());
    let mut sessions = 0_usize;
    // A session first: what it holds already is not recovered a second time.
    let listed = accounts.written_sessions(&mut |owner, key, record| {
        let Ok(key) = <[u8; 16]>::try_from(key) else {
            return;
        };
        let home = reactors.home(owner);
        let revival = Revival {
            owner: owner.into(),
            stream: StreamId(u128::from_be_bytes(key)),
            record: record.into(),
        };
        reactors.command(home, Command::Revive(revival));
        sessions += 1;
    });
    listed.map_err(|e| Failure::new(Exit::Data, e))?;
    for message in recovered.unsettled {
        let home = reactors.home(&message.owner);
        reactors.command(home, Command::Recover(message));
    }
    for (stream, handled) in recovered.handled {
        reactors.broadcast(|| Command::Handled { stream, handled });
    }
    if messages + counts + sessions > 0 {
        tracing::info!(messages, sessions, counts, "recovered");
    }
    Ok(())
}

/// Reloads until it is time to stop; returns whom to tell when that is for a restore.
fn wait(
    live: &Live,
    mut reloader: Reloader,
    wishes: &Receiver<Wish>,
) -> (Loaded, Option<Sender<Outcome>>) {
    loop {
        match wishes.recv_timeout(DAY) {
            Ok(Wish::Stop) => return (reloader.into_loaded(), None),
            Ok(Wish::Restore(reply)) => return (reloader.into_loaded(), Some(reply)),
            Ok(Wish::Reload) => reloader.reload(live),
            Err(_) => {
                let loaded = reloader.loaded();
                if let Ok(pair) = certificate::read(&loaded.config) {
                    tell_certificate(&pair.chain, pair.origin, loaded.mode);
                }
            }
        }
    }
}

/// Ends in order and in bounded time: listeners, sessions, storage.
fn stop(live: &Live, storage: &Storage, loaded: &Loaded, next: Next) {
    let began = Instant::now();
    match next {
        Next::Nothing => tell_manager(&[NotifyState::Stopping]),
        Next::Start => tell_manager(&[NotifyState::Reloading]),
    }
    let patience = loaded.config.shutdown_timeout;
    tracing::info!(seconds = patience.as_secs(), "stopping");
    let in_time = live.take().is_none_or(|reactors| {
        let rest = reactors.stop(patience);
        reactors.join(rest)
    });
    storage.stop();
    let _ = std::fs::remove_file(loaded.config.data_dir.join(admin::SOCKET));
    let millis = began.elapsed().as_millis() as u64;
    match in_time {
        true => tracing::info!(millis, "stopped"),
        false => tracing::warn!(millis, "stopped-late"),
    }
}

/// What the engine has to know of a configuration.
pub fn policy(config: &Config, plan: &Plan, secret: [u8; 32]) -> Policy {
    let mut limits = config.limits.clone();
    limits.links_max = plan.links_max;
    Policy {
        domains: config.domains.clone(),
        admins: config.admins.clone(),
        require_tls: config.require_tls,
        offer_tls: true,
        contacts: config.contacts.fields(),
        http: HttpPolicy {
            // Each entry was checked when it was read.
            origins: Origins::new(config.http_origins.iter().map(String::as_str))
                .unwrap_or_default(),
            proxies: Networks::new(config.http_proxies.iter().map(String::as_str))
                .unwrap_or_default(),
            proxy_protocol: config.http_proxy_protocol,
            proxy_header: match config.http_proxy_header.as_str() {
                "forwarded" => Source::Forwarded,
                _ => Source::XForwardedFor,
            },
            topics: Topics::new(config.http_topics.iter().map(String::as_str)).unwrap_or_default(),
            public_url: config.http_public_url.clone(),
        },
        limits,
        secret,
    }
}

fn binds(config: &Config) -> Vec<Bind> {
    let lists = [
        (&config.listen_c2s, Entry::Clear),
        (&config.listen_c2s_tls, Entry::DirectTls),
        (&config.listen_http, Entry::Http),
        (&config.listen_https, Entry::Https),
    ];
    let all = lists
        .into_iter()
        .flat_map(|(list, entry)| list.iter().map(move |a| (a, entry)));
    all.filter_map(|(text, entry)| {
        Some(Bind {
            address: text.parse().ok()?,
            entry,
        })
    })
    .filter(|bind| bind.address.is_ipv4() || has_ipv6(bind.address))
    .collect()
}

/// Whether an address of IPv6 can be had: a machine without IPv6 is no reason not to start.
fn has_ipv6(address: SocketAddr) -> bool {
    if !address.ip().is_unspecified() && !address.ip().is_loopback() {
        return true;
    }
    let any_port = SocketAddr::new(address.ip(), 0);
    match std::net::TcpListener::bind(any_port) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(%address, %error, "no-ipv6");
            false
        }
    }
}

fn listed(addresses: &[SocketAddr], entries: &[Entry]) -> Listeners {
    let of = |wanted: Entry| {
        let all = addresses
            .iter()
            .zip(entries)
            .filter(|(_, entry)| **entry == wanted);
        all.map(|(address, _)| address.to_string()).collect()
    };
    Listeners {
        c2s: of(Entry::Clear),
        c2s_tls: of(Entry::DirectTls),
        http: of(Entry::Http),
        https: of(Entry::Https),
    }
}

fn start_failure(error: StartError) -> Failure {
    match &error {
        StartError::Bind { address, error } => {
            Failure::new(Exit::Address, format!("{address}: {}", bind_trouble(error)))
        }
        _ => Failure::new(Exit::Internal, error),
    }
}

/// The hard limit is what the administrator gave; the soft one protects programs that use
/// `select`, which we are not.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    ) {
        tracing::warn!(%error, "descriptors-not-raised");
    }
}

fn tell_damage(recovered: &Recovered) {
    for damage in &recovered.damage {
        match damage.kind {
            DamageKind::TornTail => tracing::warn!(%damage, "journal-tail-cut"),
            DamageKind::Middle => tracing::error!(%damage, "journal-damaged"),
        }
    }
}

/// Warns of the end of a certificate.
pub fn tell_certificate(chain: &[u8], origin: Origin, mode: Mode) {
    match Facts::of(chain) {
        Ok(facts) if facts.days_left() <= EXPIRY_WARNING_DAYS => {
            let ends = facts.ends.strftime("%Y-%m-%d").to_string();
            tracing::warn!(days = facts.days_left(), ends, "certificate-ends");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(error, "certificate-unreadable"),
    }
    if origin == Origin::SelfSigned && mode == Mode::Configured {
        tracing::warn!("certificate-self-signed");
    }
}

fn tell_started(loaded: &Loaded, live: &Live, log: &Log, began: Instant) {
    let listeners = live.listeners();
    let lists = [
        ("c2s", &listeners.c2s),
        ("c2s_tls", &listeners.c2s_tls),
        ("http", &listeners.http),
        ("https", &listeners.https),
    ];
    for (kind, address) in lists
        .iter()
        .flat_map(|(k, list)| list.iter().map(move |a| (k, a)))
    {
        tracing::info!(kind, address, "listening");
    }
    let millis = began.elapsed().as_millis() as u64;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), millis, "ready");
    if loaded.mode == Mode::Standalone {
        let config = &loaded.config;
        let dir = config.data_dir.display().to_string();
        print!("{}", demo::banner(listeners, &config.domains[0], &dir));
    }
    // Who waits for this may look into the log.
    log.flush();
    tell_manager(&[NotifyState::Ready]);
}
