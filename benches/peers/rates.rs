//! The daemon alone: turns taken and given back in a second, beside Redis and the floor, with the same driver.

use std::path::Path;
use std::time::Duration;

use super::load::{Speech, pairs};
use super::report::{Mark, Report, median, ratio};
use super::stage::{BEFORE, Server, Stage, has};

const PART: &str = "rates";

/// How long each is measured in one round.
const MEASURED: Duration = Duration::from_millis(300);

/// A server that is measured.
struct Measured {
    name: &'static str,
    server: Server,
    speech: Speech,
    rates: Vec<f64>,
}

pub(crate) fn measure(report: &mut Report, before: Option<&Path>, rounds: usize) {
    let stage = Stage::new();
    let server = |name, server, speech| Measured { name, server, speech, rates: Vec::new() };
    let mut servers = vec![
        server("echo", stage.echo(), Speech::Echo),
        server("seqd", stage.daemon("store", &[]), Speech::Seq),
        server("seqd --in-memory", stage.daemon("memory", &["--in-memory"]), Speech::Seq),
    ];
    if let Some(directory) = before {
        let daemon = stage.daemon_of(directory.join("seqd"), BEFORE, &[]);
        servers.push(server("seqd before", daemon, Speech::Seq));
    }
    if has("redis-server") {
        servers.push(server("redis", stage.redis(), Speech::Redis));
    }
    for connections in [1, 8, 64] {
        for is_shared in [false, true] {
            if is_shared && connections == 1 {
                continue;
            }
            for round in 0..=rounds {
                for measured in &mut servers {
                    let rate = pairs(&measured.server, measured.speech, connections, is_shared, MEASURED);
                    // The first one is there to get warm.
                    if round > 0 {
                        measured.rates.push(rate);
                    }
                }
            }
            tell(report, &servers, connections, is_shared);
            for measured in &mut servers {
                measured.rates.clear();
            }
        }
    }
}

fn tell(report: &mut Report, servers: &[Measured], connections: usize, is_shared: bool) {
    let domains = if is_shared { "one for all" } else { "one each" };
    let place =
        if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections, {domains}") };
    for measured in servers {
        report.add(PART, format!("{place}: {}", measured.name), median(&measured.rates), "pairs/s");
    }
    let of = |name: &str| servers.iter().find(|measured| measured.name == name).map(|measured| &measured.rates[..]);
    let Some(seqd) = of("seqd") else { return };
    let has_marks = connections <= 8 && !is_shared;
    let marks = [("redis", Some(2.0)), ("echo", Some(0.6)), ("seqd before", None)];
    for (other, mark) in marks {
        let Some(rates) = of(other) else { continue };
        let (what, value) = (format!("{place}: seqd to {other}"), (ratio(seqd, rates), "times"));
        match mark.filter(|_| has_marks) {
            Some(least) => report.marked(PART, what, value, Mark::AtLeast(least)),
            None => report.add(PART, what, value.0, value.1),
        }
    }
}
