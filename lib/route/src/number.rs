//! Telephone numbers as a route table sees them: digits and whether a `+` stood before them (RFC 3966 §5.1).

/// The longest number that is looked up; E.164 allows 15 digits, dial plans prepend a few.
pub const MAX_DIGITS: usize = 32;

/// A dialled number: its digits, without visual separators, and whether it was global (`+`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Number {
    plus: bool,
    len: u8,
    /// Those beyond `len` are 0.
    digits: [u8; MAX_DIGITS],
}

impl Number {
    /// Reads a number, dropping visual separators (`-`, `.`, `(`, `)`), percent escapes undone, parameters cut off.
    ///
    /// `None` unless at least one and at most [`MAX_DIGITS`] digits are there and nothing else is.
    pub fn parse(text: &[u8]) -> Option<Number> {
        Number::read(text, true)
    }

    /// Reads a number that is nothing but digits after an optional `+`: how a user part without `user=phone` must look
    /// to be taken for a number.
    pub fn parse_plain(text: &[u8]) -> Option<Number> {
        Number::read(text, false)
    }

    /// Whether the number is global: written with a leading `+`.
    pub fn is_global(&self) -> bool {
        self.plus
    }

    /// The digits alone, ASCII, never empty.
    pub fn digits(&self) -> &[u8] {
        &self.digits[..usize::from(self.len)]
    }

    /// Puts `context` (the digits of a `phone-context=+…`) in front; `None` if that is too long (RFC 3966 §5.1.5).
    pub fn within(self, context: Number) -> Option<Number> {
        let mut number = context;
        self.digits().iter().try_for_each(|digit| number.push(*digit))?;
        Some(number)
    }

    fn push(&mut self, digit: u8) -> Option<()> {
        *self.digits.get_mut(usize::from(self.len))? = digit;
        self.len += 1;
        Some(())
    }

    fn read(text: &[u8], separators: bool) -> Option<Number> {
        let mut number = Number {
            plus: false,
            len: 0,
            digits: [0; MAX_DIGITS],
        };
        let mut rest = text;
        let mut at_start = true;
        while let [first, tail @ ..] = rest {
            rest = tail;
            let byte = match (first, tail) {
                (b'%', [high, low, after @ ..]) => {
                    rest = after;
                    hex(*high)? << 4 | hex(*low)?
                }
                _ => *first,
            };
            match byte {
                b'+' if at_start => number.plus = true,
                b'0'..=b'9' => number.push(byte)?,
                b'-' | b'.' | b'(' | b')' if separators => {}
                b';' => break,
                _ => return None,
            }
            at_start = false;
        }
        (number.len > 0).then_some(number)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.plus {
            f.write_str("+")?;
        }
        self.digits()
            .iter()
            .try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl std::fmt::Debug for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        Number::parse(text.as_bytes()).map(|number| number.to_string())
    }

    #[test]
    fn visual_separators_and_escapes_are_not_part_of_a_number() {
        assert_eq!(shown("+1-(408).555-1234").as_deref(), Some("+14085551234"));
        assert_eq!(shown("%2B1408").as_deref(), Some("+1408"));
        assert_eq!(shown("5012;phone-context=example.com").as_deref(), Some("5012"));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "+", "alice", "5012a", "1+2", "++1", "%2", "%zz1", "-", "5*"] {
            assert_eq!(shown(text), None, "{text}");
        }
        assert!(Number::parse(&[b'1'; MAX_DIGITS]).is_some());
        assert!(Number::parse(&[b'1'; MAX_DIGITS + 1]).is_none());
    }

    #[test]
    fn a_plain_number_has_no_separators() {
        assert!(Number::parse_plain(b"+5012").is_some());
        assert!(Number::parse_plain(b"50-12").is_none());
        assert!(Number::parse_plain(b"john.1").is_none());
    }

    #[test]
    fn a_local_number_is_completed_by_its_context() {
        let local = Number::parse(b"7042").unwrap();
        assert_eq!(
            local.within(Number::parse(b"+1-408").unwrap()).unwrap().to_string(),
            "+14087042"
        );
    }
}
