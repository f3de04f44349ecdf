//! `switchback demo`: the main job in forty seconds, with real sockets and a real file.
//!
//! Two small origins, the very proxy that `run` starts, and a bounded stream of users. A good version
//! climbs and is promoted, two bad ones are caught and put back. It must never touch anything but
//! loopback and its own temporary folder.

mod elsewhere;
mod origin;
mod screen;
mod stage;
mod story;
mod tally;
mod users;
mod watch;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::origin::Build;
use self::screen::Screen;
use self::stage::Stage;
use self::tally::Tally;

/// The version that is there to be broken by whoever stays.
const SPARE: usize = 5;
/// How often it is looked whether it was broken.
const LOOK: Duration = Duration::from_millis(500);

/// Plays the demo; true when every version ended as it should and nothing else failed.
///
/// # Errors
/// A socket or a file that could not be had, or a rollout that came to no end.
pub fn play(stay: bool) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::Builder::new().prefix("switchback-demo-").tempdir()?;
    let result = runtime.block_on(show(folder.path(), stay));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn show(folder: &Path, stay: bool) -> io::Result<bool> {
    let stage = Stage::set(folder).await?;
    let mut screen = Screen::new(io::stdout().is_terminal());
    story::open(&stage, &mut screen);
    let acts = story::play(&stage, &mut screen).await?;
    let tally = stage.crowd.look(Tally::clone);
    let good = story::close(&mut screen, &acts, &tally);
    if stay {
        look_around(&stage, folder, &mut screen);
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = keep_breaking(&stage, folder.join("broken")) => {}
        }
    }
    let Stage { proxy, crowd, .. } = stage;
    crowd.disperse().await;
    proxy.stop().await;
    Ok(good)
}

/// Says how to look around.
fn look_around(stage: &Stage, folder: &Path, screen: &mut Screen) {
    let program =
        std::env::current_exe().map_or_else(|_| "switchback".to_owned(), |path| path.display().to_string());
    let (web, admin, file) = (stage.web, format!("--admin http://{}", stage.admin), stage.file.display());
    let folder = folder.display();
    screen.say(&format!(
        "\nEverything stays up until Ctrl-C, with a page to look at on http://{}/.",
        stage.admin
    ));
    screen.say("Try, in another terminal:");
    for command in [
        format!("curl -si -H 'x-user-id: u42' http://{web}/"),
        format!("{program} status all --watch {admin}"),
        format!("{program} history all {admin}"),
        format!("sed -i 's/version: v4/version: v{SPARE}/' {file}   # v{SPARE} is healthy, until you write"),
        format!(
            "echo 20 > {folder}/broken                     # every 20th answer of it is a 500; 0 is none"
        ),
        format!("{program} rollout abort all {admin} --token-file {folder}/state/admin.token"),
    ] {
        screen.say(&format!("  {command}"));
    }
}

/// Deploys the spare version, and again whenever the file says that it fails in every so many answers.
async fn keep_breaking(stage: &Stage, file: PathBuf) {
    let mut deployed = None;
    loop {
        let said = std::fs::read_to_string(&file).ok();
        let fails_every = said.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if deployed.replace(fails_every) != Some(fails_every) {
            stage.canary.deploy(Build { fails_every, ..Build::healthy(SPARE) });
        }
        tokio::time::sleep(LOOK).await;
    }
}
