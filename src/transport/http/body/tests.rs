//! Bodies in any pieces, and each way in which one is refused (SECURITY classes 45 and 46).

use proptest::prelude::*;

use super::*;

const ROOM: u64 = 64;

/// What a body gives when it comes in these pieces: its octets, and how many were not its own.
fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, usize, bool), Refusal> {
    let mut body = Body::new(framing, ROOM)?;
    let mut out = Vec::new();
    let mut left = 0;
    for piece in pieces {
        let taken = match body.take(piece, &mut out) {
            Ok(taken) => taken,
            Err(refusal) => {
                assert_eq!(
                    body.take(b"0\r\n\r\n", &mut out),
                    Err(refusal),
                    "it is final"
                );
                return Err(refusal);
            }
        };
        assert!(taken.done || taken.octets == piece.len());
        assert_eq!(taken.done, body.is_done());
        left += piece.len() - taken.octets;
    }
    Ok((out, left, body.is_done()))
}

/// Decodes whole, cut once at every octet, and octet by octet; all must be the same.
fn decode_cut(framing: Framing, bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), Refusal> {
    let whole = decode(framing, &[bytes]);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(decode(framing, &[head, tail]), whole, "cut at octet {cut}");
    }
    let octets: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(framing, &octets), whole);
    whole
}

#[test]
fn bodies_end_where_they_say() {
    let chunked = Framing::Chunked;
    for (framing, bytes, expected, left, done) in [
        (Framing::None, "GET", "", 3, true),
        (Framing::Sized(0), "GET", "", 3, true),
        (Framing::Sized(3), "abcGET", "abc", 3, true),
        (Framing::Sized(3), "ab", "ab", 0, false),
        (Framing::Sized(3), "\r\n\0", "\r\n\0", 0, true),
        (chunked, "0\r\n\r\nGET", "", 3, true),
        (chunked, "3\r\nabc\r\n0\r\n\r\n", "abc", 0, true),
        (chunked, "3\r\nabc\r\n0\r\n\r", "abc", 0, false),
        (
            chunked,
            "1\r\na\r\n002\r\nbc\r\n000\r\n\r\n\r\n",
            "abc",
            2,
            true,
        ),
        (
            chunked,
            "A\r\n0123456789\r\n0\r\n\r\n",
            "0123456789",
            0,
            true,
        ),
        (
            chunked,
            "a;x=y;\"z z\"\r\n0123456789\r\n0;x\r\n\r\n",
            "0123456789",
            0,
            true,
        ),
        (
            chunked,
            "1\r\na\r\n0\r\nX: y\r\nDigest:\tz\r\n\r\n",
            "a",
            0,
            true,
        ),
        (chunked, "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", 0, true),
    ] {
        let expected = (expected.as_bytes().to_vec(), left, done);
        assert_eq!(
            decode_cut(framing, bytes.as_bytes()),
            Ok(expected),
            "{bytes:?}"
        );
    }
}

#[test]
fn what_is_not_exactly_chunked_is_refused() {
    use Refusal::*;
    for (bytes, refusal) in [
        (&b"\r\n"[..], ChunkSize),
        (b";x\r\n", ChunkSize),
        (b" 1\r\na", ChunkSize),
        (b"1 \r\na", ChunkSize),
        (b"1\t;x\r\na", ChunkSize),
        (b"+1\r\na", ChunkSize),
        (b"-1\r\na", ChunkSize),
        (b"0x1\r\na", ChunkSize),
        (b"1_0\r\na", ChunkSize),
        (b"g\r\na", ChunkSize),
        (b"1\na\n0\n\n", ChunkSize),
        (b"1\rxa", ChunkSize),
        (b"1\r\rxa", ChunkSize),
        (b"1;x\nabc", ChunkExtension),
        (b"1;\0\r\n", ChunkExtension),
        (b"1;x\r\r\n", ChunkSize),
        (b"0000000000000001\r\na", ChunkSize),
        (b"1\r\nab\r\n", ChunkEnd),
        (b"1\r\na\n0\r\n", ChunkEnd),
        (b"1\r\na\rx", ChunkEnd),
        (b"1\r\na0\r\n\r\n", ChunkEnd),
        (b"41\r\n", BodyTooLong),
        (b"fffffffffffffffff\r\n", BodyTooLong),
        (b"10000000000000000\r\n", BodyTooLong),
        (
            b"3F\r\n012345678901234567890123456789012345678901234567890123456789012\r\n2\r\n",
            BodyTooLong,
        ),
        (b"0\r\n\n", Trailer),
        (b"0\r\n\rx", Trailer),
        (b"0\r\nx\r\n\r\n", Trailer),
        (b"0\r\nx : y\r\n\r\n", Trailer),
        (b"0\r\n: y\r\n\r\n", Trailer),
        (b"0\r\n x: y\r\n\r\n", Trailer),
        (b"0\r\nx: y\n\r\n", Trailer),
        (b"0\r\nx: y\rz\r\n", Trailer),
        (b"0\r\nx: \0\r\n", Trailer),
        (b"0\r\nx: y\r\n z\r\n", Trailer),
        (b"0\r\nContent-Length: 3\r\n\r\n", Trailer),
        (b"0\r\ntransfer-ENCODING: chunked\r\n\r\n", Trailer),
        (b"0\r\nHost: a\r\n\r\n", Trailer),
        (b"0\r\nX: y\r\nAuthorization: a\r\n\r\n", Trailer),
    ] {
        let found = decode_cut(Framing::Chunked, bytes);
        assert_eq!(found, Err(refusal), "{}", bytes.escape_ascii());
    }
}

#[test]
fn bounds_hold_at_their_very_octet() {
    let too_long = Body::new(Framing::Sized(ROOM + 1), ROOM);
    assert_eq!(too_long, Err(Refusal::BodyTooLong));
    assert!(Body::new(Framing::Sized(ROOM), ROOM).is_ok());
    assert!(Body::new(Framing::Sized(u64::MAX), u64::MAX).is_ok());

    let most = usize::from(EXTENSION_OCTETS_MAX);
    let extended = |octets| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(octets)).into_bytes();
    assert!(decode(Framing::Chunked, &[&extended(most)]).is_ok());
    let refused = decode(Framing::Chunked, &[&extended(most + 1)]);
    assert_eq!(refused, Err(Refusal::ChunkExtension));
    // Short extensions of many chunks add up.
    let many = format!("1;{}\r\na\r\n", "x".repeat(40)).repeat(26);
    let refused = decode(Framing::Chunked, &[many.as_bytes()]);
    assert_eq!(refused, Err(Refusal::ChunkExtension));

    let most = usize::from(TRAILER_OCTETS_MAX) - "x:\r\n".len();
    let trailed = |octets| format!("0\r\nx:{}\r\n\r\n", "y".repeat(octets)).into_bytes();
    assert!(decode(Framing::Chunked, &[&trailed(most)]).is_ok());
    let refused = decode(Framing::Chunked, &[&trailed(most + 1)]);
    assert_eq!(refused, Err(Refusal::TrailersTooLong));
}

proptest! {
    /// What our own writer made of chunks is what comes out, however it is cut.
    #[test]
    fn chunks_come_back(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..5),
        piece in 1usize..9,
    ) {
        let mut written = Vec::new();
        for chunk in &chunks {
            crate::transport::http::answer::Coding::Chunked.chunk(chunk, &mut written);
        }
        crate::transport::http::answer::Coding::Chunked.last_chunk(&mut written);
        let pieces: Vec<&[u8]> = written.chunks(piece).collect();
        let expected = (chunks.concat(), 0, true);
        prop_assert_eq!(decode(Framing::Chunked, &pieces), Ok(expected));
    }

    #[test]
    fn no_octets_panic(
        bytes in "([0-9a-f]{1,2}(;x)?\r\n|[ -~\r\n]{0,4}){0,8}",
        piece in 1usize..9,
    ) {
        let pieces: Vec<&[u8]> = bytes.as_bytes().chunks(piece).collect();
        let whole = decode(Framing::Chunked, &[bytes.as_bytes()]);
        prop_assert_eq!(decode(Framing::Chunked, &pieces), whole);
    }
}
