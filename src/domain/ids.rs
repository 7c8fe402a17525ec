//! Identifiers. All but the counters are UUIDs of version 7 chosen by whoever makes the thing, so that asking twice is asking once.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(
    /// A job. Chosen by the client that submits it.
    JobId
);
uuid_id!(
    /// The jobs that came in one request.
    SubmissionId
);
uuid_id!(
    /// A batch: the unit of execution. Never used again after it is settled.
    BatchId
);
uuid_id!(
    /// One life of a worker process. A later start has a greater one.
    InstanceId
);

uuid_id!(
    /// What keeps a repository from being served. Chosen by whoever holds it.
    HoldId
);

impl BatchId {
    /// The batch's key, `cj-<batch id>`: the tag of its publish, evidence and fence in one.
    pub fn key(&self) -> String {
        format!("cj-{}", self.0)
    }
}
