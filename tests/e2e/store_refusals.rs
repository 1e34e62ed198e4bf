//! A daemon that finds its storage damaged, older or foreign: it says in one sentence what is wrong, and changes nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::refused::{files, killed, refusal};
use crate::wire::Daemon;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const WAY_ON: &str =
    "once no command runs under seq any more, move it and seq.db-wal beside it away and empty seq.mark";

#[test]
fn what_is_wrong_is_said_in_one_sentence_and_repaired_all_goes_on() {
    let (_directory, socket) = killed();
    let beside = |name: &str| socket.with_file_name(name);
    let (db, mark) = (beside("seq.db"), beside("seq.mark"));
    let (shown, marked) = (db.display(), mark.display());
    let away = beside("away");

    fs::rename(&db, &away).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "the database {shown} is missing or empty, and {marked} says that it was not: restore it and seq.db-wal \
             beside it as they were last, or, once no command runs under seq any more, move away what is left of both \
             and empty {marked}"
        )
    );
    fs::write(&db, "").unwrap();
    assert!(refusal(&socket).starts_with(&format!("the database {shown} is missing or empty")));
    fs::write(&db, "this is no database, but a text of some length".repeat(100)).unwrap();
    let garbage = fs::read(&db).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "the database {shown} is damaged (it is not a database): restore it and seq.db-wal beside it as they were last, \
         or, {WAY_ON}"
        )
    );
    assert_eq!(fs::read(&db).unwrap(), garbage, "it is left alone");
    fs::remove_file(&db).unwrap();
    fs::create_dir(&db).unwrap();
    assert_eq!(
        refusal(&socket),
        format!("{shown} is a directory: move it away, and restore the file that was there as it was last")
    );
    fs::remove_dir(&db).unwrap();
    fs::rename(&away, &db).unwrap();

    fs::rename(&mark, &away).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "{marked} is missing, which says what the database {shown} held last: restore it as it was last, or, once \
             no command runs under seq any more, move the database and seq.db-wal beside it away and make an empty \
             file {marked}"
        )
    );
    fs::rename(&away, &mark).unwrap();

    let daemon = Daemon::start_at(&socket);
    let mut client = daemon.connect();
    for domain in ["a", "b"] {
        assert!(client.ask(&format!(r#"{{"op":"sequence","domain":"{domain}"}}"#)).contains("queued"));
    }
}

#[test]
fn a_database_of_another_version_or_program_or_host_is_refused() {
    let (_directory, socket) = killed();
    let path = socket.with_file_name("seq.db");
    let shown = path.display();
    let run = |statement: &str| Connection::open(&path).unwrap().execute_batch(statement).unwrap();
    run("PRAGMA user_version = 99");
    assert_eq!(
        refusal(&socket),
        format!(
            "the database {shown} has version 99, and this seqd knows versions up to 3: use the newer seq, or, {WAY_ON}"
        )
    );
    run("PRAGMA user_version = 3; PRAGMA application_id = 7");
    assert_eq!(
        refusal(&socket),
        format!("{shown} is a database, but not one of seqd: move it away, or name another socket with --socket")
    );
    run("PRAGMA application_id = 1936028004");
    run("CREATE TABLE kept AS SELECT * FROM facts; UPDATE facts SET value = 'another' WHERE name <> 'journal'; \
         UPDATE facts SET value = 'elsewhere' WHERE name = 'host_name'");
    // The other host left its own mark.
    let mark = socket.with_file_name("seq.mark");
    let ours = fs::read(&mark).unwrap();
    fs::write(&mark, [&[7; 8], &ours[8..]].concat()).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "the database {shown} was last used on the host elsewhere, where commands may still run under it: run seq \
             there, or name a socket on a disk of this machine with --socket"
        )
    );
    run("DELETE FROM facts; INSERT INTO facts SELECT * FROM kept; DROP TABLE kept");
    fs::write(&mark, ours).unwrap();
    Daemon::start_at(&socket);
}

#[test]
fn a_daemon_that_keeps_everything_in_memory_does_not_start_over_turns_that_are_stored() {
    let (_directory, socket) = killed();
    let before = files(&socket);
    let in_memory = || Daemon::start_with(&socket, &["--in-memory"]);
    let words = format!(
        "error: by {} and the files beside it somebody may have a turn, wait, or have paused a domain, and a daemon \
         that keeps everything in memory would not know: start seqd without --in-memory, or name another socket with \
         --socket\n",
        socket.with_file_name("seq.db").display()
    );
    assert_eq!(in_memory().err(), Some(words.clone()));
    assert!(files(&socket) == before, "something has changed");
    // Where nobody can tell any more it is the same.
    fs::rename(socket.with_file_name("seq.mark"), socket.with_file_name("away")).unwrap();
    assert_eq!(in_memory().err(), Some(words));
    fs::rename(socket.with_file_name("away"), socket.with_file_name("seq.mark")).unwrap();
    let mut daemon = Daemon::start_at(&socket);
    for domain in ["a", "b"] {
        daemon.connect().ask(&format!(r#"{{"op":"release","domain":"{domain}"}}"#));
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait().success());
    drop(in_memory().unwrap());
}

/// A turn that was given, in a directory whose daemon was killed; then the damage.
#[track_caller]
fn damaged(damage: impl FnOnce(&Path)) -> (TempDir, std::path::PathBuf, String) {
    let (directory, socket) = killed();
    damage(socket.parent().unwrap());
    let said = refusal(&socket);
    (directory, socket, said)
}

#[test]
fn a_log_that_is_gone_or_damaged_is_the_file_that_is_named() {
    let gone = |place: &Path| fs::remove_file(place.join("seq.db-wal")).unwrap();
    let empty = |place: &Path| fs::write(place.join("seq.db-wal"), "").unwrap();
    let flipped = |place: &Path| {
        let mut log = fs::read(place.join("seq.db-wal")).unwrap();
        log[100] ^= 1;
        fs::write(place.join("seq.db-wal"), log).unwrap();
    };
    for damage in [&gone as &dyn Fn(&Path), &empty, &flipped] {
        let (_directory, socket, said) = damaged(damage);
        let [db, log, mark] = ["seq.db", "seq.db-wal", "seq.mark"].map(|name| socket.with_file_name(name));
        let (db, log, mark) = (db.display(), log.display(), mark.display());
        let words = format!(
            "{log}, the log of the database {db}, is missing or damaged, and {mark} says that there was more in it: \
             restore it as it was last, or, once no command runs under seq any more, move what is left of both away \
             and empty {mark}"
        );
        assert_eq!(said, words);
    }
}

#[test]
fn what_is_said_to_be_the_way_out_of_damage_is_one() {
    let garbage = |place: &Path| {
        let file = File::options().write(true).open(place.join("seq.db")).unwrap();
        file.write_all_at(&[b'x'; 32], 0).unwrap();
    };
    let cut_log = |place: &Path| {
        File::options().write(true).open(place.join("seq.db-wal")).unwrap().set_len(8_000).unwrap();
    };
    let cut_mark = |place: &Path| fs::write(place.join("seq.mark"), "cut").unwrap();
    let no_mark = |place: &Path| fs::remove_file(place.join("seq.mark")).unwrap();
    let no_database = |place: &Path| fs::remove_file(place.join("seq.db")).unwrap();
    for damage in [&garbage as &dyn Fn(&Path), &cut_log, &cut_mark, &no_mark, &no_database] {
        let (_directory, socket, said) = damaged(damage);
        assert!(["seq.db-wal", "away", "empty"].iter().all(|word| said.contains(word)), "{said}");
        for name in ["seq.db", "seq.db-wal"] {
            _ = fs::remove_file(socket.with_file_name(name));
        }
        fs::write(socket.with_file_name("seq.mark"), "").unwrap();
        drop(Daemon::start_at(&socket));
    }
}

#[test]
fn a_database_that_must_not_be_written_is_refused_and_nothing_is_left_beside_it() {
    let (directory, socket) = killed();
    let mut user = 40_001;
    if rustix::process::geteuid().is_root() {
        // Root may write anything.
        let mut chown = Command::new("chown");
        assert!(chown.args(["-R", &user.to_string()]).arg(directory.path()).status().unwrap().success());
    } else {
        user = rustix::process::geteuid().as_raw();
    }
    let place = socket.parent().unwrap();
    for name in ["seq.db", "seq.db-wal", "seq.mark"] {
        let path = place.join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        let before = files(&socket);
        let mut seqd = crate::wire::seqd();
        seqd.uid(user);
        let said = Daemon::start_as(seqd, &socket, &[]).err();
        let words = format!(
            "error: cannot write {}: Permission denied (os error 13): make {} and the files in it writable\n",
            path.display(),
            place.display()
        );
        assert_eq!(said, Some(words));
        assert!(files(&socket) == before, "{name}: something has changed");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn tables_that_are_not_those_of_the_version_are_damage_with_a_way_out() {
    for (damage, version) in [
        ("PRAGMA user_version = 0", 0),
        ("PRAGMA user_version = 1", 1),
        ("PRAGMA user_version = 2", 2),
        ("DROP TABLE turns", 3),
        ("DROP TABLE facts", 3),
        ("DROP TABLE settings", 3),
        ("DROP TABLE outputs", 3),
    ] {
        let (_directory, socket, said) = damaged(|place| {
            let connection = Connection::open(place.join("seq.db")).unwrap();
            connection.execute_batch(damage).unwrap();
        });
        let words = format!(
            "the database {} is damaged (its tables are not those of version {version}): restore it and seq.db-wal \
             beside it as they were last, or, {WAY_ON}",
            socket.with_file_name("seq.db").display()
        );
        assert_eq!(said, words, "{damage}");
    }
}

#[test]
fn a_directory_that_another_host_uses_is_left_to_it() {
    let (_directory, socket) = killed();
    let path = socket.with_file_name("life.lock");
    fs::write(&path, r#"{"pid":77,"boot_id":"another","host":"elsewhere","version":"0.1.0"}"#).unwrap();
    let lock = File::open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "{} is locked by process 77 on the host elsewhere: run seq there, or name a socket on a disk of this \
             machine with --socket",
            path.display()
        )
    );
}

#[test]
fn a_database_that_is_a_link_is_called_that() {
    let (directory, socket) = killed();
    let (database, elsewhere) = (socket.with_file_name("seq.db"), directory.path().join("elsewhere.db"));
    fs::rename(&database, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &database).unwrap();
    let refusal = Daemon::start_with(&socket, &[]).err().unwrap();
    let words = format!(
        "the database {} is a symbolic link: put the file there that it leads to, and seq.db-wal from beside that with \
         it, or let the whole directory be a link",
        database.display()
    );
    assert!(refusal.contains(&words), "{refusal}");
}

#[test]
fn a_directory_in_the_place_of_the_numbers_is_called_that() {
    let (_directory, socket) = killed();
    let numbers = socket.with_file_name("numbers");
    fs::remove_file(&numbers).unwrap();
    fs::create_dir(&numbers).unwrap();
    let refusal = Daemon::start_with(&socket, &[]).err().unwrap();
    assert!(refusal.contains("a directory is in its place: move that away, and restore the file"), "{refusal}");
}
