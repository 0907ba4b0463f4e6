//! The record of when an account was last there ([`crate::store::Kind::Last`]): version,
//! wall-clock milliseconds (8 octets, big-endian), then what it said.

const VERSION: u8 = 1;
/// Octets of a status that are kept.
const STATUS_OCTETS_MAX: usize = 1_023;

/// The record.
pub fn encode(wall_ms: u64, status: &str) -> Vec<u8> {
    let end = (0..=status.len().min(STATUS_OCTETS_MAX)).rev();
    let end = end
        .into_iter()
        .find(|end| status.is_char_boundary(*end))
        .unwrap_or(0);
    let mut record = Vec::with_capacity(1 + size_of::<u64>() + end);
    record.push(VERSION);
    record.extend_from_slice(&wall_ms.to_be_bytes());
    record.extend_from_slice(&status.as_bytes()[..end]);
    record
}

/// The inverse of [`encode`].
pub fn decode(record: &[u8]) -> Option<(u64, &str)> {
    let (version, rest) = record.split_first()?;
    let (stamp, status) = rest.split_at_checked(8)?;
    if *version != VERSION {
        return None;
    }
    Some((
        u64::from_be_bytes(stamp.try_into().ok()?),
        std::str::from_utf8(status).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_long_status_is_cut_between_characters() {
        assert_eq!(decode(&encode(77, "gone")), Some((77, "gone")));
        let long = "ü".repeat(600);
        let record = encode(1, &long);
        let (_, status) = decode(&record).unwrap();
        assert_eq!(status, "ü".repeat(511));
    }
}
