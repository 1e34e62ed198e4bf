//! Run-once keys, and what their commands wrote.

use super::*;

fn key(name: &str, body: Option<&str>) -> Change {
    let body = body.map(|body| body.as_bytes().to_vec());
    Change::Setting { kind: SettingKind::Key, name: name.to_owned(), body }
}

fn output(name: &str, body: Option<&str>) -> Change {
    Change::Output { name: name.to_owned(), body: body.map(|body| body.as_bytes().to_vec()) }
}

fn keys(database: &mut Database) -> Vec<(String, String)> {
    let text = |setting: Setting| (setting.name, String::from_utf8(setting.body).unwrap());
    database.take_settings().into_iter().map(text).collect()
}

#[test]
fn a_key_and_what_its_command_wrote_outlive_the_daemon_and_the_machine() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1), key("a", Some("reserved"))]).unwrap();
    database.commit(&[ended(1, 5), key("a", Some("completed")), output("a", Some("hello"))]).unwrap();
    sync(database.path()).unwrap();
    for boot_id in ["boot", "another"] {
        drop(database);
        database = place.open(boot_id).unwrap().0;
        assert_eq!(keys(&mut database), [("a".to_owned(), "completed".to_owned())]);
        assert_eq!(database.outputs().unwrap(), ["a"]);
        let history = History::open(database.path()).unwrap();
        assert_eq!(history.output("a").unwrap().unwrap(), b"hello");
        assert_eq!(history.output("b").unwrap(), None);
    }
    database.commit(&[key("a", None), output("a", None)]).unwrap();
    drop(database);
    let (mut database, _) = place.open("another").unwrap();
    assert!(keys(&mut database).is_empty() && database.outputs().unwrap().is_empty());
}

#[test]
fn what_a_command_wrote_is_refused_where_it_was_damaged_and_all_else_goes_on() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[key("a", Some("completed")), output("a", Some("hello"))]).unwrap();
    database.close();
    let connection = rusqlite::Connection::open(place.0.path().join("seq.db")).unwrap();
    connection.execute("UPDATE outputs SET body = CAST('jello' AS BLOB)", []).unwrap();
    drop(connection);
    let (mut database, _) = place.open("boot").unwrap();
    assert_eq!(keys(&mut database).len(), 1);
    let refused = History::open(database.path()).unwrap().output("a").unwrap_err().to_string();
    assert!(refused.contains("what a command wrote has a wrong checksum"), "{refused}");
}

#[test]
fn a_key_that_was_damaged_is_refused() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[key("a", Some("completed"))]).unwrap();
    database.close();
    let connection = rusqlite::Connection::open(place.0.path().join("seq.db")).unwrap();
    connection.execute("UPDATE settings SET body = CAST('reserved!' AS BLOB)", []).unwrap();
    drop(connection);
    let refused = place.open("boot").unwrap_err().to_string();
    assert!(refused.contains("a policy, a pause or a key has a wrong checksum"), "{refused}");
}

#[test]
fn what_is_brought_to_the_disk_while_somebody_removes_the_files_is_no_failure() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[key("a", Some("completed"))]).unwrap();
    for name in ["seq.db-wal", "seq.db"] {
        std::fs::remove_file(place.0.path().join(name)).unwrap();
        sync(database.path()).unwrap();
    }
    database.put_back().unwrap();
    sync(database.path()).unwrap();
    drop(database);
    assert_eq!(keys(&mut place.open("boot").unwrap().0).len(), 1);
}
