//! Chooses the features of `rpg` by what this machine has.

use std::path::Path;

/// `cuda` with an NVIDIA driver and CUDA's run-time compiler, `wgpu` with another GPU or on macOS, else
/// nothing: the CPU backend is always there.
pub(crate) fn features() -> String {
    let found = if has_nvidia() && has_nvrtc() {
        "cuda"
    } else if cfg!(target_os = "macos") || has_nvidia() || has_gpu_node() {
        "wgpu"
    } else {
        ""
    };
    found.to_owned()
}

fn has_nvidia() -> bool {
    ["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"]
        .iter()
        .any(|path| Path::new(path).exists())
}

/// Burn compiles CUDA kernels at run time, with a library of CUDA's toolkit.
fn has_nvrtc() -> bool {
    let toolkit = std::env::var("CUDA_PATH").unwrap_or_else(|_| "/usr/local/cuda".into());
    let places = [
        format!("{toolkit}/lib64"),
        "/usr/lib/x86_64-linux-gnu".into(),
        "/usr/lib64".into(),
    ];
    places.iter().any(|place| {
        std::fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with("libnvrtc.so")
            })
    })
}

/// A render node of the kernel: a GPU with a driver.
fn has_gpu_node() -> bool {
    std::fs::read_dir("/dev/dri")
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
}
