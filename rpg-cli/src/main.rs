//! The `rpg` command.

use rpg_cli::args::Args;

/// Training allocates and frees tensors of many megabytes at a fast pace; the system's allocator gives
/// them back to the kernel each time and takes page faults to get them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps memory that is free again, unless `MIMALLOC_PURGE_DELAY` says otherwise. By default pages are given
/// back after some milliseconds, and the next step pays for having them cleared again.
fn keep_memory() {
    // `mi_option_purge_delay`, to which the binding gives no name.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: the function must not be called from two threads at a time; this is the only one yet.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
}

fn main() {
    keep_memory();
    let args = Args::from_command_line();
    if let Err(failure) = rpg_cli::commands::run(args) {
        eprintln!("{failure}");
        std::process::exit(failure.code);
    }
}
