//! Which workers can serve which repositories.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::hold::Window;
use crate::domain::names::{LeasePath, RepositoryName};

/// The fleet of a repository that does not name one.
pub const DEFAULT_FLEET: &str = "default";

/// What the server knows about one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRules {
    /// The workers that serve it.
    #[serde(default = "default_fleet")]
    pub fleet: String,
    /// Whether its publishers go through a gateway: batches on lease paths that do not overlap then run at the same time.
    #[serde(default)]
    pub gateway: bool,
    /// With a gateway: jobs of different lease paths share a batch where all of them lie below this path.
    #[serde(default)]
    pub batch_root: Option<LeasePath>,
    /// Times that recur, in which nothing of it is offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Window>,
    /// Where its files are, `http://…` or a directory: what vouches for notifications about it is read there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A directory of this machine with its files, where others publish it: new revisions are announced as they come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Seconds between two looks at it for revisions that others publish. Without that only a `path` is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch_s: Option<u32>,
    /// The owners of the tokens that may publish notifications about it; all that have the role, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifiers: Option<Vec<String>>,
}

fn default_fleet() -> String {
    DEFAULT_FLEET.into()
}

impl Default for RepositoryRules {
    fn default() -> Self {
        Self {
            fleet: default_fleet(),
            gateway: false,
            batch_root: None,
            maintenance: Vec::new(),
            url: None,
            path: None,
            watch_s: None,
            notifiers: None,
        }
    }
}

/// The repositories that jobs are accepted for.
pub type Repositories = BTreeMap<RepositoryName, RepositoryRules>;
