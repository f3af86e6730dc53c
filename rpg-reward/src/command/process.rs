//! One process of a reward command, and how it is asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::reward::{RewardError, RewardItem, Score};

/// A longer line is no answer.
const LONGEST_LINE: u64 = 1 << 20;

/// Lines that may wait to be read before the process has to.
const LINES_AHEAD: usize = 256;

/// How long a process whose input has ended may take to end by itself.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// The process groups that are there now, for [`stop_all_processes`].
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Stops the processes of all reward commands at once: for a program that is about to exit without
/// dropping its pools, as at a second Ctrl-C.
pub fn stop_all_processes() {
    #[cfg(unix)]
    for id in running().iter() {
        stop_group(*id);
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The process and whatever it has started that stayed in its group.
#[cfg(unix)]
fn stop_group(id: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It fails only if nothing of the group is left.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A process; a thread of ours reads what it writes.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    ended: bool,
}

/// How an item came to have no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The process ended; it may be worth another try.
    Ended(String),
    /// It hangs.
    Timeout,
    /// It answered, but not with a score.
    BadAnswer(RewardError),
    /// The caller wants no more.
    Stopped,
}

impl Process {
    pub(super) fn start(program: &[String]) -> Result<Self, RewardError> {
        let failed = |message: String| RewardError::Start {
            command: program.join(" "),
            message,
        };
        let (name, arguments) = program
            .split_first()
            .ok_or_else(|| failed("no program is given".into()))?;
        let mut command = Command::new(name);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // A group of its own: a Ctrl-C at the terminal is for us, who then end the processes in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        running().push(child.id());
        let stdin = child.stdin.take();
        let (sender, lines) = sync_channel(LINES_AHEAD);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || read_lines(stdout, &sender));
        }
        Ok(Self {
            child,
            stdin,
            lines,
            ended: false,
        })
    }

    /// Whether the process has ended by itself, and how.
    pub(super) fn status_if_ended(&mut self) -> Option<String> {
        if !self.ended && !has_ended(&mut self.child) {
            return None;
        }
        Some(self.end())
    }

    /// Whether it has said something that nobody asked for: it has lost step with its input.
    pub(super) fn has_unread_lines(&self) -> bool {
        self.lines.try_recv().is_ok()
    }

    /// Sends items and hands on their scores in order, until one has none; then the process is gone. The
    /// items are sent in a thread of their own, so that a process that answers while it reads cannot block
    /// both sides.
    pub(super) fn ask(
        &mut self,
        items: &[(usize, &RewardItem<'_>)],
        limit: Duration,
        go_on: impl Fn(usize) -> bool,
        mut on_score: impl FnMut(usize, Score),
    ) -> Result<(), Fault> {
        let Some(mut stdin) = self.stdin.take() else {
            return Err(Fault::Ended(self.end()));
        };
        let (outcome, stdin) = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                for (id, item) in items {
                    let mut line = serde_json::to_string(&Request { id: *id, item }).ok()?;
                    line.push('\n');
                    stdin.write_all(line.as_bytes()).ok()?;
                }
                stdin.flush().ok()?;
                Some(stdin)
            });
            let mut outcome = Ok(());
            for (id, _) in items {
                match self.next_answer(*id, limit, &go_on) {
                    Ok(score) => on_score(*id, score),
                    Err(fault) => {
                        // The end of the process also frees a writer that waits for it to read.
                        let status = self.end();
                        outcome = Err(match fault {
                            Fault::Ended(_) => Fault::Ended(status),
                            other => other,
                        });
                        break;
                    }
                }
            }
            (outcome, writer.join().ok().flatten())
        });
        // Without its input the process is of no use: the next batch finds it ended.
        self.stdin = stdin;
        outcome
    }

    fn next_answer(
        &mut self,
        id: usize,
        limit: Duration,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<Score, Fault> {
        let start = Instant::now();
        loop {
            if !go_on(id) {
                return Err(Fault::Stopped);
            }
            let left = limit.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(line) => return read_answer(&line, id).map_err(Fault::BadAnswer),
                Err(RecvTimeoutError::Disconnected) => return Err(Fault::Ended(String::new())),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= limit => {
                    return Err(Fault::Timeout);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Tells the process that there is no more to do.
    pub(super) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Stops the process, if it is still there, and all that it has started; says how it ended.
    fn end(&mut self) -> String {
        self.stdin = None;
        if !self.ended {
            // One that has closed its output is about to end; its own status says more than ours.
            let deadline = Instant::now() + Duration::from_millis(100);
            while !has_ended(&mut self.child) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.stop()
    }

    fn stop(&mut self) -> String {
        if !self.ended {
            // The group goes before the process is waited for: until then its number is not given away.
            #[cfg(unix)]
            stop_group(self.child.id());
            let _ = self.child.kill();
            self.ended = true;
            let id = self.child.id();
            running().retain(|other| *other != id);
        }
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that reads to the end of its input ends by itself; one that hangs is stopped.
        self.close_input();
        let deadline = Instant::now() + TIME_TO_END;
        while !self.ended && !has_ended(&mut self.child) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop();
    }
}

/// Whether a process has ended; on Unix its number stays taken until it is waited for.
#[cfg(unix)]
fn has_ended(child: &mut Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(
        waitid(WaitId::Pid(Pid::from_child(child)), options),
        Ok(None)
    )
}

#[cfg(not(unix))]
fn has_ended(child: &mut Child) -> bool {
    !matches!(child.try_wait(), Ok(None))
}

fn read_lines(stdout: ChildStdout, sender: &SyncSender<String>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        }
    }
}

#[derive(Serialize)]
struct Request<'a> {
    id: usize,
    #[serde(flatten)]
    item: &'a RewardItem<'a>,
}

#[derive(Deserialize)]
struct Answer {
    id: Option<usize>,
    score: f64,
    #[serde(default)]
    parts: BTreeMap<String, f64>,
}

fn read_answer(line: &str, id: usize) -> Result<Score, RewardError> {
    let bad = |message: String| {
        let cut = line.floor_char_boundary(200);
        RewardError::BadAnswer {
            answer: line[..cut].to_string(),
            message,
        }
    };
    let answer: Answer = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
    if answer.id.is_some_and(|other| other != id) {
        return Err(bad(format!("it answers another item than {id}")));
    }
    // Beyond it, sums over a group would leave the numbers that training computes with.
    const LARGEST: f64 = 1e9;
    if answer.score.is_nan() || answer.score.abs() > LARGEST {
        return Err(bad(format!(
            "the score is {}; expected a number from -1e9 to 1e9",
            answer.score
        )));
    }
    if let Some(&correct) = answer.parts.get("correct")
        && correct != 0.0
        && correct != 1.0
    {
        return Err(bad(format!(
            "`parts.correct` is {correct}; expected 0 or 1"
        )));
    }
    Ok(Score {
        score: answer.score,
        parts: answer.parts,
        error: None,
    })
}
