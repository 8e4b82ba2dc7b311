//! The provisioning script of `scripts/`: a small office by the two tools alone.

use std::path::Path;
use std::process::Command;

use sps_tests::instance::{DOMAIN, program};
use sps_tests::net::V4;
use sps_tests::process::run_command;
use sps_tests::{Agent, Instance, Options, PATIENCE, Uas, bounded};

#[test]
fn the_office_script_sets_up_an_office_and_can_be_repeated() {
    bounded(|| {
        let gateway = Uas::answering(V4);
        let sps = Instance::start(Options::new());
        let script = || {
            let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/office.sh"));
            let tools = program("spsctl")
                .parent()
                .expect("a program lies in a folder")
                .to_owned();
            let path = std::env::var_os("PATH").unwrap_or_default();
            let path = std::iter::once(tools).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(path).expect("folders have no colons"));
            command.env("SPS_ROOT", sps.root());
            command.args(["--gateway", &gateway.addr().to_string(), "--domain", DOMAIN]);
            run_command(PATIENCE, command).ok()
        };
        script();
        let json = |said: sps_tests::process::Said| -> serde_json::Value {
            serde_json::from_str(&said.ok().stdout).expect("the tools give JSON")
        };
        let routes = json(sps.spsroute(&["--json", "list"]));
        assert_eq!(
            routes.as_array().map(Vec::len),
            Some(11),
            "ten desks and the gateway: {routes}"
        );
        let registrations = json(sps.spsctl(&["--json", "registration", "list"]));
        let text = registrations.to_string();
        assert!(text.contains("sip:door@") && text.contains("sip:fax@"), "{text}");

        // A number outside goes to the gateway.
        let mut agent = Agent::udp(V4);
        let request = agent.request("MESSAGE", &sps.uri("+4989123456"));
        assert_eq!(agent.ask(sps.addr(), &request).status(), Some(200));
        assert_eq!(
            gateway.requests("MESSAGE")[0].uri(),
            Some(sps.uri("+4989123456").as_str())
        );
        // A desk goes to its own address, which explain knows without a call.
        let words = sps.spsroute(&["explain", &sps.uri("+4930555013")]).ok().stdout;
        assert!(words.contains("192.0.2.113"), "{words}");

        let before = (routes, registrations);
        script();
        let after = (
            json(sps.spsroute(&["--json", "list"])),
            json(sps.spsctl(&["--json", "registration", "list"])),
        );
        assert_eq!(after.0, before.0, "a second run changes no route");
        assert_eq!(after.1.as_array().map(Vec::len), before.1.as_array().map(Vec::len));
    });
}
