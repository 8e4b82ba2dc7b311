//! Numbers in header fields: CSeq, delta-seconds, q-values (RFC 3261 §20.16, §25.1).

use crate::{
    Malformed, Method,
    text::{self, TOKEN},
};

/// A CSeq value (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2³¹ (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method beside it.
    pub method: Method<'a>,
}

/// A q-value in thousandths, 0 to 1000 (RFC 3261 §25.1 `qvalue`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Q(pub u16);

impl Q {
    /// Highest preference, and what an absent q means to most (RFC 3261 §10.3 leaves it to local policy).
    pub const ONE: Q = Q(1000);

    /// Reads `0`, `0.5`, `1.000`; more than three decimals, more than one, and anything else is none.
    pub fn parse(text: &[u8]) -> Option<Q> {
        let (whole, decimals) = match text {
            [whole @ (b'0' | b'1')] => (whole, &b""[..]),
            [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
            _ => return None,
        };
        if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut thousandths = u16::from(whole - b'0');
        for place in 0..3 {
            thousandths = thousandths * 10 + decimals.get(place).map_or(0, |digit| u16::from(digit - b'0'));
        }
        (thousandths <= 1000).then_some(Q(thousandths))
    }

    /// Appends it as `0.7`, `1`: no needless zeros.
    pub fn write(self, out: &mut Vec<u8>) {
        let thousandths = self.0.min(1000);
        out.push(b'0' + (thousandths / 1000) as u8);
        let mut rest = thousandths % 1000;
        if rest > 0 {
            out.push(b'.');
        }
        while rest > 0 {
            out.push(b'0' + (rest / 100) as u8);
            rest = rest % 100 * 10;
        }
    }
}

impl<'a> CSeq<'a> {
    /// Reads a CSeq value.
    ///
    /// # Errors
    /// [`Malformed`] when the number is not decimal or not below 2³¹, or the method is no token.
    pub fn parse(text: &'a [u8]) -> Result<CSeq<'a>, Malformed> {
        let malformed = |offset| Malformed::new("CSeq", offset);
        let mut number: u32 = 0;
        let mut digits_end = 0;
        while let Some(digit) = text
            .get(digits_end)
            .map(|byte| byte.wrapping_sub(b'0'))
            .filter(|digit| *digit < 10)
        {
            number = number
                .checked_mul(10)
                .and_then(|number| number.checked_add(digit.into()))
                .ok_or(malformed(0))?;
            digits_end += 1;
        }
        if digits_end == 0 || number >= 1 << 31 {
            return Err(malformed(0));
        }
        let method_start = text::skip_lws(text, digits_end);
        let method = &text[method_start..];
        if method_start == digits_end || method.is_empty() || !text::all(method, TOKEN) {
            return Err(malformed(method_start));
        }
        Ok(CSeq {
            number,
            method: Method::from_bytes(method),
        })
    }
}

/// Reads a decimal number that fills the whole text; none when it does not, or does not fit. Leading zeros are allowed.
#[inline]
pub fn parse_u32(text: &[u8]) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut value: u32 = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(digit.into())?;
    }
    Some(value)
}

/// Reads delta-seconds: a number too large counts as 2³²−1 (RFC 3261 §20.19); none if it is no number.
pub(crate) fn parse_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(parse_u32(text).unwrap_or(u32::MAX))
}

/// Reads a port number; zero is none.
#[inline]
pub(crate) fn parse_port(text: &[u8]) -> Option<u16> {
    parse_u32(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_the_text_and_fit() {
        assert_eq!(parse_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(parse_u32(b"00007"), Some(7));
        for text in ["", "4294967296", "-1", "+1", " 1", "1 ", "1a", "99999999999999999999"] {
            assert_eq!(parse_u32(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_seconds(b"1000000000000000000"), Some(u32::MAX));
        assert_eq!(parse_seconds(b"x"), None);
        assert_eq!(parse_port(b"65536"), None);
        assert_eq!(parse_port(b"0"), None);
        assert_eq!(parse_port(b"65535"), Some(65535));
    }

    #[test]
    fn q_has_three_decimals_at_most() {
        for (text, q) in [
            ("0", 0),
            ("1", 1000),
            ("1.", 1000),
            ("0.5", 500),
            ("0.05", 50),
            ("0.005", 5),
            ("1.000", 1000),
            ("0.123", 123),
        ] {
            assert_eq!(Q::parse(text.as_bytes()), Some(Q(q)), "{text}");
        }
        for text in ["", ".5", "2", "1.001", "0.1234", "0,5", "-0.1", "0.5 "] {
            assert_eq!(Q::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn q_is_written_without_needless_zeros() {
        for (q, text) in [
            (0, "0"),
            (1000, "1"),
            (500, "0.5"),
            (50, "0.05"),
            (123, "0.123"),
            (120, "0.12"),
        ] {
            let mut out = Vec::new();
            Q(q).write(&mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(Q::parse(&out), Some(Q(q)));
        }
    }

    #[test]
    fn cseq_has_a_number_below_two_to_the_31_and_a_method() {
        assert_eq!(
            CSeq::parse(b"0009\r\n  INVITE"),
            Ok(CSeq {
                number: 9,
                method: Method::Invite
            })
        );
        assert_eq!(
            CSeq::parse(b"2147483647 x"),
            Ok(CSeq {
                number: 2147483647,
                method: Method::Other(b"x")
            })
        );
        for text in [
            "",
            "1",
            "INVITE",
            "2147483648 INVITE",
            "1INVITE",
            "1 IN VITE",
            "1 INV,ITE",
            "-1 ACK",
            "36893488147419103232 REGISTER",
        ] {
            assert!(CSeq::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
