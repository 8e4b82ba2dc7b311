//! The two marks SPS leaves in messages to know them again: the branch token in its Via and the route token in its
//! Record-Route. Both are made and checked here and nowhere else.
//!
//! A *branch token* (RFC 3261 §8.1.1.7) says which generation, worker and client transaction a response belongs to, and
//! carries the loop hash of RFC 5393 §4.2.1. A *route token* says under a MAC that a dialog was let through once, and over
//! which flows its ends were reached (RFC 5626 §5.2): without it anybody could write our Route into a request and be carried.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip128::{Hasher128, SipHasher13};
use sps_wire::flow::Flow;
use std::hash::Hasher;

/// RFC 3261 §8.1.1.7: marks a branch as unique across space and time.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// What follows the cookie in every branch token of ours.
const OUR_MARK: &[u8] = b"sps";

/// Hexadecimal digits of a token: generation 4, worker 2, slot 8, serial 8, loop hash 16.
const BRANCH_DIGITS: usize = 4 + 2 + 8 + 8 + 16;

/// Where a client transaction lives, and what its request looked like when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BranchToken {
    /// Generation of daemons that sent the request.
    pub generation: u16,
    /// Worker that owns the client transaction.
    pub worker: u8,
    /// Place in that worker's table.
    pub slot: u32,
    /// Tells successive owners of one place apart; random, so that a stranger cannot guess a living token.
    pub serial: u32,
    /// The "second part" of RFC 5393 §4.2.1.
    pub loop_hash: u64,
}

impl BranchToken {
    /// Appends the whole branch value, magic cookie included.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC_COOKIE);
        out.extend_from_slice(OUR_MARK);
        write_hex(out, u64::from(self.generation), 4);
        write_hex(out, u64::from(self.worker), 2);
        write_hex(out, u64::from(self.slot), 8);
        write_hex(out, u64::from(self.serial), 8);
        write_hex(out, self.loop_hash, 16);
    }

    /// Reads a branch value back; `None` if SPS did not write it.
    pub fn parse(branch: &[u8]) -> Option<BranchToken> {
        let digits = branch.strip_prefix(MAGIC_COOKIE)?.strip_prefix(OUR_MARK)?;
        if digits.len() != BRANCH_DIGITS {
            return None;
        }
        Some(BranchToken {
            generation: read_hex(&digits[0..4])? as u16,
            worker: read_hex(&digits[4..6])? as u8,
            slot: read_hex(&digits[6..14])? as u32,
            serial: read_hex(&digits[14..22])? as u32,
            loop_hash: read_hex(&digits[22..38])?,
        })
    }
}

/// What follows the cookie in a branch of ours that no transaction stands behind.
const STATELESS_MARK: &[u8] = b"spl";

/// Hexadecimal digits of a stateless branch: transaction key 16, loop hash 16.
const STATELESS_DIGITS: usize = 16 + 16;

/// The branch of a request that was forwarded and forgotten (RFC 3261 §16.11): the same for each repetition of the request,
/// for its CANCEL and for the ACK of a failure.
///
/// Where responses go is not in it, since a CANCEL may come by another connection than its INVITE: that stands in a
/// parameter beside it, see [`Keys::write_way_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatelessBranch {
    /// Tells the transaction from all others.
    pub key: u64,
    /// See [`BranchToken::loop_hash`].
    pub loop_hash: u64,
}

impl StatelessBranch {
    /// Appends the whole branch value, magic cookie included.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC_COOKIE);
        out.extend_from_slice(STATELESS_MARK);
        write_hex(out, self.key, 16);
        write_hex(out, self.loop_hash, 16);
    }

    /// Reads a branch value back; `None` if it is of another form.
    pub fn parse(branch: &[u8]) -> Option<StatelessBranch> {
        let digits = branch.strip_prefix(MAGIC_COOKIE)?.strip_prefix(STATELESS_MARK)?;
        if digits.len() != STATELESS_DIGITS {
            return None;
        }
        Some(StatelessBranch {
            key: read_hex(&digits[..16])?,
            loop_hash: read_hex(&digits[16..])?,
        })
    }
}

fn write_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for place in (0..digits).rev() {
        out.push(HEX[(value >> (place * 4)) as usize & 15]);
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

/// One secret of the installation. `id` travels in the clear, so that keys can be changed while old tokens live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacKey {
    /// Which key a token was made with.
    pub id: u8,
    /// The secret itself.
    pub secret: [u8; 32],
}

/// The keys in force: the first makes tokens, all of them check.
#[derive(Clone)]
pub struct Keys {
    route: Vec<(u8, Hmac<Sha256>)>,
    loops: (u64, u64),
    tags: (u64, u64),
    matching: (u64, u64),
    ways: (u64, u64),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("ids", &self.route.iter().map(|(id, _)| *id).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Derives what the proxy needs from the installation's keys. An empty list gives keys that nobody else has: tokens
    /// made with them do not outlive this process, which a caller without stored keys must want.
    pub fn new(keys: &[MacKey]) -> Keys {
        let route = keys.iter().map(|key| (key.id, keyed(&key.secret))).collect();
        let first = keys.first().map_or([0; 32], |key| key.secret);
        let pair = |label: &[u8]| {
            let digest = keyed(&first).chain_update(label).finalize().into_bytes();
            (word(&digest[0..8]), word(&digest[8..16]))
        };
        Keys {
            route,
            loops: pair(b"sps loop"),
            tags: pair(b"sps tag"),
            matching: pair(b"sps matching"),
            ways: pair(b"sps way back"),
        }
    }

    /// Takes over what transactions under way are known by; only route tokens are made and checked by the new keys.
    pub(super) fn keep_hashes_of(&mut self, keys: &Keys) {
        (self.loops, self.tags, self.matching, self.ways) = (keys.loops, keys.tags, keys.matching, keys.ways);
    }

    /// A hasher for the loop hash (RFC 5393 §4.2.1). Keyed, so that nobody can make us see a loop where there is none.
    pub(super) fn loop_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.loops.0, self.loops.1)
    }

    /// A hasher for To tags of responses made without a transaction.
    pub(super) fn tag_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.tags.0, self.tags.1)
    }

    /// A hasher for the fingerprints that server transactions are found by.
    pub(super) fn matching_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.matching.0, self.matching.1)
    }

    /// Writes the flow that responses to a forgotten request go back by: a Via parameter's value. Whoever gets the request may see
    /// it and use it for responses to that request, and for nothing else.
    pub(super) fn write_way_back(&self, flow: &Flow, branch: StatelessBranch, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(64);
        flow.write(&mut bytes);
        let mac = self.way_mac(&bytes, branch);
        bytes.extend_from_slice(&mac);
        let at = out.len();
        out.resize(at + bytes.len().div_ceil(3) * 4, 0);
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
    }

    /// The reverse; `None` if we have not written it beside this branch.
    pub(super) fn read_way_back(&self, text: &[u8], branch: StatelessBranch) -> Option<Flow> {
        let mut bytes = [0u8; 128];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (signed, mac) = bytes.get(..len)?.split_last_chunk::<WAY_MAC_LEN>()?;
        if !bool::from(subtle::ConstantTimeEq::ct_eq(
            &self.way_mac(signed, branch)[..],
            &mac[..],
        )) {
            return None;
        }
        let (flow, len) = Flow::parse(signed)?;
        (len == signed.len()).then_some(flow)
    }

    fn way_mac(&self, signed: &[u8], branch: StatelessBranch) -> [u8; WAY_MAC_LEN] {
        let mut hasher = SipHasher13::new_with_keys(self.ways.0, self.ways.1);
        hasher.write_u64(branch.key);
        hasher.write_u64(branch.loop_hash);
        feed(&mut hasher, signed);
        (finish(hasher) as u64).to_be_bytes()
    }

    /// Writes the route token of a dialog: goes as user part into our Record-Route.
    pub fn write_route_token(&self, token: &RouteToken, call_id: &[u8], tag: &[u8], out: &mut Vec<u8>) {
        let Some((id, key)) = self.route.first() else { return };
        let mut bytes = Vec::with_capacity(96);
        bytes.push(*id);
        bytes.push(u8::from(token.up.is_some()) | u8::from(token.down.is_some()) << 1);
        bytes.extend_from_slice(&token.made_s.to_be_bytes());
        for flow in [&token.up, &token.down].into_iter().flatten() {
            flow.write(&mut bytes);
        }
        let mac = route_mac(key, &bytes, call_id, tag);
        bytes.extend_from_slice(&mac);
        let at = out.len();
        out.resize(at + bytes.len().div_ceil(3) * 4, 0);
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
    }

    /// Checks the user part of a Route that points at us. `from_tag` and `to_tag` are those of the request that bears it.
    pub fn read_route_token(
        &self,
        text: &[u8],
        call_id: &[u8],
        from_tag: &[u8],
        to_tag: Option<&[u8]>,
    ) -> Option<(RouteToken, Travel)> {
        let mut bytes = [0u8; 256];
        let len = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (signed, mac) = bytes.get(..len)?.split_last_chunk::<ROUTE_MAC_LEN>()?;
        let [id, flags, made @ ..] = signed.first_chunk::<6>()?;
        let key = &self.route.iter().find(|(known, _)| known == id)?.1;
        let holds =
            |tag: &[u8]| subtle::ConstantTimeEq::ct_eq(&route_mac(key, signed, call_id, tag)[..], &mac[..]).into();
        let travel = if holds(from_tag) {
            Travel::Down
        } else if to_tag.is_some_and(holds) {
            Travel::Up
        } else {
            return None;
        };
        let mut rest = &signed[6..];
        let mut flow = |present: bool| -> Option<Option<Flow>> {
            if !present {
                return Some(None);
            }
            let (flow, len) = Flow::parse(rest)?;
            rest = rest.get(len..)?;
            Some(Some(flow))
        };
        let up = flow(flags & 1 != 0)?;
        let down = flow(flags & 2 != 0)?;
        Some((
            RouteToken {
                made_s: u32::from_be_bytes(*made),
                up,
                down,
            },
            travel,
        ))
    }
}

/// What our Record-Route remembers of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteToken {
    /// When it was made, seconds since 1970; 0 if the request was forwarded without state, where nothing may depend on time.
    pub made_s: u32,
    /// The flow on which the side that began the dialog is reached, where its Contact would not do.
    pub up: Option<Flow>,
    /// The same of the side that was called.
    pub down: Option<Flow>,
}

/// Which way a request inside a dialog travels, seen from the one that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// From the side that began the dialog.
    Down,
    /// Towards it.
    Up,
}

const ROUTE_MAC_LEN: usize = 10;

const WAY_MAC_LEN: usize = 8;

fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..secret.len()].copy_from_slice(secret);
    <Hmac<Sha256> as KeyInit>::new(&block)
}

fn route_mac(key: &Hmac<Sha256>, signed: &[u8], call_id: &[u8], tag: &[u8]) -> [u8; ROUTE_MAC_LEN] {
    let mut mac = key.clone();
    mac.update(b"route");
    mac.update(&(signed.len() as u32).to_be_bytes());
    mac.update(signed);
    mac.update(&(call_id.len() as u32).to_be_bytes());
    mac.update(call_id);
    mac.update(tag);
    let whole = mac.finalize().into_bytes();
    let mut short = [0; ROUTE_MAC_LEN];
    short.copy_from_slice(&whole[..ROUTE_MAC_LEN]);
    short
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Feeds `field` into a hash so that two neighbours cannot be mistaken for one.
pub(super) fn feed(hasher: &mut SipHasher13, field: &[u8]) {
    hasher.write(field);
    hasher.write_u8(0xff);
}

/// The 128 bits of a fingerprint hash.
pub(super) fn finish(hasher: SipHasher13) -> u128 {
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sps_wire::flow::Transport;

    fn keys() -> Keys {
        Keys::new(&[MacKey { id: 7, secret: [1; 32] }, MacKey { id: 6, secret: [2; 32] }])
    }

    fn flow() -> Flow {
        let addr = |text: &str| text.parse().expect("an address");
        Flow {
            member: 3,
            transport: Transport::Tcp,
            local: addr("127.0.0.1:5060"),
            remote: addr("[2001:db8::1]:40000"),
            connection: 99,
        }
    }

    #[test]
    fn a_branch_token_reads_back_what_was_written() {
        let token = BranchToken {
            generation: 0xbeef,
            worker: 3,
            slot: 77,
            serial: u32::MAX,
            loop_hash: 0x0123_4567_89ab_cdef,
        };
        let mut text = Vec::new();
        token.write(&mut text);
        assert!(text.starts_with(MAGIC_COOKIE));
        assert_eq!(BranchToken::parse(&text), Some(token));
    }

    #[test]
    fn a_foreign_branch_is_not_ours() {
        assert_eq!(BranchToken::parse(b"z9hG4bK776asdhds"), None);
        assert_eq!(
            BranchToken::parse(b"z9hG4bKspszzzz000000000000000000000000000000000000"),
            None
        );
        assert_eq!(BranchToken::parse(b""), None);
    }

    #[test]
    fn a_way_back_is_good_for_its_own_branch_alone() {
        let branch = StatelessBranch { key: 7, loop_hash: 9 };
        let mut text = Vec::new();
        branch.write(&mut text);
        assert_eq!(StatelessBranch::parse(&text), Some(branch));
        assert_eq!(BranchToken::parse(&text), None);
        let mut way = Vec::new();
        keys().write_way_back(&flow(), branch, &mut way);
        assert_eq!(keys().read_way_back(&way, branch), Some(flow()));
        for other in [
            StatelessBranch { key: 8, loop_hash: 9 },
            StatelessBranch { key: 7, loop_hash: 8 },
        ] {
            assert_eq!(keys().read_way_back(&way, other), None);
        }
        let strangers = Keys::new(&[MacKey { id: 7, secret: [9; 32] }]);
        assert_eq!(strangers.read_way_back(&way, branch), None);
        for at in 0..way.len() {
            let mut bent = way.clone();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            if bent != way {
                assert_eq!(keys().read_way_back(&bent, branch), None, "byte {at}");
            }
        }
        assert_eq!(keys().read_way_back(b"", branch), None);
        assert_eq!(keys().read_way_back(&[b'A'; 400], branch), None);
    }

    #[test]
    fn a_route_token_tells_the_direction_by_the_tag() {
        let token = RouteToken {
            made_s: 1_800_000_000,
            up: Some(flow()),
            down: None,
        };
        let mut text = Vec::new();
        keys().write_route_token(&token, b"call-1", b"caller", &mut text);
        assert_eq!(
            keys().read_route_token(&text, b"call-1", b"caller", Some(b"callee")),
            Some((token, Travel::Down))
        );
        assert_eq!(
            keys().read_route_token(&text, b"call-1", b"callee", Some(b"caller")),
            Some((token, Travel::Up))
        );
    }

    #[test]
    fn a_route_token_of_another_call_key_or_content_is_refused() {
        let token = RouteToken {
            made_s: 5,
            up: None,
            down: Some(flow()),
        };
        let mut text = Vec::new();
        keys().write_route_token(&token, b"call-1", b"caller", &mut text);
        assert_eq!(keys().read_route_token(&text, b"call-2", b"caller", None), None);
        assert_eq!(
            keys().read_route_token(&text, b"call-1", b"other", Some(b"third")),
            None
        );
        let strangers = Keys::new(&[MacKey { id: 7, secret: [9; 32] }]);
        assert_eq!(strangers.read_route_token(&text, b"call-1", b"caller", None), None);
        for at in 0..text.len() {
            let mut bent = text.clone();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            if bent != text {
                assert_eq!(
                    keys().read_route_token(&bent, b"call-1", b"caller", None),
                    None,
                    "byte {at}"
                );
            }
        }
        assert_eq!(keys().read_route_token(b"", b"call-1", b"caller", None), None);
    }

    #[test]
    fn an_older_key_still_checks() {
        let token = RouteToken {
            made_s: 5,
            up: None,
            down: None,
        };
        let old = Keys::new(&[MacKey { id: 6, secret: [2; 32] }]);
        let mut text = Vec::new();
        old.write_route_token(&token, b"c", b"t", &mut text);
        assert!(keys().read_route_token(&text, b"c", b"t", None).is_some());
    }
}
