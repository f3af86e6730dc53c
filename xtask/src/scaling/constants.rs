//! The constants of the model: figures that others have published, figures measured here, and assumptions.

use std::ops::Index;

/// Where a constant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// Somebody else's figure.
    Published,
    /// A figure of this project, with the command that gives it.
    Measured,
    /// Nobody's figure: replace it with your own.
    Assumed,
}

impl Basis {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Measured => "measured here",
            Self::Assumed => "assumption",
        }
    }
}

/// A constant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    PeakTf32,
    PeakBf16,
    Memory,
    MemoryShare,
    MemoryBandwidth,
    NvLink,
    InfiniBand,
    Pcie,
    GpusPerNode,
    LinkShare,
    TrainingShare,
    PrefillShare,
    DecodeShare,
    Slots,
    OwnLayer,
    HostSum,
    PcieCopy,
    HostThread,
    HostExchange,
    Storage,
    Graded,
}

/// A row of the table of constants.
pub(super) struct Row {
    pub(super) name: Name,
    pub(super) about: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) basis: Basis,
    pub(super) source: &'static str,
}

const H100: &str = "NVIDIA's figures in [glennklockwood.com/garden/processors/h100](https://glennklockwood.com/garden/processors/h100)";
const SUPERPOD: &str = "[DGX SuperPOD, DGX H100](https://docs.nvidia.com/dgx-superpod/reference-architecture-scalable-infrastructure-h100/latest/dgx-superpod-components.html)";

/// All constants.
pub(super) const TABLE: [Row; 21] = [
    Row {
        name: Name::PeakTf32,
        about: "matrix products of f32 on an H100 SXM: rounded to TF32, without sparsity",
        value: 494.7e12,
        unit: "FLOP/s",
        basis: Basis::Published,
        source: H100,
    },
    Row {
        name: Name::PeakBf16,
        about: "matrix products of bf16, without sparsity; the servers compute in it",
        value: 989.4e12,
        unit: "FLOP/s",
        basis: Basis::Published,
        source: H100,
    },
    Row {
        name: Name::Memory,
        about: "memory of a GPU",
        value: 80e9,
        unit: "B",
        basis: Basis::Published,
        source: SUPERPOD,
    },
    Row {
        name: Name::MemoryShare,
        about: "share of it that can be filled; the rest is the driver's and lost between buffers",
        value: 0.95,
        unit: "",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::MemoryBandwidth,
        about: "bandwidth of that memory",
        value: 3.35e12,
        unit: "B/s",
        basis: Basis::Published,
        source: H100,
    },
    Row {
        name: Name::NvLink,
        about: "NVLink, each direction: half of the 900 GB/s of a GPU",
        value: 450e9,
        unit: "B/s",
        basis: Basis::Published,
        source: SUPERPOD,
    },
    Row {
        name: Name::InfiniBand,
        about: "InfiniBand NDR: 400 Gb/s for each of the eight GPUs of a node",
        value: 50e9,
        unit: "B/s",
        basis: Basis::Published,
        source: "[DGX BasePOD](https://docs.nvidia.com/dgx-basepod/reference-architecture-infrastructure-foundation-enterprise-ai/latest/core-components.html)",
    },
    Row {
        name: Name::Pcie,
        about: "PCIe 5, each direction: half of 128 GB/s",
        value: 64e9,
        unit: "B/s",
        basis: Basis::Published,
        source: H100,
    },
    Row {
        name: Name::GpusPerNode,
        about: "GPUs that NVLink connects",
        value: 8.0,
        unit: "",
        basis: Basis::Published,
        source: SUPERPOD,
    },
    Row {
        name: Name::LinkShare,
        about: "share of a link's bandwidth that a collective reaches",
        value: 0.65,
        unit: "",
        basis: Basis::Published,
        source: "Calculon's figure for NVLink, [a100_80g.json](https://github.com/calculon-ai/calculon/blob/main/systems/a100_80g.json)",
    },
    Row {
        name: Name::TrainingShare,
        about: "share of the peak that training reaches, recomputed activations counted as work: that ours reaches of TF32's peak \
                what others reach of bf16's is an assumption",
        value: 0.539,
        unit: "",
        basis: Basis::Published,
        source: "HFU of a 7B model, 4,096 tokens, 8 H100, in [llm-foundry's table](https://github.com/mosaicml/llm-foundry/blob/main/scripts/train/benchmarking/README.md) \
                 (MFU 0.404; [torchtitan](https://github.com/pytorch/torchtitan/blob/main/benchmarks/llama3_h100_202412_torchtitan.md): MFU 0.33 to 0.39 with an 8B model)",
    },
    Row {
        name: Name::PrefillShare,
        about: "share of bf16's peak that prefill reaches",
        value: 0.5,
        unit: "",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::DecodeShare,
        about: "share of the memory's bandwidth that decoding reaches in vLLM, the scheduler's time counted in",
        value: 0.38,
        unit: "",
        basis: Basis::Published,
        source: "what 12,553 tokens/s of Llama 3.1 8B in bf16 on one H100 come to ([AIMultiple](https://research.aimultiple.com/inference-engines)); \
                 on other work [RunInfra](https://runinfra.ai/news/vllm-vs-sglang-vs-tensorrt-llm-benchmark) has 5,333",
    },
    Row {
        name: Name::Slots,
        about: "sequences that a server decodes at a time: vLLM's `--max-num-seqs` and `rollout.server.concurrency`",
        value: 256.0,
        unit: "",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::OwnLayer,
        about: "time that our own sampler needs on a GPU for each layer of a decoding step, besides reading memory: launches, \
                estimated from their number",
        value: 0.9e-3,
        unit: "s",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::HostSum,
        about: "gradients that a rank exchanges and sums by MPI in host memory: 500 MB between two processes in 0.42 to 0.77 s",
        value: 0.83e9,
        unit: "B/s",
        basis: Basis::Measured,
        source: "Open MPI 4.1.4, two cores",
    },
    Row {
        name: Name::PcieCopy,
        about: "copies between a GPU and memory of the host that is not pinned, over PCIe 5",
        value: 12e9,
        unit: "B/s",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::HostThread,
        about: "what a thread adds or copies in host memory; eight threads of a rank are eight times as fast",
        value: 4e9,
        unit: "B/s",
        basis: Basis::Assumed,
        source: "-",
    },
    Row {
        name: Name::HostExchange,
        about: "the same on the CPU, with the time to read gradients out of tensors and to write them back: 790,912 of them in 8.5 ms",
        value: 0.37e9,
        unit: "B/s",
        basis: Basis::Measured,
        source: "the built-in recipe, two processes",
    },
    Row {
        name: Name::Storage,
        about: "writing and, for each server, reading weights on a shared file system",
        value: 3e9,
        unit: "B/s",
        basis: Basis::Published,
        source: "the middle of 1 to 5 GB/s for NFS 4 ([FlashGenius](https://flashgenius.net/guides/storage-systems-for-ai-workloads-ncp-aii-guide))",
    },
    Row {
        name: Name::Graded,
        about: "answers that a thread of a rank grades",
        value: 58238.0,
        unit: "/s",
        basis: Basis::Measured,
        source: "[performance.md](performance.md#grading)",
    },
];

/// The values of the constants.
#[derive(Debug, Clone)]
pub(super) struct Constants([f64; TABLE.len()]);

impl Constants {
    /// Those of the table.
    pub(super) fn of_the_table() -> Self {
        let mut values = [f64::NAN; TABLE.len()];
        for row in TABLE {
            values[row.name as usize] = row.value;
        }
        Self(values)
    }

    /// The same with another value of one.
    pub(super) fn with(mut self, name: Name, value: f64) -> Self {
        self.0[name as usize] = value;
        self
    }
}

impl Index<Name> for Constants {
    type Output = f64;

    fn index(&self, name: Name) -> &f64 {
        &self.0[name as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_has_a_value_and_only_assumptions_have_no_source() {
        let Constants(values) = Constants::of_the_table();
        assert!(values.iter().all(|value| value.is_finite()));
        for row in TABLE {
            let is_assumed = row.basis == Basis::Assumed;
            assert_eq!(row.source == "-", is_assumed, "{:?}", row.name);
        }
    }
}
