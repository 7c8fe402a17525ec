//! Making and removing the lab's repositories: as much of `mkfs`, `rmfs` and `mount` as tests call.

use std::fs;
use std::path::Path;

use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use nix::unistd::User;

use crate::lab::{Lab, now};
use crate::mounts;

/// `mkfs -w URL -o USER [-u UPSTREAM] [-f …] NAME`
pub(crate) fn make(lab: &Lab, arguments: &[String]) {
    let name = arguments.last().unwrap();
    let option = |word: &str| arguments.iter().position(|it| it == word).map(|at| arguments[at + 1].as_str());
    let (url, user) = (option("-w").unwrap(), option("-o").unwrap());
    let storage = lab.root.join("srv/cvmfs").join(name);
    let (spool, union) = (lab.root.join("var/spool/cvmfs").join(name), lab.root.join("cvmfs").join(name));
    for directory in ["rdonly", "scratch/current", "scratch/wastebin", "ofs_workdir", "tmp", "cache"] {
        fs::create_dir_all(spool.join(directory)).unwrap();
    }
    for directory in [&union, &lab.keys(), &lab.configuration(name), &lab.root.join("faults")] {
        fs::create_dir_all(directory).unwrap();
    }
    let owner = User::from_name(user).unwrap().unwrap();
    let mut options = CreateOptions { uid: owner.uid.as_raw(), gid: owner.gid.as_raw(), ..CreateOptions::default() };
    options.settings.auto_tag = true;
    (options.settings.xattrs, options.settings.mtime_ns) = (false, false);
    Stratum0::create(&storage, name.as_str(), lab.keys(), &options, now()).unwrap();
    let local = format!("local,{0}/data/txn,{0}", storage.display());
    let upstream = option("-u").unwrap_or(&local);
    let configuration = format!(
        "CVMFS_CREATOR_VERSION=143\nCVMFS_REPOSITORY_NAME={name}\nCVMFS_REPOSITORY_TYPE=stratum0\nCVMFS_USER={user}\n\
         CVMFS_UNION_DIR={}\nCVMFS_SPOOL_DIR={}\nCVMFS_STRATUM0={url}\nCVMFS_UPSTREAM_STORAGE={upstream}\n\
         CVMFS_UNION_FS_TYPE=overlayfs\nCVMFS_HASH_ALGORITHM=sha1\nCVMFS_COMPRESSION_ALGORITHM=default\n\
         CVMFS_EXTERNAL_DATA=false\nCVMFS_AUTO_TAG=true\nCVMFS_GARBAGE_COLLECTION=false\nCVMFS_AUTO_REPAIR_MOUNTPOINT=true\n\
         CVMFS_AUTOCATALOGS=false\nCVMFS_INCLUDE_XATTRS=false\nCVMFS_ENABLE_MTIME_NS=false\n",
        union.display(),
        spool.display()
    );
    fs::write(lab.configuration(name).join("server.conf"), configuration).unwrap();
    for place in walkdir::WalkDir::new(&spool) {
        let place = place.unwrap();
        std::os::unix::fs::lchown(place.path(), Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
    mounts::mount(&lab.repository(name).unwrap());
}

/// `rmfs -f NAME`
pub(crate) fn remove(lab: &Lab, arguments: &[String]) {
    let repository = lab.repository(arguments.last().unwrap()).unwrap();
    mounts::unmount(&repository);
    let gone = |path: &Path| fs::remove_dir_all(path).unwrap();
    gone(&repository.node.spool);
    gone(&repository.node.union);
    gone(&repository.storage);
    gone(&repository.checkouts());
    gone(&lab.configuration(&repository.name));
}

/// `mount NAME`, as after a restart of the machine.
pub(crate) fn mount(lab: &Lab, arguments: &[String]) {
    let repository = lab.repository(arguments.last().unwrap()).unwrap();
    mounts::unmount(&repository);
    mounts::mount(&repository);
}

/// `umount NAME`
pub(crate) fn unmount(lab: &Lab, arguments: &[String]) {
    mounts::unmount(&lab.repository(arguments.last().unwrap()).unwrap());
}
