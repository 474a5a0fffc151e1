//! What some rounds say together, or that they say nothing.

use std::fmt;

/// Above this share of the median, the middle half of the rounds is too far apart to believe.
const NOISY: f64 = 0.10;

/// The rounds of one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// How far the middle half is apart, as a share of the median.
    pub(crate) apart: f64,
}

impl Spread {
    /// Of some rounds; none of none.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (
                sorted[place.floor() as usize],
                sorted[place.ceil() as usize],
            );
            below + (above - below) * place.fract()
        };
        (!sorted.is_empty()).then(|| Self {
            median: at(0.5),
            min: at(0.0),
            max: at(1.0),
            apart: (at(0.75) - at(0.25)) / at(0.5),
        })
    }

    /// Round by round, one cell over another: what disturbs both at once does not show.
    pub(crate) fn of_ratio(above: &[f64], below: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }

    /// The same in another unit.
    pub(crate) fn times(self, factor: f64) -> Self {
        let Self {
            median,
            min,
            max,
            apart,
        } = self;
        Self {
            median: median * factor,
            min: min * factor,
            max: max * factor,
            apart,
        }
    }

    /// Whether the rounds are too far apart to give a figure.
    pub(crate) fn is_noisy(&self) -> bool {
        self.apart > NOISY || !self.apart.is_finite()
    }

    /// The median, with as many digits as are worth reading; or that there is none.
    pub(crate) fn short(&self) -> String {
        match self.is_noisy() {
            true => format!("noisy (±{:.0} %)", self.apart * 50.0),
            false => digits(self.median),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (digits(self.min), digits(self.max));
        write!(f, "{} ({min}–{max})", self.short())
    }
}

/// Three digits: `0.0123`, `1.23`, `12.3`, `1234`.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_that_was_disturbed_does_not_move_the_figure() {
        let spread = Spread::of(&[10.0, 30.0, 10.2, 9.9, 10.1]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (10.1, 9.9, 30.0));
        assert!(!spread.is_noisy());
        assert_eq!(spread.to_string(), "10.1 (9.90–30.0)");
    }

    #[test]
    fn rounds_that_disagree_give_no_figure() {
        let spread = Spread::of(&[10.0, 12.0, 14.0, 16.0, 18.0]).unwrap();
        assert_eq!(spread.short(), "noisy (±14 %)");
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn what_disturbs_both_candidates_of_a_round_does_not_show_in_their_ratio() {
        let ratio = Spread::of_ratio(&[11.0, 22.0, 33.0], &[10.0, 20.0, 30.0]).unwrap();
        assert!(ratio.apart < 1e-9);
    }
}
