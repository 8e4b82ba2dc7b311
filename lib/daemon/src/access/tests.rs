use std::collections::HashMap;
use std::time::UNIX_EPOCH;

use super::*;

/// design §5
#[test]
fn a_line_is_as_the_manual_says() {
    let entry = Entry {
        source: "192.0.2.5:5060".parse().unwrap(),
        user: Some(b"alice"),
        received_at: UNIX_EPOCH + Duration::from_millis(1_795_154_462_123),
        method: b"INVITE",
        request_uri: b"sip:bob@example.com",
        status: 200,
        took: Duration::from_micros(1_234_567),
        call_id: b"a84b4c76e66710",
        next: Some(("192.0.2.9:5060".parse().unwrap(), "udp")),
        stage: "registry",
        branches: 2,
        more: &[],
    };
    let mut line = Vec::new();
    entry.write(&mut Stamp::default(), &mut line);
    assert_eq!(
        String::from_utf8(line).unwrap(),
        "192.0.2.5:5060 - alice [20/Nov/2026:06:01:02.123 +0000] \"INVITE sip:bob@example.com SIP/2.0\" 200 1234 \
         call-id=a84b4c76e66710 next=192.0.2.9:5060/udp stage=registry branches=2"
    );
}

#[test]
fn a_stranger_can_neither_forge_nor_bloat_a_line() {
    let long = vec![b'x'; MAX_VALUE_LEN + 1];
    let entry = Entry {
        source: "[2001:db8::1]:40000".parse().unwrap(),
        user: None,
        received_at: UNIX_EPOCH,
        method: b"A\" 200",
        request_uri: b"sip:a\r\nb\\c\xff",
        status: 65_535,
        took: Duration::ZERO,
        call_id: b"x status=200",
        next: None,
        stage: "none",
        branches: 0,
        more: &[("ua", &long), ("empty", b"")],
    };
    let mut line = Vec::new();
    entry.write(&mut Stamp::default(), &mut line);
    let expected = format!(
        "[2001:db8::1]:40000 - - [01/Jan/1970:00:00:00.000 +0000] \"A\\x22 200 sip:a\\x0d\\x0ab\\x5cc\\xff SIP/2.0\" \
         65535 0 call-id=x\\x20status=200 stage=none branches=0 ua={}... empty=",
        "x".repeat(MAX_VALUE_LEN)
    );
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}

/// Writers at full speed, the file moved away and opened anew all the time: every line is in one of the files, once and
/// whole, or counted as lost.
#[test]
fn no_line_is_torn_doubled_or_lost_without_count() {
    const WRITERS: usize = 3;
    const LINES: usize = 20_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access_log");
    let log = AccessLog::start(Some(&path), WRITERS).unwrap();
    let payload = |writer: usize, line: usize| "x".repeat((writer * 31 + line * 7) % 200);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let access = log.worker(writer);
            scope.spawn(move || {
                for line in 0..LINES {
                    access.line(|out| {
                        out.extend_from_slice(format!("{writer} {line} {}", payload(writer, line)).as_bytes());
                    });
                }
            });
        }
        for moved in 0..20 {
            std::fs::rename(&path, folder.path().join(format!("access_log.{moved}"))).unwrap();
            log.reopen().unwrap();
        }
    });
    log.flush();
    let mut seen = HashMap::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            let (writer, number) = (number(), number());
            assert_eq!(words.next().unwrap(), payload(writer, number));
            *seen.entry((writer, number)).or_insert(0) += 1;
        }
    }
    assert!(seen.values().all(|&times| times == 1));
    assert_eq!(seen.len() as u64 + log.lost(), (WRITERS * LINES) as u64);
}

#[test]
fn beyond_the_bound_and_on_a_full_disk_lines_are_counted() {
    let log = AccessLog::start(Some(Path::new("/dev/full")), 1).unwrap();
    let access = log.worker(0);
    access.line(|out| out.extend_from_slice(b"one"));
    access.line(|out| out.extend_from_slice(b"two"));
    log.flush();
    assert_eq!(log.lost(), 2);

    // One that does not come to an end holds the buffer; the thread cannot empty it meanwhile.
    let slot = access.slot.clone();
    lock(&slot.0).bytes.resize(MAX_WAITING_LEN, b'\n');
    let before = log.lost();
    access.line(|_| {});
    log.flush();
    assert!(log.lost() > before);
}

#[test]
fn what_is_lost_is_told_at_once_then_from_time_to_time_and_at_its_end() {
    let mut losses = Losses::default();
    let now = Instant::now();
    assert!(!losses.tell(now, 0, true));
    assert!(losses.tell(now, 3, false), "the first");
    assert!(!losses.tell(now, 5, false), "not each");
    assert!(losses.tell(now + TELL_WAIT, 5, false), "the rest");
    assert!(!losses.tell(now + TELL_WAIT, 6, false));
    assert!(losses.tell(now + TELL_WAIT, 6, true), "the end, at once");
    assert_eq!((losses.told, losses.before), (6, 6));
    assert!(!losses.tell(now + TELL_WAIT, 6, true), "once");
    // A disk that is full and not full in turn.
    assert!(!losses.tell(now + TELL_WAIT, 7, false));
    assert!(!losses.tell(now + TELL_WAIT, 7, true));
    assert!(losses.tell(now + TELL_WAIT * 2, 7, true));
    assert_eq!(losses.before, 7);
}

#[test]
fn it_can_be_off_and_on_and_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let log = AccessLog::start(None, 1).unwrap();
    let access = log.worker(5);
    let say = |text: &str| access.line(|out| out.extend_from_slice(text.as_bytes()));
    say("unheard");
    assert!(!access.is_on());
    log.set_path(Some(&one)).unwrap();
    say("first");
    log.flush();
    log.set_path(Some(&other)).unwrap();
    say("second");
    assert!(log.set_path(Some(&folder.path().join("no/folder"))).is_err());
    say("third");
    log.flush();
    log.set_path(None).unwrap();
    say("unheard");
    assert_eq!(std::fs::read_to_string(one).unwrap(), "first\n");
    assert_eq!(std::fs::read_to_string(other).unwrap(), "second\nthird\n");
    assert_eq!(log.lost(), 0);
}

#[test]
fn what_is_written_last_is_written_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = AccessLog::start(Some(&path), 1).unwrap();
    let access = log.worker(0);
    // The thread is asleep by now or not: both must do.
    for line in 0..50 {
        access.line(|out| out.extend_from_slice(line.to_string().as_bytes()));
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().last(), Some(line.to_string().as_str()));
    }
}
