//! Storage that somebody removes while the daemon runs: it is put back.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::wire::Daemon;

#[test]
fn what_is_removed_of_the_storage_while_the_daemon_runs_is_put_back() {
    let all = ["seqd.sock", "seq.db", "seq.db-wal", "seq.mark", "numbers"];
    for removed in [&all[..], &all[1..], &all[1..2], &all[2..3], &all[3..4], &all[4..]] {
        let mut daemon = Daemon::start();
        let _directory = daemon.take_directory();
        daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
        let identity = |name: &str| fs::metadata(daemon.file(name)).map(|found| found.ino()).ok();
        let before: Vec<_> = removed.iter().map(|name| File::open(daemon.file(name)).ok()).collect();
        let old: Vec<_> = removed.iter().map(|name| identity(name)).collect();
        for name in removed {
            fs::remove_file(daemon.file(name)).unwrap();
        }
        crate::wire::until("the files are there again", || {
            removed
                .iter()
                .zip(&old)
                .all(|(name, old)| identity(name).is_some_and(|new| Some(new) != *old))
                .then_some(())
        });
        drop(before);
        daemon.connect().ask(r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":1000000}"#);
        let daemon = Daemon::start_at(&daemon.kill());
        let mut client = daemon.connect();
        for domain in ["a", "b"] {
            let asked = client.ask(&format!(r#"{{"op":"sequence","domain":"{domain}"}}"#));
            assert!(asked.contains("queued"), "{removed:?}: {asked}");
        }
    }
}

#[test]
fn whoever_removes_the_storage_again_and_again_does_not_end_the_daemon() {
    for is_all in [false, true] {
        let mut daemon = Daemon::start();
        let _directory = daemon.take_directory();
        daemon.connect().ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
        let directory = daemon.socket.parent().unwrap().to_owned();
        for _ in 0..200 {
            if is_all {
                _ = fs::remove_dir_all(&directory);
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                _ = fs::remove_file(entry.path());
            }
        }
        let all = ["seqd.sock", "life.lock", "seq.db", "seq.db-wal", "seq.mark", "numbers"];
        crate::wire::until("the files are there again", || {
            all.iter().all(|name| daemon.file(name).exists()).then_some(())
        });
        assert!(!daemon.is_gone(), "{}", daemon.log());
        daemon.connect().ask(r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":1000000}"#);
        let daemon = Daemon::start_at(&daemon.kill());
        let mut client = daemon.connect();
        for domain in ["a", "b"] {
            let asked = client.ask(&format!(r#"{{"op":"sequence","domain":"{domain}"}}"#));
            assert!(asked.contains("queued"), "{is_all}: {asked}");
        }
    }
}

#[test]
fn a_database_that_is_removed_from_a_full_disk_is_put_back_when_there_is_room() {
    let home = tempfile::tempdir().unwrap();
    let full = home.path().join("full");
    let socket = home.path().join("seq/seqd.sock");
    let daemon = Daemon::start_with_fault(&socket, &format!("quota:{}", full.display())).unwrap();
    let mut client = daemon.connect();
    client.ask(r#"{"op":"sequence","domain":"a","binding":"lease","lease_ms":1000000}"#);
    fs::write(&full, "").unwrap();
    for name in ["seqd.sock", "seq.db", "seq.db-wal"] {
        fs::remove_file(daemon.file(name)).unwrap();
    }
    let stalled = client.reply();
    assert_eq!(stalled["type"], "stalled");
    assert!(stalled["message"].as_str().unwrap().starts_with("the disk is full"), "{stalled}");
    client.send(r#"{"op":"sequence","domain":"b","binding":"lease","lease_ms":1000000}"#);
    assert_eq!(client.reply()["type"], "stalled");
    assert!(!daemon.file("seq.db").exists());
    fs::remove_file(&full).unwrap();
    assert_eq!(client.reply()["type"], "active");
    let daemon = Daemon::start_at(&daemon.kill());
    let mut client = daemon.connect();
    for domain in ["a", "b"] {
        assert!(client.ask(&format!(r#"{{"op":"sequence","domain":"{domain}"}}"#)).contains("queued"));
    }
}
