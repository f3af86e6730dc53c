//! A progress bar with lines above it, on standard error; plain lines where that is no terminal.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;

/// Where a long piece of work reports.
#[derive(Debug, Clone)]
pub struct Console {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Console {
    /// A bar of `total` steps.
    pub fn new(total: u64, what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix:>11} [{bar:32}] {pos}/{len} {elapsed} (left {eta}) {wide_msg}";
            let style = ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
            let bar = ProgressBar::new(total)
                .with_style(style)
                .with_prefix(what.to_owned());
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Self { bar, quiet: false }
    }

    /// Says nothing: for tests and for callers who report themselves.
    pub fn silent() -> Self {
        Self {
            bar: None,
            quiet: true,
        }
    }

    /// Prints a line.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None if self.quiet => {}
            None => eprintln!("{text}"),
        }
    }

    /// Says what goes on at the moment, behind the bar.
    pub fn status(&self, text: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.into());
        }
    }

    /// Moves the bar.
    pub fn position(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Removes the bar.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
