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
    /// Where its stratum 0 is served, such as `http://stratum0.example.org/cvmfs/software.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<url::Url>,
}

fn default_fleet() -> String {
    DEFAULT_FLEET.into()
}

impl Default for RepositoryRules {
    fn default() -> Self {
        Self { fleet: default_fleet(), gateway: false, batch_root: None, maintenance: Vec::new(), url: None }
    }
}

/// The repositories that jobs are accepted for.
pub type Repositories = BTreeMap<RepositoryName, RepositoryRules>;
