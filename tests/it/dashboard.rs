//! The operator's page in a real browser: `tests/e2e/dashboard.mjs` drives Chromium under traffic.
//!
//! Here it is only started and its verdict read. Pictures of the page are left in `target/e2e`. It
//! must never reach beyond loopback; the browser's script fails when the page asks elsewhere.

use std::path::Path;
use std::process::Command;

use crate::support::tools::{binary, find, modules, needs};

#[test]
fn the_page_shows_what_is_and_does_what_it_showed() {
    needs!("node", "chromium", "npm:playwright-core", "npm:axe-core");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("node");
    command
        .arg(root.join("tests/e2e/dashboard.mjs"))
        .env("E2E_MODULES", modules())
        .env("E2E_OUT", root.join("target/e2e"))
        .env("E2E_BROWSER", find("chromium").expect("chromium was there"))
        .env("E2E_BINARY", binary());
    // The script has a deadline of its own, after which it closes what it opened.
    let finished = command.output().expect("node runs");
    let [said, complained] = [&finished.stdout, &finished.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{said}");
    assert!(finished.status.success(), "{said}\n{complained}");
    for picture in ["desktop-light", "desktop-dark", "phone-light", "phone-dark"] {
        assert!(root.join(format!("target/e2e/{picture}.png")).is_file(), "no picture {picture}");
    }
}
