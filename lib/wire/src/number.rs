//! Numbers in header fields: CSeq, delta-seconds, q-values (RFC 3261 §20.16, §25.1).

use crate::{Malformed, Method};

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
        let _ = text;
        unimplemented!()
    }
}

impl<'a> CSeq<'a> {
    /// Reads a CSeq value.
    ///
    /// # Errors
    /// [`Malformed`] when the number is not decimal or not below 2³¹, or the method is no token.
    pub fn parse(text: &'a [u8]) -> Result<CSeq<'a>, Malformed> {
        let _ = text;
        unimplemented!()
    }
}

/// Reads a decimal number that fills the whole text; none when it does not, or does not fit.
pub fn parse_u32(text: &[u8]) -> Option<u32> {
    let _ = text;
    unimplemented!()
}
