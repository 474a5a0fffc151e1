//! The progress bar, on a terminal only.

use std::time::Duration;

use checker::load::{Control, Options};
use indicatif::{ProgressBar, ProgressStyle};

/// How often it moves.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A bar on standard error, hidden unless that is a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    control: Control,
}

impl Progress {
    pub(crate) fn new(options: &Options, control: Control) -> Self {
        let (bar, template) = match options.requests {
            Some(requests) => (
                ProgressBar::new(requests),
                "{bar:40} {human_pos}/{human_len} ({per_sec}, {eta} left){msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} answers in {elapsed} ({per_sec}){msg}",
            ),
        };
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        Self {
            bar: bar.with_style(style),
            control,
        }
    }

    pub(crate) fn update(&self) {
        match self.control.failed() {
            0 => {}
            failed => self.bar.set_message(format!(", {failed} failed")),
        }
        self.bar.set_position(self.control.answered());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
