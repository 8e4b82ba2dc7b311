//! The checks a request passes before anything is done with it (RFC 3261 §16.3), each a small function of the message.

use sps_wire::uri::{Scheme, Uri};
use sps_wire::{Message, Method, Name};

use super::conf::Conf;
use super::sent_by::SentBy;
use super::token::{BranchToken, MAGIC_COOKIE, StatelessBranch, feed, finish};

/// Why a request is refused: what the response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub reason: Option<&'static str>,
    /// A header of the response, name and value.
    pub header: Option<(&'static str, Vec<u8>)>,
}

impl Refusal {
    pub fn new(status: u16, reason: &'static str) -> Refusal {
        Refusal {
            status,
            reason: Some(reason),
            header: None,
        }
    }

    pub fn plain(status: u16) -> Refusal {
        Refusal {
            status,
            reason: None,
            header: None,
        }
    }
}

/// What every request must stand, whoever answers it: §16.3 steps 1 and 2, which are also those of §8.2.2.
pub(super) fn check(message: Message<'_>) -> Result<(), Refusal> {
    reasonable_syntax(message)?;
    uri_scheme(message)
}

/// What a request must stand that is to be forwarded: §16.3 steps 3 to 5. Step 6 (Proxy-Authorization) is a stage of routing.
pub(super) fn check_onward(conf: &Conf, message: Message<'_>, sent_by: &SentBy, loop_hash: u64) -> Result<(), Refusal> {
    max_forwards(message)?;
    loop_detection(conf, message, sent_by, loop_hash)?;
    proxy_require(message)
}

/// §16.3 step 1: only what a proxy acts upon needs to be well-formed.
fn reasonable_syntax(message: Message<'_>) -> Result<(), Refusal> {
    message.from().map_err(|_| Refusal::new(400, "Malformed From"))?;
    message.to().map_err(|_| Refusal::new(400, "Malformed To"))?;
    if message.has(Name::Route) && message.routes().any(|route| route.is_err()) {
        return Err(Refusal::new(400, "Malformed Route"));
    }
    Ok(())
}

/// §16.3 step 2: a scheme we can neither resolve nor translate.
fn uri_scheme(message: Message<'_>) -> Result<(), Refusal> {
    let uri = message.request_uri().unwrap_or_default();
    match Uri::parse(uri) {
        Ok(Uri {
            scheme: Scheme::Other(_),
            ..
        }) => Err(Refusal::plain(416)),
        // A `?` part may not stand in a Request-URI (§19.1.1 table 1), but peers that send one are understood. It goes no
        // further (RFC 4475 §3.1.2.11).
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(400, "Malformed Request-URI")),
    }
}

/// What the checks of §16.3 leave to who knows where the request goes: whether we answer it ourselves, or it is to be forwarded.
pub(super) fn check_as_server(message: Message<'_>, is_answered: bool, is_forwarded: bool) -> Result<(), Refusal> {
    if is_answered {
        return require(message);
    }
    if is_forwarded && message.max_forwards() == Ok(Some(0)) {
        return Err(Refusal::plain(483));
    }
    Ok(())
}

/// §16.3 step 3. OPTIONS may be for us, and a REGISTER may have come to its registrar: what is forwarded is refused later. The RFC
/// would let us answer OPTIONS for others as well; RFC 4475 §3.3.11 wants 483, which tells more to who traces a path.
fn max_forwards(message: Message<'_>) -> Result<(), Refusal> {
    match message.max_forwards() {
        Ok(Some(0)) if !matches!(message.method(), Some(Method::Options | Method::Register)) => {
            Err(Refusal::plain(483))
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::new(400, "Malformed Max-Forwards")),
    }
}

/// §16.3 step 4 as RFC 5393 §4.2.2 has it: a Via of ours, by its sent-by, whose loop hash is that of this request. (Another
/// member of a farm makes the same hash by the same keys: what came from it has not looped.)
fn loop_detection(conf: &Conf, message: Message<'_>, sent_by: &SentBy, loop_hash: u64) -> Result<(), Refusal> {
    for via in message.vias() {
        // RFC 5393 §4.2.4: another element's Via need not please us.
        let Ok(via) = via else { continue };
        let Some(branch) = via.branch() else { continue };
        let same = match BranchToken::parse(branch) {
            Some(token) => token.loop_hash == loop_hash,
            None => StatelessBranch::parse(branch)
                .is_some_and(|token| token.loop_hash == stateless_loop_hash(conf, message)),
        };
        if same && sent_by.is_ours(&via) {
            return Err(Refusal::plain(482));
        }
    }
    Ok(())
}

/// §16.3 step 5: SPS has no extension that a client could demand of a proxy.
fn proxy_require(message: Message<'_>) -> Result<(), Refusal> {
    // §8.2.2.3: in a CANCEL it has no meaning.
    if message.method() == Some(Method::Cancel) {
        return Ok(());
    }
    only_known_extensions(message, Name::ProxyRequire, &[])
}

/// §8.2.2.3, for what we answer ourselves: the extension that our Supported tells of, and no other.
fn require(message: Message<'_>) -> Result<(), Refusal> {
    only_known_extensions(message, Name::Require, &[b"path"])
}

fn only_known_extensions(message: Message<'_>, name: Name, known: &[&[u8]]) -> Result<(), Refusal> {
    if !message.has(name) {
        return Ok(());
    }
    let mut unsupported = Vec::new();
    let is_known = |tag: &[u8]| known.iter().any(|known| known.eq_ignore_ascii_case(tag));
    for tag in message.option_tags(name).filter(|tag| !is_known(tag)) {
        if !unsupported.is_empty() {
            unsupported.extend_from_slice(b", ");
        }
        unsupported.extend_from_slice(tag);
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        status: 420,
        reason: None,
        header: Some(("Unsupported", unsupported)),
    })
}

/// The second part of our branch token (RFC 5393 §4.2.1): all that routing decides by, and what tells transactions apart.
///
/// Not the method, which CANCEL and ACK change; nor Via and Max-Forwards, which change at each hop of a loop.
pub(super) fn loop_hash(conf: &Conf, message: Message<'_>) -> u64 {
    let mut hasher = conf.keys.loop_hasher();
    feed(&mut hasher, message.request_uri().unwrap_or_default());
    feed(&mut hasher, message.call_id());
    if let Ok(from) = message.from() {
        feed(&mut hasher, from.tag().unwrap_or_default());
    }
    if let Ok(to) = message.to() {
        feed(&mut hasher, to.tag().unwrap_or_default());
    }
    if let Ok(cseq) = message.cseq() {
        feed(&mut hasher, &cseq.number.to_be_bytes());
    }
    for name in [Name::Route, Name::ProxyRequire, Name::ProxyAuthorization] {
        if message.has(name) {
            for header in message.all(name) {
                feed(&mut hasher, header.value());
            }
        }
    }
    finish(hasher) as u64
}

/// The loop hash of a request that is forwarded without state. INVITE, CANCEL and the ACK of a failure must leave with one branch
/// (§16.11), so that it knows neither the To tag, which only the ACK has, nor Proxy-Require and Proxy-Authorization, which
/// only the INVITE may have (§8.2.2.3, §22.1).
pub(super) fn stateless_loop_hash(conf: &Conf, message: Message<'_>) -> u64 {
    let mut hasher = conf.keys.loop_hasher();
    feed(&mut hasher, b"stateless");
    feed(&mut hasher, message.request_uri().unwrap_or_default());
    feed(&mut hasher, message.call_id());
    if let Ok(from) = message.from() {
        feed(&mut hasher, from.tag().unwrap_or_default());
    }
    if let Ok(cseq) = message.cseq() {
        feed(&mut hasher, &cseq.number.to_be_bytes());
    }
    for header in message.all(Name::Route) {
        feed(&mut hasher, header.value());
    }
    finish(hasher) as u64
}

/// What tells one transaction from all others when nothing is kept of it (§16.11): the top Via's branch and sent-by, which a
/// CANCEL and the ACK of a failure share with their INVITE. Of an RFC 2543 peer, whose branch says nothing: the whole Via, the
/// From tag, Call-ID, CSeq number and Request-URI.
///
/// Departs from the recipe of §16.11: the To tag is left out, for the ACK of a failure has one and its INVITE had none.
pub(super) fn transaction_key(conf: &Conf, message: Message<'_>) -> u64 {
    by_via_or(conf, message, b"", || Some(b"")).unwrap_or_default() as u64
}

/// What a server transaction is found by (§17.2.3): branch, sent-by and method, where ACK and CANCEL count as the INVITE or
/// request they refer to. Without the magic cookie (RFC 2543 peers) what the older rules compare.
pub(super) fn fingerprint(conf: &Conf, message: Message<'_>, method: &[u8]) -> Option<u128> {
    let to_tag = || message.to().ok().map(|to| to.tag().unwrap_or_default());
    by_via_or(conf, message, method, to_tag)
}

fn by_via_or<'a>(
    conf: &Conf,
    message: Message<'a>,
    method: &[u8],
    to_tag: impl FnOnce() -> Option<&'a [u8]>,
) -> Option<u128> {
    let via = message.top_via().ok()?;
    match via.branch().filter(|branch| has_magic_cookie(branch)) {
        Some(branch) => {
            let mut hasher = conf.keys.matching_hasher();
            feed(&mut hasher, branch);
            feed_host(&mut hasher, &via);
            feed(&mut hasher, method);
            Some(finish(hasher))
        }
        None => older_fingerprint(conf, message, method, to_tag()?),
    }
}

/// What the ACK of an RFC 2543 peer is found by that acknowledges the answer to an INVITE without a To tag: the ACK has the
/// tag of the answer. `None` if the message is of no such peer.
pub(super) fn older_ack_fingerprint(conf: &Conf, message: Message<'_>) -> Option<u128> {
    let branch = message.top_via().ok()?.branch();
    if branch.is_some_and(has_magic_cookie) {
        return None;
    }
    older_fingerprint(conf, message, b"INVITE", b"")
}

fn older_fingerprint(conf: &Conf, message: Message<'_>, method: &[u8], to_tag: &[u8]) -> Option<u128> {
    let mut hasher = conf.keys.matching_hasher();
    feed(&mut hasher, message.request_uri().unwrap_or_default());
    feed(&mut hasher, message.from().ok()?.tag().unwrap_or_default());
    feed(&mut hasher, to_tag);
    feed(&mut hasher, message.call_id());
    feed(&mut hasher, &message.cseq().ok()?.number.to_be_bytes());
    feed(&mut hasher, message.top_via().ok()?.value().text());
    feed(&mut hasher, method);
    Some(finish(hasher))
}

/// §8.1.1.7: seven characters, compared without case as all of a branch is. With nothing behind them they name no transaction,
/// and the older rules are the better ones (RFC 4475 §3.2.1).
fn has_magic_cookie(branch: &[u8]) -> bool {
    branch
        .split_at_checked(MAGIC_COOKIE.len())
        .is_some_and(|(start, rest)| start.eq_ignore_ascii_case(MAGIC_COOKIE) && !rest.is_empty())
}

fn feed_host(hasher: &mut siphasher::sip128::SipHasher13, via: &sps_wire::Via<'_>) {
    match via.host {
        sps_wire::uri::Host::Name(name) => name
            .iter()
            .for_each(|byte| std::hash::Hasher::write_u8(hasher, byte.to_ascii_lowercase())),
        sps_wire::uri::Host::V4(ip) => feed(hasher, &ip.octets()),
        sps_wire::uri::Host::V6(ip) => feed(hasher, &ip.octets()),
    }
    feed(hasher, &via.port.unwrap_or(0).to_be_bytes());
}

/// The To tag of a response made without a transaction: an ACK that bears it is for us, and is absorbed.
pub(super) fn stateless_tag(conf: &Conf, message: Message<'_>) -> [u8; 16] {
    let mut hasher = conf.keys.tag_hasher();
    feed(&mut hasher, message.call_id());
    if let Ok(from) = message.from() {
        feed(&mut hasher, from.tag().unwrap_or_default());
    }
    if let Ok(cseq) = message.cseq() {
        feed(&mut hasher, &cseq.number.to_be_bytes());
    }
    let mut tag = [0; 16];
    let hash = finish(hasher) as u64;
    for (at, digit) in tag.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(hash >> (at * 4)) as usize & 15];
    }
    tag
}
