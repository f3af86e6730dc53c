//! Chooses the backend from what was compiled in, what the machine has and what the user asked for.

use crate::device::DeviceChoice;
use crate::failure::Failure;
use burn::backend::Flex;
use rpg_core::ops::DecodeBackend;

/// Work that runs on any backend.
pub trait OnBackend: Send {
    /// The result.
    type Output: Send;

    /// Runs it on `device`.
    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output;
}

/// Runs the work on the chosen backend, and returns its result and the backend. `Auto` takes the first of CUDA,
/// WGPU and CPU that is compiled in and works.
pub fn on_backend<W: OnBackend>(
    choice: DeviceChoice,
    work: W,
) -> Result<(W::Output, DeviceChoice), Failure> {
    let device = Device::find(choice, 0)?;
    Ok((device.run(work), device.backend))
}

/// A backend that works, and the GPU that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    backend: DeviceChoice,
    gpu: usize,
}

impl Device {
    /// What a user's choice means to the process of this number on its machine. With CUDA every process takes a GPU of its own,
    /// unless it sees only one.
    pub fn find(choice: DeviceChoice, local_rank: usize) -> Result<Self, Failure> {
        let candidates = match choice {
            DeviceChoice::Auto => &[DeviceChoice::Cuda, DeviceChoice::Wgpu, DeviceChoice::Cpu][..],
            _ => &[choice],
        };
        let mut reason = String::new();
        for &backend in candidates {
            match probe(backend, local_rank) {
                Ok(gpu) => return Ok(Self { backend, gpu }),
                Err(Unfit::Missing(why)) => reason = why,
                // Not a reason to take another backend than the other ranks.
                Err(Unfit::TooFew(why)) => {
                    return Err(Failure::input(format!("backend {backend}: {why}"))
                        .hint("start as many ranks as there are GPUs, or give --backend"));
                }
            }
        }
        Err(Failure::input(format!("backend {choice}: {reason}"))
            .hint("--backend cpu works everywhere; --backend auto takes the best available one"))
    }

    /// The backend.
    pub fn backend(&self) -> DeviceChoice {
        self.backend
    }

    /// The CUDA GPU, by its number among those that this process sees.
    pub fn cuda(&self) -> Option<usize> {
        (self.backend == DeviceChoice::Cuda).then_some(self.gpu)
    }

    /// Runs the work.
    pub fn run<W: OnBackend>(&self, work: W) -> W::Output {
        match self.backend {
            #[cfg(feature = "cuda")]
            DeviceChoice::Cuda => {
                work.run::<burn::backend::Cuda>(burn::backend::cuda::CudaDevice::new(self.gpu))
            }
            #[cfg(feature = "wgpu")]
            DeviceChoice::Wgpu => work.run::<burn::backend::Wgpu>(Default::default()),
            _ => Flex::on_workers(|| work.run::<Flex>(Default::default())),
        }
    }
}

/// Why a backend is not for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unfit {
    /// It is not there, or does not work.
    Missing(String),
    /// The machine has fewer GPUs than processes.
    #[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code))]
    TooFew(String),
}

impl From<String> for Unfit {
    fn from(why: String) -> Self {
        Self::Missing(why)
    }
}

/// Checks that a backend is compiled in, finds its driver and computes; returns the number of the GPU that it takes.
fn probe(
    backend: DeviceChoice,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] local_rank: usize,
) -> Result<usize, Unfit> {
    match backend {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => {
            cuda_libraries()?;
            let n = cudarc::driver::CudaContext::device_count().map_err(|e| format!("{e:?}"))?;
            let gpu = gpu_of(local_rank, n.try_into().unwrap_or(0))?;
            smoke_test::<burn::backend::Cuda>(&burn::backend::cuda::CudaDevice::new(gpu))?;
            Ok(gpu)
        }
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu => {
            smoke_test::<burn::backend::Wgpu>(&Default::default())?;
            Ok(0)
        }
        DeviceChoice::Cpu => Ok(0),
        #[allow(unreachable_patterns)]
        _ => Err(Unfit::Missing(format!(
            "this binary was built without it (cargo feature `{backend}`)"
        ))),
    }
}

/// The GPU of the process of this number on a machine, which sees `n` of them. Launchers may show each process its own alone.
#[cfg(any(feature = "cuda", test))]
fn gpu_of(local_rank: usize, n: usize) -> Result<usize, Unfit> {
    match n {
        0 => Err(Unfit::Missing("no GPU was found".into())),
        1 => Ok(0),
        _ if local_rank < n => Ok(local_rank),
        _ => Err(Unfit::TooFew(format!(
            "found {n} GPUs; expected {} or more, one for each rank of this machine",
            local_rank + 1
        ))),
    }
}

/// The first tensor on CUDA panics if a library is missing, so this looks for the libraries first.
#[cfg(feature = "cuda")]
fn cuda_libraries() -> Result<(), String> {
    let names: [&[&str]; 2] = if cfg!(windows) {
        [&["nvcuda.dll"], &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]]
    } else {
        [
            &["libcuda.so.1", "libcuda.so"],
            &["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"],
        ]
    };
    for names in names {
        // SAFETY: loading NVIDIA's libraries runs their initialisers, which touch nothing of ours.
        let loads = |name: &&str| unsafe { libloading::Library::new(name) }.is_ok();
        if !names.iter().any(loads) {
            return Err(format!("{} cannot be loaded", names[0]));
        }
    }
    Ok(())
}

/// Computes a small product. Backends panic if they find no device: the panic becomes the reason.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn smoke_test<B: DecodeBackend>(device: &B::Device) -> Result<(), String> {
    use burn::tensor::Tensor;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    // Nothing that the panic has left halfway is looked at again.
    let work = std::panic::AssertUnwindSafe(|| {
        let a = Tensor::<B, 2>::ones([4, 4], device);
        a.clone().matmul(a).sum().into_data().iter::<f64>().next()
    });
    let result = std::panic::catch_unwind(work);
    std::panic::set_hook(hook);
    match result {
        Ok(Some(64.0)) => Ok(()),
        Ok(other) => Err(format!("a product of ones gives {other:?}")),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no device was found")
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name;

    impl OnBackend for Name {
        type Output = String;

        fn run<B: DecodeBackend>(self, device: B::Device) -> String {
            B::name(&device)
        }
    }

    #[test]
    fn the_cpu_is_always_available() {
        let (name, used) = on_backend(DeviceChoice::Cpu, Name).unwrap();
        assert_eq!((name.as_str(), used), ("flex", DeviceChoice::Cpu));
        assert!(on_backend(DeviceChoice::Auto, Name).is_ok());
    }

    #[test]
    fn every_rank_of_a_machine_has_a_gpu() {
        // The rank on its machine and the number of GPUs that it sees; the GPU that it takes.
        for (local_rank, n, expected) in [
            (0, 1, Ok(0)),
            (3, 1, Ok(0)),
            (0, 4, Ok(0)),
            (3, 4, Ok(3)),
            (
                4,
                4,
                Err("found 4 GPUs; expected 5 or more, one for each rank of this machine"),
            ),
        ] {
            let expected = expected.map_err(|why: &str| Unfit::TooFew(why.into()));
            assert_eq!(gpu_of(local_rank, n), expected, "{local_rank} {n}");
        }
        assert!(matches!(gpu_of(0, 0), Err(Unfit::Missing(_))));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_was_not_compiled_in_is_named() {
        let error = on_backend(DeviceChoice::Cuda, Name).unwrap_err();
        assert!(error.message.contains("built without it"), "{error}");
    }
}
