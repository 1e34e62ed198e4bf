//! What is found cut, older or damaged: all is there, or it is refused.

use super::*;

#[test]
fn a_log_that_was_cut_is_refused_and_nothing_is_changed() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    database.catch_up().unwrap();
    let log = place.0.path().join("seq.db-wal");
    let before = std::fs::read(&log).unwrap();
    database.commit(&[live(2)]).unwrap();
    database.catch_up().unwrap();
    // As a kill -9 leaves it, but with the last transaction missing.
    let files = ["seq.db", "seq.mark"].map(|name| (name, std::fs::read(place.0.path().join(name)).unwrap()));
    drop(database);
    for (name, content) in &files {
        std::fs::write(place.0.path().join(name), content).unwrap();
    }
    std::fs::write(&log, &before).unwrap();
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
    assert!(
        refusal
            .contains("or of seq.db-wal beside it, is lost: restore both as they were last, or, once no command runs")
            && refusal.contains("move both away and empty "),
        "{refusal}"
    );
}

#[test]
fn a_journal_that_the_database_has_taken_in_already_is_passed_over() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1), live(2)]).unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    // As a kill after the transaction leaves it.
    database.mark.take_in();
    let mut files = place.files(&["seq.mark"]);
    database.catch_up().unwrap();
    files.extend(place.files(&DATABASE));
    drop(database);
    place.restore(files);
    let (mut database, found) = place.open("boot").unwrap();
    assert_eq!(found, [2]);
    assert_eq!(history(&mut database), ["ended 1"]);
}

#[test]
fn a_journal_of_another_number_than_the_one_that_is_due_is_refused() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    database.catch_up().unwrap();
    let older = place.files(&DATABASE);
    database.commit(&[ended(1, 5), live(2)]).unwrap();
    database.catch_up().unwrap();
    // What lives is now what lived then, and only the history is not.
    database.commit(&[Change::Left { ticket: Ticket(2), why: None }, live(1)]).unwrap();
    drop(database);
    place.restore(older);
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
}

#[test]
fn an_older_database_is_refused_also_where_nothing_lives_and_the_journal_is_empty() {
    let place = Place::new();
    place.open("boot").unwrap().0.close();
    let older = place.files(&["seq.db"]);
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    database.close();
    place.restore(older);
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
}

#[test]
fn a_log_that_was_cut_anywhere_is_refused_or_all_turns_are_there() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    for ticket in 1..=3 {
        database.commit(&[ended(ticket, 5)]).unwrap();
        database.catch_up().unwrap();
    }
    let files = place.files(&["seq.db", "seq.db-wal", "seq.mark"]);
    drop(database);
    let length = files[1].1.len();
    let mut refused = 0;
    for cut in (0..=length).step_by(512).chain([length]) {
        place.restore(files.clone());
        std::fs::write(place.0.path().join("seq.db-wal"), &files[1].1[..cut]).unwrap();
        match place.open("boot") {
            Ok((mut database, _)) => {
                assert_eq!(history(&mut database), ["ended 3", "ended 2", "ended 1"], "cut at {cut}");
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > length / 1_024, "{refused}");
}

#[test]
fn an_older_mark_is_refused_beside_a_newer_database() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    database.catch_up().unwrap();
    let older = place.files(&["seq.mark"]);
    for ticket in [2, 3] {
        database.commit(&[live(ticket)]).unwrap();
        database.catch_up().unwrap();
    }
    let left = |ticket| Change::Left { ticket: Ticket(ticket), why: None };
    database.commit(&[left(2), left(3)]).unwrap();
    database.catch_up().unwrap();
    drop(database);
    place.restore(older);
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
}

#[test]
fn an_older_mark_is_refused_also_where_the_database_has_all_of_its_journal() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    let beside_a_journal = place.files(&["seq.mark"]);
    database.catch_up().unwrap();
    database.commit(&[live(2)]).unwrap();
    database.commit(&[Change::Left { ticket: Ticket(2), why: None }]).unwrap();
    database.close();
    let closed = place.files(&["seq.mark"]);
    let (mut database, _) = place.open("boot").unwrap();
    let begun = place.files(&["seq.mark"]);
    database.commit(&[live(3)]).unwrap();
    let newest = place.files(&["seq.mark"]);
    drop(database);
    for older in [beside_a_journal, closed] {
        place.restore(older);
        let before = place.files(&["seq.db", "seq.mark"]);
        let refusal = place.open("boot").unwrap_err().to_string();
        assert!(refusal.contains("seq.db is not what"), "{refusal}");
        assert!(place.files(&["seq.db", "seq.mark"]) == before, "something has changed");
    }
    // So it would look if the daemon had been killed before anybody was told of the ticket.
    place.restore(begun);
    drop(place.open("boot").unwrap());
    place.restore(newest);
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is not what"), "{refusal}");
}

#[test]
fn a_mark_that_does_not_say_whether_its_journal_was_taken_in_is_believed() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1), live(2)]).unwrap();
    database.commit(&[ended(1, 5)]).unwrap();
    database.mark.as_first_format();
    let mut files = place.files(&["seq.mark"]);
    database.catch_up().unwrap();
    files.extend(place.files(&DATABASE));
    drop(database);
    place.restore(files);
    assert_eq!(place.open("boot").unwrap().1, [2]);
}

#[test]
fn a_mark_with_one_bit_wrong_is_refused_or_all_is_found() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1), ended(2, 5)]).unwrap();
    database.catch_up().unwrap();
    database.commit(&[ended(3, 5)]).unwrap();
    let files = place.files(&["seq.db", "seq.db-wal", "seq.mark"]);
    drop(database);
    let mut refused = 0;
    for bit in 0..128 * 8 {
        let mut damaged = files.clone();
        damaged[2].1[bit / 8] ^= 1 << (bit % 8);
        place.restore(damaged.clone());
        match place.open("boot") {
            Ok((mut database, found)) => {
                assert_eq!(found, [1], "bit {bit}");
                assert_eq!(history(&mut database), ["ended 3", "ended 2"], "bit {bit}");
            }
            Err(refusal) => {
                refused += 1;
                assert!(refusal.to_string().contains("seq.mark is damaged, which says"), "bit {bit}: {refusal}");
                assert!(place.files(&["seq.db", "seq.db-wal", "seq.mark"]) == damaged, "bit {bit}");
            }
        }
    }
    // All but the two summaries, which stand in for each other, and the words without a meaning.
    assert_eq!(refused, 12 * 64);
}

#[test]
fn a_turn_of_the_history_that_was_damaged_is_found_before_anything_is_changed() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1), ended(2, 5), ended(3, 5)]).unwrap();
    database.close();
    let path = place.0.path().join("seq.db");
    let mut content = std::fs::read(&path).unwrap();
    let at = content.windows(7).position(|bytes| bytes == b"ended 2").unwrap();
    content[at + 6] = b'9';
    std::fs::write(&path, content).unwrap();
    let before = place.files(&["seq.db", "seq.mark"]);
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("a turn of the history has a wrong checksum"), "{refusal}");
    assert!(place.files(&["seq.db", "seq.mark"]) == before, "something has changed");
    assert!(!place.0.path().join("seq.db-wal").exists());
}

#[test]
fn a_log_without_its_database_and_mark_is_left_alone() {
    let place = Place::new();
    let (mut database, _) = place.open("boot").unwrap();
    database.commit(&[live(1)]).unwrap();
    database.catch_up().unwrap();
    let log = place.files(&["seq.db-wal"]);
    drop(database);
    place.restore(log.clone());
    for name in ["seq.db", "seq.mark"] {
        std::fs::remove_file(place.0.path().join(name)).unwrap();
    }
    let refusal = place.open("boot").unwrap_err().to_string();
    assert!(refusal.contains("seq.db is missing or empty, and its log"), "{refusal}");
    assert!(place.files(&["seq.db-wal"]) == log && !place.0.path().join("seq.db").exists());
    std::fs::remove_file(place.0.path().join("seq.db-wal")).unwrap();
    assert!(place.open("boot").unwrap().1.is_empty());
}
