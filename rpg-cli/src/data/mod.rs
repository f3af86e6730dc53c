//! Problems: from files, and from the built-in task.

pub mod arithmetic;
mod columns;
pub mod files;
mod jsonl;
mod parquet;
mod prompts;

use crate::config::{DataSource, Task};
use crate::failure::Failure;
use arithmetic::ColumnAddition;
use files::FileProblems;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rpg_core::Problem;
use rpg_core::seed::{derive, stream};
use rpg_core::tokenizer::Tokenizer;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

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
    /// Problems of a file, in a new order every epoch.
    File(ShuffledFile),
    /// Generated problems, without end.
    Task {
        /// The task.
        task: ColumnAddition,
        /// Its tokenizer.
        tokenizer: Box<Tokenizer>,
    },
}

/// Problems of a file, shuffled once per epoch.
#[derive(Debug, Clone)]
pub struct ShuffledFile {
    problems: Vec<PromptedProblem>,
    seed: u64,
    // The epoch of the last access, and its order.
    epoch: u64,
    order: Vec<usize>,
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
            TrainData::File(file) => Ok(file.get(index).clone()),
            TrainData::Task { task, tokenizer } => prompted(task.train(index).problem, tokenizer),
        }
    }

    /// How often all problems have been used before a position of the run's order; a task never runs out.
    pub fn epoch(&self, index: u64) -> u64 {
        match self {
            TrainData::File(file) => index / file.problems.len() as u64,
            TrainData::Task { .. } => 0,
        }
    }
}

impl ShuffledFile {
    /// `problems` must not be empty.
    fn new(problems: Vec<PromptedProblem>, seed: u64) -> Self {
        let order = epoch_order(problems.len(), seed, 0);
        Self {
            problems,
            seed,
            epoch: 0,
            order,
        }
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[PromptedProblem] {
        &self.problems
    }

    fn get(&mut self, index: u64) -> &PromptedProblem {
        let n = self.problems.len() as u64;
        let epoch = index / n;
        if epoch != self.epoch {
            self.order = epoch_order(self.problems.len(), self.seed, epoch);
            self.epoch = epoch;
        }
        &self.problems[self.order[(index % n) as usize]]
    }
}

fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let seed = derive(seed, &[stream::SHUFFLE, epoch]);
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}

/// Reads or generates the problems of a config; `n_eval` of them are for evaluation. `on_progress` is given the number
/// of problems of a file that are tokens by now, and the number of all.
pub fn load(
    source: &DataSource,
    tokenizer: &Tokenizer,
    seed: u64,
    n_eval: usize,
    on_progress: &mut dyn FnMut(usize, usize),
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
    let path = source
        .train
        .as_ref()
        .ok_or_else(|| Failure::input("data.train is missing"))?;
    let mut notes = Vec::new();
    // At most `limit` problems.
    let mut read = |path: &Path, limit: usize| -> Result<Vec<PromptedProblem>, Failure> {
        let FileProblems { problems, repeated } =
            files::read(path, &source.columns, source.deduplicate)?;
        notes.extend(note_on_repeated(path, repeated, problems.len()));
        notes.extend(prompts::note_on_messages(path, &problems, source));
        let n_all = problems.len();
        let mut kept = Vec::with_capacity(n_all.min(limit));
        let mut n_seen = 0;
        let mut rest = problems.into_iter();
        while n_seen < n_all && kept.len() < limit {
            on_progress(n_seen, n_all);
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
        on_progress(n_all, n_all);
        let n_long = n_seen - kept.len();
        if n_long > 0 {
            notes.push(format!(
                "{}: {n_long} of {n_seen} problems left out: their prompts have more than \
                 data.max_prompt_tokens = {} tokens",
                path.display(),
                source.max_prompt_tokens
            ));
        }
        if kept.is_empty() {
            let message = format!("{}: no problem is left", path.display());
            return Err(
                Failure::input(message).hint("raise data.max_prompt_tokens, or give another file")
            );
        }
        kept.truncate(limit);
        Ok(kept)
    };
    let mut train = read(path, usize::MAX)?;
    let note = note_on_answers(&train, path);
    let eval = match &source.eval {
        // Nothing is measured, so that the file need not be there.
        Some(_) if n_eval == 0 => Vec::new(),
        Some(own) => {
            let eval = if is_same_file(path, own) {
                train.iter().take(n_eval).cloned().collect()
            } else {
                read(own, n_eval)?
            };
            notes.extend(note_on_overlap(&train, &eval));
            eval
        }
        None => hold_out(&mut train, seed, n_eval, path)?,
    };
    notes.extend(note);
    Ok(Data {
        train: TrainData::File(ShuffledFile::new(train, seed)),
        eval,
        notes,
    })
}

fn note_on_repeated(path: &Path, repeated: usize, left: usize) -> Option<String> {
    (repeated > 0).then(|| {
        format!(
            "{}: {repeated} of {} rows repeat an earlier one and are left out, so that there are {left} problems \
             (data.deduplicate = false keeps them)",
            path.display(),
            repeated + left
        )
    })
}

/// How many problems become tokens between two reports of progress.
const AT_A_TIME: usize = 1000;

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A note on the problems to evaluate on whose prompts are trained on too.
fn note_on_overlap(train: &[PromptedProblem], eval: &[PromptedProblem]) -> Option<String> {
    let trained: HashSet<&[u32]> = train.iter().map(|p| &*p.prompt_tokens).collect();
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
fn note_on_answers(problems: &[PromptedProblem], path: &Path) -> Option<String> {
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
        "{}: questions with different answers: {}; the first: {}, `{}`, and {}, `{}`",
        path.display(),
        several.len(),
        one.id,
        one.answer,
        other.id,
        other.answer
    ))
}

/// Moves problems from training to evaluation. All copies of a question leave the training problems together.
fn hold_out(
    train: &mut Vec<PromptedProblem>,
    seed: u64,
    n_eval: usize,
    path: &Path,
) -> Result<Vec<PromptedProblem>, Failure> {
    let mut distinct: Vec<&Arc<[u32]>> = train.iter().map(|p| &p.prompt_tokens).collect();
    distinct.sort();
    distinct.dedup();
    if distinct.len() < 2 * n_eval {
        return Err(Failure::input(format!(
            "{}: its {} different problems are too few to hold out {n_eval} of them",
            path.display(),
            distinct.len()
        ))
        .hint("lower evaluate.problems, or give data.eval a file of its own"));
    }
    distinct.shuffle(&mut ChaCha8Rng::seed_from_u64(derive(
        seed,
        &[stream::SPLIT],
    )));
    let chosen: HashSet<Arc<[u32]>> = distinct.into_iter().take(n_eval).cloned().collect();
    let (mut eval, rest): (Vec<_>, Vec<_>) = std::mem::take(train)
        .into_iter()
        .partition(|p| chosen.contains(&p.prompt_tokens));
    *train = rest;
    eval.dedup_by(|a, b| a.prompt_tokens == b.prompt_tokens);
    eval.truncate(n_eval);
    Ok(eval)
}

fn prompted(problem: Problem, tokenizer: &Tokenizer) -> Result<PromptedProblem, Failure> {
    let prompt_tokens = tokenizer
        .encode_prompt(&problem.prompt)
        .map_err(|e| Failure::input(format!("{}: {e}", problem.id)))?;
    Ok(PromptedProblem {
        problem,
        prompt_tokens: prompt_tokens.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rpg_core::Prompt;

    fn file(n: usize) -> ShuffledFile {
        let problem = |i: usize| PromptedProblem {
            problem: Problem {
                id: i.to_string(),
                data_source: String::new(),
                prompt: Prompt::Text(String::new()),
                answer: String::new(),
                columns: None,
            },
            prompt_tokens: vec![1].into(),
        };
        ShuffledFile::new((0..n).map(problem).collect(), 7)
    }

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
        assert_eq!(note_on_overlap(&train, &[problem(3, "a")]), None);
        let note = note_on_overlap(&train, &[problem(2, "b"), problem(3, "c")]).unwrap();
        assert!(
            note.starts_with("1 of the 2 problems of data.eval"),
            "{note}"
        );
        let path = Path::new("d");
        assert_eq!(note_on_answers(&train, path), None);
        let more = [&train[..], &[problem(2, "c"), problem(2, "d")]].concat();
        let note = note_on_answers(&more, path).unwrap();
        assert_eq!(
            note,
            "d: questions with different answers: 1; the first: d:2, `b`, and d:2, `c`"
        );
    }

    #[test]
    fn every_epoch_has_every_problem_once_and_its_own_order() {
        let mut data = file(10);
        let mut epoch = |epoch: u64| -> Vec<String> {
            let indices = epoch * 10..(epoch + 1) * 10;
            indices.map(|i| data.get(i).problem.id.clone()).collect()
        };
        let (first, second) = (epoch(0), epoch(1));
        assert_ne!(first, second);
        // Going back, as a resumed run may, gives the same order again.
        assert_eq!(epoch(0), first);
        for mut order in [first, second] {
            order.sort();
            let all: Vec<String> = (0..10).map(|i: i32| i.to_string()).collect();
            assert_eq!(order, all);
        }
        let data = TrainData::File(data);
        assert_eq!((data.epoch(9), data.epoch(10)), (0, 1));
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
            let data = load(&source, &tokenizer, 0, 7, &mut |done, _| seen.push(done)).unwrap();
            assert_eq!(seen, expected);
            let ids: Vec<&str> = data.eval.iter().map(|p| p.problem.id.as_str()).collect();
            assert!(ids.len() == 7 && ids[6].ends_with(":7"), "{ids:?}");
            let TrainData::File(train) = data.train else {
                panic!("a file")
            };
            assert_eq!(train.problems().len(), 2500);
        }
    }
}
