//! What a REGISTER is answered: step 8 of RFC 3261 §10.3, and refusals.

use std::ops::Range;

use smallvec::SmallVec;
use sps_wire::write::{write_u32, write_u64};
use sps_wire::{Message, Q, Response, ViaStamp, write_response};

use super::{Asked, Bound, Conf, Expiry, Refusal, With, write_date};

/// Writes responses; keeps its buffers from one to the next.
#[derive(Debug, Default)]
pub struct Answers {
    /// Header values of the response being written, one after the other.
    values: Vec<u8>,
    date: Vec<u8>,
    /// The second that `date` tells.
    dated_at: Option<u64>,
}

/// What a response needs to know beside the request and its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'r> {
    /// Seconds since 1970.
    pub now: u64,
    /// For the top Via.
    pub stamp: ViaStamp,
    /// For To, should it have none.
    pub to_tag: &'r [u8],
}

impl Answers {
    /// Appends the 200 with all bindings in force, their remaining time, and the Path as received.
    pub fn ok(
        &mut self,
        asked: &Asked<'_>,
        bindings: &[Bound<'_>],
        setting: &Setting<'_>,
        conf: &Conf,
        out: &mut Vec<u8>,
    ) {
        self.values.clear();
        let mut places: SmallVec<[(&str, Range<usize>); 8]> = SmallVec::new();
        for bound in bindings {
            let begin = self.values.len();
            write_contact(bound, setting.now, conf, &mut self.values);
            places.push(("Contact", begin..self.values.len()));
        }
        self.bring_date(setting.now);
        let mut extra: SmallVec<[(&str, &[u8]); 8]> = SmallVec::new();
        extra.extend(places.into_iter().map(|(name, place)| (name, &self.values[place])));
        extra.extend(asked.path.iter().map(|value| ("Path", *value)));
        extra.push(("Date", &self.date));
        write(asked.message, 200, None, &extra, setting, out);
    }

    /// Appends the response to a request that is not carried out.
    pub fn refuse(
        &mut self,
        message: Message<'_>,
        refusal: &Refusal,
        setting: &Setting<'_>,
        conf: &Conf,
        out: &mut Vec<u8>,
    ) {
        let values = &mut self.values;
        values.clear();
        let name = match &refusal.with {
            With::Nothing => None,
            With::Unsupported(tags) => {
                values.extend_from_slice(tags);
                Some("Unsupported")
            }
            With::MinExpires(seconds) => {
                write_u32(*seconds, values);
                Some("Min-Expires")
            }
            With::Warning(text) => {
                values.extend_from_slice(b"399 ");
                values.extend_from_slice(conf.host.as_bytes());
                values.extend_from_slice(b" \"");
                values.extend_from_slice(text.as_bytes());
                values.push(b'"');
                Some("Warning")
            }
            With::RetryAfter(seconds) => {
                write_u32(*seconds, values);
                Some("Retry-After")
            }
            With::Allow => {
                values.extend_from_slice(b"REGISTER");
                Some("Allow")
            }
        };
        let extra: SmallVec<[(&str, &[u8]); 1]> = name.map(|name| (name, values.as_slice())).into_iter().collect();
        write(message, refusal.status, Some(refusal.reason), &extra, setting, out);
    }

    fn bring_date(&mut self, now: u64) {
        if self.dated_at != Some(now) {
            self.date.clear();
            write_date(now, &mut self.date);
            self.dated_at = Some(now);
        }
    }
}

fn write(
    message: Message<'_>,
    status: u16,
    reason: Option<&str>,
    extra: &[(&str, &[u8])],
    setting: &Setting<'_>,
    out: &mut Vec<u8>,
) {
    let response = Response {
        reason,
        to_tag: Some(setting.to_tag),
        stamp: setting.stamp,
        extra,
        ..Response::new(status)
    };
    write_response(message, &response, out);
}

fn write_contact(bound: &Bound<'_>, now: u64, conf: &Conf, out: &mut Vec<u8>) {
    out.push(b'<');
    out.extend_from_slice(bound.contact);
    out.push(b'>');
    if bound.q != Q::ONE {
        write_q(bound.q, out);
    }
    out.extend_from_slice(b";expires=");
    match bound.expires {
        Expiry::At(at) => write_u64(at.saturating_sub(now), out),
        // "Each Contact value MUST feature an expires parameter": one that outlives the next refresh of any phone.
        Expiry::Permanent => write_u32(conf.max_expires_s, out),
    }
    if let Some(instance_id) = bound.instance_id {
        out.extend_from_slice(b";+sip.instance=\"");
        out.extend_from_slice(instance_id);
        out.push(b'"');
    }
    // RFC 2543 §6.13: the response tells what is done, which is this where it is obeyed.
    if let Some(handling) = bound.handling.filter(|_| conf.caller_preferences) {
        out.extend_from_slice(b";action=");
        out.extend_from_slice(handling.as_str().as_bytes());
    }
    if let Some(reg_id) = bound.reg_id {
        out.extend_from_slice(b";reg-id=");
        write_u32(reg_id, out);
    }
}

/// `;q=0.25`, without needless digits.
fn write_q(Q(thousandths): Q, out: &mut Vec<u8>) {
    out.extend_from_slice(b";q=0");
    let digits = [100, 10, 1].map(|unit| b'0' + (thousandths / unit % 10) as u8);
    let len = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(0, |last| last + 1);
    if len > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_is_written_without_needless_digits() {
        for (q, text) in [
            (0, ";q=0"),
            (5, ";q=0.005"),
            (250, ";q=0.25"),
            (300, ";q=0.3"),
            (999, ";q=0.999"),
        ] {
            let mut out = Vec::new();
            write_q(Q(q), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
