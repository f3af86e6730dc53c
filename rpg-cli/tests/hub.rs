//! Models and data sets by their name on the hub, here a test server, and models as GGUF files.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model, `tiny/model`, or the data set `tiny/data`, that records what it is asked for. A file whose name
/// begins with a revision and `:` is in that one, others are in `main`.
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &files, &log);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let (mut range, mut token) = (None, String::new());
    for line in lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
    {
        let (key, value) = line.split_once(": ").unwrap();
        match key.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "authorization" => token = value.to_owned(),
            _ => {}
        }
    }
    log.lock().unwrap().push(path.clone());
    let mut reply = |status: &str, headers: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        // The client may have closed the connection.
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body));
    };
    let of_model = path.strip_prefix("/tiny/model/resolve/");
    let of_data = path.strip_prefix("/datasets/tiny/data/resolve/");
    let resolved = of_model.or(of_data).and_then(|path| {
        let (revision, name) = path.split_once('/')?;
        Some(match revision {
            "main" | COMMIT => name.to_owned(),
            other => format!("{other}:{name}"),
        })
    });
    let resolved = resolved.as_deref();
    let listed = ["models/tiny/model", "datasets/tiny/data"]
        .iter()
        .find_map(|repo| path.strip_prefix(&format!("/api/{repo}/revision/")));
    match (path.as_str(), listed) {
        (_, Some(revision)) => {
            let names = files.keys().filter_map(|name| match name.split_once(':') {
                Some((of, name)) => (of == revision).then_some(name),
                None => (revision == "main").then_some(name.as_str()),
            });
            let names: Vec<Value> = names.map(|name| json!({"rfilename": name})).collect();
            match (revision, &names[..]) {
                ("main", _) | (_, [_, ..]) => {
                    let body = json!({"siblings": names, "sha": COMMIT}).to_string();
                    reply("200 OK", "", body.as_bytes());
                }
                _ => reply("404 Not Found", "", b""),
            }
        }
        ("/api/models/tiny/gated/revision/main", _) if token != "Bearer secret" => {
            reply("403 Forbidden", "", b"");
        }
        _ => match resolved.and_then(|name| files.get(name)) {
            None => reply("404 Not Found", "", b""),
            Some(bytes) => {
                let range = range.unwrap();
                let (from, to) = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .split_once('-')
                    .unwrap();
                let from: usize = from.parse().unwrap();
                let to = to
                    .parse()
                    .map_or(bytes.len(), |last: usize| (last + 1).min(bytes.len()));
                let headers = format!(
                    "etag: \"{}-{}\"\r\nx-repo-commit: {COMMIT}\r\ncontent-range: bytes {from}-{}/{}\r\n",
                    bytes.len(),
                    resolved.unwrap().replace(['.', '/', ':'], "-"),
                    to.max(1) - 1,
                    bytes.len()
                );
                reply("206 Partial Content", &headers, &bytes[from.min(to)..to]);
            }
        },
    }
}

fn rpg(home: &Path, endpoint: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rpg"));
    command
        .args(args)
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", endpoint)
        .env("NO_PROXY", "127.0.0.1");
    for variable in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"] {
        command.env_remove(variable);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn gguf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama.gguf")
}

/// The files of a small model's folder.
fn model_files(temp: &Path) -> BTreeMap<String, Vec<u8>> {
    let folder = temp.join("exported");
    let out = rpg(
        temp,
        "",
        &[
            "export",
            "--model",
            gguf().to_str().unwrap(),
            "--out",
            folder.to_str().unwrap(),
        ],
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

#[test]
fn a_model_on_the_hub_is_fetched_once_and_found_offline() {
    let temp = tempfile::tempdir().unwrap();
    let mut files = model_files(temp.path());
    files.insert("README.md".into(), b"not needed".to_vec());
    files.insert("small.gguf".into(), fs::read(gguf()).unwrap());
    let hub = Hub::start(files);
    let home = temp.path().join("home");
    let prompts = temp.path().join("prompts.txt");
    fs::write(&prompts, "abc\n").unwrap();
    let generate = |model: &str, endpoint: &str| {
        let args = [
            "generate",
            "--model",
            model,
            "--prompts",
            prompts.to_str().unwrap(),
        ];
        rpg(
            &home,
            endpoint,
            &[&args[..], &["--max-new-tokens", "4", "--ignore-eos"]].concat(),
        )
    };
    let first = generate("tiny/model", &hub.address);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let asked = hub.asked();
    assert!(
        asked.iter().any(|path| path.ends_with("model.safetensors")),
        "{asked:?}"
    );
    assert!(
        !asked
            .iter()
            .any(|path| path.contains("README") || path.contains("gguf")),
        "{asked:?}"
    );
    // Again: the hub is only asked for news, and nothing is fetched.
    let second = generate("tiny/model", &hub.address);
    assert_eq!(text(&second.stdout), text(&first.stdout));
    assert_eq!(hub.asked(), ["/api/models/tiny/model/revision/main"]);
    // A file that is missing, as after an interrupted download, is fetched.
    let snapshot = home.join("hub/models--tiny--model/snapshots").join(COMMIT);
    fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
    assert_eq!(
        text(&generate("tiny/model", &hub.address).stdout),
        text(&first.stdout)
    );
    // Without the hub, the cache is used.
    let offline = generate("tiny/model", "http://127.0.0.1:9");
    assert_eq!(
        text(&offline.stdout),
        text(&first.stdout),
        "{}",
        text(&offline.stderr)
    );
    assert!(
        text(&offline.stderr).contains("the hub cannot be reached"),
        "{}",
        text(&offline.stderr)
    );
    let commit = generate(&format!("tiny/model@{COMMIT}"), "http://127.0.0.1:9");
    assert_eq!(
        text(&commit.stdout),
        text(&first.stdout),
        "{}",
        text(&commit.stderr)
    );
    // A GGUF file of the same model.
    let file = generate("tiny/model/small.gguf", &hub.address);
    assert_eq!(
        text(&file.stdout),
        text(&first.stdout),
        "{}",
        text(&file.stderr)
    );
}

#[test]
fn a_reference_may_be_a_model_on_the_hub() {
    let temp = tempfile::tempdir().unwrap();
    let files = [("small.gguf".to_owned(), fs::read(gguf()).unwrap())];
    let hub = Hub::start(BTreeMap::from(files));
    let home = temp.path().join("home");
    let data = temp.path().join("data.jsonl");
    fs::write(&data, "{\"question\": \"abc\", \"answer\": \"7\"}\n").unwrap();
    let dir = temp.path().join("run");
    let model = gguf();
    let args = [
        "train",
        "--run-dir",
        dir.to_str().unwrap(),
        "--model",
        model.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--steps=1",
        "--set=reference.path=tiny/model/small.gguf",
        "--set=reward.weights.correct=0",
        "--set=data.instruction=''",
        "--set=rollout={prompts_per_step=1, samples_per_prompt=2, max_new_tokens=4}",
        "--set=train={steps=1, mini_batches=1}",
        "--set=evaluate={problems=0, samples=1}",
    ];
    let output = rpg(&home, &hub.address, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let asked = hub.asked();
    let files = asked.iter().filter(|path| path.ends_with("small.gguf"));
    assert!(files.count() > 0, "{asked:?}");
    let metrics = fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    let lines = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let kls: Vec<f64> = lines
        .filter_map(|line: Value| line["actor/kl_loss"].as_f64())
        .collect();
    // The policy is the same model.
    assert!(kls.len() == 1 && kls[0].abs() < 1e-9, "{kls:?}");
}

fn problems(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/problems");
    fs::read(folder.join(name)).unwrap()
}

/// One step on these data; returns the standard error.
fn train_on(home: &Path, endpoint: &str, sets: &[&str]) -> (Option<i32>, String) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let model = gguf();
    let args = [
        "train",
        "--run-dir",
        dir.to_str().unwrap(),
        "--model",
        model.to_str().unwrap(),
        "--steps=1",
        "--set=data.instruction=abc",
        "--set=rollout={prompts_per_step=1, samples_per_prompt=2, max_new_tokens=4}",
        "--set=train={steps=1, mini_batches=1}",
        "--set=evaluate={problems=2, samples=1}",
    ];
    let out = rpg(home, endpoint, &[&args[..], sets].concat());
    let mut said = text(&out.stderr);
    said += &fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    assert_eq!(dir.exists(), out.status.success(), "{said}");
    (out.status.code(), said)
}

#[test]
fn a_data_set_on_the_hub_is_fetched_once_and_found_offline() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, of: &str| (name.to_owned(), problems(of));
    let hub = Hub::start(BTreeMap::from([
        file("README.md", "verl.jsonl"),
        file("main/train-00000-of-00002.parquet", "many.parquet"),
        file("main/train-00001-of-00002.parquet", "many.parquet"),
        file("main/test-00000-of-00001.parquet", "many.parquet"),
        file("more/test-00000-of-00001.parquet", "many.parquet"),
        file("data/loose.parquet", "verl.snappy.parquet"),
    ]));
    let home = temp.path().join("home");
    let by_name = [
        "--data=tiny/data:main:train",
        "--set=data.eval=tiny/data:more",
    ];
    let (code, said) = train_on(&home, &hub.address, &by_name);
    assert_eq!(code, Some(0), "{said}");
    // The shards of a split are one set: the rows of the second repeat those of the first.
    for expected in [
        "fetching tiny/data/main/train-00000-of-00002.parquet",
        "fetching tiny/data/main/train-00001-of-00002.parquet",
        "fetching tiny/data/more/test-00000-of-00001.parquet",
        "tiny/data:main:train: 2500 of 5000 rows repeat an earlier one",
        "2 of the 2 problems of data.eval are in data.train too",
        "val-core/tiny/data/acc/mean@1",
    ] {
        assert!(said.contains(expected), "no `{expected}` in: {said}");
    }
    let asked = hub.asked();
    let others = ["README", "main/test", "loose"];
    assert!(
        !asked
            .iter()
            .any(|path| others.iter().any(|o| path.contains(o))),
        "{asked:?}"
    );
    // Again, then without the hub.
    let (code, said) = train_on(&home, &hub.address, &by_name);
    assert!(code == Some(0) && !said.contains("fetching"), "{said}");
    let (code, said) = train_on(&home, "http://127.0.0.1:9", &by_name);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the hub cannot be reached"), "{said}");
    // Between the splits in the cache one must be named.
    let (code, said) = train_on(&home, "http://127.0.0.1:9", &["--data=tiny/data"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("its configs are main, more; none is named"),
        "{said}"
    );
    // What is mistyped is told, with what is in the cache.
    for (name, expected) in [
        (
            "tiny/data:main:val",
            "cache of the Hugging Face hub: its splits are train; found val",
        ),
        (
            "tiny/data:mian:train",
            "its configs are main, more; found mian",
        ),
        (
            "tiny/data/main/tset.parquet",
            "there is no file main/tset.parquet; its files of problems: ",
        ),
    ] {
        let data = format!("--data={name}");
        let (code, said) = train_on(&home, "http://127.0.0.1:9", &[&data]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "no `{expected}` in: {said}");
    }
    // A split of which a shard is missing is not the split.
    let snapshot = home.join("hub/datasets--tiny--data/snapshots").join(COMMIT);
    fs::remove_file(snapshot.join("main/train-00001-of-00002.parquet")).unwrap();
    let (code, said) = train_on(&home, "http://127.0.0.1:9", &by_name);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("http://127.0.0.1:9 cannot be reached"),
        "{said}"
    );
    // Its tokenizer knows letters alone.
    let (code, said) = train_on(
        &home,
        &hub.address,
        &["--data=tiny/data:more", "--set=data.instruction=''"],
    );
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("parquet:1: its prompt has no tokens"),
        "{said}"
    );
    // A file by its name.
    let loose = [
        "--data=tiny/data/data/loose.parquet",
        "--set=evaluate.problems=0",
    ];
    let (code, said) = train_on(&home, &hub.address, &loose);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("loose.parquet: 15 of 20 rows repeat"),
        "{said}"
    );
}

#[test]
fn a_data_set_that_the_hub_has_converted_is_read_from_there() {
    let temp = tempfile::tempdir().unwrap();
    let converted = "refs%2Fconvert%2Fparquet:default/train/0000.parquet";
    let hub = Hub::start(BTreeMap::from([
        ("train.csv".to_owned(), Vec::new()),
        (converted.to_owned(), problems("many.parquet")),
    ]));
    let home = temp.path().join("home");
    for endpoint in [&*hub.address, "http://127.0.0.1:9"] {
        let converted = ["--data=tiny/data", "--set=evaluate.problems=0"];
        let (code, said) = train_on(&home, endpoint, &converted);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn what_is_no_data_set_on_the_hub_is_a_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let csv = ("train.csv".to_owned(), Vec::new());
    let own = Hub::start(BTreeMap::from([csv.clone()]));
    let loose = ("data/loose.parquet".to_owned(), problems("many.parquet"));
    let loose = Hub::start(BTreeMap::from([csv, loose]));
    let home = temp.path().join("home");
    for (hub, data, expected) in [
        (
            &own,
            "tiny/absent",
            "404: there is no such data set, revision",
        ),
        (
            &own,
            "tiny/data",
            "the data set has no Parquet files by the names of splits",
        ),
        (
            &loose,
            "tiny/data",
            "name one of these files, as in tiny/data/data/loose.parquet",
        ),
        (
            &loose,
            "tiny/data/data/other.parquet",
            "there is no file data/other.parquet; its files of problems: data/loose.parquet",
        ),
        (&loose, "data/train.jsonl", "data/train.jsonl: No such file"),
    ] {
        let (code, said) = train_on(&home, &hub.address, &[&format!("--data={data}")]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "no `{expected}` in: {said}");
    }
    let (code, said) = train_on(&home, "http://127.0.0.1:9", &["--data=tiny/data:main"]);
    assert_eq!(code, Some(2), "{said}");
    let expected = "give a file on this machine, or set HF_ENDPOINT to a mirror";
    assert!(said.contains(expected), "{said}");
}

#[test]
fn an_error_of_the_hub_says_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let hub = Hub::start(BTreeMap::from([("small.gguf".to_owned(), Vec::new())]));
    let input = temp.path().join("input.jsonl");
    fs::write(&input, "{\"text\":\"abc\"}\n").unwrap();
    let check = |model: &str, endpoint: &str, message: &str| {
        let args = [
            "score",
            "--model",
            model,
            "--input",
            input.to_str().unwrap(),
        ];
        let out = rpg(&temp.path().join("home"), endpoint, &args);
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{error}");
        assert!(
            error.contains(message),
            "`{message}` is missing in: {error}"
        );
    };
    check("tiny/absent", &hub.address, "404: there is no such model");
    check("tiny/gated", &hub.address, "set HF_TOKEN");
    check(
        "tiny/model",
        &hub.address,
        "name one of these files, as in tiny/model/small.gguf",
    );
    check(
        "tiny/model/large.gguf",
        &hub.address,
        "the model has no file large.gguf; its GGUF files: small.gguf",
    );
    check(
        "tiny/model",
        "http://127.0.0.1:9",
        "http://127.0.0.1:9 cannot be reached",
    );
    check("nowhere", &hub.address, "nowhere: no such folder or file");
    let file = temp.path().join("model.bin");
    fs::write(&file, "").unwrap();
    check(
        file.to_str().unwrap(),
        &hub.address,
        "neither a model folder nor a .gguf file",
    );
}

#[test]
fn the_hub_is_never_contacted_offline() {
    let temp = tempfile::tempdir().unwrap();
    let hub = Hub::start(BTreeMap::new());
    let out = Command::new(env!("CARGO_BIN_EXE_rpg"))
        .args(["export", "--model", "tiny/model", "--out", "never"])
        .env("HF_HUB_CACHE", temp.path())
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("HF_HUB_OFFLINE is set"),
        "{}",
        text(&out.stderr)
    );
    assert!(hub.asked().is_empty());
}
