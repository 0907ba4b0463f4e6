//! Messages for accounts that are not there: stored, and delivered once and in order when they
//! come.

use clap::Args;
use serde_json::json;

use super::IN_MILLISECONDS;
use crate::args::{ConnectArgs, ReportArgs};
use crate::bench::{Bench, Ending, Wait};
use crate::plan::Phase;
use crate::report::Figures;
use crate::task::{Address, Answer, Chat, Pace, Task};

#[derive(Args)]
pub struct OfflineArgs {
    /// How many absent accounts; as many others send to them.
    #[arg(long, default_value_t = 500)]
    pub receivers: usize,
    /// Messages for each of them. Servers bound how many they keep.
    #[arg(long, default_value_t = 50)]
    pub messages: u32,
    /// Messages that a sender sends before it waits until the server has taken them.
    #[arg(long, default_value_t = 10)]
    pub burst: u32,
    /// Octets of a body, at least 40.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

const STORE_TIMES: [(&str, f64); 2] = [("burst stored p50", 0.5), ("burst stored p99", 0.99)];
const FETCH_TIMES: [(&str, f64); 3] = [
    ("login until everything came p50", 0.5),
    ("login until everything came p99", 0.99),
    ("login until everything came max", 1.0),
];

pub fn run(args: &OfflineArgs) -> Result<Ending, String> {
    if args.receivers == 0 || args.messages == 0 || args.burst == 0 {
        return Err("--receivers, --messages and --burst are at least 1".to_owned());
    }
    let chat = Chat {
        pace: Pace::Store {
            messages: args.messages,
            burst: args.burst,
        },
        body_octets: args.size,
        answer: Answer::OneWay,
        address: Address::Bare,
    };
    let task = Task {
        pairs: args.receivers,
        chat: Some(chat),
        ..Task::default()
    };
    let options = json!({
        "receivers": args.receivers,
        "messages_each": args.messages,
        "burst": args.burst,
        "body_octets": args.size,
    });
    let mut bench = Bench::new("offline", &args.connect, &args.report, &task, options)?;
    super::chat::check(&chat, &task, &bench)?;
    bench.repeat(&args.report, |bench| once(bench, args, &task));
    Ok(bench.finish(&args.report))
}

fn once(bench: &mut Bench, args: &OfflineArgs, task: &Task) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        // Half of the places are senders; the others come later.
        if !super::log_in_all(bench, board, &mut figures, args.receivers) {
            return;
        }
        let senders = board.total(|row| &row.ready);
        let all = senders * u64::from(args.messages);
        let start = bench.read();
        board.set_phase(Phase::Measure);
        let stored = |board: &crate::plan::Board| board.total(|row| &row.stored);
        let waited = super::wait_for(bench, board, "storing messages", all, stored);
        let between = bench.read();
        let count = stored(board) as f64;
        let span = bench.span(&start, &between);
        bench.something |= count > 0.0;
        figures.add("messages stored", count, "");
        figures.add("messages stored per second", count / span.seconds, "");
        super::server_per(&mut figures, &span, "server CPU per stored message", count);
        if waited == Wait::Cut {
            return;
        }
        let sent = board.total(|row| &row.sent);
        board.set_phase(Phase::Return);
        // Lost ones are counted at the end, one by one.
        let mut progress = super::Progress::new(bench.plan.timeout);
        let progress = std::cell::RefCell::new(&mut progress);
        let _ = bench.wait(board, "fetching messages", |board| {
            let received = board.total(|row| &row.received);
            let came = received + board.total(|row| &row.ready);
            received >= sent || progress.borrow_mut().has_stalled(came)
        });
        let end = bench.read();
        let span = bench.span(&between, &end);
        let received = board.total(|row| &row.received) as f64;
        figures.add("messages fetched", received, "");
        figures.add("messages fetched per second", received / span.seconds, "");
        super::server_per(
            &mut figures,
            &span,
            "server CPU per fetched message",
            received,
        );
        super::own_per(
            &mut figures,
            &span,
            "generator CPU per fetched message",
            received,
        );
        super::drain(bench, board);
    });
    super::latencies(&mut figures, &outcome.stores, &STORE_TIMES, IN_MILLISECONDS);
    super::latencies(
        &mut figures,
        &outcome.fetches,
        &FETCH_TIMES,
        IN_MILLISECONDS,
    );
    super::note_derivations(bench, &outcome);
    figures
}
