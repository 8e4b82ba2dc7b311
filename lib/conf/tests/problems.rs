//! Wrong files, and what the operator is told: line, column, what was found, what was expected.

use std::path::Path;

use sps_conf::{Config, InitOptions, Problems};

const GOOD: &str = "[server]\ndomain = \"example.com\"\n[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\n";

fn problems(text: &str) -> Problems {
    match Config::parse(Path::new("sps.toml"), text) {
        Ok((_, warnings)) => panic!("accepted, warnings: {warnings}\n{text}"),
        Err(problems) => problems,
    }
}

/// Puts `wrong` behind a good configuration and says where it stands: the first line of `wrong` is line 6.
fn after_good(wrong: &str) -> Problems {
    problems(&format!("{GOOD}{wrong}"))
}

/// One problem, at this place, with all these parts in its text.
#[track_caller]
fn one(problems: &Problems, line: usize, column: usize, parts: &[&str]) {
    let shown = problems.to_string();
    assert_eq!(problems.len(), 1, "{shown}");
    let problem = problems.iter().next().unwrap();
    assert_eq!((problem.line, problem.column), (line, column), "{shown}");
    for part in parts {
        assert!(problem.text.contains(part), "{part:?} is missing: {shown}");
    }
    assert!(shown.starts_with(&format!("sps.toml:{line}:{column}: ")), "{shown}");
    assert!(problem.excerpt.contains('^'), "{shown}");
}

#[test]
fn a_syntax_error_has_a_place() {
    one(&problems("[server]\ndomain = example.com\n"), 2, 10, &["expected"]);
    one(&problems("[server\n"), 1, 8, &["expected"]);
    one(
        &after_good("[proxy]\nfork = \"parallel\"\nfork = \"sequential\"\n"),
        8,
        1,
        &["duplicate"],
    );
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    one(
        &after_good("[proxy]\nrecord_routes = true\n"),
        7,
        1,
        &["record_routes", "did you mean record_route?"],
    );
    one(&after_good("[proxy]\nt1 = 500\n"), 7, 1, &["did you mean t1_ms?"]);
    one(
        &after_good("[log]\nbananas = 1\n"),
        7,
        1,
        &["expected one of", "access_log"],
    );
    one(
        &after_good("[registar]\nenabled = true\n"),
        6,
        2,
        &["did you mean [registrar]?"],
    );
    one(
        &problems(&format!("workers = 2\n{GOOD}")),
        1,
        1,
        &["outside a section", "workers"],
    );
}

#[test]
fn a_registrar_alone_must_be_a_registrar() {
    let text = "[proxy]\nmode = \"registrar\"\n[registrar]\nenabled = false\n";
    one(
        &after_good(text),
        9,
        11,
        &["[registrar] enabled", "[proxy] mode is \"registrar\""],
    );
    one(
        &after_good("[proxy]\nmode = \"registar\"\n"),
        7,
        8,
        &["\"registar\"", "\"stateless-redirect\" or \"registrar\""],
    );
}

#[test]
fn a_wrong_type_says_what_was_expected() {
    one(
        &after_good("[proxy]\nrecord_route = \"yes\"\n"),
        7,
        16,
        &["\"yes\"", "expected true or false"],
    );
    one(
        &after_good("[proxy]\nt1_ms = \"500\"\n"),
        7,
        9,
        &["whole number from 10 to 10000 milliseconds"],
    );
    one(&after_good("[proxy]\nt1_ms = 0.5\n"), 7, 9, &["is 0.5", "whole number"]);
    one(
        &after_good("[proxy]\nfork = \"both\"\n"),
        7,
        8,
        &["\"both\"", "\"parallel\" or \"sequential\""],
    );
    one(
        &after_good("[dns]\nservers = \"192.0.2.53\"\n"),
        7,
        11,
        &["expected a list"],
    );
    one(&after_good("[log]\naccess_log = 7\n"), 7, 14, &["is 7", "in quotes"]);
    one(
        &problems(&GOOD.replace("[[listen]]", "[listen]")),
        3,
        1,
        &["two brackets", "[[listen]]"],
    );
    one(&after_good("[[proxy]]\n"), 6, 1, &["[proxy]"]);
}

#[test]
fn numbers_have_ranges() {
    one(&after_good("port = 70000\n"), 6, 8, &["70000", "0 to 65535"]);
    one(&after_good("port = -1\n"), 6, 8, &["-1", "0 to 65535"]);
    one(
        &after_good("[registrar]\nmax_contacts = 0\n"),
        7,
        16,
        &["from 1 to 256"],
    );
    one(
        &after_good("[proxy]\nmax_message_bytes = 99999999999999999999999\n"),
        7,
        21,
        &["65535 bytes"],
    );
}

#[test]
fn addresses_and_names_are_looked_at() {
    one(
        &problems(&GOOD.replace("127.0.0.1", "localhost")),
        5,
        11,
        &["localhost", "IPv4 or IPv6 address"],
    );
    one(
        &problems(&GOOD.replace("127.0.0.1", "127.0.0.1:5060")),
        5,
        11,
        &["the port has a key of its own"],
    );
    one(
        &problems(&GOOD.replace("127.0.0.1", "224.0.0.1")),
        5,
        11,
        &["multicast"],
    );
    one(
        &problems(&GOOD.replace("example.com", "example.com:5060")),
        2,
        10,
        &["no port"],
    );
    one(&after_good("advertise = \"0.0.0.0\"\n"), 6, 13, &["wildcard"]);
    one(
        &after_good("[dns]\nservers = [\"192.0.2.53\", \"ns.example\"]\n"),
        7,
        26,
        &["ns.example"],
    );
    one(
        &after_good("[[access]]\nsource = \"192.0.2.7/24\"\naction = \"allow\"\n"),
        7,
        10,
        &["192.0.2.0/24"],
    );
}

#[test]
fn what_is_missing_is_named_at_its_section() {
    one(
        &problems(&GOOD.replace("domain = \"example.com\"\n", "")),
        1,
        1,
        &["[server] has no domain"],
    );
    one(
        &problems(&GOOD.replace("transport = \"udp\"\n", "")),
        3,
        1,
        &["has no transport", "\"udp\", \"tcp\" or \"tls\""],
    );
    one(
        &problems("[server]\ndomain = \"example.com\"\n"),
        1,
        1,
        &["no usable [[listen]]", "transport = \"udp\""],
    );
    one(
        &after_good("[[access]]\nsource = \"192.0.2.0/24\"\n"),
        6,
        1,
        &["has no action", "\"allow\" or \"deny\""],
    );
}

#[test]
fn values_that_do_not_go_together_are_told_at_the_later_one() {
    one(
        &after_good("[proxy]\nt1_ms = 5000\n"),
        7,
        9,
        &["t1_ms = 5000", "t2_ms = 4000", "t1_ms <= t2_ms"],
    );
    let text = "[registrar]\nmax_expires_s = 600\nmin_expires_s = 900\ndefault_expires_s = 700\n";
    one(
        &after_good(text),
        8,
        17,
        &["min_expires_s = 900", "max_expires_s = 600"],
    );
    one(
        &after_good("[registrar]\nmax_expires_s = 600\n"),
        7,
        17,
        &["default_expires_s = 3600"],
    );
    one(
        &after_good("[log]\nerror_log = \"access_log\"\n"),
        7,
        13,
        &["two files"],
    );
    one(&after_good("[server.x]\n"), 6, 9, &["[server] has no key \"x\""]);
}

#[test]
fn listeners_do_not_clash() {
    let again = "[[listen]]\ntransport = \"udp\"\naddress = \"127.0.0.1\"\nport = 5060\n";
    one(&after_good(again), 6, 1, &["udp:127.0.0.1:5060", "line 3", "once"]);
    let open =
        "[[listen]]\ntransport = \"udp\"\naddress = \"0.0.0.0\"\n[[access]]\nsource = \"::1\"\naction = \"allow\"\n";
    one(&after_good(open), 6, 1, &["overlap", "line 3"]);
    for fine in [
        "transport = \"tcp\"\naddress = \"127.0.0.1\"",
        "transport = \"udp\"\naddress = \"::1\"",
        "transport = \"udp\"\naddress = \"127.0.0.1\"\nport = 0",
    ] {
        let text = format!("{GOOD}[[listen]]\n{fine}\n");
        assert!(Config::parse(Path::new("f"), &text).is_ok(), "{text}");
    }
}

#[test]
fn nobody_becomes_an_open_relay_by_accident() {
    let beyond = GOOD.replace("127.0.0.1", "0.0.0.0");
    one(
        &problems(&beyond),
        3,
        1,
        &["udp:0.0.0.0:5060", "[[access]]", "open_relay = true"],
    );
    let with_rule = format!("{beyond}[[access]]\nsource = \"192.0.2.0/24\"\naction = \"allow\"\n");
    assert!(Config::parse(Path::new("f"), &with_rule).is_ok());
    let meant = beyond.replace("[server]", "[server]\nopen_relay = true");
    assert!(Config::parse(Path::new("f"), &meant).is_ok());
    // What is allowed there changes nothing, which is worth a word.
    let both = with_rule.replace("[server]", "[server]\nopen_relay = true");
    let (_, warnings) = Config::parse(Path::new("f"), &both).unwrap();
    assert_eq!(
        warnings.iter().map(|w| (w.line, w.warning)).collect::<Vec<_>>(),
        [(2, true)]
    );
}

#[test]
fn a_rule_that_never_decides_is_told() {
    let rule = |source: &str| format!("[[access]]\nsource = \"{source}\"\naction = \"deny\"\n");
    one(
        &after_good(&(rule("192.0.2.0/24") + &rule("192.0.2.0/24"))),
        9,
        1,
        &["never decides", "line 6"],
    );
    let (_, warnings) = Config::parse(
        Path::new("f"),
        &format!("{GOOD}{}{}", rule("192.0.2.0/24"), rule("192.0.2.7")),
    )
    .unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings.to_string().contains("warning: "));
}

#[test]
fn a_short_timer_c_is_allowed_and_told() {
    let (config, warnings) = Config::parse(Path::new("f"), &format!("{GOOD}[proxy]\ntimer_c_s = 5\n")).unwrap();
    assert_eq!(config.proxy.timer_c.as_secs(), 5);
    assert_eq!(
        warnings.iter().map(|w| (w.line, w.column)).collect::<Vec<_>>(),
        [(7, 13)]
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
[server]
domain = \"example.com\"
workers = \"many\"
[[listen]]
transport = \"sctp\"
address = \"127.0.0.1\"
[proxy]
fork = 1
t1ms = 3
[nat]
";
    let found = problems(text);
    let lines: Vec<usize> = found.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [3, 5, 8, 9, 10], "{found}");
}

#[test]
fn a_file_that_is_not_there_is_told_apart() {
    let missing = Config::load(Path::new("/nowhere/sps.toml")).unwrap_err();
    assert!(missing.is_unreadable());
    let text = missing.to_string();
    assert!(
        text.starts_with("/nowhere/sps.toml: ") && text.contains("spsctl init"),
        "{text}"
    );
    assert!(!after_good("x").is_unreadable());
}

#[test]
fn a_configuration_survives_being_frozen() {
    let (config, _) = Config::parse(Path::new("f"), &Config::sample(&InitOptions::default()).unwrap()).unwrap();
    let frozen = postcard::to_stdvec(&config).unwrap();
    assert_eq!(postcard::from_bytes::<Config>(&frozen).unwrap(), config);
}

/// Cut and scribbled files are refused or accepted, never a panic, and every problem can be printed.
#[test]
fn damaged_files_never_break_the_reader() {
    let sample = Config::sample(&InitOptions::default()).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let scribbles = [
        "[", "]", "[[", "\"", "=", "\n", "'''", "é", "\u{0}", "#", "-", "1e999", "{", "}", ",", ".",
    ];
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut text: Vec<char> = sample.chars().collect();
        text.truncate(1 + random(text.len()));
        for _ in 0..random(4) {
            let at = random(text.len());
            text.splice(
                at..at + random(2).min(text.len() - at),
                scribbles[random(scribbles.len())].chars(),
            );
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = Config::parse(Path::new("f"), &text) {
            refused += 1;
            assert!(!problems.to_string().is_empty());
        }
    }
    assert!(refused > 1_000, "only {refused} refused");
}

/// The shipped sample is what `spsctl init` writes when nothing is said. `SPS_WRITE_EXPECTED=1` writes it anew.
#[test]
fn the_shipped_sample_is_what_init_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../etc/sps.toml");
    let sample = Config::sample(&InitOptions::default()).unwrap();
    if std::env::var_os("SPS_WRITE_EXPECTED").is_some() {
        std::fs::write(&path, &sample).unwrap();
    }
    let (_, warnings) = Config::load_noting(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), sample);
}
