//! The `rpg` command.

use rpg_cli::cli::args::Args;
use rpg_cli::cli::exit;
use rpg_cli::cli::say;

/// Training allocates and frees tensors of many megabytes all the time. The system's allocator returns them to
/// the kernel each time and pays for page faults to get them back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps freed memory for about a second, unless `MIMALLOC_PURGE_DELAY` says otherwise. By default its pages go back to the
/// kernel after some milliseconds, and the next operation pays for having them cleared again; kept for good, what only
/// sampling needs would stay beside what only an update needs.
fn keep_memory() {
    // `mi_option_purge_delay`, which the binding does not name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: the function must not be called from two threads at a time; there is only this one yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, 100) };
}

/// The pool's threads do all of the work on the CPU (`DecodeBackend::on_workers`), so they get as much stack as a
/// main thread.
fn start_workers() {
    let started = rayon::ThreadPoolBuilder::new()
        .stack_size(8 << 20)
        .build_global();
    if let Err(error) = started {
        say::line(format_args!(
            "error: the worker threads cannot be started: {error}"
        ));
        std::process::exit(exit::FAILED);
    }
}

fn main() {
    keep_memory();
    start_workers();
    let args = Args::from_command_line();
    if let Err(failure) = rpg_cli::cli::run(args) {
        say::line(format_args!("error: {failure}"));
        std::process::exit(exit::code(failure.kind));
    }
}
