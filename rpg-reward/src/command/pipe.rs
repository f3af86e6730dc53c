//! Pipes whose reads and writes can be given up. Whatever a process has started may hold the other ends after
//! the process itself has ended, so that a plain read or write would wait for ever.

use std::io::{self, PipeReader, PipeWriter, Read, Write, pipe};
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;

/// As long as this exists, reads and writes wait; dropping it ends them with an error.
#[derive(Debug)]
pub(super) struct Patience(#[expect(dead_code)] PipeWriter);

/// Notices the end of a [`Patience`].
#[derive(Debug, Clone)]
pub(super) struct Waiter(Arc<PipeReader>);

pub(super) fn patience() -> io::Result<(Patience, Waiter)> {
    let (reader, writer) = pipe()?;
    Ok((Patience(writer), Waiter(Arc::new(reader))))
}

/// The standard input of a process.
#[derive(Debug)]
pub(super) struct Input {
    pipe: ChildStdin,
    #[cfg_attr(not(unix), allow(dead_code))]
    waiter: Waiter,
}

/// The standard output of a process.
#[derive(Debug)]
pub(super) struct Output {
    pipe: ChildStdout,
    #[cfg_attr(not(unix), allow(dead_code))]
    waiter: Waiter,
}

impl Input {
    pub(super) fn new(pipe: ChildStdin, waiter: Waiter) -> io::Result<Self> {
        // Even a pipe that has room blocks a write that is larger. The process's own end stays as it is.
        #[cfg(unix)]
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe, waiter })
    }
}

impl Output {
    pub(super) fn new(pipe: ChildStdout, waiter: Waiter) -> Self {
        Self { pipe, waiter }
    }
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            #[cfg(unix)]
            self.waiter
                .wait(&self.pipe, rustix::event::PollFlags::OUT)?;
            match self.pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pipe.flush()
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        self.waiter.wait(&self.pipe, rustix::event::PollFlags::IN)?;
        self.pipe.read(buffer)
    }
}

#[cfg(unix)]
impl Waiter {
    /// Waits until a pipe is ready; fails if the patience ends first.
    fn wait(
        &self,
        pipe: &impl std::os::fd::AsFd,
        events: rustix::event::PollFlags,
    ) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut ends = [
            PollFd::new(pipe, events),
            PollFd::new(&self.0, PollFlags::IN),
        ];
        poll(&mut ends, None)?;
        if ends[1].revents().is_empty() {
            Ok(())
        } else {
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}
