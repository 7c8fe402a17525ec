//! Jobs in a file, as JSON.

use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;
use uuid::Uuid;

use super::failure::Usage;
use crate::domain::job::spec::{JobSpec, MAX_JOBS_PER_SUBMISSION};

/// Reads one job or an array of them; ids and submitters that are missing are filled in.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<JobSpec>> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(path).map_err(|error| Usage::new(format!("cannot read {}: {error}", path.display())))?
    };
    Ok(parse(&text).map_err(|why| Usage::new(format!("{}: {why}", path.display())))?)
}

fn parse(text: &str) -> Result<Vec<JobSpec>, String> {
    let jobs = match serde_json::from_str(text).map_err(|error| error.to_string())? {
        Value::Array(jobs) => jobs,
        job => vec![job],
    };
    if jobs.is_empty() || jobs.len() > MAX_JOBS_PER_SUBMISSION {
        return Err(format!(
            "there are {} jobs in it; 1 to {MAX_JOBS_PER_SUBMISSION} can be submitted at once",
            jobs.len()
        ));
    }
    jobs.into_iter()
        .enumerate()
        .map(|(position, job)| one(job).map_err(|why| format!("job {}: {why}", position + 1)))
        .collect()
}

fn one(mut job: Value) -> Result<JobSpec, String> {
    let fields = job.as_object_mut().ok_or("is not a JSON object")?;
    if fields.get("id").is_none_or(Value::is_null) {
        fields.insert("id".into(), Uuid::now_v7().to_string().into());
    }
    if fields.get("submitter").is_none_or(|submitter| submitter == "") {
        fields.insert("submitter".into(), submitter().into());
    }
    let job: JobSpec = serde_json::from_value(job).map_err(|error| error.to_string())?;
    job.validate().map_err(|error| error.to_string())?;
    Ok(job)
}

/// Who submits: `user@host`.
pub(super) fn submitter() -> String {
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()).unwrap_or_default();
    format!("{user}@{host}").chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"name":"a","work":{"kind":"publish","repository":"a.b","payload":{"type":"empty"}}}"#;

    #[test]
    fn what_is_missing_is_filled_in_and_what_is_there_stays() {
        let jobs = parse(JOB).unwrap();
        assert_eq!((jobs.len(), jobs[0].id.0.get_version_num()), (1, 7));
        assert!(jobs[0].submitter.contains('@'));
        let id = "01900000-0000-7000-8000-000000000001";
        let given = JOB.replacen('{', &format!(r#"{{"id":"{id}","submitter":"me","#), 1);
        let jobs = parse(&format!("[{JOB},{given}]")).unwrap();
        assert_eq!((jobs[1].id.to_string().as_str(), jobs[1].submitter.as_str()), (id, "me"));
    }

    #[test]
    fn a_wrong_job_is_named() {
        for (text, said) in [
            ("", "EOF"),
            ("[]", "0 jobs"),
            ("[1]", "job 1: is not a JSON object"),
            (&format!("[{JOB},{}]", JOB.replace("a.b", "-h")), "job 2: repository name"),
            (&JOB.replace("\"name\"", "\"nome\""), "`nome`"),
            (&JOB.replacen('{', "{\"attempts\":0,", 1), "attempts must be"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
