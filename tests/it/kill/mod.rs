//! The whole program, killed: at every named point, and at random. After each kill the repositories must be whole at
//! once; in the end a ledger that Conveyor never sees must agree with them: every accepted job published exactly once.
//!
//! `CONVEYOR_KILL_POINT=claim.after:3` runs one point only, `CONVEYOR_KILL_SEED=N` repeats the moments of a random run.

#[cfg(feature = "crash-points")]
mod chain;
#[cfg(feature = "crash-points")]
mod fleet;
#[cfg(feature = "crash-points")]
mod home;
#[cfg(feature = "crash-points")]
mod ledger;
#[cfg(feature = "crash-points")]
mod life;
#[cfg(feature = "crash-points")]
mod mounter;
#[cfg(feature = "crash-points")]
mod planted;
#[cfg(feature = "crash-points")]
mod points;
#[cfg(feature = "crash-points")]
mod random;
#[cfg(feature = "crash-points")]
mod work;
#[cfg(feature = "crash-points")]
mod world;

#[cfg(not(feature = "crash-points"))]
#[test]
fn killing_needs_the_feature_crash_points() {
    crate::harness::missing("kill", Some("built without the feature crash-points".into()));
}
