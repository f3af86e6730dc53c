//! What an optimizer saves.

use burn::tensor::{DType, TensorData};
use std::collections::BTreeMap;
use std::fmt;

/// The state of an optimizer as named tensors, which are read one at a time: it takes no memory of its own.
#[derive(Debug, Default, PartialEq)]
pub struct OptimizerState {
    /// Updates so far.
    pub n_updates: u64,
    /// By names that stay the same from process to process, such as those of the parameters.
    pub tensors: BTreeMap<String, StateTensor>,
}

/// The names of numbers by which a state says that it is not one of plain AdamW.
const MARKS: [&str; 2] = [SCHEDULE_FREE, EIGHT_BIT];

/// In a state of schedule-free AdamW, the largest learning rate so far.
pub(super) const SCHEDULE_FREE: &str = "lr_max";

/// In a state with 8-bit moments, how many values share a scale.
pub(super) const EIGHT_BIT: &str = "block_size";

impl OptimizerState {
    /// Refuses the state of an optimizer with another mark, or with any where there should be none. One without tensors is that
    /// of any optimizer before its first update.
    pub(super) fn check_kind(&self, mark: Option<&str>) -> Result<(), StateError> {
        let fits = |name: &str| self.tensors.contains_key(name) == (mark == Some(name));
        if self.tensors.is_empty() || MARKS.into_iter().all(fits) {
            return Ok(());
        }
        Err(StateError::Other)
    }

    /// One of the numbers that are kept beside the tensors of parameters.
    pub(super) fn number(&self, name: &str) -> Result<f64, StateError> {
        let saved = self.tensors.get(name);
        let saved = saved.filter(|saved| saved.dtype() == DType::F64 && saved.shape() == [1]);
        let value = saved.and_then(|saved| saved.data().iter::<f64>().next());
        value.ok_or_else(|| StateError::Mismatch(format!("`{name}` is not a number")))
    }
}

/// A tensor of a state.
pub struct StateTensor {
    dtype: DType,
    shape: Vec<usize>,
    read: Box<dyn Fn() -> TensorData>,
}

impl StateTensor {
    /// A tensor of this type and shape, which `read` gets from where it is.
    pub fn new(dtype: DType, shape: Vec<usize>, read: impl Fn() -> TensorData + 'static) -> Self {
        Self {
            dtype,
            shape,
            read: Box::new(read),
        }
    }

    /// The type of its numbers.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its numbers, read now.
    pub fn data(&self) -> TensorData {
        (self.read)()
    }
}

impl From<TensorData> for StateTensor {
    fn from(data: TensorData) -> Self {
        Self::new(data.dtype, data.shape.to_vec(), move || data.clone())
    }
}

impl PartialEq for StateTensor {
    fn eq(&self, other: &Self) -> bool {
        self.data() == other.data()
    }
}

impl fmt::Debug for StateTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.shape)
    }
}

/// Why a saved state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file is damaged.
    #[error("not a usable safetensors file: {0}")]
    Format(String),
    /// It is that of an optimizer of another kind.
    #[error(
        "is the state of another optimizer: `optimizer.kind` must be what the run was started with"
    )]
    Other,
    /// A tensor is missing or differs in size from its parameter.
    #[error("does not fit the model: {0}")]
    Mismatch(String),
}
