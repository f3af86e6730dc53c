//! The gradient study as a page: exact bias and variance of every estimator on an enumerated policy, and of every
//! correction for a sampler that is not `pi_old`; and the shapes of the clips.
//!
//! `cargo run --release -p rpg-losses --features verify --example gradient_study -- [PAGE]` writes the page
//! PAGE, and its plots into a folder of the same name beside it; without PAGE it prints the page alone.

mod clip_shapes;
mod estimators;
mod plot;
mod third_policy;

use rpg_losses::verify::{Study, StudyOptions, study};
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let study = study(&StudyOptions::default());
    match env::args_os().nth(1) {
        None => print!("{}", text(&study, "gradient-study")),
        Some(page) => {
            let page = PathBuf::from(page);
            write(&study, &page).map_err(|e| format!("{}: {e}", page.display()))?;
            println!("{}", page.display());
        }
    }
    Ok(())
}

/// Writes the page, and its plots into a folder of the same name beside it.
fn write(study: &Study, page: &Path) -> Result<(), Box<dyn Error>> {
    let name = page.file_stem().ok_or("not the name of a file")?;
    let folder = page.with_extension("");
    fs::create_dir_all(&folder)?;
    for (file, plot) in plots(study)? {
        fs::write(folder.join(file), plot)?;
    }
    fs::write(page, text(study, &name.to_string_lossy()))?;
    Ok(())
}

/// The page; its plots are in `folder`.
fn text(study: &Study, folder: &str) -> String {
    format!(
        "# Bias and variance of the gradient estimators

Made by `cargo xtask verify-gradients --study`. {estimators}
{third_policy}
{clip_shapes}",
        estimators = estimators::text(study, folder),
        third_policy = third_policy::text(study, folder),
        clip_shapes = clip_shapes::text(folder),
    )
}

/// Names and contents of the plots.
fn plots(study: &Study) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
    let mut plots = Vec::from(estimators::plots(study)?);
    plots.extend(third_policy::plots(study)?);
    plots.extend(clip_shapes::plots()?);
    Ok(plots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::LazyLock;

    /// The study of the page, made once for all tests.
    pub(crate) static STUDY: LazyLock<Study> = LazyLock::new(|| study(&StudyOptions::default()));

    #[test]
    fn the_page_in_docs_is_what_is_written() {
        // The package alone has no `docs`.
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gradient-study.md");
        if let Ok(page) = fs::read_to_string(docs) {
            assert_eq!(text(&STUDY, "gradient-study"), page);
        }
    }
}
