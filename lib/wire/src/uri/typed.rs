//! URIs as people type them.

/// What an operator typed, with a scheme: `alice@host` is meant as `sip:alice@host`.
///
/// A word before the first colon is a scheme unless what follows is a port or a password (`host:5060`,
/// `alice:secret@host`); `mailto:alice@host` therefore stays what it is.
pub fn with_scheme(text: &str) -> String {
    if has_scheme(text) {
        text.to_owned()
    } else {
        format!("sip:{text}")
    }
}

fn has_scheme(text: &str) -> bool {
    let Some((word, rest)) = text.split_once(':') else {
        return false;
    };
    if ["sip", "sips", "tel"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme))
    {
        return true;
    }
    let is_word = word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-'));
    let port = rest.bytes().take_while(u8::is_ascii_digit).count();
    let is_port = port > 0 && matches!(rest.as_bytes().get(port), None | Some(b';' | b'?'));
    // Passwords in URIs are a thing of the past (RFC 3261 §19.1.1), schemes beside SIP's that a proxy may be given are few.
    let is_known = ["mailto", "http", "https", "im", "pres", "xmpp", "urn", "h323"]
        .iter()
        .any(|scheme| word.eq_ignore_ascii_case(scheme));
    is_word && !is_port && (is_known || !rest.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_scheme_is_meant_as_sip() {
        for text in [
            "alice@example.com",
            "alice@example.com:5070",
            "example.com",
            "example.com:5060",
            "localhost:5060;lr",
        ] {
            assert_eq!(with_scheme(text), format!("sip:{text}"));
        }
        assert_eq!(with_scheme("alice:secret@example.com"), "sip:alice:secret@example.com");
        assert_eq!(with_scheme("[2001:db8::1]:5060"), "sip:[2001:db8::1]:5060");
    }

    #[test]
    fn a_scheme_stays() {
        for text in [
            "sip:a@b",
            "SIPS:a@b",
            "tel:+49",
            "mailto:alice@example.com",
            "http://example.com/",
            "im:a@b",
            "urn:service:sos",
        ] {
            assert_eq!(with_scheme(text), text);
        }
    }
}
