//! One process of a reward command, and the exchange with it.

use crate::command::pipe::{Input, Output, Patience, patience};
use crate::reward::{RewardError, RewardItem, Score};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// The longest line that can be an answer.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How many lines are buffered before the process blocks.
const MAX_BUFFERED_LINES: usize = 256;

/// How long a process may keep running after the end of its input, and how long its pipes are used after its
/// own end or its last answer.
const TIME_TO_END: Duration = Duration::from_secs(1);

/// The process groups that exist now, for [`stop_all_processes`].
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Kills the processes of all reward commands. For a program that is about to exit without dropping its
/// pools, for example on a second Ctrl-C.
pub fn stop_all_processes() {
    #[cfg(unix)]
    for id in running().iter() {
        kill_group(*id);
    }
}

fn running() -> std::sync::MutexGuard<'static, Vec<u32>> {
    RUNNING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Kills a process and everything that it has started and that is still in its group.
#[cfg(unix)]
fn kill_group(id: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // This fails only if the group no longer exists.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A process, whose output is read by a thread.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: Option<Input>,
    /// The threads that read and write end with it, even if another process holds the pipes.
    patience: Option<Patience>,
    lines: Receiver<String>,
    ended: bool,
}

/// Why an item has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// The process ended; the item may be tried again.
    Ended(String),
    /// The process hangs.
    Timeout,
    /// It did not answer in time, but when its input ended: its answers were in a buffer.
    NotFlushed,
    /// The process answered, but not with a valid score.
    BadAnswer(RewardError),
    /// The caller stopped the batch.
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
        // In its own process group, Ctrl-C at the terminal does not reach it: we end the processes in order.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let (patience, waiter) = patience().map_err(|error| failed(error.to_string()))?;
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        running().push(child.id());
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = sync_channel(MAX_BUFFERED_LINES);
        let mut process = Self {
            child,
            stdin: None,
            patience: Some(patience),
            lines,
            ended: false,
        };
        if let Some(stdout) = stdout {
            let stdout = Output::new(stdout, waiter.clone());
            std::thread::spawn(move || read_lines(stdout, &sender));
        }
        if let Some(stdin) = stdin {
            let stdin = Input::new(stdin, waiter).map_err(|error| failed(error.to_string()))?;
            process.stdin = Some(stdin);
        }
        Ok(process)
    }

    /// Whether the process has ended by itself, and how.
    pub(super) fn status_if_ended(&mut self) -> Option<String> {
        if !self.ended && !has_ended(&mut self.child) {
            return None;
        }
        Some(self.end())
    }

    /// Whether it has written more lines than it was sent, so that its answers no longer match its input.
    pub(super) fn has_unread_lines(&self) -> bool {
        self.lines.try_recv().is_ok()
    }

    /// Sends the items and passes their scores to `on_score` in order, until one fails; then the process is
    /// ended. A separate thread sends the items, so that a process that answers while it reads cannot cause
    /// a deadlock.
    pub(super) fn ask(
        &mut self,
        items: &[(usize, &RewardItem<'_>)],
        limit: Duration,
        is_wanted: impl Fn(usize) -> bool,
        mut on_score: impl FnMut(usize, Score),
    ) -> Result<(), Fault> {
        let Some(mut stdin) = self.stdin.take() else {
            return Err(Fault::Ended(self.end()));
        };
        let (outcome, stdin) = std::thread::scope(|scope| {
            let mut writer = Some(scope.spawn(move || {
                for (id, item) in items {
                    let mut line = serde_json::to_string(&Request::new(*id, item)?).ok()?;
                    line.push('\n');
                    stdin.write_all(line.as_bytes()).ok()?;
                }
                stdin.flush().ok()?;
                Some(stdin)
            }));
            let is_finished = |writer: &Option<ScopedJoinHandle<'_, _>>| {
                writer.as_ref().is_none_or(ScopedJoinHandle::is_finished)
            };
            let mut outcome = Ok(());
            for (id, _) in items {
                match self.next_answer(*id, limit, &is_wanted) {
                    Ok(score) => on_score(*id, score),
                    Err(mut fault) => {
                        if fault == Fault::Timeout && is_finished(&writer) {
                            // Everything was sent: this ends the input.
                            drop(writer.take().map(ScopedJoinHandle::join));
                            let limit = limit.min(TIME_TO_END);
                            if self.next_answer(*id, limit, |_| true).is_ok() {
                                fault = Fault::NotFlushed;
                            }
                        }
                        // Ending the process also ends a writer that waits for it to read.
                        let status = self.end();
                        outcome = Err(match fault {
                            Fault::Ended(_) => Fault::Ended(status),
                            other => other,
                        });
                        break;
                    }
                }
            }
            // Whoever has answered everything has read everything. If not, the process is of no use.
            let deadline = Instant::now() + TIME_TO_END.min(limit);
            while outcome.is_ok() && !is_finished(&writer) {
                if Instant::now() >= deadline {
                    self.end();
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let stdin = writer.and_then(|writer| writer.join().ok().flatten());
            (outcome, stdin)
        });
        // Without an input the process is useless: the next batch finds that it has ended.
        self.stdin = stdin;
        outcome
    }

    fn next_answer(
        &mut self,
        id: usize,
        limit: Duration,
        is_wanted: impl Fn(usize) -> bool,
    ) -> Result<Score, Fault> {
        let start = Instant::now();
        let mut ended = None;
        loop {
            if !is_wanted(id) {
                return Err(Fault::Stopped);
            }
            let left = limit.saturating_sub(start.elapsed());
            match self.lines.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok(line) => return read_answer(&line, id).map_err(Fault::BadAnswer),
                Err(RecvTimeoutError::Disconnected) => return Err(Fault::Ended(String::new())),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= limit => {
                    return Err(Fault::Timeout);
                }
                Err(RecvTimeoutError::Timeout) => {
                    // Something that it has started may keep its output open.
                    if has_ended(&mut self.child)
                        && ended.get_or_insert_with(Instant::now).elapsed() >= TIME_TO_END
                    {
                        return Err(Fault::Ended(String::new()));
                    }
                }
            }
        }
    }

    /// Closes the input, which tells the process to end.
    pub(super) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Ends the process, if it still runs, and everything that it has started; returns how it ended.
    fn end(&mut self) -> String {
        self.stdin = None;
        if !self.ended {
            // A process that has closed its output is about to end, and its own status is more useful.
            let deadline = Instant::now() + Duration::from_millis(100);
            while !has_ended(&mut self.child) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.stop()
    }

    fn stop(&mut self) -> String {
        self.patience = None;
        if !self.ended {
            // The group is killed before the process is waited for: until then its id is not reused.
            #[cfg(unix)]
            kill_group(self.child.id());
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
        // A process that reads to the end of its input ends by itself; one that hangs is killed.
        self.close_input();
        let deadline = Instant::now() + TIME_TO_END;
        while !self.ended && !has_ended(&mut self.child) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.stop();
    }
}

/// Whether a process has ended; on Unix its id stays reserved until it is waited for.
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

fn read_lines(stdout: Output, sender: &SyncSender<String>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        match (&mut reader)
            .take(MAX_LINE_BYTES)
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
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// None if the columns are not JSON.
    fn new(id: usize, item: &'a RewardItem<'a>) -> Option<Self> {
        let columns = item.columns.map(serde_json::from_str).transpose().ok()?;
        Some(Self { id, item, columns })
    }
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
    if let Some(found) = answer.id
        && found != id
    {
        return Err(bad(format!("`id` is {found}; expected {id}")));
    }
    // Larger scores would make sums over a group overflow the range that training computes with.
    const MAX_SCORE: f64 = 1e9;
    if answer.score.is_nan() || answer.score.abs() > MAX_SCORE {
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
        parts: answer.parts,
        ..Score::new(answer.score)
    })
}
