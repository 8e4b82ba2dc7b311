//! Frames between processes: what can be read is written back and read as the same.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sps_ipc::frame::{Entries, append, decode, encode};
use sps_ipc::service::{FromService, ToService};
use sps_ipc::{operator, parent, proxy_ctl, registrar_ctl};

/// The first byte names the conversation.
pub fn frames(bytes: &[u8]) {
    let Some((conversation, frame)) = bytes.split_first() else {
        return;
    };
    match conversation % 10 {
        0 => again::<operator::Request>(frame),
        1 => again::<operator::Reply>(frame),
        2 => again::<proxy_ctl::Request>(frame),
        3 => again::<proxy_ctl::Reply>(frame),
        4 => again::<registrar_ctl::Request>(frame),
        5 => again::<registrar_ctl::Reply>(frame),
        6 => entries::<ToService<'_>>(frame),
        7 => entries::<FromService<'_>>(frame),
        8 => {
            if let Ok((_, request)) = operator::decode_request(frame) {
                let written = operator::encode_request(&request).expect("it came in a frame");
                assert!(operator::decode_request(&written).is_ok());
            }
            let _ = operator::decode_reply(frame);
        }
        _ => again::<parent::Frozen>(frame),
    }
}

fn again<T: Serialize + DeserializeOwned>(frame: &[u8]) {
    let Ok(value) = decode::<T>(frame) else { return };
    let Ok(written) = encode(&value) else { return };
    let value: T = decode(&written).expect("what was written can be read");
    assert_eq!(encode(&value).expect("as long as before"), written);
}

fn entries<'a, T: Serialize + Deserialize<'a> + PartialEq + std::fmt::Debug>(frame: &'a [u8]) {
    let mut count = 0;
    for entry in Entries::<T>::new(frame).map_while(Result::ok) {
        count += 1;
        let mut out = Vec::new();
        append(&entry, &mut out).expect("it came in a frame");
    }
    assert!(count <= frame.len());
}
