//! Every configuration against every oracle.

use burn::backend::{Autodiff, Flex};
use rpg_losses::verify::{
    Path, Precision, Report, StudyCorrection, StudyEstimator, StudyOptions, Subject, VerifyOptions,
    run, study,
};
use rpg_losses::{Clip, Divergence, Kind, Level};
use serde_json::Value;

/// Every kind but RPG, and PPO with nine KL terms.
const N_BASELINES: usize = Kind::ALL.len() - 1 + 9;

/// `gspo_token` and `gmpo`, which have the token level alone.
const N_OF_TOKENS: usize = 2;

/// RPG, PPO and `gmpo` with a sequence mask.
const N_MASKS: usize = 3;

/// Objectives x levels: `gmpo` with a sequence mask has one as well.
const N_CONFIGS: usize = (7 * 7 + N_BASELINES + N_MASKS) * 3 - 2 * (N_OF_TOKENS + 1);

fn report(precision: Precision, n_cases: usize, seed: u64) -> Report {
    let options = VerifyOptions::<Autodiff<Flex>>::new(Default::default(), precision);
    run(&VerifyOptions {
        n_cases,
        seed,
        ..options
    })
}

#[test]
fn every_row_holds_and_every_control_is_rejected() {
    for (precision, n_cases) in [(Precision::F64, 16), (Precision::F32, 8)] {
        let report = report(precision, n_cases, 1);
        assert!(report.passed(), "{precision:?}:\n{}", report.table());
        // kinds x divergences x estimators x clips x levels, and whole steps, none left out.
        let n_steps = 2 * 5;
        let n_bounds = 2 * (7 * 5 + N_BASELINES + N_MASKS);
        assert_eq!(
            report.rows.len(),
            3 * N_CONFIGS + 2 * n_steps + n_bounds + 2 * 2
        );
        assert_eq!((report.controls.len(), report.harmless.len()), (9 + 12, 4));
        assert!(report.rows.iter().all(|row| row.cases == n_cases));
    }
}

#[test]
fn the_report_is_reproducible_and_has_the_documented_json() {
    let first = report(Precision::F64, 2, 7);
    assert_eq!(first, report(Precision::F64, 2, 7));
    assert_ne!(first, report(Precision::F64, 2, 8));
    let json = serde_json::to_value(&first).unwrap();
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(keys(&json), ["rows", "controls", "harmless"]);
    assert_eq!(keys(&json["rows"][0]), ["name", "cases", "worst", "passed"]);
    assert_eq!(keys(&json["controls"][0]), ["name", "error", "rejected"]);
    let has_row = |name: &str| {
        let rows = json["rows"].as_array().unwrap();
        rows.iter().filter(|row| row["name"] == name).count() == 1
    };
    assert_eq!(
        json["rows"][0]["name"],
        "rpg/none/differentiable/token: closed form"
    );
    assert!(has_row(
        "rpg/skl/differentiable/dual, kl outside/sequence: expectation"
    ));
    assert!(has_row("gspo/sequence_norm: finite difference"));
    assert!(has_row("gmpo, sequence mask/token: finite difference"));
    assert!(has_row(
        "rpg/urkl/reinforce/rpg, sequence mask/sequence: expectation"
    ));
    assert!(has_row("step/seq_mean/operations: micro-batches"));
    assert!(has_row(
        "at the bounds/rpg/urkl/reinforce/hard/token/policy_loss: closed form"
    ));
    let is_at_bounds = |subject: &Subject| matches!(subject, Subject::Bounds(_, Path::Operations));
    assert!(first.rows.iter().any(|row| is_at_bounds(&row.subject)));

    let table = first.table();
    let lines: Vec<&str> = table
        .lines()
        .filter(|line| line.ends_with("| ok      |"))
        .collect();
    assert_eq!(
        lines.len(),
        2 + N_CONFIGS + 2 * 5 + 2 * (7 * 5 + N_BASELINES + N_MASKS)
    );
    assert!(
        lines[0].starts_with("| rpg/none/differentiable/token "),
        "{}",
        lines[0]
    );

    // The summary folds the levels, the two ways of computing a step, and the bounds.
    let summary = first.summary();
    let lines: Vec<&str> = summary
        .lines()
        .filter(|line| line.ends_with("| ok      |"))
        .collect();
    assert_eq!(lines.len(), 7 * 7 + N_BASELINES + N_MASKS + 1 + 5 + 1);
    assert!(
        lines[0].starts_with("| rpg/none/differentiable "),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].contains(" |     6 | "),
        "three levels of two cases: {}",
        lines[0]
    );

    // A row that fails and a control that is accepted both fail the report, visibly.
    let mut failed = first.clone();
    failed.rows[3].passed = false;
    assert!(!failed.passed());
    assert_eq!(failed.table().matches("FAILED").count(), 1);
    assert_eq!(failed.summary().matches("FAILED").count(), 1);
    let mut failed = first.clone();
    failed.controls[0].rejected = false;
    assert!(!failed.passed());
    assert_eq!(failed.table().matches("ACCEPTED").count(), 1);
    let mut failed = first.clone();
    failed.harmless[0].as_claimed = false;
    assert!(!failed.passed());
    assert_eq!(failed.table().matches("OTHERWISE").count(), 1);
}

#[test]
fn the_study_finds_what_is_known_of_the_estimators() {
    let options = StudyOptions::default();
    let study = study(&options);
    let curve = |estimator: StudyEstimator| {
        let found = study.curve(estimator);
        &found.unwrap_or_else(|| panic!("no {estimator}")).points
    };
    let baseline = |kind: Kind| curve(StudyEstimator::Baseline(kind));
    assert_eq!(study.path.len(), options.updates.len());
    assert!(
        study
            .path
            .windows(2)
            .all(|pair| pair[0].reward < pair[1].reward)
    );
    assert_eq!(study.path[0].kl_to_old, 0.0);
    assert!(
        study
            .path
            .iter()
            .all(|point| point.kl_to_ref > 0.0 && point.gradient_norm > 0.0)
    );
    assert!(study.path.last().unwrap().max_weight > 2.0);
    // Whole responses without clip are unbiased however far the policy has gone.
    use Divergence::{Fkl, Rkl, Ufkl, Urkl};
    for kl in [Fkl, Rkl, Ufkl, Urkl] {
        for point in curve(StudyEstimator::Rpg(kl, Level::Sequence, Clip::None)) {
            assert!(point.bias <= 1e-12, "{kl}: {point:?}");
            assert!((point.cosine - 1.0).abs() <= 1e-9, "{kl}: {point:?}");
        }
        // Per token they miss the weight of the prefix: the further, the more.
        let points = curve(StudyEstimator::Rpg(kl, Level::Token, Clip::None));
        assert!(points[1].relative_bias > 0.01 && points[4].relative_bias > 0.1);
    }
    // On policy, reward-to-go with the KL in the rewards is exact, and so is the loss without KL.
    assert!(baseline(Kind::ReinforcePp)[0].bias <= 1e-12);
    assert!(baseline(Kind::Dapo)[0].bias <= 1e-12);
    // The weight that GRPO forgets.
    let (grpo, corrected) = (baseline(Kind::Grpo), baseline(Kind::GrpoCorrected));
    for idx in 1..options.updates.len() {
        assert!(grpo[idx].bias > corrected[idx].bias, "{idx}");
    }
    assert!(
        study
            .curves
            .iter()
            .flat_map(|curve| &curve.points)
            .all(|point| {
                let numbers = [
                    point.bias,
                    point.relative_bias,
                    point.cosine,
                    point.variance,
                ];
                numbers.iter().all(|x| x.is_finite()) && point.variance > 0.0
            })
    );
    // A sampler that is `pi_old` needs no correction, and the exact one has none left to make.
    for (study, n) in [(&study.inexact, 7), (&study.stale, 8)] {
        assert_eq!((study.samplers.len(), study.curves.len()), (n, 22));
        assert_eq!(
            (study.samplers[0].kl, study.samplers[0].max_ratio),
            (0.0, 1.0)
        );
        for curve in &study.curves {
            let is_exact = curve.correction == StudyCorrection::EXACT;
            assert!(curve.points[0].bias <= 1e-12, "{}", curve.correction);
            assert_eq!(curve.points[n - 1].bias <= 1e-12, is_exact);
        }
        let markdown = study.markdown("x");
        assert_eq!(markdown.matches("| uncorrected |").count(), 3);
    }
    let markdown = study.markdown();
    assert_eq!(markdown.matches("| grpo_corrected | rkl |").count(), 3);
    assert_eq!(
        markdown
            .lines()
            .filter(|line| line.starts_with("| 64 |"))
            .count(),
        1
    );
}
