//! curl, nghttp and h2load as clients: what they print must not depend on us standing between.
//!
//! nginx serves files (ranges, compression), Node takes uploads. Each command runs against the
//! server and against the proxy; status, headers that matter and body are compared.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::tools::{self, Finished, find};
use crate::support::{Proxy, Stranger, needs};

const FILE: usize = 300_000;
const UPLOAD: usize = 2 * 1024 * 1024;
const LOAD: usize = 10_000;

fn before(origin: &Stranger) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        origin.url()
    ))
}

/// nginx with one text file, compressed for those who ask.
fn files() -> Stranger {
    let nginx = Stranger::nginx(
        "access_log off;\ngzip on;\ngzip_types text/plain;\ngzip_comp_level 1;\n\
         types { text/plain txt; }\nserver { listen 127.0.0.1:@port@; root @dir@/files; }",
    );
    std::fs::create_dir(nginx.folder().join("files")).expect("a folder of files");
    let text: String = (0..FILE / 10).map(|number| format!("line{number:05}\n")).collect();
    std::fs::write(nginx.folder().join("files/page.txt"), text).expect("a file");
    nginx
}

fn program(name: &str, arguments: &[&str], input: &[u8]) -> Finished {
    let finished = tools::run(Command::new(find(name).expect("checked for")).args(arguments), input);
    assert_eq!(finished.code, Some(0), "{name} {arguments:?}: {}", finished.err);
    finished
}

/// curl without a configuration of its own; the body goes to a file, what it saw to the output.
fn curl(folder: &Path, addr: SocketAddr, path: &str, arguments: &[&str], input: &[u8]) -> (String, Vec<u8>) {
    let body = folder.join("body");
    let _ = std::fs::remove_file(&body);
    let (url, body_name) = (format!("http://{addr}{path}"), body.display().to_string());
    let seen = "%{http_code} %{size_download} %{size_upload} %{content_type} %header{etag} %header{content-range} \
                %header{content-encoding} %header{accept-ranges} %header{last-modified}";
    let mut all =
        vec!["-q", "-s", "-S", "-g", "--noproxy", "*", "--max-time", "60", "-o", &body_name, "-w", seen];
    all.extend_from_slice(arguments);
    all.push(&url);
    let finished = program("curl", &all, input);
    (finished.out, std::fs::read(&body).unwrap_or_default())
}

#[test]
fn curl_gets_files_whole_in_ranges_and_compressed_as_nginx_serves_them() {
    needs!("curl", "nginx");
    let nginx = files();
    let proxy = before(&nginx);
    let rows: &[(&str, &[&str])] = &[
        ("/page.txt", &[]),
        ("/page.txt", &["-I"]),
        ("/page.txt", &["-r", "0-99"]),
        ("/page.txt", &["-r", "-500"]),
        ("/page.txt", &["-r", "299990-"]),
        ("/page.txt", &["-r", "999999-"]),
        ("/page.txt", &["--compressed"]),
        ("/page.txt", &["-H", "accept-encoding: gzip"]),
        ("/page.txt", &["-z", "Fri, 01 Jan 2100 00:00:00 GMT"]),
        ("/page.txt", &["-0"]),
        ("/missing?x=[1]", &[]),
        ("/page.txt", &["-X", "DELETE"]),
    ];
    for (path, arguments) in rows {
        let straight = curl(nginx.folder(), nginx.addr(), path, arguments, b"");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            if arguments.contains(&"-0") && version != "--http1.1" {
                continue;
            }
            let mut all = arguments.to_vec();
            if !arguments.contains(&"-0") {
                all.push(version);
            }
            let through = curl(nginx.folder(), proxy.web(), path, &all, b"");
            assert_eq!(through.0, straight.0, "{path} {all:?}");
            // The headers that `-I` writes into the body carry the date and the version.
            assert!(through.1 == straight.1 || arguments.contains(&"-I"), "{path} {all:?}: another body");
        }
    }
    // The boundary between several ranges is new each time.
    let ranges = ["-r", "0-9,100-109,-5"];
    let straight = curl(nginx.folder(), nginx.addr(), "/page.txt", &ranges, b"");
    let through = curl(nginx.folder(), proxy.web(), "/page.txt", &ranges, b"");
    assert_eq!((&through.0[..7], through.1.len()), (&straight.0[..7], straight.1.len()));
}

#[test]
fn curl_uploads_with_a_length_in_chunks_and_after_100_continue() {
    needs!("curl", "node");
    let node = Stranger::script("origin.js", &[]);
    let proxy = before(&node);
    let upload: Vec<u8> = (0..UPLOAD).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
    let file = node.folder().join("upload");
    std::fs::write(&file, &upload).expect("a file to send");
    let file = file.display().to_string();
    let from_file = format!("@{file}");
    let expect = "Expect: 100-continue";
    let rows: &[(&str, &[&str])] = &[
        ("-T with Expect", &["-T", &file, "-H", expect]),
        ("-T", &["-T", &file, "-H", "Expect:"]),
        ("-T from a pipe, in chunks", &["-T", "-", "-H", "Expect:"]),
        ("-T from a pipe with Expect", &["-T", "-", "-H", expect]),
        ("POST", &["--data-binary", &from_file]),
        ("POST in chunks", &["--data-binary", &from_file, "-H", "Transfer-Encoding: chunked"]),
    ];
    for (name, arguments) in rows {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            // curl has no chunks in HTTP/2 and says so; the body then has no length.
            let mut all = arguments.to_vec();
            all.push(version);
            let (seen, body) = curl(node.folder(), proxy.web(), "/echo/up", &all, &upload);
            assert!(seen.starts_with("200 "), "{name} {version}: {seen}");
            let end = body.windows(2).position(|pair| pair == b"\n\n").expect("an echo") + 2;
            assert!(body[end..] == upload, "{name} {version}: {} of {UPLOAD} bytes", body.len() - end);
        }
    }
    let logged = node.requests();
    assert_eq!(logged.len(), 2 * rows.len(), "{logged:#?}");
    assert!(logged.iter().all(|line| line.contains(&format!("/echo/up {UPLOAD} "))), "{logged:#?}");
}

/// curl says on its own whether it waited for nothing.
#[test]
fn curl_hears_100_continue_and_sees_a_refused_upload_early() {
    needs!("curl", "node");
    let node = Stranger::script("origin.js", &[]);
    let proxy = before(&node);
    let url = format!("http://{}/echo/up", proxy.web());
    let arguments = ["-q", "-s", "-v", "--noproxy", "*", "--expect100-timeout", "30", "--max-time", "25"];
    let more = ["-H", "Expect: 100-continue", "-d", "small", "-o", "/dev/null", &url];
    let finished = program("curl", &[&arguments[..], &more[..]].concat(), b"");
    assert!(finished.err.contains("HTTP/1.1 100 Continue"), "{}", finished.err);
    assert!(finished.err.contains("HTTP/1.1 200 OK"), "{}", finished.err);
}

#[test]
fn nghttp_reads_and_posts_over_one_connection() {
    needs!("nghttp", "nginx", "node");
    let nginx = files();
    let page = std::fs::read(nginx.folder().join("files/page.txt")).expect("the file");
    let proxy = before(&nginx);
    let url = format!("http://{}/page.txt", proxy.web());
    let finished = program("nghttp", &[&url], b"");
    assert!(finished.out.as_bytes() == page, "{} bytes", finished.out.len());
    // Three streams at once are printed as their frames come.
    let finished = program("nghttp", &["-m", "3", &url], b"");
    assert_eq!(finished.out.len(), 3 * page.len());

    let node = Stranger::script("origin.js", &[]);
    let proxy = before(&node);
    let file = nginx.folder().join("files/page.txt").display().to_string();
    let url = format!("http://{}/echo/posted", proxy.web());
    let finished = program("nghttp", &["-d", &file, &url], b"");
    assert!(finished.out.starts_with("POST /echo/posted\n"), "{}", &finished.out[..200]);
    assert!(finished.out.as_bytes().ends_with(&page));
}

#[test]
fn h2load_finds_no_failure_in_ten_thousand_requests() {
    needs!("h2load", "nginx");
    let nginx = Stranger::nginx(
        "access_log off;\nkeepalive_requests 1000;\nserver { listen 127.0.0.1:@port@; return 200 \"ok\\n\"; }",
    );
    let proxy = before(&nginx);
    let (url, count) = (format!("http://{}/", proxy.web()), LOAD.to_string());
    for version in [["-m", "20"], ["--h1", "-m1"]] {
        let arguments = [&["-n", &count, "-c", "10", "-t", "1"][..], &version[..], &[url.as_str()]].concat();
        let finished = program("h2load", &arguments, b"");
        let summary = format!(
            "requests: {LOAD} total, {LOAD} started, {LOAD} done, {LOAD} succeeded, 0 failed, 0 errored"
        );
        assert!(finished.out.contains(&summary), "{version:?}: {}", finished.out);
    }
}
