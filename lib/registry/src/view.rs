//! An address of record and its bindings, read in place.

use crate::codec::{FORMAT, Input, NEVER, PLAIN_Q, TO_IS_AOR, has};
use crate::{AorRecord, Binding, Expiry, Kind, Version};
use sps_wire::{Flow, Handling};
use std::net::SocketAddr;

/// An AOR record as it lies in the file; nothing is copied before it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    aor: &'a [u8],
    to_uri: &'a [u8],
    rules_hash: u64,
    version: Version,
    next_expiry: u64,
    count: usize,
    bindings: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the head of a record. `None` if it is malformed, or of a format this version does not know.
    pub(crate) fn parse(aor: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let mut input = Input(value);
        let [format, flags] = input.fixed()?;
        if format != FORMAT {
            return None;
        }
        let member = u16::from_le_bytes(input.fixed()?);
        let (next_expiry, counter, time) = (input.word()?, input.word()?, input.word()?);
        let rules_hash = input.word()?;
        let to_uri = if flags & TO_IS_AOR != 0 { aor } else { input.bytes()? };
        let count = usize::try_from(input.number()?).ok()?;
        Some(RecordView {
            aor,
            to_uri,
            rules_hash,
            version: Version { time, counter, member },
            next_expiry,
            count,
            bindings: input.0,
        })
    }

    /// The key.
    pub fn aor(&self) -> &'a [u8] {
        self.aor
    }

    /// The URI of To as it was received.
    pub fn to_uri(&self) -> &'a [u8] {
        self.to_uri
    }

    /// Hash of the rules that made the key.
    pub fn rules_hash(&self) -> u64 {
        self.rules_hash
    }

    /// Which change this is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Number of bindings, expired ones included.
    pub fn len(&self) -> usize {
        self.count
    }

    /// No binding.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The earliest end of a binding, seconds since 1970.
    pub fn next_expiry(&self) -> Option<u64> {
        (self.next_expiry != NEVER).then_some(self.next_expiry)
    }

    /// All bindings, expired ones included: whoever uses them asks [`BindingView::is_past`].
    pub fn bindings(&self) -> impl Iterator<Item = BindingView<'a>> + use<'a> {
        let mut input = Input(self.bindings);
        // A malformed one ends the list: its checksum was right, so that nothing here has written it.
        (0..self.count).map_while(move |_| BindingView::parse(input.bytes()?))
    }

    /// The bindings in force at `now` (seconds since 1970).
    pub fn current(&self, now: u64) -> impl Iterator<Item = BindingView<'a>> + use<'a> {
        self.bindings().filter(move |binding| !binding.expires.is_past(now))
    }

    /// As an owned value.
    pub fn to_record(&self) -> AorRecord {
        AorRecord {
            aor: self.aor.to_vec(),
            to_uri: self.to_uri.to_vec(),
            rules_hash: self.rules_hash,
            version: self.version,
            bindings: self.bindings().map(|binding| binding.to_binding()).collect(),
        }
    }
}

/// A binding as it lies in the file. The fields are those of [`Binding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BindingView<'a> {
    pub contact: &'a [u8],
    pub q: u16,
    pub expires: Expiry,
    pub call_id: &'a [u8],
    pub cseq: u32,
    pub instance_id: Option<&'a [u8]>,
    pub reg_id: Option<u32>,
    pub handling: Option<Handling>,
    pub flow: Option<Flow>,
    pub received: Option<SocketAddr>,
    pub user_agent: Option<&'a [u8]>,
    pub kind: Kind,
    path: &'a [u8],
}

impl<'a> BindingView<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let mut input = Input(body);
        let flags = u16::from_le_bytes(input.fixed()?);
        let is = |flag: u16| flags & flag != 0;
        let contact = input.bytes()?;
        let call_id = input.bytes()?;
        let cseq = u32::try_from(input.number()?).ok()?;
        let expires = if is(has::EXPIRY) {
            Expiry::At(input.number()?)
        } else {
            Expiry::Permanent
        };
        let q = input
            .optional(is(has::Q), Input::fixed)?
            .map_or(PLAIN_Q, u16::from_le_bytes);
        let instance_id = input.optional(is(has::INSTANCE_ID), Input::bytes)?;
        let reg_id = input.optional(is(has::REG_ID), |input| u32::try_from(input.number()?).ok())?;
        let flow = input.optional(is(has::FLOW), |input| {
            let (flow, len) = Flow::parse(input.0)?;
            input.0 = input.0.get(len..)?;
            Some(flow)
        })?;
        let received = match flow {
            Some(flow) if is(has::RECEIVED_IS_REMOTE) => Some(flow.remote),
            _ => input.optional(is(has::RECEIVED), Input::addr)?,
        };
        let user_agent = input.optional(is(has::USER_AGENT), Input::bytes)?;
        let path = if is(has::PATH) { input.0 } else { &[] };
        let handling = match (is(has::TO_BE_PROXIED), is(has::TO_BE_REDIRECTED)) {
            (true, false) => Some(Handling::Proxy),
            (false, true) => Some(Handling::Redirect),
            (true, true) | (false, false) => None,
        };
        let kind = if is(has::STATIC) { Kind::Static } else { Kind::Dynamic };
        let view = BindingView {
            contact,
            q,
            expires,
            call_id,
            cseq,
            instance_id,
            reg_id,
            handling,
            flow,
            received,
            user_agent,
            kind,
            path,
        };
        Some(view)
    }

    /// Whether it is over at `now` (seconds since 1970).
    pub fn is_past(&self, now: u64) -> bool {
        self.expires.is_past(now)
    }

    /// Path values as received, top first.
    pub fn path(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut input = Input(self.path);
        std::iter::from_fn(move || input.bytes())
    }

    /// As an owned value.
    pub fn to_binding(&self) -> Binding {
        Binding {
            contact: self.contact.to_vec(),
            q: self.q,
            expires: self.expires,
            call_id: self.call_id.to_vec(),
            cseq: self.cseq,
            path: self.path().map(<[u8]>::to_vec).collect(),
            instance_id: self.instance_id.map(<[u8]>::to_vec),
            reg_id: self.reg_id,
            handling: self.handling,
            flow: self.flow,
            received: self.received,
            user_agent: self.user_agent.map(<[u8]>::to_vec),
            kind: self.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use proptest::prelude::*;
    use sps_wire::Transport;
    use std::net::IpAddr;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..200)
    }

    fn addr() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let transport = prop::sample::select(vec![Transport::Udp, Transport::Tcp, Transport::Tls]);
        (any::<u16>(), transport, addr(), addr(), any::<u64>()).prop_map(
            |(member, transport, local, remote, connection)| Flow {
                member,
                transport,
                local,
                remote,
                connection,
            },
        )
    }

    fn binding() -> impl Strategy<Value = Binding> {
        let expires = prop_oneof![(0..NEVER - 1).prop_map(Expiry::At), Just(Expiry::Permanent)];
        let first = (
            bytes(),
            0..=1000u16,
            expires,
            bytes(),
            any::<u32>(),
            prop::collection::vec(bytes(), 0..4),
        );
        let second = (
            prop::option::of(bytes()),
            prop::option::of(any::<u32>()),
            prop::option::of(flow()),
            prop::option::of(addr()),
            any::<bool>(),
            prop::option::of(bytes()),
            any::<bool>(),
            prop::sample::select(vec![None, Some(Handling::Proxy), Some(Handling::Redirect)]),
        );
        (first, second).prop_map(|((contact, q, expires, call_id, cseq, path), second)| {
            let (instance_id, reg_id, flow, received, by_flow, user_agent, is_static, handling) = second;
            let received = if by_flow {
                flow.map(|flow: Flow| flow.remote)
            } else {
                received
            };
            let kind = if is_static { Kind::Static } else { Kind::Dynamic };
            Binding {
                contact,
                q,
                expires,
                call_id,
                cseq,
                path,
                instance_id,
                reg_id,
                handling,
                flow,
                received,
                user_agent,
                kind,
            }
        })
    }

    prop_compose! {
        fn record()(
            aor in bytes(),
            to_uri in prop::option::of(bytes()),
            words: (u64, u64, u64, u16),
            bindings in prop::collection::vec(binding(), 0..5),
        ) -> AorRecord {
            let to_uri = to_uri.unwrap_or_else(|| aor.clone());
            let version = Version { time: words.1, counter: words.2, member: words.3 };
            AorRecord { aor, to_uri, rules_hash: words.0, version, bindings }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_is_read_as_written(record in record()) {
            let mut value = Vec::new();
            codec::write(&record, &mut value);
            let view = RecordView::parse(&record.aor, &value).unwrap();
            prop_assert_eq!(view.to_record(), record.clone());
            let ends = record.bindings.iter().filter_map(|binding| match binding.expires {
                Expiry::At(at) => Some(at),
                Expiry::Permanent => None,
            });
            prop_assert_eq!(view.next_expiry(), ends.min());
        }

        #[test]
        fn no_bytes_panic(record in record(), at: prop::sample::Index, byte: u8, len: prop::sample::Index) {
            let mut value = Vec::new();
            codec::write(&record, &mut value);
            let at = at.index(value.len());
            value[at] = byte;
            for value in [&value[..], &value[..len.index(value.len())]] {
                if let Some(view) = RecordView::parse(&record.aor, value) {
                    let _ = view.to_record();
                }
            }
        }
    }

    /// What a phone behind a NAT registers: the figure a million of them are reckoned with.
    #[test]
    fn a_typical_binding_is_short() {
        let flow = Flow {
            member: 1,
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "198.51.100.77:31337".parse().unwrap(),
            connection: 0,
        };
        let record = AorRecord {
            aor: b"sip:alice.wonder@example.com".to_vec(),
            to_uri: b"sip:alice.wonder@example.com".to_vec(),
            bindings: vec![Binding {
                contact: b"sip:alice.wonder@10.0.0.17:5060;transport=udp;ob".to_vec(),
                expires: Expiry::At(1_900_000_000),
                call_id: b"3c26709b6d1f-a84b4c76e66710@10.0.0.17".to_vec(),
                cseq: 4711,
                instance_id: Some(b"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>".to_vec()),
                reg_id: Some(1),
                flow: Some(flow),
                received: Some(flow.remote),
                user_agent: Some(b"Example Phone 5 1.2.3.4567".to_vec()),
                ..Binding::default()
            }],
            ..AorRecord::default()
        };
        let mut value = Vec::new();
        codec::write(&record, &mut value);
        assert!(value.len() + record.aor.len() < 300, "{}", value.len());
    }
}
