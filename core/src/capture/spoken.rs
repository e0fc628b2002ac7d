//! The keys of a replay: none, and what they once said.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha20Rng;

use super::format::{Answer, Decides};
use crate::seal::{Forged, Opener, Record, SealKey, Sealer, Seals};
use crate::secret::Verdicts;
use crate::time::UnixSecs;

/// Says again what the keys said.
#[derive(Default)]
pub(super) struct Spoken(Mutex<Turn>);

/// One call.
#[derive(Default)]
pub(super) struct Turn {
    answers: VecDeque<Answer>,
    pub(super) sealed: Vec<Answer>,
    pub(super) decides: Decides,
    pub(super) used: bool,
    /// Everything was asked that had been, in its order, and nothing else.
    pub(super) is_same: bool,
}

impl Spoken {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, answers: &[Answer]) {
        *self.turn() = Turn { answers: answers.iter().cloned().collect(), is_same: true, ..Turn::default() };
    }

    pub(super) fn end(&self) -> Turn {
        let mut turn = std::mem::take(&mut *self.turn());
        turn.is_same &= turn.answers.is_empty();
        turn
    }
}

impl Verdicts for Spoken {
    fn settle(&self, _is_right: bool) -> bool {
        let turn = &mut *self.turn();
        turn.used = true;
        match turn.answers.pop_front() {
            Some(Answer::Checked(is_right)) => is_right,
            _ => {
                turn.is_same = false;
                false
            }
        }
    }
}

pub(super) struct SaidSeals(pub(super) Arc<Spoken>);

impl fmt::Debug for SaidSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaidSeals")
    }
}

impl Seals for SaidSeals {
    fn sealer(&self, _key: &SealKey, _rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(SaidSeals(self.0.clone()))
    }

    fn opener(&self, _key: &SealKey) -> Box<dyn Opener> {
        Box::new(SaidSeals(self.0.clone()))
    }
}

impl Sealer for SaidSeals {
    fn seal_all(&mut self, _at: UnixSecs, records: &mut [Record<'_>]) {
        let turn = &mut *self.0.turn();
        turn.used = true;
        for Record { plain, token } in records {
            turn.decides.sealed(plain);
            turn.sealed.push(Answer::Opened(plain.to_vec()));
            token.fill(0);
        }
    }
}

impl Opener for SaidSeals {
    fn open(&mut self, _token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged> {
        let turn = &mut *self.0.turn();
        turn.used = true;
        match turn.answers.pop_front() {
            Some(Answer::Opened(plain)) => {
                out.extend_from_slice(&plain);
                Ok(())
            }
            Some(Answer::Forged) => Err(Forged),
            _ => {
                turn.is_same = false;
                Err(Forged)
            }
        }
    }
}
