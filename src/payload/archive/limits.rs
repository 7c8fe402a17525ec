//! How much an archive may hold.

/// Limits on what an archive unpacks to. The defaults fit large software installations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Most bytes unpacked, with headers, padding and the holes of sparse files.
    pub total_bytes: u64,
    /// Most entries, and most paths with the directories that these imply. Each takes 16 bytes of a table.
    pub entries: u64,
    /// Most bytes of one file, holes included.
    pub file_bytes: u64,
    /// How many times its packed size an archive may unpack to. The guard against bombs; real software stays below 100.
    pub ratio: u64,
    /// Unpacked bytes below which the ratio does not count: few bytes say little, and do little harm.
    pub ratio_exempt_bytes: u64,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            total_bytes: 256 << 30,
            entries: 2_000_000,
            file_bytes: 256 << 30,
            ratio: 500,
            ratio_exempt_bytes: 256 << 20,
        }
    }
}
