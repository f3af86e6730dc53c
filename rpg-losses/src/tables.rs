//! Tables of kinds and keys for documentation and help, made from the code that they describe.

use crate::choices::{Clip, Divergence, Estimator, KlPlacement};
use crate::config::{KEYS, ObjectiveConfig};
use crate::divergence;
use crate::objectives::Kind;
use crate::objectives::rpg::Form;
use std::fmt::Write;

/// The keys of an objective, in Markdown.
pub fn keys_markdown() -> String {
    let mut out = String::from("| key | meaning | values | default |\n| --- | --- | --- | --- |\n");
    let kinds = names(Kind::ALL).replace(", ", "`, `");
    let _ = writeln!(
        out,
        "| `kind` | The family of losses. | `{kinds}` | must be given |"
    );
    for key in KEYS {
        let default = default_markdown(key.shown);
        let (name, meaning) = (key.name, key.meaning);
        let _ = writeln!(
            out,
            "| `{name}` | {meaning} | {} | {default} |",
            (key.values)()
        );
    }
    out
}

/// The kinds of objectives with their losses and defaults, in Markdown.
pub fn kinds_markdown() -> String {
    let mut out = String::from(
        "| `kind` | what it is | loss | KL term: placement, estimator, weight | `level` | `advantage` | `aggregation` |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        let (spec, config) = (kind.spec(), ObjectiveConfig::for_kind(*kind));
        let mut advantage = format!("`{}`", config.advantage);
        if !spec.advantage_note.is_empty() {
            let _ = write!(advantage, " {}", spec.advantage_note);
        }
        let mut aggregation = format!("`{}`", config.aggregation);
        if config.level.is_sequence() {
            let token = spec.defaults.token_aggregation;
            let _ = write!(aggregation, " (`{token}` with `\"level\": \"token\"`)");
        }
        let kl = kl_term_markdown(&config);
        let (about, loss, level) = (kind.about(), spec.loss, config.level);
        let _ = writeln!(
            out,
            "| `{kind}` | {about} | {loss} | {kl} | `{level}` | {advantage} | {aggregation} |"
        );
    }
    out
}

/// Where a kind's KL term goes, and what it is.
fn kl_term_markdown(config: &ObjectiveConfig) -> String {
    let (placement, estimator, weight) =
        (config.kl_placement, config.kl_estimator, config.kl_weight);
    match placement {
        KlPlacement::None if config.has_kl_term() => format!("`{placement}`"),
        KlPlacement::None => "-".into(),
        KlPlacement::Reward => format!("`{placement}`, `{estimator}`"),
        KlPlacement::Loss => format!("`{placement}`, `{estimator}`, `{weight}`"),
    }
}

/// The losses of RPG by estimator and clip, in Markdown.
pub fn forms_markdown() -> String {
    let mut out = String::from("| `estimator` | `clip` | loss |\n| --- | --- | --- |\n");
    for (estimator, clip, form) in forms() {
        let loss = form.spec().loss;
        let choice = match form.spec().kl_in_clip {
            None => String::new(),
            Some(inside) => format!(", `kl_in_clip = {inside}`"),
        };
        let _ = writeln!(out, "| `{estimator}` | `{clip}`{choice} | {loss} |");
    }
    out
}

/// The divergences with what they add to gradient and surrogate, in Markdown.
pub fn divergences_markdown() -> String {
    let mut out = String::from(
        "| `kl` | divergence | `K` | KL term `S` of the surrogate |\n| --- | --- | --- | --- |\n",
    );
    for kl in Divergence::ALL {
        let [definition, component, surrogate] = divergence::printed(*kl);
        let _ = writeln!(
            out,
            "| `{kl}` | {definition} | `{component}` | `{surrogate}` |"
        );
    }
    out
}

/// The keys of an objective and what they may be, for a terminal.
pub fn keys_text() -> String {
    let mut out = String::new();
    write_wrapped(&mut out, "kind", &names(Kind::ALL));
    for key in KEYS {
        write_wrapped(&mut out, key.name, &(key.values)().replace('`', ""));
    }
    for estimator in Estimator::ALL {
        let clips: Vec<&str> = Form::clips(*estimator).map(Clip::name).collect();
        let _ = writeln!(
            out,
            "  Estimator {estimator} goes with clip {}.",
            clips.join(", ")
        );
    }
    out
}

/// Every form with the keys that choose it.
fn forms() -> Vec<(Estimator, Clip, Form)> {
    let mut forms = Vec::new();
    for estimator in Estimator::ALL {
        for clip in Form::clips(*estimator) {
            for kl_in_clip in [true, false] {
                let form = Form::new(*estimator, clip, kl_in_clip);
                if forms.last().is_none_or(|(_, _, last)| *last != form) {
                    forms.push((*estimator, clip, form));
                }
            }
        }
    }
    forms
}

/// The default of RPG, and that of the baselines where it is another.
fn default_markdown(shown: fn(&ObjectiveConfig) -> Option<String>) -> String {
    let of_kind = |kind: &Kind| match shown(&ObjectiveConfig::for_kind(*kind)) {
        Some(value) => format!("`{value}`"),
        None => "absent".into(),
    };
    let rpg = of_kind(&Kind::Rpg);
    let baselines: Vec<(&Kind, String)> = (Kind::ALL.iter())
        .filter(|kind| **kind != Kind::Rpg)
        .map(|kind| (kind, of_kind(kind)))
        .collect();
    let n_with = |value: &String| baselines.iter().filter(|(_, other)| other == value).count();
    let Some(usual) = (baselines.iter().rev())
        .map(|(_, value)| value)
        .max_by_key(|v| n_with(v))
    else {
        return rpg;
    };
    let mut exceptions: Vec<(&String, Vec<Kind>)> = Vec::new();
    for (kind, value) in baselines.iter().filter(|(_, value)| value != usual) {
        match exceptions.iter_mut().find(|(other, _)| *other == value) {
            Some((_, kinds)) => kinds.push(**kind),
            None => exceptions.push((value, vec![**kind])),
        }
    }
    let mut out = rpg.clone();
    if *usual != rpg || !exceptions.is_empty() {
        out += &format!("; baselines: {usual}");
    }
    for (value, kinds) in exceptions {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        out += &format!("; {}: {value}", kinds.join(", "));
    }
    out
}

fn names(kinds: &[Kind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

/// A name and its values, in lines of at most 99 columns.
fn write_wrapped(out: &mut String, name: &str, values: &str) {
    let mut line = format!("  {name:<12}");
    for word in values.split(' ') {
        if line.len() + 1 + word.len() > 99 {
            let _ = writeln!(out, "{line}");
            line = format!("  {:<12}", "");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
