//! Overload control in Via: what a client says it can do, what a server asks for (RFC 7339 §4, §9).

use crate::{Message, Name, Patch, Via, eq_ignore_case, write::write_u32};

/// What a server asks of the clients that send to it, by the loss-based scheme (RFC 7339 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Of a hundred requests, how many are to be held back; 0 to 100.
    pub percent: u8,
    /// For how long, in milliseconds; zero ends it at once.
    pub validity_ms: u32,
    /// Which of two is newer.
    pub seq: Seq,
}

/// `oc-seq`: a number with a fraction of up to five digits, such as a time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq {
    /// In front of the point; twelve digits at most.
    pub whole: u64,
    /// Behind it, in hundred-thousandths.
    pub part: u32,
}

/// §4.3: what `oc-validity` is when it is not there.
const DEFAULT_VALIDITY_MS: u32 = 500;

/// Most digits of `oc-seq` on each side of the point (§9).
const WHOLE_DIGITS: usize = 12;
const PART_DIGITS: usize = 5;

/// The parameters' names (§9).
const NAMES: [&[u8]; 4] = [b"oc", b"oc-algo", b"oc-validity", b"oc-seq"];

impl Feedback {
    /// What the top Via of a response asks for.
    ///
    /// None when it asks for nothing: no `oc` with a number from 0 to 100, an algorithm other than `loss`, or a value that
    /// breaks the grammar; a server that does not know overload control leaves `oc` without a value (§6). Without `oc-seq` the
    /// number is 0: RFC 7339's own example leaves it out.
    pub fn of(via: &Via<'_>) -> Option<Feedback> {
        let percent = number(via.params.get(b"oc")??)?;
        let algo = via.params.get(b"oc-algo")??;
        if percent > 100 || !eq_ignore_case(algo.trim_ascii(), b"loss") {
            return None;
        }
        let validity_ms = match via.params.get(b"oc-validity") {
            None => DEFAULT_VALIDITY_MS,
            Some(value) => u32::try_from(number(value?)?).unwrap_or(u32::MAX),
        };
        let seq = match via.params.get(b"oc-seq") {
            None => Seq::default(),
            Some(value) => Seq::parse(value?)?,
        };
        Some(Feedback {
            percent: percent as u8,
            validity_ms,
            seq,
        })
    }

    /// Appends the parameters, each with its semicolon.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b";oc=");
        write_u32(self.percent.into(), out);
        out.extend_from_slice(b";oc-algo=\"loss\";oc-validity=");
        write_u32(self.validity_ms, out);
        out.extend_from_slice(b";oc-seq=");
        self.seq.write(out);
    }
}

impl Seq {
    /// Milliseconds as a number of seconds.
    pub fn of_ms(ms: u64) -> Seq {
        Seq {
            whole: ms / 1_000 % 1_000_000_000_000,
            part: (ms % 1_000) as u32 * 100,
        }
    }

    fn parse(text: &[u8]) -> Option<Seq> {
        let point = text.iter().position(|byte| *byte == b'.')?;
        let (whole, part) = (&text[..point], &text[point + 1..]);
        if whole.len() > WHOLE_DIGITS || part.len() > PART_DIGITS {
            return None;
        }
        // 5 behind the point is half of one, whatever follows it.
        let scale = 10u32.pow((PART_DIGITS - part.len()) as u32);
        Some(Seq {
            whole: number(whole)?,
            part: number(part)? as u32 * scale,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        // Mostly seconds since 1970, which 32 bits hold for some time yet.
        match u32::try_from(self.whole) {
            Ok(whole) => write_u32(whole, out),
            Err(_) => out.extend_from_slice(self.whole.to_string().as_bytes()),
        }
        out.push(b'.');
        let mut digit = 10u32.pow(PART_DIGITS as u32 - 1);
        while digit > 0 {
            out.push(b'0' + (self.part / digit % 10) as u8);
            digit /= 10;
        }
    }
}

/// Whether the sender of a request with this Via understands [`Feedback`] (§4.1, §4.2): `oc` without a value, and `loss`
/// among the algorithms he names, where none named means that one.
pub fn asks_for_feedback(via: &Via<'_>) -> bool {
    if !via.params.has(b"oc") {
        return false;
    }
    match via.params.get(b"oc-algo") {
        None => true,
        Some(algorithms) => algorithms
            .unwrap_or_default()
            .split(|byte| *byte == b',')
            .any(|algorithm| eq_ignore_case(algorithm.trim_ascii(), b"loss")),
    }
}

/// Whether a parameter belongs to overload control.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    NAMES.iter().any(|known| eq_ignore_case(name, known))
}

/// Leaves overload control out of all Via but the topmost (§5.4): it concerns two neighbours, and in others it was put by
/// mistake or malice. `message` must be the one this patch is for.
pub fn strip_lower_vias(message: Message<'_>, patch: &mut Patch<'_>) {
    // Nearly always there is nothing, and then no Via need be read.
    let mentions = |value: &[u8]| {
        value
            .windows(3)
            .any(|three| matches!(three, [b';' | b' ', b'o' | b'O', b'c' | b'C']))
    };
    if !message.all(Name::Via).any(|header| mentions(header.value())) {
        return;
    }
    for via in message.vias().skip(1).flatten() {
        for param in via.params.into_iter().filter(|param| is_ours(param.name)) {
            patch.remove(via.place_of(&param));
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > WHOLE_DIGITS {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Index, Limits, parse};

    fn of(params: &str) -> Option<Feedback> {
        let via = format!("SIP/2.0/UDP p1.example.net;branch=z9hG4bK1;{params}");
        Feedback::of(&Via::parse(via.as_bytes()).unwrap())
    }

    fn asks(params: &str) -> bool {
        let via = format!("SIP/2.0/UDP p1.example.net;branch=z9hG4bK1{params}");
        asks_for_feedback(&Via::parse(via.as_bytes()).unwrap())
    }

    /// RFC 7339 §6
    #[test]
    fn the_examples_of_the_rfc_are_understood() {
        let first = of("received=192.0.2.111;oc=0;oc-algo=\"loss\";oc-validity=0").unwrap();
        assert_eq!((first.percent, first.validity_ms, first.seq), (0, 0, Seq::default()));
        let second = of("oc=20;oc-algo=\"loss\";oc-validity=500;oc-seq=1282321615.782").unwrap();
        assert_eq!((second.percent, second.validity_ms), (20, 500));
        let third = of("oc=0;oc-algo=\"loss\";oc-validity=0;oc-seq=1282321892.439").unwrap();
        assert!(third.seq > second.seq && second.seq > first.seq);
        assert_eq!(second.seq, Seq::of_ms(1_282_321_615_782));
    }

    /// RFC 7339 §4.3: no validity is 500 ms; what breaks the grammar of §9 or names another algorithm says nothing.
    #[test]
    fn what_is_missing_has_a_default_and_what_is_wrong_is_ignored() {
        assert_eq!(of("oc=7;oc-algo=\"loss\";oc-seq=1.5").unwrap().validity_ms, 500);
        assert_eq!(of("OC=100;OC-Algo=\"LOSS\";oc-seq=1.5").unwrap().percent, 100);
        for wrong in [
            "oc;oc-algo=\"loss\"",
            "oc=;oc-algo=\"loss\"",
            "oc=101;oc-algo=\"loss\"",
            "oc=-1;oc-algo=\"loss\"",
            "oc=1x;oc-algo=\"loss\"",
            "oc=99999999999999999999;oc-algo=\"loss\"",
            "oc=10",
            "oc=10;oc-algo=\"rate\"",
            "oc=10;oc-algo=\"loss,rate\"",
            "oc=10;oc-algo=\"loss\";oc-validity",
            "oc=10;oc-algo=\"loss\";oc-validity=soon",
            "oc=10;oc-algo=\"loss\";oc-seq=5",
            "oc=10;oc-algo=\"loss\";oc-seq=1234567890123.1",
            "oc=10;oc-algo=\"loss\";oc-seq=1.123456",
            "oc=10;oc-algo=\"loss\";oc-seq=.1",
            "oc-validity=500",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    /// RFC 7339 §4.4: the fraction has the width it has.
    #[test]
    fn numbers_are_compared_as_numbers() {
        let seq = |text: &str| Seq::parse(text.as_bytes()).unwrap();
        assert!(seq("1.5") > seq("1.49999"));
        assert!(seq("2.0") > seq("1.99999"));
        assert_eq!(seq("1.5"), seq("01.50000"));
    }

    #[test]
    fn what_is_written_reads_back() {
        for (percent, validity_ms, ms) in [(0, 0, 0), (37, 1_000, 1_795_000_000_042), (100, 1, 9_999_999_999_999)] {
            let feedback = Feedback {
                percent,
                validity_ms,
                seq: Seq::of_ms(ms),
            };
            let mut out = Vec::new();
            feedback.write(&mut out);
            assert_eq!(of(std::str::from_utf8(&out[1..]).unwrap()), Some(feedback));
        }
    }

    /// RFC 7339 §4.1, §4.2
    #[test]
    fn a_client_says_what_it_understands() {
        assert!(asks(";oc;oc-algo=\"loss\"") && asks(";oc-algo=\"A, loss\";oc") && asks(";oc"));
        assert!(!asks("") && !asks(";oc-algo=\"loss\"") && !asks(";oc;oc-algo=\"rate\"") && !asks(";ocean"));
    }

    /// RFC 7339 §5.4
    #[test]
    fn lower_vias_are_cleaned_and_nothing_else() {
        let text = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=1;oc=5;oc-algo=\"loss\"\r\n\
                    v: SIP/2.0/UDP b;oc=90 ; branch=2;oc-algo=\"loss\";ocean=1, SIP/2.0/UDP c;OC-Seq=1.1;oc-validity=9\r\n\
                    From: <sip:f@x>;tag=1\r\nTo: <sip:t@x;oc=1>;tag=2\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n";
        let mut index = Index::default();
        let message = parse(text.as_bytes(), &mut index, &Limits::default()).unwrap();
        let mut patch = Patch::new(text.as_bytes());
        strip_lower_vias(message, &mut patch);
        let mut out = Vec::new();
        patch.write(&mut out);
        let out = String::from_utf8(out).unwrap();
        let expected = text
            .replace(";oc=90 ; branch", " ; branch")
            .replace("branch=2;oc-algo=\"loss\"", "branch=2")
            .replace(";OC-Seq=1.1;oc-validity=9", "");
        assert_eq!(out, expected);
    }
}
