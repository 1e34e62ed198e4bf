//! What the daemon's operations cost beside 10 to 1,000,000 others, and what each of those takes of memory.
//!
//! The cost is the time that the daemon's own thread runs, so that neither the driver nor other programs count.

use std::collections::VecDeque;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::report::{Mark, Report, median};
use super::stage::{Server, Stage, own_memory, run_time};
use super::talk::Talk;

const PART: &str = "growth";

/// Requests that are sent in one piece and measured together.
const BATCH: usize = 100;

/// Lines that the driver uses where there are many: as many as there are of the fewest, so that it asks for the same
/// beside all of them. What is asked of one line in one piece is written down together.
const LINES: usize = 10;

/// Batches of each kind.
const BATCHES: usize = 41;

/// Tickets that are asked for on one connection, of 65,536 that it may have.
const TICKETS_PER_CONNECTION: usize = 50_000;

/// Connections that wait at once, where so many may be open.
const CONNECTIONS: usize = 10_000;

/// Open files that the daemon must be allowed for them.
const OPEN_FILES: u64 = 32_768;

/// How many of those it keeps for itself, and for others than these connections.
const FILES_KEPT: u64 = 128;

/// How many of the rest it reckons with for each connection.
const FILES_PER_CONNECTION: u64 = 3;

/// The operations that are measured.
const OPERATIONS: [&str; 5] = ["enqueue", "cancel", "done and grant", "a turn elsewhere", "status"];

/// What there are many of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    /// Waiters in one domain.
    Tickets,
    /// Domains with one turn each.
    Domains,
}

pub(crate) fn measure(report: &mut Report, sizes: &[usize]) {
    for (crowd, name) in [(Crowd::Tickets, "tickets"), (Crowd::Domains, "domains")] {
        let mut least: Option<[f64; 5]> = None;
        for &size in sizes {
            let (costs, bytes) = beside(crowd, size);
            for (operation, cost) in OPERATIONS.iter().zip(costs) {
                report.add(PART, format!("{operation} beside {size} {name}"), cost, "µs");
            }
            let what = format!("memory of one of {size} {name}");
            match crowd {
                _ if size < 100_000 => {}
                Crowd::Tickets => report.marked(PART, what, (bytes, "bytes"), Mark::AtMost(400.0)),
                Crowd::Domains => report.add(PART, what, bytes, "bytes"),
            }
            let least = least.get_or_insert(costs);
            if Some(&size) == sizes.last() {
                for ((operation, cost), least) in OPERATIONS.iter().zip(costs).zip(least) {
                    let what = format!("{operation}, {size} {name} to {}", sizes[0]);
                    report.marked(PART, what, (cost / *least, "times"), Mark::AtMost(2.0));
                }
            }
        }
    }
    idle_domains(report);
    connections(report);
}

/// Microseconds of each operation beside so many others, and the bytes of one of those.
fn beside(crowd: Crowd, size: usize) -> ([f64; 5], f64) {
    let stage = Stage::new();
    let daemon = stage.daemon("seq", &[]);
    let mut driver = Driver::new(&daemon, crowd, size);
    driver.turns(0);
    let before = own_memory(daemon.pid());
    let _crowd = fill(&daemon, crowd, size);
    let bytes = to_f64(own_memory(daemon.pid()).saturating_sub(before)) / to_f64(size as u64);
    let mut costs = [(); 5].map(|()| Vec::new());
    for round in 0..BATCHES {
        for (costs, cost) in costs.iter_mut().zip(driver.round(round)) {
            costs.push(cost / 1e3 / to_f64(BATCH as u64));
        }
    }
    (costs.map(|costs| median(&costs)), bytes)
}

/// Who asks, beside all the others.
struct Driver<'a> {
    daemon: &'a Server,
    talk: Talk,
    /// The lines in which it has the turn: by whose name, and who comes after that.
    lines: Vec<(String, VecDeque<String>)>,
}

impl Driver<'_> {
    /// Takes the turn in the one domain, or in some of all.
    fn new(daemon: &Server, crowd: Crowd, size: usize) -> Driver<'_> {
        let own = |number: usize| (format!("d{}", number * stride(size)), VecDeque::from(["own".to_owned()]));
        let lines = match crowd {
            Crowd::Tickets => vec![own(0)],
            Crowd::Domains => (0..LINES).map(own).collect(),
        };
        let mut talk = Talk::new(daemon);
        talk.send(lines.iter().map(|(domain, _)| sequence(domain, "own", 0)));
        Driver { daemon, talk, lines }
    }

    /// Nanoseconds of one batch of each of the operations.
    fn round(&mut self, round: usize) -> [f64; 5] {
        let count = self.lines.len();
        let place = |number: usize| (number % count, format!("b{round}-{number}"));
        let of_all = |lines: &[(String, VecDeque<String>)], request: &dyn Fn(&str, &str) -> String| -> Vec<String> {
            (0..BATCH).map(place).map(|(line, name)| request(&lines[line].0, &name)).collect()
        };
        let enqueue = self.cost(of_all(&self.lines, &|domain, name| sequence(domain, name, 0)));
        let cancel = self.cost(of_all(&self.lines, &|domain, name| about("cancel", domain, name)));
        // Ahead of all, so that they are next.
        self.cost(of_all(&self.lines, &|domain, name| sequence(domain, name, 1)));
        let mut ends = Vec::new();
        for (line, name) in (0..BATCH).map(place) {
            let (domain, names) = &mut self.lines[line];
            names.push_back(name);
            ends.extend(names.pop_front().map(|first| about("done", domain, &first)));
        }
        let grant = self.cost(ends);
        let turns = self.turns(round);
        let status = r#"{"op":"status","domain":"d0","waiters_max":10}"#;
        let status = self.cost(vec![format!("{status}\n"); BATCH]);
        [enqueue, cancel, grant, turns, status]
    }

    /// Turns in domains that nobody else is in.
    fn turns(&mut self, round: usize) -> f64 {
        let turn = |number| {
            let domain = format!("e{}", round * BATCH + number);
            sequence(&domain, "own", 0) + &about("done", &domain, "own")
        };
        self.cost((0..BATCH).map(turn).collect())
    }

    /// Nanoseconds that the daemon runs for these requests.
    fn cost(&mut self, requests: Vec<String>) -> f64 {
        let before = run_time(self.daemon.pid());
        self.talk.send(requests);
        to_f64(run_time(self.daemon.pid()) - before)
    }
}

/// Domains between two in which the driver has the turn.
fn stride(size: usize) -> usize {
    size / LINES
}

/// Lets so many wait, or have turns; as long as the connections live they do.
fn fill(daemon: &Server, crowd: Crowd, size: usize) -> Vec<Talk> {
    let request = |number: usize| match crowd {
        Crowd::Tickets => sequence("d0", &format!("f{number}"), 0),
        Crowd::Domains => sequence(&format!("d{number}"), "f", 0),
    };
    let is_drivers = |number: &usize| crowd == Crowd::Domains && number.is_multiple_of(stride(size));
    let mut talks = Vec::new();
    for start in (0..size).step_by(TICKETS_PER_CONNECTION) {
        let mut talk = Talk::new(daemon);
        let end = size.min(start + TICKETS_PER_CONNECTION);
        for chunk in (start..end).step_by(1_000) {
            talk.send((chunk..end.min(chunk + 1_000)).filter(|number| !is_drivers(number)).map(request));
        }
        talks.push(talk);
    }
    talks
}

/// What a domain takes that was used once.
fn idle_domains(report: &mut Report) {
    const DOMAINS: usize = 100_000;
    let stage = Stage::new();
    let daemon = stage.daemon("seq", &[]);
    let mut talk = Talk::new(&daemon);
    let mut use_domains = |first: usize| {
        let turn = |number| {
            let domain = format!("d{number}");
            sequence(&domain, "r", 0) + &about("done", &domain, "r")
        };
        (first..first + DOMAINS).step_by(1_000).for_each(|chunk| talk.send((chunk..chunk + 1_000).map(turn)));
    };
    use_domains(0);
    let before = own_memory(daemon.pid());
    use_domains(DOMAINS);
    let bytes = to_f64(own_memory(daemon.pid()).saturating_sub(before)) / to_f64(DOMAINS as u64);
    report.add(PART, "memory of an idle domain", bytes, "bytes");
}

/// What a connection takes that says nothing any more, and one on which somebody waits.
fn connections(report: &mut Report) {
    let connections = raise_open_files();
    for (name, is_waiting) in [("an idle connection", false), ("a waiting connection", true)] {
        let stage = Stage::new();
        let daemon = stage.daemon("seq", &[]);
        let mut holder = Talk::new(&daemon);
        holder.send([sequence("x", "holder", 0)]);
        let before = own_memory(daemon.pid());
        let mut open = Vec::new();
        for number in 0..connections {
            let mut talk = Talk::new(&daemon);
            // What is sent last of all is a hello.
            talk.send(is_waiting.then(|| sequence("x", &format!("c{number}"), 0)));
            open.push(talk);
        }
        let bytes = to_f64(own_memory(daemon.pid()).saturating_sub(before)) / to_f64(connections as u64);
        let what = format!("memory of {name}, {connections} at once");
        report.marked(PART, what, (bytes, "bytes"), Mark::AtMost(4096.0));
    }
}

/// Lets this process and those that it starts have as many files open as all the connections need, or as may be; gives
/// how many connections the daemon takes then.
fn raise_open_files() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let may_be = maximum.map_or(OPEN_FILES, |maximum| maximum.min(OPEN_FILES));
    let raise = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok();
    let is_raised = may_be < OPEN_FILES && raise(Some(OPEN_FILES), Some(OPEN_FILES));
    let files = if is_raised { OPEN_FILES } else { may_be };
    assert!(is_raised || raise(Some(files), maximum), "the soft limit may be raised to the hard one");
    let connections = usize::try_from(files.saturating_sub(FILES_KEPT) / FILES_PER_CONNECTION).unwrap_or(CONNECTIONS);
    connections.min(CONNECTIONS)
}

/// Asks for a turn as `seq run` does.
fn sequence(domain: &str, name: &str, priority: i8) -> String {
    let secret = "0123456789abcdef0123456789abcdef";
    let command = "./deploy.sh --all";
    format!(
        "{{\"op\":\"sequence\",\"domain\":\"{domain}\",\"request_id\":\"{name}\",\"priority\":{priority},\
         \"secret\":\"{secret}\",\"command\":\"{command}\"}}\n"
    )
}

fn about(operation: &str, domain: &str, name: &str) -> String {
    format!("{{\"op\":\"{operation}\",\"domain\":\"{domain}\",\"request_id\":\"{name}\"}}\n")
}

#[expect(clippy::cast_precision_loss, reason = "none of them has 16 digits")]
fn to_f64(number: u64) -> f64 {
    number as f64
}
