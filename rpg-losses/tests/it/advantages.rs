//! Advantages worked out by hand.

use rpg_losses::{
    AdvantageKind, Advantages, Kind, Level, ObjectiveConfig, TokenLogProbs, advantages,
    advantages_with_lengths, step_advantages, token_advantages,
};

fn assert_close(name: &str, actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (a, b) in actual.iter().zip(expected) {
        // Exactly 0 where 0 is claimed.
        assert!(
            (a - b).abs() <= 1e-12 * b.abs(),
            "{name}: {actual:?} is not {expected:?}"
        );
    }
}

#[test]
fn per_response() {
    use AdvantageKind::{BatchMean, BatchNorm, GroupMean, GroupNorm, LeaveOneOut};
    // Groups interleaved: {1, 0, 2}, {0.1 three times}, {5 alone}.
    let rewards = [1.0, 0.1, 0.0, 0.1, 5.0, 2.0, 0.1];
    let groups = [3, 0, 3, 0, 9, 3, 0];
    let check = |kind, expected: [f64; 7]| {
        assert_close(
            &format!("{kind}"),
            &advantages(kind, &rewards, &groups),
            &expected,
        );
    };
    check(GroupMean, [0.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0]);
    // The deviation of {1, 0, 2} is 1.
    let n = 1.0 + 1e-6;
    check(GroupNorm, [0.0, 0.0, -1.0 / n, 0.0, 0.0, 1.0 / n, 0.0]);
    // 1 - (0+2)/2, 0 - (1+2)/2, 2 - (1+0)/2.
    check(LeaveOneOut, [0.0, 0.0, -1.5, 0.0, 0.0, 1.5, 0.0]);
    let mean = 8.3 / 7.0;
    check(BatchMean, rewards.map(|r| r - mean));
    let variance = rewards.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / 6.0;
    check(
        BatchNorm,
        rewards.map(|r| (r - mean) / (variance.sqrt() + 1e-8)),
    );

    for kind in AdvantageKind::ALL {
        assert_eq!(advantages(*kind, &[], &[]), [0.0; 0], "{kind}");
        assert_eq!(advantages(*kind, &[4.2], &[1]), [0.0], "{kind}");
        // 0.1 has no exact sum: rounding must not show.
        assert_eq!(advantages(*kind, &[0.1; 6], &[0; 6]), [0.0; 6], "{kind}");
    }
    // Tiny differences: the epsilons matter, and differ.
    let rewards = [0.0, 1e-6];
    let std = 1e-6 / 2.0_f64.sqrt();
    assert_close(
        "group_norm",
        &advantages(GroupNorm, &rewards, &[0, 0]),
        &[-5e-7 / (std + 1e-6), 5e-7 / (std + 1e-6)],
    );
    assert_close(
        "batch_norm",
        &advantages(BatchNorm, &rewards, &[]),
        &[-5e-7 / (std + 1e-8), 5e-7 / (std + 1e-8)],
    );
    // Their squares are no longer floats.
    for kind in [GroupNorm, BatchNorm] {
        let half = 0.5_f64.sqrt();
        let actual = advantages(kind, &[1e200, -1e200], &[0, 0]);
        assert_close("large", &actual, &[half, -half]);
    }
}

#[test]
fn opo_weights_by_length_and_maxrl_divides_by_the_mean() {
    use AdvantageKind::{MaxRl, Opo};
    let (rewards, groups) = ([1.0, 0.0, 0.5, 3.0], [0, 0, 0, 1]);
    // (1*4 + 0*1 + 0.5*0)/5, and a group of one.
    let actual = advantages_with_lengths(Opo, &rewards, &groups, &[4, 1, 0, 7]);
    let close = |actual: &[f64], expected: &[f64]| {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12;
        assert!(actual.iter().zip(expected).all(near), "{actual:?}");
    };
    close(&actual, &[0.2, -0.8, -0.3, 0.0]);
    close(&advantages(Opo, &rewards, &groups), &[0.5, -0.5, 0.0, 0.0]);
    let empty = advantages_with_lengths(Opo, &rewards, &groups, &[0; 4]);
    close(&empty, &[0.5, -0.5, 0.0, 0.0]);
    // The lengths of a step are those of its mask.
    let mut config = ObjectiveConfig::default();
    config.advantage = Opo;
    let mask = [vec![true, true, true], vec![true, false, false]];
    let actual = step_advantages(&config, &[1.0, 0.0], &[0, 0], &mask, None);
    assert_eq!(actual, Advantages::PerResponse(vec![0.25, -0.75]));

    close(
        &advantages(MaxRl, &rewards, &groups),
        &[1.0, -1.0, 0.0, 0.0],
    );
    close(
        &advantages(MaxRl, &[1.0, 0.0, 0.0, 0.0], &[5; 4]),
        &[3.0, -1.0, -1.0, -1.0],
    );
    assert_eq!(advantages(MaxRl, &[0.0, -1.0], &[5; 2]), [0.0; 2]);
}

#[test]
#[should_panic(expected = "2 rewards, but 1 group ids")]
fn group_ids_must_fit_the_rewards() {
    advantages(AdvantageKind::GroupMean, &[1.0, 2.0], &[0]);
}

#[test]
#[should_panic(expected = "2 rewards, but 1 rows in the mask")]
fn the_mask_must_fit_the_rewards() {
    step_advantages(
        &ObjectiveConfig::default(),
        &[1.0, 2.0],
        &[0, 0],
        &[vec![true]],
        None,
    );
}

#[test]
fn reinforce_pp_baseline_whitens_group_means_over_tokens() {
    let config = ObjectiveConfig::for_kind(Kind::ReinforcePpBaseline);
    let mask = [
        vec![true, false],
        vec![true, true],
        vec![false, true],
        vec![true, true],
    ];
    let rewards = [1.0, 3.0, 0.0, 6.0];
    // Group means leave -1, 1, -3, 3, over tokens -1, 1, 1, -3, 3, 3: mean 2/3.
    let tokens = [-1.0, 1.0, 1.0, -3.0, 3.0, 3.0].map(|a: f64| (a - 2.0 / 3.0).powi(2));
    let divisor = (tokens.iter().sum::<f64>() / 5.0 + 1e-8).sqrt();
    let expected = [-1.0, 1.0, -3.0, 3.0].map(|a| (a - 2.0 / 3.0) / divisor);
    let groups = [0, 0, 1, 1];
    let actual = step_advantages(&config, &rewards, &groups, &mask, None);
    let Advantages::PerResponse(actual) = actual else {
        panic!("{actual:?}")
    };
    let close = |actual: &[f64], expected: &[f64]| {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-12;
        assert!(actual.iter().zip(expected).all(near), "{actual:?}");
    };
    close(&actual, &expected);
    let tokens = token_advantages(&config, &rewards, &groups, &mask, None);
    let [a, b, c, d] = expected;
    close(&tokens.concat(), &[a, 0.0, b, b, 0.0, c, d, d]);

    // All equal: nothing to whiten, and nothing to divide by.
    let equal = token_advantages(&config, &[0.1; 4], &groups, &mask, None);
    assert_eq!(equal.concat(), [0.0; 8]);
}

#[test]
fn reinforce_pp_normalizes_rewards_to_go() {
    let mask = [
        vec![true, true, false],
        vec![false, true, true],
        vec![false, false, false],
    ];
    let logp_old = vec![vec![-1.0, -2.0, 9.0], vec![9.0, -0.5, -1.0], vec![9.0; 3]];
    let logp_ref = vec![vec![-1.5, -1.0, 7.0], vec![7.0, -0.75, -2.0], vec![7.0; 3]];
    let log_probs = TokenLogProbs {
        logp_old: &logp_old,
        logp_ref: &logp_ref,
    };
    let rewards = [1.0, -1.0, 4.0];
    let mut config = ObjectiveConfig::for_kind(Kind::ReinforcePp);
    config.beta = 0.5;
    config.advantage = AdvantageKind::BatchMean;
    // Penalties -0.5*(lp_old - lp_ref): -0.25, 0.5 | -0.125, -0.5.
    let returns = [1.0 - 0.25 + 0.5, 1.0 + 0.5, -1.0 - 0.125 - 0.5, -1.0 - 0.5];
    let mean = returns.iter().sum::<f64>() / 4.0;
    let [a, b, c, d] = returns.map(|g| g - mean);
    let expected = [a, b, 0.0, 0.0, c, d, 0.0, 0.0, 0.0];
    let tokens = |config: &ObjectiveConfig, log_probs| {
        token_advantages(config, &rewards, &[], &mask, log_probs).concat()
    };
    assert_close("mean", &tokens(&config, Some(log_probs)), &expected);

    config.advantage = AdvantageKind::BatchNorm;
    let variance = [a, b, c, d].iter().map(|x| x * x).sum::<f64>() / 3.0;
    let expected = expected.map(|x| x / (variance.sqrt() + 1e-8));
    assert_close("norm", &tokens(&config, Some(log_probs)), &expected);

    // Without reference no penalty: 1, 1, -1, -1 over four tokens.
    let scale = 1.0 / ((4.0_f64 / 3.0).sqrt() + 1e-8);
    let expected = [1.0, 1.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0].map(|x| x * scale);
    assert_close("no reference", &tokens(&config, None), &expected);

    // One return per response, the empty one included.
    config.advantage = AdvantageKind::BatchMean;
    for level in [Level::Sequence, Level::SequenceNorm] {
        config.level = level;
        let returns = [1.25, -1.625, 4.0];
        let mean = returns.iter().sum::<f64>() / 3.0;
        let actual = step_advantages(&config, &rewards, &[], &mask, Some(log_probs));
        let Advantages::PerResponse(actual) = actual else {
            panic!("{actual:?}")
        };
        assert_close("response", &actual, &returns.map(|g| g - mean));
    }
}

#[test]
fn masked_tokens_get_no_advantage() {
    let mask = [vec![true, false], vec![false, true]];
    let per_token = Advantages::PerToken(vec![vec![1.0, f64::NAN], vec![2.0, 3.0]]);
    assert_eq!(per_token.into_tokens(&mask), [[1.0, 0.0], [0.0, 3.0]]);
    let per_response = Advantages::PerResponse(vec![5.0, 6.0]);
    assert_eq!(per_response.into_tokens(&mask), [[5.0, 0.0], [0.0, 6.0]]);
}
