//! What the locks are for: registers that are read and, later, written, and look at the fencing token.

use redlock_core::FencingToken;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Register {
    /// The greatest token that was ever shown.
    fence: u64,
    value: u32,
    accepted: u32,
}

impl Register {
    /// The first access: from now on nobody with a smaller token has a say.
    pub(crate) fn read(&mut self, token: FencingToken) -> Option<u32> {
        let may = token.get() >= self.fence;
        if may {
            self.fence = token.get();
        }
        may.then_some(self.value)
    }

    pub(crate) fn write(&mut self, token: FencingToken, value: u32) -> bool {
        let may = token.get() >= self.fence;
        if may {
            self.fence = token.get();
            self.value = value;
            self.accepted += 1;
        }
        may
    }

    /// I5: no accepted increment was lost.
    pub(crate) const fn is_sound(&self) -> bool {
        self.value == self.accepted
    }
}
