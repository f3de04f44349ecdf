//! Certificate authorities and certificates of a test, made by openssl.
//!
//! Real tools make them and nobody outside the test trusts them. It must never touch the system's
//! certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What a new key is like.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
/// How openssl signs.
const SIGNING: &str = "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n\
    default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n";

/// A folder with one authority and what it signed.
pub struct Authority(TempDir);

impl Authority {
    /// The caller has checked that openssl is installed.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for certificates");
        let ca = Self(folder);
        let root = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Test Root"];
        let usage = ["-addext", "keyUsage=critical,keyCertSign", "-days", "30"];
        ca.openssl(&[&root[..], &usage, &KEY].concat());
        ca
    }

    /// A certificate for a name, of which it gives the file without its ending `.crt` or `.key`.
    pub fn signs(&self, name: &str) -> PathBuf {
        self.signs_for(name, name, ["20200101000000Z", "20991231000000Z"])
    }

    /// The same, over since long.
    pub fn signed_long_ago(&self, name: &str) -> PathBuf {
        self.signs_for(&format!("{name}.old"), name, ["20200101000000Z", "20200201000000Z"])
    }

    /// A certificate that nobody signed but itself, as `openssl req -x509` makes it: one of an authority.
    pub fn signs_itself(&self, name: &str) -> PathBuf {
        let (key, own) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(
            &[&["req", "-x509", "-days", "3650", "-keyout", &key, "-out", &own, "-subj", "/CN=app.test"][..], &KEY]
                .concat(),
        );
        self.path(name)
    }

    fn signs_for(&self, file: &str, name: &str, [from, to]: [&str; 2]) -> PathBuf {
        let extensions = format!("subjectAltName=DNS:{name}\nbasicConstraints=CA:FALSE\n");
        for (file, content) in
            [("ca.cnf", SIGNING), ("extensions", &*extensions), ("index.txt", ""), ("serial", "01\n")]
        {
            fs::write(self.path(file), content).expect("write a file for openssl");
        }
        let (key, asked, subject) = (format!("{file}.key"), format!("{file}.csr"), format!("/CN={name}"));
        let certificate = format!("{file}.crt");
        self.openssl(
            &[&["req", "-new", "-keyout", &key, "-out", &asked, "-subj", &subject][..], &KEY].concat(),
        );
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.cnf",
            "-cert",
            "ca.crt",
            "-keyfile",
            "ca.key",
            "-startdate",
            from,
            "-enddate",
            to,
            "-extfile",
            "extensions",
            "-in",
            &asked,
            "-out",
            &certificate,
        ]);
        self.path(file)
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        let made = command.args(arguments).current_dir(self.0.path()).output().expect("run openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// The text of a file it made, such as `ca.crt`.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a file that was made")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::join(self.0.path(), name)
    }
}
