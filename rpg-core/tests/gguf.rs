//! GGUF files made with the `gguf` package (`fixtures/make_gguf.py`): the logits of transformers, the tokens of
//! tokenizers and SentencePiece; and files that are damaged.

use burn::backend::Flex;
use proptest::prelude::*;
use rpg_core::gguf::GgufFile;
use rpg_core::model::{CausalLm, SaveDtype};
use rpg_core::ops::Packing;
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Prompt};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const MODELS: [&str; 5] = ["llama", "llama_untied_bias", "llama3", "qwen2", "qwen3"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/gguf")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap() as u32).collect()
}

fn open(name: &str) -> GgufFile {
    GgufFile::open(&fixture(name)).unwrap()
}

fn logits(model: &CausalLm<Flex>, tokens: &[u32]) -> Vec<f32> {
    let hidden = model.hidden(tokens, &Packing::new([tokens.len()]));
    model.logits(hidden).into_data().into_vec().unwrap()
}

#[test]
fn logits_equal_those_of_transformers() {
    let all = json("logits.json");
    for name in MODELS {
        let model = CausalLm::from_gguf(&open(&format!("{name}.gguf")), &Default::default());
        let model = model.unwrap();
        let found = logits(&model, &ids(&all[name]["tokens"]));
        let expected = all[name]["logits"].as_array().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected.as_f64().unwrap()).abs();
            assert!(error < 1e-5, "{name}: {error:e}");
        }
        assert_eq!(model.config().eos_token_ids, [2, 0], "{name}");
    }
}

#[test]
fn a_model_from_gguf_is_written_as_a_hugging_face_folder() {
    for name in MODELS {
        let file = open(&format!("{name}.gguf"));
        let model = CausalLm::<Flex>::from_gguf(&file, &Default::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        model.save_hf(dir.path(), SaveDtype::F32).unwrap();
        let again = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        assert_eq!(
            logits(&again, &[1, 7, 3]),
            logits(&model, &[1, 7, 3]),
            "{name}"
        );
        // So is its tokenizer.
        let tokenizer = Tokenizer::from_gguf(&file).unwrap();
        tokenizer.save(dir.path()).unwrap();
        let again = Tokenizer::load(dir.path()).unwrap();
        let text = Prompt::Text("abc".into());
        assert_eq!(again.encode_prompt(&text).unwrap(), [28, 5]);
    }
}

#[test]
fn tokens_equal_those_of_tokenizers_and_sentencepiece() {
    let all = json("tokens.json");
    for (name, rows) in all.as_object().unwrap() {
        let tokenizer = Tokenizer::from_gguf(&open(&format!("tokenizer_{name}.gguf"))).unwrap();
        for row in rows.as_array().unwrap() {
            let (text, expected) = (row[0].as_str().unwrap(), ids(&row[1]));
            let found = tokenizer.encode_prompt(&Prompt::Text(text.into())).unwrap();
            assert_eq!(found, expected, "{name}: {text:?}");
            // What is special is hidden; Qwen's composes accents.
            let is_composed = name == "qwen2" && text.contains('\u{301}');
            if !text.contains("<|") && !is_composed {
                assert_eq!(tokenizer.decode(&found).unwrap(), text, "{name}");
            }
        }
    }
}

/// A GGUF file of these keys and no tensor.
fn header(keys: &[(&str, Key)]) -> Vec<u8> {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        text(&mut bytes, key);
        match value {
            Key::U32(n) => {
                bytes.extend(4u32.to_le_bytes());
                bytes.extend(n.to_le_bytes());
            }
            Key::Text(value) => {
                bytes.extend(8u32.to_le_bytes());
                text(&mut bytes, value);
            }
            Key::Texts(values) => {
                bytes.extend(9u32.to_le_bytes());
                bytes.extend(8u32.to_le_bytes());
                bytes.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| text(&mut bytes, value));
            }
        }
    }
    bytes
}

enum Key {
    U32(u32),
    Text(&'static str),
    Texts(&'static [&'static str]),
}

/// Opens the bytes and reads the model and the tokenizer: the first error, if any.
fn outcome(bytes: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let file = GgufFile::open(&path).map_err(|e| e.to_string())?;
    let tokenizer = Tokenizer::from_gguf(&file).map_err(|e| e.to_string());
    CausalLm::<Flex>::from_gguf(&file, &Default::default()).map_err(|e| e.to_string())?;
    tokenizer.map(|_| ())
}

#[test]
fn chat_templates_and_special_tokens_come_along() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}";
    let bytes = header(&[
        ("tokenizer.ggml.model", Key::Text("gpt2")),
        (
            "tokenizer.ggml.tokens",
            Key::Texts(&["<s>", "a", "b", "ab"]),
        ),
        ("tokenizer.ggml.merges", Key::Texts(&["a b"])),
        ("tokenizer.ggml.bos_token_id", Key::U32(0)),
        ("tokenizer.chat_template", Key::Text(template)),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let tokenizer = Tokenizer::from_gguf(&GgufFile::open(&path).unwrap()).unwrap();
    assert_eq!(tokenizer.render(&[Message::user("ab")]).unwrap(), "<s>ab");
    assert_eq!(tokenizer.encode("abb", false).unwrap(), [3, 2]);
}

#[test]
fn what_is_wrong_is_named() {
    let check = |bytes: &[u8], message: &str| {
        let error = outcome(bytes).unwrap_err();
        assert!(
            error.contains("model.gguf") && !error.contains('\n'),
            "{error}"
        );
        assert!(
            error.contains(message),
            "`{message}` is missing in: {error}"
        );
    };
    let qwen3 = fs::read(fixture("qwen3.gguf")).unwrap();
    assert_eq!(outcome(&qwen3), Ok(()));
    check(b"", "not a usable GGUF file");
    check(b"PK\x03\x04 something else", "unknown magic");
    check(&qwen3[..200], "not a usable GGUF file");
    check(&qwen3[..qwen3.len() - 1], "remaining in file");
    let mut not_finite = qwen3.clone();
    let end = not_finite.len();
    not_finite[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    check(&not_finite, "holds a value that is not finite");
    let general = ("general.architecture", Key::Text("qwen3"));
    check(
        &header(&[("general.alignment", Key::U32(0)), general]),
        "`general.alignment` is 0",
    );
    check(
        &header(&[]),
        "`general.architecture`: missing; expected one of llama",
    );
    for other in ["mamba", "qwen3moe"] {
        check(
            &header(&[("general.architecture", Key::Text(other))]),
            &format!("`general.architecture`: found {other:?}"),
        );
    }
    check(
        &header(&[("general.architecture", Key::Text("qwen35"))]),
        "`general.architecture`: found \"qwen35\"; expected one of llama, qwen2, qwen3",
    );
    check(
        &header(&[("general.architecture", Key::Text("llama"))]),
        "`llama.embedding_length`: missing; expected an integer",
    );
    check(
        &header(&[
            ("general.architecture", Key::Text("llama")),
            ("llama.embedding_length", Key::Text("many")),
        ]),
        "`llama.embedding_length`: found \"many\"",
    );
    // Keys and tensors under other names are missing.
    let renamed = |from: &str, to: &str| {
        let text = from.as_bytes();
        let at = qwen3.windows(text.len()).position(|part| part == text);
        let mut bytes = qwen3.clone();
        bytes[at.unwrap()..][..to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    check(
        &renamed("blk.1.ffn_up.weight", "blk.1.ffn_XX.weight"),
        "tensor `blk.1.ffn_up.weight` is missing",
    );
    check(
        &renamed("qwen3.block_count", "qwen3.block_XXXXX"),
        "`qwen3.block_count`: missing",
    );
}

#[test]
fn vocabularies_that_make_no_tokenizer_are_named() {
    let check = |keys: &[(&str, Key)], message: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        fs::write(&path, header(keys)).unwrap();
        let error = Tokenizer::from_gguf(&GgufFile::open(&path).unwrap());
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(message),
            "`{message}` is missing in: {error}"
        );
    };
    let tokens = || ("tokenizer.ggml.tokens", Key::Texts(&["a", "b"]));
    let kind = |name| ("tokenizer.ggml.model", Key::Text(name));
    check(&[kind("gpt2")], "`tokenizer.ggml.tokens`: missing");
    check(
        &[tokens()],
        "`tokenizer.ggml.model`: missing; expected gpt2",
    );
    check(
        &[tokens(), kind("bert")],
        "`tokenizer.ggml.model`: found \"bert\"",
    );
    check(
        &[tokens(), kind("gpt2")],
        "`tokenizer.ggml.merges`: missing",
    );
    check(
        &[
            tokens(),
            kind("gpt2"),
            ("tokenizer.ggml.pre", Key::Text("new")),
        ],
        "`tokenizer.ggml.pre`: found \"new\"; expected one of default, gpt-2",
    );
    check(
        &[tokens(), kind("llama")],
        "`tokenizer.ggml.scores`: missing",
    );
    check(
        &[
            tokens(),
            kind("gpt2"),
            ("tokenizer.ggml.merges", Key::Texts(&["a"])),
        ],
        "model.gguf/tokenizer.json",
    );
    check(
        &[
            tokens(),
            kind("gpt2"),
            ("tokenizer.ggml.merges", Key::Texts(&[])),
            ("tokenizer.ggml.eos_token_id", Key::U32(2)),
        ],
        "`tokenizer.ggml.eos_token_id`: found U32(2); expected the id of one of 2 tokens",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_never_panic(
        name in prop::sample::select(vec!["llama3.gguf", "qwen3.gguf", "tokenizer_llama.gguf", "tokenizer_qwen2.gguf"]),
        changes in prop::collection::vec((0usize..3000, any::<u8>()), 1..6),
        end in 0usize..40_000,
    ) {
        let mut bytes = fs::read(fixture(name)).unwrap();
        bytes.truncate(end.max(1));
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        // Whatever comes out.
        let _ = outcome(&bytes);
    }

    #[test]
    fn lengths_that_promise_anything_never_panic(
        at in 0usize..1500,
        length in prop::sample::select(vec![0u64, 1, 1 << 20, 1 << 31, 1 << 40, u64::MAX, u64::MAX - 7]),
    ) {
        let mut bytes = fs::read(fixture("qwen3.gguf")).unwrap();
        bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
        let _ = outcome(&bytes);
    }
}
