//! Characters: classes, white space, comparison without case (RFC 3261 §25.1, §7.3.1).

/// Equal but for ASCII case.
#[inline]
pub fn eq_ignore_case(left: &[u8], right: &[u8]) -> bool {
    left.eq_ignore_ascii_case(right)
}

/// As [`eq_ignore_case`], where the left is most often spelt like the right.
#[inline(always)]
pub(crate) fn is_spelt<const N: usize>(text: &[u8], name: &[u8; N]) -> bool {
    text == name || text.len() == N && eq_ignore_case(text, name)
}

/// A byte of a token.
pub(crate) const TOKEN: u16 = 1;
/// A byte that never stands bare in a parameter: white space, separators of parameters and lists, quotes, brackets,
/// controls.
pub(crate) const PARAM_STOP: u16 = 2;
/// A byte of a host name; `_` is no letter of RFC 3261, but of many real names.
pub(crate) const HOST: u16 = 4;
/// `unreserved`, which needs no escape anywhere in a URI.
pub(crate) const UNRESERVED: u16 = 8;
/// `user-unreserved`: may also stand bare in a user part.
pub(crate) const USER: u16 = 16;
/// White space as left by folding: SP, HTAB, CR, LF. Stray CR and LF never get this far.
pub(crate) const LWS: u16 = 32;
/// What no URI contains bare, whoever wrote it: controls, white space, `<`, `>`, `"`.
pub(crate) const URI_STOP: u16 = 64;
/// `%`, `?` and `@`: what a URI is looked through for, each a class of its own.
pub(crate) const PERCENT: u16 = 128;
pub(crate) const QUESTION: u16 = 256;
pub(crate) const AT: u16 = 512;

static CLASSES: [u16; 256] = classes();

const fn classes() -> [u16; 256] {
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
        if byte <= b' ' || matches!(byte, b';' | b',' | b'"' | b'<' | b'>') {
            class |= PARAM_STOP;
        }
        if byte <= b' ' || byte == 127 || matches!(byte, b'<' | b'>' | b'"') {
            class |= URI_STOP;
        }
        class |= match byte {
            b'%' => PERCENT,
            b'?' => QUESTION,
            b'@' => AT,
            _ => 0,
        };
        table[at] = class;
        at += 1;
    }
    table
}

/// Whether the byte is in any of the classes.
#[inline(always)]
pub(crate) fn is(byte: u8, class: u16) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// All classes that occur. No early end, which is faster for texts as short as a URI.
#[inline]
pub(crate) fn seen(text: &[u8]) -> u16 {
    text.iter().fold(0, |seen, byte| seen | CLASSES[*byte as usize])
}

/// Whether every byte is in one of the classes; true for no bytes.
#[inline]
pub(crate) fn all(text: &[u8], class: u16) -> bool {
    text.iter().all(|byte| is(*byte, class))
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
pub(crate) fn skip(text: &[u8], mut at: usize, class: u16) -> usize {
    while at < text.len() && is(text[at], class) {
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

const LOW: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// Position of the first byte below space at or behind `at`. For stretches as short as lines, eight bytes at a time
/// in place are faster than a call of memchr.
#[inline(always)]
pub(crate) fn find_control(text: &[u8], at: usize) -> Option<usize> {
    find(
        text,
        at,
        |word| word.wrapping_sub(LOW * 0x20) & !word & HIGH,
        |byte| byte < 0x20,
    )
}

/// Position of the first such byte at or behind `at`, where it is expected soon.
#[inline(always)]
pub(crate) fn find_byte(text: &[u8], at: usize, wanted: u8) -> Option<usize> {
    find(
        text,
        at,
        |word| zero_bytes(word ^ (LOW * u64::from(wanted))),
        |byte| byte == wanted,
    )
}

/// Where a bare parameter value that begins at `at` ends: at the first byte of [`PARAM_STOP`] or at the end of the
/// text.
#[inline]
pub(crate) fn param_end(text: &[u8], at: usize) -> usize {
    // Every stop and a few bytes more: all up to the comma, the semicolon, and the brackets, which differ in one bit.
    let candidates = |word: u64| {
        let brackets = zero_bytes((word | (LOW * 2)) ^ (LOW * u64::from(b'>')));
        let semicolons = zero_bytes(word ^ (LOW * u64::from(b';')));
        word.wrapping_sub(LOW * 0x2d) & !word & HIGH | semicolons | brackets
    };
    let mut at = at;
    while let Some(found) = find(text, at, candidates, |byte| is(byte, PARAM_STOP)) {
        if is(text[found], PARAM_STOP) {
            return found;
        }
        at = found + 1;
    }
    text.len()
}

/// The high bit of each zero byte; exact up to and including the lowest.
#[inline(always)]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

/// Position of the first byte that `in_word` marks by its high bit, or `is_wanted` in what is left at the end.
#[inline(always)]
fn find(text: &[u8], at: usize, in_word: impl Fn(u64) -> u64, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (chunks, rest) = text.get(at..)?.as_chunks::<8>();
    for (position, chunk) in chunks.iter().enumerate() {
        let found = in_word(u64::from_le_bytes(*chunk));
        if found != 0 {
            return Some(at + position * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let behind = at + chunks.len() * 8;
    rest.iter()
        .position(|byte| is_wanted(*byte))
        .map(|position| behind + position)
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
    fn eight_at_a_time_finds_what_one_at_a_time_finds() {
        for byte in 0..=255u8 {
            for len in 0..20 {
                for place in 0..len {
                    let mut text = vec![b'a'; len];
                    text[place] = byte;
                    for at in 0..=len {
                        let slow = |wanted: &dyn Fn(u8) -> bool| (at..len).find(|position| wanted(text[*position]));
                        assert_eq!(find_control(&text, at), slow(&|byte| byte < 32));
                        assert_eq!(find_byte(&text, at, b':'), slow(&|byte| byte == b':'));
                        assert_eq!(param_end(&text, at), slow(&|byte| is(byte, PARAM_STOP)).unwrap_or(len));
                    }
                }
            }
        }
    }

    #[test]
    fn escapes_are_taken_whole_or_not_at_all() {
        assert_eq!(take_escaped(b"%41x"), Some((b'A', true, &b"x"[..])));
        assert_eq!(take_escaped(b"%4"), Some((b'%', false, &b"4"[..])));
        assert_eq!(take_escaped(b"%zz"), Some((b'%', false, &b"zz"[..])));
        assert_eq!(take_escaped(b""), None);
    }
}
