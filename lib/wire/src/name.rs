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
        let _ = text;
        unimplemented!()
    }
}
