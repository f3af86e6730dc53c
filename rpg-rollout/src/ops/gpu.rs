//! The operations on GPUs: composed, and fused by Burn's kernel fusion.

use super::ModelBackend;

#[cfg(feature = "wgpu")]
impl ModelBackend for burn::backend::Wgpu {}

#[cfg(feature = "cuda")]
impl ModelBackend for burn::backend::Cuda {}
