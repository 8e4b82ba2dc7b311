//! Telling whoever started us how it goes: over the pipe at stdout when in the background, in words on stderr otherwise; and the
//! service manager, when there is one.

use sd_notify::NotifyState;
use sps_conf::Paths;
use sps_daemon::Fatal;
use sps_ipc::operator::Listening;
use sps_ipc::starter::{self, Report};

/// Who waits for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// `spsctl start`, until told.
    Pipe,
    /// A terminal or a service manager.
    Terminal,
    /// Nobody any more.
    Gone,
}

impl Starter {
    /// What takes long.
    pub fn progress(self, text: &str) {
        match self {
            Self::Pipe => self.tell(&Report::Progress(text.to_owned())),
            Self::Terminal => notify(&[NotifyState::Status(text)]),
            Self::Gone => {}
        }
    }

    /// Every daemon is ready.
    pub fn ready(&mut self, paths: &Paths, generation: u32, listening: Vec<Listening>) {
        notify(&[NotifyState::Ready, NotifyState::Status("every daemon is ready")]);
        match self {
            Self::Pipe => {
                self.tell(&Report::Ready {
                    pid: std::process::id(),
                    generation,
                    listening,
                });
                self.let_go();
            }
            Self::Terminal => eprintln!("{}", starter::greeting(&listening, &paths.config)),
            Self::Gone => {}
        }
    }

    /// Nothing runs. On a terminal the way out says why.
    pub fn failed(&mut self, fatal: &Fatal) {
        if *self == Self::Pipe {
            self.tell(&Report::Failed {
                code: fatal.exit.code(),
                text: fatal.text.clone(),
            });
            self.let_go();
        }
    }

    fn tell(self, report: &Report) {
        // A starter that has gone away does not matter to us.
        let _ = starter::write(report, &mut std::io::stdout().lock());
    }

    /// Closes the pipe, so that the starter's reader sees the end.
    fn let_go(&mut self) {
        *self = Self::Gone;
        if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    }
}

/// The service manager is told that we are going.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Without a service manager this does nothing.
    let _ = sd_notify::notify(states);
}
