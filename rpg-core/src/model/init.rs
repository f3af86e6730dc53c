//! A model with random weights.

use super::block::Block;
use super::feed_forward::{Dense, FeedForward, Mixture};
use super::linear::{Linear, Matrix};
use super::weights::{Storage, StoredMatrix};
use super::{CausalLm, ModelConfig, Origin, Ropes, param_id};
use crate::ops::ModelBackend;
use crate::seed::{derive, stream};
use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::convert::Infallible;

/// Standard deviation of the weights (the default of Hugging Face's `initializer_range`).
const DEVIATION: f64 = 0.02;

impl<B: ModelBackend> CausalLm<B> {
    /// Random weights, the same on every backend: normal with a standard deviation of 0.02, times
    /// `1 / sqrt(2 * layers)` where a block writes to the residual stream (GPT-2); norms multiply by 1.
    pub fn init(config: &ModelConfig, seed: u64, device: &B::Device) -> Self {
        Self::init_as(config, seed, Storage::F32, device)
    }

    /// The same with matrices in the form that `storage` says.
    pub fn init_as(config: &ModelConfig, seed: u64, storage: Storage, device: &B::Device) -> Self {
        let residual = DEVIATION / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self::build(config, storage, device, |name, shape| {
            let deviation = match name.rsplit('.').next() {
                Some("output" | "down") => residual,
                _ => DEVIATION,
            };
            let n = shape.iter().product();
            if shape.len() == 1 {
                let is_one = name.ends_with("norm") && !config.norms_add_one;
                let value = if is_one { 1.0 } else { 0.0 };
                return Ok::<_, Infallible>(StoredMatrix::Values(vec![value; n]));
            }
            let seed = derive(seed, &[stream::INIT, param_id(name).val()]);
            let values = normal(&mut ChaCha8Rng::seed_from_u64(seed), n, deviation);
            Ok(StoredMatrix::Values(values))
        })
        .unwrap_or_else(|never| match never {})
    }

    /// Assembles a model from the values of each parameter, asked for by name and shape.
    pub(super) fn build<E>(
        config: &ModelConfig,
        storage: Storage,
        device: &B::Device,
        mut values: impl FnMut(&str, &[usize]) -> Result<StoredMatrix, E>,
    ) -> Result<Self, E> {
        let (d, heads) = (config.hidden_size, config.heads());
        let mut matrix = |name: String, rows, columns| -> Result<Matrix<B>, E> {
            let stored = values(&name, &[rows, columns])?;
            Ok(storage.matrix(&name, stored, [rows, columns], device))
        };
        let embedding = matrix("embedding".into(), config.vocab_size, d)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(matrix("lm_head".into(), config.vocab_size, d)?)
        };
        let mut matrices = Vec::new();
        for i in 0..config.num_hidden_layers {
            matrices.push((
                matrix(format!("blocks.{i}.qkv"), heads.width(), d)?,
                matrix(format!("blocks.{i}.output"), d, heads.q_width())?,
                feed_forward(config, i, &mut matrix)?,
            ));
        }
        let mut vector = |name: String, n| -> Result<Param<Tensor<B, 1>>, E> {
            let StoredMatrix::Values(values) = values(&name, &[n])? else {
                unreachable!("vectors have no blocks");
            };
            let tensor = Tensor::from_data(TensorData::new(values, [n]), device);
            Ok(Param::initialized(param_id(&name), tensor))
        };
        let mut blocks = Vec::new();
        for (i, (qkv, output, mut feed_forward)) in matrices.into_iter().enumerate() {
            let name = |part: &str| format!("blocks.{i}.{part}");
            let mut optional = |wanted: bool, part: &str, n| {
                if wanted {
                    vector(name(part), n).map(Some)
                } else {
                    Ok(None)
                }
            };
            let qkv_bias = optional(config.qkv_bias, "qkv_bias", heads.width())?;
            let output_bias = optional(config.output_bias, "output_bias", d)?;
            if let FeedForward::Dense(Dense { gate_up, down }) = &mut feed_forward {
                let f = config.intermediate_size;
                gate_up.bias = optional(config.mlp_bias, "gate_up_bias", 2 * f)?;
                down.bias = optional(config.mlp_bias, "down_bias", d)?;
            }
            let has_qk_norm = config.qk_norm.is_some();
            let [q_width, k_width] = config.qk_norm_widths().unwrap_or_default();
            let (before, after) = (config.norms.is_before(), config.norms.is_after());
            blocks.push(Block {
                attends: config.layers[i],
                input_norm: optional(before, "input_norm", d)?,
                qkv: Linear::new(qkv, qkv_bias),
                q_norm: optional(has_qk_norm, "q_norm", q_width)?,
                k_norm: optional(has_qk_norm, "k_norm", k_width)?,
                output: Linear::new(output, output_bias),
                output_norm: optional(after, "output_norm", d)?,
                post_norm: optional(before, "post_norm", d)?,
                feed_forward,
                down_norm: optional(after, "down_norm", d)?,
            });
        }
        let norm = vector("norm".into(), d)?;
        Ok(Self {
            embedding,
            blocks,
            norm,
            lm_head,
            int8_head: None,
            lora: None,
            config: config.clone(),
            ropes: Ropes::new(config),
            origin: Origin::default(),
        })
    }
}

/// The feed-forward layer of block `i`, without biases. `matrix` gives the parameter of a name, with its outputs and inputs.
fn feed_forward<B: ModelBackend, E>(
    config: &ModelConfig,
    i: usize,
    matrix: &mut impl FnMut(String, usize, usize) -> Result<Matrix<B>, E>,
) -> Result<FeedForward<B>, E> {
    let d = config.hidden_size;
    let mut dense = |prefix: &str, f: usize| {
        let gate_up = matrix(format!("blocks.{i}.{prefix}gate_up"), 2 * f, d)?;
        let down = matrix(format!("blocks.{i}.{prefix}down"), d, f)?;
        let [gate_up, down] = [gate_up, down].map(|matrix| Linear::new(matrix, None));
        Ok(Dense { gate_up, down })
    };
    let Some(experts) = config.experts_of(i) else {
        let dense = dense("", config.intermediate_size)?;
        return Ok(FeedForward::Dense(dense));
    };
    let f = experts.moe_intermediate_size;
    let layers = (0..experts.num_experts).map(|e| dense(&format!("experts.{e}."), f));
    Ok(FeedForward::Experts(Mixture {
        experts: layers.collect::<Result<_, E>>()?,
        router: matrix(format!("blocks.{i}.router"), experts.num_experts, d)?,
        routing: experts.into(),
    }))
}

/// Normal numbers by the method of Box and Muller.
fn normal(rng: &mut ChaCha8Rng, n: usize, deviation: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * deviation;
        let (sin, cos) = (rng.random::<f64>() * std::f64::consts::TAU).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(n);
    values
}
