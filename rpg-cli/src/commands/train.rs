//! `rpg train`.

use super::output;
use crate::args::TrainArgs;
use crate::backend::{OnBackend, on_backend};
use crate::config::{ScratchModel, TrainConfig};
use crate::data::arithmetic::{TOKENIZER, TOKENIZER_SETTINGS};
use crate::failure::{Failure, exit};
use crate::interrupt::Interrupt;
use crate::models::load_model;
use crate::run_folder::RunFolder;
use crate::train::grading::Grader;
use crate::train::{Outcome, Start, check_context, finish, newest_checkpoint, train};
use rpg_core::model::{CausalLm, Family, ModelConfig};
use rpg_core::ops::DecodeBackend;
use rpg_core::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

pub(super) fn run(args: TrainArgs) -> Result<(), Failure> {
    let (config, name) = match &args.resume {
        Some(root) => {
            let folder = RunFolder::open(root)?;
            (
                TrainConfig::from_file(&folder.path("config.toml"), &[])?,
                String::new(),
            )
        }
        None => resolve(&args)?,
    };
    if args.print_config {
        return output::line(config.to_toml().trim_end());
    }
    for warning in config.objective.warnings() {
        eprintln!("warning: objective: {warning}");
    }
    let json = args.json;
    let backend = args.backend.unwrap_or(config.backend);
    let work = Work {
        args,
        config,
        name,
        interrupt: Interrupt::listen(),
    };
    let ((folder, outcome), _) = {
        let (result, used) = on_backend(backend, work)?;
        (result?, used)
    };
    report(&folder, &outcome, json)
}

/// The config that the flags describe, and a name for the run.
fn resolve(args: &TrainArgs) -> Result<(TrainConfig, String), Failure> {
    let mut sets = Vec::new();
    let quoted = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    sets.extend(
        args.model
            .iter()
            .map(|path| format!("model.path={}", quoted(path))),
    );
    sets.extend(
        args.data
            .iter()
            .map(|path| format!("data.train={}", quoted(path))),
    );
    sets.extend(args.seed.map(|seed| format!("seed={seed}")));
    sets.extend(args.steps.map(|steps| format!("train.steps={steps}")));
    sets.extend(args.backend.map(|backend| format!("backend=\"{backend}\"")));
    sets.extend(args.set.iter().cloned());
    if let Some(path) = &args.config {
        let name = path
            .file_stem()
            .map_or("run".into(), |s| s.to_string_lossy().into_owned());
        return Ok((TrainConfig::from_file(path, &sets)?, name));
    }
    let default = match (&args.model, &args.data) {
        (None, None) => "arithmetic",
        _ => "finetune",
    };
    let name = args.recipe.as_deref().unwrap_or(default);
    Ok((TrainConfig::recipe(name, &sets)?, name.to_owned()))
}

struct Work {
    args: TrainArgs,
    config: TrainConfig,
    name: String,
    interrupt: Interrupt,
}

impl OnBackend for Work {
    type Output = Result<(RunFolder, Outcome), Failure>;

    fn run<B: DecodeBackend>(self, device: B::Device) -> Self::Output {
        let Self {
            args,
            config,
            name,
            interrupt,
        } = self;
        // Everything that can be wrong is found before the run folder appears.
        let grader = Grader::new(&config)?;
        let (folder, start) = match &args.resume {
            Some(root) => {
                let folder = RunFolder::open(root)?;
                let dir = newest_checkpoint(&folder)?;
                let (model, tokenizer) = load_model::<B>(&dir, &device)?;
                if let Some(shape) = &config.model.scratch {
                    check_shape(shape, model.config(), root)?;
                }
                grader.check()?;
                eprintln!("resuming from {}", dir.display());
                (
                    folder,
                    Start {
                        model,
                        tokenizer,
                        grader,
                        resume: Some(dir),
                    },
                )
            }
            None => {
                let (model, tokenizer) = new_policy::<B>(&config, &device)?;
                let n_eval = config.evaluate.problems;
                let data = crate::data::load(&config.data, &tokenizer, config.seed, n_eval)?;
                check_context(&config, &model, &data)?;
                grader.check()?;
                let root = args
                    .run_dir
                    .unwrap_or_else(|| RunFolder::next_free(Path::new("runs"), &name));
                let folder = RunFolder::create(&root, &config.to_toml())?;
                (
                    folder,
                    Start {
                        model,
                        tokenizer,
                        grader,
                        resume: None,
                    },
                )
            }
        };
        eprintln!(
            "{} parameters on {}; objective {}, seed {}; run folder {}",
            start.model.config().n_parameters(),
            B::name(&device),
            describe(&config),
            config.seed,
            folder.root().display()
        );
        let outcome = train(&config, &folder, start, &interrupt)?;
        Ok((folder, outcome))
    }
}

fn describe(config: &TrainConfig) -> String {
    let objective = serde_json::to_value(&config.objective).unwrap_or_default();
    let text = |key: &str| objective[key].as_str().unwrap_or_default().to_owned();
    match text("kind").as_str() {
        "rpg" => format!(
            "rpg ({}, {}, clip {})",
            text("kl"),
            text("estimator"),
            text("clip")
        ),
        kind => kind.to_owned(),
    }
}

fn new_policy<B: DecodeBackend>(
    config: &TrainConfig,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    match (&config.model.path, &config.model.scratch) {
        (Some(dir), _) => load_model(dir, device),
        (None, Some(shape)) => scratch(shape, config, device),
        (None, None) => Err(Failure::input(
            "model: neither `path` nor `scratch` is given",
        )),
    }
}

/// Refuses sizes in a run's config that are not those of its checkpoint.
fn check_shape(shape: &ScratchModel, found: &ModelConfig, root: &Path) -> Result<(), Failure> {
    let sizes = [
        ("hidden_size", shape.hidden_size, found.hidden_size),
        (
            "intermediate_size",
            shape.intermediate_size,
            found.intermediate_size,
        ),
        (
            "num_hidden_layers",
            shape.num_hidden_layers,
            found.num_hidden_layers,
        ),
        (
            "num_attention_heads",
            shape.num_attention_heads,
            found.num_attention_heads,
        ),
        (
            "num_key_value_heads",
            shape.num_key_value_heads,
            found.num_key_value_heads,
        ),
    ];
    for (key, given, of_checkpoint) in sizes {
        if given != of_checkpoint {
            let path = root.join("config.toml");
            return Err(Failure::input(format!(
                "{}: model.scratch.{key}: found {given}; expected {of_checkpoint}, as the run's checkpoint has it",
                path.display()
            ))
            .hint("a model of another size is another run: start it without --resume"));
        }
    }
    Ok(())
}

/// A Qwen3-like model with random weights for the built-in task.
fn scratch<B: DecodeBackend>(
    shape: &ScratchModel,
    config: &TrainConfig,
    device: &B::Device,
) -> Result<(CausalLm<B>, Tokenizer), Failure> {
    let tokenizer =
        Tokenizer::from_json(TOKENIZER, Some(TOKENIZER_SETTINGS)).map_err(Failure::internal)?;
    let id = |token: &str| {
        tokenizer
            .token_id(token)
            .ok_or_else(|| Failure::internal(format!("the built-in tokenizer has no {token}")))
    };
    let model = ModelConfig {
        model_type: Family::Qwen3,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: shape.hidden_size / shape.num_attention_heads.max(1),
        max_position_embeddings: 128,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        rope_scaling: None,
        qk_norm: true,
        eos_token_ids: vec![id("<eos>")?],
        pad_token_id: Some(id("<pad>")?),
        bos_token_id: None,
    };
    model
        .check()
        .map_err(|e| Failure::input(format!("model.scratch: {e}")))?;
    Ok((CausalLm::init(&model, config.seed, device), tokenizer))
}

fn report(folder: &RunFolder, outcome: &Outcome, json: bool) -> Result<(), Failure> {
    let root = folder.root().display();
    if outcome.interrupted {
        eprintln!("checkpoint: {}", outcome.checkpoint.display());
        return Err(Failure {
            message: format!("interrupted after step {}", outcome.steps),
            hint: Some(format!("go on with: rpg train --resume {root}")),
            code: exit::INTERRUPTED,
        });
    }
    let curve: PathBuf = finish(folder, outcome)?;
    if json {
        let summary =
            std::fs::read_to_string(folder.path("summary.json")).map_err(Failure::internal)?;
        return output::line(summary.trim_end());
    }
    let k = outcome.k;
    output::line(format_args!(
        "\n{:<24} {:>8} {:>8}\n{:<24} {:>8.3} {:>8.3}\n\n{} steps in {:.0} s\nrun folder      {root}\n\
         checkpoint      {}\nlearning curve  {}",
        "held-out problems",
        "before",
        "after",
        format!("mean@{k}"),
        outcome.before,
        outcome.after,
        outcome.steps,
        outcome.seconds,
        outcome.checkpoint.display(),
        curve.display()
    ))
}
