//! What a static route applies to: number patterns and domain patterns, and which of two is the more specific.
//!
//! A number pattern is digits and an optional `+`; `.` is exactly one digit, a trailing `*` any rest, also none. A
//! domain pattern is a domain, `*.domain` for every name below it, or `*` for every host that is not ours.
//!
//! A pattern with `+` applies to numbers dialled with `+`; one without applies to both.

use crate::host::{Host, parse_host};
use crate::number::{MAX_DIGITS, Number};
use std::fmt;
use std::str::FromStr;

/// A number pattern, split where its first wildcard stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    plus: bool,
    prefix: Box<str>,
    tail: Box<str>,
}

/// How specific a pattern is: of those that match, the greatest wins.
///
/// In this order: the longer literal prefix; at equal digits the one with `+`; the one without `*`, because `*` may
/// stand for more digits than any number of `.`; fewer `.`, that is more literal digits after the first wildcard; and
/// between two with `*` the one that demands more digits. (Were `*` counted as one wildcard, `50*` would hide `50..`
/// for ever.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Specificity {
    prefix: u8,
    plus: bool,
    bounded: bool,
    literals: u8,
    length: u8,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// Nothing there, or only `+`.
    #[error("pattern is empty")]
    Empty,
    /// Something other than digits, `.`, a leading `+` and a trailing `*`.
    #[error("`{found}` at position {at}: a pattern is digits, `.` for one digit, a leading `+` and a trailing `*`")]
    Character {
        /// What stands there.
        found: char,
        /// Counted from 1.
        at: usize,
    },
    /// More digits than a number can have.
    #[error("pattern is longer than {MAX_DIGITS} digits")]
    TooLong,
    /// Not a domain.
    #[error("`{0}` is neither a domain, `*.` and a domain, nor `*`")]
    Domain(String),
}

impl Pattern {
    /// Whether the pattern starts with `+`.
    pub fn is_global(&self) -> bool {
        self.plus
    }

    /// The digits before the first wildcard; what the compiled table is keyed by.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// From the first wildcard on.
    pub fn tail(&self) -> &str {
        &self.tail
    }

    /// Whether the route applies to `number`.
    pub fn matches(&self, number: &Number) -> bool {
        (number.is_global() || !self.plus)
            && number
                .digits()
                .strip_prefix(self.prefix.as_bytes())
                .is_some_and(|rest| tail_matches(self.tail.as_bytes(), rest))
    }

    /// Whether every number that `other` applies to is one that this pattern applies to.
    pub fn covers(&self, other: &Pattern) -> bool {
        let (ours, open) = self.positions();
        let (theirs, theirs_open) = other.positions();
        let long_enough = if open {
            theirs.len() >= ours.len()
        } else {
            !theirs_open && theirs.len() == ours.len()
        };
        (other.plus || !self.plus)
            && long_enough
            && ours
                .bytes()
                .zip(theirs.bytes())
                .all(|(wanted, found)| wanted == b'.' || wanted == found)
    }

    /// One character for each digit a number must have, and whether more may follow.
    fn positions(&self) -> (String, bool) {
        let text = format!("{}{}", self.prefix, self.tail);
        match text.strip_suffix('*') {
            Some(fixed) => (fixed.into(), true),
            None => (text, false),
        }
    }

    /// How this one compares with others that match the same number.
    pub fn specificity(&self) -> Specificity {
        Specificity::of(self.prefix.len(), self.plus, self.tail.as_bytes())
    }
}

impl Specificity {
    /// Of a pattern in pieces, as it lies in the compiled table.
    pub(crate) fn of(prefix_len: usize, plus: bool, tail: &[u8]) -> Specificity {
        let count = |wanted: fn(&u8) -> bool| tail.iter().filter(|byte| wanted(byte)).count() as u8;
        Specificity {
            prefix: prefix_len as u8,
            plus,
            bounded: tail.last() != Some(&b'*'),
            literals: count(u8::is_ascii_digit),
            length: count(|byte| *byte != b'*'),
        }
    }
}

/// Whether `rest`, the digits after the literal prefix, fit a tail.
pub(crate) fn tail_matches(tail: &[u8], rest: &[u8]) -> bool {
    let (fixed, open) = match tail {
        [fixed @ .., b'*'] => (fixed, true),
        _ => (tail, false),
    };
    let long_enough = if open {
        rest.len() >= fixed.len()
    } else {
        rest.len() == fixed.len()
    };
    long_enough
        && fixed
            .iter()
            .zip(rest)
            .all(|(wanted, digit)| *wanted == b'.' || wanted == digit)
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Pattern, BadPattern> {
        let (plus, body) = match text.strip_prefix('+') {
            Some(body) => (true, body),
            None => (false, text),
        };
        if body.is_empty() {
            return Err(BadPattern::Empty);
        }
        let last = body.chars().count() - 1;
        for (at, found) in body.chars().enumerate() {
            if !(found.is_ascii_digit() || found == '.' || (found == '*' && at == last)) {
                return Err(BadPattern::Character {
                    found,
                    at: at + 1 + usize::from(plus),
                });
            }
        }
        if body.trim_end_matches('*').len() > MAX_DIGITS {
            return Err(BadPattern::TooLong);
        }
        let (prefix, tail) = body.split_at(body.find(['.', '*']).unwrap_or(body.len()));
        Ok(Pattern {
            plus,
            prefix: prefix.into(),
            tail: tail.into(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.plus { "+" } else { "" };
        f.pad(&format!("{plus}{}{}", self.prefix, self.tail))
    }
}

/// A domain, all names below a domain, or every domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DomainPattern {
    /// This host and no other.
    Exact(Host),
    /// `*.domain`: every name below the domain, not the domain itself.
    Below(Box<str>),
    /// `*`: every host that is not ours, addresses included.
    Any,
}

impl DomainPattern {
    /// Whether the route applies to `host`.
    pub fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (DomainPattern::Any, _) => true,
            (DomainPattern::Exact(wanted), _) => wanted == host,
            (DomainPattern::Below(parent), Host::Name(name)) => name
                .strip_suffix(&**parent)
                .is_some_and(|child| child.len() > 1 && child.ends_with('.')),
            (DomainPattern::Below(_), Host::Addr(_)) => false,
        }
    }

    /// Whether every host that `other` applies to is one that this pattern applies to.
    pub fn covers(&self, other: &DomainPattern) -> bool {
        match (self, other) {
            (DomainPattern::Any, _) => true,
            (_, DomainPattern::Any) => false,
            (_, DomainPattern::Exact(host)) => self.matches(host),
            (DomainPattern::Exact(_), DomainPattern::Below(_)) => false,
            (DomainPattern::Below(_), DomainPattern::Below(parent)) => {
                self == other || self.matches(&Host::Name(parent.clone()))
            }
        }
    }

    /// Of the domain patterns that match a host the greatest wins: the domain itself, then the nearest parent, then
    /// `*`.
    pub fn specificity(&self) -> usize {
        match self {
            DomainPattern::Any => 0,
            DomainPattern::Below(parent) => labels(parent),
            DomainPattern::Exact(_) => usize::MAX,
        }
    }
}

impl FromStr for DomainPattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<DomainPattern, BadPattern> {
        let bad = || BadPattern::Domain(text.into());
        if text == "*" {
            return Ok(DomainPattern::Any);
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return match parse_host(parent) {
                Ok(Host::Name(parent)) if labels(&parent) <= MAX_LABELS => Ok(DomainPattern::Below(parent)),
                _ => Err(bad()),
            };
        }
        Host::parse(text).map(DomainPattern::Exact).ok_or_else(bad)
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainPattern::Exact(host) => write!(f, "{host}"),
            DomainPattern::Below(parent) => write!(f, "*.{parent}"),
            DomainPattern::Any => f.write_str("*"),
        }
    }
}

/// The most labels that the domain of a `*.domain` may have: the compiled table keeps one bit for each.
pub const MAX_LABELS: usize = 62;

pub(crate) fn labels(name: &str) -> usize {
    name.split('.').count()
}

/// What a static route applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Numbers at hosts that are ours.
    Number(Pattern),
    /// Hosts that are not ours.
    Domain(DomainPattern),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Number(pattern) => write!(f, "{pattern}"),
            Selector::Domain(domain) => write!(f, "{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn patterns_match_as_the_manual_says() {
        for (pattern, matching, others) in [
            ("5043", vec!["5043", "+5043"], vec!["504", "50430", "5044"]),
            ("50..", vec!["5000", "5099"], vec!["500", "50000", "5100"]),
            ("50*", vec!["50", "501", "5099999"], vec!["5", "51"]),
            ("50.*", vec!["501", "5012"], vec!["50"]),
            ("5.43", vec!["5043", "5943"], vec!["5044", "543", "50433"]),
            ("+1408*", vec!["+1408", "+14085551234"], vec!["1408", "14085551234"]),
            ("1408*", vec!["1408", "+14085551234"], vec!["140"]),
            ("*", vec!["1", "+1", "99999"], vec![]),
            ("+*", vec!["+1"], vec!["1"]),
            ("....", vec!["5000", "+5000"], vec!["500", "50000"]),
        ] {
            let read: Pattern = pattern.parse().unwrap();
            assert_eq!(read.to_string(), pattern);
            matching
                .iter()
                .for_each(|text| assert!(read.matches(&number(text)), "{pattern} {text}"));
            others
                .iter()
                .for_each(|text| assert!(!read.matches(&number(text)), "{pattern} {text}"));
        }
    }

    #[test]
    fn the_more_specific_pattern_is_the_greater() {
        let order = [
            "*", ".*", "....", "5*", "50*", "50.*", "50.3*", "50..", "50.3", "+50..", "503*", "5043",
        ];
        for pair in order.windows(2) {
            let [low, high] = [pair[0], pair[1]].map(|text| text.parse::<Pattern>().unwrap().specificity());
            assert!(low < high, "{} < {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn a_pattern_covers_what_is_narrower() {
        let covers = |wide: &str, narrow: &str| {
            wide.parse::<Pattern>()
                .unwrap()
                .covers(&narrow.parse::<Pattern>().unwrap())
        };
        for (wide, narrow) in [
            ("50*", "50*"),
            ("50*", "50.."),
            ("50*", "5012"),
            ("5...", "5.12"),
            ("*", "+1*"),
            ("1*", "+12"),
        ] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("50..", "50*"),
            ("50..", "501"),
            ("+1*", "1*"),
            ("5012", "50.."),
            ("50.*", "50*"),
        ] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
        let covers = |wide: &str, narrow: &str| {
            wide.parse::<DomainPattern>()
                .unwrap()
                .covers(&narrow.parse::<DomainPattern>().unwrap())
        };
        assert!(covers("*", "example.com") && covers("*.com", "example.com") && covers("*.com", "*.example.com"));
        assert!(!covers("example.com", "*.example.com") && !covers("*.com", "*") && !covers("*.example.com", "*.com"));
    }

    #[test]
    fn what_is_no_pattern_says_where() {
        assert_eq!("".parse::<Pattern>(), Err(BadPattern::Empty));
        assert_eq!("+".parse::<Pattern>(), Err(BadPattern::Empty));
        assert_eq!(
            "+5a".parse::<Pattern>(),
            Err(BadPattern::Character { found: 'a', at: 3 })
        );
        assert_eq!(
            "5*0".parse::<Pattern>(),
            Err(BadPattern::Character { found: '*', at: 2 })
        );
        assert_eq!(
            "5+0".parse::<Pattern>(),
            Err(BadPattern::Character { found: '+', at: 2 })
        );
        assert_eq!(
            "5**".parse::<Pattern>(),
            Err(BadPattern::Character { found: '*', at: 2 })
        );
        assert_eq!(
            "5é".parse::<Pattern>(),
            Err(BadPattern::Character { found: 'é', at: 2 })
        );
        assert_eq!("1".repeat(33).parse::<Pattern>(), Err(BadPattern::TooLong));
        assert!("1".repeat(32).parse::<Pattern>().is_ok());
    }

    #[test]
    fn domain_patterns_match_whole_labels() {
        let host = |text: &str| text.parse::<crate::HopAddress>().unwrap().host;
        for (pattern, matching, others) in [
            (
                "example.com",
                vec!["example.com"],
                vec!["a.example.com", "example.org", "192.0.2.1"],
            ),
            (
                "*.example.com",
                vec!["a.example.com", "b.a.example.com"],
                vec!["example.com", "badexample.com"],
            ),
            ("*", vec!["example.com", "192.0.2.1", "[::1]"], vec![]),
            ("192.0.2.1", vec!["192.0.2.1"], vec!["192.0.2.2"]),
            ("[2001:db8::1]", vec!["2001:db8::1"], vec!["2001:db8::2"]),
        ] {
            let read: DomainPattern = pattern.parse().unwrap();
            assert_eq!(read.to_string(), pattern);
            matching
                .iter()
                .for_each(|text| assert!(read.matches(&host(text)), "{pattern} {text}"));
            others
                .iter()
                .for_each(|text| assert!(!read.matches(&host(text)), "{pattern} {text}"));
        }
        for text in [
            "",
            "*.",
            "**",
            "*.*.com",
            "a b",
            "*example.com",
            "*.192.0.2.1",
            "300.1.1.1",
        ] {
            assert!(text.parse::<DomainPattern>().is_err(), "{text}");
        }
    }
}
