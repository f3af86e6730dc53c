//! Writing a model as a Hugging Face folder.

use super::{LoadError, sources};
use crate::model::CausalLm;
use crate::ops::ModelBackend;
use burn::tensor::Tensor;
use half::bf16;
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// The type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SaveDtype {
    /// 32 bits: the type that training computes in, so that a run continues from it exactly.
    #[default]
    F32,
    /// bfloat16: half the size, as most checkpoints are published.
    Bf16,
}

impl SaveDtype {
    fn torch_name(self) -> &'static str {
        match self {
            SaveDtype::F32 => "float32",
            SaveDtype::Bf16 => "bfloat16",
        }
    }
}

impl<B: ModelBackend> CausalLm<B> {
    /// Writes `config.json`, `generation_config.json` and `model.safetensors` into `dir`.
    ///
    /// The files appear one after the other; a caller who needs all or nothing writes to a temporary folder and
    /// renames it.
    pub fn save_hf(&self, dir: &Path, dtype: SaveDtype) -> Result<(), LoadError> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            fs::write(&path, text).map_err(|source| LoadError::Io { path, source })
        };
        write("config.json", self.config().to_hf_json(dtype.torch_name()))?;
        write("generation_config.json", self.generation_config())?;
        let mut tensors = BTreeMap::new();
        for (name, values) in self.named_values() {
            let mut rest = values.as_slice();
            for source in sources(self.config(), &name) {
                let (part, later) = rest.split_at(source.shape.iter().product());
                rest = later;
                tensors.insert(source.name, Stored::new(part, source.shape, dtype));
            }
        }
        let path = dir.join("model.safetensors");
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(metadata), &path).map_err(|source| {
            LoadError::Safetensors {
                path: path.clone(),
                source,
            }
        })?;
        // The library makes the file readable by its owner alone; whoever may read the config may read the weights.
        let like_the_others = fs::metadata(dir.join("config.json"))
            .and_then(|config| fs::set_permissions(&path, config.permissions()));
        like_the_others.map_err(|source| LoadError::Io { path, source })
    }

    /// The `generation_config.json` that the model came with, with its tokens as they are now.
    fn generation_config(&self) -> String {
        let config = self.config();
        let mut json = serde_json::Value::Object(self.origin.generation.clone());
        json["bos_token_id"] = serde_json::json!(config.bos_token_id);
        json["eos_token_id"] = serde_json::json!(config.eos_token_ids);
        json["pad_token_id"] = serde_json::json!(config.pad_token_id);
        format!("{json:#}\n")
    }

    /// Every parameter's name and values, in a fixed order.
    fn named_values(&self) -> Vec<(String, Vec<f32>)> {
        fn of<B: ModelBackend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
            let data = tensor.into_data().convert::<f32>();
            data.into_vec().expect("f32 data is a vector of f32")
        }
        let mut all = vec![("embedding".to_owned(), of(self.embedding.val()))];
        for (i, block) in self.blocks.iter().enumerate() {
            let mut add = |part: &str, values| all.push((format!("blocks.{i}.{part}"), values));
            add("qkv", of(block.qkv.val()));
            add("output", of(block.output.val()));
            add("gate_up", of(block.gate_up.val()));
            add("down", of(block.down.val()));
            add("input_norm", of(block.input_norm.val()));
            add("post_norm", of(block.post_norm.val()));
            for (part, vector) in [
                ("qkv_bias", &block.qkv_bias),
                ("output_bias", &block.output_bias),
                ("q_norm", &block.q_norm),
                ("k_norm", &block.k_norm),
            ] {
                if let Some(vector) = vector {
                    add(part, of(vector.val()));
                }
            }
        }
        all.push(("norm".to_owned(), of(self.norm.val())));
        if let Some(head) = &self.lm_head {
            all.push(("lm_head".to_owned(), of(head.val())));
        }
        all
    }
}

/// A tensor ready to be written.
struct Stored {
    bytes: Vec<u8>,
    shape: Vec<usize>,
    dtype: Dtype,
}

impl Stored {
    fn new(values: &[f32], shape: Vec<usize>, dtype: SaveDtype) -> Self {
        match dtype {
            SaveDtype::F32 => {
                let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                Self {
                    bytes,
                    shape,
                    dtype: Dtype::F32,
                }
            }
            SaveDtype::Bf16 => {
                let bytes = values
                    .iter()
                    .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                    .collect();
                Self {
                    bytes,
                    shape,
                    dtype: Dtype::BF16,
                }
            }
        }
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
