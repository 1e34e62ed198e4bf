//! Commands that must take turns.
//!
//! `seq` asks, `seqd` keeps the lines. A request walks one way through these modules and its answer walks back:
//!
//! | module | what lives there |
//! |---|---|
//! | [`cli`] | what the user typed, as data |
//! | [`client`] | find or start the daemon, ask, wait, run, report |
//! | [`protocol`] | the words on the wire, and one framed line |
//! | [`daemon`] | sockets, one owner loop, timers |
//! | [`sequencer`] | the pure core: lines and turns, without a clock, a socket or a file |
//! | [`store`] | what must outlive the process |
//!
//! [`error`] holds the one error type and the table of exit statuses, [`clock`] the one clock, `estimate` guesses how long a wait will be, `small_file` reads
//! what the system tells in a few words, [`words`] how sentences are made and said, [`sys`] the few system calls that no safe library offers.

pub mod cli;
pub mod client;
pub mod protocol;
pub mod daemon;
pub mod sequencer;
pub mod store;

pub mod clock;
mod estimate;
mod small_file;
pub mod error;
pub mod words;
#[expect(unsafe_code, reason = "the one file for system calls that no safe library offers")]
pub mod sys;
