//! The values of one column, some rows at a time.

use super::guarded;
use super::layout::Leaf;
use parquet::basic::{ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::schema::types::Type;
use serde_json::{Number, Value};
use std::vec::IntoIter;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// There are none.
    Nothing,
    /// UTF-8.
    Text,
    /// Numbers, with their sign.
    Number,
    /// Numbers without a sign, which are stored as if they had one.
    Unsigned,
    /// True or false.
    Truth,
}

impl Kind {
    /// The error is what was found instead.
    pub(super) fn of(column: &Type) -> Result<Self, String> {
        let info = column.get_basic_info();
        let (converted, physical) = (info.converted_type(), column.get_physical_type());
        let is_plain = match info.logical_type_ref() {
            Some(LogicalType::Unknown) => return Ok(Self::Nothing),
            // Those that have a converted type are told apart by it.
            None => true,
            Some(_) => converted != ConvertedType::NONE,
        };
        let kind = match (converted, physical) {
            (ConvertedType::NONE, Physical::BOOLEAN) => Self::Truth,
            (
                ConvertedType::NONE,
                Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE,
            ) => Self::Number,
            (
                ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64,
                Physical::INT32 | Physical::INT64,
            ) => Self::Number,
            (
                ConvertedType::UINT_8
                | ConvertedType::UINT_16
                | ConvertedType::UINT_32
                | ConvertedType::UINT_64,
                Physical::INT32 | Physical::INT64,
            ) => Self::Unsigned,
            (
                ConvertedType::NONE
                | ConvertedType::UTF8
                | ConvertedType::ENUM
                | ConvertedType::JSON,
                Physical::BYTE_ARRAY,
            ) => Self::Text,
            (ConvertedType::NONE, physical) => return Err(format!("values of type {physical}")),
            (converted, _) => return Err(format!("values of type {converted}")),
        };
        match info.logical_type_ref() {
            Some(other) if !is_plain => Err(format!("values of type {other:?}")),
            _ => Ok(kind),
        }
    }
}

/// The values of a column that are in memory, and where the next ones come from.
pub(super) struct Cells {
    leaf: Leaf,
    reader: ColumnReader,
    /// The levels of the entries in memory, of which `next` is the first that has not been taken.
    defs: Vec<i16>,
    reps: Vec<i16>,
    next: usize,
    values: IntoIter<Value>,
}

impl Cells {
    pub(super) fn new(leaf: Leaf, reader: ColumnReader) -> Self {
        Self {
            leaf,
            reader,
            defs: Vec::new(),
            reps: Vec::new(),
            next: 0,
            values: Vec::new().into_iter(),
        }
    }

    /// Reads the entries of the next `rows` rows.
    pub(super) fn fill(&mut self, rows: usize) -> Result<(), String> {
        self.read(rows)
            .map_err(|what| format!("column `{}`: {what}", self.leaf.path))
    }

    fn read(&mut self, rows: usize) -> Result<(), String> {
        self.next = 0;
        self.defs.clear();
        self.reps.clear();
        let unsigned = self.leaf.kind == Kind::Unsigned;
        let Self {
            leaf,
            reader,
            defs,
            reps,
            ..
        } = self;
        let mut batch = Batch {
            leaf,
            rows,
            defs,
            reps,
        };
        let values = match reader {
            ColumnReader::BoolColumnReader(r) => batch.read(r, |&b| Some(b.into())),
            ColumnReader::Int32ColumnReader(r) => batch.read(r, |&n| {
                Some(if unsigned {
                    (n as u32).into()
                } else {
                    n.into()
                })
            }),
            ColumnReader::Int64ColumnReader(r) => batch.read(r, |&n| {
                Some(if unsigned {
                    (n as u64).into()
                } else {
                    n.into()
                })
            }),
            // Its shortest digits, not those of the nearest f64.
            ColumnReader::FloatColumnReader(r) => {
                batch.read(r, |x| x.to_string().parse().ok().map(number))
            }
            ColumnReader::DoubleColumnReader(r) => batch.read(r, |&x| Some(number(x))),
            ColumnReader::ByteArrayColumnReader(r) => {
                batch.read(r, |bytes| Some(bytes.as_utf8().ok()?.into()))
            }
            ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                Err("found values of an unknown type".into())
            }
        }?;
        self.values = values.into_iter();
        Ok(())
    }

    /// The definition level of the next entry.
    pub(super) fn definition(&self) -> Result<i16, String> {
        let level = self.defs.get(self.next).copied();
        level.ok_or_else(|| self.damaged())
    }

    /// The repetition level of the next entry, if there is one in memory.
    pub(super) fn repetition(&self) -> Option<i16> {
        self.reps.get(self.next).copied()
    }

    /// The next entry: a value, or nothing.
    pub(super) fn take(&mut self) -> Result<Value, String> {
        let is_there = self.definition()? == self.leaf.max_def;
        self.next += 1;
        if !is_there {
            return Ok(Value::Null);
        }
        self.values.next().ok_or_else(|| self.damaged())
    }

    /// Refuses entries that no row has taken.
    pub(super) fn check_used(&self) -> Result<(), String> {
        if self.next == self.defs.len() && self.values.len() == 0 {
            return Ok(());
        }
        Err(self.damaged())
    }

    fn damaged(&self) -> String {
        format!(
            "column `{}`: the Parquet file is damaged: the column does not fit its rows",
            self.leaf.path
        )
    }
}

/// JSON has no number for NaN and infinities.
fn number(x: f64) -> Value {
    Number::from_f64(x).map_or(Value::Null, Value::Number)
}

struct Batch<'a> {
    leaf: &'a Leaf,
    rows: usize,
    defs: &'a mut Vec<i16>,
    reps: &'a mut Vec<i16>,
}

impl Batch<'_> {
    /// Reads the entries; `convert` is given the values that are there, and has none for one that it does not understand.
    fn read<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        convert: impl Fn(&T::T) -> Option<Value>,
    ) -> Result<Vec<Value>, String> {
        let mut raw = Vec::new();
        let Leaf {
            max_def, max_rep, ..
        } = *self.leaf;
        let mut done = 0;
        while done < self.rows {
            let defs = (max_def > 0).then_some(&mut *self.defs);
            let reps = (max_rep > 0).then_some(&mut *self.reps);
            let (n, ..) = guarded(|| reader.read_records(self.rows - done, defs, reps, &mut raw))?;
            if n == 0 {
                return Err(format!(
                    "the Parquet file is damaged or cut off: {} of the rows are missing",
                    self.rows - done
                ));
            }
            done += n;
        }
        if max_def == 0 {
            self.defs.resize(raw.len(), 0);
        }
        if max_rep == 0 {
            self.reps.resize(self.defs.len(), 0);
        }
        let value = |raw| convert(raw).ok_or_else(|| "found bytes that are not UTF-8 text".into());
        raw.iter().map(value).collect()
    }
}
