//! Log lines on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::Color;

/// What decides about the form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) daemon: bool,
    pub(super) debug: bool,
    pub(super) timestamps: bool,
    pub(super) under_journal: bool,
    pub(super) color: Color,
}

impl Settings {
    fn filter(&self) -> &'static str {
        match (self.debug, self.daemon) {
            // What the verifier says is in our own error, too.
            (true, _) => "info,conveyor=debug",
            (false, true) => "info,rustls_platform_verifier=off",
            (false, false) => "warn,rustls_platform_verifier=off",
        }
    }

    /// The journal has its own times, and somebody at a terminal knows what time it is.
    fn has_times(&self) -> bool {
        self.timestamps || (self.daemon && !self.under_journal)
    }
}

/// Libraries that are heard only where something is wrong, whatever `RUST_LOG` says.
const QUIET: [&str; 2] = ["lapin=warn", "amq_protocol=warn"];

/// Begins to log. `RUST_LOG` decides what, where it is set and makes sense.
pub(super) fn start(settings: &Settings) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(settings.filter()));
    // These write what they send where all of it is asked for, and that begins with a password.
    let filter = QUIET.iter().filter_map(|quiet| quiet.parse().ok()).fold(filter, EnvFilter::add_directive);
    let ansi = settings.color.applies(std::io::stderr().is_terminal());
    let form = layer().with_writer(std::io::stderr).with_target(settings.daemon || settings.debug).with_ansi(ansi);
    let registry = tracing_subscriber::registry().with(filter);
    // An error means that somebody else set logging up before: then that is used.
    let _ = if settings.has_times() {
        registry.with(form).try_init()
    } else {
        registry.with(form.without_time()).try_init()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_no_times_unless_asked() {
        let base = Settings { daemon: true, debug: false, timestamps: false, under_journal: false, color: Color::Auto };
        assert!(base.has_times());
        assert!(!Settings { under_journal: true, ..base }.has_times());
        assert!(Settings { under_journal: true, timestamps: true, ..base }.has_times());
        assert!(!Settings { daemon: false, ..base }.has_times());
    }
}
