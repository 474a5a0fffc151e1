//! What some rounds say together.

use std::fmt;

/// Above this share of the median, the middle half of the rounds is too far apart to believe.
const NOISY: f64 = 0.10;

/// The rounds of one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The ends of the middle half.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of some rounds; none of none.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        (!sorted.is_empty()).then(|| Self {
            median: at(0.5),
            min: at(0.0),
            max: at(1.0),
            low: at(0.25),
            high: at(0.75),
        })
    }

    /// Round by round, one cell over another: what disturbs both at once does not show.
    pub(crate) fn of_ratio(above: &[f64], below: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
        Self::of(&ratios)
    }

    /// How far the middle half is apart, as a share of the median.
    fn apart(&self) -> f64 {
        (self.high - self.low) / self.median
    }

    /// Whether the rounds are too far apart to give a figure.
    fn is_noisy(&self) -> bool {
        self.apart() > NOISY || !self.apart().is_finite()
    }
}

/// The median with the extremes, and a mark on one that is not to be relied on.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, min, max] = [self.median, self.min, self.max].map(digits);
        f.write_str(&median)?;
        if self.is_noisy() {
            write!(f, " noisy")?;
        }
        match min == max {
            true => Ok(()),
            false => write!(f, " ({min}–{max})"),
        }
    }
}

/// What that share of the values, which are sorted, is below.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    below + (above - below) * place.fract()
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
        assert_eq!(spread.to_string(), "10.1 (9.90–30.0)");
        assert_eq!(Spread::of(&[4.03]).unwrap().to_string(), "4.03");
    }

    #[test]
    fn rounds_that_disagree_are_marked() {
        let spread = Spread::of(&[10.0, 12.0, 14.0, 16.0, 18.0]).unwrap();
        assert_eq!((spread.low, spread.high), (12.0, 16.0));
        assert_eq!(spread.to_string(), "14.0 noisy (10.0–18.0)");
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn what_disturbs_both_candidates_of_a_round_does_not_show_in_their_ratio() {
        let ratio = Spread::of_ratio(&[11.0, 22.0, 33.0], &[10.0, 20.0, 30.0]).unwrap();
        assert!(ratio.max - ratio.min < 1e-9);
    }
}
