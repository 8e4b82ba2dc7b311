//! What the defaults promise.

use std::path::Path;

use sps_conf::Config;

/// RFC 3261 §18: a connection is kept at least as long as a transaction may take: an INVITE rings until Timer C, then 64·T1.
#[test]
fn a_stream_outlives_any_transaction() {
    let text = "[server]\ndomain = \"example.com\"\n[[listen]]\ntransport = \"tcp\"\naddress = \"127.0.0.1\"\n";
    let config = Config::parse(Path::new("f"), text).expect("it is sound").0;
    let proxy = &config.proxy;
    assert!(proxy.stream_idle_timeout >= proxy.timer_c + 64 * proxy.t1);
}
