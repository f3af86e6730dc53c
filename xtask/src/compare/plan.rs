//! What is compared: methods, ablations and a stress test, each a change of the built-in recipe.

/// A part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All methods, each with the settings of its paper.
    Methods,
    /// The clip of RPG-REINFORCE: its bounds and its form.
    Clip,
    /// The KL coefficient, and a reference that stays.
    Kl,
    /// Rollouts with 8-bit integers.
    Int8,
    /// Fewer and more updates per rollout.
    Stress,
}

/// A method or a variant of one, trained once per seed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) part: Part,
    /// The beginning of the names of its runs.
    pub(super) name: String,
    /// What the page calls it.
    pub(super) label: String,
    /// What `--set` changes, on top of [`SHARED`].
    pub(super) sets: Vec<String>,
}

/// The recipe that all runs change.
pub(super) const RECIPE: &str = "arithmetic";

/// The samples per held-out problem: the k of Mean@k.
pub(super) const SAMPLES: usize = 8;

/// What all runs have in common, besides the recipe: rewards of 1 and -1, to which the paper's beta belongs, and the
/// same held-out problems in every evaluation.
pub(super) const SHARED: [&str; 5] = [
    "reward.scale=plus_minus_one",
    "evaluate={problems=128, samples=8, every=10}",
    "checkpoint={every=50, keep=1, samples_per_step=1}",
    "warm_start.steps=0",
    "backend=cpu",
];

/// The steps of a run; the recipe has as many.
pub(super) const STEPS: u64 = 140;

/// The method whose clip, KL term and reference are varied.
pub(super) const BASE: &str = "rpg-reinforce-urkl";

/// The methods whose updates per rollout are varied.
const STRESSED: [&str; 5] = [BASE, "rpg-urkl", "grpo", "dapo", "reinforce-pp"];

/// Updates per rollout of the recipe, and the others that are tried.
pub(super) const UPDATES: [u64; 3] = [1, 4, 16];

/// Everything that is trained, the methods first.
pub(super) fn entries() -> Vec<Entry> {
    let mut entries = methods();
    entries.extend(clips());
    entries.extend(kl_terms());
    entries.extend(int8_rollouts());
    let stressed = entries.clone();
    for method in stressed.iter().filter(|e| STRESSED.contains(&&*e.name)) {
        for updates in UPDATES.into_iter().filter(|&n| n != 4) {
            let mut sets = method.sets.clone();
            sets.push(format!("train.mini_batches={updates}"));
            entries.push(Entry {
                part: Part::Stress,
                name: format!("{}-updates-{updates}", method.name),
                label: method.label.clone(),
                sets,
            });
        }
    }
    entries
}

/// The table of the stress test: each method with its entries by updates per rollout.
pub(super) fn stressed() -> Vec<[String; 3]> {
    let name = |method: &str, updates| match updates {
        4 => method.to_owned(),
        _ => format!("{method}-updates-{updates}"),
    };
    STRESSED
        .iter()
        .map(|method| UPDATES.map(|updates| name(method, updates)))
        .collect()
}

fn methods() -> Vec<Entry> {
    let entry = |name: &str, label: &str, objective: &str| Entry {
        part: Part::Methods,
        name: name.to_owned(),
        label: label.to_owned(),
        sets: vec![format!("objective={{{objective}}}")],
    };
    let mut entries = Vec::new();
    for (style, estimator, clip) in [
        ("", "differentiable", "dual"),
        ("reinforce-", "reinforce", "rpg"),
    ] {
        for kl in ["fkl", "rkl", "ufkl", "urkl"] {
            let name = format!("rpg-{style}{kl}");
            let objective = rpg(kl, estimator, clip);
            entries.push(entry(&name, &name.to_uppercase(), &objective));
        }
    }
    for (name, label, objective) in [
        ("grpo", "GRPO", "kind='grpo', beta=1e-4"),
        ("dapo", "DAPO", "kind='dapo'"),
        (
            "reinforce-pp",
            "REINFORCE++",
            "kind='reinforce_pp', beta=1e-4",
        ),
        (
            "reinforce-pp-baseline",
            "REINFORCE++-baseline",
            "kind='reinforce_pp_baseline', beta=1e-4",
        ),
    ] {
        entries.push(entry(name, label, objective));
    }
    entries
}

fn rpg(kl: &str, estimator: &str, clip: &str) -> String {
    format!(
        "kind='rpg', kl='{kl}', estimator='{estimator}', clip='{clip}', beta=1e-4, eps_low=0.2, eps_high=0.28, \
         c=10.0, advantage='group_mean'"
    )
}

/// The clip ablation of the paper's Fig. 8, and the other forms of the clip.
fn clips() -> Vec<Entry> {
    [
        (
            "clip-narrow",
            "RPG-Style Clip, 0.1 and 0.1",
            &["objective.eps_low=0.1", "objective.eps_high=0.1"][..],
        ),
        (
            "clip-truncated",
            "`truncated`, 0.2 and 0.28",
            &["objective.clip=truncated"],
        ),
        (
            "clip-hard",
            "`hard`, 0.2 and 0.28",
            &["objective.clip=hard"],
        ),
        ("clip-none", "none", &["objective.clip=none"]),
    ]
    .map(|(name, label, sets)| variant(Part::Clip, name, label, sets))
    .into()
}

/// The ablation of the paper's Fig. 9: the KL coefficient and the reference.
fn kl_terms() -> Vec<Entry> {
    let fixed = "reference.rule=never";
    [
        ("beta-0", "beta 0", &["objective.beta=0.0"][..]),
        (
            "beta-1e-3",
            "beta 1e-3, reference updated at every rollout",
            &["objective.beta=1e-3"],
        ),
        (
            "beta-1e-2",
            "beta 1e-2, reference updated at every rollout",
            &["objective.beta=1e-2"],
        ),
        ("fixed-1e-4", "beta 1e-4, reference never updated", &[fixed]),
        (
            "fixed-1e-3",
            "beta 1e-3, reference never updated",
            &[fixed, "objective.beta=1e-3"],
        ),
        (
            "fixed-1e-2",
            "beta 1e-2, reference never updated",
            &[fixed, "objective.beta=1e-2"],
        ),
    ]
    .map(|(name, label, sets)| variant(Part::Kl, name, label, sets))
    .into()
}

/// Samples of another policy near the one that is trained, with and without the correction for that.
fn int8_rollouts() -> Vec<Entry> {
    let int8 = "rollout.weights=int8";
    [
        (
            "int8-corrected",
            "8-bit rollouts, `rollout_correction = {}`",
            &[int8, "objective.rollout_correction={}"][..],
        ),
        ("int8", "8-bit rollouts, not corrected", &[int8]),
    ]
    .map(|(name, label, sets)| variant(Part::Int8, name, label, sets))
    .into()
}

/// [`BASE`] with some keys changed.
fn variant(part: Part, name: &str, label: &str, sets: &[&str]) -> Entry {
    let base = format!("objective={{{}}}", rpg("urkl", "reinforce", "rpg"));
    let sets = sets.iter().map(|&set| set.to_owned());
    Entry {
        part,
        name: name.to_owned(),
        label: label.to_owned(),
        sets: std::iter::once(base).chain(sets).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_name_of_its_own() {
        let entries = entries();
        let mut names: Vec<&str> = entries.iter().map(|entry| &*entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), entries.len());
        assert_eq!(
            entries.iter().filter(|e| e.part == Part::Methods).count(),
            12
        );
    }

    #[test]
    fn the_stress_table_names_entries() {
        let entries = entries();
        for name in stressed().concat() {
            assert!(entries.iter().any(|entry| entry.name == name), "{name}");
        }
    }
}
