//! Upper bounds on what one message may cost.

/// What a message may be at most; beyond any of them [`crate::parse`] gives a [`crate::Fault`] whose status is 513.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole message, head and body. Default 65,535: what a datagram can carry.
    pub message_len: usize,
    /// Bytes of the head: start line, headers and the empty line. Default 32,768.
    pub head_len: usize,
    /// Bytes of one header with all its folded lines, and of the start line. Default 8,192.
    pub header_len: usize,
    /// Header lines, at most 65,534. Default 256.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_len: 65_535,
            head_len: 32_768,
            header_len: 8_192,
            headers: 256,
        }
    }
}
