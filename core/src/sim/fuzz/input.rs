//! The fuzzer's bytes as choices.

/// What is left of the bytes. When nothing is, every choice is the first one.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// One of `count`, of which there are at most 256.
    pub(super) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count.max(1)
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Whether, in one of two cases.
    pub(super) fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(super) fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// At most 255 bytes, behind one that says how many.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    /// At most 65,535 bytes, behind two that say how many.
    pub(super) fn long_bytes(&mut self) -> &'a [u8] {
        let count = usize::from(u16::from_be_bytes([self.byte(), self.byte()])).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Cuts bytes into pieces: byte by byte for seed 0, else of drawn lengths.
pub(super) fn pieces(mut bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    const LENGTHS: [usize; 8] = [1, 1, 2, 3, 7, 16, 61, 400];
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        // Knuth's multiplier (The Art of Computer Programming, 3.3.4); the high bits are the random ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if seed == 0 { 1 } else { LENGTHS[(state >> 29) as usize] };
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bytes_every_choice_is_the_first() {
        let mut input = Input::new(b"\x02ab");
        assert_eq!((input.bytes(), input.byte(), input.below(7)), (&b"ab"[..], 0, 0));
        assert_eq!((input.long_bytes(), input.number(), input.is_empty()), (&b""[..], 0, true));
    }

    #[test]
    fn pieces_are_what_was_cut_whatever_the_seed() {
        let bytes: Vec<u8> = (0..=255).collect();
        for seed in 0..=255 {
            assert_eq!(pieces(&bytes, seed).collect::<Vec<_>>().concat(), bytes, "{seed}");
        }
        assert_eq!(pieces(&bytes, 0).count(), 256);
        assert!(pieces(&bytes, 1).count() < 100);
    }
}
