//! Between the words of the registrar core and those of the registry file.

use sps_registry::{AorRecord, Binding, BindingView, Kind};
use sps_sip::registrar::{Bound, Expiry};
use sps_wire::Q;

/// A stored binding as the core sees it.
pub fn bound(view: BindingView<'_>) -> Bound<'_> {
    Bound {
        contact: view.contact,
        q: Q(view.q),
        expires: match view.expires {
            sps_registry::Expiry::At(at) => Expiry::At(at),
            sps_registry::Expiry::Permanent => Expiry::Permanent,
        },
        call_id: view.call_id,
        cseq: view.cseq,
        path: view.path().collect(),
        instance_id: view.instance_id,
        reg_id: view.reg_id,
        handling: view.handling,
        flow: view.flow,
        received: view.received,
        user_agent: view.user_agent,
    }
}

/// Fills `record` with the bindings, into the memory that it has from earlier ones.
pub fn fill<'a>(record: &mut AorRecord, key: &[u8], to_uri: &[u8], rules_hash: u64, bindings: &[Bound<'a>]) {
    set(&mut record.aor, key);
    set(&mut record.to_uri, to_uri);
    record.rules_hash = rules_hash;
    record.bindings.resize_with(bindings.len(), Binding::default);
    for (binding, bound) in record.bindings.iter_mut().zip(bindings) {
        set(&mut binding.contact, bound.contact);
        binding.q = bound.q.0;
        (binding.expires, binding.kind) = match bound.expires {
            Expiry::At(at) => (sps_registry::Expiry::At(at), Kind::Dynamic),
            Expiry::Permanent => (sps_registry::Expiry::Permanent, Kind::Static),
        };
        set(&mut binding.call_id, bound.call_id);
        binding.cseq = bound.cseq;
        binding.path.resize_with(bound.path.len(), Vec::new);
        for (kept, value) in binding.path.iter_mut().zip(&bound.path) {
            set(kept, value);
        }
        set_option(&mut binding.instance_id, bound.instance_id);
        binding.reg_id = bound.reg_id;
        binding.handling = bound.handling;
        binding.flow = bound.flow;
        binding.received = bound.received;
        set_option(&mut binding.user_agent, bound.user_agent);
    }
}

fn set(to: &mut Vec<u8>, from: &[u8]) {
    to.clear();
    to.extend_from_slice(from);
}

fn set_option(to: &mut Option<Vec<u8>>, from: Option<&[u8]>) {
    match from {
        Some(from) => set(to.get_or_insert_default(), from),
        None => *to = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an earlier, richer record left behind must not shine through.
    #[test]
    fn nothing_of_the_record_before_is_left() {
        let rich = Bound {
            contact: b"sip:a@192.0.2.7",
            q: Q(300),
            expires: Expiry::Permanent,
            call_id: b"call",
            cseq: 7,
            path: [&b"<sip:p1;lr>"[..], b"<sip:p0;lr>"].into_iter().collect(),
            instance_id: Some(b"<urn:x>"),
            reg_id: Some(1),
            handling: Some(sps_wire::Handling::Redirect),
            flow: None,
            received: Some("192.0.2.7:5060".parse().unwrap()),
            user_agent: Some(b"phone"),
        };
        let poor = Bound {
            contact: b"sip:b@h",
            q: Q::ONE,
            expires: Expiry::At(5),
            call_id: b"c",
            cseq: 1,
            path: [].into_iter().collect(),
            instance_id: None,
            reg_id: None,
            handling: None,
            flow: None,
            received: None,
            user_agent: None,
        };
        let (mut used, mut new) = (AorRecord::default(), AorRecord::default());
        fill(
            &mut used,
            b"sip:alice@example.com",
            b"sip:Alice@example.com",
            1,
            &[rich.clone(), rich],
        );
        assert_eq!(used.bindings[0].kind, Kind::Static);
        fill(
            &mut used,
            b"sip:b@example.com",
            b"sip:b@example.com",
            2,
            std::slice::from_ref(&poor),
        );
        fill(
            &mut new,
            b"sip:b@example.com",
            b"sip:b@example.com",
            2,
            std::slice::from_ref(&poor),
        );
        assert_eq!(used, new);
    }
}
