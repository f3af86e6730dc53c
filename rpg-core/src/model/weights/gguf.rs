//! Reading GGUF files.

use super::{LoadError, Source, Storage, Tensors, check_finite, check_shape};
use crate::gguf::GgufFile;
use crate::model::{CausalLm, Family, ModelConfig};
use crate::ops::{ModelBackend, PackedMatrix};
use std::collections::BTreeSet;
use std::path::Path;

/// Parts of a block: what Hugging Face calls them, and what GGUF does.
const BLOCK_PARTS: [(&str, &str); 11] = [
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// The same for what is outside the blocks.
const PARTS: [(&str, &str); 3] = [
    ("model.embed_tokens.weight", "token_embd.weight"),
    ("model.norm.weight", "output_norm.weight"),
    ("lm_head.weight", "output.weight"),
];

impl<B: ModelBackend> CausalLm<B> {
    /// Loads the model of a GGUF file; quantised weights become f32.
    pub fn from_gguf(file: &GgufFile, device: &B::Device) -> Result<Self, LoadError> {
        Self::from_gguf_as(file, Storage::F32, device)
    }

    /// The same with matrices in the form that `storage` says.
    pub fn from_gguf_as(
        file: &GgufFile,
        storage: Storage,
        device: &B::Device,
    ) -> Result<Self, LoadError> {
        let config = file.config()?;
        let tensors = GgufTensors {
            file,
            config: &config,
        };
        Self::from_tensors(&config, &tensors, storage, device)
    }
}

struct GgufTensors<'a> {
    file: &'a GgufFile,
    config: &'a ModelConfig,
}

impl GgufTensors<'_> {
    /// The number of heads whose rows have to be put back in order, if any.
    ///
    /// llama.cpp rotates neighbouring pairs of a head in its Llama models and halves in the others, and GGUF files
    /// have the rows of queries and keys in that order.
    fn paired_heads(&self, name: &str) -> Option<usize> {
        let is_paired = matches!(self.config.model_type, Family::Llama | Family::Mistral);
        let heads = self.config.heads();
        if is_paired && name.contains(".q_proj.") {
            Some(heads.n_heads)
        } else if is_paired && name.contains(".k_proj.") {
            Some(heads.n_kv_heads)
        } else {
            None
        }
    }
}

impl Tensors for GgufTensors<'_> {
    fn origin(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> BTreeSet<String> {
        // The scaling of rotary frequencies is part of the config.
        self.file
            .tensor_names()
            .filter(|name| *name != "rope_freqs.weight")
            .map(|name| hugging_face_name(name).unwrap_or_else(|| name.into()))
            .collect()
    }

    fn append(&self, source: &Source, values: &mut Vec<f32>) -> Result<(), LoadError> {
        let path = self.file.path();
        let name = gguf_name(&source.name);
        let shape = self
            .file
            .shape(&name)
            .ok_or_else(|| LoadError::MissingTensor {
                path: path.into(),
                name: name.clone(),
            })?;
        check_shape(path, &name, shape, &source.shape)?;
        let stored = self.file.values(&name)?;
        check_finite(path, &name, &stored)?;
        match self.paired_heads(&source.name) {
            None => values.extend(stored),
            Some(n_heads) => append_halves(&stored, n_heads, self.config.head_dim, values),
        }
        Ok(())
    }

    fn blocks(&self, source: &Source) -> Option<PackedMatrix> {
        let name = gguf_name(&source.name);
        let shape = self.file.shape(&name)?;
        // A wrong shape is an error of `append`.
        let &[_, n_inputs] = shape else { return None };
        if shape != source.shape {
            return None;
        }
        let (format, blocks) = self.file.blocks(&name)?;
        let blocks = match self.paired_heads(&source.name) {
            None => blocks.to_vec(),
            Some(n_heads) => {
                let mut ordered = Vec::with_capacity(blocks.len());
                append_halves(blocks, n_heads, self.config.head_dim, &mut ordered);
                ordered
            }
        };
        Some(PackedMatrix::gguf(format, blocks, n_inputs))
    }
}

/// Appends rows, stored as pairs (0, half), (1, half + 1), ... within each head, in their plain order.
fn append_halves<T: Copy>(stored: &[T], n_heads: usize, head_dim: usize, values: &mut Vec<T>) {
    let columns = stored.len() / (n_heads * head_dim);
    for head in stored.chunks_exact(head_dim * columns) {
        for part in 0..2 {
            for pair in head.chunks_exact(2 * columns) {
                values.extend(&pair[part * columns..][..columns]);
            }
        }
    }
}

fn gguf_name(name: &str) -> String {
    if let Some((_, gguf)) = PARTS.iter().find(|(hf, _)| *hf == name) {
        return (*gguf).into();
    }
    let block = name.strip_prefix("model.layers.").and_then(|rest| {
        let (layer, rest) = rest.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, gguf) = BLOCK_PARTS.iter().find(|(hf, _)| *hf == part)?;
        Some(format!("blk.{layer}.{gguf}.{kind}"))
    });
    block.unwrap_or_else(|| unreachable!("every tensor of a model has a name in GGUF: {name}"))
}

fn hugging_face_name(name: &str) -> Option<String> {
    if let Some((hf, _)) = PARTS.iter().find(|(_, gguf)| *gguf == name) {
        return Some((*hf).into());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let (hf, _) = BLOCK_PARTS.iter().find(|(_, gguf)| *gguf == part)?;
    Some(format!("model.layers.{layer}.{hf}.{kind}"))
}
