//! Damaged and malicious model folders: an error or a model, never a panic or unbounded memory.

use burn::backend::Flex;
use proptest::prelude::*;
use rpg_core::model::{CausalLm, LoadError, ModelConfig};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Loads the fixture with other weights and config; the error if there is one.
fn load(weights: &[u8], config: &str) -> Option<LoadError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), weights).unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).err()
}

fn intact() -> (Vec<u8>, String) {
    intact_of("qwen3")
}

fn intact_of(name: &str) -> (Vec<u8>, String) {
    let dir = fixture(name);
    let weights = fs::read(dir.join("model.safetensors")).unwrap();
    (
        weights,
        fs::read_to_string(dir.join("config.json")).unwrap(),
    )
}

#[test]
fn headers_that_promise_more_than_the_file_holds_are_refused() {
    let (weights, config) = intact();
    assert!(load(&weights, &config).is_none());
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for length in [0u64, 1, weights.len() as u64, u64::MAX, 1 << 40] {
        let mut damaged = weights.clone();
        damaged[..8].copy_from_slice(&length.to_le_bytes());
        let error = load(&damaged, &config).unwrap().to_string();
        assert!(error.contains("model.safetensors: not a usable"), "{error}");
    }
    for end in [0, 4, 8, header, header + 8, weights.len() - 1] {
        assert!(load(&weights[..end], &config).is_some(), "cut at {end}");
    }
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let (mut weights, config) = intact();
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = load(&weights, &config).unwrap().to_string();
    assert!(
        error.contains("holds a value that is not finite"),
        "{error}"
    );
}

#[test]
fn sizes_without_bound_are_refused() {
    let (weights, config) = intact();
    for (key, value) in [
        ("vocab_size", "268435456"),
        ("hidden_size", "268435456"),
        ("intermediate_size", "268435456"),
        ("num_hidden_layers", "268435456"),
        ("max_position_embeddings", "268435456"),
        ("vocab_size", "18446744073709551615"),
    ] {
        let error = load(&weights, &with(&config, key, value))
            .unwrap()
            .to_string();
        assert!(
            error.contains("model.") || error.contains(key),
            "{key}: {error}"
        );
    }
}

/// The config with another value of a key, given as JSON.
fn with(config: &str, key: &str, value: &str) -> String {
    let mut json: serde_json::Value = serde_json::from_str(config).unwrap();
    json[key] = serde_json::from_str(value).unwrap();
    json.to_string()
}

/// Fixtures and the keys of their configs.
fn config_keys() -> Vec<(&'static str, String)> {
    let of = |name| {
        let json: serde_json::Value = serde_json::from_str(&intact_of(name).1).unwrap();
        let keys: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
        keys.into_iter().map(move |key| (name, key))
    };
    ["qwen3", "qwen35", "qwen35_published"]
        .into_iter()
        .flat_map(of)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_headers_never_panic(
        changes in prop::collection::vec((0usize..3000, any::<u8>()), 1..6),
        end in 0usize..40_000,
    ) {
        let (mut weights, config) = intact();
        weights.truncate(end.max(1));
        for (at, byte) in changes {
            let at = at % weights.len();
            weights[at] = byte;
        }
        // Whatever comes out.
        load(&weights, &config);
    }

    #[test]
    fn configs_with_any_value_never_panic(
        (name, key) in prop::sample::select(config_keys()),
        value in prop::sample::select(vec![
            "null", "true", "-1", "0", "1", "2", "3", "7", "64", "1e308", "1e-320", "\"text\"", "[]", "[1, -2]",
            "{}", "65536", "4294967296", "268435456", "{\"rope_type\": \"llama3\"}",
        ]),
    ) {
        let (weights, config) = intact_of(name);
        let config = with(&config, &key, value);
        load(&weights, &config);
        // What is read is also written.
        if let Ok(config) = ModelConfig::from_hf_json(&config) {
            prop_assert!(ModelConfig::from_hf_json(&config.to_hf_json("float32")).is_ok());
        }
    }
}
