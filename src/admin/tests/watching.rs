//! The page and the events it lives on, over real sockets.

use super::*;
use crate::admin::dashboard::FILES;
use crate::admin::events::MAX_WATCHERS;

/// A watcher's connection, and what came so far.
struct Watched {
    stream: TcpStream,
    text: String,
}

impl Watched {
    async fn open(site: &Site, query: &str) -> Self {
        Self::open_with(site, query, "").await
    }

    /// The same with further header lines.
    async fn open_with(site: &Site, query: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(site.address("loopback")).await.expect("connected");
        let request = format!("GET /api/v1/events{query} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        Self { stream, text: String::new() }
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> bool {
        let mut piece = vec![0; 64 << 10];
        let count = self.stream.read(&mut piece).await.expect("read");
        self.text += &String::from_utf8_lossy(&piece[..count]);
        count > 0
    }

    /// The data of the next event of a kind for which this holds.
    async fn next(&mut self, kind: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let start = format!("event: {kind}\ndata: ");
            let events = self.text.split("\n\n").filter_map(|event| event.split_once(&start));
            let mut found = events.filter_map(|(_, data)| serde_json::from_str(data).ok());
            if let Some(found) = found.find(&holds) {
                return found;
            }
            assert!(self.more().await, "the events ended: {}", self.text);
        }
    }
}

#[tokio::test]
async fn whoever_watches_is_told_once_a_second_and_of_every_act() {
    let site = Site::start();
    let mut watched = Watched::open(&site, "").await;
    let tick = watched.next("tick", |_| true).await;
    assert!(watched.text.contains("content-type: text/event-stream"), "{}", watched.text);
    assert!(watched.text.contains("retry: "), "{}", watched.text);
    assert_eq!(tick["total"], 2);
    assert_eq!(tick["routes"][0], site.get("/api/v1/routes/all").await.1, "a tick says what /routes says");
    watched.next("config", |act| act["what"] == "start").await;
    let body = json!({ "weights": { "stable": 1, "canary": 1 }, "reason": "a quiet hour", "actor": "ada" });
    assert_eq!(site.verb(WEIGHTS, &body, "", &[]).await.0, 200);
    let act = watched.next("config", |act| act["what"] == "weights").await;
    assert_eq!(
        (&act["route"], &act["actor"], &act["reason"]),
        (&json!("all"), &json!("ada"), &json!("a quiet hour"))
    );
    assert_eq!((&act["before"]["canary"], &act["after"]["canary"]), (&json!(5), &json!(1)));
    watched.next("tick", |tick| tick["routes"][0]["arms"][0]["weight"] == 1).await;

    let mut late = Watched::open(&site, "?route=gone").await;
    let tick = late.next("tick", |_| true).await;
    let names: Vec<_> = tick["routes"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    assert_eq!(names, ["gone"], "only what was asked for");
    late.next("config", |act| act["what"] == "weights").await;
    assert_eq!(site.get("/api/v1/events?what=all").await.0, 400);

    site.health.draining();
    for mut one in [watched, late] {
        one.next("tick", |tick| tick["status"] == "draining").await;
        while !one.text.ends_with("0\r\n\r\n") && one.more().await {}
        assert!(one.text.ends_with("0\r\n\r\n"), "a whole answer that ended");
    }
}

#[tokio::test]
async fn no_more_watch_than_there_are_places() {
    let site = Site::start();
    let mut all = Vec::new();
    for _ in 0..MAX_WATCHERS {
        let mut one = Watched::open(&site, "").await;
        one.next("tick", |_| true).await;
        all.push(one);
    }
    let (status, refused) = site.get("/api/v1/events").await;
    assert_eq!((status, &refused["code"]), (503, &json!("too-many-watchers")));
    let mut operator =
        Watched::open_with(&site, "", &format!("authorization: Bearer {}\r\n", site.token)).await;
    operator.next("tick", |_| true).await;
    assert_eq!(site.get("/api/v1/status").await.0, 200, "others are answered all the same");
    drop(all.pop());
    let mut tries = 0;
    while site.raw_status("/api/v1/events").await != 200 {
        tries += 1;
        assert!(tries < 1_000, "a place that was left is never free");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

impl Site {
    /// The status of an answer that need not end.
    async fn raw_status(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address("loopback")).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.expect("a status line");
        std::str::from_utf8(&head[9..]).expect("text").parse().expect("a status")
    }
}

#[tokio::test]
async fn the_page_is_its_own_files_and_nothing_else() {
    let site = Site::start();
    for (path, kind, text) in FILES {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nsec-fetch-site: cross-site\r\nconnection: close\r\n\r\n"
        );
        let (status, head, body) = site.raw("outside", &request).await;
        assert_eq!((status, body.as_str()), (200, *text), "{path}: it holds nothing that needs a token");
        for line in [
            &format!("content-type: {kind}"),
            "content-security-policy: default-src 'none';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "cache-control: no-store",
        ] {
            assert!(head.contains(line), "{path}: {line} is missing in {head}");
        }
        assert!(!head.contains("unsafe-"), "{head}");
        // The namespace of drawings is a name, not an address.
        let own = text.replace("http://www.w3.org/2000/svg", "").replace("/^http:", "");
        for foreign in
            ["http://", "https://", "innerHTML =", "insertAdjacentHTML", "document.write", " style=", "eval("]
        {
            assert!(!own.contains(foreign), "{path} holds {foreign}");
        }
    }
    let (_, _, page) = FILES[0];
    let mut named = page.split(['"', '\'']).filter(|word| word.starts_with("/dashboard/"));
    assert!(named.all(|word| FILES.iter().any(|(path, ..)| *path == word)));
    assert!(!page.contains("<script>") && !page.contains("<style"), "no inline code");
    let (status, _, _) =
        site.raw("outside", "GET / HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status, 403, "a name that was rebound");
    let outside = [("host", "proxy.example")];
    assert_eq!(site.ask("outside", "GET /api/v1/events", &outside, "").await.0, 401);
    assert_eq!(site.ask("loopback", "POST /", &[("content-type", "application/json")], "{}").await.0, 401);
}

#[tokio::test]
async fn the_past_of_a_route_is_told_and_of_no_other() {
    let site = Site::start();
    let (status, past) = site.get("/api/v1/routes/all/past").await;
    assert_eq!((status, &past["route"], &past["spanMillis"]), (200, &json!("all"), &json!(900_000)));
    assert_eq!(site.get("/api/v1/routes/none/past").await.0, 404);
}
