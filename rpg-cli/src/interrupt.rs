//! Ctrl-C and SIGTERM: the first asks the work to stop where it can be taken up again, the second ends at once.

use crate::failure::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user asked to stop. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen for Ctrl-C and, on Unix, for SIGTERM, by which schedulers announce the end.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        on_signal(move || {
            if flag.0.swap(true, Ordering::SeqCst) {
                rpg_reward::command::stop_all_processes();
                std::process::exit(exit::INTERRUPTED);
            }
            eprintln!("\nstopping after a checkpoint; press Ctrl-C again to quit at once");
        });
        interrupt
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Asks to stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Calls `handler` on a thread of its own at each signal. Where that cannot be arranged the system's own
/// handling stays: the process ends at once.
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
