//! Real processes, spoken to as a user would: everything that is started ends with the test.

mod ability;
mod api;
mod dev;
mod fleet;
mod http;
mod judge;
mod noise;
mod origin;
mod process;
mod program;
mod wait;

pub(crate) use ability::missing;
pub(crate) use api::{Api, job};
pub(crate) use dev::{Dev, REPOSITORY};
pub(crate) use fleet::{Server, Worker};
pub(crate) use http::{Answer, Http};
pub(crate) use judge::Mount;
pub(crate) use noise::noise;
pub(crate) use origin::{Origin, Page};
pub(crate) use process::Daemon;
pub(crate) use program::{Program, Run};
pub(crate) use wait::{PATIENCE, until};
