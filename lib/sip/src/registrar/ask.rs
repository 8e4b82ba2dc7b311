//! What a REGISTER asks: steps 1, 2, 5 and the reading half of 6 and 7 of RFC 3261 §10.3.

use smallvec::SmallVec;
use sps_wire::uri::Scheme;
use sps_wire::{Contacts, Flow, Handling, Message, Method, Name, NameAddr, Q, Uri, eq_ignore_case, parse_u32};

use super::{Conf, Path, Refusal, With, leads_to};

/// A REGISTER whose form is in order.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The request.
    pub message: Message<'a>,
    /// The URI of To as received.
    pub to_uri: &'a [u8],
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// Its CSeq number.
    pub cseq: u32,
    /// What it wants.
    pub wishes: Wishes<'a>,
    /// Its Path, top first.
    pub path: Path<'a>,
    /// Its User-Agent, cut to [`MAX_USER_AGENT_LEN`].
    pub user_agent: Option<&'a [u8]>,
}

/// What a REGISTER wants done to the bindings.
#[derive(Debug, Clone)]
// One lives at a time, on the stack: boxing the list would cost each REGISTER an allocation.
#[allow(clippy::large_enum_variant)]
pub enum Wishes<'a> {
    /// To see them (no Contact).
    Query,
    /// To have all removed (`Contact: *`).
    Clear,
    /// To have these bound, or removed, in order.
    Contacts(SmallVec<[Wish<'a>; 2]>),
}

/// One Contact value.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The contact.
    pub contact: Uri<'a>,
    /// Preference; the highest if none is given.
    pub q: Q,
    /// Seconds that are granted; 0 removes.
    pub expires_s: u32,
    /// The value of `+sip.instance`.
    pub instance_id: Option<&'a [u8]>,
    /// `reg-id`.
    pub reg_id: Option<u32>,
    /// The `action` parameter.
    pub handling: Option<Handling>,
    /// The flow to reach it by.
    pub flow: Option<Flow>,
}

/// Option tags that may stand in Require.
const SUPPORTED: &[&[u8]] = &[b"path"];

/// A wish that cannot be read counts as this (§10.2.1.1).
const MALFORMED_EXPIRES_S: u32 = 3_600;

/// §10.3 step 7: only wishes below an hour may be called too brief.
const BRIEF_S: u32 = 3_600;

/// More Path values than this are taken for a loop of proxies.
const MAX_PATH: usize = 16;

/// What is kept of a User-Agent, in bytes.
pub const MAX_USER_AGENT_LEN: usize = 128;

impl<'a> Asked<'a> {
    /// Reads a REGISTER that came by `flow`. `aor` appends the key of a URI's AOR to a buffer, or says that the URI is not in
    /// a domain of ours; the key is appended to `key`.
    ///
    /// # Errors
    /// The response to give instead: 400, 403, 404, 405, 416, 420 or 423.
    pub fn read(
        message: Message<'a>,
        flow: &Flow,
        conf: &Conf,
        aor: impl FnOnce(&Uri<'_>, &mut Vec<u8>) -> bool,
        key: &mut Vec<u8>,
    ) -> Result<Asked<'a>, Refusal> {
        if message.method() != Some(Method::Register) {
            return Err(Refusal {
                status: 405,
                reason: "Method Not Allowed",
                with: With::Allow,
            });
        }
        check_request_uri(message)?;
        check_extensions(message, conf)?;
        let to_uri = message.to().map_err(|_| Refusal::new(400, "Malformed To"))?.uri;
        let uri = Uri::parse(to_uri).map_err(|_| Refusal::new(400, "Malformed To"))?;
        if !uri.is_sip() {
            // §10.2: the address of record is a SIP or SIPS URI. (416 would speak of the Request-URI.)
            return Err(Refusal::new(400, "To Is Not a SIP URI"));
        }
        if !aor(&uri, key) {
            return Err(Refusal::new(404, "Not Found"));
        }
        let cseq = message.cseq().map_err(|_| Refusal::new(400, "Malformed CSeq"))?.number;
        let wishes = read_wishes(message, flow, conf)?;
        let path = read_path(message)?;
        check_sips(message, &wishes, &path)?;
        Ok(Asked {
            message,
            to_uri,
            call_id: message.call_id(),
            cseq,
            wishes,
            path,
            user_agent: message.first(Name::UserAgent).map(|header| {
                let text = header.value();
                &text[..text.len().min(MAX_USER_AGENT_LEN)]
            }),
        })
    }
}

/// Step 1, §8.2.2.1. Whether its domain is ours the proxy has decided already.
fn check_request_uri(message: Message<'_>) -> Result<(), Refusal> {
    let malformed = Refusal::new(400, "Malformed Request-URI");
    match message.request_uri().map(Uri::parse) {
        Some(Ok(uri)) if uri.is_sip() => Ok(()),
        Some(Ok(_)) => Err(Refusal::new(416, "Unsupported URI Scheme")),
        Some(Err(_)) | None => Err(malformed),
    }
}

/// RFC 5630 §5.2: a SIPS contact is bound only where the Request-URI and every Path are SIPS too; else something secure would hang
/// from a way that is not.
fn check_sips(message: Message<'_>, wishes: &Wishes<'_>, path: &Path<'_>) -> Result<(), Refusal> {
    let Wishes::Contacts(contacts) = wishes else {
        return Ok(());
    };
    let is_sips = |uri: &[u8]| Uri::parse(uri).is_ok_and(|uri| uri.scheme == Scheme::Sips);
    let binds = contacts
        .iter()
        .any(|wish| wish.expires_s > 0 && wish.contact.scheme == Scheme::Sips);
    let throughout = || {
        message.request_uri().is_some_and(is_sips)
            && path
                .iter()
                .all(|value| NameAddr::parse(value).is_ok_and(|address| is_sips(address.uri)))
    };
    if binds && !throughout() {
        return Err(Refusal::new(400, "SIPS Contact Needs SIPS Throughout"));
    }
    Ok(())
}

/// Step 2, §8.2.2.3; RFC 3327 §5.3.
fn check_extensions(message: Message<'_>, conf: &Conf) -> Result<(), Refusal> {
    let mut unsupported = Vec::new();
    let mut add = |tag: &[u8]| {
        unsupported.extend_from_slice(if unsupported.is_empty() { b"" } else { b", " });
        unsupported.extend_from_slice(tag);
    };
    message
        .option_tags(Name::Require)
        .filter(|tag| !SUPPORTED.iter().any(|known| eq_ignore_case(known, tag)))
        .for_each(&mut add);
    if !conf.path_without_support
        && message.has(Name::Path)
        && !message
            .option_tags(Name::Supported)
            .any(|tag| eq_ignore_case(tag, b"path"))
    {
        add(b"path");
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Refusal {
        status: 420,
        reason: "Bad Extension",
        with: With::Unsupported(unsupported),
    })
}

fn read_path(message: Message<'_>) -> Result<Path<'_>, Refusal> {
    let mut path = Path::new();
    for value in message.paths() {
        let value = value.map_err(|_| Refusal::new(400, "Malformed Path"))?;
        if path.len() == MAX_PATH {
            return Err(Refusal::new(400, "Too Many Path Values"));
        }
        path.push(value.text());
    }
    Ok(path)
}

fn read_wishes<'a>(message: Message<'a>, flow: &Flow, conf: &Conf) -> Result<Wishes<'a>, Refusal> {
    let common = match message.expires() {
        Ok(seconds) => seconds,
        Err(_) => Some(MALFORMED_EXPIRES_S),
    };
    let list = match message
        .contacts()
        .map_err(|_| Refusal::new(400, "Contact * Beside Others"))?
    {
        Contacts::Star if common == Some(0) => return Ok(Wishes::Clear),
        Contacts::Star => return Err(Refusal::new(400, "Contact * Without Expires 0")),
        Contacts::List(list) => list,
    };
    let mut wishes = SmallVec::new();
    for contact in list {
        let contact = contact.map_err(|_| Refusal::new(400, "Malformed Contact"))?;
        if wishes.len() >= most_wishes(conf) {
            return Err(super::decide::too_many_contacts());
        }
        let uri = contact
            .parse_uri()
            .map_err(|_| Refusal::new(400, "Malformed Contact"))?;
        let q = contact
            .q()
            .map_err(|_| Refusal::new(400, "Malformed q"))?
            .unwrap_or(Q::ONE);
        let wanted_s = contact.expires().or(common).unwrap_or(conf.default_expires_s);
        wishes.push(Wish {
            contact: uri,
            q,
            expires_s: granted_s(wanted_s, conf)?,
            instance_id: contact.params.get(b"+sip.instance").flatten(),
            reg_id: contact.params.get(b"reg-id").flatten().and_then(parse_u32),
            handling: contact.handling(),
            flow: leads_to(message, &uri, flow).then_some(*flow),
        });
    }
    Ok(if wishes.is_empty() {
        Wishes::Query
    } else {
        Wishes::Contacts(wishes)
    })
}

/// What keeps the comparison of contacts, each with each, from becoming expensive: all there may be removed and as many bound.
fn most_wishes(conf: &Conf) -> usize {
    conf.max_contacts.saturating_mul(2)
}

fn granted_s(wanted_s: u32, conf: &Conf) -> Result<u32, Refusal> {
    if wanted_s > 0 && wanted_s < conf.min_expires_s && wanted_s < BRIEF_S {
        let with = With::MinExpires(conf.min_expires_s.min(BRIEF_S));
        return Err(Refusal {
            status: 423,
            reason: "Interval Too Brief",
            with,
        });
    }
    Ok(wanted_s.min(conf.max_expires_s))
}
