//! SIP messages for tests: read leniently, written plainly, compared to the byte where it matters.

use std::fmt::Write as _;

/// A SIP message: start line, header fields in order, body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Request or status line.
    pub start: String,
    /// Names as written, values trimmed.
    pub headers: Vec<(String, String)>,
    /// Body as received; not cut by Content-Length.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads one message; `None` when there is no blank line or a line without a colon.
    pub fn parse(bytes: &[u8]) -> Option<Message> {
        let head_len = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..head_len]);
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let (_, value) = headers.last_mut()?;
                value.push(' ');
                value.push_str(line.trim());
            } else {
                let (name, value) = line.split_once(':')?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        Some(Message {
            start,
            headers,
            body: bytes[head_len + 4..].to_vec(),
        })
    }

    /// A request with nothing but its start line.
    pub fn request(method: &str, uri: &str) -> Message {
        Message {
            start: format!("{method} {uri} SIP/2.0"),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The response a user agent server makes: Via, From, To, Call-ID, CSeq and, for dialogs, Record-Route copied
    /// (RFC 3261 §8.2.6.2, §12.1.1). Give the To tag with [`Self::to_tag`].
    pub fn response(&self, status: u16, reason: &str) -> Message {
        let mut response = Message {
            start: format!("SIP/2.0 {status} {reason}"),
            headers: Vec::new(),
            body: Vec::new(),
        };
        for (name, value) in &self.headers {
            let copied = ["via", "from", "to", "call-id", "cseq"].contains(&canonical(name).as_str())
                || (canonical(name) == "record-route" && (101..300).contains(&status));
            if copied {
                response.headers.push((name.clone(), value.clone()));
            }
        }
        response
    }

    /// With one more header field at the end.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Message {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With one more header field before all others.
    pub fn with_first(mut self, name: &str, value: impl Into<String>) -> Message {
        self.headers.insert(0, (name.to_owned(), value.into()));
        self
    }

    /// Without any header field of this name.
    pub fn without(mut self, name: &str) -> Message {
        let name = canonical(name);
        self.headers.retain(|(known, _)| canonical(known) != name);
        self
    }

    /// With the value of the first such header replaced, or added.
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Message {
        let wanted = canonical(name);
        match self.headers.iter_mut().find(|(known, _)| canonical(known) == wanted) {
            Some((_, old)) => *old = value.into(),
            None => self.headers.push((name.to_owned(), value.into())),
        }
        self
    }

    /// With a body and its type.
    pub fn with_body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Message {
        self = self.set("Content-Type", kind);
        self.body = body.into();
        self
    }

    /// With this tag on To, unless it has one.
    pub fn to_tag(mut self, tag: &str) -> Message {
        for (name, value) in &mut self.headers {
            if canonical(name) == "to" && parameter(value, "tag").is_none() {
                let _ = write!(value, ";tag={tag}");
            }
        }
        self
    }

    /// The bytes, with a right Content-Length added unless one was given.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.header("Content-Length").is_none() {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Method of a request.
    pub fn method(&self) -> Option<&str> {
        self.start.strip_suffix(" SIP/2.0")?.split(' ').next()
    }

    /// Request-URI of a request.
    pub fn uri(&self) -> Option<&str> {
        self.start.strip_suffix(" SIP/2.0")?.split(' ').nth(1)
    }

    /// Status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Reason phrase of a response.
    pub fn reason(&self) -> Option<&str> {
        self.start.strip_prefix("SIP/2.0 ")?.get(4..)
    }

    /// First header of this name, compact or long.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = canonical(name);
        self.headers
            .iter()
            .find(|(known, _)| canonical(known) == name)
            .map(|(_, value)| value.as_str())
    }

    /// The same, where the test cannot go on without.
    #[track_caller]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in\n{self}"))
    }

    /// All values of this name, comma lists taken apart.
    pub fn values(&self, name: &str) -> Vec<String> {
        let name = canonical(name);
        self.headers
            .iter()
            .filter(|(known, _)| canonical(known) == name)
            .flat_map(|(_, value)| split_list(value))
            .collect()
    }

    /// Number and method of CSeq.
    #[track_caller]
    pub fn cseq(&self) -> (u32, &str) {
        let (number, method) = self.must("CSeq").split_once(' ').expect("CSeq has a method");
        (number.parse().expect("CSeq has a number"), method.trim())
    }

    /// The tag of From.
    #[track_caller]
    pub fn from_tag(&self) -> String {
        parameter(self.must("From"), "tag").expect("From has a tag")
    }

    /// The tag of To.
    #[track_caller]
    pub fn to_tag_value(&self) -> Option<String> {
        parameter(self.must("To"), "tag")
    }

    /// The branch of the top Via.
    #[track_caller]
    pub fn branch(&self) -> String {
        let via = self.values("Via");
        parameter(via.first().expect("a message has a Via"), "branch").expect("Via has a branch")
    }

    /// The URI in the first Contact.
    #[track_caller]
    pub fn contact(&self) -> String {
        addr_uri(&self.values("Contact")[0])
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes()).replace("\r\n", "\n"))
    }
}

/// The long name in lower case (RFC 3261 §7.3.3).
pub fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "f" => "from",
        "t" => "to",
        "i" => "call-id",
        "m" => "contact",
        "l" => "content-length",
        "c" => "content-type",
        "e" => "content-encoding",
        "k" => "supported",
        "s" => "subject",
        "r" => "refer-to",
        "b" => "referred-by",
        "o" => "event",
        "u" => "allow-events",
        _ => return name,
    };
    long.to_owned()
}

/// A header parameter's value; empty for one without value. What stands inside `<>` or quotes is not looked at.
pub fn parameter(value: &str, name: &str) -> Option<String> {
    let outside = value.rsplit_once('>').map_or(value, |(_, after)| after);
    outside.split(';').skip(1).find_map(|part| {
        let (key, text) = part.split_once('=').unwrap_or((part, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| text.trim().to_owned())
    })
}

/// The URI of a name-addr or addr-spec.
pub fn addr_uri(value: &str) -> String {
    match (value.find('<'), value.find('>')) {
        (Some(open), Some(close)) if open < close => value[open + 1..close].to_owned(),
        _ => value.split(';').next().unwrap_or(value).trim().to_owned(),
    }
}

fn split_list(value: &str) -> Vec<String> {
    let (mut parts, mut current) = (Vec::new(), String::new());
    let (mut in_quotes, mut in_angle) = (false, false);
    for character in value.chars() {
        match character {
            '"' => in_quotes = !in_quotes,
            '<' if !in_quotes => in_angle = true,
            '>' if !in_quotes => in_angle = false,
            ',' if !in_quotes && !in_angle => {
                parts.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    parts.push(current.trim().to_owned());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"INVITE sip:bob@h SIP/2.0\r\nv: SIP/2.0/UDP a:1;branch=z9hG4bKx, SIP/2.0/UDP b;branch=z9hG4bKy\r\n\
        f: \"A, B\" <sip:a@h;x=1>;tag=1\r\nt: <sip:bob@h>\r\ni: c@h\r\nCSeq: 7 INVITE\r\nSubject: a\r\n b\r\nl: 3\r\n\r\nabc";

    #[test]
    fn compact_folded_and_listed_headers_are_read() {
        let message = Message::parse(TEXT).unwrap();
        assert_eq!((message.method(), message.uri()), (Some("INVITE"), Some("sip:bob@h")));
        assert_eq!(message.values("Via").len(), 2);
        assert_eq!(message.values("From").len(), 1);
        assert_eq!(message.branch(), "z9hG4bKx");
        assert_eq!(message.from_tag(), "1");
        assert_eq!(message.to_tag_value(), None);
        assert_eq!(message.cseq(), (7, "INVITE"));
        assert_eq!(message.must("subject"), "a b");
        assert_eq!(message.body, b"abc");
        let response = message.response(180, "Ringing").to_tag("9");
        assert_eq!((response.status(), response.reason()), (Some(180), Some("Ringing")));
        assert_eq!(response.to_tag_value().as_deref(), Some("9"));
        assert!(response.header("Subject").is_none());
        assert_eq!(
            Message::parse(&response.bytes()).unwrap().values("Via"),
            message.values("Via")
        );
    }
}
