//! What was aimed at, and what became of it.

mod figures;
mod rows;

use self::figures::Figures;
use crate::{results::Results, spread::Spread};

/// Something to reach: a figure, most often a ratio of two, and its bound.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) bound: Bound,
    pub(crate) value: Option<Spread>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// The verdicts.
pub(crate) const MET: &str = "met";
pub(crate) const MISSED: &str = "**missed**";
pub(crate) const OPEN: &str = "too close to say";
pub(crate) const NOT_MEASURED: &str = "not measured";

impl Target {
    /// What the rounds say: decided if the middle half of them lies on one side of the bound.
    pub(crate) fn verdict(&self) -> &'static str {
        let Some(Spread { low, high, .. }) = self.value else {
            return NOT_MEASURED;
        };
        let (met, missed) = match self.bound {
            Bound::AtMost(limit) => (high <= limit, low > limit),
            Bound::AtLeast(limit) => (low >= limit, high < limit),
        };
        match (met, missed) {
            (true, _) => MET,
            (_, true) => MISSED,
            _ => OPEN,
        }
    }
}

/// All of them, in the order of their numbers.
pub(crate) fn targets(results: &Results) -> Vec<Target> {
    let figures = Figures(results);
    [
        rows::http(&figures),
        rows::stores(&figures),
        rows::growth(&figures),
        rows::processes(&figures),
    ]
    .into_iter()
    .flatten()
    .map(|(what, bound, value)| Target { what, bound, value })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Bound::{AtLeast, AtMost},
        *,
    };

    #[test]
    fn a_target_is_decided_when_the_middle_half_of_the_rounds_agrees() {
        let verdict = |bound, rounds: &[f64]| {
            let value = Spread::of(rounds);
            Target {
                what: "a target",
                bound,
                value,
            }
            .verdict()
        };
        assert_eq!(verdict(AtMost(1.0), &[0.9, 1.0]), "met");
        assert_eq!(verdict(AtMost(1.0), &[1.1, 1.2]), "**missed**");
        assert_eq!(verdict(AtLeast(1.0), &[1.1, 1.1]), "met");
        // However far apart they are.
        assert_eq!(verdict(AtLeast(10.0), &[17.0, 21.0, 30.0]), "met");
        assert_eq!(verdict(AtLeast(1.0), &[0.5, 1.0, 2.0]), "too close to say");
        assert_eq!(verdict(AtLeast(1.0), &[]), NOT_MEASURED);
    }
}
