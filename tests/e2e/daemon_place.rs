//! Where a daemon may be, and that there is one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::wire::{Client, Daemon, seqd, until};
use tempfile::TempDir;

#[test]
fn it_makes_its_directory_and_files_for_its_user_only() {
    let daemon = Daemon::start();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(daemon.socket.parent().unwrap()), 0o700);
    for name in ["seqd.sock", "life.lock", "seqd.log", "numbers"] {
        assert_eq!(mode(&daemon.file(name)), 0o600, "{name}");
    }
}

#[test]
fn a_directory_that_is_not_safe_is_refused_with_the_reason() {
    let (home, socket) = home();
    let directory = socket.parent().unwrap();
    let path = directory.display();

    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "error: the directory {path} is open to other users (mode 0777): name a socket in a directory of its own with --socket, \
             or chmod 700 {path} if it is there for nothing else\n"
        )
    );

    fs::set_permissions(directory, Permissions::from_mode(0o1777)).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "error: the directory {path} is open to other users (mode 1777): \
             name a socket in a directory of your own with --socket\n"
        )
    );

    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    let link = home.path().join("link");
    symlink(directory, &link).unwrap();
    assert_eq!(
        refusal(&link.join("seqd.sock")),
        format!(
            "error: {} is a symbolic link: name the real directory with --socket DIRECTORY/seqd.sock\n",
            link.display()
        )
    );

    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let said = refusal(&file.join("seqd.sock"));
    assert_eq!(said, format!("error: {} is not a directory: move it away\n", file.display()));
}

#[test]
fn another_users_directory_or_socket_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_home, socket) = home();
    let directory = socket.parent().unwrap();
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(directory, Some(12_345), None).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "error: the directory {} belongs to uid 12345, not to uid 0: name one of your own with --socket\n",
            directory.display()
        )
    );
    std::os::unix::fs::chown(directory, Some(0), None).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    std::os::unix::fs::chown(&socket, Some(12_345), None).unwrap();
    assert_eq!(
        refusal(&socket),
        format!(
            "error: the socket {} belongs to uid 12345, not to uid 0: name another with --socket\n",
            socket.display()
        )
    );
}

#[test]
fn what_is_no_socket_stays_where_it_is() {
    let (_home, socket) = home_with_directory();
    let refused = |what: &str| {
        let way_out = "move it away, or name another socket with --socket";
        assert_eq!(refusal(&socket), format!("error: {} is {what}, not a socket: {way_out}\n", socket.display()));
    };
    fs::write(&socket, "precious").unwrap();
    refused("a plain file");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    fs::remove_file(&socket).unwrap();

    fs::create_dir(&socket).unwrap();
    refused("a directory");
    fs::remove_dir(&socket).unwrap();

    symlink("elsewhere", &socket).unwrap();
    refused("a symbolic link");
    assert_eq!(fs::read_link(&socket).unwrap(), Path::new("elsewhere"));
}

#[test]
fn a_path_of_107_bytes_works_and_one_of_108_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("d");
    let socket = |length: usize| {
        let name = length - directory.as_os_str().len() - 1;
        directory.join("s".repeat(name))
    };
    let daemon = Daemon::start_at(&socket(107));
    assert_eq!(daemon.socket.as_os_str().len(), 107);
    daemon.connect().takes_turn("a");
    assert_eq!(
        refusal(&socket(108)),
        format!(
            "error: the socket path {} has 108 bytes, the system allows 107: \
             name a shorter one with --socket or SEQ_SOCKET\n",
            socket(108).display()
        )
    );
}

#[test]
fn a_stale_socket_is_taken_over() {
    let (_home, socket) = home_with_directory();
    drop(UnixListener::bind(&socket).unwrap());
    Daemon::start_at(&socket).connect().takes_turn("a");
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_another() {
    let (_home, socket) = home_with_directory();
    for number in 0..5 {
        let daemon = Daemon::start_at(&socket);
        daemon.connect().takes_turn(&format!("a{number}"));
        // Dropping it kills it.
    }
    let entries = fs::read_dir(socket.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(
        names,
        ["done", "life.lock", "numbers", "seq.db", "seq.db-wal", "seq.mark", "seqd.log", "seqd.sock"],
        "nothing of theirs is left over"
    );
}

#[test]
fn a_socket_that_another_program_listens_on_is_left_alone() {
    let (_home, socket) = home_with_directory();
    let _other = UnixListener::bind(&socket).unwrap();
    let before = fs::symlink_metadata(&socket).unwrap().ino();
    assert_eq!(
        refusal(&socket),
        format!(
            "error: another program listens on {}, perhaps a systemd socket unit: stop it, or let it start seqd\n",
            socket.display()
        )
    );
    assert_eq!(fs::symlink_metadata(&socket).unwrap().ino(), before);
}

#[test]
fn the_second_daemon_at_a_place_says_who_is_there_and_goes() {
    let daemon = Daemon::start();
    let second = seqd().arg("--socket").arg(&daemon.socket).output().unwrap();
    assert_eq!(second.status.code(), Some(0));
    assert_eq!(String::from_utf8(second.stdout).unwrap(), "");
    assert_eq!(
        String::from_utf8(second.stderr).unwrap(),
        format!("seqd: a daemon serves {} already: process {}\n", daemon.socket.display(), daemon.pid())
    );
    assert_eq!(refusal(&daemon.socket), "busy\n");
    daemon.connect().takes_turn("a");
}

#[test]
fn two_daemons_live_beside_each_other_in_one_directory() {
    let daemon = Daemon::start();
    let other = Daemon::start_at(&daemon.file("other"));
    assert_eq!(daemon.connect().takes_turn("a"), other.connect().takes_turn("a"));
    assert!(daemon.file("other.life.lock").exists() && daemon.file("other.numbers").exists());
}

#[test]
fn of_many_that_start_at_once_one_serves() {
    let (_home, socket) = home();
    let starting: Vec<_> = (0..20)
        .map(|_| {
            let mut command = seqd();
            command.args(["--detached", "--idle-exit", "60", "--socket"]).arg(&socket);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let mut said = Vec::new();
    let mut children = Vec::new();
    for mut child in starting {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        said.push((line, child.id()));
        children.push(Ending(child));
    }
    let ready: Vec<_> = said.iter().filter(|(line, pid)| *line == format!("ready {pid}\n")).collect();
    assert_eq!(ready.len(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|(line, _)| line == "busy\n").count(), 19, "{said:?}");
    Client::connect(&socket).takes_turn("a");
}

/// A child that is killed at the end.
struct Ending(std::process::Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Standard output is a file here, whose end nobody waits for.
#[test]
fn when_detach_returns_the_daemon_is_there() {
    let (home, socket) = home();
    let said = fs::File::create(home.path().join("said")).unwrap();
    let detach = || {
        let mut first = seqd();
        first.args(["--detach", "--idle-exit", "0.2", "--socket"]).arg(&socket).stdout(said.try_clone().unwrap());
        first.stderr(Stdio::null()).status().unwrap()
    };
    assert!(detach().success());
    let client = Client::connect(&socket);
    assert!(detach().success(), "another one is there");
    drop(client);
    until("the idle daemon leaves", || (!socket.exists()).then_some(()));
    fs::write(&socket, "").unwrap();
    assert_eq!(detach().code(), Some(125));
    let said = fs::read_to_string(home.path().join("said")).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ready ") && lines[1] == "busy" && lines[2].starts_with("error: "), "{said}");
}

#[test]
fn a_detached_daemon_is_nobodys_child_and_keeps_nothing_open() {
    let (_home, socket) = home();
    let mut first = seqd()
        .args(["--detach", "--idle-exit", "0.2", "--socket"])
        .arg(&socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The end of this pipe comes although the daemon lives on.
    let mut said = String::new();
    first.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(first.wait().unwrap().success());
    let pid: u32 = said.strip_prefix("ready ").unwrap().trim_end().parse().unwrap();
    let mut client = Client::connect(&socket);
    client.takes_turn("a");

    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_ne!(fields[1], std::process::id().to_string(), "its parent");
    assert_eq!(fields[4], "0", "its terminal");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    for descriptor in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap(), Path::new("/dev/null"));
    }
    // A connection keeps it there, the end of the last one lets it go.
    drop(client);
    until("the idle daemon leaves", || (!socket.exists()).then_some(()));
    // Nor does it run when nobody collects its end.
    until("it is gone", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
}

#[test]
fn it_works_when_its_program_was_replaced() {
    let (home, socket) = home();
    let copy = home.path().join("seqd-copy");
    // By another process: a descriptor of this one could be inherited by what another thread starts, and a program
    // that somebody may write to cannot be run.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_seqd")).arg(&copy).status().unwrap().success());
    // The shell holds the program open by its descriptor, then removes its name, then runs it.
    let script = "exec 3<\"$0\"; rm \"$0\"; exec /proc/self/fd/3 --detach --idle-exit 0.1 --socket \"$1\"";
    let said = Command::new("sh").args(["-c", script]).arg(&copy).arg(&socket).output().unwrap();
    assert!(String::from_utf8(said.stdout).unwrap().starts_with("ready "));
    until("it leaves", || (!socket.exists()).then_some(()));
}

#[test]
fn wrong_usage_has_status_2() {
    let wrong = seqd().arg("--nonsense").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let wrong = seqd().args(["--idle-exit", "soon"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let wrong = seqd().args(["--group", "no such group"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(125));
    assert_eq!(
        String::from_utf8(wrong.stderr).unwrap(),
        "seqd: there is no group no such group in /etc/group: name another, or give its number\n"
    );
}

/// A directory of one's own, and a socket in one that is not there yet.
fn home() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("seq/seqd.sock");
    (home, socket)
}

fn home_with_directory() -> (TempDir, PathBuf) {
    let (home, socket) = home();
    let directory = socket.parent().unwrap();
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    (home, socket)
}

/// What a daemon says that does not start.
fn refusal(socket: &Path) -> String {
    match Daemon::start_with(socket, &[]) {
        Ok(_) => panic!("it started"),
        Err(said) => said,
    }
}
