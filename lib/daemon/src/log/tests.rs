use super::*;

fn log(path: &Path, level: Level) -> &'static Log {
    Box::leak(Box::new(Log {
        source: "sps-test/3".into(),
        levels: Mutex::new(Levels {
            all: level,
            modules: Vec::new(),
        }),
        queue: Mutex::new(Queue {
            file: Some(LogFile::open(path).unwrap()),
            ..Queue::default()
        }),
        wake: Condvar::new(),
        done: Condvar::new(),
        echo: false,
    }))
}

/// Lines without their time.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

/// design §5
#[test]
fn a_line_has_source_level_module_message_and_fields() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    tracing::subscriber::with_default(Forward(log(&path, Level::Info)), || {
        tracing::warn!(target: "sps_net::udp", count = 12, listener = "udp:0.0.0.0:5060", "kernel dropped datagrams");
        tracing::info!(target: "a", text = "two words", empty = "", quote = "\"", "x\r\ny\u{1b}[31mz");
        tracing::debug!(target: "a", "unheard");
        let error = io::Error::other("inner");
        tracing::error!(target: "a", error = &error as &dyn std::error::Error);
    });
    assert_eq!(
        lines(&path),
        [
            "sps-test/3 WARN sps_net::udp: kernel dropped datagrams count=12 listener=udp:0.0.0.0:5060",
            "sps-test/3 INFO a: x\\r\\ny\\u{1b}[31mz text=\"two words\" empty=\"\" quote=\"\\\"\"",
            "sps-test/3 ERROR a:  error=inner",
        ]
    );
}

#[test]
fn the_longest_exception_holds_for_a_module() {
    let mut levels = Levels {
        all: Level::Warn,
        modules: Vec::new(),
    };
    levels.set(Some("sps_net"), Level::Debug);
    levels.set(Some("sps_net::udp"), Level::Error);
    for (target, level) in [
        ("sps_net", Level::Debug),
        ("sps_net::tcp", Level::Debug),
        ("sps_net::udp::batch", Level::Error),
        ("sps_network", Level::Warn),
    ] {
        assert_eq!(levels.of(target), level, "{target}");
    }
    assert_eq!(levels.most(), Level::Debug);
    levels.set(None, Level::Info);
    assert_eq!(levels.of("sps_net::udp"), Level::Info);
}

#[test]
fn a_level_can_change_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = log(&path, Level::Info);
    tracing::subscriber::with_default(Forward(log), || {
        for level in [Level::Info, Level::Debug, Level::Info] {
            lock(&log.levels).set(Some("chatty"), level);
            tracing::callsite::rebuild_interest_cache();
            tracing::debug!(target: "chatty", "at {level:?}");
        }
    });
    assert_eq!(lines(&path), ["sps-test/3 DEBUG chatty: at Debug"]);
}

#[test]
fn a_line_is_cut_at_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    tracing::subscriber::with_default(Forward(log(&path, Level::Info)), || {
        tracing::info!("{}", "ä".repeat(MAX_LINE_LEN));
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.len() <= MAX_LINE_LEN && text.ends_with("ä...\n"));
}

#[test]
fn nothing_is_lost_when_the_file_is_opened_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = log(&path, Level::Info);
    let file = lock(&log.queue).file.take().unwrap();
    std::thread::spawn(move || log.serve(file));
    for moved in 0..10 {
        for line in 0..100 {
            log.say(format!("t {moved} {line}\n").as_bytes());
        }
        std::fs::rename(&path, folder.path().join(format!("log.{moved}"))).unwrap();
        log.reopen(None).unwrap();
    }
    let all: Vec<_> = (0..10)
        .flat_map(|moved| lines(&folder.path().join(format!("log.{moved}"))))
        .collect();
    let expected: Vec<_> = (0..10)
        .flat_map(|moved| (0..100).map(move |line| format!("{moved} {line}")))
        .collect();
    assert_eq!(all, expected);
    assert!(log.reopen(Some(folder.path().join("no/folder"))).is_err());
}

#[test]
fn lines_beyond_the_bound_are_counted_and_the_count_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = log(&path, Level::Info);
    let file = lock(&log.queue).file.take().unwrap();
    // Nobody writes yet.
    let line = format!("t {}\n", "x".repeat(1_021));
    for _ in 0..MAX_QUEUED_LEN / line.len() + 3 {
        log.say(line.as_bytes());
    }
    assert_eq!(lock(&log.queue).lost, 3);
    std::thread::spawn(move || log.serve(file));
    log.flush();
    assert_eq!(
        lines(&path).last().map(String::as_str),
        Some("sps-test/3 WARN sps_daemon::log: log lines lost count=3")
    );
}
