//! What kind of server this is, and what each kind turns away before anybody is asked where a request goes.
//!
//! In every mode REGISTER for us goes to the registrar, OPTIONS about us is answered, transactions end as they began, and a
//! request with a Route of ours and a valid MAC is forwarded: its dialog was let through once, whatever we are today.
//!
//! - *Stateful* ([`super::forward`], [`super::response`]): nothing is turned away here.
//! - *Stateless* ([`super::stateless`]): nothing either, and what need not be remembered is forgotten.
//! - *Redirect* and *stateless redirect* ([`super::redirect`]): a UAS, which looks at neither Max-Forwards nor Proxy-Require nor
//!   at a Route (§8.3: "MUST ignore features that are not understood"); of a request within a dialog it knows nothing: 481.
//! - *Registrar*: a UAS that supports REGISTER and OPTIONS. Other methods that it recognises get 405 with Allow (§8.2.1), those it
//!   does not 501 (§21.5.2), and who asks for somebody, or for another domain, gets 404 (§8.2.2.1).

use sps_wire::{Message, Method};

use super::check::Refusal;

/// What is done with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwarded by a transaction-stateful proxy (§16.2).
    Stateful,
    /// Forwarded without state where that can be (§16.11), statefully elsewhere.
    Stateless,
    /// Answered with where to go (§8.3).
    Redirect,
    /// The same, keeping nothing of the answer (§8.2.7).
    StatelessRedirect,
    /// Refused: nothing here but the registrar.
    Registrar,
}

impl Mode {
    /// Whether requests outside dialogs are forwarded as a rule.
    pub fn forwards(self) -> bool {
        matches!(self, Mode::Stateful | Mode::Stateless)
    }

    /// Whether a transaction is only made once it is known to be needed.
    pub(super) fn defers(self) -> bool {
        matches!(self, Mode::Stateless | Mode::Redirect | Mode::StatelessRedirect)
    }

    /// The methods there is somebody for, where that is not all of them: what Allow says (§20.5).
    pub(super) fn allow(self) -> Option<&'static [u8]> {
        (self == Mode::Registrar).then_some(b"ACK, CANCEL, OPTIONS, REGISTER")
    }

    /// What a server of this kind says to a request that belongs to no dialog of ours and that neither the registrar nor we
    /// ourselves answer; `None` where that is for routing to find out.
    pub(super) fn turn_away(self, method: Method<'_>, message: Message<'_>) -> Option<Refusal> {
        match self {
            Mode::Stateful | Mode::Stateless => None,
            // §12.2.2.
            Mode::Redirect | Mode::StatelessRedirect => message
                .to()
                .is_ok_and(|to| to.tag().is_some())
                .then(|| Refusal::plain(481)),
            Mode::Registrar => Some(match method {
                Method::Register | Method::Options => Refusal::plain(404),
                Method::Other(_) => Refusal::plain(501),
                _ => Refusal {
                    status: 405,
                    reason: None,
                    header: self.allow().map(|methods| ("Allow", methods.to_vec())),
                },
            }),
        }
    }
}
