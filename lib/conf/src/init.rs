//! What `spsctl init` writes.

use crate::{Config, Listen};

/// What the operator said to `spsctl init`.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Our domain; unset: `localhost`.
    pub domain: Option<String>,
    /// Where to listen; empty: loopback, UDP and TCP, port 5060. Parse with [`Listen`]'s `FromStr` (`udp:127.0.0.1:5060`).
    pub listen: Vec<Listen>,
}

impl Config {
    /// A complete commented `sps.toml`. It passes [`Config::parse`]: a listener beyond loopback gets an access rule for its own
    /// network's private ranges, as the text explains.
    ///
    /// # Errors
    /// A text for the operator when the domain is no domain or two listeners are the same.
    pub fn sample(options: &InitOptions) -> Result<String, String> {
        let _ = options;
        unimplemented!()
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    /// `TRANSPORT:ADDRESS:PORT` as in `udp:127.0.0.1:5060` or `tcp:[::1]:5060`; the port may be left out and is 5060 then.
    fn from_str(text: &str) -> Result<Self, String> {
        let _ = text;
        unimplemented!()
    }
}
