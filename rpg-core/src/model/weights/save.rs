//! Writing a model as a Hugging Face folder.

use super::{LoadError, sources};
use crate::model::CausalLm;
use crate::model::linear::{Linear, Matrix, values};
use crate::ops::ModelBackend;
use burn::module::Param;
use burn::tensor::Tensor;
use half::bf16;
use safetensors::tensor::{Dtype, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::Range;
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
    /// Writes `config.json`, `generation_config.json` and `model.safetensors` into `dir`. An adapter becomes part of the
    /// weights; [`save_adapter`](Self::save_adapter) writes it alone.
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
        for (name, parameter) in self.parameters() {
            let mut first = 0;
            for source in sources(self.config(), &name) {
                let rows = first..first + source.n_rows();
                first = rows.end;
                let stored = Stored {
                    parameter: parameter.clone(),
                    rows,
                    shape: source.shape,
                    dtype,
                };
                tensors.insert(source.name, stored);
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
        set_permissions_like(&path, &dir.join("config.json"))
            .map_err(|source| LoadError::Io { path, source })
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

    /// Every parameter and its name.
    fn parameters(&self) -> Vec<(String, Parameter<B>)> {
        let vector = |param: &Param<Tensor<B, 1>>| Parameter::Vector(param.val());
        let matrix = |matrix: &Matrix<B>| Parameter::Matrix(matrix.clone());
        let mut all = vec![
            ("embedding".to_owned(), matrix(&self.embedding)),
            ("norm".to_owned(), vector(&self.norm)),
        ];
        let head = self.lm_head.as_ref();
        all.extend(head.map(|head| ("lm_head".to_owned(), matrix(head))));
        for (i, block) in self.blocks.iter().enumerate() {
            for (name, linear) in block.linears() {
                let name = format!("blocks.{i}.{name}");
                let bias = linear.bias.as_ref();
                all.extend(bias.map(|bias| (format!("{name}_bias"), vector(bias))));
                all.push((name, Parameter::Layer(linear.clone())));
            }
            let router = block.feed_forward.router();
            all.extend(router.map(|router| (format!("blocks.{i}.router"), matrix(router))));
            let named = block
                .vectors()
                .into_iter()
                .filter_map(|(part, param)| Some((format!("blocks.{i}.{part}"), vector(param?))));
            all.extend(named);
        }
        all
    }
}

/// Gives a file of safetensors, which the library makes readable by its owner alone, the permissions of another: whoever
/// may read the config may read the weights.
pub(in crate::model) fn set_permissions_like(path: &Path, other: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::metadata(other)?.permissions())
}

/// A parameter of the model.
#[derive(Debug, Clone)]
enum Parameter<B: ModelBackend> {
    Matrix(Matrix<B>),
    /// The matrix of a layer, with what an adapter adds to it.
    Layer(Linear<B>),
    Vector(Tensor<B, 1>),
}

impl<B: ModelBackend> Parameter<B> {
    /// Some rows of a matrix, or so many numbers of a vector.
    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        match self {
            Self::Matrix(matrix) => matrix.rows(rows),
            Self::Layer(linear) => linear.merged_rows(rows),
            Self::Vector(vector) => values(vector.clone().slice([rows])),
        }
    }
}

/// A tensor that is made when it is written: there is never a second copy of the whole model.
struct Stored<B: ModelBackend> {
    parameter: Parameter<B>,
    rows: Range<usize>,
    shape: Vec<usize>,
    dtype: SaveDtype,
}

impl<B: ModelBackend> View for Stored<B> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            SaveDtype::F32 => Dtype::F32,
            SaveDtype::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.parameter.rows(self.rows.clone());
        let bytes: Vec<u8> = match self.dtype {
            SaveDtype::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            SaveDtype::Bf16 => values
                .iter()
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        let size = match self.dtype {
            SaveDtype::F32 => 4,
            SaveDtype::Bf16 => 2,
        };
        self.shape.iter().product::<usize>() * size
    }
}
