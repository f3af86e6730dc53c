//! Ctrl-C and SIGTERM: the first asks the work to stop where it can be resumed, the second ends it at once.

use super::exit;
use crate::interrupt::Interrupt;

/// An interrupt that Ctrl-C requests and, on Unix, SIGTERM, with which schedulers announce the end.
pub(super) fn listen() -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    on_signal(move || {
        if requested.request() {
            rpg_reward::command::stop_all_processes();
            std::process::exit(exit::INTERRUPTED);
        }
        eprintln!("\nstopping after a checkpoint; press Ctrl-C again to quit at once");
    });
    interrupt
}

/// Calls `handler` on a thread of its own at each signal. Where that cannot be arranged the system's own
/// handling remains: the process ends at once.
#[cfg(unix)]
fn on_signal(mut handler: impl FnMut() + Send + 'static) {
    use signal_hook::consts::{SIGINT, SIGTERM};
    // Not SIGHUP: `nohup` has it ignored, and listening would undo that.
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]) {
        std::thread::spawn(move || signals.forever().for_each(|_| handler()));
    }
}

#[cfg(not(unix))]
fn on_signal(handler: impl FnMut() + Send + 'static) {
    let _ = ctrlc::set_handler(handler);
}
