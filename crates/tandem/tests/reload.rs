//! What SIGHUP tells the person who sent it, and that reading the file stands in nobody's way.

mod common;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    process::Command,
};

use common::{Daemon, wait_until};

const CONFIG: &str = "[attendant]\nengines = []\n[agents.reception]\n";

#[test]
fn a_reload_names_its_warnings_and_what_waits_for_the_next_start() {
    let daemon = Daemon::start(CONFIG);
    daemon.write_config(&format!(
        "{CONFIG}tools = [\"create_lead\"]\n[media]\nports = \"30000-39998\"\n[limits]\ndrain_s = 7\n"
    ));
    daemon.signal("HUP");
    let warning = daemon.wait_for_log("create_lead");
    assert!(warning.contains("tandem.toml:4:10: warning:"), "{warning}");
    let changed = daemon.wait_for_log("take effect at the next start");
    assert!(changed.contains("WARN"), "{changed}");
    assert!(changed.contains(" media.ports, limits.drain_s changed: these"), "{changed}");
    daemon.wait_for_log("agents and numbers reloaded");

    daemon.write_config(CONFIG);
    daemon.signal("HUP");
    let told = daemon.wait_for_log("");
    assert!(told.contains("agents and numbers reloaded"), "nothing is left to warn of: {told}");
}

#[test]
fn sigterm_is_heard_while_the_file_is_read() {
    let mut daemon = Daemon::start(CONFIG);
    let file = daemon.folder.path().join("tandem.toml");
    fs::remove_file(&file).unwrap();
    // A pipe that nobody writes to is a file on a share that hangs.
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    daemon.signal("HUP");
    // Can be opened as soon as the daemon reads it; then its reading lasts until this end is closed.
    let mut writer = None;
    wait_until("the file to be read", || {
        writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&file).ok();
        writer.is_some()
    });
    daemon.signal("TERM");
    daemon.wait_for_log("stopped");
    assert_eq!(daemon.wait(), Some(0));
    drop(writer);
}
