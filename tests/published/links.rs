//! Links between the pages lead somewhere: a file that is there, and in it a heading.
//!
//! Headings become anchors as GitHub makes them. It must never follow a link out of the checkout.

use std::fs;
use std::path::{Path, PathBuf};

/// Links of a page that lead into the checkout.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.contains(' ')).collect()
}

/// A heading as its anchor: lower case, hyphens for blanks, no other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|one| one.is_alphanumeric() || [' ', '-', '_'].contains(one));
    kept.map(|one| if one == ' ' { '-' } else { one.to_ascii_lowercase() }).collect()
}

fn headings(path: &Path) -> Vec<String> {
    let page = fs::read_to_string(path).unwrap();
    let lines = page
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    lines.map(anchor).collect()
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            pages(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_link_of_every_page_leads_somewhere() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = vec![house.join("README.md"), house.join("benches/README.md")];
    for folder in ["config", "deploy"] {
        pages(&house.join(folder), &mut all);
    }
    let mut followed = 0;
    for page in all {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !part.is_empty() {
                assert!(headings(&target).iter().any(|one| one == part), "{}: {link}", page.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 60, "{followed} links");
}
