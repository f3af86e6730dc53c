//! A model with random weights.

use super::attention::AttentionLayer;
use super::block::Block;
use super::delta::DeltaLayer;
use super::feed_forward::{Dense, FeedForward, Mixture};
use super::linear::{Linear, Matrix};
use super::mixer::MixerLayer;
use super::weights::{Storage, StoredMatrix};
use super::{Attends, CausalLm, GatedDelta, Mixer, ModelConfig, Origin, Ropes, param_id};
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
    /// `1 / sqrt(2 * layers)` where a block writes to the residual stream (GPT-2); norms multiply by 1. In a gated delta
    /// network the convolution is uniform between `-1 / sqrt(kernel)` and its opposite, the rate at which a head forgets
    /// between 0.01 and 16, and the bias of the steps 1, as in Mamba 2 (Dao and Gu, 2024, arXiv 2405.21060).
    pub fn init(config: &ModelConfig, seed: u64, device: &B::Device) -> Self {
        Self::init_as(config, seed, Storage::F32, device)
    }

    /// The same with matrices in the form that `storage` says.
    pub fn init_as(config: &ModelConfig, seed: u64, storage: Storage, device: &B::Device) -> Self {
        Self::build(config, storage, device, |name, shape| {
            let seed = derive(seed, &[stream::INIT, param_id(name).val()]);
            let rng = ChaCha8Rng::seed_from_u64(seed);
            let values = random(config, name, shape.iter().product(), rng);
            Ok::<_, Infallible>(StoredMatrix::Values(values))
        })
        .unwrap_or_else(|never| match never {})
    }

    /// Assembles a model from the values of each parameter, asked for by name and shape.
    pub(super) fn build<E>(
        config: &ModelConfig,
        storage: Storage,
        device: &B::Device,
        values: impl FnMut(&str, &[usize]) -> Result<StoredMatrix, E>,
    ) -> Result<Self, E> {
        let mut parts = Parts {
            config,
            storage,
            device,
            values,
        };
        let (d, n_layers) = (config.hidden_size, config.num_hidden_layers);
        let shape = [config.vocab_size, d];
        let embedding = parts.matrix("embedding", shape)?;
        let lm_head = if config.tie_word_embeddings {
            None
        } else {
            Some(parts.matrix("lm_head", shape)?)
        };
        let blocks = (0..n_layers).map(|i| parts.block(i));
        let blocks = blocks.collect::<Result<_, E>>()?;
        Ok(Self {
            embedding,
            blocks,
            norm: parts.vector("norm", d)?,
            lm_head,
            int8_head: None,
            lora: None,
            config: config.clone(),
            ropes: Ropes::new(config),
            origin: Origin::default(),
        })
    }
}

/// What the parts of a model are assembled from.
struct Parts<'a, B: ModelBackend, F> {
    config: &'a ModelConfig,
    storage: Storage,
    device: &'a B::Device,
    values: F,
}

impl<B: ModelBackend, E, F: FnMut(&str, &[usize]) -> Result<StoredMatrix, E>> Parts<'_, B, F> {
    fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Matrix<B>, E> {
        let stored = (self.values)(name, &shape)?;
        Ok(self.storage.matrix(name, stored, shape, self.device))
    }

    fn vector(&mut self, name: &str, n: usize) -> Result<Param<Tensor<B, 1>>, E> {
        let StoredMatrix::Values(values) = (self.values)(name, &[n])? else {
            unreachable!("vectors have no blocks");
        };
        let tensor = Tensor::from_data(TensorData::new(values, [n]), self.device);
        Ok(Param::initialized(param_id(name), tensor))
    }

    fn optional(
        &mut self,
        wanted: bool,
        name: &str,
        n: usize,
    ) -> Result<Option<Param<Tensor<B, 1>>>, E> {
        if wanted {
            self.vector(name, n).map(Some)
        } else {
            Ok(None)
        }
    }

    fn linear(&mut self, name: &str, shape: [usize; 2], has_bias: bool) -> Result<Linear<B>, E> {
        let matrix = self.matrix(name, shape)?;
        let bias = self.optional(has_bias, &format!("{name}_bias"), shape[0])?;
        Ok(Linear::new(matrix, bias))
    }

    fn block(&mut self, i: usize) -> Result<Block<B>, E> {
        let config = self.config;
        let d = config.hidden_size;
        let (before, after) = (config.norms.is_before(), config.norms.is_after());
        let name = |part: &str| format!("blocks.{i}.{part}");
        Ok(Block {
            input_norm: self.optional(before, &name("input_norm"), d)?,
            mixer: match config.layers[i] {
                Mixer::Attention(attends) => MixerLayer::Attention(self.attention(&name, attends)?),
                Mixer::GatedDelta(shape) => MixerLayer::Delta(self.delta(&name, shape)?),
            },
            output_norm: self.optional(after, &name("output_norm"), d)?,
            post_norm: self.optional(before, &name("post_norm"), d)?,
            feed_forward: self.feed_forward(i)?,
            down_norm: self.optional(after, &name("down_norm"), d)?,
        })
    }

    fn feed_forward(&mut self, i: usize) -> Result<FeedForward<B>, E> {
        let config = self.config;
        let Some(experts) = config.experts_of(i) else {
            let dense = self.dense(
                &format!("blocks.{i}"),
                config.intermediate_size,
                config.mlp_bias,
            )?;
            return Ok(FeedForward::Dense(dense));
        };
        let f = experts.moe_intermediate_size;
        let layers = (0..experts.num_experts)
            .map(|e| self.dense(&format!("blocks.{i}.experts.{e}"), f, false))
            .collect::<Result<_, E>>()?;
        let shape = [experts.num_experts, config.hidden_size];
        Ok(FeedForward::Experts(Mixture {
            experts: layers,
            router: self.matrix(&format!("blocks.{i}.router"), shape)?,
            routing: experts.into(),
        }))
    }

    fn dense(&mut self, prefix: &str, f: usize, has_bias: bool) -> Result<Dense<B>, E> {
        let d = self.config.hidden_size;
        Ok(Dense {
            gate_up: self.linear(&format!("{prefix}.gate_up"), [2 * f, d], has_bias)?,
            down: self.linear(&format!("{prefix}.down"), [d, f], has_bias)?,
        })
    }

    fn attention(
        &mut self,
        name: &dyn Fn(&str) -> String,
        attends: Attends,
    ) -> Result<AttentionLayer<B>, E> {
        let config = self.config;
        let (d, heads) = (config.hidden_size, config.heads());
        let has_norm = config.qk_norm.is_some();
        let [q_width, k_width] = config.qk_norm_widths().unwrap_or_default();
        let (qkv, output) = ([config.qkv_width(), d], [d, heads.q_width()]);
        Ok(AttentionLayer {
            attends,
            qkv: self.linear(&name("qkv"), qkv, config.qkv_bias)?,
            q_norm: self.optional(has_norm, &name("q_norm"), q_width)?,
            k_norm: self.optional(has_norm, &name("k_norm"), k_width)?,
            output: self.linear(&name("output"), output, config.output_bias)?,
        })
    }

    fn delta(
        &mut self,
        name: &dyn Fn(&str) -> String,
        shape: GatedDelta,
    ) -> Result<DeltaLayer<B>, E> {
        let (d, heads) = (self.config.hidden_size, shape.heads);
        let (n_heads, width) = (heads.n_value_heads, heads.value_width());
        let mut linear = |part: &str, shape| self.linear(&name(part), shape, false);
        let qkv = linear("delta_qkv", [heads.width(), d])?;
        let z = linear("delta_z", [width, d])?;
        let gates = linear("delta_gates", [2 * n_heads, d])?;
        let output = linear("delta_output", [d, width])?;
        Ok(DeltaLayer {
            shape,
            qkv,
            z,
            gates,
            conv: self.vector(&name("delta_conv"), heads.width() * shape.kernel)?,
            a_log: self.vector(&name("delta_a_log"), n_heads)?,
            dt_bias: self.vector(&name("delta_dt_bias"), n_heads)?,
            norm: self.vector(&name("delta_norm"), heads.value_dim)?,
            output,
        })
    }
}

/// The first values of a parameter of a new model.
fn random(config: &ModelConfig, name: &str, n: usize, mut rng: ChaCha8Rng) -> Vec<f32> {
    let part = name.rsplit('.').next().unwrap_or(name);
    let mut uniform = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
    match part {
        "delta_conv" => {
            let kernel = config.layers.iter().find_map(Mixer::gated_delta);
            let bound = (kernel.map_or(1, |delta| delta.kernel) as f64).powf(-0.5);
            (0..n).map(|_| uniform(-bound, bound) as f32).collect()
        }
        "delta_a_log" => (0..n).map(|_| uniform(0.01, 16.0).ln() as f32).collect(),
        "delta_norm" | "delta_dt_bias" => vec![1.0; n],
        _ if part.ends_with("norm") => vec![if config.norms_add_one { 0.0 } else { 1.0 }; n],
        _ if part.ends_with("_bias") => vec![0.0; n],
        "output" | "down" | "delta_output" => {
            let deviation = DEVIATION / (2.0 * config.num_hidden_layers as f64).sqrt();
            normal(&mut rng, n, deviation)
        }
        _ => normal(&mut rng, n, DEVIATION),
    }
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
