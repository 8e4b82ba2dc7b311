//! URI equality (RFC 3261 §19.1.4, RFC 3966 §4).

use super::is_separator;
use crate::{Param, Params, Scheme, Uri, eq_ignore_case, params::MAX_PARAMS, text::take_escaped};

/// Whether two URIs are equal: SIP and SIPS by §19.1.4, tel by RFC 3966 §4, others byte by byte but for the scheme's
/// case.
pub fn equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    match (left.scheme, right.scheme) {
        (Scheme::Sip, Scheme::Sip) | (Scheme::Sips, Scheme::Sips) => sip_equal(left, right),
        (Scheme::Tel, Scheme::Tel) => tel_equal(left, right),
        (Scheme::Other(one), Scheme::Other(other)) => {
            eq_ignore_case(one, other) && left.text[one.len()..] == right.text[other.len()..]
        }
        _ => false,
    }
}

fn sip_equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    // User and password are case-sensitive, and one that is missing equals none that is there; so does a port, even
    // the default.
    let part = |left: Option<&[u8]>, right: Option<&[u8]>| match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) => text_equal(left, right, Case::Counts),
        _ => false,
    };
    left.port == right.port
        && left.host.equals(right.host)
        && part(left.user, right.user)
        && part(left.password, right.password)
        && sip_params_match(left.params, right.params)
        && sip_params_match(right.params, left.params)
        && headers_equal(left.headers, right.headers)
}

/// Whether nothing in `left` speaks against `right`.
fn sip_params_match(left: Params<'_>, right: Params<'_>) -> bool {
    // One of these in one URI alone differs from its absence, even with the default value. The RFC says so of the
    // first four, and shows it of transport in its examples.
    const NEVER_IGNORED: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];
    // A name may stand once (§19.1.1); where it does not, the first one counts on both sides.
    let first = |param: Param<'_>| left.get(param.name).flatten();
    left.into_iter().all(|param| match right.get(param.name) {
        Some(value) => values_equal(first(param), value),
        None => !NEVER_IGNORED.iter().any(|name| eq_ignore_case(name, param.name)),
    })
}

/// A parameter without value equals one with an empty value.
fn values_equal(left: Option<&[u8]>, right: Option<&[u8]>) -> bool {
    text_equal(left.unwrap_or_default(), right.unwrap_or_default(), Case::Ignored)
}

/// Header components are never ignored, and their order does not count.
fn headers_equal(left: &[u8], right: &[u8]) -> bool {
    if left == right {
        return true;
    }
    let fields = |text| memchr::memchr_iter(b'&', text).count() + 1;
    // Longer lists than any URI needs are only equal to themselves: no work that grows with the square of what a
    // stranger sends.
    if left.is_empty() || right.is_empty() || fields(left) != fields(right) || fields(left) > MAX_PARAMS {
        return false;
    }
    let each_in = |left: &[u8], right: &[u8]| {
        left.split(|byte| *byte == b'&')
            .all(|one| right.split(|byte| *byte == b'&').any(|other| header_equal(one, other)))
    };
    each_in(left, right) && each_in(right, left)
}

fn header_equal(left: &[u8], right: &[u8]) -> bool {
    let cut = |field| {
        let mut parts = <[u8]>::splitn(field, 2, |byte| *byte == b'=');
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    };
    let ((name, left), (other_name, right)) = (cut(left), cut(right));
    // §7.3.1: values are case-insensitive unless their header says otherwise; the body is no header at all.
    let counts = [&b"call-id"[..], b"i", b"in-reply-to", b"subject", b"s", b"body"]
        .iter()
        .any(|exact| eq_ignore_case(name, exact));
    text_equal(name, other_name, Case::Ignored)
        && text_equal(left, right, if counts { Case::Counts } else { Case::Ignored })
}

#[derive(Clone, Copy, PartialEq)]
enum Case {
    Counts,
    Ignored,
}

/// Equal but for escapes: a byte equals its escape unless it is reserved (RFC 2396 §2.2), and `%3b` equals `%3B`.
fn text_equal(left: &[u8], right: &[u8], case: Case) -> bool {
    let (mut left, mut right) = (left, right);
    loop {
        match (take_escaped(left), take_escaped(right)) {
            (None, None) => return true,
            (Some((one, one_escaped, left_rest)), Some((other, other_escaped, right_rest))) => {
                let same = match case {
                    Case::Counts => one == other,
                    Case::Ignored => one.eq_ignore_ascii_case(&other),
                };
                if !same || one_escaped != other_escaped && is_reserved(one) {
                    return false;
                }
                (left, right) = (left_rest, right_rest);
            }
            _ => return false,
        }
    }
}

fn is_reserved(byte: u8) -> bool {
    matches!(
        byte,
        b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b','
    )
}

/// RFC 3966 §4: both global or both local, the same digits but for visual separators, the same set of parameters.
fn tel_equal(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    digits_equal(left.user.unwrap_or_default(), right.user.unwrap_or_default())
        && tel_params_match(left.params, right.params)
        && tel_params_match(right.params, left.params)
}

fn tel_params_match(left: Params<'_>, right: Params<'_>) -> bool {
    left.into_iter().all(|param| {
        let first = left.find(param.name).unwrap_or(param);
        right
            .find(param.name)
            .is_some_and(|other| tel_param_equal(first, other))
    })
}

fn tel_param_equal(left: Param<'_>, right: Param<'_>) -> bool {
    let is_number = |value: Option<&[u8]>| value.is_some_and(|value| value.starts_with(b"+"));
    let holds_number = eq_ignore_case(left.name, b"ext")
        || eq_ignore_case(left.name, b"phone-context") && is_number(left.value) && is_number(right.value);
    if holds_number {
        digits_equal(left.value.unwrap_or_default(), right.value.unwrap_or_default())
    } else {
        values_equal(left.value, right.value)
    }
}

fn digits_equal(left: &[u8], right: &[u8]) -> bool {
    let separated = |byte: &&u8| !is_separator(**byte);
    let [left, right] = [left, right].map(|text| text.iter().filter(separated).map(u8::to_ascii_lowercase));
    left.eq(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(left: &str, right: &str) -> bool {
        let [left, right] =
            [left, right].map(|text| Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")));
        assert!(equal(&left, &left) && equal(&right, &right));
        assert_eq!(equal(&left, &right), equal(&right, &left));
        equal(&left, &right)
    }

    /// The examples of RFC 3261 §19.1.4.
    /// A URI equals itself even where it breaks §19.1.1.
    #[test]
    fn of_a_parameter_given_twice_the_first_counts() {
        assert!(same("sip:;@a;i=a;i=0", "sip:;@a;i=a;i=0"));
        assert!(same("tel:1;a=1;a=2", "tel:1;a=1;a=2"));
        assert!(!same("sip:a@b;ttl=1;ttl=2", "sip:a@b;ttl=2;ttl=1"));
    }

    #[test]
    fn equal_by_the_book() {
        for (left, right) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtLanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(same(left, right), "{left} {right}");
        }
    }

    /// The examples of RFC 3261 §19.1.4, and the rules they do not show.
    #[test]
    fn different_by_the_book() {
        for (left, right) in [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;security=off",
            ),
            ("sip:a@b", "sips:a@b"),
            ("sip:b", "sip:a@b"),
            ("sip:a@b", "sip:a:@b"),
            ("sip:a@b", "sip:a:pw@b"),
            ("sip:a@b", "sip:a@b;user=ip"),
            ("sip:a@b", "sip:a@b;ttl=1"),
            ("sip:a@b", "sip:a@b;method=INVITE"),
            ("sip:a@b", "sip:a@b;maddr=b"),
            ("sip:a%3bx@b", "sip:a;x@b"),
            ("sip:a@b?x=1&y=2", "sip:a@b?x=1"),
            ("sip:a@b?x=1&x=1", "sip:a@b?x=1&y=2"),
            ("sip:a@b?call-id=A", "sip:a@b?call-id=a"),
        ] {
            assert!(!same(left, right), "{left} {right}");
        }
        assert!(same("sip:a%3bx@b", "sip:a%3Bx@b"));
        assert!(same("sip:a@b;lr", "sip:a@b"));
        assert!(same("sip:a@[2001:db8::1]", "sip:a@[2001:DB8:0:0::1]"));
    }

    /// RFC 3966 §4
    #[test]
    fn tel_ignores_visual_separators_only() {
        assert!(same("tel:+1-201-555-0123", "TEL:+1(201)5550123"));
        assert!(same(
            "tel:7042;phone-context=example.com",
            "tel:70-42;phone-context=EXAMPLE.com"
        ));
        assert!(same("tel:1;ext=1-2;isub=x", "tel:1;isub=X;ext=12"));
        for (left, right) in [
            ("tel:+12015550123", "tel:12015550123"),
            ("tel:+1", "tel:+1;ext=5"),
            ("tel:1;phone-context=a.com", "tel:1;phone-context=b.com"),
            ("tel:+1;ext=5", "tel:+1;ext=6"),
        ] {
            assert!(!same(left, right), "{left} {right}");
        }
    }

    #[test]
    fn other_schemes_byte_by_byte() {
        assert!(same("URN:service:sos", "urn:service:sos"));
        assert!(!same("urn:service:sos", "urn:service:SOS"));
        assert!(!same("tel:1", "sip:1@b"));
    }
}
