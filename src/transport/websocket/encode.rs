//! What the server sends: frames that are whole and not masked (RFC 6455 section 5.1), their
//! lengths in the shortest form.

use super::{CONTROL_OCTETS_MAX, Code, FIN, LENGTH_16, LENGTH_64, Opcode};

/// The octets in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    octets: [u8; HEAD_OCTETS_MAX],
    length: u8,
}

impl Head {
    /// Of a final frame with a payload of so many octets.
    pub fn new(opcode: Opcode, payload_octets: usize) -> Self {
        let first = FIN | opcode.as_octet();
        let [.., a, b, c, d, e, f, g, h] = (payload_octets as u64).to_be_bytes();
        let (octets, length) = match payload_octets {
            0..=125 => ([first, h, 0, 0, 0, 0, 0, 0, 0, 0], 2),
            126..=0xffff => ([first, LENGTH_16, g, h, 0, 0, 0, 0, 0, 0], 4),
            _ => ([first, LENGTH_64, a, b, c, d, e, f, g, h], 10),
        };
        Self { octets, length }
    }

    /// As they go over the wire.
    pub fn as_slice(&self) -> &[u8] {
        let octets = self.octets.get(..usize::from(self.length));
        octets.unwrap_or_default()
    }
}

/// Appends a text message.
pub fn write_text(out: &mut Vec<u8>, payload: &str) {
    write(out, Opcode::Text, payload.as_bytes());
}

/// Makes everything in `out` from `start` on, which must be UTF-8, one text message: the payload is
/// moved once by the octets of its head.
pub fn frame_in_place(out: &mut Vec<u8>, start: usize) {
    let Some(payload_octets) = out.len().checked_sub(start) else {
        return;
    };
    let head = Head::new(Opcode::Text, payload_octets);
    let head = head.as_slice();
    out.extend_from_slice(head);
    if let Some(frame) = out.get_mut(start..) {
        frame.copy_within(..payload_octets, head.len());
        for (octet, new) in frame.iter_mut().zip(head) {
            *octet = *new;
        }
    }
}

/// Appends a ping. Of `payload` the first 125 octets are sent.
pub fn write_ping(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Ping, payload);
}

/// Appends the answer to a ping of this payload (section 5.5.3).
pub fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_control(out, Opcode::Pong, payload);
}

/// Appends a close frame, after which nothing may follow (section 5.5.1). `None` answers a close
/// without a code. Of `reason` as many whole characters are sent as fit into 123 octets.
pub fn write_close(out: &mut Vec<u8>, code: Option<Code>, reason: &str) {
    let Some(code) = code else {
        return write_control(out, Opcode::Close, b"");
    };
    let reason = reason.get(..reason.floor_char_boundary(CONTROL_OCTETS_MAX - 2));
    let reason = reason.unwrap_or_default().as_bytes();
    out.extend_from_slice(Head::new(Opcode::Close, 2 + reason.len()).as_slice());
    out.extend_from_slice(&code.as_u16().to_be_bytes());
    out.extend_from_slice(reason);
}

fn write_control(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let payload = payload.get(..CONTROL_OCTETS_MAX).unwrap_or(payload);
    write(out, opcode, payload);
}

fn write(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    out.extend_from_slice(Head::new(opcode, payload.len()).as_slice());
    out.extend_from_slice(payload);
}

const HEAD_OCTETS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Autobahn 1.1: the lengths on both sides of where the form changes.
    #[test]
    fn lengths_take_the_shortest_form() {
        let cases: [(usize, &[u8]); 8] = [
            (0, &[0x81, 0]),
            (1, &[0x81, 1]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (127, &[0x81, 126, 0, 127]),
            (0xffff, &[0x81, 126, 0xff, 0xff]),
            (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (
                0x1234_5678,
                &[0x81, 127, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78],
            ),
        ];
        for (octets, head) in cases {
            assert_eq!(Head::new(Opcode::Text, octets).as_slice(), head, "{octets}");
        }
        assert_eq!(Head::new(Opcode::Binary, 0).as_slice(), [0x82, 0]);
    }

    #[test]
    fn what_is_written_becomes_a_frame_where_it_is() {
        for octets in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 70_000] {
            let payload: String = ('a'..='z').cycle().take(octets).collect();
            let mut framed = b"before".to_vec();
            write_text(&mut framed, &payload);
            let mut in_place = b"before".to_vec();
            in_place.extend_from_slice(payload.as_bytes());
            frame_in_place(&mut in_place, 6);
            assert!(in_place == framed, "{octets}");
        }
        let mut out = b"x".to_vec();
        frame_in_place(&mut out, 2);
        assert_eq!(out, b"x", "there is nothing behind the end");
    }

    #[test]
    fn control_frames_stay_within_their_bound() {
        let mut out = Vec::new();
        write_ping(&mut out, &[7; 126]);
        assert_eq!((out.len(), &out[..2]), (127, &[0x89, 125][..]));
        out.clear();
        write_pong(&mut out, b"Hello");
        assert_eq!(out, b"\x8a\x05Hello", "as in section 5.7");
        out.clear();
        write_close(&mut out, None, "nobody hears this");
        assert_eq!(out, [0x88, 0]);
        out.clear();
        write_close(&mut out, Some(Code::GOING_AWAY), "bye");
        assert_eq!(out, b"\x88\x05\x03\xe9bye");
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        for (reason, kept) in [
            ("a".repeat(123), 123),
            ("a".repeat(124), 123),
            ("ü".repeat(62), 122),
            ("😀".repeat(40), 120),
        ] {
            let mut out = Vec::new();
            write_close(&mut out, Some(Code::NORMAL), &reason);
            assert_eq!(out[4..], reason.as_bytes()[..kept]);
            assert_eq!(usize::from(out[1]), 2 + kept);
        }
    }
}
