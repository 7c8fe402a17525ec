//! Watching over one script from the thread that started it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::confinement::Plan;
use super::image::Image;
use super::output::pump;
use super::{Ending, ScriptError, ScriptReport, ScriptRun, keeper, marker};

/// How long processes may take to die of SIGKILL: all but those that hang in the kernel take milliseconds.
const DEATH: Duration = Duration::from_secs(10);
/// How often a script is tried that some process still holds open for writing.
const BUSY_TRIES: u32 = 200;

/// Runs a script to its end. Blocks the thread, which must not end before.
pub(super) fn watch(
    script: &ScriptRun,
    cancel: &CancellationToken,
    sink: mpsc::Sender<Bytes>,
) -> Result<ScriptReport, ScriptError> {
    let failed = |what| move |source| ScriptError::Io { what, program: script.program.clone(), source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("start a runtime for"))?;
    runtime.block_on(async {
        let (reader, writer) = std::io::pipe().map_err(failed("make a pipe for"))?;
        let reader = Receiver::from_owned_fd(reader.into()).map_err(failed("make a pipe for"))?;
        let plan = script.confinement.as_ref().map(|confinement| Plan::new(script, confinement)).transpose();
        let plan = plan.map_err(failed("prepare the isolation of"))?.map(|plan| Arc::new(Mutex::new(plan)));
        let mut command = command(script, image(script)?, writer, plan.clone()).map_err(failed("make a pipe for"))?;
        let child = start(script, &mut command, plan.as_deref()).await?;
        // Holds the pipe's other end.
        drop(command);
        let ended = CancellationToken::new();
        let pumping = pump(reader, sink, script.output_limit, ended.clone());
        let waiting = async {
            let ending = wait(script, child, cancel).await;
            ended.cancel();
            ending
        };
        let (output, ending) = tokio::join!(pumping, waiting);
        Ok(ScriptReport {
            ending: ending?,
            tail: output.tail,
            output_bytes: output.bytes,
            dropped_bytes: output.dropped,
        })
    })
}

/// Program, arguments and environment.
fn image(script: &ScriptRun) -> Result<Image, ScriptError> {
    let run_id = script.run_id.to_string();
    let fixed = [
        ("PATH", OsStr::new("/usr/local/bin:/usr/bin:/bin")),
        ("HOME", script.temporary.as_os_str()),
        ("TMPDIR", script.temporary.as_os_str()),
        ("LANG", OsStr::new("C.UTF-8")),
        (marker::RUN_ID, OsStr::new(&run_id)),
    ];
    let given = script.environment.iter().map(|(name, value)| (name.as_str(), OsStr::new(value)));
    let given = given.filter(|(name, _)| fixed.iter().all(|(fixed, _)| name != fixed));
    let first = [script.repository.as_str(), script.lease_path.as_str()].map(OsStr::new);
    let arguments = first.into_iter().chain(script.args.iter().map(OsString::as_os_str));
    Image::new(&script.program, arguments, fixed.into_iter().chain(given)).map_err(|_| ScriptError::Arguments {
        program: script.program.clone(),
        why: "an argument or variable contains a NUL byte",
    })
}

fn command(
    script: &ScriptRun,
    image: Image,
    output: std::io::PipeWriter,
    plan: Option<Arc<Mutex<Plan>>>,
) -> std::io::Result<tokio::process::Command> {
    let mut command = Command::new(&script.program);
    command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
    // A plan needs root's rights first, and the directory may be another one behind it.
    if plan.is_none() {
        command.current_dir(&script.directory);
        // Anyone else was found out to be us.
        if let Some((uid, gid)) = script.run_as
            && geteuid().is_root()
        {
            // Root's other groups go with this.
            command.gid(gid.as_raw()).uid(uid.as_raw());
        }
    }
    keeper::contain(&mut command, image, plan);
    Ok(command.into())
}

async fn start(
    script: &ScriptRun,
    command: &mut tokio::process::Command,
    plan: Option<&Mutex<Plan>>,
) -> Result<Child, ScriptError> {
    let mut tries = 0;
    loop {
        let source = match command.spawn() {
            Ok(child) => return Ok(child),
            Err(source) => source,
        };
        let step = plan.and_then(|plan| plan.lock().unwrap_or_else(PoisonError::into_inner).failed_step());
        match step {
            Some(step) => return Err(ScriptError::on_isolation(&script.program, step, source)),
            // Another thread forked while the script was being written, and its child has not reached its own exec yet.
            None if source.raw_os_error() == Some(Errno::ETXTBSY as i32) && tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            None => return Err(ScriptError::on_start(&script.program, source)),
        }
    }
}

/// Waits for the keeper, and for it to have nothing left to keep.
async fn wait(script: &ScriptRun, mut keeper: Child, cancel: &CancellationToken) -> Result<Ending, ScriptError> {
    let failed = |source| ScriptError::Io { what: "wait for", program: script.program.clone(), source };
    let ending = tokio::select! {
        status = keeper.wait() => natural(status.map_err(failed)?),
        () = tokio::time::sleep(script.time_limit) => Ending::TimedOut { limit: script.time_limit },
        () = cancel.cancelled() => Ending::Cancelled,
    };
    for (order, patience) in [(keeper::ORDER_TERMINATE, script.grace), (keeper::ORDER_KILL, DEATH)] {
        // `None` once it has been waited for.
        let Some(pid) = keeper.id() else { break };
        let _ = kill(Pid::from_raw(pid as i32), order);
        if let Ok(status) = tokio::time::timeout(patience, keeper.wait()).await {
            status.map_err(failed)?;
        }
    }
    let survivors = |pids| ScriptError::Survivors { program: script.program.clone(), pids };
    if let Some(pid) = keeper.id() {
        return Err(survivors(vec![pid as i32]));
    }
    // The keeper can be killed too, by the script or for want of memory.
    match marker::end_run(script.run_id, DEATH) {
        left if left.is_empty() => Ok(ending),
        left => Err(survivors(left)),
    }
}

/// The keeper ends as its script did.
fn natural(status: ExitStatus) -> Ending {
    match (status.code(), status.signal()) {
        (Some(code), _) => Ending::Exited { code },
        (None, signal) => Ending::Signaled { signal: signal.unwrap_or(Signal::SIGKILL as i32) },
    }
}
