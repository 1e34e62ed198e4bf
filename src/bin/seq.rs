//! `seq`: commands that must take turns. See `seq(1)`.

fn main() {}
