//! How a turn ended whose client was told to make way for a newer request.

use super::Outcome;

/// The exit status that tells of a turn that its client has stopped what ran, to make way.
pub const MADE_WAY_STATUS: i32 = 76;

impl Outcome {
    /// That of a turn which was to make way, by what is known of its end: what has ended by itself has ended as ever.
    #[must_use]
    pub fn of_one_to_make_way(self, exit_status: Option<i32>) -> Outcome {
        match (self, exit_status) {
            (Outcome::Done, Some(MADE_WAY_STATUS)) | (Outcome::Gone, _) => Outcome::Superseded,
            (outcome, _) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_to_make_way_is_superseded_only_if_it_was_stopped_or_lost() {
        use Outcome::{Done, Expired, Gone, Released, Superseded};
        let made_way = [(Done, Some(76)), (Gone, None)];
        for (outcome, exit_status) in made_way {
            assert_eq!(outcome.of_one_to_make_way(exit_status), Superseded);
        }
        for (outcome, exit_status) in
            [(Done, None), (Done, Some(0)), (Done, Some(3)), (Released, None), (Expired, None)]
        {
            assert_eq!(outcome.of_one_to_make_way(exit_status), outcome, "{exit_status:?}");
        }
    }
}
