//! Rows of Parquet files, as the JSON objects that a JSONL file with the same content would have.
//!
//! Only the columns that a problem is made of are read, some rows at a time.

mod cells;
mod layout;

use super::columns::{Columns, Row};
use crate::failure::{AtPath, Failure};
use cells::Cells;
use layout::{Layout, Leaf};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// How many rows are in memory at a time.
const BATCH: usize = 1024;

/// Reads a file row by row. An error, also one of `on_row`, names the row or the column.
pub(super) fn each_row(
    path: &Path,
    columns: &Columns,
    on_row: &mut dyn FnMut(usize, &Row) -> Result<(), String>,
) -> Result<(), Failure> {
    let in_file = |message: String| Failure::input(format!("{}: {message}", path.display()));
    let file = File::open(path).at(path)?;
    let file = guarded(|| SerializedFileReader::new(file)).map_err(in_file)?;
    let schema = file.metadata().file_metadata().schema_descr();
    columns.check(&layout::names(schema)).map_err(|message| {
        in_file(message).hint("data.columns names the columns of question, answer and source")
    })?;
    let layout = Layout::new(schema, columns).map_err(in_file)?;
    let mut number = 0;
    for i in 0..file.num_row_groups() {
        let group = guarded(|| file.get_row_group(i)).map_err(in_file)?;
        let mut rest = rows_of(group.metadata(), schema.num_columns()).map_err(in_file)?;
        let open = |leaf: &Leaf| {
            let in_column = |what: String| in_file(format!("column `{}`: {what}", leaf.path));
            check_chunk(group.metadata().column(leaf.index)).map_err(in_column)?;
            let reader = guarded(|| group.get_column_reader(leaf.index)).map_err(in_column)?;
            Ok(Cells::new(leaf.clone(), reader))
        };
        let mut cells: Vec<Cells> = layout
            .leaves()
            .iter()
            .map(open)
            .collect::<Result<_, Failure>>()?;
        while rest > 0 {
            let n = rest.min(BATCH);
            let (first, last) = (number + 1, number + n);
            let in_rows = |what| in_file(format!("rows {first} to {last}: {what}"));
            for column in &mut cells {
                column.fill(n).map_err(in_rows)?;
            }
            for _ in 0..n {
                number += 1;
                let at_row = |what: String| {
                    Failure::input(format!("{}, row {number}: {what}", path.display()))
                };
                let row = layout.row(&mut cells).map_err(at_row)?;
                on_row(number, &row).map_err(at_row)?;
            }
            for column in &cells {
                column.check_used().map_err(in_rows)?;
            }
            rest -= n;
        }
    }
    Ok(())
}

/// What the reader of the file answers. It may also panic over a damaged file.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    let result = catch_unwind(AssertUnwindSafe(read));
    let what = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(
            ParquetError::General(what) | ParquetError::EOF(what) | ParquetError::NYI(what),
        )) => what,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "its parts contradict each other".into(),
    };
    Err(format!("the Parquet file is damaged or cut off: {what}"))
}

fn rows_of(group: &RowGroupMetaData, n_columns: usize) -> Result<usize, String> {
    let n = usize::try_from(group.num_rows()).ok();
    n.filter(|_| group.num_columns() == n_columns)
        .ok_or_else(|| {
            format!(
                "the Parquet file is damaged: it has rows with {} of {n_columns} columns",
                group.num_columns()
            )
        })
}

/// Refuses what the reader would panic over, and codecs that it lacks.
fn check_chunk(chunk: &ColumnChunkMetaData) -> Result<(), String> {
    let places = [
        chunk.dictionary_page_offset().unwrap_or(0),
        chunk.data_page_offset(),
        chunk.compressed_size(),
    ];
    if places.iter().any(|&place| place < 0) {
        return Err("the Parquet file is damaged: the column is nowhere in it".into());
    }
    match chunk.compression() {
        Compression::UNCOMPRESSED
        | Compression::SNAPPY
        | Compression::GZIP(_)
        | Compression::ZSTD(_) => Ok(()),
        other => Err(format!(
            "found the compression {other}; expected none, SNAPPY, GZIP or ZSTD"
        )),
    }
}
