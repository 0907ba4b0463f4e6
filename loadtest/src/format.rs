//! Numbers as people read them.

/// Four digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "-".to_owned(),
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The same with commas between thousands, and without digits where all of them are zeros.
pub fn grouped(value: f64) -> String {
    if value.is_finite() && value.fract() == 0.0 && value.abs() < 1000.0 {
        return format!("{value:.0}");
    }
    let text = number(value);
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", &*text), |rest| ("-", rest));
    if digits.is_empty() || digits.contains('.') || digits.len() < 4 {
        return text;
    }
    let mut grouped = String::from(sign);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A value and its unit, with the unit that suits it: 1.25 ms rather than 1250 µs.
pub fn scaled(value: f64, unit: &str) -> (String, &str) {
    const LADDERS: [&[&str]; 2] = [&["ns", "µs", "ms", "s"], &["B", "KB", "MB", "GB", "TB"]];
    for ladder in LADDERS {
        if let Some(mut step) = ladder.iter().position(|known| *known == unit) {
            let mut value = value;
            while value.abs() >= 999.5 && step + 1 < ladder.len() {
                value /= 1000.0;
                step += 1;
            }
            while value.abs() < 0.9995 && value != 0.0 && step > 0 {
                value *= 1000.0;
                step -= 1;
            }
            return (three_digits(value), ladder[step]);
        }
    }
    (grouped(value), unit)
}

/// Both in one text.
pub fn with_unit(value: f64, unit: &str) -> String {
    let (number, unit) = scaled(value, unit);
    if unit.is_empty() {
        number
    } else {
        format!("{number} {unit}")
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A duration in words: `48 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A date and a time of day, UTC.
pub fn date(unix_time: u64) -> String {
    let time = i64::try_from(unix_time).ok();
    let time = time.and_then(|time| jiff::Timestamp::from_second(time).ok());
    time.map_or_else(String::new, |t| {
        t.strftime("%Y-%m-%d %H:%M UTC").to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let shown = [
            0.0,
            5.0,
            0.123,
            12.345,
            999.9,
            1234.0,
            1_234_567.0,
            -54_321.0,
        ]
        .map(grouped);
        let expected = [
            "0",
            "5",
            "0.123",
            "12.35",
            "999.9",
            "1,234",
            "1,234,567",
            "-54,321",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn units_suit_the_value() {
        assert_eq!(with_unit(1250.0, "µs"), "1.25 ms");
        assert_eq!(with_unit(0.25, "µs"), "250 ns");
        assert_eq!(with_unit(3_480.0, "MB"), "3.48 GB");
        assert_eq!(with_unit(187.2, "%"), "187.2 %");
        assert_eq!(with_unit(999.7, "µs"), "1.00 ms");
        assert_eq!(with_unit(0.0, "ms"), "0.00 ms");
    }

    #[test]
    fn times_are_words() {
        assert_eq!(duration(1.25), "1.2 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(7_500.0), "2 h 5 min");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
    }
}
