//! The recipes as they are printed: every file is fine for `check`, and the nginx blocks run as they stand.
//!
//! Blocks are cut out of the pages, so that what is tested is what people copy. Only addresses and ports are
//! replaced; these tests must never mend a recipe on its way.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::tools::switchback;
use crate::support::{Proxy, Site, Stranger, bucket, get, needs};

/// The address a client comes from; loopback has many.
type Client = [u8; 4];

fn house() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Fenced blocks of one kind on a page, each with the heading above it.
fn blocks(page: &str, kind: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(house().join(page)).expect("a page");
    let (mut heading, mut open, mut found) = (String::new(), None, vec![]);
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(named), None) => open = Some((named == kind, String::new())),
            (Some(_), Some(_)) => {
                let (wanted, block) = open.take().expect("an open block");
                if wanted {
                    found.push((format!("{page}: {heading}"), block));
                }
            }
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    found
}

/// The only block of that kind in a recipe.
fn block(recipe: &str, kind: &str) -> String {
    let all = blocks("config/recipes.md", kind);
    let of = all.into_iter().find(|(heading, _)| heading.ends_with(recipe));
    of.unwrap_or_else(|| panic!("{recipe} has no block of {kind}")).1
}

/// What `check` needs beside a file: the lists, keys and certificates that examples name.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        let page = entry.extension().is_some_and(|ending| ending == "yaml" || ending == "md");
        if entry.is_dir() {
            copy(&entry, &target);
        } else if !page {
            fs::copy(&entry, &target).expect("copy");
        }
    }
}

#[test]
fn every_recipe_is_fine_as_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    copy(&house().join("config"), folder.path());
    let recipes = [blocks("README.md", "yaml"), blocks("config/recipes.md", "yaml")].concat();
    assert!(recipes.len() >= 14, "{} recipes", recipes.len());
    for (heading, text) in recipes {
        fs::write(folder.path().join("recipe.yaml"), text).expect("write a recipe");
        let ended = switchback(folder.path(), &["check", "recipe.yaml"]);
        let said = format!("{}{}", ended.out, ended.err);
        assert_eq!(ended.code, Some(0), "{heading}: {said}");
        assert!(!said.contains("warning"), "{heading}: {said}");
    }
}

/// A page through an address, as seen from another: the client that nginx at the other end sees, and the host.
fn seen(addr: std::net::SocketAddr, client: Client) -> String {
    let request = get("/").host("shop.example.com").header("x-forwarded-for", "6.6.6.6");
    let mut conn = crate::support::Conn::open_from(client, addr);
    conn.ask(&request).expect_status(200).text()
}

#[test]
fn nginx_in_front_and_behind_know_who_asks_and_so_do_we() {
    needs!("nginx");
    let listen = "listen 127.0.0.1:@port@;";
    let behind = block("In front of nginx", "nginx");
    assert!(behind.contains("listen 8081;"), "{behind}");
    let behind = Stranger::nginx(&behind.replace("listen 8081;", listen));

    let text = block("Behind nginx, an Ingress or Envoy", "yaml");
    let [one, other] = ["10.0.0.1:8080", "10.0.1.1:8080"];
    assert!(text.contains("127.0.0.1:8080") && text.contains(one) && text.contains(other), "{text}");
    let origin = behind.addr().to_string();
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:@web@");
    let proxy = Proxy::start_at(Site::new(&text.replace(one, &origin).replace(other, &origin)));
    proxy.weights("shop", &[("stable", 50), ("canary", 50)]);

    let front = block("Behind nginx, an Ingress or Envoy", "nginx");
    assert!(front.contains("server 127.0.0.1:8080;") && front.contains("listen 80;"), "{front}");
    let front = front.replace("server 127.0.0.1:8080;", &format!("server {};", proxy.web()));
    let front = Stranger::nginx(&front.replace("listen 80;", listen));

    // Whoever is behind nginx is who nginx says; whoever is not is who connects. What a client claims is nothing.
    let mut canary = 0;
    for last in 2..42 {
        let client = [127, 0, 0, last];
        let expected = format!("127.0.0.{last} shop.example.com\n");
        assert_eq!(seen(front.addr(), client), expected, "through nginx");
        assert_eq!(seen(proxy.web(), client), expected, "straight");
        canary += 2 * u64::from(bucket("shop", &format!("127.0.0.{last}")) < 5_000);
    }
    assert!((20..60).contains(&canary), "addresses of one arm show nothing: {canary}");
    proxy.settles("switchback_requests_total", &[("arm", "canary")], canary);
}
