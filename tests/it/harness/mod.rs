//! Real processes, spoken to as a user would: everything that is started ends with the test.

mod ability;
mod activation;
mod api;
mod dev;
mod fleet;
mod gate;
mod http;
mod judge;
mod ledger;
mod noise;
mod notify;
mod origin;
mod process;
mod program;
mod rabbit;
mod relay;
mod serve;
mod wait;

pub(crate) use ability::missing;
pub(crate) use activation::{Sockets, activated};
pub(crate) use api::{Api, job, packed};
pub(crate) use dev::{Dev, Place, REPOSITORY};
pub(crate) use fleet::{OTHER, Server, Worker, port_of, private};
pub(crate) use gate::Gate;
pub(crate) use http::{Answer, Http};
pub(crate) use judge::{LARGEST_WHOLE_FILE, Mount, is_mounted, unmount};
pub(crate) use ledger::Ledger;
pub(crate) use noise::noise;
pub(crate) use notify::Ear;
pub(crate) use origin::{Origin, Page};
pub(crate) use process::{Daemon, processes_with};
pub(crate) use program::{Program, Run, bare};
pub(crate) use rabbit::{PASSWORD, Rabbit, USER, no_rabbit, shared};
pub(crate) use relay::Relay;
pub(crate) use serve::Served;
pub(crate) use wait::until;
