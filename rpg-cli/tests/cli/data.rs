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
