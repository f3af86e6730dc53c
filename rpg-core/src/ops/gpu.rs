//! The operations on GPUs: composed.

use super::{DecodeBackend, ModelBackend};

#[cfg(feature = "wgpu")]
impl ModelBackend for burn::backend::Wgpu {}

#[cfg(feature = "wgpu")]
impl DecodeBackend for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl ModelBackend for burn::backend::Cuda {}

#[cfg(feature = "cuda")]
impl DecodeBackend for burn::backend::Cuda {}
