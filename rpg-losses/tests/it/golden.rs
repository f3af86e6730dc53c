//! Agreement with an independent implementation: see `tests/golden/golden.py`.

use rpg_losses::{Clip, Divergence, Kind, compute_json};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().expect("a number")],
    }
}

#[test]
fn every_objective_agrees_with_the_independent_implementation() {
    let golden: Value = serde_json::from_str(include_str!("../golden/golden.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    // (7 divergences x 7 ways + baselines + 9 KL terms in the loss and 12 in the reward) x 3 levels, less two for
    // each of two kinds; 5 pairs of levels x 6 corrections; 2 more advantages; 5 kinds with KL terms in the loss and in
    // the reward; sequence masks of 7 kinds, three at the sequence levels as well: each of them on 3 inputs.
    let n_objectives = (7 * 7 + Kind::ALL.len() - 1 + 9 + 12) * 3 - 2 * 2;
    let n_others = 5 * 6 + 2 + 5 * 2 + 7 + 2 * 3;
    assert_eq!(cases.len(), (n_objectives + n_others) * 3);
    let has = |key: &str, name: &str| cases.iter().any(|case| case["objective"][key] == name);
    assert!(Kind::ALL.iter().all(|kind| has("kind", kind.name())));
    assert!(Divergence::ALL.iter().all(|kl| has("kl", kl.name())));
    assert!(Clip::ALL.iter().all(|clip| has("clip", clip.name())));
    for case in cases {
        let idx = case["input"].as_u64().unwrap() as usize;
        let mut request = golden["inputs"][idx].clone();
        request["objective"] = case["objective"].clone();
        let response = compute_json(&request.to_string()).unwrap();
        let actual = serde_json::to_value(&response).unwrap();
        for key in ["loss", "grad", "advantages"] {
            let (actual, expected) = (numbers(&actual[key]), numbers(&case["response"][key]));
            assert_eq!(
                actual.len(),
                expected.len(),
                "{key} of {}",
                case["objective"]
            );
            for (a, b) in actual.iter().zip(&expected) {
                assert!(
                    (a - b).abs() <= 1e-12 * b.abs().max(1.0),
                    "{key} of {}, input {idx}: {a}, not {b}",
                    case["objective"]
                );
            }
        }
    }
}
