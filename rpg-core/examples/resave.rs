//! Reads a model folder and writes it again: `resave IN OUT`, for `tests/fixtures/check_saved.py`.

use burn::backend::Flex;
use rpg_core::model::{CausalLm, SaveDtype};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        return Err("expected two folders".into());
    };
    let model = CausalLm::<Flex>::load_hf(&from, &Default::default())?;
    std::fs::create_dir_all(&to)?;
    model.save_hf(&to, SaveDtype::F32)?;
    Ok(())
}
