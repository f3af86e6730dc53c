//! The reward commands of a run, before it begins.

use crate::config::{NamedCommand, RewardConfig};
use crate::failure::Failure;
use rpg_reward::Reward;
use rpg_reward::command::CommandReward;
use std::time::{Duration, Instant};

/// The reward commands of a config, started but not yet known to work.
pub struct StartedCommands {
    /// Each with the name of its section.
    commands: Vec<(String, CommandReward)>,
    started: Instant,
}

/// How long a command is watched, since it may end right after its start.
const TIME_TO_FAIL: Duration = Duration::from_millis(1500);

impl StartedCommands {
    /// Finds the commands of a config and starts them.
    pub fn start(config: &RewardConfig) -> Result<Self, Failure> {
        let start = |NamedCommand { name, command, .. }: NamedCommand<'_>| {
            let section = config.section_of(name);
            if command.find_program().is_none() {
                let program = command.program.first();
                return Err(Failure::input(format!(
                    "{section}.program: found `{}`; expected a path to an executable file, or the name of one on PATH",
                    program.map_or("", String::as_str)
                )));
            }
            let command = CommandReward::named(name, command.clone());
            command
                .start()
                .map_err(|error| Failure::input(format!("{section}: {error}")))?;
            Ok((section, command))
        };
        let commands = config.all_commands().into_iter().map(start);
        Ok(Self {
            commands: commands.collect::<Result<_, _>>()?,
            started: Instant::now(),
        })
    }

    /// Refuses a command that has already ended, as an interpreter does whose script is missing.
    pub fn check(self) -> Result<Vec<Box<dyn Reward>>, Failure> {
        // An interpreter takes a moment to notice that it has nothing to run. Part of that time has passed between
        // start and check, with loading the model for example.
        let check = |(section, command): &(String, CommandReward)| {
            command.check_running().map_err(|error| {
                Failure::input(format!("{section}: `{}`: {error}", command.describe())).hint(
                    "the command must read lines until its standard input ends; its own messages, on standard error, \
                     are above",
                )
            })
        };
        let check_all = || self.commands.iter().try_for_each(check);
        check_all()?;
        while !self.commands.is_empty() && self.started.elapsed() < TIME_TO_FAIL {
            std::thread::sleep(Duration::from_millis(50));
            check_all()?;
        }
        let commands = self.commands.into_iter();
        Ok(commands
            .map(|(_, command)| Box::new(command) as Box<dyn Reward>)
            .collect())
    }
}
