//! Where a conversation is played.

use std::time::Duration;

use encke::base::limits::Limits;
use encke::testing::{Crash, Keeping, Network, Plan, WireId, World};

/// A server, its links, and a way to know that it has done all it will do.
pub trait Stage {
    fn connect(&mut self) -> usize;
    fn write(&mut self, link: usize, text: &str);
    /// Waits until everything happened that follows from what was written.
    fn settle(&mut self);
    fn read(&mut self, link: usize) -> Vec<u8>;
    fn cut(&mut self, link: usize);
    fn is_closed(&mut self, link: usize) -> bool;
    fn advance(&mut self, _: Duration) {
        panic!("this stage has no clock of its own");
    }
    fn crash(&mut self) {
        panic!("this stage does not crash");
    }
    fn stop(&mut self) {
        panic!("this stage does not stop");
    }
}

/// The engine on virtual time.
pub struct Virtual {
    world: World,
}

impl Virtual {
    pub fn new(plan: Plan) -> Self {
        Self {
            world: World::new(plan),
        }
    }
}

/// A plan for conversations.
pub fn plan(shards: u16, keeping: Keeping, network: Network, seed: u64) -> Plan {
    Plan {
        shards,
        keeping,
        network,
        seed,
        ..Plan::default()
    }
}

/// Limits by their names, for those that conversations change.
pub fn limits(named: &[(String, u64)]) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in named {
        let (number, seconds) = (*value as usize, Duration::from_secs(*value));
        match name.as_str() {
            "offline_messages_max" => limits.offline_messages_max = number,
            "roster_items_max" => limits.roster_items_max = number,
            "blocked_max" => limits.blocked_max = number,
            "private_records_max" => limits.private_records_max = number,
            "record_octets_max" => limits.record_octets_max = number,
            "sessions_per_account_max" => limits.sessions_per_account_max = number,
            "directed_max" => limits.directed_max = number,
            "queue_stanzas_max" => limits.queue_stanzas_max = number,
            "queue_octets_max" => limits.queue_octets_max = number,
            "ack_request_octets" => limits.ack_request_octets = number,
            "link_output_octets_max" => limits.link_output_octets_max = number,
            "stanza_octets_max" => limits.stanza_octets_max = number,
            "preauth_stanza_octets_max" => limits.preauth_stanza_octets_max = number,
            "depth_max" => limits.depth_max = number,
            "sasl_attempts_max" => limits.sasl_attempts_max = *value as u8,
            "resumption_timeout" => limits.resumption_timeout = seconds,
            "login_timeout" => limits.login_timeout = seconds,
            "silence_timeout" => limits.silence_timeout = seconds,
            _ => panic!("no limit {name}"),
        }
    }
    limits
}

impl Stage for Virtual {
    fn connect(&mut self) -> usize {
        self.world.connect().number()
    }

    fn write(&mut self, link: usize, text: &str) {
        self.world.write(WireId::of(link), text.as_bytes());
    }

    fn settle(&mut self) {
        self.world.settle();
        self.world.check();
    }

    fn read(&mut self, link: usize) -> Vec<u8> {
        self.world.read(WireId::of(link))
    }

    fn cut(&mut self, link: usize) {
        self.world.hang_up(WireId::of(link));
    }

    fn is_closed(&mut self, link: usize) -> bool {
        self.world.is_closed(WireId::of(link))
    }

    fn advance(&mut self, time: Duration) {
        self.world.advance(time);
    }

    fn crash(&mut self) {
        self.world.crash(Crash::PowerLost);
    }

    fn stop(&mut self) {
        self.world.stop();
    }
}
