//! TLS through rustls' unbuffered API: octets live in the shard's buffers, not in each link.
//!
//! Only a record that is not whole yet and sealed octets that the kernel refused wait in the link.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CipherSuite, Error, ServerConfig};

use crate::base::pool::Pool;
use crate::engine::{Entry, Secured};
use crate::io::binding::{self, ExporterLog};
use crate::io::certificates::{self, Certificates, Resolver};

/// What all links share: configuration and certificates.
pub struct TlsShared {
    resolver: Arc<Resolver>,
    starttls: Arc<ServerConfig>,
    direct: Arc<ServerConfig>,
    https: Arc<ServerConfig>,
}

impl TlsShared {
    /// Configures TLS 1.3 and 1.2 with these certificates.
    ///
    /// # Errors
    /// When the cryptography of this build supports none of the versions: a bug, not a setting.
    pub fn new(certificates: Certificates) -> Result<Self, Error> {
        let resolver = Arc::new(Resolver::new(certificates));
        let provider = Arc::new(provider());
        let build = |protocols: &[&[u8]]| -> Result<Arc<ServerConfig>, Error> {
            let mut config = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(resolver.clone());
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            // Ours is the order: AES-128-GCM first costs less per login than AES-256.
            config.ignore_client_order = true;
            config.key_log = Arc::new(ExporterLog);
            // A resumed handshake saves 15 %; a cache or a ticket per login costs memory for all.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Arc::new(config))
        };
        Ok(Self {
            starttls: build(&[])?,
            // XEP-0368 section 3.
            direct: build(&[b"xmpp-client"])?,
            https: build(&[b"http/1.1"])?,
            resolver,
        })
    }

    /// Shows `certificates` to everybody who connects from now on. Established links go on.
    pub fn replace(&self, certificates: Certificates) {
        self.resolver.replace(certificates);
    }
}

/// The suites of aws-lc with AES-128-GCM before the others, stably.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

/// The TLS state of one link.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// What the handshake found out so far; absent once it is done.
    handshake: Option<Box<Handshake>>,
    /// The beginning of a record whose end has not come; no capacity when there is none.
    partial: Vec<u8>,
    /// Sealed octets that the kernel has not taken; no capacity when there are none.
    unsent: Vec<u8>,
}

#[derive(Default)]
struct Handshake {
    exporter: Option<[u8; binding::EXPORTER_OCTETS]>,
    end_point: Option<Arc<[u8]>>,
}

/// What came out of received octets, in order.
pub enum Opened<'a> {
    /// The handshake is done.
    Secured(Secured),
    /// One decrypted record.
    Bytes(&'a [u8]),
}

/// How the connection stands after received octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Open,
    /// The peer said `close_notify`: nothing more will come.
    PeerClosed,
    /// The peer broke TLS. The alert is in [`Tls::unsent`]; nothing else can be sent.
    Failed,
}

/// A connection that cannot seal any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsealable;

/// The longest record there is, TLS 1.2 expansion included, with its head.
pub const RECORD_OCTETS_MAX: usize = 16_384 + 2_048 + 5;
/// Plain octets in one record.
const RECORD_PLAIN_OCTETS: usize = 16_384;
/// More than any suite adds to a record.
const RECORD_OVERHEAD_OCTETS: usize = 64;

impl Tls {
    /// The server's side of a new connection.
    ///
    /// # Errors
    /// When rustls refuses its configuration.
    pub fn accept(shared: &TlsShared, entry: Entry) -> Result<Box<Self>, Error> {
        let config = match entry {
            // A link of `http` never begins TLS.
            Entry::Clear | Entry::Http => &shared.starttls,
            Entry::DirectTls => &shared.direct,
            Entry::Https => &shared.https,
        };
        Ok(Box::new(Self {
            connection: UnbufferedServerConnection::new(config.clone())?,
            handshake: Some(Box::default()),
            partial: Vec::new(),
            unsent: Vec::new(),
        }))
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        self.handshake.is_some()
    }

    /// Copies the incomplete record to the front of `scratch`; new octets go behind it.
    pub fn recall(&self, scratch: &mut [u8]) -> usize {
        scratch[..self.partial.len()].copy_from_slice(&self.partial);
        self.partial.len()
    }

    /// Takes octets from the peer, which [`Tls::recall`] began, and hands over what they hold.
    ///
    /// Handshake records for the peer are appended to [`Tls::unsent`]. `incoming` is decrypted in
    /// place; what is not whole yet is kept in a buffer of `pool`.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        pool: &mut Pool,
        take: &mut dyn FnMut(Opened<'_>),
    ) -> Standing {
        let mut done = 0;
        let mut standing = Standing::Open;
        loop {
            let (discard, step) = self.advance(&mut incoming[done..], pool, take);
            done += discard;
            match step {
                Step::Again => {}
                // To ask once more would only tell that there is nothing.
                Step::Read if done == incoming.len() => break,
                Step::Read => {}
                Step::PeerClosed => standing = Standing::PeerClosed,
                Step::Blocked => break,
                Step::Failed => {
                    self.encode_alert(&mut incoming[done..], pool);
                    standing = Standing::Failed;
                    break;
                }
            }
        }
        if standing == Standing::Open && incoming.len() - done > RECORD_OCTETS_MAX {
            // Only a handshake message in many records gets here, and we expect no such one.
            standing = Standing::Failed;
        }
        let rest = match standing {
            Standing::Open => &incoming[done..],
            Standing::PeerClosed | Standing::Failed => &[],
        };
        self.keep_partial(rest, pool);
        standing
    }

    /// One state of rustls: how many octets to discard after it, and how to go on.
    fn advance(
        &mut self,
        incoming: &mut [u8],
        pool: &mut Pool,
        take: &mut dyn FnMut(Opened<'_>),
    ) -> (usize, Step) {
        if self.handshake.is_some() {
            // What another link left here when it failed.
            let _ = (binding::take_derived(), certificates::take_chosen());
        }
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(incoming);
        if let Some(handshake) = &mut self.handshake {
            handshake.exporter = binding::take_derived().or(handshake.exporter);
            handshake.end_point = certificates::take_chosen().or(handshake.end_point.take());
        }
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                secure(&mut self.handshake, take);
                let mut step = Step::Read;
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            discard += record.discard;
                            take(Opened::Bytes(record.payload));
                        }
                        Err(_) => step = Step::Failed,
                    }
                }
                step
            }
            Ok(ConnectionState::EncodeTlsData(data)) => {
                encode(data, &mut self.unsent, pool);
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // What was encoded goes out in order before anything that is sealed later.
                data.done();
                Step::Again
            }
            Ok(ConnectionState::WriteTraffic(_)) => {
                secure(&mut self.handshake, take);
                Step::Blocked
            }
            Ok(ConnectionState::PeerClosed) => Step::PeerClosed,
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Step::Blocked,
            // Early data is off, and no other state is known.
            Ok(_) | Err(_) => Step::Failed,
        };
        (discard, step)
    }

    /// After an error rustls has an alert ready: one more look fetches it.
    fn encode_alert(&mut self, incoming: &mut [u8], pool: &mut Pool) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(incoming);
        if let Ok(ConnectionState::EncodeTlsData(data)) = state {
            encode(data, &mut self.unsent, pool);
        }
    }

    fn keep_partial(&mut self, rest: &[u8], pool: &mut Pool) {
        if rest.is_empty() {
            pool.give(std::mem::take(&mut self.partial));
            return;
        }
        if self.partial.capacity() == 0 {
            self.partial = pool.take();
        }
        self.partial.clear();
        self.partial.extend_from_slice(rest);
    }

    /// Appends `plain` to `out` as records.
    ///
    /// # Errors
    /// Before the handshake is done and after the connection has failed.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Unsealable> {
        self.write(out, |traffic, out| {
            let records = plain.len().div_ceil(RECORD_PLAIN_OCTETS).max(1);
            let size = plain.len() + records * RECORD_OVERHEAD_OCTETS;
            append(out, size, |room| traffic.encrypt(plain, room))
        })
    }

    /// Appends `close_notify` to `out`.
    ///
    /// # Errors
    /// See [`Tls::seal`].
    pub fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Unsealable> {
        self.write(out, |traffic, out| {
            append(out, RECORD_OVERHEAD_OCTETS, |room| {
                traffic.queue_close_notify(room)
            })
        })
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Traffic<'_>, &mut Vec<u8>) -> Result<(), Unsealable>,
    ) -> Result<(), Unsealable> {
        loop {
            // rustls remembers how far it looked into these octets: it must see them again.
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.partial);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    write(&mut traffic, out)?;
                    self.partial.drain(..discard);
                    return Ok(());
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(out, RECORD_OVERHEAD_OCTETS, |room| data.encode(room))?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return Err(Unsealable),
            }
            self.partial.drain(..discard);
        }
    }

    /// Sealed octets that wait for the kernel, to be written before anything newer.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Takes the waiting octets, so that more can be appended before one write.
    pub fn take_unsent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unsent)
    }

    /// Gives back what the kernel refused.
    pub fn keep_unsent(&mut self, unsent: Vec<u8>) {
        debug_assert!(self.unsent.is_empty(), "octets would change their order");
        self.unsent = unsent;
    }

    /// Returns what is borrowed. Call it when the link is gone.
    pub fn retire(self, pool: &mut Pool) {
        pool.give(self.partial);
        pool.give(self.unsent);
    }
}

type Traffic<'c> = WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// How the loop over rustls' states goes on.
enum Step {
    Again,
    /// As many records as were whole are decrypted.
    Read,
    Blocked,
    PeerClosed,
    Failed,
}

/// Reports the end of the handshake, once, before anything that was sent under it.
fn secure(handshake: &mut Option<Box<Handshake>>, take: &mut dyn FnMut(Opened<'_>)) {
    let Some(found) = handshake.take() else {
        return;
    };
    take(Opened::Secured(Secured {
        // Only TLS 1.3 has an exporter's secret.
        version: match found.exporter {
            Some(_) => "TLSv1.3",
            None => "TLSv1.2",
        },
        exporter: found.exporter,
        end_point: found.end_point.as_deref().map(Into::into),
    }));
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, unsent: &mut Vec<u8>, pool: &mut Pool) {
    if unsent.capacity() == 0 {
        *unsent = pool.take();
    }
    // The only other error is to encode twice, which the loop over states does not do.
    let _ = append(unsent, RECORD_OVERHEAD_OCTETS, |room| data.encode(room));
}

/// Lets `write` fill `size` octets behind `out`, and once more with as many as it asks for.
fn append<E: Into<Wanted>>(
    out: &mut Vec<u8>,
    size: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<(), Unsealable> {
    let start = out.len();
    let mut size = size;
    for _ in 0..2 {
        out.resize(start + size, 0);
        match write(&mut out[start..]).map_err(Into::into) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Wanted::Octets(wanted)) => size = wanted,
            Err(Wanted::Nothing) => break,
        }
    }
    out.truncate(start);
    Err(Unsealable)
}

/// What would make a write succeed.
enum Wanted {
    Octets(usize),
    Nothing,
}

impl From<EncodeError> for Wanted {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(size) => Self::Octets(size.required_size),
            EncodeError::AlreadyEncoded => Self::Nothing,
        }
    }
}

impl From<EncryptError> for Wanted {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Octets(size.required_size),
            EncryptError::EncryptExhausted => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests;
