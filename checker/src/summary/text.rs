//! The summary as text.

use std::fmt;

use super::{Summary, Verdict};

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline(f)?;
        for finding in &self.violations {
            writeln!(f, "\n  {}", finding.what)?;
            for operation in &finding.operations {
                writeln!(f, "    {operation}")?;
            }
        }
        writeln!(f)?;
        self.numbers(f)?;
        self.times(f)?;
        self.answers(f)
    }
}

impl Summary {
    fn headline(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operations,
            numbers,
            failed,
            ..
        } = self;
        match self.verdict {
            Verdict::Proven if operations == numbers => write!(
                f,
                "PROVEN: {numbers} numbers, none twice and none out of order"
            )?,
            Verdict::Proven => write!(
                f,
                "PROVEN: {numbers} numbers in {operations} blocks, none twice and none out of order"
            )?,
            Verdict::Violation => f.write_str("VIOLATION: the promise is broken")?,
            Verdict::TooManyFailures => write!(f, "FAILED: {failed} requests failed")?,
            Verdict::GaveUp if *operations == 0 => {
                f.write_str("GAVE UP: nothing was answered with a number")?;
            }
            Verdict::GaveUp => f.write_str("GAVE UP: nothing is answered any more")?,
        }
        if let Verdict::TooManyFailures | Verdict::GaveUp = self.verdict
            && *operations > 0
        {
            write!(f, " (the {operations} answers before are right)")?;
        }
        if self.stopped_early {
            f.write_str(" (stopped early)")?;
        }
        writeln!(f)
    }

    fn numbers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wrong_answers > 0 {
            let text = format_args!("{} answers are wrong in themselves", self.wrong_answers);
            line(f, "wrong", text)?;
        }
        if let (Some(lowest), Some(highest), Some(skipped)) =
            (self.lowest, self.highest, self.skipped)
        {
            let text = format_args!("{lowest} to {highest}, {skipped} skipped");
            line(f, "numbers", text)?;
        }
        if self.hashes > 0 {
            line(f, "hashes", format_args!("{} recomputed", self.hashes))?;
        }
        Ok(())
    }

    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(latency) = &self.latency_ms else {
            return Ok(());
        };
        line(
            f,
            "throughput",
            format_args!(
                "{:.0} answers/s ({} in {:.3} s)",
                self.per_second, self.operations, self.seconds
            ),
        )?;
        line(
            f,
            "latency",
            format_args!(
                "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
                latency.p50, latency.p90, latency.p99, latency.p999, latency.max
            ),
        )
    }

    fn answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.connections > 0 {
            let text = format_args!("{} opened", self.connections);
            line(f, "connections", text)?;
        }
        for (index, (name, count)) in self.served_by.iter().enumerate() {
            let label = if index == 0 { "served by" } else { "" };
            line(f, label, format_args!("{name} {count}"))?;
        }
        for (index, failure) in self.failures.iter().enumerate() {
            let label = if index == 0 { "failures" } else { "" };
            let example = match failure.example.as_str() {
                "" => String::new(),
                example => format!(" ({example})"),
            };
            let text = format_args!("{} {}{example}", failure.count, failure.kind);
            line(f, label, text)?;
        }
        if self.without_result > 0 {
            let text = format_args!(
                "{} requests were sent and never answered; they may have taken numbers",
                self.without_result
            );
            line(f, "no result", text)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(f, "  {label:<12}{text}")
}
