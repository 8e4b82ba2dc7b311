//! The one pass over a message's head.
//!
//! Checked here is what must not be misread by anyone: where lines, headers, body and message end, and the headers
//! that match and frame a message. All else waits until it is asked for. A line that breaks the rules is left out of
//! the index, and the pass goes on, so that an error response can be written from the rest.

use crate::{
    CSeq, Fault, Index, Limits, Malformed, Message, Name, ParseError,
    index::{HeaderLine, NONE, StartLine, State},
    number::parse_u32,
    text::{self, LWS, TOKEN},
};

/// Parses one datagram or one framed message.
///
/// Leading CRLFs are not skipped; a datagram's body longer than Content-Length is cut off (RFC 3261 §18.3).
///
/// # Errors
/// [`ParseError`]: what is wrong and whether to answer. Indexing goes on behind the first fault where that is safe,
/// so that
/// [`Index::salvage`] can find the headers an error response needs.
pub fn parse<'a>(bytes: &'a [u8], index: &'a mut Index, limits: &Limits) -> Result<Message<'a>, ParseError> {
    index.clear();
    match read(bytes, index, limits) {
        None => {
            index.state = State::Accepted;
            Ok(Message::new(&bytes[..index.message_len as usize], index))
        }
        Some(fault) => Err(refuse(bytes, index, fault)),
    }
}

#[cold]
fn refuse(bytes: &[u8], index: &mut Index, fault: Fault) -> ParseError {
    if index.state == State::Empty {
        index.state = if fault == Fault::NotSip {
            State::Unclear
        } else {
            State::Refused
        };
    }
    let answerable = fault != Fault::NotSip
        && match index.start {
            StartLine::Request { method_end, .. } => method_end > 0 && &bytes[..method_end as usize] != b"ACK",
            StartLine::Response { .. } => false,
        };
    ParseError { fault, answerable }
}

/// Fills the index; the first fault, if any.
fn read(bytes: &[u8], index: &mut Index, limits: &Limits) -> Option<Fault> {
    let mut faults = Faults(None);
    if bytes.len() > limits.message_len {
        faults.note(Fault::TooLong);
    }
    // Offsets are 32 bits wide, and a head's limit is far below.
    let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
    index.message_len = bytes.len() as u32;

    let Some(line) = text::find_control(bytes, 0).and_then(|control| logical_line(bytes, 0, control)) else {
        return Some(Fault::NotSip);
    };
    if let Err(fault) = start_line(&bytes[..line.content_end], index) {
        faults.note(fault);
        if fault == Fault::NotSip {
            return faults.0;
        }
    }
    if line.stray.is_some() || line.is_folded {
        return Some(Fault::NotSip);
    }
    if line.content_end > limits.header_len {
        faults.note(Fault::HeaderTooLong);
    }
    index.start_end = line.end as u32;
    headers(bytes, line.end, index, limits, &mut faults);
    if index.head_len == 0 {
        index.head_len = index.message_len;
        return faults.0.or(Some(Fault::NoEnd));
    }
    if let Err(fault) = framing(bytes, index).and_then(|()| matching(bytes, index)) {
        faults.note(fault);
    }
    faults.0
}

/// The first fault found.
struct Faults(Option<Fault>);

impl Faults {
    #[cold]
    fn note(&mut self, fault: Fault) {
        self.0.get_or_insert(fault);
    }
}

/// One line with the lines folded into it.
struct Line {
    /// Where its last CRLF begins.
    content_end: usize,
    /// Behind that CRLF.
    end: usize,
    is_folded: bool,
    /// First CR, LF or NUL that has no business there.
    stray: Option<usize>,
}

/// The logical line at `start`, in which the first control byte stands at `control`; none if it does not end.
#[inline(always)]
fn logical_line(bytes: &[u8], start: usize, control: usize) -> Option<Line> {
    match bytes[control..] {
        [b'\r', b'\n', next, ..] if next != b' ' && next != b'\t' => Some(Line {
            content_end: control,
            end: control + 2,
            is_folded: false,
            stray: None,
        }),
        _ => odd_line(bytes, start, control),
    }
}

/// As [`logical_line`], where it may be folded or hold other controls.
#[cold]
fn odd_line(bytes: &[u8], start: usize, control: usize) -> Option<Line> {
    let mut content_end = control;
    let mut is_folded = false;
    let mut stray = None;
    loop {
        let next = match bytes[content_end..] {
            [b'\r', b'\n', b' ' | b'\t', ..] => {
                is_folded = true;
                content_end + 2
            }
            [b'\r', b'\n', ..] => {
                return Some(Line {
                    content_end,
                    end: content_end + 2,
                    is_folded,
                    stray,
                });
            }
            // Controls that are no line ends and end no string: odd, but all read them alike.
            [byte, ..] if !matches!(byte, b'\r' | b'\n' | 0) => content_end + 1,
            // The one NUL that may be there, in a quoted pair (§25.1, RFC 4475 §3.1.1.2).
            [0, ..] if content_end > start && bytes[content_end - 1] == b'\\' => content_end + 1,
            _ => {
                stray.get_or_insert(content_end);
                content_end + 1
            }
        };
        content_end = text::find_control(bytes, next)?;
    }
}

/// Reads all header lines up to the empty line.
#[inline(never)]
fn headers(bytes: &[u8], first: usize, index: &mut Index, limits: &Limits, faults: &mut Faults) {
    let most = limits.headers.min(NONE as usize - 1);
    let mut at = first;
    while at <= limits.head_len {
        let start = at;
        let Some(control) = text::find_control(bytes, start) else {
            return faults.note(Fault::NoEnd);
        };
        // The empty line, before folding is thought of: a body may begin with white space.
        if control == start && bytes[start..].starts_with(b"\r\n") {
            index.head_len = start as u32 + 2;
            return;
        }
        let Some(line) = logical_line(bytes, start, control) else {
            return faults.note(Fault::NoEnd);
        };
        at = line.end;
        if index.lines.len() == most {
            return faults.note(Fault::TooManyHeaders);
        }
        let fault = if let Some(stray) = line.stray {
            Fault::StrayControl(stray)
        } else if line.end - start > limits.header_len {
            Fault::HeaderTooLong
        } else if let Some(header) = split_header(bytes, start, line.content_end) {
            if let Err(fault) = note_header(bytes, index, header) {
                faults.note(fault);
            }
            continue;
        } else {
            Fault::HeaderLine(start)
        };
        // A line left out may have been a Via: an answer could go astray.
        if index.first[Name::Via as usize] == NONE || matches!(bytes[start], b'v' | b'V' | b' ' | b'\t') {
            index.state = State::Unclear;
        }
        faults.note(fault);
    }
    faults.note(Fault::TooLong);
}

/// Cuts a header line without its CRLF into name and value; none if it has no name that is a token, or no colon.
#[inline(always)]
pub(crate) fn split_header(bytes: &[u8], start: usize, content_end: usize) -> Option<HeaderLine> {
    let colon = text::find_byte(&bytes[..content_end], start, b':')?;
    let mut name_end = colon;
    // HCOLON: white space may stand before the colon, but no folding.
    if colon > start && bytes[colon - 1] <= b' ' {
        name_end = start + text::trimmed_len(&bytes[start..colon]);
        if text::find_byte(&bytes[..colon], name_end, b'\n').is_some() {
            return None;
        }
    }
    let name_len = u16::try_from(name_end - start).ok()?;
    let name = Name::at(bytes, start, name_len.into());
    if name == Name::Other && !text::is_token(&bytes[start..name_end]) {
        return None;
    }
    // One space in front and none behind is what nearly all values have.
    let mut value_start = colon + 1;
    if bytes.get(value_start) == Some(&b' ') {
        value_start += 1;
    }
    if value_start < content_end && bytes[value_start] <= b' ' {
        value_start = text::skip_lws(&bytes[..content_end], value_start);
    }
    let mut value_end = content_end;
    while value_end > value_start && bytes[value_end - 1] <= b' ' && text::is(bytes[value_end - 1], LWS) {
        value_end -= 1;
    }
    Some(HeaderLine {
        start: start as u32,
        value_start: value_start as u32,
        value_end: value_end as u32,
        end: content_end as u32 + 2,
        name_len,
        name,
    })
}

/// Puts a header into the index, and looks at repetitions.
#[inline(always)]
fn note_header(bytes: &[u8], index: &mut Index, header: HeaderLine) -> Result<(), Fault> {
    let position = index.lines.len() as u16;
    index.lines.push(header);
    let first = &mut index.first[header.name as usize];
    if *first == NONE {
        *first = position;
        return Ok(());
    }
    repeated(bytes, index, header)
}

/// Whether a header may stand more than once.
#[cold]
fn repeated(bytes: &[u8], index: &Index, header: HeaderLine) -> Result<(), Fault> {
    match header.name {
        Name::From | Name::To | Name::CallId | Name::CSeq | Name::MaxForwards => Err(Fault::Repeated(header.name)),
        // Whoever takes the other one of two lengths sees another message behind this one. Equal ones do no harm.
        Name::ContentLength => {
            let value = |line: &HeaderLine| parse_u32(&bytes[line.value_start as usize..line.value_end as usize]);
            match (
                value(&index.lines[index.first[Name::ContentLength as usize] as usize]),
                value(&header),
            ) {
                (Some(one), Some(other)) if one == other => Ok(()),
                _ => Err(Fault::Repeated(Name::ContentLength)),
            }
        }
        _ => Ok(()),
    }
}

/// Where the message ends.
fn framing(bytes: &[u8], index: &mut Index) -> Result<(), Fault> {
    let Some(line) = index.line(Name::ContentLength) else {
        return Ok(());
    };
    let length = parse_u32(&bytes[line.value_start as usize..line.value_end as usize]).ok_or(Fault::Malformed(
        Malformed::new("Content-Length", line.value_start as usize),
    ))?;
    match index.head_len.checked_add(length) {
        Some(message_len) if message_len <= index.message_len => {
            index.message_len = message_len;
            Ok(())
        }
        _ => Err(Fault::BodyTooShort),
    }
}

/// The headers that match a message to its transaction: present, and readable as far as matching needs.
fn matching(bytes: &[u8], index: &mut Index) -> Result<(), Fault> {
    let present = |name| index.line(name).ok_or(Fault::Missing(name));
    let value = |line: HeaderLine| &bytes[line.value_start as usize..line.value_end as usize];
    for name in [Name::Via, Name::From, Name::To] {
        present(name)?;
    }
    let call_id = present(Name::CallId)?;
    if value(call_id).is_empty() || text::seen(value(call_id)) & LWS != 0 {
        return Err(Fault::Malformed(Malformed::new(
            "Call-ID",
            call_id.value_start as usize,
        )));
    }
    let line = present(Name::CSeq)?;
    let cseq = CSeq::parse(value(line))
        .map_err(|at| Fault::Malformed(Malformed::new("CSeq", line.value_start as usize + at.offset)))?;
    let method = cseq.method.as_bytes();
    index.cseq = Some((cseq.number, line.value_end - method.len() as u32, line.value_end));
    match index.start {
        StartLine::Request { method_end, .. } if method != &bytes[..method_end as usize] => Err(Fault::CSeqMethod),
        _ => Ok(()),
    }
}

/// Reads the start line, without its CRLF, into the index.
fn start_line(line: &[u8], index: &mut Index) -> Result<(), Fault> {
    if let Some(rest) = strip_version(line) {
        return status_line(line, rest, index);
    }
    let method_end = text::skip(line, 0, TOKEN);
    if method_end == 0 || line.get(method_end) != Some(&b' ') {
        return Err(Fault::NotSip);
    }
    let uri_start = method_end + 1;
    let uri_end = text::find_byte(line, uri_start, b' ').unwrap_or(line.len());
    index.start = StartLine::Request {
        method_end: method_end as u32,
        uri_end: uri_end as u32,
    };
    // One space on either side of the URI, none in it and none at the end (RFC 3261 §7.1).
    match line.get(uri_end + 1..).and_then(strip_version) {
        Some(b"2.0") if uri_end > uri_start && text::find_byte(&line[..uri_end], uri_start, b'\t').is_none() => Ok(()),
        Some(version) if version != b"2.0" && is_version(version) => Err(Fault::Version),
        // Another protocol, or one of ours gone wrong: the first gets no answer.
        _ if !crate::frame::mentions_sip(line) => Err(Fault::NotSip),
        _ => Err(Fault::StartLine),
    }
}

/// `SIP/2.0 status reason`, where `rest` stands behind the first slash of `line`.
fn status_line(line: &[u8], rest: &[u8], index: &mut Index) -> Result<(), Fault> {
    let end = line.len() as u32;
    index.start = StartLine::Response {
        status: 0,
        reason_start: end,
        reason_end: end,
    };
    let version_len = rest.iter().position(|byte| text::is(*byte, LWS)).unwrap_or(rest.len());
    match &rest[..version_len] {
        b"2.0" => {}
        other if is_version(other) => return Err(Fault::Version),
        _ => return Err(Fault::StartLine),
    }
    // The space before an empty reason phrase is there by the grammar and missing in practice; nothing else can be
    // meant.
    let (digits, reason) = match &rest[version_len..] {
        [b' ', digits @ ..] if digits.len() == 3 => (digits, &b""[..]),
        [b' ', a, b, c, b' ', reason @ ..] => (&[*a, *b, *c][..], reason),
        _ => return Err(Fault::StartLine),
    };
    let status = parse_u32(digits)
        .filter(|status| (100..700).contains(status))
        .ok_or(Fault::StartLine)? as u16;
    index.start = StartLine::Response {
        status,
        reason_start: end - reason.len() as u32,
        reason_end: end,
    };
    Ok(())
}

/// What stands behind `SIP/`, in any case (RFC 3261 §7.1).
fn strip_version(text: &[u8]) -> Option<&[u8]> {
    let (name, rest) = text.split_at_checked(4)?;
    crate::eq_ignore_case(name, b"SIP/").then_some(rest)
}

/// `1*DIGIT "." 1*DIGIT`
fn is_version(text: &[u8]) -> bool {
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let mut is_number = || {
        parts
            .next()
            .is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit))
    };
    is_number() && is_number()
}

#[cfg(test)]
mod tests;
