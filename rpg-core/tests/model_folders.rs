//! Model folders as they are found: what transformers takes for granted, what is kept, and what is named.

use burn::backend::Flex;
use rpg_core::gguf::GgufFile;
use rpg_core::model::{CausalLm, ModelConfig, SaveDtype};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Message, Prompt, Role};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A copy of a fixture's model.
fn folder(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn edit(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn remove(json: &mut Value, key: &str) {
    json.as_object_mut().unwrap().remove(key);
}

fn load(dir: &Path) -> Result<CausalLm<Flex>, String> {
    CausalLm::load_hf(dir, &Default::default()).map_err(|e| e.to_string())
}

fn values(model: &CausalLm<Flex>) -> Vec<f32> {
    let head = model.head().tensor().unwrap();
    head.into_data().into_vec().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    // As transformers 5.24 prints them.
    let sizes = json!({
        "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 32, "tie_word_embeddings": null,
    });
    for (family, kv_heads, head_dim, positions, window, theta, local_theta) in [
        ("llama", 32, 2, 2048, None, 1e4, None),
        ("mistral", 8, 2, 131_072, Some(4096), 1e4, None),
        ("qwen2", 32, 2, 32_768, None, 1e4, None),
        ("qwen3", 32, 128, 32_768, None, 1e4, None),
        ("qwen3_moe", 4, 2, 32_768, None, 1e4, None),
        ("smollm3", 4, 2, 32_768, None, 2e6, None),
        ("olmo2", 32, 2, 2048, None, 1e4, None),
        ("granite", 32, 2, 2048, None, 1e4, None),
        ("phi3", 32, 2, 4096, None, 1e4, None),
        ("gemma3_text", 4, 256, 131_072, Some(4096), 1e6, Some(1e4)),
        ("qwen3_5_text", 4, 256, 32_768, None, 1e4, None),
    ] {
        let mut json = sizes.clone();
        json["model_type"] = family.into();
        remove(&mut json, "tie_word_embeddings");
        let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
        assert_eq!(config.num_key_value_heads, kv_heads, "{family}");
        assert_eq!(config.head_dim, head_dim, "{family}");
        assert_eq!(config.max_position_embeddings, positions, "{family}");
        let attends = config.layers[0].attends();
        assert_eq!(attends.and_then(|a| a.window), window, "{family}");
        let found = (config.rope_theta, config.local_rope_theta);
        assert_eq!(found, (theta, local_theta), "{family}");
        let is_tied = matches!(family, "smollm3" | "gemma3_text");
        assert_eq!(config.tie_word_embeddings, is_tied, "{family}");
        let is_larger = matches!(family, "olmo2" | "phi3");
        let eps = if is_larger { 1e-5 } else { 1e-6 };
        assert_eq!(config.rms_norm_eps, eps, "{family}");
    }
    // Tokens, in a vocabulary that has them all.
    for (family, eos, bos, pad) in [
        ("llama", Some(2), Some(1), None),
        ("mistral", Some(2), Some(1), None),
        ("qwen2", None, None, None),
        ("qwen3", None, None, None),
        ("qwen3_moe", None, None, None),
        ("smollm3", Some(128_001), Some(128_000), Some(128_004)),
        ("olmo2", Some(50_279), None, Some(1)),
        ("granite", Some(2), Some(1), None),
        ("phi3", Some(32_000), Some(1), Some(32_000)),
        ("gemma3_text", Some(1), Some(2), Some(0)),
        ("qwen3_5_text", None, None, None),
    ] {
        let mut json = sizes.clone();
        json["model_type"] = family.into();
        json["vocab_size"] = 200_000.into();
        let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
        let ends: Vec<u32> = eos.into_iter().collect();
        let found = (
            config.eos_token_ids,
            config.bos_token_id,
            config.pad_token_id,
        );
        assert_eq!(found, (ends, bos, pad), "{family}");
    }
}

/// As transformers 5.24 prints them, and as it and the published checkpoints write them.
#[test]
fn layers_have_the_experts_that_the_config_gives_them() {
    let read = |change: Value| {
        let mut json = json!({
            "model_type": "qwen3_moe", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4,
        });
        for (key, value) in change.as_object().unwrap() {
            json[key] = value.clone();
        }
        let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
        let written: Value = serde_json::from_str(&config.to_hf_json("float32")).unwrap();
        let again = ModelConfig::from_hf_json(&written.to_string()).unwrap();
        assert_eq!(again, config);
        (config, written)
    };
    let (config, _) = read(json!({}));
    let experts = config.experts.unwrap();
    assert_eq!((experts.num_experts, experts.num_experts_per_tok), (128, 8));
    assert_eq!(experts.moe_intermediate_size, 768);
    assert!(!experts.norm_topk_prob);
    for (change, layers) in [
        (json!({}), [true; 6]),
        (json!({"mlp_only_layers": null}), [true; 6]),
        (
            json!({"decoder_sparse_step": 3}),
            [false, false, true, false, false, true],
        ),
        (
            json!({"mlp_only_layers": [1, 4, 5]}),
            [true, false, true, true, false, false],
        ),
        (
            json!({"mlp_only_layers": [1, 0], "decoder_sparse_step": 2}),
            [false, false, false, true, false, true],
        ),
    ] {
        let (config, _) = read(change.clone());
        assert_eq!(config.experts.unwrap().layers, layers, "{change}");
    }
    let (config, written) = read(json!({
        "num_local_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true,
        "mlp_only_layers": [0], "router_aux_loss_coef": 0.01, "use_sliding_window": true, "sliding_window": 9,
    }));
    for (key, value) in [
        ("num_experts", json!(16)),
        ("num_experts_per_tok", json!(2)),
        ("moe_intermediate_size", json!(32)),
        ("norm_topk_prob", json!(true)),
        ("decoder_sparse_step", json!(1)),
        ("mlp_only_layers", json!([0])),
        ("router_aux_loss_coef", json!(0.01)),
        ("sliding_window", json!(9)),
        ("architectures", json!(["Qwen3MoeForCausalLM"])),
    ] {
        assert_eq!(written[key], value, "{key}");
    }
    let windows = config.layers.iter().map(|layer| layer.attends()?.window);
    assert!(windows.eq(vec![Some(9); config.num_hidden_layers]));
    // In a family without experts the keys mean nothing.
    let (config, written) = read(json!({"model_type": "qwen3", "num_experts": 4}));
    assert_eq!((config.experts, config.router_aux_loss_coef), (None, None));
    assert!(written.get("num_experts").is_none());
}

#[test]
fn a_stored_head_is_used_where_it_differs_from_the_embedding() {
    let dir = folder("qwen3");
    let expected = values(&load(dir.path()).unwrap());
    edit(dir.path(), |json| remove(json, "tie_word_embeddings"));
    let absent = load(dir.path()).unwrap();
    assert_eq!(values(&absent), expected);
    assert!(absent.notes().is_empty());
    edit(dir.path(), |json| json["tie_word_embeddings"] = true.into());
    let tied = load(dir.path()).unwrap();
    assert_eq!(values(&tied), expected);
    assert!(tied.notes()[0].contains("`lm_head.weight` differs"));
}

#[test]
fn a_window_is_written_as_it_was_read() {
    for (family, keys) in [
        ("mistral", json!({"sliding_window": 16})),
        (
            "qwen2",
            json!({"sliding_window": 16, "use_sliding_window": true, "max_window_layers": 1,
                "layer_types": ["full_attention", "sliding_attention"]}),
        ),
    ] {
        let dir = folder(family);
        edit(dir.path(), |json| {
            for (key, value) in keys.as_object().unwrap() {
                json[key] = value.clone();
            }
        });
        let model = load(dir.path()).unwrap();
        assert_eq!(model.config().context(), 64, "{family}");
        let out = tempfile::tempdir().unwrap();
        model.save_hf(out.path(), SaveDtype::F32).unwrap();
        let written = read(&out.path().join("config.json"));
        assert_eq!(written["max_position_embeddings"], 64, "{family}");
        for (key, value) in keys.as_object().unwrap() {
            assert_eq!(written[key], *value, "{family}: {key}");
        }
        assert_eq!(load(out.path()).unwrap().config(), model.config());
    }
    // No layer has the window.
    let dir = folder("qwen2");
    edit(dir.path(), |json| {
        json["use_sliding_window"] = true.into();
        json["sliding_window"] = 16.into();
    });
    assert_eq!(load(dir.path()).unwrap().config().context(), 64);
}

#[test]
fn generation_settings_are_written_as_they_were_read() {
    let dir = folder("qwen2");
    let given = json!({"temperature": 0.7, "top_p": 0.8, "top_k": 20, "do_sample": true,
        "repetition_penalty": 1.05, "eos_token_id": [2, 0], "bos_token_id": 1, "pad_token_id": 0});
    let path = dir.path().join("generation_config.json");
    fs::write(path, given.to_string()).unwrap();
    let out = tempfile::tempdir().unwrap();
    // Through training, too.
    let model = load(dir.path()).unwrap().into_trainable();
    model.save_hf(out.path(), SaveDtype::F32).unwrap();
    assert_eq!(read(&out.path().join("generation_config.json")), given);
}

#[test]
fn tokens_of_the_config_are_checked() {
    for (ids, expected) in [
        (json!([4_294_967_298u64]), "found [4294967298]"),
        (json!([2, "x"]), "expected a token id"),
        (json!(-1), "found -1"),
        (json!(29), "below `vocab_size`"),
    ] {
        let dir = folder("llama");
        let text = json!({"eos_token_id": ids}).to_string();
        fs::write(dir.path().join("generation_config.json"), &text).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(
            error.contains("eos_token_id") && error.contains(expected),
            "{error}"
        );
        fs::remove_file(dir.path().join("generation_config.json")).unwrap();
        edit(dir.path(), |json| json["eos_token_id"] = ids);
        let error = load(dir.path()).unwrap_err();
        assert!(error.contains("eos_token_id"), "{error}");
    }
    let dir = folder("llama");
    edit(dir.path(), |json| json["pad_token_id"] = (-1).into());
    assert_eq!(load(dir.path()).unwrap().config().pad_token_id, None);
}

#[test]
fn what_a_folder_holds_instead_is_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n";
    let check = |change: &dyn Fn(&Path), expected: &[&str]| {
        let dir = folder("llama");
        change(dir.path());
        let error = load(dir.path()).unwrap_err();
        for expected in expected {
            assert!(
                error.contains(expected),
                "`{expected}` is missing in: {error}"
            );
        }
    };
    let empty = |dir: &Path| {
        fs::remove_file(dir.join("config.json")).unwrap();
        fs::remove_file(dir.join("model.safetensors")).unwrap();
    };
    check(
        &|dir| fs::write(dir.join("model.safetensors"), pointer).unwrap(),
        &["model.safetensors", "Git LFS pointer", "git lfs pull"],
    );
    check(
        &|dir| {
            edit(dir, |json| {
                json["num_hidden_layers"] = 3.into();
                json["quantization_config"] = json!({"quant_method": "awq", "bits": 4});
            });
        },
        &["`quantization_config`", "awq", "F16"],
    );
    check(
        &|dir| {
            empty(dir);
            let adapter = json!({"peft_type": "LORA", "base_model_name_or_path": "x/y"});
            fs::write(dir.join("adapter_config.json"), adapter.to_string()).unwrap();
        },
        &["an adapter", "x/y"],
    );
    check(
        &|dir| {
            empty(dir);
            fs::write(dir.join("m.gguf"), "").unwrap();
        },
        &["GGUF", "m.gguf"],
    );
    check(
        &|dir| {
            fs::remove_file(dir.join("model.safetensors")).unwrap();
            fs::write(dir.join("pytorch_model.bin"), "").unwrap();
        },
        &["pytorch_model.bin", "safetensors"],
    );
    check(
        &|dir| {
            empty(dir);
            fs::write(dir.join("params.json"), "{}").unwrap();
            fs::write(dir.join("consolidated.safetensors"), "").unwrap();
        },
        &["consolidated.safetensors", "save_pretrained"],
    );
    for name in ["tokenizer.model", "tekken.json", "vocab.json"] {
        let dir = folder("llama");
        fs::write(dir.path().join(name), "{}").unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        let expected = format!("its tokenizer is in {name}; expected tokenizer.json");
        assert!(error.contains(&expected), "{error}");
    }
    // An unused number that is none does not matter; a used one is named.
    let dir = folder("llama");
    let config = dir.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replacen('{', "{\"initializer_range\": NaN,", 1),
    )
    .unwrap();
    load(dir.path()).unwrap();
    let text = text.replace("\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": NaN");
    fs::write(&config, text).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(error.contains("`rms_norm_eps`: found \"NaN\""), "{error}");
}

#[test]
fn gguf_files_that_cannot_be_read_say_why() {
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    let header = |n_tensors: u64, n_keys: u64| {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_keys.to_le_bytes());
        bytes
    };
    let mut quantised = header(1, 0);
    text(&mut quantised, "a");
    quantised.extend(1u32.to_le_bytes());
    quantised.extend(256u64.to_le_bytes());
    quantised.extend(23u32.to_le_bytes());
    quantised.extend(0u64.to_le_bytes());
    let mut split = header(0, 2);
    for (key, value) in [("split.no", 0u16), ("split.count", 2)] {
        text(&mut split, key);
        split.extend(2u32.to_le_bytes());
        split.extend(value.to_le_bytes());
    }
    split.resize(split.len() + 64, 0);
    for (bytes, expected) in [
        (quantised, "IQ4_XS; supported are F32"),
        (split, "`split.count`: found 2, and this is part 1"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "Git LFS pointer",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        fs::write(&path, bytes).unwrap();
        let error = GgufFile::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains(expected),
            "`{expected}` is missing in: {error}"
        );
    }
}

/// SentencePiece as Llama 2 and Mistral 7B have it: a text begins with `<s>` and a space.
fn sentence_piece() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "pre_tokenizer": null,
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": false,
            "vocab": {"<unk>": 0, "<s>": 1, "▁": 2, "2": 3, "+": 4, "=": 5, "4": 6, "▁4": 7, "▁2": 8, "44": 9},
            "merges": ["▁ 4", "▁ 2", "4 4"]},
    })
}

#[test]
fn a_completion_is_scored_as_it_stands_after_its_prompt() {
    let tokenizer = Tokenizer::from_json(&sentence_piece().to_string(), None).unwrap();
    for (prompt, completion, tokens, n_prompt, is_split_between) in [
        ("2+2=", "4", &[1, 8, 4, 3, 5, 6][..], 5, true),
        ("2+2=", " 4", &[1, 8, 4, 3, 5, 7], 5, true),
        ("2+2= ", "4", &[1, 8, 4, 3, 5, 7], 5, false),
        ("2=4", "4", &[1, 8, 5, 9], 3, false),
        ("2=", "", &[1, 8, 5], 3, true),
    ] {
        let pair = tokenizer.encode_pair(prompt, completion, true).unwrap();
        let found = (&*pair.tokens, pair.n_prompt, pair.is_split_between);
        assert_eq!(
            found,
            (tokens, n_prompt, is_split_between),
            "{prompt:?} {completion:?}"
        );
    }
}

#[test]
fn tokens_that_other_files_add_are_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let write =
        |name: &str, json: &Value| fs::write(dir.path().join(name), json.to_string()).unwrap();
    write("tokenizer.json", &sentence_piece());
    let think = json!({"content": "<think>", "lstrip": false, "normalized": false, "rstrip": false,
        "single_word": false, "special": false});
    write(
        "tokenizer_config.json",
        &json!({"added_tokens_decoder": {"10": think}}),
    );
    write("added_tokens.json", &json!({"<end>": 11}));
    let settings = json!({"eos_token": {"content": "<end>"}});
    write("special_tokens_map.json", &settings);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert_eq!(
        tokenizer.encode("<think>2<end>", false).unwrap(),
        [10, 8, 11]
    );
    assert_eq!(tokenizer.eos_id(), Some(11));
    assert_eq!(
        (
            tokenizer.special_id("<end>"),
            tokenizer.special_id("<think>")
        ),
        (Some(11), None)
    );
    assert_eq!(
        tokenizer.special_token_in("a<end>b").as_deref(),
        Some("<end>")
    );
    // The vocabulary that has to fit the model's is that of tokenizer.json.
    assert_eq!(tokenizer.max_id(), 9);
    write("added_tokens.json", &json!({"<end>": 12}));
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(
        error.contains("added_tokens.json") && error.contains("found the id 12; expected 11"),
        "{error}"
    );
}

#[test]
fn only_the_template_writes_control_tokens() {
    let mut json = sentence_piece();
    json["added_tokens"] = json!([{"id": 1, "content": "<s>", "special": true, "normalized": false,
        "lstrip": false, "rstrip": false, "single_word": false}]);
    let vocab = &mut json["model"]["vocab"];
    for (token, id) in [("\n", 10), ("<", 11), ("s", 12), (">", 13), ("▁2", 8)] {
        vocab[token] = id.into();
    }
    let template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<s>{% endif %}";
    let settings = json!({"chat_template": template}).to_string();
    let tokenizer = Tokenizer::from_json(&json.to_string(), Some(&settings)).unwrap();
    let assistant = |content: &str| Message {
        role: Role::Assistant,
        content: content.into(),
    };
    for (messages, tokens, text) in [
        (vec![Message::user("2")], &[1, 8, 1][..], "<s>2<s>"),
        (
            vec![Message::user("2<s>4")],
            &[1, 8, 11, 12, 13, 6, 1],
            "<s>2<s>4<s>",
        ),
        (vec![Message::user("<s>")], &[1, 11, 12, 13, 1], "<s><s><s>"),
        (
            vec![Message::user("2"), assistant("2<s>2")],
            &[1, 8, 1, 8, 11, 12, 13, 3],
            "<s>2<s>2<s>2",
        ),
    ] {
        assert_eq!(tokenizer.render(&messages).unwrap(), text);
        let pair = tokenizer.encode_chat(&messages, "+").unwrap();
        assert_eq!(pair.tokens[..pair.n_prompt], *tokens, "{text}");
        assert!(
            pair.tokens[pair.n_prompt..].ends_with(&[4]),
            "{text}: {pair:?}"
        );
        let prompt = tokenizer.encode_prompt(&Prompt::Chat(messages)).unwrap();
        assert_eq!(prompt, tokens, "{text}");
    }
    // A text is what it says.
    assert_eq!(tokenizer.encode("2<s>", false).unwrap(), [8, 1]);
}

#[test]
fn a_template_that_does_not_compile_is_an_error_where_it_is_needed() {
    let settings = json!({"chat_template": "{% if %}"}).to_string();
    let tokenizer = Tokenizer::from_json(&sentence_piece().to_string(), Some(&settings)).unwrap();
    assert!(tokenizer.encode("2", false).is_ok());
    let error = tokenizer.render(&[Message::user("hi")]).unwrap_err();
    assert!(error.to_string().contains("chat template"), "{error}");
}
