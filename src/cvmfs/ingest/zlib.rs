//! zlib streams (RFC 1950) in which blocks that do not compress are stored as they are, at the speed of memory.

use std::io;

use flate2::{Compress, Compression as Level, FlushCompress, Status};
use zlib_rs::adler32::adler32;

use super::sink::Sink;

/// Where a block is tried for whether it compresses, and for how many bytes.
const SAMPLES: usize = 3;
const SAMPLE: usize = 4 << 10;

/// Blocks below are compressed without a trial, which would cost as much.
const TRIAL_FROM: usize = 32 << 10;

/// What the samples must come to, in percent of their size, for a block to be stored as it is.
const INCOMPRESSIBLE: usize = 97;

/// The cheapest level that finds repetitions and counts letters, too.
const TRIAL: Level = Level::new(2);

/// Deflate, a window of 32 KiB, the usual level.
const HEADER: [u8; 2] = [0x78, 0x9c];

/// The stored block that says "this is the end" and holds nothing.
const LAST: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// Makes one stream after the other.
pub(super) struct Zlib {
    deflate: Compress,
    state: State,
    checksum: u32,
    trial: Compress,
    trial_output: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Deflating,
    Storing,
}

impl Zlib {
    pub(super) fn new(level: Level) -> Self {
        let (deflate, trial) = (Compress::new(level, false), Compress::new(TRIAL, false));
        let trial_output = Vec::with_capacity(2 * SAMPLES * SAMPLE);
        Self { deflate, state: State::Begun, checksum: 1, trial, trial_output }
    }

    /// Starts a stream.
    pub(super) fn begin(&mut self) {
        (self.state, self.checksum) = (State::Begun, 1);
    }

    /// Takes in the next block of content. The stream depends on how the content is divided into blocks.
    pub(super) fn block(&mut self, block: &[u8], last: bool, sink: &mut Sink) -> io::Result<()> {
        if self.state == State::Begun {
            sink.put(&HEADER)?;
        }
        let state = self.state_for(block);
        self.enter(state, sink)?;
        self.checksum = adler32(self.checksum, block);
        match self.state {
            State::Storing => {
                for part in block.chunks(usize::from(u16::MAX)) {
                    let length = (part.len() as u16).to_le_bytes();
                    sink.put(&[0, length[0], length[1], !length[0], !length[1]])?;
                    sink.put(part)?;
                }
                if last {
                    sink.put(&LAST)?;
                }
            }
            _ if last => self.deflate(block, FlushCompress::Finish, sink)?,
            _ => self.deflate(block, FlushCompress::None, sink)?,
        }
        if last {
            sink.put(&self.checksum.to_be_bytes())?;
        }
        Ok(())
    }

    fn state_for(&mut self, block: &[u8]) -> State {
        if block.len() < TRIAL_FROM {
            // The end of an object goes the way of what is before it.
            return if self.state == State::Storing { State::Storing } else { State::Deflating };
        }
        if self.compresses(block) { State::Deflating } else { State::Storing }
    }

    fn enter(&mut self, state: State, sink: &mut Sink) -> io::Result<()> {
        match (self.state, state) {
            // Up to the end of a byte, where stored blocks can follow.
            (State::Deflating, State::Storing) => self.deflate(&[], FlushCompress::Sync, sink)?,
            // It knows nothing of what was stored meanwhile, so it must not refer to what was before either.
            (State::Begun | State::Storing, State::Deflating) => self.deflate.reset(),
            _ => {}
        }
        self.state = state;
        Ok(())
    }

    fn deflate(&mut self, mut input: &[u8], flush: FlushCompress, sink: &mut Sink) -> io::Result<()> {
        loop {
            let output = sink.room()?;
            let before = self.deflate.total_in();
            let status = self.deflate.compress_vec(input, output, flush)?;
            input = &input[(self.deflate.total_in() - before) as usize..];
            let is_done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                // Room that is left tells that all is out.
                _ => input.is_empty() && output.len() < output.capacity(),
            };
            if is_done {
                return Ok(());
            }
        }
    }

    /// Tries samples from the beginning, the middle and the end.
    fn compresses(&mut self, block: &[u8]) -> bool {
        self.trial.reset();
        self.trial_output.clear();
        for sample in 0..SAMPLES {
            let at = (block.len() - SAMPLE) * sample / (SAMPLES - 1);
            let flush = if sample + 1 == SAMPLES { FlushCompress::Finish } else { FlushCompress::None };
            // The room is twice what it can need.
            if self.trial.compress_vec(&block[at..at + SAMPLE], &mut self.trial_output, flush).is_err() {
                return true;
            }
        }
        self.trial_output.len() * 100 < SAMPLES * SAMPLE * INCOMPRESSIBLE
    }
}
