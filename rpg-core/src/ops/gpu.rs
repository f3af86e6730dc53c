//! The operations on GPUs: composed.

use super::{DecodeBackend, DeltaBackend, DeltaDecode, ModelBackend};

#[cfg(feature = "wgpu")]
impl ModelBackend for burn::backend::Wgpu {}

#[cfg(feature = "wgpu")]
impl DecodeBackend for burn::backend::Wgpu {}

#[cfg(feature = "wgpu")]
impl DeltaBackend for burn::backend::Wgpu {}

#[cfg(feature = "wgpu")]
impl DeltaDecode for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl ModelBackend for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl DecodeBackend for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl DeltaBackend for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl DeltaDecode for burn::backend::Cuda {}
