//! TLS 1.3 with AES-128-GCM and ECDSA P-256, the server's side as the reactor drives it: one
//! record of 200 octets sealed and opened, one record for 16 stanzas, one handshake.
//! No socket. The handshake includes the client's side, which rustls' own client plays; what the
//! server alone takes is about half. "Open" includes the sealing by that client, measured alone
//! beside it.

use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use encke::base::pool::Pool;
use encke::engine::Entry;
use encke::io::tls::{Opened, RECORD_OCTETS_MAX, Standing, Tls};
use encke::io::{Certificates, TlsShared};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Stanzas gathered in one flush.
const GATHERED: usize = 16;
const STANZA: [u8; 200] = [b'x'; 200];

struct Ends {
    shared: TlsShared,
    client: Arc<ClientConfig>,
}

impl Ends {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["example.net".to_owned()])
            .expect("a certificate of our own");
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let certificates = Certificates::from_pem(&[(chain.as_bytes(), key.as_bytes())])
            .expect("a certificate just made");
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM just made");
        roots.add(root).expect("a certificate just made");
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            shared: TlsShared::new(certificates).expect("TLS 1.3"),
            client: Arc::new(client),
        }
    }

    fn handshake(&self) -> (Box<Tls>, ClientConnection) {
        let name = ServerName::try_from("example.net").expect("a name");
        let mut client = ClientConnection::new(self.client.clone(), name).expect("a client");
        let mut server = Tls::accept(&self.shared, Entry::Clear).expect("a server");
        let mut flight = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            flight.clear();
            client.write_tls(&mut flight).expect("memory");
            receive(&mut server, &mut flight);
            let back = server.take_unsent();
            let mut back = &back[..];
            while !back.is_empty() {
                client.read_tls(&mut back).expect("memory");
                client.process_new_packets().expect("our records");
            }
        }
        (server, client)
    }
}

fn receive(server: &mut Tls, octets: &mut [u8]) -> usize {
    let mut pool = Pool::default();
    let mut received = 0;
    let standing = server.receive(octets, &mut pool, &mut |opened| {
        if let Opened::Bytes(bytes) = opened {
            received += bytes.len();
        }
    });
    assert_eq!(standing, Standing::Open);
    received
}

fn records(c: &mut Criterion) {
    let ends = Ends::new();
    let (mut server, mut client) = ends.handshake();
    let mut out = Vec::with_capacity(RECORD_OCTETS_MAX);
    let mut group = c.benchmark_group("tls");
    for (name, stanzas) in [("seal_200_octets", 1), ("seal_16_stanzas", GATHERED)] {
        let plain = STANZA.repeat(stanzas);
        group.throughput(Throughput::Elements(stanzas as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                server.seal(black_box(&plain), &mut out).expect("open");
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("client_seals_200_octets", |b| {
        b.iter(|| {
            out.clear();
            client.writer().write_all(&STANZA).expect("memory");
            client.write_tls(&mut out).expect("memory");
        });
    });
    let (mut server, mut client) = ends.handshake();
    group.bench_function("client_seals_and_we_open_200_octets", |b| {
        b.iter(|| {
            out.clear();
            client.writer().write_all(&STANZA).expect("memory");
            client.write_tls(&mut out).expect("memory");
            assert_eq!(receive(&mut server, &mut out), STANZA.len());
        });
    });
    group.finish();
}

fn handshakes(c: &mut Criterion) {
    let ends = Ends::new();
    let mut group = c.benchmark_group("tls");
    group.throughput(Throughput::Elements(1));
    group.bench_function("handshake_both_sides", |b| {
        b.iter_batched(|| (), |()| ends.handshake(), BatchSize::SmallInput);
    });
    group.finish();
}

criterion_group!(benches, records, handshakes);
criterion_main!(benches);
