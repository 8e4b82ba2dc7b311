//! Header names: one byte each, compact forms and odd cases included (RFC 3261 §7.3.3, §20).

/// Calls a macro with every known header: variant, spelling, compact form.
macro_rules! names {
    ($(($variant:ident, $text:literal, $compact:literal),)*) => {
        /// A header's name. [`Name::Other`] is any that this crate has no word for; see [`crate::Message::named`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        #[non_exhaustive]
        pub enum Name {
            $($variant,)*
            Other,
        }

        const KNOWN: &[(Name, &str, u8)] = &[$((Name::$variant, $text, $compact),)*];

        impl Name {
            /// The header's usual spelling in full; empty for [`Name::Other`].
            pub const fn text(self) -> &'static str {
                match self {
                    $(Name::$variant => $text,)*
                    Name::Other => "",
                }
            }
        }
    };
}

names! {
    (Via, "Via", b'v'),
    (From, "From", b'f'),
    (To, "To", b't'),
    (CallId, "Call-ID", b'i'),
    (CSeq, "CSeq", 0),
    (MaxForwards, "Max-Forwards", 0),
    (Contact, "Contact", b'm'),
    (Route, "Route", 0),
    (RecordRoute, "Record-Route", 0),
    (ContentLength, "Content-Length", b'l'),
    (ContentType, "Content-Type", b'c'),
    (Path, "Path", 0),
    (ServiceRoute, "Service-Route", 0),
    (Expires, "Expires", 0),
    (MinExpires, "Min-Expires", 0),
    (Require, "Require", 0),
    (ProxyRequire, "Proxy-Require", 0),
    (Supported, "Supported", b'k'),
    (Unsupported, "Unsupported", 0),
    (Allow, "Allow", 0),
    (Authorization, "Authorization", 0),
    (ProxyAuthorization, "Proxy-Authorization", 0),
    (WwwAuthenticate, "WWW-Authenticate", 0),
    (ProxyAuthenticate, "Proxy-Authenticate", 0),
    (AuthenticationInfo, "Authentication-Info", 0),
    (ProxyAuthenticationInfo, "Proxy-Authentication-Info", 0),
    (UserAgent, "User-Agent", 0),
    (Server, "Server", 0),
    (Date, "Date", 0),
    (Timestamp, "Timestamp", 0),
    (RetryAfter, "Retry-After", 0),
    (Warning, "Warning", 0),
    (Subject, "Subject", b's'),
    (Accept, "Accept", 0),
    (AcceptEncoding, "Accept-Encoding", 0),
    (AcceptLanguage, "Accept-Language", 0),
    (AcceptContact, "Accept-Contact", b'a'),
    (RejectContact, "Reject-Contact", b'j'),
    (RequestDisposition, "Request-Disposition", b'd'),
    (AlertInfo, "Alert-Info", 0),
    (CallInfo, "Call-Info", 0),
    (ErrorInfo, "Error-Info", 0),
    (ContentDisposition, "Content-Disposition", 0),
    (ContentEncoding, "Content-Encoding", b'e'),
    (ContentLanguage, "Content-Language", 0),
    (MimeVersion, "MIME-Version", 0),
    (InReplyTo, "In-Reply-To", 0),
    (Organization, "Organization", 0),
    (Priority, "Priority", 0),
    (ReplyTo, "Reply-To", 0),
    (Event, "Event", b'o'),
    (AllowEvents, "Allow-Events", b'u'),
    (SubscriptionState, "Subscription-State", 0),
    (ReferTo, "Refer-To", b'r'),
    (ReferredBy, "Referred-By", b'b'),
    (Replaces, "Replaces", 0),
    (Join, "Join", 0),
    (RSeq, "RSeq", 0),
    (RAck, "RAck", 0),
    (SessionExpires, "Session-Expires", b'x'),
    (MinSe, "Min-SE", 0),
    (Reason, "Reason", 0),
    (HistoryInfo, "History-Info", 0),
    (Diversion, "Diversion", 0),
    (Privacy, "Privacy", 0),
    (PAssertedIdentity, "P-Asserted-Identity", 0),
    (PPreferredIdentity, "P-Preferred-Identity", 0),
    (RemotePartyId, "Remote-Party-ID", 0),
    (SipEtag, "SIP-ETag", 0),
    (SipIfMatch, "SIP-If-Match", 0),
    (Identity, "Identity", b'y'),
    (IdentityInfo, "Identity-Info", b'n'),
    (MaxBreadth, "Max-Breadth", 0),
    (FlowTimer, "Flow-Timer", 0),
    (Geolocation, "Geolocation", 0),
}

/// How many names there are, [`Name::Other`] included.
pub(crate) const NAMES: usize = KNOWN.len() + 1;

impl Name {
    /// The name these bytes spell, in full or compact form, in any case.
    pub fn from_bytes(text: &[u8]) -> Name {
        Name::at(text, 0, text.len())
    }

    /// The name that stands at `start` in `bytes`. Reads beyond its end where there are bytes, to take eight at a time.
    #[inline(always)]
    pub(crate) fn at(bytes: &[u8], start: usize, len: usize) -> Name {
        if len < 2 {
            return bytes[start..start + len]
                .first()
                .map_or(Name::Other, |letter| COMPACT[*letter as usize]);
        }
        let (head, tail) = if len >= 8 {
            (lower_word(bytes, start), lower_word(bytes, start + len - 8))
        } else {
            (lower_word(bytes, start) & ((1 << (len * 8)) - 1), 0)
        };
        let candidate = &SLOTS[slot(head, tail)];
        let is_same = candidate.head == head && candidate.tail == tail && candidate.len as usize == len;
        // Head and tail cover sixteen letters.
        if is_same && (len <= 16 || crate::eq_ignore_case(&bytes[start..start + len], candidate.name.text().as_bytes()))
        {
            candidate.name
        } else {
            Name::Other
        }
    }
}

/// A name in lower case: its first eight letters, padded with zeros, and its last eight, zero if it is shorter.
#[derive(Clone, Copy)]
struct Spelling {
    head: u64,
    tail: u64,
    len: u8,
    name: Name,
}

const SLOT_BITS: u32 = 8;

static SLOTS: [Spelling; 1 << SLOT_BITS] = slots();
static COMPACT: [Name; 256] = compact();

/// Eight bytes with bit 5 set, which makes capital letters small and leaves small letters and `-` alone. What else it
/// maps to a letter or `-` is no byte of a name but CR, and a CR has been taken for the line's end before names are
/// looked at.
#[inline(always)]
fn lower_word(bytes: &[u8], at: usize) -> u64 {
    let word = match bytes.get(at..at + 8).and_then(|chunk| chunk.try_into().ok()) {
        Some(chunk) => u64::from_le_bytes(chunk),
        None => last_word(bytes, at),
    };
    word | 0x2020_2020_2020_2020
}

/// The fewer than eight bytes from `at` to the end.
#[cold]
fn last_word(bytes: &[u8], at: usize) -> u64 {
    let mut chunk = [0; 8];
    for (to, from) in chunk.iter_mut().zip(&bytes[at..]) {
        *to = *from;
    }
    u64::from_le_bytes(chunk)
}

/// Where a name lies in [`SLOTS`].
#[inline(always)]
const fn slot(head: u64, tail: u64) -> usize {
    ((head ^ tail.rotate_left(1)).wrapping_mul(FACTOR) >> (u64::BITS - SLOT_BITS)) as usize
}

/// Found by trial: no two names share a slot.
const FACTOR: u64 = 0x6550_2b01_7668_72ed;

const fn slots() -> [Spelling; 1 << SLOT_BITS] {
    let mut table = [Spelling {
        head: 0,
        tail: 0,
        len: 0,
        name: Name::Other,
    }; 1 << SLOT_BITS];
    let mut at = 0;
    while at < KNOWN.len() {
        let text = KNOWN[at].1.as_bytes();
        let len = text.len();
        let mut spelling = Spelling {
            head: 0,
            tail: 0,
            len: len as u8,
            name: KNOWN[at].0,
        };
        let mut letter = 0;
        while letter < len && letter < 8 {
            spelling.head |= ((text[letter] | 0x20) as u64) << (letter * 8);
            if len >= 8 {
                spelling.tail |= ((text[len - 8 + letter] | 0x20) as u64) << (letter * 8);
            }
            letter += 1;
        }
        let slot = slot(spelling.head, spelling.tail);
        assert!(table[slot].len == 0, "two names in one slot: search another factor");
        table[slot] = spelling;
        at += 1;
    }
    table
}

const fn compact() -> [Name; 256] {
    let mut table = [Name::Other; 256];
    let mut at = 0;
    while at < KNOWN.len() {
        let letter = KNOWN[at].2;
        if letter != 0 {
            table[letter as usize] = KNOWN[at].0;
            table[letter.to_ascii_uppercase() as usize] = KNOWN[at].0;
        }
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case_and_in_compact_form() {
        for (name, text, letter) in KNOWN {
            assert_eq!(Name::from_bytes(text.as_bytes()), *name);
            assert_eq!(Name::from_bytes(text.to_uppercase().as_bytes()), *name);
            assert_eq!(Name::from_bytes(text.to_lowercase().as_bytes()), *name);
            assert_eq!(name.text(), *text);
            if *letter != 0 {
                assert_eq!(Name::from_bytes(&[*letter]), *name);
                assert_eq!(Name::from_bytes(&[letter.to_ascii_uppercase()]), *name);
            }
        }
    }

    #[test]
    fn what_is_nearly_a_name_is_another() {
        for text in [
            "",
            "Vib",
            "Vi",
            "Viaa",
            "z",
            "Call_ID",
            "Call\u{1}ID",
            "Contact-Length",
            "Content-Lengtg",
            "X-Custom",
            "\u{16}ia",
        ] {
            assert_eq!(Name::from_bytes(text.as_bytes()), Name::Other, "{text:?}");
        }
        for (_, text, _) in KNOWN {
            for at in 0..text.len() {
                let mut near = text.as_bytes().to_vec();
                near[at] = b'_';
                assert_eq!(Name::from_bytes(&near), Name::Other, "{near:?}");
            }
        }
    }
}
