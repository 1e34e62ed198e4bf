//! The programs as their users have them: each file has a story of its own to tell.
//!
//! They are one program, so that what they share is built once, and those that wait do so beside each other. A test
//! here must not change what belongs to the whole process, such as a limit, nor take up the machine for itself: such a
//! one is a program of its own, beside this one.

mod bad_input;
mod daemon_descriptors;
mod daemon_leaves;
mod daemon_leaving;
mod daemon_place;
mod daemon_protocol;
mod daemon_put_back;
mod daemon_stderr;
mod daemon_threads;
mod daemon_unheard;
mod daemon_users;
mod daemon_watch;
mod dead_daemon;
mod environment;
mod full_daemon;
mod handover;
mod hung_daemon;
mod log_command;
mod lost_answers;
mod nested_use;
mod pid_reuse;
mod policy;
mod policy_rests;
mod policy_stories;
mod promises;
mod real_job;
mod recovery_holders;
mod recovery_namespaces;
mod recovery_unconfirmed;
mod recovery_waiters;
mod restart;
mod riding_daemons;
mod riding_edges;
mod riding_others;
mod riding_out;
mod run_jobs;
mod run_killed;
mod run_max_run;
mod run_order;
mod run_signals;
mod run_silence;
mod run_status;
mod run_terminal;
mod sequence_confirm;
mod sequence_shell;
mod status_command;
mod store_copies;
mod store_damage;
mod store_faults;
mod store_full;
mod store_history;
mod store_put_back;
mod store_refusals;
mod superseding;
mod time;
mod watch_command;
mod ways_out;
mod whose_daemon;
mod keys;

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/wire.rs"]
mod wire;
#[path = "../support/puppet.rs"]
mod puppet;
#[path = "../support/refused.rs"]
mod refused;
#[path = "../support/stored.rs"]
mod stored;

/// What [`puppet::Puppet`] runs.
#[test]
fn puppet() {
    puppet::perform();
}
