//! Why nothing of a repository is offered: somebody paused it, it is held for maintenance, or a maintenance window is open.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Shortest time that a hold can be asked for without being renewed, in seconds.
pub const SHORTEST_HOLD_S: u32 = 5;
/// Longest, in seconds: a week.
pub const LONGEST_HOLD_S: u32 = 7 * 24 * 3600;
/// Longest maintenance window, in seconds: a day.
const LONGEST_WINDOW_S: i64 = 24 * 3600;

/// The kinds of holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Until somebody resumes it, or until a time.
    Pause,
    /// Of one holder, who wants the repository for itself, and renews it.
    Maintenance,
    /// A window of the server's configuration is open, or begins soon.
    Window,
}

impl HoldKind {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Maintenance => "maintenance",
            Self::Window => "window",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pause, Self::Maintenance, Self::Window].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Nothing of a repository is offered while it has one; what runs ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Of which kind.
    pub kind: HoldKind,
    /// Whose it is; empty for a window.
    pub by: String,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it ends by itself. A hold for maintenance can be renewed until then; a pause without one lasts until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            HoldKind::Pause => write!(f, "paused by {} since {:.0}", self.by, self.since)?,
            HoldKind::Maintenance => write!(f, "held for maintenance by {} since {:.0}", self.by, self.since)?,
            HoldKind::Window => write!(f, "in a maintenance window since {:.0}", self.since)?,
        }
        if let Some(until) = self.until {
            write!(f, ", until {until:.0}")?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the days, as everybody shortens them
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    fn is(self, weekday: Weekday) -> bool {
        weekday
            == match self {
                Self::Mon => Weekday::Monday,
                Self::Tue => Weekday::Tuesday,
                Self::Wed => Weekday::Wednesday,
                Self::Thu => Weekday::Thursday,
                Self::Fri => Weekday::Friday,
                Self::Sat => Weekday::Saturday,
                Self::Sun => Weekday::Sunday,
            }
    }
}

/// A time that recurs, in UTC, in which nothing of a repository is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins; every day where there are none.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it begins, in UTC, such as `02:00`.
    pub start: Time,
    /// How long it lasts, such as `4h` or `90m`; up to a day.
    pub duration: SignedDuration,
    /// How long before its beginning nothing more is offered, so that what runs has ended by then; up to a day.
    #[serde(default)]
    pub drain: SignedDuration,
    /// What for, in words.
    #[serde(default)]
    pub reason: String,
}

impl Window {
    /// Checks what the types alone do not.
    pub fn validate(&self) -> Result<(), &'static str> {
        let longest = SignedDuration::from_secs(LONGEST_WINDOW_S);
        if self.duration <= SignedDuration::ZERO || self.duration > longest {
            return Err("duration must be more than nothing and at most 24h");
        }
        if self.drain < SignedDuration::ZERO || self.drain > longest {
            return Err("drain must be at most 24h");
        }
        Ok(())
    }

    /// The hold that it is at a time, if it is open, or about to be.
    pub fn hold(&self, now: Timestamp) -> Option<Hold> {
        let today = now.to_zoned(TimeZone::UTC).date();
        // One that began the day before may last until now, and one that begins tomorrow may drain now.
        [today.yesterday(), Ok(today), today.tomorrow()].into_iter().flatten().find_map(|date| {
            if !self.days.is_empty() && !self.days.iter().any(|day| day.is(date.weekday())) {
                return None;
            }
            let start = date.to_datetime(self.start).to_zoned(TimeZone::UTC).ok()?.timestamp();
            let (since, until) = (start.checked_sub(self.drain).ok()?, start.checked_add(self.duration).ok()?);
            let reason = self.reason.clone();
            let hold = || Hold { kind: HoldKind::Window, by: String::new(), reason, since, until: Some(until) };
            (since <= now && now < until).then(hold)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn window(days: &[Day], start: &str, duration: &str, drain: &str) -> Window {
        let (duration, drain) = (duration.parse().unwrap(), drain.parse().unwrap());
        Window { days: days.to_vec(), start: start.parse().unwrap(), duration, drain, reason: "gc".into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_open_from_its_drain_to_its_end_on_its_days() {
        // 2026-03-07 is a Saturday.
        let window = window(&[Day::Sat], "02:00", "90m", "30m");
        for (time, open) in [
            ("2026-03-07T01:29:59Z", false),
            ("2026-03-07T01:30:00Z", true),
            ("2026-03-07T03:29:59Z", true),
            ("2026-03-07T03:30:00Z", false),
            ("2026-03-06T02:10:00Z", false),
            ("2026-03-08T02:10:00Z", false),
            ("2026-03-14T02:10:00Z", true),
        ] {
            assert_eq!(window.hold(at(time)).is_some(), open, "{time}");
        }
        let hold = window.hold(at("2026-03-07T02:00:00Z")).unwrap();
        assert_eq!(
            hold.to_string(),
            "in a maintenance window since 2026-03-07T01:30:00Z, until 2026-03-07T03:30:00Z: gc"
        );
    }

    #[test]
    fn a_window_may_lie_on_both_sides_of_midnight() {
        let late = window(&[Day::Sat], "23:00", "3h", "0s");
        assert!(late.hold(at("2026-03-08T01:59:59Z")).is_some());
        assert!(late.hold(at("2026-03-08T02:00:00Z")).is_none());
        assert!(late.hold(at("2026-03-07T01:00:00Z")).is_none());
        let early = window(&[Day::Sun], "00:10", "1h", "20m");
        assert!(early.hold(at("2026-03-07T23:50:00Z")).is_some());
        assert!(early.hold(at("2026-03-07T23:49:59Z")).is_none());
        let every = window(&[], "00:00", "24h", "0s");
        assert!(every.hold(at("2026-03-09T12:00:00Z")).is_some());
    }

    #[test]
    fn a_window_is_neither_empty_nor_longer_than_a_day() {
        assert!(window(&[], "00:00", "24h", "24h").validate().is_ok());
        for (duration, drain) in [("0s", "0s"), ("-1h", "0s"), ("25h", "0s"), ("1h", "25h"), ("1h", "-1m")] {
            assert!(window(&[], "00:00", duration, drain).validate().is_err(), "{duration} {drain}");
        }
    }
}
