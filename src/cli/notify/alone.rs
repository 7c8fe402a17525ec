//! `conveyor notify server`: the service of notifications without jobs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Service;
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::{Engine, Settings};
use crate::cli::context::Context;
use crate::cli::listeners::{self, Inherited, Kind};
use crate::cli::serving;
use crate::cli::supervision::{self, NotifyLoaded, NotifyServing};
use crate::cli::token_lists::TokenLists;
use crate::config::{Config, ListenAddress, NotifyAlone, ServerConfig, ServerFlags};
use crate::domain::fleet::Repositories;
use crate::store::Store;
use crate::store::logs::LogStore;

/// Arguments of `conveyor notify server`.
#[derive(Debug, Args)]
pub(in crate::cli) struct NotifyServerArgs {
    /// Address and port to listen on, such as 0.0.0.0:4930, or a Unix socket, such as unix:/run/conveyor/notify.sock; may be
    /// repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// Where the last messages are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// What it would run with; with every file read that it needs, where they are of this machine.
pub(in crate::cli) fn checked(
    file: &Config,
    listen: &[ListenAddress],
    state_dir: Option<&PathBuf>,
    flags: &ServerFlags,
    is_of_here: bool,
) -> anyhow::Result<NotifyLoaded> {
    let NotifyAlone { notify: config, broker, warnings } = file.notify_alone(listen, state_dir)?;
    // Its tokens are a server's; its broker may be that of the old service.
    let server = ServerConfig { broker, ..file.server(flags)? };
    let paths = if is_of_here { server.tokens.clone() } else { Vec::new() };
    let lists = TokenLists::read(paths)?;
    Ok(NotifyLoaded { file: file.clone(), config, server, lists, warnings })
}

pub(super) async fn run(args: NotifyServerArgs, inherited: Inherited, context: &Context) -> anyhow::Result<ExitCode> {
    let flags = ServerFlags { token_file: context.flags.token_file.clone(), ..ServerFlags::default() };
    let hangups = supervision::hangups()?;
    let read = move |file: &Config| checked(file, &args.listen, args.state_dir.as_ref(), &flags, true);
    let NotifyLoaded { file, config, server, lists, warnings } = read(&context.config)?;
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let mut signalled = serving::until_signal()?;
    serving::make_private(&config.state_dir)?;
    // Where sockets were handed over, nobody looks at addresses.
    let listen = inherited.is_any().then(|| config.listen.clone());
    let open = listeners::open(inherited, Kind::Notify, &config.listen).await?;
    let store = Store::open(&config.state_dir)?;
    // Knows tokens, and is asked for nothing else.
    let engine = Engine::start(
        store.clone(),
        LogStore::in_memory()?,
        None,
        Repositories::new(),
        Arc::new(SystemClock::default()),
        Arc::new(SystemEntropy),
        Settings::default(),
    );
    let engine = Arc::new(engine.await?);
    engine.set_bootstrap_token(server.token.as_ref());
    engine.set_file_tokens(lists.tokens());
    let stop = CancellationToken::new();
    let (anonymous_read, may_read) = watch::channel(server.anonymous_read);
    let service = Service::start(&config, server.keys_dir.clone(), store, &engine, &may_read, &stop).await?;
    let driving = service.drive(&config, server.broker.as_ref(), &engine)?;
    for address in &open.addresses {
        tracing::info!("notifications at {}", address.url());
    }
    let (send_lists, other_lists) = mpsc::unbounded_channel();
    let watching = tokio::spawn(lists.watch(Arc::clone(&engine), other_lists));
    let serving = tokio::spawn(service.serve(open.listeners, stop.clone()));
    let running = NotifyServing {
        engine,
        notifications: Arc::clone(&service.notifications),
        anonymous_read,
        lists: send_lists,
        broker: server.broker.as_ref().map(|broker| format!("{}:{}", broker.host, broker.port)),
    };
    let again_of = file.clone();
    let again = Box::new(move || {
        let mut loaded = read(&again_of.again()?)?;
        if let Some(listen) = &listen {
            loaded.config.listen.clone_from(listen);
        }
        Ok(loaded)
    });
    let in_force = (file, config, server);
    let supervising = supervision::supervise_notify(in_force, again, running, hangups, signalled.clone());
    let supervising = tokio::spawn(supervising);
    let _ = signalled.wait_for(|stop| *stop).await;
    stop.cancel();
    let served = serving.await;
    drop(driving);
    watching.abort();
    // It holds a part of what must be closed.
    let _ = supervising.await;
    drop(open.files);
    served?;
    Ok(ExitCode::SUCCESS)
}
