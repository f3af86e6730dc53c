//! Defaults, reading and writing of objectives.

use crate::common::OF_TOKENS;
use rpg_losses::{
    AdvantageKind, Aggregation, Clip, Divergence, Estimator, Kind, Level, ObjectiveConfig,
    ObjectiveError,
};

#[test]
fn defaults_are_those_of_the_documentation() {
    let mut checked = Vec::new();
    let mut check =
        |kind: Kind, level: Level, advantage: AdvantageKind, aggregation: Aggregation| {
            checked.push(kind);
            let text = format!("kind = \"{kind}\"");
            let config: ObjectiveConfig = toml::from_str(&text).unwrap();
            assert_eq!(config, ObjectiveConfig::for_kind(kind));
            let json = format!("{{\"kind\": \"{kind}\"}}");
            assert_eq!(config, serde_json::from_str(&json).unwrap());
            let row = (config.level, config.advantage, config.aggregation);
            assert_eq!(row, (level, advantage, aggregation), "{kind}");
            if kind != Kind::Rpg {
                let (low, high, c) = match kind {
                    Kind::Dapo => (0.2, 0.28, Some(3.0)),
                    Kind::Gspo => (3e-4, 4e-4, None),
                    Kind::Cispo => (1.0, 0.2, None),
                    Kind::GspoToken => (3e-4, 4e-4, None),
                    Kind::DppoTv => (0.15, 0.15, None),
                    Kind::DppoKl => (0.05, 0.05, None),
                    Kind::Gmpo => (0.4, 0.4, None),
                    _ => (0.2, 0.2, None),
                };
                let numbers = [config.beta, config.eps_low, config.eps_high, config.z];
                assert_eq!(numbers, [0.0, low, high, 1.0], "{kind}");
                assert_eq!(config.c, c, "{kind}");
                let form = (config.kl, config.estimator, config.clip);
                let expected = (Divergence::None, Estimator::Differentiable, Clip::None);
                assert_eq!(form, expected, "{kind}");
            }
            assert_eq!([config.tau_pos, config.tau_neg], [1.0, 1.05], "{kind}");
            assert_eq!((config.max_length, config.sequence_mask), (None, None));
            assert!(config.kl_in_clip);
            assert_eq!(config.warnings(), [""; 0], "{kind}");
        };
    use AdvantageKind::{BatchNorm, GroupMean, GroupNorm, LeaveOneOut};
    use Aggregation::{Constant, SeqMean, SeqMeanTokenMean, SeqMeanTokenSum, TokenMean};
    check(Kind::Rpg, Level::Token, GroupMean, TokenMean);
    check(Kind::Ppo, Level::Token, GroupMean, TokenMean);
    check(Kind::Grpo, Level::Token, GroupNorm, SeqMeanTokenMean);
    check(
        Kind::GrpoCorrected,
        Level::Token,
        GroupNorm,
        SeqMeanTokenMean,
    );
    check(Kind::DrGrpo, Level::Token, GroupMean, Constant);
    check(Kind::Dapo, Level::Token, GroupNorm, TokenMean);
    check(Kind::ReinforcePp, Level::Token, BatchNorm, TokenMean);
    check(
        Kind::ReinforcePpBaseline,
        Level::Token,
        GroupMean,
        TokenMean,
    );
    check(Kind::Rloo, Level::Token, LeaveOneOut, SeqMeanTokenSum);
    check(Kind::Gspo, Level::SequenceNorm, GroupNorm, SeqMean);
    check(Kind::GspoToken, Level::Token, GroupNorm, SeqMeanTokenMean);
    check(Kind::Cispo, Level::Token, GroupNorm, TokenMean);
    check(Kind::Sapo, Level::Token, GroupNorm, SeqMeanTokenMean);
    check(Kind::DppoTv, Level::Token, GroupMean, Constant);
    check(Kind::DppoKl, Level::Token, GroupMean, Constant);
    check(Kind::Gmpo, Level::Token, GroupNorm, SeqMeanTokenMean);
    assert_eq!(checked, Kind::ALL);

    let rpg = ObjectiveConfig::default();
    assert_eq!(
        (rpg.kl, rpg.estimator, rpg.clip),
        (Divergence::Urkl, Estimator::Reinforce, Clip::Rpg)
    );
    assert_eq!(
        [rpg.beta, rpg.eps_low, rpg.eps_high, rpg.z],
        [1e-4, 0.2, 0.28, 1.0]
    );
    assert_eq!(rpg.c, Some(10.0));
    // The other levels bring their aggregation with them.
    for kind in Kind::ALL {
        for level in ["sequence", "sequence_norm"] {
            let text = format!("kind = \"{kind}\"\nlevel = \"{level}\"");
            let config = toml::from_str::<ObjectiveConfig>(&text);
            if OF_TOKENS.contains(kind) {
                let message = format!(
                    "`level` is \"{level}\", which does not go with `kind` \"{kind}\": use \"token\""
                );
                let error = config.unwrap_err().to_string();
                assert!(error.contains(&message), "{error}");
                continue;
            }
            let config = config.unwrap();
            assert_eq!(config.aggregation, SeqMean, "{text}");
        }
    }
}

#[test]
fn names_are_those_of_the_documentation() {
    fn names<T: Copy + serde::Serialize>(values: &[T], name: fn(T) -> &'static str) -> String {
        let serde_names = values.iter().map(|v| serde_json::to_value(v).unwrap());
        let serde_names: Vec<String> = serde_names.map(|v| v.as_str().unwrap().into()).collect();
        let own_names: Vec<&str> = values.iter().map(|v| name(*v)).collect();
        assert_eq!(serde_names, own_names);
        own_names.join(" ")
    }
    assert_eq!(
        names(Kind::ALL, Kind::name),
        "rpg ppo grpo grpo_corrected dr_grpo dapo reinforce_pp reinforce_pp_baseline rloo gspo gspo_token cispo \
         sapo dppo_tv dppo_kl gmpo"
    );
    assert_eq!(
        names(Divergence::ALL, Divergence::name),
        "none fkl rkl ufkl urkl skl uskl"
    );
    assert_eq!(
        names(Estimator::ALL, Estimator::name),
        "differentiable reinforce"
    );
    assert_eq!(names(Clip::ALL, Clip::name), "none dual rpg hard truncated");
    assert_eq!(
        names(Level::ALL, Level::name),
        "token sequence sequence_norm"
    );
    assert_eq!(
        names(Aggregation::ALL, Aggregation::name),
        "token_mean seq_mean_token_sum seq_mean_token_mean constant seq_mean"
    );
    assert_eq!(
        names(AdvantageKind::ALL, AdvantageKind::name),
        "group_mean group_norm leave_one_out opo maxrl batch_mean batch_norm"
    );
    assert_eq!(Kind::GrpoCorrected.to_string(), "grpo_corrected");
}

#[test]
fn a_written_config_is_read_back_unchanged() {
    for kind in Kind::ALL {
        for max_length in [None, Some(77)] {
            let mut config = ObjectiveConfig::for_kind(*kind);
            config.beta = 0.125;
            config.eps_low = 0.1;
            config.max_length = max_length;
            config.sequence_mask = max_length.map(|n| n as f64);
            let text = toml::to_string(&config).unwrap();
            assert_eq!(config, toml::from_str(&text).unwrap(), "{text}");
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(config, serde_json::from_str(&text).unwrap(), "{text}");
        }
    }
}

#[test]
fn errors_in_a_file_name_the_key() {
    let check = |text: &str, expected: &str| {
        let error = toml::from_str::<ObjectiveConfig>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{text}: {error}");
    };
    check("", "missing field `kind`");
    check("kind = \"rpg\"\nclipp = 1", "unknown field `clipp`");
    check(
        "kind = \"rpg\"\nbeta = nan",
        "`beta` is NaN, but must be a finite number, at least 0",
    );
    check("kind = \"rpg\"\nbeta = inf", "`beta` is inf");
    check("kind = \"rpg\"\neps_high = inf", "`eps_high` is inf");
    check("kind = \"rpg\"\nc = inf", "`c` is inf");
    check(
        "kind = \"sapo\"\ntau_pos = 0",
        "`tau_pos` is 0, but must be a finite number greater than 0",
    );
    check("kind = \"sapo\"\ntau_neg = -1.5", "`tau_neg` is -1.5, but");
    check(
        "kind = \"ppo\"\nsequence_mask = -0.1",
        "`sequence_mask` is -0.1, but must be a finite number, at least 0",
    );
    check(
        "kind = \"rpg\"\nz = -1",
        "`z` is -1, but must be a finite number greater than 0",
    );
    check(
        "kind = \"rpg\"\nclip = \"dual\"",
        "does not go with `estimator` \"reinforce\"",
    );
    check(
        "kind = \"rpg\"\nestimator = \"differentiable\"\nclip = \"hard\"",
        "does not go with",
    );
    // Bounds that are just allowed.
    for text in [
        "beta = 0",
        "eps_low = 0",
        "eps_low = 1",
        "eps_high = 0",
        "max_length = 1",
    ] {
        toml::from_str::<ObjectiveConfig>(&format!("kind = \"rpg\"\n{text}")).expect(text);
    }
}

#[test]
fn a_config_made_in_code_is_checked_by_validate() {
    let check = |change: fn(&mut ObjectiveConfig), key: &str| {
        let mut config = ObjectiveConfig::default();
        change(&mut config);
        match config.validate().unwrap_err() {
            ObjectiveError::Value { key: found, .. }
            | ObjectiveError::Conflict { key: found, .. } => assert_eq!(found, key),
            other => panic!("{other}"),
        }
    };
    ObjectiveConfig::default().validate().unwrap();
    check(|config| config.beta = f64::NAN, "beta");
    check(|config| config.eps_low = -0.1, "eps_low");
    check(|config| config.c = Some(0.5), "c");
    check(|config| config.max_length = Some(0), "max_length");
    check(|config| config.level = Level::Sequence, "aggregation");
    check(
        |config| config.aggregation = Aggregation::SeqMean,
        "aggregation",
    );
    check(|config| config.clip = Clip::Dual, "clip");
}

#[test]
fn the_hint_names_the_aggregations_of_the_level() {
    for (text, hint) in [
        (
            "level = \"sequence\"\naggregation = \"token_mean\"",
            "use \"seq_mean\"",
        ),
        (
            "level = \"token\"\naggregation = \"seq_mean\"",
            "use \"token_mean\", ",
        ),
    ] {
        let text = format!("kind = \"rpg\"\n{text}");
        let error = toml::from_str::<ObjectiveConfig>(&text).unwrap_err();
        assert!(error.message().contains(hint), "{error}");
    }
}

#[test]
fn warnings_name_changed_keys_that_nothing_reads() {
    let check = |text: &str, expected: &[&str]| {
        let config: ObjectiveConfig = toml::from_str(text).unwrap();
        let warnings = config.warnings();
        let keys: Vec<&str> = warnings
            .iter()
            .map(|warning| warning.split('`').nth(1).unwrap())
            .collect();
        assert_eq!(keys, expected, "{text}: {warnings:?}");
    };
    check("kind = \"rpg\"\nkl = \"rkl\"\nz = 1.0", &[]);
    check("kind = \"rpg\"\nkl = \"rkl\"\nz = 2.0", &["z"]);
    check("kind = \"rpg\"\nkl = \"none\"\nbeta = 1", &["beta"]);
    check(
        "kind = \"rpg\"\nclip = \"none\"\neps_low = 0.1\neps_high = 0.1\nc = 2",
        &["eps_low", "eps_high", "c"],
    );
    check(
        "kind = \"rpg\"\nclip = \"hard\"\nc = 2\nkl_in_clip = false",
        &["kl_in_clip", "c"],
    );
    check(
        "kind = \"gspo\"\nkl = \"rkl\"\nestimator = \"reinforce\"\nclip = \"rpg\"\nbeta = 1\nc = 9\nmax_length = 8",
        &["kl", "estimator", "clip", "beta", "max_length"],
    );
    check(
        "kind = \"dr_grpo\"\nmax_length = 8\nbeta = 0.1\neps_low = 0.1\neps_high = 0.3",
        &[],
    );
    check(
        "kind = \"ppo\"\ntau_pos = 2\ntau_neg = 3",
        &["tau_pos", "tau_neg"],
    );
    check("kind = \"rpg\"\ntau_neg = 3", &["tau_neg"]);
    check(
        "kind = \"sapo\"\ntau_pos = 2\ntau_neg = 3\neps_low = 0.1\neps_high = 0.1\nc = 2\nsequence_mask = 0.1",
        &["eps_low", "eps_high", "c"],
    );
    check(
        "kind = \"gmpo\"\neps_low = 0.1\neps_high = 0.1\nc = 2\nkl_placement = \"loss\"\nbeta = 0.1",
        &["c"],
    );
    check("kind = \"dppo_kl\"\neps_low = 0.1\nc = 20", &[]);
    check("kind = \"gspo_token\"\neps_low = 0.1\nc = 20", &[]);
    check(
        "kind = \"ppo\"\nrollout_correction = { mode = \"mask\", min = 0.1 }",
        &[],
    );
    check(
        "kind = \"ppo\"\nrollout_correction = { min = 0.1 }",
        &["rollout_correction.min"],
    );
    let warnings = toml::from_str::<ObjectiveConfig>("kind = \"ppo\"\nbeta = 1")
        .unwrap()
        .warnings();
    assert_eq!(
        warnings,
        ["`beta` has no effect: kl_placement \"none\" does not use it"]
    );
}
