//! Via (RFC 3261 §20.42, RFC 3581).

use crate::{Host, Malformed, Params, Value, Values};
use std::ops::Range;

/// One Via value.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    value: Value<'a>,
    /// The transport as received, such as `UDP`; any token.
    pub transport: &'a [u8],
    /// Sent-by host.
    pub host: Host<'a>,
    /// Sent-by port, if given.
    pub port: Option<u16>,
    /// All parameters.
    pub params: Params<'a>,
    branch: Option<&'a [u8]>,
    received: Option<&'a [u8]>,
    rport: Option<Option<u16>>,
}

impl<'a> Via<'a> {
    /// Reads one Via value that stands alone.
    ///
    /// # Errors
    /// [`Malformed`] when it is not `SIP/2.0/transport sent-by *(;param)`.
    pub fn parse(text: &'a [u8]) -> Result<Via<'a>, Malformed> {
        let _ = text;
        unimplemented!()
    }

    /// The branch parameter (§8.1.1.7); none if absent or empty.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.branch
    }

    /// The received parameter (§18.2.1).
    pub fn received(&self) -> Option<&'a [u8]> {
        self.received
    }

    /// The rport parameter (RFC 3581): `Some(None)` asks for one, `Some(Some(port))` is filled in.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.rport
    }

    /// Place of the value in the message.
    pub fn range(&self) -> Range<usize> {
        self.value.range()
    }

    /// The value with its header, for [`Value::removal_range`].
    pub fn value(&self) -> Value<'a> {
        self.value
    }
}

/// Iterator over all Via values from the top.
#[derive(Clone, Debug)]
pub struct Vias<'a> {
    values: Values<'a>,
}

impl<'a> Iterator for Vias<'a> {
    type Item = Result<Via<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = &self.values;
        unimplemented!()
    }
}
