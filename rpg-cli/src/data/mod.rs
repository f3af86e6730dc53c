//! Problems: from files, and from the built-in task.

pub mod arithmetic;
pub mod builtin;
mod columns;
pub mod files;
mod jsonl;
mod mixture;
mod parquet;
mod prompts;

pub use mixture::Mixture;

use crate::config::{DataFile, DataFiles, DataSource, Positive, Task};
use crate::failure::Failure;
use arithmetic::ColumnAddition;
use builtin::is_builtin;
use files::{FileProblems, is_named_as_problems, is_pattern};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rpg_core::Problem;
use rpg_core::seed::{derive, stream};
use rpg_core::tokenizer::Tokenizer;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Problems of a task that are looked at for the lengths of their prompts.
#[cfg(feature = "server")]
const SAMPLED: u64 = 64;

/// A problem and its prompt as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptedProblem {
    /// The problem.
    pub problem: Problem,
    /// The tokens of its prompt.
    pub prompt_tokens: Arc<[u32]>,
}

/// The training problems, in the order of the run.
#[derive(Debug, Clone)]
pub enum TrainData {
    /// Problems of files.
    Files(Mixture),
    /// Generated problems, without end.
    Task {
        /// The task.
        task: ColumnAddition,
        /// Its tokenizer.
        tokenizer: Box<Tokenizer>,
    },
}

/// What a run trains and evaluates on; no problem is in both.
#[derive(Debug, Clone)]
pub struct Data {
    /// Problems to train on.
    pub train: TrainData,
    /// Problems to evaluate on.
    pub eval: Vec<PromptedProblem>,
    /// What the user should know, such as which problems were left out, and why.
    pub notes: Vec<String>,
}

impl TrainData {
    /// The problem at a position of the run's order, which never ends.
    pub fn get(&mut self, index: u64) -> Result<PromptedProblem, Failure> {
        match self {
            TrainData::Files(problems) => Ok(problems.get(index).clone()),
            TrainData::Task { task, tokenizer } => prompted(task.train(index).problem, tokenizer),
        }
    }

    /// The tokens of the prompts: of all problems of files, of the first ones of a task.
    #[cfg(feature = "server")]
    pub(crate) fn prompt_lengths(&self) -> Result<Vec<usize>, Failure> {
        let length = |problem: &PromptedProblem| problem.prompt_tokens.len();
        match self {
            TrainData::Files(file) => Ok(file.problems().iter().map(length).collect()),
            TrainData::Task { task, tokenizer } => (0..SAMPLED)
                .map(|index| Ok(length(&prompted(task.train(index).problem, tokenizer)?)))
                .collect(),
        }
    }

    /// How often as many problems as there are have been used before a position of the run's order; a task never runs out.
    pub fn epoch(&self, index: u64) -> u64 {
        match self {
            TrainData::Files(problems) => index / problems.problems().len() as u64,
            TrainData::Task { .. } => 0,
        }
    }
}

/// Finds the files that a path of a config names.
pub type Locate<'a> = &'a dyn Fn(&Path) -> Result<Vec<PathBuf>, Failure>;

/// How problems are read.
pub struct Reading<'a> {
    /// Where the files are: [`files::matching`], unless the path may also name something that must be fetched.
    pub locate: Locate<'a>,
    /// Is given the number of problems of a file that are tokens by now, and the number of all.
    pub on_progress: &'a mut dyn FnMut(usize, usize),
}

/// Reads or generates the problems of a config. `n_eval` of them are for evaluation: of `data.eval`, so many of each file.
pub fn load(
    source: &DataSource,
    tokenizer: &Tokenizer,
    seed: u64,
    n_eval: usize,
    reading: Reading<'_>,
) -> Result<Data, Failure> {
    if let Some(Task::ColumnAddition { digits }) = &source.task {
        let task = ColumnAddition::new(digits.get(), seed);
        let eval = (0..n_eval as u64)
            .map(|i| prompted(task.held_out(i).problem, tokenizer))
            .collect::<Result<_, _>>()?;
        let train = TrainData::Task {
            task,
            tokenizer: Box::new(tokenizer.clone()),
        };
        return Ok(Data {
            train,
            eval,
            notes: Vec::new(),
        });
    }
    let given = source
        .train
        .as_ref()
        .ok_or_else(|| Failure::input("data.train is missing"))?;
    let mut reader = Reader {
        source,
        tokenizer,
        reading,
        notes: Vec::new(),
    };
    let mut train = Vec::new();
    for file in given.iter() {
        train.push(reader.read(file, usize::MAX)?);
    }
    let answers = note_on_answers(train.iter().flatten(), &shown(given));
    let eval = match &source.eval {
        // Nothing is measured, so that the files need not be there.
        Some(_) if n_eval == 0 => Vec::new(),
        Some(own) => {
            let mut eval = Vec::new();
            for file in own.iter() {
                let known = given.iter().position(|other| is_same_file(file, other));
                match known {
                    Some(i) => eval.extend(train[i].iter().take(n_eval).cloned()),
                    None => eval.extend(reader.read(file, n_eval)?),
                }
            }
            let overlap = note_on_overlap(train.iter().flatten(), &eval);
            reader.notes.extend(overlap);
            eval
        }
        None => hold_out(&mut train, seed, n_eval, &shown(given))?,
    };
    let mut notes = reader.notes;
    notes.extend(answers);
    let weights: Option<Vec<f64>> = given
        .iter()
        .map(|file| file.weight.map(Positive::get))
        .collect();
    let train = match weights {
        Some(weights) if train.len() > 1 => {
            let empty = train.iter().position(Vec::is_empty);
            if let Some(file) = empty.and_then(|i| given.iter().nth(i)) {
                let message = format!("{}: no problem is left to train on", shown_file(file));
                return Err(Failure::input(message)
                    .hint("lower evaluate.problems, or give data.eval files of its own"));
            }
            Mixture::weighted(weights.into_iter().zip(train).collect(), seed)
        }
        _ => Mixture::new(train.into_iter().flatten().collect(), seed),
    };
    Ok(Data {
        train: TrainData::Files(train),
        eval,
        notes,
    })
}

/// Reads files of problems as a config wants them.
struct Reader<'a, 'b> {
    source: &'a DataSource,
    tokenizer: &'a Tokenizer,
    reading: Reading<'b>,
    notes: Vec<String>,
}

impl Reader<'_, '_> {
    /// At most `limit` problems of a file.
    fn read(&mut self, file: &DataFile, limit: usize) -> Result<Vec<PromptedProblem>, Failure> {
        let (source, tokenizer) = (self.source, self.tokenizer);
        let name = shown_file(file);
        let paths = (self.reading.locate)(&file.path)?;
        let default_source = source_of(file);
        let FileProblems { problems, repeated } = files::read(
            &paths,
            default_source.as_deref(),
            &source.columns,
            source.deduplicate,
        )?;
        let repeated = note_on_repeated(&name, repeated, problems.len());
        self.notes.extend(repeated);
        let complete = prompts::note_on_messages(&name, &problems, source);
        self.notes.extend(complete);
        let n_all = problems.len();
        let mut kept = Vec::with_capacity(n_all.min(limit));
        let mut n_seen = 0;
        let mut rest = problems.into_iter();
        while n_seen < n_all && kept.len() < limit {
            (self.reading.on_progress)(n_seen, n_all);
            let part: Vec<Problem> = rest.by_ref().take(AT_A_TIME).collect();
            n_seen += part.len();
            let part: Vec<Result<PromptedProblem, Failure>> = part
                .into_par_iter()
                .map(|problem| prompted(prompts::styled(problem, source, tokenizer), tokenizer))
                .collect();
            for problem in part {
                let problem = problem?;
                if problem.prompt_tokens.len() <= source.max_prompt_tokens.get() {
                    kept.push(problem);
                }
            }
        }
        (self.reading.on_progress)(n_all, n_all);
        let n_long = n_seen - kept.len();
        if n_long > 0 {
            self.notes.push(format!(
                "{name}: {n_long} of {n_seen} problems left out: their prompts have more than \
                 data.max_prompt_tokens = {} tokens",
                source.max_prompt_tokens
            ));
        }
        if kept.is_empty() {
            let message = format!("{name}: no problem is left");
            return Err(
                Failure::input(message).hint("raise data.max_prompt_tokens, or give another file")
            );
        }
        kept.truncate(limit);
        Ok(kept)
    }
}

/// The source of rows that name none, where it isn't the name of their file: that of a data set that had to be found
/// elsewhere is its name without config, split and revision, as verl has it.
fn source_of(file: &DataFile) -> Option<String> {
    if file.source.is_some() {
        return file.source.clone();
    }
    let name = shown_file(file);
    if is_builtin(&file.path) {
        return name.split(':').next_back().map(str::to_owned);
    }
    let is_here = file.path.exists() || is_pattern(&file.path);
    let has_a_file_name = is_named_as_problems(&file.path);
    let repository = name.split([':', '@']).next();
    repository
        .filter(|_| !is_here && !has_a_file_name)
        .map(str::to_owned)
}

fn shown_file(file: &DataFile) -> String {
    file.path.display().to_string()
}

fn shown(files: &DataFiles) -> String {
    files.iter().map(shown_file).collect::<Vec<_>>().join(", ")
}

fn note_on_repeated(name: &str, repeated: usize, left: usize) -> Option<String> {
    (repeated > 0).then(|| {
        format!(
            "{name}: {repeated} of {} rows repeat an earlier one and are left out, so that there are {left} problems \
             (data.deduplicate = false keeps them)",
            repeated + left
        )
    })
}

/// How many problems become tokens between two reports of progress.
const AT_A_TIME: usize = 1000;

/// Whether two files have the same problems, of the same sources.
fn is_same_file(one: &DataFile, other: &DataFile) -> bool {
    if one.source != other.source {
        return false;
    }
    let (one, other) = (&one.path, &other.path);
    one == other
        || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A note on the problems to evaluate on whose prompts are trained on too.
fn note_on_overlap<'a>(
    train: impl Iterator<Item = &'a PromptedProblem>,
    eval: &[PromptedProblem],
) -> Option<String> {
    let trained: HashSet<&[u32]> = train.map(|p| &*p.prompt_tokens).collect();
    let n = eval
        .iter()
        .filter(|p| trained.contains(&*p.prompt_tokens))
        .count();
    (n > 0).then(|| {
        format!(
            "{n} of the {} problems of data.eval are in data.train too: what is measured on them is not held out",
            eval.len()
        )
    })
}

/// A note on the prompts that have several answers, of which a completion can match only one.
fn note_on_answers<'a>(
    problems: impl Iterator<Item = &'a PromptedProblem>,
    name: &str,
) -> Option<String> {
    let mut answers: HashMap<&[u32], &Problem> = HashMap::new();
    let mut several = HashSet::new();
    let mut first = None;
    for PromptedProblem {
        problem,
        prompt_tokens,
    } in problems
    {
        let known = *answers.entry(prompt_tokens).or_insert(problem);
        if known.answer != problem.answer {
            first.get_or_insert((known, problem));
            several.insert(&**prompt_tokens);
        }
    }
    let (one, other) = first?;
    Some(format!(
        "{name}: questions with different answers: {}; the first: {}, `{}`, and {}, `{}`",
        several.len(),
        one.id,
        one.answer,
        other.id,
        other.answer
    ))
}

/// Moves problems from training to evaluation. All copies of a question leave the training problems together.
fn hold_out(
    train: &mut [Vec<PromptedProblem>],
    seed: u64,
    n_eval: usize,
    name: &str,
) -> Result<Vec<PromptedProblem>, Failure> {
    let mut distinct: Vec<&Arc<[u32]>> = train.iter().flatten().map(|p| &p.prompt_tokens).collect();
    distinct.sort();
    distinct.dedup();
    if distinct.len() < 2 * n_eval {
        return Err(Failure::input(format!(
            "{name}: its {} different problems are too few to hold out {n_eval} of them",
            distinct.len()
        ))
        .hint("lower evaluate.problems, or give data.eval a file of its own"));
    }
    distinct.shuffle(&mut ChaCha8Rng::seed_from_u64(derive(
        seed,
        &[stream::SPLIT],
    )));
    let chosen: HashSet<Arc<[u32]>> = distinct.into_iter().take(n_eval).cloned().collect();
    let mut eval = Vec::with_capacity(n_eval);
    let mut seen = HashSet::new();
    for set in train {
        let (held, rest): (Vec<_>, Vec<_>) = std::mem::take(set)
            .into_iter()
            .partition(|p| chosen.contains(&p.prompt_tokens));
        *set = rest;
        eval.extend(
            held.into_iter()
                .filter(|p| seen.insert(p.prompt_tokens.clone())),
        );
    }
    Ok(eval)
}

fn prompted(problem: Problem, tokenizer: &Tokenizer) -> Result<PromptedProblem, Failure> {
    let prompt_tokens = tokenizer
        .encode_prompt(&problem.prompt)
        .map_err(|e| Failure::input(format!("{}: {e}", problem.id)))?;
    if prompt_tokens.is_empty() {
        let message = format!("{}: its prompt has no tokens", problem.id);
        return Err(Failure::input(message).hint("the tokenizer knows none of its characters"));
    }
    Ok(PromptedProblem {
        problem,
        prompt_tokens: prompt_tokens.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::Prompt;

    #[test]
    fn problems_in_both_files_and_contradicting_answers_are_noted() {
        let problem = |i: u32, answer: &str| PromptedProblem {
            problem: Problem {
                id: format!("d:{i}"),
                data_source: String::new(),
                prompt: Prompt::Text(String::new()),
                answer: answer.to_owned(),
                columns: None,
            },
            prompt_tokens: vec![i].into(),
        };
        let train = [problem(1, "a"), problem(2, "b"), problem(2, "b")];
        assert_eq!(note_on_overlap(train.iter(), &[problem(3, "a")]), None);
        let note = note_on_overlap(train.iter(), &[problem(2, "b"), problem(3, "c")]).unwrap();
        assert!(
            note.starts_with("1 of the 2 problems of data.eval"),
            "{note}"
        );
        assert_eq!(note_on_answers(train.iter(), "d"), None);
        let more = [&train[..], &[problem(2, "c"), problem(2, "d")]].concat();
        let note = note_on_answers(more.iter(), "d").unwrap();
        assert_eq!(
            note,
            "d: questions with different answers: 1; the first: d:2, `b`, and d:2, `c`"
        );
    }

    #[test]
    fn a_source_is_a_name_that_metrics_can_have() {
        let source = |path: &str| source_of(&Path::new(path).into());
        for (path, expected) in [
            ("openai/gsm8k:main:test", Some("openai/gsm8k")),
            ("a/b@refs/pr/1", Some("a/b")),
            ("builtin:word_problems", Some("word_problems")),
            // The name of each file.
            ("a/b/data/c.parquet", None),
            ("src", None),
            ("a-*.jsonl", None),
        ] {
            assert_eq!(source(path).as_deref(), expected, "{path}");
        }
        let named = DataFile {
            source: Some("own".into()),
            ..Path::new("src").into()
        };
        assert_eq!(source_of(&named).as_deref(), Some("own"));
    }

    #[test]
    fn a_file_is_read_once_and_only_as_far_as_needed() {
        let shape = crate::config::TrainConfig::recipe("arithmetic", &[]).unwrap();
        let shape = shape.model.scratch.unwrap();
        let (_, tokenizer) = shape
            .init::<burn::backend::Flex>(0, &Default::default())
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let line = |i: usize| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + 1);
        let lines: String = (0..2500).map(line).collect();
        std::fs::write(path("train"), &lines).unwrap();
        std::fs::write(path("eval"), &lines).unwrap();
        // The file to evaluate on, and the problems of each report of progress.
        for (eval, expected) in [
            (path("train"), &[0, 1000, 2000, 2500][..]),
            (path("eval"), &[0, 1000, 2000, 2500, 0, 2500]),
        ] {
            let table = toml::Table::from_iter([
                ("train".to_owned(), path("train").to_str().unwrap().into()),
                ("eval".to_owned(), eval.to_str().unwrap().into()),
            ]);
            let source: DataSource = table.try_into().unwrap();
            let mut seen = Vec::new();
            let reading = Reading {
                locate: &files::matching,
                on_progress: &mut |done, _| seen.push(done),
            };
            let data = load(&source, &tokenizer, 0, 7, reading).unwrap();
            assert_eq!(seen, expected);
            let ids: Vec<&str> = data.eval.iter().map(|p| p.problem.id.as_str()).collect();
            assert!(ids.len() == 7 && ids[6].ends_with(":7"), "{ids:?}");
            assert_eq!((data.train.epoch(2499), data.train.epoch(2500)), (0, 1));
            let TrainData::Files(train) = data.train else {
                panic!("files")
            };
            assert_eq!(train.problems().len(), 2500);
        }
    }
}
