//! Which ends of a daemon a restart would only repeat.
