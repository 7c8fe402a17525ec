//! Keeps the server's token lists as their files are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::app::Engine;
use crate::config::{ConfigError, Stamp, read_token_list};
use crate::domain::access::TokenRecord;

/// How often the files are looked at: for so long a token that was taken out of one is still good.
const LOOK: Duration = Duration::from_secs(2);

/// Other lists to watch, each with whoever waits until they are in force.
pub(super) type OtherLists = mpsc::UnboundedReceiver<(TokenLists, oneshot::Sender<()>)>;

/// What the files said last.
pub(super) struct TokenLists(Vec<TokenList>);

struct TokenList {
    path: PathBuf,
    stamp: Option<Stamp>,
    tokens: Vec<TokenRecord>,
}

impl TokenLists {
    /// Reads all of them.
    pub(super) fn read(paths: Vec<PathBuf>) -> Result<Self, ConfigError> {
        let read = |path: PathBuf| {
            // Before it is read: what comes in between is noticed later.
            let stamp = Stamp::of(&path);
            Ok(TokenList { stamp, tokens: read_token_list(&path)?, path })
        };
        paths.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// All tokens in them.
    pub(super) fn tokens(&self) -> Vec<TokenRecord> {
        self.0.iter().flat_map(|list| list.tokens.iter().cloned()).collect()
    }

    /// Brings changes into force, for ever; other lists take the place of these.
    pub(super) async fn watch(mut self, engine: Arc<Engine>, mut others: OtherLists) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick(), if !self.0.is_empty() => {}
                Some((lists, in_force)) = others.recv() => {
                    engine.set_file_tokens(lists.tokens());
                    self = lists;
                    // Whoever gave them may be gone.
                    let _ = in_force.send(());
                    continue;
                }
                else => return,
            }
            let look = tokio::task::spawn_blocking(move || {
                let changed = self.look();
                (self, changed)
            });
            let Ok((lists, changed)) = look.await else { return };
            self = lists;
            if changed {
                engine.set_file_tokens(self.tokens());
            }
        }
    }

    /// Reads the files that changed; tells whether any did.
    ///
    /// A list that went away has no tokens. One that cannot be read keeps those it had: a slip of the pen must not lock
    /// everybody out.
    pub(super) fn look(&mut self) -> bool {
        let mut changed = false;
        for list in &mut self.0 {
            let stamp = Stamp::of(&list.path);
            if stamp == list.stamp {
                continue;
            }
            list.stamp = stamp;
            let path = list.path.display();
            match stamp.map(|_| read_token_list(&list.path)) {
                Some(Ok(tokens)) => {
                    tracing::info!("token list {path} was read anew: {} tokens", tokens.len());
                    list.tokens = tokens;
                    changed = true;
                }
                Some(Err(error)) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "token list {path} cannot be used; what it said before stays in force"
                ),
                None => {
                    tracing::warn!("token list {path} is gone, and so are its tokens");
                    list.tokens.clear();
                    changed = true;
                }
            }
        }
        changed
    }
}
