//! The built-in recipes: whole configs, and those of the paper's comparison, which are a method on a model.

use super::TrainConfig;
use crate::failure::Failure;

/// A built-in recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    parts: Vec<&'static str>,
}

/// A part of a recipe: name, what it is for, text.
type Part = (&'static str, &'static str, &'static str);

/// The recipes that are a file of their own.
const OWN: [Part; 3] = [
    (
        "arithmetic",
        "a small policy learns to add, from scratch: the default of `rpg train`",
        include_str!("../recipes/arithmetic.toml"),
    ),
    (
        "finetune",
        "a pretrained model on a file of problems: the default with `--model` and `--data`",
        include_str!("../recipes/finetune.toml"),
    ),
    (
        "word-problems",
        "SmolLM2-135M-Instruct learns to answer questions of one step of arithmetic, on two cores",
        include_str!("../recipes/word-problems.toml"),
    ),
];

/// What all methods of the paper's comparison share.
const SETTINGS: &str = include_str!("../recipes/paper/settings.toml");

macro_rules! parts {
    ($folder:literal: $($name:literal $about:literal,)*) => {
        &[$(($name, $about, include_str!(concat!("../recipes/paper/", $folder, "/", $name, ".toml")))),*]
    };
}

/// The rows of the paper's comparison.
pub const METHODS: &[Part] = parts! { "methods":
    "rpg-fkl" "RPG, forward KL, fully differentiable, dual clip",
    "rpg-rkl" "RPG, reverse KL, fully differentiable, dual clip",
    "rpg-ufkl" "RPG, unnormalized forward KL, fully differentiable, dual clip",
    "rpg-urkl" "RPG, unnormalized reverse KL, fully differentiable, dual clip",
    "rpg-reinforce-fkl" "RPG-REINFORCE, forward KL, RPG-Style Clip",
    "rpg-reinforce-rkl" "RPG-REINFORCE, reverse KL, RPG-Style Clip",
    "rpg-reinforce-ufkl" "RPG-REINFORCE, unnormalized forward KL, RPG-Style Clip",
    "rpg-reinforce-urkl" "RPG-REINFORCE, unnormalized reverse KL, RPG-Style Clip",
    "grpo" "GRPO",
    "dapo" "DAPO",
    "reinforce-pp" "REINFORCE++",
    "reinforce-pp-baseline" "REINFORCE++-baseline",
};

/// What the methods are compared on.
pub const MODELS: &[Part] = parts! { "models":
    "qwen3-4b" "Qwen3-4B on DAPO-Math-17k with 8,192 tokens (Table 5)",
    "qwen2.5-7b-instruct" "Qwen2.5-7B-Instruct on DAPO-Math-17k with 4,096 tokens (Table 8)",
    "qwen3-0.6b" "Qwen3-0.6B on GSM8K: a small twin",
    "smollm2-135m" "SmolLM2-135M-Instruct on word problems: a twin for two cores",
};

/// All recipes: first those that stand alone, then every method on every model, `METHOD-MODEL`.
pub fn recipes() -> impl Iterator<Item = Recipe> {
    let own = OWN.iter().map(|&(name, about, text)| Recipe {
        name: name.into(),
        about: about.into(),
        parts: vec![text],
    });
    let paper = METHODS.iter().flat_map(|&(method, of_method, objective)| {
        MODELS.iter().map(move |&(model, of_model, text)| Recipe {
            name: format!("{method}-{model}"),
            about: format!("{of_method}: {of_model}"),
            parts: vec![SETTINGS, text, objective],
        })
    });
    own.chain(paper)
}

impl Recipe {
    /// The recipe of a name.
    pub fn find(name: &str) -> Result<Self, Failure> {
        recipes().find(|recipe| recipe.name == name).ok_or_else(|| {
            let own: Vec<&str> = OWN.iter().map(|(name, ..)| *name).collect();
            Failure::input(format!("no recipe is called `{name}`")).hint(format!(
                "the recipes are {}, and METHOD-MODEL of the paper's comparison, such as {}-{}; `rpg recipes` lists them",
                own.join(", "),
                METHODS[0].0,
                MODELS[0].0
            ))
        })
    }

    /// The config as TOML, without the changes of a user.
    pub fn to_toml(&self) -> Result<String, Failure> {
        toml::to_string(&self.table()?).map_err(Failure::internal)
    }

    /// The config, without the changes of a user.
    pub(super) fn table(&self) -> Result<toml::Table, Failure> {
        let mut all = toml::Table::new();
        for part in &self.parts {
            let part = part.parse().map_err(Failure::internal)?;
            merge(&mut all, part);
        }
        Ok(all)
    }
}

/// Adds the keys of a table to another; where both have a key, the newer value counts, unless both are tables.
fn merge(all: &mut toml::Table, newer: toml::Table) {
    for (key, value) in newer {
        match (all.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => merge(old, new),
            (_, value) => {
                all.insert(key, value);
            }
        }
    }
}

impl TrainConfig {
    /// A built-in recipe.
    pub fn recipe(name: &str, sets: &[String]) -> Result<Self, Failure> {
        let table = Recipe::find(name)?.table()?;
        Self::with_sets(table, &format!("recipe {name}"), sets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::Place;
    use std::collections::HashSet;

    /// The keys that two of the stand-alone recipes leave to the user.
    const LEFT: [&str; 2] = ["model.path=m", "data.train=d"];

    #[test]
    fn every_recipe_is_a_config_that_can_be_written_and_read() {
        let mut names = HashSet::new();
        for recipe in recipes() {
            assert!(names.insert(recipe.name.clone()), "{}", recipe.name);
            let sets = match &*recipe.name {
                "finetune" => LEFT.map(String::from).to_vec(),
                _ => Vec::new(),
            };
            let config = TrainConfig::recipe(&recipe.name, &sets).expect(&recipe.name);
            let again = TrainConfig::from_toml(&config.to_toml(), "again", &[]).unwrap();
            assert_eq!(config, again, "{}", recipe.name);
            assert_eq!(config.objective.warnings(), Vec::<String>::new());
            assert_eq!(config.warnings(), Vec::<String>::new(), "{}", recipe.name);
        }
        assert_eq!(names.len(), OWN.len() + METHODS.len() * MODELS.len());
    }

    /// Appendix H: the numbers that the paper gives for all methods.
    #[test]
    fn recipes_of_the_paper_have_its_numbers() {
        for (method, ..) in METHODS {
            for (model, tokens) in [("qwen3-4b", 8192), ("qwen2.5-7b-instruct", 4096)] {
                let name = format!("{method}-{model}");
                let config = TrainConfig::recipe(&name, &[]).unwrap();
                let rollout = &config.rollout;
                assert_eq!(rollout.prompts_per_step.get(), 512);
                assert_eq!(rollout.samples_per_prompt.get(), 16);
                assert_eq!(rollout.temperature.get(), 1.0);
                let answer = rollout.max_new_tokens.get();
                assert_eq!(config.data.max_prompt_tokens.get() + answer, tokens);
                let overlong = config.reward.overlong.expect(&name);
                assert_eq!(
                    (overlong.max_length, overlong.buffer, overlong.penalty),
                    (answer, answer / 4, 1.0)
                );
                assert_eq!(
                    (config.train.steps, config.train.mini_batches.get()),
                    (Some(400), 16)
                );
                assert_eq!(config.train.max_generation_batches, 20);
                assert_eq!(config.learning_rate(Place::of(10, 400), 160), 1e-6);
                assert_eq!(config.optimizer.weight_decay.get(), 0.1);
                assert_eq!(config.optimizer.max_grad_norm.get(), 1.0);
                assert_eq!(config.evaluate.samples.get(), 32);
                let objective = &config.objective;
                if *method != "dapo" {
                    assert_eq!(objective.beta, 1e-4, "{name}");
                }
                let high = if method.starts_with("rpg") || *method == "dapo" {
                    0.28
                } else {
                    0.2
                };
                assert_eq!(
                    (objective.eps_low, objective.eps_high),
                    (0.2, high),
                    "{name}"
                );
                assert_eq!(objective.aggregation.to_string(), "token_mean", "{name}");
            }
        }
    }

    #[test]
    fn an_unknown_recipe_is_refused_with_those_that_there_are() {
        let failure = TrainConfig::recipe("grpo", &[]).unwrap_err();
        assert_eq!(failure.message, "no recipe is called `grpo`");
        let hint = failure.hint.unwrap();
        assert!(
            hint.contains("word-problems") && hint.contains("rpg-fkl-qwen3-4b"),
            "{hint}"
        );
    }
}
