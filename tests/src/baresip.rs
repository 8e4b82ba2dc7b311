//! baresip as a phone: registers, calls, answers. Its SIP trace shows what it sent and received.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::message::Message;
use crate::net::{V4, free_port};
use crate::process::{Process, find};

/// A running phone.
pub struct Baresip {
    process: Process,
    control: SocketAddr,
}

impl Baresip {
    /// A phone `user@domain` that registers at `proxy` and answers by itself.
    pub fn start(folder: &Path, user: &str, domain: &str, proxy: SocketAddr) -> Baresip {
        let home = folder.join(format!("baresip-{user}"));
        fs::create_dir_all(&home).expect("the test folder can be written");
        let (sip, control) = (free_port(V4), SocketAddr::new(V4, free_port(V4)));
        fs::write(home.join("config"), configuration(sip, control)).expect("the test folder can be written");
        let account = format!(
            "<sip:{user}@{domain}>;outbound=\"sip:{proxy}\";regint=600;answermode=auto;audio_codecs=pcmu,pcma;auth_pass=none\n"
        );
        fs::write(home.join("accounts"), account).expect("the test folder can be written");
        fs::write(home.join("contacts"), "").expect("the test folder can be written");
        let mut command = Command::new(find("baresip").expect("the test asked for baresip first"));
        command.args(["-4", "-s", "-f"]).arg(&home);
        Baresip {
            process: Process::start(&format!("baresip-{user}"), command, folder),
            control,
        }
    }

    /// Waits until the registration was accepted.
    pub fn wait_registered(&mut self) {
        self.process.wait_output("200 OK");
        crate::net::wait_tcp_listening(self.control.port());
    }

    /// Waits until a call is up.
    pub fn wait_established(&mut self) {
        self.process.wait_output("Call established");
    }

    /// Waits until its output contains `text`.
    pub fn wait_output(&mut self, text: &str) {
        self.process.wait_output(text);
    }

    /// Gives a command of its menu, for example `dial`, over the control port.
    pub fn command(&self, command: &str, parameters: &str) {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.control).expect("baresip's control port answers");
        stream
            .set_read_timeout(Some(crate::wait::PATIENCE))
            .expect("a timeout can be set");
        let json = format!(r#"{{"command":"{command}","params":"{parameters}","token":"t"}}"#);
        write!(stream, "{}:{json},", json.len()).expect("baresip takes a command");
        // Its answer shows that the command was carried out.
        let mut answer = [0; 4_096];
        let len = stream.read(&mut answer).expect("baresip answers a command");
        assert!(len > 0, "baresip hung up on {command}");
    }

    /// Messages in its SIP trace, in order.
    pub fn trace(&self) -> Vec<Message> {
        trace(&self.process.output())
    }
}

/// SIP messages in a trace: each begins at a start line and ends at the next trace head.
fn trace(output: &str) -> Vec<Message> {
    let clean = without_colours(output).replace("\r\n", "\n");
    let mut messages = Vec::new();
    let mut rest = clean.as_str();
    while let Some((at, len)) = next_start(rest) {
        let text = &rest[at..];
        let end = text.find("\n\n").map_or(text.len(), |end| end + 2);
        let body_len = Message::parse(text[..end].replace('\n', "\r\n").as_bytes())
            .and_then(|head| head.header("Content-Length")?.parse::<usize>().ok())
            .unwrap_or(0);
        // The trace counts line ends as two bytes.
        let mut body = String::new();
        for line in text[end..].split_inclusive('\n') {
            if body.len() >= body_len {
                break;
            }
            body.push_str(&line.replace('\n', "\r\n"));
        }
        let whole = format!("{}{body}", text[..end].replace('\n', "\r\n"));
        messages.extend(Message::parse(whole.as_bytes()));
        rest = &text[len..];
    }
    messages
}

fn next_start(text: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.starts_with("SIP/2.0 ") || line.trim_end().ends_with(" SIP/2.0") {
            return Some((at, line.len()));
        }
        at += line.len();
    }
    None
}

fn without_colours(text: &str) -> String {
    let mut clean = String::new();
    let mut in_colour = false;
    for character in text.chars() {
        match character {
            '\x1b' => in_colour = true,
            'm' if in_colour => in_colour = false,
            _ if in_colour => {}
            other => clean.push(other),
        }
    }
    clean
}

fn configuration(sip: u16, control: SocketAddr) -> String {
    let modules: PathBuf = ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"]
        .iter()
        .map(PathBuf::from)
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| PathBuf::from("/usr/lib/baresip/modules"));
    format!(
        "sip_listen 127.0.0.1:{sip}\n\
         audio_player aufile,/dev/null\n\
         audio_source ausine,440\n\
         audio_alert aufile,/dev/null\n\
         ausrc_srate 48000\n\
         ausrc_channels 2\n\
         module_path {}\n\
         module g711.so\n\
         module ausine.so\n\
         module aufile.so\n\
         module ctrl_tcp.so\n\
         module_tmp uuid.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         ctrl_tcp_listen {control}\n",
        modules.display()
    )
}
