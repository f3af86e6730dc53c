//! The examples for clusters are what they claim to be: manifests that Kubernetes takes, and a script that Slurm takes.
