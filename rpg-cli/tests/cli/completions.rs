//! Scripts for shells.

use crate::common::{run, text};

#[test]
fn every_shell_has_a_script_that_knows_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let script = text(&output.stdout);
        for part in ["rpg", "train", "verify-gradients", "resume", "print-config"] {
            assert!(script.contains(part), "{shell}: no `{part}`");
        }
    }
    let refused = run(&["completions", "cmd"]);
    assert_eq!(refused.status.code(), Some(2));
    let message = text(&refused.stderr);
    assert!(
        message.contains("[possible values: bash, elvish"),
        "{message}"
    );
    let help = text(&run(&["completions", "--help"]).stdout);
    for part in ["~/.zfunc/_rpg", "bash-completion/completions/rpg"] {
        assert!(help.contains(part), "{help}");
    }
}
