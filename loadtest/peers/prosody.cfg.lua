-- Prosody as it is measured beside encke. @NAMES@ are filled in by `run`.
--
-- Its own recommendations: epoll, the generational collector, the internal storage, SCRAM keys.
-- The module `limits` is left out, so nothing is throttled. The modules are those whose extensions
-- encke serves too, so that a message passes the same kinds of hooks.
run_as_root = true
daemonize = false
pidfile = "@WORK@/prosody.pid"
data_path = "@WORK@/data"
log = { { levels = { min = "warn" }, to = "file", filename = "@WORK@/prosody.log" } }

interfaces = { "127.0.0.1" }
c2s_ports = { @PLAIN@ }
c2s_direct_tls_ports = { @DIRECT@ }
s2s_ports = {}
http_ports = {}
https_ports = {}

network_backend = "epoll"
network_settings = {
    tcp_backlog = 4096, -- logins come in bursts
    read_size = 16384, -- several stanzas in one read
}
gc = { mode = "generational" }

authentication = "internal_hashed"
storage = "internal"
c2s_require_encryption = false -- the plain figures; TLS is measured beside them
allow_unencrypted_plain_auth = false

modules_enabled = {
    "blocklist", "carbons", "csi_simple", "disco", "offline", "ping", "presence", "private",
    "roster", "saslauth", "smacks", "time", "tls", "uptime", "vcard", "version",
}
modules_disabled = { "s2s" }

certificates = "@WORK@"
ssl = { certificate = "@CERTIFICATE@", key = "@KEY@" }
c2s_direct_tls_ssl = { certificate = "@CERTIFICATE@", key = "@KEY@" }

VirtualHost "localhost"
