//! What is known about figures by their names: whether less or more of them is better, and which
//! are the headline.

/// Which way a figure improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Less,
    More,
    /// It describes the run and is no merit.
    Neither,
}

/// What a name contains, and what follows; the first that fits counts.
const DIRECTIONS: &[(&str, Better)] = &[
    ("of other programs", Better::Neither),
    ("before", Better::Neither),
    ("in the kernel", Better::Neither),
    ("offered", Better::Neither),
    ("scheduled rate", Better::Neither),
    ("per second", Better::More),
    ("sessions held", Better::More),
    ("sessions back", Better::More),
    ("sessions resumed", Better::More),
    ("growth", Better::Less),
    ("late by", Better::Less),
    ("made again", Better::Less),
    ("cores while", Better::Less),
    ("listens again after", Better::Less),
    ("at the end", Better::Less),
    ("error", Better::Less),
    ("fail", Better::Less),
    ("lost", Better::Less),
    ("latency", Better::Less),
    ("CPU while idle", Better::Less),
    ("CPU per", Better::Less),
    ("switches per", Better::Less),
    ("per session", Better::Less),
    ("slope", Better::Less),
    ("PSS after", Better::Less),
    ("seconds until", Better::Less),
    ("time to", Better::Less),
    ("time until", Better::Less),
    (" p50", Better::Less),
    (" p90", Better::Less),
    (" p99", Better::Less),
    (" max", Better::Less),
];

pub fn better(name: &str) -> Better {
    let known = DIRECTIONS.iter().find(|(part, _)| name.contains(part));
    known.map_or(Better::Neither, |(_, better)| *better)
}

/// The headline, in this order, as far as a run has them.
const HEADLINES: &[&str] = &[
    "sessions held",
    "time until all are logged in",
    "messages per second",
    "presence deliveries per second",
    "events delivered per second",
    "messages stored per second",
    "messages fetched per second",
    "visits per second",
    "time until all are back",
    "server CPU per message",
    "server CPU per presence delivery",
    "server CPU per event delivered",
    "server CPU per stored message",
    "server CPU per fetched message",
    "server CPU per visit",
    "server PSS per session",
    "server CPU per login",
    "server memory growth per minute",
    "latency p50",
    "latency p99",
    "latency p99.9",
    "presence latency p50",
    "presence latency p99",
    "server CPU per return",
    "sessions back",
    "logins per second",
    "login p50",
    "login p99",
    "server CPU while idle",
    "server anonymous per session",
    "kernel slab per session, both ends",
    "generator CPU per message",
    "generator CPU per login",
];
const HEADLINES_MAX: usize = 8;

/// The names of those figures that come first.
pub fn headline<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let find = |wanted: &&str| names.iter().find(|name| *name == wanted).copied();
    let mut chosen: Vec<_> = HEADLINES.iter().filter_map(find).collect();
    if chosen.is_empty() {
        chosen = names.to_vec();
    }
    chosen.truncate(HEADLINES_MAX);
    chosen
}

/// What a unit of the work of a run costs: the figure to compare servers by.
const COSTS: &[&str] = &[
    "server CPU per message",
    "server CPU per presence delivery",
    "server CPU per event delivered",
    "server CPU per stored message",
    "server CPU per return",
    "server CPU per visit",
    "server PSS per session",
    "server CPU per login",
];

/// The one figure that says most about such a run.
pub fn cost<'a>(names: &[&'a str]) -> Option<&'a str> {
    let find = |wanted: &&str| names.iter().find(|name| *name == wanted).copied();
    let known = COSTS.iter().find_map(find);
    known.or_else(|| headline(names).first().copied())
}

/// How a figure stands beside that of another run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Of the first run, as a share: 0.1 is ten percent more.
    pub share: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// Not more than what the runs differ among themselves, or than is ever worth a word.
    Same,
    /// There is no better with this figure, or nothing to compare it with.
    None,
}

/// A difference that is not worth a word, where there are several runs of each.
const NOISE: f64 = 0.02;
/// The same where there is only one run of either: nobody knows how far it would spread.
const NOISE_OF_ONE: f64 = 0.05;

/// Compares the runs of one figure: by their medians, and with an eye on how far they spread.
pub fn difference(name: &str, first: &[f64], other: &[f64]) -> Difference {
    let (Some(from), Some(to)) = (median(first), median(other)) else {
        return Difference {
            share: None,
            verdict: Verdict::None,
        };
    };
    let share = if from == to {
        Some(0.0)
    } else {
        (from != 0.0).then(|| (to - from) / from.abs())
    };
    let noise = if first.len().min(other.len()) < 2 {
        NOISE_OF_ONE
    } else {
        NOISE
    };
    let apart = share.is_none_or(|share| share.abs() >= noise) && !overlap(first, other);
    let verdict = match better(name) {
        Better::Neither => Verdict::None,
        _ if !apart => Verdict::Same,
        Better::Less if to < from => Verdict::Better,
        Better::More if to > from => Verdict::Better,
        _ => Verdict::Worse,
    };
    Difference { share, verdict }
}

/// Whether runs of both lie among each other; single runs say nothing about that.
fn overlap(first: &[f64], other: &[f64]) -> bool {
    if first.len() < 2 || other.len() < 2 {
        return false;
    }
    let ((low_a, high_a), (low_b, high_b)) = (bounds(first), bounds(other));
    low_a <= high_b && low_b <= high_a
}

pub fn bounds(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[n / 2]),
        n => Some(f64::midpoint(values[n / 2 - 1], values[n / 2])),
    }
}

/// The share in percent, with its sign.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        p if p < 0.05 => "±0 %".to_owned(),
        p if p < 9.95 => format!("{percent:+.1} %"),
        p if p < 1_000.0 => format!("{percent:+.0} %"),
        _ => format!("× {:.1}", share + 1.0),
    }
    .replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direction_of_each_figure_of_the_scenarios_is_known() {
        for name in [
            "server CPU per message",
            "server CPU per login",
            "server CPU while idle",
            "latency p99.9",
            "login p50",
            "server PSS per session",
            "kernel slab per session, both ends",
            "server context switches per 1000 messages",
            "generator CPU per message",
            "server CPU per return",
            "server CPU per event delivered",
            "server memory growth per minute",
            "generator late by, p99",
            "presence latency p99",
            "time until all are back",
            "server cores while idle",
            "server cores while some talk",
            "server listens again after",
        ] {
            assert_eq!(better(name), Better::Less, "{name}");
        }
        for name in [
            "messages per second",
            "logins per second",
            "presence deliveries per second",
            "sessions held",
            "sessions resumed",
        ] {
            assert_eq!(better(name), Better::More, "{name}");
        }
        for name in [
            "CPU of other programs",
            "server PSS before",
            "server CPU in the kernel",
            "server CPU",
            "messages",
            "something new",
        ] {
            assert_eq!(better(name), Better::Neither, "{name}");
        }
    }

    #[test]
    fn less_is_better_for_latency_and_more_for_rates() {
        let verdict = |name, from, to| difference(name, &[from], &[to]).verdict;
        assert_eq!(verdict("latency p99", 100.0, 90.0), Verdict::Better);
        assert_eq!(verdict("latency p99", 100.0, 110.0), Verdict::Worse);
        assert_eq!(verdict("messages per second", 100.0, 90.0), Verdict::Worse);
        assert_eq!(
            verdict("messages per second", 100.0, 110.0),
            Verdict::Better
        );
        assert_eq!(verdict("messages per second", 100.0, 104.0), Verdict::Same);
        assert_eq!(verdict("messages", 100.0, 200.0), Verdict::None);
    }

    #[test]
    fn runs_that_lie_among_each_other_are_the_same() {
        let (first, other) = ([1.0, 1.2, 1.4], [1.3, 1.5, 1.6]);
        let found = difference("latency p50", &first, &other);
        assert_eq!(found.verdict, Verdict::Same);
        assert!((found.share.unwrap() - 0.25).abs() < 1e-9);
        let apart = difference("latency p50", &first, &[1.5, 1.6, 1.7]);
        assert_eq!(apart.verdict, Verdict::Worse);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let found = difference("latency p50", &[0.0], &[5.0]);
        assert_eq!((found.share, found.verdict), (None, Verdict::Worse));
        assert_eq!(difference("latency p50", &[0.0], &[0.0]).share, Some(0.0));
        assert_eq!(
            difference("latency p50", &[], &[5.0]).verdict,
            Verdict::None
        );
    }

    #[test]
    fn percent_has_a_sign_and_few_digits() {
        let shown = [0.0, 0.051, -0.251, 99.0].map(percent);
        assert_eq!(shown, ["±0 %", "+5.1 %", "−25 %", "× 100.0"]);
    }

    #[test]
    fn the_headline_keeps_its_order() {
        let names = ["latency p99", "odd", "messages per second"];
        assert_eq!(headline(&names), ["messages per second", "latency p99"]);
        assert_eq!(headline(&["odd"]), ["odd"]);
        assert_eq!(
            cost(&["server CPU per login", "server PSS per session"]),
            Some("server PSS per session")
        );
        assert_eq!(cost(&["odd"]), Some("odd"));
        assert_eq!(cost(&[]), None);
    }
}
