//! The progress bar, on a terminal only.

use std::fmt::Write;
use std::time::Duration;

use checker::load::{Control, Options};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

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
                "{bar:40} {human_pos}/{human_len} ({rate}, {eta} left){msg}",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} answers in {elapsed} ({rate}){msg}",
            ),
        };
        let rate = |state: &ProgressState, output: &mut dyn Write| {
            // There is nowhere to report that the terminal is gone.
            let _ = write!(output, "{:.0}/s", state.per_sec());
        };
        let style = ProgressStyle::with_template(template)
            .expect("the template is well formed")
            .with_key("rate", rate);
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
