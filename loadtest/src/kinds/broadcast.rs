//! One publishes, many listen: what an event costs for each who gets it. The same client listens to
//! encke and to nginx with nchan; paths, subscribing and publishing alone differ.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::{Before, IN_MILLISECONDS, LAG_TIMES, MESSAGE_TIMES};
use crate::args::{ConnectArgs, ReportArgs, Transport};
use crate::bench::{Bench, Ending, Span};
use crate::broadcast::EVENT_OCTETS_MIN;
use crate::plan::Phase;
use crate::report::Figures;
use crate::task::{Broadcast, Task, Topics};

#[derive(Args)]
pub struct BroadcastArgs {
    /// How many listen.
    #[arg(long, default_value_t = 1_000)]
    pub listeners: usize,
    /// Events published in a second, in an open loop.
    #[arg(long, default_value_t = 5.0)]
    pub events: f64,
    /// Octets of an event, which is JSON.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Seconds before the measured time.
    #[arg(long, default_value_t = 3)]
    pub warmup: u64,
    /// Measured seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Who has the topic: encke, where listeners log in, or nginx with nchan.
    #[arg(long, value_enum, default_value = "encke")]
    pub topics: Topics,
    #[arg(long, default_value = "load")]
    pub topic: String,
    /// The key that encke wants of who publishes.
    #[arg(long)]
    pub key: Option<String>,
    /// Where nchan has topics to listen to.
    #[arg(long, default_value = "/sub/")]
    pub subscribe_path: String,
    /// Where nchan has topics to publish to.
    #[arg(long, default_value = "/pub/")]
    pub publish_path: String,
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    pub report: ReportArgs,
}

pub fn run(args: &BroadcastArgs) -> Result<Ending, String> {
    if !(args.events > 0.0 && args.events.is_finite()) {
        return Err(format!("--events {}: no rate", args.events));
    }
    if args.size < EVENT_OCTETS_MIN {
        return Err(format!("--size is at least {EVENT_OCTETS_MIN}"));
    }
    let mut connect = args.connect.clone();
    if connect.transport == Transport::Tcp {
        connect.transport = Transport::Events;
    }
    if args.topics == Topics::Nchan && connect.transport != Transport::Events {
        return Err("--topics nchan: it is listened to over events only".to_owned());
    }
    let task = Task {
        listening: args.listeners,
        broadcast: Some(Broadcast {
            topics: args.topics,
            topic: args.topic.clone(),
            key: args.key.clone(),
            subscribe_path: args.subscribe_path.clone(),
            publish_path: args.publish_path.clone(),
            events_per_second: args.events,
            event_octets: args.size,
        }),
        ..Task::default()
    };
    let options = json!({
        "listeners": args.listeners,
        "events_per_second": args.events,
        "event_octets": args.size,
        "warmup_seconds": args.warmup,
        "seconds": args.seconds,
        "topics": format!("{:?}", args.topics).to_lowercase(),
    });
    let mut bench = Bench::new("broadcast", &connect, &args.report, &task, options)?;
    // Once, before the first listener.
    let before = Before::of(&bench);
    bench.repeat(&args.report, |bench| once(bench, args, &task, &before));
    Ok(bench.finish(&args.report))
}

fn once(bench: &mut Bench, args: &BroadcastArgs, task: &Task, before: &Before) -> Figures {
    let mut figures = Figures::default();
    let outcome = bench.with_sessions(task, |bench, board| {
        if !super::log_in_all(bench, board, &mut figures, task.sessions()) {
            return;
        }
        board.set_phase(Phase::Warm);
        let _ = bench.pause(board, "warming up", Duration::from_secs(args.warmup));
        board.set_phase(Phase::Measure);
        let delivered = || board.total(|row| &row.deliveries);
        let (start, first) = (bench.read(), delivered());
        let _ = bench.pause(board, "measuring", Duration::from_secs(args.seconds));
        let (end, last) = (bench.read(), delivered());
        let span = bench.span(&start, &end);
        let online = board.total(|row| &row.online) as f64;
        figures.add("sessions held", online, "");
        super::memory(bench, &mut figures, online, before);
        super::drain(bench, board);
        event_figures(&mut figures, &span, (last - first) as f64);
        bench.something |= last > first;
    });
    super::latencies(
        &mut figures,
        &outcome.messages,
        &MESSAGE_TIMES,
        IN_MILLISECONDS,
    );
    super::latencies(&mut figures, &outcome.lags, &LAG_TIMES, IN_MILLISECONDS);
    super::note_derivations(bench, &outcome);
    figures
}

fn event_figures(figures: &mut Figures, span: &Span, events: f64) {
    figures.add("events delivered", events, "");
    figures.add("events delivered per second", events / span.seconds, "");
    super::server_per(figures, span, "server CPU per event delivered", events);
    super::server_cpu(figures, span);
    super::others(figures, span);
    super::own_per(figures, span, "generator CPU per event delivered", events);
}
