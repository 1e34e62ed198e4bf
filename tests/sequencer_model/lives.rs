pub(crate) fn live(_seed: u64, _operations: u64) {}
