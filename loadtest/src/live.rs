//! What is seen while a run goes on: a block that is redrawn on a terminal, now and then a line
//! elsewhere.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::format::{duration, grouped, with_unit};
use crate::plan::Board;
use crate::process::Memory;
use crate::recorder::Spread;
use crate::timeline::Point;

/// One look at a run.
pub struct Frame<'a> {
    pub scenario: &'a str,
    pub label: Option<&'a str>,
    pub phase: &'a str,
    pub progress: Progress,
    pub point: &'a Point,
    pub board: &'a Board,
}

/// What there is to reach.
#[derive(Clone, Copy)]
pub enum Progress {
    /// So many sessions have logged in, or failed.
    Sessions(usize),
    Time {
        from: Instant,
        until: Instant,
    },
}

pub struct Live {
    terminal: bool,
    /// When a plain line was written last.
    shown: Option<Instant>,
    /// Lines of the block that stands on the terminal.
    lines: usize,
    rates: VecDeque<f64>,
    tails: VecDeque<f64>,
    /// Memory is not read in every interval.
    server_memory: Option<Memory>,
    generator_memory: Option<Memory>,
}

const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Points of a sparkline.
const SPARKS: usize = 24;
/// Where the size of the terminal is not known.
const COLUMNS: usize = 80;
const ERRORS_SHOWN: usize = 4;
const BAR: usize = 24;

impl Live {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            shown: None,
            lines: 0,
            rates: VecDeque::new(),
            tails: VecDeque::new(),
            server_memory: None,
            generator_memory: None,
        }
    }

    pub fn show(&mut self, frame: &Frame) {
        let point = frame.point;
        self.server_memory = point.server_memory.or(self.server_memory);
        self.generator_memory = point.generator_memory.or(self.generator_memory);
        let work = Work::of(point);
        let tail = work.times.quantile(0.99).unwrap_or(0) as f64;
        for (history, value) in [(&mut self.rates, work.rate), (&mut self.tails, tail)] {
            history.push_back(value);
            if history.len() > SPARKS {
                history.pop_front();
            }
        }
        let mut stderr = std::io::stderr().lock();
        if self.terminal {
            let block = self.block(frame);
            let text = redrawn(&block, self.lines, columns());
            self.lines = block.len();
            let _ = stderr.write_all(text.as_bytes());
            let _ = stderr.flush();
        } else if self
            .shown
            .is_none_or(|shown| shown.elapsed() >= PLAIN_EVERY)
        {
            self.shown = Some(Instant::now());
            let _ = writeln!(stderr, "{}", plain(frame));
        }
    }

    /// Takes the block off the terminal.
    pub fn clear(&mut self) {
        if self.terminal && self.lines > 0 {
            eprint!("{}", redrawn(&[], self.lines, columns()));
        }
        self.lines = 0;
        self.rates.clear();
        self.tails.clear();
    }

    fn block(&self, frame: &Frame) -> Vec<String> {
        let mut block = vec![head(frame), sessions(frame), self.rate_line(frame)];
        block.extend(self.latency_line(frame.point));
        block.extend(self.server_line(frame.point));
        block.push(self.generator_line(frame.point));
        block.extend(errors(frame));
        block
    }

    fn rate_line(&self, frame: &Frame) -> String {
        let (board, work) = (frame.board, Work::of(frame.point));
        let ready = board.total(|row| &row.ready) + board.total(|row| &row.resumed);
        let (name, total) = match work.what {
            "message" => ("messages", board.total(|row| &row.received)),
            "delivery" => ("presence", board.total(|row| &row.deliveries)),
            _ => ("logins", ready),
        };
        let rate = grouped(work.rate.round());
        let (sparks, total) = (sparkline(&self.rates), grouped(total as f64));
        format!("  {name:<10} {rate:>9}/s  {sparks}  {total} so far")
    }

    fn latency_line(&self, point: &Point) -> Option<String> {
        let work = Work::of(point);
        let name = if work.what == "login" {
            "login time"
        } else {
            "latency"
        };
        let show = |quantile| Some(with_unit(work.times.quantile(quantile)? as f64, "ns"));
        Some(format!(
            "  {name:<10} {:>11}  {}  p99 {}  p99.9 {}  max {}",
            format!("p50 {}", show(0.5)?),
            sparkline(&self.tails),
            show(0.99)?,
            show(0.999)?,
            with_unit(work.times.max() as f64, "ns"),
        ))
    }

    fn server_line(&self, point: &Point) -> Option<String> {
        let work = point.server?;
        let cpu = format!("{:.0} % CPU", work.cpu_seconds / point.seconds * 100.0);
        let mut line = format!("  {:<10} {cpu:>11}", "server");
        let done = Work::of(point);
        if done.count > 0 {
            let each = with_unit(work.cpu_seconds * 1e6 / done.count as f64, "µs");
            let _ = write!(line, "  {each} a {}", done.what);
        }
        if let Some(memory) = self.server_memory {
            let _ = write!(line, "  {} PSS", with_unit(memory.pss, "B"));
        }
        let switches = grouped((work.switches / point.seconds).round());
        let _ = write!(line, "  {switches} switches/s");
        Some(line)
    }

    fn generator_line(&self, point: &Point) -> String {
        let cpu = point.generator.cpu_seconds / point.seconds * 100.0;
        let mut line = format!("  {:<10} {:>11}", "generator", format!("{cpu:.0} % CPU"));
        if let Some(memory) = self.generator_memory {
            let _ = write!(line, "  {} PSS", with_unit(memory.pss, "B"));
        }
        let slab = with_unit(point.kernel.slab, "B");
        let sockets = with_unit(point.kernel.buffers, "B");
        let _ = write!(line, "  kernel: {slab} slab, {sockets} in sockets");
        line
    }
}

fn head(frame: &Frame) -> String {
    let label = frame
        .label
        .map_or(String::new(), |label| format!(" · {label}"));
    let head = format!("{}{label} · {}", frame.scenario, frame.phase);
    match frame.progress {
        Progress::Time { from, until } => {
            let (whole, passed) = (until - from, from.elapsed().min(until - from));
            let share = passed.as_secs_f64() / whole.as_secs_f64().max(f64::EPSILON);
            let (passed, whole) = (passed.as_secs_f64(), whole.as_secs_f64());
            format!(
                "{head}  {}  {} of {}",
                bar(share),
                duration(passed),
                duration(whole)
            )
        }
        Progress::Sessions(sessions) => {
            let board = frame.board;
            let cut = board.total(|row| &row.cut);
            let (done, sessions) = if cut > 0 {
                (board.total(|row| &row.back), cut)
            } else {
                let ready = board.total(|row| &row.ready);
                (ready + board.total(|row| &row.failed), sessions as u64)
            };
            let share = done as f64 / sessions.max(1) as f64;
            let (done, all) = (grouped(done as f64), grouped(sessions as f64));
            format!("{head}  {}  {done} of {all}", bar(share.min(1.0)))
        }
    }
}

fn sessions(frame: &Frame) -> String {
    let ready = frame.board.total(|row| &row.ready);
    let failed = frame.board.total(|row| &row.failed);
    let online = format!("{} online", grouped(frame.point.online as f64));
    let (ready, failed) = (grouped(ready as f64), grouped(failed as f64));
    format!(
        "  {:<10} {online:>11}  {ready} logged in so far, {failed} failed",
        "sessions"
    )
}

fn errors(frame: &Frame) -> Vec<String> {
    let mut kinds: Vec<_> = frame.board.errors().into_iter().collect();
    if kinds.is_empty() {
        return vec![format!("  {:<10} {:>11}", "errors", "none")];
    }
    kinds.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let more = kinds.len().saturating_sub(ERRORS_SHOWN);
    let mut lines: Vec<String> = kinds
        .iter()
        .take(ERRORS_SHOWN)
        .enumerate()
        .map(|(at, (kind, (count, _)))| {
            let name = if at == 0 { "errors" } else { "" };
            format!(
                "  {name:<10} {:>11} × {}",
                grouped(*count as f64),
                printable(kind)
            )
        })
        .collect();
    if more > 0 {
        lines.push(format!("  {:<10} {:>11} more kinds", "", more));
    }
    lines
}

/// What a server sent may hold what moves the cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn plain(frame: &Frame) -> String {
    let (board, point) = (frame.board, frame.point);
    let ready = board.total(|row| &row.ready);
    let received = board.total(|row| &row.received);
    let (online, errors) = (point.online, board.error_count());
    let (phase, work) = (frame.phase, Work::of(point));
    let rate = work.rate;
    let mut line = format!(
        "{phase}: {ready} logged in, {online} online, {received} messages, {rate:.0}/s, {errors} \
         errors"
    );
    if let Some(tail) = work.times.quantile(0.99) {
        let _ = write!(line, ", p99 {}", with_unit(tail as f64, "ns"));
    }
    if let Some(work) = point.server {
        let _ = write!(
            line,
            ", server CPU {:.0} %",
            work.cpu_seconds / point.seconds * 100.0
        );
    }
    line
}

/// What the interval is about: messages, else presence, else logins.
struct Work<'a> {
    what: &'static str,
    count: u64,
    rate: f64,
    times: &'a Spread,
}

impl<'a> Work<'a> {
    fn of(point: &'a Point) -> Self {
        let sorts = [
            ("message", point.messages, &point.message_times),
            ("delivery", point.deliveries, &point.presence_times),
            ("login", point.logins, &point.login_times),
        ];
        let busy = sorts.iter().position(|(_, count, _)| *count > 0);
        let (what, count, times) = sorts[busy.unwrap_or(sorts.len() - 1)];
        Self {
            what,
            count,
            rate: count as f64 / point.seconds.max(f64::EPSILON),
            times,
        }
    }
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).round() as usize;
    format!(
        "{}{}",
        "█".repeat(full.min(BAR)),
        "░".repeat(BAR - full.min(BAR))
    )
}

/// From zero to the greatest of the values; padded, so that columns stay where they are.
fn sparkline(values: &VecDeque<f64>) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = values.iter().copied().fold(0.0, f64::max);
    let spark = |value: &f64| {
        let share = if most > 0.0 { value / most } else { 0.0 };
        LEVELS[((share * 7.0).round() as usize).min(7)]
    };
    let sparks: String = values.iter().map(spark).collect();
    format!("{sparks:>SPARKS$}")
}

/// The octets that put `block` where a block of `lines` lines stands. The cursor rests in the line
/// below it.
fn redrawn(block: &[String], lines: usize, columns: usize) -> String {
    let mut text = String::new();
    if lines > 0 {
        let _ = write!(text, "\x1b[{lines}A");
    }
    // To the end of the screen, in case that the block has become smaller.
    text.push_str("\r\x1b[J");
    for line in block {
        // A line that wraps would make the block taller than it is counted.
        text.extend(line.chars().take(columns.saturating_sub(1)));
        text.push('\n');
    }
    text
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(COLUMNS, |size| usize::from(size.ws_col))
        .max(20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_drawn_over_the_last_one() {
        let block = ["one".to_owned(), "a line that is too long".to_owned()];
        let text = redrawn(&block, 3, 10);
        assert_eq!(text, "\x1b[3A\r\x1b[Jone\na line th\n");
        assert!(redrawn(&block, 0, 80).starts_with("\r\x1b[J"));
    }

    #[test]
    fn sparks_rise_from_zero_to_the_greatest() {
        let values: VecDeque<f64> = [0.0, 50.0, 100.0].into();
        assert_eq!(sparkline(&values).trim(), "▁▅█");
        assert_eq!(sparkline(&values).chars().count(), SPARKS);
        let none: VecDeque<f64> = [0.0, 0.0].into();
        assert_eq!(sparkline(&none).trim(), "▁▁");
    }

    #[test]
    fn a_server_cannot_move_the_cursor() {
        assert!(!printable("\x1b[2Jgone\r").contains(['\x1b', '\r']));
    }

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        assert_eq!(bar(1.0), "█".repeat(BAR));
        assert_eq!(bar(0.0), "░".repeat(BAR));
        assert_eq!(bar(1.7).chars().count(), BAR);
    }
}
