//! What the model says of work that others have measured.

use super::constants::{Constants, Name};
use super::model::{Cluster, Shape, Split, Transport, Workload};

/// A figure of others, and the model's for the same work.
pub(super) struct Comparison {
    pub(super) what: &'static str,
    pub(super) source: &'static str,
    pub(super) unit: &'static str,
    pub(super) published: f64,
    pub(super) predicted: f64,
    /// Whether a constant was taken from it.
    pub(super) is_fitted: bool,
}

const LLAMA_8B: Shape = Shape {
    name: "Llama 3.1 8B",
    hidden: 4096.0,
    intermediate: 14336.0,
    layers: 32.0,
    heads: 32.0,
    kv_heads: 8.0,
    head_dim: 128.0,
    vocabulary: 128256.0,
    is_tied: false,
};

const NEMO: &str =
    "[NeMo RL 0.4](https://github.com/NVIDIA-NeMo/RL/blob/main/docs/about/performance-summary.md)";

/// The steps of NeMo RL's table: 2,048 completions, a response's mean length being that of its sequence less a prompt of 150.
const fn nemo(sequence: f64) -> Workload {
    Workload {
        prompts: 64.0,
        samples: 32.0,
        prompt: 150.0,
        response: sequence - 150.0,
        longest: 4096.0 - 150.0,
        updates: 4.0,
        micro_batch: 8192.0,
    }
}

/// All comparisons. Others train in bf16.
pub(super) fn comparisons() -> [Comparison; 4] {
    let constants = Constants::of_the_table();
    let bf16 = constants[Name::PeakBf16];
    let cluster = |is_ahead| Cluster {
        constants: constants.clone().with(Name::PeakTf32, bf16),
        transport: Transport::Nccl,
        is_ahead,
    };
    // ShareGPT: about 220 tokens in a prompt and 200 in an answer, so that a token attends to 320.
    let slots = constants[Name::Slots];
    let decoded = slots / cluster(false).decode(&LLAMA_8B, 320.0, slots);
    // All GPUs serve and then train; weights are not passed on by files.
    let all = Split {
        ranks: 16,
        servers: 16,
    };
    let half = Split {
        ranks: 8,
        servers: 8,
    };
    let seconds = |is_ahead, sequence, split| {
        let step = cluster(is_ahead).step(&LLAMA_8B, &nemo(sequence), split);
        step.total() - step.publish
    };
    [
        Comparison {
            what: "vLLM, Llama 3.1 8B in bf16 on one H100, 1,000 prompts of ShareGPT",
            source: "[AIMultiple](https://research.aimultiple.com/inference-engines)",
            unit: "new tokens/s",
            published: 12553.0,
            predicted: decoded,
            is_fitted: true,
        },
        Comparison {
            what: "training a 7B model in bf16 on 8 H100, sequences of 4,096",
            source: "[llm-foundry](https://github.com/mosaicml/llm-foundry/blob/main/scripts/train/benchmarking/README.md)",
            unit: "tokens/s a GPU",
            published: 8611.0,
            predicted: cluster(false).trained_per_second(&MPT_7B, 2048.0),
            is_fitted: true,
        },
        Comparison {
            what: "GRPO, Llama 3.1 8B, 16 H100 that serve and train in turn, 2,048 sequences of 1,060",
            source: NEMO,
            unit: "s a step",
            published: 97.7,
            predicted: seconds(false, 1060.0, all),
            is_fitted: false,
        },
        Comparison {
            what: "GRPO, Llama 3.1 8B, 16 H100, one step ahead, 2,048 sequences of 1,129 (the model: 8 serve, 8 train)",
            source: NEMO,
            unit: "s a step",
            published: 74.6,
            predicted: seconds(true, 1129.0, half),
            is_fitted: false,
        },
    ]
}

/// MPT's feed-forward layers have two matrices: 3 * 10,923 columns are as many weights as 2 * 16,384.
const MPT_7B: Shape = Shape {
    name: "MPT 7B",
    hidden: 4096.0,
    intermediate: 32768.0 / 3.0,
    layers: 32.0,
    heads: 32.0,
    kv_heads: 32.0,
    head_dim: 128.0,
    vocabulary: 50432.0,
    is_tied: true,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_says_within_a_quarter_what_others_have_measured() {
        for row in comparisons() {
            let error = row.predicted / row.published - 1.0;
            let bound = if row.is_fitted { 0.1 } else { 0.25 };
            assert!(error.abs() < bound, "{}: {error:+.3}", row.what);
        }
    }
}
