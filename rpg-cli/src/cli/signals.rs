//! Ctrl-C, SIGTERM and SIGHUP: the first asks the command to stop at a safe point, the second ends the process at once.

use super::exit;
use crate::cli::say::say;
use crate::interrupt::Interrupt;

/// An interrupt that is requested by Ctrl-C and, on Unix, by SIGTERM, which schedulers send before they end a job, and by
/// SIGHUP, which a closing terminal sends.
pub(super) fn listen() -> Interrupt {
    listen_and_say("stopping at the next safe point; press Ctrl-C again to quit at once")
}

/// The same; at the first signal it says this.
pub(super) fn listen_and_say(text: &'static str) -> Interrupt {
    let interrupt = Interrupt::default();
    let requested = interrupt.clone();
    on_signal(move || {
        if requested.request() {
            rpg_reward::command::stop_all_processes();
            std::process::exit(exit::INTERRUPTED);
        }
        say!("\n{text}");
    });
    interrupt
}

/// Calls `handler` on a separate thread for each signal. If that cannot be set up, the system's default remains:
/// the process ends at once.
#[cfg(unix)]
fn on_signal(mut handler: impl FnMut() + Send + 'static) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut listened = vec![SIGINT, SIGTERM];
    // `nohup` makes processes ignore it, and listening would undo that.
    if !is_ignored(SIGHUP) {
        listened.push(SIGHUP);
    }
    if let Ok(mut signals) = signal_hook::iterator::Signals::new(listened) {
        std::thread::spawn(move || signals.forever().for_each(|_| handler()));
    }
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action, the call only writes the current one to `found`, where all zeros are valid.
    unsafe {
        let read = libc::sigaction(signal, std::ptr::null(), found.as_mut_ptr());
        read == 0 && found.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn on_signal(handler: impl FnMut() + Send + 'static) {
    let _ = ctrlc::set_handler(handler);
}
