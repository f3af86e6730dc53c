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
    on_gpu(choice, 0, work)
}

/// The same, on the CUDA GPU of this number if that is the backend.
pub fn on_gpu<W: OnBackend>(
    choice: DeviceChoice,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] gpu: usize,
    work: W,
) -> Result<(W::Output, DeviceChoice), Failure> {
    match resolve(choice)? {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => Ok((
            work.run::<burn::backend::Cuda>(burn::backend::cuda::CudaDevice::new(gpu)),
            DeviceChoice::Cuda,
        )),
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu => Ok((
            work.run::<burn::backend::Wgpu>(Default::default()),
            DeviceChoice::Wgpu,
        )),
        _ => {
            let output = Flex::on_workers(|| work.run::<Flex>(Default::default()));
            Ok((output, DeviceChoice::Cpu))
        }
    }
}

fn resolve(choice: DeviceChoice) -> Result<DeviceChoice, Failure> {
    match choice {
        DeviceChoice::Cpu => Ok(choice),
        DeviceChoice::Auto => {
            let works = |choice: &DeviceChoice| probe(*choice).is_ok();
            let found = [DeviceChoice::Cuda, DeviceChoice::Wgpu]
                .into_iter()
                .find(works);
            Ok(found.unwrap_or(DeviceChoice::Cpu))
        }
        DeviceChoice::Cuda | DeviceChoice::Wgpu => {
            probe(choice).map(|()| choice).map_err(|reason| {
                Failure::input(format!("backend {choice}: {reason}")).hint(
                    "--backend cpu works everywhere; --backend auto takes the best available one",
                )
            })
        }
    }
}

/// Checks that a GPU backend is compiled in, finds its driver and computes.
fn probe(choice: DeviceChoice) -> Result<(), String> {
    match choice {
        #[cfg(feature = "cuda")]
        DeviceChoice::Cuda => {
            cuda_libraries()?;
            smoke_test::<burn::backend::Cuda>()
        }
        #[cfg(feature = "wgpu")]
        DeviceChoice::Wgpu => smoke_test::<burn::backend::Wgpu>(),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(()),
        #[allow(unreachable_patterns)]
        _ => Err(format!(
            "this binary was built without it (cargo feature `{choice}`)"
        )),
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
fn smoke_test<B: DecodeBackend>() -> Result<(), String> {
    use burn::tensor::Tensor;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let result = std::panic::catch_unwind(|| {
        let a = Tensor::<B, 2>::ones([4, 4], &Default::default());
        a.clone().matmul(a).sum().into_data().iter::<f64>().next()
    });
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

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_that_was_not_compiled_in_is_named() {
        let error = on_backend(DeviceChoice::Cuda, Name).unwrap_err();
        assert!(error.message.contains("built without it"), "{error}");
    }
}
