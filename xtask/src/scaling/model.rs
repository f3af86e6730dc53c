//! How long a step takes, and how much memory a rank of the trainer needs.

use super::constants::{Constants, Name};

/// A decoder-only transformer with gated feed-forward layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) hidden: f64,
    pub(super) intermediate: f64,
    pub(super) layers: f64,
    pub(super) heads: f64,
    pub(super) kv_heads: f64,
    pub(super) head_dim: f64,
    pub(super) vocabulary: f64,
    /// Whether the output matrix is that of the input.
    pub(super) is_tied: bool,
}

impl Shape {
    /// The weights that every token is multiplied with: all but the table that input tokens are looked up in.
    pub(super) fn multiplied(&self) -> f64 {
        let attention = 2.0 * self.hidden * (self.heads + self.kv_heads) * self.head_dim;
        let block = attention + 3.0 * self.hidden * self.intermediate;
        self.layers * block + self.vocabulary * self.hidden
    }

    /// N, without norms and biases.
    pub(super) fn parameters(&self) -> f64 {
        let table = self.vocabulary * self.hidden;
        let looked_up = if self.is_tied { 0.0 } else { table };
        self.multiplied() + looked_up
    }

    /// Floating-point operations of a token that attends to `context` others, forward.
    fn forward(&self, context: f64) -> f64 {
        2.0 * self.multiplied() + 4.0 * self.layers * self.heads * self.head_dim * context
    }

    /// Bytes that a token has in the KV cache of a server, in bf16.
    fn cached(&self) -> f64 {
        4.0 * self.layers * self.kv_heads * self.head_dim
    }

    /// Bytes that the activations of a micro-batch of so many tokens need, in f32: the inputs of all blocks, and what one block
    /// computes again of itself.
    fn activations(&self, tokens: f64) -> f64 {
        let block = 8.0 * self.hidden + 4.0 * self.intermediate;
        4.0 * tokens * (self.layers * self.hidden + block)
    }
}

/// What a step has to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    pub(super) prompts: f64,
    pub(super) samples: f64,
    /// Mean lengths, in tokens.
    pub(super) prompt: f64,
    pub(super) response: f64,
    /// `rollout.max_new_tokens`, which some completion reaches.
    pub(super) longest: f64,
    /// `train.mini_batches`: gradients are exchanged in each.
    pub(super) updates: f64,
    /// `train.micro_batch_tokens`.
    pub(super) micro_batch: f64,
}

impl Workload {
    fn completions(&self) -> f64 {
        self.prompts * self.samples
    }

    pub(super) fn new_tokens(&self) -> f64 {
        self.completions() * self.response
    }

    /// The tokens of a training pass, in which samples share their prompt.
    fn trained_tokens(&self) -> f64 {
        self.new_tokens() + self.prompts * self.prompt
    }

    /// The mean number of tokens that a completion's token attends to.
    fn context(&self) -> f64 {
        self.prompt + self.response / 2.0
    }
}

/// How gradients and weights travel between ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// From GPU to GPU.
    Nccl,
    /// The same, but from and to the memory of the hosts, where gradients are added: what `rpg` does.
    NcclByHost,
    /// Through the memory of the hosts.
    Mpi,
}

/// The number of GPUs that train and of those that serve. Without servers the trainer samples itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) ranks: usize,
    pub(super) servers: usize,
}

/// The parts of a step, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) sample: f64,
    pub(super) grade: f64,
    pub(super) score: f64,
    pub(super) update: f64,
    pub(super) exchange: f64,
    pub(super) publish: f64,
    /// Whether the servers sample the next step while this one trains.
    pub(super) is_ahead: bool,
}

impl Step {
    pub(super) fn total(&self) -> f64 {
        let train = self.grade + self.score + self.update + self.exchange;
        let both = if self.is_ahead {
            self.sample.max(train)
        } else {
            self.sample + train
        };
        both + self.publish
    }
}

/// A trainer and its servers on H100 nodes.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    pub(super) constants: Constants,
    pub(super) transport: Transport,
    /// `rollout.max_staleness` of at least 1.
    pub(super) is_ahead: bool,
}

impl Cluster {
    /// The fastest of all splits of so many GPUs that fit the memory.
    pub(super) fn best(
        &self,
        shape: &Shape,
        work: &Workload,
        gpus: usize,
    ) -> Option<(Split, Step)> {
        let splits = (1..=gpus).map(|ranks| Split {
            ranks,
            servers: gpus - ranks,
        });
        // Ranks that sample themselves are the case of a single GPU: with more there are servers.
        splits
            .filter(|split| split.servers > 0 || gpus == 1)
            .filter(|split| self.fits(shape, work, split.ranks))
            .map(|split| (split, self.step(shape, work, split)))
            .min_by(|(_, a), (_, b)| a.total().total_cmp(&b.total()))
    }

    /// Whether a rank of so many has the memory.
    pub(super) fn fits(&self, shape: &Shape, work: &Workload, ranks: usize) -> bool {
        memory(shape, work, ranks) <= self.usable()
    }

    fn usable(&self) -> f64 {
        self.constants[Name::Memory] * self.constants[Name::MemoryShare]
    }

    /// The sequences that are decoded at a time, of so many: as many as the caches of their mean length fit into the memory.
    fn slots(&self, completions: f64, free: f64, cache: f64) -> f64 {
        completions
            .min(self.constants[Name::Slots])
            .min((free / cache).floor())
    }

    pub(super) fn step(&self, shape: &Shape, work: &Workload, split: Split) -> Step {
        let ranks = split.ranks as f64;
        let update =
            work.trained_tokens() / (ranks * self.trained_per_second(shape, work.context()));
        Step {
            sample: match split.servers {
                0 => self.sample_in_trainer(shape, work) / ranks,
                servers => self.sample(shape, work, servers as f64),
            },
            grade: work.completions() / (ranks * self.constants[Name::Graded]),
            // The log-probs under the reference: one pass forward, of the four that an update is worth.
            score: update / 4.0,
            update,
            exchange: work.updates * self.exchange(shape, split.ranks),
            publish: match split.servers {
                0 => 0.0,
                // Written in f32, then read.
                _ => 2.0 * 4.0 * shape.parameters() / self.constants[Name::Storage],
            },
            is_ahead: self.is_ahead && split.servers > 0,
        }
    }

    /// Tokens that a rank trains on in a second: forward, forward again for what was not kept, and backward, which counts twice.
    pub(super) fn trained_per_second(&self, shape: &Shape, context: f64) -> f64 {
        self.constants[Name::PeakTf32] * self.constants[Name::TrainingShare]
            / (4.0 * shape.forward(context))
    }

    /// Seconds that the servers need for all completions of a step. Slots are filled again as completions end, until the longest
    /// are alone.
    fn sample(&self, shape: &Shape, work: &Workload, servers: f64) -> f64 {
        let completions = (work.completions() / servers).ceil();
        let free = self.usable() - 2.0 * shape.parameters();
        let slots = self.slots(completions, free, work.context() * shape.cached());
        let full = completions * work.response / slots * self.decode(shape, work.context(), slots);
        let rest =
            (work.longest - work.response) * self.decode(shape, work.prompt + work.longest, 1.0);
        // The requests of a group come to several servers, and each computes the prompt once.
        let prompts = completions.min(work.prompts);
        let prefill = prompts * work.prompt * shape.forward(work.prompt / 2.0)
            / (self.constants[Name::PeakBf16] * self.constants[Name::PrefillShare]);
        prefill + full + rest
    }

    /// Seconds that a server needs for a token of each of `slots` sequences: it reads the weights once and the cache of each, or
    /// the products take longer.
    pub(super) fn decode(&self, shape: &Shape, context: f64, slots: f64) -> f64 {
        let bytes = 2.0 * shape.multiplied() + slots * context * shape.cached();
        let read =
            bytes / (self.constants[Name::MemoryBandwidth] * self.constants[Name::DecodeShare]);
        let computed = slots * shape.forward(context)
            / (self.constants[Name::PeakBf16] * self.constants[Name::PrefillShare]);
        read.max(computed)
    }

    /// Seconds that our own sampler needs on one GPU, in f32.
    fn sample_in_trainer(&self, shape: &Shape, work: &Workload) -> f64 {
        let cache = 2.0 * work.context() * shape.cached();
        // Weights and moments stay; there are no gradients while it samples.
        let free = self.usable() - 12.0 * shape.parameters();
        let slots = self.slots(work.completions(), free, cache);
        let bytes = 4.0 * shape.multiplied() + slots * cache;
        let token = bytes / self.constants[Name::MemoryBandwidth]
            + shape.layers * self.constants[Name::OwnLayer];
        work.new_tokens() / slots * token
    }

    /// Seconds in which the ranks exchange all gradients, and all weights after the update of each rank's part, in f32.
    fn exchange(&self, shape: &Shape, ranks: usize) -> f64 {
        if ranks == 1 {
            return 0.0;
        }
        let all = 4.0 * shape.parameters();
        let others = all * (ranks - 1) as f64 / ranks as f64;
        let link = if ranks as f64 <= self.constants[Name::GpusPerNode] {
            Name::NvLink
        } else {
            Name::InfiniBand
        };
        let linked = 2.0 * others / (self.constants[link] * self.constants[Name::LinkShare]);
        match self.transport {
            Transport::Nccl => linked,
            // Gradients: all out of tensors, the others' onto the GPU and down again, the sums into tensors. Weights: the own
            // ones out and up, the others' down and up. One thread copies what is sent and makes room for what is received;
            // eight add and put in place.
            Transport::NcclByHost => {
                (4.0 * all + others) / self.constants[Name::PcieCopy]
                    + (2.0 * all + others) / self.constants[Name::HostThread]
                    + (all + others) / (8.0 * self.constants[Name::HostThread])
                    + linked
            }
            // Down to the host and up again, and the sum in its memory, which is slower than the network between hosts.
            Transport::Mpi => {
                2.0 * all / self.constants[Name::Pcie]
                    + 2.0 * others / self.constants[Name::HostSum]
            }
        }
    }
}

/// Bytes that a rank of so many needs: weights and gradients in f32, its part of AdamW's moments, activations.
pub(super) fn memory(shape: &Shape, work: &Workload, ranks: usize) -> f64 {
    let parameters = shape.parameters();
    8.0 * parameters + 8.0 * parameters / ranks as f64 + shape.activations(work.micro_batch)
}

/// The models of the tables.
pub(super) const QWEN3_4B: Shape = Shape {
    name: "Qwen3-4B",
    hidden: 2560.0,
    intermediate: 9728.0,
    layers: 36.0,
    heads: 32.0,
    kv_heads: 8.0,
    head_dim: 128.0,
    vocabulary: 151936.0,
    is_tied: true,
};

pub(super) const QWEN2_5_7B: Shape = Shape {
    name: "Qwen2.5-7B",
    hidden: 3584.0,
    intermediate: 18944.0,
    layers: 28.0,
    heads: 28.0,
    kv_heads: 4.0,
    head_dim: 128.0,
    vocabulary: 152064.0,
    is_tied: false,
};

/// The step of the tables: long answers to problems of mathematics.
pub(super) const LONG_ANSWERS: Workload = Workload {
    prompts: 128.0,
    samples: 8.0,
    prompt: 256.0,
    response: 1536.0,
    longest: 4096.0,
    updates: 4.0,
    micro_batch: 4352.0,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(is_ahead: bool) -> Cluster {
        Cluster {
            constants: Constants::of_the_table(),
            transport: Transport::Nccl,
            is_ahead,
        }
    }

    #[test]
    fn the_memory_of_hosts_is_slower_than_gpus_and_faster_than_mpi() {
        let over = |transport, ranks| {
            let cluster = Cluster {
                transport,
                ..cluster(true)
            };
            cluster.exchange(&QWEN3_4B, ranks)
        };
        let all = [Transport::Nccl, Transport::NcclByHost, Transport::Mpi];
        for ranks in [2, 8, 64] {
            let [nccl, by_host, mpi] = all.map(|transport| over(transport, ranks));
            assert!(nccl < by_host && by_host < mpi, "{nccl} {by_host} {mpi}");
        }
        assert!(all.iter().all(|&transport| over(transport, 1) == 0.0));
    }

    #[test]
    fn a_shape_has_as_many_parameters_as_its_model_card_says() {
        for (shape, billions) in [(QWEN3_4B, 4.02), (QWEN2_5_7B, 7.61)] {
            let found = shape.parameters() / 1e9;
            assert!(
                (found / billions - 1.0).abs() < 2e-3,
                "{}: {found}",
                shape.name
            );
        }
    }

    #[test]
    fn sampling_ahead_hides_the_shorter_of_the_two_sides() {
        let step = |is_ahead| Step {
            sample: 10.0,
            grade: 1.0,
            score: 1.0,
            update: 4.0,
            exchange: 2.0,
            publish: 0.5,
            is_ahead,
        };
        assert_eq!(step(false).total(), 18.5);
        assert_eq!(step(true).total(), 10.5);
    }

    #[test]
    fn the_work_of_a_step_is_divided_by_the_ranks_and_by_the_servers() {
        let at = |ranks, servers| {
            let split = Split { ranks, servers };
            cluster(false).step(&QWEN3_4B, &LONG_ANSWERS, split)
        };
        let (one, four) = (at(1, 1), at(4, 4));
        assert!((one.update / four.update - 4.0).abs() < 1e-9);
        assert!((one.score / four.score - 4.0).abs() < 1e-9);
        assert_eq!(one.exchange, 0.0);
        assert!(four.exchange > 0.0);
        assert_eq!(one.publish, four.publish);
        assert!(four.sample < one.sample);
        // Beyond a node the network between nodes counts.
        assert!(at(9, 1).exchange > 8.0 * at(8, 1).exchange);
    }

    #[test]
    fn a_policy_that_does_not_fit_one_gpu_needs_several() {
        let work = &LONG_ANSWERS;
        assert!(cluster(false).fits(&QWEN3_4B, work, 1));
        assert!(!cluster(false).fits(&QWEN2_5_7B, work, 1));
        assert!(cluster(false).fits(&QWEN2_5_7B, work, 8));
        assert!(cluster(false).best(&QWEN2_5_7B, work, 2).is_none());
        // Each rank has all weights and all gradients, in f32.
        let least = memory(&QWEN2_5_7B, work, 1_000_000);
        assert!(least > 8.0 * QWEN2_5_7B.parameters());
    }

    #[test]
    fn more_gpus_are_never_slower() {
        for is_ahead in [false, true] {
            let mut last = f64::INFINITY;
            for gpus in [2, 4, 8, 16, 32, 64] {
                let (_, step) = cluster(is_ahead)
                    .best(&QWEN3_4B, &LONG_ANSWERS, gpus)
                    .expect("it fits");
                assert!(step.total() <= last, "{gpus} GPUs, ahead: {is_ahead}");
                last = step.total();
            }
        }
    }
}
