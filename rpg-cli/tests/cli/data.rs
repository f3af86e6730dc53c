//! Files of problems, from the flag to the notes before the first step.

use crate::common::{lines, run, small_model, text};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/problems");
    folder.join(name)
}

const ONE_STEP: [&str; 9] = [
    "--steps=1",
    "--set=rollout.prompts_per_step=2",
    "--set=rollout.samples_per_prompt=2",
    "--set=rollout.max_new_tokens=8",
    "--set=evaluate.problems=4",
    "--set=evaluate.samples=1",
    "--set=evaluate.every=0",
    "--set=data.instruction=+++++++++++++++++++++++++++++++++++++",
    // 7 characters of "999 + 1", a new line and the instruction; those with four digits are longer.
    "--set=data.max_prompt_tokens=45",
];

#[test]
fn a_run_trains_on_parquet_and_says_what_it_left_out() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let dir = temp.path().join("trained");
    let eval = format!(
        "--set=data.eval={}",
        fixture("verl.snappy.parquet").display()
    );
    let train = fixture("many.parquet");
    let args = [
        "train",
        "--model",
        model.to_str().unwrap(),
        "--data",
        train.to_str().unwrap(),
        "--run-dir",
        dir.to_str().unwrap(),
        &eval,
    ];
    let output = run(&[&args[..], &ONE_STEP].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for note in [
        "verl.snappy.parquet: 15 of 20 rows repeat an earlier one and are left out, so that there are 5 problems",
        "verl.snappy.parquet: 5 of 5 prompts are lists of messages, which are taken as they are: nothing is added for data.instruction (",
        "many.parquet: 1500 of 2500 problems left out: their prompts have more than",
    ] {
        assert!(said.contains(note), "no `{note}` in: {said}");
    }
    let evaluated = lines(&dir.join("metrics.jsonl"))[0].to_string();
    assert!(evaluated.contains("val-core/sums/"), "{evaluated}");
    for sample in lines(&dir.join("samples.jsonl")) {
        let prompt = sample["prompt"].as_str().unwrap();
        assert!(prompt.contains(" + 1\n+++"), "{prompt}");
    }
}

#[test]
fn files_that_cannot_be_read_leave_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let dir = temp.path().join("never");
    let cut = temp.path().join("cut.parquet");
    let whole = fs::read(fixture("many.parquet")).unwrap();
    fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    for (data, columns, message) in [
        (
            cut,
            "{}",
            "cut.parquet: the Parquet file is damaged or cut off",
        ),
        (
            fixture("many.parquet"),
            "{question='text'}",
            "many.parquet: `text` is missing; the columns are `problem`, `answer`",
        ),
        (
            fixture("many.parquet"),
            "{text='problem'}",
            "data.columns.text: unknown field `text`, expected one of `question`, `answer`, `source`",
        ),
    ] {
        let columns = format!("--set=data.columns={columns}");
        let args = [
            "train",
            "--model",
            model.to_str().unwrap(),
            "--data",
            data.to_str().unwrap(),
            "--run-dir",
            dir.to_str().unwrap(),
            &columns,
        ];
        let output = run(&args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "no `{message}` in: {said}");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
        assert!(!said.contains("panicked"), "{said}");
        assert!(!dir.exists(), "{said}");
    }
}

/// Of a run of one step on these data: what it said, its metrics, and the prompts of its samples.
fn one_step(sets: &[&str]) -> (String, String, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let model = small_model(temp.path());
    let dir = temp.path().join("trained");
    let args = [
        "train",
        "--model",
        model.to_str().unwrap(),
        "--run-dir",
        dir.to_str().unwrap(),
        "--steps=1",
        "--set=rollout={prompts_per_step=8, samples_per_prompt=2, max_new_tokens=4}",
        "--set=evaluate={problems=4, samples=1}",
        "--set=data.instruction=''",
        "--set=checkpoint.samples_per_step=8",
    ];
    let output = run(&[&args[..], sets].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metrics = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let prompt = |line: serde_json::Value| line["prompt"].as_str().unwrap().to_owned();
    let prompts = lines(&dir.join("samples.jsonl")).into_iter().map(prompt);
    (said, metrics, prompts.collect())
}

fn write(path: &Path, from: usize, n: usize) {
    let line = |i: usize| format!("{{\"question\": \"{i}+1=\", \"answer\": \"{}\"}}\n", i + 1);
    fs::write(path, (from..from + n).map(line).collect::<String>()).unwrap();
}

#[test]
fn several_files_have_the_weights_that_the_config_gives() {
    let temp = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(format!("{name}.jsonl")));
    for (path, from) in [(&a, 100), (&b, 200), (&c, 300)] {
        write(path, from, 20);
    }
    let count = |prompts: &[String], digit: char| {
        let own = prompts.iter().filter(|prompt| prompt.starts_with(digit));
        own.count()
    };
    let [shown_a, shown_b, shown_c] = [&a, &b, &c].map(|path| path.display().to_string());
    let weighted = format!(
        "--set=data.train=[{{path='{shown_a}', weight=3.0}}, {{path='{shown_b}', weight=1.0}}]"
    );
    let eval = format!("--set=data.eval=['{shown_c}', {{path='{shown_b}', source='known'}}]");
    let (said, metrics, prompts) = one_step(&[&weighted, &eval]);
    assert_eq!(
        (count(&prompts, '1'), count(&prompts, '2')),
        (6, 2),
        "{prompts:?}"
    );
    // Of each file as many as `evaluate.problems`.
    assert!(
        said.contains("4 of the 8 problems of data.eval are in data.train too"),
        "{said}"
    );
    for name in ["val-core/c/acc", "val-core/known/acc", "val-core/all/acc"] {
        assert!(metrics.contains(name), "{metrics}");
    }
    // Without weights, and by the flag, a pattern or a folder, all problems are one set.
    let pattern = temp.path().join("[ab].jsonl").display().to_string();
    let folder = temp.path().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::copy(&a, folder.join("a.jsonl")).unwrap();
    fs::copy(&b, folder.join("b.jsonl")).unwrap();
    fs::write(folder.join("README.md"), "no problems").unwrap();
    let two = [format!("--data={shown_a}"), format!("--data={shown_b}")];
    let (_, _, by_flag) = one_step(&[&two[0], &two[1]]);
    for data in [pattern, folder.display().to_string()] {
        let (_, _, prompts) = one_step(&[&format!("--data={data}")]);
        assert_eq!(prompts, by_flag, "{data}");
    }
    assert!(
        count(&by_flag, '1') > 0 && count(&by_flag, '2') > 0,
        "{by_flag:?}"
    );
}

#[test]
fn examples_and_a_prefix_come_before_the_question() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.jsonl");
    write(&path, 100, 20);
    let (_, _, prompts) = one_step(&[
        &format!("--data={}", path.display()),
        "--set=data.prefix='++'",
        "--set=data.instruction='=='",
        "--set=data.examples=[{question='1+1=', answer='2'}]",
    ]);
    for prompt in prompts {
        let question = prompt
            .strip_prefix("++\n1+1=\n==\n\n2\n\n++\n1")
            .expect(&prompt);
        assert!(question.ends_with("+1=\n=="), "{prompt}");
    }
}
