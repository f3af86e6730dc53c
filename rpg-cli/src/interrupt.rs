//! Ctrl-C: the first asks the work to stop where it can be taken up again, the second ends at once.

use crate::failure::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user asked to stop. Clones share the answer.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen for Ctrl-C and for the signal that ends a process.
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let flag = interrupt.clone();
        // A handler that cannot be installed leaves the system's own: the process ends at once.
        let _ = ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::SeqCst) {
                rpg_reward::external::stop_all_processes();
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
