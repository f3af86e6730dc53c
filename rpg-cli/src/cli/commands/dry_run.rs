//! `rpg train --dry-run`: what a run would be, and whether the machine has the memory for it.

use super::output;
use crate::cli::launch::Launch;
use crate::cli::say::say;
use crate::cli::{policy, problems};
use crate::config::TrainConfig;
use crate::data::{self, Reading};
use crate::failure::Failure;
use crate::models::{Outline, outline};
use crate::train::{MemoryPlan, RunSizes, Team, advice, check_context, servers};
use rpg_core::model::{AdapterFolder, ModelConfig};
use rpg_core::tokenizer::Tokenizer;
use serde_json::json;
use std::fmt::Write;
use sysinfo::System;

/// Prints the resolved config, the parameters, the tokens of a step and the memory by its parts; fails if the machine has
/// less. With several ranks, what each of them takes, and what this machine has for each of its own.
pub(super) fn run(config: &TrainConfig, launch: &Launch, json: bool) -> Result<(), Failure> {
    config.check_ahead()?;
    let (mut outline, tokenizer) = of_policy(config)?;
    outline.config.long_context |= config.model.long_context;
    let Prompts {
        longest: longest_prompt,
        mean: mean_prompt,
        first,
    } = prompts(config, &outline.config, tokenizer)?;
    let sizes = RunSizes {
        model: outline.config,
        stored_bytes: outline.stored_bytes,
        longest_prompt,
        mean_prompt,
        reference: of_reference(config)?,
        adapter: given_adapter(config)?,
        ranks: launch.team().world(),
    };
    check_lora(config, &sizes)?;
    let servers = servers(config, &sizes)?;
    let plan = MemoryPlan::new(config, &sizes);
    let (total, available) = machine(launch);
    let advice = advice(config, &sizes, total);
    let fits = plan.peak() <= total;
    if json {
        let [sampling, updating] = plan.phases();
        let advice: Vec<_> = advice
            .iter()
            .map(|(set, bytes)| json!({"set": set, "peak_bytes": bytes}))
            .collect();
        let report = json!({
            "config": config,
            "parameters": plan.parameters,
            "trained_parameters": plan.trained_parameters,
            "tokens_per_step": plan.tokens_per_step,
            "memory": {
                "parts": plan.parts,
                "sampling_bytes": sampling,
                "updating_bytes": updating,
                "peak_bytes": plan.peak(),
            },
            "ranks": sizes.ranks,
            "machine": {"total_bytes": total, "available_bytes": available},
            "fits": fits,
            "servers": servers,
            "advice": advice,
            "first_prompt": first,
        });
        output::line(format_args!("{report:#}"))?;
    } else {
        output::line(config.to_toml().trim_end())?;
        output::line(table(&plan, sizes.ranks, total, available))?;
        for server in servers {
            output::line(format_args!("server: {server}"))?;
        }
        output::line(format_args!(
            "the first prompt, without special tokens:\n{first}"
        ))?;
    }
    if plan.peak() > available && fits {
        say!(
            "warning: {} of memory are free now, and the run will take {}",
            gib(available),
            gib(plan.peak())
        );
    }
    check(&plan, &advice, total, total)
}

/// Asks the servers that are to sample, and returns what they say they are.
fn servers(config: &TrainConfig, sizes: &RunSizes) -> Result<Vec<String>, Failure> {
    let lora = config.lora.as_ref().map(|lora| lora.rank.get());
    let asked = servers::ask(
        config,
        &sizes.model,
        sizes.longest_prompt,
        lora,
        &Team::alone(),
    )?;
    Ok(asked.map_or_else(Vec::new, |servers| servers.descriptions()))
}

/// Refuses a run that the machine has too little memory for, before anything is loaded. Estimates may be off by a fifth.
pub(super) fn check_memory(config: &TrainConfig, launch: &Launch) -> Result<(), Failure> {
    // A model that cannot be read says so when it is loaded.
    let Ok((outline, _)) = of_policy(config) else {
        return Ok(());
    };
    let prompt = config.data.max_prompt_tokens.get() / 4;
    let sizes = RunSizes {
        model: outline.config,
        stored_bytes: outline.stored_bytes,
        longest_prompt: prompt,
        mean_prompt: prompt,
        reference: of_reference(config).unwrap_or(None),
        adapter: given_adapter(config).unwrap_or(None),
        ranks: launch.team().world(),
    };
    let plan = MemoryPlan::new(config, &sizes);
    let (total, _) = machine(launch);
    let limit = total + total / 5;
    check(&plan, &advice(config, &sizes, total), total, limit)
}

fn check(
    plan: &MemoryPlan,
    advice: &[(String, usize)],
    total: usize,
    limit: usize,
) -> Result<(), Failure> {
    if plan.peak() <= limit {
        return Ok(());
    }
    let failure = Failure::input(format!(
        "the run would take about {} of memory; the machine has {}",
        gib(plan.peak()),
        gib(total)
    ));
    let steps: Vec<String> = advice
        .iter()
        .map(|(set, peak)| format!("--set {set} ({})", gib(*peak)))
        .collect();
    if steps.is_empty() {
        return Err(failure);
    }
    Err(failure.hint(format!("in this order: {}", steps.join(", "))))
}

fn of_policy(config: &TrainConfig) -> Result<(Outline, Tokenizer), Failure> {
    match (&config.model.path, &config.model.scratch) {
        (Some(given), _) => outline(&policy::model_of(given)?),
        (None, Some(shape)) => {
            let (config, tokenizer) = shape.config()?;
            let stored_bytes = 4 * config.n_parameters();
            let outline = Outline {
                config,
                stored_bytes,
            };
            Ok((outline, tokenizer))
        }
        (None, None) => Err(Failure::input(
            "model: neither `path` nor `scratch` is given",
        )),
    }
}

/// The parameters of the adapter that `model.path` names.
fn given_adapter(config: &TrainConfig) -> Result<Option<usize>, Failure> {
    let Some(given) = config
        .model
        .path
        .as_ref()
        .filter(|path| AdapterFolder::is_one(path))
    else {
        return Ok(None);
    };
    let adapter = AdapterFolder::open(given).map_err(Failure::input)?;
    adapter.n_parameters().map(Some).map_err(Failure::input)
}

/// Refuses an adapter that cannot be made.
fn check_lora(config: &TrainConfig, sizes: &RunSizes) -> Result<(), Failure> {
    let Some(lora) = &config.lora else {
        return Ok(());
    };
    if sizes.adapter.is_some() {
        return Err(two_adapters());
    }
    let checked = lora.adapter(&sizes.model).check(&sizes.model);
    checked.map_err(|e| Failure::input(format!("lora: {e}")))
}

/// Both an adapter that is given and one that is to be made.
pub(super) fn two_adapters() -> Failure {
    Failure::input(
        "lora: found together with a model.path that is an adapter; expected one of the two",
    )
    .hint("without [lora], the training of that adapter goes on")
}

fn of_reference(config: &TrainConfig) -> Result<Option<ModelConfig>, Failure> {
    let Some(given) = &config.reference.path else {
        return Ok(None);
    };
    let (outline, _) = outline(&policy::model_of(given)?)?;
    Ok(Some(outline.config))
}

/// What the prompts of a run are like.
struct Prompts {
    /// The tokens of the longest.
    longest: usize,
    mean: usize,
    /// The text of the first, as the policy gets it.
    first: String,
}

/// The prompts of the problems to train on.
fn prompts(
    config: &TrainConfig,
    model: &ModelConfig,
    tokenizer: Tokenizer,
) -> Result<Prompts, Failure> {
    let n_eval = config.evaluate.problems;
    let reading = Reading {
        locate: &problems::locate,
        on_progress: &mut |_, _| {},
    };
    let mut data = data::load(&config.data, &tokenizer, config.seed, n_eval, reading)?;
    for note in &data.notes {
        say!("note: {note}");
    }
    check_context(config, model, "the model", &mut data)?;
    let lengths = data.train.prompt_lengths()?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let mean = lengths.iter().sum::<usize>().div_ceil(lengths.len().max(1));
    let first = tokenizer
        .decode(&data.train.get(0)?.prompt_tokens)
        .map_err(Failure::internal)?;
    Ok(Prompts {
        longest,
        mean,
        first,
    })
}

/// The memory of the machine or of the container that the process is in: all, and what is free, both divided by the number of its
/// ranks.
fn machine(launch: &Launch) -> (usize, usize) {
    let mut system = System::new();
    system.refresh_memory();
    let group = system.cgroup_limits();
    let group = group.map(|limits| (limits.total_memory, limits.rss));
    let (total, available) = within(system.total_memory(), system.available_memory(), group);
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX) / launch.local_ranks();
    (size(total), size(available))
}

/// All memory and what is free of it, where a container has a limit and its processes take so much of that. What the container
/// has read from files counts as free, as the kernel gives it away. Without a limit the container has the machine's.
fn within(total: u64, available: u64, group: Option<(u64, u64)>) -> (u64, u64) {
    match group {
        Some((limit, taken)) if limit < total => {
            (limit, available.min(limit.saturating_sub(taken)))
        }
        _ => (total, available),
    }
}

fn table(plan: &MemoryPlan, ranks: usize, total: usize, available: usize) -> String {
    let of_ranks = match ranks {
        1 => String::new(),
        n => format!("\nfor each of {n} ranks, and its share of this machine's memory:"),
    };
    let mut text = format!(
        "\n{} parameters, of which {} are trained; some {} tokens a step{}\n\n{:<22} {:>10} {:>10}\n",
        plan.parameters,
        plan.trained_parameters,
        plan.tokens_per_step,
        of_ranks,
        "memory",
        "sampling",
        "updating"
    );
    let cell = |exists: bool, bytes: usize| {
        let shown = exists.then(|| gib(bytes));
        shown.unwrap_or_default()
    };
    for part in &plan.parts {
        let _ = writeln!(
            text,
            "{:<22} {:>10} {:>10}",
            part.name,
            cell(part.sampling, part.bytes),
            cell(part.updating, part.bytes)
        );
    }
    let [sampling, updating] = plan.phases();
    let _ = write!(
        text,
        "{:<22} {:>10} {:>10}\n\npeak {} of {}, of which {} are free now",
        "all",
        gib(sampling),
        gib(updating),
        gib(plan.peak()),
        gib(total),
        gib(available)
    );
    text
}

fn gib(bytes: usize) -> String {
    format!("{:.2} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn memory_is_that_of_the_container_if_it_has_less_than_the_machine() {
        for (group, expected) in [
            (None, (100, 60)),
            // A limit of the whole machine, or none, which some kernels tell as a huge one.
            (Some((100, 95)), (100, 60)),
            (Some((u64::MAX, 95)), (100, 60)),
            (Some((50, 20)), (50, 30)),
            // The machine has less left than the container may take.
            (Some((90, 10)), (90, 60)),
            (Some((50, 70)), (50, 0)),
        ] {
            assert_eq!(within(100, 60, group), expected, "{group:?}");
        }
    }
}
