//! What a run looked like over time: points of a fraction of a second, which are joined as soon as
//! there are many, and the phases they belong to.

use std::time::Duration;

use crate::document::{Series, Stretch};
use crate::process::{Kernel, Memory};
use crate::recorder::Spread;

/// What happened in an interval, and how things stood at its end.
#[derive(Clone, Default)]
pub struct Point {
    /// The end of the interval, in seconds since the command began.
    pub at: f64,
    /// Its length in seconds.
    pub seconds: f64,
    /// The place of its phase in the list of phases.
    pub phase: usize,
    pub online: u64,
    pub logins: u64,
    pub messages: u64,
    /// Presence changes that contacts got.
    pub deliveries: u64,
    pub errors: u64,
    pub login_times: Spread,
    pub message_times: Spread,
    pub presence_times: Spread,
    pub server: Option<Work>,
    pub generator: Work,
    /// CPU seconds of other programs.
    pub others: Option<f64>,
    /// Memory is read less often where reading takes long.
    pub server_memory: Option<Memory>,
    pub generator_memory: Option<Memory>,
    pub kernel: Kernel,
}

/// What a process did in an interval.
#[derive(Clone, Copy, Default)]
pub struct Work {
    pub cpu_seconds: f64,
    pub switches: f64,
}

impl Work {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            switches: self.switches + other.switches,
        }
    }
}

impl Point {
    /// This point and the next one as one: what happened is added, how things stood is the later.
    fn join(&self, next: &Self) -> Self {
        let server = match (self.server, next.server) {
            (Some(a), Some(b)) => Some(a.plus(b)),
            (a, b) => a.or(b),
        };
        Self {
            at: next.at,
            seconds: self.seconds + next.seconds,
            phase: next.phase,
            online: next.online,
            logins: self.logins + next.logins,
            messages: self.messages + next.messages,
            deliveries: self.deliveries + next.deliveries,
            errors: self.errors + next.errors,
            login_times: self.login_times.join(&next.login_times),
            message_times: self.message_times.join(&next.message_times),
            presence_times: self.presence_times.join(&next.presence_times),
            server,
            generator: self.generator.plus(next.generator),
            others: self.others.zip(next.others).map(|(a, b)| a + b),
            server_memory: next.server_memory.or(self.server_memory),
            generator_memory: next.generator_memory.or(self.generator_memory),
            kernel: next.kernel,
        }
    }
}

pub struct Timeline {
    pub points: Vec<Point>,
    pub phases: Vec<Stretch>,
    interval: Duration,
}

const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// Neighbours are joined when there are more.
pub const POINTS_MAX: usize = 600;

impl Default for Timeline {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            phases: Vec::new(),
            interval: FIRST_INTERVAL,
        }
    }
}

impl Timeline {
    /// How long an interval is now: it doubles whenever points are joined.
    pub const fn interval(&self) -> Duration {
        self.interval
    }

    pub fn push(&mut self, point: Point) {
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            self.thin();
        }
    }

    /// Ends the current phase and begins another.
    pub fn begin(&mut self, name: &str, run: usize, at: f64) {
        self.end(at);
        self.phases.push(Stretch {
            name: name.to_owned(),
            run,
            from: at,
            to: at,
        });
    }

    pub fn end(&mut self, at: f64) {
        if let Some(last) = self.phases.last_mut() {
            last.to = at;
        }
    }

    /// Joins pairs of neighbours; points of different phases stay apart.
    fn thin(&mut self) {
        let mut joined: Vec<Point> = Vec::with_capacity(self.points.len());
        let mut points = std::mem::take(&mut self.points).into_iter().peekable();
        while let Some(point) = points.next() {
            let partner = points.next_if(|next| next.phase == point.phase);
            joined.push(partner.map_or_else(|| point.clone(), |next| point.join(&next)));
        }
        self.points = joined;
        self.interval *= 2;
    }

    /// As columns of equal length. `null` stands where there was nothing to measure.
    pub fn series(&self) -> Series {
        let columns = COLUMNS.iter().map(|&(name, _, read)| {
            let values = self.points.iter().map(read).map(shortened);
            (name.to_owned(), values.collect())
        });
        let units = COLUMNS
            .iter()
            .map(|&(name, unit, _)| (name.to_owned(), unit.to_owned()));
        let short = |at: f64| (at * 1e6).round() / 1e6;
        let phases = self.phases.iter().map(|phase| Stretch {
            from: short(phase.from),
            to: short(phase.to),
            ..phase.clone()
        });
        Series {
            interval_seconds: self.interval.as_secs_f64(),
            phases: phases.collect(),
            units: units.collect(),
            columns: columns.collect(),
        }
    }
}

type Column = (&'static str, &'static str, fn(&Point) -> Option<f64>);

/// The columns of the time series: name, unit, value.
const COLUMNS: &[Column] = &[
    ("at", "s", |p| Some(p.at)),
    ("seconds", "s", |p| Some(p.seconds)),
    ("online", "", |p| Some(p.online as f64)),
    ("logins", "", |p| Some(p.logins as f64)),
    ("messages", "", |p| Some(p.messages as f64)),
    ("deliveries", "", |p| Some(p.deliveries as f64)),
    ("errors", "", |p| Some(p.errors as f64)),
    ("message_p50", "ns", |p| nanoseconds(&p.message_times, 0.5)),
    ("message_p99", "ns", |p| nanoseconds(&p.message_times, 0.99)),
    ("message_p999", "ns", |p| {
        nanoseconds(&p.message_times, 0.999)
    }),
    ("message_max", "ns", |p| longest(&p.message_times)),
    ("presence_p50", "ns", |p| {
        nanoseconds(&p.presence_times, 0.5)
    }),
    ("presence_p99", "ns", |p| {
        nanoseconds(&p.presence_times, 0.99)
    }),
    ("presence_p999", "ns", |p| {
        nanoseconds(&p.presence_times, 0.999)
    }),
    ("presence_max", "ns", |p| longest(&p.presence_times)),
    ("login_p50", "ns", |p| nanoseconds(&p.login_times, 0.5)),
    ("login_p99", "ns", |p| nanoseconds(&p.login_times, 0.99)),
    ("login_p999", "ns", |p| nanoseconds(&p.login_times, 0.999)),
    ("login_max", "ns", |p| longest(&p.login_times)),
    ("server_cpu", "s", |p| p.server.map(|work| work.cpu_seconds)),
    ("server_switches", "", |p| {
        p.server.map(|work| work.switches)
    }),
    ("generator_cpu", "s", |p| Some(p.generator.cpu_seconds)),
    ("others_cpu", "s", |p| p.others),
    ("server_pss", "B", |p| {
        p.server_memory.map(|memory| memory.pss)
    }),
    ("server_anonymous", "B", |p| {
        p.server_memory.map(|memory| memory.anonymous)
    }),
    ("generator_pss", "B", |p| {
        p.generator_memory.map(|memory| memory.pss)
    }),
    ("kernel_slab", "B", |p| Some(p.kernel.slab)),
    ("socket_memory", "B", |p| Some(p.kernel.buffers)),
];

fn nanoseconds(spread: &Spread, quantile: f64) -> Option<f64> {
    spread.quantile(quantile).map(|value| value as f64)
}

fn longest(spread: &Spread) -> Option<f64> {
    (spread.count() > 0).then(|| spread.max() as f64)
}

/// To six digits after the point.
fn shortened(value: Option<f64>) -> Option<f64> {
    let value = value.filter(|value| value.is_finite())?;
    Some((value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(number: usize, phase: usize) -> Point {
        Point {
            at: number as f64,
            seconds: 1.0,
            phase,
            online: number as u64,
            messages: 10,
            server: Some(Work {
                cpu_seconds: 0.25,
                switches: 2.0,
            }),
            ..Point::default()
        }
    }

    #[test]
    fn joined_points_keep_every_message_and_every_second() {
        let mut timeline = Timeline::default();
        let all = POINTS_MAX * 3;
        for number in 1..=all {
            timeline.push(point(number, usize::from(number > 7)));
        }
        assert!(timeline.points.len() <= POINTS_MAX);
        let messages: u64 = timeline.points.iter().map(|p| p.messages).sum();
        let seconds: f64 = timeline.points.iter().map(|p| p.seconds).sum();
        let cpu: f64 = timeline
            .points
            .iter()
            .filter_map(|p| p.server)
            .map(|w| w.cpu_seconds)
            .sum();
        assert_eq!(messages, all as u64 * 10);
        assert!((seconds - all as f64).abs() < 1e-9);
        assert!((cpu - all as f64 * 0.25).abs() < 1e-9);
        assert!(timeline.interval() > FIRST_INTERVAL);
        // Each point ends where the next one begins.
        for pair in timeline.points.windows(2) {
            assert!((pair[0].at - (pair[1].at - pair[1].seconds)).abs() < 1e-9);
        }
    }

    #[test]
    fn points_of_different_phases_stay_apart() {
        let mut timeline = Timeline::default();
        for number in 1..=POINTS_MAX + 1 {
            timeline.push(point(number, number % 2));
        }
        assert_eq!(timeline.points.len(), POINTS_MAX + 1);
        assert!(timeline.points.iter().all(|p| p.seconds == 1.0));
    }

    #[test]
    fn a_phase_ends_where_the_next_begins() {
        let mut timeline = Timeline::default();
        timeline.begin("logging in", 1, 0.0);
        timeline.begin("measuring", 1, 2.5);
        timeline.end(4.0);
        let bounds: Vec<_> = timeline.phases.iter().map(|p| (p.from, p.to)).collect();
        assert_eq!(bounds, [(0.0, 2.5), (2.5, 4.0)]);
    }

    #[test]
    fn columns_are_of_equal_length_and_null_where_nothing_was_read() {
        let mut timeline = Timeline::default();
        timeline.push(point(1, 0));
        timeline.push(Point::default());
        let series = timeline.series();
        assert!(series.columns.values().all(|column| column.len() == 2));
        assert_eq!(series.columns["server_cpu"], [Some(0.25), None]);
        assert_eq!(series.columns["message_p99"], [None, None]);
    }
}
