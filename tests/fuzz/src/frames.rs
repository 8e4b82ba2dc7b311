//! Streams: the same messages come out however the bytes are cut into reads.

use crate::limits;
use sps_wire::frame::{Frame, Framer};

/// The first byte seeds the cuts, the rest is the stream.
pub fn stream(bytes: &[u8]) {
    let Some((seed, stream)) = bytes.split_first() else {
        return;
    };
    let whole = cut(stream, stream.len().max(1), 0);
    let bytewise = cut(stream, 1, 0);
    assert_eq!(whole, bytewise, "all at once and byte by byte");
    let chunks = cut(stream, 1 + usize::from(seed % 32), *seed);
    assert_eq!(whole, chunks, "all at once and in chunks");
}

/// What comes out of a stream.
#[derive(Debug, PartialEq)]
enum Out {
    Message(Vec<u8>),
    Ping,
    Broken,
}

/// Reads the stream in chunks of `most` bytes, or of changing length.
fn cut(stream: &[u8], most: usize, vary: u8) -> Vec<Out> {
    let mut framer = Framer::default();
    let (mut out, mut unread, mut at, mut turn) = (Vec::new(), Vec::new(), 0, usize::from(vary));
    while at < stream.len() {
        turn = turn.wrapping_mul(5).wrapping_add(3);
        let len = if vary == 0 { most } else { 1 + turn % most };
        let end = (at + len).min(stream.len());
        unread.extend_from_slice(&stream[at..end]);
        at = end;
        loop {
            match framer.next(&unread, &limits()) {
                Frame::NeedMore => break,
                Frame::Skip(len) => drop(unread.drain(..len)),
                Frame::KeepAlive(len) => {
                    unread.drain(..len);
                    out.push(Out::Ping);
                }
                Frame::Message { len } => out.push(Out::Message(unread.drain(..len).collect())),
                Frame::Broken(_) => {
                    out.push(Out::Broken);
                    return out;
                }
            }
        }
        assert!(
            unread.len() <= limits().message_len + limits().head_len + most,
            "what is kept is bounded"
        );
    }
    out
}
