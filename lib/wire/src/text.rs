//! Characters: classes, white space, comparison without case (RFC 3261 §25.1, §7.3.1).

/// Equal but for ASCII case.
#[inline]
pub fn eq_ignore_case(left: &[u8], right: &[u8]) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// A byte of a token.
pub(crate) const TOKEN: u8 = 1;
/// A byte that never stands bare in a parameter: white space, separators of parameters and lists, quotes, brackets, controls.
pub(crate) const PARAM_STOP: u8 = 2;
/// A byte of a host name; `_` is no letter of RFC 3261, but of many real names.
pub(crate) const HOST: u8 = 4;
/// `unreserved`, which needs no escape anywhere in a URI.
pub(crate) const UNRESERVED: u8 = 8;
/// `user-unreserved`: may also stand bare in a user part.
pub(crate) const USER: u8 = 16;
/// White space as left by folding: SP, HTAB, CR, LF. Stray CR and LF never get this far.
pub(crate) const LWS: u8 = 32;
/// What no URI contains bare, whoever wrote it: controls, white space, `<`, `>`, `"`.
pub(crate) const URI_STOP: u8 = 64;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric() {
            class |= TOKEN | HOST | UNRESERVED;
        }
        if matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        ) {
            class |= TOKEN;
        }
        if matches!(byte, b'-' | b'.' | b'_') {
            class |= HOST;
        }
        if matches!(byte, b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')') {
            class |= UNRESERVED;
        }
        if matches!(byte, b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/') {
            class |= USER;
        }
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            class |= LWS;
        }
        if byte <= b' ' || byte == 127 || matches!(byte, b';' | b',' | b'"' | b'<' | b'>') {
            class |= PARAM_STOP;
        }
        if byte <= b' ' || byte == 127 || matches!(byte, b'<' | b'>' | b'"') {
            class |= URI_STOP;
        }
        table[at] = class;
        at += 1;
    }
    table
}

/// Whether the byte is in any of the classes.
#[inline(always)]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Whether every byte is in one of the classes; true for no bytes.
#[inline]
pub(crate) fn all(text: &[u8], class: u8) -> bool {
    text.iter().all(|byte| is(*byte, class))
}

/// Whether any byte is in one of the classes.
#[inline]
pub(crate) fn any(text: &[u8], class: u8) -> bool {
    text.iter().any(|byte| is(*byte, class))
}

/// A token (RFC 3261 §25.1).
#[inline]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

/// Position of the first byte at or behind `at` that is no white space.
#[inline]
pub(crate) fn skip_lws(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && is(text[at], LWS) {
        at += 1;
    }
    at
}

/// Position of the first byte at or behind `at` that is not in the class.
#[inline]
pub(crate) fn skip(text: &[u8], mut at: usize, class: u8) -> usize {
    while at < text.len() && is(text[at], class) {
        at += 1;
    }
    at
}

/// Position of the first byte at or behind `at` that is in the class.
#[inline]
pub(crate) fn until(text: &[u8], mut at: usize, class: u8) -> usize {
    while at < text.len() && !is(text[at], class) {
        at += 1;
    }
    at
}

/// The text without white space (folding included) at both ends.
#[inline]
pub fn trim(text: &[u8]) -> &[u8] {
    let text = &text[skip_lws(text, 0)..];
    &text[..trimmed_len(text)]
}

/// Length without white space at the end.
#[inline]
pub(crate) fn trimmed_len(text: &[u8]) -> usize {
    let mut len = text.len();
    while len > 0 && is(text[len - 1], LWS) {
        len -= 1;
    }
    len
}

/// Behind a quoted string that opens at `at`; none if it does not close.
pub(crate) fn skip_quoted(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The value of a hexadecimal digit.
pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// Takes a byte or an escape (`%` and two digits) off the front: the byte, whether it was escaped, the rest.
/// A broken escape is taken for the `%` it begins with.
pub(crate) fn take_escaped(text: &[u8]) -> Option<(u8, bool, &[u8])> {
    if let [b'%', high, low, rest @ ..] = text
        && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
    {
        return Some((high << 4 | low, true, rest));
    }
    let (first, rest) = text.split_first()?;
    Some((*first, false, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trim_takes_folding_off_both_ends() {
        assert_eq!(trim(b" \r\n\t a b \r\n "), b"a b");
        assert_eq!(trim(b" \t"), b"");
        assert_eq!(trim(b""), b"");
    }

    #[test]
    fn a_quoted_string_may_hold_escaped_quotes() {
        assert_eq!(skip_quoted(br#""a\"b" x"#, 0), Some(6));
        assert_eq!(skip_quoted(br#""a\\" x"#, 0), Some(5));
        assert_eq!(skip_quoted(br#""a\""#, 0), None);
        assert_eq!(skip_quoted(br#""a\"#, 0), None);
    }

    #[test]
    fn escapes_are_taken_whole_or_not_at_all() {
        assert_eq!(take_escaped(b"%41x"), Some((b'A', true, &b"x"[..])));
        assert_eq!(take_escaped(b"%4"), Some((b'%', false, &b"4"[..])));
        assert_eq!(take_escaped(b"%zz"), Some((b'%', false, &b"zz"[..])));
        assert_eq!(take_escaped(b""), None);
    }
}
