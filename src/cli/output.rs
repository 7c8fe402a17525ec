//! Standard output: lines of JSON for programs, tables for people.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Table, presets};
use serde::Serialize;

use crate::domain::job::state::StateKind;

/// The form of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Table,
    /// For programs: one object in a line.
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

impl Color {
    pub(super) fn applies(self, terminal: bool) -> bool {
        let wanted = || std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        match self {
            Self::Auto => terminal && wanted(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// The way to standard output. Its errors matter: a full disk is a failure, a reader that left ends the program.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    color: bool,
}

impl Output {
    pub(super) fn new(format: Format, color: Color) -> Self {
        let terminal = io::stdout().is_terminal();
        let json = match format {
            Format::Auto => !terminal,
            Format::Table => false,
            Format::Json => true,
        };
        Self { json, color: color.applies(terminal) }
    }

    /// Whether programs are to read it.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// One object as one line.
    pub fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string(value)?)
    }

    /// One line.
    pub fn line(self, text: &str) -> anyhow::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Bytes as they are, at once.
    pub fn raw(self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// A table: its head and its rows.
    pub fn table(self, head: &[&str], rows: Vec<Vec<Cell>>) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        if self.color {
            table.enforce_styling();
        }
        table.set_header(head.iter().map(|word| Cell::new(word).add_attribute(Attribute::Bold)));
        table.add_rows(rows);
        for column in 0..head.len() {
            if let Some(column) = table.column_mut(column) {
                column.set_padding((0, 2));
            }
        }
        self.line(&table.trim_fmt())
    }

    /// A state in the colour that says how things stand.
    pub fn state(self, state: StateKind) -> Cell {
        Cell::new(state).fg(color_of(state))
    }
}

fn color_of(state: StateKind) -> comfy_table::Color {
    use comfy_table::Color as C;
    match state {
        StateKind::Succeeded => C::Green,
        StateKind::Failed | StateKind::NeedsOperator => C::Red,
        StateKind::Cancelled | StateKind::Skipped => C::DarkGrey,
        StateKind::Backoff | StateKind::Recovering | StateKind::AwaitingApproval => C::Yellow,
        StateKind::Offered | StateKind::Running | StateKind::Distributing => C::Cyan,
        StateKind::Waiting | StateKind::Queued => C::Reset,
    }
}

/// A text from elsewhere, harmless on a terminal: control characters but the line's end and the tab are replaced.
pub(super) fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

/// A span of time in its greatest unit, such as `5m`.
pub(super) fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s}s"),
        s @ 120..=7199 => format!("{}m", s / 60),
        s @ 7200..=172_799 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_short() {
        for (seconds, want) in [(-5, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")] {
            assert_eq!(age(seconds), want);
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters_from_elsewhere() {
        assert_eq!(printable("a\u{1b}[31mb\n\tc\r"), "a\u{fffd}[31mb\n\tc\u{fffd}");
    }
}
