//! `rpg eval --regrade`: grades samples again with another setting of the grader, without a model.

use super::settings::{base, check_grade_set};
use super::table::table;
use crate::cli::commands::new_folder::NewFolder;
use crate::cli::commands::{input, output};
use crate::cli::eval_args::EvalArgs;
use crate::cli::say::say;
use crate::config::TrainConfig;
use crate::failure::{AtPath, Failure};
use crate::run_folder::SAMPLES;
use crate::train::evaluation::{Regraded, Scores, Sources, by_problem, regrade, sample_lines};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The most changes that are shown.
const SHOWN: usize = 5;

pub(super) fn run(given: &Path, args: &EvalArgs) -> Result<(), Failure> {
    let folder = args.out.as_deref().map(NewFolder::begin).transpose()?;
    let file = if given.is_dir() {
        given.join(SAMPLES)
    } else {
        given.to_owned()
    };
    let config = config(given, args)?;
    if config.reward.has_command() {
        say!(
            "note: the reward command isn't asked: the verdicts are those of the built-in grader, which are compared with \
             what counted as right"
        );
    }
    let samples = sample_lines(lines(&file)?, &file.display().to_string())?;
    if samples.is_empty() {
        return Err(Failure::input(format!(
            "{}: there are no samples in it",
            file.display()
        )));
    }
    let regraded = regrade(samples, &config.reward.grade);
    let scores = by_problem(&regraded).map(|(problems, k)| {
        let sources = problems.iter().map(|problem| problem.source.as_str());
        Sources::new(sources, k).scores(&problems, config.seed)
    });
    if let Some(folder) = folder {
        write(folder.path(), &regraded, &config)?;
        folder.finish()?;
    }
    let counts = Counts::new(&regraded);
    if args.json {
        return output::line(format_args!(
            "{:#}",
            counts.to_json(&regraded, scores.as_deref())
        ));
    }
    output::line(counts.text(&file, &regraded, scores.as_deref()).trim_end())
}

/// The config by whose section `reward.grade` is graded: that beside the samples, or the default.
fn config(given: &Path, args: &EvalArgs) -> Result<TrainConfig, Failure> {
    for set in &args.set {
        check_grade_set(set)?;
    }
    let folder = if given.is_dir() {
        Some(given)
    } else {
        given.parent()
    };
    let has_config = |folder: &&Path| folder.join("config.toml").is_file();
    let (text, origin) = base(args.config.as_deref(), folder.filter(has_config))?;
    // A recipe names neither a model nor data, and neither is read.
    let mut sets = args.set.clone();
    if args.config.is_none() && folder.filter(has_config).is_none() {
        sets.extend(["model.path=none".to_owned(), "data.train=none".to_owned()]);
    }
    TrainConfig::from_toml(&text, &origin, &sets)
}

/// The number of a line, and its object.
type Line = (usize, Map<String, Value>);

/// The lines with their numbers. Of a run that is being written the last one may be torn.
fn lines(file: &Path) -> Result<Vec<Line>, Failure> {
    let name = file.display();
    let texts: Vec<(usize, String)> = input::lines(file)?.collect::<Result<_, _>>()?;
    let last = texts.len();
    let mut lines = Vec::with_capacity(last);
    for (i, (number, text)) in texts.into_iter().enumerate() {
        match serde_json::from_str(&text) {
            Ok(line) => lines.push((number, line)),
            Err(_) if i + 1 == last && i > 0 => {
                say!("note: {name}: its last line is not whole and is left out");
            }
            Err(error) => {
                return Err(Failure::input(format!(
                    "{name}, line {number}: not a JSON object: {error}"
                ))
                .hint("each line is a sample as samples.jsonl has them"));
            }
        }
    }
    Ok(lines)
}

fn write(dir: &Path, regraded: &[Regraded], config: &TrainConfig) -> Result<(), Failure> {
    let mut text = String::new();
    for one in regraded {
        let _ = writeln!(text, "{}", one.to_json());
    }
    let path: PathBuf = dir.join(SAMPLES);
    fs::write(&path, text).at(&path)?;
    let path = dir.join("config.toml");
    fs::write(&path, config.to_toml()).at(&path)
}

/// How many count as right.
struct Counts {
    samples: usize,
    right_before: usize,
    right_after: usize,
    ungraded_before: usize,
    lost: usize,
    won: usize,
}

impl Counts {
    fn new(regraded: &[Regraded]) -> Self {
        let count = |is: &dyn Fn(Option<bool>, bool) -> bool| {
            let grades = regraded
                .iter()
                .map(|one| (one.sample.before, one.after.correct));
            grades.filter(|&(before, after)| is(before, after)).count()
        };
        Self {
            samples: regraded.len(),
            right_before: count(&|before, _| before == Some(true)),
            right_after: count(&|_, after| after),
            ungraded_before: count(&|before, _| before.is_none()),
            lost: count(&|before, after| before == Some(true) && !after),
            won: count(&|before, after| before == Some(false) && after),
        }
    }

    fn text(&self, file: &Path, regraded: &[Regraded], scores: Option<&[Scores]>) -> String {
        let Self {
            samples,
            right_before,
            right_after,
            ungraded_before,
            lost,
            won,
        } = self;
        let mut text = format!(
            "{samples} samples of {}\nright before  {right_before}\nright after   {right_after}\n\
             changed       {}: {won} from wrong to right, {lost} from right to wrong\n",
            file.display(),
            won + lost
        );
        if *ungraded_before > 0 {
            let _ = writeln!(text, "not graded before  {ungraded_before}");
        }
        let changed = regraded.iter().filter(|one| one.has_changed());
        for one in changed.clone().take(SHOWN) {
            let _ = writeln!(text, "\n{}", shown(one));
        }
        let n_more = changed.count().saturating_sub(SHOWN);
        if n_more > 0 {
            let _ = writeln!(
                text,
                "\n.. and {n_more} more (--out DIR writes all, --json lists them)"
            );
        }
        if let Some(scores) = scores {
            let _ = writeln!(text, "\n{}", table(scores));
        }
        text
    }

    fn to_json(&self, regraded: &[Regraded], scores: Option<&[Scores]>) -> Value {
        let changed: Vec<Value> = regraded
            .iter()
            .filter(|one| one.has_changed())
            .map(Regraded::to_json)
            .collect();
        json!({
            "samples": self.samples,
            "right_before": self.right_before,
            "right_after": self.right_after,
            "not_graded_before": self.ungraded_before,
            "wrong_to_right": self.won,
            "right_to_wrong": self.lost,
            "changed": changed,
            "scores": scores,
        })
    }
}

fn shown(one: &Regraded) -> String {
    let mark = |correct: Option<bool>| match correct {
        Some(true) => "right",
        Some(false) => "wrong",
        None => "not graded",
    };
    let or_nothing = |text: &str| match text {
        "" => "nothing".to_owned(),
        text => text.to_owned(),
    };
    let (sample, after) = (&one.sample, &one.after);
    format!(
        "{}, expected {}\n  before: {}, found {} ({})\n  after:  {}, found {} ({})",
        sample.place(),
        sample.answer(),
        mark(sample.before),
        or_nothing(sample.text("extracted")),
        sample.text("reason"),
        mark(Some(after.correct)),
        or_nothing(after.extracted.as_deref().unwrap_or("")),
        after.reason
    )
}
