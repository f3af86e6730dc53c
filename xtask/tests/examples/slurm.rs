//! The batch script.

use crate::example;
use std::process::Command;

/// The long options of sbatch that scripts may have: <https://slurm.schedmd.com/sbatch.html>.
const OPTIONS: &str = "account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container \
    container-id contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency \
    distribution error exclude exclusive export export-file extra extra-node-info get-user-env gid gpu-bind gpu-freq gpus \
    gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold ignore-pbs input job-name kill-on-invalid-dep \
    licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue \
    nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket oom-kill-step open-mode \
    output overcommit oversubscribe partition power prefer priority profile propagate qos quiet reboot requeue reservation \
    resv-ports segment signal sockets-per-node spread-job switches thread-spec threads-per-core time time-min tmp tres-bind \
    tres-per-task uid use-min-nodes verbose wait wait-all-nodes wckey";

/// Directives that Slurm would not take, or not read.
fn refused(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut has_begun = false;
    for line in script.lines() {
        match line.strip_prefix("#SBATCH ") {
            Some(directive) if has_begun => {
                found.push(format!(
                    "{directive}: behind the first command, where it is a comment"
                ));
            }
            // What divides the groups of a heterogeneous job.
            Some("hetjob") => {}
            Some(directive) => {
                let name = directive
                    .strip_prefix("--")
                    .map(|option| option.split(['=', ' ']).next());
                if !name
                    .flatten()
                    .is_some_and(|name| OPTIONS.split_whitespace().any(|option| option == name))
                {
                    found.push(format!("{directive}: no such option"));
                }
            }
            None => has_begun |= !line.is_empty() && !line.starts_with('#'),
        }
    }
    found
}

#[test]
fn slurm_takes_the_options_of_the_script() {
    let script = example("slurm/train.sbatch");
    assert!(script.starts_with("#!/bin/bash\n"));
    assert_eq!(refused(&script), [""; 0]);
    // A group for each of the two `srun`s.
    assert_eq!(script.matches("#SBATCH hetjob").count(), 1);
    for group in ["--het-group=0", "--het-group=1 --mpi=pmix"] {
        assert!(script.contains(group), "{group}");
    }
}

#[test]
fn an_option_that_slurm_does_not_know_is_found() {
    for (script, expected) in [
        ("#SBATCH --nodes=2\n#SBATCH --time 1:00\n", vec![]),
        ("#SBATCH --node=2\n", vec!["--node=2: no such option"]),
        ("#SBATCH nodes=2\n", vec!["nodes=2: no such option"]),
        (
            "# Words.\n\nset -e\n#SBATCH --nodes=2\n",
            vec!["--nodes=2: behind the first command, where it is a comment"],
        ),
    ] {
        assert_eq!(refused(script), expected, "{script}");
    }
}

#[cfg(unix)]
#[test]
fn bash_can_read_the_script() {
    let output = Command::new("bash")
        .args(["-n", "-c", &example("slurm/train.sbatch")])
        .output()
        .expect("bash is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
