//! The section of a low-rank adapter.

use super::keys::{config_section, one_of, plain_values};
use super::values::{Count, NotAllowed, Positive};
use rpg_core::model::{LoraConfig, ModelConfig, Storage};
use serde::{Deserialize, Serialize};

config_section! {
    /// A low-rank adapter (LoRA; Hu et al., 2021, arXiv 2106.09685) that is trained in place of the weights. Gradients, moments
    /// and checkpoints are those of the adapter alone; checkpoints hold it in PEFT's format. `rpg export` writes the merged
    /// model. A reference that the run makes of the policy shares the weights with it.
    pub struct LoraSection {
        /// The rank of what is added to a weight matrix.
        rank: Count = Count::of(16),
        /// What is added is multiplied by `alpha / rank`.
        alpha: Positive = Positive::of(32.0),
        /// The modules that have an adapter, by the last parts of their names, such as `q_proj`; without it, all linear layers
        /// of the blocks, of a model with experts those of attention, which are all that it can have there.
        target_modules: Option<TargetModules> = None,
        /// Whether it is multiplied by `alpha / sqrt(rank)` instead (rsLoRA; Kalajdzievski, 2023, arXiv 2312.03732).
        use_rslora: bool = false,
        /// In which form the weights are kept. `stored`: as they are stored, in bf16 or the blocks `Q8_0`, `Q4_K` and `Q6_K`
        /// of a GGUF file, so that nothing is lost. `nf4`: the matrices of the blocks as 4-bit NormalFloat (QLoRA;
        /// Dettmers et al., 2023, arXiv 2305.14314). On GPUs it must be `f32` for now.
        base: BaseWeights = BaseWeights::default(),
    }
}

/// In which form the base of an adapter is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BaseWeights {
    /// As they are stored.
    #[default]
    Stored,
    /// As 4-bit NormalFloat.
    Nf4,
    /// As f32.
    F32,
}

impl BaseWeights {
    /// The model's word for it.
    pub fn storage(self) -> Storage {
        match self {
            Self::Stored => Storage::Stored,
            Self::Nf4 => Storage::Nf4,
            Self::F32 => Storage::F32,
        }
    }
}

/// The last parts of the names of modules, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct TargetModules(Vec<String>);

impl TryFrom<Vec<String>> for TargetModules {
    type Error = NotAllowed;

    fn try_from(modules: Vec<String>) -> Result<Self, NotAllowed> {
        if modules.is_empty() {
            return Err(NotAllowed::new("[]", "at least one module"));
        }
        Ok(Self(modules))
    }
}

plain_values! {
    BaseWeights: one_of::<BaseWeights>(),
    TargetModules: "a list of texts",
}

impl LoraSection {
    /// The adapter's shape for a model of this shape.
    pub fn adapter(&self, model: &ModelConfig) -> LoraConfig {
        let given = self.target_modules.as_ref();
        LoraConfig {
            rank: self.rank.get(),
            alpha: self.alpha.get(),
            target_modules: match given {
                Some(modules) => modules.0.clone(),
                None => LoraConfig::all_modules(model),
            },
            use_rslora: self.use_rslora,
        }
    }
}
