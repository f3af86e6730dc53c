//! The `rpg` command.

use rpg_cli::args::Args;

/// Training allocates and frees tensors of many megabytes at a fast pace; the system's allocator gives
/// them back to the kernel each time and takes page faults to get them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let args = Args::from_command_line();
    if let Err(failure) = rpg_cli::commands::run(args) {
        eprintln!("{failure}");
        std::process::exit(failure.code);
    }
}
