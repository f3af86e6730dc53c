//! Sampling: what a completion depends on, what ends it, and what is kept of it.

use burn::backend::Flex;
use rpg_core::model::{CausalLm, ModelConfig, SaveDtype};
use rpg_core::score::{ScoreItem, score};
use rpg_core::tokenizer::Tokenizer;
use rpg_core::{Group, StopReason};
use rpg_rollout::generate::{GenerateError, GenerateOptions, Request, Sampler, generate};
use rpg_rollout::rollouts::{LocalRollouts, RolloutWeights, Rollouts};
use std::ops::ControlFlow;

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

/// The same with states in three of four layers.
fn hybrid() -> CausalLm<Flex> {
    let json = serde_json::json!({
        "model_type": "qwen3_5_text", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6,
        "linear_value_head_dim": 5, "max_position_embeddings": 64, "vocab_size": 29,
        "eos_token_id": EOS, "tie_word_embeddings": true,
    });
    let config = ModelConfig::from_hf_json(&json.to_string()).unwrap();
    CausalLm::init(&config, 7, &Default::default())
}

/// One letter per token.
fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(&tokenizer_json(), None).unwrap()
}

fn tokenizer_json() -> String {
    let vocab: serde_json::Map<String, serde_json::Value> = (0..29u8)
        .map(|id| (char::from(b'A' + id).to_string(), id.into()))
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false},
        "decoder": {"type": "Fuse"}, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "A"},
    });
    json.to_string()
}

fn requests() -> Vec<Request> {
    (0..5u32)
        .map(|i| {
            let prompt: Vec<u32> = (0..=i).map(|j| 3 + (i + 5 * j) % 26).collect();
            Request::new(prompt, (0..4).map(|j| u64::from(100 * i + j)))
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
    generate(model, &tokenizer(), requests, options)
}

fn options() -> GenerateOptions {
    let mut options = GenerateOptions::default();
    options.max_new_tokens = 20;
    options
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
    for model in [model(), hybrid()] {
        compare_numbers_of_slots(&model);
    }
}

fn compare_numbers_of_slots(model: &CausalLm<Flex>) {
    let sample =
        |requests: &[Request], options: &GenerateOptions| sample_from(model, requests, options);
    let expected = sample(&requests(), &options()).unwrap();
    let lengths: Vec<usize> = (expected.iter())
        .flat_map(|g| g.completions.iter().map(|c| c.tokens.len()))
        .collect();
    assert!(lengths.iter().min() < lengths.iter().max(), "{lengths:?}");
    for max_slots in [1, 3, 7] {
        let mut few = options();
        few.max_slots = max_slots;
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
fn slots_that_are_freed_together_get_their_own_prompts() {
    for model in [model(), hybrid()] {
        compare_slots_freed_together(&model);
    }
}

fn compare_slots_freed_together(model: &CausalLm<Flex>) {
    let sample =
        |requests: &[Request], options: &GenerateOptions| sample_from(model, requests, options);
    // Without an end of the text all completions that begin together end together.
    let mut one = options();
    one.max_new_tokens = 5;
    one.ignore_eos = true;
    one.max_slots = 1;
    for n_samples in 1..=4 {
        let mut requests = requests();
        for request in &mut requests {
            request.seeds.truncate(n_samples);
        }
        for order in ["growing", "shrinking"] {
            let expected = sample(&requests, &one).unwrap();
            for max_slots in 2..=9 {
                let mut options = one.clone();
                options.max_slots = max_slots;
                let name = format!("{n_samples} samples of {order} prompts in {max_slots} slots");
                let groups = sample(&requests, &options).unwrap();
                for (group, expected) in groups.iter().zip(&expected) {
                    same(&name, group, expected);
                }
            }
            requests.reverse();
        }
    }
}

#[test]
fn a_compact_model_samples_and_scores_the_same() {
    let dir = tempfile::tempdir().unwrap();
    model().save_hf(dir.path(), SaveDtype::Bf16).unwrap();
    let model = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
    let compact = model.clone().compact();
    for max_slots in [1, 20] {
        let mut options = options();
        options.max_slots = max_slots;
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
    let mut restricted = options();
    restricted.sampling.temperature = 0.7;
    restricted.sampling.top_p = 0.8;
    restricted.min_new_tokens = 6;
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
fn the_tokenizers_end_and_special_tokens_end_a_completion() {
    let special = |id: u32| {
        let content = char::from(b'A' + id as u8).to_string();
        serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let mut json: serde_json::Value = serde_json::from_str(&tokenizer_json()).unwrap();
    json["added_tokens"] = vec![special(7), special(8)].into();
    // The model's own end is token 2; the tokenizer's is H, token 7, and the caller's I, token 8.
    let settings = r#"{"eos_token": "H"}"#;
    let tokenizer = Tokenizer::from_json(&json.to_string(), Some(settings)).unwrap();
    let mut options = options();
    options.max_new_tokens = 50;
    options.stop_strings = vec!["I".into()];
    let groups = generate(&model(), &tokenizer, &requests(), &options).unwrap();
    let mut seen = Vec::new();
    for completion in groups.iter().flat_map(|group| &group.completions) {
        let (last, before) = completion.tokens.split_last().unwrap();
        assert!(before.iter().all(|token| ![EOS, 7, 8].contains(token)));
        let expected = match *last {
            EOS | 7 => StopReason::Eos,
            8 => StopReason::StopToken,
            _ => StopReason::Length,
        };
        assert_eq!(completion.stop, expected);
        seen.push(*last);
    }
    assert!(
        [EOS, 7, 8].iter().all(|token| seen.contains(token)),
        "{seen:?}"
    );
}

#[test]
fn prompts_that_cannot_be_continued_are_named() {
    let with = |prompt_tokens: Vec<u32>| {
        let mut all = requests();
        all[3].prompt_tokens = prompt_tokens.into();
        sample(&all, &options()).unwrap_err().to_string()
    };
    assert_eq!(with(vec![]), "prompt 3 is empty");
    assert!(with(vec![5; 60]).contains("prompt 3 has 60 tokens"));
    assert!(with(vec![99]).contains("token 99 is not in the model's vocabulary of 29"));
}

#[test]
fn groups_come_in_order_as_soon_as_they_are_complete() {
    let (model, tokenizer) = (model(), tokenizer());
    // Groups without samples are complete from the start.
    for empty in [&[][..], &[0], &[4], &[1, 2], &[0, 1, 2, 3, 4]] {
        let mut requests = requests();
        for &i in empty {
            requests[i].seeds.clear();
        }
        let mut options = options();
        options.max_slots = 3;
        let mut sampler = Sampler::new(&model, &tokenizer, &requests, &options).unwrap();
        let (mut groups, mut n_steps) = (Vec::new(), Vec::new());
        for step in 0.. {
            if sampler.is_done() {
                break;
            }
            for group in sampler.step().unwrap() {
                n_steps.push(step);
                groups.push(group);
            }
        }
        let all = generate(&model, &tokenizer, &requests, &options).unwrap();
        assert_eq!(groups, all, "{empty:?}");
        let order: Vec<usize> = groups.iter().map(|group| group.prompt_idx).collect();
        assert_eq!(order, [0, 1, 2, 3, 4], "{empty:?}");
        let progress = sampler.progress();
        assert_eq!(progress.n_finished, progress.n_completions, "{empty:?}");
        let completions = groups.iter().flat_map(|group| &group.completions);
        let n_tokens: usize = completions.map(|completion| completion.tokens.len()).sum();
        assert_eq!(progress.n_new_tokens, n_tokens, "{empty:?}");
        if empty.is_empty() {
            assert!(n_steps[0] < n_steps[4], "{n_steps:?}");
        }
    }
}

#[test]
fn local_rollouts_sample_the_policy_they_were_given() {
    let mut rollouts = LocalRollouts::new(tokenizer());
    let (requests, options) = (requests(), options());
    let sample = |rollouts: &mut LocalRollouts<Flex>| {
        rollouts.sample(&requests, &options, &mut |_| ControlFlow::Continue(()))
    };
    assert!(matches!(
        sample(&mut rollouts),
        Err(GenerateError::NoPolicy)
    ));
    let other = CausalLm::init(model().config(), 8, &Default::default());
    assert!(Rollouts::<Flex>::is_exact(&rollouts));
    for policy in [model(), other] {
        rollouts.sync(&policy).unwrap();
        let expected = generate(&policy, &tokenizer(), &requests, &options).unwrap();
        assert_eq!(sample(&mut rollouts).unwrap(), expected);
    }
    rollouts.release();
    assert!(matches!(
        sample(&mut rollouts),
        Err(GenerateError::NoPolicy)
    ));
}

#[test]
fn integers_sample_a_policy_near_the_one_they_are_made_from() {
    let (policy, requests) = (model(), requests());
    let mut rollouts = LocalRollouts::new(tokenizer()).with_weights(RolloutWeights::Int8);
    assert!(!Rollouts::<Flex>::is_exact(&rollouts));
    let sample = |rollouts: &mut LocalRollouts<Flex>| {
        let go_on = &mut |_| ControlFlow::Continue(());
        rollouts.sample(&requests, &options(), go_on).unwrap()
    };
    rollouts.sync(&policy).unwrap();
    let groups = sample(&mut rollouts);
    let int8 = policy.clone().int8();
    assert_eq!(groups, sample_from(&int8, &requests, &options()).unwrap());
    // Scoring is with the weights themselves.
    let mut mismatch = 0f32;
    for (request, completion) in requests.iter().zip(&groups).flat_map(|(request, group)| {
        group
            .completions
            .iter()
            .map(move |completion| (request, completion))
    }) {
        let item = ScoreItem::response(&request.prompt_tokens, &completion.tokens);
        for model in [&policy, &int8] {
            let scored = score(model, &[&item], 1.0).logprobs.into_data();
            for (scored, kept) in scored.iter::<f32>().zip(&completion.logprobs) {
                mismatch = mismatch.max((scored - kept).abs());
            }
        }
    }
    assert!((1e-4..0.1).contains(&mismatch), "{mismatch}");
    rollouts.sync_for_evaluation(&policy).unwrap();
    assert_eq!(
        sample(&mut rollouts),
        sample_from(&policy, &requests, &options()).unwrap()
    );
}

#[test]
fn a_rollout_ends_when_its_caller_wants_it_to() {
    let mut rollouts = LocalRollouts::new(tokenizer());
    rollouts.sync(&model()).unwrap();
    let mut seen = Vec::new();
    let result = rollouts.sample(&requests(), &options(), &mut |progress| {
        seen.push(progress.n_new_tokens);
        match seen.len() {
            3 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(matches!(result, Err(GenerateError::Interrupted)));
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0], 20);
}
