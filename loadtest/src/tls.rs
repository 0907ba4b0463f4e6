//! TLS as a client, over rustls' unbuffered connections: octets live in buffers of the thread, a
//! session keeps only the state of the protocol.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion,
};

/// Takes any certificate and checks no signature.
///
/// This is no security at all, and is here because the generator talks to test servers, where a
/// self-signed certificate is the rule, and because the CPU time of a verification would be taken
/// from the server that is measured. `Plan` refuses destinations that are neither on loopback nor
/// named as one's own.
#[derive(Debug)]
struct LoopbackOnlyVerifiesNothing;

impl ServerCertVerifier for LoopbackOnlyVerifiesNothing {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Full handshakes only (no tickets are kept), X25519 first, every cipher that rustls has: the
/// server chooses.
pub fn config(
    versions: &[&'static SupportedProtocolVersion],
    alpn: Option<&[u8]>,
) -> Result<Arc<ClientConfig>, Error> {
    let kx_groups = vec![
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    let provider = CryptoProvider {
        kx_groups,
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(LoopbackOnlyVerifiesNothing))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    Ok(Arc::new(config))
}

/// The clear text that fits into one record, and a bound of what a record adds.
const RECORD_OCTETS: usize = 16_384;
const RECORD_OVERHEAD: usize = 64;

pub struct Tls {
    connection: UnbufferedClientConnection,
    /// The octets of a record that has not come whole.
    partial: Vec<u8>,
    established: bool,
}

/// Where a session stands after octets came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Handshaking,
    /// The handshake ended with these octets.
    Finished,
    Established,
    /// The server said that nothing more will come.
    Closed,
}

impl Tls {
    pub fn new(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Ok(Self {
            connection,
            partial: Vec::new(),
            established: false,
        })
    }

    /// What was agreed on, for the report.
    pub fn agreed(&self) -> String {
        let version = self.connection.protocol_version().and_then(|v| v.as_str());
        let suite = self
            .connection
            .negotiated_cipher_suite()
            .and_then(|s| s.suite().as_str());
        format!(
            "{} {}",
            version.unwrap_or("TLS"),
            suite.unwrap_or("unknown cipher")
        )
    }

    /// Takes octets of the wire, appends clear text to `clear` and what must be sent to `wire_out`.
    ///
    /// `received` is used as working space; call it with nothing received to begin the handshake.
    pub fn receive(
        &mut self,
        received: &mut [u8],
        clear: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        if self.partial.is_empty() {
            let (used, progress) = self.process(received, clear, wire_out)?;
            self.partial.extend_from_slice(&received[used..]);
            return Ok(progress);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(received);
        let (used, progress) = self.process(&mut joined, clear, wire_out)?;
        if used < joined.len() {
            joined.drain(..used);
            self.partial = joined;
        }
        Ok(progress)
    }

    fn process(
        &mut self,
        wire: &mut [u8],
        clear: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<(usize, Progress), Error> {
        let mut used = 0;
        loop {
            let status = self.connection.process_tls_records(&mut wire[used..]);
            let UnbufferedStatus {
                mut discard, state, ..
            } = status;
            let mut progress = None;
            match state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        clear.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    grow_and_retry(wire_out, 512, |room| match data.encode(room) {
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        other => other.map_err(|_| None),
                    });
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::BlockedHandshake => progress = Some(Progress::Handshaking),
                ConnectionState::WriteTraffic(_) => progress = Some(Progress::Established),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    progress = Some(Progress::Closed);
                }
                _ => return Err(Error::General("unexpected state of TLS".to_owned())),
            }
            used += discard;
            if let Some(progress) = progress {
                return Ok((used, self.note(progress)));
            }
        }
    }

    fn note(&mut self, progress: Progress) -> Progress {
        if progress == Progress::Established && !self.established {
            self.established = true;
            return Progress::Finished;
        }
        progress
    }

    /// Seals `clear` behind `wire_out`.
    pub fn send(&mut self, clear: &[u8], wire_out: &mut Vec<u8>) -> Result<(), Error> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state? else {
            return Err(Error::HandshakeNotComplete);
        };
        let room = clear.len() + RECORD_OVERHEAD * (clear.len() / RECORD_OCTETS + 1);
        grow_and_retry(wire_out, room, |room| match traffic.encrypt(clear, room) {
            Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
            other => other.map_err(|_| None),
        });
        Ok(())
    }

    /// Says that nothing more will be sent.
    pub fn close(&mut self, wire_out: &mut Vec<u8>) {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            grow_and_retry(wire_out, RECORD_OVERHEAD, |room| {
                match traffic.queue_close_notify(room) {
                    Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    other => other.map_err(|_| None),
                }
            });
        }
    }
}

/// Calls `write` with so much room behind the octets of `out`, and once more with what it asks for.
fn grow_and_retry(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) {
    let start = out.len();
    for _ in 0..2 {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return;
            }
            Err(Some(required)) => room = required,
            Err(None) => break,
        }
    }
    out.truncate(start);
}
