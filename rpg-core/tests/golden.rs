//! Checkpoints made with Hugging Face transformers (`fixtures/make.py`): the same logits, and the same
//! checkpoint when it is written again.

use burn::backend::{Autodiff, Flex};
use burn::module::{AutodiffModule, Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rpg_core::model::{Activations, CausalLm, LoadError, SaveDtype};
use rpg_core::ops::{CacheRows, Packing};
use rpg_core::score::{Entropy, ScoreItem, score_on_tape};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FAMILIES: [&str; 18] = [
    "llama",
    "llama_untied_bias",
    "llama3",
    "mistral",
    "qwen2",
    "qwen3",
    "llama_mlp_bias",
    "mistral_window",
    "qwen2_window",
    "qwen3_moe",
    "qwen3_moe_step",
    "smollm3",
    "olmo2",
    "granite",
    "phi3",
    "gemma3",
    "qwen35",
    "qwen35_published",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let text = fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let numbers = |key: &str| json[key].as_array().unwrap().clone();
    (
        numbers("tokens")
            .iter()
            .map(|x| x.as_u64().unwrap() as u32)
            .collect(),
        numbers("logits")
            .iter()
            .map(|x| x.as_f64().unwrap() as f32)
            .collect(),
    )
}

fn load(dir: &Path) -> Result<CausalLm<Flex>, LoadError> {
    CausalLm::load_hf(dir, &Default::default())
}

fn logits(model: &CausalLm<Flex>, tokens: &[u32]) -> Vec<f32> {
    // The same text twice, packed: the second must not see the first.
    let packing = Packing::new([tokens.len(), tokens.len()]);
    let hidden = model.hidden(&[tokens, tokens].concat(), &packing);
    let logits: Vec<f32> = model.logits(hidden).into_data().iter::<f32>().collect();
    let (first, second) = logits.split_at(logits.len() / 2);
    assert_eq!(first, second);
    first.to_vec()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn logits_equal_those_of_transformers() {
    for name in FAMILIES {
        let (tokens, expected) = expected(name);
        let error = worst(&logits(&load(&fixture(name)).unwrap(), &tokens), &expected);
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}

#[test]
fn decoding_token_by_token_gives_the_same_logits() {
    for name in FAMILIES {
        let (tokens, expected) = expected(name);
        let model = load(&fixture(name)).unwrap();
        let vocab_size = model.config().vocab_size;
        let mut cache = model.new_cache(3, 16);
        let prompt = 4;
        model.prefill(&tokens[..prompt], &Packing::new([prompt]), &[2], &mut cache);
        cache.copy_prefix(2, &[0], prompt);
        for position in prompt..tokens.len() {
            let rows = CacheRows {
                slots: &[0],
                positions: &[position as u32],
            };
            let hidden = model.decode(&tokens[position..=position], &rows, &mut cache);
            let logits: Vec<f32> = model.logits(hidden).into_data().iter::<f32>().collect();
            let error = worst(&logits, &expected[position * vocab_size..][..vocab_size]);
            assert!(error < 1e-5, "{name} position {position}: {error:e}");
        }
    }
}

/// A state cannot go back: only what a slot holds now can be copied, unless it was kept.
#[test]
fn a_beginning_is_copied_or_kept() {
    let (tokens, expected) = expected("qwen35");
    let model = load(&fixture("qwen35")).unwrap();
    let vocab_size = model.config().vocab_size;
    let prompt = 5;
    let prefilled = || {
        let mut cache = model.new_cache(3, 16);
        model.prefill(&tokens[..prompt], &Packing::new([prompt]), &[1], &mut cache);
        cache
    };
    // Others go on from there after the slot itself has gone on, and so does that slot.
    let mut cache = prefilled();
    cache.keep(1, prompt);
    for slots in [&[1][..], &[0, 2], &[2, 1]] {
        cache.begin(slots);
        for position in prompt..tokens.len() {
            let rows = CacheRows {
                slots,
                positions: &vec![position as u32; slots.len()],
            };
            let next = vec![tokens[position]; slots.len()];
            let hidden = model.decode(&next, &rows, &mut cache);
            let logits: Vec<f32> = model.logits(hidden).into_data().iter::<f32>().collect();
            for logits in logits.chunks_exact(vocab_size) {
                let error = worst(logits, &expected[position * vocab_size..][..vocab_size]);
                assert!(error < 1e-5, "{slots:?}, position {position}: {error:e}");
            }
        }
    }
    let message = |work: &dyn Fn(&mut rpg_core::cache::KvCache<Flex>)| {
        let mut cache = prefilled();
        let run = std::panic::AssertUnwindSafe(|| work(&mut cache));
        *std::panic::catch_unwind(run)
            .unwrap_err()
            .downcast::<String>()
            .unwrap()
    };
    let found = message(&|cache| cache.copy_prefix(1, &[0], 4));
    assert!(found.contains("slot 1 holds 5 tokens"), "{found}");
    let found = message(&|cache| {
        let rows = CacheRows {
            slots: &[1],
            positions: &[6],
        };
        model.decode(&[3], &rows, cache);
    });
    assert!(found.contains("slot 1 holds 5 tokens"), "{found}");
}

/// The tensors of a file of safetensors.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |data: &[u8]| -> Vec<f32> {
        let (four, _) = data.as_chunks::<4>();
        four.iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    };
    let named = file.tensors().into_iter();
    named
        .map(|(name, view)| (name, floats(view.data())))
        .collect()
}

/// Puts the gradient of each parameter in its place: saved, they have the names of the tensors.
struct Gradients(GradientsParams);

impl ModuleMapper<Flex> for Gradients {
    fn map_float<const D: usize>(
        &mut self,
        param: Param<Tensor<Flex, D>>,
    ) -> Param<Tensor<Flex, D>> {
        let grad = self.0.remove::<Flex, D>(param.id).expect("a gradient");
        param.map(|_| grad)
    }
}

#[test]
fn gradients_equal_those_of_transformers() {
    for (name, tolerance) in [
        ("qwen3_moe", 1e-5),
        ("qwen3_moe_step", 1e-5),
        ("qwen35", 2e-5),
    ] {
        let model: CausalLm<Autodiff<Flex>> = load(&fixture(name)).unwrap().into_trainable();
        let (tokens, _) = expected(name);
        let texts = [tokens, vec![7, 1, 19, 2, 2]];
        let items = texts.map(|text| ScoreItem::response(&text[..1], &text[1..]));
        let again = Activations::Recompute;
        let (scores, tape) = score_on_tape(&model, &items, 1.0, Entropy::Measured, again);
        let mut sums = GradientsParams::new();
        tape.backward(&model, scores.logprobs.square().sum(), &mut sums);
        let dir = tempfile::tempdir().unwrap();
        let gradients = model.valid().map(&mut Gradients(sums));
        gradients.save_hf(dir.path(), SaveDtype::F32).unwrap();
        let found = tensors(&dir.path().join("model.safetensors"));
        let expected = tensors(&fixture(name).join("gradients.safetensors"));
        assert!(found.keys().eq(expected.keys()), "{name}");
        for (tensor, expected) in &expected {
            let scale = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
            let error = worst(&found[tensor], expected) / scale;
            // Both are sums of f32.
            assert!(error < tolerance, "{name}: {tensor}: {error:e}");
        }
    }
}

/// As Qwen3.5 is published: the text model beside one for images, and a layer that looks ahead.
#[test]
fn the_text_model_is_read_from_what_holds_more() {
    let text = load(&fixture("qwen35")).unwrap();
    assert!(text.notes().is_empty());
    let published = load(&fixture("qwen35_published")).unwrap();
    assert_eq!(published.config(), text.config());
    let notes = published.notes();
    let expected = [
        "without 21 tensors `model.visual.*`",
        "without 1 tensor `mtp.*`",
    ];
    assert_eq!(notes.len(), 2, "{notes:?}");
    for (note, expected) in notes.iter().zip(expected) {
        assert!(note.contains(expected), "{note}");
    }
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    text.save_hf(a.path(), SaveDtype::F32).unwrap();
    published.save_hf(b.path(), SaveDtype::F32).unwrap();
    for name in ["config.json", "model.safetensors"] {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert!(read(a.path()) == read(b.path()), "{name}");
    }
    let stored = |dir: &Path| tensors(&dir.join("model.safetensors"));
    assert_eq!(stored(b.path()), stored(&fixture("qwen35")));
}

/// LongRoPE has a list of factors for texts within the original context, and one for longer ones.
#[test]
fn long_texts_are_rotated_with_the_long_factors() {
    let (tokens, expected) = expected("phi3_long");
    let short = load(&fixture("phi3_long")).unwrap();
    assert_eq!(short.config().context(), 8);
    let long = short.clone().with_long_context();
    assert_eq!(long.config().context(), 64);
    let error = worst(&logits(&long, &tokens), &expected);
    assert!(error < 1e-5, "{error:e}");
    assert!(worst(&logits(&short, &tokens[..8]), &logits(&long, &tokens[..8])) > 1e-3);
    // Others have one list.
    let other = load(&fixture("gemma3")).unwrap();
    let config = other.config().clone();
    assert_eq!(*other.with_long_context().config(), config);
}

#[test]
fn sizes_are_those_of_the_checkpoints() {
    for name in FAMILIES {
        let model = load(&fixture(name)).unwrap();
        assert_eq!(model.config().n_parameters(), model.num_params(), "{name}");
    }
}

#[test]
fn a_checkpoint_survives_writing_and_reading() {
    for name in FAMILIES {
        let model = load(&fixture(name)).unwrap();
        let (tokens, _) = expected(name);
        let temp = tempfile::tempdir().unwrap();
        model.save_hf(temp.path(), SaveDtype::F32).unwrap();
        let mode = |name: &str| fs::metadata(temp.path().join(name)).unwrap().permissions();
        assert_eq!(mode("model.safetensors"), mode("config.json"));
        let again = load(temp.path()).unwrap();
        assert_eq!(again.config(), model.config(), "{name}");
        assert_eq!(logits(&again, &tokens), logits(&model, &tokens), "{name}");
        // bfloat16 keeps 8 bits of each weight.
        model.save_hf(temp.path(), SaveDtype::Bf16).unwrap();
        let rounded = load(temp.path()).unwrap();
        let error = worst(&logits(&rounded, &tokens), &logits(&model, &tokens));
        assert!(error > 0.0 && error < 0.2, "{name}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let check = |change: &dyn Fn(&Path), message: &str| {
        let dir = temp.path().join("model");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::copy(fixture("qwen3").join(name), dir.join(name)).unwrap();
        }
        change(&dir);
        let error = load(&dir).unwrap_err().to_string();
        assert!(
            error.contains(message),
            "`{message}` is missing in: {error}"
        );
    };
    let config = |dir: &Path, key: &str, value: Value| {
        let path = dir.join("config.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        json[key] = value;
        fs::write(path, json.to_string()).unwrap();
    };
    let weights = |dir: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let path = dir.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    check(
        &|dir| fs::remove_file(dir.join("config.json")).unwrap(),
        "config.json",
    );
    check(
        &|dir| fs::remove_file(dir.join("model.safetensors")).unwrap(),
        "neither model.safetensors",
    );
    check(
        &|dir| config(dir, "model_type", "mamba".into()),
        "supported are llama",
    );
    check(
        &|dir| config(dir, "num_hidden_layers", 3.into()),
        "`model.layers.2.",
    );
    check(
        &|dir| config(dir, "num_hidden_layers", 1.into()),
        "unknown tensor `model.layers.1.",
    );
    check(
        &|dir| config(dir, "vocab_size", 31.into()),
        "has shape [29, 16]; the model's sizes require [31, 16]",
    );
    check(
        &|dir| weights(dir, &|bytes| bytes.truncate(bytes.len() - 5)),
        "model.safetensors",
    );
    check(
        &|dir| weights(dir, &|bytes| bytes.truncate(20)),
        "model.safetensors",
    );
    check(
        &|dir| weights(dir, &|bytes| bytes[..8].fill(255)),
        "model.safetensors",
    );
    check(
        &|dir| {
            weights(dir, &|bytes| {
                let n = bytes.len();
                bytes[n - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            });
        },
        "not finite",
    );
}
