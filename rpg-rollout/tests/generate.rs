//! Sampling: what a completion depends on, what ends it, and what is kept of it.

use burn::backend::Flex;
use rpg_core::model::{CausalLm, ModelConfig, SaveDtype};
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Group, StopReason};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request, generate};
use rpg_rollout::sampling::SamplingParams;

const EOS: u32 = 2;

/// Random weights in the shape of Qwen3: every token is about equally likely.
fn model() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "vocab_size": 29, "eos_token_id": EOS,
        "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 7, &Default::default())
}

/// One letter per token.
fn tokenizer() -> Tokenizer {
    let vocab: serde_json::Map<String, serde_json::Value> = (0..29u8)
        .map(|id| (char::from(b'A' + id).to_string(), id.into()))
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"}, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "A"},
    });
    Tokenizer::from_json(&json.to_string(), None).unwrap()
}

fn requests() -> Vec<Request> {
    (0..5u32)
        .map(|i| Request {
            prompt_tokens: (0..=i).map(|j| 3 + (i + 5 * j) % 26).collect(),
            seeds: (0..4).map(|j| u64::from(100 * i + j)).collect(),
        })
        .collect()
}

fn sample(requests: &[Request], options: &GenerateOptions) -> Result<Vec<Group>, GenerateError> {
    sample_from(&model(), requests, options)
}

fn sample_from(
    model: &CausalLm<Flex>,
    requests: &[Request],
    options: &GenerateOptions,
) -> Result<Vec<Group>, GenerateError> {
    let mut groups = Vec::new();
    generate(
        model,
        &tokenizer(),
        requests,
        options,
        |group| groups.push(group),
        |_| true,
    )?;
    Ok(groups)
}

fn options() -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: 20,
        ..Default::default()
    }
}

/// The same tokens; log-probs to what the order of additions in a batch's products leaves.
fn same(name: &str, a: &Group, b: &Group) {
    assert_eq!(a.completions.len(), b.completions.len());
    for (a, b) in a.completions.iter().zip(&b.completions) {
        assert_eq!(
            (&a.tokens, &a.text, a.stop),
            (&b.tokens, &b.text, b.stop),
            "{name}"
        );
        for (a, b) in a.logprobs.iter().zip(&b.logprobs) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn a_completion_depends_on_its_prompt_and_seed_alone() {
    let expected = sample(&requests(), &options()).unwrap();
    let lengths: Vec<usize> = (expected.iter())
        .flat_map(|g| g.completions.iter().map(|c| c.tokens.len()))
        .collect();
    assert!(lengths.iter().min() < lengths.iter().max(), "{lengths:?}");
    for max_slots in [1, 3, 7] {
        let few = GenerateOptions {
            max_slots,
            ..options()
        };
        let name = format!("{max_slots} slots");
        for (group, expected) in sample(&requests(), &few).unwrap().iter().zip(&expected) {
            same(&name, group, expected);
        }
    }
    let mut reversed = requests();
    reversed.reverse();
    let groups = sample(&reversed, &options()).unwrap();
    for (group, expected) in groups.iter().rev().zip(&expected) {
        same("reversed", group, expected);
    }
}

#[test]
fn a_compact_model_samples_and_scores_the_same() {
    let dir = tempfile::tempdir().unwrap();
    model().save_hf(dir.path(), SaveDtype::Bf16).unwrap();
    let model = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
    let compact = model.clone().compact();
    for max_slots in [1, 20] {
        let options = GenerateOptions {
            max_slots,
            ..options()
        };
        let expected = sample_from(&model, &requests(), &options).unwrap();
        let groups = sample_from(&compact, &requests(), &options).unwrap();
        for (group, expected) in groups.iter().zip(&expected) {
            same("compact", group, expected);
            let item = ScoreItem::response(&group.prompt_tokens, &group.completions[0].tokens);
            let scores = score(&compact, &[item], 1.0);
            let scored: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
            for (a, b) in scored.iter().zip(&expected.completions[0].logprobs) {
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }
}

#[test]
fn what_is_kept_is_what_the_scorer_says() {
    // Whatever restricts the draw, log-probs are those of the full distribution at the temperature.
    let sampling = SamplingParams {
        temperature: 0.7,
        top_p: 0.8,
        ..Default::default()
    };
    let restricted = GenerateOptions {
        sampling,
        min_new_tokens: 6,
        ..options()
    };
    let model = model();
    for group in sample(&requests(), &restricted).unwrap() {
        for completion in &group.completions {
            let item = ScoreItem::response(&group.prompt_tokens, &completion.tokens);
            let scores = score(&model, &[item], 0.7);
            let scored: Vec<f32> = scores.logprobs.into_data().iter::<f32>().collect();
            assert_eq!(scored.len(), completion.logprobs.len());
            for (a, b) in scored.iter().zip(&completion.logprobs) {
                assert!((a - b).abs() < 1e-5, "{a} and {b}");
            }
        }
    }
}

#[test]
fn what_ends_a_completion() {
    let check = |change: &dyn Fn(&mut GenerateOptions),
                 right: &dyn Fn(&[u32], StopReason) -> bool| {
        let mut options = options();
        change(&mut options);
        let groups = sample(&requests(), &options).unwrap();
        let all = groups.iter().flat_map(|group| &group.completions);
        let mut reasons = Vec::new();
        for completion in all {
            assert!(
                right(&completion.tokens, completion.stop),
                "{:?}: {:?}",
                completion.tokens,
                completion.stop
            );
            reasons.push(completion.stop);
        }
        reasons
    };
    let ends_with_eos = |tokens: &[u32]| tokens.last() == Some(&EOS);
    let reasons = check(&|_| (), &|tokens, stop| match stop {
        StopReason::Eos => ends_with_eos(tokens) && tokens.len() <= 20,
        StopReason::Length => tokens.len() == 20,
        _ => false,
    });
    assert!(reasons.contains(&StopReason::Eos) && reasons.contains(&StopReason::Length));
    check(&|o| o.min_new_tokens = 10, &|tokens, stop| match stop {
        StopReason::Eos => tokens.len() > 10 && !tokens[..10].contains(&EOS),
        _ => tokens.len() == 20,
    });
    let reasons = check(&|o| o.ignore_eos = true, &|tokens, stop| {
        tokens.len() == 20 && stop == StopReason::Length
    });
    assert_eq!(reasons.len(), 20);
    let reasons = check(&|o| o.stop_token_ids = vec![7, 8], &|tokens, stop| {
        let is_stop = |token: &u32| [7, 8].contains(token);
        let (last, before) = tokens.split_last().unwrap();
        !before.iter().any(is_stop) && (stop == StopReason::StopToken) == is_stop(last)
    });
    assert!(reasons.contains(&StopReason::StopToken));
    let reasons = check(&|o| o.stop_strings = vec!["K".into()], &|tokens, stop| {
        let (last, before) = tokens.split_last().unwrap();
        !before.contains(&10) && (stop == StopReason::StopString) == (*last == 10)
    });
    assert!(reasons.contains(&StopReason::StopString));
}

#[test]
fn prompts_that_cannot_be_continued_are_named() {
    let with = |prompt_tokens: Vec<u32>| {
        let mut all = requests();
        all[3].prompt_tokens = prompt_tokens;
        sample(&all, &options()).unwrap_err().to_string()
    };
    assert_eq!(with(vec![]), "prompt 3 is empty");
    assert!(with(vec![5; 60]).contains("prompt 3 has 60 tokens"));
    assert!(with(vec![99]).contains("token 99 is not in the model's vocabulary of 29"));
}
