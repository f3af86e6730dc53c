//! Ctrl-C and SIGTERM: the first asks the command to stop at a safe point, the second ends the process at once.

use super::exit;
use crate::cli::say::say;
use crate::interrupt::Interrupt;

/// An interrupt that is requested by Ctrl-C and, on Unix, by SIGTERM, which schedulers send before they end a job.
pub(super) fn listen() -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    on_signal(move || {
        if requested.request() {
            rpg_reward::command::stop_all_processes();
            std::process::exit(exit::INTERRUPTED);
        }
        say!("\nstopping at the next safe point; press Ctrl-C again to quit at once");
    });
    interrupt
}

/// Calls `handler` on a separate thread for each signal. If that cannot be set up, the system's default remains:
/// the process ends at once.
#[cfg(unix)]
fn on_signal(mut handler: impl FnMut() + Send + 'static) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // Not SIGHUP: `nohup` makes processes ignore it, and listening would undo that.
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) {
        std::thread::spawn(move || signals.forever().for_each(|_| handler()));
    }
}

#[cfg(not(unix))]
fn on_signal(handler: impl FnMut() + Send + 'static) {
    let _ = ctrlc::set_handler(handler);
}
