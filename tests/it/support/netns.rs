//! A test in a network of its own, for the few that must listen beyond loopback.
//!
//! Whether an address that others can reach is guarded can only be seen by listening on one. In a
//! fresh network namespace nobody else is there to reach it. A test that needs this must never run
//! outside of it.

use std::env;
use std::process::Command;

use super::tools::{all_present, run};

/// Set inside the namespace, so that the test runs its body instead of starting itself again.
const INSIDE: &str = "SWITCHBACK_IT_PRIVATE_NETWORK";

/// Runs the rest of the test only inside a private network; outside, runs the test again there.
macro_rules! private_network {
    () => {{
        fn here() {}
        if !$crate::support::netns::inside(std::any::type_name_of_val(&here)) {
            return;
        }
    }};
}
pub(crate) use private_network;

pub fn inside(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if !all_present(test, &["unshare", "ip"]) {
        return false;
    }
    let test = test.trim_end_matches("::here").trim_start_matches("it::");
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net"]);
        command
    };
    if run(unshare().arg("true"), b"").code != Some(0) {
        println!("SKIPPED: {test}: this machine grants no network namespace");
        eprintln!("SKIPPED: {test}: this machine grants no network namespace");
        return false;
    }
    let again = run(
        unshare()
            .args(["sh", "-c", "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(env::current_exe().expect("the path of this test binary"))
            .arg(test)
            .env(INSIDE, "1"),
        b"",
    );
    assert!(
        again.code == Some(0) && again.out.contains("1 passed"),
        "in a private network:\n{}{}",
        again.out,
        again.err
    );
    false
}
