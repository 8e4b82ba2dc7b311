//! How a record lies in the file, written by [`write`] and read in place by [`crate::RecordView`].
//!
//! ```text
//! format 1, flags 1, member 2, next expiry 8 (all ones: never), counter 8, time 8, rules hash 8,
//! To URI unless it is the key, number of bindings, bindings
//! binding: length, flags 2, contact, Call-ID, CSeq, then what the flags say is there
//! ```
//! Fixed numbers are little-endian; other numbers and the lengths of bytes take 7 bits to the byte, lowest first.

use crate::{AorRecord, Binding, Expiry, Kind};
use sps_wire::Handling;
use std::net::{IpAddr, SocketAddr};

pub(crate) const FORMAT: u8 = 1;
pub(crate) const NEVER: u64 = u64::MAX;

/// Record flag: the To URI is the key itself.
pub(crate) const TO_IS_AOR: u8 = 1;

/// What a binding has; the rest is as a plain one.
pub(crate) mod has {
    pub const EXPIRY: u16 = 1;
    pub const STATIC: u16 = 1 << 1;
    pub const Q: u16 = 1 << 2;
    pub const PATH: u16 = 1 << 3;
    pub const INSTANCE_ID: u16 = 1 << 4;
    pub const REG_ID: u16 = 1 << 5;
    pub const FLOW: u16 = 1 << 6;
    /// `received` is the flow's remote end, as it nearly always is.
    pub const RECEIVED_IS_REMOTE: u16 = 1 << 7;
    pub const RECEIVED: u16 = 1 << 8;
    pub const USER_AGENT: u16 = 1 << 9;
    pub const TO_BE_PROXIED: u16 = 1 << 10;
    pub const TO_BE_REDIRECTED: u16 = 1 << 11;
}

/// Preference of a binding that states none.
pub(crate) const PLAIN_Q: u16 = 1000;

/// Appends the record, without its key.
pub(crate) fn write(record: &AorRecord, out: &mut Vec<u8>) {
    let to_is_aor = record.to_uri == record.aor;
    out.push(FORMAT);
    out.push(if to_is_aor { TO_IS_AOR } else { 0 });
    out.extend_from_slice(&record.version.member.to_le_bytes());
    for word in [
        next_expiry(record).unwrap_or(NEVER),
        record.version.counter,
        record.version.time,
        record.rules_hash,
    ] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    if !to_is_aor {
        write_bytes(&record.to_uri, out);
    }
    write_number(record.bindings.len() as u64, out);
    let mut body = Vec::with_capacity(512);
    for binding in &record.bindings {
        body.clear();
        write_binding(binding, &mut body);
        write_bytes(&body, out);
    }
}

/// The earliest end of a binding.
pub(crate) fn next_expiry(record: &AorRecord) -> Option<u64> {
    let end = |binding: &Binding| match binding.expires {
        Expiry::At(at) => Some(at.min(NEVER - 1)),
        Expiry::Permanent => None,
    };
    record.bindings.iter().filter_map(end).min()
}

fn write_binding(binding: &Binding, out: &mut Vec<u8>) {
    let received_is_remote = binding.received.is_some() && binding.received == binding.flow.map(|flow| flow.remote);
    let flag = |is_there: bool, flag: u16| if is_there { flag } else { 0 };
    let flags = flag(matches!(binding.expires, Expiry::At(_)), has::EXPIRY)
        | flag(binding.kind == Kind::Static, has::STATIC)
        | flag(binding.q != PLAIN_Q, has::Q)
        | flag(!binding.path.is_empty(), has::PATH)
        | flag(binding.instance_id.is_some(), has::INSTANCE_ID)
        | flag(binding.reg_id.is_some(), has::REG_ID)
        | flag(binding.flow.is_some(), has::FLOW)
        | flag(received_is_remote, has::RECEIVED_IS_REMOTE)
        | flag(binding.received.is_some() && !received_is_remote, has::RECEIVED)
        | flag(binding.user_agent.is_some(), has::USER_AGENT)
        | flag(binding.handling == Some(Handling::Proxy), has::TO_BE_PROXIED)
        | flag(binding.handling == Some(Handling::Redirect), has::TO_BE_REDIRECTED);
    out.extend_from_slice(&flags.to_le_bytes());
    write_bytes(&binding.contact, out);
    write_bytes(&binding.call_id, out);
    write_number(u64::from(binding.cseq), out);
    if let Expiry::At(at) = binding.expires {
        write_number(at, out);
    }
    if flags & has::Q != 0 {
        out.extend_from_slice(&binding.q.to_le_bytes());
    }
    if let Some(instance_id) = &binding.instance_id {
        write_bytes(instance_id, out);
    }
    if let Some(reg_id) = binding.reg_id {
        write_number(u64::from(reg_id), out);
    }
    if let Some(flow) = &binding.flow {
        flow.write(out);
    }
    if let Some(received) = binding.received.filter(|_| !received_is_remote) {
        write_addr(received, out);
    }
    if let Some(user_agent) = &binding.user_agent {
        write_bytes(user_agent, out);
    }
    if !binding.path.is_empty() {
        // To the end of the binding.
        binding.path.iter().for_each(|value| write_bytes(value, out));
    }
}

fn write_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn write_addr(addr: SocketAddr, out: &mut Vec<u8>) {
    match addr.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&addr.port().to_le_bytes());
}

/// What is left to be read; every method takes from its beginning, or gives `None` if it is too short or wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    #[inline]
    pub fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    #[inline]
    pub fn word(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    #[inline]
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn addr(&mut self) -> Option<SocketAddr> {
        let ip: IpAddr = match self.fixed()? {
            [4] => self.fixed::<4>()?.into(),
            [6] => self.fixed::<16>()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_le_bytes(self.fixed()?)))
    }

    /// `bytes` if `is_there`; `None` outside means malformed.
    #[inline]
    pub fn optional<T>(&mut self, is_there: bool, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if is_there { take(self).map(Some) } else { Some(None) }
    }
}
