//! Adapters made with PEFT (`fixtures/make_adapters.py`): the same logits, and the same files when they are written again.

use burn::backend::Flex;
use rpg_core::model::{AdapterFolder, CausalLm, LoraConfig, SaveDtype, Storage};
use rpg_core::ops::Packing;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const ADAPTERS: [(&str, &str); 3] = [
    ("adapter_llama", "llama"),
    ("adapter_qwen2", "qwen2"),
    ("adapter_qwen3_moe", "qwen3_moe"),
];

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join(name)
}

fn base(name: &str, storage: Storage) -> CausalLm<Flex> {
    CausalLm::load_hf_as(&fixture(name), storage, &Default::default()).unwrap()
}

fn adapted(base: CausalLm<Flex>, dir: &Path) -> Result<CausalLm<Flex>, String> {
    let folder = AdapterFolder::open(dir).map_err(|e| e.to_string())?;
    base.with_adapter_of(&folder).map_err(|e| e.to_string())
}

fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let text = fs::read_to_string(fixture(name).join("expected.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let tokens = serde_json::from_value(json["tokens"].clone()).unwrap();
    (
        tokens,
        serde_json::from_value(json["logits"].clone()).unwrap(),
    )
}

fn logits(model: &CausalLm<Flex>, tokens: &[u32]) -> Vec<f32> {
    let hidden = model.hidden(tokens, &Packing::new([tokens.len()]));
    model.logits(hidden).into_data().into_vec().unwrap()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn logits_are_those_of_peft() {
    for (name, of) in ADAPTERS {
        let (tokens, expected) = expected(name);
        let plain = base(of, Storage::F32);
        assert!(worst(&logits(&plain, &tokens), &expected) > 0.1, "{name}");
        let model = adapted(plain.clone(), &fixture(name)).unwrap();
        let error = worst(&logits(&model, &tokens), &expected);
        assert!(error < 1e-5, "{name}: {error:e}");
        // Without it, the base is what it was.
        let again = model.without_adapter();
        assert_eq!(logits(&again, &tokens), logits(&plain, &tokens));
    }
}

#[test]
fn what_is_written_is_what_was_read() {
    for (name, of) in ADAPTERS {
        let model = adapted(base(of, Storage::F32), &fixture(name)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        model
            .save_adapter(dir.path(), &format!("tiny/{of}"))
            .unwrap();
        let bytes = |dir: &Path| fs::read(dir.join("adapter_model.safetensors")).unwrap();
        let tensors = |bytes: &[u8]| -> Vec<(String, Vec<u8>)> {
            let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
            let tensors = file.tensors().into_iter();
            tensors
                .map(|(name, view)| (name, view.data().to_vec()))
                .collect()
        };
        let (written, read) = (bytes(dir.path()), bytes(&fixture(name)));
        let sorted = |mut tensors: Vec<(String, Vec<u8>)>| {
            tensors.sort();
            tensors
        };
        assert!(
            sorted(tensors(&written)) == sorted(tensors(&read)),
            "{name}"
        );
        let folders = [dir.path(), &fixture(name)].map(|dir| AdapterFolder::open(dir).unwrap());
        assert_eq!(folders[0].base, folders[1].base);
        // Merged into the weights, it gives the same logits.
        model.save_hf(dir.path(), SaveDtype::F32).unwrap();
        let merged = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
        let (tokens, expected) = expected(name);
        assert!(worst(&logits(&merged, &tokens), &expected) < 1e-5, "{name}");
    }
}

#[test]
fn a_new_adapter_changes_nothing() {
    let plain = base("qwen3", Storage::F32);
    let lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        target_modules: vec!["k_proj".into(), "down_proj".into()],
        use_rslora: false,
    };
    let tokens = [3, 1, 4, 1, 5, 9];
    let model = plain.clone().with_adapter(&lora, 7).unwrap();
    assert_eq!(logits(&model, &tokens), logits(&plain, &tokens));
    assert_eq!(model.lora(), Some(&lora));
}

#[test]
fn a_base_of_fewer_bits_has_the_logits_of_what_it_stands_for() {
    for (adapter, of) in [ADAPTERS[0], ADAPTERS[2]] {
        let (tokens, _) = expected(adapter);
        for storage in [Storage::Stored, Storage::Nf4] {
            let stored = base(of, storage);
            // Training would widen it: what is saved is what it stands for.
            let dir = tempfile::tempdir().unwrap();
            stored.save_hf(dir.path(), SaveDtype::F32).unwrap();
            let plain = CausalLm::<Flex>::load_hf(dir.path(), &Default::default()).unwrap();
            let [stored, plain] =
                [stored, plain].map(|base| adapted(base, &fixture(adapter)).unwrap());
            let error = worst(&logits(&stored, &tokens), &logits(&plain, &tokens));
            assert!(error < 1e-5, "{of}, {storage:?}: {error:e}");
        }
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let copy = |change: &dyn Fn(&mut Value)| {
        let dir = tempfile::tempdir().unwrap();
        let from = fixture("adapter_qwen2");
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            fs::copy(from.join(name), dir.path().join(name)).unwrap();
        }
        let path = dir.path().join("adapter_config.json");
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
        dir
    };
    let keys: [(&str, Value, &str); 7] = [
        (
            "peft_type",
            json!("IA3"),
            "`peft_type`: found \"IA3\"; expected \"LORA\"",
        ),
        (
            "use_dora",
            json!(true),
            "`use_dora`: found true; expected false",
        ),
        (
            "bias",
            json!("all"),
            "`bias`: found \"all\"; expected \"none\"",
        ),
        (
            "r",
            json!(0),
            "`r`: found 0; expected a whole number above 0",
        ),
        (
            "lora_alpha",
            json!("x"),
            "`lora_alpha`: found \"x\"; expected a number above 0",
        ),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "`modules_to_save`: found [\"lm_head\"]; expected []",
        ),
        (
            "r",
            json!(5),
            "has shape [3, 16]; this model requires [5, 16] (the adapter was trained on tiny/qwen2)",
        ),
    ];
    for (key, value, message) in keys {
        let dir = copy(&|json| json[key] = value.clone());
        let error = adapted(base("qwen2", Storage::F32), dir.path()).unwrap_err();
        assert!(error.contains(message), "{key}: {error}");
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
    // Of another base: other sizes, or modules that this one lacks.
    let other = adapted(base("llama3", Storage::F32), &fixture("adapter_qwen2")).unwrap_err();
    assert!(other.contains("this model requires"), "{other}");
    let dir = copy(&|_| ());
    fs::write(dir.path().join("adapter_model.safetensors"), b"short").unwrap();
    let damaged = adapted(base("qwen2", Storage::F32), dir.path()).unwrap_err();
    assert!(
        damaged.contains("not a usable safetensors file"),
        "{damaged}"
    );
    // A configuration of our own.
    let lora_of = |model: &str, change: &dyn Fn(&mut LoraConfig)| {
        let mut lora = LoraConfig {
            rank: 4,
            alpha: 8.0,
            target_modules: vec!["q_proj".into()],
            use_rslora: false,
        };
        change(&mut lora);
        let model = base(model, Storage::F32).with_adapter(&lora, 0);
        model.map(|_| ()).unwrap_err().to_string()
    };
    let lora = |change: &dyn Fn(&mut LoraConfig)| lora_of("llama", change);
    for (error, message) in [
        (
            lora(&|l| l.rank = 0),
            "`rank`: found 0; expected at least 1",
        ),
        (
            lora(&|l| l.alpha = f64::NAN),
            "`alpha`: found NaN; expected a number above 0",
        ),
        (
            lora(&|l| l.target_modules.clear()),
            "`target_modules`: found none; expected some of q_proj",
        ),
        (
            lora(&|l| l.target_modules = vec!["query".into()]),
            "`target_modules`: found \"query\"; expected some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, \
             down_proj",
        ),
    ] {
        assert_eq!(
            error.split(", k_proj").next(),
            message.split(", k_proj").next()
        );
    }
    // Of a model with experts, attention alone.
    let up = |l: &mut LoraConfig| l.target_modules = vec!["q_proj".into(), "up_proj".into()];
    assert_eq!(
        lora_of("qwen3_moe", &up),
        "`target_modules`: found \"up_proj\"; expected some of q_proj, k_proj, v_proj, o_proj"
    );
    let experts = base("qwen3_moe", Storage::F32);
    let all = LoraConfig::all_modules(experts.config());
    assert_eq!(all, ["q_proj", "k_proj", "v_proj", "o_proj"]);
    let lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        target_modules: vec!["q_proj".into(), "down_proj".into()],
        use_rslora: false,
    };
    let other = base("qwen3", Storage::F32).with_adapter(&lora, 0).unwrap();
    let dir = tempfile::tempdir().unwrap();
    other.save_adapter(dir.path(), "tiny/qwen3").unwrap();
    let error = adapted(experts, dir.path()).unwrap_err();
    let expected = "(and 3 more) belongs to no module of this model; expected adapters of q_proj, k_proj, v_proj, o_proj (";
    assert!(error.contains(expected), "{error}");
    // Half of an adapter.
    let file = dir.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let missing = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight";
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let rest: Vec<_> = tensors.filter(|(name, _)| name != missing).collect();
    safetensors::serialize_to_file(rest, None, &file).unwrap();
    let error = adapted(base("qwen3", Storage::F32), dir.path()).unwrap_err();
    let expected = format!("tensor `{missing}` is missing: both matrices of a module are needed");
    assert!(error.contains(&expected), "{error}");
}
