//! A pod's own view of the machine's files.
//!
//! - Rule: nothing of the machine is written: what a pod must see differently lies in memory, in the pod's mount namespace, and goes with it.
//! - Rule: all containers of a pod share this view, so a path is one volume's for all of them.
//! - Limits: [`RUN_BYTES_MAX`] for all files in memory. `/tmp` and the rest of the machine's files are shared.
//!
//! ```text
//! /run                  memory; inside: lateen/bin (links to the built-in programs), lateen/volumes/NAME, lateen-proxy (the sidecar's)
//! /etc/resolv.conf, hosts, hostname      files of /run/lateen/etc shown in their place
//! ```

use super::volumes::Content;
use lateen_base::names::PROXY_DIR;
use lateen_base::ports::DNS_ADDRESS;
use lateen_kube_api::Pod;
use lateen_sys::mount;
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// Memory for one pod's files.
const RUN_BYTES_MAX: u64 = 256 << 20;
const RUN: &str = "/run";
const OWN: &str = "/run/lateen";

/// What the view is made from.
pub(crate) struct View<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Volumes by name.
    pub volumes: &'a BTreeMap<String, Content>,
    /// The binary that the links lead to.
    pub executable: &'a Path,
    /// Names of the links.
    pub programs: &'a [&'a str],
    /// Folders of the machine shown inside, by the path they are shown at (under `/run`).
    pub shown: &'a [(PathBuf, PathBuf)],
}

/// Builds the view in the calling thread's new mount namespace.
///
/// # Errors
/// What the kernel reports, with the path.
pub(crate) fn build(view: &View<'_>) -> io::Result<()> {
    mount::make_private()?;
    // Opened before /run is covered, since they may lie there.
    let shown = view.shown.iter().map(|(source, target)| Ok((open_path(source)?, target))).collect::<io::Result<Vec<_>>>()?;
    let hosts: Vec<(&String, OwnedFd)> = host_volumes(view)?;
    mount::tmpfs(Path::new(RUN), RUN_BYTES_MAX).map_err(at(RUN))?;
    fs::create_dir_all(PROXY_DIR)?;
    if !fs::symlink_metadata("/var/run").is_ok_and(|found| found.is_symlink()) && Path::new("/var/run").is_dir() {
        mount::bind(Path::new(RUN), Path::new("/var/run")).map_err(at("/var/run"))?;
    }
    links(view)?;
    for (source, target) in shown {
        fs::create_dir_all(target)?;
        mount::bind(&descriptor_path(&source), target).map_err(at(target))?;
    }
    write_volumes(view.volumes)?;
    if needs_own_root(view.pod) {
        own_root()?;
    }
    identity(view)?;
    for container in view.pod.spec.containers.iter().chain(&view.pod.spec.init_containers) {
        for wanted in &container.volume_mounts {
            let source = match hosts.iter().find(|(name, _)| **name == wanted.name) {
                Some((_, source)) => descriptor_path(source),
                None => volume_dir(&wanted.name),
            };
            show(&source.join(&wanted.sub_path), Path::new(&wanted.mount_path)).map_err(at(&wanted.mount_path))?;
        }
    }
    Ok(())
}

/// Writes the files of a volume anew, for a changed ConfigMap, Secret or token. Runs inside the pod's mount namespace.
///
/// # Errors
/// What the file system reports.
pub(crate) fn write_volumes(volumes: &BTreeMap<String, Content>) -> io::Result<()> {
    for (name, content) in volumes {
        let folder = volume_dir(name);
        fs::create_dir_all(&folder)?;
        let Content::Files(files) = content else { continue };
        for (path, bytes) in files {
            let path = folder.join(path);
            if fs::read(&path).ok().as_deref() == Some(bytes) {
                continue;
            }
            // Readers see the old file or the new one. A file that is itself mounted elsewhere (subPath) keeps its old content there, as in
            // Kubernetes.
            let fresh = path.with_extension("lateen-new");
            mount::write_file(&fresh, bytes, 0o644)?;
            fs::rename(fresh, path)?;
        }
    }
    Ok(())
}

fn volume_dir(name: &str) -> PathBuf {
    Path::new(OWN).join("volumes").join(name)
}

fn host_volumes<'a>(view: &View<'a>) -> io::Result<Vec<(&'a String, OwnedFd)>> {
    let mut found = Vec::new();
    for (name, content) in view.volumes {
        if let Content::Host(path) = content {
            found.push((name, open_path(path).map_err(at(path))?));
        }
    }
    Ok(found)
}

fn links(view: &View<'_>) -> io::Result<()> {
    let folder = Path::new(OWN).join("bin");
    fs::create_dir_all(&folder)?;
    view.programs.iter().try_for_each(|name| symlink(view.executable, folder.join(name)))
}

/// Where the links are, for `PATH`.
pub(crate) const PROGRAMS_DIR: &str = "/run/lateen/bin";

/// Host name and the files that name it, and the cluster's DNS server.
fn identity(view: &View<'_>) -> io::Result<()> {
    let name = host_name(view.pod);
    nix::unistd::sethostname(&name)?;
    let namespace = &view.pod.metadata.namespace;
    // A limit of five dots: as Kubernetes, so that `backend.default` is tried inside the cluster first. The server is on this machine: a
    // second without an answer is a lost packet.
    let resolver = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {DNS_ADDRESS}\noptions ndots:5 timeout:1 attempts:5\n");
    let mut hosts = format!("127.0.0.1\tlocalhost\n{}\t{name}\n", view.ip);
    for alias in &view.pod.spec.host_aliases {
        hosts.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.join("\t")));
    }
    for (file, content) in [("resolv.conf", resolver), ("hosts", hosts), ("hostname", format!("{name}\n"))] {
        let source = Path::new(OWN).join("etc").join(file);
        mount::write_file(&source, content.as_bytes(), 0o644)?;
        let target = Path::new("/etc").join(file);
        show(&source, &target).map_err(at(&target))?;
    }
    Ok(())
}

/// The pod's host name: as given, else its own, cut to what the kernel takes.
pub(crate) fn host_name(pod: &Pod) -> String {
    let name = if pod.spec.hostname.is_empty() { &pod.metadata.name } else { &pod.spec.hostname };
    name.chars().take(63).collect()
}

/// Shows a file or folder at a path, making the path if the machine does not have it.
fn show(source: &Path, target: &Path) -> io::Result<()> {
    // A link such as /etc/resolv.conf → /run/… names another file to cover.
    let target = match fs::symlink_metadata(target) {
        Ok(found) if found.is_symlink() => follow(target),
        _ => target.to_owned(),
    };
    if !target.exists() {
        let parent = target.parent().unwrap_or(Path::new("/"));
        make_folder(parent)?;
        if fs::symlink_metadata(&target).is_err() && !is_in_memory(parent) {
            mirror(parent)?;
        }
        if source.is_dir() { fs::create_dir_all(&target)? } else { drop(fs::File::create(&target)?) }
    }
    mount::bind(source, &target)
}

fn follow(link: &Path) -> PathBuf {
    let Ok(to) = fs::read_link(link) else { return link.to_owned() };
    let joined = link.parent().unwrap_or(Path::new("/")).join(to);
    let mut plain = PathBuf::from("/");
    for part in joined.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    make_folder(parent)?;
    if !is_in_memory(parent) {
        mirror(parent)?;
    }
    fs::create_dir(path)
}

/// Whether a folder is on one of the memory file systems made here, so that writing there leaves the machine alone.
fn is_in_memory(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    let marker = folder.join(MIRROR_MARK);
    folder.starts_with(RUN) || marker.exists() || matches!((device(folder), device(Path::new(OWN))), (Ok(a), Ok(b)) if a == b)
}

const MIRROR_MARK: &str = ".lateen";

/// Replaces a folder by one in memory with the same entries, so that new ones can be made in it.
fn mirror(folder: &Path) -> io::Result<()> {
    let number = fs::read_dir(Path::new(OWN)).map(Iterator::count).unwrap_or_default();
    let copy = Path::new(OWN).join(format!("mirror-{number}"));
    fs::create_dir(&copy)?;
    populate(folder, &copy)?;
    mount::bind(&copy, folder)
}

fn populate(folder: &Path, copy: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let target = copy.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, &target)?;
            continue;
        }
        if kind.is_dir() { fs::create_dir(&target)? } else { drop(fs::File::create(&target)?) }
        // An entry that cannot be shown (it vanished) stays empty.
        let _ = mount::bind(&entry.path(), &target);
    }
    drop(fs::File::create(copy.join(MIRROR_MARK))?);
    Ok(())
}

/// Whether a volume is mounted at a path whose first folder the machine does not have.
fn needs_own_root(pod: &Pod) -> bool {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let mut paths = containers.flat_map(|container| &container.volume_mounts).map(|mount| Path::new(&mount.mount_path));
    paths.any(|path| path.components().nth(1).is_some_and(|first| !Path::new("/").join(first).exists()))
}

/// Puts this mount namespace on a root in memory whose entries are those of the machine.
fn own_root() -> io::Result<()> {
    let root = Path::new(OWN).join("root");
    fs::create_dir(&root)?;
    mount::tmpfs(&root, 1 << 20)?;
    populate(Path::new("/"), &root)?;
    let old = root.join("run/lateen/old");
    fs::create_dir(&old)?;
    nix::unistd::pivot_root(&root, &old)?;
    nix::unistd::chdir("/")?;
    mount::detach(Path::new("/run/lateen/old"))
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn descriptor_path(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn at(path: impl AsRef<Path>) -> impl Fn(io::Error) -> io::Error {
    let path = path.as_ref().to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_link_is_followed_from_its_folder() {
        let folder = std::env::temp_dir().join(format!("lateen-link-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let link = folder.join("resolv.conf");
        let _ = fs::remove_file(&link);
        symlink("../run/systemd/resolve/stub-resolv.conf", &link).unwrap();
        assert_eq!(follow(&link), folder.parent().unwrap().join("run/systemd/resolve/stub-resolv.conf"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_mount_below_a_folder_the_machine_has_needs_no_own_root() {
        let pod = |path: &str| serde_json::from_value(serde_json::json!({"spec": {"containers": [{"volumeMounts": [{"name": "v", "mountPath": path}]}]}})).unwrap();
        assert!(!needs_own_root(&pod("/etc/app")));
        assert!(needs_own_root(&pod("/lateen-no-such-folder/x")));
    }
}
