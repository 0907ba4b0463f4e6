//! Our half of TLS against rustls' own buffered client, in memory.

use std::io::{Read, Write};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, SignatureScheme,
    SupportedProtocolVersion,
};
use sha2::{Digest, Sha256};

use super::*;
use crate::io::certificates::CertificateError;

/// What a client is like.
struct Wish<'a> {
    suite: Option<CipherSuite>,
    versions: &'static [&'static SupportedProtocolVersion],
    protocols: &'a [&'a [u8]],
    name: &'static str,
    entry: Entry,
}

const ANY: Wish<'static> = Wish {
    suite: None,
    versions: rustls::ALL_VERSIONS,
    protocols: &[],
    name: "example.net",
    entry: Entry::Clear,
};

const NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// Takes any certificate: which one it is, is for the tests to say.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn certificate(name: &str) -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn certificates(names: &[&str]) -> Certificates {
    let all: Vec<_> = names.iter().map(|name| certificate(name)).collect();
    let all: Vec<_> = all
        .iter()
        .map(|(chain, key)| (chain.as_bytes(), key.as_bytes()))
        .collect();
    Certificates::from_pem(&all).unwrap()
}

fn shared() -> TlsShared {
    TlsShared::new(certificates(&["example.net"])).unwrap()
}

/// Both ends, with what ours has handed over.
struct Pair {
    server: Box<Tls>,
    client: ClientConnection,
    pool: Pool,
    secured: Option<Secured>,
    received: Vec<u8>,
    /// What the client has read.
    read: Vec<u8>,
    standing: Standing,
    /// How many octets ours gets at once.
    cut: usize,
}

impl Pair {
    fn new(shared: &TlsShared, wish: &Wish<'_>) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(suite) = wish.suite {
            provider.cipher_suites.retain(|one| one.suite() == suite);
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(wish.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = wish.protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(wish.name).unwrap();
        Self {
            server: Tls::accept(shared, wish.entry).unwrap(),
            client: ClientConnection::new(Arc::new(config), name).unwrap(),
            pool: Pool::default(),
            secured: None,
            received: Vec::new(),
            read: Vec::new(),
            standing: Standing::Open,
            cut: usize::MAX,
        }
    }

    fn handshaken(shared: &TlsShared, wish: &Wish<'_>) -> Self {
        let mut pair = Self::new(shared, wish);
        pair.exchange();
        assert!(pair.secured.is_some(), "the handshake is done");
        pair
    }

    /// Carries octets both ways until both are quiet.
    fn exchange(&mut self) {
        loop {
            let mut flight = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut flight).unwrap();
            }
            for piece in flight.chunks(self.cut.min(flight.len().max(1))) {
                self.serve(piece);
            }
            let back = self.server.take_unsent();
            let quiet = flight.is_empty() && back.is_empty();
            self.give_client(&back);
            if quiet || self.standing == Standing::Failed {
                return;
            }
        }
    }

    fn serve(&mut self, bytes: &[u8]) {
        let mut scratch = vec![0; RECORD_OCTETS_MAX + bytes.len()];
        let recalled = self.server.recall(&mut scratch);
        scratch[recalled..recalled + bytes.len()].copy_from_slice(bytes);
        let (secured, received) = (&mut self.secured, &mut self.received);
        let incoming = &mut scratch[..recalled + bytes.len()];
        let standing = self
            .server
            .receive(incoming, &mut self.pool, &mut |opened| match opened {
                Opened::Secured(news) => assert!(secured.replace(news).is_none(), "once"),
                Opened::Bytes(bytes) => {
                    assert!(secured.is_some(), "the handshake is reported before octets");
                    received.extend_from_slice(bytes);
                }
            });
        if standing != Standing::Open {
            self.standing = standing;
        }
    }

    fn give_client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.client.read_tls(&mut bytes).unwrap() > 0 {
            let _ = self.client.process_new_packets();
            // Ends with an error as long as the peer has not said that it has finished.
            let _ = self.client.reader().read_to_end(&mut self.read);
        }
    }

    fn client_reads(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.read)
    }

    fn exported(&self) -> [u8; 32] {
        self.client
            .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)
            .unwrap()
    }

    fn client_sees(&self) -> &CertificateDer<'static> {
        &self.client.peer_certificates().unwrap()[0]
    }
}

#[test]
fn the_exporter_is_what_the_client_exports_with_every_suite() {
    let shared = shared();
    for suite in [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let wish = Wish {
            suite: Some(suite),
            versions: NEW,
            ..ANY
        };
        let pair = Pair::handshaken(&shared, &wish);
        let secured = pair.secured.as_ref().unwrap();
        assert_eq!(secured.exporter, Some(pair.exported()), "{suite:?}");
        assert_eq!(secured.version, "TLSv1.3");
    }
}

#[test]
fn the_end_point_is_the_hash_of_the_certificate_in_both_versions() {
    let shared = shared();
    for versions in [rustls::ALL_VERSIONS, OLD] {
        let wish = Wish { versions, ..ANY };
        let pair = Pair::handshaken(&shared, &wish);
        let secured = pair.secured.as_ref().unwrap();
        let hash = Sha256::digest(pair.client_sees());
        assert_eq!(secured.end_point.as_deref(), Some(&hash[..]));
        let is_old = pair.client.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        assert_eq!(secured.exporter.is_none(), is_old);
        assert_eq!(secured.version == "TLSv1.2", is_old);
    }
}

#[test]
fn octets_do_not_depend_on_where_tcp_cuts() {
    let shared = shared();
    for cut in [1, 2, 7, 64, 1_000] {
        let mut pair = Pair::new(&shared, &ANY);
        pair.cut = cut;
        pair.exchange();
        for length in [1, 200, 16_384, 20_000] {
            pair.client.writer().write_all(&vec![b'x'; length]).unwrap();
        }
        pair.exchange();
        assert_eq!(pair.received.len(), 1 + 200 + 16_384 + 20_000, "cut {cut}");
        assert_eq!(pair.standing, Standing::Open);
    }
}

#[test]
fn a_flush_is_one_record_and_the_idle_hold_no_buffer() {
    let mut pair = Pair::handshaken(&shared(), &ANY);
    let mut out = Vec::new();
    pair.server.seal(&[b'a'; 200], &mut out).unwrap();
    assert_eq!(out.len(), 200 + 5 + 1 + 16);
    pair.server.seal(&[b'b'; 40_000], &mut out).unwrap();
    pair.give_client(&out);
    assert_eq!(pair.client_reads().len(), 40_200);

    pair.client.writer().write_all(b"<presence/>").unwrap();
    pair.cut = 5;
    pair.exchange();
    assert_eq!(pair.received, b"<presence/>");
    assert_eq!(pair.server.partial.capacity(), 0);
    assert_eq!(pair.server.unsent.capacity(), 0);
    assert!(pair.server.handshake.is_none());
}

#[test]
fn sealing_goes_on_while_half_a_record_waits() {
    let mut pair = Pair::handshaken(&shared(), &ANY);
    pair.client.writer().write_all(&[b'x'; 100]).unwrap();
    let mut record = Vec::new();
    pair.client.write_tls(&mut record).unwrap();
    pair.serve(&record[..50]);
    let mut out = Vec::new();
    pair.server.seal(b"meanwhile", &mut out).unwrap();
    pair.serve(&record[50..]);
    assert_eq!(pair.received, [b'x'; 100]);
    pair.give_client(&out);
    assert_eq!(pair.client_reads(), b"meanwhile");
}

#[test]
fn a_key_update_is_answered_before_the_next_octets() {
    let mut pair = Pair::handshaken(&shared(), &ANY);
    for round in 0..3_u8 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.exchange();
        let mut out = Vec::new();
        pair.server.seal(&[round], &mut out).unwrap();
        pair.give_client(&out);
        assert_eq!(pair.client_reads(), [round]);
    }
    assert_eq!(pair.received, [0, 1, 2]);
}

#[test]
fn ours_is_the_order_of_suites() {
    let shared = shared();
    let pair = Pair::handshaken(&shared, &ANY);
    let suite = pair.client.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn direct_tls_wants_its_protocol_and_starttls_does_not_mind() {
    let shared = shared();
    let direct = |protocols| Wish {
        protocols,
        entry: Entry::DirectTls,
        ..ANY
    };
    let pair = Pair::handshaken(&shared, &direct(&[b"h2", b"xmpp-client"]));
    assert_eq!(pair.client.alpn_protocol(), Some(&b"xmpp-client"[..]));
    Pair::handshaken(&shared, &direct(&[]));

    let mut refused = Pair::new(&shared, &direct(&[b"h2"]));
    refused.exchange();
    assert_eq!(refused.standing, Standing::Failed);

    let wish = Wish {
        protocols: &[b"h2"],
        ..ANY
    };
    Pair::handshaken(&shared, &wish);
}

#[test]
fn what_is_not_tls_is_answered_by_an_alert() {
    let shared = shared();
    let mut pair = Pair::new(&shared, &ANY);
    pair.serve(b"<?xml version='1.0'?><stream:stream>");
    assert_eq!(pair.standing, Standing::Failed);
    assert!(pair.secured.is_none());
    assert!(pair.server.seal(b"x", &mut Vec::new()).is_err());

    let mut pair = Pair::handshaken(&shared, &ANY);
    pair.client.writer().write_all(b"damaged").unwrap();
    let mut record = Vec::new();
    pair.client.write_tls(&mut record).unwrap();
    *record.last_mut().unwrap() ^= 1;
    pair.serve(&record);
    assert_eq!(pair.standing, Standing::Failed);
    let alert = pair.server.take_unsent();
    assert!(!alert.is_empty(), "the peer is told");
    let mut alert = &alert[..];
    pair.client.read_tls(&mut alert).unwrap();
    assert!(pair.client.process_new_packets().is_err());
    assert!(pair.received.is_empty());
}

#[test]
fn who_says_close_notify_still_gets_what_is_due() {
    let mut pair = Pair::handshaken(&shared(), &ANY);
    pair.client.writer().write_all(b"</stream:stream>").unwrap();
    pair.client.send_close_notify();
    pair.exchange();
    assert_eq!(pair.received, b"</stream:stream>");
    assert_eq!(pair.standing, Standing::PeerClosed);
    let mut out = Vec::new();
    pair.server.seal(b"</stream:stream>", &mut out).unwrap();
    pair.server.close(&mut out).unwrap();
    pair.give_client(&out);
    assert_eq!(pair.client_reads(), b"</stream:stream>");
    // A clean end: without close_notify this would be an error.
    assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_name_chooses_the_certificate_and_a_reload_replaces_it() {
    let shared = TlsShared::new(certificates(&["example.net", "*.example.org"])).unwrap();
    let seen = |name: &'static str| {
        let pair = Pair::handshaken(&shared, &Wish { name, ..ANY });
        pair.client_sees().clone()
    };
    let (first, wild) = (seen("example.net"), seen("chat.example.org"));
    assert_ne!(first, wild);
    assert_eq!(seen("Other.Example.Org"), wild);
    assert_eq!(seen("a.b.example.org"), first, "a star is one label");
    assert_eq!(seen("example.com"), first, "foreign names get the first");
    shared.replace(certificates(&["example.net"]));
    assert_ne!(seen("example.net"), first);
}

#[test]
fn unusable_certificates_are_named() {
    let (chain, key) = certificate("example.net");
    let (_, other) = certificate("example.net");
    let error = |chain: &str, key: &str| {
        Certificates::from_pem(&[(chain.as_bytes(), key.as_bytes())]).err()
    };
    assert!(matches!(
        error(&chain, &other),
        Some(CertificateError::Key(_))
    ));
    assert!(matches!(error("", &key), Some(CertificateError::Missing)));
    assert!(matches!(error(&chain, ""), Some(CertificateError::Pem(_))));
    assert!(Certificates::from_pem(&[]).is_err());
}

#[test]
fn a_flood_of_key_updates_is_ended() {
    let mut pair = Pair::handshaken(&shared(), &ANY);
    let mut flood = Vec::new();
    for _ in 0..1_000 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.write_tls(&mut flood).unwrap();
    }
    pair.serve(&flood);
    assert!(
        pair.server.unsent().len() < 1_024,
        "answers are not queued one by one"
    );
}

/// A handshake message may claim 64 KiB: nobody's memory is kept for that.
#[test]
fn an_endless_hello_is_not_kept() {
    let mut pair = Pair::new(&shared(), &ANY);
    let mut hello = vec![1, 0, 0xff, 0];
    hello.resize(0xff00, 0);
    for piece in hello.chunks(8_000) {
        let mut record = vec![22, 3, 1, (piece.len() >> 8) as u8, piece.len() as u8];
        record.extend_from_slice(piece);
        if pair.standing == Standing::Open {
            pair.serve(&record);
        }
    }
    assert_eq!(pair.standing, Standing::Failed);
    assert_eq!(pair.server.partial.capacity(), 0);
}
