/// The steps in which a value over a group is told outside the region: a
/// counter that is read twice then never tells apart fewer than a step of what
/// it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step(u64);

impl Step {
    pub(super) const fn new(minimum: u64) -> Self {
        Self(if minimum == 0 { 1 } else { minimum })
    }

    /// The next step below, or the value itself.
    pub const fn floor(self, value: u64) -> u64 {
        value - value % self.0
    }

    pub const fn size(self) -> u64 {
        self.0
    }
}
