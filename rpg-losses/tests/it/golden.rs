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
    // (7 divergences x 7 ways + baselines + 9 KL terms in the loss and 12 in the reward) x 3 levels x 3 inputs,
    // and 5 pairs of levels x 6 corrections x 3 inputs, and 2 more advantages.
    assert_eq!(
        cases.len(),
        (7 * 7 + Kind::ALL.len() - 1 + 9 + 12) * 3 * 3 + 5 * 6 * 3 + 2 * 3
    );
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
