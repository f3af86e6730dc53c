//! The manifests, read by the types of the Kubernetes API.

use crate::example;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::serde::Serialize;
use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::Value;
use std::process::Command;

const FILES: [&str; 3] = ["servers.yaml", "trainer.yaml", "trainers.yaml"];

/// The keys of an MPIJob by their places, and those of each of its replicas, of the operator's definition:
/// <https://github.com/kubeflow/mpi-operator/blob/master/manifests/base/kubeflow.org_mpijobs.yaml>.
const MPI_JOB: [(&str, &[&str]); 6] = [
    ("", &["apiVersion", "kind", "metadata", "spec"]),
    (
        "/spec",
        &[
            "mpiImplementation",
            "mpiReplicaSpecs",
            "runPolicy",
            "slotsPerWorker",
            "sshAuthMountPath",
        ],
    ),
    (
        "/spec/runPolicy",
        &[
            "activeDeadlineSeconds",
            "backoffLimit",
            "cleanPodPolicy",
            "schedulingPolicy",
            "suspend",
            "ttlSecondsAfterFinished",
        ],
    ),
    ("/spec/mpiReplicaSpecs", &["Launcher", "Worker"]),
    ("/spec/mpiReplicaSpecs/Launcher", REPLICA),
    ("/spec/mpiReplicaSpecs/Worker", REPLICA),
];

const REPLICA: &[&str] = &["replicas", "restartPolicy", "template"];

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The objects of an example.
fn objects(name: &str) -> Vec<Value> {
    documents(&example(&format!("kubernetes/{name}")))
}

/// The one object of this kind in an example.
fn object(name: &str, kind: &str) -> Value {
    let mut found = objects(name)
        .into_iter()
        .filter(|object| object["kind"] == kind);
    let object = found
        .next()
        .unwrap_or_else(|| panic!("{name} has no {kind}"));
    assert!(
        found.next().is_none(),
        "{name} has several objects of the kind {kind}"
    );
    object
}

/// What of an object Kubernetes does not know.
fn unknown(object: &Value) -> Vec<String> {
    match object["kind"].as_str().unwrap_or_default() {
        "PersistentVolumeClaim" => lost_by::<PersistentVolumeClaim>(object, ""),
        "Service" => lost_by::<Service>(object, ""),
        "NetworkPolicy" => lost_by::<NetworkPolicy>(object, ""),
        "StatefulSet" => lost_by::<StatefulSet>(object, ""),
        "Job" => lost_by::<Job>(object, ""),
        "MPIJob" => unknown_to_the_operator(object),
        kind => vec![format!("kind: found `{kind}`")],
    }
}

/// An MPIJob is no part of Kubernetes; the pods of its replicas are.
fn unknown_to_the_operator(job: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if job["apiVersion"] != "kubeflow.org/v2beta1" {
        found.push(format!("/apiVersion: found {}", job["apiVersion"]));
    }
    for (place, known) in MPI_JOB {
        let keys = job.pointer(place).and_then(Value::as_object);
        let keys = keys.into_iter().flat_map(|object| object.keys());
        let strangers = keys.filter(|key| !known.contains(&key.as_str()));
        found.extend(strangers.map(|key| format!("{place}/{key}")));
    }
    found.extend(lost_by::<ObjectMeta>(&job["metadata"], "/metadata"));
    for replica in ["Launcher", "Worker"] {
        let place = format!("/spec/mpiReplicaSpecs/{replica}/template");
        match job.pointer(&place) {
            Some(template) => found.extend(lost_by::<PodTemplateSpec>(template, &place)),
            None => found.push(format!("{place}: missing")),
        }
    }
    found
}

/// The places of an object that are gone or changed after it was read as a `T` and written again: `T` passes over what it does
/// not know.
fn lost_by<T: DeserializeOwned + Serialize>(object: &Value, place: &str) -> Vec<String> {
    let read: T = match serde_json::from_value(object.clone()) {
        Ok(read) => read,
        Err(error) => return vec![format!("{place}: {error}")],
    };
    let written = serde_json::to_value(read).expect("an object can be written");
    let mut found = Vec::new();
    lost(object, Some(&written), place, &mut found);
    found
}

fn lost(before: &Value, after: Option<&Value>, place: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Some(Value::Object(after))) => {
            for (key, value) in before {
                lost(value, after.get(key), &format!("{place}/{key}"), found);
            }
        }
        (Value::Array(before), Some(Value::Array(after))) if before.len() == after.len() => {
            for (i, value) in before.iter().enumerate() {
                lost(value, after.get(i), &format!("{place}/{i}"), found);
            }
        }
        _ if after == Some(before) => {}
        _ => found.push(place.to_owned()),
    }
}

/// The pod templates of all replicas of an object.
fn templates(object: &Value) -> Vec<&Value> {
    let places = [
        "/spec/template",
        "/spec/mpiReplicaSpecs/Launcher/template",
        "/spec/mpiReplicaSpecs/Worker/template",
    ];
    places
        .iter()
        .filter_map(|place| object.pointer(place))
        .collect()
}

#[test]
fn kubernetes_knows_every_field_of_the_manifests() {
    for name in FILES {
        for object in objects(name) {
            assert_eq!(unknown(&object), [""; 0], "{name}: {}", object["kind"]);
        }
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let servers = example("kubernetes/servers.yaml");
    let trainers = example("kubernetes/trainers.yaml");
    for (manifest, from, to, place) in [
        (
            &servers,
            "containerPort:",
            "containerport:",
            "/spec/template/spec/containers/0/ports/0/containerport",
        ),
        (&servers, "clusterIP:", "clusterIp:", "/spec/clusterIp"),
        (&servers, "serviceName:", "service:", "/spec/service"),
        (
            &servers,
            "kind: StatefulSet",
            "kind: Statefulset",
            "kind: found `Statefulset`",
        ),
        (
            &servers,
            "failureThreshold: 120",
            "failureThreshold: often",
            ": invalid type: string \"often\", expected i32",
        ),
        (&trainers, "slotsPerWorker:", "slots:", "/spec/slots"),
        (
            &trainers,
            "backoffLimit:",
            "backOffLimit:",
            "/spec/runPolicy/backOffLimit",
        ),
        (
            &trainers,
            "    Worker:",
            "    Workers:",
            "/spec/mpiReplicaSpecs/Workers",
        ),
        (
            &trainers,
            "terminationGracePeriodSeconds:",
            "gracePeriodSeconds:",
            "/spec/mpiReplicaSpecs/Launcher/template/spec/gracePeriodSeconds",
        ),
    ] {
        assert!(manifest.contains(from), "{from}");
        let found: Vec<String> = documents(&manifest.replace(from, to))
            .iter()
            .flat_map(unknown)
            .collect();
        assert!(found.iter().any(|found| found == place), "{to}: {found:?}");
    }
}

#[test]
fn the_objects_of_the_manifests_fit_each_other() {
    let servers = object("servers.yaml", "StatefulSet");
    let labels = &servers["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&servers["spec"]["selector"]["matchLabels"], labels);
    let service = object("servers.yaml", "Service");
    assert_eq!(servers["spec"]["serviceName"], service["metadata"]["name"]);
    assert_eq!(&service["spec"]["selector"], labels);
    let policy = object("servers.yaml", "NetworkPolicy");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let allowed = &policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"];
    let claim = object("servers.yaml", "PersistentVolumeClaim");
    for (name, kind) in [
        ("servers.yaml", "StatefulSet"),
        ("trainer.yaml", "Job"),
        ("trainers.yaml", "MPIJob"),
    ] {
        let object = object(name, kind);
        for template in templates(&object) {
            if kind != "StatefulSet" {
                assert_eq!(&template["metadata"]["labels"], allowed, "{name}");
            }
            let spec = &template["spec"];
            let volume = &spec["volumes"][0];
            assert_eq!(
                volume["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"],
                "{name}"
            );
            let mount = &spec["containers"][0]["volumeMounts"][0];
            assert_eq!(
                (&mount["name"], &mount["mountPath"]),
                (&volume["name"], &Value::from("/shared")),
                "{name}"
            );
        }
    }
}

#[test]
fn the_trainers_name_every_server() {
    let servers = object("servers.yaml", "StatefulSet");
    let replicas = servers["spec"]["replicas"]
        .as_u64()
        .expect("a number of replicas");
    let port = &servers["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"];
    let url = |i: u64| format!("\"http://servers-{i}.servers:{port}\"");
    for name in ["trainer.yaml", "trainers.yaml"] {
        let manifest = example(&format!("kubernetes/{name}"));
        for i in 0..replicas {
            assert!(manifest.contains(&url(i)), "{name}: {}", url(i));
        }
        assert!(
            !manifest.contains(&url(replicas)),
            "{name}: {}",
            url(replicas)
        );
    }
}

#[cfg(unix)]
#[test]
fn bash_can_read_the_scripts_of_the_trainers() {
    for (name, kind) in [("trainer.yaml", "Job"), ("trainers.yaml", "MPIJob")] {
        let object = object(name, kind);
        let container = &templates(&object)[0]["spec"]["containers"][0];
        assert_eq!(
            container["command"],
            serde_json::json!(["bash", "-c"]),
            "{name}"
        );
        let script = container["args"][0].as_str().expect("a script");
        let output = Command::new("bash")
            .args(["-n", "-c", script])
            .output()
            .expect("bash is there");
        assert!(
            output.status.success(),
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What an inference server must be started with: docs/servers.md.
#[test]
fn servers_are_started_with_the_flags_that_training_needs() {
    let servers = object("servers.yaml", "StatefulSet");
    let container = &servers["spec"]["template"]["spec"]["containers"][0];
    let env = container["env"].as_array().expect("variables");
    assert!(env.contains(&serde_json::json!({"name": "VLLM_SERVER_DEV_MODE", "value": "1"})));
    let args = container["args"].as_array().expect("arguments");
    let script = example("slurm/train.sbatch");
    assert!(script.contains("export VLLM_SERVER_DEV_MODE=1"));
    for flag in [
        "--logprobs-mode=processed_logprobs",
        "--enable-scale-out",
        "--max-model-len=8192",
        "--dtype=bfloat16",
    ] {
        assert!(args.contains(&flag.into()), "{flag}");
        assert!(script.contains(&flag.replace('=', " ")), "{flag}");
    }
}
