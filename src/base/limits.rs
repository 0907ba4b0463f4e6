//! Every bound of the server, with its unit and what happens at it.

use std::time::Duration;

/// What one peer, account or process may take. Defaults suit a server of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one element before authentication; more closes with `policy-violation`.
    pub preauth_stanza_octets_max: usize,
    /// Octets of one element after authentication; more closes with `policy-violation`.
    pub stanza_octets_max: usize,
    /// Levels of elements below a stanza's root; more closes with `policy-violation`.
    pub depth_max: usize,
    /// Attributes of one element; more closes with `policy-violation`.
    pub attributes_max: usize,
    /// Elements inside one stanza; more closes with `policy-violation`.
    pub elements_max: usize,
    /// Octets others may leave unsent for one link before its reader counts as slow. A roster or a
    /// block list, which go out in one piece, may not be longer.
    pub link_output_octets_max: usize,
    /// Octets of answers to own requests above which the link is not read until they drain.
    pub link_output_high_water_octets: usize,
    /// Stanzas that wait for an acknowledgement; more ends the session, its messages are stored.
    pub queue_stanzas_max: usize,
    /// Octets that wait for an acknowledgement; more ends the session, its messages are stored.
    pub queue_octets_max: usize,
    /// Octets after which the server asks for an acknowledgement.
    pub ack_request_octets: usize,
    /// How long a session outlives its link.
    pub resumption_timeout: Duration,
    /// From connecting to a bound session.
    pub login_timeout: Duration,
    /// Silence after which a link is asked for a sign of life, then closed after as long again.
    pub silence_timeout: Duration,
    /// From the first octet of an HTTP request to its last; later ones get status 408.
    pub http_request_timeout: Duration,
    /// How long an HTTP connection may wait for its next request.
    pub http_idle_timeout: Duration,
    /// How long a session of the JSON protocol outlives its last reader.
    pub json_grace: Duration,
    /// How long a poll of the JSON protocol is held.
    pub json_poll_timeout: Duration,
    /// Octets of the head of one HTTP request; more gets status 431 or 414.
    pub http_head_octets_max: usize,
    /// Failed SASL attempts on one stream before it is closed.
    pub sasl_attempts_max: u8,
    /// Sessions of one account; a login beyond displaces one that nobody reads, or is refused with
    /// `resource-constraint`.
    pub sessions_per_account_max: usize,
    /// Items of one roster; more is refused with `not-allowed`.
    pub roster_items_max: usize,
    /// Messages kept for one account while it is away; more bounces with `service-unavailable`.
    pub offline_messages_max: usize,
    /// Entries of one block list; more is refused with `resource-constraint`.
    pub blocked_max: usize,
    /// Octets of private storage, vCard or any other record of one account.
    pub record_octets_max: usize,
    /// Records of private storage of one account.
    pub private_records_max: usize,
    /// Addresses that got directed presence from one session.
    pub directed_max: usize,
    /// Inputs that wait while one account is loaded; more bounces with `resource-constraint`.
    pub loading_stanzas_max: usize,
    /// How long an account without sessions stays in memory.
    pub account_idle_timeout: Duration,
    /// Octets per second one client may send over time; reading pauses above it. Zero: no limit.
    pub read_octets_per_second: usize,
    /// Links of this process.
    pub links_max: usize,
    /// Links of one address before authentication.
    pub links_per_address_max: usize,
    /// Resident octets of the process above which new links are refused.
    pub process_octets_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            preauth_stanza_octets_max: 10_000,
            stanza_octets_max: 262_144,
            depth_max: 64,
            attributes_max: 64,
            elements_max: 4_096,
            link_output_octets_max: 262_144,
            link_output_high_water_octets: 65_536,
            queue_stanzas_max: 1_000,
            queue_octets_max: 1_048_576,
            ack_request_octets: 2_048,
            resumption_timeout: Duration::from_secs(600),
            login_timeout: Duration::from_secs(30),
            silence_timeout: Duration::from_secs(300),
            http_request_timeout: Duration::from_secs(10),
            http_idle_timeout: Duration::from_secs(60),
            json_grace: Duration::from_secs(60),
            json_poll_timeout: Duration::from_secs(50),
            http_head_octets_max: 16_384,
            sasl_attempts_max: 5,
            sessions_per_account_max: 30,
            roster_items_max: 1_000,
            offline_messages_max: 1_000,
            blocked_max: 1_000,
            record_octets_max: 65_536,
            private_records_max: 100,
            directed_max: 200,
            loading_stanzas_max: 100,
            account_idle_timeout: Duration::from_secs(120),
            read_octets_per_second: 0,
            links_max: 0,
            links_per_address_max: 0,
            process_octets_max: 0,
        }
    }
}
