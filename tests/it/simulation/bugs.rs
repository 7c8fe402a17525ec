//! Bugs that can be planted in the simulated worker. A simulation that does not find them proves nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// Publishes although the permission was refused, or was never heard of.
    PublishesWithoutPermission,
    /// Looks for the tag without ending what may still publish.
    LooksWithoutFence,
    /// Reports a lost batch as not published without looking.
    FindsWithoutLooking,
    /// Publishes under a tag of its own at each try.
    NewTagEachTry,
    /// Gives the batch back and publishes it all the same; then reports that too.
    ReportsTwice,
    /// Takes the publisher's error for proof that nothing was published.
    TrustsExitCodes,
}

impl Bug {
    pub(super) const ALL: [Self; 6] = [
        Self::PublishesWithoutPermission,
        Self::LooksWithoutFence,
        Self::FindsWithoutLooking,
        Self::NewTagEachTry,
        Self::ReportsTwice,
        Self::TrustsExitCodes,
    ];
}
