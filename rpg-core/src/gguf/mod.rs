//! GGUF files: weights, sizes, tokenizer and chat template of a model in one file, as llama.cpp reads them.
//!
//! [`CausalLm::from_gguf`](crate::model::CausalLm::from_gguf) and
//! `Tokenizer::from_gguf` make a model of one. Quantised weights
//! become f32 when they are loaded; from then on it is a model like any other.

mod config;
#[cfg(feature = "tokenizer")]
mod tokenizer;

use crate::files::{POINTER, is_pointer};
use crate::model::ConfigError;
use crate::ops::PackedFormat;
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use memmap2::Mmap;
use std::fs::File;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Why a GGUF file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is damaged, or not a GGUF file.
    #[error("{}: not a usable GGUF file: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A key of the header is missing or has a value that cannot be used.
    #[error("{}: `{key}`: {found}; expected {expected}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the file has there.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// This crate cannot run a model of these sizes.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, by the name that `config.json` has for it.
        source: ConfigError,
    },
}

/// An open GGUF file: its header has been read, its tensors have not.
pub struct GgufFile {
    path: PathBuf,
    bytes: Mmap,
    content: Content,
}

impl GgufFile {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        // SAFETY: the mapping is read while the model loads. If another process shrinks the file in that time, this
        // one is killed, as with every reader of mapped checkpoints.
        let mapped = File::open(path).and_then(|file| unsafe { Mmap::map(&file) });
        let bytes = mapped.map_err(|source| GgufError::Io {
            path: path.into(),
            source,
        })?;
        let damaged = |message| GgufError::Damaged {
            path: path.into(),
            message,
        };
        if is_pointer(&bytes) {
            return Err(damaged(POINTER.into()));
        }
        // The reader divides by the header's alignment, zero or not.
        let read = catch_unwind(AssertUnwindSafe(|| {
            Content::read(&mut Cursor::new(&bytes[..]))
        }));
        let content = match read {
            Ok(Ok(content)) => content,
            Ok(Err(error)) => {
                let error = sentence(&error);
                return Err(damaged(unknown_type(&error).unwrap_or(error)));
            }
            Err(_) => return Err(damaged("`general.alignment` is 0".into())),
        };
        let file = Self {
            path: path.into(),
            bytes,
            content,
        };
        match file.integer("split.count")? {
            Some(n) if n > 1 => {
                let part = file.integer("split.no")?.unwrap_or(0) + 1;
                let found = format!("found {n}, and this is part {part} of them");
                let expected = "one file; `llama-gguf-split --merge` makes it of the parts";
                Err(file.key_error("split.count", found, expected))
            }
            _ => Ok(file),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.content.tensor_infos.keys().map(String::as_str)
    }

    /// The sizes of a tensor, rows first.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.info(name).map(|info| info.shape.dims())
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.content.tensor_infos.get(name)
    }

    /// The values of a tensor whose shape has been checked.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>, GgufError> {
        let damaged = |message: String| GgufError::Damaged {
            path: self.path.clone(),
            message: format!("tensor `{name}`: {message}"),
        };
        let info = self
            .info(name)
            .ok_or_else(|| damaged("it is not there".into()))?;
        let (columns, block) = (
            info.shape.dims().last().copied().unwrap_or(1),
            info.ggml_dtype.block_size(),
        );
        if !columns.is_multiple_of(block) {
            let kind = info.ggml_dtype;
            return Err(damaged(format!(
                "rows of {columns} values cannot be stored as {kind:?}, in blocks of {block}"
            )));
        }
        let mut reader = Cursor::new(&self.bytes[..]);
        let values = info
            .read(&mut reader, self.content.tensor_data_offset, &Device::Cpu)
            .and_then(|stored| stored.dequantize(&Device::Cpu))
            .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
        values.map_err(|error| damaged(sentence(&error)))
    }

    /// The blocks of a tensor whose shape has been checked, if it has some of a format that products read as it is.
    pub(crate) fn blocks(&self, name: &str) -> Option<(PackedFormat, &[u8])> {
        let info = self.info(name)?;
        let format = match info.ggml_dtype {
            GgmlDType::Q8_0 => PackedFormat::Q8_0,
            GgmlDType::Q4K => PackedFormat::Q4K,
            GgmlDType::Q6K => PackedFormat::Q6K,
            _ => return None,
        };
        let (weights, _) = format.block();
        if !info.shape.dims().last()?.is_multiple_of(weights) {
            return None;
        }
        let first = usize::try_from(self.content.tensor_data_offset + info.offset).ok()?;
        let end = first.checked_add(format.bytes(info.shape.elem_count()))?;
        Some((format, self.bytes.get(first..end)?))
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> GgufError {
        let found = match value {
            Value::Array(values) => format!("found a list of {}", values.len()),
            Value::String(text) => format!("found {text:?}"),
            other => format!("found {other:?}"),
        };
        self.key_error(key, found, expected)
    }

    fn missing(&self, key: &str, expected: &str) -> GgufError {
        self.key_error(key, "missing".into(), expected)
    }

    fn key_error(&self, key: &str, found: String, expected: &str) -> GgufError {
        GgufError::Key {
            path: self.path.clone(),
            key: key.into(),
            found,
            expected: expected.into(),
        }
    }

    /// The value of a key, read by `read`.
    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.wrong(key, value, expected)),
        }
    }

    /// The values of a list, each read by `read`.
    fn list<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        self.read(key, expected, |value| match value {
            Value::Array(values) => values.iter().map(&read).collect(),
            _ => None,
        })
    }

    fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.read(key, "a text", text)
    }

    fn integer(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.read(key, "an integer from 0 on", integer)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.read(key, "a number", number)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.read(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }
}

/// The error without the backtrace that it may carry.
fn sentence(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// What to say of a tensor's type that the reader does not know.
fn unknown_type(error: &str) -> Option<String> {
    // By ggml's numbers.
    const NAMES: [(u32, &str); 14] = [
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "NVFP4"),
        (28, "F64"),
    ];
    let number: u32 = error
        .strip_prefix("unknown dtype for tensor ")?
        .trim()
        .parse()
        .ok()?;
    let name = NAMES.iter().find(|(n, _)| *n == number);
    let name = name.map_or_else(|| format!("number {number}"), |(_, name)| (*name).into());
    Some(format!(
        "it stores tensors as {name}; supported are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q8_K"
    ))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<u64> {
    match *value {
        Value::I8(n) => n.try_into().ok(),
        Value::I16(n) => n.try_into().ok(),
        Value::I32(n) => n.try_into().ok(),
        Value::I64(n) => n.try_into().ok(),
        Value::U8(n) => Some(n.into()),
        Value::U16(n) => Some(n.into()),
        Value::U32(n) => Some(n.into()),
        Value::U64(n) => Some(n),
        _ => None,
    }
}

/// An f32 becomes the number that its shortest decimal form names: 1e-5, not 9.999999747e-6.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F32(x) => x.to_string().parse().ok(),
        Value::F64(x) => Some(*x),
        _ => integer(value).map(|n| n as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::PackedMatrix;
    use std::collections::BTreeMap;

    #[test]
    fn blocks_of_every_kind_have_the_values_of_the_gguf_package() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf");
        let text = std::fs::read_to_string(fixtures.join("blocks.json")).unwrap();
        let expected: BTreeMap<String, Vec<f32>> = serde_json::from_str(&text).unwrap();
        let file = GgufFile::open(&fixtures.join("blocks.gguf")).unwrap();
        assert_eq!(expected.len(), file.tensor_names().count());
        for (kind, expected) in expected {
            let found = file.values(&kind).unwrap();
            assert_eq!(found.len(), expected.len(), "{kind}");
            let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                // One product and one sum in f32.
                let error = (found - expected).abs();
                assert!(error <= 1e-6 * largest, "{kind}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn blocks_that_products_read_have_the_same_values() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf");
        let file = GgufFile::open(&fixtures.join("blocks.gguf")).unwrap();
        for kind in ["Q8_0", "Q4_K", "Q6_K"] {
            let values = file.values(kind).unwrap();
            let columns = *file.shape(kind).unwrap().last().unwrap();
            let (format, blocks) = file.blocks(kind).unwrap();
            let packed = PackedMatrix::gguf(format, blocks.to_vec(), columns).to_f32();
            assert_eq!(packed.len(), values.len(), "{kind}");
            let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (found, expected) in packed.iter().zip(&values) {
                let error = (found - expected).abs();
                assert!(error <= 1e-6 * largest, "{kind}: {found} for {expected}");
            }
        }
        assert!(file.blocks("Q5_K").is_none());
    }
}
