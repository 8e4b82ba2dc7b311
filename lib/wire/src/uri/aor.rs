//! The canonical form of an address of record (RFC 3261 §10.3 step 5).

use super::is_separator;
use crate::{
    Scheme, Uri,
    text::{self, UNRESERVED, USER},
    write::write_u32,
};

/// Appends the key that all spellings of an address of record share: scheme `sip`, user with escapes undone, host in
/// lower case, port only if given; no password, parameters or headers. A tel URI gives `tel:` and the number without
/// visual separators, of a local number also its phone-context.
///
/// An escape stays, with capital digits, where the bare byte could not stand in a user part, and such bare bytes are
/// escaped: the key is a URI again. `sips:` gives the same key as `sip:` (one AOR, reachable by both). Other schemes
/// are taken as they are.
pub fn canonical_aor(uri: &Uri<'_>, out: &mut Vec<u8>) {
    match uri.scheme {
        Scheme::Sip | Scheme::Sips => {
            out.extend_from_slice(b"sip:");
            if let Some(user) = uri.user {
                write_user(user, out);
                out.push(b'@');
            }
            uri.host.write(out);
            if let Some(port) = uri.port {
                out.push(b':');
                write_u32(port.into(), out);
            }
        }
        Scheme::Tel => {
            let number = uri.user.unwrap_or_default();
            out.extend_from_slice(b"tel:");
            out.extend(
                number
                    .iter()
                    .filter(|byte| !is_separator(**byte))
                    .map(u8::to_ascii_lowercase),
            );
            if !number.starts_with(b"+")
                && let Some(Some(context)) = uri.params.get(b"phone-context")
            {
                out.extend_from_slice(b";phone-context=");
                out.extend(
                    context
                        .iter()
                        .filter(|byte| !context.starts_with(b"+") || !is_separator(**byte))
                        .map(u8::to_ascii_lowercase),
                );
            }
        }
        Scheme::Other(_) => out.extend_from_slice(uri.text),
    }
}

fn write_user(user: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = user;
    while let Some((byte, _, behind)) = text::take_escaped(rest) {
        rest = behind;
        if text::is(byte, UNRESERVED | USER) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let mut out = Vec::new();
        canonical_aor(&Uri::parse(text.as_bytes()).unwrap(), &mut out);
        assert!(Uri::parse(&out).is_ok(), "{text}");
        String::from_utf8(out).unwrap()
    }

    /// §10.3 step 5
    #[test]
    fn one_key_for_all_spellings() {
        for (text, key) in [
            ("sip:Alice@AtLanta.com", "sip:Alice@atlanta.com"),
            (
                "sips:%41lice:secret@ATLANTA.com;transport=tcp?subject=x",
                "sip:Alice@atlanta.com",
            ),
            ("sip:a%20b%3b%40%2f@h", "sip:a%20b;%40/@h"),
            ("sip:#31#5@h", "sip:%2331%235@h"),
            ("sip:%2331%235@h", "sip:%2331%235@h"),
            ("sip:h:5060;lr", "sip:h:5060"),
            ("sip:a@[2001:DB8:0::1]", "sip:a@[2001:db8::1]"),
            ("tel:+1-201-555-0123;ext=1", "tel:+12015550123"),
            (
                "tel:70-42;phone-context=Example.com",
                "tel:7042;phone-context=example.com",
            ),
            ("tel:70-42;phone-context=+1-914", "tel:7042;phone-context=+1914"),
            ("im:x@Y", "im:x@Y"),
        ] {
            assert_eq!(canonical(text), key);
            assert_eq!(canonical(key), key);
        }
    }
}
